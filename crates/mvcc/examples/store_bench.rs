//! What the store costs on this machine, in CPU time: puts, 1,000-key ranges after every key was overwritten in random order,
//! checkpoint and restore, a compaction pass.
//!
//! ```text
//! cargo run --release -p cetera-mvcc --example store_bench [keys, default 1000000]
//! ```

use std::{path::Path, sync::Arc};

use bytes::BytesMut;
use cetera_mvcc::{ChunkSink, RangeQuery, Store, StoreRestore};
use cetera_storage::{
    revlog::{RevLog, RevLogOptions},
    vfs::RealVfs,
};

const VALUE_BYTES: usize = 300;
const BATCH: usize = 100;
const ROUNDS: u64 = 4000;

/// CPU time of this thread: what others do on the machine counts less than on the wall clock.
struct Cpu(f64);

impl Cpu {
    fn now() -> Cpu {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        let nanoseconds = stat.split(' ').next().and_then(|first| first.parse::<f64>().ok());
        Cpu(nanoseconds.expect("the first number is the time on a CPU"))
    }

    fn seconds(&self) -> f64 {
        (Cpu::now().0 - self.0) / 1e9
    }
}

#[derive(Default)]
struct Chunks(Vec<(u8, Vec<u8>)>);

impl ChunkSink for Chunks {
    fn chunk(&mut self, kind: u8, data: &[u8]) -> std::io::Result<()> {
        self.0.push((kind, data.to_vec()));
        Ok(())
    }
}

fn key(number: u64) -> String {
    format!("bench/{number:011}")
}

/// Every number below `count` once, in scattered order.
fn scattered(count: u64) -> impl Iterator<Item = u64> {
    let step = (count * 618 / 1000) | 1;
    let step = (step..).find(|step| gcd(*step, count) == 1).expect("some step is coprime");
    (0..count).scan(0, move |at, _| {
        *at = (*at + step) % count;
        Some(*at)
    })
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn put_all(store: &mut Store, keys: impl Iterator<Item = u64>, value: &[u8]) -> f64 {
    let start = Cpu::now();
    let mut events = Vec::new();
    let mut view = None;
    let mut count = 0;
    for number in keys {
        let mut txn = store.begin();
        txn.put(key(number).as_bytes(), value, 0);
        txn.commit(&mut events);
        count += 1;
        if events.len() == BATCH {
            events.clear();
            view = Some(store.view().expect("the log takes the batch"));
        }
    }
    drop(view);
    start.seconds() * 1e6 / f64::from(count)
}

fn main() {
    let keys: u64 = std::env::args().nth(1).map_or(1_000_000, |arg| arg.parse().expect("a number of keys"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().to_path_buf();
    let open = |path: &Path| RevLog::create(Arc::new(RealVfs), path, RevLogOptions::default()).expect("a new log");
    let mut store = Store::create(open(&path));
    let value = vec![b'v'; VALUE_BYTES];
    println!("put, new keys in order       {:8.3} us", put_all(&mut store, 0..keys, &value));
    println!("put, all keys scattered      {:8.3} us", put_all(&mut store, scattered(keys), &value));
    ranges(&mut store, keys);

    let start = Cpu::now();
    let checkpoint = store.checkpoint().expect("the log is flushed");
    println!("checkpoint, writer's part    {:8.1} us", start.seconds() * 1e6);
    let start = Cpu::now();
    let mut chunks = Chunks::default();
    checkpoint.write(&mut chunks).expect("the log is synced");
    let bytes: usize = chunks.0.iter().map(|(_, data)| data.len()).sum();
    println!("checkpoint, background       {:8.1} ms  {} MB", start.seconds() * 1e3, bytes >> 20);

    let start = Cpu::now();
    store.compact(store.revision()).expect("never compacted");
    let mut slices = 0;
    let mut longest = 0f64;
    loop {
        let slice = Cpu::now();
        let more = store.compaction_step(1000).expect("the log is readable");
        longest = longest.max(slice.seconds() * 1e6);
        slices += 1;
        if !more {
            break;
        }
    }
    let each = start.seconds() * 1e6 / (2 * keys) as f64;
    println!("compaction, per record       {each:8.3} us  longest of {slices} slices {longest:.0} us");

    let start = Cpu::now();
    let mut rewrites = 0;
    let mut longest = 0f64;
    while let Some(rewrite) = store.plan_rewrite(256 << 20) {
        let done = rewrite.run().expect("segments are copied");
        store.install_rewrite(done);
        loop {
            let slice = Cpu::now();
            let more = store.rewrite_step(1000).expect("the log is readable");
            longest = longest.max(slice.seconds() * 1e6);
            if !more {
                break;
            }
        }
        let manifest = store.checkpoint().expect("the log is flushed").manifest().clone();
        store.remove_retired(&manifest).expect("old segments are removed");
        rewrites += 1;
    }
    let log = store.log();
    println!(
        "{rewrites} rewrites                  {:8.1} ms  longest slice {longest:.0} us, {} MB live, {} MB on disk",
        start.seconds() * 1e3,
        log.live_bytes() >> 20,
        log.disk_bytes() >> 20
    );
    ranges(&mut store, keys);

    let start = Cpu::now();
    let hash = store.view().expect("the log is flushed").hash_kv(0).expect("the log is readable");
    println!("HashKV                       {:8.1} ms  {:08x}", start.seconds() * 1e3, hash.hash);

    let mut chunks = Chunks::default();
    store.checkpoint().expect("flushed").write(&mut chunks).expect("synced");
    let sum = store.hash_sum();
    drop(store);
    let start = Cpu::now();
    let mut restore = StoreRestore::new();
    for (kind, data) in chunks.0 {
        restore.chunk(kind, data).expect("a chunk just written");
    }
    let open = |manifest: &_| RevLog::open(Arc::new(RealVfs), &path, RevLogOptions::default(), manifest);
    let store = restore.finish(open).expect("a checkpoint just written");
    println!("restore                      {:8.1} ms", start.seconds() * 1e3);
    assert_eq!(store.hash_sum(), sum);
}

fn ranges(store: &mut Store, keys: u64) {
    let view = store.view().expect("the log is flushed");
    for (name, keys_only, count_only) in
        [("range of 1,000 pairs", false, false), ("range of 1,000 keys", true, false), ("count of 1,000", false, true)]
    {
        let start = Cpu::now();
        for round in 0..ROUNDS {
            let first = round * 7919 % (keys - 1000);
            let (first, last) = (key(first), key(first + 1000));
            let query =
                RangeQuery { key: first.as_bytes(), end: last.as_bytes(), keys_only, count_only, ..Default::default() };
            let mut out = BytesMut::new();
            let totals = view.range(&query, &mut out).expect("the range is readable");
            assert_eq!(totals.count, 1000);
        }
        println!("{name:28} {:8.2} us", start.seconds() * 1e6 / ROUNDS as f64);
    }
}
