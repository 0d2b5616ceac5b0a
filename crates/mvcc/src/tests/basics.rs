//! One rule at a time.

use bytes::BytesMut;
use cetera_proto::{etcdserverpb::RangeResponse, mvccpb};
use prost::Message;

use super::{empty_store, finish_compaction, write};
use crate::{MvccError, RangeQuery, Store, View};

fn range(view: &View, query: &RangeQuery<'_>) -> RangeResponse {
    let mut out = BytesMut::from(&b"before"[..]);
    let totals = view.range(query, &mut out).unwrap();
    let response = RangeResponse::decode(&out[6..]).unwrap();
    assert_eq!((totals.count, totals.kvs as usize, totals.more), (response.count, response.kvs.len(), response.more));
    response
}

#[test]
fn revisions_versions_and_lives_of_a_key() {
    let mut store = empty_store(1 << 20);
    assert_eq!((store.revision(), store.compacted()), (1, -1));
    write(&mut store, |_| {});
    assert_eq!(store.revision(), 1, "a transaction without writes is no revision");
    write(&mut store, |txn| assert_eq!(txn.put(b"k", b"1", 0), None));
    write(&mut store, |txn| assert!(txn.put(b"k", b"2", 7).is_some()));
    write(&mut store, |txn| assert_eq!(txn.delete_range(b"k", b"", &mut |_, _| {}), 1));
    write(&mut store, |txn| assert_eq!(txn.delete_range(b"k", b"", &mut |_, _| {}), 0));
    write(&mut store, |txn| assert_eq!(txn.put(b"k", b"3", 0), None));
    assert_eq!(store.revision(), 5);
    let view = store.view().unwrap();
    let at = |revision| {
        let kv = view.kv(b"k", revision).unwrap()?;
        let kv = mvccpb::KeyValue::decode(kv).unwrap();
        Some((kv.create_revision, kv.mod_revision, kv.version, kv.value.to_vec(), kv.lease))
    };
    assert_eq!(at(1), None);
    assert_eq!(at(2), Some((2, 2, 1, b"1".to_vec(), 0)));
    assert_eq!(at(3), Some((2, 3, 2, b"2".to_vec(), 7)));
    assert_eq!(at(4), None);
    assert_eq!(at(0), Some((5, 5, 1, b"3".to_vec(), 0)));
    assert!(matches!(view.kv(b"k", 6), Err(MvccError::FutureRevision)));
}

#[test]
fn a_transaction_reads_its_own_writes_and_nobody_else_does() {
    let mut store = empty_store(1 << 20);
    write(&mut store, |txn| {
        txn.put(b"a", b"1", 0);
    });
    let before = store.view().unwrap();
    write(&mut store, |txn| {
        assert_eq!(txn.revision(), 2);
        txn.put(b"b", b"2", 0);
        assert_eq!(txn.revision(), 3);
        txn.delete_range(b"a", b"", &mut |_, _| {});
        let mut out = BytesMut::new();
        let totals = txn.range(&RangeQuery { key: b"a", end: b"z", ..Default::default() }, &mut out).unwrap();
        assert_eq!((totals.count, totals.kvs), (1, 1));
        out.clear();
        let old = RangeQuery { key: b"a", end: b"z", revision: 2, ..Default::default() };
        assert_eq!(txn.range(&old, &mut out).unwrap().count, 1);
        assert_eq!(RangeResponse::decode(&out[..]).unwrap().kvs[0].key, b"a"[..]);
        assert!(matches!(txn.check_revision(4), Err(MvccError::FutureRevision)));
    });
    assert_eq!(range(&before, &RangeQuery { key: b"a", end: b"z", ..Default::default() }).kvs[0].key, b"a"[..]);
    assert_eq!(before.revision(), 2);
}

#[test]
fn events_are_encoded_messages_with_their_predecessors() {
    let mut store = empty_store(1 << 20);
    write(&mut store, |txn| {
        txn.put(b"a", b"1", 0);
        txn.put(b"b", b"1", 0);
    });
    let events = write(&mut store, |txn| {
        txn.put(b"b", b"2", 9);
        txn.delete_range(b"a", b"b", &mut |_, _| {});
    });
    let view = store.view().unwrap();
    let (history, next) = view.history(3, 1 << 20, &mut |_| true).unwrap();
    assert_eq!((history.len(), next), (2, 4));
    assert_eq!(history, events);
    let put = mvccpb::Event::decode(&events[0].event[..]).unwrap();
    assert_eq!((put.r#type, put.kv.as_ref().unwrap().version), (0, 2));
    assert_eq!(put.encode_to_vec(), events[0].event);
    let delete = mvccpb::Event::decode(&events[1].event[..]).unwrap();
    assert_eq!(delete.r#type, 1);
    assert_eq!(delete.encode_to_vec(), events[1].event);
    let kv = delete.kv.unwrap();
    assert_eq!((&kv.key[..], kv.mod_revision, kv.create_revision, kv.version), (&b"a"[..], 3, 0, 0));
    let previous = mvccpb::KeyValue::decode(view.previous(&events[0]).unwrap().unwrap()).unwrap();
    assert_eq!((&previous.value[..], previous.mod_revision), (&b"1"[..], 2));
    assert_eq!(view.at(events[0].previous.unwrap()).unwrap(), previous.encode_to_vec());
}

#[test]
fn watermark_rules_of_compact_range_and_history() {
    let mut store = empty_store(1 << 20);
    for value in [&b"1"[..], b"2", b"3"] {
        write(&mut store, |txn| {
            txn.put(b"k", value, 0);
        });
    }
    assert!(matches!(store.compact(5), Err(MvccError::FutureRevision)));
    store.compact(3).unwrap();
    assert!(matches!(store.compact(3), Err(MvccError::Compacted)));
    finish_compaction(&mut store, 1);
    let view = store.view().unwrap();
    assert!(matches!(view.kv(b"k", 2), Err(MvccError::Compacted)));
    assert!(view.kv(b"k", 3).unwrap().is_some());
    assert!(matches!(view.history(2, 100, &mut |_| true), Err(MvccError::Compacted)));
    let (events, next) = view.history(3, 1, &mut |_| true).unwrap();
    assert_eq!((events.len(), next), (1, 4));
    assert_eq!((events[0].previous, view.previous(&events[0]).unwrap()), (None, None), "2 is compacted");
    assert_eq!(view.history(9, 1, &mut |_| true).unwrap(), (vec![], 9));
}

fn three_keys() -> Store {
    let mut store = empty_store(1 << 20);
    for (key, value) in [(b"a", &b"z"[..]), (b"b", b"y"), (b"c", b"x")] {
        write(&mut store, |txn| {
            txn.put(key, value, 5);
        });
    }
    store
}

#[test]
fn the_limit_is_applied_before_sorting_if_no_order_was_named() {
    let store = &mut three_keys();
    let view = store.view().unwrap();
    use crate::{SortOrder, SortTarget};
    let query = RangeQuery { key: b"a", end: b"\0", limit: 1, sort_target: SortTarget::Value, ..Default::default() };
    // Two pairs are fetched in key order, of which b has the lower value.
    let answer = range(&view, &query);
    assert_eq!((&answer.kvs[0].key[..], answer.count, answer.more), (&b"b"[..], 3, true));
    let answer = range(&view, &RangeQuery { sort_order: SortOrder::Ascend, ..query });
    assert_eq!((&answer.kvs[0].key[..], answer.count, answer.more), (&b"c"[..], 3, true));
}

#[test]
fn keys_only_omits_the_lease_unless_sorted_by_value() {
    let store = &mut three_keys();
    let view = store.view().unwrap();
    use crate::SortTarget;
    let query = RangeQuery { key: b"a", end: b"\0", keys_only: true, ..Default::default() };
    assert!(range(&view, &query).kvs.iter().all(|kv| kv.lease == 0 && kv.value.is_empty() && kv.version == 1));
    let by_value = RangeQuery { sort_target: SortTarget::Value, ..query };
    let kvs = range(&view, &by_value).kvs;
    assert!(kvs.iter().all(|kv| kv.lease == 5 && kv.value.is_empty()));
    assert_eq!(kvs[0].key, b"c"[..]);
    let single = RangeQuery { key: b"a", keys_only: true, sort_target: SortTarget::Value, ..Default::default() };
    assert_eq!(range(&view, &single).kvs[0].lease, 5);
}

#[test]
fn bounds_follow_etcds_convention() {
    let store = &mut three_keys();
    let view = store.view().unwrap();
    let count = |key: &[u8], end: &[u8]| {
        let query = RangeQuery { key, end, ..Default::default() };
        let answer = range(&view, &query);
        assert_eq!(answer.count as usize, answer.kvs.len());
        assert_eq!(range(&view, &RangeQuery { count_only: true, ..query }).count, answer.count);
        assert_eq!(view.live(key, end).count(), answer.kvs.len());
        assert_eq!(view.totals(key, end).keys, answer.count as u64);
        answer.count
    };
    assert_eq!(count(b"a", b""), 1);
    assert_eq!(count(b"aa", b""), 0);
    assert_eq!(count(b"b", b"\0"), 2);
    assert_eq!(count(b"\0", b"\0"), 3);
    assert_eq!(count(b"a", b"c"), 2);
    assert_eq!(count(b"c", b"a"), 0);
    assert_eq!(count(b"b", b"b"), 0);
}

#[test]
#[should_panic(expected = "was dropped after 1 writes")]
fn a_transaction_that_wrote_must_be_committed() {
    let mut store = empty_store(1 << 20);
    store.begin().put(b"k", b"v", 0);
}

/// All revisions of a key move with the first one that a rewrite's follower meets. What a compaction drops of them before
/// it comes to them leaves the count of live bytes once.
#[test]
fn a_record_that_moved_ahead_and_died_is_counted_once() {
    let mut store = empty_store(2_048);
    let put = |store: &mut Store, key: &str| {
        write(store, |txn| {
            txn.put(key.as_bytes(), &[b'v'; 90], 0);
        })
    };
    for round in 0..10 {
        put(&mut store, "long");
        for number in 0..3 {
            put(&mut store, &format!("other/{round}/{number}"));
        }
    }
    put(&mut store, "last");
    store.view().unwrap();
    // As after a compaction that took the others and left the history of "long", which needs many more segments to come
    // about by itself.
    let index = store.index.clone();
    for (key, entry) in index.iter().filter(|(key, _)| key.starts_with(b"other/")) {
        store.index.remove(key);
        entry.revisions().for_each(|gone| store.log.release(gone.location));
    }
    let live = |store: &Store| -> u64 {
        let found = store.index.iter().flat_map(|(_, entry)| entry.revisions());
        found.map(|found| found.location.record_bytes()).sum::<u64>()
            + store.garbage.iter().map(|location| location.record_bytes()).sum::<u64>()
    };
    assert_eq!(store.log.live_bytes(), live(&store));
    let done = store.plan_rewrite(1 << 20).expect("most is garbage").run().unwrap();
    assert!(done.moved() > 4, "{} records move", done.moved());
    store.install_rewrite(done);
    assert!(store.rewrite_step(1).unwrap());
    let now = store.revision();
    store.compact(now).unwrap();
    finish_compaction(&mut store, 3);
    while store.rewrite_step(1).unwrap() {}
    assert_eq!(store.log.live_bytes(), live(&store));
}
