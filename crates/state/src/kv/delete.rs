//! DeleteRange (KV-17).

use bytes::BytesMut;
use cetera_mvcc::EventRec;
use cetera_proto::etcdserverpb::DeleteRangeRequest;

use super::{Answer, Source, Writing};
use crate::error::Failure;
use crate::wire;

/// `DeleteRangeResponse.deleted`.
const DELETED: u32 = 2;
/// `DeleteRangeResponse.prev_kvs`.
const PREV_KVS: u32 = 3;

/// A DeleteRange of its own.
pub(crate) fn apply(
    mut w: Writing<'_>,
    request: &DeleteRangeRequest,
    events: &mut Vec<EventRec>,
) -> Result<Answer, Failure> {
    let mut body = BytesMut::new();
    let result = write(&mut w, request, &mut body);
    let (revision, ()) = w.finish(result, events)?;
    Ok(Answer::new(revision, body))
}

/// Deletes the keys, each of which leaves its lease (L-14), and appends the response's fields.
pub(super) fn write(w: &mut Writing<'_>, request: &DeleteRangeRequest, out: &mut BytesMut) -> Result<(), Failure> {
    let mut previous = Vec::new();
    let Writing { txn, leases, .. } = w;
    let deleted = txn.delete_range(&request.key, &request.range_end, &mut |key, location| {
        leases.detach(key);
        if request.prev_kv {
            previous.push(location);
        }
    });
    wire::int_field(out, DELETED, deleted as i64);
    for location in previous {
        wire::bytes_field(out, PREV_KVS, &w.payload(location)?);
    }
    Ok(())
}
