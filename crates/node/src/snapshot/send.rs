//! The sending side: open files and the header that goes before them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use cetera_proto::ceterapb::{SnapshotChunk, SnapshotFile, SnapshotHeader, SnapshotPosition};
use cetera_proto::raftpb;
use cetera_storage::vfs::File;

use super::CHUNK_BYTES_MAX;

/// The files of one snapshot, open. They stay readable when their names are gone, and take room on the disk as long as
/// this lives.
pub struct SnapshotFiles {
    /// Names these bytes.
    pub(crate) id: u64,
    /// Of the snapshot: index, term and configuration.
    pub(crate) metadata: raftpb::SnapshotMetadata,
    /// The checkpoint, then the segments, each with the bytes of it that count.
    pub(crate) files: Vec<(SnapshotFile, Arc<dyn File>)>,
}

impl fmt::Debug for SnapshotFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotFiles({:x} at {}, {} files)", self.id, self.metadata.index, self.files.len())
    }
}

/// A snapshot on its way to one member. Cloning takes reference counts; any thread may read.
#[derive(Clone, Debug)]
pub struct SnapshotSend {
    pub(crate) files: Arc<SnapshotFiles>,
    pub(crate) message: raftpb::Message,
    pub(crate) resync: bool,
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl SnapshotSend {
    /// The member it is for.
    pub fn to(&self) -> u64 {
        self.message.to
    }

    /// Its id, for [`crate::Event::SnapshotSent`].
    pub fn id(&self) -> u64 {
        self.files.id
    }

    /// What goes first.
    pub fn header(&self) -> SnapshotHeader {
        SnapshotHeader {
            id: self.files.id,
            message: Some(self.message.clone()),
            files: self.files.files.iter().map(|(file, _)| *file).collect(),
            resync: self.resync,
        }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.files.iter().map(|(file, _)| file.bytes).sum()
    }

    /// The chunk at `at`, `None` at the end. Reads at most [`CHUNK_BYTES_MAX`] from the file; blocks on the disk.
    ///
    /// # Errors
    /// The disk failed, or a file is shorter than it was.
    pub fn chunk(&self, at: SnapshotPosition) -> io::Result<Option<SnapshotChunk>> {
        let at = skip_ended(at, self.files.files.iter().map(|(file, _)| file.bytes));
        let Some((of, file)) = self.files.files.get(at.file as usize) else { return Ok(None) };
        let mut data = vec![0; (of.bytes - at.offset).min(CHUNK_BYTES_MAX as u64) as usize];
        if file.read_at(&mut data, at.offset)? < data.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some(SnapshotChunk { at: Some(at), data: Bytes::from(data) }))
    }

    /// Whether the node wants it no more (the member is gone, leadership is, or it took too long): stop sending.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }
}

/// Where the bytes go on that end at `at`: at the start of the next file if this one is complete.
pub(super) fn skip_ended(at: SnapshotPosition, lengths: impl Iterator<Item = u64>) -> SnapshotPosition {
    let mut at = at;
    for length in lengths.skip(at.file as usize) {
        if at.offset < length {
            break;
        }
        at = SnapshotPosition { file: at.file + 1, offset: 0 };
    }
    at
}
