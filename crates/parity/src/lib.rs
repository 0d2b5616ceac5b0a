//! Behaviour scripts: what a client of etcd sees, written down as text.
//!
//! A script in `testscripts/` is a list of commands, each group followed by the answers a real
//! etcd gave. `record` writes the answers, `check` plays the same commands against another server
//! and compares. A script always starts on a fresh server, because revisions matter.
//!
//! What is compared is every decoded field of every response, except what depends on the machine
//! or the clock (ids of cluster and member, the raft term, remaining seconds of a lease, sizes on
//! disk); those are checked for shape and replaced by a word. A script never sleeps: it waits for
//! a condition, with a deadline whose passing fails the script.
//!
//! The file format is described in [`script`], the commands in [`session`].

pub mod diff;
pub mod grpc;
pub mod process;
pub mod render;
pub mod request;
pub mod runner;
pub mod script;
pub mod session;
pub mod transport;
pub mod words;

pub use process::ProcessLauncher;
pub use runner::{Mode, Report, ScriptReport, Verdict, collect_scripts, run_scripts};
pub use transport::{Duplex, Launcher, Metadata, Status, Target, Transport};
