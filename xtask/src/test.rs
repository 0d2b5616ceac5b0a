//! The one test command.

use std::process::Command;

use crate::shell::{self, Result};
use crate::{check, fuzz, shell::say};

/// Rounds of the short crash run.
const CRASH_ROUNDS: &str = "6";

/// The short chaos run: two rounds.
const CHAOS: [&str; 4] = ["--seconds", "20", "--round", "10"];

/// The simulator with the planted bugs in it.
pub(crate) const PLANTS: [&str; 12] = [
    "run",
    "--profile",
    "sim",
    "--quiet",
    "--locked",
    "-p",
    "cetera-sim",
    "--features",
    "plants",
    "--bin",
    "plants",
    "--",
];

/// Seeds of whole clusters, by members.
const SIM_SEEDS: [(&str, &str); 3] = [("1", "100"), ("3", "100"), ("5", "50")];

/// Runs everything; what cannot run here is named at the end, or is an error with `--all`.
pub(crate) fn run(args: &[String]) -> Result {
    let all = match args {
        [] => false,
        [flag] if flag == "--all" => true,
        _ => return Err("test takes no argument but --all".to_owned()),
    };
    check::run()?;
    shell::cargo(&["test", "--workspace", "--locked"], &[])?;
    shell::cargo(&PLANTS, &[])?;
    for (members, count) in SIM_SEEDS {
        shell::cargo(&crate::SIM, &["--members", members, "--count", count, "--twice"].map(str::to_owned))?;
    }
    let server = shell::server()?;
    // The tools are built as the tests were; only the server is what a user runs.
    shell::cargo(&["run", "--quiet", "--locked", "-p", "cetera-parity", "--", "check", "--server", &server], &[])?;
    let crash = ["run", "--quiet", "--locked", "-p", "cetera-bench", "--bin", "crash", "--"];
    shell::cargo(&[&crash[..], &["--server", &server, "--rounds", CRASH_ROUNDS]].concat(), &[])?;
    let faults =
        ["build", "--quiet", "--locked", "-p", "cetera", "--features", "fault-hooks", "--bin", "cetera-faults"];
    shell::cargo(&faults, &[])?;
    shell::cargo(&[&["run", "--quiet", "--locked", "-p", "cetera-chaos", "--"][..], &CHAOS].concat(), &[])?;
    let mut left_out = Vec::new();
    if !fuzz::short()? {
        left_out.push("the short fuzz run (no C++ compiler here)");
    }
    if shell::has("go", "version") {
        let dir = shell::root().join("conformance/go");
        shell::run(Command::new("go").args(["test", "-count=1", "./..."]).current_dir(dir).env("CETERA", &server))?;
    } else {
        left_out.push("the Go client conformance tests (no `go` here)");
    }
    if left_out.is_empty() {
        say("every test ran and passed\n");
        return Ok(());
    }
    let text = format!("NOT RUN: {}", left_out.join(", "));
    if all {
        return Err(text);
    }
    say(&format!("\n*** {text} ***\n"));
    Ok(())
}
