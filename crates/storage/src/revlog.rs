//! The revision log: every put and delete of the store as a checksummed record, in revision order, in append-only
//! segment files.
//!
//! One writer ([`RevLog`]) appends and flushes; any number of readers ([`LogReader`]) look at what was flushed. A
//! record is found by its [`Location`], which the key index keeps; revision order is for history scans.
//!
//! # Durability
//!
//! The log is not synced before an acknowledgement: the write-ahead log is. `flush` moves records to the page cache,
//! where readers find them. A checkpoint takes [`RevLog::manifest`] and [`RevLog::sync_job`] at one moment, runs the
//! job, then publishes the manifest. Recovery opens the log with the newest published manifest: the last segment is
//! cut at the recorded end, files the manifest does not name are removed, and the write-ahead log is replayed from
//! there. So a file may be removed only when no checkpoint that could still be opened names it, and an id must not be
//! taken by another file while one does: ids only count up, and [`RevLog::remove_retired`] asks for the durable
//! manifest.
//!
//! # Garbage
//!
//! The owner of the index says which records it no longer needs ([`RevLog::release`]). Segments that are mostly
//! garbage are copied together with their neighbours (see `rewrite`): neighbours, because records must stay in
//! revision order. Nothing is ever changed in place.

mod error;
mod manifest;
mod open;
mod pending;
mod reader;
mod record;
mod relocation;
mod rewrite;
mod segment;
mod sync;
mod table;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

pub use self::{
    error::LogError,
    manifest::{LogManifest, SegmentInfo},
    reader::LogReader,
    record::{Location, RECORD_HEADER, Record},
    relocation::{Moved, Relocation},
    rewrite::{IsLive, REWRITE_MAX_INPUT_BYTES, REWRITE_MAX_SEGMENTS, RewriteDone, RewritePlan},
    sync::SyncJob,
};
use self::{
    pending::{Pending, SparseCursor},
    record::Parsed,
    rewrite::RetiredSegment,
    segment::{Growth, SEGMENT_HEADER, Segment},
    sync::SyncState,
    table::Table,
};
use crate::{
    revision::Revision,
    vfs::{File, Vfs},
};

/// Default length of a segment file. Bytes.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// An append tries to flush by itself once this much is pending. Bytes.
pub const MAX_PENDING_BYTES: usize = 8 << 20;

/// Name of the file of segment `id`.
pub fn segment_name(id: u32) -> String {
    segment::file_name(id)
}

/// How a log is laid out. May differ from one open to the next.
#[derive(Copy, Clone, Debug)]
pub struct RevLogOptions {
    /// Length of a new segment file. A longer record gets a segment of its own. Bytes.
    pub segment_bytes: u64,
}

impl Default for RevLogOptions {
    fn default() -> Self {
        RevLogOptions { segment_bytes: SEGMENT_BYTES }
    }
}

/// The one writer of a revision log.
pub struct RevLog {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    options: RevLogOptions,
    table: Arc<Table>,
    sync: Arc<SyncState>,
    pending: Pending,
    sparse: SparseCursor,
    /// The segment records go to, once there is one.
    active: Option<Active>,
    /// Shared with a running rewrite, which needs ids for its files.
    next_id: Arc<AtomicU32>,
    /// Last record appended, last record flushed.
    appended: Revision,
    flushed: Revision,
    /// Rewrites installed so far, over all lives of the log.
    generation: u64,
    /// Replaced segments whose files are still there.
    retired: Vec<RetiredSegment>,
    /// Unlinked segments that readers may still hold.
    unlinked: Vec<Weak<Segment>>,
    /// Alive while a rewrite was planned and neither installed nor given up.
    planned: Weak<()>,
    /// The rewrite whose records the caller is moving its index to.
    relocating: bool,
    removed_at_open: Vec<String>,
}

struct Active {
    id: u32,
    /// Where the next record goes, pending ones counted.
    position: u64,
    /// Records end at or before this.
    limit: u64,
}

impl RevLog {
    /// Starts an empty log in `dir`, which is created where it is missing. [`LogError::NotEmpty`] if segments are
    /// there: an existing log is opened with its manifest, one that never saw a checkpoint with an empty manifest.
    pub fn create(vfs: Arc<dyn Vfs>, dir: &Path, options: RevLogOptions) -> Result<RevLog, LogError> {
        open::create(vfs, dir, options)
    }

    /// Opens the log as `manifest` describes it: what was written later is cut off and removed. Reads the headers of
    /// the files, not their records (see [`LogReader::verify`]).
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        options: RevLogOptions,
        manifest: &LogManifest,
    ) -> Result<RevLog, LogError> {
        open::open(vfs, dir, options, manifest)
    }

    /// Names of the files `open` removed because the manifest does not name them.
    pub fn removed_at_open(&self) -> &[String] {
        &self.removed_at_open
    }

    /// Appends a record to the pending ones; revisions strictly increase. Never fails: a full disk shows at the next
    /// [`RevLog::flush`]. Where more than [`MAX_PENDING_BYTES`] are pending a flush is tried at once.
    pub fn append(&mut self, revision: Revision, tombstone: bool, payload: &[&[u8]]) -> Location {
        assert!(revision > self.appended, "append of {revision:?} after {:?}", self.appended);
        let len: usize = payload.iter().map(|part| part.len()).sum();
        let size = (RECORD_HEADER + len) as u64;
        if self.pending.buffer.len() >= MAX_PENDING_BYTES {
            // The records stay pending if this fails; the flush the caller has to do reports why.
            let _ = self.flush();
        }
        let active = match &mut self.active {
            Some(active) if active.position + size <= active.limit => active,
            active => active.insert({
                let id = self.next_id.fetch_add(1, Ordering::Relaxed);
                let length = self.options.segment_bytes.max(SEGMENT_HEADER + size);
                self.pending.begin(id, SEGMENT_HEADER, Some(length), revision);
                self.sparse.restart();
                Active { id, position: SEGMENT_HEADER, limit: length }
            }),
        };
        if self.pending.is_empty() {
            self.pending.begin(active.id, active.position, None, revision);
        }
        let offset = active.position;
        record::encode(&mut self.pending.buffer, revision, tombstone, payload);
        active.position += size;
        let chunk = self.pending.chunks.last_mut().expect("a chunk was begun above");
        assert_eq!(chunk.segment, active.id, "pending chunk of another segment");
        chunk.last = revision;
        chunk.live += size;
        self.sparse.visit(revision, offset, &mut chunk.sparse);
        self.appended = revision;
        Location { segment: active.id, offset: offset as u32, len: len as u32 }
    }

    /// Bytes appended and not yet flushed.
    pub fn pending_bytes(&self) -> usize {
        self.pending.buffer.len()
    }

    /// Moves the pending records to the page cache, one gathered write for each segment touched; readers made from
    /// now on see them. After a failure (say [`LogError::is_no_space`]) what was not written stays pending and the
    /// flush may be repeated.
    pub fn flush(&mut self) -> Result<(), LogError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.sync.check()?;
        let mut flushed = 0;
        let mut result = Ok(());
        while flushed < self.pending.chunks.len() {
            result = self.flush_chunk(flushed);
            if result.is_err() {
                break;
            }
            flushed += 1;
        }
        self.pending.drop_first(flushed);
        result
    }

    fn flush_chunk(&mut self, at: usize) -> Result<(), LogError> {
        let id = self.pending.chunks[at].segment;
        let name = segment::file_name(id);
        if let (Some(length), None) = (self.pending.chunks[at].create, &self.pending.chunks[at].file) {
            let path = self.dir.join(&name);
            let file = self.vfs.create(&path).map_err(LogError::io(&name, "create"))?;
            // The whole length is reserved now: a full disk shows here, before any record depends on the file.
            if let Err(error) = file.allocate(length) {
                // Only tidiness: a leftover is removed by the next open, and a repeated create would name it.
                let _ = self.vfs.remove(&path);
                return Err(LogError::io(&name, "allocate")(error));
            }
            self.sync.file_created();
            self.pending.chunks[at].file = Some(file);
        }
        let bytes = self.pending.chunk_bytes(at);
        let end = self.pending.chunks[at].offset + bytes.len() as u64;
        let existing = self.table.get(id).cloned();
        match (&existing, &self.pending.chunks[at].file) {
            (Some(segment), _) => segment.file.write_at(&[bytes], self.pending.chunks[at].offset),
            (None, Some(file)) => file.write_at(&[&segment::header(id), bytes], 0),
            (None, None) => unreachable!("chunk of a segment that neither exists nor is created"),
        }
        .map_err(LogError::io(&name, "write"))?;

        let chunk = &mut self.pending.chunks[at];
        let growth = Growth { end, last: chunk.last, live: chunk.live, sparse: std::mem::take(&mut chunk.sparse) };
        match (existing, chunk.file.take()) {
            (Some(segment), _) => segment.grow(growth),
            (None, file) => {
                let (file, length) = file.zip(chunk.create).expect("a new segment has a file and a length");
                let segment = Segment::new(id, file, length, chunk.first, growth);
                self.table = Arc::new(self.table.with(Arc::new(segment)));
            }
        }
        self.flushed = self.pending.chunks[at].last;
        Ok(())
    }

    /// Like [`LogReader::read`], but finds pending records too: a transaction reads its own writes.
    #[inline]
    pub fn read<R>(&self, location: Location, f: impl FnOnce(Record<'_>) -> R) -> Result<R, LogError> {
        if !self.pending.is_empty()
            && let Some(bytes) = self.pending.get(location)
        {
            return match record::parse(bytes) {
                Parsed::Record(record) => Ok(f(record)),
                _ => Err(self.damaged(location)),
            };
        }
        match self.table.get(location.segment) {
            Some(segment) => segment.read(location, f),
            None => Err(LogError::UnknownSegment { segment: location.segment }),
        }
    }

    /// The record at `location` is no longer needed. Its segment shrinks on paper; the bytes stay readable until a
    /// rewrite drops them. No effect on what counts where a rewrite replaced the segment: there the record
    /// counts at its new location (see [`Relocation`]).
    pub fn release(&mut self, location: Location) {
        let bytes = location.record_bytes();
        if !self.pending.is_empty()
            && let Some(chunk) = self.pending.chunk_of(location)
        {
            chunk.live = chunk.live.checked_sub(bytes).expect("released more than is pending");
        } else if let Some(segment) = self.table.get(location.segment) {
            segment.release(bytes);
        }
    }

    /// Counts the live bytes afresh from all locations an index holds. For a restore: the manifest's numbers may
    /// count records that died while a rewrite was being installed.
    pub fn recount_live(&mut self, locations: impl IntoIterator<Item = Location>) {
        for segment in &self.table.segments {
            segment.set_live(0);
        }
        for location in locations {
            if let Some(segment) = self.table.get(location.segment) {
                segment.add_live(location.record_bytes());
            }
        }
    }

    /// The flushed log as of now. One reference count.
    pub fn reader(&self) -> LogReader {
        LogReader { table: self.table.clone(), last: self.flushed }
    }

    /// The flushed log, to be recorded in a checkpoint once a [`RevLog::sync_job`] made at the same moment has run.
    /// While a relocation is under way an index may still hold old locations, which the manifest does not name: a
    /// checkpoint then writes [`Relocation::translate`]d ones, or waits.
    pub fn manifest(&self) -> LogManifest {
        LogManifest {
            segments: self.table.segments.iter().map(|segment| segment.info()).collect(),
            next_id: self.next_id.load(Ordering::Relaxed),
            generation: self.generation,
        }
    }

    /// The open files of the segments as [`RevLog::manifest`] names them now, by id. They can be read as long as they are
    /// held, also after they were unlinked.
    pub fn files(&self) -> Vec<(u32, Arc<dyn File>)> {
        self.table.segments.iter().map(|segment| (segment.id, segment.file.clone())).collect()
    }

    /// A job that makes everything flushed until now durable. Cheap to make; it keeps the files open.
    pub fn sync_job(&self) -> SyncJob {
        SyncJob::new(self.vfs.clone(), self.dir.clone(), self.sync.clone(), &self.table.segments)
    }

    /// Bytes the log takes on the disk: whole segment files, retired ones included, files that only readers still
    /// hold not.
    pub fn disk_bytes(&self) -> u64 {
        self.table.segments.iter().map(|segment| segment.length).sum::<u64>() + self.retired_bytes()
    }

    /// Bytes of records not released, pending ones included.
    pub fn live_bytes(&self) -> u64 {
        self.table.segments.iter().map(|segment| segment.live()).sum::<u64>()
            + self.pending.chunks.iter().map(|chunk| chunk.live).sum::<u64>()
    }

    fn damaged(&self, location: Location) -> LogError {
        LogError::Damaged { file: segment::file_name(location.segment), offset: u64::from(location.offset) }
    }
}
