//! Following the revision log when it rewrites its segments (see `cetera_storage::revlog`): which records live on, and
//! where the index finds them afterwards.
//!
//! ```text
//! plan_rewrite -> StoreRewrite::run (background) -> install_rewrite -> rewrite_step until it says no
//! ```
//!
//! A record lives if the index or the garbage queue refers to it. The rewrite asks snapshots of both taken at the
//! plan; records that die between that and the step that visits them were copied in vain, and their copies are released
//! then. Queued garbage is read once more, for the record sum: so the queue is emptied before the old segments are
//! given up, and what is in it moves too, for a checkpoint in the meantime names the new segments only.

use cetera_storage::{
    revision::Revision,
    revlog::{Location, LogError, LogManifest, Moved, Relocation, RewriteDone, RewritePlan},
};

use crate::{
    encode::key_of_payload,
    store::Store,
    tree::{KeyEntry, Tree},
};

/// A rewrite the index is following.
pub(crate) struct Moving {
    pub(crate) relocation: Relocation,
    /// Moves visited so far.
    next: usize,
    /// Of each move whether the index took the new location. It may have done so before the move's turn came, with
    /// another record of the key; what becomes of the record then is no longer this module's business.
    taken: Vec<bool>,
}

/// A rewrite to be run on a background thread. Holds a snapshot of the index meanwhile.
pub struct StoreRewrite {
    plan: RewritePlan,
    index: Tree,
    /// Sorted.
    garbage: Vec<Location>,
}

impl StoreRewrite {
    /// Copies the records the index refers to and makes the copies durable. Blocks on the disk.
    pub fn run(self) -> Result<RewriteDone, LogError> {
        let StoreRewrite { plan, index, garbage } = self;
        plan.run(&mut |revision, _, payload, location| {
            let entry = index.get(key_of_payload(payload));
            entry.is_some_and(|entry| location_of(entry, revision).is_some())
                || garbage.binary_search(&location).is_ok()
        })
    }
}

impl Store {
    /// A rewrite, if one is worth its cost and none is under way. `max_bytes` bounds what it reads.
    pub fn plan_rewrite(&mut self, max_bytes: u64) -> Option<StoreRewrite> {
        if self.moving.is_some() {
            return None;
        }
        let plan = self.log.plan_rewrite(max_bytes)?;
        let mut garbage: Vec<_> = self.garbage.iter().copied().collect();
        garbage.sort_unstable();
        Some(StoreRewrite { plan, index: self.index.clone(), garbage })
    }

    /// Takes a finished rewrite in. The index follows in [`Store::rewrite_step`]s.
    pub fn install_rewrite(&mut self, done: RewriteDone) {
        assert!(self.moving.is_none(), "a rewrite is installed while another is being followed");
        let relocation = self.log.install_rewrite(done);
        let taken = vec![false; relocation.len()];
        self.moving = Some(Moving { relocation, next: 0, taken });
    }

    /// Follows the moves of about `max_records` records. Returns whether there is more to do; until there is not, the
    /// old segments stay.
    pub fn rewrite_step(&mut self, max_records: usize) -> Result<bool, LogError> {
        let Some(mut moving) = self.moving.take() else { return Ok(false) };
        let relocation = moving.relocation.clone();
        let end = moving.next.saturating_add(max_records).min(relocation.len());
        let mut followed = Ok(());
        for moved in relocation.slice(moving.next, end) {
            followed = if moving.taken[moving.next] { Ok(()) } else { self.follow(&mut moving, moved) };
            if followed.is_err() {
                break;
            }
            moving.next += 1;
        }
        self.moving = Some(moving);
        followed?;
        if end < relocation.len() {
            return Ok(true);
        }
        self.drop_garbage(max_records)?;
        if !self.garbage.is_empty() {
            return Ok(true);
        }
        self.moving = None;
        self.log.finish_relocation();
        Ok(false)
    }

    fn follow(&mut self, moving: &mut Moving, moved: Moved) -> Result<(), LogError> {
        let Moving { relocation, taken, .. } = moving;
        let mut scratch = Vec::new();
        self.log.read(moved.new, |record| scratch.extend_from_slice(key_of_payload(record.payload)))?;
        let key = &scratch;
        match self.index.get(key).and_then(|entry| location_of(entry, moved.revision)) {
            Some(location) if location == moved.old => {
                // All records of the key at once: one by one, a long history would be copied once for each.
                self.index.update(key, |entry| {
                    entry.relocate(&mut |_, old| {
                        let (number, new) = relocation.find(old)?;
                        taken[number] = true;
                        Some(new)
                    })
                });
            }
            Some(location) => panic!("{:?} moved from elsewhere, to {location:?}", moved.revision),
            None => self.log.release(moved.new),
        }
        Ok(())
    }

    /// Unlinks the segments that were replaced and that `durable`, the manifest of the oldest checkpoint recovery may
    /// still use, does not name. Returns the files removed.
    pub fn remove_retired(&mut self, durable: &LogManifest) -> Result<Vec<String>, LogError> {
        self.log.remove_retired(durable)
    }
}

/// Where the index finds the record of exactly `revision`.
fn location_of(entry: &KeyEntry, revision: Revision) -> Option<Location> {
    let newest = entry.revision_at(revision.main)?;
    if newest.modified == revision {
        return Some(newest.location);
    }
    if newest.modified.main < revision.main {
        return None;
    }
    // A key written more than once by one transaction: rare enough to walk.
    entry
        .revisions()
        .skip_while(|found| found.modified > revision)
        .take(1)
        .find(|found| found.modified == revision)
        .map(|found| found.location)
}
