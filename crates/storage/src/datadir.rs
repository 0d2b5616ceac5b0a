//! The data directory: who may use it, of which format it is, what lies where in it.
//!
//! ```text
//! <data-dir>/member/lock         held by the process that runs on the directory
//! <data-dir>/member/format       `cetera <format>`, written and synced when the directory is made
//! <data-dir>/member/wal          write-ahead log
//! <data-dir>/member/log          revision log
//! <data-dir>/member/log.<number> the same, of a state that was taken over from another member
//! <data-dir>/member/checkpoint   checkpoints
//! ```

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::vfs::{Lock, Vfs};

/// The format this version writes.
pub const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "format";
const FORMAT_FILE_NEW: &str = "format.tmp";
const LOCK_FILE: &str = "lock";
const WAL: &str = "wal";
const LOG: &str = "log";
const CHECKPOINT: &str = "checkpoint";

/// Why a directory cannot be used.
#[derive(Debug)]
pub enum DataDirError {
    /// Another process runs on it.
    Locked(PathBuf),
    /// A newer version wrote it.
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        format: u32,
    },
    /// It holds something that is not ours.
    NotOurs {
        /// The directory.
        dir: PathBuf,
        /// What is there.
        found: String,
    },
    /// The file system failed.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(dir) => write!(f, "{}: another process is using this data directory", dir.display()),
            Self::NewerFormat { dir, format } => write!(
                f,
                "{}: the data is of format {format}, newer than this version knows ({FORMAT}); use the version that wrote it",
                dir.display()
            ),
            Self::NotOurs { dir, found } => {
                write!(f, "{}: not a Cetera data directory (found {found}); nothing was changed", dir.display())
            }
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for DataDirError {}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DataDirError + '_ {
    move |error| DataDirError::Io { path: path.to_owned(), error }
}

/// A data directory held by this process until it is dropped.
pub struct DataDir {
    member: PathBuf,
    _lock: Box<dyn Lock>,
}

impl fmt::Debug for DataDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataDir({})", self.member.display())
    }
}

impl DataDir {
    /// Takes the directory, making it if it is absent or empty.
    ///
    /// # Errors
    /// [`DataDirError`]; a directory that is refused is left as it was.
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path) -> Result<Self, DataDirError> {
        let member = dir.join("member");
        refuse_foreign(vfs.as_ref(), dir, &member)?;
        vfs.create_dir_all(&member).map_err(io_error(&member))?;
        let lock = vfs.lock(&member.join(LOCK_FILE)).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => DataDirError::Locked(dir.to_owned()),
            _ => io_error(&member)(error),
        })?;
        if !check_format(vfs.as_ref(), dir, &member)? {
            write_format(vfs.as_ref(), &member)?;
        }
        for name in [WAL, LOG, CHECKPOINT] {
            let path = member.join(name);
            vfs.create_dir_all(&path).map_err(io_error(&path))?;
        }
        for path in [&*member, dir] {
            vfs.sync_dir(path).map_err(io_error(path))?;
        }
        sync_ancestors(vfs.as_ref(), dir)?;
        Ok(Self { member, _lock: lock })
    }

    /// Where the write-ahead log lies.
    pub fn wal_dir(&self) -> PathBuf {
        self.member.join(WAL)
    }

    /// Where the revision log of this number lies; the checkpoint in use names it. A member begins with 0.
    pub fn log_dir(&self, number: u32) -> PathBuf {
        self.member.join(log_name(number))
    }

    /// Numbers of the revision logs that are there, ascending.
    ///
    /// # Errors
    /// The file system failed.
    pub fn logs(&self, vfs: &dyn Vfs) -> Result<Vec<u32>, DataDirError> {
        logs(vfs, &self.member)
    }

    /// The directory that holds all of it.
    pub fn member_dir(&self) -> &Path {
        &self.member
    }

    /// Where the checkpoints lie.
    pub fn checkpoint_dir(&self) -> PathBuf {
        self.member.join(CHECKPOINT)
    }
}

/// Name of the directory of the revision log of this number.
pub fn log_name(number: u32) -> String {
    if number == 0 { LOG.to_owned() } else { format!("{LOG}.{number:08x}") }
}

/// Numbers of the revision logs below `member`, ascending.
///
/// # Errors
/// The directory cannot be read.
pub fn logs(vfs: &dyn Vfs, member: &Path) -> Result<Vec<u32>, DataDirError> {
    let names = vfs.list(member).map_err(io_error(member))?;
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| log_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes the revision logs below `member` whose number `goes`, with all that is in their directories. The first one's
/// directory stays, empty.
///
/// # Errors
/// One could not be removed.
pub fn remove_logs(vfs: &dyn Vfs, member: &Path, goes: impl Fn(u32) -> bool) -> Result<(), DataDirError> {
    for number in logs(vfs, member)?.into_iter().filter(|number| goes(*number)) {
        let dir = member.join(log_name(number));
        for name in vfs.list(&dir).map_err(io_error(&dir))? {
            let path = dir.join(name);
            vfs.remove(&path).map_err(io_error(&path))?;
        }
        if number != 0 {
            vfs.remove_dir(&dir).map_err(io_error(&dir))?;
        }
    }
    Ok(())
}

fn log_number(name: &str) -> Option<u32> {
    if name == LOG {
        return Some(0);
    }
    let number = u32::from_str_radix(name.strip_prefix(LOG)?.strip_prefix('.')?, 16).ok()?;
    (log_name(number) == name).then_some(number)
}

/// The directory's own name, and those of the parents made along with it, must last too. Done at each start: the one
/// that made them may have been cut short. Parents we may not open or write were not made by us, and a file system that
/// cannot sync directories says so for the data directory itself.
fn sync_ancestors(vfs: &dyn Vfs, dir: &Path) -> Result<(), DataDirError> {
    let foreign = [
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::ReadOnlyFilesystem,
        io::ErrorKind::InvalidInput,
        io::ErrorKind::Unsupported,
    ];
    for ancestor in dir.ancestors().skip(1) {
        // The last ancestor of a relative path is empty: the current directory.
        let path = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        match vfs.sync_dir(path) {
            Ok(()) => {}
            Err(error) if foreign.contains(&error.kind()) => {}
            Err(error) => return Err(io_error(path)(error)),
        }
    }
    Ok(())
}

/// The names this version puts below `member`; anything else there, before a format was written, is somebody's.
fn refuse_foreign(vfs: &dyn Vfs, dir: &Path, member: &Path) -> Result<(), DataDirError> {
    let names = |path: &Path| match vfs.list(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other.map_err(io_error(path)),
    };
    let inside = names(member)?;
    if inside.iter().any(|name| name == FORMAT_FILE) {
        return Ok(());
    }
    // A first start that was cut short left at most these.
    let unfinished = [LOCK_FILE, FORMAT_FILE_NEW];
    let foreign = names(dir)?.into_iter().find(|name| name != "member" && name != "lost+found");
    let foreign = foreign.or_else(|| {
        inside.into_iter().find(|name| !unfinished.contains(&name.as_str())).map(|name| format!("member/{name}"))
    });
    match foreign {
        Some(found) => Err(DataDirError::NotOurs { dir: dir.to_owned(), found }),
        None => Ok(()),
    }
}

fn check_format(vfs: &dyn Vfs, dir: &Path, member: &Path) -> Result<bool, DataDirError> {
    let path = member.join(FORMAT_FILE);
    let file = match vfs.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io_error(&path)(error)),
    };
    let mut buffer = [0; 64];
    let count = file.read_at(&mut buffer, 0).map_err(io_error(&path))?;
    let text = String::from_utf8_lossy(&buffer[..count]).trim().to_owned();
    match text.strip_prefix("cetera ").and_then(|number| number.parse::<u32>().ok()) {
        Some(format) if format > FORMAT => Err(DataDirError::NewerFormat { dir: dir.to_owned(), format }),
        Some(_) => Ok(true),
        None => Err(DataDirError::NotOurs { dir: dir.to_owned(), found: format!("member/{FORMAT_FILE}: {text:?}") }),
    }
}

fn write_format(vfs: &dyn Vfs, member: &Path) -> Result<(), DataDirError> {
    let (from, to) = (member.join(FORMAT_FILE_NEW), member.join(FORMAT_FILE));
    match vfs.remove(&from) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&from)(error)),
        _ => {}
    }
    let file = vfs.create(&from).map_err(io_error(&from))?;
    file.write_at(&[format!("cetera {FORMAT}\n").as_bytes()], 0).map_err(io_error(&from))?;
    file.sync_data().map_err(io_error(&from))?;
    vfs.rename(&from, &to).map_err(io_error(&to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::memory::MemoryVfs;

    fn open(vfs: &MemoryVfs) -> Result<DataDir, DataDirError> {
        DataDir::open(Arc::new(vfs.clone()), Path::new("/data"))
    }

    #[test]
    fn one_process_at_a_time() {
        let vfs = MemoryVfs::new();
        let first = open(&vfs).unwrap();
        let error = open(&vfs).unwrap_err();
        assert_eq!(error.to_string(), "/data: another process is using this data directory");
        drop(first);
        open(&vfs).unwrap();
    }

    #[test]
    fn it_lasts_with_all_its_parents() {
        let vfs = MemoryVfs::new();
        let dir = Path::new("relative/a/b");
        drop(DataDir::open(Arc::new(vfs.clone()), dir).unwrap());
        for seed in 0..20 {
            let names = vfs.crash(seed).list(&dir.join("member")).unwrap();
            assert_eq!(names, ["checkpoint", "format", "lock", "log", "wal"]);
        }
    }

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let vfs = MemoryVfs::new();
        drop(open(&vfs).unwrap());
        let file = vfs.open(Path::new("/data/member/format")).unwrap();
        file.write_at(&[b"cetera 2\n"], 0).unwrap();
        assert!(matches!(open(&vfs), Err(DataDirError::NewerFormat { format: 2, .. })));
    }

    #[test]
    fn a_directory_that_is_not_ours_is_refused() {
        for path in ["/data/member/snap", "/data/member/wal", "/data/proxy"] {
            let vfs = MemoryVfs::new();
            vfs.create_dir_all(Path::new(path)).unwrap();
            let error = open(&vfs).unwrap_err();
            assert!(matches!(error, DataDirError::NotOurs { .. }), "{path}: {error}");
        }
    }

    #[test]
    fn a_first_start_that_is_cut_short_anywhere_can_be_repeated() {
        for ops in 0..30 {
            for seed in 0..10 {
                let vfs = MemoryVfs::new();
                vfs.crash_after(ops);
                drop(open(&vfs));
                open(&vfs.crash(seed)).unwrap_or_else(|error| panic!("after {ops} operations: {error}"));
            }
        }
    }
}
