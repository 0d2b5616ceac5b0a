//! The ledger accepts what a correct server may bring back, and nothing else.

use super::super::op::{PUTS_PER_OP, Write};
use super::super::value::Value;
use super::*;

fn value(op: u64, n: u64) -> Value {
    Value { id: op * PUTS_PER_OP + n, len: 20 }
}

fn put(id: u64, keys: &[Key]) -> Op {
    let put = |(n, &key): (usize, &Key)| Write::Put { key, value: value(id, n as u64), lease: 0 };
    Op { id, guard: None, writes: keys.iter().enumerate().map(put).collect() }
}

fn delete(id: u64, key: Key) -> Op {
    Op { id, guard: None, writes: vec![Write::Delete { first: key, past: key + 1 }] }
}

/// What a correct server's history is after these ops.
fn history(ops: &[&Op]) -> History {
    let mut keys = Keys::default();
    let mut history = History::new();
    for (n, op) in ops.iter().enumerate() {
        let revision = n as i64 + 2;
        let changes = keys.changes(op, revision);
        keys.apply(&changes);
        history.insert(revision, changes);
    }
    history
}

fn restored(history: History) -> Restored {
    Restored { floor: 1, head: history.last_key_value().map_or(1, |(&revision, _)| revision), history }
}

fn ledger(ops: &[&Op], acknowledged: &[(u64, i64)]) -> Ledger {
    let mut ledger = Ledger::default();
    for op in ops {
        ledger.sent((*op).clone());
    }
    for &(id, revision) in acknowledged {
        ledger.acknowledged(id, revision, revision - 1).unwrap();
    }
    ledger
}

#[test]
fn unknown_outcomes_may_be_there_or_not_but_once() {
    let (a, b) = (put(1, &[1, 2]), put(2, &[2]));
    let mut with = ledger(&[&a, &b], &[(1, 2)]);
    with.settle(restored(history(&[&a, &b]))).unwrap();
    assert_eq!((with.tally.acknowledged, with.tally.unknown_happened, with.tally.unknown_absent), (1, 1, 0));
    let mut without = ledger(&[&a, &b], &[(1, 2)]);
    without.settle(restored(history(&[&a]))).unwrap();
    assert_eq!(without.tally.unknown_absent, 1);
    let late = without.settle(restored(history(&[&a, &b]))).unwrap_err();
    assert!(late.contains("given up"), "{late}");
    let twice = ledger(&[&a, &b], &[(1, 2)]).settle(restored(history(&[&a, &b, &b]))).unwrap_err();
    assert!(twice.contains("made before"), "{twice}");
}

#[test]
fn an_acknowledged_write_that_is_lost_moved_or_halved_is_seen() {
    let (a, b) = (put(1, &[1, 2]), put(2, &[3]));
    let both = [(1, 2), (2, 3)];
    let lost = ledger(&[&a, &b], &both).settle(restored(history(&[&a]))).unwrap_err();
    assert!(lost.contains("now the server is at 2"), "{lost}");
    let swapped = ledger(&[&a, &b], &both).settle(restored(history(&[&b, &a]))).unwrap_err();
    assert!(swapped.contains("acknowledged as"), "{swapped}");
    let mut halved = history(&[&a, &b]);
    halved.get_mut(&2).unwrap().pop();
    assert!(ledger(&[&a, &b], &both).settle(restored(halved.clone())).is_err());
    let unknown = ledger(&[&a, &b], &[(2, 3)]).settle(restored(halved)).unwrap_err();
    assert!(unknown.contains("not whole"), "{unknown}");
}

#[test]
fn the_past_must_not_change() {
    let (a, b, c) = (put(1, &[1]), put(2, &[2]), put(3, &[1]));
    let mut ledger = ledger(&[&a, &b], &[(1, 2), (2, 3)]);
    ledger.settle(restored(history(&[&a, &b]))).unwrap();
    ledger.sent(c.clone());
    let mut changed = history(&[&a, &b, &c]);
    changed.get_mut(&2).unwrap()[0] = changed[&3][0];
    let changed = ledger.settle(restored(changed)).unwrap_err();
    assert!(changed.contains("revision 2 was"), "{changed}");
}

#[test]
fn a_hole_and_a_strange_revision_are_seen() {
    let (a, b, c) = (put(1, &[1]), delete(2, 1), put(3, &[1]));
    let mut hole = history(&[&a, &b, &c]);
    hole.remove(&3);
    let hole = ledger(&[&a, &b, &c], &[(1, 2), (3, 4)]).settle(restored(hole)).unwrap_err();
    assert!(hole.contains("revision 3 has no events"), "{hole}");
    let strange = ledger(&[&a], &[(1, 2)]).settle(restored(history(&[&a, &b]))).unwrap_err();
    assert!(strange.contains("nobody asked"), "{strange}");
}

#[test]
fn what_watchers_and_readers_saw_must_be_history() {
    let (a, b) = (put(1, &[1]), put(2, &[2]));
    let fresh = || ledger(&[&a, &b], &[(1, 2)]);
    let made = history(&[&a, &b]);
    let mut watched = fresh();
    watched.watched.insert(3, made[&3].clone());
    let lost = watched.settle(restored(history(&[&a]))).unwrap_err();
    assert!(lost.contains("a watcher saw revision 3"), "{lost}");
    let mut skipped = fresh();
    skipped.excerpts.push(Excerpt { from: 2, first: 0, past: 9, events: vec![(3, made[&3].clone())] });
    assert!(skipped.settle(restored(made.clone())).unwrap_err().contains("where history has"));
    let mut stale = fresh();
    stale.read(Seen { revision: 2, key: 1, cell: None }, 2).unwrap();
    assert!(stale.settle(restored(made.clone())).unwrap_err().contains("a read was answered"));
    assert!(fresh().read(Seen { revision: 1, key: 1, cell: None }, 2).unwrap_err().contains("was known"));
}

#[test]
fn a_condition_must_have_held() {
    let (a, mut b) = (put(1, &[1]), put(2, &[1]));
    b.guard = Some((1, 7));
    let broken = ledger(&[&a, &b], &[(1, 2), (2, 3)]).settle(restored(history(&[&a, &b]))).unwrap_err();
    assert!(broken.contains("did not hold"), "{broken}");
    let (a, mut b) = (put(1, &[1]), put(2, &[1]));
    b.guard = Some((1, 2));
    let mut failed = ledger(&[&a, &b], &[(1, 2)]);
    failed.changed_nothing(2, 2, false, 2).unwrap();
    assert!(failed.settle(restored(history(&[&a]))).unwrap_err().contains("a condition on that failed"));
}

#[test]
fn compaction_must_be_the_one_asked_for() {
    let ops = [put(1, &[1]), put(2, &[1]), put(3, &[1])];
    let ops: Vec<&Op> = ops.iter().collect();
    let all = history(&ops);
    let at = |floor: i64| {
        let history = all.clone().split_off(&(floor + 1));
        Restored { floor, head: 4, history }
    };
    let fresh = || {
        let mut ledger = ledger(&ops, &[(1, 2), (2, 3), (3, 4)]);
        ledger.watched = all.clone();
        ledger.compacted = 2;
        ledger.compacting = vec![3];
        ledger
    };
    fresh().settle(at(2)).unwrap();
    let mut compacted = fresh();
    compacted.settle(at(3)).unwrap();
    assert_eq!(compacted.at(3).0[&1].version, 2);
    assert_eq!(compacted.at(4).0[&1].version, 3);
    for wrong in [1, 4] {
        let what = fresh().settle(at(wrong)).unwrap_err();
        assert!(what.contains("compacted at"), "{what}");
    }
}
