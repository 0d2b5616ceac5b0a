//! A store and its hub under random writes, compactions and watchers, against a model that knows nothing but a list of
//! changes. Every bound is tiny, so that watchers are parked, catch up from ring and history, and meet compactions all
//! the time.

use cetera_proto::mvccpb::{Event, KeyValue};

use super::*;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn key(&mut self) -> String {
        format!("k{}", self.below(12))
    }
}

/// What one watcher should have seen, and has.
struct Watched {
    create: Create,
    /// The first revision it wants.
    from: i64,
    /// Position in the list of changes, of the next it should see.
    next: usize,
    canceled: bool,
    compacted: bool,
}

#[derive(Default)]
struct Counts {
    events: usize,
    compacted: usize,
    previous: usize,
    progress: usize,
    parked: usize,
    came_back: usize,
    finished: usize,
}

struct Model {
    world: World,
    rng: Rng,
    live: BTreeMap<String, KeyValue>,
    changes: Vec<Event>,
    streams: Vec<StreamKey>,
    full: Vec<StreamKey>,
    watched: BTreeMap<(StreamKey, i64), Watched>,
    counts: Counts,
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().expect("events have a pair").mod_revision
}

impl Watched {
    fn wants(&self, event: &Event) -> bool {
        let key = &event.kv.as_ref().expect("events have a pair").key[..];
        let (start, end) = (&self.create.key[..], &self.create.range_end[..]);
        let inside = match end {
            [] => key == start,
            [0] => key >= start,
            end => key >= start && key < end,
        };
        let filtered = if event.r#type == 0 { self.create.no_put } else { self.create.no_delete };
        inside && !filtered && revision_of(event) >= self.from
    }

    /// The next change it should be told of.
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

impl Model {
    fn new(seed: u64) -> Model {
        let mut rng = Rng(seed);
        let options = HubOptions {
            ring_bytes: 200 + rng.below(4_000) as usize,
            ring_batches: 1 + rng.below(8) as usize,
            slice_bytes: 1 + rng.below(400) as usize,
            response_bytes: 1 + rng.below(200) as usize,
            stream_turn_bytes: 50 + rng.below(500) as usize,
            fragment_bytes: 100 + rng.below(400) as usize,
            notify_ms: 100,
            seed,
        };
        let mut world = World::new(options);
        let streams = (0..3).map(|_| world.hub.open()).collect();
        Model {
            world,
            rng,
            live: BTreeMap::new(),
            changes: Vec::new(),
            streams,
            full: Vec::new(),
            watched: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// One transaction on the store and on the list.
    fn transaction(&mut self) {
        let mut operations = Vec::new();
        for _ in 0..=self.rng.below(4) {
            let key = self.rng.key();
            if operations.iter().any(|(other, _): &(String, _)| *other == key) {
                continue;
            }
            match self.rng.chance(70) {
                true => operations.push((key, Some("v".repeat(self.rng.below(40) as usize)))),
                false => operations.push((key, None)),
            }
        }
        let main = self.world.store.revision() + 1;
        for (key, value) in &operations {
            let previous = self.live.get(key).cloned();
            let event = match (value, previous) {
                (None, None) => continue,
                (None, Some(previous)) => {
                    self.live.remove(key);
                    let kv = KeyValue { key: key.clone().into(), mod_revision: main, ..KeyValue::default() };
                    Event { r#type: 1, kv: Some(kv), prev_kv: Some(previous) }
                }
                (Some(value), previous) => {
                    let kv = KeyValue {
                        key: key.clone().into(),
                        create_revision: previous.as_ref().map_or(main, |previous| previous.create_revision),
                        mod_revision: main,
                        version: previous.as_ref().map_or(1, |previous| previous.version + 1),
                        value: value.clone().into(),
                        lease: 0,
                    };
                    self.live.insert(key.clone(), kv.clone());
                    Event { r#type: 0, kv: Some(kv), prev_kv: previous }
                }
            };
            self.changes.push(event);
        }
        self.world.write(|txn| {
            for (key, value) in operations {
                match value {
                    Some(value) => _ = txn.put(key.as_bytes(), value.as_bytes(), 0),
                    None => _ = txn.delete_range(key.as_bytes(), b"", &mut |_, _| {}),
                }
            }
        });
    }

    fn create(&mut self) {
        let stream = self.streams[self.rng.below(3) as usize];
        let current = self.world.store.revision();
        let key = self.rng.key();
        let range_end = match self.rng.below(4) {
            0 => "\0".to_string(),
            1 => format!("{key}~"),
            _ => String::new(),
        };
        let start_revision = match self.rng.below(5) {
            0 => 0,
            1 => current + 1 + self.rng.below(5) as i64,
            2 => (current - self.rng.below(6) as i64).max(1),
            _ => 1 + self.rng.below(current as u64) as i64,
        };
        let create = Create {
            start_revision,
            no_put: self.rng.chance(10),
            no_delete: self.rng.chance(10),
            prev_kv: self.rng.chance(40),
            fragment: self.rng.chance(20),
            progress_notify: self.rng.chance(30),
            ..over(&key, &range_end)
        };
        // The picture may be ahead of what the hub was told.
        self.world.publish();
        self.world.create(stream, create.clone());
        let created = self.world.received.streams[&stream].last().expect("a creation is answered").clone();
        // A start below the watermark is canceled in the same breath.
        let id = created.watch_id;
        let from = if start_revision == 0 { current + 1 } else { start_revision };
        let watched = Watched { create, from, next: 0, canceled: false, compacted: false };
        assert!(self.watched.insert((stream, id), watched).is_none(), "ids are not used twice");
        self.check();
    }

    /// Cancels one that ran into a compaction, as clients do, or else any.
    fn cancel(&mut self) {
        let open = || self.watched.iter().filter(|(_, watched)| !watched.canceled);
        let compacted = open().find(|(_, watched)| watched.compacted).map(|(key, _)| *key);
        let some = self.rng.below(self.watched.len().max(1) as u64) as usize;
        let any = open().nth(some).filter(|_| some.is_multiple_of(4)).map(|(key, _)| *key);
        let Some((stream, id)) = compacted.or(any) else { return };
        self.world.hub.cancel(stream, id, &mut self.world.received);
        self.check();
        self.watched.get_mut(&(stream, id)).expect("it is there").canceled = true;
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..40 => {
                for _ in 0..=self.rng.below(4) {
                    self.transaction();
                }
            }
            40..60 => self.tell(),
            60..75 => self.world.hub.turn(&mut self.world.received),
            75..78 => self.create(),
            78..81 => self.cancel(),
            81..82 => self.compact(),
            82..88 => {
                let stream = self.streams[self.rng.below(3) as usize];
                self.world.publish();
                self.world.hub.progress(stream, &mut self.world.received);
            }
            88..90 => {
                let now = self.world.hub.now_ms + 60;
                self.world.hub.tick(now, &mut self.world.received);
            }
            90..94 => {
                let stream = self.streams[self.rng.below(3) as usize];
                self.world.hub.full(stream);
                self.full.push(stream);
            }
            94..99 => {
                if let Some(stream) = self.full.pop() {
                    self.full.retain(|other| *other != stream);
                    self.world.hub.drained(stream);
                }
            }
            _ if self.rng.chance(40) => self.leave_and_come_back(),
            _ => {
                // A snapshot: the hub is not told of what is in it.
                self.transaction();
                self.world.waiting.clear();
                self.transaction();
                self.tell();
            }
        }
        self.check();
        self.counts.parked += usize::from(self.world.hub.stats().slow > 0);
    }

    fn tell(&mut self) {
        if self.world.waiting.is_empty() {
            return self.world.publish();
        }
        self.world.tell();
    }

    /// All streams end, nobody tells the hub of what comes then, and new streams are opened. What was on its way when
    /// the last stream ended, or when the front wanted changes again, still arrives, late.
    fn leave_and_come_back(&mut self) {
        let mut late = Vec::new();
        for stream in std::mem::take(&mut self.streams) {
            self.world.hub.close(stream);
        }
        self.watched.clear();
        self.full.clear();
        if self.rng.chance(50) {
            late.push(self.world.batch());
        }
        for _ in 0..self.rng.below(3) {
            self.transaction();
            self.world.waiting.clear();
            match self.rng.below(4) {
                0 => self.world.publish(),
                1 => self.compact(),
                _ => {}
            }
        }
        self.world.waiting.clear();
        if self.rng.chance(50) {
            self.transaction();
            late.push(self.world.batch());
        }
        self.world.publish();
        self.streams = (0..3).map(|_| self.world.hub.open()).collect();
        self.create();
        if self.rng.chance(50) {
            self.world.hub.turn(&mut self.world.received);
        }
        for batch in late {
            self.world.deliver(&batch);
        }
        self.counts.came_back += 1;
    }

    fn compact(&mut self) {
        let (low, current) = (self.world.store.compacted().max(1), self.world.store.revision());
        if current > low + 10 {
            let at = low + 1 + self.rng.below((current - low) as u64 / 2) as i64;
            self.world.compact(at);
        }
    }

    /// Holds everything that was received since the last time against the list.
    fn check(&mut self) {
        let compacted = self.world.hub.view.compacted();
        let store = self.world.store.revision();
        for (stream, responses) in std::mem::take(&mut self.world.received.streams) {
            for response in responses {
                if response.watch_id == super::super::NO_WATCHER {
                    self.check_progress(stream, None, &response);
                    continue;
                }
                let Some(watched) = self.watched.get_mut(&(stream, response.watch_id)) else {
                    assert!(response.created, "of a watcher not created: {}", line(&response));
                    continue;
                };
                let header = response.header.as_ref().expect("responses have headers").revision;
                if response.created {
                    assert_eq!(header, store);
                    continue;
                }
                assert!(!watched.compacted || response.canceled, "after its end: {}", line(&response));
                assert!(!watched.canceled, "after its end: {}", line(&response));
                if response.canceled {
                    if response.compact_revision != 0 {
                        assert_eq!((response.compact_revision, header), (compacted, 0));
                        watched.compacted = true;
                        self.counts.compacted += 1;
                    }
                    continue;
                }
                if response.events.is_empty() {
                    assert!(watched.create.progress_notify, "an empty response nobody asked for");
                    self.check_progress(stream, Some(response.watch_id), &response);
                    continue;
                }
                for event in &response.events {
                    let mut expected = watched.peek(&self.changes).expect("a change the model has too").clone();
                    if !watched.create.prev_kv || revision_of(&expected) - 1 < compacted {
                        expected.prev_kv = None;
                    }
                    assert_eq!(*event, expected, "watcher {} of {stream:?}", response.watch_id);
                    self.counts.previous += usize::from(event.prev_kv.is_some());
                    self.counts.events += 1;
                    watched.next += 1;
                }
                let last = response.events.last().map_or(0, revision_of);
                assert!(header >= last && header <= store, "{header} {last} {store}");
                let next = watched.peek(&self.changes).map(revision_of);
                assert!(next != Some(last) || response.fragment, "a revision in two responses: {}", line(&response));
                assert!(next.is_some() || !response.fragment, "the last part of nothing: {}", line(&response));
            }
        }
    }

    /// Progress at a revision means that everything up to it was sent.
    fn check_progress(&mut self, stream: StreamKey, id: Option<i64>, response: &WatchResponse) {
        let revision = response.header.as_ref().expect("responses have headers").revision;
        assert!(response.events.is_empty());
        self.counts.progress += 1;
        for ((of, watcher), watched) in &mut self.watched {
            if *of == stream && id.is_none_or(|id| id == *watcher) && !watched.canceled {
                assert!(!watched.compacted);
                let next = watched.peek(&self.changes).map_or(i64::MAX, revision_of);
                assert!(next > revision, "progress {revision} before the change at {next}");
                assert!(watched.create.start_revision <= revision);
            }
        }
    }

    fn finish(&mut self) {
        for stream in self.streams.clone() {
            self.world.hub.drained(stream);
        }
        self.tell();
        self.world.settle();
        self.check();
        for ((stream, id), watched) in &mut self.watched {
            if !watched.canceled && !watched.compacted {
                assert_eq!(watched.peek(&self.changes), None, "watcher {id} of {stream:?} misses a change");
                self.counts.finished += 1;
            }
        }
        let still = self.watched.values().filter(|watched| watched.compacted && !watched.canceled).count();
        assert_eq!(self.world.hub.stats().slow, still, "all others are live");
        for stream in self.streams.clone() {
            self.world.hub.close(stream);
        }
        assert_eq!(self.world.hub.stats().watchers, 0);
    }
}

#[test]
fn every_watcher_gets_what_the_model_gets() {
    let mut total = Counts::default();
    for seed in 0..300 {
        let mut model = Model::new(seed);
        for _ in 0..600 {
            model.step();
        }
        model.finish();
        let counts = model.counts;
        total.events += counts.events;
        total.compacted += counts.compacted;
        total.previous += counts.previous;
        total.progress += counts.progress;
        total.parked += counts.parked;
        total.came_back += counts.came_back;
        total.finished += counts.finished;
    }
    // The load reached what it is meant to reach.
    assert!(total.events > 100_000, "{} events", total.events);
    assert!(total.previous > 10_000, "{} previous pairs", total.previous);
    assert!(total.compacted > 100, "{} compacted", total.compacted);
    assert!(total.progress > 250, "{} progress responses", total.progress);
    assert!(total.parked > 1_000, "{} steps with slow watchers", total.parked);
    assert!(total.came_back > 100, "{} times without a stream", total.came_back);
    assert!(total.finished > 1_000, "{} watchers to the end", total.finished);
}
