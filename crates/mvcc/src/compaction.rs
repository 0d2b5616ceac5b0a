//! Compaction: a watermark that moves at once, and a pass behind it that forgets at its own pace.
//!
//! Moving the watermark to C makes everything below C unreadable; nothing else happens then. The pass walks the
//! records of [finished, C] in revision order, in slices on the writer's thread, and trims the key of each: what a
//! compaction at C drops (contract D-1) leaves the index, then the record leaves the log's count of live bytes and
//! the record sum. The file space comes back when segments are rewritten (see `rewrite`).
//!
//! Why walking that window is enough: a record at or below C must go if a newer record of its key, also at or below
//! C, replaces it, or if it is a tombstone below C. Either the record itself lies in the window, or it is older; then
//! the earlier passes kept it, so it is the newest of its key at `finished`, and its replacement lies in the window.
//! Only a tombstone exactly at `finished` was kept for no other reason than its place, and the window begins there.
//!
//! Invariants: `finished <= watermark`. A record is in the index, or in the garbage queue, or gone. The sum of dropped
//! hashes leaves the record sum only when a pass is through, so that the sum always belongs to a finished watermark.
//! A checkpoint in the middle holds index, queue and cursor as they were then, so the pass goes on where it was.

use std::ops::ControlFlow;

use cetera_plant::{Bug, is_planted};
use cetera_storage::{revision::Revision, revlog::LogError};

use crate::{encode::key_of_payload, hash::record_hash, store::Store};

/// How far forgetting has come.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Compaction {
    /// Reads below are refused. -1 = never compacted.
    pub(crate) watermark: i64,
    /// The index and the record sum are those of a compaction here. -1 = none yet.
    pub(crate) finished: i64,
    /// The pass under way.
    pub(crate) pass: Option<Pass>,
    /// Sum of the hashes of the records dropped since `finished`.
    pub(crate) dropped: u64,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Pass {
    /// The watermark this pass makes true.
    pub(crate) target: i64,
    /// First record not yet visited; None once the window is walked and only the queue is left.
    pub(crate) next: Option<Revision>,
}

impl Default for Compaction {
    fn default() -> Self {
        Compaction { watermark: -1, finished: -1, pass: None, dropped: 0 }
    }
}

impl Store {
    /// The watermark up to which space has been given back; equal to [`Store::compacted`] when no pass is due.
    pub fn compaction_finished(&self) -> i64 {
        self.compaction.finished
    }

    /// One slice of the pass: visits or drops about `max_records` records. Returns whether there is more to do. After
    /// an error the pass can be taken up again.
    ///
    /// A key with a long history leaves the index in one slice; its records are dropped over the following ones.
    pub fn compaction_step(&mut self, max_records: usize) -> Result<bool, LogError> {
        let dropped = self.drop_garbage(max_records)?;
        if !self.garbage.is_empty() {
            return Ok(true);
        }
        let Compaction { watermark, finished, pass, .. } = self.compaction;
        if pass.is_none() && watermark == finished {
            return Ok(false);
        }
        let start = Revision::new(finished.max(0), 0);
        let pass = pass.unwrap_or(Pass { target: watermark, next: Some(start) });
        self.compaction.pass = Some(pass);
        if let Some(next) = pass.next {
            let next = self.visit(pass.target, next, max_records.saturating_sub(dropped).max(1))?;
            self.compaction.pass = Some(Pass { next, ..pass });
            if next.is_some() || !self.garbage.is_empty() {
                return Ok(true);
            }
        }
        self.finish(pass.target);
        Ok(self.compaction.watermark > self.compaction.finished)
    }

    /// Trims the keys of up to `max_records` records from `from` on; returns where to go on.
    fn visit(&mut self, target: i64, from: Revision, max_records: usize) -> Result<Option<Revision>, LogError> {
        self.log.flush()?;
        let mut keys = Vec::new();
        let mut ends = Vec::new();
        let mut next = None;
        self.log.reader().scan(from, &mut |_, record| {
            if record.revision.main > target {
                return ControlFlow::Break(());
            }
            if ends.len() == max_records {
                next = Some(record.revision);
                return ControlFlow::Break(());
            }
            keys.extend_from_slice(key_of_payload(record.payload));
            ends.push(keys.len());
            ControlFlow::Continue(())
        })?;
        let mut start = 0;
        for end in ends {
            self.trim(&keys[start..end], target);
            start = end;
        }
        Ok(next)
    }

    fn trim(&mut self, key: &[u8], target: i64) {
        let due = self.index.get(key).is_some_and(|entry| entry.needs_trim(target));
        if !due {
            return;
        }
        let garbage = &mut self.garbage;
        let stays = self
            .index
            .update(key, |entry| entry.trim(target, &mut |dropped| garbage.push_back(dropped.location)))
            .expect("the key was just found");
        let lost = is_planted(Bug::CompactionLosesKey)
            && self.index.get(key).is_some_and(|entry| entry.past().is_none() && entry.modified().main == target);
        if !stays || lost {
            self.index.remove(key);
        }
    }

    /// Takes up to `max_records` queued records out of the log's live bytes and, for the pass's end, the record sum.
    pub(crate) fn drop_garbage(&mut self, max_records: usize) -> Result<usize, LogError> {
        let mut count = 0;
        while count < max_records
            && let Some(&location) = self.garbage.front()
        {
            let hash =
                self.log.read(location, |record| record_hash(record.revision, record.tombstone, record.payload))?;
            self.compaction.dropped = self.compaction.dropped.wrapping_add(hash);
            self.log.release(location);
            self.garbage.pop_front();
            count += 1;
        }
        Ok(count)
    }

    fn finish(&mut self, target: i64) {
        self.sum = self.sum.wrapping_sub(self.compaction.dropped);
        self.compaction.dropped = 0;
        self.compaction.finished = target;
        self.compaction.pass = None;
    }
}
