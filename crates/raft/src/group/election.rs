//! Who leads, and who may: campaigns, their timeouts, hand-overs, and a leader whose disk stands still.

use raft::StateRole;

use super::{Group, Role, STALL_ELECTIONS};

impl Group {
    /// Starts an election now, unless this member leads, is no voter, or has log entries that are not durable yet.
    pub fn campaign(&mut self) {
        if self.may_campaign() && self.raw.raft.promotable() {
            // An error means the library ignored it; there is nothing to undo.
            let _ = self.raw.campaign();
            self.draw_election_timeout();
        }
    }

    /// Hands leadership to `member` (R-4, M-7). No proposal is taken until it leads, or an election timeout has passed.
    pub fn transfer_leader(&mut self, member: u64) {
        self.raw.transfer_leader(member);
    }

    /// The member to which leadership is being handed.
    pub fn transferring_to(&self) -> Option<u64> {
        self.raw.raft.lead_transferee
    }

    /// Whether a proposal has somewhere to go: a leader is known, and leadership is not on the move.
    pub fn takes_proposals(&self) -> bool {
        self.leader() != raft::INVALID_ID && self.transferring_to().is_none()
    }

    /// Counts `ticks` as passed without a leader: at a start, when the others are there and none of them leads. It
    /// begins no election by itself; the next ticks do.
    pub fn advance_election(&mut self, ticks: usize) {
        if self.role() == Role::Follower && self.leader() == raft::INVALID_ID {
            let timeout = self.raw.raft.randomized_election_timeout();
            self.raw.raft.election_elapsed = (self.raw.raft.election_elapsed + ticks).min(timeout.saturating_sub(1));
        }
    }

    /// A follower whose connection to the leader was reset stops trusting it at once: the next tick asks for
    /// pre-votes, and this member grants them.
    pub fn leader_connection_lost(&mut self) {
        if self.role() == Role::Follower {
            let timeout = self.raw.raft.randomized_election_timeout();
            self.raw.raft.election_elapsed = timeout.max(self.config.election_ticks);
        }
    }

    /// Whether the leader was not heard of for an election timeout, or counts as such: then pre-votes are granted.
    pub fn leader_is_silent(&self) -> bool {
        self.role() == Role::Follower && self.raw.raft.election_elapsed >= self.config.election_ticks
    }

    /// This member may not stand for election, or may again. Its votes for others and its acknowledgements are not in
    /// question.
    pub fn bar(&mut self, barred: bool) {
        self.barred = barred;
    }

    /// A leader whose disk stands still holds up everything that is only answered by it, and its heartbeats keep the
    /// others from electing one that is better off. After [`STALL_ELECTIONS`] it lets go.
    pub(super) fn watch_disk(&mut self) {
        let (number, ticks) = self.awaited;
        self.awaited = if self.persisted >= number { (self.issued, 0) } else { (number, ticks + 1) };
        if self.awaited.1 > STALL_ELECTIONS * self.config.election_ticks
            && self.role() == Role::Leader
            && !self.is_sole_voter()
        {
            let term = self.term();
            self.raw.raft.become_follower(term, 0);
        }
    }

    /// A sole voter wins its election inside one call, and the library then insists that its log is durable. Others
    /// reach leadership only by votes that followed durable requests; for them the same wait costs nothing.
    pub(super) fn may_campaign(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        !self.barred && log.last_index() == log.persisted && self.issued == self.persisted
    }

    pub(super) fn would_campaign(&self) -> bool {
        let raft = &self.raw.raft;
        raft.state != StateRole::Leader
            && raft.promotable()
            && raft.election_elapsed + 1 >= raft.randomized_election_timeout()
    }

    pub(super) fn draw_election_timeout(&mut self) {
        let now = (self.raw.raft.term, self.raw.raft.state);
        if now != self.drawn_for {
            self.drawn_for = now;
            let ticks = self.config.election_ticks;
            self.drawn = self.rng.within(ticks, 2 * ticks);
        }
        // The library draws its own at every reset, from a generator that no seed repeats.
        if self.raw.raft.randomized_election_timeout() != self.drawn {
            self.raw.raft.set_randomized_election_timeout(self.drawn);
        }
    }
}
