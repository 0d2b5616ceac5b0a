//! The planted bugs, each looked for until it is found: `plants [--bug NAME] [--limit N] [--markdown FILE]`.
//!
//! For each bug seeds from 0 are run, each with the group sizes that fit the bug, until one shows a violation. The same
//! run without the bug must be clean, or the finding would prove nothing: then the next one is tried.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use cetera_plant::Bug;
use cetera_sim::{Plan, run};

/// Seeds after which a bug that was not found is an error.
const SEEDS_MAX: u64 = 600;

/// A bug that was found.
struct Found {
    seed: u64,
    members: usize,
    runs: u64,
    checker: String,
    text: String,
}

/// Sizes of group in which a bug can show at all, the likeliest first.
fn sizes(bug: Bug) -> &'static [usize] {
    match bug {
        Bug::AppendAckBeforeDurable
        | Bug::VoteBeforeDurable
        | Bug::VoteForgotten
        | Bug::ReadWithoutRound
        | Bug::ReadJoinsRound
        | Bug::ProposalSentAgain
        | Bug::UncommittedApplied
        | Bug::RevokeByOldLeader
        | Bug::LeaseEarlyAfterLeaderChange
        | Bug::RemovedMemberCounts
        | Bug::SnapshotKeepsMembers
        | Bug::FetchedEntriesShifted
        | Bug::WatchGapAfterSnapshot
        | Bug::LearnerCounts
        | Bug::PromotedUnready
        | Bug::EmptiedMemberVotes
        | Bug::RenewalAnsweredByFollower
        | Bug::ApplyDependsOnMember => &[3, 5],
        Bug::AckBeforeSync
        | Bug::NoSync
        | Bug::TornTailKept
        | Bug::DamageSkipped
        | Bug::CheckpointIndexHigh
        | Bug::TombstoneLost
        | Bug::LeaseKeysForgotten => &[1, 3],
        _ => &[3, 1, 5],
    }
}

fn look_for(bug: Bug, limit: u64) -> Option<Found> {
    let mut runs = 0;
    for seed in 0..limit {
        for &members in sizes(bug) {
            runs += 1;
            let plan = Plan::new(seed, members);
            let Some(what) = run(&Plan { plant: Some(bug), ..plan.clone() }).violations.into_iter().next() else {
                continue;
            };
            if !run(&plan).is_clean() {
                // What this seed finds is not, or not only, the bug.
                continue;
            }
            let (checker, text) = told(&what);
            return Some(Found { seed, members, runs, checker, text });
        }
    }
    None
}

/// Who found it, and what, in one line.
fn told(what: &str) -> (String, String) {
    let line = what.lines().next().unwrap_or_default();
    let named = line.split_once(": ").filter(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == ' '));
    match named {
        Some((name, text)) => (name.to_owned(), text.to_owned()),
        None => ("members".to_owned(), line.to_owned()),
    }
}

fn row(bug: Bug, found: Option<&Found>, limit: u64) -> String {
    let what = bug.what();
    match found {
        Some(Found { seed, members, runs, checker, .. }) => {
            format!("| `{}` | {what} | {members} | {seed} | {runs} | {checker} | {limit} |", bug.name())
        }
        None => format!("| `{}` | {what} | | **not found** | | | {limit} |", bug.name()),
    }
}

const HEAD: &str = "\
# Planted bugs

Bugs put in on purpose, each behind the build feature `plants`, and how soon the simulator finds it. Seeds are tried from
0, each with the sizes of group that fit the bug; *runs* counts all of them up to the one that found it, and the seed that
found it is clean without the bug. A bug that is not found within the limit fails the command, which `cargo xtask test`
runs too. Made by `cargo xtask plants`; the places are those where `crates/plant` is asked.

*Found by* is the first to see it: `members`, what only the world sees (logs, states, votes and leaders of all members
side by side); `linearizable`, `watch`, `lease`, what the clients saw; `liveness`, that it comes to rest once faults are
over; `panic`, an assertion of the member itself.

| bug | what is wrong | members | seed | runs | found by | limit, seeds |
| --- | --- | --- | --- | --- | --- | --- |
";

#[allow(clippy::print_stdout)]
fn main() -> ExitCode {
    let mut only = None;
    let mut limit = SEEDS_MAX;
    let mut markdown = None;
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().unwrap_or_default();
        match flag.as_str() {
            "--bug" if Bug::from_name(&value).is_some() => only = Bug::from_name(&value),
            "--limit" if value.parse::<u64>().is_ok() => limit = value.parse().unwrap_or(limit),
            "--markdown" => markdown = Some(value),
            _ => {
                println!("unknown argument {flag} {value}");
                return ExitCode::FAILURE;
            }
        }
    }
    let mut table = HEAD.to_owned();
    let mut missed = 0;
    for bug in Bug::ALL.iter().copied().filter(|bug| only.is_none_or(|only| only == *bug)) {
        let started = Instant::now();
        let found = look_for(bug, limit);
        let took = started.elapsed().as_secs_f64();
        match &found {
            Some(Found { seed, members, runs, checker, text }) => {
                let text: String = text.chars().take(140).collect();
                println!(
                    "{:32} seed {seed:3} members {members} runs {runs:3} {took:6.1} s  {checker}: {text}",
                    bug.name()
                );
            }
            None => {
                missed += 1;
                println!("{:32} NOT FOUND in {limit} seeds, {took:.1} s", bug.name());
            }
        }
        let _ = writeln!(table, "{}", row(bug, found.as_ref(), limit));
    }
    if let Some(path) = markdown
        && let Err(error) = std::fs::write(&path, table)
    {
        println!("{path}: {error}");
        return ExitCode::FAILURE;
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
