//! A member tells the cluster its name and its clients' URLs, through the log (B-9). Once that is applied here, so is all
//! that an earlier life of this member acknowledged, and it is ready to serve.

use std::time::Duration;

use cetera_node::event::{Event, Proposal, Reply};
use cetera_proto::{etcdserverpb as pb, membershippb};
use prost::Message as _;

use super::Running;
use crate::config::{self, Config};
use crate::log;

/// Publishes this member, and the cluster's version if this member is alone and none is decided. Goes on until it is
/// done: a member may wait for its cluster for days.
///
/// # Errors
/// The node has ended.
pub fn publish(running: &Running, config: &Config) -> Result<(), String> {
    let publisher = Publisher { running, timeout: Duration::from_millis(config.request_timeout_ms()) };
    // Published at every start, as etcd does.
    let attributes = membershippb::ClusterMemberAttrSetRequest {
        member_id: running.member_id,
        member_attributes: Some(membershippb::Attributes {
            name: config.name.clone(),
            client_urls: config.advertise_client.clone(),
        }),
    };
    let request = pb::InternalRaftRequest { cluster_member_attr_set: Some(attributes.into()), ..Default::default() };
    publisher.propose(request)?;
    log::info!(
        "published local member to cluster through raft",
        "local-member-id" = log::Hex(running.member_id),
        "cluster-id" = log::Hex(running.cluster_id),
        "publish-timeout" = publisher.timeout,
    );
    let published = running.handle.published();
    if published.cluster_version.is_empty() && published.members.len() == 1 {
        let version = membershippb::ClusterVersionSetRequest { ver: config::STORAGE_VERSION.to_owned() };
        publisher
            .propose(pb::InternalRaftRequest { cluster_version_set: Some(version.into()), ..Default::default() })?;
        log::info!("set cluster version", "cluster-version" = config::STORAGE_VERSION);
    }
    Ok(())
}

struct Publisher<'a> {
    running: &'a Running,
    /// How long one try may take.
    timeout: Duration,
}

impl Publisher<'_> {
    /// Proposes until it is applied. Every try is a request of its own: what came of the one before may be unknown, and
    /// twice is as good as once.
    fn propose(&self, mut request: pb::InternalRaftRequest) -> Result<(), String> {
        let handle = &self.running.handle;
        loop {
            let id = self.running.ids.next_id();
            request.header = Some(pb::RequestHeader { id, ..Default::default() });
            let bytes = request.encode_to_vec();
            let reply =
                handle.ask(|ticket| Event::Propose(vec![Proposal { ticket, id, request: bytes.into() }]), self.timeout);
            let refusal = match reply {
                Some(Reply::Applied(Ok(_))) => return Ok(()),
                _ if handle.has_ended() => return Err("the node has ended".to_owned()),
                Some(Reply::Refused(refusal)) => format!("{refusal:?}"),
                Some(other) => format!("{other:?}"),
                None => "timed out".to_owned(),
            };
            log::debug!("publishing failed and is tried again", "error" = refusal);
            // Without a leader the answer is immediate: the next try is for when something changed.
            handle.wait_for_change(RETRY);
        }
    }
}

/// Time between tries while nothing changes.
const RETRY: Duration = Duration::from_millis(100);
