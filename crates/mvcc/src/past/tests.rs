//! Lists against a plain vector, and deep ones.

use super::*;

fn location(n: u32) -> Location {
    Location { segment: n / 7, offset: n, len: n % 100 }
}

fn revision(main: i64, sub: i64) -> KeyRevision {
    KeyRevision {
        modified: Revision::new(main, sub),
        created: main - main % 10,
        version: main % 10,
        location: location(main as u32),
    }
}

/// Main revisions 3, 6, 9 ...
fn list(count: i64) -> Arc<Past> {
    let list = (1..=count).fold(None, |list, n| Some(Past::push(list, revision(3 * n, 0))));
    list.expect("count is positive")
}

#[test]
fn at_or_before_finds_the_newest() {
    for count in 1..130 {
        let list = list(count);
        list.check_invariants();
        assert_eq!(list.count() as i64, count);
        for main in 0..=3 * count + 4 {
            let expected = (main / 3).min(count);
            let found = list.at_or_before(main).map(|node| node.newest());
            assert_eq!(found, (expected > 0).then(|| revision(3 * expected, 0)), "{main} of {count}");
        }
    }
}

#[test]
fn lookups_take_logarithmic_steps() {
    let list = list(100_000);
    for main in [0, 3, 4, 150_000, 299_999, 300_000] {
        let mut steps = 0;
        let mut node = &*list;
        while node.main > main {
            node = match &node.jump {
                Some(jump) if jump.main > main => jump,
                _ => match node.prev.as_deref() {
                    Some(prev) => prev,
                    None => break,
                },
            };
            steps += 1;
        }
        assert!(steps <= 70, "{steps} steps to {main}");
    }
}

#[test]
fn sub_revisions_count_in_order() {
    let list = Past::push(Some(Past::push(None, revision(5, 0))), revision(5, 1));
    let list = Past::push(Some(list), revision(7, 2));
    assert_eq!(list.at_or_before(6).expect("there").newest().modified, Revision::new(5, 1));
    let all: Vec<_> = list.iter().map(|r| (r.modified.main, r.modified.sub)).collect();
    assert_eq!(all, [(7, 2), (5, 1), (5, 0)]);
}

#[test]
#[should_panic(expected = "pushed onto")]
fn an_older_revision_is_refused() {
    Past::push(Some(Past::push(None, revision(5, 1))), revision(5, 1));
}

#[test]
fn a_million_revisions_drop_in_a_small_stack() {
    let drop_all = || {
        let full = list(1_000_000);
        // A second list shares the tail: the first drop must stop there and leave it sound.
        let shared = Past::push(full.older().cloned(), revision(9_000_000, 0));
        drop(full);
        assert_eq!(shared.count(), 1_000_000);
        assert_eq!(shared.at_or_before(5).expect("there").newest(), revision(3, 0));
        let weak = Arc::downgrade(shared.older().expect("there"));
        drop(shared);
        assert!(weak.upgrade().is_none());
    };
    let thread = std::thread::Builder::new().stack_size(64 * 1024).spawn(drop_all);
    thread.expect("a thread starts").join().expect("no overflow");
}

#[test]
fn truncate_keeps_the_newest_and_frees_the_rest() {
    for (count, keep) in [(1, 0), (1, 1), (5, 0), (5, 3), (50, 1), (50, 49), (50, 50)] {
        let full = list(count);
        let expected: Vec<_> = full.iter().collect();
        let mut dropped = Vec::new();
        let kept = full.truncate(keep, &mut |r| dropped.push(r));
        assert_eq!(dropped, expected[keep..]);
        let kept_revisions: Vec<_> = kept.iter().flat_map(|kept| kept.iter()).collect();
        assert_eq!(kept_revisions, expected[..keep]);
        if let Some(kept) = &kept {
            kept.check_invariants();
        }
        let oldest = Arc::downgrade(&full);
        drop(full);
        assert!(oldest.upgrade().is_none(), "the kept list holds on to the old one");
    }
}

#[test]
fn relocate_changes_what_it_is_told_to() {
    for count in 1..40 {
        for target in 1..=count {
            let mut moved = list(count);
            let before = Arc::clone(&moved);
            assert!(moved.relocate_one(Revision::new(3 * target, 0), location(77)));
            moved.check_invariants();
            let mut together = Arc::clone(&before);
            let changed = together.relocate(&mut |r, from| {
                assert_eq!(from, location(r.main as u32));
                (r.main == 3 * target).then_some(location(77))
            });
            assert_eq!(changed, 1);
            for list in [&moved, &together] {
                assert_eq!(list.count(), before.count());
                for (new, old) in list.iter().zip(before.iter()) {
                    let at = if old.modified.main == 3 * target { location(77) } else { old.location };
                    assert_eq!(new, KeyRevision { location: at, ..old });
                }
            }
            assert_eq!(before.at_or_before(3 * target).expect("there").newest(), revision(3 * target, 0));
        }
    }
    let mut list = list(9);
    assert!(!list.relocate_one(Revision::new(4, 0), location(1)));
    assert!(!list.relocate_one(Revision::new(3, 1), location(1)));
    assert_eq!(list.relocate(&mut |_, _| None), 0);
    assert_eq!(list.relocate(&mut |r, _| (r.main > 10).then_some(location(1))), 6);
    assert_eq!(list.iter().filter(|r| r.location == location(1)).count(), 6);
    list.check_invariants();
}
