//! Txn: into the log, unless it only reads (TX-12).

use bytes::Bytes;
use cetera_proto::etcdserverpb::TxnRequest;
use cetera_state::validate::RequestLimits;
use cetera_state::{quota, validate};

use super::propose::field;
use super::{NodeAccess, RpcServices, Wait, decode, respond};
use crate::seam::{CallId, Outbound, Status};

impl<N: NodeAccess> RpcServices<N> {
    /// TX-1 to TX-13, Q-1.
    pub(super) fn txn(&mut self, call: CallId, body: Bytes, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let request: TxnRequest = decode(body.clone())?;
        validate::txn(&request, &RequestLimits { max_txn_ops: self.settings.max_txn_ops })?;
        if cetera_state::is_read_only(&request) {
            if cetera_state::is_serializable(&request) {
                return self.serve_txn(call, &request, out);
            }
            self.confirm(call, Wait::Txn(Box::new(request)));
            return Ok(());
        }
        let cost = quota::txn(&request);
        if cost > 0 {
            self.check_disk()?;
            if !self.fits_quota(cost) {
                return self.over_quota(call);
            }
        }
        self.propose(call, field::TXN, &body)
    }

    /// Evaluates a transaction that only reads, at the published revision.
    pub(super) fn serve_txn(
        &mut self,
        call: CallId,
        request: &TxnRequest,
        out: &mut Vec<Outbound>,
    ) -> Result<(), Status> {
        self.counts.ranges += (request.success.len() + request.failure.len()) as u64;
        let (revision, body) = cetera_state::read_txn(&self.published.view, request)?;
        respond(call, vec![self.headers.shared(revision), body], out);
        Ok(())
    }
}
