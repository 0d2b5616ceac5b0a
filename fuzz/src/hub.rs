//! A watch hub whose every bound is tiny, driven by any script of writes, compactions, watchers and slow streams,
//! against a list of changes: each watcher is told all it asked for, once, in order, whole revisions at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cetera_mvcc::{EventRec, LogError, Store};
use cetera_node::event::EventBatch;
use cetera_node::watch::{Create, Hub, HubOptions, Origin, Sink, StreamKey};
use cetera_proto::etcdserverpb::WatchResponse;
use cetera_proto::mvccpb::Event;
use cetera_storage::revlog::{RevLog, RevLogOptions};
use cetera_storage::vfs::{MemoryVfs, Vfs};
use prost::Message as _;

use crate::input::Input;

const ORIGIN: Origin = Origin { cluster_id: 1, member_id: 2, term: 3 };
const STREAMS: usize = 3;
/// Turns after which a hub that finds no rest hangs.
const TURNS_MAX: usize = 100_000;

#[derive(Default)]
struct Received(Vec<(StreamKey, WatchResponse)>);

impl Sink for Received {
    fn response(&mut self, stream: StreamKey, head: &[u8], events: &Bytes) {
        let response = WatchResponse::decode(&[head, events].concat()[..]).expect("responses decode");
        self.0.push((stream, response));
    }

    fn broken(&mut self, _: StreamKey, error: &LogError) {
        panic!("a good disk: {error}");
    }
}

struct Watched {
    create: Create,
    from: i64,
    /// Position in the list of changes.
    next: usize,
    canceled: bool,
    compacted: bool,
}

impl Watched {
    fn wants(&self, event: &Event) -> bool {
        let kv = event.kv.as_ref().expect("events have a pair");
        let inside = match &self.create.range_end[..] {
            [] => kv.key == self.create.key,
            [0] => kv.key >= self.create.key,
            end => kv.key >= self.create.key && kv.key[..] < *end,
        };
        let filtered = if event.r#type == 0 { self.create.no_put } else { self.create.no_delete };
        inside && !filtered && kv.mod_revision >= self.from
    }

    fn peek<'a>(&mut self, changes: &'a [Event]) -> Option<&'a Event> {
        while let Some(event) = changes.get(self.next) {
            if self.wants(event) {
                return Some(event);
            }
            self.next += 1;
        }
        None
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

struct World {
    store: Store,
    hub: Hub,
    received: Received,
    waiting: Vec<EventRec>,
    changes: Vec<Event>,
    streams: Vec<StreamKey>,
    watched: BTreeMap<(StreamKey, i64), Watched>,
    now_ms: u64,
}

fn key(input: &mut Input<'_>) -> Bytes {
    vec![b'a' + input.u8() % 6].into()
}

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let options = HubOptions {
        ring_bytes: 200 + 16 * usize::from(input.u8()),
        ring_batches: 1 + input.below(8),
        slice_bytes: 1 + usize::from(input.u8()),
        response_bytes: 1 + usize::from(input.u8()),
        stream_turn_bytes: 50 + usize::from(input.u8()),
        fragment_bytes: 100 + usize::from(input.u8()),
        notify_ms: 100,
        seed: 1,
    };
    let disk: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    let log = RevLog::create(disk, Path::new("/log"), RevLogOptions { segment_bytes: 4 << 10 }).expect("a good disk");
    let mut store = Store::create(log);
    let mut hub = Hub::new(options, store.view().expect("a good disk"), ORIGIN);
    let streams = (0..STREAMS).map(|_| hub.open()).collect();
    let mut world = World {
        store,
        hub,
        received: Received::default(),
        waiting: Vec::new(),
        changes: Vec::new(),
        streams,
        watched: BTreeMap::new(),
        now_ms: 0,
    };
    while !input.is_empty() {
        world.act(&mut input);
        world.check();
    }
    world.finish();
}

impl World {
    fn act(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=4 => self.write(input),
            5..=7 => self.tell(),
            8 | 9 => self.hub.turn(&mut self.received),
            10 | 11 => self.create(input),
            12 => {
                let stream = *input.choose(&self.streams);
                let id = i64::from(input.u8() % 8);
                self.hub.cancel(stream, id, &mut self.received);
                self.check();
                if let Some(watched) = self.watched.get_mut(&(stream, id)) {
                    watched.canceled = true;
                }
            }
            13 => {
                let stream = *input.choose(&self.streams);
                match input.below(3) {
                    0 => self.hub.full(stream),
                    1 => self.hub.drained(stream),
                    _ => {
                        self.publish();
                        self.hub.progress(stream, &mut self.received);
                    }
                }
            }
            14 => {
                self.now_ms += u64::from(input.u8());
                self.hub.tick(self.now_ms, &mut self.received);
            }
            _ => {
                let back = i64::from(input.u8() % 16);
                if self.store.compact(self.store.revision() - back).is_ok() {
                    while self.store.compaction_step(100).expect("a good disk") {}
                    self.publish();
                }
            }
        }
    }

    fn write(&mut self, input: &mut Input<'_>) {
        let mut txn = self.store.begin();
        let mut touched = Vec::new();
        for _ in 0..=input.below(4) {
            let key = key(input);
            if touched.contains(&key) {
                continue;
            }
            touched.push(key.clone());
            match input.flag() {
                true => drop(txn.put(&key, &vec![b'v'; input.below(64)], 0)),
                false => drop(txn.delete_range(&key, b"", &mut |_, _| {})),
            }
        }
        let mut events = Vec::new();
        txn.commit(&mut events);
        self.changes.extend(events.iter().map(|event| Event::decode(event.event.clone()).expect("an event")));
        self.waiting.append(&mut events);
    }

    fn publish(&mut self) {
        let view = self.store.view().expect("a good disk");
        self.hub.begin_turn(&view, self.applied_index(), ORIGIN);
    }

    fn tell(&mut self) {
        self.publish();
        let events = std::mem::take(&mut self.waiting);
        if !events.is_empty() {
            let (revision, applied_index) = (self.store.revision(), self.applied_index());
            let batch = Arc::new(EventBatch { events, revision, applied_index });
            self.hub.deliver(&batch, &mut self.received);
        }
    }

    /// Anything that grows with each change.
    fn applied_index(&self) -> u64 {
        self.changes.len() as u64
    }

    fn create(&mut self, input: &mut Input<'_>) {
        let stream = *input.choose(&self.streams);
        let kind = input.u8();
        let current = self.store.revision();
        let create = Create {
            key: key(input),
            range_end: match kind & 3 {
                0 | 1 => Bytes::new(),
                2 => Bytes::from_static(b"\0"),
                _ => key(input),
            },
            start_revision: match kind >> 2 & 3 {
                0 | 1 => 0,
                2 => current + i64::from(input.u8() % 4),
                _ => i64::from(input.u8() as i8),
            },
            watch_id: if kind & 16 == 0 { 0 } else { i64::from(input.u8() % 8) },
            no_put: kind & 32 != 0,
            no_delete: kind & 64 != 0,
            prev_kv: kind & 128 != 0,
            fragment: input.flag(),
            progress_notify: input.flag(),
        };
        self.publish();
        self.hub.create(stream, create.clone(), &mut self.received);
        let answers = self.received.0.iter().rev().filter(|(of, response)| *of == stream && response.created);
        let answer = answers.map(|(_, response)| response.clone()).next().expect("a creation is answered");
        if answer.canceled {
            return assert_eq!(answer.watch_id, -1, "refused");
        }
        let from = if create.start_revision == 0 { current + 1 } else { create.start_revision };
        let watched = Watched { create, from, next: 0, canceled: false, compacted: false };
        let old = self.watched.insert((stream, answer.watch_id), watched);
        assert!(old.is_none_or(|old| old.canceled), "an id given twice");
    }

    fn check(&mut self) {
        let compacted = self.store.compacted();
        for (stream, response) in std::mem::take(&mut self.received.0) {
            let Some(watched) = self.watched.get_mut(&(stream, response.watch_id)) else {
                assert!(response.watch_id == -1 || response.created, "of a watcher not created: {response:?}");
                continue;
            };
            if response.created {
                continue;
            }
            assert!(!watched.canceled && (!watched.compacted || response.canceled), "after its end: {response:?}");
            if response.canceled {
                watched.compacted |= response.compact_revision != 0;
                assert!(response.compact_revision == 0 || watched.from <= compacted, "compacted: {response:?}");
                continue;
            }
            for event in &response.events {
                let expected = watched.peek(&self.changes).expect("a change that was made");
                assert_eq!((event.r#type, &event.kv), (expected.r#type, &expected.kv));
                if let Some(previous) = &event.prev_kv {
                    assert!(watched.create.prev_kv && previous.mod_revision < revision_of(event));
                }
                watched.next += 1;
            }
            let last = response.events.last().map_or(0, revision_of);
            let next = watched.peek(&self.changes).map_or(i64::MAX, revision_of);
            assert!(next != last || response.fragment || last == 0, "a revision in two responses: {response:?}");
            if response.events.is_empty() {
                let header = response.header.as_ref().map_or(0, |header| header.revision);
                assert!(next > header, "progress to {header} before {next} was told");
            }
        }
    }

    fn finish(&mut self) {
        self.streams.iter().for_each(|stream| self.hub.drained(*stream));
        self.tell();
        for _ in 0..TURNS_MAX {
            if !self.hub.pending() {
                break;
            }
            self.publish();
            self.hub.turn(&mut self.received);
        }
        assert!(!self.hub.pending(), "the hub finds no rest");
        self.check();
        for ((stream, id), watched) in &mut self.watched {
            if !watched.canceled && !watched.compacted {
                assert_eq!(watched.peek(&self.changes), None, "watcher {id} of {stream:?} misses a change");
            }
        }
        self.streams.iter().for_each(|stream| self.hub.close(*stream));
        assert_eq!(self.hub.stats().watchers, 0);
    }
}
