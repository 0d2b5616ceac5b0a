use std::time::Duration;

use super::*;
use crate::generate::Dice;
use crate::history::{Outcome, Response};
use crate::linear::Verdict;
use crate::testing::{Lie, Rng, Shape, legal};

/// Random histories per property.
const SEEDS: u64 = 300;

fn judge(history: &History) -> Summary {
    match check(history, &Limits::default()) {
        Ok(summary) => summary,
        Err(violations) => {
            let texts: Vec<String> = violations.iter().take(5).map(ToString::to_string).collect();
            panic!("{} violations in a legal history:\n{}", violations.len(), texts.join("\n"));
        }
    }
}

#[test]
fn legal_histories_pass() {
    let mut all = Summary::default();
    for seed in 0..SEEDS {
        let history = legal(&Shape::new(seed, 200));
        let summary = std::panic::catch_unwind(|| judge(&history)).unwrap_or_else(|_| panic!("seed {seed}"));
        all.calls += summary.calls;
        all.unknown += summary.unknown;
        all.events += summary.events;
        all.undecided += summary.undecided;
    }
    assert_eq!(all.undecided, 0);
    assert!(all.calls == SEEDS * 200 && all.unknown > 2_000 && all.events > 50_000, "{all:?}");
}

#[test]
fn legal_histories_pass_when_nobody_saw_all() {
    let mut all = Summary::default();
    for seed in 0..SEEDS {
        let mut shape = Shape::new(1_000_000 + seed, 120);
        shape.observer = false;
        shape.watchers = seed as usize % 3;
        let history = legal(&shape);
        let summary = std::panic::catch_unwind(|| judge(&history)).unwrap_or_else(|_| panic!("seed {seed}"));
        all.calls += summary.calls;
        all.undecided += summary.undecided;
    }
    // What nobody saw may have been one thing or another.
    assert!(all.calls == SEEDS * 120 && all.undecided < SEEDS / 4, "{all:?}");
}

/// Changes something in an answer, or exchanges two answers.
fn distort(history: &mut History, rng: &mut Rng) {
    let at = rng.pick(history.calls.len() as u64) as usize;
    let other = rng.pick(history.calls.len() as u64) as usize;
    if rng.chance(40) {
        let (a, b) = (history.calls[at].clone(), history.calls[other].clone());
        if std::mem::discriminant(&a.request) == std::mem::discriminant(&b.request) {
            history.calls[at].outcome = b.outcome;
            history.calls[other].outcome = a.outcome;
        }
        return;
    }
    if rng.chance(10) {
        history.calls[at].outcome = Outcome::Refused(model::Refusal::LeaseNotFound.text().to_owned());
        return;
    }
    let Outcome::Done(response) = &mut history.calls[at].outcome else { return };
    let more = if rng.chance(50) { 1 } else { -1 };
    let header = match response {
        Response::Range(answer) => {
            match rng.pick(4) {
                0 => answer.count += more,
                1 => drop(answer.kvs.pop()),
                2 => answer.kvs.iter_mut().for_each(|kv| kv.version += more),
                _ => {}
            }
            &mut answer.header
        }
        Response::Put(answer) => {
            if rng.chance(50) {
                answer.prev_kv = None;
                return;
            }
            &mut answer.header
        }
        Response::DeleteRange(answer) => {
            if rng.chance(50) {
                answer.deleted += more;
                return;
            }
            &mut answer.header
        }
        Response::Txn(answer) => {
            if rng.chance(50) {
                answer.succeeded = !answer.succeeded;
                return;
            }
            &mut answer.header
        }
        Response::LeaseGrant(answer) => &mut answer.header,
        Response::LeaseRevoke(answer) => &mut answer.header,
        Response::LeaseKeepAlive(answer) => {
            answer.ttl = if answer.ttl > 0 { 0 } else { 5 };
            return;
        }
        Response::LeaseTimeToLive(answer) => {
            answer.ttl = if answer.ttl >= 0 { -1 } else { 5 };
            return;
        }
        Response::Compact(_) => return,
    };
    if let Some(header) = header {
        header.revision += more;
    }
}

/// What the replay and its companions make of a history, without regard to how long leases live.
fn by_replay(history: &History) -> Option<Vec<Violation>> {
    let limits = Limits { clock_drift_ppm: 1_000_000, budget: Duration::ZERO, ..Limits::default() };
    match check(history, &limits) {
        Ok(summary) if summary.undecided > 0 => None,
        Ok(_) => Some(Vec::new()),
        Err(violations) => Some(violations),
    }
}

/// A small history with something wrong in it, perhaps.
fn small(seed: u64) -> History {
    let mut rng = Rng::new(seed);
    let mut shape = Shape::new(seed, 10 + (seed % 12) as usize);
    shape.clients = 2 + (seed % 4) as u32;
    shape.watchers = 0;
    shape.lost_percent = [0, 5, 15][(seed % 3) as usize];
    shape.delay_us = 100_000;
    let after = rng.pick(10) as usize;
    shape.lie = match rng.pick(8) {
        0 => Some((Lie::LostWrite, after)),
        1 => Some((Lie::DoubleWrite, after)),
        2 => Some((Lie::StaleRead, after)),
        3 => Some((Lie::KeysLeft, after)),
        4 => Some((Lie::ReadCompacted, after)),
        _ => None,
    };
    let mut history = legal(&shape);
    if rng.chance(40) {
        distort(&mut history, &mut rng);
    }
    history
}

/// The replay and the general search, which have only the model in common, agree on what is legal.
#[test]
fn the_replay_agrees_with_the_general_search() {
    let seeds = std::env::var("CHECK_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(3_000);
    let (mut legal, mut illegal, mut open) = (0, 0, 0);
    for seed in 0..seeds {
        let history = small(seed);
        let general = general::search(&history, 100_000);
        let Some(violations) = by_replay(&history).filter(|_| general != Verdict::Undecided) else {
            open += 1;
            continue;
        };
        let is_legal = matches!(general, Verdict::Legal(_));
        if is_legal != violations.is_empty() {
            let calls: Vec<String> = (0..history.calls.len()).map(|call| text::call(&history, call)).collect();
            panic!("seed {seed}: {general:?}, but {violations:#?}\n{}", calls.join("\n"));
        }
        if is_legal { legal += 1 } else { illegal += 1 }
    }
    eprintln!("{legal} legal, {illegal} illegal, {open} open");
    assert!(
        legal > seeds / 3 && illegal > seeds / 4 && open < seeds / 20,
        "{legal} legal, {illegal} illegal, {open} open"
    );
}

/// How many of the runs with this lie are found, and by which checkers.
fn found(lie: Lie, seeds: u64) -> (u64, Vec<&'static str>) {
    let (mut found, mut checkers) = (0, Vec::new());
    for seed in 0..seeds {
        let mut shape = Shape::new(5_000 + seed, 200);
        shape.lost_percent = 3;
        shape.mix.lease = 30;
        shape.mix.attach_percent = 50;
        shape.mix.compact = 3;
        shape.lie = Some((lie, 40));
        if let Err(violations) = check(&legal(&shape), &Limits::default()) {
            found += 1;
            checkers.extend(violations.iter().map(|violation| violation.checker));
        }
    }
    checkers.sort_unstable();
    checkers.dedup();
    (found, checkers)
}

#[test]
fn lies_are_found() {
    for lie in [Lie::LostWrite, Lie::DoubleWrite, Lie::StaleRead, Lie::EarlyEnd, Lie::KeysLeft, Lie::ReadCompacted] {
        let (found, checkers) = found(lie, 60);
        eprintln!("{lie:?}: {found} of 60 by {checkers:?}");
        // Not every run comes to it: some have no leases, some no compactions, and some lie where nobody looks.
        assert!(found >= 15, "{lie:?}: {found} of 60 by {checkers:?}");
    }
}
