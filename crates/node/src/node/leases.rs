//! Leases at this member: renewals and questions, and who waits for what the log does to a lease.
//!
//! Time is the lessor's ([`crate::lessor`]); the log is the group's ([`super::lease_log`]). A renewal is answered from
//! memory after a confirmed round, with two exceptions that wait for the log: a lease whose end is proposed, and one of
//! which less than its full time is recorded. The record must be gone before the renewal is acknowledged, or a successor
//! would count from it.

use bytes::Bytes;
use cetera_state::LeaseEffect;

use super::Node;
use crate::event::{Effects, LeaseQuestion, Refusal, Reply};
use crate::lessor::Renewed;
use crate::limits;
use crate::read::{Asker, LeaseWant};

/// A keep-alive that waits for the log.
#[derive(Copy, Clone, Debug)]
pub(super) struct Unsettled {
    asker: Asker,
    deadline_ms: u64,
}

impl Node {
    /// What an applied entry did.
    pub(super) fn lease_effect(&mut self, effect: Option<&LeaseEffect>, effects: &mut Effects) {
        match effect {
            Some(&LeaseEffect::Granted { id, ttl }) => self.lessor.granted(id, ttl, self.now_ms),
            Some(LeaseEffect::Revoked { id }) => {
                self.lessor.revoked(*id);
                for Unsettled { asker, .. } in self.unsettled.remove(id).unwrap_or_default() {
                    self.reply_lease(asker, Reply::Renewed { ttl: 0 }, effects);
                }
            }
            Some(LeaseEffect::Checkpointed(recorded)) => {
                for (id, _) in recorded.iter().filter(|(_, left)| *left == 0) {
                    self.clearing.remove(id);
                    self.lessor.record_cleared(*id, self.now_ms);
                    for Unsettled { asker, .. } in self.unsettled.remove(id).unwrap_or_default() {
                        self.renew(asker, *id, effects);
                    }
                }
            }
            None => {}
        }
    }

    /// Leadership, and with it the time of leases, is another's. Whoever waits for it is sent there: a client's
    /// keep-alive that nobody confirmed by an error, so that it may try another member (L-8), the rest by asking.
    pub(super) fn step_down(&mut self, effects: &mut Effects) {
        self.lessor.demote();
        self.forget_words();
        for (lease, unsettled) in std::mem::take(&mut self.unsettled) {
            for Unsettled { asker, deadline_ms } in unsettled {
                match asker {
                    Asker::Client(ticket) => self.asks.push(ticket, LeaseWant::Renew(lease), deadline_ms),
                    Asker::Member { .. } => self.not_primary(asker, effects),
                }
            }
        }
        for (deadline_ms, asker, want) in self.reads.take_leases() {
            match (asker, want) {
                (Asker::Client(ticket), LeaseWant::Ask(_)) => self.asks.push(ticket, want, deadline_ms),
                _ => self.not_primary(asker, effects),
            }
        }
    }

    /// What an earlier term proposed about leases is decided: all of it is applied, or none of it ever will be.
    pub(super) fn forget_words(&mut self) {
        self.revocations.clear();
        self.to_clear.clear();
        self.clearing.clear();
    }

    fn not_primary(&mut self, asker: Asker, effects: &mut Effects) {
        self.reply_lease(asker, Reply::Refused(Refusal::NotPrimaryLessor), effects);
    }

    /// Leadership was confirmed after this keep-alive arrived.
    pub(super) fn renew(&mut self, asker: Asker, lease: i64, effects: &mut Effects) {
        if !self.lessor.is_primary() || !self.leads() {
            return self.not_primary(asker, effects);
        }
        match self.lessor.renew(lease, self.now_ms) {
            Renewed::For(ttl) if !self.lessor.is_recorded(lease) => {
                self.reply_lease(asker, Reply::Renewed { ttl }, effects);
            }
            Renewed::Unknown => self.reply_lease(asker, Reply::Renewed { ttl: 0 }, effects),
            renewed => {
                if renewed != Renewed::Ending {
                    self.to_clear.insert(lease);
                }
                let deadline_ms = self.now_ms + self.config.request_timeout_ms();
                let waiting = self.unsettled.entry(lease).or_default();
                // Another member's question that came again waits once.
                waiting.retain(|it| it.asker != asker);
                if waiting.len() >= limits::UNSETTLED_PER_LEASE_MAX {
                    return self.reply_lease(asker, Reply::Refused(Refusal::TooManyRequests), effects);
                }
                waiting.push(Unsettled { asker, deadline_ms });
            }
        }
    }

    /// Refuses those for whom the log took too long.
    pub(super) fn expire_unsettled(&mut self, effects: &mut Effects) {
        let mut over = Vec::new();
        self.unsettled.retain(|_, unsettled| {
            over.extend(unsettled.extract_if(.., |it| it.deadline_ms <= self.now_ms));
            !unsettled.is_empty()
        });
        for Unsettled { asker, .. } in over {
            self.reply_lease(asker, Reply::Refused(Refusal::Timeout), effects);
        }
    }

    /// Refuses everyone who waits for the log.
    pub(super) fn refuse_unsettled(&mut self, refusal: Refusal, effects: &mut Effects) {
        for Unsettled { asker, .. } in std::mem::take(&mut self.unsettled).into_values().flatten() {
            self.reply_lease(asker, Reply::Refused(refusal), effects);
        }
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

    fn lease_keys(&self, lease: i64) -> Vec<Bytes> {
        let lease = self.state.leases().get(lease);
        lease.map(|lease| lease.keys().map(Bytes::copy_from_slice).collect()).unwrap_or_default()
    }
}
