//! What a member is and knows.

use bytes::Bytes;
use cetera_proto::raftpb;
use raft::StateRole;
use raft::eraftpb::EntryType;

use super::{Entry, Group, Role};
use crate::convert;

impl Group {
    /// Term, vote and commit index as they are now, durable or not.
    pub fn hard_state(&self) -> raftpb::HardState {
        convert::hard_state_out(&self.raw.raft.hard_state())
    }

    /// Current term.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Leader's id, 0 if none is known.
    pub fn leader(&self) -> u64 {
        self.raw.raft.leader_id
    }

    /// Commit index known here.
    pub fn committed(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// Index of the last entry of the log.
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// The entry at `index`, if it is still kept in memory. For checks.
    pub fn entry(&self, index: u64) -> Option<Entry> {
        self.raw.store().get(index).map(convert::entry_out)
    }

    /// What was proposed in the entries behind `index`, those that are in memory: what is not applied always is.
    pub fn requests_after(&self, index: u64) -> impl Iterator<Item = &Bytes> {
        let log = self.raw.store();
        let first = index.max(log.before()) + 1;
        (first..=self.last_index())
            .filter_map(|index| log.get(index))
            .filter(|entry| entry.entry_type == EntryType::EntryNormal)
            .map(|entry| &entry.data)
    }

    /// Part played now.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    /// Whether an entry of the current term is committed: only then does the library answer reads.
    pub fn committed_in_term(&self) -> bool {
        self.raw.raft.commit_to_current_term()
    }

    /// Whether an entry of the current term is applied: everything of earlier terms is, too.
    pub fn applied_in_term(&self) -> bool {
        self.raw.raft.apply_to_current_term()
    }

    /// Whether the disk has all that this member wrote: what it knows and what it voted is said.
    pub fn is_settled(&self) -> bool {
        self.issued == self.persisted
    }
}
