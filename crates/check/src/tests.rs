use super::*;
use crate::testing::{Shape, legal};

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
    for seed in 0..300 {
        let history = legal(&Shape::new(seed, 200));
        let summary = std::panic::catch_unwind(|| judge(&history)).unwrap_or_else(|_| panic!("seed {seed}"));
        all.calls += summary.calls;
        all.unknown += summary.unknown;
        all.events += summary.events;
        all.undecided += summary.undecided;
    }
    assert_eq!(all.undecided, 0);
    assert!(all.calls == 60_000 && all.unknown > 2_000 && all.events > 50_000, "{all:?}");
}
