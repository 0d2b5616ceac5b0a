//! Leases at this member: what the log did to them, renewals, questions, and their end.
//!
//! Time is the lessor's ([`crate::lessor`]); the log is the group's. Here the two meet: a revocation is proposed once a
//! deadline has passed, only as leader of the present term, and a renewal is answered from memory after a confirmed
//! round.

use bytes::Bytes;
use cetera_plant::{Bug, is_planted};
use cetera_proto::etcdserverpb as pb;
use cetera_state::LeaseEffect;
use prost::Message as _;

use super::{Mode, Node, refuse_all};
use crate::event::{Effects, Fatal, LeaseQuestion, Refusal, Renewal, Reply, Ticket};
use crate::lessor::Renewed;
use crate::limits;

impl Node {
    pub(super) fn lease_effect(&mut self, effect: Option<&LeaseEffect>, effects: &mut Effects) {
        match effect {
            Some(&LeaseEffect::Granted { id, ttl }) => self.lessor.granted(id, ttl, self.now_ms),
            Some(LeaseEffect::Revoked { id }) => {
                self.lessor.revoked(*id);
                for ticket in self.ending.remove(id).unwrap_or_default() {
                    effects.replies.push((ticket, Reply::Renewed { ttl: 0 }));
                }
            }
            Some(LeaseEffect::Checkpointed(_)) | None => {}
        }
    }

    /// Leadership, and with it the time of leases, is another's.
    pub(super) fn step_down(&mut self, effects: &mut Effects) {
        self.lessor.demote();
        self.revocations.clear();
        self.fail_endings(effects);
    }

    pub(super) fn renew(&mut self, renewal: Renewal, effects: &mut Effects) {
        if !self.lessor.is_primary() || !self.leads() {
            effects.replies.push((renewal.ticket, Reply::Refused(Refusal::NotPrimaryLessor)));
            return;
        }
        match self.lessor.renew(renewal.lease, self.now_ms) {
            Renewed::For(ttl) => effects.replies.push((renewal.ticket, Reply::Renewed { ttl })),
            Renewed::Unknown => effects.replies.push((renewal.ticket, Reply::Renewed { ttl: 0 })),
            Renewed::Ending => self.ending.entry(renewal.lease).or_default().push(renewal.ticket),
        }
    }

    /// Proposes the revocation of every lease whose deadline has passed: one entry each, all in one append, only as
    /// leader of the present term, so that an old leader's entries can never commit.
    pub(super) fn expire_leases(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        if self.mode != Mode::Running || !(self.leads() || is_planted(Bug::RevokeByOldLeader)) {
            return Ok(());
        }
        if self.revocations.len() >= limits::REVOCATIONS_UNDER_WAY_MAX {
            return Ok(());
        }
        let due = self.lessor.expire(self.now_ms, limits::REVOKE_RETRY_MS, limits::EXPIRIES_PER_APPEND_MAX);
        if due.is_empty() {
            return Ok(());
        }
        let requests: Vec<(u64, i64, Bytes)> = due
            .into_iter()
            .map(|lease| {
                let id = self.own_request_id();
                let request = pb::InternalRaftRequest {
                    header: Some(pb::RequestHeader { id, ..Default::default() }),
                    lease_revoke: Some(Box::new(pb::LeaseRevokeRequest { id: lease })),
                    ..Default::default()
                };
                (id, lease, request.encode_to_vec().into())
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

    pub(super) fn answer(&self, question: LeaseQuestion) -> Reply {
        if !self.lessor.is_primary() {
            return Reply::Refused(Refusal::NotPrimaryLessor);
        }
        match question {
            LeaseQuestion::Leases => Reply::Leases(self.lessor.by_expiry()),
            LeaseQuestion::TimeToLive { lease, keys } => match self.lessor.time_left(lease, self.now_ms) {
                None => Reply::TimeToLive { ttl: -1, granted: 0, keys: Vec::new() },
                Some((ttl, granted)) => {
                    Reply::TimeToLive { ttl, granted, keys: if keys { self.lease_keys(lease) } else { Vec::new() } }
                }
            },
        }
    }

    pub(super) fn lease_keys(&self, lease: i64) -> Vec<Bytes> {
        let lease = self.state.leases().get(lease);
        lease.map(|lease| lease.keys().map(Bytes::copy_from_slice).collect()).unwrap_or_default()
    }

    pub(super) fn fail_endings(&mut self, effects: &mut Effects) {
        let mut ending: Vec<(i64, Vec<Ticket>)> = self.ending.drain().collect();
        ending.sort_unstable_by_key(|(lease, _)| *lease);
        for (_, tickets) in ending {
            refuse_all(tickets, Refusal::NotPrimaryLessor, effects);
        }
    }
}
