//! Making flushed records durable, on whatever thread the caller likes.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{LogError, segment::Segment};
use crate::vfs::Vfs;

/// Bytes written out at a time before a sync.
const WRITE_OUT_BYTES: u64 = 1 << 20;

/// What the writer and its sync jobs share.
#[derive(Default)]
pub(crate) struct SyncState {
    /// A sync failed: the kernel may have dropped the pages and forgotten, so no later sync proves anything.
    failed: AtomicBool,
    /// Files created so far, and how many of those names are durable.
    created: AtomicU64,
    named: AtomicU64,
}

impl SyncState {
    pub(crate) fn check(&self) -> Result<(), LogError> {
        if self.failed.load(Ordering::Acquire) { Err(LogError::Failed) } else { Ok(()) }
    }

    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(crate) fn file_created(&self) {
        self.created.fetch_add(1, Ordering::AcqRel);
    }
}

/// Syncs everything that was flushed when the job was made. After Ok the manifest taken at the same moment may be
/// published in a checkpoint.
pub struct SyncJob {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    state: Arc<SyncState>,
    files: Vec<(Arc<Segment>, u64)>,
    created: u64,
}

impl SyncJob {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, dir: PathBuf, state: Arc<SyncState>, segments: &[Arc<Segment>]) -> SyncJob {
        let files = segments
            .iter()
            .map(|segment| (segment.clone(), segment.end()))
            .filter(|(segment, end)| segment.synced() < *end)
            .collect();
        let created = state.created.load(Ordering::Acquire);
        SyncJob { vfs, dir, state, files, created }
    }

    /// Whether everything was durable already: `run` would do nothing.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.state.named.load(Ordering::Acquire) >= self.created
    }

    /// Syncs files, then names. Blocks on the disk. A failure is final: this and every later job and flush of the
    /// log report [`LogError::Failed`].
    pub fn run(self) -> Result<(), LogError> {
        self.state.check()?;
        for (segment, end) in &self.files {
            if segment.synced() >= *end {
                continue;
            }
            for at in (segment.synced()..*end).step_by(WRITE_OUT_BYTES as usize) {
                segment.file.write_out(at, WRITE_OUT_BYTES.min(end - at));
            }
            segment.file.sync_data().map_err(|error| {
                self.state.fail();
                LogError::io(&segment.name, "sync")(error)
            })?;
            segment.set_synced(*end);
        }
        if self.state.named.load(Ordering::Acquire) < self.created {
            self.vfs.sync_dir(&self.dir).map_err(|error| {
                self.state.fail();
                LogError::io(&self.dir.display().to_string(), "sync directory")(error)
            })?;
            self.state.named.fetch_max(self.created, Ordering::AcqRel);
        }
        self.state.check()
    }
}
