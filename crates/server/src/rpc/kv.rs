//! KV calls that write: Put, DeleteRange, Compact.

use bytes::Bytes;
use cetera_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use cetera_state::{quota, validate};

use super::propose::field;
use super::{NodeAccess, RpcServices, decode};
use crate::seam::{CallId, Status};

impl<N: NodeAccess> RpcServices<N> {
    /// KV-13 to KV-16, Q-1.
    pub(super) fn put(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let request: PutRequest = decode(body.clone())?;
        validate::put(&request)?;
        if !self.fits_quota(quota::put(&request)) {
            return self.over_quota(call);
        }
        self.propose(call, field::PUT, &body)
    }

    /// KV-17.
    pub(super) fn delete_range(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let request: DeleteRangeRequest = decode(body.clone())?;
        validate::delete_range(&request)?;
        self.propose(call, field::DELETE_RANGE, &body)
    }

    /// KV-18. Space is reclaimed in the background, also after a `physical` request.
    pub(super) fn compact(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let _: CompactionRequest = decode(body.clone())?;
        self.propose(call, field::COMPACTION, &body)
    }
}
