//! The log thread: appends everything that waits, syncs once, and only then tells the node.
//!
//! Bytes reach the disk's cache when the append is made and the platter when its sync ends; what happens in between
//! finds them unsynced.

use std::collections::VecDeque;

use cetera_node::event::{Event, WalWrite};
use cetera_plant::{Bug, is_planted};
use cetera_storage::wal::{Wal, WalError};

use super::Host;
use crate::core::{Core, Thread};
use crate::trace::Kind;

/// Room asked for per proposal besides its bytes, and per batch.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 128;
pub(super) const BATCH_OVERHEAD_BYTES: usize = 4096;
/// Faults together make a sync so many times as long at most.
const SYNC_FACTOR_MAX: u64 = 200;
/// Time of a write that needs no sync, in microseconds.
const WRITE_US: u64 = 15;
/// Time between looks at whether a full disk has room again.
const ROOM_RETRY_US: u64 = 250_000;
/// Time before a segment that could not be made ready is tried again.
const PREPARE_RETRY_US: u64 = 5_000_000;

/// The write-ahead log between the node thread and the log thread.
pub(super) struct Log {
    pub(super) wal: Wal,
    queue: VecDeque<WalWrite>,
    /// Appended, and waiting for the end of their sync.
    syncing: Option<Syncing>,
    failed: bool,
    /// A look at whether there is room again is scheduled.
    retrying: bool,
    release: Option<u64>,
    pub(super) prepare_from_us: u64,
    pub(super) preparing: bool,
}

struct Syncing {
    appended: Vec<WalWrite>,
    failed: bool,
    done_us: u64,
}

impl Log {
    pub(super) fn new(wal: Wal) -> Self {
        Self {
            wal,
            queue: VecDeque::new(),
            syncing: None,
            failed: false,
            retrying: false,
            release: None,
            prepare_from_us: 0,
            preparing: false,
        }
    }

    /// Whether a write failed, even if the node was not told yet.
    pub(super) fn has_failed(&self) -> bool {
        self.failed || self.syncing.as_ref().is_some_and(|syncing| syncing.failed)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.syncing.is_none()
    }

    /// When the sync under way ends.
    pub(super) fn busy_until_us(&self) -> Option<u64> {
        self.syncing.as_ref().map(|syncing| syncing.done_us)
    }

    pub(super) fn enqueue(&mut self, writes: Vec<WalWrite>) {
        if !self.failed {
            self.queue.extend(writes);
        }
    }

    /// Whether proposals of `bytes` can be logged behind all that is queued; `None` if that can be told only after
    /// the sync under way.
    pub(super) fn room_for(&mut self, bytes: u64) -> Option<bool> {
        if bytes == 0 {
            return Some(true);
        }
        let queued: u64 = self.queue.iter().map(write_bytes).sum();
        let wanted = bytes + queued;
        if self.syncing.is_none() && wanted > self.wal.room() {
            return Some(!matches!(self.wal.reserve(wanted), Err(WalError::NoSpace)));
        }
        if wanted > self.wal.room() { None } else { Some(true) }
    }

    /// Lets go of what a checkpoint covers, once the log is not being written.
    pub(super) fn release(&mut self, through: u64) {
        self.release = Some(self.release.unwrap_or(0).max(through));
        self.release_now();
    }

    fn release_now(&mut self) {
        if self.syncing.is_none()
            && let Some(through) = self.release.take()
        {
            // A failure costs space only: the next checkpoint lets go of it too.
            let _ = self.wal.release(through);
        }
    }
}

fn write_bytes(write: &WalWrite) -> u64 {
    write.batch.entries.iter().map(|entry| (entry.data.len() + RECORD_OVERHEAD_BYTES) as u64).sum()
}

impl Host {
    /// Begins a write if something waits and none is under way.
    pub(super) fn log_kick(&mut self, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        let log = &mut life.log;
        if log.syncing.is_some() || log.queue.is_empty() || log.retrying {
            return;
        }
        let mut appended = Vec::new();
        let mut failed = false;
        while let Some(write) = log.queue.pop_front() {
            match log.wal.append(&write.batch) {
                Ok(()) => {
                    let mirror = core.checks.mirror(self.index);
                    mirror.append(&write.batch.entries);
                    if let Some(state) = &write.batch.state {
                        mirror.hard_state(state);
                    }
                    appended.push(write);
                }
                Err(WalError::NoSpace) => {
                    log.queue.push_front(write);
                    log.retrying = true;
                    break;
                }
                Err(error) => {
                    core.trace.say(core.now_us, &format!("m{}", self.index), || format!("the log failed: {error}"));
                    failed = true;
                    break;
                }
            }
        }
        let must_sync = appended.iter().any(|write| write.must_sync);
        let early = is_planted(Bug::AckBeforeSync).then(|| appended.last().map(|write| write.number)).flatten();
        let takes_us = if must_sync {
            let (low, high) = core.options.sync_us;
            let takes = core.dice.skewed(low, high) * self.sync_factor.min(SYNC_FACTOR_MAX);
            takes.max(self.stalled_until_us.saturating_sub(core.now_us))
        } else {
            WRITE_US
        };
        log.syncing = Some(Syncing { appended, failed, done_us: core.now_us + takes_us });
        if log.retrying {
            self.schedule(ROOM_RETRY_US, Thread::LogRetry, core);
        }
        self.schedule(takes_us, Thread::Log, core);
        if let Some(number) = early {
            self.push_event(Event::Persisted(number), core);
        }
    }

    /// The sync takes place, and the node is told.
    pub(super) fn log_synced(&mut self, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        let log = &mut life.log;
        let Some(Syncing { appended, mut failed, .. }) = log.syncing.take_if(|syncing| syncing.done_us <= core.now_us)
        else {
            return;
        };
        if !failed
            && appended.iter().any(|write| write.must_sync)
            && !is_planted(Bug::NoSync)
            && let Err(error) = log.wal.sync()
        {
            core.trace.say(core.now_us, &format!("m{}", self.index), || format!("the log failed: {error}"));
            failed = true;
        }
        if self.disk.has_stopped() {
            return;
        }
        let last = appended.last().map_or(0, |write| write.number);
        core.trace.note(core.now_us, Kind::Sync, self.index as u64, last, u64::from(failed));
        if failed {
            log.failed = true;
            log.queue.clear();
        } else {
            core.checks.mirror(self.index).synced();
            core.trace.say(core.now_us, &format!("m{}", self.index), || {
                format!("log writes through {last} are durable ({} together)", appended.len())
            });
        }
        log.release_now();
        let prepare = !log.preparing && core.now_us >= log.prepare_from_us;
        if prepare
            && log.wal.room() < core.options.wal_segment_bytes / 2
            && let Some(job) = log.wal.prepare_job()
        {
            log.preparing = true;
            life.jobs.enqueue_prepare(job);
        }
        life.turn.waits_for_log = false;
        if failed {
            self.push_event(Event::LogFailed, core);
        } else if last > 0 && !is_planted(Bug::AckBeforeSync) {
            self.push_event(Event::Persisted(last), core);
        }
        self.wake_node(core);
        self.log_kick(core);
        self.jobs_kick(core);
    }

    /// The disk is well again: the sync under way ends now.
    pub(crate) fn sync_ends_now(&mut self, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        if let Some(syncing) = &mut life.log.syncing {
            syncing.done_us = core.now_us;
            self.schedule(0, Thread::Log, core);
        }
    }

    pub(super) fn log_retry(&mut self, core: &mut Core) {
        if let Some(life) = &mut self.life {
            life.log.retrying = false;
            self.log_kick(core);
        }
    }

    /// When a segment that could not be made is tried again.
    pub(super) fn prepare_failed(&mut self, core: &Core) {
        if let Some(life) = &mut self.life {
            life.log.prepare_from_us = core.now_us + PREPARE_RETRY_US;
        }
    }
}
