//! Segment files: their names, and how one comes to be. Order matters here: a file gets a segment's name only after
//! its header is durable, and a released file loses its name durably before its header is overwritten. So whatever
//! bears a segment's name has a good header.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    WalError,
    format::{Encoded, SegmentHeader, header_bytes},
};
use crate::vfs::{File, Vfs};

/// Zeros written at a time. What is written at once the page cache may keep as one folio (ext4 does since Linux 6.16), and
/// then every later write into it, and every sync of that, walks all its blocks.
const ZERO_CHUNK_BYTES: u64 = 16 << 10;

/// A segment of the log, or one made ready for it.
#[derive(Clone)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    /// Length of the file.
    pub(super) len: u64,
    /// Where the next batch goes.
    pub(super) end: u64,
    /// The highest index of all entries in it, overridden ones included.
    pub(super) highest_index: u64,
}

/// A file that is to become a segment.
pub(super) struct Spare {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    pub(super) len: u64,
    /// The directory was synced since the file lost its segment name.
    pub(super) name_synced: bool,
}

/// How room is made in a new file.
#[derive(Clone, Copy)]
pub(super) enum Fill {
    /// Zeros are written: slow to make, later syncs are fast.
    Zeros,
    /// Room is reserved: fast to make, later syncs write metadata too.
    Reserve,
}

/// The sequence number of a segment's name.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let sequence = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(sequence) == name).then_some(sequence)
}

pub(super) fn is_temporary(name: &str) -> bool {
    name.ends_with(".tmp")
}

pub(super) fn is_spare(name: &str) -> bool {
    name.starts_with("spare-")
}

/// The number in the name of any file of the log.
pub(super) fn number_of(name: &str) -> Option<u64> {
    sequence_of(name).or_else(|| u64::from_str_radix(name.strip_prefix("spare-")?, 16).ok())
}

pub(super) fn is_ours(name: &str) -> bool {
    is_temporary(name) || is_spare(name) || sequence_of(name).is_some()
}

fn segment_name(sequence: u64) -> String {
    format!("{sequence:016x}.wal")
}

/// Makes the segment of `header`, named and durable, out of `spare` or a new file of `len` bytes.
pub(super) fn make(
    vfs: &dyn Vfs,
    dir: &Path,
    header: &SegmentHeader,
    len: u64,
    spare: Option<Spare>,
    fill: Fill,
) -> Result<Segment, WalError> {
    let spare = match spare {
        Some(mut spare) => {
            if !spare.name_synced {
                vfs.sync_dir(dir).map_err(WalError::io("sync", dir))?;
                spare.name_synced = true;
            }
            spare
        }
        None => Spare::create(vfs, dir, header.sequence, len, fill)?,
    };
    spare.into_segment(vfs, dir, header, None)
}

impl Spare {
    pub(super) fn create(vfs: &dyn Vfs, dir: &Path, number: u64, len: u64, fill: Fill) -> Result<Self, WalError> {
        let path = dir.join(format!("{number:016x}.tmp"));
        let file = vfs.create(&path).map_err(WalError::io("create", &path))?;
        let filled = match fill {
            Fill::Reserve => file.allocate(len),
            Fill::Zeros => {
                let zeros = vec![0; ZERO_CHUNK_BYTES.min(len) as usize];
                (0..len).step_by(zeros.len()).try_for_each(|at| {
                    let n = (len - at).min(ZERO_CHUNK_BYTES) as usize;
                    file.write_at(&[&zeros[..n]], at)
                })
            }
        };
        if let Err(error) = filled {
            // Best effort: the next open removes what is left.
            let _ = vfs.remove(&path);
            return Err(WalError::io("make room in", &path)(error));
        }
        Ok(Self { path, file, len, name_synced: true })
    }

    /// Writes the header (and the first batch, if given), makes both durable, then the name.
    pub(super) fn into_segment(
        self,
        vfs: &dyn Vfs,
        dir: &Path,
        header: &SegmentHeader,
        first: Option<&Encoded>,
    ) -> Result<Segment, WalError> {
        assert!(self.name_synced, "a header is overwritten only in a file whose old name is gone");
        let path = dir.join(segment_name(header.sequence));
        let end = header_bytes(&header.metadata);
        let made = (|| {
            self.file.write_at(&[&header.encode()], 0).map_err(WalError::io("write", &self.path))?;
            if let Some(first) = first {
                self.file.write_at(&first.slices(), end).map_err(WalError::io("write", &self.path))?;
            }
            self.file.sync_data().map_err(WalError::io("sync", &self.path))?;
            vfs.rename(&self.path, &path).map_err(WalError::io("rename", &self.path))?;
            vfs.sync_dir(dir).map_err(WalError::io("sync", dir))
        })();
        if let Err(error) = made {
            // Best effort, under whichever name it has: the next open removes what is left.
            let _ = vfs.remove(&self.path);
            let _ = vfs.remove(&path);
            return Err(error);
        }
        Ok(Segment {
            sequence: header.sequence,
            path,
            file: self.file,
            len: self.len,
            end: first.map_or(end, Encoded::end),
            highest_index: 0,
        })
    }
}

impl Segment {
    /// Takes the segment's name away. Durable once the directory is synced.
    pub(super) fn into_spare(self, vfs: &dyn Vfs, dir: &Path) -> Result<Spare, WalError> {
        let path = dir.join(format!("spare-{:016x}", self.sequence));
        vfs.rename(&self.path, &path).map_err(WalError::io("rename", &self.path))?;
        Ok(Spare { path, file: self.file, len: self.len, name_synced: false })
    }
}
