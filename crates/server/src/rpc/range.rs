//! Range: answered on the thread that received it, from a published view.

use bytes::{Bytes, BytesMut};
use cetera_mvcc::{RangeTotals, View};
use cetera_proto::etcdserverpb::RangeRequest;
use cetera_state::{range_query, validate};

use super::{NodeAccess, RANGES_PER_TURN_BYTES, RpcServices, State, Wait, decode, respond};
use crate::seam::{CallId, Outbound, Status};

impl<N: NodeAccess> RpcServices<N> {
    /// KV-1 to KV-10: at once if serializable, else once the read is confirmed.
    pub(super) fn range(&mut self, call: CallId, body: Bytes, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let request: RangeRequest = decode(body)?;
        validate::range(&request)?;
        if request.serializable {
            return self.range_in_turn(call, Box::new(request), out);
        }
        self.confirm(call, Wait::Range(Box::new(request)));
        Ok(())
    }

    /// Serves a range now, or after those that wait already.
    pub(super) fn range_in_turn(
        &mut self,
        call: CallId,
        request: Box<RangeRequest>,
        out: &mut Vec<Outbound>,
    ) -> Result<(), Status> {
        if self.ranges.is_empty() && self.range_bytes < RANGES_PER_TURN_BYTES {
            return self.serve_range(call, &request, out);
        }
        self.calls.insert(call, State::Waits(Wait::Range(request)));
        self.ranges.push_back(call);
        Ok(())
    }

    /// Serves ranges that wait, as many as one turn may.
    pub(super) fn serve_ranges(&mut self, out: &mut Vec<Outbound>) {
        while self.range_bytes < RANGES_PER_TURN_BYTES
            && let Some(call) = self.ranges.pop_front()
        {
            // One that was cancelled meanwhile is not there.
            let Some(State::Waits(Wait::Range(request))) = self.calls.remove(&call) else { continue };
            if let Err(status) = self.serve_range(call, &request, out) {
                out.push(Outbound::Finish { call, status });
            }
        }
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
        self.range_bytes += answer.len();
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
