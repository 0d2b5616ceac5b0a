//! Getting space back: copying the live records of neighbouring sealed segments into new ones.
//!
//! Planned on the writer's thread, run on a background thread, installed on the writer's thread:
//!
//! ```text
//! plan_rewrite -> RewritePlan::run (copies, syncs files and names) -> install_rewrite -> the index moves over, in
//! slices -> finish_relocation -> a checkpoint without the old segments becomes durable -> remove_retired
//! ```
//!
//! A power failure at any point leaves a state some checkpoint describes: until the last step every file an older
//! manifest names is still there, and files no manifest names yet are removed by the next open.
//!
//! # When and what
//!
//! The aim is that the log takes less than twice its live bytes plus a constant, with room left for the write-ahead
//! log and checkpoints. Sealed files may take up to 3/2 of their live bytes plus one segment; beyond that a rewrite
//! is due. With records dying at random, copying at that level costs about one byte written again for each byte of
//! new data. Files that are all garbage go at once, they cost nothing.
//!
//! Among the runs of neighbours the one with the best gain for its cost wins: gain = garbage bytes, plus a part of a
//! segment for each file that disappears (so that small leftovers are merged and the number of files stays in
//! proportion); cost = live bytes to copy, plus the same part once.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{
    Location, LogError, LogManifest, Moved, Relocation, RevLog,
    pending::SparseCursor,
    record,
    relocation::Moves,
    segment::{self, Growth, SEGMENT_HEADER, Segment, SparseEntry},
    table::Table,
};
use crate::{
    revision::Revision,
    vfs::{File, Vfs},
};

/// Segments one plan takes at most.
pub const REWRITE_MAX_SEGMENTS: usize = 4;
/// Bytes one plan reads at most, unless a single segment is larger.
pub const REWRITE_MAX_INPUT_BYTES: u64 = 256 << 20;

/// Sealed files may take this share (numerator, denominator) of their live bytes, plus one segment.
const ALLOWED_SHARE: (u64, u64) = (3, 2);
/// What a file less is worth: a fourth of a segment.
const FILE_WORTH_DIVISOR: u64 = 4;
/// Files there may be at most: this many times what their bytes would fill, plus [`SPARE_FILES`].
const ALLOWED_FILES: u64 = 2;
const SPARE_FILES: u64 = 8;
/// No new plan while retired files, waiting for a checkpoint, take more than this many segments.
const MAX_RETIRED_SEGMENTS: u64 = 4;
/// Bytes collected before they are written out; with one record more, all the memory a running rewrite buffers.
const COPY_BYTES: usize = 1 << 20;

/// A segment that was replaced and whose file is still there.
pub(crate) struct RetiredSegment {
    segment: Arc<Segment>,
    /// Manifests of this generation and later do not name it.
    generation: u64,
    /// The index may still point into it.
    relocating: bool,
}

/// Says whether the record with this revision, tombstone mark, payload and location is still needed.
pub type IsLive<'a> = dyn FnMut(Revision, bool, &[u8], Location) -> bool + 'a;

/// A rewrite that was decided on. Dropping it gives it up.
pub struct RewritePlan {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    segment_bytes: u64,
    next_id: Arc<AtomicU32>,
    segments: Vec<Arc<Segment>>,
    token: Arc<()>,
}

/// A rewrite whose new files are complete and durable. Dropping it without installing removes them.
pub struct RewriteDone {
    files: OutputFiles,
    old: Vec<Arc<Segment>>,
    new: Vec<Arc<Segment>>,
    moves: Moves,
    _token: Arc<()>,
}

impl RevLog {
    /// Picks a run of neighbouring sealed segments that is worth rewriting, `None` if nothing is, if a rewrite is
    /// under way (from plan to [`RevLog::finish_relocation`]), or if too many retired files wait for a checkpoint.
    /// `max_bytes` bounds what the run reads, as far as a single segment allows.
    pub fn plan_rewrite(&mut self, max_bytes: u64) -> Option<RewritePlan> {
        let busy = self.planned.strong_count() > 0 || self.relocating;
        if busy || self.retired_bytes() > MAX_RETIRED_SEGMENTS * self.options.segment_bytes {
            return None;
        }
        let sealed = self.table.segments.split_last().map_or(&[][..], |(_, sealed)| sealed);
        let sizes: Vec<Size> = sealed.iter().map(|s| Size { file: s.length, live: s.live() }).collect();
        let chosen = choose(&sizes, self.options.segment_bytes, max_bytes.min(REWRITE_MAX_INPUT_BYTES))?;
        let segments = sealed[chosen].to_vec();
        let token = Arc::new(());
        self.planned = Arc::downgrade(&token);
        Some(RewritePlan {
            vfs: self.vfs.clone(),
            dir: self.dir.clone(),
            segment_bytes: self.options.segment_bytes,
            next_id: self.next_id.clone(),
            segments,
            token,
        })
    }

    /// Puts the new segments in the place of the old ones: for readers and manifests made from now on. The caller
    /// moves its index over (see [`Relocation`]).
    pub fn install_rewrite(&mut self, mut done: RewriteDone) -> Relocation {
        assert!(!self.relocating, "a rewrite is installed while another is being moved to");
        let mut segments = self.table.segments.clone();
        let start = segments.iter().position(|s| s.id == done.old[0].id).expect("rewritten segment is in the log");
        let range = start..start + done.old.len();
        let in_place = segments[range.clone()].iter().zip(&done.old).all(|(a, b)| Arc::ptr_eq(a, b));
        assert!(in_place && range.end < segments.len(), "rewritten segments are neighbours and sealed");
        segments.splice(range, done.new.drain(..));
        self.generation += 1;
        for segment in done.old.drain(..) {
            self.retired.push(RetiredSegment { segment, generation: self.generation, relocating: true });
        }
        self.relocating = true;
        done.files.keep();
        self.publish(segments);
        Relocation::new(std::mem::take(&mut done.moves))
    }

    /// The index holds no old location of the installed rewrite any more.
    pub fn finish_relocation(&mut self) {
        self.relocating = false;
        for retired in &mut self.retired {
            retired.relocating = false;
        }
    }

    /// Ids of the replaced segments whose files are still there.
    pub fn retired(&self) -> Vec<u32> {
        self.retired.iter().map(|retired| retired.segment.id).collect()
    }

    /// Bytes of these files. A checkpoint lets them go.
    pub fn retired_bytes(&self) -> u64 {
        self.retired.iter().map(|retired| retired.segment.length).sum()
    }

    /// Bytes of those that wait for nothing but a checkpoint.
    pub fn reclaimable_bytes(&self) -> u64 {
        self.retired.iter().filter(|retired| !retired.relocating).map(|retired| retired.segment.length).sum()
    }

    /// Unlinks the retired files that `durable`, and so every later manifest, does not name. `durable` is the manifest
    /// of the OLDEST checkpoint that recovery may still fall back to. Readers made earlier keep what they have open.
    /// Returns the names removed.
    pub fn remove_retired(&mut self, durable: &LogManifest) -> Result<Vec<String>, LogError> {
        let mut removed = Vec::new();
        let mut result = Ok(());
        let mut kept = Vec::new();
        for retired in std::mem::take(&mut self.retired) {
            if retired.relocating || retired.generation > durable.generation || result.is_err() {
                kept.push(retired);
                continue;
            }
            let name = &retired.segment.name;
            assert!(!durable.names(retired.segment.id), "{name} was retired but a later manifest names it");
            match self.vfs.remove(&self.dir.join(name)) {
                Ok(()) => {
                    removed.push(name.clone());
                    self.unlinked.push(Arc::downgrade(&retired.segment));
                }
                Err(error) => {
                    result = Err(LogError::io(name, "remove")(error));
                    kept.push(retired);
                }
            }
        }
        self.retired = kept;
        if !removed.is_empty() {
            self.publish(self.table.segments.clone());
        }
        self.unlinked.retain(|segment| segment.strong_count() > 0);
        result.map(|()| removed)
    }

    /// Bytes of unlinked files that readers keep on the disk.
    pub fn pinned_bytes(&self) -> u64 {
        self.unlinked.iter().filter_map(|segment| segment.upgrade()).map(|segment| segment.length).sum()
    }

    fn publish(&mut self, segments: Vec<Arc<Segment>>) {
        let retired = self.retired.iter().map(|retired| retired.segment.clone()).collect();
        self.table = Arc::new(Table::new(segments, retired));
    }
}

#[derive(Copy, Clone, Debug)]
struct Size {
    file: u64,
    live: u64,
}

impl Size {
    fn garbage(&self) -> u64 {
        self.file.saturating_sub(self.live + SEGMENT_HEADER)
    }
}

/// The run of neighbours to rewrite, see the module comment.
fn choose(sealed: &[Size], segment_bytes: u64, max_input: u64) -> Option<std::ops::Range<usize>> {
    let file: u64 = sealed.iter().map(|s| s.file).sum();
    let live: u64 = sealed.iter().map(|s| s.live).sum();
    let too_large = file > live / ALLOWED_SHARE.1 * ALLOWED_SHARE.0 + segment_bytes;
    let too_many = sealed.len() as u64 > ALLOWED_FILES * file.div_ceil(segment_bytes) + SPARE_FILES;
    let only_dead = !too_large && !too_many;
    let worth = segment_bytes / FILE_WORTH_DIVISOR;
    let mut best: Option<(u128, u128, std::ops::Range<usize>)> = None;
    for start in 0..sealed.len() {
        let mut input = 0;
        let mut live = 0;
        let mut garbage = 0;
        for end in start + 1..=sealed.len().min(start + REWRITE_MAX_SEGMENTS) {
            let size = sealed[end - 1];
            input += size.file;
            live += size.live;
            garbage += size.garbage();
            let files = (end - start) as u64;
            // A run also writes no more than one segment: the list of moves it leaves in memory is bounded by that.
            let too_much = files > 1 && (input > max_input || live > segment_bytes);
            if too_much || only_dead && live > 0 {
                break;
            }
            let files_left = live.div_ceil(segment_bytes - SEGMENT_HEADER);
            let gain = u128::from(garbage + files.saturating_sub(files_left) * worth);
            let cost = u128::from(live + worth);
            if gain > 0 && best.as_ref().is_none_or(|(g, c, _)| gain * c > g * cost) {
                best = Some((gain, cost, start..end));
            }
        }
    }
    best.map(|(_, _, range)| range)
}

impl RewritePlan {
    /// Ids of the segments that will be replaced.
    pub fn segments(&self) -> Vec<u32> {
        self.segments.iter().map(|segment| segment.id).collect()
    }

    /// Copies the records `is_live` says yes to into new segments and makes them durable. Every record is read,
    /// checked and asked about, once, in revision order: the counts that led to the plan are a hint, the callback
    /// decides. Blocks on the disk. On an error the new files are removed and the log is as it was.
    pub fn run(self, is_live: &mut IsLive<'_>) -> Result<RewriteDone, LogError> {
        let mut output = Output::new(&self);
        for old in &self.segments {
            let end = old.end();
            let mut at = SEGMENT_HEADER;
            while at < end {
                at = old.walk(at, end, |location, record| {
                    if is_live(record.revision, record.tombstone, record.payload, location) {
                        output.push(location, record);
                    }
                    if output.wants_write() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })?;
                output.write()?;
            }
        }
        output.close()?;
        if !output.new.is_empty() {
            let dir = self.dir.display().to_string();
            self.vfs.sync_dir(&self.dir).map_err(LogError::io(&dir, "sync directory"))?;
        }
        let Output { files, new, moves, .. } = output;
        Ok(RewriteDone { files, old: self.segments, new, moves, _token: self.token })
    }
}

impl RewriteDone {
    /// Records copied.
    pub fn moved(&self) -> usize {
        self.moves.len()
    }

    /// Bytes of the old files and of the new ones.
    pub fn bytes(&self) -> (u64, u64) {
        let sum = |segments: &[Arc<Segment>]| segments.iter().map(|segment| segment.length).sum();
        (sum(&self.old), sum(&self.new))
    }
}

/// Files a rewrite made; removed on drop unless they became part of the log.
struct OutputFiles {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    names: Vec<String>,
}

impl OutputFiles {
    fn keep(&mut self) {
        self.names.clear();
    }
}

impl Drop for OutputFiles {
    fn drop(&mut self) {
        for name in &self.names {
            // Only tidiness: no manifest names the file, the next open removes it if this does not.
            let _ = self.vfs.remove(&self.dir.join(name));
        }
    }
}

/// Writes records to as many new segments as they need.
struct Output {
    files: OutputFiles,
    segment_bytes: u64,
    next_id: Arc<AtomicU32>,
    buffer: Vec<u8>,
    /// Where in the buffer the bytes of `current` end and those of `next` start.
    split: usize,
    current: Option<OutputSegment>,
    next: Option<OutputSegment>,
    new: Vec<Arc<Segment>>,
    moves: Moves,
}

struct OutputSegment {
    id: u32,
    file: Option<Arc<dyn File>>,
    /// Bytes in the file; bytes with the buffered records.
    written: u64,
    end: u64,
    first: Revision,
    last: Revision,
    sparse: Vec<SparseEntry>,
    cursor: SparseCursor,
}

impl Output {
    fn new(plan: &RewritePlan) -> Output {
        Output {
            files: OutputFiles { vfs: plan.vfs.clone(), dir: plan.dir.clone(), names: Vec::new() },
            segment_bytes: plan.segment_bytes,
            next_id: plan.next_id.clone(),
            buffer: Vec::new(),
            split: 0,
            current: None,
            next: None,
            new: Vec::new(),
            moves: Moves::default(),
        }
    }

    fn wants_write(&self) -> bool {
        self.next.is_some() || self.buffer.len() >= COPY_BYTES
    }

    fn push(&mut self, old: Location, record: record::Record<'_>) {
        assert!(self.next.is_none(), "a full segment is written before the next record");
        let size = old.record_bytes();
        if self.current.as_ref().is_none_or(|current| current.end + size > self.segment_bytes) {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed);
            let opened = OutputSegment {
                id,
                file: None,
                written: 0,
                end: SEGMENT_HEADER,
                first: record.revision,
                last: record.revision,
                sparse: Vec::new(),
                cursor: SparseCursor::default(),
            };
            if self.current.is_some() {
                self.split = self.buffer.len();
                self.next = Some(opened);
            } else {
                self.current = Some(opened);
            }
        }
        let target = self.next.as_mut().or(self.current.as_mut()).expect("opened above");
        let new = Location { segment: target.id, offset: target.end as u32, len: old.len };
        record::encode(&mut self.buffer, record.revision, record.tombstone, &[record.payload]);
        target.cursor.visit(record.revision, target.end, &mut target.sparse);
        target.end += size;
        target.last = record.revision;
        self.moves.push(Moved { revision: record.revision, old, new });
    }

    /// Writes the buffer out and closes the segment that is full, if one is.
    fn write(&mut self) -> Result<(), LogError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let bytes = if self.next.is_some() { &self.buffer[..self.split] } else { &self.buffer[..] };
        current.write(&mut self.files, bytes)?;
        if let Some(next) = self.next.take() {
            self.close()?;
            let mut next = next;
            next.write(&mut self.files, &self.buffer[self.split..])?;
            self.current = Some(next);
        }
        self.buffer.clear();
        self.buffer.shrink_to(COPY_BYTES * 2);
        Ok(())
    }

    /// Syncs the current segment and hands it over.
    fn close(&mut self) -> Result<(), LogError> {
        let Some(current) = self.current.take() else { return Ok(()) };
        assert_eq!(current.written, current.end, "closed with records unwritten");
        let name = segment::file_name(current.id);
        let file = current.file.expect("a segment that was written has a file");
        file.sync_data().map_err(LogError::io(&name, "sync"))?;
        let live = current.end - SEGMENT_HEADER;
        let growth = Growth { end: current.end, last: current.last, live, sparse: current.sparse };
        let segment = Segment::new(current.id, file, current.end, current.first, growth);
        segment.set_synced(current.end);
        self.new.push(Arc::new(segment));
        Ok(())
    }
}

impl OutputSegment {
    fn write(&mut self, files: &mut OutputFiles, bytes: &[u8]) -> Result<(), LogError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let name = segment::file_name(self.id);
        match &self.file {
            Some(file) => {
                file.write_at(&[bytes], self.written).map(|()| file.write_out(self.written, bytes.len() as u64))
            }
            None => {
                let file = files.vfs.create(&files.dir.join(&name)).map_err(LogError::io(&name, "create"))?;
                files.names.push(name.clone());
                self.written = SEGMENT_HEADER;
                self.file.insert(file).write_at(&[&segment::header(self.id), bytes], 0)
            }
        }
        .map_err(LogError::io(&name, "write"))?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}
