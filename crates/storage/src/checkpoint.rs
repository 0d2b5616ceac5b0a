//! Checkpoint files: named chunks, written once, published whole.
//!
//! A checkpoint is written under a temporary name, synced, renamed and its directory synced; a file that bears a
//! checkpoint's name was therefore complete once, and damage in it is damage, never a torn write. The newest one counts.
//! An older one is used only when the newest is damaged and the older is still there; whether the write-ahead log still
//! reaches back to it is for the log to say, which refuses if not. The damaged ones are named
//! ([`CheckpointReader::skipped`]). A checkpoint that cannot be read for another reason is a refusal, not a skip.
//!
//! A checkpoint's name also says in which directory the revision log lies that its manifest is about
//! ([`crate::datadir::DataDir::log_dir`]). A member that takes over another one's state gets a new directory and a
//! checkpoint that names it; one rename decides. So the highest directory counts, and in it the highest index.
//!
//! # The file, byte by byte (all numbers little endian)
//!
//! `checkpoint-<index, 16 hex digits>`, and `.<directory, 8 hex digits>` unless that is 0. Header, 24 bytes: 0 magic `cetera-c` | 8 format u32 = 1 | 12 CRC-32C u32 of the
//! bytes from 16 | 16 index u64. Then chunks: 0 CRC-32C u32 of the file's index, the chunk's number and all of it from 4
//! | 4 length u32 | 8 kind u8 | 9 data. The last chunk is of kind 255 and holds the number of chunks before it, u64.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cetera_plant::{Bug, is_planted};

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
    log: u32,
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
    /// Begins the checkpoint at applied index `index`, over the revision log in directory `log`.
    ///
    /// # Errors
    /// The file could not be created.
    pub fn create(vfs: Arc<dyn Vfs>, dir: &Path, index: u64, log: u32) -> Result<Self, CheckpointError> {
        let path = dir.join(temporary(index));
        match vfs.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&path)(error)),
            _ => {}
        }
        let file = vfs.create(&path).map_err(io_error(&path))?;
        let writer = Self { vfs, dir: dir.to_owned(), index, log, file, end: HEADER_BYTES, chunks: 0, finished: false };
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

    /// Makes the checkpoint durable and gives it its name; returns where it lies.
    ///
    /// # Errors
    /// It may or may not be there after a crash; it is not relied on.
    pub fn finish(mut self) -> Result<PathBuf, CheckpointError> {
        let chunks = self.chunks;
        self.chunk(END, &chunks.to_le_bytes())?;
        let from = self.dir.join(temporary(self.index));
        self.file.sync_data().map_err(io_error(&from))?;
        let published = publish(self.vfs.as_ref(), &self.dir, &from, self.index, self.log);
        self.finished = published.is_ok();
        published
    }
}

/// Gives the checkpoint file `from`, which lies in `dir` and whose contents are durable, its name.
///
/// # Errors
/// The name may or may not be there after a crash.
pub fn publish(vfs: &dyn Vfs, dir: &Path, from: &Path, index: u64, log: u32) -> Result<PathBuf, CheckpointError> {
    let to = dir.join(name(index, log));
    vfs.rename(from, &to).map_err(io_error(&to))?;
    if !is_planted(Bug::CheckpointNameNotSynced) {
        vfs.sync_dir(dir).map_err(io_error(dir))?;
    }
    Ok(to)
}

/// Reads one checkpoint's chunks in order. All of them were checked when it was opened.
pub struct CheckpointReader {
    path: PathBuf,
    file: Arc<dyn File>,
    index: u64,
    log: u32,
    at: u64,
    chunks: u64,
    skipped: Vec<CheckpointError>,
}

impl CheckpointReader {
    /// The applied index.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Number of the directory of its revision log.
    pub fn log(&self) -> u32 {
        self.log
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a checkpoint file that bears any name and verifies all of it. `index` and `log` are what it will be.
    ///
    /// # Errors
    /// The disk failed, the file is damaged or of another index, or of a newer format.
    pub fn open(vfs: &Arc<dyn Vfs>, path: &Path, index: u64, log: u32) -> Result<Self, CheckpointError> {
        check(vfs, path, index, log)
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
    let mut found: Vec<(u32, u64)> = names.iter().filter_map(|name| parse_name(name)).collect();
    found.sort_unstable();
    let mut skipped = Vec::new();
    for (log, index) in found.into_iter().rev() {
        match check(&vfs, &dir.join(name(index, log)), index, log) {
            Ok(reader) => return Ok(Some(CheckpointReader { skipped, ..reader })),
            Err(error @ CheckpointError::Damaged { .. }) => skipped.push(error),
            Err(error) => return Err(error),
        }
    }
    skipped.into_iter().next().map_or(Ok(None), Err)
}

/// Numbers of the log directories that the checkpoints there name, damaged ones too.
///
/// # Errors
/// The directory cannot be read.
pub fn named_logs(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<u32>, CheckpointError> {
    let names = vfs.list(dir).map_err(io_error(dir))?;
    Ok(names.iter().filter_map(|name| parse_name(name)).map(|(log, _)| log).collect())
}

/// Removes all checkpoints older than the one at `index` over the revision log in directory `log`.
///
/// # Errors
/// One could not be removed; the next call tries again.
pub fn remove_older(vfs: &dyn Vfs, dir: &Path, index: u64, log: u32) -> Result<(), CheckpointError> {
    for name in older(vfs, dir, index, log)? {
        vfs.remove(&dir.join(&name)).map_err(io_error(dir))?;
    }
    Ok(())
}

/// Names of the checkpoints older than the one at `index` over the revision log in directory `log`.
///
/// # Errors
/// The directory cannot be read.
pub fn older(vfs: &dyn Vfs, dir: &Path, index: u64, log: u32) -> Result<Vec<String>, CheckpointError> {
    let mut names = vfs.list(dir).map_err(io_error(dir))?;
    names.retain(|name| parse_name(name).is_some_and(|of_file| of_file < (log, index)));
    Ok(names)
}

fn open_at_start(vfs: &Arc<dyn Vfs>, path: &Path, index: u64, log: u32) -> Result<CheckpointReader, CheckpointError> {
    let file = vfs.open(path).map_err(io_error(path))?;
    let path = path.to_owned();
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
    Ok(CheckpointReader { path, file, index, log, at: HEADER_BYTES, chunks: 0, skipped: Vec::new() })
}

fn check(vfs: &Arc<dyn Vfs>, path: &Path, index: u64, log: u32) -> Result<CheckpointReader, CheckpointError> {
    let mut reader = open_at_start(vfs, path, index, log)?;
    while reader.next_chunk()?.is_some() {}
    open_at_start(vfs, path, index, log)
}

fn chunk_crc(index: u64, number: u64, header: &[u8], data: &[u8]) -> u32 {
    let mut crc = crc32c::crc32c(&index.to_le_bytes());
    crc = crc32c::crc32c_append(crc, &number.to_le_bytes());
    crc = crc32c::crc32c_append(crc, header);
    crc32c::crc32c_append(crc, data)
}

const PREFIX: &str = "checkpoint-";
const TEMPORARY: &str = ".tmp";

fn name(index: u64, log: u32) -> String {
    if log == 0 { format!("{PREFIX}{index:016x}") } else { format!("{PREFIX}{index:016x}.{log:08x}") }
}

fn temporary(index: u64) -> String {
    format!("{PREFIX}{index:016x}{TEMPORARY}")
}

/// Log directory and index in a checkpoint's name: the order of these is that of age.
fn parse_name(file: &str) -> Option<(u32, u64)> {
    let digits = file.strip_prefix(PREFIX)?;
    let (index, log) = digits.split_once('.').unwrap_or((digits, "0"));
    let (index, log) = (u64::from_str_radix(index, 16).ok()?, u32::from_str_radix(log, 16).ok()?);
    (name(index, log) == file).then_some((log, index))
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
        let mut writer = CheckpointWriter::create(vfs.clone(), Path::new(DIR), index, 0).unwrap();
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
        remove_older(vfs.as_ref(), Path::new(DIR), 10, 0).unwrap();
        assert_eq!(vfs.list(Path::new(DIR)).unwrap(), [name(10, 0)]);
    }

    #[test]
    fn every_flipped_byte_is_found_and_an_older_one_is_used_while_it_is_there() {
        let (memory, vfs) = disk();
        write(&vfs, 2);
        let path = Path::new(DIR).join(name(2, 0));
        let length = vfs.open(&path).unwrap().len().unwrap();
        for offset in 0..length {
            memory.flip(&path, offset, 0x10);
            let error = open_newest(vfs.clone(), Path::new(DIR)).err().expect("a flip is found").to_string();
            assert!(error.contains("checkpoint-0000000000000002"), "{error}");
            memory.flip(&path, offset, 0x10);
        }
        write(&vfs, 7);
        memory.flip(&Path::new(DIR).join(name(7, 0)), 40, 1);
        assert_eq!(read(&vfs), Some((2, 5)));
        let reader = open_newest(vfs.clone(), Path::new(DIR)).unwrap().unwrap();
        assert_eq!(reader.skipped()[0].to_string(), "/c/checkpoint-0000000000000007: damaged at offset 24");
        memory.fail(Fault::once(Op::Read, FaultError::Eio));
        assert!(matches!(open_newest(vfs.clone(), Path::new(DIR)), Err(CheckpointError::Io { .. })));
        let newer = vfs.open(&Path::new(DIR).join(name(7, 0))).unwrap();
        newer.write_at(&[&[2]], 8).unwrap();
        let refused = open_newest(vfs.clone(), Path::new(DIR));
        assert!(matches!(refused, Err(CheckpointError::NewerFormat { format: 2, .. })));
    }

    #[test]
    fn the_highest_directory_counts_before_the_highest_index() {
        let (_, vfs) = disk();
        write(&vfs, 10);
        let mut writer = CheckpointWriter::create(vfs.clone(), Path::new(DIR), 7, 3).unwrap();
        writer.chunk(0, &[0; 700]).unwrap();
        writer.finish().unwrap();
        let newest = open_newest(vfs.clone(), Path::new(DIR)).unwrap().unwrap();
        assert_eq!((newest.index(), newest.log()), (7, 3));
        remove_older(vfs.as_ref(), Path::new(DIR), 7, 3).unwrap();
        assert_eq!(vfs.list(Path::new(DIR)).unwrap(), ["checkpoint-0000000000000007.00000003"]);
    }

    #[test]
    fn an_unfinished_one_gives_its_room_back() {
        let (memory, vfs) = disk();
        memory.set_capacity(1000);
        let mut writer = CheckpointWriter::create(vfs.clone(), Path::new(DIR), 9, 0).unwrap();
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
                let written = CheckpointWriter::create(vfs.clone(), Path::new(DIR), 9, 0).and_then(|mut writer| {
                    for kind in 0..5u8 {
                        writer.chunk(kind, &vec![kind; 900])?;
                    }
                    writer.finish().map(|_| ())
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
