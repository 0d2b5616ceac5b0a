//! Range: answered on the thread that received it, from a published view.

use bytes::{Bytes, BytesMut};
use cetera_mvcc::{RangeTotals, View};
use cetera_proto::etcdserverpb::RangeRequest;
use cetera_state::{range_query, validate};

use super::status::Error;
use super::{NodeAccess, RpcServices, Wait, decode, respond};
use crate::seam::{CallId, Outbound, Status};

impl<N: NodeAccess> RpcServices<N> {
    /// KV-1 to KV-10: at once if serializable, else once the read is confirmed.
    pub(super) fn range(&mut self, call: CallId, body: Bytes, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let request: RangeRequest = decode(body)?;
        validate::range(&request)?;
        if request.serializable {
            return self.serve_range(call, &request, out);
        }
        if self.published.is_learner {
            return Err(Error::NotSupportedForLearner.into());
        }
        self.confirm(call, Wait::Range(Box::new(request)));
        Ok(())
    }

    /// Writes header and answer into one buffer.
    pub(super) fn serve_range(
        &mut self,
        call: CallId,
        request: &RangeRequest,
        out: &mut Vec<Outbound>,
    ) -> Result<(), Status> {
        let view = &self.published.view;
        self.headers.put(view.revision(), &mut self.arena);
        let written = range_into(view, request, &mut self.arena);
        self.counts.ranges += 1;
        let answer = self.arena.split();
        written?;
        respond(call, vec![answer.freeze()], out);
        Ok(())
    }
}

/// Appends kvs, more and count of the answer.
pub(super) fn range_into(view: &View, request: &RangeRequest, out: &mut BytesMut) -> Result<RangeTotals, Status> {
    let query = range_query(request)?;
    Ok(view.range(&query, out)?)
}
