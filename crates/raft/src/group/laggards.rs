//! What the others have of the log, and what they need of it that only the disk has.

use super::{Entry, Group, MESSAGE_BYTES_MAX, Role};
use crate::convert;
use crate::log::FETCH_BYTES_MAX;

/// What the leader knows of a member's log.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Progress {
    /// The member.
    pub member: u64,
    /// Entries up to this one are the leader's, and durable.
    pub matched: u64,
    /// It was heard to know that entries up to this one are committed.
    pub committed: u64,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// Whether it waits for a snapshot.
    pub in_snapshot: bool,
}

impl Group {
    /// What this member, as leader, knows of all members' logs, its own among them, by id.
    pub fn progress(&self) -> Vec<Progress> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        let tracker = self.raw.raft.prs();
        let mut all: Vec<Progress> = tracker
            .iter()
            .map(|(&member, progress)| Progress {
                member,
                matched: progress.matched,
                committed: progress.committed_index,
                is_learner: tracker.conf().learners().contains(&member),
                in_snapshot: progress.state == raft::ProgressState::Snapshot,
            })
            .collect();
        all.sort_unstable_by_key(|progress| progress.member);
        all
    }

    /// The lowest index that another member is known to have, as far as this member, as leader, knows.
    pub fn lowest_match(&self) -> Option<u64> {
        let others = self.raw.raft.prs().iter().filter(|(id, _)| **id != self.config.id);
        others.map(|(_, progress)| progress.matched).min().filter(|_| self.role() == Role::Leader)
    }

    /// The first entry that can still be sent, from memory or from the disk.
    pub fn first_index(&self) -> u64 {
        self.raw.raft.raft_log.first_index()
    }

    /// Entries through this index are no longer kept for members that lag: the log on disk need not keep them either.
    pub fn dropped(&self) -> u64 {
        self.raw.store().before()
    }

    /// First entries of ranges that members need and that only the disk has: read each, [`FETCH_BYTES_MAX`] at most, and
    /// answer with [`Group::fetched`]. A member is read ahead for by one range at most, so that what is under way to it
    /// is bounded.
    pub fn take_fetches(&mut self) -> Vec<u64> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        // What a member has of our log is known only once it takes what it is sent.
        let known = |progress: &raft::Progress| match progress.state {
            raft::ProgressState::Replicate => progress.matched,
            _ => u64::MAX - 1,
        };
        let next: Vec<(u64, u64)> =
            self.raw.raft.prs().iter().map(|(_, progress)| (progress.next_idx, known(progress))).collect();
        self.raw.mut_store().let_go_of_sent(next.iter().map(|(next, _)| *next));
        self.raw.mut_store().take_wants(|log, low| {
            let Some(first) = log.read_before(low) else { return true };
            next.iter().any(|(next, matched)| *next == low && matched + 1 >= first)
        })
    }

    /// The entries from `low` on, as read from the disk; `None` if they cannot be had: who needs them gets a snapshot.
    pub fn fetched(&mut self, low: u64, entries: Option<Vec<Entry>>) {
        debug_assert!(FETCH_BYTES_MAX as u64 >= MESSAGE_BYTES_MAX, "a read is worth a message");
        let entries = entries.map(|entries| entries.into_iter().map(convert::entry_in).collect());
        if self.raw.store().before() < low {
            return;
        }
        for context in self.raw.mut_store().fetched(low, entries) {
            self.raw.on_entries_fetched(context);
        }
    }

    /// The disk lets go of the entries through this one.
    pub fn released(&mut self, through: u64) {
        self.raw.mut_store().released(through);
    }

    /// Messages to `member` were lost: what was sent ahead of its answers is sent again.
    pub fn report_unreachable(&mut self, member: u64) {
        self.raw.report_unreachable(member);
    }
}
