//! etcd's raft messages to the library's and back.
//!
//! The two agree on field numbers but not on membership changes (contract 0.7) nor on a few fields of the library's
//! own, which stay at their defaults here and never travel.

use bytes::Bytes;
use cetera_proto::raftpb;
use prost::Message as _;
use raft::eraftpb;

use crate::group::{Entry, EntryKind};

pub(crate) fn hard_state_in(state: &raftpb::HardState) -> eraftpb::HardState {
    eraftpb::HardState { term: state.term, vote: state.vote, commit: state.commit, ..Default::default() }
}

pub(crate) fn hard_state_out(state: &eraftpb::HardState) -> raftpb::HardState {
    raftpb::HardState { term: state.term, vote: state.vote, commit: state.commit }
}

pub(crate) fn conf_state_in(state: &raftpb::ConfState) -> eraftpb::ConfState {
    eraftpb::ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
        ..Default::default()
    }
}

/// By id: the library's sets have an order of their own.
pub(crate) fn conf_state_out(state: &eraftpb::ConfState) -> raftpb::ConfState {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    raftpb::ConfState {
        voters: sorted(&state.voters),
        learners: sorted(&state.learners),
        voters_outgoing: sorted(&state.voters_outgoing),
        learners_next: sorted(&state.learners_next),
        auto_leave: state.auto_leave,
    }
}

/// An entry for the library. It parses the membership changes among proposals and refuses etcd's numbers for them, so it
/// is shown a rendering it understands, and etcd's bytes ride along in `context`, which never travels.
pub(crate) fn entry_in(entry: Entry) -> eraftpb::Entry {
    let (entry_type, data, context) = match entry.kind {
        EntryKind::Normal => (eraftpb::EntryType::EntryNormal, entry.data, Bytes::new()),
        EntryKind::ConfChange => {
            let shown = raftpb::ConfChange::decode(&entry.data[..]).map(|change| raftpb::ConfChange {
                r#type: match conf_change_in(&change) {
                    Some(known) => known.change_type as i32,
                    None => eraftpb::ConfChangeType::AddNode as i32,
                },
                ..change
            });
            let shown = shown.unwrap_or_default().encode_to_vec().into();
            (eraftpb::EntryType::EntryConfChange, shown, entry.data)
        }
        EntryKind::ConfChangeV2 => (eraftpb::EntryType::EntryConfChangeV2, Bytes::new(), entry.data),
    };
    eraftpb::Entry { entry_type, term: entry.term, index: entry.index, data, context, ..Default::default() }
}

pub(crate) fn entry_out(entry: &eraftpb::Entry) -> Entry {
    let (kind, data) = match entry.entry_type {
        eraftpb::EntryType::EntryNormal => (EntryKind::Normal, entry.data.clone()),
        eraftpb::EntryType::EntryConfChange => (EntryKind::ConfChange, entry.context.clone()),
        eraftpb::EntryType::EntryConfChangeV2 => (EntryKind::ConfChangeV2, entry.context.clone()),
    };
    Entry { index: entry.index, term: entry.term, kind, data }
}

/// The library's message type for etcd's, or `None` for the kinds that only etcd's own storage threads speak.
fn message_type_in(kind: raftpb::MessageType) -> Option<eraftpb::MessageType> {
    use eraftpb::MessageType as Lib;
    use raftpb::MessageType as Etcd;
    Some(match kind {
        Etcd::MsgHup => Lib::MsgHup,
        Etcd::MsgBeat => Lib::MsgBeat,
        Etcd::MsgProp => Lib::MsgPropose,
        Etcd::MsgApp => Lib::MsgAppend,
        Etcd::MsgAppResp => Lib::MsgAppendResponse,
        Etcd::MsgVote => Lib::MsgRequestVote,
        Etcd::MsgVoteResp => Lib::MsgRequestVoteResponse,
        Etcd::MsgSnap => Lib::MsgSnapshot,
        Etcd::MsgHeartbeat => Lib::MsgHeartbeat,
        Etcd::MsgHeartbeatResp => Lib::MsgHeartbeatResponse,
        Etcd::MsgUnreachable => Lib::MsgUnreachable,
        Etcd::MsgSnapStatus => Lib::MsgSnapStatus,
        Etcd::MsgCheckQuorum => Lib::MsgCheckQuorum,
        Etcd::MsgTransferLeader => Lib::MsgTransferLeader,
        Etcd::MsgTimeoutNow => Lib::MsgTimeoutNow,
        Etcd::MsgReadIndex => Lib::MsgReadIndex,
        Etcd::MsgReadIndexResp => Lib::MsgReadIndexResp,
        Etcd::MsgPreVote => Lib::MsgRequestPreVote,
        Etcd::MsgPreVoteResp => Lib::MsgRequestPreVoteResponse,
        _ => return None,
    })
}

fn message_type_out(kind: eraftpb::MessageType) -> raftpb::MessageType {
    use eraftpb::MessageType as Lib;
    use raftpb::MessageType as Etcd;
    match kind {
        Lib::MsgHup => Etcd::MsgHup,
        Lib::MsgBeat => Etcd::MsgBeat,
        Lib::MsgPropose => Etcd::MsgProp,
        Lib::MsgAppend => Etcd::MsgApp,
        Lib::MsgAppendResponse => Etcd::MsgAppResp,
        Lib::MsgRequestVote => Etcd::MsgVote,
        Lib::MsgRequestVoteResponse => Etcd::MsgVoteResp,
        Lib::MsgSnapshot => Etcd::MsgSnap,
        Lib::MsgHeartbeat => Etcd::MsgHeartbeat,
        Lib::MsgHeartbeatResponse => Etcd::MsgHeartbeatResp,
        Lib::MsgUnreachable => Etcd::MsgUnreachable,
        Lib::MsgSnapStatus => Etcd::MsgSnapStatus,
        Lib::MsgCheckQuorum => Etcd::MsgCheckQuorum,
        Lib::MsgTransferLeader => Etcd::MsgTransferLeader,
        Lib::MsgTimeoutNow => Etcd::MsgTimeoutNow,
        Lib::MsgReadIndex => Etcd::MsgReadIndex,
        Lib::MsgReadIndexResp => Etcd::MsgReadIndexResp,
        Lib::MsgRequestPreVote => Etcd::MsgPreVote,
        Lib::MsgRequestPreVoteResponse => Etcd::MsgPreVoteResp,
    }
}

/// `None` for a message the library must never see: an unknown kind, a membership change that does not parse, or one
/// without the entries that its kind has (the library takes them for granted).
pub(crate) fn message_in(message: raftpb::Message) -> Option<eraftpb::Message> {
    let kind = message_type_in(message.r#type())?;
    let whole = match kind {
        eraftpb::MessageType::MsgPropose => !message.entries.is_empty(),
        eraftpb::MessageType::MsgReadIndex | eraftpb::MessageType::MsgReadIndexResp => message.entries.len() == 1,
        _ => true,
    };
    if !whole {
        return None;
    }
    let mut entries = Vec::with_capacity(message.entries.len());
    for entry in message.entries {
        let kind = EntryKind::from_wire(entry.r#type)?;
        // The library parses membership changes of forwarded proposals with a parser that is not safe on hostile bytes.
        if !kind.parses(&entry.data) {
            return None;
        }
        entries.push(entry_in(Entry { index: entry.index, term: entry.term, kind, data: entry.data }));
    }
    let mut out = eraftpb::Message {
        msg_type: kind,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: entries.into(),
        commit: message.commit,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        ..Default::default()
    };
    if let Some(snapshot) = message.snapshot {
        let metadata = snapshot.metadata.unwrap_or_default();
        let mut inner = eraftpb::Snapshot { data: snapshot.data, ..Default::default() };
        inner.mut_metadata().index = metadata.index;
        inner.mut_metadata().term = metadata.term;
        inner.mut_metadata().set_conf_state(conf_state_in(&metadata.conf_state.unwrap_or_default()));
        out.set_snapshot(inner);
    }
    Some(out)
}

pub(crate) fn message_out(message: &eraftpb::Message) -> raftpb::Message {
    let mut out = raftpb::Message {
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: message.entries.iter().map(|entry| entry_out(entry).to_wire()).collect(),
        commit: message.commit,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context.clone(),
        ..Default::default()
    };
    out.set_type(message_type_out(message.msg_type));
    if message.has_snapshot() {
        let snapshot = message.get_snapshot();
        let metadata = snapshot.get_metadata();
        out.snapshot = Some(raftpb::Snapshot {
            data: snapshot.data.clone(),
            metadata: Some(raftpb::SnapshotMetadata {
                index: metadata.index,
                term: metadata.term,
                conf_state: Some(conf_state_out(metadata.get_conf_state())),
            }),
        });
    }
    out
}

/// The change as the library must apply it; `None` for UpdateNode, which changes no vote (contract 0.7).
pub(crate) fn conf_change_in(change: &raftpb::ConfChange) -> Option<eraftpb::ConfChange> {
    use raftpb::ConfChangeType as Etcd;
    let kind = match change.r#type() {
        Etcd::ConfChangeAddNode => eraftpb::ConfChangeType::AddNode,
        Etcd::ConfChangeRemoveNode => eraftpb::ConfChangeType::RemoveNode,
        Etcd::ConfChangeAddLearnerNode => eraftpb::ConfChangeType::AddLearnerNode,
        Etcd::ConfChangeUpdateNode => return None,
    };
    Some(eraftpb::ConfChange { change_type: kind, node_id: change.node_id, ..Default::default() })
}
