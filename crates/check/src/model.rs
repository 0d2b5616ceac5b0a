//! etcd's keys as a plain value: every version of every key, and what each request does to them and answers.
//!
//! A second implementation, written for clarity from the contract's KV and TX rows; it shares nothing with the server's.
//! It keeps all revisions, so that any past state can be asked, and takes the last revision back, so that a search can
//! try one writer after another. It never forgets: what is compacted is the caller's knowledge, passed in as [`World`].

mod compare;
mod range;
mod txn;
mod validate;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;
use cetera_proto::mvccpb::{Event, KeyValue, event::EventType};

use crate::history::{Request, Response};

pub(crate) use range::{order, pool};
pub(crate) use txn::{is_read_only, is_serializable};
pub(crate) use validate::{in_range, validate};

/// A refusal that follows from the request and the state alone, in etcd's words.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Refusal {
    EmptyKey,
    KeyNotFound,
    ValueProvided,
    LeaseProvided,
    TooManyOps,
    DuplicateKey,
    InvalidSortOption,
    Compacted,
    FutureRevision,
    LeaseNotFound,
    LeaseExist,
    LeaseTtlTooLarge,
}

impl Refusal {
    const ALL: [(Self, &'static str); 12] = [
        (Self::EmptyKey, "etcdserver: key is not provided"),
        (Self::KeyNotFound, "etcdserver: key not found"),
        (Self::ValueProvided, "etcdserver: value is provided"),
        (Self::LeaseProvided, "etcdserver: lease is provided"),
        (Self::TooManyOps, "etcdserver: too many operations in txn request"),
        (Self::DuplicateKey, "etcdserver: duplicate key given in txn request"),
        (Self::InvalidSortOption, "etcdserver: invalid sort option"),
        (Self::Compacted, "etcdserver: mvcc: required revision has been compacted"),
        (Self::FutureRevision, "etcdserver: mvcc: required revision is a future revision"),
        (Self::LeaseNotFound, "etcdserver: requested lease not found"),
        (Self::LeaseExist, "etcdserver: lease already exists"),
        (Self::LeaseTtlTooLarge, "etcdserver: too large lease TTL"),
    ];

    /// The refusal a text speaks of; `None` for those that depend on more than request and state (no space, no leader,
    /// too many requests, ...).
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, words)| text.contains(words)).map(|(refusal, _)| *refusal)
    }

    pub(crate) fn text(self) -> &'static str {
        Self::ALL.iter().find(|(refusal, _)| *refusal == self).map_or("", |(_, words)| words)
    }
}

/// What the keys alone do not tell.
pub(crate) struct World<'a> {
    /// The compaction watermark; reads below it are refused. -1: never compacted.
    pub(crate) compacted: i64,
    /// Whether a lease exists.
    pub(crate) lease_exists: &'a dyn Fn(i64) -> bool,
}

/// A world in which no request fails for want of a lease or of history: where that is judged elsewhere.
pub(crate) const PERMISSIVE: World<'static> = World { compacted: -1, lease_exists: &|_| true };

/// One version of a key: what it was from `revision` on; `None` if it was deleted there.
#[derive(Clone, Debug, PartialEq)]
struct Version {
    revision: i64,
    kv: Option<KeyValue>,
}

/// All keys at all revisions.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    first: i64,
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// `changes[i]` made revision `first + 1 + i`, in sub revision order, each with the value before it as `prev_kv`.
    changes: Vec<Vec<Event>>,
}

impl Store {
    /// An empty store at revision `first`.
    pub(crate) fn new(first: i64) -> Self {
        Self { first, keys: BTreeMap::new(), changes: Vec::new() }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.first + self.changes.len() as i64
    }

    /// Whether everything is the same, past and present.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.changes == other.changes
    }

    /// The changes that made a revision; empty for one that this store has not seen made.
    pub(crate) fn changes(&self, revision: i64) -> &[Event] {
        match usize::try_from(revision - self.first - 1) {
            Ok(index) => self.changes.get(index).map_or(&[], Vec::as_slice),
            Err(_) => &[],
        }
    }

    /// The key as it was at a revision.
    pub(crate) fn get(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        at(self.keys.get(key)?, revision)
    }

    /// The live keys of a range (KV-1) at a revision, in key order.
    pub(crate) fn live<'a>(
        &'a self,
        key: &'a [u8],
        end: &'a [u8],
        revision: i64,
    ) -> impl Iterator<Item = &'a KeyValue> + 'a {
        let upper = match end {
            [] => Bound::Included(key),
            [0] => Bound::Unbounded,
            _ if end <= key => Bound::Excluded(key),
            _ => Bound::Excluded(end),
        };
        let lower = if upper == Bound::Excluded(key) { Bound::Excluded(key) } else { Bound::Included(key) };
        let none = upper == Bound::Excluded(key);
        let range = (!none).then(|| self.keys.range::<[u8], _>((lower, upper)));
        range.into_iter().flatten().filter_map(move |(_, versions)| at(versions, revision))
    }

    /// The live keys that hang on a lease at a revision, in key order.
    pub(crate) fn attached(&self, lease: i64, revision: i64) -> Vec<Bytes> {
        let all = self.keys.values().filter_map(|versions| at(versions, revision));
        all.filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect()
    }

    /// The leases that keys hang on at a revision.
    pub(crate) fn attached_leases(&self, revision: i64) -> Vec<i64> {
        let all = self.keys.values().filter_map(|versions| at(versions, revision));
        let mut leases: Vec<i64> = all.map(|kv| kv.lease).filter(|lease| *lease != 0).collect();
        leases.sort_unstable();
        leases.dedup();
        leases
    }

    /// Does what a request of the KV service asks at the present revision. The answer's header revision is in it.
    ///
    /// # Panics
    /// For Compact and Lease requests: they do nothing to keys by themselves ([`Store::revoke`]).
    pub(crate) fn execute(&mut self, request: &Request, world: &World<'_>) -> Result<Response, Refusal> {
        match request {
            Request::Range(range) => {
                let now = self.revision();
                range::check(range, now, world, false)?;
                Ok(Response::Range(range::answer(self, range, now)))
            }
            Request::Put(put) => {
                txn::check_put(self, put, self.revision(), world)?;
                let mut writing = Writing::begin(self);
                let response = writing.put(put);
                writing.commit();
                Ok(Response::Put(response))
            }
            Request::DeleteRange(delete) => {
                let mut writing = Writing::begin(self);
                let response = writing.delete_range(delete);
                writing.commit();
                Ok(Response::DeleteRange(response))
            }
            Request::Txn(request) => txn::execute(self, request, world).map(Response::Txn),
            _ => unreachable!("not a request of the KV service"),
        }
    }

    /// A range at a revision of the past, as it was answered when that was the present one.
    pub(crate) fn read(
        &self,
        request: &pb::RangeRequest,
        now: i64,
        world: &World<'_>,
    ) -> Result<pb::RangeResponse, Refusal> {
        range::check(request, now, world, false)?;
        Ok(range::answer(self, request, now))
    }

    /// A read-only transaction at a revision of the past, as it was answered when that was the present one.
    pub(crate) fn read_txn(
        &self,
        request: &pb::TxnRequest,
        now: i64,
        world: &World<'_>,
    ) -> Result<pb::TxnResponse, Refusal> {
        txn::read(self, request, now, world)
    }

    /// What refuses a request of the KV service at a revision, if anything does.
    pub(crate) fn refusal(&self, request: &Request, now: i64, world: &World<'_>) -> Result<(), Refusal> {
        match request {
            Request::Range(range) => range::check(range, now, world, false),
            Request::Put(put) => txn::check_put(self, put, now, world),
            Request::Txn(txn) => txn::refusal(self, txn, now, world),
            _ => Ok(()),
        }
    }

    /// A lease ends: the keys that hang on it go in key order, at one revision; nothing happens if there are none (L-4).
    pub(crate) fn revoke(&mut self, lease: i64) -> bool {
        let keys = self.attached(lease, self.revision());
        let mut writing = Writing::begin(self);
        for key in keys {
            writing.delete(key);
        }
        writing.commit()
    }

    /// Makes the next revision from what watchers were told of it, where no request explains it.
    pub(crate) fn adopt(&mut self, events: &[Event]) {
        let mut writing = Writing::begin(self);
        for event in events {
            let Some(kv) = &event.kv else { continue };
            if event.r#type() == EventType::Delete {
                writing.delete(kv.key.clone());
            } else {
                writing.record(kv.key.clone(), Some(kv.clone()));
            }
        }
        writing.commit();
    }

    /// Makes the next revision without a change: it is known to be there and nothing else is.
    pub(crate) fn adopt_nothing(&mut self) {
        self.changes.push(Vec::new());
    }

    /// Takes the last revision back.
    pub(crate) fn undo(&mut self) {
        let revision = self.revision();
        for change in self.changes.pop().unwrap_or_default() {
            let Some(kv) = change.kv else { continue };
            let Some(versions) = self.keys.get_mut(&kv.key) else { continue };
            versions.retain(|version| version.revision != revision);
            if versions.is_empty() {
                self.keys.remove(&kv.key);
            }
        }
    }
}

fn at(versions: &[Version], revision: i64) -> Option<&KeyValue> {
    let after = versions.partition_point(|version| version.revision <= revision);
    versions[..after].last()?.kv.as_ref()
}

/// The making of one revision.
struct Writing<'a> {
    store: &'a mut Store,
    begin: i64,
    changes: Vec<Event>,
}

impl<'a> Writing<'a> {
    fn begin(store: &'a mut Store) -> Self {
        let begin = store.revision();
        Self { store, begin, changes: Vec::new() }
    }

    /// The revision that a sub-response tells, and that reads see (TX-8, TX-9).
    fn revision(&self) -> i64 {
        if self.changes.is_empty() { self.begin } else { self.begin + 1 }
    }

    fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.store.get(key, self.begin + 1)
    }

    /// KV-13 to KV-15; what must be so was checked.
    fn put(&mut self, put: &pb::PutRequest) -> pb::PutResponse {
        let before = self.get(&put.key).cloned();
        let revision = self.begin + 1;
        let mut kv = KeyValue {
            key: put.key.clone(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: put.value.clone(),
            lease: put.lease,
        };
        if let Some(before) = &before {
            kv.create_revision = before.create_revision;
            kv.version = before.version + 1;
            if put.ignore_value {
                kv.value = before.value.clone();
            }
            if put.ignore_lease {
                kv.lease = before.lease;
            }
        }
        self.record(put.key.clone(), Some(kv));
        pb::PutResponse { header: header(revision), prev_kv: before.filter(|_| put.prev_kv) }
    }

    /// KV-17.
    fn delete_range(&mut self, delete: &pb::DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let gone: Vec<KeyValue> = self.store.live(&delete.key, &delete.range_end, self.begin + 1).cloned().collect();
        for kv in &gone {
            self.delete(kv.key.clone());
        }
        pb::DeleteRangeResponse {
            header: header(self.revision()),
            deleted: gone.len() as i64,
            prev_kvs: if delete.prev_kv { gone } else { Vec::new() },
        }
    }

    fn delete(&mut self, key: Bytes) {
        self.record(key, None);
    }

    fn record(&mut self, key: Bytes, kv: Option<KeyValue>) {
        let revision = self.begin + 1;
        let versions = self.store.keys.entry(key.clone()).or_default();
        let before = at(versions, revision).cloned();
        let kind = if kv.is_some() { EventType::Put } else { EventType::Delete };
        // W-13.
        let told = kv.clone().unwrap_or_else(|| KeyValue { key, mod_revision: revision, ..KeyValue::default() });
        versions.push(Version { revision, kv });
        self.changes.push(Event { r#type: kind as i32, kv: Some(told), prev_kv: before });
    }

    /// Whether anything changed.
    fn commit(self) -> bool {
        let changed = !self.changes.is_empty();
        if changed {
            self.store.changes.push(self.changes);
        }
        changed
    }
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() })
}
