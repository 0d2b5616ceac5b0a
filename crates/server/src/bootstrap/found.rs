//! A new cluster from `--initial-cluster` (B-1): who its members are, what their ids are, and that this member is one of
//! them under the URLs it tells the others. All members compute the same from the same flags.

use cetera_state::id;
use cetera_state::member::Member;

use super::urls::{self, Resolve, UrlsMap};
use crate::config::Config;

/// The members of a cluster at its start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Founding {
    /// All founders, by id.
    pub(super) members: Vec<Member>,
    /// This member.
    pub(super) member_id: u64,
    /// The cluster.
    pub(super) cluster_id: u64,
}

/// Checks what this member is told and computes the founders.
///
/// # Errors
/// etcd's words.
pub(super) fn founding(config: &Config, map: &UrlsMap, resolve: Resolve<'_>) -> Result<Founding, String> {
    let own = own_urls(&config.name, map)?;
    advertised(&config.name, own, &config.advertise_peer, resolve)?;
    no_duplicates(map)?;
    let members = members(map, &config.initial_cluster_token)?;
    let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    let member_id = id::member_id(own, &config.initial_cluster_token, None);
    Ok(Founding { member_id, cluster_id: id::cluster_id(&ids), members })
}

/// The peer URLs that the initial cluster gives this member.
pub(super) fn own_urls<'a>(name: &str, map: &'a UrlsMap) -> Result<&'a [String], String> {
    let own = map.iter().find(|(member, _)| member == name);
    own.map(|(_, urls)| urls.as_slice())
        .ok_or_else(|| format!("couldn't find local name {name:?} in the initial cluster configuration"))
}

pub(super) fn no_duplicates(map: &UrlsMap) -> Result<(), String> {
    match urls::has_duplicates(map) {
        true => Err(format!("initial cluster {} has duplicate url", urls::show_map(map))),
        false => Ok(()),
    }
}

/// The members with the ids of ID-1, by id.
pub(super) fn members(map: &UrlsMap, token: &str) -> Result<Vec<Member>, String> {
    let mut members: Vec<Member> = map
        .iter()
        .map(|(name, urls)| Member {
            id: id::member_id(urls, token, None),
            peer_urls: urls.clone(),
            name: name.clone(),
            ..Default::default()
        })
        .collect();
    members.sort_by_key(|member| member.id);
    if let Some(pair) = members.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(format!("member exists with identical ID {:x}", pair[0].id));
    }
    if members.first().is_some_and(|member| member.id == 0) {
        return Err("cannot use 0 as member id".to_owned());
    }
    Ok(members)
}

/// What this member tells the others must be what the initial cluster tells of it.
fn advertised(name: &str, own: &[String], advertise: &[String], resolve: Resolve<'_>) -> Result<(), String> {
    let Err(why) = urls::same(advertise, own, resolve) else { return Ok(()) };
    let advertised = advertise.join(",");
    let named = |urls: &[&String]| {
        let pairs: Vec<String> = urls.iter().map(|url| format!("{name}={url}")).collect();
        pairs.join(",")
    };
    let missing: Vec<&String> = own.iter().filter(|url| !advertise.contains(url)).collect();
    if !missing.is_empty() {
        let missing = named(&missing);
        return Err(format!(
            "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={advertised} ({why})"
        ));
    }
    let all = named(&advertise.iter().collect::<Vec<_>>());
    let missing: Vec<&str> = advertise.iter().filter(|url| !own.contains(url)).map(String::as_str).collect();
    if !missing.is_empty() {
        let missing = missing.join(",");
        return Err(format!("--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={all}"));
    }
    Err(format!("failed to resolve {advertised} to match --initial-cluster={all} ({why})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::tests::config;

    fn found(flags: &[&str]) -> Result<Founding, String> {
        let config = config(flags);
        let map = urls::read_map(&config.initial_cluster)?;
        let mut resolve = |host: &str, port: u16| match host {
            "here" => Ok(format!("127.0.0.1:{port}")),
            "127.0.0.1" => Ok(format!("127.0.0.1:{port}")),
            _ => Err("no such host".to_owned()),
        };
        founding(&config, &map, &mut resolve)
    }

    const THREE: &str = "--initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";

    /// Every founder, whoever computes it, gets the same members in the same order.
    #[test]
    fn founders_agree() {
        let of = |name: &str, url: &str| {
            found(&[THREE, &format!("--name={name}"), &format!("--initial-advertise-peer-urls={url}")]).expect(name)
        };
        let a = of("a", "http://127.0.0.1:1");
        // The name in DNS stands for the address.
        let b = of("b", "http://here:2");
        assert_eq!((&a.members, a.cluster_id), (&b.members, b.cluster_id));
        assert!(a.members.is_sorted_by_key(|member| member.id));
        let by_id = |founding: &Founding| {
            founding.members.iter().find(|member| member.id == founding.member_id).expect("itself").name.clone()
        };
        assert_eq!((by_id(&a), by_id(&b)), ("a".to_owned(), "b".to_owned()));
        let other = found(&[
            THREE,
            "--name=a",
            "--initial-advertise-peer-urls=http://127.0.0.1:1",
            "--initial-cluster-token=x",
        ]);
        assert_ne!(other.expect("valid").cluster_id, a.cluster_id);
    }

    #[test]
    fn what_does_not_match_is_refused_in_etcds_words() {
        for (flags, text) in [
            (&["--name=d", THREE][..], "couldn't find local name \"d\" in the initial cluster configuration"),
            (
                &["--name=a", THREE, "--initial-advertise-peer-urls=http://127.0.0.1:9"],
                "--initial-cluster has a=http://127.0.0.1:1 but missing from \
                 --initial-advertise-peer-urls=http://127.0.0.1:9 \
                 (resolved urls: \"http://127.0.0.1:9\" != \"http://127.0.0.1:1\")",
            ),
            (
                &["--name=a", THREE, "--initial-advertise-peer-urls=http://127.0.0.1:1,http://127.0.0.1:9"],
                "--initial-advertise-peer-urls has http://127.0.0.1:9 but missing from \
                 --initial-cluster=a=http://127.0.0.1:1,a=http://127.0.0.1:9",
            ),
            (
                &[
                    "--name=a",
                    "--initial-cluster=a=http://h:1,b=http://h:1",
                    "--initial-advertise-peer-urls=http://h:1",
                ],
                "initial cluster a=http://h:1,b=http://h:1 has duplicate url",
            ),
            (
                &["--name=a", "--initial-cluster=a=h:1", "--initial-advertise-peer-urls=http://h:1"],
                "URL scheme must be http, https, unix, or unixs: h:1",
            ),
        ] {
            assert_eq!(found(flags).expect_err("must be refused"), text, "{flags:?}");
        }
    }
}
