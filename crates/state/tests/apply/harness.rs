//! A state machine over a disk in memory, fed with requests as a log would feed it.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cetera_mvcc::{EventRec, Store};
use cetera_proto::etcdserverpb::{
    self as pb, InternalRaftRequest, PutRequest, RangeRequest, RequestHeader, RequestOp, TxnRequest,
    request_op::Request,
};
use cetera_state::{Applied, ApplyError, Fatal, Outcome, State, StateLimits, StateRestore};
use cetera_storage::revlog::{RevLog, RevLogOptions};
use cetera_storage::vfs::{MemoryVfs, Vfs};
use prost::Message;

pub(crate) const LOG_DIR: &str = "/member/log";

pub(crate) struct Machine {
    pub(crate) vfs: MemoryVfs,
    pub(crate) state: State,
    /// Changes since they were last taken.
    pub(crate) events: Vec<EventRec>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::with_limits(StateLimits::default())
    }

    pub(crate) fn with_limits(limits: StateLimits) -> Self {
        let vfs = MemoryVfs::new();
        let disk: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let log = RevLog::create(disk, Path::new(LOG_DIR), RevLogOptions::default()).unwrap();
        // As the data directory does when it is laid out.
        for dir in ["/", "/member"] {
            vfs.sync_dir(Path::new(dir)).unwrap();
        }
        Self { vfs, state: State::create(Store::create(log), limits), events: Vec::new() }
    }

    /// Applies an encoded entry at the next index.
    pub(crate) fn entry(&mut self, data: &Bytes) -> Result<Outcome, Fatal> {
        let index = self.state.applied_index() + 1;
        self.state.apply(index, 1, data, &mut self.events)
    }

    pub(crate) fn try_apply(&mut self, request: InternalRaftRequest) -> Result<Result<Applied, ApplyError>, Fatal> {
        let header = RequestHeader { id: 1000 + self.state.applied_index(), ..Default::default() };
        let id = header.id;
        let data = InternalRaftRequest { header: Some(header), ..request }.encode_to_vec();
        let outcome = self.entry(&data.into())?;
        assert_eq!(outcome.request_id, id);
        Ok(outcome.result)
    }

    pub(crate) fn apply(&mut self, request: InternalRaftRequest) -> Result<Applied, ApplyError> {
        self.try_apply(request).unwrap()
    }

    pub(crate) fn put_request(&mut self, put: PutRequest) -> Result<(i64, pb::PutResponse), ApplyError> {
        self.apply(request_put(put)).map(typed)
    }

    /// Puts and gives the revision.
    pub(crate) fn put(&mut self, key: &str, value: &str) -> i64 {
        self.put_leased(key, value, 0)
    }

    pub(crate) fn put_leased(&mut self, key: &str, value: &str, lease: i64) -> i64 {
        self.put_request(PutRequest { lease, ..put(key, value) }).unwrap().0
    }

    pub(crate) fn delete(&mut self, key: &str, end: &str, prev_kv: bool) -> (i64, pb::DeleteRangeResponse) {
        let request = pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv };
        self.apply(InternalRaftRequest { delete_range: Some(Box::new(request)), ..Default::default() })
            .map(typed)
            .unwrap()
    }

    pub(crate) fn txn(&mut self, txn: TxnRequest) -> Result<(i64, pb::TxnResponse), ApplyError> {
        self.apply(InternalRaftRequest { txn: Some(Box::new(txn)), ..Default::default() }).map(typed)
    }

    pub(crate) fn compact(&mut self, revision: i64) -> Result<i64, ApplyError> {
        let compaction = pb::CompactionRequest { revision, physical: false };
        let request = InternalRaftRequest { compaction: Some(Box::new(compaction)), ..Default::default() };
        self.apply(request).map(|applied| applied.revision)
    }

    pub(crate) fn grant(&mut self, id: i64, ttl: i64) -> Result<Applied, ApplyError> {
        let grant = pb::LeaseGrantRequest { id, ttl };
        self.apply(InternalRaftRequest { lease_grant: Some(Box::new(grant)), ..Default::default() })
    }

    pub(crate) fn revoke(&mut self, id: i64) -> Result<Applied, ApplyError> {
        let revoke = pb::LeaseRevokeRequest { id };
        self.apply(InternalRaftRequest { lease_revoke: Some(Box::new(revoke)), ..Default::default() })
    }

    pub(crate) fn alarm(&mut self, action: i32, member_id: u64, alarm: i32) -> Vec<(u64, i32)> {
        let alarm = pb::AlarmRequest { action, member_id, alarm };
        let request = InternalRaftRequest { alarm: Some(Box::new(alarm)), ..Default::default() };
        let (_, response): (_, pb::AlarmResponse) = self.apply(request).map(typed).unwrap();
        response.alarms.iter().map(|a| (a.member_id, a.alarm)).collect()
    }

    /// The value of a key now.
    pub(crate) fn value(&mut self, key: &str) -> Option<String> {
        let payload = self.state.view().unwrap().kv(key.as_bytes(), 0).unwrap()?;
        let kv = cetera_proto::mvccpb::KeyValue::decode(payload).unwrap();
        Some(String::from_utf8(kv.value.to_vec()).unwrap())
    }

    /// (main, sub, key, deleted) of every change since the last call.
    pub(crate) fn changes(&mut self) -> Vec<(i64, i64, String, bool)> {
        let text = |key: &Bytes| String::from_utf8(key.to_vec()).unwrap();
        self.events.drain(..).map(|e| (e.revision.main, e.revision.sub, text(&e.key), e.tombstone)).collect()
    }

    /// The chunks of a checkpoint taken now.
    pub(crate) fn checkpoint(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut chunks = Chunks::default();
        self.state.checkpoint().unwrap().write(&mut chunks).unwrap();
        chunks.0
    }

    /// What a member finds after a power loss now, given the chunks of a checkpoint taken before.
    pub(crate) fn restored(&self, chunks: &[(u8, Vec<u8>)], seed: u64) -> Self {
        self.try_restored(chunks, seed, StateLimits::default()).unwrap()
    }

    pub(crate) fn try_restored(
        &self,
        chunks: &[(u8, Vec<u8>)],
        seed: u64,
        limits: StateLimits,
    ) -> Result<Self, cetera_state::RestoreError> {
        let vfs = self.vfs.crash(seed);
        let disk: Arc<dyn Vfs> = Arc::new(vfs.clone());
        let mut restore = StateRestore::new();
        for (kind, data) in chunks {
            assert!(restore.chunk(*kind, data.clone())?, "chunk {kind:#x} is known");
        }
        let state = restore
            .finish(limits, |manifest| RevLog::open(disk, Path::new(LOG_DIR), RevLogOptions::default(), manifest))?;
        Ok(Self { vfs, state, events: Vec::new() })
    }
}

#[derive(Default)]
struct Chunks(Vec<(u8, Vec<u8>)>);

impl cetera_mvcc::ChunkSink for Chunks {
    fn chunk(&mut self, kind: u8, data: &[u8]) -> std::io::Result<()> {
        self.0.push((kind, data.to_vec()));
        Ok(())
    }
}

/// The body as a message; it has no header.
pub(crate) fn typed<M: Message + Default>(applied: Applied) -> (i64, M) {
    (applied.revision, M::decode(applied.body).unwrap())
}

pub(crate) fn request_put(put: PutRequest) -> InternalRaftRequest {
    InternalRaftRequest { put: Some(Box::new(put)), ..Default::default() }
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..Default::default() }
}

pub(crate) fn range(key: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), ..Default::default() }
}

pub(crate) fn op_put(put: PutRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestPut(put)) }
}

pub(crate) fn op_range(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestRange(range)) }
}

pub(crate) fn op_delete(key: &str, end: &str) -> RequestOp {
    let delete = pb::DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv: false };
    RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

pub(crate) fn op_txn(txn: TxnRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestTxn(txn)) }
}

pub(crate) fn then(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..Default::default() }
}

/// A small generator for seeded tests.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
