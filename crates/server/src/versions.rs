//! The versions of a group (V-1 to V-5): the leader asks all members for theirs and decides with them; every member says
//! in its log what was decided.
//!
//! One thread, which mostly waits. It asks nobody while no answer could change anything: once the cluster is at this
//! server's version, only a downgrade does.

mod decide;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cetera_node::published::Published;
use cetera_proto::{etcdserverpb as pb, membershippb};
use cetera_state::member::Member;
use cetera_state::version::{KNOWN_FEATURE_LEVEL, Version};

pub(crate) use self::decide::CLUSTER_VERSION_MIN;
use self::decide::Known;
use crate::config::VERSION;
use crate::log;
use crate::proposer::{Failed, Proposer};
use crate::remote::{self, Versions};

/// Time between decisions of a leader (`monitorVersionInterval`).
const DECIDE_EVERY: Duration = Duration::from_secs(4);
/// Time between looks at what was decided, and at who leads.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a member's answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The feature level this release makes use of. Nothing needs one yet, and a raised level shuts out every etcd that would
/// join, so none is asked for.
pub const FEATURE_LEVEL_WANTED: u64 = 0;

/// The version of the storage: that of the cluster, as soon as all members were heard (V-3); `None` before.
pub fn storage(published: &Published) -> Option<&str> {
    let version = &*published.cluster_version;
    (Version::parse(version)? > CLUSTER_VERSION_MIN).then_some(version)
}

/// What `/version` answers (H-4).
pub fn json(published: &Published) -> String {
    let cluster = match &*published.cluster_version {
        "" => "not_decided",
        decided => decided,
    };
    let storage = storage(published).unwrap_or("unknown");
    format!("{{\"etcdserver\":\"{VERSION}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{storage}\"}}")
}

/// Starts the thread. It ends with the node.
///
/// # Errors
/// The thread could not be started.
pub fn monitor(proposer: Proposer, feature_level_wanted: u64) -> io::Result<()> {
    let monitor = Monitor { proposer, wanted: feature_level_wanted.min(KNOWN_FEATURE_LEVEL), seen: Arc::from("") };
    std::thread::Builder::new().name("cetera-versions".into()).spawn(move || monitor.run()).map(drop)
}

struct Monitor {
    proposer: Proposer,
    wanted: u64,
    /// The cluster version seen last.
    seen: Arc<str>,
}

impl Monitor {
    fn run(mut self) {
        // Term of the last decision, and when the next one is due.
        let mut decided = (0, Instant::now());
        while !self.proposer.node.has_ended() {
            let published = self.proposer.node.published();
            self.look(&published);
            let (term, due) = decided;
            // A new leader decides at once.
            if published.leader == published.member_id && (published.term != term || Instant::now() >= due) {
                self.decide(&published);
                decided = (published.term, Instant::now() + DECIDE_EVERY);
            }
            if published.cluster_version.is_empty() {
                // Clients wait for the first decision.
                self.proposer.node.wait_for_change(LOOK_EVERY);
            } else {
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }

    /// Says what was decided since the last look.
    fn look(&mut self, published: &Published) {
        if self.seen == published.cluster_version {
            return;
        }
        let (cluster_id, member_id) = (log::Hex(published.cluster_id), log::Hex(published.member_id));
        let version = minor(&published.cluster_version);
        match &*self.seen {
            "" => log::info!(
                "set initial cluster version",
                "cluster-id" = cluster_id,
                "local-member-id" = member_id,
                "cluster-version" = version,
            ),
            from => log::info!(
                "updated cluster version",
                "cluster-id" = cluster_id,
                "local-member-id" = member_id,
                "from" = minor(from),
                "to" = version,
            ),
        }
        log::info!("enabled capabilities for version", "cluster-version" = version);
        self.seen = published.cluster_version.clone();
    }

    fn decide(&self, published: &Published) {
        let cluster = Version::parse(&published.cluster_version);
        let downgrade = published.downgrade_target.as_deref().and_then(Version::parse);
        let own = Version { patch: 0, ..Version::SERVER };
        // A member that is alone decides while it publishes itself.
        if cluster.is_none() && published.members.len() == 1 {
            return;
        }
        let raise = published.feature_level < self.wanted;
        if cluster == Some(own) && downgrade.is_none() && !raise {
            return;
        }
        let others: Vec<&Member> = published.members.iter().filter(|member| member.id != published.member_id).collect();
        let answers = ask(&others);
        let mut servers = vec![Some(Version::SERVER)];
        let mut levels = vec![Some(KNOWN_FEATURE_LEVEL)];
        for (member, answer) in others.iter().zip(&answers) {
            servers.push(answer.as_ref().and_then(|versions| server_version(member.id, versions)));
            levels.push(answer.as_ref().and_then(|versions| versions.feature_level));
        }
        match decide::cluster_version(&Known { cluster, servers: &servers, downgrade }) {
            Ok(Some(next)) => self.set_cluster_version(cluster, next),
            Ok(None) => {}
            Err(invalid) => log::error!(
                "Cannot downgrade from cluster-version to downgrade-target",
                "downgrade-target" = log::Shown(invalid.target),
                "cluster-version" = log::Shown(invalid.from),
            ),
        }
        if let Some(level) = decide::feature_level(published.feature_level, self.wanted, &levels) {
            let request = pb::FeatureLevelSetRequest { level };
            let done = self
                .proposer
                .propose(pb::InternalRaftRequest { feature_level_set: Some(request), ..Default::default() });
            tell(&done, "feature level", &level.to_string());
        }
    }

    fn set_cluster_version(&self, from: Option<Version>, to: Version) {
        let (to, text) = (minor(&to.to_string()).to_owned(), to.to_string());
        match from {
            None => log::info!("setting up initial cluster version using v3 API", "cluster-version" = to),
            Some(from) => {
                log::info!("updating cluster version using v3 API", "from" = minor(&from.to_string()), "to" = to,)
            }
        }
        let request = membershippb::ClusterVersionSetRequest { ver: text };
        let done = self
            .proposer
            .propose(pb::InternalRaftRequest { cluster_version_set: Some(request.into()), ..Default::default() });
        tell(&done, "cluster version", &to);
    }
}

fn tell(done: &Result<(), Failed>, what: &str, version: &str) {
    match done {
        Ok(()) => log::info!(&format!("{what} is updated"), "cluster-version" = version),
        Err(Failed::Stopped) => {}
        Err(Failed::Now(error)) => log::warning!(&format!("failed to update {what}"), "error" = error),
    }
}

/// All members' answers, each asked on a thread of its own.
fn ask(members: &[&Member]) -> Vec<Option<Versions>> {
    std::thread::scope(|scope| {
        let asked: Vec<_> =
            members.iter().map(|member| scope.spawn(|| remote::version_of(member, ANSWER_TIMEOUT))).collect();
        asked.into_iter().map(|asked| asked.join().ok().flatten()).collect()
    })
}

fn server_version(id: u64, versions: &Versions) -> Option<Version> {
    let server = Version::parse(&versions.server);
    match server {
        None => log::warning!(
            "failed to parse server version of remote member",
            "remote-member-id" = log::Hex(id),
            "remote-member-version" = versions.server,
        ),
        Some(server) if server > Version::SERVER => log::warning!(
            "leader found higher-versioned member",
            "local-member-version" = log::Shown(Version::SERVER),
            "remote-member-id" = log::Hex(id),
            "remote-member-version" = versions.server,
        ),
        Some(_) => {}
    }
    server
}

/// `3.7.0` as etcd tells a cluster version: `3.7`.
fn minor(version: &str) -> &str {
    version.rsplit_once('.').map_or(version, |(minor, _)| minor)
}
