//! Which messages of other members the library may see.
//!
//! The library trusts its peers: it asserts, panics, overflows or loops over what no member that follows the rules would
//! send. A message may still say such a thing (a fault in another version, a wire gone wrong, somebody who should not be
//! there), and one member's nonsense must not end another. So what the library relies on is stated here, once, and a
//! message that breaks it is dropped like one that was lost. Messages that are impossible only because this member lost
//! what it had are not nonsense; the group judges them itself.

use raft::eraftpb::{ConfState, Message, MessageType, Snapshot};
use raft::{RawNode, StateRole};

use crate::log::MemoryLog;

/// No group gets to a term or an index as high as this in its life; sums of them stay far from the end of 64 bits.
const FAR: u64 = 1 << 62;

/// Why the library must not see `message`, or `None` if it may. `settled`: nothing of this member's waits for its disk.
pub(crate) fn refusal(raw: &RawNode<MemoryLog>, settled: bool, message: &Message) -> Option<&'static str> {
    let raft = &raw.raft;
    if message.from == raft::INVALID_ID || message.from == raft.id {
        return Some("it comes from nobody");
    }
    if [message.term, message.log_term, message.index, message.commit, message.reject_hint].iter().any(|n| *n >= FAR) {
        return Some("a number beyond any log");
    }
    let forwarded = matches!(message.msg_type, MessageType::MsgPropose | MessageType::MsgReadIndex);
    if forwarded != (message.term == 0) {
        return Some("a term where there is none, or none where there is one");
    }
    match message.msg_type {
        MessageType::MsgPropose if message.entries.is_empty() => Some("a proposal of nothing"),
        MessageType::MsgReadIndex if message.entries.len() != 1 => Some("a read without its context"),
        // Sent on once more it would carry a term twice.
        MessageType::MsgTransferLeader if raft.state != StateRole::Leader => Some("a transfer to no leader"),
        MessageType::MsgAppend => append(raw, message),
        MessageType::MsgSnapshot => snapshot(raft.id, message.term, message.get_snapshot()),
        MessageType::MsgAppendResponse => {
            // Only of this term it means anything to a leader.
            let known =
                message.term != raft.term || message.index.max(message.reject_hint) <= raft.raft_log.last_index();
            (!known && !message.reject).then_some("an acknowledgement of what was never sent")
        }
        // Votes are asked for once everything before is durable; one that comes earlier was not asked for.
        MessageType::MsgRequestVoteResponse if !message.reject && !settled => Some("a vote nobody asked for"),
        _ => None,
    }
}

/// Entries that follow each other in a log of this leader's.
fn append(raw: &RawNode<MemoryLog>, message: &Message) -> Option<&'static str> {
    let mut before = (message.index, message.log_term);
    for entry in message.entries.iter() {
        if entry.index != before.0 + 1 || entry.term < before.1 || entry.term > message.term {
            return Some("entries that follow no log");
        }
        before = (entry.index, entry.term);
    }
    let log = &raw.raft.raft_log;
    // What is committed here every leader has: its terms from there on are no lower.
    let behind = message.index >= log.committed && log.term(log.committed).is_ok_and(|term| message.log_term < term);
    behind.then_some("a log without what is committed")
}

fn snapshot(id: u64, term: u64, snapshot: &Snapshot) -> Option<&'static str> {
    let metadata = snapshot.get_metadata();
    if metadata.index == 0 || metadata.index >= FAR || metadata.term == 0 || metadata.term > term {
        return Some("a snapshot of no moment");
    }
    (!is_plain(id, metadata.get_conf_state())).then_some("a snapshot of an impossible group")
}

/// A group of voters and learners, each once, this member among them, and no change under way.
fn is_plain(id: u64, state: &ConfState) -> bool {
    let mut members: Vec<u64> = state.voters.iter().chain(&state.learners).copied().collect();
    let count = members.len();
    members.sort_unstable();
    members.dedup();
    let quiet = state.voters_outgoing.is_empty() && state.learners_next.is_empty() && !state.auto_leave;
    quiet && !state.voters.is_empty() && members.len() == count && members[0] != 0 && members.contains(&id)
}
