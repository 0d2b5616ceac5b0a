//! Work that takes long and does not order anything: done beside the node, on a thread of the shell.
//!
//! A job owns all it needs (a snapshot of the state, a plan), so that the node goes on meanwhile; what it found comes
//! back as [`JobDone`]. Jobs of one kind never overlap.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cetera_mvcc::{ChunkSink, CompactionHash, HashKv, StoreRewrite};
use cetera_plant::{Bug, is_planted};
use cetera_proto::ceterapb::SnapshotFile;
use cetera_proto::raftpb;
use cetera_raft::Entry;
use cetera_raft::log::FETCH_BYTES_MAX;
use cetera_state::checkpoint::StateCheckpoint;
use cetera_storage::checkpoint::{self, CheckpointWriter};
use cetera_storage::datadir;
use cetera_storage::revlog::{LogManifest, RewriteDone, SyncJob};
use cetera_storage::vfs::{File, Vfs};
use cetera_storage::wal::WalReader;
use prost::Message as _;

use crate::evidence;
use crate::snapshot::SnapshotFiles;

/// Moving the files of a wrong state aside, as [`JobDone::Failed`] names it.
pub(crate) const EVIDENCE: &str = "moving a wrong state aside";

/// One piece of background work.
pub enum Job {
    /// Syncs the revision log, so that the checkpoint that follows has little to wait for.
    SyncLog(SyncJob),
    /// Writes the state at an applied index to a checkpoint file.
    Checkpoint {
        /// Applied index of the state.
        index: u64,
        /// Number of the directory of its revision log.
        log: u32,
        /// The state.
        state: Box<StateCheckpoint>,
        /// What becomes a snapshot to be sent with it, if one is wanted.
        snapshot: Option<NewSnapshot>,
    },
    /// Copies the live records of some segments of the revision log together.
    Rewrite(Box<StoreRewrite>),
    /// Computes the hash that a compaction leaves behind (D-4).
    CompactionHash(Box<CompactionHash>),
    /// Reads entries back from the write-ahead log.
    FetchEntries(FetchEntries),
    /// Removes what belongs to states older than the one at this checkpoint.
    RemoveOlder {
        /// Its applied index.
        index: u64,
        /// Number of the directory of its revision log.
        log: u32,
        /// The older state was wrong: it is moved aside, for people to look at.
        evidence: bool,
    },
}

/// Which jobs may wait for which: those of a lane are done one after the other, in order.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Lane {
    /// Writes much, and takes seconds.
    Work,
    /// Reads little, and somebody waits for it.
    Reads,
}

/// Entries that a member needs and memory has not.
pub struct FetchEntries {
    pub(crate) wal: WalReader,
    pub(crate) low: u64,
    /// Not this one.
    pub(crate) high: u64,
}

/// A snapshot but for its checkpoint.
pub struct NewSnapshot {
    pub(crate) id: u64,
    pub(crate) metadata: raftpb::SnapshotMetadata,
    /// Open segments of the revision log, by id, in the order of the manifest.
    pub(crate) segments: Vec<(u32, Arc<dyn File>)>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SyncLog(_) => f.write_str("SyncLog"),
            Self::Checkpoint { index, .. } => write!(f, "Checkpoint({index})"),
            Self::Rewrite(_) => f.write_str("Rewrite"),
            Self::CompactionHash(_) => f.write_str("CompactionHash"),
            Self::FetchEntries(fetch) => write!(f, "FetchEntries({}..{})", fetch.low, fetch.high),
            Self::RemoveOlder { index, log, .. } => write!(f, "RemoveOlder({index}, {log})"),
        }
    }
}

/// What became of a job.
pub enum JobDone {
    /// The revision log is synced up to where it was.
    LogSynced,
    /// The checkpoint at this index is durable.
    Checkpoint {
        /// Its applied index.
        index: u64,
        /// The revision log's files as it names them: older ones may go.
        manifest: LogManifest,
        /// The snapshot that was wanted with it.
        snapshot: Option<Arc<SnapshotFiles>>,
    },
    /// The copies are durable; the index must be pointed at them.
    Rewrite(Box<RewriteDone>),
    /// The hash at the compacted revision, to be remembered.
    CompactionHash(HashKv),
    /// Entries from `low` on; `None` if they are not there any more.
    Fetched {
        /// The first.
        low: u64,
        /// They.
        entries: Option<Vec<Entry>>,
    },
    /// What is older is gone, as far as it could be removed.
    Removed,
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
            Self::LogSynced => f.write_str("LogSynced"),
            Self::Checkpoint { index, .. } => write!(f, "Checkpoint({index})"),
            Self::Rewrite(_) => f.write_str("Rewrite"),
            Self::CompactionHash(hash) => write!(f, "CompactionHash({})", hash.hash_revision),
            Self::Fetched { low, entries } => write!(f, "Fetched({low}, {:?})", entries.as_ref().map(Vec::len)),
            Self::Removed => f.write_str("Removed"),
            Self::Failed { what, error } => write!(f, "Failed({what}: {error})"),
        }
    }
}

impl Job {
    /// Where it is to be done.
    pub fn lane(&self) -> Lane {
        match self {
            Self::FetchEntries(_) => Lane::Reads,
            _ => Lane::Work,
        }
    }

    /// Does the work, on whatever thread it is called. `checkpoints` is the directory for checkpoint files.
    pub fn run(self, vfs: &Arc<dyn Vfs>, checkpoints: &Path) -> JobDone {
        match self {
            Self::SyncLog(sync) => match sync.run() {
                Ok(()) => JobDone::LogSynced,
                Err(error) => JobDone::Failed { what: "checkpoint", error: error.to_string() },
            },
            Self::Checkpoint { index, log, state, snapshot } => {
                match write_checkpoint(vfs, checkpoints, (index, log), *state, snapshot) {
                    Ok((manifest, snapshot)) => JobDone::Checkpoint { index, manifest, snapshot },
                    Err(error) => JobDone::Failed { what: "checkpoint", error },
                }
            }
            Self::FetchEntries(fetch) => JobDone::Fetched { low: fetch.low, entries: fetch.run() },
            Self::RemoveOlder { index, log, evidence } => {
                if evidence && let Err(error) = evidence::set_aside(vfs.as_ref(), checkpoints, index, log) {
                    // Not removed either: the next start does that.
                    return JobDone::Failed { what: EVIDENCE, error: error.to_string() };
                }
                // What cannot be removed now is removed by the next start.
                let _ = checkpoint::remove_older(vfs.as_ref(), checkpoints, index, log);
                if let Some(member) = checkpoints.parent() {
                    let _ = datadir::remove_logs(vfs.as_ref(), member, |number| number < log);
                }
                JobDone::Removed
            }
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

impl FetchEntries {
    fn run(self) -> Option<Vec<Entry>> {
        let shift = u64::from(is_planted(Bug::FetchedEntriesShifted));
        let found = self.wal.read(self.low + shift, self.high, FETCH_BYTES_MAX).ok()?;
        let entries = found.into_iter().map(|entry| Entry::from_wire(raftpb::Entry::decode(entry.data).ok()?));
        entries.map(|entry| entry.map(|entry| Entry { index: entry.index - shift, ..entry })).collect()
    }
}

/// Durable when it returns; older checkpoints are removed then, and a failure to do so is no failure of the new one.
fn write_checkpoint(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    (index, log): (u64, u32),
    state: StateCheckpoint,
    snapshot: Option<NewSnapshot>,
) -> Result<(LogManifest, Option<Arc<SnapshotFiles>>), String> {
    let manifest = state.manifest().clone();
    let writer = CheckpointWriter::create(vfs.clone(), dir, index, log).map_err(|error| error.to_string())?;
    let mut sink = Sink(writer);
    state.write(&mut sink).map_err(|error| error.to_string())?;
    let path = sink.0.finish().map_err(|error| error.to_string())?;
    let _ = checkpoint::remove_older(vfs.as_ref(), dir, index, log);
    // A snapshot that cannot be opened is asked for again.
    let snapshot = snapshot.and_then(|new| files_of(vfs, &path, &manifest, new).ok());
    Ok((manifest, snapshot.map(Arc::new)))
}

fn files_of(
    vfs: &Arc<dyn Vfs>,
    checkpoint: &Path,
    manifest: &LogManifest,
    new: NewSnapshot,
) -> io::Result<SnapshotFiles> {
    let file = vfs.open(checkpoint)?;
    let mut files = vec![(SnapshotFile { segment: None, bytes: file.len()? }, file)];
    for (info, (id, file)) in manifest.segments.iter().zip(new.segments) {
        assert_eq!(info.id, id, "the files are the manifest's");
        files.push((SnapshotFile { segment: Some(id), bytes: info.bytes }, file));
    }
    Ok(SnapshotFiles { id: new.id, metadata: new.metadata, files })
}
