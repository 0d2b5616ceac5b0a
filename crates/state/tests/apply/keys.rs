//! Put, DeleteRange, Range and Compact of their own: KV-13 to KV-20, D-5, D-9.

use cetera_proto::etcdserverpb::{self as pb, InternalRaftRequest, PutRequest};
use cetera_proto::mvccpb::KeyValue;
use cetera_state::{Applied, ApplyError};
use prost::Message;

use crate::harness::{Machine, bytes, put, range, request_put, typed};

fn kv(machine: &mut Machine, key: &str) -> KeyValue {
    let payload = machine.state.view().unwrap().kv(key.as_bytes(), 0).unwrap().unwrap();
    KeyValue::decode(payload).unwrap()
}

/// KV-13, KV-19.
#[test]
fn a_put_keeps_create_revision_and_counts_versions() {
    let mut m = Machine::new();
    assert_eq!(m.state.revision(), 1);
    assert_eq!(m.put("k", "1"), 2);
    assert_eq!(m.put("k", "2"), 3);
    let now = kv(&mut m, "k");
    assert_eq!((now.create_revision, now.mod_revision, now.version), (2, 3, 2));
    m.delete("k", "", false);
    assert_eq!(m.put("k", "3"), 5);
    let now = kv(&mut m, "k");
    assert_eq!((now.create_revision, now.mod_revision, now.version), (5, 5, 1));
}

/// The usual put answers with nothing but its revision.
#[test]
fn a_plain_put_has_an_empty_body() {
    let mut m = Machine::new();
    let applied = m.apply(request_put(put("k", "v"))).unwrap();
    assert_eq!(applied, Applied { revision: 2, ..Default::default() });
}

/// KV-14.
#[test]
fn prev_kv_of_a_put() {
    let mut m = Machine::new();
    let with = |value: &str| PutRequest { prev_kv: true, ..put("k", value) };
    assert_eq!(m.put_request(with("1")).unwrap(), (2, pb::PutResponse::default()));
    let (_, response) = m.put_request(with("2")).unwrap();
    let previous = response.prev_kv.unwrap();
    assert_eq!((&previous.value[..], previous.mod_revision, previous.version), (&b"1"[..], 2, 1));
    m.delete("k", "", false);
    assert_eq!(m.put_request(with("3")).unwrap().1.prev_kv, None);
}

/// KV-15.
#[test]
fn ignore_value_and_ignore_lease() {
    let mut m = Machine::new();
    m.grant(7, 10).unwrap();
    let ignoring = |value: bool, lease: bool| PutRequest {
        key: bytes("k"),
        value: bytes(if value { "" } else { "new" }),
        ignore_value: value,
        ignore_lease: lease,
        ..Default::default()
    };
    assert_eq!(m.put_request(ignoring(true, false)).unwrap_err(), ApplyError::KeyNotFound);
    assert_eq!(m.put_request(ignoring(false, true)).unwrap_err(), ApplyError::KeyNotFound);
    assert_eq!(m.state.revision(), 1);
    m.put_leased("k", "old", 7);

    m.put_request(ignoring(false, true)).unwrap();
    assert_eq!((kv(&mut m, "k").value, kv(&mut m, "k").lease), (bytes("new"), 7));
    m.put_request(PutRequest { lease: 7, ..ignoring(true, false) }).unwrap();
    assert_eq!((kv(&mut m, "k").value, kv(&mut m, "k").lease), (bytes("new"), 7));
    m.put_request(ignoring(true, false)).unwrap();
    assert_eq!((kv(&mut m, "k").value, kv(&mut m, "k").lease), (bytes("new"), 0));
    assert_eq!(m.state.leases().lease_of(b"k"), 0);
    m.delete("k", "", false);
    assert_eq!(m.put_request(ignoring(true, true)).unwrap_err(), ApplyError::KeyNotFound);
}

/// KV-16, and the order of checks: the lease before the key.
#[test]
fn a_put_needs_its_lease() {
    let mut m = Machine::new();
    let unknown = PutRequest { lease: 9, ..put("k", "v") };
    assert_eq!(m.put_request(unknown.clone()).unwrap_err(), ApplyError::LeaseNotFound);
    assert_eq!(m.put_request(PutRequest { ignore_value: true, ..unknown }).unwrap_err(), ApplyError::LeaseNotFound);
    assert_eq!(m.put_request(PutRequest::default()).unwrap_err(), ApplyError::EmptyKey);
}

/// KV-17, D-5.
#[test]
fn deletes_in_key_order_at_one_revision() {
    let mut m = Machine::new();
    for key in ["c", "a", "b", "d"] {
        m.put(key, key);
    }
    m.changes();
    let (revision, response) = m.delete("a", "d", true);
    assert_eq!((revision, response.deleted), (6, 3));
    let values: Vec<_> = response.prev_kvs.iter().map(|kv| (kv.value.clone(), kv.mod_revision)).collect();
    assert_eq!(values, [(bytes("a"), 3), (bytes("b"), 4), (bytes("c"), 2)]);
    let want: Vec<_> = [(0, "a"), (1, "b"), (2, "c")].map(|(sub, k)| (6, sub, k.to_string(), true)).into();
    assert_eq!(m.changes(), want);

    assert_eq!(m.delete("a", "d", true), (6, pb::DeleteRangeResponse::default()), "nothing left, no revision");
    assert_eq!(m.delete("d", "\0", false).1.deleted, 1);
    assert_eq!(m.delete("d", "", true), (7, pb::DeleteRangeResponse::default()));
}

/// KV-18.
#[test]
fn compact() {
    let mut m = Machine::new();
    m.put("k", "1");
    m.put("k", "2");
    assert_eq!(m.compact(4), Err(ApplyError::FutureRevision));
    assert_eq!(m.compact(2), Ok(3), "the current revision, not the compacted one");
    assert_eq!(m.compact(2), Err(ApplyError::Compacted));
    assert_eq!(m.compact(0), Err(ApplyError::Compacted));
    assert_eq!(m.compact(3), Ok(3));
    assert_eq!(m.compact(4), Err(ApplyError::FutureRevision));
}

/// D-4: the hash a compaction leaves behind is that of the store before it.
#[test]
fn a_compaction_leaves_a_hash_job() {
    let mut m = Machine::new();
    m.put("k", "1");
    m.put("k", "2");
    let before = m.state.view().unwrap().hash_kv(3).unwrap();
    let compaction = pb::CompactionRequest { revision: 3, physical: true };
    let request = InternalRaftRequest { compaction: Some(Box::new(compaction)), ..Default::default() };
    let outcome = m.entry(&request.encode_to_vec().into()).unwrap();
    assert_eq!(outcome.compaction_hash.unwrap().run().unwrap(), before);
}

/// A Range in the log (etcd has none of its own, but the field is there): KV-10, KV-2.
#[test]
fn range_in_the_log() {
    let mut m = Machine::new();
    m.put("k", "1");
    m.put("k", "2");
    let ask = |m: &mut Machine, range: pb::RangeRequest| {
        m.apply(InternalRaftRequest { range: Some(Box::new(range)), ..Default::default() })
            .map(typed::<pb::RangeResponse>)
    };
    let (revision, response) = ask(&mut m, pb::RangeRequest { revision: 2, ..range("k") }).unwrap();
    assert_eq!((revision, response.count, &response.kvs[0].value[..]), (3, 1, &b"1"[..]));
    let future = pb::RangeRequest { revision: 9, ..range("k") };
    assert_eq!(ask(&mut m, future).unwrap_err(), ApplyError::FutureRevision);
    m.compact(3).unwrap();
    let gone = pb::RangeRequest { revision: 2, ..range("k") };
    assert_eq!(ask(&mut m, gone).unwrap_err(), ApplyError::Compacted);
    assert_eq!(ask(&mut m, pb::RangeRequest { revision: 3, ..range("k") }).unwrap().1.count, 1);
    let unsorted = pb::RangeRequest { sort_order: 7, ..range("k") };
    assert_eq!(ask(&mut m, unsorted).unwrap_err(), ApplyError::InvalidSortOption);
}

/// D-9.
#[test]
fn a_failed_request_costs_an_index_and_no_revision() {
    let mut m = Machine::new();
    m.put("k", "v");
    let before = (m.state.revision(), m.state.hash());
    m.put_request(PutRequest { lease: 9, ..put("k", "v") }).unwrap_err();
    m.compact(99).unwrap_err();
    m.revoke(9).unwrap_err();
    assert_eq!(m.state.applied_index(), 4);
    assert_eq!((m.state.revision(), m.state.hash()), before);
    assert_eq!(m.changes().len(), 1);
}

#[test]
#[should_panic(expected = "in order, once each")]
fn an_entry_is_applied_once() {
    let mut m = Machine::new();
    m.put("k", "v");
    m.state.apply_empty(1, 1);
}

#[test]
#[should_panic(expected = "of term 1 after term 2")]
fn terms_do_not_go_back() {
    let mut m = Machine::new();
    m.state.apply_empty(1, 2);
    m.put("k", "v");
}
