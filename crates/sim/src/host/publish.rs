//! What a member does before it serves clients: it publishes its name through the log, and the cluster's version if none
//! is decided. Once that is applied, so is everything an earlier life acknowledged.

use cetera_node::event::{Event, Proposal, Reply, Ticket};
use cetera_proto::{etcdserverpb as pb, membershippb};
use cetera_server::node_thread::OWN_FRONT;
use prost::Message as _;

use super::Host;
use crate::core::Core;

/// Time to wait for an answer before the next try, in election timeouts: a proposal may be lost with the leader it was
/// sent to, and to propose it twice does no harm.
const PATIENCE_ELECTIONS: u64 = 3;
/// The cluster version that is decided.
const CLUSTER_VERSION: &str = "3.7.0";

/// How far it is.
#[derive(Debug, Default)]
pub(super) struct Publish {
    stage: Stage,
    /// Tries so far; also the slot of the last one's ticket.
    tries: u64,
    /// The last try is under way since then.
    waiting_since_ms: Option<u64>,
}

#[derive(Debug, Default, PartialEq)]
enum Stage {
    #[default]
    Name,
    Version,
    Done,
}

impl Publish {
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }
}

impl Host {
    /// Tries, if no try is under way.
    pub(super) fn publish_step(&mut self, core: &mut Core) {
        let now_ms = self.now_ms(core);
        let patience_ms = PATIENCE_ELECTIONS * core.options.election_ms;
        let Some(life) = &mut self.life else { return };
        let publish = &mut life.publish;
        if publish.is_done() || publish.waiting_since_ms.is_some_and(|since| now_ms < since + patience_ms) {
            return;
        }
        publish.tries += 1;
        publish.waiting_since_ms = Some(now_ms);
        let published = life.node.published();
        let id = life.settings.ids.next_id();
        let mut request = pb::InternalRaftRequest {
            header: Some(pb::RequestHeader { id, ..Default::default() }),
            ..Default::default()
        };
        if publish.stage == Stage::Name {
            let attributes = membershippb::ClusterMemberAttrSetRequest {
                member_id: published.member_id,
                member_attributes: Some(membershippb::Attributes {
                    name: format!("member-{}", self.index),
                    client_urls: vec![format!("http://member-{}:2379", self.index)],
                }),
            };
            request.cluster_member_attr_set = Some(attributes.into());
        } else {
            let version = membershippb::ClusterVersionSetRequest { ver: CLUSTER_VERSION.to_owned() };
            request.cluster_version_set = Some(version.into());
        }
        let ticket = Ticket { front: OWN_FRONT, slot: publish.tries };
        let proposal = Proposal { ticket, id, request: request.encode_to_vec().into() };
        self.push_event(Event::Propose(vec![proposal]), core);
    }

    /// The node's answer to a try.
    pub(super) fn published_reply(&mut self, slot: u64, reply: &Reply, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        if slot != life.publish.tries {
            return;
        }
        life.publish.waiting_since_ms = None;
        if !matches!(reply, Reply::Applied(_)) {
            // The next tick tries again.
            return;
        }
        let decided = !life.node.published().cluster_version.is_empty();
        life.publish.stage = match life.publish.stage {
            Stage::Name if !decided => Stage::Version,
            _ => Stage::Done,
        };
        if life.publish.is_done() {
            core.trace.say(core.now_us, &format!("m{}", self.index), || "serves clients".to_owned());
        } else {
            self.publish_step(core);
        }
    }
}
