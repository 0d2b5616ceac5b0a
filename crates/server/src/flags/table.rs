//! Every flag of etcd 3.7 with its default: the source of parsing, of `--help` and of what a value means here.

use super::{Effect, Flag, Kind};
use Effect::{Ignored, Inherent, NotYet, Refused, Works};
use Kind::{Bool, Choice, Duration, Int, List, Text, Uint, Urls};

const fn flag(name: &'static str, kind: Kind, default: &'static str, effect: Effect, help: &'static str) -> Flag {
    Flag { name, kind, default, effect, help }
}

/// A heading of `--help` and the flags under it.
pub struct Section {
    /// Heading.
    pub title: &'static str,
    /// Flags in the order shown.
    pub flags: &'static [Flag],
}

/// All flags, in the order of `--help` (contract 2.2).
pub const SECTIONS: &[Section] = &[
    Section {
        title: "Member",
        flags: &[
            flag("name", Text, "default", Works, "Name of this member."),
            flag("data-dir", Text, "", Works, "Directory of this member's data; ${name}.etcd when empty."),
            flag("wal-dir", Text, "", Refused, "Directory of the write-ahead log, apart from the data directory."),
            flag("snapshot-count", Uint, "10000", Works, "Applied entries between checkpoints. The log is bounded in bytes besides."),
            flag("heartbeat-interval", Uint, "100", Works, "Milliseconds between heartbeats of a leader."),
            flag("election-timeout", Uint, "1000", Works, "Milliseconds without a leader before an election."),
            flag("initial-election-tick-advance", Bool, "true", NotYet, "Shorten the first election timeout after start."),
            flag("listen-peer-urls", Urls, "http://localhost:2380", Works, "URLs to listen on for other members."),
            flag("listen-client-urls", Urls, "http://localhost:2379", Works, "URLs to listen on for clients: gRPC, and HTTP unless listen-client-http-urls is given."),
            flag("listen-client-http-urls", Urls, "", Works, "URLs to listen on for HTTP alone; listen-client-urls then serves gRPC alone."),
            flag("max-snapshots", Uint, "5", Inherent, "Deprecated. Old checkpoints are removed as soon as they are not needed."),
            flag("max-wals", Uint, "5", Inherent, "Write-ahead log files to keep; here they go as soon as a checkpoint covers them."),
            flag("memory-mlock", Bool, "false", NotYet, "Keep the process's memory from being swapped."),
            flag("quota-backend-bytes", Int, "0", Works, "Logical bytes at which writes are refused; 0 is 2 GiB, negative is no limit."),
            flag("backend-bbolt-freelist-type", Text, "map", Inherent, "Accepted; there is no such file here."),
            flag("backend-batch-interval", Duration, "0s", Inherent, "Accepted; there is no such batch here."),
            flag("backend-batch-limit", Int, "0", Inherent, "Accepted; there is no such batch here."),
            flag("max-txn-ops", Uint, "128", Works, "Operations allowed in one transaction."),
            flag("max-request-bytes", Uint, "1572864", Works, "Bytes allowed in one write request."),
            flag("max-concurrent-streams", Uint, "4294967295", Works, "Calls a client connection may have open at once."),
            flag("grpc-keepalive-min-time", Duration, "5s", Works, "Shortest time between pings of a client."),
            flag("grpc-keepalive-interval", Duration, "2h0m0s", Works, "Time between pings to a client connection; 0 is never."),
            flag("grpc-keepalive-timeout", Duration, "20s", Works, "Time to wait for the answer to a ping before closing."),
            flag("socket-reuse-port", Bool, "false", NotYet, "Set SO_REUSEPORT on listeners."),
            flag("socket-reuse-address", Bool, "false", NotYet, "Set SO_REUSEADDR on listeners."),
            flag("enable-grpc-gateway", Bool, "true", NotYet, "Serve the JSON gateway."),
            flag("raft-read-timeout", Duration, "5s", NotYet, "Read timeout of connections between members."),
            flag("raft-write-timeout", Duration, "5s", NotYet, "Write timeout of connections between members."),
            flag("feature-gates", Text, "", NotYet, "Comma-separated gate=bool pairs."),
        ],
    },
    Section {
        title: "Clustering",
        flags: &[
            flag("initial-advertise-peer-urls", Urls, "http://localhost:2380", Works, "Peer URLs of this member told to the others."),
            flag("initial-cluster", Text, "default=http://localhost:2380", Works, "name=peer-url pairs of all first members."),
            flag("initial-cluster-state", Choice(&["new", "existing"]), "new", Works, "'new' for a first start, 'existing' to join."),
            flag("initial-cluster-token", Text, "etcd-cluster", Works, "Keeps clusters made of the same URLs apart."),
            flag("advertise-client-urls", Urls, "http://localhost:2379", Works, "Client URLs of this member told to clients."),
            flag("discovery-token", Text, "", Refused, "Discovery: token of the cluster to form."),
            flag("discovery-endpoints", List, "", Refused, "Discovery: endpoints of the discovery service."),
            flag("discovery-dial-timeout", Duration, "2s", Inherent, "Discovery: timeout to connect."),
            flag("discovery-request-timeout", Duration, "5s", Inherent, "Discovery: timeout of a request."),
            flag("discovery-keepalive-time", Duration, "2s", Inherent, "Discovery: time between pings."),
            flag("discovery-keepalive-timeout", Duration, "6s", Inherent, "Discovery: timeout of a ping."),
            flag("discovery-insecure-transport", Bool, "true", Refused, "Discovery: no TLS."),
            flag("discovery-insecure-skip-tls-verify", Bool, "false", Refused, "Discovery: do not verify the server."),
            flag("discovery-cert", Text, "", Refused, "Discovery: client certificate file."),
            flag("discovery-key", Text, "", Refused, "Discovery: client key file."),
            flag("discovery-cacert", Text, "", Refused, "Discovery: CA file."),
            flag("discovery-user", Text, "", Refused, "Discovery: user[:password]."),
            flag("discovery-password", Text, "", Refused, "Discovery: password."),
            flag("discovery-fallback", Choice(&["exit", "proxy"]), "exit", Refused, "What to do when discovery fails; only 'exit' exists."),
            flag("discovery-srv", Text, "", Refused, "DNS domain whose SRV records name the first members."),
            flag("discovery-srv-name", Text, "", Refused, "Suffix of the service name asked for in DNS."),
            flag("strict-reconfig-check", Bool, "true", NotYet, "Refuse membership changes that would lose quorum."),
            flag("pre-vote", Bool, "true", NotYet, "Ask before an election whether it could be won."),
            flag("auto-compaction-retention", Text, "0", NotYet, "How much history automatic compaction keeps; 0 is off."),
            flag("auto-compaction-mode", Choice(&["periodic", "revision"]), "periodic", NotYet, "Unit of auto-compaction-retention."),
            flag("v2-deprecation", Text, "write-only", Inherent, "Deprecated; the value is ignored."),
        ],
    },
    Section {
        title: "Security",
        flags: &[
            flag("cert-file", Text, "", Refused, "Certificate file of the client port."),
            flag("key-file", Text, "", Refused, "Key file of the client port."),
            flag("client-cert-auth", Bool, "false", Refused, "Require client certificates."),
            flag("client-cert-file", Text, "", Refused, "Certificate this member uses as a client."),
            flag("client-key-file", Text, "", Refused, "Key this member uses as a client."),
            flag("client-crl-file", Text, "", Refused, "Revoked client certificates."),
            flag("client-cert-allowed-hostname", List, "", Refused, "Host names allowed in client certificates."),
            flag("trusted-ca-file", Text, "", Refused, "CA file of the client port."),
            flag("auto-tls", Bool, "false", Refused, "Client port with a generated certificate."),
            flag("peer-cert-file", Text, "", Refused, "Certificate file of the peer port."),
            flag("peer-key-file", Text, "", Refused, "Key file of the peer port."),
            flag("peer-client-cert-auth", Bool, "false", Refused, "Require certificates of other members."),
            flag("peer-client-cert-file", Text, "", Refused, "Certificate used towards other members."),
            flag("peer-client-key-file", Text, "", Refused, "Key used towards other members."),
            flag("peer-trusted-ca-file", Text, "", Refused, "CA file of the peer port."),
            flag("peer-cert-allowed-cn", List, "", Refused, "Common names allowed in members' certificates."),
            flag("peer-cert-allowed-hostname", List, "", Refused, "Host names allowed in members' certificates."),
            flag("peer-auto-tls", Bool, "false", Refused, "Peer port with a generated certificate."),
            flag("self-signed-cert-validity", Uint, "1", Inherent, "Years a generated certificate is valid."),
            flag("peer-crl-file", Text, "", Refused, "Revoked certificates of members."),
            flag("peer-skip-client-san-verification", Bool, "false", Refused, "Do not check the SAN of members' certificates."),
            flag("cipher-suites", List, "", Refused, "TLS cipher suites allowed."),
            flag("cors", List, "*", Refused, "Origins allowed for cross-origin requests."),
            flag("host-whitelist", List, "*", Refused, "Host names accepted from HTTP clients without TLS."),
            flag("tls-min-version", Choice(&["TLS1.2", "TLS1.3"]), "TLS1.2", Refused, "Lowest TLS version."),
            flag("tls-max-version", Choice(&["", "TLS1.2", "TLS1.3"]), "", Refused, "Highest TLS version."),
        ],
    },
    Section {
        title: "Auth",
        flags: &[
            flag("auth-token", Text, "simple", Refused, "Kind of token and its options."),
            flag("bcrypt-cost", Uint, "10", NotYet, "Cost of hashing a password."),
            flag("auth-token-ttl", Uint, "300", NotYet, "Seconds a token lives."),
        ],
    },
    Section {
        title: "Profiling and Monitoring",
        flags: &[
            flag("enable-pprof", Bool, "false", NotYet, "Serve profiles at /debug/pprof/."),
            flag("metrics", Choice(&["basic", "extensive"]), "basic", NotYet, "Level of detail of metrics."),
            flag("listen-metrics-urls", Urls, "", Works, "URLs to listen on for metrics and health alone."),
        ],
    },
    Section {
        title: "Logging",
        flags: &[
            flag("logger", Choice(&["zap"]), "zap", Works, "Shape of the log; only 'zap' exists."),
            flag("log-outputs", List, "default", Works, "stderr, stdout, systemd/journal or file paths."),
            flag("log-level", Choice(&["debug", "info", "warn", "error", "dpanic", "panic", "fatal"]), "info", Works, "Lowest level written."),
            flag("log-format", Choice(&["json", "console"]), "json", Works, "json or console."),
            flag("enable-log-rotation", Bool, "false", NotYet, "Rotate a log file."),
            flag(
                "log-rotation-config-json",
                Text,
                "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}",
                NotYet,
                "How a log file is rotated.",
            ),
            flag("warning-unary-request-duration", Duration, "300ms", NotYet, "A request that took longer is logged."),
        ],
    },
    Section {
        title: "Distributed tracing",
        flags: &[
            flag("enable-distributed-tracing", Bool, "false", NotYet, "Send traces."),
            flag("distributed-tracing-address", Text, "localhost:4317", Inherent, "Where traces go."),
            flag("distributed-tracing-service-name", Text, "etcd", Inherent, "Service name in traces."),
            flag("distributed-tracing-instance-id", Text, "", Inherent, "Instance id in traces."),
            flag("distributed-tracing-sampling-rate", Int, "0", Inherent, "Traces per million requests."),
        ],
    },
    Section {
        title: "Features",
        flags: &[
            flag("corrupt-check-time", Duration, "0s", NotYet, "Time between comparisons of members' hashes."),
            flag("compact-hash-check-time", Duration, "1m0s", NotYet, "Time between comparisons of compaction hashes."),
            flag("compaction-batch-limit", Int, "1000", Inherent, "Revisions reclaimed in one slice of a compaction."),
            flag("compaction-sleep-interval", Duration, "10ms", Inherent, "Pause between slices of a compaction; there is none here."),
            flag("watch-progress-notify-interval", Duration, "10m0s", Works, "Time between progress notifications of a quiet watcher."),
            flag("warning-apply-duration", Duration, "100ms", NotYet, "A request whose apply took longer is logged."),
            flag("bootstrap-defrag-threshold-megabytes", Uint, "0", Inherent, "Defragment at start when this much would be freed; never needed here."),
            flag("max-learners", Int, "1", NotYet, "Learners allowed in the cluster."),
            flag("snapshot-catchup-entries", Uint, "5000", Works, "Entries kept for a slow member behind a checkpoint."),
            flag("downgrade-check-time", Duration, "5s", NotYet, "Time between checks of a downgrade."),
        ],
    },
    Section {
        title: "Unsafe feature",
        flags: &[
            flag("force-new-cluster", Bool, "false", Refused, "Start alone from this data, dropping all other members."),
            flag("unsafe-no-fsync", Bool, "false", Works, "Never sync: data is lost when the machine stops."),
        ],
    },
    Section {
        title: "Other",
        flags: &[
            flag("config-file", Text, "", Refused, "File that replaces all flags."),
            flag("version", Bool, "false", Works, "Print the version and exit."),
        ],
    },
];

/// Flags of long ago that are taken with any value or none and do nothing (F-14).
pub const LEGACY: &[Flag] = &[
    flag("cluster-active-size", Text, "", Ignored, ""),
    flag("cluster-remove-delay", Text, "", Ignored, ""),
    flag("cluster-sync-interval", Text, "", Ignored, ""),
    flag("config", Text, "", Ignored, ""),
    flag("force", Text, "", Ignored, ""),
    flag("max-result-buffer", Text, "", Ignored, ""),
    flag("max-retry-attempts", Text, "", Ignored, ""),
    flag("peer-heartbeat-interval", Text, "", Ignored, ""),
    flag("peer-election-timeout", Text, "", Ignored, ""),
    flag("retry-interval", Text, "", Ignored, ""),
    flag("snapshot", Text, "", Ignored, ""),
    flag("v", Text, "", Ignored, ""),
    flag("vv", Text, "", Ignored, ""),
    flag("test.coverprofile", Text, "", Ignored, ""),
    flag("test.outputdir", Text, "", Ignored, ""),
];
