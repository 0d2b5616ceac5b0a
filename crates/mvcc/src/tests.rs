//! Tests of the store as a whole: etcd's recorded hashes, and a naive store as a model.

mod basics;
mod hashkv;
mod model;
mod restore;

use std::{path::Path, sync::Arc};

use cetera_storage::{
    revlog::{RevLog, RevLogOptions},
    vfs::{MemoryVfs, Vfs},
};

use crate::{EventRec, Store, WriteTxn};

fn empty_store(segment_bytes: u64) -> Store {
    let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    Store::create(RevLog::create(vfs, Path::new("log"), RevLogOptions { segment_bytes }).unwrap())
}

/// Runs `f` in a transaction of its own; returns its events.
fn write(store: &mut Store, f: impl FnOnce(&mut WriteTxn<'_>)) -> Vec<EventRec> {
    let mut events = Vec::new();
    let mut txn = store.begin();
    f(&mut txn);
    txn.commit(&mut events);
    events
}

/// Lets the compaction pass run to its end.
fn finish_compaction(store: &mut Store, slice: usize) {
    while store.compaction_step(slice).unwrap() {}
    assert_eq!(store.compaction_finished(), store.compacted());
    store.check_invariants();
}
