//! The store's one writer: revision log, key index, and the revisions that go with them.
//!
//! Promises: an operation is in the index if and only if its record is in the log; a [`View`] is taken between
//! transactions, so readers see whole revisions only; everything here is a function of the operations applied, never
//! of time, threads or the disk. The store never syncs anything: what an acknowledgement rests on is the write-ahead
//! log, and a checkpoint syncs the rest in the background.

use std::{collections::VecDeque, sync::Arc};

use bytes::BytesMut;
use cetera_storage::revlog::{Location, LogError, RevLog};

use crate::{
    compaction::Compaction,
    error::MvccError,
    event::EventRec,
    hash::{CompactionHash, HashKv, remember},
    rewrite::Moving,
    tree::Tree,
    txn::WriteTxn,
    view::View,
};

/// Revision of an empty store (contract KV-19).
const FIRST_REVISION: i64 = 1;
/// Events are cut from buffers of this size. Bytes.
pub(crate) const ARENA_BYTES: usize = 64 << 10;

/// The one writer of the store.
pub struct Store {
    pub(crate) log: RevLog,
    pub(crate) index: Tree,
    /// Revision of the last committed transaction.
    pub(crate) current: i64,
    pub(crate) compaction: Compaction,
    /// Sum of the hashes of all records that the finished watermark leaves (see `hash`).
    pub(crate) sum: u64,
    /// Records the index has let go of and the log has not.
    pub(crate) garbage: VecDeque<Location>,
    /// A rewrite of segments whose records the index still has to follow.
    pub(crate) moving: Option<Moving>,
    pub(crate) hashes: Arc<[HashKv]>,
    /// The buffer events are encoded into.
    pub(crate) arena: BytesMut,
    /// Events of the transaction under way.
    pub(crate) events: Vec<EventRec>,
}

impl Store {
    /// Whether [`Store::compaction_step`] has something to do.
    pub fn is_compacting(&self) -> bool {
        let Compaction { watermark, finished, pass, .. } = self.compaction;
        !self.garbage.is_empty() || pass.is_some() || watermark > finished
    }

    /// Whether [`Store::rewrite_step`] has something to do.
    pub fn is_relocating(&self) -> bool {
        self.moving.is_some()
    }

    /// An empty store at revision 1, over an empty log.
    pub fn create(log: RevLog) -> Store {
        Store::assemble(log, Tree::default(), FIRST_REVISION)
    }

    pub(crate) fn assemble(log: RevLog, index: Tree, current: i64) -> Store {
        Store {
            log,
            index,
            current,
            compaction: Compaction::default(),
            sum: 0,
            garbage: VecDeque::new(),
            moving: None,
            hashes: Arc::default(),
            arena: BytesMut::with_capacity(ARENA_BYTES),
            events: Vec::new(),
        }
    }

    /// Revision of the last committed transaction.
    pub fn revision(&self) -> i64 {
        self.current
    }

    /// The compaction watermark, -1 if the store was never compacted.
    pub fn compacted(&self) -> i64 {
        self.compaction.watermark
    }

    /// Starts a transaction. All its writes share one main revision.
    pub fn begin(&mut self) -> WriteTxn<'_> {
        WriteTxn::new(self)
    }

    /// Moves the compaction watermark to `revision` and returns: reads below it get Compacted from now on, the space
    /// comes back through [`Store::compaction_step`] (KV-18).
    pub fn compact(&mut self, revision: i64) -> Result<(), MvccError> {
        if revision <= self.compaction.watermark {
            return Err(MvccError::Compacted);
        }
        if revision > self.current {
            return Err(MvccError::FutureRevision);
        }
        self.compaction.watermark = revision;
        Ok(())
    }

    /// [`Store::compact`], with the job that computes the hash this compaction leaves behind (contract D-4).
    pub fn compact_hashed(&mut self, revision: i64) -> Result<CompactionHash, MvccError> {
        let before = self.view()?;
        self.compact(revision)?;
        Ok(CompactionHash::new(before, revision))
    }

    /// Keeps a compaction's hash for the views to come; the ten newest stay.
    pub fn remember_hash(&mut self, hash: HashKv) {
        self.hashes = remember(&self.hashes, hash);
    }

    /// Flushes the log to the page cache and takes a snapshot. Fails if the disk is full or broken; on a full disk
    /// nothing is lost and the call may be repeated.
    pub fn view(&mut self) -> Result<View, LogError> {
        self.log.flush()?;
        Ok(View {
            index: self.index.clone(),
            log: self.log.reader(),
            current: self.current,
            compacted: self.compaction.watermark,
            hashes: self.hashes.clone(),
        })
    }

    /// The record sum and the finished watermark it belongs to (see the `hash` module). Members that applied the same
    /// entries and finished the same compaction have the same sum.
    pub fn hash_sum(&self) -> (u64, i64) {
        (self.sum, self.compaction.finished)
    }

    /// The revision log, to ask it about its size and health.
    pub fn log(&self) -> &RevLog {
        &self.log
    }

    /// What must hold between transactions.
    pub fn check_invariants(&self) {
        let Compaction { watermark, finished, .. } = self.compaction;
        assert!(finished <= watermark && watermark <= self.current, "{finished} {watermark} {}", self.current);
        assert!(self.events.is_empty(), "a transaction left {} events", self.events.len());
        if finished == watermark {
            assert!(self.garbage.is_empty(), "a finished pass left {} records", self.garbage.len());
        }
    }
}
