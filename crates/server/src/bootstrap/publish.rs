//! A member tells the cluster its name and its clients' URLs, through the log (B-9). Once that is applied here, so is all
//! that an earlier life of this member acknowledged, and it is ready to serve.

use std::time::Duration;

use cetera_proto::{etcdserverpb as pb, membershippb};

use crate::config::{self, Config};
use crate::log;
use crate::proposer::{Failed, Proposer};

/// Publishes this member, and the cluster's version if this member is alone and none is decided; in a group it waits for
/// that decision, for without one every call is refused. Goes on until it is done: a member may wait for its cluster for
/// days.
///
/// # Errors
/// The node has ended.
pub fn publish(proposer: &Proposer, config: &Config) -> Result<(), String> {
    let published = proposer.node.published();
    // Published at every start, as etcd does.
    let attributes = membershippb::ClusterMemberAttrSetRequest {
        member_id: published.member_id,
        member_attributes: Some(membershippb::Attributes {
            name: config.name.clone(),
            client_urls: config.advertise_client.clone(),
        }),
    };
    until_done(proposer, || pb::InternalRaftRequest {
        cluster_member_attr_set: Some(attributes.clone().into()),
        ..Default::default()
    })?;
    log::info!(
        "published local member to cluster through raft",
        "local-member-id" = log::Hex(published.member_id),
        "cluster-id" = log::Hex(published.cluster_id),
        "publish-timeout" = proposer.timeout,
    );
    let published = proposer.node.published();
    if published.cluster_version.is_empty() && published.members.len() == 1 {
        let version = membershippb::ClusterVersionSetRequest { ver: config::STORAGE_VERSION.to_owned() };
        until_done(proposer, || pb::InternalRaftRequest {
            cluster_version_set: Some(version.clone().into()),
            ..Default::default()
        })?;
    }
    while proposer.node.published().cluster_version.is_empty() {
        if proposer.node.has_ended() {
            return Err(ENDED.to_owned());
        }
        proposer.node.wait_for_change(RETRY);
    }
    Ok(())
}

/// Proposes until it is applied. Every try is a request of its own: what came of the one before may be unknown, and twice
/// is as good as once.
fn until_done(proposer: &Proposer, request: impl Fn() -> pb::InternalRaftRequest) -> Result<(), String> {
    loop {
        match proposer.propose(request()) {
            Ok(()) => return Ok(()),
            Err(Failed::Stopped) => return Err(ENDED.to_owned()),
            Err(Failed::Now(error)) => {
                log::warning!(
                    "failed to publish local member to cluster through raft",
                    "publish-timeout" = proposer.timeout,
                    "error" = error,
                );
                // Refused at once, it is tried again when something changed.
                proposer.node.wait_for_change(RETRY);
            }
        }
    }
}

const ENDED: &str = "the node has ended";
/// Time between tries while nothing changes.
const RETRY: Duration = Duration::from_millis(100);
