//! From received files to a state that is ready to be this member's.

use std::fmt;

use cetera_proto::ceterapb::{SnapshotFile, SnapshotHeader};
use cetera_proto::raftpb;
use cetera_state::{State, StateRestore};
use cetera_storage::checkpoint::{self, CheckpointReader};
use cetera_storage::revlog::{LogManifest, RevLog};

use super::SnapshotError;
use super::receive::{Leftovers, Place};

/// A snapshot of which every byte is on the disk. Dropping it removes its files.
pub struct ReceivedSnapshot {
    pub(super) place: Place,
    pub(super) message: raftpb::Message,
    pub(super) header: SnapshotHeader,
    pub(super) leftovers: Leftovers,
}

/// A snapshot that was verified, with the state it gives. Dropping it removes its files.
pub struct PreparedSnapshot {
    place: Place,
    message: raftpb::Message,
    resync: bool,
    state: State,
    leftovers: Leftovers,
}

impl fmt::Debug for ReceivedSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceivedSnapshot({:x})", self.header.id)
    }
}

impl fmt::Debug for PreparedSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PreparedSnapshot({}, log {})", self.state.applied_index(), self.leftovers.log)
    }
}

fn damaged(error: impl fmt::Display) -> SnapshotError {
    SnapshotError::Damaged(error.to_string())
}

impl ReceivedSnapshot {
    /// Verifies every byte and restores the state. Takes as long as reading all of it; on a background thread.
    ///
    /// # Errors
    /// It is damaged, or not what its message says: the sender is to begin anew.
    pub fn prepare(self) -> Result<PreparedSnapshot, SnapshotError> {
        let Self { place, message, header, leftovers } = self;
        let metadata = message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.clone()).unwrap_or_default();
        let mut reader = CheckpointReader::open(&place.vfs, &leftovers.checkpoint, metadata.index, leftovers.log)
            .map_err(damaged)?;
        let mut parts = StateRestore::new();
        while let Some((kind, data)) = reader.next_chunk().map_err(damaged)? {
            if !parts.chunk(kind, data).map_err(damaged)? {
                return Err(SnapshotError::Damaged(format!("a chunk of unknown kind {kind}")));
            }
        }
        let mut whole = false;
        let state = parts
            .finish(place.limits, |manifest| {
                whole = names(manifest, &header.files[1..]);
                RevLog::open(place.vfs.clone(), &leftovers.log_dir, place.options, manifest)
            })
            .map_err(damaged)?;
        let reader = state.store().log().reader();
        reader.verify(u64::MAX).map_err(damaged)?;
        let here = (state.applied_index(), state.applied_term(), Some(state.conf_state()));
        if !whole || here != (metadata.index, metadata.term, metadata.conf_state) {
            return Err(SnapshotError::Nonsense("the message tells of another state than the files hold"));
        }
        Ok(PreparedSnapshot { place, message, resync: header.resync, state, leftovers })
    }
}

fn names(manifest: &LogManifest, files: &[SnapshotFile]) -> bool {
    let wanted = manifest.segments.iter().map(|segment| (Some(segment.id), segment.bytes));
    wanted.eq(files.iter().map(|file| (file.segment, file.bytes)))
}

impl PreparedSnapshot {
    /// Applied index.
    pub fn index(&self) -> u64 {
        self.state.applied_index()
    }

    /// Term of the entry at that index.
    pub fn term(&self) -> u64 {
        self.state.applied_term()
    }

    /// Number of the directory of its revision log.
    pub fn log(&self) -> u32 {
        self.leftovers.log
    }

    /// The `MsgSnap` it came with.
    pub fn message(&self) -> &raftpb::Message {
        &self.message
    }

    /// Whether it is to replace a state that went wrong, whatever the log holds.
    pub fn is_resync(&self) -> bool {
        self.resync
    }

    /// Makes it this member's durable state: from here on every start begins with it. Returns the state and the number
    /// of its log directory.
    ///
    /// # Errors
    /// It may or may not be durable: the member must stop and be started anew.
    pub fn commit(self) -> Result<(State, u32), SnapshotError> {
        let Self { place, state, mut leftovers, .. } = self;
        leftovers.kept = true;
        let (from, log) = (&leftovers.checkpoint, leftovers.log);
        checkpoint::publish(place.vfs.as_ref(), &place.checkpoints, from, state.applied_index(), log)
            .map_err(damaged)?;
        Ok((state, log))
    }
}
