//! The commands, one file each.

mod alarm;
mod compaction;
mod defrag;
mod del;
mod elect;
mod endpoint;
mod get;
mod help;
mod lease;
mod lock;
mod make_mirror;
mod member;
mod move_leader;
mod options;
pub(crate) mod prompt;
mod put;
mod signal;
pub(crate) mod txn;
mod version;
mod watch;

use crate::cli::Command;
use crate::connect::GLOBAL_FLAGS;

const KEY_VALUE: &str = "Key-value commands";
const MAINTENANCE: &str = "Cluster maintenance commands";
const CONCURRENCY: &str = "Concurrency commands";
const UTILITY: &str = "Utility commands";

/// Groups of commands in the order of help (contract T-8).
pub(crate) const GROUPS: [&str; 4] = [KEY_VALUE, MAINTENANCE, CONCURRENCY, UTILITY];

/// `etcdctl` itself.
pub(crate) static ROOT: Command = Command {
    usage: "etcdctl",
    short: "A simple command line client for etcd3.",
    persistent: GLOBAL_FLAGS,
    children: &[
        get::COMMAND,
        put::COMMAND,
        del::COMMAND,
        txn::COMMAND,
        compaction::COMMAND,
        alarm::COMMAND,
        defrag::COMMAND,
        endpoint::COMMAND,
        move_leader::COMMAND,
        watch::COMMAND,
        version::COMMAND,
        lease::COMMAND,
        member::COMMAND,
        make_mirror::COMMAND,
        lock::COMMAND,
        elect::COMMAND,
        options::COMMAND,
        help::COMMAND,
    ],
    ..Command::EMPTY
};
