//! Leadership handed on (M-7, R-4), and who has been heard of.
//!
//! The library does the handing: the successor is brought up to date, then told to stand at once. It may come to
//! nothing (the successor is gone, say); the library gives up after an election timeout, and whoever waits is told.

use std::sync::Arc;

use super::{Mode, Node, refuse_all};
use crate::event::{Effects, Refusal, Reply, Ticket};
use crate::published::MemberProgress;

/// A hand-over under way.
#[derive(Copy, Clone, Debug)]
pub(super) struct Transfer {
    ticket: Ticket,
    to: u64,
    deadline_ms: u64,
}

impl Node {
    pub(super) fn begin_transfer(&mut self, ticket: Option<Ticket>, to: u64, effects: &mut Effects) {
        match self.try_transfer(to) {
            Ok(to) => {
                let deadline_ms = self.now_ms + self.config.request_timeout_ms();
                self.transfers.extend(ticket.map(|ticket| Transfer { ticket, to, deadline_ms }));
            }
            Err(refusal) => refuse_all(ticket, refusal, effects),
        }
    }

    fn try_transfer(&mut self, to: u64) -> Result<u64, Refusal> {
        if self.mode == Mode::Stopped {
            return Err(Refusal::Stopped);
        }
        if !self.leads() {
            return Err(Refusal::NotLeader);
        }
        let to = if to == 0 { self.successor().ok_or(Refusal::BadLeaderTransferee)? } else { to };
        if self.state.membership().get(to).is_none_or(|member| member.is_learner) {
            return Err(Refusal::BadLeaderTransferee);
        }
        if to != self.config.member_id {
            self.group.transfer_leader(to);
        }
        Ok(to)
    }

    /// The voter furthest ahead among those lately heard of; the lowest id among equals.
    fn successor(&self) -> Option<u64> {
        let progress = self.progress();
        let able = progress.iter().filter(|progress| progress.is_active && !progress.is_learner);
        able.rev().max_by_key(|progress| progress.matched).map(|progress| progress.member)
    }

    /// Tells those who wait for a hand-over what came of it.
    pub(super) fn settle_transfers(&mut self, effects: &mut Effects) {
        if self.transfers.is_empty() {
            return;
        }
        let (leader, me, handing) = (self.leader(), self.config.member_id, self.group.transferring_to());
        for transfer in std::mem::take(&mut self.transfers) {
            let given_up = leader == me && handing != Some(transfer.to);
            if leader == transfer.to {
                effects.replies.push((transfer.ticket, Reply::Transferred(leader)));
            } else if given_up || transfer.deadline_ms <= self.now_ms {
                refuse_all([transfer.ticket], Refusal::Timeout, effects);
            } else {
                self.transfers.push(transfer);
            }
        }
    }

    pub(super) fn fail_transfers(&mut self, refusal: Refusal, effects: &mut Effects) {
        refuse_all(self.transfers.drain(..).map(|transfer| transfer.ticket), refusal, effects);
    }

    /// What the leader knows of the others.
    pub(super) fn progress(&self) -> Vec<MemberProgress> {
        if !self.leads() {
            return Vec::new();
        }
        let others = self.group.progress().into_iter().filter(|progress| progress.member != self.config.member_id);
        others
            .map(|progress| MemberProgress {
                member: progress.member,
                matched: progress.matched,
                is_active: self
                    .heard_ms
                    .get(&progress.member)
                    .is_some_and(|heard| heard + self.config.election_ms > self.now_ms),
                is_learner: progress.is_learner,
                in_snapshot: progress.in_snapshot,
            })
            .collect()
    }

    /// The tick renews what is published of the others, if it changed.
    pub(super) fn look_at_progress(&mut self) {
        let progress = self.progress();
        if *self.progress != progress {
            self.progress = Arc::new(progress);
            self.dirty = true;
        }
    }
}
