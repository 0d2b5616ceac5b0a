//! Joining a cluster that runs (B-2, B-7): its members are asked who they are, and this member finds itself among them by
//! its peer URLs, because `member add` gave it an id that no flag tells.

use std::time::Duration;

use cetera_state::StateLimits;
use cetera_state::member::Member;
use cetera_state::version::Version;

use super::found::{no_duplicates, own_urls};
use super::urls::{self, Resolve, UrlsMap};
use crate::config::Config;
use crate::log;
use crate::remote::{self, Versions};
use crate::versions::CLUSTER_VERSION_MIN;

/// How long each peer URL is waited for.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(10);

/// The cluster as one of its members told it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Existing {
    /// The cluster.
    pub(super) cluster_id: u64,
    /// Its members, by id, this one among them.
    pub(super) members: Vec<Member>,
}

/// Asks the peers, checks that this member may join, and says under which id.
///
/// # Errors
/// etcd's words.
pub(super) fn join(config: &Config, map: &UrlsMap, resolve: Resolve<'_>) -> Result<(Existing, u64), String> {
    own_urls(&config.name, map)?;
    no_duplicates(map)?;
    let existing = ask_members(&peer_urls(map, &config.name))
        .map_err(|error| format!("cannot fetch cluster info from peer urls: {error}"))?;
    let member_id = find_self(&config.name, map, &existing, resolve)
        .map_err(|error| format!("error validating peerURLs {}: {error}", show(&existing)))?;
    let others: Vec<&Member> = existing.members.iter().filter(|member| member.id != member_id).collect();
    let timeout = Duration::from_millis(config.request_timeout_ms());
    let versions: Vec<(u64, Option<Versions>)> =
        others.iter().map(|member| (member.id, remote::version_of(member, timeout))).collect();
    let downgrade = others.iter().find_map(|member| remote::downgrade_enabled_at(member, timeout)).unwrap_or(false);
    if !is_compatible(&versions, downgrade) {
        return Err("incompatible with current running cluster".to_owned());
    }
    let learners = existing.members.iter().filter(|member| member.is_learner).count();
    if learners > config.max_learners {
        return Err("membership: too many learner members in cluster".to_owned());
    }
    not_started(&existing, member_id)?;
    Ok((existing, member_id))
}

/// The peer URLs of the others, sorted.
pub(super) fn peer_urls(map: &UrlsMap, name: &str) -> Vec<String> {
    let mut urls: Vec<String> =
        map.iter().filter(|(member, _)| member != name).flat_map(|(_, urls)| urls.clone()).collect();
    urls.sort();
    urls
}

/// The first answer counts.
fn ask_members(urls: &[String]) -> Result<Existing, String> {
    for url in urls {
        match remote::members(url, MEMBERS_TIMEOUT) {
            Ok((cluster_id, mut members)) => {
                members.sort_by_key(|member| member.id);
                return Ok(Existing { cluster_id, members });
            }
            Err(error) => {
                let address = format!("{url}/members");
                log::warning!("failed to get cluster response", "address" = address, "error" = error);
            }
        }
    }
    Err("could not retrieve cluster information from the given URLs".to_owned())
}

/// Matches the members told by flags with those of the cluster by their URLs.
fn find_self(name: &str, map: &UrlsMap, existing: &Existing, resolve: Resolve<'_>) -> Result<u64, String> {
    if existing.members.len() != map.len() {
        return Err("member count is unequal".to_owned());
    }
    let mut own = None;
    for member in &existing.members {
        let mut last = String::new();
        let found = map.iter().find(|(_, urls)| match urls::same(&member.peer_urls, urls, resolve) {
            Ok(()) => true,
            Err(error) => {
                last = error;
                false
            }
        });
        match found {
            Some((found, _)) if found == name => own = Some(member.id),
            Some(_) => {}
            None => {
                return Err(format!(
                    "PeerURLs: no match found for existing member ({:x}, [{}]), last resolver error ({last})",
                    member.id,
                    member.peer_urls.join(" ")
                ));
            }
        }
    }
    own.ok_or_else(|| format!("couldn't find local name {name:?} among the members"))
}

/// At least one member must say a version of the cluster that we can join, and none one that we cannot.
fn is_compatible(versions: &[(u64, Option<Versions>)], downgrade: bool) -> bool {
    let server = StateLimits::default().server_version;
    let mut max = Version { patch: 0, ..server };
    let mut min = CLUSTER_VERSION_MIN;
    if downgrade {
        max.minor += 1;
        min = max;
    }
    let mut any = false;
    for (id, versions) in versions.iter().filter_map(|(id, versions)| Some((id, versions.as_ref()?))) {
        let Some(cluster) = Version::parse(&versions.cluster) else {
            log::warning!(
                "failed to parse cluster version of remote member",
                "remote-member-id" = log::Hex(*id),
                "remote-member-cluster-version" = versions.cluster,
            );
            continue;
        };
        if cluster < min {
            log::warning!(
                "cluster version of remote member is not compatible; too low",
                "remote-member-id" = log::Hex(*id),
                "remote-member-cluster-version" = log::Shown(cluster),
                "minimum-cluster-version-supported" = log::Shown(min),
            );
            return false;
        }
        if max < cluster {
            log::warning!(
                "cluster version of remote member is not compatible; too high",
                "remote-member-id" = log::Hex(*id),
                "remote-member-cluster-version" = log::Shown(cluster),
                "maximum-cluster-version-supported" = log::Shown(max),
            );
            return false;
        }
        any = true;
    }
    any
}

/// A member that ran before comes back with its data or not at all: what it acknowledged and whom it voted for is lost
/// with its directory, and the others still count on it. etcd lets it in, and then one of the two stops.
fn not_started(existing: &Existing, member_id: u64) -> Result<(), String> {
    let own = existing.members.iter().find(|member| member.id == member_id);
    match own.is_some_and(|own| !own.client_urls.is_empty()) {
        true => Err(super::guard::already_bootstrapped(member_id)),
        false => Ok(()),
    }
}

/// As etcd prints a cluster.
fn show(existing: &Existing) -> String {
    let members: Vec<String> = existing
        .members
        .iter()
        .map(|member| {
            format!(
                "&{{ID:{:x} RaftAttributes:{{PeerURLs:[{}] IsLearner:{}}} Attributes:{{Name:{} ClientURLs:[{}]}}}}",
                member.id,
                member.peer_urls.join(" "),
                member.is_learner,
                member.name,
                member.client_urls.join(" ")
            )
        })
        .collect();
    format!("{{ClusterID:{:x} Members:[{}] RemovedMemberIDs:[]}}", existing.cluster_id, members.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn existing(members: &[(u64, &str)]) -> Existing {
        let members = members
            .iter()
            .map(|(id, url)| Member { id: *id, peer_urls: vec![url.to_string()], ..Default::default() })
            .collect();
        Existing { cluster_id: 0xc, members }
    }

    fn resolve(host: &str, _: u16) -> Result<String, String> {
        Err(format!("lookup {host}: no such host"))
    }

    #[test]
    fn a_member_finds_itself_by_its_urls() {
        let map = urls::read_map("a=http://h:1,b=http://h:2").expect("valid");
        let there = existing(&[(7, "http://h:2"), (9, "http://h:1")]);
        assert_eq!(find_self("a", &map, &there, &mut resolve), Ok(9));
        assert_eq!(find_self("b", &map, &there, &mut resolve), Ok(7));
        let more = existing(&[(7, "http://h:2"), (8, "http://h:3"), (9, "http://h:1")]);
        assert_eq!(find_self("a", &map, &more, &mut resolve), Err("member count is unequal".to_owned()));
        let other = existing(&[(7, "http://h:2"), (9, "http://h:3")]);
        assert_eq!(
            find_self("a", &map, &other, &mut resolve),
            Err("PeerURLs: no match found for existing member (9, [http://h:3]), last resolver error \
                 (failed to resolve \"http://h:3\" (lookup h: no such host))"
                .to_owned())
        );
        assert_eq!(
            show(&existing(&[(7, "http://h:2")])),
            "{ClusterID:c Members:[&{ID:7 RaftAttributes:{PeerURLs:[http://h:2] IsLearner:false} \
             Attributes:{Name: ClientURLs:[]}}] RemovedMemberIDs:[]}"
        );
    }

    /// B-2.
    #[test]
    fn the_clusters_version_must_fit() {
        for (clusters, downgrade, fits) in [
            (&["3.7.0", "3.7.0"][..], false, true),
            (&["3.0.0"], false, true),
            (&["3.6.0", ""], false, true),
            (&["3.8.0", "3.7.0"], false, false),
            (&["2.3.0", "3.7.0"], false, false),
            (&["not_decided"], false, false),
            (&[], false, false),
            (&["3.7.0"], true, false),
            (&["3.8.0"], true, true),
        ] {
            let versions: Vec<(u64, Option<Versions>)> = clusters
                .iter()
                .map(|cluster| (1, Some(Versions { cluster: cluster.to_string(), ..Default::default() })))
                .chain([(2, None)])
                .collect();
            assert_eq!(is_compatible(&versions, downgrade), fits, "{clusters:?}");
        }
    }

    #[test]
    fn a_member_that_ran_before_does_not_join_without_its_data() {
        let mut there = existing(&[(7, "http://h:2"), (9, "http://h:1")]);
        there.members[0].client_urls = vec!["http://h:3".to_owned()];
        assert!(not_started(&there, 9).is_ok());
        assert!(not_started(&there, 7).expect_err("it ran").starts_with("member 7 has already been bootstrapped"));
    }
}
