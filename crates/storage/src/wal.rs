//! The write-ahead log: the only thing that is synced before a write is acknowledged.
//!
//! # The naive version, and why not
//!
//! Append records with a checksum to a growing file, `fsync`, and on start read up to the first bad checksum. It
//! fails in five ways, each of which has lost acknowledged writes somewhere:
//!
//! 1. *A bad checksum is not always a torn tail.* If it lies below bytes that were synced, acknowledged entries are
//!    behind it, and cutting there loses them without a word. So every batch says up to where the log was known
//!    synced before it was written (its *claim*). On start all claims count, also those of batches behind the
//!    damage: damage below the highest claim refuses to start, damage above it is a torn tail and is cut. The very
//!    last batch has no claim above it; bit rot there looks like a torn write. A cluster repairs that from its peers.
//! 2. *Old bytes come back.* Segments are recycled, and tails are cut and overwritten, so valid-looking batches of
//!    a former life may lie right behind the end. A batch therefore carries the segment's sequence number (that
//!    no other file has), its own offset, the *epoch* (raised by each open, in a batch that is synced before any other),
//!    and the checksum of the batch before it. One that does not fit all four is not part of this log. The salt of
//!    the directory is mixed into every checksum, so that a value written by a client cannot pose as a batch.
//! 3. *After a failed sync the kernel may call the dirty pages clean.* Retrying then reports success for lost data.
//!    So nothing is retried: the log fails for ever ([`WalError::Failed`]). Even after a restart of the process the
//!    page cache may show what the disk never got; open writes the bytes above the highest claim anew, then syncs.
//! 4. *Growing a file makes each sync write metadata too.* Segments are filled with zeros before use (by a
//!    [`PrepareJob`] in the background) or recycled; overwriting halves the latency of a sync.
//! 5. *A full disk in the middle of a batch.* A batch never spans segments. The next segment exists, synced and
//!    named, before the first batch goes there; if it cannot be made, [`WalError::NoSpace`], and the log goes on.
//!
//! # Invariants
//!
//! - A file that bears a segment's name has a good header: it is named after its header was synced.
//! - When a segment has a batch, all batches of its predecessor are synced, and its first batch claims just that:
//!   the predecessor's sequence number and end. Segments are linked by it; numbers may be skipped.
//! - The first batch of a segment carries the last hard state and the log's last index, so that every older segment
//!   can go ([`Wal::release`]) once a checkpoint covers its entries and that first batch is synced. If an older
//!   segment is gone although it held entries above the checkpoint, open notices and refuses.
//! - A later entry overrides all earlier entries at its index and above.
//! - A member that takes over another one's state has a log that begins anew: what it holds of the old one, also above
//!   the new beginning, is not the group's. The batch that says so makes all before it void for ever, so that no later
//!   checkpoint can make it seem to belong to what follows.
//! - A claim is never taken back: what was claimed synced in one epoch is part of the log in all later ones.
//!
//! # Files, byte by byte (all numbers little endian)
//!
//! `<sequence, 16 hex digits>.wal` is a segment, `spare-<number>.wal` a released one waiting for reuse, `*.tmp` one
//! being made. A segment is a header, then batches without gaps, each at a multiple of 8 bytes.
//!
//! Segment header: 0 magic `cetera-w` | 8 format u32 = 1 | 12 CRC-32C u32 of all header bytes from 16 | 16 sequence
//! u64 | 24 salt u64 | 32 header length u32, a multiple of 4096 | 36 metadata length u32 | 40 metadata, then zeros.
//!
//! Batch header: 0 magic `cwb1` | 4 CRC-32C u32 of the salt and all of the batch from 8, padding included | 8 sequence u64 |
//! 16 offset of this batch in its segment u32 | 20 payload length u32 | 24 epoch u32 | 28 CRC of the batch before
//! u32 | 32 claim: sequence u64 | 40 claim: offset u32 | 44 number of entries u32 | 48 last index of the log before
//! this batch u64 | 56 hard state length + 1 u32, 0 = none | 60 flags u32: 1 = opens an epoch, 2 = first of its
//! segment, 4 = the log begins anew. Payload: with flag 4 the index behind which it does, u64; the hard state, then per entry index u64 | term u64 | length u32 | data. Zeros up to a multiple
//! of 8 follow.

mod format;
mod prepare;
mod reader;
mod recover;
mod segment;

use std::{
    collections::VecDeque,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use self::{
    format::{BATCH_HEADER_BYTES, BatchHeader, Encoded, FLAG_FIRST, FLAG_OPEN, Position, SegmentHeader, header_bytes},
    reader::Map,
    recover::{Found, Keep, Recovery},
    segment::{Fill, Segment, Spare},
};
pub use self::{
    prepare::{PrepareJob, Prepared},
    reader::WalReader,
};
use crate::vfs::Vfs;

/// Released segments kept for reuse.
pub const MAX_SPARES: usize = 2;

/// The largest segment, and with it the largest batch: offsets are 32 bits wide.
pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// Room at the end of each segment that only the batch of an open may take, so that a member whose disk is full
/// can still start: 64 opens.
const OPEN_RESERVE_BYTES: u64 = 4096;

/// One entry of the consensus log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WalEntry {
    /// Raft index.
    pub index: u64,
    /// Raft term.
    pub term: u64,
    /// The entry as it will be read back; opaque here.
    pub data: Bytes,
}

/// What is appended in one write.
#[derive(Clone, Debug, Default)]
pub struct WalBatch {
    /// Entries with consecutive indexes. The first may be at or below the log's last index: it overrides.
    pub entries: Vec<WalEntry>,
    /// The hard state from here on; opaque.
    pub state: Option<Bytes>,
    /// The log begins anew behind this index: everything before this batch is void. A checkpoint at that index or above
    /// is durable already.
    pub restart: Option<u64>,
}

/// How a log is laid out.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Length of a segment file, at most [`MAX_SEGMENT_BYTES`]. A larger batch gets a larger segment.
    pub segment_bytes: u64,
    /// The retained log never grows past this; an append that would is refused with [`WalError::NoSpace`]. Take
    /// checkpoints and release long before.
    pub max_bytes: u64,
    /// Mixed into every checksum of a new log ([`Wal::create`]); pick it at random. An existing log keeps its own.
    pub salt: u64,
    /// Entries at or below the checkpoint that [`Wal::open`] hands out at most, newest ones; 0 = none. What is not
    /// released yet is there to be had.
    pub keep_entries: usize,
    /// Bytes of those entries at most, but for the newest one.
    pub keep_bytes: usize,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, max_bytes: 1 << 30, salt: 0, keep_entries: 0, keep_bytes: 0 }
    }
}

/// Why the log refused. Everything but `NoSpace` ends the use of this log.
#[derive(Debug)]
pub enum WalError {
    /// The disk is full, or the log is at `max_bytes`. Nothing of the batch counts; the log can be used further.
    NoSpace,
    /// An earlier write or sync failed; nothing is retried.
    Failed,
    /// `create` found a log.
    Exists(PathBuf),
    /// Bytes that had been synced cannot be read back: refusing to start.
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where reading stopped.
        offset: u64,
        /// What is wrong there.
        reason: &'static str,
    },
    /// Entries between the checkpoint and the log are not there: a segment is missing, or the checkpoint is older
    /// than what the log was released to.
    Gap {
        /// The index that should follow.
        expected: u64,
        /// The index found, 0 if the log tells of later entries it does not hold.
        found: u64,
    },
    /// Written by a later version.
    NewerFormat {
        /// The segment.
        file: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The file system failed.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// How it failed.
        error: io::Error,
    },
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSpace => write!(f, "wal: no space"),
            Self::Failed => write!(f, "wal: stopped after a failed write or sync"),
            Self::Exists(path) => write!(f, "wal: {} already holds a log", path.display()),
            Self::Damaged { file, offset, reason } => {
                write!(f, "wal: {} is damaged at offset {offset}: {reason}", file.display())
            }
            Self::Gap { expected, found: 0 } => write!(f, "wal: the entries from index {expected} are missing"),
            Self::Gap { expected, found } => {
                write!(f, "wal: the entries from index {expected} are missing, the log goes on at {found}")
            }
            Self::NewerFormat { file, format } => {
                write!(f, "wal: {} has format {format}, written by a later version", file.display())
            }
            Self::Io { doing, path, error } => write!(f, "wal: cannot {doing} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for WalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl WalError {
    /// For use with `map_err`: a full disk is told apart from all other failures.
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io { doing, path: path.to_owned(), error },
        }
    }
}

/// The tail that was cut while opening: never synced, hence never acknowledged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where the log now ends.
    pub offset: u64,
    /// Bytes behind it that had been written.
    pub bytes: u64,
}

/// What an opened log holds. Whether that belongs to the checkpoint is for [`Wal::continues`] to say.
#[derive(Debug)]
pub struct Recovered {
    /// As given to [`Wal::create`].
    pub metadata: Bytes,
    /// The last hard state.
    pub state: Option<Bytes>,
    /// Entries above the checkpoint, overrides applied, consecutive from `after + 1`.
    pub entries: Vec<WalEntry>,
    /// Entries below those, consecutive up to `after`, for members that lag: as many as are left and
    /// [`WalOptions::keep_entries`] and [`WalOptions::keep_bytes`] allow. Further ones are on the disk
    /// ([`Wal::reader`]).
    pub kept: Vec<WalEntry>,
    /// A tail that was cut.
    pub torn: Option<TornTail>,
}

/// The log, open for appending. One owner; no threads of its own.
pub struct Wal {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    options: WalOptions,
    metadata: Bytes,
    salt: u64,
    epoch: u32,
    /// Retained segments, oldest first; the last one is written to. Never empty.
    segments: VecDeque<Segment>,
    /// The next segment, named and synced, its number above the last one's.
    ready: Option<Segment>,
    /// A prepare job is under way.
    preparing: bool,
    /// Released files.
    spares: Vec<Spare>,
    next_sequence: u64,
    /// Everything below is durable.
    synced: Position,
    /// Of the last batch.
    last_crc: u32,
    /// Of the last entry appended.
    last_index: u64,
    last_state: Option<Bytes>,
    /// A write or sync failed: no further use.
    failed: bool,
    reader: WalReader,
}

impl Wal {
    /// Whether `dir` holds a log. A [`Wal::create`] that was interrupted left none.
    pub fn exists(vfs: &dyn Vfs, dir: &Path) -> Result<bool, WalError> {
        match vfs.list(dir) {
            Ok(names) => Ok(names.iter().any(|name| segment::sequence_of(name).is_some())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(WalError::io("list", dir)(error)),
        }
    }

    /// Makes an empty log in `dir` (created if missing; making `dir` itself durable is up to the caller). Durable
    /// when it returns.
    pub fn create(vfs: Arc<dyn Vfs>, dir: &Path, options: WalOptions, metadata: Bytes) -> Result<Self, WalError> {
        check_options(&options, &metadata);
        if Self::exists(&*vfs, dir)? {
            return Err(WalError::Exists(dir.to_owned()));
        }
        vfs.create_dir_all(dir).map_err(WalError::io("create", dir))?;
        for name in vfs.list(dir).map_err(WalError::io("list", dir))? {
            if segment::is_ours(&name) {
                vfs.remove(&dir.join(&name)).map_err(WalError::io("remove", &dir.join(&name)))?;
            }
        }
        let header = SegmentHeader { sequence: 1, salt: options.salt, metadata: metadata.clone() };
        let salt = options.salt;
        let batch = BatchHeader {
            sequence: 1,
            offset: header_bytes(&metadata) as u32,
            epoch: 1,
            previous_crc: 0,
            synced: Position::default(),
            last_index: 0,
            flags: FLAG_OPEN | FLAG_FIRST,
        };
        let first = Encoded::new(batch, salt, None, None, &[]);
        let file = Spare::create(&*vfs, dir, 1, options.segment_bytes, Fill::Zeros)?;
        // The first batch goes in before the file gets its name: a named first segment is a whole log.
        let segment = file.into_segment(&*vfs, dir, &header, Some(&first))?;
        Ok(Self {
            vfs,
            dir: dir.to_owned(),
            options,
            metadata,
            salt,
            epoch: 1,
            synced: Position { sequence: 1, offset: segment.end },
            reader: WalReader::new({
                let mut map = Map::new(salt);
                map.add_file(1, segment.path.clone(), segment.file.clone());
                map
            }),
            segments: VecDeque::from([segment]),
            ready: None,
            preparing: false,
            spares: Vec::new(),
            next_sequence: 2,
            last_crc: first.crc(),
            last_index: 0,
            last_state: None,
            failed: false,
        })
    }

    /// Opens the log in `dir` and reads what it holds above index `after`, the index of the checkpoint it goes
    /// with. Everything returned is durable. A refusal changes nothing on disk.
    pub fn open(vfs: Arc<dyn Vfs>, dir: &Path, options: WalOptions, after: u64) -> Result<(Self, Recovered), WalError> {
        let keep = Keep { entries: options.keep_entries, bytes: options.keep_bytes };
        let Recovery {
            metadata,
            salt,
            chain,
            strays,
            end,
            end_crc,
            epoch,
            synced,
            last_index,
            state,
            entries,
            kept,
            torn,
            map,
        } = recover::read(&*vfs, dir, after, keep)?;
        check_options(&options, &metadata);
        // Spares count: one made of a segment with the same number would take their name.
        let names = vfs.list(dir).map_err(WalError::io("list", dir))?;
        let next_sequence =
            names.iter().filter_map(|name| segment::number_of(name)).max().unwrap_or(0).saturating_add(1);
        let mut wal = Self {
            segments: chain.into_iter().map(Found::into_segment).collect(),
            vfs,
            dir: dir.to_owned(),
            options,
            metadata: metadata.clone(),
            salt,
            epoch: epoch + 1,
            ready: None,
            preparing: false,
            spares: Vec::new(),
            next_sequence,
            synced,
            last_crc: end_crc,
            last_index,
            last_state: state.clone(),
            failed: false,
            reader: WalReader::new(map),
        };
        wal.clean(strays)?;
        wal.rewrite_unclaimed(end)?;
        wal.open_epoch()?;
        Ok((wal, Recovered { metadata, state, entries, kept, torn }))
    }

    /// Appends one batch with one gathered write. Not durable before [`Wal::sync`]. An empty batch is nothing.
    ///
    /// Panics if the indexes are not consecutive or the batch exceeds [`MAX_SEGMENT_BYTES`].
    pub fn append(&mut self, batch: &WalBatch) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Failed);
        }
        if batch.entries.is_empty() && batch.state.is_none() && batch.restart.is_none() {
            return Ok(());
        }
        let before = batch.restart.unwrap_or(self.last_index);
        let last = batch.entries.last().map_or(before, |entry| entry.index);
        for pair in batch.entries.windows(2) {
            assert_eq!(pair[0].index + 1, pair[1].index, "entries of a batch have consecutive indexes");
        }
        let payload =
            format::payload_bytes(batch.restart, batch.state.as_ref().or(self.last_state.as_ref()), &batch.entries);
        let bytes = BATCH_HEADER_BYTES + payload.next_multiple_of(format::ALIGN);
        self.make_room(bytes, self.open_reserve())?;
        let encoded = self.encode(batch.restart, &batch.entries, batch.state.as_ref(), 0);
        let at = Position { sequence: self.active().sequence, offset: self.active().end };
        self.write(&encoded)?;
        self.last_index = last;
        if let Some(index) = batch.restart {
            // What is above is void: it holds nothing back that a checkpoint covers.
            self.segments.iter_mut().for_each(|segment| segment.highest_index = segment.highest_index.min(index));
            self.reader.map().restart(index);
        }
        if let Some(last) = batch.entries.last() {
            let active = self.active_mut();
            active.highest_index = active.highest_index.max(last.index);
        }
        let entries = batch.entries.iter().map(|entry| (entry.index, entry.term));
        self.reader.map().append(at, encoded.end(), entries);
        if batch.state.is_some() {
            self.last_state = batch.state.clone();
        }
        Ok(())
    }

    /// Makes sure that batches of `bytes` in all, headers counted, can be appended without asking the
    /// file system for more: what cannot be logged must be refused before it is proposed.
    ///
    /// [`WalError::NoSpace`] if the disk or the log's bound has no room; the log is as good as before.
    pub fn reserve(&mut self, bytes: u64) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Failed);
        }
        self.make_room(bytes, self.open_reserve())
    }

    /// Bytes that can be appended to the present segment.
    pub fn room(&self) -> u64 {
        let active = self.active();
        active.len.saturating_sub(active.end + self.open_reserve())
    }

    /// Makes everything appended durable: one `fdatasync`. After a failure every later call fails.
    pub fn sync(&mut self) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Failed);
        }
        let active = self.active();
        let end = Position { sequence: active.sequence, offset: active.end };
        // A segment without batches adds nothing: its first batch must still claim the end of the one before it.
        if end == self.synced || active.end == header_bytes(&self.metadata) {
            return Ok(());
        }
        if let Err(error) = active.file.sync_data() {
            // Also ENOSPC: the write had been accepted, so what became of it is unknown.
            let path = active.path.clone();
            self.failed = true;
            return Err(WalError::Io { doing: "sync", path, error });
        }
        self.synced = end;
        Ok(())
    }

    /// Entries at or below `through` are covered by a durable checkpoint: segments that hold no others are kept for
    /// reuse or removed. An error here leaves the log as good as before; what was not released is tried next time.
    pub fn release(&mut self, through: u64) -> Result<(), WalError> {
        if self.failed {
            return Err(WalError::Failed);
        }
        let mut released = false;
        // The last hard state is in the first batch of the segment that stays; it must be durable there.
        while let Some(oldest) = self.segments.front()
            && oldest.highest_index <= through
            && oldest.sequence < self.synced.sequence
        {
            let reusable = self.spares.len() < MAX_SPARES && oldest.len == self.options.segment_bytes;
            let oldest = oldest.clone();
            self.retire(oldest, reusable)?;
            self.segments.pop_front();
            self.reader.map().release(self.segments.front().map_or(u64::MAX, |next| next.sequence));
            released = true;
        }
        if released {
            self.vfs.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))?;
            self.spares.iter_mut().for_each(|spare| spare.name_synced = true);
        }
        Ok(())
    }

    /// Reads entries that are in the log, on any thread, while the log goes on.
    pub fn reader(&self) -> WalReader {
        self.reader.clone()
    }

    /// Whether the log goes on from an entry of this index and term, that of the checkpoint. If not, a snapshot has
    /// taken the place of what the log holds, and the log was to begin anew behind it when the member stopped: then
    /// [`Wal::restart`] it, and use nothing of what it holds. Voting with such entries could lose committed ones.
    pub fn continues(&self, index: u64, term: u64) -> bool {
        self.reader.map().continues(index, term)
    }

    /// Begins the log anew behind `index`. Durable when it returns.
    pub fn restart(&mut self, index: u64) -> Result<(), WalError> {
        self.append(&WalBatch { restart: Some(index), ..WalBatch::default() })?;
        self.sync()
    }

    /// Bytes written to the retained segments: what a checkpoint taken now would allow to release, nearly.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }

    /// Bytes of all files of the log, spares counted.
    pub fn disk_bytes(&self) -> u64 {
        let segments = self.segments.iter().chain(&self.ready).map(|segment| segment.len);
        segments.chain(self.spares.iter().map(|spare| spare.len)).sum()
    }

    /// Index of the last entry appended, 0 for none since the log began.
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The work of making the next segment, if there is none yet: run it on another thread and hand the result to
    /// [`Wal::install`]. Without it the log makes segments itself when it needs them, and appends wait.
    pub fn prepare_job(&mut self) -> Option<PrepareJob> {
        if self.failed || self.preparing || self.ready.is_some() {
            return None;
        }
        self.preparing = true;
        let spare = self.spares.pop();
        let header = self.next_header();
        Some(PrepareJob {
            vfs: self.vfs.clone(),
            dir: self.dir.clone(),
            header,
            segment_bytes: self.options.segment_bytes,
            spare,
        })
    }

    /// Takes the result of a [`PrepareJob`]. Its failure is not one of the log: the next roll tries again.
    pub fn install(&mut self, prepared: Prepared) -> Result<(), WalError> {
        self.preparing = false;
        let segment = prepared.segment?;
        if segment.sequence > self.active().sequence && self.ready.is_none() {
            self.ready = Some(segment);
            return Ok(());
        }
        // The log needed a segment before this one was ready and went on with a higher number.
        let reusable = self.spares.len() < MAX_SPARES;
        self.retire(segment, reusable)
    }

    fn active(&self) -> &Segment {
        self.segments.back().expect("a log has a segment")
    }

    fn active_mut(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("a log has a segment")
    }

    fn open_reserve(&self) -> u64 {
        OPEN_RESERVE_BYTES.min(self.options.segment_bytes / 32)
    }

    fn next_header(&mut self) -> SegmentHeader {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        SegmentHeader { sequence, salt: self.salt, metadata: self.metadata.clone() }
    }

    /// Sees to it that the active segment takes `bytes` and still has `reserve` left.
    fn make_room(&mut self, bytes: u64, reserve: u64) -> Result<(), WalError> {
        let active = self.active();
        if active.end + bytes + reserve <= active.len {
            return Ok(());
        }
        let needed = (header_bytes(&self.metadata) + bytes + reserve).next_multiple_of(4096);
        assert!(needed <= MAX_SEGMENT_BYTES, "a batch of {bytes} bytes fits no segment");
        let len = needed.max(self.options.segment_bytes);
        if self.bytes() + len > self.options.max_bytes {
            return Err(WalError::NoSpace);
        }
        // First what may fail cleanly, then the step that must not fail.
        let next = self.next_segment(len)?;
        if let Err(error) = self.sync() {
            self.ready = Some(next);
            return Err(error);
        }
        self.reader.map().add_file(next.sequence, next.path.clone(), next.file.clone());
        self.segments.push_back(next);
        Ok(())
    }

    /// A segment of at least `len` bytes, durable, not yet part of the log.
    fn next_segment(&mut self, len: u64) -> Result<Segment, WalError> {
        if let Some(ready) = self.ready.take() {
            if ready.len >= len {
                return Ok(ready);
            }
            let reusable = self.spares.len() < MAX_SPARES;
            self.retire(ready, reusable)?;
        }
        let spare = self.spares.iter().position(|spare| spare.len >= len).map(|i| self.spares.remove(i));
        let header = self.next_header();
        segment::make(&*self.vfs, &self.dir, &header, len, spare, Fill::Reserve)
    }

    /// Takes a segment's name away: it becomes a spare, or its file goes.
    fn retire(&mut self, segment: Segment, reusable: bool) -> Result<(), WalError> {
        if reusable {
            let spare = segment.into_spare(&*self.vfs, &self.dir)?;
            self.spares.push(spare);
            return Ok(());
        }
        self.vfs.remove(&segment.path).map_err(WalError::io("remove", &segment.path))
    }

    fn encode(&self, restart: Option<u64>, entries: &[WalEntry], state: Option<&Bytes>, flags: u32) -> Encoded {
        let active = self.active();
        let first = active.end == header_bytes(&self.metadata);
        let header = BatchHeader {
            sequence: active.sequence,
            offset: active.end as u32,
            epoch: self.epoch,
            previous_crc: self.last_crc,
            synced: self.synced,
            last_index: self.last_index,
            flags: flags | if first { FLAG_FIRST } else { 0 },
        };
        let state = if first { state.or(self.last_state.as_ref()) } else { state };
        Encoded::new(header, self.salt, restart, state, entries)
    }

    fn write(&mut self, batch: &Encoded) -> Result<(), WalError> {
        let active = self.active();
        assert!(batch.end() <= active.len, "room was made");
        let at = active.end;
        if let Err(error) = active.file.write_at(&batch.slices(), at) {
            let error = WalError::io("write", &active.path)(error);
            // The refused batch must not be found by the next open: take its header away.
            let wiped = active.file.write_at(&[&[0; BATCH_HEADER_BYTES as usize]], at).is_ok();
            self.failed = !(wiped && matches!(error, WalError::NoSpace));
            return Err(match error {
                WalError::NoSpace if self.failed => WalError::Failed,
                error => error,
            });
        }
        self.last_crc = batch.crc();
        self.active_mut().end = batch.end();
        Ok(())
    }

    /// Removes what recovery found no use for, and makes the names as they are now durable.
    fn clean(&mut self, strays: Vec<Found>) -> Result<(), WalError> {
        for name in self.vfs.list(&self.dir).map_err(WalError::io("list", &self.dir))? {
            let path = self.dir.join(&name);
            if segment::is_temporary(&name) {
                self.vfs.remove(&path).map_err(WalError::io("remove", &path))?;
            } else if segment::is_spare(&name) {
                let file = self.vfs.open(&path).map_err(WalError::io("open", &path))?;
                let len = file.len().map_err(WalError::io("read", &path))?;
                if len == self.options.segment_bytes && self.spares.len() < MAX_SPARES {
                    self.spares.push(Spare { path, file, len, name_synced: false });
                } else {
                    self.vfs.remove(&path).map_err(WalError::io("remove", &path))?;
                }
            }
        }
        for stray in strays {
            let stray = stray.into_segment();
            let reusable = self.spares.len() < MAX_SPARES && stray.len == self.options.segment_bytes;
            self.retire(stray, reusable)?;
        }
        self.vfs.sync_dir(&self.dir).map_err(WalError::io("sync", &self.dir))?;
        self.spares.iter_mut().for_each(|spare| spare.name_synced = true);
        Ok(())
    }

    /// Writes what lies above the highest claim once more. It was read from the page cache, and if a sync failed in
    /// the process before this one, the cache takes these pages for clean although the disk never got them.
    fn rewrite_unclaimed(&mut self, end: Position) -> Result<(), WalError> {
        let header = header_bytes(&self.metadata);
        let active = self.active();
        assert_eq!((active.sequence, active.end), (end.sequence, end.offset));
        let from = if self.synced.sequence == end.sequence { self.synced.offset } else { header };
        let mut bytes = vec![0; (end.offset - from) as usize];
        if bytes.is_empty() {
            return Ok(());
        }
        let n = active.file.read_at(&mut bytes, from).map_err(WalError::io("read", &active.path))?;
        assert_eq!(n, bytes.len(), "recovery has read these bytes");
        active.file.write_at(&[&bytes], from).map_err(WalError::io("write", &active.path))
    }

    /// Appends and syncs the batch that makes whatever lies behind the end unreadable for good.
    fn open_epoch(&mut self) -> Result<(), WalError> {
        self.make_room(BATCH_HEADER_BYTES, 0)?;
        let encoded = self.encode(None, &[], None, FLAG_OPEN);
        self.write(&encoded)?;
        self.sync()
    }
}

fn check_options(options: &WalOptions, metadata: &Bytes) {
    let least = header_bytes(metadata) + 1024;
    assert!(
        (least..=MAX_SEGMENT_BYTES).contains(&options.segment_bytes),
        "segment_bytes is {}, not in {least}..={MAX_SEGMENT_BYTES}",
        options.segment_bytes
    );
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
