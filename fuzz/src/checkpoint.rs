//! Checkpoints: any chunks with good checksums become a state that holds together, or are refused; any edit of a file
//! is noticed, and then the older checkpoint counts or none.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use cetera_mvcc::{RangeQuery, Store};
use cetera_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest,
};
use cetera_state::{State, StateLimits, StateRestore};
use cetera_storage::checkpoint::{self, CheckpointWriter};
use cetera_storage::revlog::{RevLog, RevLogOptions};
use cetera_storage::vfs::{MemoryVfs, Vfs};
use prost::Message as _;

use crate::apply::Chunks;
use crate::disk::{Image, u32_at};
use crate::input::Input;

const LOG: &str = "/log";
const DIR: &str = "/checkpoint";
const OPTIONS: RevLogOptions = RevLogOptions { segment_bytes: 1 << 10 };
/// Kind of the store's first chunk.
const SCALARS: u8 = 0x10;
/// Entries in the state of the base.
const ENTRIES: u64 = 60;

struct Base {
    log: Image,
    /// Two checkpoints, of half the entries and of all.
    chunks: [Vec<(u8, Vec<u8>)>; 2],
    files: Image,
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
        vfs.create_dir_all(Path::new(DIR)).expect("a good disk");
        let log = RevLog::create(vfs.clone(), Path::new(LOG), OPTIONS).expect("a good disk");
        let mut state = State::create(Store::create(log), StateLimits::default());
        let mut chunks = [Vec::new(), Vec::new()];
        for index in 1..=ENTRIES {
            let _ = state.apply(index, 1, &request(index), &mut Vec::new()).expect("entries that are understood");
            if index % (ENTRIES / 2) == 0 {
                let mut written = Chunks::default();
                state.checkpoint().expect("a good disk").write(&mut written).expect("a good disk");
                write(&vfs, index, &written.0);
                chunks[(index / (ENTRIES / 2) - 1) as usize] = written.0;
            }
        }
        Base { log: Image::of(&*vfs, &[LOG]), chunks, files: Image::of(&*vfs, &[DIR]) }
    })
}

fn request(index: u64) -> Bytes {
    let mut request = InternalRaftRequest::default();
    let key = Bytes::from(format!("k{}", index % 11));
    match index % 8 {
        0 => request.delete_range = Some(DeleteRangeRequest { key, ..Default::default() }.into()),
        1 => request.lease_grant = Some(LeaseGrantRequest { id: index as i64, ttl: 60 }.into()),
        2 if index > 40 => {
            request.compaction = Some(CompactionRequest { revision: index as i64 / 3, physical: false }.into());
        }
        3 if index > 1 => {
            let lease = index as i64 - 2;
            request.put = Some(PutRequest { key, value: "leased".into(), lease, ..Default::default() }.into());
        }
        _ => request.put = Some(PutRequest { key, value: vec![index as u8; 40].into(), ..Default::default() }.into()),
    }
    request.encode_to_vec().into()
}

fn write(vfs: &Arc<dyn Vfs>, index: u64, chunks: &[(u8, Vec<u8>)]) {
    let mut writer = CheckpointWriter::create(vfs.clone(), Path::new(DIR), index, 0).expect("a good disk");
    for (kind, data) in chunks {
        writer.chunk(*kind, data).expect("a good disk");
    }
    writer.finish().expect("a good disk");
}

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(3) {
        0 => {
            let mut chunks = Vec::new();
            while !input.is_empty() {
                chunks.push((input.u8(), input.bytes().to_vec()));
            }
            restore(chunks);
        }
        1 => {
            let mut chunks = base().chunks[1].clone();
            while !input.is_empty() {
                edit(&mut chunks, &mut input);
            }
            restore(chunks);
        }
        _ => files(&mut input),
    }
}

fn edit(chunks: &mut Vec<(u8, Vec<u8>)>, input: &mut Input<'_>) {
    if chunks.is_empty() {
        input.rest();
        return;
    }
    let chunk = input.below(chunks.len());
    let kind = input.u8();
    let at = usize::from(input.u16()) % (chunks[chunk].1.len() + 1);
    let bytes = input.bytes();
    let data = &mut chunks[chunk].1;
    match kind % 6 {
        0 | 1 => data[at..].iter_mut().zip(bytes).for_each(|(byte, new)| *byte = *new),
        2 => drop(data.splice(at..at, bytes.iter().copied())),
        3 => drop(data.drain(at..(at + bytes.len()).min(data.len()))),
        4 => drop(chunks.remove(chunk)),
        _ => {
            let copy = chunks[chunk].clone();
            chunks.push(copy);
        }
    }
}

/// Has the restore count the log's live bytes: those a manifest tells are believed, and an assertion of debug builds
/// would be all that is found.
fn recount(scalars: &mut [u8]) {
    const FLAG_RECOUNT: u8 = 4;
    // Version, revision and two watermarks stand before the flags.
    let mut ends = scalars.iter().enumerate().filter(|(_, byte)| **byte < 0x80).map(|(at, _)| at);
    if let Some(at) = ends.nth(3)
        && let Some(flags) = scalars.get_mut(at + 1)
    {
        *flags |= FLAG_RECOUNT;
    }
}

/// A state out of these chunks, and some use of it.
fn restore(chunks: Vec<(u8, Vec<u8>)>) {
    let disk = base().log.disk();
    let mut parts = StateRestore::new();
    for (kind, mut data) in chunks {
        if kind == SCALARS {
            recount(&mut data);
        }
        match parts.chunk(kind, data) {
            Ok(_) => {}
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
    let open = |manifest: &_| RevLog::open(disk.clone(), Path::new(LOG), OPTIONS, manifest);
    let Ok(mut state) = parts.finish(StateLimits::default(), open) else { return };
    state.check_invariants();
    let (index, term) = (state.applied_index(), state.applied_term());
    let Ok(view) = state.view() else { return };
    for revision in [0, 1, view.revision() / 2] {
        for keys_only in [false, true] {
            let query = RangeQuery { key: b"\0", end: b"\0", revision, keys_only, ..Default::default() };
            let _ = view.range(&query, &mut BytesMut::new());
        }
        let _ = view.hash_kv(revision);
    }
    let _ = view.history(1, 1 << 20, &mut |_| true);
    let _ = state.hash();
    for (at, request) in [request(4), request(8), request(50)].iter().enumerate() {
        let Some(next) = index.checked_add(1 + at as u64) else { return };
        if state.apply(next, term, request, &mut Vec::new()).is_err() {
            return;
        }
    }
    for _ in 0..100 {
        match state.store_mut().compaction_step(10) {
            Ok(true) => {}
            Ok(false) | Err(_) => break,
        }
    }
    let Ok(view) = state.view() else { return };
    let _ = view.range(&RangeQuery { key: b"\0", end: b"\0", ..Default::default() }, &mut BytesMut::new());
}

/// Edited files: the newest one whole, or the older one, or a refusal.
fn files(input: &mut Input<'_>) {
    let base = base();
    let mut image = base.files.clone();
    while !input.is_empty() {
        image.edit(input, &base.files);
    }
    let Ok(found) = checkpoint::open_newest(image.disk(), Path::new(DIR)) else { return };
    let Some(mut reader) = found else {
        return assert!(image.files.keys().all(|path| base.files.files.contains_key(path)) && image.files.is_empty());
    };
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next_chunk().expect("it was checked") {
        chunks.push(chunk);
    }
    let known = match reader.index() {
        index if index == ENTRIES => Some(&base.chunks[1]),
        index if index == ENTRIES / 2 => Some(&base.chunks[0]),
        _ => None,
    };
    assert!(known == Some(&chunks) || forged(&image, reader.index()), "chunks that were never written");
}

/// Whether the file of that index has good checksums all through by the format's own words.
fn forged(image: &Image, index: u64) -> bool {
    let path = Path::new(DIR).join(format!("checkpoint-{index:016x}"));
    let Some(bytes) = image.files.get(&path) else { return false };
    let (mut at, mut number) = (24, 0u64);
    while at + 9 <= bytes.len() {
        let end = at + 9 + u32_at(bytes, at + 4) as usize;
        let Some(covered) = bytes.get(at + 4..end) else { return false };
        let mut crc = crc32c::crc32c(&index.to_le_bytes());
        crc = crc32c::crc32c_append(crc, &number.to_le_bytes());
        if crc32c::crc32c_append(crc, covered) != u32_at(bytes, at) {
            return false;
        }
        (at, number) = (end, number + 1);
    }
    true
}

/// Chunks that are right, for seeds.
pub(crate) fn chunks() -> Vec<(u8, Vec<u8>)> {
    base().chunks[1].clone()
}
