//! Writes on their way into the log: identity, size limit, quota, reply slot. The client's message goes in as it came.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes};
use cetera_node::event::Proposal;
use cetera_node::node::FRONT_REQUEST_BIT;
use cetera_proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
use cetera_state::{Applied, ApplyError};
use prost::Message as _;

use super::header::{put_varint, varint_len};
use super::status::Error;
use super::{NodeAccess, RpcServices, State, Wait, respond};
use crate::seam::{CallId, Outbound, Status};

/// Field numbers of `InternalRaftRequest` (D-7).
pub(super) mod field {
    pub(in crate::rpc) const PUT: u32 = 4;
    pub(in crate::rpc) const DELETE_RANGE: u32 = 5;
    pub(in crate::rpc) const TXN: u32 = 6;
    pub(in crate::rpc) const COMPACTION: u32 = 7;
    pub(in crate::rpc) const LEASE_GRANT: u32 = 8;
    pub(in crate::rpc) const LEASE_REVOKE: u32 = 9;
    pub(in crate::rpc) const ALARM: u32 = 10;
    pub(in crate::rpc) const HEADER: u32 = 100;
    pub(in crate::rpc) const DOWNGRADE_INFO_SET: u32 = 1302;
}

/// Gives out request ids (ID-5) to all front threads: the member's two bytes, the fronts' bit, then a number that starts
/// from the time and only counts up.
#[derive(Debug)]
pub struct RequestIds {
    member: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Ids from `first` on.
    pub fn new(first: u64) -> Self {
        RequestIds { member: first & !SUFFIX, next: AtomicU64::new(first & SUFFIX) }
    }

    /// The next id.
    pub fn next_id(&self) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed) & (SUFFIX >> 1);
        self.member | FRONT_REQUEST_BIT | number
    }

    /// The next lease id (L-1): positive.
    pub fn next_lease_id(&self) -> i64 {
        (self.next_id() & i64::MAX as u64) as i64
    }
}

/// The part of a request id below the member's.
const SUFFIX: u64 = (1 << 48) - 1;

impl<N: NodeAccess> RpcServices<N> {
    /// Orders a write; the call is answered with what apply makes of it.
    pub(super) fn propose(&mut self, call: CallId, field: u32, message: &[u8]) -> Result<(), Status> {
        self.propose_for(call, field, message, Wait::Applied)
    }

    pub(super) fn propose_for(&mut self, call: CallId, field: u32, message: &[u8], wait: Wait) -> Result<(), Status> {
        let id = self.settings.ids.next_id();
        let request = self.wrap(id, field, message);
        if request.len() > self.settings.max_request_bytes {
            return Err(Error::RequestTooLarge.into());
        }
        self.outbox.proposals.push(Proposal { ticket: self.ticket(call), id, request });
        self.calls.insert(call, State::Waits(wait));
        Ok(())
    }

    /// `InternalRaftRequest { <field>: message, header: { id } }` without decoding the message.
    fn wrap(&mut self, id: u64, field: u32, message: &[u8]) -> Bytes {
        let out = &mut self.proposals_arena;
        let header_len = 1 + varint_len(id);
        out.reserve(message.len() + header_len + 16);
        put_varint(out, u64::from(field << 3 | 2));
        put_varint(out, message.len() as u64);
        out.put_slice(message);
        put_varint(out, u64::from(field::HEADER << 3 | 2));
        put_varint(out, header_len as u64);
        out.put_u8(1 << 3);
        put_varint(out, id);
        out.split().freeze()
    }

    /// Refuses what grows the store while the reserve of free disk is being used up. No alarm: deletions, compactions and
    /// revocations pass, and the refusals end by themselves.
    pub(super) fn check_disk(&self) -> Result<(), Status> {
        if self.node.disk_low() { Err(Error::NoSpace.into()) } else { Ok(()) }
    }

    /// Whether a write of this cost fits the quota.
    pub(super) fn fits_quota(&self, cost: u64) -> bool {
        self.settings.quota_bytes.is_none_or(|quota| super::maintenance::db_bytes(&self.published) + cost < quota)
    }

    /// Refuses a write for lack of space, after the alarm that says so is in the log.
    pub(super) fn over_quota(&mut self, call: CallId) -> Result<(), Status> {
        let member_id = self.published.member_id;
        let alarm = AlarmType::Nospace as i32;
        if self.published.alarms.iter().any(|active| active.member_id == member_id && active.alarm == alarm) {
            return Err(Error::NoSpace.into());
        }
        let action = AlarmAction::Activate as i32;
        let request = AlarmRequest { action, member_id, alarm };
        self.propose_for(call, field::ALARM, &request.encode_to_vec(), Wait::OverQuota)
    }

    /// Answers a write with what apply made: a response without its header.
    pub(super) fn applied(
        &mut self,
        call: CallId,
        result: Result<Applied, ApplyError>,
        out: &mut Vec<Outbound>,
    ) -> Result<(), Status> {
        let slices = self.slices(result?);
        respond(call, slices, out);
        Ok(())
    }

    /// The response of what was applied.
    pub(super) fn slices(&mut self, applied: Applied) -> Vec<Bytes> {
        let revision = if applied.revision == 0 { self.published.view.revision() } else { applied.revision };
        let header = self.headers.shared(revision);
        if applied.body.is_empty() { vec![header] } else { vec![header, applied.body] }
    }
}
