//! Snapshots: who needs one, one that is sent, and states that are replaced by one although their log is whole.

use cetera_proto::raftpb;
use raft::eraftpb;

use super::{Group, Role};
use crate::convert;

impl Group {
    /// Members that need a snapshot and have none under way. Each is asked for again until one is offered.
    pub fn take_snapshot_wants(&mut self) -> Vec<u64> {
        self.raw.mut_store().take_snapshot_wants()
    }

    /// Has the snapshot sent to `member` now, as a message with this metadata; false if the member needs none any more.
    pub fn offer_snapshot(&mut self, member: u64, metadata: &raftpb::SnapshotMetadata) -> bool {
        let mut snapshot = eraftpb::Snapshot::default();
        snapshot.mut_metadata().index = metadata.index;
        snapshot.mut_metadata().term = metadata.term;
        let conf_state = metadata.conf_state.clone().unwrap_or_default();
        snapshot.mut_metadata().set_conf_state(convert::conf_state_in(&conf_state));
        self.raw.mut_store().offer(member, Some(snapshot));
        if self.role() == Role::Leader && self.raw.raft.prs().get(member).is_some() {
            self.raw.raft.send_append(member);
        }
        self.raw.mut_store().offer(member, None);
        self.raw.raft.prs().get(member).is_some_and(|progress| progress.state == raft::ProgressState::Snapshot)
    }

    /// The snapshot sent to `member` arrived, or did not.
    pub fn report_snapshot(&mut self, member: u64, ok: bool) {
        let status = if ok { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.raw.report_snapshot(member, status);
    }

    /// The lowest index that a snapshot for `member` must have, 0 if any will do.
    pub fn snapshot_floor(&self, member: u64) -> u64 {
        self.raw.raft.prs().get(member).map_or(0, |progress| progress.pending_request_snapshot)
    }

    /// Has `member` sent a snapshot although its log needs none, because its state is wrong. The snapshot must be of the
    /// end of this leader's log or later: until it is there nothing else is sent to the member.
    pub fn replace_state(&mut self, member: u64) {
        let index = self.last_index();
        if self.role() == Role::Leader
            && let Some(progress) = self.raw.raft.mut_prs().get_mut(member)
            && progress.state != raft::ProgressState::Snapshot
            && progress.pending_request_snapshot == raft::INVALID_INDEX
        {
            progress.become_probe();
            progress.pending_request_snapshot = index;
            self.raw.raft.send_append(member);
        }
    }

    /// Takes the message of a snapshot over even if the log here has all of it: this member's state is to be replaced.
    /// Everything after the snapshot goes with the state, so it must be of [`Group::replace_state`].
    pub fn step_replacement(&mut self, message: raftpb::Message) {
        // The library tells by this field that a snapshot was asked for, and then does not compare logs.
        self.raw.raft.pending_request_snapshot = self.last_index().max(1);
        self.step(message);
        self.raw.raft.pending_request_snapshot = raft::INVALID_INDEX;
    }
}
