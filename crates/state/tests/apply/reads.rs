//! Transactions that never reach the log: TX-12, finding 0.5.

use cetera_proto::etcdserverpb::{
    RangeRequest, RequestOp, TxnRequest, TxnResponse, compare::CompareResult, compare::TargetUnion,
};
use cetera_state::{ApplyError, ReadError, is_read_only, is_serializable, read_txn};
use prost::Message;

use crate::harness::{Machine, bytes, op_delete, op_put, op_range, op_txn, put, range, then};
use crate::txns::compare;

/// TX-12.
#[test]
fn which_transactions_only_read() {
    let local = || op_range(RangeRequest { serializable: true, ..range("k") });
    let both = |success: Vec<RequestOp>, failure: Vec<RequestOp>| TxnRequest { success, failure, ..Default::default() };
    for (request, read_only, serializable) in [
        (both(vec![], vec![]), true, true),
        (both(vec![op_range(range("k"))], vec![]), true, false),
        (both(vec![local()], vec![local(), local()]), true, true),
        (both(vec![local()], vec![op_range(range("k"))]), true, false),
        (both(vec![local()], vec![op_put(put("k", ""))]), false, false),
        (both(vec![op_delete("k", "")], vec![]), false, false),
        (both(vec![op_txn(then(vec![local()]))], vec![]), false, false),
    ] {
        assert_eq!((is_read_only(&request), is_serializable(&request)), (read_only, serializable), "{request:?}");
    }
}

/// TX-12: the same answer as through the log, from a snapshot that does not move.
#[test]
fn a_view_answers_like_the_log() {
    let mut m = Machine::new();
    m.put("a", "1");
    m.put("b", "2");
    m.grant(5, 10).unwrap();
    m.put_leased("b", "3", 5);
    let ranges = vec![
        op_range(range("a")),
        op_range(RangeRequest { range_end: bytes("\0"), limit: 1, ..range("a") }),
        op_range(RangeRequest { revision: 3, keys_only: true, ..range("b") }),
        op_range(RangeRequest { range_end: bytes("z"), sort_order: 2, sort_target: 3, ..range("a") }),
    ];
    let requests = [
        then(ranges.clone()),
        TxnRequest { compare: vec![compare("b", TargetUnion::Lease(5), CompareResult::Equal)], ..then(ranges.clone()) },
        TxnRequest {
            compare: vec![compare("b", TargetUnion::Value(bytes("2")), CompareResult::Equal)],
            success: vec![],
            failure: ranges,
        },
        TxnRequest::default(),
    ];
    let view = m.state.view().unwrap();
    for request in requests {
        let from_view = read_txn(&view, &request).unwrap();
        let (revision, response) = m.txn(request.clone()).unwrap();
        assert_eq!((from_view.0, TxnResponse::decode(from_view.1.clone()).unwrap()), (revision, response));
        m.put("b", "later");
        assert_eq!(read_txn(&view, &request).unwrap(), from_view);
        m.put_leased("b", "3", 5);
        assert_eq!(m.state.revision() % 2, 0);
        // Back to what the view shows, as far as the next request looks: a machine of its own.
        m = {
            let mut again = Machine::new();
            again.put("a", "1");
            again.put("b", "2");
            again.grant(5, 10).unwrap();
            again.put_leased("b", "3", 5);
            again
        };
    }
}

/// TX-7 for reads.
#[test]
fn refusals() {
    let mut m = Machine::new();
    m.put("k", "1");
    m.put("k", "2");
    m.compact(3).unwrap();
    let view = m.state.view().unwrap();
    for (revision, want) in [(4, ApplyError::FutureRevision), (2, ApplyError::Compacted), (-3, ApplyError::Compacted)] {
        let request = then(vec![op_range(RangeRequest { revision, ..range("k") })]);
        match read_txn(&view, &request) {
            Err(ReadError::Refused(error)) => assert_eq!(error, want),
            other => panic!("{revision}: {other:?}"),
        }
    }
}

#[test]
#[should_panic(expected = "must go through the log")]
fn a_write_is_not_read() {
    let view = Machine::new().state.view().unwrap();
    let _ = read_txn(&view, &then(vec![op_put(put("k", "v"))]));
}
