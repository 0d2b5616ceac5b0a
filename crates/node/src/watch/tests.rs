//! Tests of the hub: contract rows one by one, and a naive model under random load.

mod model;
mod rows;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cetera_mvcc::{EventRec, LogError, Store, WriteTxn};
use cetera_proto::etcdserverpb::WatchResponse;
use cetera_storage::revlog::{RevLog, RevLogOptions};
use cetera_storage::vfs::{MemoryVfs, Vfs};
use prost::Message as _;

use super::{Create, Hub, HubOptions, Origin, Sink, StreamKey};
use crate::event::EventBatch;

const ORIGIN: Origin = Origin { cluster_id: 11, member_id: 12, term: 3 };

/// What the clients have been sent.
#[derive(Default)]
struct Received {
    streams: BTreeMap<StreamKey, Vec<WatchResponse>>,
    broken: Vec<StreamKey>,
}

impl Sink for Received {
    fn response(&mut self, stream: StreamKey, head: &[u8], events: &Bytes) {
        let response = WatchResponse::decode(&[head, events].concat()[..]).expect("responses decode");
        self.streams.entry(stream).or_default().push(response);
    }

    fn broken(&mut self, stream: StreamKey, _: &LogError) {
        self.broken.push(stream);
    }
}

/// A store and one hub over it.
struct World {
    vfs: MemoryVfs,
    store: Store,
    hub: Hub,
    received: Received,
    /// Changes that the hub was not told of yet.
    waiting: Vec<EventRec>,
    applied_index: u64,
}

impl World {
    fn new(options: HubOptions) -> World {
        let vfs = MemoryVfs::new();
        let disk: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let log = RevLog::create(disk, Path::new("log"), RevLogOptions { segment_bytes: 16 << 10 });
        let mut store = Store::create(log.expect("an empty disk"));
        let hub = Hub::new(options, store.view().expect("a good disk"), ORIGIN);
        World { vfs, store, hub, received: Received::default(), waiting: Vec::new(), applied_index: 0 }
    }

    /// One transaction, not yet told to the hub.
    fn write(&mut self, f: impl FnOnce(&mut WriteTxn<'_>)) {
        let mut txn = self.store.begin();
        f(&mut txn);
        txn.commit(&mut self.waiting);
        self.applied_index += 1;
    }

    fn publish(&mut self) {
        let view = self.store.view().expect("a good disk");
        self.hub.begin_turn(&view, self.applied_index, ORIGIN);
    }

    /// What is waiting, on its way to the hub.
    fn batch(&mut self) -> Arc<EventBatch> {
        let events = std::mem::take(&mut self.waiting);
        Arc::new(EventBatch { events, revision: self.store.revision(), applied_index: self.applied_index })
    }

    fn deliver(&mut self, batch: &Arc<EventBatch>) {
        self.hub.deliver(batch, &mut self.received);
    }

    /// Publishes and tells the hub what is waiting.
    fn tell(&mut self) {
        self.publish();
        let batch = self.batch();
        self.deliver(&batch);
    }

    fn put(&mut self, key: &str, value: &str) {
        self.write(|txn| _ = txn.put(key.as_bytes(), value.as_bytes(), 0));
        self.tell();
    }

    fn delete(&mut self, key: &str, end: &str) {
        self.write(|txn| _ = txn.delete_range(key.as_bytes(), end.as_bytes(), &mut |_, _| {}));
        self.tell();
    }

    fn compact(&mut self, revision: i64) {
        self.store.compact(revision).expect("a revision to compact at");
        while self.store.compaction_step(100).expect("a good disk") {}
        self.publish();
    }

    fn create(&mut self, stream: StreamKey, create: Create) {
        self.hub.create(stream, create, &mut self.received);
    }

    /// Turns until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.hub.pending() {
                return;
            }
            self.publish();
            self.hub.turn(&mut self.received);
        }
        panic!("the hub does not come to rest");
    }

    fn take(&mut self, stream: StreamKey) -> Vec<WatchResponse> {
        self.received.streams.remove(&stream).unwrap_or_default()
    }
}

fn on(key: &str) -> Create {
    Create { key: Bytes::copy_from_slice(key.as_bytes()), ..Create::default() }
}

fn over(key: &str, end: &str) -> Create {
    Create { range_end: Bytes::copy_from_slice(end.as_bytes()), ..on(key) }
}

/// A response as one line.
fn line(response: &WatchResponse) -> String {
    let mut line = format!("{}@{}", response.watch_id, response.header.as_ref().map_or(-1, |header| header.revision));
    if response.created {
        line.push_str(" created");
    }
    if response.canceled {
        line.push_str(" canceled");
    }
    if response.compact_revision != 0 {
        line.push_str(&format!(" compact={}", response.compact_revision));
    }
    if !response.cancel_reason.is_empty() {
        line.push_str(&format!(" {}", response.cancel_reason));
    }
    if response.fragment {
        line.push_str(" fragment");
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for event in &response.events {
        let kv = event.kv.as_ref().expect("events have a pair");
        let key = text(&kv.key);
        match event.r#type {
            0 => line.push_str(&format!(" {key}={}:{}", text(&kv.value), kv.mod_revision)),
            _ => line.push_str(&format!(" -{key}:{}", kv.mod_revision)),
        }
        if let Some(previous) = &event.prev_kv {
            line.push_str(&format!("({}:{})", text(&previous.value), previous.mod_revision));
        }
    }
    line
}

fn lines(responses: &[WatchResponse]) -> Vec<String> {
    responses.iter().map(line).collect()
}
