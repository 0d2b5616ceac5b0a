//! The watch hub of one front thread: a value that is told of changes and tells streams of clients.
//!
//! A watcher is one cursor, the next revision it has not seen, in one of two states: *live*, its cursor is the hub's
//! head, or *catching up*, in a group that reads the ring of recent batches or, further back, the history of a picture.
//! Catching up goes in bounded slices, one per [`Hub::turn`], so that other calls of the thread are not starved. A
//! stream that takes no more is not served: its watchers are parked with their cursors when a change matches them and
//! go on, through a group, once it drained.
//!
//! Promises: every change from the start revision on that matches is sent once, in order, whole revisions at a time
//! (W-12), or the watcher is told that it was compacted (W-6); a response tells nothing about a revision of which part
//! is still unsent. Never reads a clock, touches a file itself, or drops an event.

mod encode;
mod intervals;
mod ring;
mod serve;
mod table;
mod targets;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use cetera_mvcc::{LogError, View};
use cetera_plant::{Bug, is_planted};

use self::encode::Head;
pub use self::encode::Origin;
use self::ring::Ring;
pub use self::table::StreamKey;
use self::table::{BEHIND, FRAGMENT, Group, NO_DELETE, NO_PUT, NOTIFY, PREV_KV, Place, QUIET, Slab, Stream, Watcher};
use self::targets::Keys;

/// The id in answers that are not for one watcher, and to refused creations.
pub const NO_WATCHER: i64 = -1;
/// W-1.
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
/// W-3.
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
/// W-4.
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// Shortest interval of progress notifications, milliseconds (W-16).
const NOTIFY_MS_MIN: u64 = 100;
/// Groups that catch up at the same time; more watchers than that share a scan even if they are far apart.
const GROUPS_MAX: u8 = 8;
/// The group of the live watchers.
const LIVE: u8 = 0;

/// Bounds of a hub.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Bytes of recent changes kept.
    pub ring_bytes: usize,
    /// Batches of recent changes kept.
    pub ring_batches: usize,
    /// Bytes of changes one slice of catching up reads.
    pub slice_bytes: usize,
    /// Bytes after which a response takes no further revision.
    pub response_bytes: usize,
    /// Bytes one stream is sent in one turn; one response may go over it.
    pub stream_turn_bytes: usize,
    /// A response of this size is split if the watcher asked for it (W-10): `--max-request-bytes` + 512 KiB.
    pub fragment_bytes: usize,
    /// `--watch-progress-notify-interval` in milliseconds (W-16).
    pub notify_ms: u64,
    /// Seed of the jitter of that interval.
    pub seed: u64,
}

impl Default for HubOptions {
    fn default() -> Self {
        HubOptions {
            ring_bytes: 16 << 20,
            ring_batches: 16 << 10,
            slice_bytes: 64 << 10,
            response_bytes: 64 << 10,
            stream_turn_bytes: 1 << 20,
            fragment_bytes: (1536 << 10) + (512 << 10),
            notify_ms: 10 * 60 * 1_000,
            seed: 0,
        }
    }
}

/// Where responses go.
pub trait Sink {
    /// One `WatchResponse`: `head`, and behind it `events`, whose bytes other responses share.
    fn response(&mut self, stream: StreamKey, head: &[u8], events: &Bytes);
    /// The log could not be read for this stream: it is closed, and its client must be told.
    fn broken(&mut self, stream: StreamKey, error: &LogError);
}

/// A request for a watcher.
#[derive(Clone, Debug, Default)]
pub struct Create {
    /// As sent; empty is the smallest key (W-3).
    pub key: Bytes,
    /// As sent (W-3).
    pub range_end: Bytes,
    /// As sent (W-4, W-5, W-6).
    pub start_revision: i64,
    /// As sent; 0 for one of our choosing (W-1).
    pub watch_id: i64,
    /// No puts (W-8).
    pub no_put: bool,
    /// No deletes (W-8).
    pub no_delete: bool,
    /// With the pairs replaced (W-9).
    pub prev_kv: bool,
    /// Large responses in parts (W-10).
    pub fragment: bool,
    /// With progress notifications (W-16).
    pub progress_notify: bool,
}

/// What a hub holds.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct HubStats {
    /// Open streams.
    pub streams: usize,
    /// Watchers.
    pub watchers: usize,
    /// Watchers that are not live.
    pub slow: usize,
    /// Responses with events sent so far.
    pub responses: u64,
    /// Events sent so far.
    pub events: u64,
}

/// The hub.
pub struct Hub {
    options: HubOptions,
    view: View,
    origin: Origin,
    /// Applied index of the picture.
    view_index: u64,
    /// The next revision to come: everything below is in the ring or in history.
    head: i64,
    /// Applied index of the last picture that this hub began anew from: batches before it are old, whatever they say.
    begun_at: u64,
    ring: Ring,
    /// The live group, then those that catch up; empty ones are free.
    groups: Vec<Group>,
    /// The group whose slice was last.
    last_group: usize,
    streams: Slab<Stream>,
    watchers: Slab<Watcher>,
    /// Streams with parked watchers that may be sent more.
    resumable: Vec<u32>,
    /// Streams whose progress request waits for changes under way.
    asking: Vec<u32>,
    /// When streams are due for progress notifications.
    notify: BTreeSet<(u64, u32)>,
    now_ms: u64,
    turn: u64,
    drawn: u64,
    slow: usize,
    responses: u64,
    events: u64,
    scratch: Head,
}

impl Hub {
    /// A hub that is told of every change above the revision of `view`.
    pub fn new(options: HubOptions, view: View, origin: Origin) -> Hub {
        let head = view.revision() + 1;
        let groups = (0..=GROUPS_MAX).map(|_| Group { next: head, ..Group::default() }).collect();
        Hub {
            ring: Ring::new(options.ring_bytes, options.ring_batches),
            drawn: options.seed,
            options,
            view,
            origin,
            view_index: 0,
            head,
            begun_at: 0,
            groups,
            last_group: 0,
            streams: Slab::default(),
            watchers: Slab::default(),
            resumable: Vec::new(),
            asking: Vec::new(),
            notify: BTreeSet::new(),
            now_ms: 0,
            turn: 0,
            slow: 0,
            responses: 0,
            events: 0,
            scratch: Head::default(),
        }
    }

    /// Begins a turn, whose output reaches the front as one: the picture published last, and who we are in it.
    ///
    /// A hub without streams begins anew from each picture: it need not be told of changes. It must be told of those
    /// that are not in the picture of the turn in which a stream is opened.
    pub fn begin_turn(&mut self, view: &View, applied_index: u64, origin: Origin) {
        self.turn += 1;
        self.origin = origin;
        self.view = view.clone();
        self.view_index = applied_index;
        if !self.wants_changes() {
            self.head = view.revision() + 1;
            self.begun_at = applied_index;
            self.groups[usize::from(LIVE)].next = self.head;
            // Changes in between may be missing, or the state another one, even if the revisions meet.
            self.ring.clear();
        }
    }

    /// Whether there is anybody whom changes concern: a stream, even without watchers.
    pub fn wants_changes(&self) -> bool {
        self.streams.len() > 0
    }

    /// A new stream.
    pub fn open(&mut self) -> StreamKey {
        // Up to a tenth more, so that clients that came together are not notified together.
        let base = self.options.notify_ms.max(NOTIFY_MS_MIN);
        self.drawn = self.drawn.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let notify_every_ms = base + (self.drawn >> 33) % (base / 10);
        StreamKey(self.streams.insert(Stream { notify_every_ms, ..Stream::default() }))
    }

    /// Ends a stream and its watchers; nothing more is sent.
    pub fn close(&mut self, stream: StreamKey) {
        let ids: Vec<u32> = self.streams.at(stream.0).watchers.values().copied().collect();
        for watcher in ids {
            self.leave(watcher);
            self.watchers.remove(watcher);
        }
        let closed = self.streams.remove(stream.0);
        if let Some(at) = closed.notify_at_ms {
            self.notify.remove(&(at, stream.0));
        }
        if closed.resuming {
            self.resumable.retain(|other| *other != stream.0);
        }
        if closed.asked.is_some() {
            self.asking.retain(|other| *other != stream.0);
        }
    }

    /// Creates a watcher and says so, or says why not (W-1 to W-6).
    pub fn create(&mut self, stream: StreamKey, create: Create, sink: &mut impl Sink) {
        if create.start_revision < 0 {
            return self.refuse(stream, COMPACTED, sink);
        }
        let Some(keys) = watched(&create.key, &create.range_end) else {
            return self.refuse(stream, EMPTY_RANGE, sink);
        };
        let owner = self.streams.at_mut(stream.0);
        let id = match create.watch_id {
            0 => {
                while owner.watchers.contains_key(&owner.next_id) {
                    owner.next_id += 1;
                }
                owner.next_id += 1;
                owner.next_id - 1
            }
            id if owner.watchers.contains_key(&id) => return self.refuse(stream, DUPLICATE_ID, sink),
            id => id,
        };
        let flags = [
            (create.no_put, NO_PUT),
            (create.no_delete, NO_DELETE),
            (create.prev_kv, PREV_KV),
            (create.fragment, FRAGMENT),
            (create.progress_notify, NOTIFY | QUIET),
        ];
        let flags = flags.iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag);
        let start = create.start_revision;
        let from = if start == 0 { self.view.revision() + 1 } else { start };
        let from = match from {
            from if is_planted(Bug::FutureWatchOldEvents) => from.min(self.view.revision() + 1),
            from if is_planted(Bug::CompactedWatchBegins) => from.max(self.view.compacted()),
            from if is_planted(Bug::WatchDuplicate)
                && (self.view.compacted().max(1) + 1..=self.view.revision()).contains(&from) =>
            {
                from - 1
            }
            from => from,
        };
        let place = Place::Compacted;
        let watcher =
            self.watchers.insert(Watcher { stream: stream.0, id, start, from, keys: Arc::new(keys), flags, place });
        owner.watchers.insert(id, watcher);
        if create.progress_notify {
            owner.notified += 1;
            if owner.notify_at_ms.is_none() {
                let at = self.now_ms + owner.notify_every_ms;
                owner.notify_at_ms = Some(at);
                self.notify.insert((at, stream.0));
            }
        }
        let created = Head::new(&self.origin, self.view.revision()).id(id).created();
        self.control(stream.0, &created, sink);
        if from < self.view.compacted() {
            self.tell_compacted(watcher, sink);
        } else {
            self.place(watcher);
        }
    }

    /// Answers a creation that is not granted (W-7).
    pub fn refuse(&mut self, stream: StreamKey, reason: &str, sink: &mut impl Sink) {
        let head = Head::new(&self.origin, self.view.revision()).id(NO_WATCHER).created().canceled().reason(reason);
        self.control(stream.0, &head, sink);
    }

    /// Cancels a watcher and says so; an unknown one is not answered (W-14).
    pub fn cancel(&mut self, stream: StreamKey, watch_id: i64, sink: &mut impl Sink) {
        let owner = self.streams.at_mut(stream.0);
        let Some(watcher) = owner.watchers.remove(&watch_id) else { return };
        self.leave(watcher);
        let gone = self.watchers.remove(watcher);
        let owner = self.streams.at_mut(stream.0);
        owner.notified -= u32::from(gone.flags & NOTIFY != 0);
        owner.behind -= u32::from(gone.flags & BEHIND != 0);
        let head = Head::new(&self.origin, self.view.revision()).id(watch_id).canceled();
        self.control(stream.0, &head, sink);
    }

    /// Tells how far all watchers of the stream are, if they are all live (W-15).
    pub fn progress(&mut self, stream: StreamKey, sink: &mut impl Sink) {
        let revision = self.view.revision();
        if is_planted(Bug::ProgressBeforeEvents) {
            let head = Head::new(&self.origin, revision).id(NO_WATCHER);
            return self.control(stream.0, &head, sink);
        }
        if !self.is_synced(stream.0, revision) {
            return;
        }
        let owner = self.streams.at_mut(stream.0);
        if revision < self.head {
            self.tell_progress(stream.0, sink);
        } else if owner.asked.replace(revision).is_none() {
            // The changes up to the present revision are on their way to this hub and go first.
            self.asking.push(stream.0);
        }
    }

    /// The stream has as much output waiting as it may: nothing is produced for it until [`Hub::drained`].
    pub fn full(&mut self, stream: StreamKey) {
        self.streams.at_mut(stream.0).full = true;
    }

    /// The stream takes output again.
    pub fn drained(&mut self, stream: StreamKey) {
        self.streams.at_mut(stream.0).full = false;
        self.resume_later(stream.0);
    }

    /// Lets time pass: sends the progress notifications that are due (W-16).
    pub fn tick(&mut self, now_ms: u64, sink: &mut impl Sink) {
        self.now_ms = now_ms;
        while let Some(&(at, stream)) = self.notify.first().filter(|(at, _)| *at <= now_ms) {
            self.notify.remove(&(at, stream));
            let owner = self.streams.at_mut(stream);
            owner.notify_at_ms = None;
            if owner.notified > 0 {
                let at = now_ms + owner.notify_every_ms;
                owner.notify_at_ms = Some(at);
                self.notify.insert((at, stream));
                self.notify_stream(stream, sink);
            }
        }
    }

    fn notify_stream(&mut self, stream: u32, sink: &mut impl Sink) {
        let revision = self.head - 1;
        let owner = self.streams.at_mut(stream);
        for (id, watcher) in &owner.watchers {
            let watcher = self.watchers.at_mut(*watcher);
            if watcher.flags & NOTIFY == 0 {
                continue;
            }
            let quiet = watcher.flags & QUIET != 0;
            watcher.flags |= QUIET;
            let live = matches!(watcher.place, Place::Group { group: LIVE, .. });
            if quiet && live && watcher.start <= revision && !owner.full {
                let head = Head::new(&self.origin, revision).id(*id);
                sink.response(StreamKey(stream), head.bytes(), &Bytes::new());
            }
        }
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> HubStats {
        HubStats {
            streams: self.streams.len(),
            watchers: self.watchers.len(),
            slow: self.slow,
            responses: self.responses,
            events: self.events,
        }
    }

    /// The next revision this hub is to be told of.
    pub fn head(&self) -> i64 {
        self.head
    }

    /// Whether a stream has watchers, all of them live and begun at `revision`.
    fn is_synced(&self, stream: u32, revision: i64) -> bool {
        let owner = self.streams.at(stream);
        let begun = |watcher: &u32| self.watchers.at(*watcher).start <= revision;
        !owner.watchers.is_empty() && owner.unsynced == 0 && owner.watchers.values().all(begun)
    }

    fn tell_progress(&mut self, stream: u32, sink: &mut impl Sink) {
        let head = Head::new(&self.origin, self.head - 1).id(NO_WATCHER);
        self.control(stream, &head, sink);
    }

    fn tell_compacted(&mut self, watcher: u32, sink: &mut impl Sink) {
        let gone = self.watchers.at_mut(watcher);
        gone.place = Place::Compacted;
        let (id, stream) = (gone.id, gone.stream);
        let behind = gone.flags & BEHIND != 0;
        gone.flags &= !BEHIND;
        let owner = self.streams.at_mut(stream);
        owner.behind -= u32::from(behind);
        owner.unsynced += 1;
        self.slow += 1;
        let head = Head::new(&self.origin, 0).id(id).canceled().compact_revision(self.view.compacted());
        self.control(stream, &head, sink);
    }

    /// Sends an answer without events.
    fn control(&mut self, stream: u32, head: &Head, sink: &mut impl Sink) {
        self.streams.at_mut(stream).sent(self.turn, head.bytes().len());
        sink.response(StreamKey(stream), head.bytes(), &Bytes::new());
    }
}

/// What a request watches; `None` if that is nothing (W-3). Copies, so that the request's buffer can go.
fn watched(key: &[u8], end: &[u8]) -> Option<Keys> {
    let key = if key.is_empty() { b"\0" } else { key };
    let start = Bytes::copy_from_slice(key);
    match end {
        [] => Some(Keys::One(start)),
        [0] => Some(Keys::Span(start, None)),
        _ if key >= end => None,
        _ => Some(Keys::Span(start, Some(Bytes::copy_from_slice(end)))),
    }
}
