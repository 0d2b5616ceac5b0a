//! The history of a run: every call with its interval and outcome, every watcher with all it was told.
//!
//! Times are microseconds on one clock that all clients of a run share and that never goes back. Requests and responses
//! are etcd's own messages, so that a history can come from any client of any server.

use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;
use cetera_proto::mvccpb;

/// What the clients of one run saw.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The calls, by start.
    pub calls: Vec<Call>,
    /// The watchers, by creation.
    pub watchers: Vec<Watcher>,
    /// Revision of the store before the first call: 1 for a new cluster.
    pub first_revision: i64,
}

/// One call of a client.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which client. A client that has calls under way at the same time is several clients.
    pub client: u32,
    /// Member it was sent to, from 0.
    pub member: u32,
    /// When it was sent.
    pub start_us: u64,
    /// When its outcome was known; the end of the run for one that was never answered.
    pub end_us: u64,
    /// What was asked.
    pub request: Request,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// KV.Range; linearizable unless `serializable`.
    Range(pb::RangeRequest),
    /// KV.Put.
    Put(pb::PutRequest),
    /// KV.DeleteRange.
    DeleteRange(pb::DeleteRangeRequest),
    /// KV.Txn.
    Txn(pb::TxnRequest),
    /// KV.Compact.
    Compact(pb::CompactionRequest),
    /// Lease.LeaseGrant.
    LeaseGrant(pb::LeaseGrantRequest),
    /// Lease.LeaseRevoke.
    LeaseRevoke(pb::LeaseRevokeRequest),
    /// One keep-alive on Lease.LeaseKeepAlive.
    LeaseKeepAlive(pb::LeaseKeepAliveRequest),
    /// Lease.LeaseTimeToLive.
    LeaseTimeToLive(pb::LeaseTimeToLiveRequest),
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To a Range.
    Range(pb::RangeResponse),
    /// To a Put.
    Put(pb::PutResponse),
    /// To a DeleteRange.
    DeleteRange(pb::DeleteRangeResponse),
    /// To a Txn.
    Txn(pb::TxnResponse),
    /// To a Compact.
    Compact(pb::CompactionResponse),
    /// To a LeaseGrant.
    LeaseGrant(pb::LeaseGrantResponse),
    /// To a LeaseRevoke.
    LeaseRevoke(pb::LeaseRevokeResponse),
    /// To a keep-alive; TTL 0: there is no such lease (L-5).
    LeaseKeepAlive(pb::LeaseKeepAliveResponse),
    /// To a LeaseTimeToLive; TTL -1: there is no such lease (L-9).
    LeaseTimeToLive(pb::LeaseTimeToLiveResponse),
}

impl Response {
    /// The revision in its header; 0 without one.
    pub fn revision(&self) -> i64 {
        let header = match self {
            Response::Range(answer) => &answer.header,
            Response::Put(answer) => &answer.header,
            Response::DeleteRange(answer) => &answer.header,
            Response::Txn(answer) => &answer.header,
            Response::Compact(answer) => &answer.header,
            Response::LeaseGrant(answer) => &answer.header,
            Response::LeaseRevoke(answer) => &answer.header,
            Response::LeaseKeepAlive(answer) => &answer.header,
            Response::LeaseTimeToLive(answer) => &answer.header,
        };
        header.as_ref().map_or(0, |header| header.revision)
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Answered.
    Done(Response),
    /// An error that says that nothing was done, in etcd's words (`etcdserver: mvcc: required revision has been
    /// compacted`, `etcdserver: requested lease not found`, `etcdserver: too many requests`, ...).
    Refused(String),
    /// Timed out, the connection broke, or an error that leaves it open: it took place once, at any time after the
    /// call began, or never.
    Unknown(String),
}

/// One watcher, from its creation to its end. One that a client resumes elsewhere is a new watcher there.
#[derive(Clone, Debug, Default)]
pub struct Watcher {
    /// Which client.
    pub client: u32,
    /// Member it was created on, from 0.
    pub member: u32,
    /// What was asked: key, range_end, start_revision, filters, prev_kv, progress_notify, fragment.
    pub request: pb::WatchCreateRequest,
    /// The watcher in [`History::watchers`] that this one goes on from, at the revision after the last it was told.
    pub resumes: Option<usize>,
    /// When the creation was sent.
    pub start_us: u64,
    /// What it was told, in order of arrival on its stream.
    pub told: Vec<Told>,
    /// When the client ended it, or its stream broke, or the run ended.
    pub end_us: u64,
    /// If it was still open when the run came to its calm end: the revision through which it must have been told
    /// everything, which may be short of the last one ([`i64::MAX`]: all there are). Leases end after the end, too.
    pub owed_through: Option<i64>,
}

/// Something a watcher was told.
#[derive(Clone, Debug)]
pub struct Told {
    /// When it arrived.
    pub at_us: u64,
    /// `header.revision` of the response.
    pub revision: i64,
    /// What it says.
    pub news: News,
}

/// What a watch response says.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The watcher exists.
    Created,
    /// Changes; `fragment` as sent (more of the same response follows).
    Events {
        /// The changes.
        events: Vec<mvccpb::Event>,
        /// W-10.
        fragment: bool,
    },
    /// Progress: everything through `revision` was told (W-15, W-16).
    Progress,
    /// Cancelled, by the server or on request.
    Canceled {
        /// W-6; 0 otherwise.
        compact_revision: i64,
        /// As sent.
        reason: String,
    },
}

impl Request {
    /// The values this call writes if it takes place, in either branch of a transaction. Workloads make every value
    /// unique over the run, so that a change tells which call it came from.
    pub fn values(&self) -> Vec<Bytes> {
        let mut values = Vec::new();
        match self {
            Self::Put(put) => values.push(put.value.clone()),
            Self::Txn(txn) => txn_values(txn, &mut values),
            _ => {}
        }
        values
    }
}

fn txn_values(txn: &pb::TxnRequest, values: &mut Vec<Bytes>) {
    for op in txn.success.iter().chain(&txn.failure) {
        match &op.request {
            Some(pb::request_op::Request::RequestPut(put)) => values.push(put.value.clone()),
            Some(pb::request_op::Request::RequestTxn(inner)) => txn_values(inner, values),
            _ => {}
        }
    }
}
