//! Speed and memory of the key index: `cargo run --release -p cetera-mvcc --example index_bench [keys]`.
//!
//! Times are means over all operations of one kind, on one thread. Memory is what the allocator hands out, rounded as
//! a common malloc rounds, less the bytes of the keys themselves.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use cetera_mvcc::tree::{KeyEnd, KeyEntry, Tree};
use cetera_storage::revision::Revision;
use cetera_storage::revlog::Location;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// Eight bytes of header, blocks of sixteen.
fn block(size: usize) -> usize {
    (size + 8).next_multiple_of(16)
}

// Safety: every call is handed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(block(layout.size()), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(block(layout.size()), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_add(block(size), Relaxed);
        HELD.fetch_sub(block(layout.size()), Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, (self.next() % (at as u64 + 1)) as usize);
        }
    }
}

/// Runs all items in a hundred parts and prints the nanoseconds per item: the median of the parts, and the tenth from
/// the best, which other work on the machine has spoiled least.
fn timed<T>(what: &str, items: &[T], mut run: impl FnMut(&[T])) {
    let mut means: Vec<f64> = Vec::new();
    for part in items.chunks(items.len().div_ceil(100)) {
        let start = Instant::now();
        run(part);
        means.push(start.elapsed().as_nanos() as f64 / part.len() as f64);
    }
    means.sort_by(f64::total_cmp);
    println!("  {what:<58} {:>9.1} {:>9.1} ns", means[means.len() / 2], means[means.len() / 10]);
}

fn put(tree: &mut Tree, key: &[u8], main: i64) {
    let revision = Revision::new(main, 0);
    let location = Location { segment: 0, offset: main as u32, len: 300 };
    tree.upsert(key, |present| match present {
        Some(entry) => entry.put(revision, location),
        None => KeyEntry::first_put(revision, location),
    });
}

struct Writer {
    tree: Tree,
    published: Tree,
    main: i64,
}

impl Writer {
    fn new() -> Self {
        Writer { tree: Tree::new(), published: Tree::new(), main: 1 }
    }

    /// Puts each key at a revision of its own and publishes a snapshot in the place of the last one after each batch.
    fn put_all(&mut self, keys: &[Vec<u8>], snapshot_every: usize) {
        for batch in keys.chunks(snapshot_every) {
            for key in batch {
                self.main += 1;
                put(&mut self.tree, key, self.main);
            }
            self.published = self.tree.clone();
        }
    }
}

fn row((key, entry): (&[u8], &KeyEntry)) -> usize {
    key.len() + entry.version() as usize
}

fn run(name: &str, mut keys: Vec<Vec<u8>>) {
    let count = keys.len();
    let mut random = Random(7);
    random.shuffle(&mut keys);
    let key_bytes: usize = keys.iter().map(Vec::len).sum();
    println!(
        "{name}: {count} keys, {:.1} bytes each on average; median and best tenth",
        key_bytes as f64 / count as f64
    );
    let memory = |what: &str, before: usize| {
        let held = HELD.load(Relaxed) - before - key_bytes;
        println!("  {what:<58} {:>9.1} bytes/key", held as f64 / count as f64);
    };

    let mut plain = BTreeMap::new();
    timed("(for comparison) std BTreeMap, insert", &keys, |part| {
        for key in part {
            plain.insert(key.clone().into_boxed_slice(), [1u64; 6]);
        }
    });
    random.shuffle(&mut keys);
    timed("(for comparison) std BTreeMap, get", &keys, |part| {
        for key in part {
            black_box(plain.get(key.as_slice()));
        }
    });
    drop(plain);

    let before = HELD.load(Relaxed);
    let mut writer = Writer::new();
    random.shuffle(&mut keys);
    timed("insert, no snapshot", &keys, |part| writer.put_all(part, usize::MAX));
    memory("memory beyond the keys, random inserts", before);
    random.shuffle(&mut keys);
    read_all(&writer.tree, &keys);
    for every in [usize::MAX, 1_000, 100, 10, 1] {
        random.shuffle(&mut keys);
        let often = if every == usize::MAX { "no snapshot".into() } else { format!("snapshot per {every}") };
        timed(&format!("put of a present key, {often}"), &keys[..count / 2], |part| {
            writer.put_all(part, every);
        });
    }
    writer.published = Tree::new();
    timed("trim", &keys, |part| {
        for key in part {
            if writer.tree.get(key).is_some_and(|entry| entry.needs_trim(writer.main)) {
                writer.tree.update(key, |entry| entry.trim(writer.main, &mut |_| {}));
            }
        }
    });
    drop(writer);

    for every in [1_000, 100, 10] {
        random.shuffle(&mut keys);
        let mut writer = Writer::new();
        let (first, second) = keys.split_at(count / 2);
        writer.put_all(first, usize::MAX);
        timed(&format!("insert of a new key, snapshot per {every}"), second, |part| writer.put_all(part, every));
        if every == 100 {
            memory("memory beyond the keys, inserts with snapshots", before);
        }
    }

    let mut sorted = keys.clone();
    sorted.sort();
    let before = HELD.load(Relaxed);
    let mut writer = Writer::new();
    timed("insert in order", &sorted, |part| writer.put_all(part, usize::MAX));
    memory("memory beyond the keys, in order", before);
    drop(writer);
    let entry = KeyEntry::first_put(Revision::new(2, 0), Location::default());
    let mut trees = Vec::new();
    timed("bulk load", &sorted, |part| trees.push(Tree::from_sorted(part.iter().map(|key| (key, entry.clone())))));
    drop(trees);
    let mut tree = Tree::from_sorted(sorted.iter().map(|key| (key, entry.clone())));
    memory("memory beyond the keys, bulk load", before);
    let mut rows = tree.iter();
    timed("scan after bulk load, per row", &keys, |part| {
        black_box(rows.by_ref().take(part.len()).map(row).sum::<usize>());
    });
    let keep = count / 100;
    timed("remove", &keys[keep..], |part| {
        for key in part {
            black_box(tree.remove(key));
        }
    });
    let left: usize = keys[..keep].iter().map(Vec::len).sum();
    let held = (HELD.load(Relaxed) - before - left) as f64 / keep as f64;
    println!("  {:<58} {held:>9.1} bytes/key", "memory beyond the keys, 1 % left");
}

fn read_all(tree: &Tree, keys: &[Vec<u8>]) {
    timed("get", keys, |part| {
        for key in part {
            black_box(tree.get(key));
        }
    });
    let mut rows = tree.iter();
    timed("scan, per row", keys, |part| {
        black_box(rows.by_ref().take(part.len()).map(row).sum::<usize>());
    });
    let mut rows = tree.iter().rev();
    timed("scan in reverse, per row", keys, |part| {
        black_box(rows.by_ref().take(part.len()).map(row).sum::<usize>());
    });
    timed("range of 10", &keys[..keys.len() / 10], |part| {
        for key in part {
            black_box(tree.range(key, KeyEnd::Open).take(10).map(row).sum::<usize>());
        }
    });
    timed("totals of a random range", &keys[..keys.len() / 10], |part| {
        for pair in part.windows(2) {
            black_box(tree.totals(&pair[0], KeyEnd::Before(&pair[1])));
        }
    });
    timed("clone and drop", &[(); 1_000_000], |part| {
        for () in part {
            black_box(tree.clone());
        }
    });
}

fn main() {
    let count = std::env::args().nth(1).map_or(1_000_000, |count| count.parse().expect("a number"));
    let registry = (0..count).map(|n| format!("/registry/pods/default/{n:010}").into_bytes());
    run("registry", registry.collect());
    let mut random = Random(1);
    let mixed = (0..count).map(|_| {
        let text = format!("{:016x}{:016x}{:016x}", random.next(), random.next(), random.next());
        text.as_bytes()[..16 + (random.next() % 25) as usize].to_vec()
    });
    run("mixed", mixed.collect());
}
