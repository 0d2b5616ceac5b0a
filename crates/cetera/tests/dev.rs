//! `cetera dev`: its commands, and that it leaves nothing behind however it ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const CETERA: &str = env!("CARGO_BIN_EXE_cetera");
/// Nothing here takes as long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const MEMBERS: usize = 3;

/// A running `cetera dev`. Dropping it kills it, and with it its members.
struct Dev {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Process ids of the members.
    pids: Vec<u32>,
    dir: PathBuf,
    endpoints: String,
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(CETERA);
    command.args(["dev", "--port", "0"]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Dev {
    /// Started, with all members serving.
    fn serving(args: &[&str]) -> Dev {
        let members = MEMBERS.to_string();
        let mut child = command(&[&["--members", &members][..], args].concat()).spawn().expect("the binary runs");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("piped"));
        let (pids, dir, endpoints) = (Vec::new(), PathBuf::new(), String::new());
        let mut dev = Dev { child, input, output: BufReader::new(output), pids, dir, endpoints };
        let banner = dev.until("Ctrl-C ends the cluster");
        let after = |line: &str, word: &str| line.split(word).nth(1).map(str::to_owned);
        dev.pids = banner.iter().filter_map(|line| after(line, "  pid ")?.parse().ok()).collect();
        dev.dir =
            banner.iter().find_map(|line| after(line, " are in ")?.split(',').next().map(PathBuf::from)).expect("told");
        dev.endpoints = banner.iter().find_map(|line| after(line, "  --endpoints ")).expect("told");
        assert_eq!(dev.pids.len(), MEMBERS, "{banner:#?}");
        dev
    }

    /// Reads lines up to the one that contains this.
    fn until(&mut self, part: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.contains(part)) {
            let mut line = String::new();
            let count = self.output.read_line(&mut line).expect("text");
            assert!(count > 0, "it ended before {part:?}:\n{lines:#?}\n{}", self.errors());
            lines.push(line.trim_end().to_owned());
        }
        lines
    }

    fn errors(&mut self) -> String {
        let mut text = String::new();
        let errors = self.child.stderr.take();
        errors.map(|mut errors| errors.read_to_string(&mut text));
        text
    }

    /// Gives a command; the lines up to the one that contains `answer`. Commands wait for those before them.
    fn told(&mut self, command: &str, answer: &str) -> Vec<String> {
        writeln!(self.input.as_mut().expect("open"), "{command}").expect("it reads");
        if answer.is_empty() { Vec::new() } else { self.until(answer) }
    }

    fn ended(mut self) -> ExitStatus {
        let begun = Instant::now();
        await_that("it ends", || self.child.try_wait().expect("a child").is_some());
        assert!(begun.elapsed() < PATIENCE);
        for pid in &self.pids {
            assert!(!runs(*pid), "{pid} was left behind");
        }
        self.child.wait().expect("a child")
    }
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::yield_now();
    }
}

/// Whether there is such a process that is not just waiting to be forgotten.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn commands_reach_the_members() {
    let mut dev = Dev::serving(&[]);
    assert_eq!(dev.endpoints.split(',').count(), MEMBERS);
    dev.told("ctl put greeting hello", "OK");
    assert!(dev.told("status", "m1 ").last().expect("a line").contains("running"));
    dev.told("kill leader", "killed");
    assert!(dev.told("status", "killed").last().expect("a line").contains(" - "));
    if MEMBERS > 1 {
        dev.told("wait", "");
        dev.told("ctl put greeting hello", "OK");
    }
    dev.told("start all", "started");
    dev.told("wait", "");
    dev.told("ctl get greeting", "hello");
    dev.told("pause 1", "m1 paused");
    dev.told("status", "paused");
    dev.told("resume m1", "m1 resumed");
    dev.told("logs 1 3", "m1.log");
    dev.told("stop 1", "m1 stopped");
    dev.told("start 1", "m1 started");
    dev.told("help", "quit");
    let dir = dev.dir.clone();
    assert!(dir.join("m1").is_dir());
    dev.told("quit", "");
    assert_eq!(dev.ended().code(), Some(0));
    assert!(!dir.exists(), "the temporary directory is still there");
}

#[test]
fn a_killed_cluster_leaves_no_member() {
    let mut dev = Dev::serving(&[]);
    dev.told("pause 1", "m1 paused");
    dev.child.kill().expect("it runs");
    for pid in dev.pids.clone() {
        await_that("the member goes", || !runs(pid));
    }
    std::fs::remove_dir_all(&dev.dir).expect("what a killed one leaves");
}

#[test]
fn a_signal_ends_it_in_order() {
    let dev = Dev::serving(&[]);
    signal(dev.child.id(), "-INT");
    assert_eq!(dev.ended().code(), Some(0));
}

#[test]
fn a_member_that_ends_by_itself_is_told() {
    let mut dev = Dev::serving(&[]);
    signal(dev.pids[0], "-KILL");
    await_that("the member goes", || !runs(dev.pids[0]));
    // The system may have more to clear away before it tells the parent.
    let last = format!("m{MEMBERS} ");
    await_that("it is seen", || dev.told("status", &last).iter().any(|line| line.contains("ended (signal 9)")));
    dev.told("quit", "");
    let errors = dev.errors();
    assert!(errors.contains("m1 ended by itself: ended (signal 9)"), "{errors}");
    assert_eq!(dev.ended().code(), Some(1));
}

#[test]
fn what_is_not_understood_is_told_and_changes_nothing() {
    let mut dev = Dev::serving(&[]);
    for wrong in ["kill", "stop 1 2", "logs", "logs 1 few", "start nobody", "dance"] {
        dev.told(wrong, "");
    }
    dev.told("status", "running");
    dev.told("quit", "");
    let errors = dev.errors();
    for part in [
        "kill wants one member: its number, `leader` or `all`",
        "stop wants one member",
        "logs wants one member",
        "\"few\" is not a number of lines",
        "no member is called \"nobody\"",
        "no such command: \"dance\"; `help` lists them",
    ] {
        assert!(errors.contains(part), "{part} is not in: {errors}");
    }
    // A script that has one of them wrong is told so at the end.
    assert_eq!(dev.ended().code(), Some(1));
}

#[test]
fn a_directory_is_kept_and_found_again() {
    let kept = tempfile::tempdir().expect("a directory");
    let dir = kept.path().join("cluster");
    let args = ["--data-dir", dir.to_str().expect("text")];
    let mut dev = Dev::serving(&args);
    dev.told("ctl put greeting hello", "OK");
    // The directory is in use.
    let second = command(&args).stdin(Stdio::null()).output().expect("the binary runs");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("is taken"), "{second:?}");
    let endpoints = dev.endpoints.clone();
    signal(dev.child.id(), "-TERM");
    assert_eq!(dev.ended().code(), Some(0));
    let mut again = Dev::serving(&args);
    assert_eq!(again.endpoints, endpoints);
    again.told("ctl get greeting", "hello");
}

/// No terminal, no input: it serves for its time.
#[test]
fn a_lifetime_without_input() {
    let members = MEMBERS.to_string();
    let out =
        command(&["--members", &members, "--for", "200ms"]).stdin(Stdio::null()).output().expect("the binary runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let dir = text.lines().find_map(|line| line.split(" are in ").nth(1)?.split(',').next()).expect("told");
    assert!(!Path::new(dir).exists(), "{dir} is still there");
}

#[test]
fn what_cannot_start_is_told() {
    let out = command(&["--binary", "/bin/false"]).stdin(Stdio::null()).output().expect("the binary runs");
    let errors = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{errors}");
    assert!(errors.contains("ended by itself: ended (1)"), "{errors}");
    let out = command(&["--members", "none"]).output().expect("the binary runs");
    assert_eq!(out.status.code(), Some(2));
    let out = command(&["--help"]).output().expect("the binary runs");
    assert!(out.status.success() && String::from_utf8_lossy(&out.stdout).starts_with("Usage: cetera dev"));
}
