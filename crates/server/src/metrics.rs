//! Numbers about this process in Prometheus text (contract 3.4): written without locks where work is done, put together
//! when somebody asks.

pub(crate) mod clients;
pub(crate) mod front;
mod histogram;
pub(crate) mod peers;
pub(crate) mod process;

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cetera_node::event::EventBatch;
use cetera_node::published::Published;

pub use front::FrontCounters;
use histogram::Histogram;

use crate::config::{GIT_SHA, VERSION};
use crate::rpc::status::Error;
use crate::rpc::{db_bytes, db_bytes_in_use};

/// The numbers of this process.
pub static METRICS: Metrics = Metrics::new();

/// Everything counted outside the front threads.
#[derive(Debug)]
pub struct Metrics {
    leader: AtomicU64,
    leader_changes: AtomicU64,
    proposals_failed: AtomicU64,
    proposals_pending: AtomicU64,
    ranges: AtomicU64,
    puts: AtomicU64,
    deletes: AtomicU64,
    txns: AtomicU64,
    events: AtomicU64,
    put_bytes: AtomicU64,
    health_success: AtomicU64,
    health_failures: AtomicU64,
    promotions: AtomicU64,
    promotions_failed: Mutex<BTreeMap<&'static str, u64>>,
    heartbeats_late: AtomicU64,
    clients: clients::ClientRequests,
    peers: peers::PeerNumbers,
    wal_fsync: Histogram<DISK_BUCKETS>,
    backend_commit: Histogram<DISK_BUCKETS>,
}

/// Buckets for latencies of the disk, and the first.
const DISK_BUCKETS: usize = 14;
const DISK_FIRST: Duration = Duration::from_millis(1);

impl Metrics {
    const fn new() -> Self {
        Metrics {
            leader: AtomicU64::new(0),
            leader_changes: AtomicU64::new(0),
            proposals_failed: AtomicU64::new(0),
            proposals_pending: AtomicU64::new(0),
            ranges: AtomicU64::new(0),
            puts: AtomicU64::new(0),
            deletes: AtomicU64::new(0),
            txns: AtomicU64::new(0),
            events: AtomicU64::new(0),
            put_bytes: AtomicU64::new(0),
            health_success: AtomicU64::new(0),
            health_failures: AtomicU64::new(0),
            promotions: AtomicU64::new(0),
            promotions_failed: Mutex::new(BTreeMap::new()),
            heartbeats_late: AtomicU64::new(0),
            clients: clients::ClientRequests::new(),
            peers: peers::PeerNumbers::new(),
            wal_fsync: Histogram::new(DISK_FIRST),
            backend_commit: Histogram::new(DISK_FIRST),
        }
    }

    /// A picture was published.
    pub fn published(&self, published: &Published) {
        let before = self.leader.swap(published.leader, Ordering::Relaxed);
        if published.leader != 0 && published.leader != before {
            self.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The write-ahead log was appended to and synced.
    pub fn wal_synced(&self, took: Duration) {
        self.wal_fsync.observe(took);
    }

    /// Changes were applied.
    pub fn applied(&self, batch: &EventBatch) {
        let deletes = batch.events.iter().filter(|event| event.tombstone).count() as u64;
        let puts = batch.events.len() as u64 - deletes;
        let several = batch.events.chunk_by(|a, b| a.revision.main == b.revision.main).filter(|txn| txn.len() > 1);
        let put_bytes: usize =
            batch.events.iter().filter(|event| !event.tombstone).map(|event| event.event.len()).sum();
        self.puts.fetch_add(puts, Ordering::Relaxed);
        self.deletes.fetch_add(deletes, Ordering::Relaxed);
        self.txns.fetch_add(several.count() as u64, Ordering::Relaxed);
        self.events.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
        self.put_bytes.fetch_add(put_bytes as u64, Ordering::Relaxed);
    }

    /// Ranges were answered.
    pub fn ranges(&self, count: u64) {
        self.ranges.fetch_add(count, Ordering::Relaxed);
    }

    /// Proposals were handed to the node.
    pub fn proposed(&self, count: u64) {
        self.proposals_pending.fetch_add(count, Ordering::Relaxed);
    }

    /// Proposals were answered, some of them with a failure.
    pub fn settled(&self, count: u64, failed: u64) {
        self.proposals_pending.fetch_sub(count, Ordering::Relaxed);
        self.proposals_failed.fetch_add(failed, Ordering::Relaxed);
    }

    /// A learner was promoted by this member as leader, or was not.
    pub(crate) fn promoted(&self, result: Result<(), Error>) {
        match result {
            Ok(()) => drop(self.promotions.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                let mut failed = self.promotions_failed.lock().unwrap_or_else(PoisonError::into_inner);
                *failed.entry(error.row().1).or_default() += 1;
            }
        }
    }

    /// As leader this member sent heartbeats later than it should.
    pub(crate) fn heartbeats_late(&self, count: u64) {
        self.heartbeats_late.fetch_add(count, Ordering::Relaxed);
    }

    /// The numbers about another member.
    pub(crate) fn peer(&self, member: u64) -> Arc<peers::PeerCounters> {
        self.peers.of(member)
    }

    /// `/health` was answered.
    pub fn health(&self, healthy: bool) {
        let counter = if healthy { &self.health_success } else { &self.health_failures };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Appends one metric.
fn metric(out: &mut String, kind: &str, name: &str, help: &str, value: impl Display) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
}

/// Appends one metric whose one series has labels.
fn labelled(out: &mut String, kind: &str, name: &str, help: &str, labels: &str, value: impl Display) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{{labels}}} {value}");
}

/// Appends one metric of several series, each with its labels; nothing if there are none.
fn family(out: &mut String, kind: &str, name: &str, help: &str, series: impl IntoIterator<Item = (String, u64)>) {
    let mut series = series.into_iter().peekable();
    if series.peek().is_some() {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
    for (labels, value) in series {
        let _ = writeln!(out, "{name}{{{labels}}} {value}");
    }
}

/// All metrics in Prometheus text.
pub fn render(published: &Published, quota_bytes: Option<u64>) -> String {
    let mut out = String::with_capacity(32 << 10);
    let metrics = &METRICS;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    server(&mut out, published, quota_bytes, metrics);
    let out = &mut out;
    for (name, help, value) in [
        ("etcd_mvcc_range_total", "Total number of ranges seen by this member.", load(&metrics.ranges)),
        ("etcd_mvcc_put_total", "Total number of puts seen by this member.", load(&metrics.puts)),
        ("etcd_mvcc_delete_total", "Total number of deletes seen by this member.", load(&metrics.deletes)),
        ("etcd_mvcc_txn_total", "Total number of txns seen by this member.", load(&metrics.txns)),
        ("etcd_debugging_mvcc_events_total", "Total number of events sent by this member.", load(&metrics.events)),
    ] {
        metric(out, "counter", name, help, value);
    }
    let (view, all) = (&published.view, b"\0".as_slice());
    for (name, help, value) in [
        ("etcd_mvcc_db_total_size_in_bytes", "Size of the data in pages.", db_bytes(published)),
        ("etcd_mvcc_db_total_size_in_use_in_bytes", "Size of the live data in pages.", db_bytes_in_use(published)),
        ("etcd_debugging_mvcc_keys_total", "Total number of keys.", view.totals(all, all).keys),
        ("etcd_debugging_mvcc_current_revision", "The current revision of store.", view.revision() as u64),
        (
            "etcd_debugging_mvcc_compact_revision",
            "The revision of the last compaction in store.",
            view.compacted().max(0) as u64,
        ),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", "The total size of put kv pairs.", load(&metrics.put_bytes)),
    ] {
        metric(out, "gauge", name, help, value);
    }
    for (name, help, histogram) in [
        (
            "etcd_disk_wal_fsync_duration_seconds",
            "The latency distributions of fsync called by WAL.",
            &metrics.wal_fsync,
        ),
        (
            "etcd_disk_backend_commit_duration_seconds",
            "The latency distributions of commit called by backend.",
            &metrics.backend_commit,
        ),
    ] {
        histogram.render(out, name, help);
    }
    metrics.peers.render(published, out);
    metrics.clients.render(out);
    front::render(out);
    process::render(out);
    std::mem::take(out)
}

fn server(out: &mut String, published: &Published, quota_bytes: Option<u64>, metrics: &Metrics) {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let id = format!("server_id=\"{:x}\"", published.member_id);
    let version = format!("server_version=\"{VERSION}\"");
    labelled(out, "gauge", "etcd_server_id", "Server or member ID in hexadecimal format.", &id, 1);
    labelled(out, "gauge", "etcd_server_version", "Which version is running.", &version, 1);
    let build = format!("server_go_version=\"{GIT_SHA}\"");
    labelled(out, "gauge", "etcd_server_go_version", "What the server was built as.", &build, 1);
    if let Some((minor, _)) = published.cluster_version.rsplit_once('.') {
        let labels = format!("cluster_version=\"{minor}\"");
        labelled(out, "gauge", "etcd_cluster_version", "Which version is running.", &labels, 1);
    }
    let leads = published.leader == published.member_id && published.member_id != 0;
    for (name, help, value) in [
        (
            "etcd_server_has_leader",
            "Whether or not a leader exists. 1 is existence, 0 is not.",
            u64::from(published.leader != 0),
        ),
        ("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.", u64::from(leads)),
        (
            "etcd_server_is_learner",
            "Whether or not this member is a learner. 1 if is, 0 otherwise.",
            u64::from(published.is_learner),
        ),
        (
            "etcd_server_proposals_committed_total",
            "The total number of consensus proposals committed.",
            published.committed_index,
        ),
        (
            "etcd_server_proposals_applied_total",
            "The total number of consensus proposals applied.",
            published.applied_index,
        ),
        (
            "etcd_server_proposals_pending",
            "The current number of pending proposals to commit.",
            load(&metrics.proposals_pending),
        ),
        ("etcd_server_quota_backend_bytes", "Current backend storage quota size in bytes.", quota_bytes.unwrap_or(0)),
    ] {
        metric(out, "gauge", name, help, value);
    }
    for (name, help, value) in [
        ("etcd_server_leader_changes_seen_total", "The number of leader changes seen.", load(&metrics.leader_changes)),
        (
            "etcd_server_proposals_failed_total",
            "The total number of failed proposals seen.",
            load(&metrics.proposals_failed),
        ),
        (
            "etcd_server_heartbeat_send_failures_total",
            "The total number of leader heartbeats sent late (likely overloaded).",
            load(&metrics.heartbeats_late),
        ),
        (
            "etcd_server_learner_promote_successes",
            "The total number of successful learner promotions while this member is leader.",
            load(&metrics.promotions),
        ),
        ("etcd_server_health_success", "The total number of successful health checks", load(&metrics.health_success)),
        ("etcd_server_health_failures", "The total number of failed health checks", load(&metrics.health_failures)),
    ] {
        metric(out, "counter", name, help, value);
    }
    let failed = metrics.promotions_failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let name = "etcd_server_learner_promote_failures";
    let series = failed.iter().map(|(reason, count)| (format!("Reason=\"{reason}\""), *count));
    family(out, "counter", name, "The total number of failed learner promotions while this member is leader.", series);
    for alarm in published.alarms.iter() {
        let kind = cetera_proto::etcdserverpb::AlarmType::try_from(alarm.alarm).map_or("", |kind| kind.as_str_name());
        let labels = format!("alarm_type=\"{kind}\",server_id=\"{:x}\"", alarm.member_id);
        labelled(out, "gauge", "etcd_debugging_server_alarms", "Alarms for every member in cluster.", &labels, 1);
    }
}
