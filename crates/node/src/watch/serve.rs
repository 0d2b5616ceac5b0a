//! How changes reach watchers: from the node to the live ones, and from the ring or history to those that catch up.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cetera_mvcc::{EventRec, LogError, MvccError, View};
use cetera_plant::{Bug, is_planted};

use super::encode::{Head, Origin, fragments, put_event};
use super::table::{BEHIND, FRAGMENT, NO_DELETE, NO_PUT, PREV_KV, Place, QUIET, StreamKey, VARIANT};
use super::targets::Target;
use super::{GROUPS_MAX, Hub, LIVE, Sink};
use crate::event::EventBatch;

/// A watcher joins a group that is at most this many revisions behind its cursor.
const NEAR_REVISIONS: i64 = 1_000;

/// The revision that headers tell.
#[derive(Copy, Clone)]
enum HeaderRevision {
    /// That of the last event in the response: it is the store's as the watcher sees it.
    LastEvent,
    /// The store's, which may be ahead of the events (W-11).
    Store(i64),
}

/// The events of one target as all watchers with the same wishes get them.
struct Body {
    variant: u8,
    /// Index of the first hit in it.
    start: usize,
    chunks: Vec<Chunk>,
}

/// One response, but for its watch id.
struct Chunk {
    /// The first revision in it.
    first: i64,
    count: u64,
    head: Head,
    events: Bytes,
}

/// One look at changes for one group.
#[derive(Copy, Clone)]
struct Pass<'a> {
    group: u8,
    events: &'a [&'a EventRec],
    revision: HeaderRevision,
}

/// Makes bodies.
struct Encoder<'a> {
    pass: Pass<'a>,
    view: &'a View,
    origin: &'a Origin,
    response_bytes: usize,
}

impl Encoder<'_> {
    fn body(&self, hits: &[u32], variant: u8) -> Result<Vec<Chunk>, LogError> {
        let mut chunks = Vec::new();
        let mut out = BytesMut::new();
        let (mut first, mut last, mut count) = (0, 0, 0);
        for hit in hits {
            let event = self.pass.events[*hit as usize];
            if variant & (if event.tombstone { NO_DELETE } else { NO_PUT }) != 0 {
                continue;
            }
            let main = event.revision.main;
            let split = if is_planted(Bug::TxnSplitForWatcher) {
                main == last
            } else {
                main != last && out.len() >= self.response_bytes
            };
            if count > 0 && split {
                chunks.push(self.chunk(&mut out, first, last, count));
                count = 0;
            }
            if count == 0 {
                first = main;
            }
            put_event(&mut out, event, Some(self.view).filter(|_| variant & PREV_KV != 0))?;
            last = main;
            count += 1;
        }
        if count > 0 {
            chunks.push(self.chunk(&mut out, first, last, count));
        }
        Ok(chunks)
    }

    fn chunk(&self, out: &mut BytesMut, first: i64, last: i64, count: u64) -> Chunk {
        let revision = match self.pass.revision {
            HeaderRevision::LastEvent => last,
            HeaderRevision::Store(revision) => revision,
        };
        Chunk { first, count, head: Head::new(self.origin, revision), events: out.split().freeze() }
    }
}

/// What serving a group leaves to do once its targets are back in place.
#[derive(Default)]
struct Left {
    /// Watchers whose stream takes no more, and where they are.
    parked: Vec<(u32, i64)>,
    broken: Vec<u32>,
    error: Option<LogError>,
}

impl Hub {
    /// The changes of one apply batch. The picture given to [`Hub::begin_turn`] must contain them already.
    ///
    /// Changes this hub began with are skipped. If some are missing (this member was given a snapshot), every
    /// watcher catches up from where it is (W-21).
    pub fn deliver(&mut self, batch: &Arc<EventBatch>, sink: &mut impl Sink) {
        // Under way since before the picture this hub began from. The state may have been replaced since, then its
        // revisions mean nothing. At the same index, a batch without changes is the later one: it tells of a replacement.
        let is_old = match batch.events.is_empty() {
            true => batch.applied_index < self.begun_at,
            false => batch.applied_index <= self.begun_at,
        };
        if is_old {
            return;
        }
        if batch.events.is_empty() && batch.revision + 1 < self.head {
            // A state that was wrong, and further, was replaced: this is where changes go on.
            self.ring.clear();
            self.head = batch.revision + 1;
            self.groups[usize::from(LIVE)].next = self.head;
        }
        if batch.revision < self.head {
            return;
        }
        if self.view.revision() < batch.revision {
            // Of a state that was further and was replaced while this waited: a later batch tells of that.
            assert!(self.view_index >= batch.applied_index, "the picture of a change is published before the change");
            return;
        }
        let old = batch.events.partition_point(|event| event.revision.main < self.head);
        let events: Vec<&EventRec> = batch.events[old..].iter().collect();
        let gap = events.first().is_none_or(|first| first.revision.main != self.head);
        let resume_at = self.head;
        self.head = batch.revision + 1;
        self.groups[usize::from(LIVE)].next = self.head;
        if gap {
            self.ring.clear();
            if !is_planted(Bug::WatchGapAfterSnapshot) {
                self.catch_up_from(resume_at);
            }
        }
        if !events.is_empty() {
            self.ring.push(Arc::clone(batch));
        }
        self.serve(Pass { group: LIVE, events: &events, revision: HeaderRevision::LastEvent }, sink);
        self.answer_progress(sink);
    }

    /// Whether a turn would do something: ask until not, giving other work its turns in between.
    pub fn pending(&self) -> bool {
        !self.resumable.is_empty() || self.groups[1..].iter().any(|group| group.targets.len() > 0)
    }

    /// One bounded slice of catching up.
    pub fn turn(&mut self, sink: &mut impl Sink) {
        for stream in std::mem::take(&mut self.resumable) {
            let owner = self.streams.at_mut(stream);
            owner.resuming = false;
            if !owner.full {
                for watcher in std::mem::take(&mut owner.parked) {
                    self.count_synced(watcher);
                    self.place(watcher);
                }
            }
        }
        for step in 1..=GROUPS_MAX {
            let group = (self.last_group + usize::from(step) - 1) % usize::from(GROUPS_MAX) + 1;
            if self.groups[group].targets.len() > 0 {
                self.last_group = group;
                return self.slice(group as u8, sink);
            }
        }
    }

    /// Reads on for a group and makes it live when it arrives at the head.
    fn slice(&mut self, group: u8, sink: &mut impl Sink) {
        let at = self.groups[usize::from(group)].next;
        let next = if at >= self.head {
            at
        } else if self.ring.reaches(at) {
            self.ring_slice(group, at, sink)
        } else {
            self.history_slice(group, at, sink)
        };
        let own = &mut self.groups[usize::from(group)];
        own.next = next;
        if next >= self.head {
            for watcher in own.targets.all() {
                self.leave(watcher);
                if is_planted(Bug::WatchGapAtHandOver) {
                    self.watchers.at_mut(watcher).from = self.head + 1;
                }
                self.enter(watcher, LIVE);
            }
        }
    }

    fn ring_slice(&mut self, group: u8, at: i64, sink: &mut impl Sink) -> i64 {
        let batches = self.ring.from(at, self.options.slice_bytes);
        let mut events: Vec<&EventRec> = Vec::new();
        let mut next = batches.last().map_or(self.head, |last| last.revision + 1);
        let mut bytes = 0;
        'read: for batch in &batches {
            let start = batch.events.partition_point(|event| event.revision.main < at);
            for event in &batch.events[start..] {
                let main = event.revision.main;
                if bytes >= self.options.slice_bytes && events.last().is_some_and(|last| last.revision.main != main) {
                    next = main;
                    break 'read;
                }
                bytes += event.event.len();
                events.push(event);
            }
        }
        self.serve(Pass { group, events: &events, revision: HeaderRevision::Store(self.head - 1) }, sink);
        next
    }

    fn history_slice(&mut self, group: u8, at: i64, sink: &mut impl Sink) -> i64 {
        let compacted = self.view.compacted();
        if at < compacted {
            self.cancel_compacted(group, sink);
            return compacted.min(self.head);
        }
        let targets = &self.groups[usize::from(group)].targets;
        match self.view.history(at, self.options.slice_bytes, &mut |key| targets.covers(key)) {
            Ok((events, next)) => {
                // A picture may know changes that this hub has still to be told of; those come by themselves.
                let known = events.partition_point(|event| event.revision.main < self.head);
                let events: Vec<&EventRec> = events[..known].iter().collect();
                self.serve(Pass { group, events: &events, revision: HeaderRevision::Store(self.head - 1) }, sink);
                next.min(self.head)
            }
            Err(MvccError::Log(error)) => {
                let mut streams: Vec<u32> = targets.all().iter().map(|slot| self.watchers.at(*slot).stream).collect();
                streams.sort_unstable();
                streams.dedup();
                self.break_streams(streams, &error, sink);
                at
            }
            Err(MvccError::Compacted | MvccError::FutureRevision) => {
                unreachable!("revision {at} is neither below the watermark nor above the head")
            }
        }
    }

    /// Tells those of a group that want what is compacted (W-6). The others go on at the watermark.
    fn cancel_compacted(&mut self, group: u8, sink: &mut impl Sink) {
        let at = self.groups[usize::from(group)].next;
        for watcher in self.groups[usize::from(group)].targets.all() {
            if self.watchers.at(watcher).from.max(at) < self.view.compacted() {
                self.leave(watcher);
                self.tell_compacted(watcher, sink);
            }
        }
    }

    /// Tells the watchers of a group of changes, each of those that match it and that it has not seen.
    fn serve(&mut self, pass: Pass<'_>, sink: &mut impl Sink) {
        let group = usize::from(pass.group);
        let mut targets = std::mem::take(&mut self.groups[group].targets);
        for (position, event) in pass.events.iter().enumerate() {
            targets.hit(&event.key, position as u32);
        }
        let mut left = Left::default();
        let touched = targets.take_touched();
        for target in &touched {
            self.serve_target(pass, targets.target(*target), &mut left, sink);
        }
        targets.recycle(touched);
        self.groups[group].targets = targets;
        for (watcher, from) in left.parked {
            self.park(watcher, from);
        }
        if let Some(error) = left.error {
            left.broken.sort_unstable();
            left.broken.dedup();
            self.break_streams(left.broken, &error, sink);
        }
    }

    fn serve_target(&mut self, pass: Pass<'_>, target: &mut Target, left: &mut Left, sink: &mut impl Sink) {
        let hits = &target.hits;
        let main = |hit: u32| pass.events[hit as usize].revision.main;
        let encoder =
            Encoder { pass, view: &self.view, origin: &self.origin, response_bytes: self.options.response_bytes };
        let (turn, turn_bytes) = (self.turn, self.options.stream_turn_bytes);
        let mut bodies: Vec<Body> = Vec::new();
        for slot in &target.watchers {
            let watcher = self.watchers.at_mut(*slot);
            let start = match main(hits[0]) < watcher.from {
                true => hits.partition_point(|hit| main(*hit) < watcher.from),
                false => 0,
            };
            let Some(first) = hits.get(start) else { continue };
            let stream = self.streams.at_mut(watcher.stream);
            // While some of a stream's watchers are behind, all go their way: who is served first would else be
            // served always.
            if !stream.takes(turn, turn_bytes) || (pass.group == LIVE && stream.behind > 0) {
                left.parked.push((*slot, main(*first)));
                continue;
            }
            let variant = watcher.flags & VARIANT;
            let known = bodies.iter().position(|body| body.variant == variant && body.start == start);
            let body = match known {
                Some(known) => &bodies[known],
                None => match encoder.body(&hits[start..], variant) {
                    Ok(chunks) => {
                        bodies.push(Body { variant, start, chunks });
                        &bodies[bodies.len() - 1]
                    }
                    Err(error) => {
                        left.broken.push(watcher.stream);
                        left.error = Some(error);
                        continue;
                    }
                },
            };
            for chunk in &body.chunks {
                if !stream.takes(turn, turn_bytes) {
                    left.parked.push((*slot, chunk.first));
                    break;
                }
                watcher.flags &= !QUIET;
                let key = StreamKey(watcher.stream);
                self.scratch.copy_with_id(&chunk.head, watcher.id);
                stream.sent(turn, self.scratch.bytes().len() + chunk.events.len());
                if watcher.flags & FRAGMENT == 0 {
                    sink.response(key, self.scratch.bytes(), &chunk.events);
                } else {
                    fragments(&mut self.scratch, &chunk.events, self.options.fragment_bytes, |head, events| {
                        sink.response(key, head.bytes(), &events);
                    });
                }
                self.responses += 1;
                self.events += chunk.count;
            }
        }
        target.hits.clear();
    }

    /// Answers the progress requests that waited for changes under way (W-15).
    fn answer_progress(&mut self, sink: &mut impl Sink) {
        if self.asking.is_empty() {
            return;
        }
        for stream in std::mem::take(&mut self.asking) {
            let owner = self.streams.at_mut(stream);
            let revision = owner.asked.expect("a stream in the list has asked");
            if revision >= self.head {
                self.asking.push(stream);
                continue;
            }
            owner.asked = None;
            if self.is_synced(stream, self.head - 1) {
                self.tell_progress(stream, sink);
            }
        }
    }

    fn break_streams(&mut self, streams: Vec<u32>, error: &LogError, sink: &mut impl Sink) {
        for stream in streams {
            self.close(StreamKey(stream));
            sink.broken(StreamKey(stream), error);
        }
    }

    /// All live watchers go back to catching up, at `revision` or where they want to begin.
    fn catch_up_from(&mut self, revision: i64) {
        for watcher in self.groups[usize::from(LIVE)].targets.all() {
            self.leave(watcher);
            let moved = self.watchers.at_mut(watcher);
            moved.from = moved.from.max(revision);
            self.place(watcher);
        }
    }

    /// Puts a watcher that is nowhere where its cursor belongs.
    pub(super) fn place(&mut self, watcher: u32) {
        let from = self.watchers.at(watcher).from;
        let group = if from >= self.head { LIVE } else { self.group_for(from) };
        self.enter(watcher, group);
    }

    /// The group that passes `from` soonest, or a new one there.
    fn group_for(&mut self, from: i64) -> u8 {
        let groups = || (1..=GROUPS_MAX).map(|number| (number, &self.groups[usize::from(number)]));
        let used = || groups().filter(|(_, group)| group.targets.len() > 0);
        let below = used().filter(|(_, group)| group.next <= from).max_by_key(|(_, group)| group.next);
        let near = below.filter(|(_, group)| from - group.next <= NEAR_REVISIONS).map(|(number, _)| number);
        if let Some(near) = near {
            return near;
        }
        if let Some((free, _)) = groups().find(|(_, group)| group.targets.len() == 0) {
            self.groups[usize::from(free)].next = from;
            return free;
        }
        if let Some((below, _)) = below {
            return below;
        }
        // All are further: the nearest goes back, and those in it remember where they were.
        let (nearest, group) = used().min_by_key(|(_, group)| group.next).expect("no group is free, so some are used");
        let at = group.next;
        for watcher in group.targets.all() {
            let member = self.watchers.at_mut(watcher);
            member.from = member.from.max(at);
        }
        self.groups[usize::from(nearest)].next = from;
        nearest
    }

    /// Enters a watcher that is nowhere into a group.
    fn enter(&mut self, watcher: u32, group: u8) {
        let entering = self.watchers.at_mut(watcher);
        let (target, at, keys) = self.groups[usize::from(group)].targets.add(&entering.keys, watcher);
        entering.keys = keys;
        entering.place = Place::Group { group, target, at };
        let owner = self.streams.at_mut(entering.stream);
        if group != LIVE {
            owner.unsynced += 1;
            self.slow += 1;
        } else if entering.flags & BEHIND != 0 {
            entering.flags &= !BEHIND;
            owner.behind -= 1;
        }
    }

    /// Takes a watcher from where it is.
    pub(super) fn leave(&mut self, watcher: u32) {
        let leaving = self.watchers.at(watcher);
        let stream = leaving.stream;
        match leaving.place {
            Place::Group { group, target, at } => {
                if let Some(moved) = self.groups[usize::from(group)].targets.remove(target, at) {
                    self.watchers.at_mut(moved).place = Place::Group { group, target, at };
                }
                if group != LIVE {
                    self.count_synced(watcher);
                }
            }
            Place::Parked { at } => {
                let owner = self.streams.at_mut(stream);
                owner.parked.swap_remove(at as usize);
                if let Some(moved) = owner.parked.get(at as usize).copied() {
                    self.watchers.at_mut(moved).place = Place::Parked { at };
                }
                self.count_synced(watcher);
            }
            Place::Compacted => self.count_synced(watcher),
        }
    }

    fn count_synced(&mut self, watcher: u32) {
        let stream = self.watchers.at(watcher).stream;
        self.streams.at_mut(stream).unsynced -= 1;
        self.slow -= 1;
    }

    /// Sets a watcher aside at the revision its stream has no room for.
    fn park(&mut self, watcher: u32, from: i64) {
        self.leave(watcher);
        let parked = self.watchers.at_mut(watcher);
        parked.from = from;
        let stream = parked.stream;
        let owner = self.streams.at_mut(stream);
        parked.place = Place::Parked { at: owner.parked.len() as u32 };
        owner.parked.push(watcher);
        owner.unsynced += 1;
        self.slow += 1;
        if parked.flags & BEHIND == 0 {
            parked.flags |= BEHIND;
            owner.behind += 1;
        }
        self.resume_later(stream);
    }

    /// Notes that a stream may have watchers to go on with.
    pub(super) fn resume_later(&mut self, stream: u32) {
        let owner = self.streams.at_mut(stream);
        if !owner.resuming && !owner.full && !owner.parked.is_empty() {
            owner.resuming = true;
            self.resumable.push(stream);
        }
    }
}
