//! Transactions: TX-4 to TX-11, KV-20.

use cetera_proto::etcdserverpb::{
    self as pb, Compare, PutRequest, RangeRequest, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
    compare::{CompareResult, CompareTarget, TargetUnion},
    response_op::Response,
};
use cetera_state::ApplyError;

use crate::harness::{Machine, bytes, op_delete, op_put, op_range, op_txn, put, range, then};

pub(crate) fn compare(key: &str, target: TargetUnion, result: CompareResult) -> Compare {
    let kind = match target {
        Version(_) => CompareTarget::Version,
        CreateRevision(_) => CompareTarget::Create,
        ModRevision(_) => CompareTarget::Mod,
        Value(_) => CompareTarget::Value,
        Lease(_) => CompareTarget::Lease,
    };
    Compare {
        result: result as i32,
        target: kind as i32,
        key: bytes(key),
        range_end: Default::default(),
        target_union: Some(target),
    }
}

fn holds(m: &mut Machine, compare: Compare) -> bool {
    m.txn(TxnRequest { compare: vec![compare], ..Default::default() }).unwrap().1.succeeded
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

fn put_response(revision: i64) -> ResponseOp {
    let put = pb::PutResponse { header: header(revision), prev_kv: None };
    ResponseOp { response: Some(Response::ResponsePut(put)) }
}

fn delete_response(revision: i64, deleted: i64) -> ResponseOp {
    let delete = pb::DeleteRangeResponse { header: header(revision), deleted, prev_kvs: vec![] };
    ResponseOp { response: Some(Response::ResponseDeleteRange(delete)) }
}

fn txn_response(responses: Vec<ResponseOp>) -> ResponseOp {
    let txn = TxnResponse { header: Some(ResponseHeader::default()), succeeded: true, responses };
    ResponseOp { response: Some(Response::ResponseTxn(txn)) }
}

use CompareResult::{Equal, Greater, Less, NotEqual};
use TargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};

/// TX-4.
#[test]
fn compares_of_every_target_and_result() {
    let mut m = Machine::new();
    m.grant(9, 60).unwrap();
    m.put("x", "");
    m.put_leased("k", "a", 9);
    m.put_leased("k", "m", 9); // create 3, mod 4, version 2, value m, lease 9
    let around: [(TargetUnion, TargetUnion, TargetUnion); 5] = [
        (Version(1), Version(2), Version(3)),
        (CreateRevision(2), CreateRevision(3), CreateRevision(4)),
        (ModRevision(3), ModRevision(4), ModRevision(5)),
        (Value(bytes("a")), Value(bytes("m")), Value(bytes("ma"))),
        (Lease(8), Lease(9), Lease(10)),
    ];
    for (below, same, above) in around {
        for (target, want) in [
            (below, [(Equal, false), (NotEqual, true), (Greater, true), (Less, false)]),
            (same, [(Equal, true), (NotEqual, false), (Greater, false), (Less, false)]),
            (above, [(Equal, false), (NotEqual, true), (Greater, false), (Less, true)]),
        ] {
            for (result, holds_then) in want {
                let c = compare("k", target.clone(), result);
                assert_eq!(holds(&mut m, c.clone()), holds_then, "{c:?}");
            }
        }
    }
}

/// TX-4: a missing key has zeros; its value compares as nothing does.
#[test]
fn compares_of_a_missing_key() {
    let mut m = Machine::new();
    m.put("k", "v");
    m.delete("k", "", false);
    for target in [Version(0), CreateRevision(0), ModRevision(0), Lease(0)] {
        assert!(holds(&mut m, compare("k", target.clone(), Equal)), "{target:?}");
        assert!(!holds(&mut m, compare("k", target, NotEqual)));
    }
    for result in [Equal, NotEqual, Greater, Less] {
        assert!(!holds(&mut m, compare("k", Value(bytes("")), result)));
        assert!(!holds(&mut m, compare("k", Value(bytes("v")), result)));
    }
}

/// TX-4: a request whose union does not fit its target compares with zero or with nothing.
#[test]
fn compares_with_a_union_of_another_target() {
    let mut m = Machine::new();
    m.put("k", "");
    let crossed = |target: CompareTarget, result: CompareResult| Compare {
        target: target as i32,
        ..compare("k", if target == CompareTarget::Version { Lease(1) } else { Version(1) }, result)
    };
    assert!(holds(&mut m, crossed(CompareTarget::Version, Greater)));
    assert!(holds(&mut m, crossed(CompareTarget::Value, Equal)));
    assert!(holds(&mut m, crossed(CompareTarget::Lease, Equal)));
    let none = Compare { target_union: None, ..crossed(CompareTarget::Mod, Greater) };
    assert!(holds(&mut m, none));
}

/// TX-5.
#[test]
fn compares_over_a_range() {
    let mut m = Machine::new();
    m.put("a", "1");
    m.put("b", "2");
    m.put("b", "3");
    let over = |end: &str, target: TargetUnion, result: CompareResult| Compare {
        range_end: bytes(end),
        ..compare("a", target, result)
    };
    assert!(holds(&mut m, over("b", Version(1), Equal)));
    assert!(!holds(&mut m, over("c", Version(1), Equal)));
    assert!(holds(&mut m, over("\0", Version(0), Greater)));
    assert!(holds(&mut m, over("c", Value(bytes("0")), Greater)));
    let empty = |target, result| Compare { range_end: bytes("y"), ..compare("x", target, result) };
    assert!(holds(&mut m, empty(Version(0), Equal)));
    assert!(!holds(&mut m, empty(Value(bytes("")), Equal)));
}

/// TX-6: nested compares do not see outer writes.
#[test]
fn nested_compares_see_the_state_before() {
    let mut m = Machine::new();
    let absent = compare("k", Version(0), Equal);
    let nested = TxnRequest {
        compare: vec![absent.clone()],
        success: vec![op_put(put("then", ""))],
        failure: vec![op_put(put("else", ""))],
    };
    let outer =
        TxnRequest { compare: vec![absent], success: vec![op_put(put("k", "v")), op_txn(nested)], failure: vec![] };
    let (revision, response) = m.txn(outer).unwrap();
    assert_eq!(revision, 2);
    assert_eq!(response.responses[1], txn_response(vec![put_response(2)]));
    assert_eq!((m.value("then").is_some(), m.value("else").is_some()), (true, false));
}

/// TX-6: only the taken path is evaluated, in the order in which it is walked.
#[test]
fn several_nested_transactions_take_their_own_paths() {
    let mut m = Machine::new();
    m.put("yes", "");
    let leaf = |name: &str, key: &str| TxnRequest {
        compare: vec![compare(key, Version(0), Greater)],
        success: vec![op_put(put(&format!("{name}-then"), ""))],
        failure: vec![op_put(put(&format!("{name}-else"), ""))],
    };
    let middle = TxnRequest {
        compare: vec![compare("no", Version(0), Greater)],
        success: vec![op_txn(leaf("never", "yes"))],
        failure: vec![op_txn(leaf("b", "yes")), op_txn(leaf("c", "no"))],
    };
    let ops = vec![op_txn(leaf("a", "no")), op_put(put("p", "")), op_txn(middle), op_txn(leaf("d", "yes"))];
    m.changes();
    m.txn(then(ops)).unwrap();
    let keys: Vec<_> = m.changes().into_iter().map(|(main, sub, key, _)| (main, sub, key)).collect();
    let want = ["a-else", "p", "b-then", "c-else", "d-then"];
    assert_eq!(keys, want.iter().enumerate().map(|(i, k)| (3, i as i64, k.to_string())).collect::<Vec<_>>());
}

/// TX-7: the first operation that can be refused fails everything before the first write, wherever it stands.
#[test]
fn whatever_is_refused_is_refused_before_any_write() {
    let mut m = Machine::new();
    m.put("k", "1");
    m.put("k", "2");
    m.put("k", "3");
    m.compact(3).unwrap();
    m.changes();
    let before = m.state.hash();
    let ranged = |revision: i64| op_range(RangeRequest { revision, ..range("k") });
    for (last, want) in [
        (ranged(5), ApplyError::FutureRevision), // begin + 1 is a future revision, though reads would be there by then
        (ranged(2), ApplyError::Compacted),
        (ranged(-5), ApplyError::Compacted), // recorded from etcd 3.5.30
        (op_put(PutRequest { lease: 9, ..put("a", "") }), ApplyError::LeaseNotFound),
        (op_put(PutRequest { ignore_value: true, ..put("a", "") }), ApplyError::KeyNotFound),
        (op_put(PutRequest { ignore_lease: true, ..put("a", "") }), ApplyError::KeyNotFound),
        (op_range(RangeRequest { sort_target: 9, ..range("k") }), ApplyError::InvalidSortOption),
        (op_put(put("", "")), ApplyError::EmptyKey),
    ] {
        let flat = then(vec![op_put(put("x", "")), last.clone()]);
        assert_eq!(m.txn(flat).unwrap_err(), want, "{last:?}");
        let nested = then(vec![op_put(put("x", "")), op_txn(then(vec![last.clone()]))]);
        assert_eq!(m.txn(nested).unwrap_err(), want, "nested {last:?}");
        let other_side = TxnRequest { success: vec![op_range(range("k"))], failure: vec![last], ..Default::default() };
        assert!(m.txn(other_side).is_ok(), "the other branch does not count");
    }
    assert_eq!((m.state.revision(), m.state.hash()), (4, before));
    assert!(m.changes().is_empty());
    let allowed = then(vec![op_put(put("x", "")), ranged(3), ranged(4)]);
    assert!(m.txn(allowed).is_ok(), "the compacted revision itself can be read");
}

/// A negative revision before any compaction: -1 is the latest, below it is gone (etcd `checkRange`).
#[test]
fn negative_revisions_of_a_store_never_compacted() {
    let mut m = Machine::new();
    let at = |revision: i64| then(vec![op_range(RangeRequest { revision, ..range("k") }), op_put(put("k", ""))]);
    assert!(m.txn(at(-1)).is_ok());
    assert_eq!(m.txn(at(-2)).unwrap_err(), ApplyError::Compacted);
}

/// TX-8.
#[test]
fn ranges_read_what_was_written_before_them() {
    let mut m = Machine::new();
    m.put("k", "old");
    let (revision, response) = m
        .txn(then(vec![
            op_range(range("k")),
            op_put(put("k", "new")),
            op_range(range("k")),
            op_range(RangeRequest { revision: 2, ..range("k") }),
            op_delete("k", ""),
            op_range(range("k")),
        ]))
        .unwrap();
    assert_eq!(revision, 3);
    let ranges: Vec<_> = response
        .responses
        .iter()
        .filter_map(|r| match &r.response {
            Some(Response::ResponseRange(r)) => {
                Some((r.header.unwrap().revision, r.count, r.kvs.first().map(|kv| kv.value.clone())))
            }
            _ => None,
        })
        .collect();
    let (old, new) = (Some(bytes("old")), Some(bytes("new")));
    assert_eq!(ranges, [(2, 1, old.clone()), (3, 1, new), (3, 1, old), (3, 0, None)]);
}

/// TX-9, recorded from etcd 3.5.30 on an empty store: a delete that finds nothing, before any change, has the old
/// revision.
#[test]
fn headers_of_sub_responses() {
    let mut m = Machine::new();
    let (revision, response) = m.txn(then(vec![op_delete("a", "\0"), op_put(put("b", "b"))])).unwrap();
    assert_eq!((revision, response.succeeded), (2, true));
    assert_eq!(response.responses, [delete_response(1, 0), put_response(2)]);

    let nested =
        vec![op_txn(then(vec![op_put(put("b", "b"))])), op_txn(then(vec![op_delete("b", "")])), op_delete("zzz", "")];
    let (revision, response) = m.txn(then(nested)).unwrap();
    assert_eq!(revision, 3);
    assert_eq!(
        response.responses,
        [txn_response(vec![put_response(3)]), txn_response(vec![delete_response(3, 1)]), delete_response(3, 0)]
    );
    assert_eq!(response.header, None, "the body never has the header");
}

/// TX-10, KV-20.
#[test]
fn no_change_no_revision() {
    let mut m = Machine::new();
    m.put("k", "v");
    for ops in [vec![], vec![op_range(range("k"))], vec![op_delete("x", "y")], vec![op_txn(then(vec![]))]] {
        let failure = TxnRequest {
            compare: vec![compare("k", Version(5), Equal)],
            success: vec![op_put(put("k", "no"))],
            failure: ops.clone(),
        };
        assert_eq!(m.txn(then(ops)).unwrap().0, 2);
        let (revision, response) = m.txn(failure).unwrap();
        assert_eq!((revision, response.succeeded), (2, false));
    }
    assert_eq!(m.state.revision(), 2);
}

/// TX-11.
#[test]
fn one_main_revision_and_subs_in_order() {
    let mut m = Machine::new();
    m.put("d1", "");
    m.put("d2", "");
    m.changes();
    let ops = vec![op_put(put("z", "")), op_delete("d1", "d9"), op_txn(then(vec![op_put(put("a", ""))]))];
    m.txn(then(ops)).unwrap();
    let change = |sub: i64, key: &str, deleted: bool| (4, sub, key.to_string(), deleted);
    assert_eq!(
        m.changes(),
        [change(0, "z", false), change(1, "d1", true), change(2, "d2", true), change(3, "a", false)]
    );
}

/// An `ignore_value` put behind an unbounded delete of its key passes etcd's validation and crashes etcd's apply loop.
/// Ours refuses it at the door; a log that holds it all the same must not stop the group.
#[test]
fn an_ignoring_put_behind_an_unbounded_delete() {
    let mut m = Machine::new();
    m.put("k", "v");
    let ops = vec![op_delete("a", "\0"), op_put(PutRequest { ignore_value: true, ..put("k", "") })];
    assert_eq!(m.txn(then(ops)).unwrap().0, 3);
    assert_eq!(m.value("k").as_deref(), Some(""));
}
