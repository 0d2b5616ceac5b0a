//! Work that takes long and does not order anything: done beside the node, on a thread of the shell.
//!
//! A job owns all it needs (a snapshot of the state, a plan), so that the node goes on meanwhile; what it found comes
//! back as [`JobDone`]. Jobs of one kind never overlap.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cetera_mvcc::{ChunkSink, CompactionHash, HashKv, StoreRewrite};
use cetera_state::checkpoint::StateCheckpoint;
use cetera_storage::checkpoint::{self, CheckpointWriter};
use cetera_storage::revlog::{LogManifest, RewriteDone};
use cetera_storage::vfs::Vfs;

/// One piece of background work.
pub enum Job {
    /// Writes the state at an applied index to a checkpoint file.
    Checkpoint {
        /// Applied index of the state.
        index: u64,
        /// The state.
        state: Box<StateCheckpoint>,
    },
    /// Copies the live records of some segments of the revision log together.
    Rewrite(Box<StoreRewrite>),
    /// Computes the hash that a compaction leaves behind (D-4).
    CompactionHash(Box<CompactionHash>),
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint { index, .. } => write!(f, "Checkpoint({index})"),
            Self::Rewrite(_) => f.write_str("Rewrite"),
            Self::CompactionHash(_) => f.write_str("CompactionHash"),
        }
    }
}

/// What became of a job.
pub enum JobDone {
    /// The checkpoint at this index is durable.
    Checkpoint {
        /// Its applied index.
        index: u64,
        /// The revision log's files as it names them: older ones may go.
        manifest: LogManifest,
    },
    /// The copies are durable; the index must be pointed at them.
    Rewrite(Box<RewriteDone>),
    /// The hash at the compacted revision, to be remembered.
    CompactionHash(HashKv),
    /// It failed; nothing changed. A failed checkpoint or rewrite is tried again later.
    Failed {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: String,
    },
}

impl fmt::Debug for JobDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint { index, .. } => write!(f, "Checkpoint({index})"),
            Self::Rewrite(_) => f.write_str("Rewrite"),
            Self::CompactionHash(hash) => write!(f, "CompactionHash({})", hash.hash_revision),
            Self::Failed { what, error } => write!(f, "Failed({what}: {error})"),
        }
    }
}

impl Job {
    /// Does the work, on whatever thread it is called. `checkpoints` is the directory for checkpoint files.
    pub fn run(self, vfs: &Arc<dyn Vfs>, checkpoints: &Path) -> JobDone {
        match self {
            Self::Checkpoint { index, state } => match write_checkpoint(vfs, checkpoints, index, *state) {
                Ok(manifest) => JobDone::Checkpoint { index, manifest },
                Err(error) => JobDone::Failed { what: "checkpoint", error },
            },
            Self::Rewrite(job) => match job.run() {
                Ok(done) => JobDone::Rewrite(Box::new(done)),
                Err(error) => JobDone::Failed { what: "rewrite", error: error.to_string() },
            },
            Self::CompactionHash(hash) => match hash.run() {
                Ok(hash) => JobDone::CompactionHash(hash),
                Err(error) => JobDone::Failed { what: "compaction hash", error: error.to_string() },
            },
        }
    }
}

struct Sink(CheckpointWriter);

impl ChunkSink for Sink {
    fn chunk(&mut self, kind: u8, data: &[u8]) -> io::Result<()> {
        self.0.chunk(kind, data).map_err(io::Error::other)
    }
}

/// Durable when it returns; older checkpoints are removed then, and a failure to do so is no failure of the new one.
fn write_checkpoint(vfs: &Arc<dyn Vfs>, dir: &Path, index: u64, state: StateCheckpoint) -> Result<LogManifest, String> {
    let manifest = state.manifest().clone();
    let mut sink = Sink(CheckpointWriter::create(vfs.clone(), dir, index, 0).map_err(|error| error.to_string())?);
    state.write(&mut sink).map_err(|error| error.to_string())?;
    sink.0.finish().map_err(|error| error.to_string())?;
    let _ = checkpoint::remove_older(vfs.as_ref(), dir, index, 0);
    Ok(manifest)
}
