//! What a group of watchers watches: each distinct key or range once, with all who watch it.
//!
//! Changes are matched against targets, not watchers, so a thousand watchers of one key cost one look-up.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::intervals::{End, Intervals};

/// The keys a watcher wants to hear of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Keys {
    /// One key.
    One(Bytes),
    /// From a key to an end.
    Span(Bytes, End),
}

/// One key or range and its watchers.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) keys: Arc<Keys>,
    /// Slots of the watchers, in no order that matters.
    pub(super) watchers: Vec<u32>,
    /// Positions of the changes that matched, ascending.
    pub(super) hits: Vec<u32>,
}

/// The targets of one group.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Only ever looked up, never walked: its order must not show.
    exact: HashMap<Bytes, u32>,
    ranges: Intervals,
    slots: Vec<Target>,
    free: Vec<u32>,
    /// Targets with hits, in the order of their first.
    touched: Vec<u32>,
    watchers: usize,
}

impl Targets {
    /// Number of watchers.
    pub(super) fn len(&self) -> usize {
        self.watchers
    }

    /// Adds a watcher. Returns its target, its place there and the target's own copy of the keys.
    pub(super) fn add(&mut self, keys: &Arc<Keys>, watcher: u32) -> (u32, u32, Arc<Keys>) {
        let found = match &**keys {
            Keys::One(key) => self.exact.get(key).copied(),
            Keys::Span(start, end) => self.ranges.get(start, end),
        };
        let slot = found.unwrap_or_else(|| self.enter(keys));
        let target = &mut self.slots[slot as usize];
        target.watchers.push(watcher);
        self.watchers += 1;
        (slot, (target.watchers.len() - 1) as u32, Arc::clone(&target.keys))
    }

    fn enter(&mut self, keys: &Arc<Keys>) -> u32 {
        let target = Target { keys: Arc::clone(keys), watchers: Vec::new(), hits: Vec::new() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = target;
                slot
            }
            None => {
                self.slots.push(target);
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 targets are watched")
            }
        };
        match &**keys {
            Keys::One(key) => drop(self.exact.insert(key.clone(), slot)),
            Keys::Span(start, end) => self.ranges.insert(start.clone(), end.clone(), slot),
        }
        slot
    }

    /// Removes the watcher at `place` of a target. Returns the watcher that has that place now, if any.
    pub(super) fn remove(&mut self, slot: u32, place: u32) -> Option<u32> {
        let target = &mut self.slots[slot as usize];
        target.watchers.swap_remove(place as usize);
        self.watchers -= 1;
        let moved = target.watchers.get(place as usize).copied();
        if target.watchers.is_empty() {
            let keys = Arc::clone(&target.keys);
            match &*keys {
                Keys::One(key) => drop(self.exact.remove(key)),
                Keys::Span(start, end) => self.ranges.remove(start, end),
            }
            self.free.push(slot);
        }
        moved
    }

    /// Whether anyone watches this key.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        self.exact.contains_key(key) || self.ranges.covers(key)
    }

    /// Notes that the change at `position` is one of `key`.
    pub(super) fn hit(&mut self, key: &[u8], position: u32) {
        let Targets { exact, ranges, slots, touched, .. } = self;
        let mut note = |slot: u32| {
            let hits = &mut slots[slot as usize].hits;
            if hits.is_empty() {
                touched.push(slot);
            }
            hits.push(position);
        };
        if let Some(slot) = exact.get(key) {
            note(*slot);
        }
        ranges.around(key, &mut note);
    }

    /// Takes the targets that were hit.
    pub(super) fn take_touched(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.touched)
    }

    /// Gives the list back, to be used again.
    pub(super) fn recycle(&mut self, mut touched: Vec<u32>) {
        touched.clear();
        self.touched = touched;
    }

    /// A target by its slot.
    pub(super) fn target(&mut self, slot: u32) -> &mut Target {
        &mut self.slots[slot as usize]
    }

    /// The slots of all watchers, in an order that depends on nothing but the calls made before.
    pub(super) fn all(&self) -> Vec<u32> {
        self.slots.iter().flat_map(|target| target.watchers.iter().copied()).collect()
    }
}
