//! What a member is told at start: flags and environment, checked together and given types.

mod url;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

pub use url::Url;

use crate::flags::{self, Note, Stop, Values};
use crate::log::{self, Format, Level};
use crate::tls::TlsFiles;

/// The release of etcd whose contract we keep; clients and tools read it as the version.
pub const VERSION: &str = "3.7.1";
/// The storage version told by Status and `/version`.
pub const STORAGE_VERSION: &str = "3.7.0";
/// What stands for the commit: our own name and version.
pub const GIT_SHA: &str = concat!("cetera-", env!("CARGO_PKG_VERSION"));
/// Quota in bytes when the flag is 0 (`DefaultQuotaBytes`).
pub const QUOTA_DEFAULT_BYTES: u64 = 2 << 30;
/// Shortest timeout of reads and writes between members (`rafthttp.ConnReadTimeout`, `ConnWriteTimeout`): less is taken for
/// this much.
const RAFT_TIMEOUT_MIN: Duration = Duration::from_secs(5);
/// Longest election timeout accepted, in milliseconds (`maxElectionMs`).
const ELECTION_MS_MAX: u64 = 50_000;
/// Largest request size accepted without a warning, in bytes (`recommendedMaxRequestBytes`).
const REQUEST_BYTES_RECOMMENDED: u64 = 10 << 20;

/// Settings of one member.
#[derive(Clone, Debug)]
pub struct Config {
    /// `--name`.
    pub name: String,
    /// `--data-dir`, or `<name>.etcd`.
    pub data_dir: PathBuf,
    /// `--listen-peer-urls`.
    pub listen_peer: Vec<Url>,
    /// `--listen-client-urls`.
    pub listen_client: Vec<Url>,
    /// `--listen-client-http-urls`; when not empty, `listen_client` serves gRPC alone (H-15).
    pub listen_client_http: Vec<Url>,
    /// `--listen-metrics-urls`.
    pub listen_metrics: Vec<Url>,
    /// `--initial-advertise-peer-urls`, sorted.
    pub advertise_peer: Vec<String>,
    /// `--advertise-client-urls`, sorted.
    pub advertise_client: Vec<String>,
    /// `--initial-cluster` as it was given: it is read by a first start only (F-9).
    pub initial_cluster: String,
    /// Whether `--initial-cluster-state` is `existing`.
    pub join_existing: bool,
    /// `--initial-cluster-token`.
    pub initial_cluster_token: String,
    /// `--quota-backend-bytes` resolved: `None` is no limit.
    pub quota_bytes: Option<u64>,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// `--max-concurrent-streams`.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-min-time`.
    pub keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval`; `None` is never.
    pub keepalive_interval: Option<Duration>,
    /// `--grpc-keepalive-timeout`.
    pub keepalive_timeout: Duration,
    /// `--heartbeat-interval` in milliseconds.
    pub heartbeat_ms: u64,
    /// `--election-timeout` in milliseconds.
    pub election_ms: u64,
    /// `--initial-election-tick-advance`.
    pub election_tick_advance: bool,
    /// Certificates of the peer port.
    pub peer_tls: TlsFiles,
    /// `--raft-read-timeout`.
    pub raft_read_timeout: Duration,
    /// `--raft-write-timeout`.
    pub raft_write_timeout: Duration,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--strict-reconfig-check`.
    pub strict_reconfig_check: bool,
    /// `--max-learners`.
    pub max_learners: usize,
    /// `--force-new-cluster`.
    pub force_new_cluster: bool,
    /// `--snapshot-count`: applied entries between checkpoints.
    pub snapshot_count: u64,
    /// `--snapshot-catchup-entries`.
    pub snapshot_catchup_entries: u64,
    /// `--watch-progress-notify-interval`.
    pub progress_notify_interval: Duration,
    /// `--unsafe-no-fsync`.
    pub unsafe_no_fsync: bool,
    /// `--log-level`.
    pub log_level: Level,
    /// `--log-format`.
    pub log_format: Format,
    /// `--log-outputs`.
    pub log_outputs: Vec<String>,
    /// All flags, for the start-up line.
    pub flags: Values,
}

impl Config {
    /// Reads command line (without the program's name) and environment.
    ///
    /// # Errors
    /// As [`Stop`] says; the text is etcd's where etcd has one.
    pub fn read(
        arguments: &[OsString],
        environment: impl Iterator<Item = (String, String)>,
        notes: &mut Vec<Note>,
    ) -> Result<Config, Stop> {
        let mut values = Values::defaults();
        values.parse(arguments, notes)?;
        if values.bool("version") {
            return Err(Stop::Version);
        }
        values.parse_environment(environment, notes)?;
        values.check_effects(notes)?;
        Config::from_values(values).map_err(Stop::Failure)
    }

    fn from_values(values: Values) -> Result<Config, String> {
        let urls = |name: &str| -> Result<Vec<Url>, String> {
            values.list(name).iter().map(|text| Url::parse(text)).collect()
        };
        let name = values.text("name").to_string();
        let advertise_peer = urls("initial-advertise-peer-urls")?;
        let advertise_client = urls("advertise-client-urls")?;
        let config = Config {
            data_dir: match values.text("data-dir") {
                "" => PathBuf::from(format!("{name}.etcd")),
                dir => PathBuf::from(dir),
            },
            listen_peer: urls("listen-peer-urls")?,
            listen_client: urls("listen-client-urls")?,
            listen_client_http: urls("listen-client-http-urls")?,
            listen_metrics: urls("listen-metrics-urls")?,
            initial_cluster: initial_cluster(&values, &name, &advertise_peer),
            advertise_peer: advertise_peer.iter().map(Url::to_string).collect(),
            advertise_client: advertise_client.iter().map(Url::to_string).collect(),
            name,
            join_existing: values.text("initial-cluster-state") == "existing",
            initial_cluster_token: values.text("initial-cluster-token").to_string(),
            quota_bytes: match number::<i64>(&values, "quota-backend-bytes")? {
                0 => Some(QUOTA_DEFAULT_BYTES),
                bytes => u64::try_from(bytes).ok(),
            },
            max_txn_ops: number(&values, "max-txn-ops")?,
            max_request_bytes: number(&values, "max-request-bytes")?,
            max_concurrent_streams: number(&values, "max-concurrent-streams")?,
            keepalive_min_time: values.duration("grpc-keepalive-min-time"),
            keepalive_interval: Some(values.duration("grpc-keepalive-interval")).filter(|interval| !interval.is_zero()),
            keepalive_timeout: values.duration("grpc-keepalive-timeout"),
            heartbeat_ms: number(&values, "heartbeat-interval")?,
            election_ms: number(&values, "election-timeout")?,
            election_tick_advance: values.bool("initial-election-tick-advance"),
            peer_tls: peer_tls(&values),
            raft_read_timeout: values.duration("raft-read-timeout").max(RAFT_TIMEOUT_MIN),
            raft_write_timeout: values.duration("raft-write-timeout").max(RAFT_TIMEOUT_MIN),
            pre_vote: values.bool("pre-vote"),
            strict_reconfig_check: values.bool("strict-reconfig-check"),
            max_learners: number(&values, "max-learners")?,
            force_new_cluster: values.bool("force-new-cluster"),
            snapshot_count: number(&values, "snapshot-count")?,
            snapshot_catchup_entries: number(&values, "snapshot-catchup-entries")?,
            progress_notify_interval: values.duration("watch-progress-notify-interval"),
            unsafe_no_fsync: values.bool("unsafe-no-fsync"),
            log_level: Level::parse(values.text("log-level")).expect("the flag's choices are the levels"),
            log_format: match values.text("log-format") {
                "console" => Format::Console,
                _ => Format::Json,
            },
            log_outputs: values.list("log-outputs"),
            flags: values,
        };
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), String> {
        for url in self.listeners() {
            url.check_bindable()?;
            if url.scheme == "https" && self.listen_peer.contains(url) {
                continue;
            }
            if url.scheme != "http" {
                return Err(format!(
                    "listening on {} is not supported by this version of cetera: only http is",
                    url.scheme
                ));
            }
        }
        for url in self.listen_peer.iter().filter(|url| url.scheme == "https") {
            if self.peer_tls.cert.is_empty() && !self.peer_tls.auto {
                return Err(format!(
                    "cannot listen on TLS for {}:{}: KeyFile and CertFile are not presented",
                    url.host, url.port
                ));
            }
        }
        for url in &self.listen_client_http {
            if self.listen_client.contains(url) {
                return Err(format!("{url} is given both as --listen-client-urls and as --listen-client-http-urls"));
            }
        }
        if self.heartbeat_ms == 0 {
            return Err(format!("--heartbeat-interval must be >0 (set to {}ms)", self.heartbeat_ms));
        }
        if self.election_ms == 0 {
            return Err(format!("--election-timeout must be >0 (set to {}ms)", self.election_ms));
        }
        if self.heartbeat_ms.saturating_mul(5) > self.election_ms {
            return Err(format!(
                "--election-timeout[{}ms] should be at least as 5 times as --heartbeat-interval[{}ms]",
                self.election_ms, self.heartbeat_ms
            ));
        }
        if self.election_ms > ELECTION_MS_MAX {
            return Err(format!(
                "--election-timeout[{}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms",
                self.election_ms
            ));
        }
        if self.flags.is_set("listen-client-urls") && !self.flags.is_set("advertise-client-urls") {
            return Err("--advertise-client-urls is required when --listen-client-urls is set explicitly".to_string());
        }
        Ok(())
    }

    /// How long a request may take: what it queues and computes, and two elections (G-13).
    pub fn request_timeout_ms(&self) -> u64 {
        5_000 + 2 * self.election_ms
    }

    /// Every URL this member binds.
    fn listeners(&self) -> impl Iterator<Item = &Url> {
        [&self.listen_peer, &self.listen_client, &self.listen_client_http, &self.listen_metrics].into_iter().flatten()
    }

    /// Says in the log what was noted while reading, and what an operator should know.
    pub fn log_notes(&self, notes: &[Note]) {
        notes.iter().for_each(log_note);
        if self.max_request_bytes as u64 > REQUEST_BYTES_RECOMMENDED {
            log::warning!(
                "exceeded recommended request limit",
                "max-request-bytes" = self.max_request_bytes,
                "recommended-request-bytes" = REQUEST_BYTES_RECOMMENDED
            );
        }
        if self.flags.is_set("max-snapshots") {
            log::warning!("--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8");
        }
        if self.flags.is_set("v2-deprecation") {
            log::warning!(
                "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input"
            );
        }
        if self.name == "default" {
            log::warning!(
                "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into issue when multiple members have the same default name",
                "name" = self.name
            );
        }
    }
}

/// Says one note in the log.
pub fn log_note(note: &Note) {
    match note {
        Note::Used(name, value) => {
            log::info!("recognized and used environment variable", "variable-name" = name, "variable-value" = value);
        }
        Note::Unrecognized(pair) => log::warning!("unrecognized environment variable", "environment-variable" = pair),
        Note::Version(value) => {
            log::warning!("cannot set special environment variable", "key" = "ETCD_VERSION", "value" = value);
        }
        Note::Ignored(name) => log::warning!("flag is no longer supported - ignoring", "flag-name" = name),
        Note::NoEffect(name, value) => {
            log::warning!("flag has no effect in this version of cetera yet", "flag-name" = name, "flag-value" = value);
        }
    }
}

/// What `--version` prints.
pub fn version_text() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {VERSION}\nGit SHA: {GIT_SHA}\nGo Version: none\nGo OS/Arch: {}/{arch}\n",
        std::env::consts::OS
    )
}

fn peer_tls(values: &Values) -> TlsFiles {
    let text = |name: &str| values.text(name).to_string();
    TlsFiles {
        cert: text("peer-cert-file"),
        key: text("peer-key-file"),
        client_cert: text("peer-client-cert-file"),
        client_key: text("peer-client-key-file"),
        ca: text("peer-trusted-ca-file"),
        auto: values.bool("peer-auto-tls"),
        allowed_hostnames: values.list("peer-cert-allowed-hostname"),
    }
}

fn number<N: std::str::FromStr>(values: &Values, name: &str) -> Result<N, String> {
    values
        .number(name)
        .ok_or_else(|| format!("invalid value {:?} for flag -{name}: value out of range", values.text(name)))
}

/// An untouched default follows the member's own name (F-8).
fn initial_cluster(values: &Values, name: &str, advertise_peer: &[Url]) -> String {
    if values.is_set("initial-cluster") {
        return values.text("initial-cluster").to_owned();
    }
    let pairs: Vec<String> = advertise_peer.iter().map(|url| format!("{name}={url}")).collect();
    pairs.join(",")
}

/// All flags and values, for the line that tells how the server was started.
pub fn shown(flags: &Values) -> Vec<(&'static str, String)> {
    flags
        .iter()
        .filter(|(flag, _)| flag.effect != flags::Effect::Ignored)
        .map(|(flag, text)| (flag.name, text.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Config, Stop> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Config::read(&arguments, std::iter::empty(), &mut Vec::new())
    }

    #[test]
    fn defaults() {
        let config = read(&[]).expect("defaults are valid");
        assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(config.quota_bytes, Some(2_147_483_648));
        assert_eq!(config.max_request_bytes, 1_572_864);
        assert_eq!(config.initial_cluster, "default=http://localhost:2380");
        assert_eq!(config.keepalive_interval, Some(Duration::from_secs(7200)));
        assert_eq!((config.heartbeat_ms, config.election_ms), (100, 1000));
    }

    #[test]
    fn the_name_carries_the_default_cluster() {
        let config = read(&["--name=a", "--initial-advertise-peer-urls=http://10.0.0.1:2380"]).expect("valid");
        assert_eq!(config.initial_cluster, "a=http://10.0.0.1:2380");
        assert_eq!(config.data_dir, PathBuf::from("a.etcd"));
    }

    #[test]
    fn what_does_not_fit_together_is_refused_in_etcds_words() {
        for (arguments, text) in [
            (
                &["--listen-client-urls=http://127.0.0.1:2379"][..],
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ),
            (
                &["--election-timeout=400"],
                "--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]",
            ),
            (
                &["--election-timeout=50001"],
                "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
            ),
            (&["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
            (&["--listen-peer-urls=http://example.com:1"], "expected IP in URL for binding (http://example.com:1)"),
            (
                &["--max-concurrent-streams=4294967296"],
                "invalid value \"4294967296\" for flag -max-concurrent-streams: value out of range",
            ),
        ] {
            assert_eq!(read(arguments).expect_err("must stop"), Stop::Failure(text.to_string()), "{arguments:?}");
        }
        assert_eq!(read(&["--version", "--name=x"]).expect_err("must stop"), Stop::Version);
    }

    #[test]
    fn version_is_four_lines() {
        let text = version_text();
        assert_eq!(text.lines().count(), 4);
        assert!(text.starts_with("etcd Version: 3.7.1\nGit SHA: cetera-"));
    }
}
