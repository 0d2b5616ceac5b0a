//! Whole members, and whole clusters, in one thread, from one seed: the real node, the real storage and the real services
//! over a simulated disk, network and clock.
//!
//! [`run`] is one story of a cluster with its clients: faults, calm, verdict. [`plan::Plan`] says what it is to be and
//! [`plan::Report`] what it was. Apart from it, [`crash`] runs a single member through lives that end at chosen disk
//! operations and compares what comes back with a reference that never crashed.

pub mod actors;
mod cast;
mod checks;
pub mod client;
mod clock;
mod connection;
mod core;
pub mod crash;
pub mod dice;
pub mod directed;
pub mod evidence;
mod host;
pub mod member;
mod nemesis;
mod network;
mod operator;
pub mod plain;
pub mod plan;
mod probe;
mod rotted;
pub mod run;
pub mod shrink;
mod trace;
mod verdict;
pub mod workload;
mod world;

pub use plan::{FaultKind, Options, Plan, Report};
pub use run::{run, run_with};
