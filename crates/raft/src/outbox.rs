//! Messages that wait for the disk, and the rule of what may leave when.
//!
//! A message that claims something of the log (an append response, a vote request, a vote) may leave only when every
//! ready up to the one it came with is durable: sent earlier, a crash could make it a lie. A message that claims
//! nothing but the sender's term (heartbeat response, pre-vote request, read-index traffic, a forwarded proposal) may
//! leave as soon as the last change of term or vote is durable, so that liveness and reads never stand behind the sync
//! of a large batch. What a leader says is of that kind. One of several voters has its term on disk long before it leads;
//! a sole voter leads the moment it stands, and a learner that heard of a term which a crash then forgot would take
//! another leader's entries of the same term for the first one's.

use std::collections::VecDeque;

use cetera_plant::{Bug, is_planted};
use cetera_proto::raftpb::{Message, MessageType};

/// Held-back messages by the ready they came with.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    held: VecDeque<(u64, Vec<Message>)>,
    /// A leader's, which wait for its term alone.
    of_new_term: Vec<Message>,
    /// Number of the last ready that changed term or vote.
    vote_changed_in: u64,
    /// All readies up to this one are durable.
    persisted: u64,
}

impl Outbox {
    /// Notes that ready `number` carries a new term or vote.
    pub(crate) fn vote_changes(&mut self, number: u64) {
        self.vote_changed_in = number;
    }

    /// Takes the messages that came when `number` was the newest ready that anything of had to become durable; returns
    /// those that may leave now.
    pub(crate) fn push(&mut self, number: u64, messages: Vec<Message>) -> Vec<Message> {
        if number <= self.persisted {
            return messages;
        }
        let term_is_durable = self.vote_changed_in <= self.persisted;
        let (now, later): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|message| (term_is_durable && claims_nothing(message)) || leaks(message));
        if !later.is_empty() {
            self.held.push_back((number, later));
        }
        now
    }

    /// Takes what a leader says; returns it if the disk knows the leader's term.
    pub(crate) fn push_of_leader(&mut self, mut messages: Vec<Message>) -> Vec<Message> {
        if self.vote_changed_in <= self.persisted {
            return messages;
        }
        self.of_new_term.append(&mut messages);
        messages
    }

    /// Ready `number` and all before it are durable; returns what may leave now.
    pub(crate) fn persisted(&mut self, number: u64) -> Vec<Message> {
        self.persisted = self.persisted.max(number);
        let mut free = Vec::new();
        while self.held.front().is_some_and(|(held, _)| *held <= self.persisted) {
            let (_, messages) = self.held.pop_front().expect("front was there");
            free.extend(messages);
        }
        if self.vote_changed_in <= self.persisted {
            free.append(&mut self.of_new_term);
            for (_, messages) in &mut self.held {
                free.extend(messages.extract_if(.., |message| claims_nothing(message)));
            }
        }
        free
    }
}

/// Bugs that let a claim out.
fn leaks(message: &Message) -> bool {
    match message.r#type() {
        MessageType::MsgAppResp => is_planted(Bug::AppendAckBeforeDurable),
        MessageType::MsgVote | MessageType::MsgVoteResp => is_planted(Bug::VoteBeforeDurable),
        _ => false,
    }
}

fn claims_nothing(message: &Message) -> bool {
    matches!(
        message.r#type(),
        MessageType::MsgHeartbeatResp
            | MessageType::MsgPreVote
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp
            | MessageType::MsgProp
    )
}
