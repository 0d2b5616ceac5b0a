//! Checkpoints: what is written comes back, and damaged chunks are refused, never a panic.

use std::{path::Path, sync::Arc};

use cetera_storage::{
    revlog::{RevLog, RevLogOptions},
    vfs::{MemoryVfs, Vfs},
};

use super::write;
use crate::{RestoreError, Store, StoreRestore};

const OPTIONS: RevLogOptions = RevLogOptions { segment_bytes: 1 << 20 };

fn disk_with_store() -> (Arc<dyn Vfs>, Store) {
    let disk: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    let mut store = Store::create(RevLog::create(disk.clone(), Path::new("log"), OPTIONS).unwrap());
    for round in 0..3 {
        for number in 0..40 {
            write(&mut store, |txn| {
                txn.put(format!("prefix/{number:03}").as_bytes(), &vec![b'v'; round * 50], 0);
            });
        }
    }
    write(&mut store, |txn| assert_eq!(txn.delete_range(b"prefix/01", b"prefix/02", &mut |_, _| {}), 10));
    store.compact(100).unwrap();
    store.compaction_step(20).unwrap();
    store.compaction_step(7).unwrap();
    assert!(store.compaction.pass.is_some() && !store.garbage.is_empty(), "a checkpoint in the middle of a pass");
    (disk, store)
}

fn chunks(store: &mut Store) -> Vec<(u8, Vec<u8>)> {
    let mut chunks = Vec::new();
    let mut sink = |kind, data: &[u8]| {
        chunks.push((kind, data.to_vec()));
        Ok(())
    };
    store.checkpoint().unwrap().write(&mut sink).unwrap();
    chunks
}

fn restore(disk: &Arc<dyn Vfs>, chunks: &[(u8, Vec<u8>)]) -> Result<Store, RestoreError> {
    let mut restore = StoreRestore::new();
    for (kind, data) in chunks {
        restore.chunk(*kind, data.clone())?;
    }
    restore.finish(|manifest| RevLog::open(disk.clone(), Path::new("log"), OPTIONS, manifest))
}

#[test]
fn a_restored_store_is_the_same_down_to_the_unfinished_pass() {
    let (disk, mut store) = disk_with_store();
    let first = chunks(&mut store);
    let mut restored = restore(&disk, &first).unwrap();
    assert_eq!(chunks(&mut restored), first);
    assert_eq!(restored.compaction, store.compaction);
    assert_eq!(restored.garbage, store.garbage);
    for (a, b) in [(&mut store, &mut restored)] {
        while a.compaction_step(7).unwrap() | b.compaction_step(7).unwrap() {}
        assert_eq!(a.hash_sum(), b.hash_sum());
        assert_eq!(a.view().unwrap().hash_kv(0).unwrap(), b.view().unwrap().hash_kv(0).unwrap());
        assert_eq!(a.log().live_bytes(), b.log().live_bytes());
    }
}

#[test]
fn damaged_chunks_are_refused_or_read_but_never_panic() {
    let (disk, mut store) = disk_with_store();
    let good = chunks(&mut store);
    let mut refused = 0;
    for at in 0..good.len() {
        for byte in 0..good[at].1.len() {
            let mut bad = good.clone();
            bad[at].1[byte] ^= 0x85;
            refused += usize::from(restore(&disk, &bad).is_err());
            bad[at].1.truncate(byte);
            refused += usize::from(restore(&disk, &bad).is_err());
        }
        let mut missing = good.clone();
        let (kind, _) = missing.remove(at);
        let essential = kind == good[0].0 || kind == good[1].0;
        assert_eq!(restore(&disk, &missing).is_err(), essential);
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_checkpoint_while_a_rewrite_is_followed_counts_live_bytes_anew() {
    let options = RevLogOptions { segment_bytes: 2000 };
    let disk: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    let mut store = Store::create(RevLog::create(disk.clone(), Path::new("log"), options).unwrap());
    // Keys that stay among others that are overwritten: segments get sparse, but none dies whole.
    for number in 0..400 {
        write(&mut store, |txn| {
            let key = if number % 8 == 0 { format!("stay{number:03}") } else { format!("churn{}", number % 3) };
            txn.put(key.as_bytes(), b"0123456789", 0);
        });
    }
    store.compact(400).unwrap();
    while store.compaction_step(100).unwrap() {}
    let done = store.plan_rewrite(1 << 20).unwrap().run().unwrap();
    let copied = done.moved();
    // All that was copied dies before the index can follow.
    write(&mut store, |txn| {
        txn.delete_range(b"stay", b"stay9", &mut |_, _| {});
    });
    store.compact(402).unwrap();
    while store.compaction_step(100).unwrap() {}
    store.install_rewrite(done);
    assert!(copied > 5 && store.log().live_bytes() > 0);
    let chunks = chunks(&mut store);
    let mut restore = StoreRestore::new();
    for (kind, data) in chunks {
        restore.chunk(kind, data).unwrap();
    }
    let restored = restore.finish(|manifest| RevLog::open(disk, Path::new("log"), options, manifest)).unwrap();
    while store.rewrite_step(1).unwrap() {}
    let indexed = restored.index.iter().flat_map(|(_, entry)| entry.revisions());
    let live: u64 = indexed.map(|found| found.location.record_bytes()).sum();
    assert_eq!((restored.log().live_bytes(), store.log().live_bytes()), (live, live));
}

#[test]
fn a_long_history_of_one_key_spans_chunks() {
    let options = RevLogOptions { segment_bytes: 1 << 24 };
    let disk: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    let mut store = Store::create(RevLog::create(disk.clone(), Path::new("log"), options).unwrap());
    for round in 0..100_000 {
        write(&mut store, |txn| {
            match round % 1000 {
                999 => txn.delete_range(b"hot", b"", &mut |_, _| {}),
                _ => txn.put(b"hot", b"", 0).map_or(0, |_| 1),
            };
        });
    }
    write(&mut store, |txn| assert_eq!(txn.put(b"hotter", b"", 0), None));
    let chunks = chunks(&mut store);
    assert!(chunks.len() > 3 && chunks.iter().all(|(_, data)| data.len() < 2 << 20), "{}", chunks.len());
    let mut restore = StoreRestore::new();
    for (kind, data) in &chunks {
        restore.chunk(*kind, data.clone()).unwrap();
    }
    let restored = restore.finish(|manifest| RevLog::open(disk, Path::new("log"), options, manifest)).unwrap();
    let all = |store: &Store| -> Vec<_> {
        store.index.iter().flat_map(|(_, entry)| entry.revisions().collect::<Vec<_>>()).collect()
    };
    assert_eq!(all(&restored), all(&store));
}
