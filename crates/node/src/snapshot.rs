//! Snapshots: how the state of one member becomes another's, as files.
//!
//! A snapshot is a durable checkpoint made for it and the segments of the revision log that this checkpoint names, up to
//! their recorded ends. Nothing of it is ever held in memory.
//!
//! Sending: the group asks for one, the node has a checkpoint made, and [`crate::Effects::snapshots`] hands the shell a
//! [`SnapshotSend`]: open files that any thread may read while the node goes on, also after they were unlinked. The
//! shell sends [`SnapshotSend::header`], hears from the receiver where to go on, sends the rest with
//! [`SnapshotSend::chunk`], and tells the node with [`crate::Event::SnapshotSent`] how it ended. It need not try again:
//! the node does, with the same id, and the receiver goes on at the byte where it stopped.
//!
//! A header whose message tells of an index that the receiver has committed already
//! ([`crate::Published::committed_index`]) says nothing new, unless it is a `resync`: the shell passes the message on as
//! [`crate::Event::Peer`], so that the sender learns how far the receiver is, and refuses the rest.
//!
//! Receiving: one [`SnapshotReceiver`] per member, on whatever thread the shell likes. It writes into a log directory of
//! its own and a checkpoint file under a temporary name; what is in use is not touched. When all is there and synced,
//! [`ReceivedSnapshot::prepare`] verifies every byte and restores a state from it (seconds: on a background thread), and
//! [`crate::Event::Snapshot`] brings it to the node, which steps its group. Only if the group takes it, one rename makes
//! it this member's state: the name of the checkpoint says which log directory belongs to it.
//!
//! Promises: a crash at any moment leaves the old state or the new one; what is refused, abandoned or replaced removes
//! its files; a start removes the rest.

mod prepare;
mod receive;
mod send;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use prepare::{PreparedSnapshot, ReceivedSnapshot};
pub use receive::SnapshotReceiver;
pub use send::{SnapshotFiles, SnapshotSend};

/// Data of one chunk at most, in bytes: small enough that a heartbeat on the same line does not wait long.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;
/// Files of one snapshot at most; a header that names more is nonsense.
pub const FILES_MAX: usize = 1 << 16;

/// Why a snapshot was not received or not used. Its files are removed, unless it can be gone on with.
#[derive(Debug)]
pub enum SnapshotError {
    /// The file system failed.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
    /// The header or a chunk is not what it should be.
    Nonsense(&'static str),
    /// The chunk is not the next one: ask for the position and go on there.
    OutOfOrder,
    /// What was received is damaged or not what its header says.
    Damaged(String),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "snapshot: {}: {error}", path.display()),
            Self::Nonsense(what) => write!(f, "snapshot: {what}"),
            Self::OutOfOrder => f.write_str("snapshot: a chunk out of order"),
            Self::Damaged(what) => write!(f, "snapshot: {what}"),
        }
    }
}

impl std::error::Error for SnapshotError {}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError + '_ {
    move |error| SnapshotError::Io { path: path.to_owned(), error }
}
