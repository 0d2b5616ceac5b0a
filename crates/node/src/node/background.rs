//! What goes on in the background: slices of compaction between batches, and the jobs that other threads do, checkpoints and
//! rewrites among them. When they are due, and what their ends bring about.

use cetera_proto::raftpb;

use super::{Mode, Node, fatal};
use crate::event::{Effects, Fatal, Reply};
use crate::job::{EVIDENCE, Job, JobDone};
use crate::limits;

/// Index bytes a key costs in a checkpoint, for the pace of checkpoints only.
const INDEX_BYTES_PER_KEY: u64 = 32;

impl Node {
    /// A slice each of compaction and of following a rewrite.
    pub(super) fn slices(&mut self) -> Result<(), Fatal> {
        let store = self.state.store_mut();
        let compacting = store.is_compacting();
        let relocating = store.is_relocating();
        if compacting {
            // The picture lets go of what compaction took out of the index once the pass is over.
            self.dirty |= !store.compaction_step(limits::COMPACTION_SLICE_RECORDS).map_err(fatal)?;
        }
        if relocating {
            store.rewrite_step(limits::REWRITE_SLICE_RECORDS).map_err(fatal)?;
            self.dirty = true;
        }
        Ok(())
    }

    /// Tells those who wait for the end of compaction, and makes the jobs that are due.
    pub(super) fn background(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        let store = self.state.store();
        effects.more = store.is_compacting() || store.is_relocating();
        if !store.is_compacting() && self.hashing == 0 {
            effects.replies.extend(self.settling.drain(..).map(|ticket| (ticket, Reply::Settled)));
        }
        if self.mode != Mode::Running {
            return Ok(());
        }
        if !self.rewrite_running
            && self.now_ms >= self.rewrite_from_ms
            && let Some(job) = self.state.store_mut().plan_rewrite(limits::REWRITE_BYTES_MAX)
        {
            self.rewrite_running = true;
            effects.jobs.push(Job::Rewrite(Box::new(job)));
        }
        if std::mem::take(&mut self.log_synced) {
            self.write_checkpoint(effects)?;
        }
        if !self.checkpoint_running && self.checkpoint_is_due() {
            self.start_checkpoint(effects)?;
        }
        Ok(())
    }

    /// When the log is as long as it may get; and at rest, when as much of the revision log's files waits for one to be
    /// let go: without writes nothing else would ever free them.
    fn checkpoint_is_due(&self) -> bool {
        let store = self.state.store();
        let due = self.checkpoint_due_bytes();
        let rests = !self.rewrite_running && !store.is_relocating() && self.now_ms >= self.rewrite_from_ms;
        self.log_bytes_since_checkpoint >= due || (rests && store.log().reclaimable_bytes() >= due)
    }

    /// A checkpoint costs in proportion to the index; a replay costs in proportion to the log. Letting the log grow
    /// with the index keeps both at a like share.
    fn checkpoint_due_bytes(&self) -> u64 {
        if let Some(bytes) = self.config.checkpoint_log_bytes {
            return bytes;
        }
        let index_bytes = self.published.view.totals(b"\0", b"\0").keys * INDEX_BYTES_PER_KEY;
        index_bytes.clamp(limits::CHECKPOINT_LOG_BYTES_MIN, limits::CHECKPOINT_LOG_BYTES_MAX)
    }

    /// In two jobs: while the second one is under way, what changes of the index is copied, so it is to be short.
    pub(super) fn start_checkpoint(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        self.checkpoint_running = true;
        self.log_bytes_since_checkpoint = 0;
        let sync = self.state.store_mut().sync_ahead().map_err(fatal)?;
        if sync.is_empty() {
            return self.write_checkpoint(effects);
        }
        effects.jobs.push(Job::SyncLog(sync));
        Ok(())
    }

    fn write_checkpoint(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        let state = self.state.checkpoint().map_err(fatal)?;
        self.log_bytes_since_checkpoint = 0;
        let metadata = raftpb::SnapshotMetadata {
            index: state.applied_index(),
            term: state.applied_term(),
            conf_state: Some(state.conf_state()),
        };
        let snapshot = self.new_snapshot(metadata);
        let (index, log) = (state.applied_index(), self.disk.log);
        effects.jobs.push(Job::Checkpoint { index, log, state: Box::new(state), snapshot });
        Ok(())
    }

    pub(super) fn job_done(&mut self, done: JobDone, effects: &mut Effects) {
        match done {
            JobDone::LogSynced if !self.void_jobs.0 => self.log_synced = true,
            JobDone::LogSynced => {
                self.void_jobs.0 = false;
                self.checkpoint_running = false;
                self.snapshot_made(None);
            }
            JobDone::Checkpoint { snapshot, .. } if self.void_jobs.0 => {
                drop(snapshot);
                self.void_jobs.0 = false;
                self.checkpoint_running = false;
                self.snapshot_made(None);
            }
            JobDone::Checkpoint { index, manifest, snapshot } => {
                self.checkpoint_running = false;
                self.snapshot_made(snapshot);
                // A file that cannot be unlinked now is removed with those of a later checkpoint, or by the next start.
                if self.state.store_mut().remove_retired(&manifest).is_err() {
                    self.rewrite_from_ms = self.now_ms + limits::REWRITE_RETRY_MS;
                }
                let floor = self.log_floor(index);
                self.group.released(floor);
                effects.release_wal = Some(floor);
            }
            JobDone::Rewrite(_) if self.void_jobs.1 => {
                self.void_jobs.1 = false;
                self.rewrite_running = false;
            }
            JobDone::Rewrite(done) => {
                self.rewrite_running = false;
                self.state.store_mut().install_rewrite(*done);
            }
            JobDone::Fetched { low, entries } => self.group.fetched(low, entries),
            JobDone::Removed => {}
            JobDone::CompactionHash(hash) => {
                self.hashing -= 1;
                self.state.store_mut().remember_hash(hash);
                self.dirty = true;
            }
            JobDone::Failed { what: "compaction hash", .. } => self.hashing -= 1,
            JobDone::Failed { what: EVIDENCE, .. } => {}
            JobDone::Failed { what: "checkpoint", .. } => {
                self.void_jobs.0 = false;
                self.checkpoint_running = false;
                self.snapshot_made(None);
                self.log_bytes_since_checkpoint = self.checkpoint_due_bytes() / 2;
                self.rewrite_from_ms = self.now_ms + limits::REWRITE_RETRY_MS;
            }
            JobDone::Failed { .. } => {
                self.void_jobs.1 = false;
                self.rewrite_running = false;
                self.rewrite_from_ms = self.now_ms + limits::REWRITE_RETRY_MS;
            }
        }
    }
}
