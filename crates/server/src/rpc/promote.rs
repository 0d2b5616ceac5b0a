//! Promotions (C-6): only the leader knows how much of its log a learner has.

use cetera_node::published::Published;
use cetera_proto::raftpb::{ConfChange, ConfChangeType};
use cetera_state::member::write_promotion;

use super::NodeAccess;
use super::membership::Known;
use super::status::Error;

/// What the leader looks at before it orders a promotion; the node looks at the learner's log.
pub(super) fn may_promote(node: &impl NodeAccess, published: &Published, strict: bool, id: u64) -> Result<(), Error> {
    let others = published.progress.iter().map(|member| (member.member, member.matched));
    let matched: Vec<_> = others.chain([(published.member_id, published.committed_index)]).collect();
    let known = Known {
        myself: published.member_id,
        members: &published.members,
        connected_since_ms: &|member| node.connected_since_ms(member),
        now_ms: node.now_ms(),
        strict,
    };
    known.may_promote(id, &matched)
}

/// The entry.
pub(super) fn promotion(request_id: u64, member: u64) -> ConfChange {
    let r#type = ConfChangeType::ConfChangeAddNode as i32;
    ConfChange { id: request_id, r#type, node_id: member, context: write_promotion(member).into() }
}
