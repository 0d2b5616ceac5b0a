//! The store in a checkpoint: its scalars, the manifest of the log, and the index in key order with all history.
//! Payloads are not in it; they stay in the segments the manifest names.
//!
//! A [`StoreCheckpoint`] is a snapshot made on the writer's thread and written on another. It first syncs the log:
//! a checkpoint must never name a record that a power failure can still take away. What was written of the index is let
//! go of at once: the writer copies only what it changes ahead of that.
//!
//! Chunks (integers are varints unless said otherwise):
//!
//! ```text
//! SCALARS   version | current | watermark + 1 | finished + 1 | flags | pass: target, next main, next sub
//!           | sum u64 | dropped u64 (both little endian)
//! MANIFEST  LogManifest::encode
//! GARBAGE   locations
//! INDEX     parts, by key ascending and newest revisions first over all chunks; shared is 0 at the start of a chunk:
//!           shared bytes with the key before | rest length | rest | 2 * revisions + (another part of this key follows)
//!           | revisions
//! revision  main (the part's first) or distance to the main before it | sub | version | age (main - created; live only) | location
//! location  segment | offset | length
//! ```

use std::{fmt, io};

use cetera_plant::{Bug, is_planted};
use cetera_storage::{
    revision::Revision,
    revlog::{Location, LogError, LogManifest, Relocation, RevLog, SyncJob},
};

use crate::{
    compaction::{Compaction, Pass},
    encode::{put_varint, take_varint},
    past::{KeyRevision, Past},
    store::Store,
    tree::{KeyEntry, Tree},
};

/// Kinds of the store's chunks; others in the same checkpoint belong to others.
const SCALARS: u8 = 0x10;
const MANIFEST: u8 = 0x11;
const GARBAGE: u8 = 0x12;
const INDEX: u8 = 0x13;

const VERSION: u64 = 1;
/// A chunk ends behind the part that brings it past this size. Bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// Revisions in one part: a long history must not make an endless chunk.
const PART_REVISIONS: usize = 1 << 14;
/// The pass has its target recorded.
const FLAG_PASS: u64 = 1;
/// The pass has records left to visit.
const FLAG_NEXT: u64 = 2;
/// The manifest's live bytes are to be counted anew.
const FLAG_RECOUNT: u64 = 4;
const ALL_FLAGS: u64 = FLAG_PASS | FLAG_NEXT | FLAG_RECOUNT;

/// Where a checkpoint's chunks go.
pub trait ChunkSink {
    /// Takes one chunk; chunks come back in the order they were written.
    fn chunk(&mut self, kind: u8, data: &[u8]) -> io::Result<()>;
}

impl<F: FnMut(u8, &[u8]) -> io::Result<()>> ChunkSink for F {
    fn chunk(&mut self, kind: u8, data: &[u8]) -> io::Result<()> {
        self(kind, data)
    }
}

/// Why a checkpoint was not written.
#[derive(Debug)]
pub enum WriteError {
    /// The log could not be synced.
    Log(LogError),
    /// The sink refused.
    Sink(io::Error),
}

/// Why a store was not restored.
#[derive(Debug)]
pub enum RestoreError {
    /// The log could not be opened.
    Log(LogError),
    /// The chunks are not a store's: what is wrong.
    Malformed(&'static str),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Log(error) => error.fmt(f),
            WriteError::Sink(error) => write!(f, "checkpoint: {error}"),
        }
    }
}

impl std::error::Error for WriteError {}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Log(error) => error.fmt(f),
            RestoreError::Malformed(what) => write!(f, "checkpoint: bad store chunk: {what}"),
        }
    }
}

impl std::error::Error for RestoreError {}

/// The store at one moment, to be written on a background thread.
pub struct StoreCheckpoint {
    index: Tree,
    current: i64,
    compaction: Compaction,
    sum: u64,
    garbage: Vec<Location>,
    manifest: LogManifest,
    sync: SyncJob,
    /// The index may hold old locations of a rewrite; the manifest names the new segments.
    relocation: Option<Relocation>,
}

impl Store {
    /// Flushes the log and takes what syncs it. To be done before a checkpoint is made, so that the checkpoint does not
    /// hold the index, which is copied where it changes, through the sync of all that was written since the last one.
    pub fn sync_ahead(&mut self) -> Result<SyncJob, LogError> {
        self.log.flush()?;
        Ok(self.log.sync_job())
    }

    /// Flushes the log and takes what a checkpoint needs: a few reference counts and the queue of garbage.
    pub fn checkpoint(&mut self) -> Result<StoreCheckpoint, LogError> {
        self.log.flush()?;
        Ok(StoreCheckpoint {
            index: self.index.clone(),
            current: self.current,
            compaction: self.compaction,
            sum: self.sum,
            garbage: self.garbage.iter().copied().collect(),
            manifest: self.log.manifest(),
            sync: self.log.sync_job(),
            relocation: self.moving.as_ref().map(|moving| moving.relocation.clone()),
        })
    }
}

impl StoreCheckpoint {
    /// What the checkpoint will say of the log: once it is durable, [`Store::remove_retired`] wants it.
    pub fn manifest(&self) -> &LogManifest {
        &self.manifest
    }

    /// Revision of the store in this checkpoint.
    pub fn revision(&self) -> i64 {
        self.current
    }

    /// Syncs the log, then writes the store's chunks. Blocks on the disk.
    pub fn write(self, sink: &mut impl ChunkSink) -> Result<(), WriteError> {
        let mut out = Vec::new();
        self.put_scalars(&mut out);
        let StoreCheckpoint { index, garbage, manifest, sync, relocation, .. } = self;
        sync.run().map_err(WriteError::Log)?;
        let mut put = |kind, out: &mut Vec<u8>| {
            let result = sink.chunk(kind, out).map_err(WriteError::Sink);
            out.clear();
            result
        };
        put(SCALARS, &mut out)?;
        manifest.encode(&mut out);
        put(MANIFEST, &mut out)?;
        let place =
            |location: Location| relocation.as_ref().and_then(|moves| moves.translate(location)).unwrap_or(location);
        for part in garbage.chunks(CHUNK_BYTES / 16) {
            part.iter().for_each(|&location| put_location(&mut out, place(location)));
            put(GARBAGE, &mut out)?;
        }
        let mut last = Vec::new();
        for leaf in index.into_leaves() {
            for (key, entry) in leaf.iter() {
                put_entry(&mut out, &mut last, key, entry, &place, &mut |out| put(INDEX, out))?;
            }
        }
        if out.is_empty() { Ok(()) } else { put(INDEX, &mut out) }
    }

    fn put_scalars(&self, out: &mut Vec<u8>) {
        let Compaction { watermark, finished, pass, dropped } = self.compaction;
        let next = pass.and_then(|pass| pass.next);
        let mut flags = if self.relocation.is_some() { FLAG_RECOUNT } else { 0 };
        flags |= if pass.is_some() { FLAG_PASS } else { 0 };
        flags |= if next.is_some() { FLAG_NEXT } else { 0 };
        let next = next.unwrap_or_default();
        let target = pass.map_or(0, |pass| pass.target);
        for value in [self.current, watermark + 1, finished + 1, flags as i64, target, next.main, next.sub] {
            if out.is_empty() {
                put_varint(out, VERSION);
            }
            put_varint(out, value as u64);
        }
        out.extend_from_slice(&self.sum.to_le_bytes());
        out.extend_from_slice(&dropped.to_le_bytes());
    }
}

/// The parts of one key; `last` is the key before it. Chunks that are full go to `put`.
fn put_entry(
    out: &mut Vec<u8>,
    last: &mut Vec<u8>,
    key: &[u8],
    entry: &KeyEntry,
    place: &dyn Fn(Location) -> Location,
    put: &mut dyn FnMut(&mut Vec<u8>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let mut revisions = entry.revisions();
    let mut left = 1 + entry.past().map_or(0, |past| past.count());
    while left > 0 {
        let shared = if out.is_empty() { 0 } else { shared_prefix(last, key) };
        put_varint(out, shared as u64);
        put_varint(out, (key.len() - shared) as u64);
        out.extend_from_slice(&key[shared..]);
        last.truncate(shared);
        last.extend_from_slice(&key[shared..]);
        let part = left.min(PART_REVISIONS);
        left -= part;
        put_varint(out, (part as u64) << 1 | u64::from(left > 0));
        put_revisions(out, revisions.by_ref().take(part), place);
        if out.len() >= CHUNK_BYTES {
            put(out)?;
        }
    }
    Ok(())
}

fn shared_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn put_location(out: &mut Vec<u8>, location: Location) {
    put_varint(out, u64::from(location.segment));
    put_varint(out, u64::from(location.offset));
    put_varint(out, u64::from(location.len));
}

fn put_revisions(
    out: &mut Vec<u8>,
    revisions: impl Iterator<Item = KeyRevision>,
    place: &dyn Fn(Location) -> Location,
) {
    let mut newer = None;
    for KeyRevision { modified, created, version, location } in revisions {
        put_varint(out, newer.map_or(modified.main, |newer: i64| newer - modified.main) as u64);
        newer = Some(modified.main);
        put_varint(out, modified.sub as u64);
        put_varint(out, version as u64);
        if version != 0 {
            put_varint(out, (modified.main - created) as u64);
        }
        put_location(out, place(location));
    }
}

/// Collects a checkpoint's chunks and becomes a store.
#[derive(Default)]
pub struct StoreRestore {
    scalars: Option<Scalars>,
    manifest: Option<LogManifest>,
    garbage: Vec<Location>,
    index: Vec<Vec<u8>>,
}

struct Scalars {
    current: i64,
    compaction: Compaction,
    sum: u64,
    recount: bool,
}

impl StoreRestore {
    /// Nothing collected yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one chunk of the checkpoint, in the order they were written. Ok(false): not one of the store's.
    pub fn chunk(&mut self, kind: u8, data: Vec<u8>) -> Result<bool, RestoreError> {
        match kind {
            SCALARS => self.scalars = Some(scalars(&data).ok_or(RestoreError::Malformed("scalars"))?),
            MANIFEST => self.manifest = Some(LogManifest::decode(&data).map_err(RestoreError::Log)?),
            GARBAGE => {
                let mut input = &data[..];
                while !input.is_empty() {
                    self.garbage.push(take_location(&mut input).ok_or(RestoreError::Malformed("garbage"))?);
                }
            }
            INDEX => self.index.push(data),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The log as the checkpoint recorded it, once its chunk was taken.
    pub fn manifest(&self) -> Option<&LogManifest> {
        self.manifest.as_ref()
    }

    /// Builds the store over the log that `open` opens with the recorded manifest.
    pub fn finish(self, open: impl FnOnce(&LogManifest) -> Result<RevLog, LogError>) -> Result<Store, RestoreError> {
        let scalars = self.scalars.ok_or(RestoreError::Malformed("no scalars"))?;
        let manifest = self.manifest.ok_or(RestoreError::Malformed("no manifest"))?;
        if manifest.last().is_some_and(|last| last.main > scalars.current) {
            return Err(RestoreError::Malformed("a log ahead of the store"));
        }
        let mut entries = Entries::new(&self.index, scalars.current);
        let index = Tree::from_sorted(&mut entries);
        if entries.malformed {
            return Err(RestoreError::Malformed("index"));
        }
        let log = open(&manifest).map_err(RestoreError::Log)?;
        let mut store = Store::assemble(log, index, scalars.current);
        store.compaction = scalars.compaction;
        store.sum = scalars.sum;
        store.garbage = self.garbage.into();
        if store.compaction.watermark == store.compaction.finished && !store.garbage.is_empty() {
            return Err(RestoreError::Malformed("garbage without a compaction"));
        }
        if scalars.recount {
            let living = store.index.iter().flat_map(|(_, entry)| entry.revisions()).map(|found| found.location);
            store.log.recount_live(living.chain(store.garbage.iter().copied()));
        }
        store.check_invariants();
        Ok(store)
    }
}

fn scalars(mut input: &[u8]) -> Option<Scalars> {
    if take_varint(&mut input)? != VERSION {
        return None;
    }
    let mut take = || take_varint(&mut input).map(|value| value as i64);
    let current = take()?;
    let (watermark, finished) = (take()?.checked_sub(1)?, take()?.checked_sub(1)?);
    let flags = take()? as u64;
    let target = take()?;
    let next = Revision::new(take()?, take()?);
    let (sum, rest) = input.split_first_chunk::<8>()?;
    let (dropped, rest) = rest.split_first_chunk::<8>()?;
    let next = (flags & FLAG_NEXT != 0).then_some(next);
    let pass = (flags & FLAG_PASS != 0).then_some(Pass { target, next });
    let ordered = -1 <= finished && finished <= watermark && watermark <= current;
    let sane = rest.is_empty() && ordered && pass.is_none_or(|pass| pass.target <= watermark) && flags <= ALL_FLAGS;
    sane.then_some(Scalars {
        current,
        compaction: Compaction { watermark, finished, pass, dropped: u64::from_le_bytes(*dropped) },
        sum: u64::from_le_bytes(*sum),
        recount: flags & FLAG_RECOUNT != 0,
    })
}

fn take_location(input: &mut &[u8]) -> Option<Location> {
    Some(Location { segment: take_u32(input)?, offset: take_u32(input)?, len: take_u32(input)? })
}

fn take_u32(input: &mut &[u8]) -> Option<u32> {
    u32::try_from(take_varint(input)?).ok()
}

/// The entries of the index chunks, ascending; ends early, and says so, where the bytes make no sense.
struct Entries<'a> {
    chunks: std::slice::Iter<'a, Vec<u8>>,
    chunk: &'a [u8],
    key: Vec<u8>,
    /// Revisions of the key at hand, newest first.
    revisions: Vec<KeyRevision>,
    /// Revision of the store; no key has a later one.
    current: i64,
    any: bool,
    malformed: bool,
}

impl<'a> Entries<'a> {
    fn new(chunks: &'a [Vec<u8>], current: i64) -> Self {
        let (key, revisions) = (Vec::new(), Vec::new());
        Self { chunks: chunks.iter(), chunk: &[], key, revisions, current, any: false, malformed: false }
    }

    fn entry(&mut self) -> Option<(Vec<u8>, KeyEntry)> {
        self.revisions.clear();
        while self.part()? {
            self.chunk = if self.chunk.is_empty() { self.chunks.next()? } else { self.chunk };
        }
        if is_planted(Bug::TombstoneLost) && self.revisions.len() > 1 && self.revisions[0].is_tombstone() {
            self.revisions.remove(0);
        }
        let (newest, older) =
            self.revisions.split_first().filter(|(newest, _)| newest.modified.main <= self.current)?;
        let past = older.iter().rev().fold(None, |past, revision| Some(Past::push(past, *revision)));
        Some((self.key.clone(), KeyEntry::new(*newest, past)))
    }

    /// Reads a key and some of its revisions. Whether more follow.
    fn part(&mut self) -> Option<bool> {
        let input = &mut self.chunk;
        let shared = usize::try_from(take_varint(input)?).ok()?;
        let rest = usize::try_from(take_varint(input)?).ok()?;
        let (rest, behind) = input.split_at_checked(rest)?;
        *input = behind;
        let last = self.key.get(shared..)?;
        // The first part of a key brings a new one, the others repeat it.
        let in_order = if self.revisions.is_empty() { !self.any || rest > last } else { rest == last };
        self.key.truncate(shared);
        self.key.extend_from_slice(rest);
        self.any = true;
        let head = take_varint(input)?;
        for at in 0..head >> 1 {
            let newer = self.revisions.last().map(|newer| newer.modified);
            let revision = take_revision(input, newer, at == 0)?;
            self.revisions.push(revision);
        }
        (in_order && head > 1).then_some(head & 1 != 0)
    }
}

/// One revision, older than `newer`; the first of a part tells its own main revision, not a distance.
fn take_revision(input: &mut &[u8], newer: Option<Revision>, first: bool) -> Option<KeyRevision> {
    let main = i64::try_from(take_varint(input)?).ok()?;
    let main = newer.filter(|_| !first).map_or(Some(main), |newer| newer.main.checked_sub(main))?;
    let modified = Revision::new(main, i64::from(take_u32(input)?));
    if newer.is_some_and(|newer| newer <= modified) {
        return None;
    }
    let version = i64::try_from(take_varint(input)?).ok()?;
    let created = if version == 0 { 0 } else { main.checked_sub(i64::try_from(take_varint(input)?).ok()?)? };
    Some(KeyRevision { modified, created, version, location: take_location(input)? })
}

impl Iterator for Entries<'_> {
    type Item = (Vec<u8>, KeyEntry);

    fn next(&mut self) -> Option<Self::Item> {
        while self.chunk.is_empty() {
            self.chunk = self.chunks.next()?;
        }
        let entry = if self.malformed { None } else { self.entry() };
        self.malformed = entry.is_none();
        entry
    }
}
