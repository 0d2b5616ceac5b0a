//! Reading a log. Changes nothing on disk.
//!
//! Segments are read in the order of their numbers. Batches are followed as long as each fits the one before it;
//! where that ends, the rest of the file is searched for batches that are whole, only for what they claim to have
//! been synced. At the end the highest claim must lie inside of what could be followed.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use cetera_plant::{Bug, is_planted};

use super::{
    MAX_SEGMENT_BYTES, TornTail, WalEntry, WalError,
    format::{
        ALIGN, BATCH_HEADER_BYTES, Batch, FLAG_FIRST, FLAG_OPEN, HeaderFault, Position, SegmentHeader, header_bytes,
        read_batch, read_batch_header,
    },
    reader::Map,
    segment::{self, Segment},
};
use crate::vfs::{File, Vfs};

/// A segment file that was read.
pub(super) struct Found {
    pub(super) sequence: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    len: u64,
    /// Behind the last batch that belongs to the log, or behind the header.
    end: u64,
    highest_index: u64,
}

impl Found {
    pub(super) fn into_segment(self) -> Segment {
        Segment {
            sequence: self.sequence,
            path: self.path,
            file: self.file,
            len: self.len,
            end: self.end,
            highest_index: self.highest_index,
        }
    }
}

pub(super) struct Recovery {
    pub(super) metadata: Bytes,
    pub(super) salt: u64,
    /// The log's segments, oldest first; at least one.
    pub(super) chain: Vec<Found>,
    /// Files with a segment's name that are not part of the log.
    pub(super) strays: Vec<Found>,
    pub(super) end: Position,
    /// Checksum of the last batch.
    pub(super) end_crc: u32,
    /// The highest epoch met anywhere.
    pub(super) epoch: u32,
    /// The highest claim.
    pub(super) synced: Position,
    pub(super) last_index: u64,
    pub(super) state: Option<Bytes>,
    pub(super) entries: Vec<WalEntry>,
    pub(super) kept: Vec<WalEntry>,
    pub(super) torn: Option<TornTail>,
    /// Where everything is.
    pub(super) map: Map,
}

/// How much below the checkpoint is wanted.
#[derive(Clone, Copy, Default)]
pub(super) struct Keep {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

pub(super) fn read(vfs: &dyn Vfs, dir: &Path, after: u64, keep: Keep) -> Result<Recovery, WalError> {
    let names = vfs.list(dir).map_err(WalError::io("list", dir))?;
    // Names have a fixed width: their order is the order of the numbers.
    let sequences = names.iter().filter_map(|name| Some((segment::sequence_of(name)?, name)));
    let mut reader = Reader { after, kept: Kept { keep, ..Kept::default() }, ..Reader::default() };
    let mut data = Vec::new();
    for (sequence, name) in sequences {
        let path = dir.join(name);
        let file = vfs.open(&path).map_err(WalError::io("open", &path))?;
        let len = file.len().map_err(WalError::io("read", &path))?;
        if len > MAX_SEGMENT_BYTES {
            return Err(damaged(&path, 0, "the file is longer than any segment"));
        }
        data.resize(len as usize, 0);
        let read = file.read_at(&mut data, 0).map_err(WalError::io("read", &path))?;
        data.truncate(read);
        reader.segment(Found { sequence, path, file, len, end: 0, highest_index: 0 }, &data)?;
    }
    reader.finish(dir)
}

fn damaged(file: &Path, offset: u64, reason: &'static str) -> WalError {
    WalError::Damaged { file: file.to_owned(), offset, reason }
}

#[derive(Default)]
struct Reader {
    after: u64,
    /// Salt and metadata, the same in all segments.
    identity: Option<(u64, Bytes)>,
    chain: Vec<Found>,
    strays: Vec<Found>,
    cursor: Option<Cursor>,
    /// Last index of the log before the oldest segment of the chain, if an older one existed.
    released_index: Option<u64>,
    /// Where the log began anew last.
    restarted: u64,
    map: Map,
    /// The highest claim per segment.
    claims: BTreeMap<u64, u64>,
    max_epoch: u32,
    state: Option<Bytes>,
    entries: Vec<WalEntry>,
    kept: Kept,
    /// Remains of writes behind the end of the last segment of the chain, and in later files.
    torn: Vec<TornTail>,
}

/// Entries at or below the checkpoint: the newest consecutive ones, within bounds.
#[derive(Default)]
struct Kept {
    keep: Keep,
    entries: VecDeque<WalEntry>,
    bytes: usize,
}

impl Kept {
    /// Takes out `index` and all above it: they are overridden.
    fn cut(&mut self, index: u64) {
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.index >= index) {
            self.bytes -= entry.data.len();
        }
    }

    fn push(&mut self, index: u64, term: u64, data: &[u8]) {
        if self.keep.entries == 0 {
            return;
        }
        if self.entries.back().is_some_and(|last| last.index + 1 != index) {
            self.clear();
        }
        self.entries.push_back(WalEntry { index, term, data: Bytes::copy_from_slice(data) });
        self.bytes += data.len();
        while self.entries.len() > self.keep.entries || (self.bytes > self.keep.bytes && self.entries.len() > 1) {
            let oldest = self.entries.pop_front().expect("there are some");
            self.bytes -= oldest.data.len();
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }

    /// What leads up to `after` without a gap.
    fn up_to(self, after: u64) -> Vec<WalEntry> {
        let whole = self.entries.back().is_some_and(|last| last.index == after);
        if whole { self.entries.into() } else { Vec::new() }
    }
}

/// The end of what could be followed so far.
#[derive(Clone, Copy)]
struct Cursor {
    at: Position,
    crc: u32,
    epoch: u32,
    last_index: u64,
}

impl Cursor {
    /// Whether `batch` was written right behind this place, in this or a later epoch.
    fn continues(&self, batch: &Batch<'_>) -> bool {
        let epoch = batch.header.epoch == self.epoch
            || (batch.header.epoch > self.epoch && batch.header.flags & FLAG_OPEN != 0);
        epoch && batch.header.previous_crc == self.crc && batch.header.last_index == self.last_index
    }
}

impl Reader {
    fn segment(&mut self, mut found: Found, data: &[u8]) -> Result<(), WalError> {
        let header = SegmentHeader::decode(data).map_err(|fault| match fault {
            HeaderFault::Bad => damaged(&found.path, 0, "the segment header cannot be read"),
            HeaderFault::Newer(format) => WalError::NewerFormat { file: found.path.clone(), format },
        })?;
        if header.sequence != found.sequence {
            return Err(damaged(&found.path, 16, "the segment bears another one's name"));
        }
        found.end = header_bytes(&header.metadata);
        let identity = (header.salt, header.metadata);
        if self.identity.get_or_insert_with(|| identity.clone()) != &identity {
            return Err(damaged(&found.path, 24, "the segment belongs to another log"));
        }
        let salt = identity.0;
        let first = read_batch(data, found.end, found.sequence, salt);
        let Some(first) = first.filter(|batch| batch.header.flags & FLAG_FIRST != 0) else {
            self.search(&found, data, salt, 0);
            self.strays.push(found);
            return Ok(());
        };
        match self.link(&found, &first) {
            Err(WalError::Damaged { .. }) if is_planted(Bug::DamageSkipped) => {
                self.strays.push(found);
                return Ok(());
            }
            linked => linked?,
        }
        self.map.salt = salt;
        self.map.add_file(found.sequence, found.path.clone(), found.file.clone());
        let mut batch = Some(first);
        while let Some(next) = batch {
            self.take(&mut found, &next)?;
            batch = read_batch(data, found.end, found.sequence, salt).filter(|batch| {
                batch.header.flags & FLAG_FIRST == 0 && self.cursor.is_some_and(|cursor| cursor.continues(batch))
            });
        }
        self.torn.clear();
        let epoch = self.cursor.map_or(0, |cursor| cursor.epoch);
        self.search(&found, data, salt, epoch);
        self.chain.push(found);
        Ok(())
    }

    /// Decides how a segment that has a first batch goes with what was read so far.
    fn link(&mut self, found: &Found, first: &Batch<'_>) -> Result<(), WalError> {
        let previous = first.header.synced;
        match self.cursor {
            Some(cursor) if cursor.at == previous && cursor.continues(first) => return Ok(()),
            Some(cursor) if previous.sequence == cursor.at.sequence && previous.offset > cursor.at.offset => {
                // The older segment was synced to its end, yet it could not be followed that far.
                let older = self.chain.last().map_or(&found.path, |older| &older.path);
                return Err(damaged(older, cursor.at.offset, "bytes that had been synced cannot be read"));
            }
            Some(cursor) if previous.sequence <= cursor.at.sequence => {
                return Err(damaged(&found.path, found.end, "the segment does not continue the one before it"));
            }
            // Either the first one, or the one before it is gone: then the older ones are what an interrupted
            // release left behind. Whether it was right to release them shows at the end.
            _ => {}
        }
        if let Some(older) = self.strays.iter().find(|stray| stray.sequence == previous.sequence) {
            return Err(damaged(&older.path, older.end, "bytes that had been synced cannot be read"));
        }
        self.strays.append(&mut self.chain);
        self.entries.clear();
        self.kept.clear();
        self.map = Map::new(self.map.salt);
        self.map.restart(first.header.last_index);
        self.restarted = 0;
        self.state = None;
        self.released_index = (previous.sequence != 0).then_some(first.header.last_index);
        self.cursor = Some(Cursor {
            at: Position { sequence: found.sequence, offset: found.end },
            crc: first.header.previous_crc,
            epoch: first.header.epoch,
            last_index: first.header.last_index,
        });
        Ok(())
    }

    fn take(&mut self, found: &mut Found, batch: &Batch<'_>) -> Result<(), WalError> {
        self.claim(batch);
        let mut last_index = batch.header.last_index;
        if let Some(index) = batch.restart() {
            last_index = index;
            self.restarted = index;
            self.released_index = None;
            self.entries.clear();
            self.kept.clear();
            self.map.restart(index);
            for segment in self.chain.iter_mut().chain([&mut *found]) {
                segment.highest_index = segment.highest_index.min(index);
            }
        }
        let before = last_index;
        let mut terms = Vec::new();
        let at = Position { sequence: found.sequence, offset: found.end };
        let (entries, kept, after) = (&mut self.entries, &mut self.kept, self.after);
        let state = batch.contents(|index, term, data| {
            last_index = index;
            terms.push((index, term));
            found.highest_index = found.highest_index.max(index);
            // Overrides count even where they lie below the checkpoint.
            while entries.last().is_some_and(|entry| entry.index >= index) {
                entries.pop();
            }
            kept.cut(index);
            if index > after {
                entries.push(WalEntry { index, term, data: Bytes::copy_from_slice(data) });
            } else {
                kept.push(index, term, data);
            }
        });
        let possible = |index: u64| index != 0 && index != u64::MAX;
        let state = state
            .filter(|_| before != u64::MAX && terms.iter().all(|(index, _)| possible(*index)))
            .ok_or_else(|| damaged(&found.path, found.end, "a batch contradicts itself"))?;
        if state.is_some() {
            self.state = state;
        }
        self.map.append(at, batch.end, terms.into_iter());
        found.end = batch.end;
        self.cursor = Some(Cursor {
            at: Position { sequence: found.sequence, offset: batch.end },
            crc: batch.crc,
            epoch: batch.header.epoch,
            last_index,
        });
        Ok(())
    }

    fn claim(&mut self, batch: &Batch<'_>) {
        let claim = batch.header.synced;
        let highest = self.claims.entry(claim.sequence).or_default();
        *highest = claim.offset.max(*highest);
        self.max_epoch = self.max_epoch.max(batch.header.epoch);
    }

    /// Looks for whole batches behind `found.end`: they are not part of the log, but their claims are true. Also
    /// notes what is left of writes of `epoch` or later.
    fn search(&mut self, found: &Found, data: &[u8], salt: u64, epoch: u32) {
        let mut written = found.end;
        let mut at = found.end;
        while at + BATCH_HEADER_BYTES <= data.len() as u64 {
            let header = read_batch_header(&data[at as usize..]);
            if let Some(header) = header.filter(|header| header.sequence == found.sequence) {
                if let Some(batch) = read_batch(data, at, found.sequence, salt) {
                    self.claim(&batch);
                    if batch.header.epoch >= epoch {
                        written = written.max(batch.end);
                    }
                } else if u64::from(header.offset) == at && header.epoch >= epoch {
                    written = written.max(at + BATCH_HEADER_BYTES);
                }
            }
            at += ALIGN;
        }
        if written > found.end {
            self.torn.push(TornTail { file: found.path.clone(), offset: found.end, bytes: written - found.end });
        }
    }

    fn finish(self, dir: &Path) -> Result<Recovery, WalError> {
        let Some((salt, metadata)) = self.identity else {
            return Err(WalError::Io {
                doing: "find a log in",
                path: dir.to_owned(),
                error: std::io::ErrorKind::NotFound.into(),
            });
        };
        let (Some(cursor), Some(last)) = (self.cursor, self.chain.last()) else {
            let file = self.strays.first().expect("a segment was read, and it is not in the chain");
            return Err(damaged(&file.path, file.end, "the first batch cannot be read"));
        };
        let (sequence, offset) = self.claims.last_key_value().expect("a batch was read, and each has a claim");
        let synced = Position { sequence: *sequence, offset: *offset };
        let synced = if is_planted(Bug::DamageSkipped) { synced.min(cursor.at) } else { synced };
        if synced > cursor.at {
            let later = self.strays.iter().find(|stray| stray.sequence > cursor.at.sequence);
            let (file, offset) = match later {
                Some(stray) if self.claims.get(&cursor.at.sequence).is_none_or(|claim| *claim <= cursor.at.offset) => {
                    (&stray.path, stray.end)
                }
                _ => (&last.path, cursor.at.offset),
            };
            return Err(damaged(file, offset, "bytes that had been synced cannot be read"));
        }
        // Each open takes the next one; nobody opens a log so often.
        if self.max_epoch == u32::MAX {
            return Err(damaged(&last.path, 0, "a batch of the last epoch there can be"));
        }
        let first = self.entries.first().map(|entry| entry.index);
        if self.released_index.is_some_and(|index| index > self.after)
            || self.restarted > self.after
            || first.is_some_and(|index| index > self.after + 1)
        {
            return Err(WalError::Gap { expected: self.after + 1, found: first.unwrap_or(0) });
        }
        if let Some(pair) = self.entries.windows(2).find(|pair| pair[0].index + 1 != pair[1].index) {
            return Err(WalError::Gap { expected: pair[0].index + 1, found: pair[1].index });
        }
        Ok(Recovery {
            metadata,
            salt,
            end: cursor.at,
            end_crc: cursor.crc,
            epoch: self.max_epoch,
            synced,
            last_index: cursor.last_index,
            state: self.state,
            entries: self.entries,
            kept: self.kept.up_to(self.after),
            torn: self.torn.into_iter().next(),
            map: self.map,
            chain: self.chain,
            strays: self.strays,
        })
    }
}
