//! What parses bytes from outside, as functions of bytes: fuzz targets.
//!
//! A target takes any bytes and returns, or panics: a panic is a finding. Each is a plain function, so that the corpus
//! and every past finding are an ordinary test (`tests/replay.rs`), and an engine needs to know nothing but
//! [`TARGETS`]. Most read their input as a script of decisions ([`input::Input`]) over something valid, because random
//! bytes alone stop at the first checksum; and most know more than "no panic": what must come back, or must be refused.

pub mod allocation;
mod apply;
mod checkpoint;
mod config;
mod ctl;
mod datadir;
mod disk;
mod framing;
mod front;
mod http;
mod hub;
pub mod input;
mod member;
mod peer;
mod revlog;
mod script;
pub mod seeds;
mod services;
mod start;
mod store;
mod wal;

/// One target.
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Takes any bytes; a panic is a finding.
    pub run: fn(&[u8]),
    /// Longest input worth trying, in bytes.
    pub max_len: usize,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "wal", about: "recovery of an edited write-ahead log", run: wal::run, max_len: 512 },
    Target { name: "revlog", about: "edited segments, manifests and places", run: revlog::run, max_len: 1024 },
    Target { name: "checkpoint", about: "chunks restored to a state", run: checkpoint::run, max_len: 4096 },
    Target { name: "datadir", about: "format file and foreign names", run: datadir::run, max_len: 256 },
    Target { name: "start", about: "a member started on an edited data directory", run: start::run, max_len: 256 },
    Target { name: "apply", about: "log entries of any bytes, on two states", run: apply::run, max_len: 4096 },
    Target { name: "services", about: "calls of any bytes to every service", run: services::run, max_len: 4096 },
    Target { name: "peer", about: "messages of any bytes from other members", run: peer::run, max_len: 2048 },
    Target { name: "store", about: "operations on the store against a plain model", run: store::run, max_len: 2048 },
    Target {
        name: "hub",
        about: "watchers, writes and compactions against a plain model",
        run: hub::run,
        max_len: 1024,
    },
    Target { name: "config", about: "command line, environment, durations, URLs", run: config::run, max_len: 512 },
    Target { name: "http", about: "HTTP/1.1 connections", run: http::run, max_len: 2048 },
    Target { name: "front", about: "HTTP/2 connections and gRPC calls on them", run: front::run, max_len: 4096 },
    Target { name: "framing", about: "gRPC messages cut anywhere, header values", run: framing::run, max_len: 512 },
    Target { name: "script", about: "recorded scripts and their requests", run: script::run, max_len: 2048 },
    Target { name: "ctl", about: "etcdctl's transactions and output formats", run: ctl::run, max_len: 2048 },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
