use super::*;
use cetera_proto::etcdserverpb::Compare;

fn put_of(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), ..Default::default() }
}

fn p(key: &'static str) -> RequestOp {
    RequestOp { request: Some(Request::RequestPut(put_of(key))) }
}

fn ignoring(key: &'static str) -> RequestOp {
    RequestOp { request: Some(Request::RequestPut(PutRequest { ignore_value: true, ..put_of(key) })) }
}

fn d(key: &'static str, end: &'static str) -> RequestOp {
    let delete = DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv: false };
    RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

fn r(key: &'static str) -> RequestOp {
    RequestOp { request: Some(Request::RequestRange(RangeRequest { key: key.into(), ..Default::default() })) }
}

fn t(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    RequestOp { request: Some(Request::RequestTxn(TxnRequest { compare: vec![], success, failure })) }
}

fn check(success: Vec<RequestOp>, failure: Vec<RequestOp>, max_txn_ops: usize) -> Result<(), ApplyError> {
    txn(&TxnRequest { compare: vec![], success, failure }, &RequestLimits { max_txn_ops })
}

/// KV-1, KV-6.
#[test]
fn ranges() {
    let good = RangeRequest { key: "k".into(), ..Default::default() };
    assert_eq!(range(&good), Ok(()));
    assert_eq!(range(&RangeRequest::default()), Err(ApplyError::EmptyKey));
    for bad in [RangeRequest { sort_order: 3, ..good.clone() }, RangeRequest { sort_target: 5, ..good.clone() }] {
        assert_eq!(range(&bad), Err(ApplyError::InvalidSortOption));
    }
    assert_eq!(range(&RangeRequest { sort_order: 2, sort_target: 4, ..good }), Ok(()));
}

/// KV-1, KV-15.
#[test]
fn puts() {
    assert_eq!(put(&put_of("k")), Ok(()));
    assert_eq!(put(&PutRequest { value: "v".into(), ..Default::default() }), Err(ApplyError::EmptyKey));
    let value = PutRequest { value: "v".into(), ignore_value: true, ignore_lease: true, lease: 1, ..put_of("k") };
    assert_eq!(put(&value), Err(ApplyError::ValueProvided));
    assert_eq!(put(&PutRequest { value: "".into(), ..value }), Err(ApplyError::LeaseProvided));
    assert_eq!(delete_range(&DeleteRangeRequest::default()), Err(ApplyError::EmptyKey));
}

/// TX-1.
#[test]
fn op_counts() {
    assert_eq!(check(vec![r("a"), r("b")], vec![], 2), Ok(()));
    assert_eq!(check(vec![], vec![r("a"), r("b")], 1), Err(ApplyError::TooManyOps));
    let compares = TxnRequest { compare: vec![Compare::default(); 3], ..Default::default() };
    assert_eq!(txn(&compares, &RequestLimits { max_txn_ops: 2 }), Err(ApplyError::TooManyOps));
    // One of three is used by the level that holds the nested transaction.
    assert_eq!(check(vec![t(vec![r("a"), r("b")], vec![])], vec![], 3), Ok(()));
    assert_eq!(check(vec![t(vec![], vec![r("a"), r("b"), r("c")])], vec![], 3), Err(ApplyError::TooManyOps));
    assert_eq!(RequestLimits::default().max_txn_ops, 128);
}

/// TX-2: counts before compare keys, compare keys before operations, operations before overlaps.
#[test]
fn order_of_checks() {
    let limits = RequestLimits { max_txn_ops: 2 };
    let mut request = TxnRequest {
        compare: vec![Compare::default()],
        success: vec![p("a"), p("a"), RequestOp { request: None }],
        failure: vec![],
    };
    assert_eq!(txn(&request, &limits), Err(ApplyError::TooManyOps));
    request.success.remove(0);
    assert_eq!(txn(&request, &limits), Err(ApplyError::EmptyKey));
    request.compare[0].key = "k".into();
    assert_eq!(txn(&request, &limits), Err(ApplyError::KeyNotFound));
    request.success[1] = p("a");
    assert_eq!(txn(&request, &limits), Err(ApplyError::DuplicateKey));
    request.success[1] = p("b");
    assert_eq!(txn(&request, &limits), Ok(()));
}

/// TX-3.
#[test]
fn duplicate_keys() {
    let duplicate = Err(ApplyError::DuplicateKey);
    for (ops, want) in [
        (vec![p("a"), p("a")], duplicate),
        (vec![p("a"), d("a", "")], duplicate),
        (vec![p("b"), d("a", "c")], duplicate),
        (vec![p("c"), d("a", "c")], Ok(())),
        (vec![p("b"), d("c", "a")], Ok(())),
        (vec![d("a", "c"), d("b", "d")], Ok(())),
        (vec![r("a"), p("a"), r("a")], Ok(())),
        (vec![p("a"), t(vec![p("a")], vec![])], duplicate),
        (vec![p("a"), t(vec![], vec![d("a", "")])], duplicate),
        (vec![d("a", ""), t(vec![t(vec![], vec![p("a")])], vec![])], duplicate),
        (vec![t(vec![p("a")], vec![p("a")])], Ok(())),
        (vec![t(vec![p("a")], vec![p("a")]), t(vec![], vec![p("a")])], duplicate),
        (vec![t(vec![p("a")], vec![d("a", "")])], Ok(())),
        // Recorded from etcd 3.5.30.
        (vec![t(vec![p("b")], vec![]), t(vec![d("b", "")], vec![])], Ok(())),
        (vec![t(vec![d("b", "")], vec![]), t(vec![p("b")], vec![])], duplicate),
        (vec![d("a", "\0"), p("b")], Ok(())),
        // Not refused by etcd, whose apply loop then panics.
        (vec![d("a", "\0"), ignoring("b")], duplicate),
        (vec![d("c", "\0"), ignoring("b")], Ok(())),
        (vec![t(vec![d("a", "\0")], vec![]), t(vec![], vec![ignoring("b")])], duplicate),
    ] {
        assert_eq!(check(ops.clone(), vec![], 128), want, "{ops:?}");
        assert_eq!(check(vec![], ops.clone(), 128), want, "{ops:?}");
    }
    assert_eq!(check(vec![p("a")], vec![p("a")], 128), Ok(()));
}
