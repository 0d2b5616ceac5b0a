//! What a run can do to a member's disk and clocks: fill a small file system, and set the faults that a build for tests
//! obeys.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use crate::world::SmallDisk;

/// The environment variable that names a server's file of faults (`cetera_server::faults`).
const VARIABLE: &str = "CETERA_TEST_FAULTS";

/// The faults of one member that a build for tests obeys. Other programs do not know them.
#[derive(Debug)]
pub struct Hooks {
    path: PathBuf,
    values: RefCell<BTreeMap<&'static str, i64>>,
}

impl Hooks {
    /// None set, told through `path`.
    pub fn new(path: &Path) -> Hooks {
        Hooks { path: path.to_owned(), values: RefCell::default() }
    }

    /// What the server must find in its environment.
    pub fn variable(&self) -> (String, String) {
        (VARIABLE.to_owned(), self.path.to_string_lossy().into_owned())
    }

    /// Whether the server, which was started once, obeys.
    pub fn are_obeyed(&self) -> bool {
        let mut on = self.path.clone().into_os_string();
        on.push(".on");
        Path::new(&on).exists()
    }

    /// The value set.
    pub fn get(&self, name: &'static str) -> i64 {
        self.values.borrow().get(name).copied().unwrap_or(0)
    }

    /// Sets some.
    ///
    /// # Errors
    /// They cannot be told.
    pub fn set(&self, faults: &[(&'static str, i64)]) -> Result<(), String> {
        let mut values = self.values.borrow_mut();
        values.extend(faults.iter().copied());
        let text: String = values.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
        let new = self.path.with_extension("new");
        // Renamed, so that the server never reads half of it.
        let told = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &self.path));
        told.map_err(|error| format!("{}: {error}", self.path.display()))
    }

    /// Takes all faults of the disk back; clocks stay as they are.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn heal(&self) -> Result<(), String> {
        self.set(&[
            ("sync_delay_us", 0),
            ("write_delay_us", 0),
            ("sync_error", 0),
            ("write_error", 0),
            ("space_error", 0),
        ])
    }
}

/// A member's small disk, with what fills it.
#[derive(Debug)]
pub struct Disk {
    /// Where it is mounted.
    pub dir: PathBuf,
    _mounted: SmallDisk,
}

impl Disk {
    /// Mounts one of `bytes` at `dir`.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mount(dir: &Path, bytes: u64) -> Result<Disk, String> {
        Ok(Disk { dir: dir.to_owned(), _mounted: SmallDisk::mount(dir, bytes)? })
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    /// Takes all that is free but `leave` bytes.
    ///
    /// # Errors
    /// The file that takes it cannot be made.
    pub fn fill(&self, leave: u64) -> Result<(), String> {
        self.take_free(leave).map_err(|error| format!("filling {}: {error}", self.dir.display()))
    }

    fn take_free(&self, leave: u64) -> io::Result<()> {
        let ballast = File::options().create(true).append(true).open(self.ballast())?;
        let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: the pointer is to room for the answer, which is read only if the call filled it.
        let stat = unsafe {
            match libc::fstatvfs(ballast.as_raw_fd(), stat.as_mut_ptr()) {
                0 => stat.assume_init(),
                _ => return Err(io::Error::last_os_error()),
            }
        };
        let take = (stat.f_bavail * stat.f_frsize).saturating_sub(leave);
        if take == 0 {
            return Ok(());
        }
        let len = ballast.metadata()?.len();
        // SAFETY: plain numbers and a file that is open. The server may have taken the room meanwhile: then it is full,
        // which is what was wanted.
        unsafe { libc::fallocate(ballast.as_raw_fd(), 0, len as libc::off_t, take as libc::off_t) };
        Ok(())
    }

    /// Gives it back.
    ///
    /// # Errors
    /// The file that takes it cannot be removed.
    pub fn free(&self) -> Result<(), String> {
        match std::fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("freeing {}: {error}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Copies a directory with all below it, to keep what a small disk holds.
///
/// # Errors
/// Some of it could not be copied.
pub fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() => copy_dir(&entry.path(), &to)?,
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), to)?),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_whole() {
        let dir = std::env::temp_dir().join(format!("chaos-hooks-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let hooks = Hooks::new(&dir.join("faults"));
        hooks.set(&[("sync_error", 5), ("wall_offset_ms", -7)]).unwrap();
        hooks.heal().unwrap();
        let text = std::fs::read_to_string(dir.join("faults")).unwrap();
        assert!(text.lines().any(|line| line == "sync_error 0"), "{text}");
        assert!(text.lines().any(|line| line == "wall_offset_ms -7"), "{text}");
        assert!(!hooks.are_obeyed());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
