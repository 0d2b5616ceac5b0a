//! Transactions that only read (TX-12): never in the log, evaluated on a snapshot by whichever thread received them.

use bytes::{Bytes, BytesMut};
use cetera_mvcc::{LogError, View};
use cetera_proto::etcdserverpb::{RequestOp, TxnRequest, request_op::Request};

use super::{range, txn};
use crate::error::{ApplyError, Failure};
use crate::wire;

/// Whether a transaction holds nothing but ranges, on both sides (etcd `IsTxnReadonly`). One with a nested transaction
/// never counts as such, one without operations always does.
pub fn is_read_only(request: &TxnRequest) -> bool {
    operations(request).all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

/// Whether a read-only transaction may be answered without asking the leader (etcd `IsTxnSerializable`): all of its
/// ranges are serializable, or there are none (finding 0.5).
pub fn is_serializable(request: &TxnRequest) -> bool {
    operations(request).all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

fn operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

/// Why a read was not answered.
#[derive(Debug)]
pub enum ReadError {
    /// What a client did wrong.
    Refused(ApplyError),
    /// The revision log could not be read.
    Log(LogError),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => Self::Refused(error),
            Failure::Fatal(crate::Fatal::Log(error)) => Self::Log(error),
            Failure::Fatal(other) => unreachable!("a read met {other}"),
        }
    }
}

/// Evaluates a read-only transaction: the revision for its header, and its TxnResponse's fields but the header.
///
/// # Panics
/// If it is not [`is_read_only`].
pub fn read_txn(view: &View, request: &TxnRequest) -> Result<(i64, Bytes), ReadError> {
    assert!(is_read_only(request), "a transaction that may write must go through the log");
    let mut path = Vec::new();
    txn::choose(view, request, &mut path)?;
    let succeeded = txn::next(&mut path.into_iter());
    let ranges = || {
        txn::branch(request, succeeded).iter().map(|op| match &op.request {
            Some(Request::RequestRange(range)) => range,
            _ => unreachable!("only ranges, as asserted"),
        })
    };
    for request in ranges() {
        range::check(view, request).map_err(Failure::from)?;
    }
    let mut out = BytesMut::new();
    wire::bool_field(&mut out, txn::SUCCEEDED, succeeded);
    for request in ranges() {
        wire::message_field(&mut out, txn::RESPONSES, |out| {
            wire::message_field(out, txn::RESPONSE_RANGE, |out| {
                wire::revision_header(out, view.revision());
                range::write(view, request, out)
            })
        })?;
    }
    Ok((view.revision(), out.freeze()))
}
