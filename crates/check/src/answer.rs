//! Whether an answer is the one the model gives, told field by field where it is not.

use cetera_proto::etcdserverpb as pb;
use cetera_proto::etcdserverpb::request_op::Request as Op;
use cetera_proto::etcdserverpb::response_op::Response as Answer;
use cetera_proto::mvccpb::KeyValue;

use crate::history::{Request, Response};
use crate::model::{Store, order, pool};
use crate::text;

fn header_revision(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().map_or(0, |header| header.revision)
}

/// Compares an answer of the KV service in full with the model's. `store` and `now` tell what a range in another
/// order of equal elements could have chosen from.
///
/// # Errors
/// What differs.
pub(crate) fn compare(store: &Store, request: &Request, expected: &Response, got: &Response) -> Result<(), String> {
    match (request, expected, got) {
        (Request::Range(request), Response::Range(expected), Response::Range(got)) => {
            range(store, request, expected, got)
        }
        (_, Response::Put(expected), Response::Put(got)) => put(expected, got),
        (_, Response::DeleteRange(expected), Response::DeleteRange(got)) => delete(expected, got),
        (Request::Txn(request), Response::Txn(expected), Response::Txn(got)) => txn(store, request, expected, got),
        _ => Err("the answer is to another kind of request".to_owned()),
    }
}

fn same<T: PartialEq + std::fmt::Display>(what: &str, expected: T, got: T) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("{what} is {got}, should be {expected}")) }
}

fn headers(expected: &Option<pb::ResponseHeader>, got: &Option<pb::ResponseHeader>) -> Result<(), String> {
    same("header.revision", header_revision(expected), header_revision(got))
}

fn kvs(what: &str, expected: &[KeyValue], got: &[KeyValue]) -> Result<(), String> {
    same(&format!("number of {what}"), expected.len(), got.len())?;
    for (expected, got) in expected.iter().zip(got) {
        if expected != got {
            return Err(format!("{what} hold {}, should hold {}", text::kv(got), text::kv(expected)));
        }
    }
    Ok(())
}

fn prev_kv(expected: &Option<KeyValue>, got: &Option<KeyValue>) -> Result<(), String> {
    let show = |kv: &Option<KeyValue>| kv.as_ref().map_or("nothing".to_owned(), text::kv);
    if expected == got { Ok(()) } else { Err(format!("prev_kv is {}, should be {}", show(got), show(expected))) }
}

fn put(expected: &pb::PutResponse, got: &pb::PutResponse) -> Result<(), String> {
    headers(&expected.header, &got.header)?;
    prev_kv(&expected.prev_kv, &got.prev_kv)
}

fn delete(expected: &pb::DeleteRangeResponse, got: &pb::DeleteRangeResponse) -> Result<(), String> {
    headers(&expected.header, &got.header)?;
    same("deleted", expected.deleted, got.deleted)?;
    kvs("prev_kvs", &expected.prev_kvs, &got.prev_kvs)
}

fn range(
    store: &Store,
    request: &pb::RangeRequest,
    expected: &pb::RangeResponse,
    got: &pb::RangeResponse,
) -> Result<(), String> {
    headers(&expected.header, &got.header)?;
    same("count", expected.count, got.count)?;
    same("more", expected.more, got.more)?;
    // Keys only: 3.7 leaves the lease out, 3.6 and older tell it (0.3).
    let strip = |kvs: &[KeyValue]| -> Vec<KeyValue> {
        kvs.iter().map(|kv| KeyValue { lease: if request.keys_only { 0 } else { kv.lease }, ..kv.clone() }).collect()
    };
    let (mut want, have) = (strip(&expected.kvs), strip(&got.kvs));
    if want == have {
        return Ok(());
    }
    if let Some(order) = order(request)
        && want.len() == have.len()
        && have.is_sorted_by(|a, b| order(a, b).is_le())
    {
        // The sort is not stable (KV-6): among equals any may come first, and be cut off. By value the values are
        // needed, which keys_only takes away after sorting; then any choice is taken.
        let choice = strip(&pool(store, request, header_revision(&expected.header)));
        let mut keys: Vec<_> = have.iter().map(|kv| kv.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let equal_ranks = want.iter().zip(&have).all(|(a, b)| order(a, b).is_eq());
        if keys.len() == have.len() && equal_ranks && have.iter().all(|kv| choice.contains(kv)) {
            want = have.clone();
        }
    }
    kvs("kvs", &want, &have)
}

fn txn(
    store: &Store,
    request: &pb::TxnRequest,
    expected: &pb::TxnResponse,
    got: &pb::TxnResponse,
) -> Result<(), String> {
    headers(&expected.header, &got.header)?;
    same("succeeded", expected.succeeded, got.succeeded)?;
    same("number of responses", expected.responses.len(), got.responses.len())?;
    let branch = if expected.succeeded { &request.success } else { &request.failure };
    for (at, ((op, expected), got)) in branch.iter().zip(&expected.responses).zip(&got.responses).enumerate() {
        match (&op.request, &expected.response, &got.response) {
            (Some(Op::RequestRange(op)), Some(Answer::ResponseRange(expected)), Some(Answer::ResponseRange(got))) => {
                range(store, op, expected, got)
            }
            (_, Some(Answer::ResponsePut(expected)), Some(Answer::ResponsePut(got))) => put(expected, got),
            (_, Some(Answer::ResponseDeleteRange(expected)), Some(Answer::ResponseDeleteRange(got))) => {
                delete(expected, got)
            }
            (Some(Op::RequestTxn(op)), Some(Answer::ResponseTxn(expected)), Some(Answer::ResponseTxn(got))) => {
                txn(store, op, expected, got)
            }
            _ => Err("it answers another kind of operation".to_owned()),
        }
        .map_err(|what| format!("in response {at}: {what}"))?;
    }
    Ok(())
}
