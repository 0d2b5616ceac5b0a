//! Keys: what Put, DeleteRange, Range, Txn and Compact of the log do to the store and to the leases, and what they
//! answer. One file per operation.
//!
//! Every operation checks first and writes then. Once something is written nothing can be refused any more: there is
//! no rollback below, and none is needed.

pub(crate) mod compact;
mod compare;
pub(crate) mod delete;
pub(crate) mod put;
pub(crate) mod range;
mod read;
pub(crate) mod txn;

use bytes::{Bytes, BytesMut};
use cetera_mvcc::{EventRec, KeyRevision, KeyValueRef, Location, MvccError, RangeQuery, RangeTotals, View, WriteTxn};

use crate::error::Failure;
use crate::lease::LeaseTable;

pub use range::query as range_query;
pub use read::{ReadError, is_read_only, is_serializable, read_txn};

/// What one entry may change: the keys, at one main revision, and what hangs on the leases.
pub(crate) struct Writing<'a> {
    pub(crate) txn: WriteTxn<'a>,
    pub(crate) leases: &'a mut LeaseTable,
    pub(crate) compacted: i64,
}

impl Writing<'_> {
    /// Ends the entry whose execution gave `result`: its revision and what it made.
    ///
    /// # Panics
    /// If it was refused after its first write.
    fn finish<T>(self, result: Result<T, Failure>, events: &mut Vec<EventRec>) -> Result<(i64, T), Failure> {
        if let (Err(Failure::Refused(error)), true) = (&result, self.txn.written() > 0) {
            panic!("refused after {} writes: {error}", self.txn.written());
        }
        // After a failure of the log the node stops; the transaction still has to end.
        let revision = self.txn.commit(events);
        Ok((revision, result?))
    }
}

/// A result of an operation: the revision for its header, and the fields of its response but the header.
pub(crate) struct Answer {
    pub(crate) revision: i64,
    pub(crate) body: Bytes,
}

impl Answer {
    fn new(revision: i64, body: BytesMut) -> Self {
        // An empty buffer costs nothing; a full one is handed on without a copy.
        Self { revision, body: if body.is_empty() { Bytes::new() } else { body.freeze() } }
    }
}

/// What compares and ranges read: the store with a transaction's own writes, or a snapshot.
pub(crate) trait Source {
    fn revision(&self) -> i64;
    fn compacted(&self) -> i64;
    fn get(&self, key: &[u8]) -> Option<KeyRevision>;
    /// Calls `f` for the live keys from `key` to `end` (etcd's convention) until it returns false.
    fn live(
        &self,
        key: &[u8],
        end: &[u8],
        f: &mut dyn FnMut(KeyRevision) -> Result<bool, Failure>,
    ) -> Result<(), Failure>;
    fn payload(&self, location: Location) -> Result<Bytes, Failure>;
    fn range(&self, query: &RangeQuery<'_>, out: &mut BytesMut) -> Result<RangeTotals, MvccError>;
}

impl Source for Writing<'_> {
    fn revision(&self) -> i64 {
        self.txn.revision()
    }

    fn compacted(&self) -> i64 {
        self.compacted
    }

    fn get(&self, key: &[u8]) -> Option<KeyRevision> {
        self.txn.get(key)
    }

    fn live(
        &self,
        key: &[u8],
        end: &[u8],
        f: &mut dyn FnMut(KeyRevision) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        visit(self.txn.live(key, end), f)
    }

    fn payload(&self, location: Location) -> Result<Bytes, Failure> {
        Ok(self.txn.read(location)?)
    }

    fn range(&self, query: &RangeQuery<'_>, out: &mut BytesMut) -> Result<RangeTotals, MvccError> {
        self.txn.range(query, out)
    }
}

impl Source for View {
    fn revision(&self) -> i64 {
        View::revision(self)
    }

    fn compacted(&self) -> i64 {
        View::compacted(self)
    }

    fn get(&self, key: &[u8]) -> Option<KeyRevision> {
        View::live(self, key, &[]).next().map(|(_, live)| live)
    }

    fn live(
        &self,
        key: &[u8],
        end: &[u8],
        f: &mut dyn FnMut(KeyRevision) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        visit(View::live(self, key, end), f)
    }

    fn payload(&self, location: Location) -> Result<Bytes, Failure> {
        Ok(self.at(location)?)
    }

    fn range(&self, query: &RangeQuery<'_>, out: &mut BytesMut) -> Result<RangeTotals, MvccError> {
        View::range(self, query, out)
    }
}

fn visit<'a>(
    keys: impl Iterator<Item = (&'a [u8], KeyRevision)>,
    f: &mut dyn FnMut(KeyRevision) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    for (_, live) in keys {
        if !f(live)? {
            break;
        }
    }
    Ok(())
}

/// A payload of the revision log as a KeyValue.
fn key_value(payload: &[u8]) -> KeyValueRef<'_> {
    KeyValueRef::decode(payload).expect("a checksummed payload of the revision log is a KeyValue")
}
