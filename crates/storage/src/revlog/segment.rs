//! One segment file: a header, then records back to back in revision order up to `end`.
//!
//! Shared by the writer and all readers. Only the writer moves `end` (forward, after the bytes are in the page
//! cache), so whatever lies below a loaded `end` never changes. Bytes beyond it are never looked at.

use std::{
    io::ErrorKind,
    ops::ControlFlow,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Location, LogError, Record, SegmentInfo,
    record::{self, Parsed, RECORD_HEADER},
};
use crate::{
    revision::Revision,
    vfs::{File, Vfs},
};

/// Bytes before the first record: magic 8 | format version u32 | segment id u32 | crc32c of these u32 | zeros.
pub(crate) const SEGMENT_HEADER: u64 = 32;
/// A scan finds its start to within this many bytes.
pub(crate) const SPARSE_INTERVAL: u64 = 16 << 10;
/// Bytes a walk looks at under one view of the file.
const WALK_WINDOW: u64 = 256 << 10;
/// Bytes a walk asks for ahead of itself.
const READ_AHEAD: u64 = 4 * WALK_WINDOW;

const MAGIC: [u8; 8] = *b"ceteraRL";
const VERSION: u32 = 1;
const PREFIX: &str = "segment-";

/// Start of a record, one for every [`SPARSE_INTERVAL`] bytes.
#[derive(Copy, Clone, Debug)]
pub(crate) struct SparseEntry {
    pub(crate) revision: Revision,
    pub(crate) offset: u32,
}

pub(crate) struct Segment {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// Revision of the first record; the table is ordered by it.
    pub(crate) first: Revision,
    pub(crate) file: Arc<dyn File>,
    /// Bytes the file takes, allocated ones included.
    pub(crate) length: u64,
    /// End of the last flushed record.
    end: AtomicU64,
    /// Everything below is on the disk.
    synced: AtomicU64,
    /// Bytes of records not released. Written by the writer only.
    live: AtomicU64,
    tail: Mutex<Tail>,
}

/// What grows with the segment besides its bytes.
struct Tail {
    last: Revision,
    /// The sparse entries cover the records from here on; those before are found by a walk when a scan needs them,
    /// so that opening a large log reads only the headers of its files.
    known_from: u64,
    sparse: Vec<SparseEntry>,
}

/// What a flush adds to a segment.
pub(crate) struct Growth {
    pub(crate) end: u64,
    pub(crate) last: Revision,
    pub(crate) live: u64,
    pub(crate) sparse: Vec<SparseEntry>,
}

pub(crate) fn file_name(id: u32) -> String {
    format!("{PREFIX}{id:08x}")
}

/// The id in a segment's file name, `None` for any other name.
pub(crate) fn parse_name(name: &str) -> Option<u32> {
    let id = u32::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()?;
    (file_name(id) == name).then_some(id)
}

pub(crate) fn header(id: u32) -> [u8; SEGMENT_HEADER as usize] {
    let mut bytes = [0; SEGMENT_HEADER as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&id.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..16]);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

impl Segment {
    /// A segment whose header and first records were just written to `file`.
    pub(crate) fn new(id: u32, file: Arc<dyn File>, length: u64, first: Revision, growth: Growth) -> Segment {
        Segment {
            id,
            name: file_name(id),
            first,
            file,
            length,
            end: AtomicU64::new(growth.end),
            synced: AtomicU64::new(0),
            live: AtomicU64::new(growth.live),
            tail: Mutex::new(Tail { last: growth.last, known_from: SEGMENT_HEADER, sparse: growth.sparse }),
        }
    }

    /// Opens the segment a manifest names. `active` is appended to: what lies beyond its recorded end is cut and the
    /// room up to `segment_bytes` reserved again, so that it reads as zeros.
    pub(crate) fn open(
        vfs: &dyn Vfs,
        dir: &Path,
        info: &SegmentInfo,
        active: Option<u64>,
    ) -> Result<Segment, LogError> {
        let name = file_name(info.id);
        let file = match vfs.open(&dir.join(&name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(LogError::Missing { file: name });
            }
            Err(error) => return Err(LogError::io(&name, "open")(error)),
        };
        let mut length = file.len().map_err(LogError::io(&name, "open"))?;
        if length < info.bytes {
            return Err(LogError::Short { file: name, expected: info.bytes, found: length });
        }
        let mut head = [0; SEGMENT_HEADER as usize];
        let read = file.read_at(&mut head, 0).map_err(LogError::io(&name, "read"))?;
        if read < head.len() || head != header(info.id) {
            return Err(LogError::Foreign { file: name });
        }
        if let Some(segment_bytes) = active {
            file.set_len(info.bytes).map_err(LogError::io(&name, "cut"))?;
            length = segment_bytes.max(info.bytes);
            match file.allocate(length) {
                Ok(()) => {}
                // A full disk must not keep a member from starting: the segment counts as full, and the next record,
                // in a segment of its own, meets the full disk at its flush.
                Err(error) if error.kind() == ErrorKind::StorageFull => length = info.bytes,
                Err(error) => return Err(LogError::io(&name, "allocate")(error)),
            }
        }
        let tail = Tail { last: info.last, known_from: info.bytes, sparse: Vec::new() };
        Ok(Segment {
            id: info.id,
            name,
            first: info.first,
            file,
            length,
            end: AtomicU64::new(info.bytes),
            // The cut of the active segment is not on the disk, its records are.
            synced: AtomicU64::new(info.bytes),
            live: AtomicU64::new(info.live_bytes),
            tail: Mutex::new(tail),
        })
    }

    pub(crate) fn grow(&self, growth: Growth) {
        let mut tail = self.tail();
        assert!(growth.last > tail.last && growth.end > self.end(), "segment {} shrinks", self.name);
        tail.last = growth.last;
        tail.sparse.extend(growth.sparse);
        drop(tail);
        self.live.fetch_add(growth.live, Ordering::Relaxed);
        self.end.store(growth.end, Ordering::Release);
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn set_live(&self, bytes: u64) {
        self.live.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_live(&self, bytes: u64) {
        self.live.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes the record's bytes out of the live ones.
    pub(crate) fn release(&self, bytes: u64) {
        let live = self.live();
        debug_assert!(live >= bytes, "{}: {bytes} bytes released, {live} live", self.name);
        self.live.store(live.saturating_sub(bytes), Ordering::Relaxed);
    }

    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    pub(crate) fn set_synced(&self, end: u64) {
        self.synced.fetch_max(end, Ordering::AcqRel);
    }

    pub(crate) fn info(&self) -> SegmentInfo {
        let last = self.tail().last;
        SegmentInfo { id: self.id, first: self.first, last, bytes: self.end(), live_bytes: self.live() }
    }

    /// Lends the record at `location`, checked.
    #[inline]
    pub(crate) fn read<R>(&self, location: Location, f: impl FnOnce(Record<'_>) -> R) -> Result<R, LogError> {
        if location.end() > self.end() {
            return Err(self.damaged(u64::from(location.offset)));
        }
        let mut f = Some(f);
        let mut result = None;
        self.file
            .view(u64::from(location.offset), location.record_bytes() as usize, &mut |bytes| {
                if let Parsed::Record(record) = record::parse(bytes)
                    && record.payload.len() == location.len as usize
                    && let Some(f) = f.take()
                {
                    result = Some(f(record));
                }
            })
            .map_err(LogError::io(&self.name, "read"))?;
        result.ok_or_else(|| self.damaged(u64::from(location.offset)))
    }

    pub(crate) fn prefetch(&self, location: Location) {
        self.file.prefetch(u64::from(location.offset), location.record_bytes() as usize);
    }

    /// Passes the records from the one that starts at `from` up to `to` (an end of a record), each checked, until
    /// `f` breaks. Returns where the next record starts.
    pub(crate) fn walk(
        &self,
        from: u64,
        to: u64,
        mut f: impl FnMut(Location, Record<'_>) -> ControlFlow<()>,
    ) -> Result<u64, LogError> {
        let mut at = from;
        let mut window = WALK_WINDOW;
        let mut previous = None;
        while at < to {
            self.file.read_ahead(at, READ_AHEAD.min(to - at));
            let room = to - at;
            let mut pos = 0;
            let mut stopped = false;
            let mut needed = None;
            let mut bad = false;
            self.file
                .view(at, window.min(room) as usize, &mut |bytes| {
                    while pos < bytes.len() {
                        let record = match record::parse(&bytes[pos..]) {
                            Parsed::Record(record) if previous < Some(record.revision) => record,
                            Parsed::Partial(size) => {
                                needed = Some(size as u64);
                                return;
                            }
                            Parsed::Record(_) | Parsed::Bad => {
                                bad = true;
                                return;
                            }
                        };
                        previous = Some(record.revision);
                        let offset = (at + pos as u64) as u32;
                        let location = Location { segment: self.id, offset, len: record.payload.len() as u32 };
                        pos += RECORD_HEADER + record.payload.len();
                        if f(location, record).is_break() {
                            stopped = true;
                            return;
                        }
                    }
                })
                .map_err(LogError::io(&self.name, "read"))?;
            at += pos as u64;
            if bad || needed.is_some_and(|needed| needed > to - at) {
                return Err(self.damaged(at));
            }
            if stopped {
                break;
            }
            window = WALK_WINDOW.max(needed.unwrap_or(0));
        }
        Ok(at)
    }

    /// Where to start walking so as to meet every record with revision `from` or later.
    pub(crate) fn seek(&self, from: Revision) -> Result<u64, LogError> {
        self.index()?;
        let tail = self.tail();
        let after = tail.sparse.partition_point(|entry| entry.revision <= from);
        Ok(after.checked_sub(1).map_or(SEGMENT_HEADER, |at| u64::from(tail.sparse[at].offset)))
    }

    /// The start of a record at or a little before `offset`.
    pub(crate) fn seek_offset(&self, offset: u64) -> Result<u64, LogError> {
        self.index()?;
        let tail = self.tail();
        let after = tail.sparse.partition_point(|entry| u64::from(entry.offset) <= offset);
        Ok(after.checked_sub(1).map_or(SEGMENT_HEADER, |at| u64::from(tail.sparse[at].offset)))
    }

    /// Builds the sparse entries an open left out. Reads record headers only; two threads may both do it.
    fn index(&self) -> Result<(), LogError> {
        let known_from = self.tail().known_from;
        if known_from <= SEGMENT_HEADER {
            return Ok(());
        }
        let Some(mut sparse) = self.walk_headers(known_from)? else {
            // Some header lies. The checksums say which record it is.
            let at = self.walk(SEGMENT_HEADER, known_from, |_, _| ControlFlow::Continue(()))?;
            return Err(self.damaged(at));
        };
        let mut tail = self.tail();
        if tail.known_from > SEGMENT_HEADER {
            sparse.append(&mut tail.sparse);
            tail.sparse = sparse;
            tail.known_from = SEGMENT_HEADER;
        }
        Ok(())
    }

    /// Sparse entries of the records below `to`; `None` if the headers do not lead there in order.
    fn walk_headers(&self, to: u64) -> Result<Option<Vec<SparseEntry>>, LogError> {
        let mut sparse: Vec<SparseEntry> = Vec::new();
        let mut at = SEGMENT_HEADER;
        let mut previous = None;
        while at < to {
            let start = at;
            let mut bad = false;
            let window = WALK_WINDOW.min(to - start) as usize;
            self.file.read_ahead(start, READ_AHEAD.min(to - start));
            self.file
                .view(start, window, &mut |bytes| {
                    while at < to {
                        let pos = (at - start) as usize;
                        let Some(header) = bytes.get(pos..pos + RECORD_HEADER) else {
                            bad = to - at < RECORD_HEADER as u64;
                            return;
                        };
                        let (len, revision) = record::peek(header);
                        let next = at + (RECORD_HEADER + len) as u64;
                        if next > to || previous >= Some(revision) {
                            bad = true;
                            return;
                        }
                        if sparse.last().is_none_or(|e| at >= u64::from(e.offset) + SPARSE_INTERVAL) {
                            sparse.push(SparseEntry { revision, offset: at as u32 });
                        }
                        previous = Some(revision);
                        at = next;
                    }
                })
                .map_err(LogError::io(&self.name, "read"))?;
            if bad {
                return Ok(None);
            }
        }
        Ok(Some(sparse))
    }

    pub(crate) fn damaged(&self, offset: u64) -> LogError {
        LogError::Damaged { file: self.name.clone(), offset }
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
