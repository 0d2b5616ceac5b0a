//! Starting the log: the first time, and from the manifest of a checkpoint.

use std::{
    io,
    path::Path,
    sync::{Arc, Weak, atomic::AtomicU32},
};

use super::{
    Active, LogError, LogManifest, Pending, RevLog, RevLogOptions, SparseCursor, SyncState,
    record::RECORD_HEADER,
    segment::{self, SEGMENT_HEADER, Segment},
    table::Table,
};
use crate::vfs::Vfs;

pub(crate) fn create(vfs: Arc<dyn Vfs>, dir: &Path, options: RevLogOptions) -> Result<RevLog, LogError> {
    let dir_name = dir.display().to_string();
    make_dir(&*vfs, dir)?;
    let names = vfs.list(dir).map_err(LogError::io(&dir_name, "list"))?;
    if let Some(file) = names.into_iter().find(|name| segment::parse_name(name).is_some()) {
        return Err(LogError::NotEmpty { file });
    }
    open(vfs, dir, options, &LogManifest::default())
}

pub(crate) fn open(
    vfs: Arc<dyn Vfs>,
    dir: &Path,
    options: RevLogOptions,
    manifest: &LogManifest,
) -> Result<RevLog, LogError> {
    assert!(
        options.segment_bytes > SEGMENT_HEADER + RECORD_HEADER as u64 && options.segment_bytes <= 1 << 30,
        "segments of {} bytes",
        options.segment_bytes
    );
    manifest.check()?;
    let mut segments = Vec::with_capacity(manifest.segments.len());
    for (at, info) in manifest.segments.iter().enumerate() {
        let active = (at + 1 == manifest.segments.len()).then_some(options.segment_bytes);
        segments.push(Arc::new(Segment::open(&*vfs, dir, info, active)?));
    }
    // Only now that every named file was found: a refused open leaves the directory as it was.
    let removed_at_open = remove_unnamed(&*vfs, dir, manifest)?;
    let active = segments.last().map(|last| Active { id: last.id, position: last.end(), limit: last.length });
    let last = manifest.last().unwrap_or_default();
    Ok(RevLog {
        vfs,
        dir: dir.to_owned(),
        options,
        table: Arc::new(Table::new(segments, Vec::new())),
        sync: Arc::new(SyncState::default()),
        pending: Pending::default(),
        sparse: SparseCursor::default(),
        active,
        next_id: Arc::new(AtomicU32::new(manifest.next_id)),
        appended: last,
        flushed: last,
        generation: manifest.generation,
        retired: Vec::new(),
        unlinked: Vec::new(),
        planned: Weak::new(),
        relocating: false,
        removed_at_open,
    })
}

/// Removes segments written after the manifest. Other names in the directory are left alone.
fn remove_unnamed(vfs: &dyn Vfs, dir: &Path, manifest: &LogManifest) -> Result<Vec<String>, LogError> {
    let dir_name = dir.display().to_string();
    let names = match vfs.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_dir(vfs, dir)?;
            Vec::new()
        }
        Err(error) => return Err(LogError::io(&dir_name, "list")(error)),
    };
    let unnamed: Vec<String> =
        names.into_iter().filter(|name| segment::parse_name(name).is_some_and(|id| !manifest.names(id))).collect();
    for name in &unnamed {
        vfs.remove(&dir.join(name)).map_err(LogError::io(name, "remove"))?;
    }
    // Not synced: a name that comes back after a power failure is removed again by the next open.
    Ok(unnamed)
}

/// Creates the log's directory and makes its name durable: a checkpoint will rely on what is in it.
fn make_dir(vfs: &dyn Vfs, dir: &Path) -> Result<(), LogError> {
    let name = dir.display().to_string();
    vfs.create_dir_all(dir).map_err(LogError::io(&name, "create directory"))?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => vfs.sync_dir(parent).map_err(LogError::io(&name, "sync the directory above")),
        None => Ok(()),
    }
}
