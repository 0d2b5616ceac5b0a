//! The machine's disk behind the [`Vfs`] trait. The only file of this crate that touches `std::fs`.
//!
//! Reads of long-lived data go through shared memory maps. A map is made for the power of two at or above the
//! file's length, so a growing file is mapped a handful of times in its life, and looking up the map is two atomic
//! loads. Old maps stay until the file is closed: they cost address space, not memory.
//!
//! Two hazards come with maps. Cutting a file ([`File::set_len`]) while somebody views the cut part kills the
//! process (SIGBUS), so owners cut only while they open a file, before they hand it on. And a media error under a
//! mapped page is also SIGBUS: the process stops, it never reads garbage.

use std::{
    fs::{self, OpenOptions, TryLockError},
    io::{self, IoSlice},
    num::NonZeroU64,
    os::fd::AsRawFd as _,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use memmap2::{Advice, Mmap, MmapOptions};
use rustix::fs::FallocateFlags;

use super::{File, Lock, Vfs};

/// Slices handed to one `pwritev` call; the kernel refuses more than 1024.
const MAX_IO_SLICES: usize = 1024;

/// Zeros written at a time where the file system cannot reserve room itself.
const ZERO_CHUNK_BYTES: usize = 64 << 10;

/// The smallest map, as a power of two: 64 KiB.
const SMALLEST_MAP_LOG2: u32 = 16;

/// Map classes: 64 KiB to 128 TiB, the whole of a 47-bit address space.
const MAP_CLASSES: usize = 32;

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealVfs;

impl Vfs for RealVfs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Arc::new(RealFile::new(file)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Arc::new(RealFile::new(file)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not Unicode is none of ours; it is still reported, so that it can be refused.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// An advisory `flock`; the kernel releases it when the descriptor closes, however the process ends.
struct RealLock {
    _file: fs::File,
}

impl Lock for RealLock {}

struct RealFile {
    file: fs::File,
    /// Length as this handle knows it. Another handle may have made the file longer: looked up when a view misses.
    len: AtomicU64,
    /// `maps[c]` covers the first `2^(c + SMALLEST_MAP_LOG2)` bytes, whether or not the file is that long yet.
    maps: [OnceLock<Mmap>; MAP_CLASSES],
}

impl RealFile {
    fn new(file: fs::File) -> io::Result<Self> {
        let len = AtomicU64::new(file.metadata()?.len());
        Ok(Self { file, len, maps: [const { OnceLock::new() }; MAP_CLASSES] })
    }

    fn map(&self, file_len: u64) -> io::Result<&Mmap> {
        let log2 = file_len.next_power_of_two().trailing_zeros().max(SMALLEST_MAP_LOG2);
        let class = (log2 - SMALLEST_MAP_LOG2) as usize;
        let slot = self.maps.get(class).ok_or(io::ErrorKind::FileTooLarge)?;
        if let Some(map) = slot.get() {
            return Ok(map);
        }
        let len = usize::try_from(1u64 << log2).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: the map is read only and outlives every slice lent from it. Bytes past the file's end are never
        // touched (`view` checks the length first), and owners neither cut a file nor overwrite bytes that are
        // being viewed (module comment).
        let made = unsafe { MmapOptions::new().len(len).map(&self.file)? };
        // Records are read at random places: the kernel must not read 128 KiB around each of them. Whoever reads in
        // order says so (`read_ahead`). A kernel that does not know the advice costs only time.
        let _ = made.advise(Advice::Random);
        // Two threads may both make one; the second is dropped.
        Ok(slot.get_or_init(|| made))
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, data: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut slices: Vec<IoSlice<'_>> = data.iter().filter(|s| !s.is_empty()).map(|s| IoSlice::new(s)).collect();
        let mut rest = &mut slices[..];
        let mut at = offset;
        while !rest.is_empty() {
            let batch = rest.len().min(MAX_IO_SLICES);
            match rustix::io::pwritev(&self.file, &rest[..batch], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    at += n as u64;
                    IoSlice::advance_slices(&mut rest, n);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.len.fetch_max(at, Ordering::Release);
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn write_out(&self, offset: u64, len: u64) {
        let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        // SAFETY: takes a descriptor that is open and numbers. What fails here fails again, and is seen, at the sync.
        unsafe { libc::sync_file_range(self.file.as_raw_fd(), offset as i64, len as i64, all) };
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len) {
            Ok(()) => {
                self.len.fetch_max(len, Ordering::Release);
                Ok(())
            }
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                let zeros = vec![0; ZERO_CHUNK_BYTES];
                let mut at = self.len()?;
                while at < len {
                    let n = (len - at).min(ZERO_CHUNK_BYTES as u64);
                    self.write_at(&[&zeros[..n as usize]], at)?;
                    at += n;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read_ahead(&self, offset: u64, len: u64) {
        // A hint that fails costs only time.
        let _ = rustix::fs::fadvise(&self.file, offset, NonZeroU64::new(len), rustix::fs::Advice::WillNeed);
    }

    fn prefetch(&self, offset: u64, len: usize) {
        let file_len = self.len.load(Ordering::Acquire);
        let Some(end) = offset.checked_add(len as u64).filter(|end| *end <= file_len) else { return };
        let Ok(map) = self.map(file_len) else { return };
        #[cfg(target_arch = "x86_64")]
        for line in map[offset as usize..end as usize].chunks(64) {
            // SAFETY: a prefetch has no effect but on the caches, whatever the address.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (map, end);
    }

    fn view(&self, offset: u64, len: usize, f: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let end = offset.checked_add(len as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut file_len = self.len.load(Ordering::Acquire);
        if end > file_len {
            file_len = self.len()?;
            if end > file_len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.len.fetch_max(file_len, Ordering::Release);
        }
        let map = self.map(file_len)?;
        f(&map[offset as usize..end as usize]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(file: &dyn File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        file.view(offset, len, &mut |bytes| out.extend_from_slice(bytes))?;
        Ok(out)
    }

    #[test]
    fn files_are_written_viewed_grown_and_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = RealVfs.create(&path).unwrap();
        assert_eq!(RealVfs.create(&path).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        assert!(file.is_empty().unwrap());
        assert_eq!(view(&*file, 0, 1).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        file.write_at(&[b"ab", b"", b"cde"], 3).unwrap();
        assert_eq!(view(&*file, 0, 8).unwrap(), b"\0\0\0abcde");
        // Growth past the first map's class, seen through the same handle and through another.
        let other = RealVfs.open(&path).unwrap();
        let many: Vec<&[u8]> = vec![b"xy"; 100_000];
        file.write_at(&many, 8).unwrap();
        assert_eq!(view(&*file, 200_004, 4).unwrap(), b"xyxy");
        assert_eq!(view(&*other, 200_004, 4).unwrap(), b"xyxy");
        file.sync_data().unwrap();
        file.set_len(4).unwrap();
        assert_eq!(file.len().unwrap(), 4);
        assert_eq!(view(&*file, 0, 5).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        file.allocate(100_000).unwrap();
        assert_eq!(file.len().unwrap(), 100_000);
        assert_eq!(view(&*file, 0, 6).unwrap(), b"\0\0\0a\0\0");
        let mut buf = [7; 10];
        assert_eq!(file.read_at(&mut buf, 99_995).unwrap(), 5);
    }

    #[test]
    fn names_move_and_go_away_and_open_files_stay_readable() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("x/y");
        RealVfs.create_dir_all(&sub).unwrap();
        let file = RealVfs.create(&sub.join("b")).unwrap();
        file.write_at(&[b"kept"], 0).unwrap();
        RealVfs.create(&sub.join("a")).unwrap();
        assert_eq!(RealVfs.list(&sub).unwrap(), ["a", "b"]);
        RealVfs.rename(&sub.join("b"), &sub.join("a")).unwrap();
        RealVfs.sync_dir(&sub).unwrap();
        RealVfs.remove(&sub.join("a")).unwrap();
        assert!(RealVfs.list(&sub).unwrap().is_empty());
        assert_eq!(view(&*file, 0, 4).unwrap(), b"kept");
        assert_eq!(RealVfs.list(&dir.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(RealVfs.free_bytes(dir.path()).unwrap() > 0);
    }

    #[test]
    fn a_lock_has_one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RealVfs.lock(&path).unwrap();
        assert_eq!(RealVfs.lock(&path).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(held);
        RealVfs.lock(&path).unwrap();
    }
}
