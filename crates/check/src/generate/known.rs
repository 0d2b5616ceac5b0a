//! What one client has seen of the store: enough to ask for things that are there, or were, or are just gone.

use std::collections::BTreeMap;

use bytes::Bytes;
use cetera_proto::{etcdserverpb as pb, mvccpb};

use crate::history::{Outcome, Request, Response};

/// Leases remembered: the newest are the ones that are used.
const LEASES: usize = 4;

/// What a client has seen.
#[derive(Clone, Debug)]
pub struct Known {
    /// Highest revision seen.
    pub revision: i64,
    /// Highest revision compacted at, as far as known; 0 if none.
    pub compacted: i64,
    /// Leases that may live, newest last.
    pub leases: Vec<i64>,
    /// Pairs as last read.
    pub pairs: BTreeMap<Bytes, mvccpb::KeyValue>,
}

impl Default for Known {
    fn default() -> Self {
        Self { revision: 1, compacted: 0, leases: Vec::new(), pairs: BTreeMap::new() }
    }
}

impl Known {
    /// Learns from an outcome.
    pub fn note(&mut self, request: &Request, outcome: &Outcome) {
        if let Outcome::Refused(_) = outcome {
            return;
        }
        match request {
            // A grant of unknown outcome may have been made.
            Request::LeaseGrant(grant) if grant.id != 0 => self.lease(grant.id),
            Request::LeaseRevoke(revoke) => self.leases.retain(|lease| *lease != revoke.id),
            _ => {}
        }
        let Outcome::Done(response) = outcome else { return };
        if let Some(header) = header(response) {
            self.revision = self.revision.max(header.revision);
        }
        match (request, response) {
            (Request::Range(range), Response::Range(answer)) => self.read(range, answer),
            (Request::Compact(compaction), _) => self.compacted = self.compacted.max(compaction.revision),
            (Request::LeaseGrant(grant), Response::LeaseGrant(granted)) if grant.id == 0 => self.lease(granted.id),
            (Request::Txn(txn), Response::Txn(answer)) => self.txn(txn, answer),
            _ => {}
        }
    }

    fn txn(&mut self, txn: &pb::TxnRequest, answer: &pb::TxnResponse) {
        let ops = if answer.succeeded { &txn.success } else { &txn.failure };
        for (op, response) in ops.iter().zip(&answer.responses) {
            use pb::{request_op, response_op};
            match (&op.request, &response.response) {
                (
                    Some(request_op::Request::RequestRange(range)),
                    Some(response_op::Response::ResponseRange(answer)),
                ) => self.read(range, answer),
                (Some(request_op::Request::RequestTxn(txn)), Some(response_op::Response::ResponseTxn(answer))) => {
                    self.txn(txn, answer);
                }
                _ => {}
            }
        }
    }

    fn read(&mut self, range: &pb::RangeRequest, answer: &pb::RangeResponse) {
        if range.revision > 0 || range.keys_only || range.serializable {
            return;
        }
        if range.range_end.is_empty() && answer.count == 0 {
            self.pairs.remove(&range.key);
        }
        for kv in &answer.kvs {
            self.pairs.insert(kv.key.clone(), kv.clone());
        }
    }

    fn lease(&mut self, lease: i64) {
        self.leases.retain(|other| *other != lease);
        self.leases.push(lease);
        if self.leases.len() > LEASES {
            self.leases.remove(0);
        }
    }
}

fn header(response: &Response) -> Option<&pb::ResponseHeader> {
    match response {
        Response::Range(r) => r.header.as_ref(),
        Response::Put(r) => r.header.as_ref(),
        Response::DeleteRange(r) => r.header.as_ref(),
        Response::Txn(r) => r.header.as_ref(),
        Response::Compact(r) => r.header.as_ref(),
        Response::LeaseGrant(r) => r.header.as_ref(),
        Response::LeaseRevoke(r) => r.header.as_ref(),
        Response::LeaseKeepAlive(r) => r.header.as_ref(),
        Response::LeaseTimeToLive(r) => r.header.as_ref(),
    }
}

/// The revision at which a key was last changed, by the answer to a read of it; 0 if it is not there.
pub(super) fn changed_at(response: &Response, key: &[u8]) -> Option<i64> {
    let Response::Range(range) = response else { return None };
    Some(range.kvs.iter().find(|kv| kv.key == key).map_or(0, |kv| kv.mod_revision))
}

/// The revision that a compare-and-swap lost to, by its answer; `None` if it won.
pub(super) fn swap_lost_to(response: &Response, key: &[u8]) -> Option<i64> {
    let Response::Txn(txn) = response else { return None };
    if txn.succeeded {
        return None;
    }
    match &txn.responses.first()?.response {
        Some(pb::response_op::Response::ResponseRange(range)) => changed_at(&Response::Range(range.clone()), key),
        _ => None,
    }
}
