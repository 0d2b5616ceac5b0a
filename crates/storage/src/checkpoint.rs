//! Checkpoint files: named chunks, written once, published whole.
//!
//! A checkpoint is written under a temporary name, synced, renamed and its directory synced; a file that bears a
//! checkpoint's name was therefore complete once, and damage in it is damage, never a torn write. The newest one counts.
//! An older one is used only when the newest is damaged and the older is still there; whether the write-ahead log still
//! reaches back to it is for the log to say, which refuses if not. The damaged ones are named
//! ([`CheckpointReader::skipped`]). A checkpoint that cannot be read for another reason is a refusal, not a skip.
//!
//! # The file, byte by byte (all numbers little endian)
//!
//! `checkpoint-<index, 16 hex digits>`. Header, 24 bytes: 0 magic `cetera-c` | 8 format u32 = 1 | 12 CRC-32C u32 of the
//! bytes from 16 | 16 index u64. Then chunks: 0 CRC-32C u32 of the file's index, the chunk's number and all of it from 4
//! | 4 length u32 | 8 kind u8 | 9 data. The last chunk is of kind 255 and holds the number of chunks before it, u64.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::vfs::{File, Vfs};

/// The kind of the last chunk; not for callers.
pub const END: u8 = 255;
/// Longest chunk in bytes.
pub const CHUNK_BYTES_MAX: usize = 64 << 20;

const MAGIC: &[u8; 8] = b"cetera-c";
const FORMAT: u32 = 1;
const HEADER_BYTES: u64 = 24;
const CHUNK_HEADER_BYTES: usize = 9;

/// Why a checkpoint was not written or read.
#[derive(Debug)]
pub enum CheckpointError {
    /// The file system failed.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
    /// Stored bytes are not what was written.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// Written by a newer version.
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Damaged { path, offset } => write!(f, "{}: damaged at offset {offset}", path.display()),
            Self::NewerFormat { path, format } => {
                write!(f, "{}: format {format} is newer than this version knows ({FORMAT})", path.display())
            }
        }
    }
}

impl std::error::Error for CheckpointError {}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError + '_ {
    move |error| CheckpointError::Io { path: path.to_owned(), error }
}

/// Writes one checkpoint. Dropping it unfinished removes what was written: on a full disk that room is needed.
pub struct CheckpointWriter {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    index: u64,
    file: Arc<dyn File>,
    end: u64,
    chunks: u64,
    finished: bool,
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Best effort: the next start removes it otherwise.
            let _ = self.vfs.remove(&self.dir.join(temporary(self.index)));
        }
    }
}

impl CheckpointWriter {
    /// Begins the checkpoint at applied index `index`.
    ///
    /// # Errors
    /// The file could not be created.
    pub fn create(vfs: Arc<dyn Vfs>, dir: &Path, index: u64) -> Result<Self, CheckpointError> {
        let path = dir.join(temporary(index));
        match vfs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&path)(error)),
            _ => {}
        }
        let file = vfs.create(&path).map_err(io_error(&path))?;
        let writer = Self { vfs, dir: dir.to_owned(), index, file, end: HEADER_BYTES, chunks: 0, finished: false };
        let mut header = [0; HEADER_BYTES as usize];
        header[..8].copy_from_slice(MAGIC);
        header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        header[16..].copy_from_slice(&index.to_le_bytes());
        let crc = crc32c::crc32c(&header[16..]);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
        writer.file.write_at(&[&header], 0).map_err(io_error(&path))?;
        Ok(writer)
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// The disk refused it; the checkpoint cannot be finished then.
    ///
    /// # Panics
    /// On a chunk longer than [`CHUNK_BYTES_MAX`].
    pub fn chunk(&mut self, kind: u8, data: &[u8]) -> Result<(), CheckpointError> {
        assert!(data.len() <= CHUNK_BYTES_MAX, "a chunk of {} bytes", data.len());
        let mut header = [0; CHUNK_HEADER_BYTES];
        header[4..8].copy_from_slice(&(data.len() as u32).to_le_bytes());
        header[8] = kind;
        let crc = chunk_crc(self.index, self.chunks, &header[4..], data);
        header[..4].copy_from_slice(&crc.to_le_bytes());
        let path = self.dir.join(temporary(self.index));
        self.file.write_at(&[&header, data], self.end).map_err(io_error(&path))?;
        let len = (CHUNK_HEADER_BYTES + data.len()) as u64;
        self.file.write_out(self.end, len);
        self.end += len;
        self.chunks += 1;
        Ok(())
    }

    /// Makes the checkpoint durable and gives it its name.
    ///
    /// # Errors
    /// It may or may not be there after a crash; it is not relied on.
    pub fn finish(mut self) -> Result<(), CheckpointError> {
        let chunks = self.chunks;
        self.chunk(END, &chunks.to_le_bytes())?;
        let (from, to) = (self.dir.join(temporary(self.index)), self.dir.join(name(self.index)));
        self.file.sync_data().map_err(io_error(&from))?;
        self.vfs.rename(&from, &to).map_err(io_error(&to))?;
        self.finished = true;
        self.vfs.sync_dir(&self.dir).map_err(io_error(&self.dir))
    }
}

/// Reads one checkpoint's chunks in order. All of them were checked when it was opened.
pub struct CheckpointReader {
    path: PathBuf,
    file: Arc<dyn File>,
    index: u64,
    at: u64,
    chunks: u64,
    skipped: Vec<CheckpointError>,
}

impl CheckpointReader {
    /// The applied index.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Newer checkpoints that are damaged, newest first.
    pub fn skipped(&self) -> &[CheckpointError] {
        &self.skipped
    }

    /// The next chunk, `None` after the last.
    ///
    /// # Errors
    /// The disk failed, or the bytes changed.
    pub fn next_chunk(&mut self) -> Result<Option<(u8, Vec<u8>)>, CheckpointError> {
        let (path, at) = (&self.path, self.at);
        let damaged = || CheckpointError::Damaged { path: path.clone(), offset: at };
        let read = |buffer: &mut [u8], offset: u64| match self.file.read_at(buffer, offset) {
            Ok(count) if count == buffer.len() => Ok(()),
            Ok(_) => Err(damaged()),
            Err(error) => Err(io_error(path)(error)),
        };
        let mut header = [0; CHUNK_HEADER_BYTES];
        read(&mut header, at)?;
        let crc = u32::from_le_bytes(header[..4].try_into().expect("four bytes"));
        let length = u32::from_le_bytes(header[4..8].try_into().expect("four bytes")) as usize;
        if length > CHUNK_BYTES_MAX {
            return Err(damaged());
        }
        let mut data = vec![0; length];
        read(&mut data, at + CHUNK_HEADER_BYTES as u64)?;
        if chunk_crc(self.index, self.chunks, &header[4..], &data) != crc {
            return Err(damaged());
        }
        if header[8] == END {
            let complete = data[..] == self.chunks.to_le_bytes();
            return if complete { Ok(None) } else { Err(damaged()) };
        }
        self.at += (CHUNK_HEADER_BYTES + length) as u64;
        self.chunks += 1;
        Ok(Some((header[8], data)))
    }
}

/// The newest checkpoint that is good, `None` if there is none at all. Leftovers of unfinished ones are removed.
///
/// # Errors
/// The disk failed, one is of a newer format, or every checkpoint is damaged: the newest one is named.
pub fn open_newest(vfs: Arc<dyn Vfs>, dir: &Path) -> Result<Option<CheckpointReader>, CheckpointError> {
    let names = vfs.list(dir).map_err(io_error(dir))?;
    for leftover in names.iter().filter(|name| name.ends_with(TEMPORARY)) {
        vfs.remove(&dir.join(leftover)).map_err(io_error(dir))?;
    }
    let mut indexes: Vec<u64> = names.iter().filter_map(|name| index_of(name)).collect();
    indexes.sort_unstable();
    let mut skipped = Vec::new();
    for index in indexes.into_iter().rev() {
        match check(&vfs, dir, index) {
            Ok(reader) => return Ok(Some(CheckpointReader { skipped, ..reader })),
            Err(error @ CheckpointError::Damaged { .. }) => skipped.push(error),
            Err(error) => return Err(error),
        }
    }
    skipped.into_iter().next().map_or(Ok(None), Err)
}

/// Removes all checkpoints below `index`.
///
/// # Errors
/// One could not be removed; the next call tries again.
pub fn remove_older(vfs: &dyn Vfs, dir: &Path, index: u64) -> Result<(), CheckpointError> {
    for name in vfs.list(dir).map_err(io_error(dir))? {
        if index_of(&name).is_some_and(|of_file| of_file < index) {
            vfs.remove(&dir.join(&name)).map_err(io_error(dir))?;
        }
    }
    Ok(())
}

fn open_at_start(vfs: &Arc<dyn Vfs>, dir: &Path, index: u64) -> Result<CheckpointReader, CheckpointError> {
    let path = dir.join(name(index));
    let file = vfs.open(&path).map_err(io_error(&path))?;
    let mut header = [0; HEADER_BYTES as usize];
    let count = file.read_at(&mut header, 0).map_err(io_error(&path))?;
    let crc = u32::from_le_bytes(header[12..16].try_into().expect("four bytes"));
    let whole = count == header.len() && header[..8] == *MAGIC && header[16..] == index.to_le_bytes();
    if !whole || crc32c::crc32c(&header[16..]) != crc {
        return Err(CheckpointError::Damaged { path, offset: 0 });
    }
    let format = u32::from_le_bytes(header[8..12].try_into().expect("four bytes"));
    if format != FORMAT {
        return Err(CheckpointError::NewerFormat { path, format });
    }
    Ok(CheckpointReader { path, file, index, at: HEADER_BYTES, chunks: 0, skipped: Vec::new() })
}

fn check(vfs: &Arc<dyn Vfs>, dir: &Path, index: u64) -> Result<CheckpointReader, CheckpointError> {
    let mut reader = open_at_start(vfs, dir, index)?;
    while reader.next_chunk()?.is_some() {}
    open_at_start(vfs, dir, index)
}

fn chunk_crc(index: u64, number: u64, header: &[u8], data: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(&index.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &number.to_le_bytes());
    crc = crc32c::crc32c_append(crc, header);
    crc32c::crc32c_append(crc, data)
}

const PREFIX: &str = "checkpoint-";
const TEMPORARY: &str = ".tmp";

fn name(index: u64) -> String {
    format!("{PREFIX}{index:016x}")
}

fn temporary(index: u64) -> String {
    format!("{PREFIX}{index:016x}{TEMPORARY}")
}

fn index_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    if digits.len() == 16 { u64::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::memory::{Fault, FaultError, MemoryVfs, Op};

    const DIR: &str = "/c";

    fn disk() -> (MemoryVfs, Arc<dyn Vfs>) {
        let memory = MemoryVfs::new();
        memory.create_dir_all(Path::new(DIR)).unwrap();
        memory.sync_dir(Path::new("/")).unwrap();
        (memory.clone(), Arc::new(memory))
    }

    fn write(vfs: &Arc<dyn Vfs>, index: u64) {
        let mut writer = CheckpointWriter::create(vfs.clone(), Path::new(DIR), index).unwrap();
        for kind in 0..5u8 {
            writer.chunk(kind, &vec![kind; index as usize * 100]).unwrap();
        }
        writer.finish().unwrap();
    }

    fn read(vfs: &Arc<dyn Vfs>) -> Option<(u64, usize)> {
        let mut reader = open_newest(vfs.clone(), Path::new(DIR)).unwrap()?;
        let mut chunks = 0;
        while let Some((kind, data)) = reader.next_chunk().unwrap() {
            assert_eq!(data, vec![kind; reader.index() as usize * 100]);
            chunks += 1;
        }
        Some((reader.index(), chunks))
    }

    #[test]
    fn the_newest_counts_and_older_ones_go() {
        let (_, vfs) = disk();
        assert_eq!(read(&vfs), None);
        write(&vfs, 3);
        write(&vfs, 10);
        assert_eq!(read(&vfs), Some((10, 5)));
        remove_older(vfs.as_ref(), Path::new(DIR), 10).unwrap();
        assert_eq!(vfs.list(Path::new(DIR)).unwrap(), [name(10)]);
    }

    #[test]
    fn every_flipped_byte_is_found_and_an_older_one_is_used_while_it_is_there() {
        let (memory, vfs) = disk();
        write(&vfs, 2);
        let path = Path::new(DIR).join(name(2));
        let length = vfs.open(&path).unwrap().len().unwrap();
        for offset in 0..length {
            memory.flip(&path, offset, 0x10);
            let error = open_newest(vfs.clone(), Path::new(DIR)).err().expect("a flip is found").to_string();
            assert!(error.contains("checkpoint-0000000000000002"), "{error}");
            memory.flip(&path, offset, 0x10);
        }
        write(&vfs, 7);
        memory.flip(&Path::new(DIR).join(name(7)), 40, 1);
        assert_eq!(read(&vfs), Some((2, 5)));
        let reader = open_newest(vfs.clone(), Path::new(DIR)).unwrap().unwrap();
        assert_eq!(reader.skipped()[0].to_string(), "/c/checkpoint-0000000000000007: damaged at offset 24");
        memory.fail(Fault::once(Op::Read, FaultError::Eio));
        assert!(matches!(open_newest(vfs.clone(), Path::new(DIR)), Err(CheckpointError::Io { .. })));
        let newer = vfs.open(&Path::new(DIR).join(name(7))).unwrap();
        newer.write_at(&[&[2]], 8).unwrap();
        let refused = open_newest(vfs.clone(), Path::new(DIR));
        assert!(matches!(refused, Err(CheckpointError::NewerFormat { format: 2, .. })));
    }

    #[test]
    fn an_unfinished_one_gives_its_room_back() {
        let (memory, vfs) = disk();
        memory.set_capacity(1000);
        let mut writer = CheckpointWriter::create(vfs.clone(), Path::new(DIR), 9).unwrap();
        let error = writer.chunk(1, &[1; 2000]).unwrap_err();
        assert!(matches!(error, CheckpointError::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull));
        drop(writer);
        assert_eq!(vfs.free_bytes(Path::new(DIR)).unwrap(), 1000);
    }

    #[test]
    fn a_disk_that_lies_about_syncs_is_caught() {
        let caught = (0..20).filter(|seed| {
            let (memory, vfs) = disk();
            memory.ignore_syncs();
            write(&vfs, 4);
            let after: Arc<dyn Vfs> = Arc::new(memory.crash(*seed));
            open_newest(after, Path::new(DIR)).is_err()
        });
        assert!(caught.count() > 5);
    }

    #[test]
    fn a_crash_at_any_operation_leaves_the_old_or_the_new() {
        for ops in 0..40 {
            for seed in 0..20 {
                let (memory, vfs) = disk();
                write(&vfs, 4);
                memory.crash_after(memory.ops() + ops);
                let written = CheckpointWriter::create(vfs.clone(), Path::new(DIR), 9).and_then(|mut writer| {
                    for kind in 0..5u8 {
                        writer.chunk(kind, &vec![kind; 900])?;
                    }
                    writer.finish()
                });
                let after: Arc<dyn Vfs> = Arc::new(memory.crash(seed));
                let found = read(&after);
                match written {
                    Ok(()) => assert_eq!(found, Some((9, 5))),
                    Err(_) => assert!(found == Some((4, 5)) || found == Some((9, 5)), "{found:?}"),
                }
            }
        }
    }
}
