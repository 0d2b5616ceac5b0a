//! What must hold before a test is worth running.

use std::process::Command;

use crate::shell::{self, Result};

/// Crates that must build without a runtime, a socket or an RPC library.
const PURE: [&str; 6] = ["cetera-proto", "cetera-raft", "cetera-storage", "cetera-mvcc", "cetera-state", "cetera-node"];
/// What a pure crate must not depend on, directly or not.
const IMPURE: [&str; 8] = ["tokio", "hyper", "h2", "tonic", "mio", "socket2", "async-std", "cetera-server"];

/// Formatting, lints, purity.
pub(crate) fn run() -> Result {
    shell::cargo(&["fmt", "--all", "--check"], &[])?;
    shell::cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"], &[])?;
    purity()
}

fn purity() -> Result {
    for name in PURE {
        let tree = shell::output(
            Command::new(env!("CARGO"))
                .current_dir(shell::root())
                .args(["tree", "--locked", "-p", name, "-e", "normal", "--prefix", "none", "--format", "{p}"]),
        )?;
        for line in tree.lines() {
            let dependency = line.split(' ').next().unwrap_or_default();
            if IMPURE.contains(&dependency) {
                return Err(format!("{name} must stay pure, but depends on {dependency}"));
            }
        }
    }
    shell::say("the pure crates are pure\n");
    Ok(())
}
