//! When a leader tells the others what is committed.
//!
//! The library tells it at once, in a message of its own to each follower that each answers: half of all messages of a
//! single writer. Here the next entries carry it; without any, the owner says when it has waited long enough.

use super::{Group, Role};

/// What followers are not told yet of the commit index.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum CommitNews {
    /// Nothing.
    Told,
    /// It went on. No request is known that waits for it elsewhere.
    MayWait,
    /// Another member proposed some of it, and has somebody who waits.
    Awaited,
}

/// What was told, and what is waited for.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Term this is of.
    term: u64,
    /// Commit index when something was sent to all last.
    told: u64,
    /// Last entry that another member proposed.
    awaited: u64,
}

impl Group {
    /// What followers are not told yet.
    pub fn commit_news(&self) -> CommitNews {
        let told = if self.news.term == self.term() { self.news.told } else { 0 };
        if self.role() != Role::Leader || self.is_alone() || self.committed() <= told {
            CommitNews::Told
        } else if self.news.awaited > told {
            CommitNews::Awaited
        } else {
            CommitNews::MayWait
        }
    }

    /// Tells all others what is committed.
    pub fn tell_commit(&mut self) {
        if self.role() == Role::Leader {
            self.raw.raft.bcast_append();
            self.told();
        }
    }

    /// Entries were sent to all, and the commit index with them.
    pub(super) fn told(&mut self) {
        self.news.term = self.term();
        self.news.told = self.committed();
    }

    /// All entries up to the last are waited for by whoever proposed them.
    pub(super) fn await_last(&mut self) {
        self.news.awaited = self.last_index();
    }
}
