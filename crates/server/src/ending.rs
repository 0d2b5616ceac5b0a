//! How a member leaves: it hands leadership over before it stops, and it stops for good when it was removed.

use std::time::{Duration, Instant};

use cetera_node::event::{Event, Reply};
use cetera_node::published::Published;

use crate::log;
use crate::node_thread::NodeHandle;

/// How long a transfer of leadership may take before the member stops all the same: those left elect one then.
const HAND_OVER: Duration = Duration::from_millis(1_000);
/// How long a member that was removed goes on, so that who asked for it gets the answer (etcd `stopWithDelay`).
pub(crate) const REMOVED_STAYS: Duration = Duration::from_secs(1);

/// Gives leadership to the voter that has been connected for longest, if this member leads. `connected_since_ms` tells
/// since when there are connections to and from a member.
pub(crate) fn hand_over(node: &NodeHandle, connected_since_ms: impl Fn(u64) -> Option<u64>) {
    let published = node.published();
    let local = log::Hex(published.member_id);
    match successor(&published, connected_since_ms) {
        Successor::NotNeeded(why) => {
            log::info!(why, "local-member-id" = local, "current-leader-member-id" = log::Hex(published.leader));
        }
        Successor::Nobody => {
            log::warning!(
                "leadership transfer failed",
                "local-member-id" = local,
                "error" = "etcdserver: unhealthy cluster"
            );
        }
        Successor::Member(to) => {
            let started = Instant::now();
            log::info!(
                "leadership transfer starting",
                "local-member-id" = local,
                "current-leader-member-id" = log::Hex(published.leader),
                "transferee-member-id" = log::Hex(to),
            );
            match node.ask(|ticket| Event::Transfer { ticket: Some(ticket), to }, HAND_OVER) {
                Some(Reply::Transferred(leader)) => log::info!(
                    "leadership transfer finished",
                    "local-member-id" = local,
                    "old-leader-member-id" = log::Hex(published.leader),
                    "new-leader-member-id" = log::Hex(leader),
                    "took" = started.elapsed(),
                ),
                _ => log::warning!(
                    "leadership transfer failed",
                    "local-member-id" = local,
                    "error" = "etcdserver: request timed out, leader transfer took too long"
                ),
            }
        }
    }
}

#[derive(Debug, Eq, PartialEq)]
enum Successor {
    NotNeeded(&'static str),
    Nobody,
    Member(u64),
}

fn successor(published: &Published, connected_since_ms: impl Fn(u64) -> Option<u64>) -> Successor {
    if published.leader != published.member_id {
        return Successor::NotNeeded("skipped leadership transfer; local server is not leader");
    }
    let voters: Vec<u64> =
        published.members.iter().filter(|member| !member.is_learner).map(|member| member.id).collect();
    if voters.len() < 2 {
        return Successor::NotNeeded("skipped leadership transfer for single voting member cluster");
    }
    let others = voters.into_iter().filter(|id| *id != published.member_id);
    let longest = others.filter_map(|id| Some((connected_since_ms(id)?, id))).min();
    longest.map_or(Successor::Nobody, |(_, id)| Successor::Member(id))
}

/// Says that this member was removed, in etcd's words.
pub(crate) fn say_removed() {
    log::warning!("server error", "error" = "the member has been permanently removed from the cluster");
    log::warning!("data-dir used by this member must be removed");
}
