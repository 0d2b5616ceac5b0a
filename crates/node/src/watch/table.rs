//! The streams and watchers of a hub.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::targets::{Keys, Targets};

/// Names a stream of one hub, until it is closed.
#[derive(Copy, Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamKey(pub u32);

/// Puts are not wanted (W-8).
pub(super) const NO_PUT: u8 = 1;
/// Deletes are not wanted (W-8).
pub(super) const NO_DELETE: u8 = 1 << 1;
/// Events carry the pair they replaced (W-9).
pub(super) const PREV_KV: u8 = 1 << 2;
/// What of the flags decides the bytes of an event.
pub(super) const VARIANT: u8 = NO_PUT | NO_DELETE | PREV_KV;
/// Large responses are split (W-10).
pub(super) const FRAGMENT: u8 = 1 << 3;
/// Progress is told in intervals (W-16).
pub(super) const NOTIFY: u8 = 1 << 4;
/// No event went out since the last interval began.
pub(super) const QUIET: u8 = 1 << 5;
/// Was parked and is not live again.
pub(super) const BEHIND: u8 = 1 << 6;

/// Where a watcher is.
#[derive(Copy, Clone, Debug)]
pub(super) enum Place {
    /// In a group, at this place of this target.
    Group { group: u8, target: u32, at: u32 },
    /// Its stream is full: at this place of the stream's list, until it drained.
    Parked { at: u32 },
    /// Canceled because its revision was compacted; keeps its id until the client cancels it, as in etcd.
    Compacted,
}

/// One watcher. Its cursor is `from`, or its group's if that is further.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) stream: u32,
    pub(super) id: i64,
    /// The start revision the client asked for, 0 if none.
    pub(super) start: i64,
    /// No change below this revision is wanted any more.
    pub(super) from: i64,
    pub(super) keys: Arc<Keys>,
    pub(super) flags: u8,
    pub(super) place: Place,
}

/// One stream of a client.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Slots by watch id.
    pub(super) watchers: BTreeMap<i64, u32>,
    /// Where the search for the next id of our choosing begins.
    pub(super) next_id: i64,
    /// The front has more of its output than it likes.
    pub(super) full: bool,
    /// Watchers that wait for the stream to take more.
    pub(super) parked: Vec<u32>,
    /// Whether it is in the list of streams to resume.
    pub(super) resuming: bool,
    /// Watchers that are not live.
    pub(super) unsynced: u32,
    /// Watchers that were parked and are not live again.
    pub(super) behind: u32,
    /// The turn `sent_bytes` is counted in.
    pub(super) turn: u64,
    pub(super) sent_bytes: usize,
    /// The revision a progress request waits for.
    pub(super) asked: Option<i64>,
    /// Watchers with progress notifications.
    pub(super) notified: u32,
    /// Time between notifications, milliseconds.
    pub(super) notify_every_ms: u64,
    /// When they are due; in the hub's list of times.
    pub(super) notify_at_ms: Option<u64>,
}

impl Stream {
    /// Whether it may be sent more in this turn.
    pub(super) fn takes(&self, turn: u64, bytes_max: usize) -> bool {
        !self.full && (self.turn != turn || self.sent_bytes < bytes_max)
    }

    /// Counts what was sent.
    pub(super) fn sent(&mut self, turn: u64, bytes: usize) {
        if self.turn != turn {
            (self.turn, self.sent_bytes) = (turn, 0);
        }
        self.sent_bytes += bytes;
    }
}

/// Watchers that go through the past together.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) targets: Targets,
    /// The next revision to look at.
    pub(super) next: i64,
}

/// Things by slot.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(value);
                slot
            }
            None => {
                self.slots.push(Some(value));
                u32::try_from(self.slots.len() - 1).expect("memory holds fewer than 2^32")
            }
        }
    }

    pub(super) fn remove(&mut self, slot: u32) -> T {
        self.free.push(slot);
        self.slots[slot as usize].take().expect("a slot is removed once")
    }

    pub(super) fn at(&self, slot: u32) -> &T {
        self.slots[slot as usize].as_ref().expect("slots in use are known by their number")
    }

    pub(super) fn at_mut(&mut self, slot: u32) -> &mut T {
        self.slots[slot as usize].as_mut().expect("slots in use are known by their number")
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
