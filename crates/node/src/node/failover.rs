//! A leader whose process is gone: no need to wait for a timeout that is there for partitions.
//!
//! The shell saw the connection to the leader reset or refused. This member then counts the leader as silent for long
//! enough, so that it grants pre-votes at once, and stands itself after a few milliseconds, some of them random: the survivors take
//! turns. Until one of them leads, proposals are held and not sent after the one that is gone. Members that did not
//! see it keep faith with the leader they hear, and a pre-vote changes nothing for them: nobody is disturbed who should
//! not be. If the leader is heard again, nothing happens.

use cetera_proto::raftpb;
use cetera_raft::Role;

use super::{Mode, Node};
use crate::event::Effects;
use crate::limits;

/// An election that was begun early.
#[derive(Copy, Clone, Debug)]
pub(super) struct Failover {
    /// When to stand (again).
    at_ms: u64,
    /// How long an election is given from now on: longer with each that came to nothing, because disks may be slow.
    round_ms: u64,
    /// What is wrong then is more than a lost leader: the election timeout takes over.
    until_ms: u64,
}

impl Node {
    /// The process of a member is gone.
    pub(super) fn peer_gone(&mut self, member: u64) {
        self.heard_ms.remove(&member);
        self.group.report_unreachable(member);
        if self.mode == Mode::Running && member == self.group.leader() {
            self.group.leader_connection_lost();
            // Each of its connections ends, and each new one is refused: that is the same loss.
            if self.failover.is_none() {
                let until_ms = self.now_ms + self.config.election_ms;
                self.failover = Some(Failover { at_ms: 0, round_ms: limits::FAILOVER_ROUND_MS, until_ms });
                self.stand_later(0);
            }
        }
    }

    /// Another member stands: what it began first may end first, if it can win at all.
    pub(super) fn yield_to(&mut self, message: &raftpb::Message) {
        let asks = matches!(message.r#type(), raftpb::MessageType::MsgPreVote | raftpb::MessageType::MsgVote);
        if let Some(Failover { round_ms, .. }) = self.failover
            && asks
            && message.index >= self.group.last_index()
        {
            self.stand_later(round_ms);
        }
    }

    /// Stands, if it is time to and nobody leads yet.
    pub(super) fn stand(&mut self, effects: &mut Effects) {
        let Some(failover) = &mut self.failover else { return };
        let found = self.group.role() == Role::Leader || (self.group.leader() != 0 && !self.group.leader_is_silent());
        if found || self.mode != Mode::Running || self.now_ms >= failover.until_ms {
            self.failover = None;
        } else if failover.at_ms <= self.now_ms {
            if self.group.is_settled() {
                let round_ms = failover.round_ms;
                failover.round_ms *= 2;
                // Also a candidate: the votes it asked for may have been asked of one that led just then.
                self.group.campaign();
                self.stand_later(round_ms);
            } else {
                // A vote given to another is on its way to the disk: standing now would be against that one.
                self.stand_later(limits::FAILOVER_STEP_MS);
            }
        }
        effects.wake_ms = self.failover.map(|failover| failover.at_ms);
    }

    /// Whether a lost leader has no successor yet that is known here.
    pub(super) fn leader_is_gone(&self) -> bool {
        self.failover.is_some() && self.group.leader_is_silent()
    }

    fn stand_later(&mut self, after_ms: u64) {
        let (me, gone) = (self.config.member_id, self.group.leader());
        let voters = self.state.members();
        let before_me = voters.iter().filter(|it| !it.is_learner && it.id != gone && it.id < me).count() as u64;
        let random = self.rng.within(1, limits::FAILOVER_STEP_MS as usize) as u64;
        let spread = before_me * limits::FAILOVER_STEP_MS + random;
        if let Some(failover) = &mut self.failover {
            failover.at_ms = failover.at_ms.max(self.now_ms + after_ms + spread);
        }
    }
}
