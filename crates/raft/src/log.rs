//! The tail of the log in memory, as the library's `Storage`.
//!
//! Durability is not its business: entries are put here before they are on disk and the library is told separately
//! when they are. Entries that are applied and durable may be dropped from the front at any time; what is dropped is
//! answered with `Compacted`, which makes the leader fall back to a snapshot.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

/// Applied entries kept for followers at most; etcd's `snapshot-catchup-entries`.
pub const KEEP_ENTRIES_MAX: usize = 5_000;
/// Bytes of applied entries kept for followers at most.
pub const KEEP_BYTES_MAX: usize = 16 << 20;

/// Log entries `first..=last`, and the term of the entry before the first.
#[derive(Debug)]
pub struct MemoryLog {
    hard_state: HardState,
    conf_state: ConfState,
    /// Index and term of the entry before `entries[0]`.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl MemoryLog {
    pub(crate) fn new(hard_state: HardState, conf_state: ConfState, before: (u64, u64), entries: Vec<Entry>) -> Self {
        for (offset, entry) in entries.iter().enumerate() {
            assert_eq!(entry.index, before.0 + 1 + offset as u64, "log entries must be contiguous");
        }
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        Self { hard_state, conf_state, before, entries: entries.into(), bytes }
    }

    /// Index of the entry before the first one kept.
    pub(crate) fn before(&self) -> u64 {
        self.before.0
    }

    pub(crate) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Adds entries; one whose index is already there, and all after it, are replaced (a truncated suffix).
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.before.0, "entry {} is below the kept log ({})", first.index, self.before.0);
        while self.last() >= first.index {
            let dropped = self.entries.pop_back().expect("last() counts the entries");
            self.bytes -= dropped.data.len();
        }
        assert_eq!(self.last() + 1, first.index, "a gap in the log");
        for entry in entries {
            self.bytes += entry.data.len();
            self.entries.push_back(entry.clone());
        }
    }

    /// Drops the oldest entries at or below `through` until the bounds hold.
    pub(crate) fn trim(&mut self, through: u64) {
        while self.entries.len() > KEEP_ENTRIES_MAX || self.bytes > KEEP_BYTES_MAX {
            match self.entries.front() {
                Some(entry) if entry.index <= through => {
                    self.before = (entry.index, entry.term);
                    self.bytes -= entry.data.len();
                    self.entries.pop_front();
                }
                _ => break,
            }
        }
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(self.before.0 + 1)?).ok()?)
    }

    fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.before.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high} asked for, the log ends at {}", self.last());
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let from = (low - self.before.0 - 1) as usize;
        let count = (high - low) as usize;
        let mut found = Vec::with_capacity(count.min(KEEP_ENTRIES_MAX));
        let mut size = 0;
        for entry in self.entries.iter().skip(from).take(count) {
            size += entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES;
            if size > max_size && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index < self.before.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index == self.before.0 {
            return Ok(self.before.1);
        }
        match self.entries.get((index - self.before.0 - 1) as usize) {
            Some(entry) => Ok(entry.term),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// What an entry adds to a message besides its data.
const ENTRY_OVERHEAD_BYTES: u64 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    /// The library looks through all unapplied entries before it campaigns (its issue 530): that must not copy them.
    #[test]
    fn entries_are_shared_and_not_copied() {
        let data = bytes::Bytes::from(vec![7; 1 << 20]);
        let entry = |index| Entry { index, term: 1, data: data.clone(), ..Default::default() };
        let log = MemoryLog::new(HardState::default(), ConfState::default(), (0, 0), (1..=64).map(entry).collect());
        let found = log.entries(1, 65, None, GetEntriesContext::empty(false)).expect("all are there");
        assert_eq!(found.len(), 64);
        assert!(found.iter().all(|entry| entry.data.as_ptr() == data.as_ptr()));
    }

    #[test]
    fn only_what_is_applied_is_dropped_and_only_beyond_the_bounds() {
        let entry = |index| Entry { index, term: 1, data: vec![7; 1 << 20].into(), ..Default::default() };
        let mut log = MemoryLog::new(HardState::default(), ConfState::default(), (0, 0), (1..=40).map(entry).collect());
        log.trim(10);
        assert_eq!(log.before(), 10);
        log.trim(40);
        assert_eq!(log.before(), 24, "sixteen of a MiB each are kept");
        assert_eq!(log.term(24).expect("the term before the first"), 1);
        assert!(log.entries(24, 26, None, GetEntriesContext::empty(false)).is_err());
    }
}
