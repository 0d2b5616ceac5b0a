//! Transactions: the path is chosen first, then everything on it is checked, then it is done (TX-6 to TX-11).

use cetera_proto::etcdserverpb as pb;
use cetera_proto::etcdserverpb::request_op::Request as Op;
use cetera_proto::etcdserverpb::response_op::Response as Answer;

use super::{Refusal, Store, World, Writing, compare, header, range};

/// Whether nothing but ranges is asked, in both branches (TX-12).
pub(crate) fn is_read_only(txn: &pb::TxnRequest) -> bool {
    ops(txn).all(|op| matches!(op, Some(Op::RequestRange(_))))
}

/// Whether it is read-only and may be answered from the past: all its ranges may, of which there may be none (0.5).
pub(crate) fn is_serializable(txn: &pb::TxnRequest) -> bool {
    ops(txn).all(|op| matches!(op, Some(Op::RequestRange(range)) if range.serializable))
}

fn ops(txn: &pb::TxnRequest) -> impl Iterator<Item = Option<&Op>> {
    txn.success.iter().chain(&txn.failure).map(|op| op.request.as_ref())
}

/// A transaction with its branches chosen.
struct Path<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Do(&'a Op),
    Nested(Path<'a>),
}

fn path<'a>(store: &Store, txn: &'a pb::TxnRequest, now: i64) -> Path<'a> {
    let succeeded = compare::all_hold(store, &txn.compare, now);
    let branch = if succeeded { &txn.success } else { &txn.failure };
    let step = |op: &'a pb::RequestOp| match &op.request {
        Some(Op::RequestTxn(inner)) => Some(Step::Nested(path(store, inner, now))),
        Some(op) => Some(Step::Do(op)),
        None => None,
    };
    Path { succeeded, steps: branch.iter().filter_map(step).collect() }
}

fn check(store: &Store, path: &Path<'_>, now: i64, world: &World<'_>) -> Result<(), Refusal> {
    for step in &path.steps {
        match step {
            Step::Nested(inner) => check(store, inner, now, world)?,
            Step::Do(Op::RequestRange(range)) => range::check(range, now, world, true)?,
            Step::Do(Op::RequestPut(put)) => check_put(store, put, now, world)?,
            Step::Do(_) => {}
        }
    }
    Ok(())
}

/// KV-15, KV-16.
pub(super) fn check_put(store: &Store, put: &pb::PutRequest, now: i64, world: &World<'_>) -> Result<(), Refusal> {
    if put.lease != 0 && !(world.lease_exists)(put.lease) {
        return Err(Refusal::LeaseNotFound);
    }
    if (put.ignore_value || put.ignore_lease) && store.get(&put.key, now).is_none() {
        return Err(Refusal::KeyNotFound);
    }
    Ok(())
}

pub(super) fn execute(store: &mut Store, txn: &pb::TxnRequest, world: &World<'_>) -> Result<pb::TxnResponse, Refusal> {
    let now = store.revision();
    let path = path(store, txn, now);
    check(store, &path, now, world)?;
    let mut writing = Writing::begin(store);
    let mut response = perform(&mut writing, &path);
    response.header = header(writing.revision());
    writing.commit();
    Ok(response)
}

fn perform(writing: &mut Writing<'_>, path: &Path<'_>) -> pb::TxnResponse {
    let mut responses = Vec::new();
    for step in &path.steps {
        let answer = match step {
            // TX-9: the header of a nested answer is there and empty.
            Step::Nested(inner) => Answer::ResponseTxn(perform(writing, inner)),
            Step::Do(Op::RequestRange(request)) => {
                Answer::ResponseRange(range::answer(writing.store, request, writing.revision()))
            }
            Step::Do(Op::RequestPut(request)) => Answer::ResponsePut(writing.put(request)),
            Step::Do(Op::RequestDeleteRange(request)) => Answer::ResponseDeleteRange(writing.delete_range(request)),
            Step::Do(Op::RequestTxn(_)) => unreachable!("a nested transaction has its path"),
        };
        responses.push(pb::ResponseOp { response: Some(answer) });
    }
    pb::TxnResponse { header: header(0), succeeded: path.succeeded, responses }
}

/// What refuses a transaction at a revision, if anything does.
pub(super) fn refusal(store: &Store, txn: &pb::TxnRequest, now: i64, world: &World<'_>) -> Result<(), Refusal> {
    check(store, &path(store, txn, now), now, world)
}

pub(super) fn read(
    store: &Store,
    txn: &pb::TxnRequest,
    now: i64,
    world: &World<'_>,
) -> Result<pb::TxnResponse, Refusal> {
    let path = path(store, txn, now);
    check(store, &path, now, world)?;
    let answers = path.steps.iter().map(|step| match step {
        Step::Do(Op::RequestRange(request)) => Answer::ResponseRange(range::answer(store, request, now)),
        _ => unreachable!("a read-only transaction holds ranges only"),
    });
    let responses = answers.map(|answer| pb::ResponseOp { response: Some(answer) }).collect();
    Ok(pb::TxnResponse { header: header(now), succeeded: path.succeeded, responses })
}
