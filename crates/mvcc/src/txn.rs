//! Write transactions. Each operation takes effect at once in the index and in the pending part of the log, so that
//! later operations of the same transaction see it; nobody else can, before the next [`Store::view`].
//!
//! There is no rollback: what could refuse a transaction (compacted revisions, missing leases, full quota) is checked
//! before its first write (contract TX-7), and the writes themselves cannot fail.

use bytes::{Bytes, BytesMut};
use cetera_storage::{
    revision::Revision,
    revlog::{Location, LogError, RevLog},
};

use crate::{
    encode::KeyValueRef,
    error::MvccError,
    event::{EventRec, encode_delete, encode_put, key_range},
    hash::record_hash,
    past::KeyRevision,
    query::{Bounds, RangeQuery},
    range::{RangeTotals, Reading},
    store::Store,
    tree::KeyEntry,
};

/// A transaction under way.
///
/// # Panics
/// If dropped without [`WriteTxn::commit`] once it wrote something.
pub struct WriteTxn<'a> {
    store: &'a mut Store,
    /// Revision the transaction began at; it writes at the next one.
    begin: i64,
    /// Operations written so far.
    written: i64,
}

impl<'a> WriteTxn<'a> {
    pub(crate) fn new(store: &'a mut Store) -> Self {
        let begin = store.current;
        Self { store, begin, written: 0 }
    }

    /// The revision its reads see: the one it began at, or its own once it changed anything (TX-8).
    pub fn revision(&self) -> i64 {
        self.begin + i64::from(self.written > 0)
    }

    /// Operations written so far.
    pub fn written(&self) -> i64 {
        self.written
    }

    fn reading(&self) -> Reading<'_, RevLog> {
        Reading {
            index: &self.store.index,
            source: &self.store.log,
            current: self.revision(),
            compacted: self.store.compaction.watermark,
        }
    }

    /// The present state of `key`, its own writes included.
    pub fn get(&self, key: &[u8]) -> Option<KeyRevision> {
        self.reading().get(key, self.revision())
    }

    /// The payload at a location this transaction came by.
    pub fn read(&self, location: Location) -> Result<Bytes, LogError> {
        self.store.log.read(location, |record| Bytes::copy_from_slice(record.payload))
    }

    /// Lends the payload at a location this transaction came by, as a KeyValue.
    pub fn look<R>(&self, location: Location, f: impl FnOnce(KeyValueRef<'_>) -> R) -> Result<R, LogError> {
        self.store.log.read(location, |record| f(KeyValueRef::of_payload(record.payload)))
    }

    /// Whether a range at `revision` would be refused: the check before the first write (TX-7).
    pub fn check_revision(&self, revision: i64) -> Result<(), MvccError> {
        self.reading().resolve(revision).map(drop)
    }

    /// Like [`View::range`](crate::View::range); sees its own writes.
    pub fn range(&self, query: &RangeQuery<'_>, out: &mut BytesMut) -> Result<RangeTotals, MvccError> {
        self.reading().range(query, out)
    }

    /// The live keys from `key` to `end` (etcd's convention), in order.
    pub fn live<'b>(&'b self, key: &'b [u8], end: &'b [u8]) -> impl Iterator<Item = (&'b [u8], KeyRevision)> {
        self.reading().live(Bounds::new(key, end), self.revision())
    }

    /// Writes one pair (KV-13) and returns where the pair it replaces lies.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Option<Location> {
        let revision = self.next();
        let begin = self.begin;
        let Store { log, index, arena, events, sum, .. } = &mut *self.store;
        let mut replaced = None;
        index.upsert(key, |old| {
            let live = old.as_ref().map(KeyEntry::newest).filter(|newest| !newest.is_tombstone());
            replaced = live.map(|live| live.location);
            let kv = KeyValueRef {
                key,
                create_revision: live.map_or(revision.main, |live| live.created),
                mod_revision: revision.main,
                version: live.map_or(1, |live| live.version + 1),
                value,
                lease,
            };
            let start = encode_put(arena, &kv);
            let payload = &arena[start..];
            let location = log.append(revision, false, &[payload]);
            *sum = sum.wrapping_add(record_hash(revision, false, payload));
            let previous = old.as_ref().and_then(|old| old.at(begin)).map(|previous| previous.location);
            events.push(cut_event(arena, start, key.len(), revision, false, previous));
            match old {
                Some(old) => old.put(revision, location),
                None => KeyEntry::first_put(revision, location),
            }
        });
        self.written += 1;
        replaced
    }

    /// Deletes the live keys from `key` to `end` (etcd's convention) in key order, each at a sub revision of its own,
    /// and tells `deleted` each key with the location of its last pair (KV-17). Returns how many there were.
    pub fn delete_range(&mut self, key: &[u8], end: &[u8], deleted: &mut dyn FnMut(&[u8], Location)) -> u64 {
        if end.is_empty() {
            let Some(live) = self.get(key) else { return 0 };
            self.delete(key, live.location, deleted);
            return 1;
        }
        // The keys are copied first: the index changes under an iteration otherwise.
        let mut keys = Vec::new();
        let mut found = Vec::new();
        for (key, live) in self.live(key, end) {
            keys.extend_from_slice(key);
            found.push((keys.len(), live.location));
        }
        let mut start = 0;
        for &(end, location) in &found {
            self.delete(&keys[start..end], location, deleted);
            start = end;
        }
        found.len() as u64
    }

    /// Deletes one live key.
    fn delete(&mut self, key: &[u8], last: Location, deleted: &mut dyn FnMut(&[u8], Location)) {
        let revision = self.next();
        let begin = self.begin;
        let Store { log, index, arena, events, sum, .. } = &mut *self.store;
        let start = encode_delete(arena, key, revision.main);
        // The tombstone's payload is the KeyValue of the key alone: the event's without its last field.
        let payload = &arena[start..key_range(start, key.len()).end];
        let location = log.append(revision, true, &[payload]);
        *sum = sum.wrapping_add(record_hash(revision, true, payload));
        let previous = index.update(key, |entry| {
            let previous = entry.at(begin).map(|previous| previous.location);
            *entry = entry.clone().delete(revision, location);
            previous
        });
        let previous = previous.expect("a live key is in the index");
        events.push(cut_event(arena, start, key.len(), revision, true, previous));
        self.written += 1;
        deleted(key, last);
    }

    /// Ends the transaction: appends its events to `events` and returns the store's revision, one higher if anything
    /// was written (TX-10, KV-20).
    pub fn commit(mut self, events: &mut Vec<EventRec>) -> i64 {
        let revision = self.revision();
        events.append(&mut self.store.events);
        self.store.current = revision;
        self.written = 0;
        revision
    }

    fn next(&self) -> Revision {
        Revision::new(self.begin + 1, self.written)
    }
}

/// Takes the event that was just encoded out of the arena. The buffer is shared, not copied.
fn cut_event(
    arena: &mut BytesMut,
    payload: usize,
    key_len: usize,
    revision: Revision,
    tombstone: bool,
    previous: Option<Location>,
) -> EventRec {
    let event = arena.split().freeze();
    let key = event.slice(key_range(payload, key_len));
    EventRec { revision, tombstone, key, event, previous }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        assert!(
            self.written == 0 || std::thread::panicking(),
            "a transaction at revision {} was dropped after {} writes",
            self.begin + 1,
            self.written
        );
    }
}
