//! What a client request must satisfy before it is read or proposed (etcd `api/v3rpc/key.go`): pure functions of the
//! request, in etcd's order of checks (TX-2), because the first one that fails is the one a client sees.

mod overlap;

use cetera_mvcc::{SortOrder, SortTarget};
use cetera_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
};

use crate::error::ApplyError;

/// What a server is configured to accept.
#[derive(Copy, Clone, Debug)]
pub struct RequestLimits {
    /// `--max-txn-ops`: compares, or operations of one branch (TX-1).
    pub max_txn_ops: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { max_txn_ops: 128 }
    }
}

/// KV-1, KV-6.
pub fn range(request: &RangeRequest) -> Result<(), ApplyError> {
    if request.key.is_empty() {
        return Err(ApplyError::EmptyKey);
    }
    let known = SortOrder::try_from(request.sort_order).is_ok() && SortTarget::try_from(request.sort_target).is_ok();
    if known { Ok(()) } else { Err(ApplyError::InvalidSortOption) }
}

/// KV-1, KV-15.
pub fn put(request: &PutRequest) -> Result<(), ApplyError> {
    if request.key.is_empty() {
        return Err(ApplyError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(ApplyError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(ApplyError::LeaseProvided);
    }
    Ok(())
}

/// KV-1.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), ApplyError> {
    if request.key.is_empty() { Err(ApplyError::EmptyKey) } else { Ok(()) }
}

/// TX-1 to TX-3.
pub fn txn(request: &TxnRequest, limits: &RequestLimits) -> Result<(), ApplyError> {
    check_ops(request, limits.max_txn_ops)?;
    overlap::check(&request.success)?;
    overlap::check(&request.failure)
}

/// `budget`: what is left of [`RequestLimits::max_txn_ops`] after the enclosing levels.
fn check_ops(request: &TxnRequest, budget: usize) -> Result<(), ApplyError> {
    let count = request.compare.len().max(request.success.len()).max(request.failure.len());
    let Some(rest) = budget.checked_sub(count) else {
        return Err(ApplyError::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(ApplyError::EmptyKey);
    }
    request.success.iter().chain(&request.failure).try_for_each(|op| check_op(op, rest))
}

fn check_op(op: &RequestOp, budget: usize) -> Result<(), ApplyError> {
    match &op.request {
        Some(Request::RequestRange(request)) => range(request),
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestDeleteRange(request)) => delete_range(request),
        Some(Request::RequestTxn(request)) => check_ops(request, budget),
        None => Err(ApplyError::KeyNotFound),
    }
}

#[cfg(test)]
mod tests;
