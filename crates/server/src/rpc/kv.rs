//! KV calls that write: Put, DeleteRange, Compact.

use bytes::Bytes;
use cetera_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use cetera_state::{Applied, ApplyError, quota, validate};

use super::propose::field;
use super::{NodeAccess, RpcServices, State, Wait, decode};
use crate::seam::{CallId, Status};

impl<N: NodeAccess> RpcServices<N> {
    /// KV-13 to KV-16, Q-1.
    pub(super) fn put(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let request: PutRequest = decode(body.clone())?;
        validate::put(&request)?;
        self.check_disk()?;
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

    /// KV-18. Space is reclaimed in the background; a `physical` request is answered when that is done.
    pub(super) fn compact(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let request: CompactionRequest = decode(body.clone())?;
        let wait = if request.physical { Wait::Compaction } else { Wait::Applied };
        self.propose_for(call, field::COMPACTION, &body, wait)
    }

    /// The compaction is applied; its answer waits for the background.
    pub(super) fn settle(&mut self, call: CallId, result: Result<Applied, ApplyError>) -> Result<(), Status> {
        let slices = self.slices(result?);
        self.outbox.settling.push(self.ticket(call));
        self.calls.insert(call, State::Waits(Wait::Settled(slices)));
        Ok(())
    }
}
