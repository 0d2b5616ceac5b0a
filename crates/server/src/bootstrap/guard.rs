//! Before a member founds its cluster it asks all the others whether the cluster is founded already: an emptied data
//! directory must not begin a second history under the same name.
//!
//! etcd asks the first that answers, and only whether it knows this member as started. We ask all, at once, and also
//! whether they are of the cluster that the flags describe. Where nobody answers it is a first start.

use std::sync::mpsc;
use std::time::Duration;

use cetera_state::member::Member;

use super::found::Founding;
use crate::log;
use crate::remote;

/// How long the answers are waited for (etcd `BootstrapTimeoutEffective`).
const TIMEOUT: Duration = Duration::from_secs(1);

/// Asks the members at `urls`.
///
/// # Errors
/// Why this member must not found the cluster, and what to do.
pub(super) fn check(founding: &Founding, urls: Vec<String>) -> Result<(), String> {
    let (sender, answers) = mpsc::channel();
    for url in urls {
        let sender = sender.clone();
        let ask = move || {
            // Too late is as good as never.
            let _ = sender.send((remote::members(&url, TIMEOUT), url));
        };
        // A thread of its own each: resolving a name may hang for long, and nobody waits for that.
        std::thread::Builder::new().name("guard".into()).spawn(ask).map_err(|error| error.to_string())?;
    }
    drop(sender);
    let until = std::time::Instant::now() + TIMEOUT;
    while let Ok((answer, url)) = answers.recv_timeout(until.saturating_duration_since(std::time::Instant::now())) {
        match answer {
            Ok((cluster_id, members)) => judge(founding, &url, cluster_id, &members)?,
            Err(error) => log::debug!("a peer did not answer", "address" = url, "error" = error),
        }
    }
    Ok(())
}

/// What one member's answer means.
fn judge(founding: &Founding, url: &str, cluster_id: u64, members: &[Member]) -> Result<(), String> {
    let own = members.iter().find(|member| member.id == founding.member_id);
    if own.is_some_and(|own| !own.client_urls.is_empty()) {
        return Err(already_bootstrapped(founding.member_id));
    }
    if cluster_id != founding.cluster_id {
        return Err(format!(
            "the member at {url} is of cluster {cluster_id:x}, not of {:x} that --initial-cluster and \
             --initial-cluster-token describe; to join it: member add, then --initial-cluster-state=existing",
            founding.cluster_id
        ));
    }
    if own.is_none() {
        return Err(format!(
            "member {:x} was removed from cluster {cluster_id:x}, says the member at {url}; to come back: member add, \
             then --initial-cluster-state=existing on an empty data directory",
            founding.member_id
        ));
    }
    Ok(())
}

/// etcd's words, and what to do.
pub(super) fn already_bootstrapped(member_id: u64) -> String {
    format!(
        "member {member_id:x} has already been bootstrapped, and its data is not in this directory; give it its data \
         directory back, or replace it: member remove, member add, then --initial-cluster-state=existing on an empty \
         data directory"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_founded_once() {
        let member = |id: u64, client_urls: &[&str]| Member {
            id,
            name: format!("m{id}"),
            client_urls: client_urls.iter().map(|url| url.to_string()).collect(),
            ..Default::default()
        };
        let founding = Founding { members: Vec::new(), member_id: 2, cluster_id: 0xc };
        let judge = |cluster_id: u64, members: &[Member]| judge(&founding, "http://h:1", cluster_id, members);
        // The others are founding it too, or wait for a quorum.
        assert_eq!(judge(0xc, &[member(1, &["http://c"]), member(2, &[])]), Ok(()));
        for (cluster_id, members, text) in [
            (0xc, &[member(1, &[]), member(2, &["http://c"])][..], "member 2 has already been bootstrapped"),
            (0xd, &[member(2, &["http://c"])], "member 2 has already been bootstrapped"),
            (0xd, &[member(1, &[]), member(2, &[])], "the member at http://h:1 is of cluster d, not of c"),
            (0xc, &[member(1, &[])], "member 2 was removed from cluster c"),
        ] {
            let error = judge(cluster_id, members).expect_err(text);
            assert!(error.starts_with(text), "{error}");
        }
    }
}
