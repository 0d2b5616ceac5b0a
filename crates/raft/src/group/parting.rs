//! A leader that is removed: it hands on its office, and what only it knows.
//!
//! The library lets such a leader go on. Here it steps down with the change, tells those that remain what is committed
//! and the best of them to stand, and, as long as its process lives, tells one that asks for votes what is committed.

use cetera_proto::raftpb::{self, MessageType};

use super::{Group, Progress, Role};

/// What a leader that was removed remembers.
pub(super) struct Parted {
    /// In which it led.
    term: u64,
    /// Voters that remained, and how much of the log each was known to have.
    rest: Vec<Progress>,
}

impl Group {
    /// A leader that has no vote any more leads nobody: the library would go on with it, and not find it among the
    /// members. The voter that is furthest ahead is told to stand at once.
    pub(super) fn abdicate(&mut self) {
        let term = self.term();
        let rest: Vec<Progress> = self.progress().into_iter().filter(|progress| !progress.is_learner).collect();
        for progress in &rest {
            let told = self.own_message(MessageType::MsgHeartbeat, progress.member, term);
            let commit = progress.matched.min(self.committed());
            self.released.push(raftpb::Message { commit, ..told });
        }
        if let Some(next) = rest.iter().rev().max_by_key(|progress| progress.matched) {
            self.released.push(self.own_message(MessageType::MsgTimeoutNow, next.member, term));
        }
        self.parted = Some(Parted { term, rest });
        self.raw.raft.become_follower(term, raft::INVALID_ID);
    }

    /// The last one of two that remains may not know that it is alone: the leader that was removed may have been the
    /// only one that knew, and then it needs the vote of one whose log is longer. It is told what is committed when it
    /// asks, as a leader tells it: of the term in which this one led; and of later ones, if nobody but the one that asks
    /// could lead in them. `false` if there is nothing to tell.
    pub(super) fn tell_parting_commit(&mut self, message: &raftpb::Message) -> bool {
        let Some(Parted { term, rest }) = &self.parted else { return false };
        let is_last = matches!(&rest[..], [last] if last.member == message.from);
        let asked_in = match message.r#type() {
            MessageType::MsgPreVote => message.term.saturating_sub(1),
            MessageType::MsgVote if is_last => message.term,
            _ => return false,
        };
        let of = rest.iter().find(|progress| progress.member == message.from);
        let commit = of.map_or(0, |progress| progress.matched).min(self.committed());
        let told_in = asked_in.max(*term);
        let may_tell = is_last || (told_in == *term && *term == self.term());
        if !may_tell || message.commit >= commit || self.role() != Role::Follower {
            return false;
        }
        let told = self.own_message(MessageType::MsgHeartbeat, message.from, told_in);
        self.released.push(raftpb::Message { commit, ..told });
        true
    }

    fn own_message(&self, kind: MessageType, to: u64, term: u64) -> raftpb::Message {
        raftpb::Message { r#type: kind as i32, from: self.config.id, to, term, ..Default::default() }
    }
}
