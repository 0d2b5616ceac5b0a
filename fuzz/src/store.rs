//! The store under any operations, against a list of all that was written: ranges at any revision, counts, history, and
//! the same again after compactions, rewrites and a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::BytesMut;
use cetera_mvcc::{MvccError, RangeQuery, SortOrder, SortTarget, Store, StoreRestore, StoreRewrite, View};
use cetera_proto::etcdserverpb::RangeResponse;
use cetera_proto::mvccpb::{Event, KeyValue};
use cetera_storage::revlog::{RevLog, RevLogOptions};
use cetera_storage::vfs::{MemoryVfs, Vfs};
use prost::Message as _;

use crate::apply::Chunks;
use crate::input::Input;

const DIR: &str = "/log";
const OPTIONS: RevLogOptions = RevLogOptions { segment_bytes: 600 };

/// Every revision as the list has it: the keys then alive.
struct Model {
    store: Store,
    disk: Arc<dyn Vfs>,
    /// Alive at each revision, from 1 on.
    past: Vec<BTreeMap<Vec<u8>, KeyValue>>,
    changes: Vec<Event>,
}

/// A few keys, some of which begin others.
fn key(input: &mut Input<'_>) -> Vec<u8> {
    match input.u8() {
        byte @ 0..64 => vec![b'a' + byte % 8],
        byte @ 64..128 => vec![b'a' + byte % 3, byte % 4],
        byte @ 128..192 => [&b"prefix/"[..], &[byte % 8]].concat(),
        192..224 => input.bytes().to_vec(),
        _ => vec![0xff; input.below(3)],
    }
}

fn end(input: &mut Input<'_>) -> Vec<u8> {
    match input.below(4) {
        0 => Vec::new(),
        1 => vec![0],
        _ => key(input),
    }
}

fn inside(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let disk: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    let log = RevLog::create(disk.clone(), Path::new(DIR), OPTIONS).expect("a good disk");
    let past = vec![BTreeMap::new(); 2];
    let mut model = Model { store: Store::create(log), disk, past, changes: Vec::new() };
    let mut rewrite: Option<StoreRewrite> = None;
    while !input.is_empty() {
        match input.below(8) {
            0..=2 => model.write(&mut input),
            3 | 4 => model.range(&mut input),
            5 => {
                let revision = i64::from(input.u8());
                let low = model.store.compacted();
                let expected = revision > low && revision <= model.store.revision();
                assert_eq!(model.store.compact(revision).is_ok(), expected, "compaction at {revision}, {low} before");
            }
            6 => {
                let _ = model.store.compaction_step(1 + input.below(8)).expect("a good disk");
                let _ = model.store.rewrite_step(1 + input.below(8)).expect("a good disk");
            }
            _ => model.background(&mut input, &mut rewrite),
        }
    }
    model.finish();
}

impl Model {
    fn now(&self) -> i64 {
        self.past.len() as i64 - 1
    }

    fn write(&mut self, input: &mut Input<'_>) {
        let mut alive = self.past.last().expect("revision 1 at least").clone();
        let main = self.now() + 1;
        let mut events = Vec::new();
        let mut txn = self.store.begin();
        let first = self.changes.len();
        let mut put = Vec::new();
        for _ in 0..=input.below(4) {
            let key = key(input);
            if input.below(3) > 0 {
                let value = input.bytes().to_vec();
                let lease = i64::from(input.u8() as i8);
                // One put of a key in a transaction, as services see to it.
                if key.is_empty() || put.contains(&key) {
                    continue;
                }
                put.push(key.clone());
                let before = alive.get(&key);
                let kv = KeyValue {
                    key: key.clone().into(),
                    create_revision: before.map_or(main, |before| before.create_revision),
                    mod_revision: main,
                    version: before.map_or(1, |before| before.version + 1),
                    value: value.clone().into(),
                    lease,
                };
                let previous = txn.put(&key, &value, lease);
                assert_eq!(previous.is_some(), before.is_some());
                alive.insert(key, kv.clone());
                self.changes.push(Event { r#type: 0, kv: Some(kv), prev_kv: None });
            } else {
                let end = end(input);
                let gone: Vec<_> = alive.keys().filter(|k| inside(k, &key, &end)).cloned().collect();
                // Nor a put and a delete.
                if gone.iter().any(|key| put.contains(key)) {
                    continue;
                }
                put.extend(gone.iter().cloned());
                assert_eq!(txn.delete_range(&key, &end, &mut |_, _| {}), gone.len() as u64);
                for key in gone {
                    alive.remove(&key);
                    let kv = KeyValue { key: key.into(), mod_revision: main, ..Default::default() };
                    self.changes.push(Event { r#type: 1, kv: Some(kv), prev_kv: None });
                }
            }
        }
        let revision = txn.commit(&mut events);
        if self.changes.len() > first {
            self.past.push(alive);
        }
        assert_eq!(revision, self.now());
        let told: Vec<Event> = events.iter().map(|e| Event::decode(e.event.clone()).expect("an event")).collect();
        assert_eq!(told, self.changes[first..]);
    }

    fn range(&mut self, input: &mut Input<'_>) {
        let (key, end) = (key(input), end(input));
        let limit = i64::from(input.u8() as i8 / 16);
        let kind = input.u8();
        let order = *input.choose(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend]);
        let target = *input.choose(&[SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod]);
        let filter = |bit: u8, value: i64| if kind & bit == 0 { 0 } else { value };
        let query = RangeQuery {
            key: &key,
            end: &end,
            revision: if kind & 1 == 0 { 0 } else { i64::from(input.u8()) },
            limit,
            sort_order: order,
            sort_target: target,
            keys_only: kind & 2 != 0,
            count_only: kind & 4 != 0,
            min_mod_revision: filter(8, i64::from(input.u8())),
            max_mod_revision: filter(16, i64::from(input.u8())),
            min_create_revision: filter(32, i64::from(input.u8())),
            max_create_revision: filter(64, i64::from(input.u8())),
        };
        let view = self.store.view().expect("a good disk");
        self.check(&view, &query);
    }

    fn check(&self, view: &View, query: &RangeQuery<'_>) {
        let mut out = BytesMut::new();
        let result = view.range(query, &mut out);
        let at = if query.revision <= 0 { self.now() } else { query.revision };
        if at > self.now() {
            return assert!(matches!(result, Err(MvccError::FutureRevision)), "{query:?}");
        }
        if at < self.store.compacted() {
            return assert!(matches!(result, Err(MvccError::Compacted)), "{query:?}");
        }
        let totals = result.expect("a revision that is there");
        let found: Vec<KeyValue> =
            self.past[at as usize].values().filter(|kv| inside(&kv.key, query.key, query.end)).cloned().collect();
        let answer = RangeResponse::decode(out.freeze()).expect("an answer");
        assert_eq!((answer.count, totals.count), (found.len() as i64, found.len() as i64), "{query:?}");
        if query.count_only {
            return assert!(answer.kvs.is_empty());
        }
        let accepts = |kv: &KeyValue| {
            (query.min_mod_revision == 0 || kv.mod_revision >= query.min_mod_revision)
                && (query.max_mod_revision == 0 || kv.mod_revision <= query.max_mod_revision)
                && (query.min_create_revision == 0 || kv.create_revision >= query.min_create_revision)
                && (query.max_create_revision == 0 || kv.create_revision <= query.max_create_revision)
        };
        let mut expected: Vec<KeyValue> = found.into_iter().filter(accepts).collect();
        let by = |kv: &KeyValue| match query.sort_target {
            SortTarget::Version => kv.version,
            SortTarget::Create => kv.create_revision,
            SortTarget::Mod => kv.mod_revision,
            _ => 0,
        };
        let sorted = query.sort_order != SortOrder::None || query.sort_target != SortTarget::Key;
        let tied = sorted && query.sort_target != SortTarget::Key;
        match query.sort_order {
            SortOrder::Descend if query.sort_target == SortTarget::Key => expected.reverse(),
            SortOrder::Descend => expected.sort_by_key(|kv| std::cmp::Reverse(by(kv))),
            _ => expected.sort_by_key(by),
        }
        if query.keys_only {
            expected.iter_mut().for_each(|kv| (kv.value, kv.lease) = (Default::default(), 0));
        }
        // Which of many that are alike come first is not promised, and a limit reads key order before it sorts.
        if query.limit <= 0 && !tied {
            assert_eq!(answer.kvs, expected, "{query:?}");
        } else if query.limit > 0 && !sorted {
            let cut = expected.len().min(query.limit as usize);
            assert_eq!(answer.kvs, expected[..cut], "{query:?}");
        } else {
            assert!(answer.kvs.iter().all(|kv| expected.contains(kv)), "{query:?}");
            assert!(query.limit > 0 || answer.kvs.len() == expected.len(), "{query:?}");
        }
    }

    /// A rewrite is planned, run or installed; or the store goes through a checkpoint.
    fn background(&mut self, input: &mut Input<'_>, planned: &mut Option<StoreRewrite>) {
        if input.flag() {
            match planned.take() {
                Some(rewrite) => {
                    let done = rewrite.run().expect("a good disk");
                    self.store.install_rewrite(done);
                }
                None => *planned = self.store.plan_rewrite(u64::MAX),
            }
            return;
        }
        *planned = None;
        let checkpoint = self.store.checkpoint().expect("a good disk");
        let manifest = checkpoint.manifest().clone();
        let mut chunks = Chunks::default();
        checkpoint.write(&mut chunks).expect("a good disk");
        self.store.remove_retired(&manifest).expect("a good disk");
        if input.flag() {
            let before = (self.store.revision(), self.store.compacted(), self.store.hash_sum());
            let mut parts = StoreRestore::new();
            for (kind, data) in chunks.0 {
                assert!(parts.chunk(kind, data).expect("just written"));
            }
            let disk = self.disk.clone();
            let store = parts.finish(|manifest| RevLog::open(disk, Path::new(DIR), OPTIONS, manifest));
            self.store = store.expect("just written");
            assert_eq!((self.store.revision(), self.store.compacted(), self.store.hash_sum()), before);
        }
    }

    fn finish(&mut self) {
        while self.store.compaction_step(1_000).expect("a good disk") {}
        while self.store.rewrite_step(1_000).expect("a good disk") {}
        self.store.check_invariants();
        let view = self.store.view().expect("a good disk");
        for revision in 1..=self.now() {
            self.check(&view, &RangeQuery { key: b"\0", end: b"\0", revision, ..Default::default() });
        }
        let from = view.compacted().max(1) + 1;
        let mut next = from;
        let mut told = Vec::new();
        while next <= self.now() {
            let (events, then) = view.history(next, 100, &mut |_| true).expect("history that is kept");
            assert!(then > next, "history stands still at {next}");
            told.extend(events.iter().map(|e| Event::decode(e.event.clone()).expect("an event")));
            next = then;
        }
        let kept = self.changes.iter().filter(|e| e.kv.as_ref().is_some_and(|kv| kv.mod_revision >= from));
        assert!(told.iter().eq(kept), "history differs");
    }
}
