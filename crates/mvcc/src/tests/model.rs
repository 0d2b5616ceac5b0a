//! The store against a naive one: a map from keys to all their revisions, kept forever.
//!
//! Each seed runs a random history with compactions, background passes cut into slices, segment rewrites that overlap
//! with writes, checkpoints, power failures and recoveries by replay. Every answer is compared byte by byte.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::BytesMut;
use cetera_proto::{etcdserverpb::RangeResponse, mvccpb};
use cetera_storage::{
    revlog::{LogManifest, RevLog, RevLogOptions, RewriteDone},
    vfs::{MemoryVfs, Vfs},
};
use prost::Message;

use super::finish_compaction;
use crate::{
    ChunkSink, MvccError, RangeQuery, Revision, SortOrder, SortTarget, Store, StoreCheckpoint, StoreRestore, View,
    hash::record_hash,
};

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One change of one key; a tombstone has version 0.
#[derive(Clone, Debug)]
struct Change {
    revision: Revision,
    kv: mvccpb::KeyValue,
    tombstone: bool,
}

impl Change {
    /// The record's payload.
    fn payload(&self) -> Vec<u8> {
        if self.tombstone {
            mvccpb::KeyValue { key: self.kv.key.clone(), ..Default::default() }.encode_to_vec()
        } else {
            self.kv.encode_to_vec()
        }
    }

    fn event(&self) -> Vec<u8> {
        mvccpb::Event { r#type: i32::from(self.tombstone), kv: Some(self.kv.clone()), ..Default::default() }
            .encode_to_vec()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>, Vec<u8>, i64),
    Delete(Vec<u8>, Vec<u8>),
}

/// What recovery replays.
#[derive(Clone, Debug)]
enum Entry {
    Txn(Vec<Op>),
    Compact(i64),
}

#[derive(Clone)]
struct Model {
    current: i64,
    compacted: i64,
    keys: BTreeMap<Vec<u8>, Vec<Change>>,
}

fn within(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        end => key >= start && key < end,
    }
}

impl Model {
    fn new() -> Model {
        Model { current: 1, compacted: -1, keys: BTreeMap::new() }
    }

    /// The newest change of a key at `revision`, tombstones included.
    fn newest(changes: &[Change], revision: i64) -> Option<&Change> {
        changes.iter().rev().find(|change| change.revision.main <= revision)
    }

    fn live(&self, start: &[u8], end: &[u8], revision: i64) -> Vec<&Change> {
        let found = self.keys.iter().filter(|(key, _)| within(key, start, end));
        found.filter_map(|(_, changes)| Self::newest(changes, revision)).filter(|newest| !newest.tombstone).collect()
    }

    /// Applies a transaction; returns its changes in order.
    fn apply(&mut self, ops: &[Op]) -> Vec<Change> {
        let main = self.current + 1;
        let mut written: Vec<Change> = Vec::new();
        for op in ops {
            match op {
                Op::Put(key, value, lease) => {
                    let changes = self.keys.entry(key.clone()).or_default();
                    let live = changes.last().filter(|last| !last.tombstone).map(|last| &last.kv);
                    let kv = mvccpb::KeyValue {
                        key: key.clone().into(),
                        create_revision: live.map_or(main, |live| live.create_revision),
                        mod_revision: main,
                        version: live.map_or(0, |live| live.version) + 1,
                        value: value.clone().into(),
                        lease: *lease,
                    };
                    let revision = Revision::new(main, written.len() as i64);
                    let change = Change { revision, kv, tombstone: false };
                    changes.push(change.clone());
                    written.push(change);
                }
                Op::Delete(start, end) => {
                    let doomed: Vec<_> =
                        self.live(start, end, i64::MAX).iter().map(|change| change.kv.key.to_vec()).collect();
                    for key in doomed {
                        let kv = mvccpb::KeyValue { key: key.clone().into(), mod_revision: main, ..Default::default() };
                        let revision = Revision::new(main, written.len() as i64);
                        let change = Change { revision, kv, tombstone: true };
                        self.keys.get_mut(&key).unwrap().push(change.clone());
                        written.push(change);
                    }
                }
            }
        }
        if !written.is_empty() {
            self.current = main;
        }
        written
    }

    /// All changes in revision order.
    fn history(&self) -> Vec<&Change> {
        let mut all: Vec<_> = self.keys.values().flatten().collect();
        all.sort_by_key(|change| change.revision);
        all
    }

    /// What a store keeps whose compaction at `watermark` is finished.
    fn retained(&self, watermark: i64) -> Vec<&Change> {
        let kept = |change: &&Change| {
            let newest = Self::newest(&self.keys[&change.kv.key[..]], watermark).map(|newest| newest.revision);
            change.revision.main > watermark
                || newest == Some(change.revision) && (!change.tombstone || change.revision.main == watermark)
        };
        self.history().into_iter().filter(kept).collect()
    }

    fn range(&self, query: &RangeQuery<'_>) -> Result<RangeResponse, &'static str> {
        if query.revision > self.current {
            return Err("future");
        }
        let at = if query.revision <= 0 { self.current } else { query.revision };
        if at < self.compacted {
            return Err("compacted");
        }
        let live = self.live(query.key, query.end, at);
        let count = live.len() as i64;
        let mut kvs: Vec<mvccpb::KeyValue> = live.iter().map(|change| change.kv.clone()).collect();
        if query.count_only {
            return Ok(RangeResponse { count, ..Default::default() });
        }
        let plain = query.sort_order == SortOrder::None
            || query.sort_target == SortTarget::Key && query.sort_order == SortOrder::Ascend;
        let filters =
            [query.min_mod_revision, query.max_mod_revision, query.min_create_revision, query.max_create_revision];
        let limit = if query.limit > 0 { query.limit as usize } else { usize::MAX - 1 };
        if plain && filters == [0; 4] {
            kvs.truncate(limit + 1);
        }
        kvs.retain(|kv| {
            (filters[0] == 0 || kv.mod_revision >= filters[0])
                && (filters[1] == 0 || kv.mod_revision <= filters[1])
                && (filters[2] == 0 || kv.create_revision >= filters[2])
                && (filters[3] == 0 || kv.create_revision <= filters[3])
        });
        // Descending as etcd does it: the ascending order's comparison turned round, ties left as they are.
        kvs.sort_by(|a, b| {
            let (a, b) = if query.sort_order == SortOrder::Descend { (b, a) } else { (a, b) };
            match query.sort_target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create_revision.cmp(&b.create_revision),
                SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
                SortTarget::Value => a.value.cmp(&b.value),
            }
        });
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if query.keys_only {
            for kv in &mut kvs {
                kv.value.clear();
                if query.sort_target != SortTarget::Value {
                    kv.lease = 0;
                }
            }
        }
        Ok(RangeResponse { header: None, kvs, more, count })
    }

    /// etcd's HashKV, by its keep-set.
    fn hash_kv(&self, revision: i64) -> u32 {
        let keep =
            |at: i64| -> Vec<Revision> { self.live(b"\0", b"\0", at).iter().map(|change| change.revision).collect() };
        let (mut kept, retained) = (keep(revision), self.retained(self.compacted));
        if kept.is_empty() {
            kept = retained.iter().map(|change| change.revision).collect();
        }
        let mut bytes = b"key".to_vec();
        for change in retained {
            let Revision { main, sub } = change.revision;
            let condemned = main <= self.compacted && !kept.contains(&change.revision);
            if main > revision || condemned || main == self.compacted && change.tombstone {
                continue;
            }
            bytes.extend_from_slice(&main.to_be_bytes());
            bytes.push(b'_');
            bytes.extend_from_slice(&sub.to_be_bytes());
            bytes.extend_from_slice(if change.tombstone { b"t" } else { b"" });
            bytes.extend_from_slice(&change.payload());
        }
        crc32c::crc32c(&bytes)
    }
}

#[derive(Default)]
struct Chunks(Vec<(u8, Vec<u8>)>);

impl ChunkSink for Chunks {
    fn chunk(&mut self, kind: u8, data: &[u8]) -> std::io::Result<()> {
        self.0.push((kind, data.to_vec()));
        Ok(())
    }
}

/// A checkpoint that recovery may start from.
struct Durable {
    chunks: Vec<(u8, Vec<u8>)>,
    manifest: LogManifest,
    /// Entries it contains.
    applied: usize,
}

#[derive(Default, Debug)]
struct Coverage {
    moved: usize,
    restarts: usize,
    restarts_in_pass: usize,
    removed_files: usize,
    stale_moves: usize,
}

struct World {
    random: Random,
    vfs: MemoryVfs,
    options: RevLogOptions,
    store: Store,
    model: Model,
    entries: Vec<Entry>,
    writing: Option<(StoreCheckpoint, usize)>,
    durable: Option<Durable>,
    rewrite: Option<RewriteDone>,
    pinned: Option<(View, Model)>,
    coverage: Coverage,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let vfs = MemoryVfs::new();
        let options = RevLogOptions { segment_bytes: 200 + random.below(800) };
        let disk: Arc<dyn Vfs> = Arc::new(vfs.clone());
        disk.create_dir_all(Path::new("log")).unwrap();
        disk.sync_dir(Path::new("")).unwrap();
        let store = Store::create(RevLog::create(disk, Path::new("log"), options).unwrap());
        World {
            random,
            vfs,
            options,
            store,
            model: Model::new(),
            entries: Vec::new(),
            writing: None,
            durable: None,
            rewrite: None,
            pinned: None,
            coverage: Coverage::default(),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        // Low numbers come often, high ones live long.
        let bound = self.random.below(90) + 1;
        let number = self.random.below(bound);
        match number {
            0 => vec![0],
            1 => vec![0xff; 200],
            _ => format!("key/{:02}", number).into_bytes(),
        }
    }

    fn end(&mut self) -> Vec<u8> {
        match self.random.below(5) {
            0 => vec![0],
            1 => Vec::new(),
            _ => self.key(),
        }
    }

    /// A transaction as the API lets it through: no key is put twice, or put and covered by a delete (TX-3).
    fn ops(&mut self) -> Vec<Op> {
        let mut written: Vec<Vec<u8>> = Vec::new();
        let mut deleted: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut ops = Vec::new();
        for _ in 0..1 + self.random.below(4) {
            let key = self.key();
            if self.random.chance(70) {
                if written.contains(&key) || deleted.iter().any(|(start, end)| within(&key, start, end)) {
                    continue;
                }
                let len = [0, 1, 20, 90][self.random.below(4) as usize];
                let value = vec![b'a' + self.random.below(26) as u8; len];
                let lease = [0, 0, 7, -1][self.random.below(4) as usize];
                written.push(key.clone());
                ops.push(Op::Put(key, value, lease));
            } else {
                let end = if self.random.chance(95) { Vec::new() } else { self.end() };
                if !written.iter().any(|done| within(done, &key, &end)) {
                    deleted.push((key.clone(), end.clone()));
                    ops.push(Op::Delete(key, end));
                }
            }
        }
        ops
    }

    fn txn(&mut self) {
        let ops = self.ops();
        let before = self.model.clone();
        let want = self.model.apply(&ops);
        let mut events = Vec::new();
        let mut txn = self.store.begin();
        for op in &ops {
            match op {
                Op::Put(key, value, lease) => {
                    txn.put(key, value, *lease);
                }
                Op::Delete(key, end) => {
                    let doomed = before.live(key, end, i64::MAX);
                    let mut told = Vec::new();
                    let count = txn.delete_range(key, end, &mut |key, location| told.push((key.to_vec(), location)));
                    assert_eq!(count as usize, told.len());
                    for (key, location) in told {
                        let old = doomed.iter().find(|change| change.kv.key == key).unwrap();
                        assert_eq!(txn.read(location).unwrap(), old.payload());
                    }
                }
            }
        }
        assert_eq!(txn.revision(), self.model.current);
        let query = RangeQuery { key: b"\0", end: b"\0", ..Default::default() };
        let mut out = BytesMut::new();
        txn.range(&query, &mut out).unwrap();
        assert_eq!(out, self.model.range(&query).unwrap().encode_to_vec());
        assert_eq!(txn.commit(&mut events), self.model.current);
        assert_eq!(events.len(), want.len());
        for (event, change) in events.iter().zip(&want) {
            assert_eq!((event.revision, event.tombstone), (change.revision, change.tombstone));
            assert_eq!((&event.key[..], &event.event[..]), (&change.kv.key[..], &change.event()[..]));
        }
        self.entries.push(Entry::Txn(ops));
    }

    fn compact(&mut self) {
        let revision = self.model.compacted.max(0) + self.random.below(12) as i64 - 1;
        let want = if revision <= self.model.compacted {
            Err("compacted")
        } else if revision > self.model.current {
            Err("future")
        } else {
            self.model.compacted = revision;
            self.entries.push(Entry::Compact(revision));
            Ok(())
        };
        assert_eq!(self.store.compact(revision).map_err(|error| name(&error)), want);
    }

    fn query<'a>(&mut self, key: &'a [u8], end: &'a [u8], model: &Model) -> RangeQuery<'a> {
        let mut bound = |percent| {
            let some = self.random.chance(percent);
            if some { self.random.below(model.current as u64 + 2) as i64 } else { 0 }
        };
        RangeQuery {
            key,
            end,
            revision: bound(50),
            min_mod_revision: bound(10),
            max_mod_revision: bound(10),
            min_create_revision: bound(10),
            max_create_revision: bound(10),
            limit: if self.random.chance(50) { self.random.below(8) as i64 - 1 } else { 0 },
            sort_order: SortOrder::try_from(self.random.below(3) as i32).unwrap(),
            sort_target: SortTarget::try_from(self.random.below(5) as i32).unwrap(),
            keys_only: self.random.chance(30),
            count_only: self.random.chance(15),
        }
    }

    fn check_range(&mut self, view: &View, model: &Model) {
        let (key, end) = (self.key(), self.end());
        let query = self.query(&key, &end, model);
        let mut out = BytesMut::new();
        let got = view.range(&query, &mut out).map(|_| out.to_vec()).map_err(|error| name(&error));
        assert_eq!(got, model.range(&query).map(|response| response.encode_to_vec()), "{query:?}");
        let found = model.live(&key, &end, model.current);
        let bytes: usize = found.iter().map(|change| change.payload().len()).sum();
        let totals = view.totals(&key, &end);
        assert_eq!((totals.keys, totals.bytes), (found.len() as u64, bytes as u64));
    }

    fn check_history(&mut self, view: &View, model: &Model) {
        let from = 1 + self.random.below(model.current as u64 + 2) as i64;
        let max_bytes = 1 + self.random.below(400) as usize;
        let pick = self.random.below(3) as u8;
        let mut matches = |key: &[u8]| pick == 0 || key.last().unwrap() % 3 == pick;
        if from < model.compacted {
            assert!(matches!(view.history(from, max_bytes, &mut matches), Err(MvccError::Compacted)));
            return;
        }
        let mut at = from;
        let mut events = Vec::new();
        while at <= model.current {
            let (part, next) = view.history(at, max_bytes, &mut matches).unwrap();
            assert!(next > at && part.iter().all(|event| (at..next).contains(&event.revision.main)));
            events.extend(part);
            at = next;
        }
        let want = model.history();
        let want: Vec<_> = want.iter().filter(|c| c.revision.main >= from && matches(&c.kv.key)).collect();
        assert_eq!(events.len(), want.len());
        for (event, change) in events.iter().zip(want) {
            assert_eq!((event.revision, &event.event[..]), (change.revision, &change.event()[..]));
            let before = change.revision.main - 1;
            let previous = Model::newest(&model.keys[&change.kv.key[..]], before)
                .filter(|previous| !previous.tombstone && before >= model.compacted)
                .map(|previous| previous.payload());
            assert_eq!(view.previous(event).unwrap().map(|bytes| bytes.to_vec()), previous);
            assert_eq!(event.previous.map(|location| view.at(location).unwrap().to_vec()), previous);
        }
    }

    fn check_hash(&mut self, view: &View, model: &Model) {
        let revision = self.random.below(model.current as u64 + 2) as i64;
        let got = view.hash_kv(revision).map_err(|error| name(&error));
        if revision > 0 && revision < model.compacted {
            assert_eq!(got, Err("compacted"));
        } else if revision > model.current {
            assert_eq!(got, Err("future"));
        } else {
            let at = if revision == 0 { model.current } else { revision };
            let got = got.unwrap();
            assert_eq!((got.hash_revision, got.compact_revision), (at, model.compacted));
            assert_eq!(got.hash, model.hash_kv(at), "at {at} of {}, compacted {}", model.current, model.compacted);
        }
    }

    fn check_reads(&mut self) {
        let view = self.store.view().unwrap();
        let model = self.model.clone();
        assert_eq!((view.revision(), view.compacted()), (model.current, model.compacted));
        self.check_range(&view, &model);
        match self.random.below(4) {
            0 => self.check_history(&view, &model),
            1 => self.check_hash(&view, &model),
            _ => {}
        }
        if let Some((view, model)) = self.pinned.take() {
            self.check_range(&view, &model);
            self.check_history(&view, &model);
            self.check_hash(&view, &model);
            self.pinned = Some((view, model));
        }
        if self.random.chance(10) {
            self.pinned = Some((view, model));
        }
    }

    /// The sum, the index and the live bytes are those of the finished watermark, whatever is under way.
    fn check_accounts(&mut self) {
        self.store.check_invariants();
        let (sum, finished) = self.store.hash_sum();
        let retained = self.model.retained(finished);
        let hashes = retained.iter().map(|c| record_hash(c.revision, c.tombstone, &c.payload()));
        assert_eq!(sum, hashes.fold(0, u64::wrapping_add));
        let indexed: Vec<_> = self.store.index.iter().flat_map(|(_, entry)| entry.revisions()).collect();
        let dropped = self.store.compaction.pass.is_some() || !self.store.garbage.is_empty();
        assert!(indexed.len() == retained.len() || dropped && indexed.len() < retained.len());
        if self.store.moving.is_none() {
            let queued = self.store.garbage.iter().map(|location| location.record_bytes());
            let live: u64 = indexed.iter().map(|found| found.location.record_bytes()).chain(queued).sum();
            assert_eq!(self.store.log.live_bytes(), live);
        }
    }

    fn background(&mut self) {
        let slice = 1 + self.random.below(30) as usize;
        match self.random.below(10) {
            0..=2 => {
                self.store.compaction_step(slice).unwrap();
            }
            3..=5 => match self.rewrite.take() {
                Some(done) => {
                    self.coverage.moved += done.moved();
                    self.store.install_rewrite(done);
                }
                None => {
                    if let Some(rewrite) = self.store.plan_rewrite(1 << 20) {
                        self.rewrite = Some(rewrite.run().unwrap());
                    }
                }
            },
            6 | 7 => {
                let (before, queued) = (self.store.log.live_bytes(), self.store.garbage.len());
                self.store.rewrite_step(slice).unwrap();
                let stale = self.store.log.live_bytes() < before && self.store.garbage.len() == queued;
                self.coverage.stale_moves += usize::from(stale);
            }
            8 => match self.writing.take() {
                None => self.writing = Some((self.store.checkpoint().unwrap(), self.entries.len())),
                Some((checkpoint, applied)) => {
                    let manifest = checkpoint.manifest().clone();
                    let mut chunks = Chunks::default();
                    checkpoint.write(&mut chunks).unwrap();
                    self.durable = Some(Durable { chunks: chunks.0, manifest, applied });
                }
            },
            _ => {
                if let Some(durable) = &self.durable {
                    self.coverage.removed_files += self.store.remove_retired(&durable.manifest).unwrap().len();
                }
            }
        }
    }

    /// Power failure: what was not synced is lost or torn; the newest checkpoint and the entries behind it come back.
    fn restart(&mut self) {
        let Some(durable) = &self.durable else { return };
        (self.writing, self.rewrite, self.pinned) = (None, None, None);
        self.vfs = self.vfs.crash(self.random.next());
        let disk: Arc<dyn Vfs> = Arc::new(self.vfs.clone());
        let mut restore = StoreRestore::new();
        for (kind, data) in &durable.chunks {
            assert!(restore.chunk(*kind, data.clone()).unwrap());
        }
        assert!(!restore.chunk(0x7f, Vec::new()).unwrap());
        let options = self.options;
        self.store = restore.finish(|manifest| RevLog::open(disk, Path::new("log"), options, manifest)).unwrap();
        self.coverage.restarts += 1;
        self.coverage.restarts_in_pass += usize::from(self.store.compaction.pass.is_some());
        for entry in &self.entries[durable.applied..] {
            match entry {
                Entry::Compact(revision) => self.store.compact(*revision).unwrap(),
                Entry::Txn(ops) => {
                    let mut txn = self.store.begin();
                    for op in ops {
                        match op {
                            Op::Put(key, value, lease) => drop(txn.put(key, value, *lease)),
                            Op::Delete(key, end) => drop(txn.delete_range(key, end, &mut |_, _| {})),
                        }
                    }
                    txn.commit(&mut Vec::new());
                }
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..=44 => self.txn(),
            45..=49 => self.compact(),
            50..=98 => self.background(),
            _ => self.restart(),
        }
        if self.random.chance(30) {
            self.check_reads();
        }
        if self.random.chance(15) {
            self.check_accounts();
        }
    }
}

fn name(error: &MvccError) -> &'static str {
    match error {
        MvccError::Compacted => "compacted",
        MvccError::FutureRevision => "future",
        MvccError::Log(error) => panic!("{error}"),
    }
}

fn run(seed: u64) -> Coverage {
    let mut world = World::new(seed);
    for _ in 0..600 {
        world.step();
    }
    finish_compaction(&mut world.store, 3);
    while world.store.rewrite_step(3).unwrap() {}
    world.check_accounts();
    world.check_reads();
    world.coverage
}

#[test]
fn random_histories_answer_like_the_naive_store() {
    let mut total = Coverage::default();
    for seed in 0..40 {
        let coverage = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        total.moved += coverage.moved;
        total.restarts += coverage.restarts;
        total.restarts_in_pass += coverage.restarts_in_pass;
        total.removed_files += coverage.removed_files;
        total.stale_moves += coverage.stale_moves;
    }
    // The test would prove little if these did not happen.
    assert!(total.moved > 100 && total.restarts > 50 && total.restarts_in_pass > 5, "{total:?}");
    assert!(total.removed_files > 20 && total.stale_moves > 5, "{total:?}");
}
