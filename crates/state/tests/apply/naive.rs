//! What requests mean, said once more and as plainly as possible: whole maps are cloned, histories are searched, typed
//! responses are built. The model test compares the state machine with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use cetera_proto::etcdserverpb::{
    self as pb, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, ResponseOp,
    TxnRequest, TxnResponse, compare::TargetUnion, request_op::Request, response_op::Response,
};
use cetera_proto::mvccpb::KeyValue;
use cetera_state::ApplyError;

pub(crate) type Keys = BTreeMap<Bytes, KeyValue>;

#[derive(Clone)]
pub(crate) struct Naive {
    /// The keys at each revision; index 0 is revision 1.
    pub(crate) history: Vec<Keys>,
    pub(crate) compacted: i64,
    pub(crate) leases: BTreeMap<i64, (i64, i64)>,
    pub(crate) no_space: bool,
}

/// A change as the watch hub gets it.
pub(crate) type Change = (i64, i64, Bytes, bool);

/// The state a transaction works on.
struct Work<'a> {
    model: &'a Naive,
    begin: i64,
    keys: Keys,
    changes: Vec<Change>,
}

impl Naive {
    pub(crate) fn new() -> Self {
        Self { history: vec![Keys::new()], compacted: -1, leases: BTreeMap::new(), no_space: false }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.history.len() as i64
    }

    pub(crate) fn now(&self) -> &Keys {
        self.history.last().unwrap()
    }

    fn work(&self) -> Work<'_> {
        Work { model: self, begin: self.revision(), keys: self.now().clone(), changes: Vec::new() }
    }

    fn finish(&mut self, keys: Keys, changes: &[Change]) -> i64 {
        if !changes.is_empty() {
            self.history.push(keys);
        }
        self.revision()
    }

    pub(crate) fn put(&mut self, put: &PutRequest) -> Result<(i64, pb::PutResponse, Vec<Change>), ApplyError> {
        if self.no_space {
            return Err(ApplyError::NoSpace);
        }
        self.check_put(put)?;
        let mut work = self.work();
        let response = work.put(put);
        let Work { keys, changes, .. } = work;
        Ok((self.finish(keys, &changes), response, changes))
    }

    pub(crate) fn delete(&mut self, delete: &DeleteRangeRequest) -> (i64, pb::DeleteRangeResponse, Vec<Change>) {
        let mut work = self.work();
        let response = work.delete(delete);
        let Work { keys, changes, .. } = work;
        (self.finish(keys, &changes), response, changes)
    }

    pub(crate) fn txn(&mut self, txn: &TxnRequest) -> Result<(i64, TxnResponse, Vec<Change>), ApplyError> {
        if self.no_space && puts_anywhere(txn) {
            return Err(ApplyError::NoSpace);
        }
        self.check_txn(txn)?;
        let mut work = self.work();
        let response = work.txn(txn);
        let Work { keys, changes, .. } = work;
        Ok((self.finish(keys, &changes), response, changes))
    }

    pub(crate) fn revoke(&mut self, id: i64) -> Result<(i64, Vec<Change>), ApplyError> {
        self.leases.remove(&id).ok_or(ApplyError::LeaseNotFound)?;
        let mut work = self.work();
        let keys: Vec<Bytes> = work.keys.values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect();
        for key in keys {
            work.delete(&DeleteRangeRequest { key, ..Default::default() });
        }
        let Work { keys, changes, .. } = work;
        Ok((self.finish(keys, &changes), changes))
    }

    pub(crate) fn compact(&mut self, revision: i64) -> Result<i64, ApplyError> {
        if revision <= self.compacted {
            return Err(ApplyError::Compacted);
        }
        if revision > self.revision() {
            return Err(ApplyError::FutureRevision);
        }
        self.compacted = revision;
        Ok(self.revision())
    }

    fn check_put(&self, put: &PutRequest) -> Result<(), ApplyError> {
        if put.lease != 0 && !self.leases.contains_key(&put.lease) {
            return Err(ApplyError::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && !self.now().contains_key(&put.key) {
            return Err(ApplyError::KeyNotFound);
        }
        Ok(())
    }

    fn taken<'a>(&self, txn: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        (succeeded, if succeeded { &txn.success } else { &txn.failure })
    }

    fn check_txn(&self, txn: &TxnRequest) -> Result<(), ApplyError> {
        for op in self.taken(txn).1 {
            match op.request.as_ref().unwrap() {
                Request::RequestPut(put) => self.check_put(put)?,
                Request::RequestTxn(txn) => self.check_txn(txn)?,
                Request::RequestRange(range) if range.revision > self.revision() => {
                    return Err(ApplyError::FutureRevision);
                }
                Request::RequestRange(range) if range.revision != 0 && range.revision < self.compacted => {
                    return Err(ApplyError::Compacted);
                }
                Request::RequestRange(_) | Request::RequestDeleteRange(_) => {}
            }
        }
        Ok(())
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = select(self.now(), &compare.key, &compare.range_end);
        let test = |kv: &KeyValue| {
            let ordering = match compare.target_union.as_ref().unwrap() {
                TargetUnion::Version(n) => kv.version.cmp(n),
                TargetUnion::CreateRevision(n) => kv.create_revision.cmp(n),
                TargetUnion::ModRevision(n) => kv.mod_revision.cmp(n),
                TargetUnion::Lease(n) => kv.lease.cmp(n),
                TargetUnion::Value(v) => kv.value.cmp(v),
            };
            match compare.result {
                0 => ordering.is_eq(),
                1 => ordering.is_gt(),
                2 => ordering.is_lt(),
                _ => ordering.is_ne(),
            }
        };
        if found.is_empty() {
            return !matches!(compare.target_union, Some(TargetUnion::Value(_))) && test(&KeyValue::default());
        }
        found.iter().all(test)
    }
}

impl Work<'_> {
    fn revision(&self) -> i64 {
        self.begin + i64::from(!self.changes.is_empty())
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.revision(), ..Default::default() })
    }

    fn put(&mut self, put: &PutRequest) -> pb::PutResponse {
        let main = self.begin + 1;
        let old = self.keys.get(&put.key).cloned();
        let (value, lease) = match &old {
            Some(old) => (
                if put.ignore_value { old.value.clone() } else { put.value.clone() },
                if put.ignore_lease { old.lease } else { put.lease },
            ),
            None => (put.value.clone(), put.lease),
        };
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: old.as_ref().map_or(main, |old| old.create_revision),
            mod_revision: main,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            value,
            lease,
        };
        self.keys.insert(put.key.clone(), kv);
        self.changes.push((main, self.changes.len() as i64, put.key.clone(), false));
        pb::PutResponse { header: None, prev_kv: old.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) -> pb::DeleteRangeResponse {
        let gone = select(&self.keys, &delete.key, &delete.range_end);
        for kv in &gone {
            self.keys.remove(&kv.key);
            self.changes.push((self.begin + 1, self.changes.len() as i64, kv.key.clone(), true));
        }
        let deleted = gone.len() as i64;
        pb::DeleteRangeResponse { header: None, deleted, prev_kvs: if delete.prev_kv { gone } else { vec![] } }
    }

    fn range(&self, range: &RangeRequest) -> pb::RangeResponse {
        let at = range.revision;
        let keys = if at <= 0 || at == self.begin + 1 { &self.keys } else { &self.model.history[at as usize - 1] };
        let mut kvs = select(keys, &range.key, &range.range_end);
        let count = kvs.len() as i64;
        let more = range.limit > 0 && !range.count_only && count > range.limit;
        if more {
            kvs.truncate(range.limit as usize);
        }
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| (kv.value, kv.lease) = (Bytes::new(), 0));
        }
        if range.count_only {
            kvs.clear();
        }
        pb::RangeResponse { header: None, kvs, more, count }
    }

    fn txn(&mut self, txn: &TxnRequest) -> TxnResponse {
        let (succeeded, ops) = self.model.taken(txn);
        let mut responses = Vec::new();
        for op in ops {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestRange(range) => {
                    let response = self.range(range);
                    Response::ResponseRange(pb::RangeResponse { header: self.header(), ..response })
                }
                Request::RequestPut(put) => {
                    let response = self.put(put);
                    Response::ResponsePut(pb::PutResponse { header: self.header(), ..response })
                }
                Request::RequestDeleteRange(delete) => {
                    let response = self.delete(delete);
                    Response::ResponseDeleteRange(pb::DeleteRangeResponse { header: self.header(), ..response })
                }
                Request::RequestTxn(txn) => {
                    let response = self.txn(txn);
                    Response::ResponseTxn(TxnResponse { header: Some(Default::default()), ..response })
                }
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        TxnResponse { header: None, succeeded, responses }
    }
}

/// The pairs from `key` to `end`, by etcd's convention.
fn select(keys: &Keys, key: &Bytes, end: &Bytes) -> Vec<KeyValue> {
    let wanted = |k: &Bytes| match &end[..] {
        [] => k == key,
        [0] => k >= key,
        _ => k >= key && k < end,
    };
    keys.values().filter(|kv| wanted(&kv.key)).cloned().collect()
}

fn puts_anywhere(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op.request.as_ref().unwrap() {
        Request::RequestPut(_) => true,
        Request::RequestTxn(txn) => puts_anywhere(txn),
        _ => false,
    })
}
