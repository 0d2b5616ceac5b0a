//! Entries by index from the files of the log: for members that lag further than memory reaches.
//!
//! The log keeps a sparse index of what it holds, a few words for every [`SPARSE_BYTES`]: entries below a later override,
//! or below a place where the log began anew, are not in it. A reader takes what it needs of the index under a lock, and
//! reads the files without one, while the log goes on. What was let go of in the meantime (a released file is written
//! over) does not pass its checks, and is reported as missing.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::{
    WalEntry, WalError,
    format::{BATCH_HEADER_BYTES, Position, batch_bytes, read_batch_at},
};
use crate::vfs::File;

/// The index has one place for about so many bytes of the log.
pub(super) const SPARSE_BYTES: u64 = 64 << 10;
/// What an entry takes in memory besides its data, about, for whoever reads and decodes it: small entries count too.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// Reads entries of a log that is open. Clones read the same log.
#[derive(Clone)]
pub struct WalReader(Arc<Mutex<Map>>);

/// What a log holds, and where.
#[derive(Default)]
pub(super) struct Map {
    pub(super) salt: u64,
    /// Index before the first entry.
    base: u64,
    last: u64,
    /// Ascending; each reaches to the next, and none out of its file.
    extents: VecDeque<Extent>,
    /// Index and term, wherever the term changes.
    terms: VecDeque<(u64, u64)>,
    files: BTreeMap<u64, Held>,
}

#[derive(Clone, Copy)]
struct Extent {
    first: u64,
    /// Of the batch that holds the first.
    at: Position,
}

#[derive(Clone)]
struct Held {
    path: PathBuf,
    file: Arc<dyn File>,
    end: u64,
}

impl Map {
    /// Of an empty log.
    pub(super) fn new(salt: u64) -> Self {
        Self { salt, ..Self::default() }
    }

    pub(super) fn add_file(&mut self, sequence: u64, path: PathBuf, file: Arc<dyn File>) {
        self.files.insert(sequence, Held { path, file, end: 0 });
    }

    /// The batch at `at`, which ends at `end`, was written. `entries`: indexes and terms.
    pub(super) fn append(&mut self, at: Position, end: u64, entries: impl Iterator<Item = (u64, u64)>) {
        let mut first = true;
        for (index, term) in entries {
            let mut new = false;
            if first {
                first = false;
                new = self.cut(index);
                new |= self
                    .extents
                    .back()
                    .is_none_or(|last| last.at.sequence != at.sequence || at.offset - last.at.offset >= SPARSE_BYTES);
            }
            if new {
                self.extents.push_back(Extent { first: index, at });
            }
            if self.terms.back().is_none_or(|(_, last)| *last != term) {
                self.terms.push_back((index, term));
            }
            self.last = index;
        }
        if let Some(held) = self.files.get_mut(&at.sequence) {
            held.end = end;
        }
    }

    /// Makes `index` the one after the last. Whether something had to give way.
    fn cut(&mut self, index: u64) -> bool {
        if index > self.last + 1 {
            self.restart(index - 1);
            return true;
        }
        let overrides = index <= self.last;
        while self.extents.pop_back_if(|extent| extent.first >= index).is_some() {}
        while self.terms.pop_back_if(|(first, _)| *first >= index).is_some() {}
        self.last = index - 1;
        self.base = self.base.min(self.last);
        overrides
    }

    /// The log goes on behind `index`, and what was before is void.
    pub(super) fn restart(&mut self, index: u64) {
        self.extents.clear();
        self.terms.clear();
        self.base = index;
        self.last = index;
    }

    /// Files below `sequence` are gone.
    pub(super) fn release(&mut self, sequence: u64) {
        self.files = self.files.split_off(&sequence);
        while self.extents.front().is_some_and(|extent| extent.at.sequence < sequence) {
            self.extents.pop_front();
        }
        self.base = self.extents.front().map_or(self.last, |extent| extent.first - 1);
        while self.terms.get(1).is_some_and(|(first, _)| *first <= self.base) {
            self.terms.pop_front();
        }
        if let Some((first, _)) = self.terms.front_mut() {
            *first = self.base.max(*first);
        }
    }

    fn term(&self, index: u64) -> Option<u64> {
        let at = self.terms.partition_point(|(first, _)| *first <= index);
        Some(self.terms[at.checked_sub(1)?].1).filter(|_| index <= self.last)
    }

    /// Whether an entry of this index and term is followed by what is here.
    pub(super) fn continues(&self, index: u64, term: u64) -> bool {
        match self.term(index) {
            Some(known) => known == term,
            None => index == self.base,
        }
    }

    fn missing(&self, index: u64) -> WalError {
        let found = if index <= self.base && self.last > self.base { self.base + 1 } else { 0 };
        WalError::Gap { expected: index, found }
    }
}

impl WalReader {
    pub(super) fn new(map: Map) -> Self {
        Self(Arc::new(Mutex::new(map)))
    }

    pub(super) fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first and the last index that are there; the first is one above the last if there are none.
    pub fn range(&self) -> (u64, u64) {
        let map = self.map();
        (map.base + 1, map.last)
    }

    /// The terms of all entries that are there as runs, (first index, term), ascending. The first run begins at the
    /// first entry, or at the one before it if its term is known.
    pub fn terms(&self) -> Vec<(u64, u64)> {
        self.map().terms.iter().copied().collect()
    }

    /// Bytes of the files that hold the entry at `index` and all after it, from the first of these on.
    pub fn bytes_from(&self, index: u64) -> u64 {
        let map = self.map();
        let at = map.extents.partition_point(|extent| extent.first <= index);
        let Some(extent) = at.checked_sub(1).or(Some(0)).and_then(|at| map.extents.get(at)) else { return 0 };
        let from = extent.at.sequence;
        map.files.range(from..).map(|(_, held)| held.end).sum::<u64>().saturating_sub(extent.at.offset)
    }

    /// Entries from `low` to below `high`, as many as `max_bytes` of memory allow and at least one. Blocks on the disk,
    /// and holds one batch of the log more than it returns.
    ///
    /// # Errors
    /// [`WalError::Gap`]: they are not there, or not any more. Others: the disk.
    pub fn read(&self, low: u64, high: u64, max_bytes: usize) -> Result<Vec<WalEntry>, WalError> {
        let (extents, files, salt) = {
            let map = self.map();
            if low <= map.base || high > map.last + 1 || low >= high {
                return Err(map.missing(low));
            }
            let from = map.extents.partition_point(|extent| extent.first <= low) - 1;
            let extents: Vec<Extent> = map.extents.range(from..).take_while(|it| it.first < high).copied().collect();
            let sequences = extents[0].at.sequence..=extents[extents.len() - 1].at.sequence;
            let files: BTreeMap<u64, Held> = map.files.range(sequences).map(|(k, held)| (*k, held.clone())).collect();
            (extents, files, map.salt)
        };
        let mut found: Vec<WalEntry> = Vec::new();
        let mut bytes = 0;
        for (nth, extent) in extents.iter().enumerate() {
            let stop = extents.get(nth + 1).map_or(high, |next| next.first).min(high);
            let Some(held) = files.get(&extent.at.sequence) else { return Err(gone(low)) };
            let mut at = extent.at.offset;
            let mut next = low.max(extent.first);
            while next < stop {
                let batch = read_file(held, at)?;
                let parsed = read_batch_at(&batch, at, extent.at.sequence, salt).ok_or_else(|| gone(next))?;
                let whole = parsed.contents(|index, term, data| {
                    if index == next && next < stop && (bytes < max_bytes || found.is_empty()) {
                        found.push(WalEntry { index, term, data: Bytes::copy_from_slice(data) });
                        bytes += data.len() + ENTRY_OVERHEAD_BYTES;
                        next += 1;
                    }
                });
                whole.ok_or_else(|| gone(next))?;
                if bytes >= max_bytes {
                    return Ok(found);
                }
                at = parsed.end;
            }
        }
        Ok(found)
    }
}

fn gone(index: u64) -> WalError {
    WalError::Gap { expected: index, found: 0 }
}

/// The bytes of the batch at `at`, as many as its header says.
fn read_file(held: &Held, at: u64) -> Result<Vec<u8>, WalError> {
    let mut bytes = vec![0; BATCH_HEADER_BYTES as usize];
    let read = |buffer: &mut [u8], at: u64| held.file.read_at(buffer, at).map_err(WalError::io("read", &held.path));
    let count = read(&mut bytes, at)?;
    bytes.truncate(count);
    let Some(len) = batch_bytes(&bytes).filter(|len| at + len <= held.end) else { return Ok(bytes) };
    bytes.resize(len as usize, 0);
    let count = read(&mut bytes[BATCH_HEADER_BYTES as usize..], at + BATCH_HEADER_BYTES)?;
    bytes.truncate(BATCH_HEADER_BYTES as usize + count);
    Ok(bytes)
}
