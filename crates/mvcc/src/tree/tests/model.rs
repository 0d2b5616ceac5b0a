use std::collections::BTreeMap;

use cetera_storage::revision::Revision;
use cetera_storage::revlog::Location;

use crate::past::KeyRevision;
use crate::tree::{KeyEnd, KeyEntry, Totals, Tree};

type Model = BTreeMap<Vec<u8>, KeyRevision>;

/// A small generator of numbers: the seed decides the whole run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Keys that share prefixes, end in zeros, contain one another, and now and then are empty or long.
    fn key(&mut self, space: u64) -> Vec<u8> {
        let n = self.below(space);
        match self.below(8) {
            0 => format!("/registry/pods/default/{n:08}").into_bytes(),
            1 => format!("/registry/pods/{n}").into_bytes(),
            2 => n.to_be_bytes()[6..].to_vec(),
            3 => vec![0; (n % 20) as usize],
            4 => [b"tail".as_slice(), &vec![0; (n % 20) as usize]].concat(),
            5 => [vec![b'x'; (n % 40) as usize], vec![b'y'; (n % 3) as usize]].concat(),
            6 => format!("/registry/pods/default/{n:08}/x").into_bytes(),
            _ => [vec![b'l'; 300], n.to_le_bytes().to_vec()].concat(),
        }
    }

    fn revision(&mut self, main: i64) -> KeyRevision {
        let version = self.below(4) as i64; // a quarter are tombstones
        let created = if version == 0 { 0 } else { main };
        let location = Location { segment: 1, offset: main as u32, len: self.below(500) as u32 };
        KeyRevision { modified: Revision::new(main, 0), created, version, location }
    }
}

fn assert_same(tree: &Tree, model: &Model) {
    assert_eq!(tree.len(), model.len());
    assert_eq!(tree.is_empty(), model.is_empty());
    assert!(tree.iter().map(|(k, e)| (k, e.newest())).eq(model.iter().map(|(k, e)| (&**k, *e))));
    let back = tree.iter().rev().map(|(k, e)| (k, e.newest()));
    assert!(back.eq(model.iter().rev().map(|(k, e)| (&**k, *e))));
}

fn assert_range(tree: &Tree, model: &Model, start: &[u8], end: KeyEnd<'_>) {
    let within = |key: &[u8]| {
        start <= key
            && match end {
                KeyEnd::Before(end) => key < end,
                KeyEnd::Open => true,
            }
    };
    let expected: Vec<_> = model.iter().filter(|(k, _)| within(k)).map(|(k, e)| (&**k, *e)).collect();
    let got: Vec<_> = tree.range(start, end).map(|(k, e)| (k, e.newest())).collect();
    assert_eq!(got, expected);
    let mut got: Vec<_> = tree.range(start, end).rev().map(|(k, e)| (k, e.newest())).collect();
    got.reverse();
    assert_eq!(got, expected);
    // From both ends in turn: each entry once, and then none from either.
    let mut both = tree.range(start, end);
    let mut count = 0;
    while (if count % 3 == 0 { both.next_back() } else { both.next() }).is_some() {
        count += 1;
    }
    assert_eq!(count, expected.len());
    assert!(both.next().is_none() && both.next_back().is_none());
    let live = expected.iter().filter(|(_, r)| r.version > 0);
    let bytes = live.clone().map(|(_, r)| u64::from(r.location.len)).sum();
    assert_eq!(tree.totals(start, end), Totals { keys: live.count() as u64, bytes });
}

/// Random changes, snapshots kept alive, all compared with the model. `grow`: percentage of steps that insert.
fn run(seed: u64, steps: u64, space: u64, check_every: u64) {
    let mut random = Random(seed);
    let (mut tree, mut model) = (Tree::new(), Model::new());
    let mut snapshots: Vec<(Tree, Model)> = Vec::new();
    let mut grow = 70;
    for step in 1..=steps {
        if step % (steps / 6).max(1) == 0 {
            grow = if grow == 70 { 20 } else { 70 };
        }
        let key = random.key(space);
        if random.below(100) < grow {
            let revision = random.revision(step as i64);
            let former = tree.insert(&key, KeyEntry::new(revision, None));
            assert_eq!(former.map(|e| e.newest()), model.insert(key.clone(), revision));
        } else if random.below(4) == 0 {
            let location = Location { segment: 2, offset: step as u32, len: step as u32 % 900 };
            let change = |e: &mut KeyEntry| e.relocate_one(e.modified(), location);
            let found = tree.update(&key, change);
            assert_eq!(found, model.get(&key).map(|_| true));
            model.entry(key.clone()).and_modify(|r| r.location = location);
        } else {
            assert_eq!(tree.remove(&key).map(|e| e.newest()), model.remove(&key));
        }
        assert_eq!(tree.get(&key).map(KeyEntry::newest), model.get(&key).copied());
        let other = random.key(space);
        assert_eq!(tree.get(&other).map(KeyEntry::newest), model.get(&other).copied());
        if step % check_every == 0 {
            tree.check_invariants();
            assert_range(&tree, &model, &key, KeyEnd::Before(&other));
            assert_range(&tree, &model, &key, KeyEnd::Open);
        }
        if random.below(50) == 0 {
            snapshots.push((tree.clone(), model.clone()));
            if snapshots.len() > 8 {
                let (tree, model) = snapshots.swap_remove(random.below(8) as usize);
                tree.check_invariants();
                assert_same(&tree, &model);
            }
        }
    }
    assert_same(&tree, &model);
    for (tree, model) in &snapshots {
        tree.check_invariants();
        assert_same(tree, model);
    }
    for key in model.keys() {
        assert!(tree.remove(key).is_some());
        if tree.len() % check_every.max(7) as usize == 0 {
            tree.check_invariants();
        }
    }
    assert_same(&tree, &Model::new());
    assert_eq!(tree.totals(b"", KeyEnd::Open), Totals::default());
}

#[test]
fn small_trees_checked_at_every_step() {
    for seed in 0..40 {
        run(seed, 500, 40, 1);
    }
}

#[test]
fn larger_trees() {
    for seed in 100..104 {
        run(seed, 20_000, 10_000, 509);
    }
}

#[test]
fn ascending_and_descending_keys() {
    for descending in [false, true] {
        let mut tree = Tree::new();
        for n in 0..5_000u32 {
            let n = if descending { 5_000 - n } else { n };
            let revision = Random(u64::from(n)).revision(2);
            assert!(tree.insert(format!("k{n:06}").as_bytes(), KeyEntry::new(revision, None)).is_none());
            if n % 97 == 0 {
                tree.check_invariants();
            }
        }
        tree.check_invariants();
        assert_eq!(tree.len(), 5_000);
    }
}

#[test]
fn bulk_load_of_every_size() {
    // One, two and three levels exactly full, one less and one more.
    let edges = [18, 18 * 15, 18 * 15 * 15].into_iter().flat_map(|full| [full - 1, full, full + 1]);
    let sizes = (0..200).chain(edges).chain([20_000]);
    for size in sizes {
        let mut random = Random(size);
        let model: Model = (0..size).map(|n| (format!("a/{n:09}").into_bytes(), random.revision(2))).collect();
        let mut tree = Tree::from_sorted(model.iter().map(|(k, r)| (k, KeyEntry::new(*r, None))));
        tree.check_invariants();
        assert_same(&tree, &model);
        // It is a tree like others.
        let revision = random.revision(3);
        tree.insert(b"a/0000000030", KeyEntry::new(revision, None));
        tree.remove(b"a/000000007");
        tree.check_invariants();
    }
}

#[test]
#[should_panic(expected = "bulk load")]
fn bulk_load_refuses_disorder() {
    let entry = KeyEntry::first_put(Revision::new(2, 0), Location::default());
    Tree::from_sorted([("b", entry.clone()), ("b", entry)]);
}

#[test]
fn a_snapshot_is_read_while_the_writer_writes() {
    let mut tree = Tree::new();
    let put = |tree: &mut Tree, main: i64, key: u64| {
        let location = Location { segment: 0, offset: main as u32, len: 1 };
        tree.upsert(&key.to_be_bytes(), |present| match present {
            Some(entry) => entry.put(Revision::new(main, 0), location),
            None => KeyEntry::first_put(Revision::new(main, 0), location),
        });
    };
    for n in 0..10_000 {
        put(&mut tree, n as i64 + 2, n);
    }
    std::thread::scope(|scope| {
        for round in 0..8 {
            let snapshot = tree.clone();
            let revision = 10_001 + round * 1_000;
            scope.spawn(move || {
                assert!(snapshot.iter().all(|(_, entry)| entry.modified().main <= revision));
                assert_eq!(snapshot.totals(b"", KeyEnd::Open).keys, 10_000);
                snapshot.check_invariants();
            });
            for n in 0..1_000 {
                put(&mut tree, revision + n + 1, (n as u64 * 7919) % 10_000);
            }
        }
    });
    tree.check_invariants();
}
