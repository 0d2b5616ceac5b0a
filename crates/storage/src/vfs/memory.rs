//! A disk in memory that can lose power, fail and rot on purpose.
//!
//! It models what a program may rely on and no more: contents are durable after `sync_data`, names after
//! `sync_dir`, and everything else is open until then ([`MemoryVfs::crash`]). Everything is a function of the calls
//! and the seed; nothing here is random.
//!
//! Renames work inside one directory only (nobody needs more).

mod dir;
mod fault;
mod file;
mod image;
pub(crate) mod rng;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

pub use self::fault::{Fault, FaultError, Op};
use self::{
    dir::{DirRef, FileRef, Node, lock},
    fault::Crashed,
    rng::Rng,
};
use super::{File, Lock, Vfs};

/// Free space told while no capacity is set: 1 PiB.
const UNLIMITED_BYTES: u64 = 1 << 50;

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryVfs {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Default)]
struct Disk {
    root: DirRef,
    locks: BTreeSet<PathBuf>,
    faults: Vec<Fault>,
    /// Mutating operations that took place.
    ops: u64,
    /// The machine stops when one more would take place.
    stop_after: Option<u64>,
    stopped: bool,
    capacity: Option<u64>,
    lying_syncs: bool,
    /// The platter, however many processes used it.
    platter: Arc<()>,
}

impl MemoryVfs {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk as a power failure at this moment could leave it, chosen by `seed`: each file's unsynced writes are
    /// lost, kept or torn at 512-byte sectors, lengths and names likewise. Locks, faults and a pending
    /// [`MemoryVfs::crash_after`] do not survive; the capacity does. This disk is left as it is.
    pub fn crash(&self, seed: u64) -> MemoryVfs {
        let disk = lock(&self.disk);
        let root = lock(&disk.root).crashed(&mut Rng::new(seed), &mut BTreeMap::new());
        let new = Disk { root: Arc::new(Mutex::new(root)), capacity: disk.capacity, ..Disk::default() };
        MemoryVfs { disk: Arc::new(Mutex::new(new)) }
    }

    /// The same disk for the next process: whatever the one before still does, as what it held is dropped, fails and
    /// changes nothing, as if it had been killed.
    pub fn outlive(&self) -> MemoryVfs {
        let mut disk = lock(&self.disk);
        let new = Disk {
            root: disk.root.clone(),
            locks: BTreeSet::new(),
            faults: std::mem::take(&mut disk.faults),
            ops: disk.ops,
            stop_after: disk.stop_after,
            stopped: disk.stopped,
            capacity: disk.capacity,
            lying_syncs: disk.lying_syncs,
            platter: disk.platter.clone(),
        };
        disk.stopped = true;
        MemoryVfs { disk: Arc::new(Mutex::new(new)) }
    }

    /// Stops the machine once [`MemoryVfs::ops`] is `ops`: that many mutating operations take place, the next one
    /// and everything after it fails ([`MemoryVfs::is_crash`]) and changes nothing.
    pub fn crash_after(&self, ops: u64) {
        lock(&self.disk).stop_after = Some(ops);
    }

    /// Whether the machine has stopped: some operation came after the last one that could take place.
    pub fn has_stopped(&self) -> bool {
        lock(&self.disk).stopped
    }

    /// Whether `error` says that the simulated machine has stopped.
    pub fn is_crash(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Crashed>())
    }

    /// Whether both are the same disk, and no power was lost in between.
    pub fn is_same(&self, other: &MemoryVfs) -> bool {
        Arc::ptr_eq(&self.disk, &other.disk) || Arc::ptr_eq(&lock(&self.disk).platter, &lock(&other.disk).platter)
    }

    /// Mutating operations so far.
    pub fn ops(&self) -> u64 {
        lock(&self.disk).ops
    }

    /// Adds a scripted failure. Several may wait at once; the first that matches a call decides.
    pub fn fail(&self, fault: Fault) {
        lock(&self.disk).faults.push(fault);
    }

    /// Takes all scripted failures back.
    pub fn clear_faults(&self) {
        lock(&self.disk).faults.clear();
    }

    /// Silent corruption: flips the bits of `mask` in one byte, on the platter and in the cache. No effect past the
    /// end. Panics if there is no such file.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        let file = lock(&self.disk).file(path).expect("the file to corrupt exists");
        lock(&file).flip(offset, mask);
    }

    /// The bytes all files may take together; growth past it is ENOSPC.
    pub fn set_capacity(&self, bytes: u64) {
        lock(&self.disk).capacity = Some(bytes);
    }

    /// From now on `sync_data` says Ok and does nothing: a program that only seems to sync must fail its crash tests.
    pub fn ignore_syncs(&self) {
        lock(&self.disk).lying_syncs = true;
    }

    /// Counts the operation and finds the scripted failure for it. The caller decides what a failing one leaves.
    fn begin(&self, op: Op, path: &Path) -> io::Result<(MutexGuard<'_, Disk>, Option<FaultError>)> {
        let mut disk = lock(&self.disk);
        if op.mutates() && disk.stop_after.is_some_and(|limit| disk.ops >= limit) {
            disk.stopped = true;
        }
        if disk.stopped {
            return Err(io::Error::other(Crashed));
        }
        if op.mutates() {
            disk.ops += 1;
        }
        let fault = disk.take_fault(op, path);
        Ok((disk, fault))
    }

    /// As `begin`, for operations that do nothing when they fail.
    fn begin_whole(&self, op: Op, path: &Path) -> io::Result<MutexGuard<'_, Disk>> {
        match self.begin(op, path)? {
            (disk, None) => Ok(disk),
            (_, Some(error)) => Err(error.into()),
        }
    }

    fn handle(&self, path: &Path, node: FileRef) -> Arc<dyn File> {
        Arc::new(MemoryFile { vfs: self.clone(), path: path.to_owned(), node })
    }
}

impl Disk {
    fn take_fault(&mut self, op: Op, path: &Path) -> Option<FaultError> {
        for i in 0..self.faults.len() {
            let fault = &mut self.faults[i];
            let here = fault.path_contains.as_ref().is_none_or(|part| path.to_string_lossy().contains(part.as_str()));
            if fault.on != op || !here {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            let error = fault.error;
            if !fault.sticky {
                self.faults.remove(i);
            }
            return Some(error);
        }
        None
    }

    fn dir(&self, path: &Path) -> io::Result<DirRef> {
        let mut dir = self.root.clone();
        for name in names(path)? {
            let next = match lock(&dir).entries.get(&name) {
                Some(Node::Dir(next)) => next.clone(),
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            };
            dir = next;
        }
        Ok(dir)
    }

    fn file(&self, path: &Path) -> io::Result<FileRef> {
        let (dir, name) = self.parent(path)?;
        match lock(&dir).entries.get(&name) {
            Some(Node::File(file)) => Ok(file.clone()),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn parent(&self, path: &Path) -> io::Result<(DirRef, String)> {
        let mut all = names(path)?;
        let name = all.pop().ok_or(io::ErrorKind::IsADirectory)?;
        Ok((self.dir(&all.iter().collect::<PathBuf>())?, name))
    }

    fn create(&self, path: &Path) -> io::Result<FileRef> {
        let (dir, name) = self.parent(path)?;
        let mut dir = lock(&dir);
        if dir.entries.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = FileRef::default();
        dir.change(vec![(name, Some(Node::File(file.clone())))]);
        Ok(file)
    }

    /// Bytes by which files may still grow.
    fn free_bytes(&self) -> u64 {
        match self.capacity {
            None => UNLIMITED_BYTES,
            Some(capacity) => capacity.saturating_sub(lock(&self.root).bytes()),
        }
    }
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?.to_owned()),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(names)
}

impl Vfs for MemoryVfs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.begin_whole(Op::Create, path)?.create(path)?;
        Ok(self.handle(path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.begin_whole(Op::Open, path)?.file(path)?;
        Ok(self.handle(path, file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let disk = self.begin_whole(Op::Rename, from)?;
        let node = Node::File(disk.file(from)?);
        let (from_dir, from_name) = disk.parent(from)?;
        let (to_dir, to_name) = disk.parent(to)?;
        if !Arc::ptr_eq(&from_dir, &to_dir) {
            // Two changes: a crash may keep either alone, and so lose the file or leave it in both places.
            let mut dir = lock(&to_dir);
            if matches!(dir.entries.get(&to_name), Some(Node::Dir(_))) {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            dir.change(vec![(to_name, Some(node))]);
            drop(dir);
            lock(&from_dir).change(vec![(from_name, None)]);
            return Ok(());
        }
        let mut dir = lock(&to_dir);
        if matches!(dir.entries.get(&to_name), Some(Node::Dir(_))) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if from_name != to_name {
            dir.change(vec![(from_name, None), (to_name, Some(node))]);
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let disk = self.begin_whole(Op::Remove, path)?;
        disk.file(path)?;
        let (dir, name) = disk.parent(path)?;
        lock(&dir).change(vec![(name, None)]);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let disk = self.begin_whole(Op::Remove, path)?;
        let gone = disk.dir(path)?;
        if !lock(&gone).entries.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = disk.parent(path)?;
        lock(&dir).change(vec![(name, None)]);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let dir = self.begin_whole(Op::List, dir)?.dir(dir)?;
        Ok(lock(&dir).entries.keys().cloned().collect())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let disk = self.begin_whole(Op::CreateDir, path)?;
        let mut dir = disk.root.clone();
        for name in names(path)? {
            let mut state = lock(&dir);
            let next = match state.entries.get(&name) {
                Some(Node::Dir(next)) => next.clone(),
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let next = DirRef::default();
                    state.change(vec![(name, Some(Node::Dir(next.clone())))]);
                    next
                }
            };
            drop(state);
            dir = next;
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = self.begin_whole(Op::SyncDir, dir)?.dir(dir)?;
        lock(&dir).sync();
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut disk = self.begin_whole(Op::Create, path)?;
        match disk.create(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if !disk.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(MemoryLock { vfs: self.clone(), path: path.to_owned() }))
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(lock(&self.disk).free_bytes())
    }
}

struct MemoryLock {
    vfs: MemoryVfs,
    path: PathBuf,
}

impl Lock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        lock(&self.vfs.disk).locks.remove(&self.path);
    }
}

struct MemoryFile {
    vfs: MemoryVfs,
    /// The name it was opened by.
    path: PathBuf,
    node: FileRef,
}

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        let _disk = self.vfs.begin_whole(Op::Read, &self.path)?;
        Ok(lock(&self.node).volatile.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let _disk = self.vfs.begin_whole(Op::Read, &self.path)?;
        Ok(lock(&self.node).volatile.read(buf, offset))
    }

    fn write_at(&self, data: &[&[u8]], offset: u64) -> io::Result<()> {
        let (disk, fault) = self.vfs.begin(Op::Write, &self.path)?;
        let data = data.concat();
        let room = largest_len(&disk, &self.node).saturating_sub(offset);
        let (keep, error) = match fault {
            Some(error) => (data.len() / 2, Some(error)),
            None if room < data.len() as u64 => (room as usize, Some(FaultError::Enospc)),
            None => (data.len(), None),
        };
        lock(&self.node).write(&data[..keep], offset);
        error.map_or(Ok(()), |error| Err(error.into()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let (disk, fault) = self.vfs.begin(Op::Sync, &self.path)?;
        if let Some(error) = fault {
            lock(&self.node).sync_failed(&mut Rng::new(disk.ops));
            return Err(error.into());
        }
        if !disk.lying_syncs {
            lock(&self.node).sync();
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let disk = self.vfs.begin_whole(Op::SetLen, &self.path)?;
        grow(&disk, &self.node, len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let disk = self.vfs.begin_whole(Op::Allocate, &self.path)?;
        let len = len.max(lock(&self.node).volatile.len());
        grow(&disk, &self.node, len)
    }

    fn view(&self, offset: u64, len: usize, f: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let disk = self.vfs.begin_whole(Op::Read, &self.path)?;
        let node = lock(&self.node);
        let end = offset.checked_add(len as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > node.volatile.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // `f` runs without any lock: it may come back to the disk.
        if len > 0
            && let Some((page, range)) = node.volatile.page_of(offset, len)
        {
            drop((node, disk));
            f(&page[range]);
        } else {
            let mut copy = vec![0; len];
            node.volatile.read(&mut copy, offset);
            drop((node, disk));
            f(&copy);
        }
        Ok(())
    }
}

fn grow(disk: &Disk, node: &FileRef, len: u64) -> io::Result<()> {
    if len > largest_len(disk, node) {
        return Err(FaultError::Enospc.into());
    }
    lock(node).set_len(len);
    Ok(())
}

/// The length up to which the disk has room for this file.
fn largest_len(disk: &Disk, node: &FileRef) -> u64 {
    // One lock at a time: counting the free bytes visits this file too.
    let free = disk.free_bytes();
    lock(node).volatile.len() + free
}

#[cfg(test)]
mod tests;
