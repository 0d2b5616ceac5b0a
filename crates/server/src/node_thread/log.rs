//! The write-ahead log and its thread: everything that waits is appended, and synced as one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cetera_node::event::{Event, WalWrite};
use cetera_storage::wal::{Prepared, Wal, WalError};

use super::handle::NodeHandle;
use super::{ShellJob, lock};
use crate::clock;
use crate::log;
use crate::metrics::METRICS;

/// Room asked for per proposal besides its bytes, and per batch.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 128;
pub(super) const BATCH_OVERHEAD_BYTES: usize = 4096;

/// Room in the present log segment below which the next one is made ready.
const PREPARE_BELOW_BYTES: u64 = 8 << 20;
/// Time before a segment that could not be made ready is tried again, in milliseconds.
const PREPARE_RETRY_MS: u64 = 5_000;
/// Time between looks at whether a full disk has room again. No event tells.
const ROOM_RETRY: Duration = Duration::from_millis(250);

/// The write-ahead log between the node and the log thread.
pub(super) struct Log {
    wal: Mutex<Wal>,
    sync: bool,
    /// A write did not get there: none after it may.
    failed: AtomicBool,
    queue: Mutex<VecDeque<WalWrite>>,
    /// Bytes in the queue and under the log thread's pen.
    queued_bytes: AtomicU64,
    /// What the present segment can take.
    room: AtomicU64,
    prepare: mpsc::Sender<ShellJob>,
    /// No segment is made ready before.
    prepare_from_ms: AtomicU64,
    wake: Condvar,
}

fn write_bytes(write: &WalWrite) -> u64 {
    let entries = &write.batch.entries;
    entries.iter().map(|entry| (entry.data.len() + RECORD_OVERHEAD_BYTES) as u64).sum::<u64>()
}

impl Log {
    /// `sync`: whether anything is synced at all. Segments are made ready by whoever listens to `prepare`.
    pub(super) fn new(wal: Wal, sync: bool, prepare: mpsc::Sender<ShellJob>) -> Log {
        Log {
            room: AtomicU64::new(wal.room()),
            wal: Mutex::new(wal),
            sync,
            failed: AtomicBool::new(false),
            queue: Mutex::default(),
            queued_bytes: AtomicU64::new(0),
            prepare,
            prepare_from_ms: AtomicU64::new(0),
            wake: Condvar::new(),
        }
    }

    /// Appends and syncs on this thread, if nothing is queued for the log thread and it is not writing: then order allows
    /// it. What it does not allow, or there is no room for, is queued.
    pub(super) fn write_inline(&self, mut writes: VecDeque<WalWrite>) -> Option<Event> {
        let queue = lock(&self.queue);
        let taken = if queue.is_empty() { self.wal.try_lock().ok() } else { None };
        drop(queue);
        let event = taken.and_then(|mut wal| self.write(&mut wal, &mut writes));
        if !writes.is_empty() {
            self.enqueue(writes);
        }
        event
    }

    pub(super) fn enqueue(&self, writes: VecDeque<WalWrite>) {
        self.queued_bytes.fetch_add(writes.iter().map(write_bytes).sum(), Ordering::AcqRel);
        lock(&self.queue).extend(writes);
        self.wake.notify_one();
    }

    /// Lets go of what a checkpoint covers. A failure costs space only: the next checkpoint lets go of it too.
    pub(super) fn release(&self, index: u64) {
        match lock(&self.wal).release(index) {
            // Reads go on without the log.
            Ok(()) | Err(WalError::Failed) => {}
            Err(error) => log::warning!("releasing log segments failed", "error" = log::Shown(error)),
        }
    }

    /// Takes a segment that was made ready.
    pub(super) fn install(&self, prepared: Prepared) {
        if let Err(error) = lock(&self.wal).install(prepared) {
            self.prepare_from_ms.store(clock::now_ms() + PREPARE_RETRY_MS, Ordering::Release);
            log::warning!("preparing a log segment failed", "error" = log::Shown(error));
        }
    }

    /// Appends and syncs. What the disk has no room for stays in `writes`.
    fn write(&self, wal: &mut Wal, writes: &mut VecDeque<WalWrite>) -> Option<Event> {
        if self.failed.load(Ordering::Acquire) {
            writes.clear();
            return None;
        }
        let written = append_and_sync(wal, writes, self.sync);
        self.room.store(wal.room(), Ordering::Release);
        if wal.room() < PREPARE_BELOW_BYTES
            && clock::now_ms() >= self.prepare_from_ms.load(Ordering::Acquire)
            && let Some(job) = wal.prepare_job()
        {
            // Without the jobs thread the log makes its segments itself.
            let _ = self.prepare.send(ShellJob::Prepare(job));
        }
        match written {
            Ok(count) => writes.drain(..count).last().map(|write| Event::Persisted(write.number)),
            Err(error) => {
                self.failed.store(true, Ordering::Release);
                writes.clear();
                log::error!(
                    "the write-ahead log failed; this member acknowledges nothing until it is started anew",
                    "error" = log::Shown(&error)
                );
                Some(Event::LogFailed)
            }
        }
    }

    /// Whether the present segment takes proposals of `bytes` behind all that is queued. Never waits.
    pub(super) fn has_room_at_hand(&self, bytes: u64) -> bool {
        bytes == 0 || bytes + self.queued_bytes.load(Ordering::Acquire) <= self.room.load(Ordering::Acquire)
    }

    /// Whether proposals of `bytes` can be logged behind all that is queued. Asks the disk only at a segment's end.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        if self.has_room_at_hand(bytes) {
            return true;
        }
        let mut wal = lock(&self.wal);
        let reserved = wal.reserve(bytes + self.queued_bytes.load(Ordering::Acquire));
        self.room.store(wal.room(), Ordering::Release);
        !matches!(reserved, Err(WalError::NoSpace))
    }

    /// The log thread: everything that waits is appended and synced as one.
    pub(super) fn run(&self, handle: &NodeHandle) {
        let mut full = false;
        loop {
            let mut queue = lock(&self.queue);
            while queue.is_empty() {
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            // The log is locked before the queue is let go, so that an inline write can never overtake.
            let mut wal = lock(&self.wal);
            let mut writes = std::mem::take(&mut *queue);
            drop(queue);
            let bytes: u64 = writes.iter().map(write_bytes).sum();
            let event = self.write(&mut wal, &mut writes);
            let left: u64 = writes.iter().map(write_bytes).sum();
            self.queued_bytes.fetch_sub(bytes - left, Ordering::AcqRel);
            let was_full = std::mem::replace(&mut full, !writes.is_empty());
            if full {
                // Back to the front, and only then others may have the log.
                let mut queue = lock(&self.queue);
                writes.append(&mut queue);
                *queue = writes;
            }
            drop(wal);
            match event {
                // What came meanwhile is written first.
                Some(event) if lock(&self.queue).is_empty() => handle.send_and_step(event),
                Some(event) => handle.send(event),
                None => {}
            }
            if full && !was_full {
                log::warning!("the disk is full; the write-ahead log waits for room");
            } else if was_full && !full {
                log::info!("the write-ahead log has room again");
            }
            if full {
                thread::sleep(ROOM_RETRY);
            }
        }
    }
}

/// Number of writes that are durable now; fewer than all if there was no room for more.
fn append_and_sync(wal: &mut Wal, writes: &VecDeque<WalWrite>, sync: bool) -> Result<usize, WalError> {
    let started = Instant::now();
    let mut count = 0;
    for write in writes {
        match wal.append(&write.batch) {
            Ok(()) => count += 1,
            Err(WalError::NoSpace) => break,
            Err(error) => return Err(error),
        }
    }
    if sync && writes.iter().take(count).any(|write| write.must_sync) {
        wal.sync()?;
        METRICS.wal_synced(started.elapsed());
    }
    Ok(count)
}
