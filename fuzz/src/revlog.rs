//! The revision log over files that were tampered with: a record is served as it was written or not at all, a scan
//! tells everything or an error, and nonsense in a manifest or a place is an error too.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use cetera_storage::revision::Revision;
use cetera_storage::revlog::{Location, LogManifest, RECORD_HEADER, RevLog, RevLogOptions};
use cetera_storage::vfs::{MemoryVfs, Vfs};

use crate::disk::{Image, u32_at};
use crate::input::Input;

const DIR: &str = "/log";
const OPTIONS: RevLogOptions = RevLogOptions { segment_bytes: 2 << 10 };
const SEGMENT_HEADER: usize = 32;

struct Base {
    image: Image,
    before: Image,
    manifest: LogManifest,
    records: Vec<(Location, Revision, bool, Vec<u8>)>,
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let vfs = MemoryVfs::new();
        let disk: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let mut log = RevLog::create(disk, Path::new(DIR), OPTIONS).expect("a good disk");
        let mut records = Vec::new();
        let mut before = Image::default();
        for main in 2..60i64 {
            let payload = vec![main as u8; (main as usize * 31) % 200];
            let revision = Revision::new(main / 2, main % 2);
            let location = log.append(revision, main % 7 == 0, &[&payload]);
            records.push((location, revision, main % 7 == 0, payload));
            log.flush().expect("a good disk");
            if main == 30 {
                before = Image::of(&vfs, &[DIR]);
            }
        }
        Base { image: Image::of(&vfs, &[DIR]), before, manifest: log.manifest(), records }
    })
}

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let base = base();
    match input.below(4) {
        0 => manifest(input.rest()),
        1 => edited(base, &mut input, false),
        2 => edited(base, &mut input, true),
        _ => places(base, &mut input),
    }
}

/// Any bytes as a manifest, and the log opened with it.
fn manifest(bytes: &[u8]) {
    let Ok(manifest) = LogManifest::decode(bytes) else { return };
    let mut again = Vec::new();
    manifest.encode(&mut again);
    assert_eq!(again, bytes, "a manifest has one spelling");
    let disk = base().image.disk();
    match RevLog::open(disk.clone(), Path::new(DIR), OPTIONS, &manifest) {
        Ok(mut log) => {
            let _ = log.reader().verify(u64::MAX);
            let _ = log.reader().scan(Revision::default(), &mut |_, _| ControlFlow::Continue(()));
            if manifest.last().is_none_or(|last| last < Revision::new(i64::MAX, 0)) {
                let location = log.append(Revision::new(i64::MAX, 0), false, &[b"more"]);
                if log.flush().is_ok() {
                    log.reader().read(location, |record| assert_eq!(record.payload, b"more")).expect("just written");
                }
            }
        }
        Err(_) => assert!(Image::of(&*disk, &[DIR]).files == base().image.files || !manifest.segments.is_empty()),
    }
}

/// The true manifest over edited files.
fn edited(base: &Base, input: &mut Input<'_>, mend: bool) {
    let mut image = base.image.clone();
    while !input.is_empty() {
        image.edit(input, &base.before);
    }
    if mend {
        mend_checksums(&mut image);
    }
    let forged = mend || forged(base, &image);
    let Ok(mut log) = RevLog::open(image.disk(), Path::new(DIR), OPTIONS, &base.manifest) else { return };
    let reader = log.reader();
    for (location, revision, tombstone, payload) in &base.records {
        let _ = reader.read(*location, |record| {
            let same = record.revision == *revision && record.tombstone == *tombstone && record.payload == payload;
            assert!(same || forged, "{location:?} reads otherwise than written");
        });
    }
    for from in [Revision::default(), Revision::new(15, 0), Revision::new(29, 1)] {
        let mut seen = 0;
        let mut expected = base.records.iter().filter(|(_, revision, ..)| *revision >= from);
        let scanned = reader.scan(from, &mut |_, record| {
            seen += 1;
            assert!(seen < 10_000, "a scan without end");
            if !forged {
                let (_, revision, _, payload) = expected.next().expect("no more than was written");
                assert_eq!((record.revision, record.payload), (*revision, &payload[..]));
            }
            ControlFlow::Continue(())
        });
        assert!(scanned.is_err() || forged || expected.next().is_none(), "a scan from {from:?} left records out");
    }
    let _ = reader.verify(1 << 10);
    let _ = reader.scrub(Revision::new(3, 0), 1 << 10);
    let location = log.append(Revision::new(1_000, 0), false, &[&[1; 300]]);
    log.flush().expect("a good disk");
    log.reader().read(location, |record| assert_eq!(record.payload, [1; 300])).expect("just written");
}

/// Whether some record's bytes changed and its checksum holds all the same.
fn forged(base: &Base, image: &Image) -> bool {
    base.records.iter().any(|(location, ..)| {
        let path = Path::new(DIR).join(format!("segment-{:08x}", location.segment));
        let range = location.offset as usize..location.offset as usize + location.record_bytes() as usize;
        let (Some(old), Some(new)) = (base.image.files.get(&path), image.files.get(&path)) else { return false };
        let (Some(old), Some(new)) = (old.get(range.clone()), new.get(range)) else { return false };
        // Of whatever length the header now tells.
        old != new && {
            let len = (RECORD_HEADER + u32_at(new, 4) as usize).min(new.len());
            crc32c::crc32c(&new[4..len.max(4)]) == u32_at(new, 0)
        }
    })
}

fn mend_checksums(image: &mut Image) {
    for bytes in image.files.values_mut() {
        let mut at = SEGMENT_HEADER;
        while at + RECORD_HEADER <= bytes.len() {
            let end = at + RECORD_HEADER + u32_at(bytes, at + 4) as usize;
            let Some(covered) = bytes.get(at + 4..end) else { break };
            let crc = crc32c::crc32c(covered);
            bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
            at = end;
        }
    }
}

/// Places that no index made.
fn places(base: &Base, input: &mut Input<'_>) {
    let log = RevLog::open(base.image.disk(), Path::new(DIR), OPTIONS, &base.manifest).expect("a good log");
    let reader = log.reader();
    while !input.is_empty() {
        let (segment, offset) = (u32::from(input.u8()), input.u64() as u32);
        let len = if input.flag() { u32::from(input.u16()) } else { input.u64() as u32 };
        let location = Location { segment, offset, len };
        let known = base.records.iter().find(|(known, ..)| *known == location);
        match reader.read(location, |record| record.payload.to_vec()) {
            Ok(payload) => assert_eq!(Some(&payload), known.map(|(.., payload)| payload)),
            Err(_) => assert!(known.is_none(), "a good record is served"),
        }
        let _ = log.read(location, |_| ());
    }
}

/// A manifest that is right, for a seed.
pub(crate) fn manifest_bytes() -> Vec<u8> {
    let mut bytes = Vec::new();
    base().manifest.encode(&mut bytes);
    bytes
}
