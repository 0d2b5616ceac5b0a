use super::*;
use crate::testing::{Shape, legal};

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
