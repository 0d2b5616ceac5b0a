//! What a read of the store can answer besides data.

use std::fmt;

use cetera_storage::revlog::LogError;

/// Why a read or a compaction was refused.
#[derive(Debug)]
pub enum MvccError {
    /// The revision lies below the compaction watermark (etcd `mvcc.ErrCompacted`).
    Compacted,
    /// The revision lies above the current one (etcd `mvcc.ErrFutureRev`).
    FutureRevision,
    /// The revision log could not be read.
    Log(LogError),
}

impl MvccError {
    /// Whether every member that applies the same log gets the same refusal.
    pub fn is_deterministic(&self) -> bool {
        !matches!(self, MvccError::Log(_))
    }
}

impl fmt::Display for MvccError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MvccError::Compacted => f.write_str("mvcc: required revision has been compacted"),
            MvccError::FutureRevision => f.write_str("mvcc: required revision is a future revision"),
            MvccError::Log(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MvccError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MvccError::Log(error) => Some(error),
            _ => None,
        }
    }
}

impl From<LogError> for MvccError {
    fn from(error: LogError) -> Self {
        MvccError::Log(error)
    }
}
