//! What can go wrong with the revision log. Every variant about the disk names the file.

use std::{fmt, io};

use super::Location;

/// A failure of the revision log.
#[derive(Debug)]
pub enum LogError {
    /// The file system refused an operation. A flush that failed this way may be tried again (the same bytes go to
    /// the same place); a sync may not, see [`LogError::Failed`].
    Io { file: String, action: &'static str, source: io::Error },
    /// A record or header does not pass its checksum, or a location points at no record.
    Damaged { file: String, offset: u64 },
    /// A segment the manifest names is not there.
    Missing { file: String },
    /// A segment is shorter than the manifest says. Bytes.
    Short { file: String, expected: u64, found: u64 },
    /// A file with a segment's name that is not this segment in a format we read.
    Foreign { file: String },
    /// A location names a segment that is not (or no longer) part of the log.
    UnknownSegment { segment: u32 },
    /// The record at a location is whole, and another one than the index says.
    Misplaced { location: Location },
    /// `create` found segments of an earlier log.
    NotEmpty { file: String },
    /// The manifest's bytes or their meaning are wrong.
    BadManifest(&'static str),
    /// A sync failed earlier: what the disk holds is unknown, so nothing is written any more. Reads go on.
    Failed,
}

impl LogError {
    /// Whether the disk is full: nothing was lost, the flush can be repeated once there is room.
    pub fn is_no_space(&self) -> bool {
        matches!(self, LogError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    pub(crate) fn io(file: &str, action: &'static str) -> impl FnOnce(io::Error) -> LogError {
        let file = file.to_owned();
        move |source| LogError::Io { file, action, source }
    }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Io { file, action, source } => write!(f, "revision log: {action} {file}: {source}"),
            LogError::Damaged { file, offset } => write!(f, "revision log: {file} is damaged at offset {offset}"),
            LogError::Missing { file } => write!(f, "revision log: {file} is missing"),
            LogError::Short { file, expected, found } => {
                write!(f, "revision log: {file} has {found} bytes, {expected} were recorded")
            }
            LogError::Foreign { file } => write!(f, "revision log: {file} is not a segment this version can read"),
            LogError::UnknownSegment { segment } => write!(f, "revision log: no segment {segment:08x}"),
            LogError::Misplaced { location: Location { segment, offset, .. } } => {
                write!(f, "revision log: another record than the index names at {segment:08x}, offset {offset}")
            }
            LogError::NotEmpty { file } => write!(f, "revision log: {file} is already there"),
            LogError::BadManifest(what) => write!(f, "revision log: bad manifest: {what}"),
            LogError::Failed => write!(f, "revision log: an earlier sync failed"),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LogError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
