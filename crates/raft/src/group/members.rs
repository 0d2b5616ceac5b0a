//! Who the members are, and changes of that.

use cetera_plant::{Bug, is_planted};
use cetera_proto::raftpb;
use prost::Message as _;
use raft::eraftpb;

use super::{Entry, EntryKind, Group, ProposeError, Role};
use crate::convert;

/// What became of a proposed membership change.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ConfProposal {
    /// In the log, or on its way to the leader.
    Accepted,
    /// Another change is under way; the library logged an empty entry instead, so the waiter must be failed.
    Refused,
}

impl Group {
    /// Proposes a membership change, in etcd's encoding.
    ///
    /// # Errors
    /// As [`Group::propose`].
    pub fn propose_conf_change(&mut self, change: &raftpb::ConfChange) -> Result<ConfProposal, ProposeError> {
        let data = change.encode_to_vec().into();
        let entry = Entry { index: 0, term: 0, kind: EntryKind::ConfChange, data };
        self.step_proposal(vec![convert::entry_in(entry)])?;
        let refused = self.role() == Role::Leader
            && self
                .raw
                .raft
                .raft_log
                .unstable_entries()
                .last()
                .is_some_and(|entry| entry.entry_type == eraftpb::EntryType::EntryNormal);
        Ok(if refused { ConfProposal::Refused } else { ConfProposal::Accepted })
    }

    /// Applies a committed membership change and returns the members after it.
    ///
    /// # Errors
    /// The library's text if the change is impossible; the log then differs from every other member's: stop.
    pub fn apply_conf_change(&mut self, change: &raftpb::ConfChange) -> Result<raftpb::ConfState, String> {
        let change = &miscounted(change);
        let state = match convert::conf_change_in(change) {
            Some(change) => self.raw.apply_conf_change(&change).map_err(|error| error.to_string())?,
            None => self.raw.raft.prs().conf().to_conf_state(),
        };
        let out = convert::conf_state_out(&state);
        self.raw.mut_store().set_conf_state(state);
        if self.role() == Role::Leader && !out.voters.contains(&self.config.id) {
            self.abdicate();
        }
        Ok(out)
    }

    /// Tells the members of the group as they are now.
    pub fn conf_state(&self) -> raftpb::ConfState {
        convert::conf_state_out(&self.raw.raft.prs().conf().to_conf_state())
    }

    /// Whether this member is the only voter.
    pub fn is_sole_voter(&self) -> bool {
        self.raw.raft.prs().is_singleton() && self.raw.raft.promotable()
    }

    /// Whether there is nobody but this member, voter or learner.
    pub fn is_alone(&self) -> bool {
        self.is_sole_voter() && self.raw.raft.prs().iter().count() == 1
    }
}

/// The change as a bug has it, if there is one.
fn miscounted(change: &raftpb::ConfChange) -> raftpb::ConfChange {
    use raftpb::ConfChangeType::{ConfChangeAddLearnerNode, ConfChangeAddNode, ConfChangeRemoveNode};
    let mut change = change.clone();
    if is_planted(Bug::RemovedMemberCounts) && change.r#type() == ConfChangeRemoveNode {
        change.node_id = 0;
    }
    if is_planted(Bug::LearnerCounts) && change.r#type() == ConfChangeAddLearnerNode {
        change.r#type = ConfChangeAddNode as i32;
    }
    change
}
