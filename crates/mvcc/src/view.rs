//! A consistent snapshot for readers on any thread: the index root, the flushed log, and the revisions that go
//! with them. Never blocks the writer and is never blocked by it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cetera_storage::revlog::{Location, LogError, LogReader};

use crate::{
    error::MvccError,
    event::EventRec,
    hash::HashKv,
    past::KeyRevision,
    query::{Bounds, RangeQuery},
    range::{RangeTotals, Reading},
    tree::{Totals, Tree},
};

/// The store at one revision. Cloning takes a few reference counts; holding a view keeps the index nodes and the
/// segment files of its moment.
#[derive(Clone)]
pub struct View {
    pub(crate) index: Tree,
    pub(crate) log: LogReader,
    pub(crate) current: i64,
    pub(crate) compacted: i64,
    /// Hashes of the last compactions, answered as long as they are kept (contract D-4).
    pub(crate) hashes: Arc<[HashKv]>,
}

impl View {
    /// The revision of this snapshot; an empty store is at 1 (KV-19).
    pub fn revision(&self) -> i64 {
        self.current
    }

    /// The compaction watermark: revisions below it are gone. -1 if the store was never compacted.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    pub(crate) fn reading(&self) -> Reading<'_, LogReader> {
        Reading { index: &self.index, source: &self.log, current: self.current, compacted: self.compacted }
    }

    /// Appends the fields kvs (2), more (3) and count (4) of the `RangeResponse` to `out` (KV-1 to KV-7). After an
    /// error `out` is as it was.
    pub fn range(&self, query: &RangeQuery<'_>, out: &mut BytesMut) -> Result<RangeTotals, MvccError> {
        self.reading().range(query, out)
    }

    /// The state of `key` at `revision` (0 or less: the latest), from the index alone.
    pub fn get(&self, key: &[u8], revision: i64) -> Result<Option<KeyRevision>, MvccError> {
        let reading = self.reading();
        let at = reading.resolve(revision)?;
        Ok(reading.get(key, at))
    }

    /// The encoded KeyValue of `key` at `revision` (0 or less: the latest).
    pub fn kv(&self, key: &[u8], revision: i64) -> Result<Option<Bytes>, MvccError> {
        match self.get(key, revision)? {
            Some(live) => Ok(Some(self.at(live.location)?)),
            None => Ok(None),
        }
    }

    /// The encoded KeyValue a change replaced, for `prev_kv`: looked up at mod_revision - 1, absent for creations and
    /// once that revision is compacted (W-9).
    pub fn previous(&self, event: &EventRec) -> Result<Option<Bytes>, LogError> {
        match self.kv(&event.key, event.revision.main - 1) {
            Ok(found) => Ok(found),
            Err(MvccError::Compacted | MvccError::FutureRevision) => Ok(None),
            Err(MvccError::Log(error)) => Err(error),
        }
    }

    /// The payload at a location that came from this view.
    pub fn at(&self, location: Location) -> Result<Bytes, LogError> {
        self.log.read(location, |record| Bytes::copy_from_slice(record.payload))
    }

    /// The keys from `key` to `end` (etcd's convention) alive at this view's revision, in order.
    pub fn live<'a>(&'a self, key: &'a [u8], end: &'a [u8]) -> impl Iterator<Item = (&'a [u8], KeyRevision)> {
        self.reading().live(Bounds::new(key, end), self.current)
    }

    /// Live keys and their payload bytes from `key` to `end` (etcd's convention) at this view's revision. O(log n).
    pub fn totals(&self, key: &[u8], end: &[u8]) -> Totals {
        match Bounds::new(key, end) {
            Bounds::Span(start, end) => self.index.totals(start, end),
            Bounds::Single(key) => self
                .reading()
                .get(key, self.current)
                .map_or_else(Totals::default, |live| Totals { keys: 1, bytes: u64::from(live.location.len) }),
        }
    }
}
