//! From a configuration to a running node: storage opened, threads started, this member's name published.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cetera_node::event::{Event, Proposal, Reply};
use cetera_node::node::FRONT_REQUEST_BIT;
use cetera_node::recovery::{self, Report, Start};
use cetera_proto::{etcdserverpb as pb, membershippb};
use cetera_raft::rng::Rng;
use cetera_state::id;
use cetera_state::member::Member;
use cetera_storage::datadir::DataDir;
use cetera_storage::revlog::RevLogOptions;
use cetera_storage::vfs::{Vfs, real::RealVfs};
use cetera_storage::wal::WalOptions;
use prost::Message as _;

use crate::clock;
use crate::config::{self, Config};
use crate::log;
use crate::node_thread::{self, NodeHandle, NodeShell, NodeThreads};

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
    /// Where request ids begin: no id below was used by an earlier life of this member (ID-5).
    pub first_request_id: u64,
    /// Keeps the data directory locked.
    _data_dir: DataDir,
}

/// Opens the data directory and starts the node. Returns when the node runs; it may not have a leader yet.
///
/// # Errors
/// One line that says what stands in the way.
pub fn start(config: &Config) -> Result<Running, String> {
    let (founders, member_id, cluster_id) = founders(config)?;
    #[cfg(not(feature = "fault-hooks"))]
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    #[cfg(feature = "fault-hooks")]
    let vfs: Arc<dyn Vfs> = Arc::new(crate::faults::FaultyVfs(RealVfs));
    let dir: PathBuf = std::path::absolute(&config.data_dir).map_err(|error| error.to_string())?;
    let unix_ms = clock::unix_ms();
    let nonce = Rng::new(unix_ms ^ (u64::from(std::process::id()) << 48)).next_u64();
    let opened = recovery::open(
        &vfs,
        &dir,
        Start {
            founders,
            member_id,
            cluster_id,
            tick_ms: config.heartbeat_ms,
            election_ms: config.election_ms,
            pre_vote: config.pre_vote,
            nonce,
            now_ms: clock::now_ms(),
            checkpoint_log_bytes: small("CETERA_TEST_CHECKPOINT_BYTES"),
            wal: wal_options(nonce),
            log: log_options(),
        },
    )
    .map_err(|error| error.to_string())?;
    tell(&opened.report, &dir);
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
        sync: !config.unsafe_no_fsync,
        reserve_bytes: log_options().segment_bytes + 2 * wal_options(nonce).segment_bytes,
    };
    let (handle, threads) = node_thread::spawn(node, shell).map_err(|error| error.to_string())?;
    let (member_id, cluster_id) = opened.ids;
    Ok(Running {
        handle,
        threads,
        member_id,
        cluster_id,
        first_request_id: first_request_id(member_id, unix_ms),
        _data_dir: opened.data_dir,
    })
}

/// A size from a variable that only tests set, so that files roll often in a short run.
fn small(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
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

/// Publishes this member's name and client URLs through the log, and the cluster's version if none is decided (B-9,
/// V-1). Blocks until both are applied.
///
/// # Errors
/// The member did not get a leader, or was told to stop.
pub fn publish(running: &Running, config: &Config) -> Result<(), String> {
    let mut id = running.first_request_id;
    // Published at every start, as etcd does: once it is applied, so is everything an earlier life acknowledged.
    let attributes = membershippb::ClusterMemberAttrSetRequest {
        member_id: running.member_id,
        member_attributes: Some(membershippb::Attributes {
            name: config.name.clone(),
            client_urls: config.advertise_client.clone(),
        }),
    };
    let request = pb::InternalRaftRequest { cluster_member_attr_set: Some(attributes.into()), ..Default::default() };
    id = propose(running, id, request)?;
    log::info!(
        "published local member to cluster through raft",
        "local-member-id" = log::Hex(running.member_id),
        "cluster-id" = log::Hex(running.cluster_id),
    );
    if running.handle.published().cluster_version.is_empty() {
        let version = membershippb::ClusterVersionSetRequest { ver: config::STORAGE_VERSION.to_owned() };
        propose(
            running,
            id,
            pb::InternalRaftRequest { cluster_version_set: Some(version.into()), ..Default::default() },
        )?;
        log::info!("set cluster version", "cluster-version" = config::STORAGE_VERSION);
    }
    Ok(())
}

/// Proposes until it is applied: at a start the first tries may meet no leader. Returns the next unused request id.
fn propose(running: &Running, mut id: u64, mut request: pb::InternalRaftRequest) -> Result<u64, String> {
    for _ in 0..PUBLISH_TRIES {
        request.header = Some(pb::RequestHeader { id, ..Default::default() });
        let bytes = request.encode_to_vec();
        let reply = running.handle.ask(
            |ticket| Event::Propose(vec![Proposal { ticket, id, request: bytes.into() }]),
            Duration::from_secs(10),
        );
        id += 1;
        match reply {
            Some(Reply::Applied(_)) => return Ok(id),
            None if running.handle.has_ended() => break,
            _ => running.handle.wait_for_change(Duration::from_millis(100)),
        }
    }
    Err("the member could not publish itself: no leader".to_owned())
}

/// Tries before a start is given up.
const PUBLISH_TRIES: usize = 100;
/// Request ids set aside for a start.
pub const OWN_REQUEST_IDS: u64 = 2 * PUBLISH_TRIES as u64;

fn first_request_id(member_id: u64, unix_ms: u64) -> u64 {
    (member_id << 48) | FRONT_REQUEST_BIT | ((unix_ms & 0x7f_ffff_ffff) << 8)
}

/// The members named by `--initial-cluster`, this one's id and the cluster's (B-1, ID-1, ID-3).
fn founders(config: &Config) -> Result<(Vec<Member>, u64, u64), String> {
    if config.join_existing {
        return Err("--initial-cluster-state=existing: joining a cluster is not supported yet".to_owned());
    }
    let [(name, urls)] = &config.initial_cluster[..] else {
        return Err("--initial-cluster: more than one member is not supported yet".to_owned());
    };
    if *name != config.name {
        return Err(format!("couldn't find local name \"{}\" in the initial cluster configuration", config.name));
    }
    let mut sorted = urls.clone();
    sorted.sort_unstable();
    let mut advertised = config.advertise_peer.clone();
    advertised.sort_unstable();
    if sorted != advertised {
        return Err(format!(
            "--initial-cluster has {name}={} but missing from --initial-advertise-peer-urls={}",
            sorted.join(","),
            advertised.join(","),
        ));
    }
    let member_id = id::member_id(urls, &config.initial_cluster_token, None);
    let member = Member { id: member_id, peer_urls: sorted, ..Default::default() };
    Ok((vec![member], member_id, id::cluster_id(&[member_id])))
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
    log::info!(
        "opened data directory",
        "data-dir" = log::Shown(dir.display()),
        "first-start" = report.first_start,
        "checkpoint-index" = report.checkpoint.unwrap_or(0),
        "replayed-entries" = report.replayed,
    );
}
