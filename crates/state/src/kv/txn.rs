//! Txn (TX-4 to TX-11): decide the path, check everything on it, then write.
//!
//! 1. [`choose`] evaluates the compares of the taken path, outer before nested, against the state before the
//!    transaction (TX-6), and notes each decision.
//! 2. [`check`] walks the path and asks of every operation what could refuse it (TX-7).
//! 3. [`execute`] walks the path again and writes. Nothing can be refused any more.

use bytes::BytesMut;
use cetera_mvcc::EventRec;
use cetera_plant::{Bug, is_planted};
use cetera_proto::etcdserverpb::{RequestOp, TxnRequest, request_op::Request};

use super::{Answer, Source, Writing, compare, delete, put, range};
use crate::error::Failure;
use crate::wire;

/// `TxnResponse.succeeded`.
pub(super) const SUCCEEDED: u32 = 2;
/// `TxnResponse.responses`.
pub(super) const RESPONSES: u32 = 3;
/// `ResponseOp.response_range`.
pub(super) const RESPONSE_RANGE: u32 = 1;
const RESPONSE_PUT: u32 = 2;
const RESPONSE_DELETE_RANGE: u32 = 3;
const RESPONSE_TXN: u32 = 4;

/// A transaction of its own.
pub(crate) fn apply(mut w: Writing<'_>, request: &TxnRequest, events: &mut Vec<EventRec>) -> Result<Answer, Failure> {
    let mut path = Vec::new();
    choose(&w, request, &mut path)?;
    check(&w, request, &mut path.iter().copied())?;
    let mut body = BytesMut::new();
    let result = execute(&mut w, request, &mut path.iter().copied(), &mut body);
    let (revision, ()) = w.finish(result, events)?;
    Ok(Answer::new(revision, body))
}

/// Appends to `path` whether the compares hold: of this transaction, then of those nested in the chosen branch.
pub(super) fn choose(source: &impl Source, request: &TxnRequest, path: &mut Vec<bool>) -> Result<(), Failure> {
    let succeeded = compare::all_hold(source, &request.compare)?;
    path.push(succeeded);
    for op in branch(request, succeeded) {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            choose(source, nested, path)?;
        }
    }
    Ok(())
}

/// The operations on one side.
pub(super) fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded { &request.success } else { &request.failure }
}

pub(super) fn next(path: &mut dyn Iterator<Item = bool>) -> bool {
    path.next().expect("the path has a decision for each transaction on it")
}

fn check(w: &Writing<'_>, request: &TxnRequest, path: &mut dyn Iterator<Item = bool>) -> Result<(), Failure> {
    for op in branch(request, next(path)) {
        match &op.request {
            Some(Request::RequestRange(request)) => range::check(w, request)?,
            Some(Request::RequestPut(request)) => put::check(w, request)?,
            Some(Request::RequestTxn(request)) => check(w, request, path)?,
            Some(Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

/// Performs the chosen branch and appends the fields of its TxnResponse but the header.
fn execute(
    w: &mut Writing<'_>,
    request: &TxnRequest,
    path: &mut dyn Iterator<Item = bool>,
    out: &mut BytesMut,
) -> Result<(), Failure> {
    let succeeded = match is_planted(Bug::CompareAfterWrite) {
        true => compare::all_hold(w, &request.compare)?,
        false => next(path),
    };
    wire::bool_field(out, SUCCEEDED, succeeded);
    for op in branch(request, succeeded) {
        wire::message_field(out, RESPONSES, |out| execute_op(w, op, path, out))?;
    }
    Ok(())
}

/// Performs one operation and appends its ResponseOp. The headers inside carry a revision only, those of nested
/// transactions nothing (TX-9).
fn execute_op(
    w: &mut Writing<'_>,
    op: &RequestOp,
    path: &mut dyn Iterator<Item = bool>,
    out: &mut BytesMut,
) -> Result<(), Failure> {
    // Most headers are known before the operation only as far as it is known whether it writes: a put does, a delete
    // does if it finds a key. So the fields are made first where that is open.
    match &op.request {
        Some(Request::RequestRange(request)) => wire::message_field(out, RESPONSE_RANGE, |out| {
            wire::revision_header(out, w.revision());
            range::write(w, request, out)
        }),
        Some(Request::RequestPut(request)) => {
            let mut fields = BytesMut::new();
            put::write(w, request, &mut fields)?;
            respond(out, RESPONSE_PUT, w.revision(), &fields)
        }
        Some(Request::RequestDeleteRange(request)) => {
            let mut fields = BytesMut::new();
            delete::write(w, request, &mut fields)?;
            respond(out, RESPONSE_DELETE_RANGE, w.revision(), &fields)
        }
        Some(Request::RequestTxn(request)) => wire::message_field(out, RESPONSE_TXN, |out| {
            wire::bytes_field(out, wire::HEADER, &[]);
            execute(w, request, path, out)
        }),
        None => Ok(()),
    }
}

fn respond(out: &mut BytesMut, field: u32, revision: i64, fields: &[u8]) -> Result<(), Failure> {
    wire::message_field(out, field, |out| {
        wire::revision_header(out, revision);
        out.extend_from_slice(fields);
        Ok(())
    })
}
