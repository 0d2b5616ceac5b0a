//! Requests on keys, as builders over the wire messages.

use bytes::Bytes;
use cetera_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cetera_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use cetera_proto::etcdserverpb::request_op::Request;
use cetera_proto::etcdserverpb::{self, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// Where a range of all keys with this prefix ends: the prefix with its last byte below 255 raised by one and cut
/// after it, or `\0` (no end) if there is none (clientv3 `GetPrefixRangeEnd`).
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|&b| b < 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => OPEN,
    }
}

/// As a range end: no end. As a start: before every key.
const OPEN: Bytes = Bytes::from_static(b"\0");

fn all_with_prefix(key: &mut Bytes, end: &mut Bytes) {
    if key.is_empty() {
        *key = OPEN;
        *end = OPEN;
    } else {
        *end = prefix_end(key);
    }
}

fn all_from(key: &mut Bytes, end: &mut Bytes) {
    if key.is_empty() {
        *key = OPEN;
    }
    *end = OPEN;
}

/// Reads a key or a range of keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Get(pub RangeRequest);

impl Get {
    /// One key, linearizable, at the current revision.
    pub fn new(key: impl Into<Bytes>) -> Get {
        Get(RangeRequest { key: key.into(), ..Default::default() })
    }
    /// All keys from this one to before `end`.
    pub fn range(mut self, end: impl Into<Bytes>) -> Get {
        self.0.range_end = end.into();
        self
    }
    /// All keys that start with the key.
    pub fn prefix(mut self) -> Get {
        all_with_prefix(&mut self.0.key, &mut self.0.range_end);
        self
    }
    /// The key and all after it.
    pub fn from_key(mut self) -> Get {
        all_from(&mut self.0.key, &mut self.0.range_end);
        self
    }
    /// At most so many keys; 0 means all.
    pub fn limit(mut self, limit: i64) -> Get {
        self.0.limit = limit;
        self
    }
    /// As of this revision; 0 means now.
    pub fn revision(mut self, revision: i64) -> Get {
        self.0.revision = revision;
        self
    }
    /// In this order.
    pub fn sort(mut self, target: SortTarget, order: SortOrder) -> Get {
        self.0.sort_target = target as i32;
        self.0.sort_order = order as i32;
        self
    }
    /// From the member asked, which may lag behind.
    pub fn serializable(mut self) -> Get {
        self.0.serializable = true;
        self
    }
    /// Without values.
    pub fn keys_only(mut self) -> Get {
        self.0.keys_only = true;
        self
    }
    /// Only how many there are.
    pub fn count_only(mut self) -> Get {
        self.0.count_only = true;
        self
    }
    /// Of the keys that start with the key, the one created first (clientv3 `WithFirstCreate`).
    pub fn first_created(self) -> Get {
        self.prefix().sort(SortTarget::Create, SortOrder::Ascend).limit(1)
    }
}

/// Writes a key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Put(pub PutRequest);

impl Put {
    /// This value under this key, without a lease.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Put {
        Put(PutRequest { key: key.into(), value: value.into(), ..Default::default() })
    }
    /// Attached to this lease; 0 means none.
    pub fn lease(mut self, id: i64) -> Put {
        self.0.lease = id;
        self
    }
    /// Answers with what was there before.
    pub fn prev_kv(mut self) -> Put {
        self.0.prev_kv = true;
        self
    }
    /// Keeps the value that is there; the key must exist and the given value be empty.
    pub fn ignore_value(mut self) -> Put {
        self.0.ignore_value = true;
        self
    }
    /// Keeps the lease that is there; the key must exist.
    pub fn ignore_lease(mut self) -> Put {
        self.0.ignore_lease = true;
        self
    }
}

/// Deletes a key or a range of keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delete(pub DeleteRangeRequest);

impl Delete {
    /// One key.
    pub fn new(key: impl Into<Bytes>) -> Delete {
        Delete(DeleteRangeRequest { key: key.into(), ..Default::default() })
    }
    /// All keys from this one to before `end`.
    pub fn range(mut self, end: impl Into<Bytes>) -> Delete {
        self.0.range_end = end.into();
        self
    }
    /// All keys that start with the key.
    pub fn prefix(mut self) -> Delete {
        all_with_prefix(&mut self.0.key, &mut self.0.range_end);
        self
    }
    /// The key and all after it.
    pub fn from_key(mut self) -> Delete {
        all_from(&mut self.0.key, &mut self.0.range_end);
        self
    }
    /// Answers with what was deleted.
    pub fn prev_kv(mut self) -> Delete {
        self.0.prev_kv = true;
        self
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A read.
    Get(Get),
    /// A write.
    Put(Put),
    /// A deletion.
    Delete(Delete),
    /// A transaction within the transaction.
    Txn(Txn),
}

impl From<Get> for Op {
    fn from(op: Get) -> Op {
        Op::Get(op)
    }
}
impl From<Put> for Op {
    fn from(op: Put) -> Op {
        Op::Put(op)
    }
}
impl From<Delete> for Op {
    fn from(op: Delete) -> Op {
        Op::Delete(op)
    }
}
impl From<Txn> for Op {
    fn from(op: Txn) -> Op {
        Op::Txn(op)
    }
}

impl From<Op> for RequestOp {
    fn from(op: Op) -> RequestOp {
        let request = match op {
            Op::Get(get) => Request::RequestRange(get.0),
            Op::Put(put) => Request::RequestPut(put.0),
            Op::Delete(delete) => Request::RequestDeleteRange(delete.0),
            Op::Txn(txn) => Request::RequestTxn(txn.0),
        };
        RequestOp { request: Some(request) }
    }
}

/// How a compare compares.
pub use cetera_proto::etcdserverpb::compare::CompareResult as Cmp;

/// A condition of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare(pub etcdserverpb::Compare);

impl Compare {
    fn new(key: impl Into<Bytes>, cmp: CompareResult, target: CompareTarget, union: TargetUnion) -> Compare {
        Compare(etcdserverpb::Compare {
            result: cmp as i32,
            target: target as i32,
            key: key.into(),
            target_union: Some(union),
            range_end: Bytes::new(),
        })
    }
    /// On the number of writes since the key was created; 0 is no key.
    pub fn version(key: impl Into<Bytes>, cmp: Cmp, version: i64) -> Compare {
        Compare::new(key, cmp, CompareTarget::Version, TargetUnion::Version(version))
    }
    /// On the revision at which the key was created; 0 is no key.
    pub fn create_revision(key: impl Into<Bytes>, cmp: Cmp, revision: i64) -> Compare {
        Compare::new(key, cmp, CompareTarget::Create, TargetUnion::CreateRevision(revision))
    }
    /// On the revision of the last write; 0 is no key.
    pub fn mod_revision(key: impl Into<Bytes>, cmp: Cmp, revision: i64) -> Compare {
        Compare::new(key, cmp, CompareTarget::Mod, TargetUnion::ModRevision(revision))
    }
    /// On the value.
    pub fn value(key: impl Into<Bytes>, cmp: Cmp, value: impl Into<Bytes>) -> Compare {
        Compare::new(key, cmp, CompareTarget::Value, TargetUnion::Value(value.into()))
    }
    /// On the lease the key is attached to; 0 is none.
    pub fn lease(key: impl Into<Bytes>, cmp: Cmp, id: i64) -> Compare {
        Compare::new(key, cmp, CompareTarget::Lease, TargetUnion::Lease(id))
    }
}

/// If all conditions hold, some operations, else others; all at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Txn(pub TxnRequest);

impl Txn {
    /// No conditions, no operations.
    pub fn new() -> Txn {
        Txn::default()
    }
    /// Adds conditions.
    pub fn when(mut self, compares: impl IntoIterator<Item = Compare>) -> Txn {
        self.0.compare.extend(compares.into_iter().map(|c| c.0));
        self
    }
    /// Adds operations for when all conditions hold.
    pub fn and_then(mut self, ops: impl IntoIterator<Item = Op>) -> Txn {
        self.0.success.extend(ops.into_iter().map(RequestOp::from));
        self
    }
    /// Adds operations for when they do not.
    pub fn or_else(mut self, ops: impl IntoIterator<Item = Op>) -> Txn {
        self.0.failure.extend(ops.into_iter().map(RequestOp::from));
        self
    }
    /// True if nothing in it writes, so that it may be repeated.
    pub(crate) fn is_read_only(&self) -> bool {
        fn reads(op: &RequestOp) -> bool {
            match &op.request {
                Some(Request::RequestRange(_)) => true,
                Some(Request::RequestTxn(txn)) => txn.success.iter().chain(&txn.failure).all(reads),
                _ => false,
            }
        }
        self.0.success.iter().chain(&self.0.failure).all(reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(b"dir/"), "dir0");
        assert_eq!(prefix_end(b"a\xff\xff"), "b");
        assert_eq!(prefix_end(b"\xff"), "\0");
        assert_eq!(prefix_end(b""), "\0");
    }

    #[test]
    fn the_empty_prefix_is_every_key() {
        let get = Get::new("").prefix().0;
        assert_eq!((get.key, get.range_end), (OPEN, OPEN));
        let delete = Delete::new("").from_key().0;
        assert_eq!((delete.key, delete.range_end), (OPEN, OPEN));
    }

    #[test]
    fn only_reads_are_read_only() {
        let inner = Txn::new().and_then([Get::new("a").into()]);
        assert!(Txn::new().and_then([inner.clone().into()]).is_read_only());
        let writes = Txn::new().or_else([inner.or_else([Delete::new("a").into()]).into()]);
        assert!(!writes.is_read_only());
    }
}
