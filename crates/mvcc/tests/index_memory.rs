//! The memory budget of the key index: under 100 bytes a key beyond the key itself, however the tree came about.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use cetera_mvcc::tree::{KeyEntry, Tree};
use cetera_storage::revision::Revision;
use cetera_storage::revlog::Location;

const KEYS: u64 = 100_000;
const BUDGET_BYTES_PER_KEY: isize = 100;

struct Counting;

thread_local! {
    /// Of this thread: the test harness has threads of its own.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// As a common malloc rounds: eight bytes of header, blocks of sixteen.
fn block(size: usize) -> isize {
    (size + 8).next_multiple_of(16) as isize
}

// Safety: every call is handed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + block(layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - block(layout.size()));
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The key number `n`, 16 to 40 bytes long, in no order.
fn key(n: u64) -> Vec<u8> {
    let scattered = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let text = format!("{scattered:016x}/{:0>23}", n % 1_000_003);
    text.as_bytes()[..16 + (scattered % 25) as usize].to_vec()
}

fn entry(n: u64) -> KeyEntry {
    KeyEntry::first_put(Revision::new(n as i64 + 2, 0), Location { segment: 1, offset: n as u32, len: 300 })
}

fn assert_in_budget(what: &str, tree: &Tree, before: isize) {
    let keys: usize = tree.iter().map(|(key, _)| key.len()).sum();
    let beyond = (HELD.get() - before - keys as isize) / tree.len() as isize;
    assert!(beyond < BUDGET_BYTES_PER_KEY, "{what}: {beyond} bytes a key beyond the key");
}

#[test]
fn memory_stays_in_the_budget() {
    let start = HELD.get();
    let mut tree = Tree::new();
    for n in 0..KEYS {
        tree.insert(&key(n), entry(n));
    }
    assert_eq!(tree.len() as u64, KEYS);
    assert_in_budget("random inserts", &tree, start);

    // With a snapshot each hundred changes, the last one let go.
    let mut snapshot = tree.clone();
    for n in 0..KEYS / 2 {
        tree.insert(&key(n), entry(n));
        if n % 100 == 0 {
            snapshot = tree.clone();
        }
    }
    drop(snapshot);
    assert_in_budget("changes under snapshots", &tree, start);

    // A snapshot of an unchanged tree weighs nothing.
    let held = HELD.get();
    let snapshots: Vec<Tree> = (0..100).map(|_| tree.clone()).collect();
    assert!(HELD.get() - held < 100 * 64);
    drop(snapshots);

    let before = HELD.get();
    let loaded = Tree::from_sorted(tree.iter().map(|(key, entry)| (key, entry.clone())));
    assert_in_budget("bulk load", &loaded, before);
    drop(loaded);

    // What is removed comes back: of a tree thinned to a twentieth, nine tenths at least are free again.
    let full = HELD.get() - start;
    for n in (0..KEYS).filter(|n| n % 20 != 0) {
        tree.remove(&key(n));
    }
    tree.check_invariants();
    let thinned = HELD.get() - start;
    assert!(thinned < full / 10, "{thinned} of {full} bytes still held with a twentieth of the keys");
    for n in (0..KEYS).step_by(20) {
        tree.remove(&key(n));
    }
    assert!(tree.is_empty());
    drop(tree);
    assert_eq!(HELD.get(), start);
}

/// A snapshot that is written out while every leaf is changed meanwhile: a checkpoint beside a busy writer.
#[test]
fn a_snapshot_that_is_read_once_is_given_back_on_the_way() {
    let mut tree = Tree::from_sorted((0..KEYS).map(|n| (format!("{n:020}"), entry(n))));
    let weight = HELD.get();
    // Nothing is read of it meanwhile: in the end every leaf was copied.
    let mut order = (0..KEYS).map(|n| n.wrapping_mul(48_271) % KEYS).cycle();
    let mut change = |tree: &mut Tree, count: u64| {
        for n in order.by_ref().take(count as usize) {
            tree.insert(format!("{n:020}").as_bytes(), entry(n));
        }
    };
    let snapshot = tree.clone();
    change(&mut tree, KEYS);
    let copied = HELD.get() - weight;
    assert!(copied > weight * 9 / 10, "only {copied} of {weight} bytes were copied");
    drop(snapshot);

    let settled = HELD.get();
    let (mut read, mut most) = (0, 0);
    for leaf in tree.clone().into_leaves() {
        let before = read;
        read += leaf.iter().inspect(|(key, _)| assert!(!key.is_empty())).count() as u64;
        drop(leaf);
        // Meanwhile the writer changes a tenth of the keys, in no order: most leaves have one of them.
        change(&mut tree, read / 10 - before / 10);
        most = most.max(HELD.get() - settled);
    }
    assert_eq!(read, KEYS);
    assert!(most < settled * 40 / 100, "{most} of {settled} bytes were copied");
    tree.check_invariants();
    let left = HELD.get() - settled;
    assert!(left < settled / 50, "{left} of {settled} bytes are still held");
}
