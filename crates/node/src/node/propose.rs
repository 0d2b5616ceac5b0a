//! Writes and membership changes on their way into the log.
//!
//! What arrives in one batch enters the log as one append. While no leader is known, or leadership is being handed on,
//! proposals are held, in order, and proposed when there is somewhere to go: held ones were never sent, so none of them
//! travels twice. What was proposed once is never proposed again; its waiter learns the outcome when the entry is
//! applied here, or never.

use std::collections::VecDeque;

use cetera_plant::{Bug, is_planted};
use cetera_proto::raftpb;
use cetera_raft::{ConfProposal, Role};
use cetera_state::ApplyError;

use super::{Mode, Node, refuse_all};
use crate::event::{Change, Effects, Proposal, Refusal, Reply, Ticket};
use crate::limits;

/// What waits for a leader, with deadlines, in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Held {
    proposals: VecDeque<(u64, Proposal)>,
    changes: VecDeque<(u64, Change)>,
    bytes: usize,
    /// Proposals that other members sent here.
    forwarded: VecDeque<(u64, raftpb::Message)>,
    forwarded_bytes: usize,
}

impl Held {
    /// Takes everyone.
    pub(super) fn drain(&mut self) -> Vec<Ticket> {
        self.bytes = 0;
        self.forwarded.clear();
        self.forwarded_bytes = 0;
        let proposals = self.proposals.drain(..).map(|(_, proposal)| proposal.ticket);
        proposals.chain(self.changes.drain(..).map(|(_, change)| change.ticket)).collect()
    }

    /// Takes everyone whose time is up.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<Ticket> {
        let mut due = Vec::new();
        while self.proposals.front().is_some_and(|(deadline, _)| *deadline <= now_ms) {
            let (_, proposal) = self.proposals.pop_front().expect("front was there");
            self.bytes -= proposal.request.len();
            due.push(proposal.ticket);
        }
        while self.changes.front().is_some_and(|(deadline, _)| *deadline <= now_ms) {
            due.extend(self.changes.pop_front().map(|(_, change)| change.ticket));
        }
        // Where they came from their callers have been told that time is up.
        while self.forwarded.front().is_some_and(|(deadline, _)| *deadline <= now_ms) {
            let (_, message) = self.forwarded.pop_front().expect("front was there");
            self.forwarded_bytes -= data_bytes(&message);
        }
        due
    }
}

impl Node {
    /// Proposes all that waits, if there is a leader to take it: writes as one append, or none of them.
    pub(super) fn propose(&mut self, effects: &mut Effects) {
        self.admit_proposals(effects);
        if self.mode != Mode::Running || !self.group.takes_proposals() || self.leader_is_gone() {
            return;
        }
        self.held.forwarded_bytes = 0;
        for (_, message) in std::mem::take(&mut self.held.forwarded) {
            self.group.step(message);
        }
        let proposals = std::mem::take(&mut self.held.proposals);
        self.held.bytes = 0;
        if !proposals.is_empty() {
            if self.group.propose(proposals.iter().map(|(_, proposal)| proposal.request.clone())).is_ok() {
                for (deadline, proposal) in proposals {
                    cetera_plant::keep(self.config.member_id, proposal.id, &proposal.request);
                    self.waiters.insert(proposal.id, proposal.ticket, proposal.request.len(), deadline);
                }
            } else {
                // There is a leader, and it takes proposals: too much of what it has is not committed yet.
                let tickets = proposals.into_iter().map(|(_, proposal)| proposal.ticket);
                refuse_all(tickets, Refusal::TooManyRequests, effects);
            }
        }
        // A leader refuses changes until it has applied what its predecessors left.
        if self.group.role() != Role::Leader || self.group.applied_in_term() {
            for (deadline, change) in std::mem::take(&mut self.held.changes) {
                self.propose_change(deadline, change, effects);
            }
        }
    }

    /// Whether this is a proposal of another member that has nowhere to go at the moment.
    pub(super) fn has_to_wait(&self, message: &raftpb::Message) -> bool {
        message.r#type() == raftpb::MessageType::MsgProp && !self.group.takes_proposals()
    }

    /// Beyond the bound it is dropped, as a lost message would be.
    pub(super) fn hold_forwarded(&mut self, message: raftpb::Message) {
        let bytes = data_bytes(&message);
        if self.held.forwarded_bytes + bytes <= limits::HELD_FORWARDED_BYTES_MAX {
            self.held.forwarded_bytes += bytes;
            self.held.forwarded.push_back((self.now_ms + self.config.request_timeout_ms(), message));
        }
    }

    /// Holds what arrived, unless there is too much of it.
    fn admit_proposals(&mut self, effects: &mut Effects) {
        let proposals = std::mem::take(&mut self.proposals);
        let changes = std::mem::take(&mut self.changes);
        if proposals.is_empty() && changes.is_empty() {
            return;
        }
        let bytes: usize = proposals.iter().map(|proposal| proposal.request.len()).sum();
        let behind = self.group.committed().saturating_sub(self.state.applied_index());
        let waiting = self.waiters.bytes() + self.held.bytes + bytes;
        let refusal = if self.mode != Mode::Running {
            Some(Refusal::Stopped)
        } else if self.fenced {
            Some(Refusal::Corrupt)
        } else if behind > limits::UNAPPLIED_ENTRIES_MAX || waiting > limits::WAITING_BYTES_MAX {
            Some(Refusal::TooManyRequests)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let changes = changes.into_iter().map(|change| change.ticket);
            refuse_all(proposals.into_iter().map(|proposal| proposal.ticket).chain(changes), refusal, effects);
            return;
        }
        let deadline = self.now_ms + self.config.request_timeout_ms();
        self.held.bytes += bytes;
        self.held.proposals.extend(proposals.into_iter().map(|proposal| (deadline, proposal)));
        self.held.changes.extend(changes.into_iter().map(|change| (deadline, change)));
    }

    fn propose_change(&mut self, deadline: u64, change: Change, effects: &mut Effects) {
        let Change { ticket, change, promotes } = change;
        if promotes && let Err(reply) = self.may_promote(change.node_id) {
            effects.replies.push((ticket, reply));
            return;
        }
        match self.group.propose_conf_change(&change) {
            Ok(ConfProposal::Accepted) => self.waiters.insert(change.id, ticket, change.context.len(), deadline),
            Ok(ConfProposal::Refused) => refuse_all([ticket], Refusal::ChangeUnderWay, effects),
            Err(_) => refuse_all([ticket], Refusal::TooManyRequests, effects),
        }
    }

    /// C-6: the learner must have nearly all that the leader's disk has. What is no learner is left to apply to refuse.
    fn may_promote(&self, member: u64) -> Result<(), Reply> {
        if !self.leads() {
            return Err(Reply::Refused(Refusal::NotLeader));
        }
        let progress = self.group.progress();
        let matched = |id: u64| progress.iter().find(|progress| progress.member == id).map(|progress| progress.matched);
        let Some(theirs) = matched(member) else {
            return Err(Reply::Changed { result: Err(ApplyError::MemberNotFound), members: self.state.members() });
        };
        let ours = matched(self.config.member_id).unwrap_or_default();
        if theirs * 100 < ours * limits::LEARNER_READY_PERCENT && !is_planted(Bug::PromotedUnready) {
            return Err(Reply::Refused(Refusal::LearnerNotReady));
        }
        Ok(())
    }

    /// Applies a committed membership change, in the state first, then in the group.
    pub(super) fn apply_change(
        &mut self,
        index: u64,
        term: u64,
        mut change: raftpb::ConfChange,
        effects: &mut Effects,
    ) -> Result<(), crate::event::Fatal> {
        let outcome = self.state.apply_conf_change(index, term, &change).map_err(super::fatal)?;
        if outcome.result.is_err() {
            // The group still counts it as applied; a change of node 0 changes nothing.
            change.node_id = 0;
        }
        let conf_state = self.group.apply_conf_change(&change).map_err(crate::event::Fatal)?;
        let miscounts = is_planted(Bug::RemovedMemberCounts) || is_planted(Bug::LearnerCounts);
        assert!(
            conf_state == outcome.conf_state || miscounts,
            "the group and the state disagree on who votes: {conf_state:?}, {:?}",
            outcome.conf_state
        );
        if let Some(ticket) = self.waiters.take(outcome.request_id) {
            effects.replies.push((ticket, Reply::Changed { result: outcome.result, members: outcome.members }));
        }
        Ok(())
    }
}

fn data_bytes(message: &raftpb::Message) -> usize {
    message.entries.iter().map(|entry| entry.data.len()).sum()
}
