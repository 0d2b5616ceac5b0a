//! Faults of the disk and the clock, set from outside while the server runs. Only in builds for tests.
//!
//! The file named by [`VARIABLE`] holds lines of a name and a number, all 0 at first; it is read at the start and looked
//! at every few milliseconds from then on. A server that obeys it makes a file of that name with `.on` behind it.
//!
//! | name | what it does |
//! | --- | --- |
//! | `sync_delay_us` | every sync takes this much longer |
//! | `write_delay_us` | so does every write |
//! | `sync_error` | every sync fails with this `errno`; what it should have made durable may be there or not |
//! | `write_error` | every write, creation, renaming and reservation fails with this `errno` |
//! | `space_error` | every creation, reservation and write that needs new room fails with this `errno` |
//! | `wall_offset_ms` | the time of day is this much ahead; may be negative |
//! | `clock_jump_ms` | the monotonic clock is this much ahead; never goes down in one life |
//! | `clock_drift_ppm` | it gains so much on the true one, in millionths; read at the start only; may be negative |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cetera_storage::vfs::{File, Lock, Vfs};

/// The environment variable that names the file.
pub const VARIABLE: &str = "CETERA_TEST_FAULTS";
/// Pause between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(3);

#[derive(Debug, Default)]
struct Faults {
    sync_delay_us: AtomicI64,
    write_delay_us: AtomicI64,
    sync_error: AtomicI64,
    write_error: AtomicI64,
    space_error: AtomicI64,
    wall_offset_ms: AtomicI64,
    clock_jump_ms: AtomicI64,
    clock_drift_ppm: AtomicI64,
}

impl Faults {
    fn named(&self, name: &str) -> Option<&AtomicI64> {
        Some(match name {
            "sync_delay_us" => &self.sync_delay_us,
            "write_delay_us" => &self.write_delay_us,
            "sync_error" => &self.sync_error,
            "write_error" => &self.write_error,
            "space_error" => &self.space_error,
            "wall_offset_ms" => &self.wall_offset_ms,
            "clock_jump_ms" => &self.clock_jump_ms,
            "clock_drift_ppm" => &self.clock_drift_ppm,
            _ => return None,
        })
    }

    /// A file that cannot be read, or is being written, changes nothing.
    fn look(&self, path: &Path, starts: bool) {
        let Ok(text) = std::fs::read_to_string(path) else { return };
        for line in text.lines() {
            let Some((name, value)) = line.split_once(' ') else { continue };
            let (Some(fault), Ok(value)) = (self.named(name), value.parse::<i64>()) else { continue };
            match name {
                "clock_jump_ms" => drop(fault.fetch_max(value, Ordering::Relaxed)),
                "clock_drift_ppm" if !starts => {}
                _ => fault.store(value, Ordering::Relaxed),
            }
        }
    }
}

/// What is asked for now.
fn faults() -> &'static Faults {
    static FAULTS: OnceLock<&'static Faults> = OnceLock::new();
    FAULTS.get_or_init(|| {
        let faults: &'static Faults = Box::leak(Box::default());
        let Some(path) = std::env::var_os(VARIABLE).map(PathBuf::from) else { return faults };
        faults.look(&path, true);
        let mut on = path.clone().into_os_string();
        on.push(".on");
        // Who cannot know that the file is obeyed will not use it.
        let _ = std::fs::write(on, "");
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(LOOK_EVERY);
                faults.look(&path, false);
            }
        });
        faults
    })
}

/// The monotonic clock as the faults have it.
pub(crate) fn monotonic(elapsed: Duration) -> Duration {
    let faults = faults();
    let micros = elapsed.as_micros() as i64;
    let gained = micros * faults.clock_drift_ppm.load(Ordering::Relaxed) / 1_000_000;
    let micros = micros + gained + faults.clock_jump_ms.load(Ordering::Relaxed) * 1000;
    Duration::from_micros(micros.max(0) as u64)
}

/// How far the time of day is ahead, in milliseconds.
pub(crate) fn wall_offset_ms() -> i64 {
    faults().wall_offset_ms.load(Ordering::Relaxed)
}

fn wait(delay_us: &AtomicI64) {
    let delay = delay_us.load(Ordering::Relaxed);
    if delay > 0 {
        std::thread::sleep(Duration::from_micros(delay as u64));
    }
}

fn fail(errno: &AtomicI64) -> io::Result<()> {
    match errno.load(Ordering::Relaxed) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno as i32)),
    }
}

fn before_write() -> io::Result<()> {
    let faults = faults();
    wait(&faults.write_delay_us);
    fail(&faults.write_error)
}

/// Before what takes room that was not set aside.
fn before_growth() -> io::Result<()> {
    fail(&faults().space_error)?;
    before_write()
}

/// The sync is done all the same: a sync that failed may have reached the disk.
fn after_sync(done: io::Result<()>) -> io::Result<()> {
    let faults = faults();
    wait(&faults.sync_delay_us);
    done.and_then(|()| fail(&faults.sync_error))
}

/// A file system with the faults that are asked for.
#[derive(Debug)]
pub(crate) struct FaultyVfs<V>(pub(crate) V);

impl<V: Vfs> Vfs for FaultyVfs<V> {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        before_growth()?;
        Ok(Arc::new(FaultyFile(self.0.create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FaultyFile(self.0.open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        before_write()?;
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.remove_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        before_growth()?;
        self.0.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        after_sync(self.0.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.0.lock(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.0.free_bytes(dir)
    }
}

struct FaultyFile(Arc<dyn File>);

impl File for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, data: &[&[u8]], offset: u64) -> io::Result<()> {
        let end = offset + data.iter().map(|slice| slice.len() as u64).sum::<u64>();
        if faults().space_error.load(Ordering::Relaxed) != 0 && end > self.0.len()? {
            before_growth()?;
        }
        before_write()?;
        self.0.write_at(data, offset)
    }

    fn prefetch(&self, offset: u64, len: usize) {
        self.0.prefetch(offset, len);
    }

    fn read_ahead(&self, offset: u64, len: u64) {
        self.0.read_ahead(offset, len);
    }

    fn sync_data(&self) -> io::Result<()> {
        after_sync(self.0.sync_data())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        before_growth()?;
        self.0.allocate(len)
    }

    fn view(&self, offset: u64, len: usize, f: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.0.view(offset, len, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_sets_faults_and_takes_them_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("faults");
        let faults = Faults::default();
        std::fs::write(&path, "sync_error 5\nclock_jump_ms 70\nclock_drift_ppm 9\nnonsense\nother 1\n").unwrap();
        faults.look(&path, true);
        assert_eq!(fail(&faults.sync_error).unwrap_err().raw_os_error(), Some(5));
        std::fs::write(&path, "sync_error 0\nclock_jump_ms 50\nclock_drift_ppm 0\n").unwrap();
        faults.look(&path, false);
        assert!(fail(&faults.sync_error).is_ok());
        assert_eq!(faults.clock_jump_ms.load(Ordering::Relaxed), 70);
        assert_eq!(faults.clock_drift_ppm.load(Ordering::Relaxed), 9);
    }
}
