//! The file system as the storage layer sees it: few verbs, each with a stated durability.
//!
//! Nothing is durable until [`File::sync_data`] (contents) or [`Vfs::sync_dir`] (names) returned Ok; everything
//! before that may be lost, kept or torn by a power failure, in any order. `RealVfs` is the machine's disk,
//! `MemoryVfs` one that can crash and fail on purpose.

pub mod memory;
pub mod real;

use std::{io, path::Path, sync::Arc};

pub use self::{memory::MemoryVfs, real::RealVfs};

/// A directory tree of files. All paths are absolute or relative to one root chosen by the caller.
pub trait Vfs: Send + Sync + 'static {
    /// Creates a new empty file, open for reading and writing. `AlreadyExists` if the name is taken.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing. `NotFound` if there is none.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Moves a file over `to`, replacing what is there. Durable after [`Vfs::sync_dir`] of the directory; between two
    /// directories, of both, and not in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file. Files already open, and their views, stay readable.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory. `NotFound` if there is none.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Names of the files and directories in `dir`, sorted. `NotFound` if the directory is absent.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates `dir` and its parents where they are missing.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on `path`, creating the file. `WouldBlock` if another holder lives.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// Bytes that may still be written below `dir`.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// A held lock; dropping it releases.
pub trait Lock: Send + Sync {}

/// An open file. Reads and writes carry their offset; there is no cursor.
pub trait File: Send + Sync {
    /// Current length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads up to `buf.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all slices one after the other from `offset`, or fails (a prefix may have been written).
    fn write_at(&self, data: &[&[u8]], offset: u64) -> io::Result<()>;
    /// A hint that the bytes `[offset, offset + len)` will be viewed soon. Never waits; may do nothing.
    fn prefetch(&self, _offset: u64, _len: usize) {}
    /// A hint that the bytes `[offset, offset + len)` will be read in order. Never waits; may do nothing.
    fn read_ahead(&self, _offset: u64, _len: u64) {}
    /// Has the bytes `[offset, offset + len)` written out now, without making them durable: work in the background calls
    /// it as it goes, so that its final sync does not flood the disk in front of the log's. May wait; may do nothing.
    fn write_out(&self, _offset: u64, _len: u64) {}
    /// Makes the contents written so far, and the length, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Reserves room so that writes below `len` need no new space; the file reads as zeros there.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Lends the bytes `[offset, offset + len)` to `f` without copying where it can.
    /// `UnexpectedEof` if they are not all inside the file.
    fn view(&self, offset: u64, len: usize, f: &mut dyn FnMut(&[u8])) -> io::Result<()>;
}
