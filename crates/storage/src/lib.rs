//! Durable things over a small file-system trait: the write-ahead log, the revision log, checkpoints, the data
//! directory. No protobuf, no consensus, no threads: callers decide what is written and when it is synced.

pub mod checkpoint;
pub mod crc;
pub mod datadir;
pub mod revision;
pub mod revlog;
pub mod vfs;
pub mod wal;
