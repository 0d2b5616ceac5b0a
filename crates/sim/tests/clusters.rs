//! A fixed budget of whole clusters, and what makes a failure worth anything: the same seed is the same run.

use cetera_sim::{FaultKind, Plan, run};

/// Seeds of each size.
const SEEDS: u64 = 10;

fn clean(members: usize) {
    for seed in 0..SEEDS {
        let plan = Plan::new(seed, members);
        let report = run(&plan);
        assert!(report.is_clean(), "seed {seed} with {members} members: {:#?}", report.violations);
        assert!(report.simulated_us >= 60_000_000, "{report:?}");
        assert!(report.operations >= 500, "{report:?}");
        assert!(report.fault_count() >= 5 && report.overlaps >= 2, "{report:?}");
    }
}

#[test]
fn a_member_alone_keeps_its_promises() {
    clean(1);
}

#[test]
fn three_members_keep_their_promises() {
    clean(3);
}

#[test]
fn five_members_keep_their_promises() {
    clean(5);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let mut hashes = Vec::new();
    for (seed, members) in [(1, 1), (2, 3), (3, 5), (4, 3)] {
        let plan = Plan::new(seed, members);
        let (first, second) = (run(&plan), run(&plan));
        assert_eq!(first.trace_hash, second.trace_hash, "seed {seed} with {members} members");
        assert_eq!(first.trace_events, second.trace_events);
        let traced = run(&Plan { trace: true, ..plan });
        assert_eq!(first.trace_hash, traced.trace_hash, "a readable trace changes the run");
        assert!(!traced.text.is_empty());
        hashes.push(first.trace_hash);
    }
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 4, "different seeds are different runs");
}

#[test]
fn kinds_can_be_left_out() {
    let plan = Plan::new(5, 3);
    let with = run(&plan);
    let kind = with.faults.keys().find_map(|name| FaultKind::from_name(name)).expect("a run has faults");
    let without = run(&Plan { without: vec![kind], ..plan });
    assert!(!without.faults.contains_key(kind.name()), "{:?}", without.faults);
}
