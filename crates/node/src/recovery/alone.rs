//! `--force-new-cluster` (B-6): a member goes on alone from its data, when the others are lost for good.
//!
//! All that is in its log counts as committed. etcd drops what it does not know to be committed, but the others may have
//! acknowledged it before word of that came here, and nobody is left to ask. Then membership entries are appended that
//! leave this member the only one: so every later start, and every member that joins, finds them in the log.

use cetera_proto::raftpb::{ConfChange, ConfChangeType, HardState};
use cetera_raft::{Entry, EntryKind};
use cetera_state::State;
use cetera_state::member::{Member, write_member, write_promotion};
use cetera_storage::wal::{Wal, WalBatch, WalEntry};
use prost::Message as _;

use super::{StartError, state as state_error, storage};

/// What was left behind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Forced {
    /// Members that are no members any more.
    pub removed: Vec<u64>,
    /// Entries that were dropped: the removal of this member, and what came after.
    pub discarded: u64,
    /// Commit index known before.
    pub commit_before: u64,
    /// Commit index after.
    pub commit: u64,
}

/// Peer URL of a member whose own addition is not in its data (etcd `CreateConfigChangeEnts`).
const PEER_URL: &str = "http://localhost:2380";

/// Takes the whole log for committed, up to the removal of this member, if that was not certain yet.
pub(super) fn commit_all(member_id: u64, entries: &mut Vec<Entry>, hard_state: &mut HardState) -> Forced {
    let commit_before = hard_state.commit;
    let removes = |entry: &Entry| {
        let change =
            (entry.kind == EntryKind::ConfChange).then(|| ConfChange::decode(entry.data.clone()).ok()).flatten();
        change.is_some_and(|change| {
            change.node_id == member_id && change.r#type == ConfChangeType::ConfChangeRemoveNode as i32
        })
    };
    let end = entries.iter().position(|entry| entry.index > commit_before && removes(entry)).unwrap_or(entries.len());
    let discarded = (entries.len() - end) as u64;
    entries.truncate(end);
    hard_state.commit = commit_before.max(entries.last().map_or(0, |entry| entry.index));
    Forced { removed: Vec::new(), discarded, commit_before, commit: hard_state.commit }
}

/// Leaves `member_id` alone: in the log, in the state, and in what the group will be given.
pub(super) fn force(
    member_id: u64,
    forced: &mut Forced,
    wal: &mut Wal,
    entries: &mut Vec<Entry>,
    hard_state: &mut HardState,
    state: &mut State,
) -> Result<(), StartError> {
    if state.membership().removed().contains(&member_id) {
        return Err(StartError::State(format!(
            "--force-new-cluster: member {member_id:x} was removed from its cluster, and its id never returns"
        )));
    }
    hard_state.commit = hard_state.commit.max(state.applied_index());
    hard_state.term = hard_state.term.max(state.applied_term()).max(1);
    let (changes, removed) = changes(member_id, state);
    let mut batch = WalBatch::default();
    for change in changes {
        hard_state.commit += 1;
        let data = change.encode_to_vec().into();
        let entry = Entry { index: hard_state.commit, term: hard_state.term, kind: EntryKind::ConfChange, data };
        let outcome = state.apply_conf_change(entry.index, entry.term, &change).map_err(state_error)?;
        if let Err(error) = outcome.result {
            return Err(StartError::State(format!("--force-new-cluster: {error}")));
        }
        let data = entry.to_wire().encode_to_vec().into();
        batch.entries.push(WalEntry { index: entry.index, term: entry.term, data });
        entries.push(entry);
    }
    batch.state = Some(hard_state.encode_to_vec().into());
    wal.append(&batch).map_err(storage)?;
    wal.sync().map_err(storage)?;
    forced.removed = removed;
    forced.commit = hard_state.commit;
    Ok(())
}

/// This member first, so that a voter is left at every moment; then all others go.
fn changes(member_id: u64, state: &State) -> (Vec<ConfChange>, Vec<u64>) {
    let membership = state.membership();
    let context = match membership.get(member_id) {
        None => {
            Some(write_member(&Member { id: member_id, peer_urls: vec![PEER_URL.to_owned()], ..Default::default() }))
        }
        Some(own) if own.is_learner => Some(write_promotion(member_id)),
        Some(_) => None,
    };
    let own = context.map(|context| ConfChange {
        r#type: ConfChangeType::ConfChangeAddNode as i32,
        node_id: member_id,
        context: context.into(),
        ..Default::default()
    });
    let others: Vec<u64> = membership.list().iter().map(|member| member.id).filter(|id| *id != member_id).collect();
    let removals = others.iter().map(|id| ConfChange {
        r#type: ConfChangeType::ConfChangeRemoveNode as i32,
        node_id: *id,
        ..Default::default()
    });
    (own.into_iter().chain(removals).collect(), others)
}
