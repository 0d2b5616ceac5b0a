//! From a configuration to a running node: storage opened, threads started, this member's name published.
//!
//! A directory that holds a member decides who it is; the flags about the initial cluster are then not even read (B-5,
//! F-9). Only a first start asks: the flags who founds the cluster, and the other members whether they agree.

mod fast_forward;
mod found;
mod guard;
mod join;
mod publish;
mod urls;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cetera_node::node::FRONT_REQUEST_BIT;
use cetera_node::recovery::{self, Report, Start};
use cetera_node::snapshot::SnapshotReceiver;
use cetera_raft::rng::Rng;
use cetera_state::StateLimits;
use cetera_state::member::Member;
use cetera_storage::datadir::DataDir;
use cetera_storage::revlog::RevLogOptions;
use cetera_storage::vfs::{Vfs, real::RealVfs};
use cetera_storage::wal::WalOptions;

use crate::clock;
use crate::config::Config;
use crate::log;
use crate::node_thread::{self, NodeHandle, NodeShell, NodeThreads};
use crate::peer::PeersHandle;
use crate::proposer::Proposer;
use crate::rpc::RequestIds;
use crate::versions;

pub use fast_forward::FastForward;
pub use publish::publish;

/// A running node.
pub struct Running {
    /// How to reach it.
    pub handle: NodeHandle,
    /// Its threads.
    pub threads: NodeThreads,
    /// This member.
    pub member_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// Request ids of this life: no earlier life of this member used one of them (ID-5).
    pub ids: Arc<RequestIds>,
    /// Of a member that joins: the others, as they were told to it. Its log does not know them yet.
    pub remotes: Vec<Member>,
    /// Takes snapshots from other members.
    pub snapshots: Arc<Mutex<SnapshotReceiver>>,
    /// Keeps the data directory locked.
    _data_dir: DataDir,
}

impl Running {
    /// Proposes for this member.
    pub fn proposer(&self, config: &Config) -> Proposer {
        Proposer {
            node: self.handle.clone(),
            ids: Arc::clone(&self.ids),
            timeout: Duration::from_millis(config.request_timeout_ms()),
        }
    }
}

/// Opens the data directory and starts the node. Returns when the node runs; it may not have a leader yet. What it says
/// to other members goes to `peers`. `None`: the directory's member was removed from its cluster, and nothing was started.
///
/// # Errors
/// One line that says what stands in the way.
pub fn start(config: &Config, peers: PeersHandle) -> Result<Option<Running>, String> {
    #[cfg(not(feature = "fault-hooks"))]
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    #[cfg(feature = "fault-hooks")]
    let vfs: Arc<dyn Vfs> = Arc::new(crate::faults::FaultyVfs(RealVfs));
    let dir: PathBuf = std::path::absolute(&config.data_dir).map_err(|error| error.to_string())?;
    let unix_ms = clock::unix_ms();
    let nonce = Rng::new(unix_ms ^ (u64::from(std::process::id()) << 48)).next_u64();
    let start = Start {
        limits: StateLimits { max_learners: config.max_learners, ..StateLimits::default() },
        force_new_cluster: config.force_new_cluster,
        tick_ms: config.heartbeat_ms,
        election_ms: config.election_ms,
        pre_vote: config.pre_vote,
        nonce,
        now_ms: clock::now_ms(),
        checkpoint_log_bytes: small("CETERA_TEST_CHECKPOINT_BYTES"),
        wal: wal_options(nonce),
        log: log_options(),
        ..Start::default()
    };
    let text = |error: recovery::StartError| error.to_string();
    let (opened, remotes) = match recovery::reopen(&vfs, &dir, start.clone()).map_err(text)? {
        Some(opened) => (opened, Vec::new()),
        None => {
            let first = first_start(config)?;
            let start =
                Start { founders: first.founders, member_id: first.member_id, cluster_id: first.cluster_id, ..start };
            (recovery::open(&vfs, &dir, start).map_err(text)?, first.remotes)
        }
    };
    tell(&opened.report, &dir);
    if opened.report.removed {
        return Ok(None);
    }
    let (member_id, cluster_id) = opened.ids;
    log::info!(
        "starting local member",
        "local-member-id" = log::Hex(member_id),
        "cluster-id" = log::Hex(cluster_id),
        "joins" = !remotes.is_empty(),
    );
    let mut node = opened.node;
    if opened.report.sole_voter {
        node.campaign();
    }
    let shell = NodeShell {
        wal: opened.wal,
        vfs,
        checkpoints: opened.checkpoints,
        tick_ms: config.heartbeat_ms,
        sync_inline: true,
        peers,
        sync: !config.unsafe_no_fsync,
        reserve_bytes: log_options().segment_bytes + 2 * wal_options(nonce).segment_bytes,
    };
    let (handle, threads) = node_thread::spawn(node, shell).map_err(|error| error.to_string())?;
    Ok(Some(Running {
        handle,
        threads,
        member_id,
        cluster_id,
        ids: Arc::new(RequestIds::new(first_request_id(member_id, unix_ms))),
        remotes,
        snapshots: Arc::new(Mutex::new(opened.snapshots)),
        _data_dir: opened.data_dir,
    }))
}

/// What a directory without a member becomes.
struct First {
    founders: Vec<Member>,
    member_id: u64,
    cluster_id: u64,
    remotes: Vec<Member>,
}

/// Founder or joiner, as the flags say and the other members confirm.
fn first_start(config: &Config) -> Result<First, String> {
    let map = urls::read_map(&config.initial_cluster)
        .map_err(|error| format!("error setting up initial cluster: {error}"))?;
    let mut resolve = urls::resolver();
    if config.join_existing {
        let (existing, member_id) = join::join(config, &map, &mut resolve)?;
        let remotes = existing.members.into_iter().filter(|member| member.id != member_id).collect();
        return Ok(First { founders: Vec::new(), member_id, cluster_id: existing.cluster_id, remotes });
    }
    let founding = found::founding(config, &map, &mut resolve)?;
    guard::check(&founding, join::peer_urls(&map, &config.name))?;
    let found::Founding { members, member_id, cluster_id } = founding;
    Ok(First { founders: members, member_id, cluster_id, remotes: Vec::new() })
}

/// A size from a variable that only tests set, so that files roll often in a short run.
fn small(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The feature level that is asked for: none today, but a test can ask for one.
pub fn feature_level_wanted() -> u64 {
    small("CETERA_TEST_FEATURE_LEVEL").unwrap_or(versions::FEATURE_LEVEL_WANTED)
}

fn wal_options(nonce: u64) -> WalOptions {
    let options = WalOptions { salt: nonce, ..WalOptions::default() };
    match small("CETERA_TEST_WAL_SEGMENT_BYTES") {
        Some(segment_bytes) => WalOptions { segment_bytes, ..options },
        None => options,
    }
}

fn log_options() -> RevLogOptions {
    small("CETERA_TEST_LOG_SEGMENT_BYTES")
        .map_or_else(RevLogOptions::default, |segment_bytes| RevLogOptions { segment_bytes })
}

fn first_request_id(member_id: u64, unix_ms: u64) -> u64 {
    (member_id << 48) | FRONT_REQUEST_BIT | ((unix_ms & 0x7f_ffff_ffff) << 8)
}

fn tell(report: &Report, dir: &std::path::Path) {
    if let Some(torn) = &report.torn {
        log::warning!(
            "cut a torn tail off the write-ahead log",
            "file" = log::Shown(torn.file.display()),
            "offset" = torn.offset,
            "bytes" = torn.bytes,
        );
    }
    if let Some(forced) = &report.forced {
        log::warning!(
            "forcing restart member",
            "wal-commit-index" = forced.commit_before,
            "commit-index" = forced.commit,
            "discarded-entries" = forced.discarded,
            "removed-members" = forced.removed.iter().map(|id| format!("{id:x}")).collect::<Vec<_>>(),
        );
    }
    log::info!(
        "opened data directory",
        "data-dir" = log::Shown(dir.display()),
        "first-start" = report.first_start,
        "checkpoint-index" = report.checkpoint.unwrap_or(0),
        "replayed-entries" = report.replayed,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration of these flags.
    pub(super) fn config(flags: &[&str]) -> Config {
        let arguments: Vec<std::ffi::OsString> = flags.iter().map(std::ffi::OsString::from).collect();
        Config::read(&arguments, std::iter::empty(), &mut Vec::new()).expect("valid flags")
    }
}
