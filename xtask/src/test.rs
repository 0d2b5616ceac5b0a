//! The one test command.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::shell::{self, Result};
use crate::{check, fuzz, shell::say};

/// Rounds of the short crash run.
const CRASH_ROUNDS: &str = "6";

/// The short chaos runs: two rounds each.
const CHAOS: [[&str; 6]; 2] =
    [["--members", "1", "--seconds", "16", "--round", "8"], ["--members", "3", "--seconds", "30", "--round", "15"]];

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

/// Stories of the simulator, etcd's own history among them, each with a planted bug that it must find.
const STORIES: [&str; 8] = ["test", "--profile", "sim", "--quiet", "--locked", "-p", "cetera-sim", "--features=plants"];

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
    shell::run(&mut Command::new(shell::root().join("scripts/tests/toolchain")))?;
    shell::cargo(&["test", "--workspace", "--locked"], &[])?;
    shell::cargo(&PLANTS, &[])?;
    let stories = ["--test", "history", "--test", "membership", "--test", "snapshots"];
    shell::cargo(&STORIES, &stories.map(str::to_owned))?;
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
    for chaos in CHAOS {
        shell::cargo(&[&["run", "--quiet", "--locked", "-p", "cetera-chaos", "--"][..], &chaos].concat(), &[])?;
    }
    let mut left_out = Vec::new();
    if !fuzz::short()? {
        left_out.push("the short fuzz run (no C++ compiler here)");
    }
    let dir = shell::root().join("conformance/go");
    if go_fits(&dir) {
        shell::run(Command::new("go").args(["test", "-count=1", "./..."]).current_dir(dir).env("CETERA", &server))?;
    } else {
        left_out.push("the Go client conformance tests (no Go 1.26 or newer here)");
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

/// Whether the `go` here can build a module that wants Go 1.26; one that is older fetches a newer one, if it can.
fn go_fits(dir: &Path) -> bool {
    let version = Command::new("go").args(["env", "GOVERSION"]).current_dir(dir).stderr(Stdio::null()).output();
    let version = version.map_or_else(|_| String::new(), |out| String::from_utf8_lossy(&out.stdout).into_owned());
    let minor =
        version.split("go1.").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    minor.is_some_and(|minor: u32| minor >= 26)
}
