//! Lease calls: grants and revocations through the log, renewals and questions to the lessor.

use std::collections::VecDeque;

use bytes::Bytes;
use cetera_node::event::{Event, LeaseQuestion, Renewal, Reply, Ticket};
use cetera_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeRequest,
    LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use cetera_state::quota;
use prost::Message as _;

use super::propose::field;
use super::status::{Error, ok};
use super::{NodeAccess, RpcServices, State, Wait, decode};
use crate::seam::{CallId, Outbound, Status};

/// Slots from here on are renewals; calls are below.
pub(super) const RENEWAL_SLOTS: u64 = 1 << 63;
/// Longest time to live in seconds (L-3).
const TTL_MAX: i64 = 9_000_000_000;
/// Renewals of one stream under way; a client that sends more ahead is ended as misbehaving.
const RENEWALS_PER_STREAM_MAX: usize = 1 << 16;

/// One LeaseKeepAlive stream: answers leave in the order of the requests.
#[derive(Default)]
pub(super) struct KeepAlive {
    waiting: VecDeque<Renewing>,
    /// Number of the request at the front of `waiting`.
    first: u64,
    half_closed: bool,
}

struct Renewing {
    lease: i64,
    /// Store revision when the request came: the header is made before the renewal (L-5).
    revision: i64,
    ttl: Option<i64>,
}

impl<N: NodeAccess> RpcServices<N> {
    /// L-1 to L-3: identity and time to live are settled before the proposal.
    pub(super) fn lease_grant(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let mut request: LeaseGrantRequest = decode(body)?;
        if request.ttl > TTL_MAX {
            return Err(Error::LeaseTtlTooLarge.into());
        }
        self.check_disk()?;
        if !self.fits_quota(quota::LEASE_GRANT) {
            return self.over_quota(call);
        }
        if request.id == 0 {
            request.id = self.settings.ids.next_lease_id();
        }
        // One and a half election timeouts, in whole seconds: a lease must outlive a failover.
        let ttl_min = (self.settings.election_ms * 3).div_ceil(2_000);
        request.ttl = request.ttl.max(ttl_min as i64);
        self.propose(call, field::LEASE_GRANT, &request.encode_to_vec())
    }

    /// L-4.
    pub(super) fn lease_revoke(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let _: LeaseRevokeRequest = decode(body.clone())?;
        self.propose(call, field::LEASE_REVOKE, &body)
    }

    /// L-9.
    pub(super) fn lease_time_to_live(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let LeaseTimeToLiveRequest { id: lease, keys } = decode(body)?;
        self.node.send(Event::Lease(self.ticket(call), LeaseQuestion::TimeToLive { lease, keys }));
        self.calls.insert(call, State::Waits(Wait::TimeToLive(lease)));
        Ok(())
    }

    pub(super) fn serve_time_to_live(
        &mut self,
        call: CallId,
        id: i64,
        (ttl, granted_ttl, keys): (i64, i64, Vec<Bytes>),
        out: &mut Vec<Outbound>,
    ) -> Result<(), Status> {
        let body = LeaseTimeToLiveResponse { header: None, id, ttl, granted_ttl, keys };
        self.respond_message(call, &body, out);
        Ok(())
    }

    /// L-10.
    pub(super) fn lease_leases(&mut self, call: CallId) -> Result<(), Status> {
        self.node.send(Event::Lease(self.ticket(call), LeaseQuestion::Leases));
        self.calls.insert(call, State::Waits(Wait::Leases));
        Ok(())
    }

    pub(super) fn serve_leases(
        &mut self,
        call: CallId,
        leases: Vec<i64>,
        out: &mut Vec<Outbound>,
    ) -> Result<(), Status> {
        let leases = leases.into_iter().map(|id| LeaseStatus { id }).collect();
        self.respond_message(call, &LeaseLeasesResponse { header: None, leases }, out);
        Ok(())
    }

    /// One request on a keep-alive stream (L-5).
    pub(super) fn keep_alive(&mut self, call: CallId, body: Bytes, out: &mut Vec<Outbound>) {
        let lease = match decode::<LeaseKeepAliveRequest>(body) {
            Ok(request) => request.id,
            Err(status) => return self.end_keep_alive(call, status, out),
        };
        let slot = self.next_renewal;
        let Some(State::KeepAlive(stream)) = self.calls.get_mut(&call) else { return };
        if stream.waiting.len() >= RENEWALS_PER_STREAM_MAX {
            return self.end_keep_alive(call, Error::RequestTooManyRequests.into(), out);
        }
        let number = stream.first + stream.waiting.len() as u64;
        let revision = self.published.view.revision();
        stream.waiting.push_back(Renewing { lease, revision, ttl: None });
        self.next_renewal = self.next_renewal.wrapping_add(1).max(RENEWAL_SLOTS);
        self.renewals.insert(CallId(slot), (call, number));
        self.outbox.renewals.push(Renewal { ticket: Ticket { front: self.front, slot }, lease });
    }

    /// The lessor's answer to one renewal.
    pub(super) fn renewed(&mut self, slot: u64, reply: Reply, out: &mut Vec<Outbound>) {
        let Some((call, number)) = self.renewals.remove(&CallId(slot)) else { return };
        let Some(State::KeepAlive(stream)) = self.calls.get_mut(&call) else { return };
        let ttl = match reply {
            Reply::Renewed { ttl } => ttl,
            Reply::Refused(refusal) => return self.end_keep_alive(call, refusal.into(), out),
            reply => unreachable!("the lessor answers a renewal in kind, not with {reply:?}"),
        };
        let place = number.checked_sub(stream.first).and_then(|at| usize::try_from(at).ok());
        if let Some(renewing) = place.and_then(|at| stream.waiting.get_mut(at)) {
            renewing.ttl = Some(ttl);
        }
        while let Some(&Renewing { lease, revision, ttl: Some(ttl) }) = stream.waiting.front() {
            stream.waiting.pop_front();
            stream.first += 1;
            self.headers.put(revision, &mut self.arena);
            let body = LeaseKeepAliveResponse { header: None, id: lease, ttl };
            body.encode(&mut self.arena).expect("the arena grows");
            out.push(Outbound::Message { call, slices: vec![self.arena.split().freeze()] });
        }
        if stream.half_closed && stream.waiting.is_empty() {
            self.end_keep_alive(call, ok(), out);
        }
    }

    /// The client asks no more: the stream ends with its last answer.
    pub(super) fn keep_alive_half_close(&mut self, call: CallId, out: &mut Vec<Outbound>) {
        let Some(State::KeepAlive(stream)) = self.calls.get_mut(&call) else { return };
        stream.half_closed = true;
        if stream.waiting.is_empty() {
            self.end_keep_alive(call, ok(), out);
        }
    }

    fn end_keep_alive(&mut self, call: CallId, status: Status, out: &mut Vec<Outbound>) {
        self.calls.remove(&call);
        out.push(Outbound::Finish { call, status });
    }
}
