//! Promotions (C-6) where nothing may wait for them: made by the leader for another member, or asked of the leader over
//! its peer URLs (P-11).
//!
//! Only the leader knows how much of its log a learner has, so a member that is asked and does not lead hands the
//! request on, and again to the next leader, until it is answered or its time is up. What was handed on is not handed on
//! again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cetera_node::event::{Change, Event, Reply};
use cetera_node::published::Published;
use cetera_proto::etcdserverpb::MemberPromoteResponse;
use cetera_proto::raftpb::{ConfChange, ConfChangeType};
use cetera_state::member::{Member, read_members, write_promotion};
use prost::Message as _;

use super::cluster::members;
use super::membership::Known;
use super::status::{Code, Error, other};
use super::{NodeAccess, Settings};
use crate::log;
use crate::metrics::METRICS;
use crate::node_thread::NodeHandle;
use crate::remote;
use crate::seam::Status;

/// Promotions handed on at a time at most, one thread each; clients have no reason for more.
const UNDER_WAY_MAX: usize = 16;
/// Between two tries.
const RETRY: Duration = Duration::from_millis(50);

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// What etcd's members say of a promotion, and look for in what they are told.
pub(crate) mod words {
    pub(crate) const MEMBER_NOT_FOUND: &str = "membership: ID not found";
    pub(crate) const MEMBER_NOT_LEARNER: &str = "membership: can only promote a learner member";
}

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

/// Promotes a member if this one leads. Blocks.
pub(crate) fn promote_as_leader(
    node: &NodeHandle,
    settings: &Settings,
    member: u64,
) -> Result<Arc<Vec<Member>>, Error> {
    let published = node.published();
    if published.leader != published.member_id {
        return Err(Error::NotLeader);
    }
    let asked = match may_promote(node, &published, settings.strict_reconfig_check, member) {
        Ok(()) => {
            let change = promotion(settings.ids.next_id(), member);
            let make = |ticket| Event::Change(Change { ticket, change, promotes: true });
            match node.ask(make, Duration::from_millis(settings.request_timeout_ms())) {
                Some(Reply::Changed { result, members }) => result.map(|_| members).map_err(Error::from),
                Some(Reply::Refused(refusal)) => Err(refusal.into()),
                _ => Err(Error::Timeout),
            }
        }
        Err(error) => Err(error),
    };
    if !matches!(asked, Err(Error::NotLeader)) {
        METRICS.promoted(asked.as_ref().map(drop).map_err(|error| *error));
    }
    asked
}

/// Hands a promotion to the leader, on a thread of its own; `done` gets the response without its header.
pub(crate) fn promote_at_leader(
    node: NodeHandle,
    timeout: Duration,
    member: u64,
    done: impl FnOnce(Result<Vec<Bytes>, Status>) + Send + 'static,
) {
    if UNDER_WAY.fetch_add(1, Ordering::AcqRel) >= UNDER_WAY_MAX {
        UNDER_WAY.fetch_sub(1, Ordering::AcqRel);
        return done(Err(Error::RequestTooManyRequests.into()));
    }
    let run = move || {
        let result = ask_leaders(&node, Instant::now() + timeout, member);
        UNDER_WAY.fetch_sub(1, Ordering::AcqRel);
        let body = |now: Vec<Member>| MemberPromoteResponse { header: None, members: members(&now) }.encode_to_vec();
        done(result.map(|now| vec![body(now).into()]));
    };
    if let Err(error) = std::thread::Builder::new().name("cetera-promote".into()).spawn(run) {
        UNDER_WAY.fetch_sub(1, Ordering::AcqRel);
        log::warning!("a thread could not be started", "error" = log::Shown(error));
    }
}

fn ask_leaders(node: &NodeHandle, until: Instant, member: u64) -> Result<Vec<Member>, Status> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let published = node.published();
        let leader = published.members.iter().find(|member| member.id == published.leader);
        match leader {
            _ if node.has_ended() => return Err(Error::Stopped.into()),
            None if left.is_zero() => return Err(Error::NoLeader.into()),
            _ if left.is_zero() => return Err(Error::Timeout.into()),
            None => {}
            Some(leader) => {
                for url in &leader.peer_urls {
                    match remote::post(url, &format!("/members/promote/{member}"), left) {
                        Ok(answer) => {
                            if let Some(end) = ended(answer.status, &answer.body) {
                                return end;
                            }
                        }
                        Err(error) => log::warning!("asking the leader for a promotion failed", "error" = error),
                    }
                }
            }
        }
        node.wait_for_change(RETRY.min(left));
    }
}

/// What an answer says of the promotion; `None` if another may say more.
fn ended(status: u16, body: &[u8]) -> Option<Result<Vec<Member>, Status>> {
    let says = |words: &str| body.windows(words.len()).any(|window| window == words.as_bytes());
    match status {
        200 => Some(read_members(body).map_err(|error| other(Code::Unknown, error.to_string()))),
        404 => Some(Err(Error::MemberNotFound.into())),
        412 if says(Error::LearnerNotReady.row().1) => Some(Err(Error::LearnerNotReady.into())),
        412 if says(words::MEMBER_NOT_LEARNER) => Some(Err(Error::MemberNotLearner.into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P-11: as etcd's leader answers.
    #[test]
    fn answers_of_a_leader() {
        let members = br#"[{"id":1,"peerURLs":["http://a:1"],"name":"a"}]"#;
        let found = ended(200, members).expect("an end").expect("members");
        assert_eq!((found.len(), found[0].id), (1, 1));
        for (status, body, error) in [
            (404, "membership: ID not found\n", Error::MemberNotFound),
            (412, "membership: can only promote a learner member\n", Error::MemberNotLearner),
            (
                412,
                "etcdserver: can only promote a learner member which is in sync with leader\n",
                Error::LearnerNotReady,
            ),
        ] {
            assert_eq!(ended(status, body.as_bytes()), Some(Err(error.into())), "{body}");
        }
        assert_eq!(ended(412, b"something else"), None);
        assert_eq!(ended(500, br#"{"message":"Internal Server Error"}"#), None);
        assert!(ended(200, b"not json").expect("an end").is_err());
    }
}
