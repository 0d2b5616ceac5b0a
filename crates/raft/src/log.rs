//! The log as the library's `Storage`: its tail in memory, the rest on the disk.
//!
//! Durability is not its business: entries are put here before they are on disk and the library is told separately
//! when they are. Entries that are applied and durable may be dropped from the front at any time. What was dropped is
//! still part of the log as far as the disk reaches: its terms are known here ([`Terms`]), and its entries are asked
//! for ([`MemoryLog::take_wants`]), read elsewhere and handed in, some MiB at a time ([`MemoryLog::fetched`]). What the
//! disk has let go of is answered with `Compacted`, which makes the leader fall back to a snapshot.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

/// Applied entries kept for followers at most; etcd's `snapshot-catchup-entries`.
pub const KEEP_ENTRIES_MAX: usize = 5_000;
/// Bytes of applied entries kept for followers at most.
pub const KEEP_BYTES_MAX: usize = 16 << 20;
/// Bytes that the entries of one read of the disk take in memory, unless a single entry takes more. A member that lags
/// costs the leader twice as much, about: one read is on its way to it, and the next is made.
pub const FETCH_BYTES_MAX: usize = 2 << 20;
/// Reads that are remembered at most, oldest go first. With [`FETCH_BYTES_MAX`] it bounds what members that lag cost.
pub const FETCHES_MAX: usize = 6;
/// Members that can wait for one read; who finds no place is served after its next heartbeat.
const WAITING_MAX: usize = 16;

/// How much of what is applied stays in memory.
#[derive(Copy, Clone, Debug)]
pub struct Keep {
    /// Entries at most.
    pub entries: usize,
    /// Their bytes at most.
    pub bytes: usize,
}

impl Default for Keep {
    fn default() -> Self {
        Self { entries: KEEP_ENTRIES_MAX, bytes: KEEP_BYTES_MAX }
    }
}

/// Log entries `first..=last`, and the term of the entry before the first.
#[derive(Debug)]
pub struct MemoryLog {
    hard_state: HardState,
    conf_state: ConfState,
    /// Index and term of the entry before `entries[0]`.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: usize,
    keep: Keep,
    /// The first index that can be read from the disk.
    disk_first: u64,
    terms: Terms,
    fetched: VecDeque<Chunk>,
    asked: RefCell<Asked>,
    /// Snapshots that may be sent, by member.
    offers: BTreeMap<u64, Snapshot>,
}

/// What the library asked for and was not there.
#[derive(Debug, Default)]
struct Asked {
    wants: Vec<Want>,
    /// Members that need a snapshot.
    snapshots: Vec<u64>,
}

/// Entries on the disk that are needed in memory.
#[derive(Debug)]
struct Want {
    low: u64,
    contexts: Vec<GetEntriesContext>,
    /// The read is under way.
    reading: bool,
}

/// Entries as they were read; none once they were sent to all who need them. Then it only says where the read began.
#[derive(Debug)]
struct Chunk {
    first: u64,
    /// Not this one.
    end: u64,
    entries: Vec<Entry>,
}

impl Chunk {
    fn holds(&self, index: u64) -> bool {
        (self.first..self.end).contains(&index) && !self.entries.is_empty()
    }
}

/// The terms of a log as runs: one pair per term, however long the log is.
#[derive(Clone, Debug, Default)]
pub struct Terms(VecDeque<(u64, u64)>);

impl FromIterator<(u64, u64)> for Terms {
    /// Pairs of index and term, ascending.
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(pairs: I) -> Self {
        let mut terms = Self::default();
        pairs.into_iter().for_each(|(index, term)| terms.put(index, term));
        terms
    }
}

impl Terms {
    /// The term of `index`, if it is at or behind the first one known. Asking behind the end gives the last term.
    pub fn get(&self, index: u64) -> Option<u64> {
        let at = self.0.partition_point(|(first, _)| *first <= index);
        Some(self.0[at.checked_sub(1)?].1)
    }

    /// The entry at `index` is of `term`; what was known of later ones is void.
    pub fn put(&mut self, index: u64, term: u64) {
        while self.0.pop_back_if(|(first, _)| *first >= index).is_some() {}
        if self.0.back().is_none_or(|(_, last)| *last != term) {
            self.0.push_back((index, term));
        }
    }

    /// Forgets what is below `index`.
    pub fn forget_below(&mut self, index: u64) {
        while self.0.get(1).is_some_and(|(first, _)| *first <= index) {
            self.0.pop_front();
        }
        if let Some((first, _)) = self.0.front_mut() {
            *first = index.max(*first);
        }
    }
}

impl MemoryLog {
    pub(crate) fn new(hard_state: HardState, conf_state: ConfState, before: (u64, u64), entries: Vec<Entry>) -> Self {
        let mut terms = Terms::default();
        terms.put(before.0, before.1);
        for (offset, entry) in entries.iter().enumerate() {
            assert_eq!(entry.index, before.0 + 1 + offset as u64, "log entries must be contiguous");
            terms.put(entry.index, entry.term);
        }
        let bytes = entries.iter().map(|entry| entry.data.len()).sum();
        Self {
            hard_state,
            conf_state,
            before,
            entries: entries.into(),
            bytes,
            keep: Keep::default(),
            disk_first: before.0 + 1,
            terms,
            fetched: VecDeque::new(),
            asked: RefCell::default(),
            offers: BTreeMap::new(),
        }
    }

    pub(crate) fn keep(&mut self, keep: Keep) {
        self.keep = keep;
    }

    /// The disk holds the entries from `first` on; `terms` are those of the entries from the one before that on, up to
    /// where the log in memory begins.
    pub(crate) fn reach_back(&mut self, first: u64, terms: Terms) {
        assert!(first > 0 && first <= self.before.0 + 1, "a log that begins at {first} and at {}", self.before.0 + 1);
        let mut all = terms;
        assert!(all.get(first - 1).is_some(), "the term before entry {first} is unknown");
        for (index, term) in &self.terms.0 {
            all.put(*index, *term);
        }
        self.terms = all;
        self.disk_first = first;
    }

    /// Index of the entry before the first one kept in memory.
    pub(crate) fn before(&self) -> u64 {
        self.before.0
    }

    fn first(&self) -> u64 {
        self.disk_first.min(self.before.0 + 1)
    }

    pub(crate) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// Everything is replaced by a snapshot: the log goes on behind it.
    pub(crate) fn restore(&mut self, index: u64, term: u64, conf_state: ConfState) {
        let hard_state = std::mem::take(&mut self.hard_state);
        let keep = self.keep;
        *self = Self { keep, ..Self::new(hard_state, conf_state, (index, term), Vec::new()) };
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
            self.terms.put(entry.index, entry.term);
            self.entries.push_back(entry.clone());
        }
    }

    /// Drops the oldest entries at or below `through` until the bounds hold.
    pub(crate) fn trim(&mut self, through: u64) {
        while self.entries.len() > self.keep.entries || self.bytes > self.keep.bytes {
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

    /// The disk lets go of the entries through this one.
    pub(crate) fn released(&mut self, through: u64) {
        self.disk_first = self.disk_first.max(through + 1);
        self.terms.forget_below(self.first() - 1);
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(self.before.0 + 1)?).ok()?)
    }

    /// What is to be read from the disk. Those that `may` refuses are forgotten: they are asked for again.
    pub(crate) fn take_wants(&mut self, mut may: impl FnMut(&Self, u64) -> bool) -> Vec<u64> {
        let mut asked = std::mem::take(&mut self.asked).into_inner();
        let mut new = Vec::new();
        asked.wants.retain_mut(|want| {
            let wanted = want.reading || may(self, want.low);
            if wanted && !want.reading {
                want.reading = true;
                new.push(want.low);
            }
            wanted
        });
        self.asked = RefCell::new(asked);
        new
    }

    /// The entries from `low` on were read; `None`: they cannot be. Returns who waits for them.
    pub(crate) fn fetched(&mut self, low: u64, entries: Option<Vec<Entry>>) -> Vec<GetEntriesContext> {
        match entries.filter(|entries| !entries.is_empty()) {
            // The log has begun anew since.
            _ if low < self.first() => return Vec::new(),
            Some(entries) => {
                let follow = entries.iter().zip(low..).all(|(entry, index)| entry.index == index);
                let known = entries.iter().all(|entry| self.terms.get(entry.index) == Some(entry.term));
                assert!(follow && known, "the disk holds other entries from {low} on than the log");
                while self.fetched.len() >= FETCHES_MAX {
                    self.fetched.pop_front();
                }
                self.fetched.push_back(Chunk { first: low, end: low + entries.len() as u64, entries });
            }
            // Who lags further than memory reaches gets a snapshot.
            None => self.released(self.before.0),
        }
        let wants = &mut self.asked.get_mut().wants;
        let at = wants.iter().position(|want| want.low == low);
        at.map(|at| wants.swap_remove(at).contexts).unwrap_or_default()
    }

    /// Where the read began that ended right before `low`, if it is remembered.
    pub(crate) fn read_before(&self, low: u64) -> Option<u64> {
        self.fetched.iter().find(|chunk| chunk.end == low).map(|chunk| chunk.first)
    }

    /// `next` are the entries that members are sent next: reads in which none of them lies are let go of, and only
    /// where they began and ended stays known.
    pub(crate) fn let_go_of_sent(&mut self, next: impl Iterator<Item = u64> + Clone) {
        for chunk in &mut self.fetched {
            if !next.clone().any(|index| chunk.holds(index)) {
                chunk.entries = Vec::new();
            }
        }
    }

    /// Nobody needs what was read any more.
    pub(crate) fn forget_fetched(&mut self) {
        self.fetched.clear();
    }

    pub(crate) fn holds_fetched(&self) -> bool {
        !self.fetched.is_empty()
    }

    /// Members that the library wanted to send a snapshot to since the last call.
    pub(crate) fn take_snapshot_wants(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.asked.get_mut().snapshots)
    }

    /// The next snapshot the library wants for `member` is this one; `None` takes it back.
    pub(crate) fn offer(&mut self, member: u64, snapshot: Option<Snapshot>) {
        match snapshot {
            Some(snapshot) => self.offers.insert(member, snapshot),
            None => self.offers.remove(&member),
        };
    }

    fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    fn ask(&self, low: u64, context: GetEntriesContext) {
        let wants = &mut self.asked.borrow_mut().wants;
        match wants.iter_mut().find(|want| want.low == low) {
            Some(want) if want.contexts.len() < WAITING_MAX => want.contexts.push(context),
            Some(_) => {}
            None => wants.push(Want { low, contexts: vec![context], reading: false }),
        }
    }
}

/// As many as `max_size` allows, at least one.
fn limited<'a>(entries: impl Iterator<Item = &'a Entry>, max_size: u64) -> Vec<Entry> {
    let mut found = Vec::with_capacity(entries.size_hint().0.min(KEEP_ENTRIES_MAX));
    let mut size = 0;
    for entry in entries {
        size += entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES;
        if size > max_size && !found.is_empty() {
            break;
        }
        found.push(entry.clone());
    }
    found
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
        context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high} asked for, the log ends at {}", self.last());
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let count = (high - low) as usize;
        if low > self.before.0 {
            let from = (low - self.before.0 - 1) as usize;
            return Ok(limited(self.entries.iter().skip(from).take(count), max_size));
        }
        if let Some(chunk) = self.fetched.iter().find(|chunk| chunk.holds(low)) {
            let from = (low - chunk.first) as usize;
            return Ok(limited(chunk.entries.iter().skip(from).take(count), max_size));
        }
        // Only what is not applied is needed at once, and that is in memory.
        assert!(context.can_async(), "entry {low} is wanted at once, memory begins behind {}", self.before.0);
        self.ask(low, context);
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index + 1 < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if index > self.last() {
            return Err(Error::Store(StorageError::Unavailable));
        }
        Ok(self.terms.get(index).expect("terms reach back to the entry before the first"))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        if let Some(snapshot) = self.offers.get(&to).filter(|offer| offer.get_metadata().index >= request_index) {
            return Ok(snapshot.clone());
        }
        let snapshots = &mut self.asked.borrow_mut().snapshots;
        if !snapshots.contains(&to) {
            snapshots.push(to);
        }
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// What an entry adds to a message besides its data.
const ENTRY_OVERHEAD_BYTES: u64 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn log(before: u64, last: u64, bytes: usize) -> MemoryLog {
        let entry = |index| Entry { index, term: 1, data: vec![7; bytes].into(), ..Default::default() };
        let entries = (before + 1..=last).map(entry).collect();
        MemoryLog::new(HardState::default(), ConfState::default(), (before, 1), entries)
    }

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
        let mut log = log(0, 40, 1 << 20);
        log.trim(10);
        assert_eq!(log.before(), 10);
        log.trim(40);
        assert_eq!(log.before(), 24, "sixteen of a MiB each are kept");
        assert_eq!(log.term(24).expect("the term before the first"), 1);
        log.released(24);
        assert!(
            log.entries(24, 26, None, GetEntriesContext::empty(true))
                .is_err_and(|error| { error == Error::Store(StorageError::Compacted) })
        );
    }

    #[test]
    fn what_is_not_in_memory_is_asked_for_once_and_then_there() {
        let mut log = log(0, 40, 1 << 20);
        log.trim(40);
        let asks = |log: &MemoryLog, low| log.entries(low, 41, Some(3 << 20), GetEntriesContext::empty(true));
        for _ in 0..3 {
            assert_eq!(asks(&log, 5).unwrap_err(), Error::Store(StorageError::LogTemporarilyUnavailable));
        }
        assert_eq!(log.take_wants(|_, _| true), [5]);
        assert!(asks(&log, 5).is_err());
        assert!(log.take_wants(|_, _| true).is_empty(), "a read is under way");
        let entry = |index| Entry { index, term: 1, data: vec![8; 1 << 20].into(), ..Default::default() };
        assert_eq!(log.fetched(5, Some((5..9).map(entry).collect())).len(), 4);
        let indexes: Vec<u64> = asks(&log, 6).unwrap().iter().map(|entry| entry.index).collect();
        assert_eq!(indexes, [6, 7]);
        assert_eq!(log.read_before(9), Some(5));
        assert!(asks(&log, 9).is_err());
        log.let_go_of_sent([3, 8].into_iter());
        assert!(asks(&log, 8).is_ok(), "one of them is still to be sent");
        log.let_go_of_sent([3, 9].into_iter());
        assert_eq!(log.fetched.iter().map(|chunk| chunk.entries.capacity()).sum::<usize>(), 0);
        assert_eq!(log.read_before(9), Some(5), "where they began is known all the same");
        assert!(asks(&log, 8).is_err(), "whoever is set back has them read again");
        assert_eq!(log.take_wants(|_, low| low == 8), [8]);
        assert_eq!(log.fetched(8, Some(vec![entry(8)])).len(), 1);
        assert!(asks(&log, 8).is_ok());
        assert!(asks(&log, 9).is_err());
        assert!(log.take_wants(|_, _| false).is_empty());
        assert!(asks(&log, 9).is_err());
        assert_eq!(log.take_wants(|_, _| true), [9]);
        assert_eq!(log.fetched(9, None).len(), 1, "it waits, and will be told that there is nothing");
        assert_eq!(asks(&log, 9).unwrap_err(), Error::Store(StorageError::Compacted));
        assert_eq!(log.first_index().unwrap(), log.before() + 1);
    }

    #[test]
    fn terms_are_runs() {
        let mut terms = Terms::default();
        for (index, term) in [(4, 1), (5, 1), (6, 2), (7, 2), (8, 5)] {
            terms.put(index, term);
        }
        assert_eq!(
            (3..10).map(|index| terms.get(index)).collect::<Vec<_>>(),
            [None, Some(1), Some(1), Some(2), Some(2), Some(5), Some(5)]
        );
        terms.put(7, 6);
        assert_eq!((terms.get(6), terms.get(7), terms.get(8)), (Some(2), Some(6), Some(6)));
        terms.forget_below(6);
        assert_eq!((terms.get(5), terms.get(6), terms.get(7)), (None, Some(2), Some(6)));
    }
}
