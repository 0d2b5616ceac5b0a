//! Range (KV-1 to KV-10), as a transaction or a log entry asks for it.

use bytes::BytesMut;
use cetera_mvcc::{RangeQuery, SortOrder, SortTarget};
use cetera_proto::etcdserverpb::RangeRequest;

use super::{Answer, Source};
use crate::error::{ApplyError, Failure};

/// A request as the store reads it. Refused if an enum is out of range (KV-6).
pub fn query(request: &RangeRequest) -> Result<RangeQuery<'_>, ApplyError> {
    let unknown = |_| ApplyError::InvalidSortOption;
    Ok(RangeQuery {
        key: &request.key,
        end: &request.range_end,
        revision: request.revision,
        limit: request.limit,
        sort_order: SortOrder::try_from(request.sort_order).map_err(unknown)?,
        sort_target: SortTarget::try_from(request.sort_target).map_err(unknown)?,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

/// A Range of its own. The header's revision is the store's (KV-10).
pub(crate) fn apply(source: &impl Source, request: &RangeRequest) -> Result<Answer, Failure> {
    let mut body = BytesMut::new();
    write(source, request, &mut body)?;
    Ok(Answer::new(source.revision(), body))
}

/// What can refuse a range inside a transaction, before any write (TX-7; etcd `checkRange`). A negative revision counts
/// as long gone here, though outside of a transaction it means the latest.
pub(super) fn check(source: &impl Source, request: &RangeRequest) -> Result<(), ApplyError> {
    query(request)?;
    if request.revision > source.revision() {
        return Err(ApplyError::FutureRevision);
    }
    if request.revision != 0 && request.revision < source.compacted() {
        return Err(ApplyError::Compacted);
    }
    Ok(())
}

/// Appends the response's fields.
pub(super) fn write(source: &impl Source, request: &RangeRequest, out: &mut BytesMut) -> Result<(), Failure> {
    source.range(&query(request)?, out)?;
    Ok(())
}
