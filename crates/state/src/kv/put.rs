//! Put (KV-13 to KV-16).

use bytes::BytesMut;
use cetera_mvcc::EventRec;
use cetera_proto::etcdserverpb::PutRequest;

use super::{Answer, Source, Writing, key_value};
use crate::error::{ApplyError, Failure};
use crate::lease::NO_LEASE;
use crate::wire;

/// `PutResponse.prev_kv`.
const PREV_KV: u32 = 2;

/// A Put of its own.
pub(crate) fn apply(mut w: Writing<'_>, request: &PutRequest, events: &mut Vec<EventRec>) -> Result<Answer, Failure> {
    check(&w, request)?;
    let mut body = BytesMut::new();
    let result = write(&mut w, request, &mut body);
    let (revision, ()) = w.finish(result, events)?;
    Ok(Answer::new(revision, body))
}

/// What can refuse a put, before any write (TX-7; etcd `checkPut`).
pub(super) fn check(w: &Writing<'_>, request: &PutRequest) -> Result<(), ApplyError> {
    if request.key.is_empty() {
        return Err(ApplyError::EmptyKey);
    }
    if request.lease != NO_LEASE && w.leases.get(request.lease).is_none() {
        return Err(ApplyError::LeaseNotFound);
    }
    if (request.ignore_value || request.ignore_lease) && w.get(&request.key).is_none() {
        return Err(ApplyError::KeyNotFound);
    }
    Ok(())
}

/// Writes the pair and appends the response's fields.
pub(super) fn write(w: &mut Writing<'_>, request: &PutRequest, out: &mut BytesMut) -> Result<(), Failure> {
    let needs_previous = request.ignore_value || request.ignore_lease;
    let live = if needs_previous { w.get(&request.key) } else { None };
    // [`check`] saw the key. It can only be gone by an unbounded delete earlier in the same transaction, which
    // validation refuses; a log that holds one all the same gets an empty value and no lease, on all members.
    let previous = live.map(|live| w.payload(live.location)).transpose()?;
    let previous = previous.as_deref().map(key_value).unwrap_or_default();
    let value = if request.ignore_value { previous.value } else { &request.value };
    let lease = if request.ignore_lease { previous.lease } else { request.lease };
    let replaced = w.txn.put(&request.key, value, lease);
    w.leases.assign(&request.key, lease, replaced.is_some());
    if let (true, Some(location)) = (request.prev_kv, replaced) {
        wire::bytes_field(out, PREV_KV, &w.payload(location)?);
    }
    Ok(())
}
