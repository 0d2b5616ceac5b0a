//! A write-ahead log whose files were tampered with must be refused, naming file and offset, or end at a batch boundary
//! at or above everything that was known synced: never a panic, never a record that was not written.
//!
//! The input chooses a log, edits its files, and may mend checksums afterwards. What the log said is read here by a
//! second, plain reader of the format; with mended checksums it says nothing, and only "no panic" is asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cetera_storage::vfs::{MemoryVfs, Vfs};
use cetera_storage::wal::{Recovered, Wal, WalBatch, WalEntry, WalError, WalOptions};

use crate::disk::{Image, name, u32_at, u64_at};
use crate::input::Input;

const DIR: &str = "/wal";
const HEADER_BYTES: usize = 4096;
const BATCH_HEADER_BYTES: usize = 64;
const SALT: u64 = 0x0102_0304_0506_0708;

fn options() -> WalOptions {
    WalOptions { segment_bytes: 6 << 10, salt: SALT, ..WalOptions::default() }
}

/// A log as it was left.
struct Base {
    image: Image,
    /// The files some time before.
    before: Image,
    /// Batches in the order of the log.
    batches: Vec<Batch>,
    /// Index of the checkpoint that goes with it.
    after: u64,
}

/// A batch as the plain reader sees it. `(sequence, offset)` are places in the log.
#[derive(Clone, Debug)]
struct Batch {
    path: PathBuf,
    start: usize,
    end: (u64, usize),
    claim: (u64, usize),
    entries: Vec<WalEntry>,
}

/// Reads the batches of a good segment from its start.
fn read(path: &Path, bytes: &[u8], mut previous_crc: Option<u32>) -> Vec<(Batch, u32)> {
    let sequence = u64::from_str_radix(name(path).trim_end_matches(".wal"), 16).expect("a segment's name");
    let mut batches = Vec::new();
    let mut at = HEADER_BYTES;
    while let Some(end) = whole_batch(bytes, at) {
        let linked = previous_crc.is_none_or(|crc| u32_at(bytes, at + 28) == crc);
        if u64_at(bytes, at + 8) != sequence || u32_at(bytes, at + 16) as usize != at || !linked {
            break;
        }
        let payload = &bytes[at + BATCH_HEADER_BYTES..][..u32_at(bytes, at + 20) as usize];
        let mut rest = &payload[u32_at(bytes, at + 56).saturating_sub(1) as usize..];
        let mut entries = Vec::new();
        for _ in 0..u32_at(bytes, at + 44) {
            let len = u32_at(rest, 16) as usize;
            let data = rest[20..20 + len].to_vec().into();
            entries.push(WalEntry { index: u64_at(rest, 0), term: u64_at(rest, 8), data });
            rest = &rest[20 + len..];
        }
        let claim = (u64_at(bytes, at + 32), u32_at(bytes, at + 40) as usize);
        let crc = u32_at(bytes, at + 4);
        previous_crc = Some(crc);
        batches.push((Batch { path: path.to_owned(), start: at, end: (sequence, end), claim, entries }, crc));
        at = end;
    }
    batches
}

/// The end of the batch at `at`, if there is one and its checksum holds.
fn whole_batch(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at..at + 4)? != b"cwb1" || bytes.len() < at + BATCH_HEADER_BYTES {
        return None;
    }
    let payload = (u32_at(bytes, at + 20) as usize).next_multiple_of(8);
    let covered = bytes.get(at + 8..at + BATCH_HEADER_BYTES + payload)?;
    (crc_of(covered) == u32_at(bytes, at + 4)).then_some(at + BATCH_HEADER_BYTES + payload)
}

fn crc_of(covered: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&SALT.to_le_bytes()), covered)
}

/// What is in the log after these batches.
fn fold<'a>(batches: impl Iterator<Item = &'a Batch>, after: u64) -> Vec<WalEntry> {
    let mut log: Vec<WalEntry> = Vec::new();
    for entry in batches.flat_map(|batch| &batch.entries) {
        log.retain(|old| old.index < entry.index);
        log.push(entry.clone());
    }
    log.retain(|entry| entry.index > after);
    log
}

/// Writes for a log: many batches over several segments, overrides, hard states, a release, an open in between.
fn base(scenario: usize) -> Base {
    let vfs = MemoryVfs::new();
    let disk: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let mut wal = Wal::create(disk.clone(), Path::new(DIR), options(), b"who".as_slice().into()).expect("a good disk");
    let mut before = Image::default();
    let mut index = 0;
    let mut after = 0;
    let rounds = [6, 60, 60][scenario];
    for round in 0..rounds {
        let count = 1 + round % 3;
        if round % 11 == 10 {
            index -= 2;
        }
        let entry = |index| WalEntry {
            index,
            term: 1 + round / 20,
            data: vec![round as u8; (round as usize * 37) % 150].into(),
        };
        let entries: Vec<WalEntry> = (index + 1..=index + count).map(entry).collect();
        index += count;
        let state = (round % 4 == 0).then(|| vec![7; 6].into());
        wal.append(&WalBatch { entries, state, restart: None }).expect("a good disk");
        if round % 5 != 4 && round + 2 < rounds {
            wal.sync().expect("a good disk");
        }
        if round == rounds / 2 {
            before = Image::of(&vfs, &[DIR]);
        }
        if scenario == 2 && round % 20 == 19 {
            after = index - 10;
            wal.release(after).expect("a good disk");
            drop(wal);
            (wal, _) = Wal::open(disk.clone(), Path::new(DIR), options(), after).expect("a good log");
        }
    }
    let image = Image::of(&vfs, &[DIR]);
    let mut batches = Vec::new();
    let mut crc = None;
    for (path, bytes) in image.files.iter().filter(|(path, _)| name(path).ends_with(".wal")) {
        for (batch, its_crc) in read(path, bytes, crc) {
            crc = Some(its_crc);
            batches.push(batch);
        }
    }
    let (_, recovered) = Wal::open(image.disk(), Path::new(DIR), options(), after).expect("a good log");
    assert_eq!(recovered.entries, fold(batches.iter(), after), "both readers read the same");
    assert_eq!(recovered.torn, None);
    Base { image, before, batches, after }
}

fn bases() -> &'static [Base] {
    static BASES: OnceLock<Vec<Base>> = OnceLock::new();
    BASES.get_or_init(|| (0..3).map(base).collect())
}

/// What must hold of an opened log.
struct Expected<'a> {
    base: &'a Base,
    intact: Vec<bool>,
    /// The highest claim that can still be read.
    claim: (u64, usize),
}

impl<'a> Expected<'a> {
    /// `None` if the edits made a batch whose checksum holds: then anything may be read.
    fn of(base: &'a Base, edited: &Image) -> Option<Self> {
        let same = |batch: &Batch| {
            let (old, new) = (&base.image.files[&batch.path], edited.files.get(&batch.path));
            new.is_some_and(|new| new.get(batch.start..batch.end.1) == old.get(batch.start..batch.end.1))
        };
        let intact: Vec<bool> = base.batches.iter().map(same).collect();
        for (path, bytes) in edited.files.iter().filter(|(path, _)| name(path).ends_with(".wal")) {
            let known: BTreeMap<usize, bool> =
                base.batches.iter().zip(&intact).filter(|(b, _)| b.path == *path).map(|(b, i)| (b.start, *i)).collect();
            let old = base.image.files.get(path);
            for at in (0..bytes.len()).step_by(8) {
                let Some(end) = whole_batch(bytes, at) else { continue };
                let as_it_was = known.get(&at) == Some(&true)
                    || old.is_some_and(|old| old.get(at..end) == bytes.get(at..end) && !known.contains_key(&at));
                if !as_it_was {
                    return None;
                }
            }
        }
        let readable = base.batches.iter().zip(&intact).filter(|(_, intact)| **intact);
        let claim = readable.map(|(batch, _)| batch.claim).max().unwrap_or_default();
        Some(Expected { base, intact, claim })
    }

    /// The recovered entries are those of whole batches up to one at or above every claim.
    fn check(&self, recovered: &Recovered) {
        let upto = self.intact.iter().position(|intact| !intact).unwrap_or(self.intact.len());
        let prefixes = (0..=upto).rev();
        let fitting =
            prefixes.clone().find(|&n| fold(self.base.batches[..n].iter(), self.base.after) == recovered.entries);
        let fitting = fitting.unwrap_or_else(|| panic!("entries that no prefix of the log holds: {recovered:?}"));
        let end = fitting.checked_sub(1).map_or((0, 0), |last| self.base.batches[last].end);
        assert!(end >= self.claim, "recovered to {end:?}, but {:?} was known synced", self.claim);
    }
}

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let base = &bases()[input.below(3)];
    let mend = input.below(4) == 3;
    let after = if input.below(8) == 7 { u64::from(input.u8()) } else { base.after };
    let mut image = base.image.clone();
    while !input.is_empty() {
        image.edit(&mut input, &base.before);
        if mend {
            mend_checksums(&mut image);
        }
    }
    let expected = Expected::of(base, &image).filter(|_| !mend && after == base.after);
    let disk = image.disk();
    match Wal::open(disk.clone(), Path::new(DIR), options(), after) {
        Ok((wal, recovered)) => {
            if let Some(expected) = &expected {
                expected.check(&recovered);
            }
            goes_on(wal, &recovered, &disk, after, mend);
        }
        Err(error) => {
            check_refusal(&error);
            let after_refusal = Image::of(&*disk, &[DIR]);
            // An empty directory is no log and has nothing to keep.
            assert!(after_refusal == image, "a refusal changes nothing: {error}");
            if image == base.image && after == base.after {
                panic!("a good log was refused: {error}");
            }
        }
    }
}

/// An opened log takes more, and has it at the next open.
fn goes_on(mut wal: Wal, recovered: &Recovered, disk: &Arc<dyn Vfs>, after: u64, mended: bool) {
    let Some(index) = wal.last_index().checked_add(1) else { return };
    let entry = WalEntry { index, term: 9, data: b"more"[..].into() };
    match wal.append(&WalBatch { entries: vec![entry.clone()], ..WalBatch::default() }) {
        Ok(()) => {}
        Err(WalError::NoSpace) => return,
        Err(error) => panic!("a good disk refused: {error}"),
    }
    wal.sync().expect("a good disk");
    drop(wal);
    let mut expected = recovered.entries.clone();
    if index > after {
        expected.push(entry);
    }
    let again = match Wal::open(disk.clone(), Path::new(DIR), options(), after) {
        Ok((_, again)) => again,
        // The open before took the last epoch there can be.
        Err(WalError::Damaged { .. }) if mended => return,
        Err(error) => panic!("what was just opened opens again: {error}"),
    };
    assert_eq!(again.entries, expected);
    assert_eq!(again.torn, None, "what was cut stays cut");
}

fn check_refusal(error: &WalError) {
    match error {
        WalError::Damaged { file, offset, .. } => {
            assert!(file.starts_with(DIR), "{error}");
            assert!(*offset < 1 << 32, "{error}");
        }
        WalError::NewerFormat { .. } | WalError::Gap { .. } | WalError::Io { .. } => {}
        WalError::NoSpace | WalError::Failed | WalError::Exists(_) => panic!("not an answer of an open: {error}"),
    }
}

/// Makes the checksums of headers and batches right for what now stands there.
fn mend_checksums(image: &mut Image) {
    for bytes in image.files.values_mut() {
        if bytes.len() >= HEADER_BYTES {
            let len = (u32_at(bytes, 32) as usize).clamp(40, bytes.len());
            let crc = crc32c::crc32c(&bytes[16..len]);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        let mut at = HEADER_BYTES;
        while bytes.get(at..at + 4) == Some(b"cwb1") && bytes.len() >= at + BATCH_HEADER_BYTES {
            let end = at + BATCH_HEADER_BYTES + (u32_at(bytes, at + 20) as usize).next_multiple_of(8);
            let Some(covered) = bytes.get(at + 8..end) else { break };
            let crc = crc_of(covered);
            bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
            at = end;
        }
    }
}

/// Number of the file and offset of the last batch of a base, for seeds.
pub(crate) fn last_batch(base: usize) -> (u8, u16) {
    let base = &bases()[base];
    let last = base.batches.last().expect("a log has batches");
    let file = base.image.files.keys().position(|path| *path == last.path).expect("a file of the log");
    (file as u8, last.start as u16)
}
