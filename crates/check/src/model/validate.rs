//! What a request must satisfy whatever the state: KV-1, KV-6, KV-15, TX-1 to TX-3, L-3.

use std::collections::BTreeSet;

use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;
use cetera_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use cetera_proto::etcdserverpb::request_op::Request as Op;

use super::Refusal;
use crate::history::Request;

/// etcd's default of `max-txn-ops`.
const MAX_TXN_OPS: usize = 128;
/// L-3, in seconds.
const TTL_MAX: i64 = 9_000_000_000;

/// The refusal that the request by itself calls for, if any.
pub(crate) fn validate(request: &Request) -> Result<(), Refusal> {
    match request {
        Request::Range(range) => check_range(range),
        Request::Put(put) => check_put(put),
        Request::DeleteRange(delete) => check_key(&delete.key),
        Request::Txn(txn) => {
            check_txn(txn, MAX_TXN_OPS)?;
            changes(&txn.success)?;
            changes(&txn.failure)?;
            Ok(())
        }
        Request::LeaseGrant(grant) if grant.ttl > TTL_MAX => Err(Refusal::LeaseTtlTooLarge),
        _ => Ok(()),
    }
}

fn check_key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

fn check_range(range: &pb::RangeRequest) -> Result<(), Refusal> {
    check_key(&range.key)?;
    if SortOrder::try_from(range.sort_order).is_err() || SortTarget::try_from(range.sort_target).is_err() {
        return Err(Refusal::InvalidSortOption);
    }
    Ok(())
}

fn check_put(put: &pb::PutRequest) -> Result<(), Refusal> {
    check_key(&put.key)?;
    if put.ignore_value && !put.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

fn check_txn(txn: &pb::TxnRequest, most: usize) -> Result<(), Refusal> {
    let ops = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if ops > most {
        return Err(Refusal::TooManyOps);
    }
    txn.compare.iter().try_for_each(|compare| check_key(&compare.key))?;
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(Op::RequestRange(range)) => check_range(range)?,
            Some(Op::RequestPut(put)) => check_put(put)?,
            Some(Op::RequestDeleteRange(delete)) => check_key(&delete.key)?,
            Some(Op::RequestTxn(inner)) => check_txn(inner, most - ops)?,
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

/// What a branch with all that is nested in it may put and delete.
#[derive(Default)]
struct Changes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<(Bytes, Bytes)>,
}

impl Changes {
    fn put(&mut self, key: &Bytes) -> Result<(), Refusal> {
        if self.deletes.iter().any(|(start, end)| in_range(key, start, end)) || !self.puts.insert(key.clone()) {
            return Err(Refusal::DuplicateKey);
        }
        Ok(())
    }
}

/// TX-3: deletes of this level stand against all puts below; then nested transactions one by one, whose two branches
/// may put the same key; then puts of this level.
fn changes(ops: &[pb::RequestOp]) -> Result<Changes, Refusal> {
    let mut all = Changes::default();
    for op in ops {
        if let Some(Op::RequestDeleteRange(delete)) = &op.request {
            all.deletes.push((delete.key.clone(), delete.range_end.clone()));
        }
    }
    for op in ops {
        if let Some(Op::RequestTxn(inner)) = &op.request {
            let success = changes(&inner.success)?;
            let failure = changes(&inner.failure)?;
            for key in success.puts.union(&failure.puts) {
                all.put(key)?;
            }
            all.deletes.extend(success.deletes);
            all.deletes.extend(failure.deletes);
        }
    }
    for op in ops {
        if let Some(Op::RequestPut(put)) = &op.request {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

/// Whether a key lies in a range in etcd's convention (KV-1).
pub(crate) fn in_range(key: &[u8], start: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}
