//! A member in the world: fronts, services, HTTP, configuration, log, metrics, and the program that starts them.
//!
//! Everything that touches a socket, a thread, a clock or the environment is here; what a member does with an event is
//! `cetera-node`'s.

pub mod bootstrap;
pub mod clock;
pub mod config;
mod ending;
#[cfg(feature = "fault-hooks")]
pub mod faults;
pub mod flags;
pub mod front;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod http;
pub mod log;
pub mod metrics;
pub mod node_thread;
pub mod open_files;
pub mod peer;
pub mod program;
pub mod proposer;
mod remote;
pub mod rpc;
pub mod seam;
pub mod tls;
pub mod versions;

pub use program::main;
