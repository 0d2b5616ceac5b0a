//! What the leader writes into the log about leases: their ends, and what is left of those that nobody renews.
//!
//! All of it is proposed only as leader of the present term, by this member to itself, so that an old leader's word can
//! never commit. A lease's rest is recorded while nobody renews it, so that a successor, who cannot know renewals it did
//! not hear of, gives the recorded rest and not a full time again; most leases are renewed and never recorded (L-13).
//!
//! What is proposed about a lease is meant for the one that is applied here. By the time it is applied that may be gone,
//! and another be there under its id: so nothing is proposed about a lease that an entry of the log before it, which is
//! not applied yet, grants or revokes.

use std::collections::HashSet;

use bytes::Bytes;
use cetera_plant::{Bug, is_planted};
use cetera_proto::etcdserverpb as pb;
use prost::Message as _;

use super::{Mode, Node};
use crate::event::{Effects, Fatal};
use crate::limits;

impl Node {
    /// Proposes the revocation of every lease whose deadline has passed: one entry each, all in one append.
    pub(super) fn expire_leases(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        if self.mode != Mode::Running || !(self.leads() || is_planted(Bug::RevokeByOldLeader)) {
            return Ok(());
        }
        if self.revocations.len() >= limits::REVOCATIONS_UNDER_WAY_MAX {
            return Ok(());
        }
        let mut due = self.lessor.expire(self.now_ms, limits::REVOKE_RETRY_MS, limits::EXPIRIES_PER_APPEND_MAX);
        if due.is_empty() {
            return Ok(());
        }
        let changing = self.changing_leases();
        for lease in due.extract_if(.., |lease| changing.contains(lease)) {
            self.lessor.revocation_dropped(lease, self.now_ms);
        }
        let requests: Vec<(u64, i64, Bytes)> = due
            .into_iter()
            .map(|lease| {
                let revoke = Some(Box::new(pb::LeaseRevokeRequest { id: lease }));
                let (id, request) =
                    self.own_request(pb::InternalRaftRequest { lease_revoke: revoke, ..Default::default() });
                (id, lease, request)
            })
            .collect();
        if self.group.propose(requests.iter().map(|(_, _, request)| request.clone())).is_ok() {
            self.revocations.extend(requests.iter().map(|(id, lease, _)| (*id, *lease)));
            self.advance(effects)?;
        } else {
            for (_, lease, _) in requests {
                self.lessor.revocation_dropped(lease, self.now_ms);
            }
        }
        Ok(())
    }

    /// Proposes what is to be recorded of leases that are not renewed, and to be forgotten of those that are again.
    pub(super) fn record_leases(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        if self.mode != Mode::Running || !self.leads() || !self.group.takes_proposals() {
            return Ok(());
        }
        let clear: Vec<i64> = self.to_clear.iter().copied().filter(|lease| !self.clearing.contains(lease)).collect();
        let mut words: Vec<(i64, i64)> = clear.iter().map(|lease| (*lease, 0)).collect();
        // A record behind a clearance that is under way would outlive it.
        let unrecorded = self.lessor.unrecorded(self.now_ms, limits::RECORDS_PER_STEP_MAX);
        if !unrecorded.is_empty() {
            let changing = self.changing_leases();
            let may_be = |lease: &i64| !self.to_clear.contains(lease) && !changing.contains(lease);
            words.extend(unrecorded.into_iter().filter(|(lease, _)| may_be(lease)));
        }
        words.retain(|(lease, left)| *left == 0 || !self.clearing.contains(lease));
        if words.is_empty() {
            self.to_clear.clear();
            return Ok(());
        }
        let requests: Vec<Bytes> = words
            .chunks(limits::RECORDS_PER_ENTRY_MAX)
            .map(|words| {
                let checkpoint = |&(id, remaining_ttl): &(i64, i64)| pb::LeaseCheckpoint { id, remaining_ttl };
                let checkpoints = words.iter().map(checkpoint).collect();
                let request = Some(Box::new(pb::LeaseCheckpointRequest { checkpoints }));
                self.own_request(pb::InternalRaftRequest { lease_checkpoint: request, ..Default::default() }).1
            })
            .collect();
        // A record that was not taken counts as one all the same: the next renewal clears what is not there. What was to
        // be cleared is tried again.
        if self.group.propose(requests).is_ok() {
            self.to_clear.clear();
            self.clearing.extend(clear);
            self.advance(effects)?;
        }
        Ok(())
    }

    /// Leases that the log grants or revokes, committed or not, in entries that are not applied here.
    fn changing_leases(&self) -> HashSet<i64> {
        let requests = self.group.requests_after(self.state.applied_index());
        requests
            .filter_map(|request| {
                let request = pb::InternalRaftRequest::decode(request.clone()).ok()?;
                let granted = request.lease_grant.map(|grant| grant.id);
                granted.or(request.lease_revoke.map(|revoke| revoke.id))
            })
            .collect()
    }

    /// Encodes a request of the node's own, and gives it an id: the member's two bytes as everywhere (ID-5), then
    /// [`super::FRONT_REQUEST_BIT`] clear, which every front sets.
    pub(super) fn own_request(&mut self, request: pb::InternalRaftRequest) -> (u64, Bytes) {
        self.own_requests += 1;
        let id = (self.config.member_id << 48) | (self.config.nonce & 0x7fff) << 32 | (self.own_requests & 0xffff_ffff);
        let header = Some(pb::RequestHeader { id, ..Default::default() });
        (id, pb::InternalRaftRequest { header, ..request }.encode_to_vec().into())
    }
}
