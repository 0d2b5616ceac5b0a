//! Requests from a seed: everything a member can be asked to order, over few keys so that they meet.

use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;
use cetera_raft::rng::Rng;
use prost::Message as _;

/// Keys used.
const KEYS: usize = 24;
/// Leases used.
const LEASES: usize = 6;
/// Longest value in bytes; long ones make segments roll.
const VALUE_BYTES_MAX: usize = 700;

/// Makes requests; knows the current revision roughly, to make compactions and historical compares that bite.
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    /// Store revision last seen.
    pub revision: i64,
}

impl Workload {
    /// The same requests for the same seed and revisions.
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), revision: 1 }
    }

    /// A number below `below`.
    pub fn pick(&mut self, below: usize) -> usize {
        self.rng.within(0, below.max(1))
    }

    /// The next request with this id, encoded.
    pub fn request(&mut self, id: u64) -> Bytes {
        let mut request = match self.pick(20) {
            0..8 => pb::InternalRaftRequest { put: Some(self.put().into()), ..Default::default() },
            8..11 => pb::InternalRaftRequest { delete_range: Some(self.delete().into()), ..Default::default() },
            11..15 => pb::InternalRaftRequest { txn: Some(self.txn(2).into()), ..Default::default() },
            15 => pb::InternalRaftRequest { compaction: Some(self.compaction().into()), ..Default::default() },
            16..18 => pb::InternalRaftRequest {
                lease_grant: Some(pb::LeaseGrantRequest { id: self.lease(), ttl: 2 + self.pick(60) as i64 }.into()),
                ..Default::default()
            },
            _ => pb::InternalRaftRequest {
                lease_revoke: Some(pb::LeaseRevokeRequest { id: self.lease() }.into()),
                ..Default::default()
            },
        };
        request.header = Some(pb::RequestHeader { id, ..Default::default() });
        request.encode_to_vec().into()
    }

    fn key(&mut self) -> Bytes {
        format!("/k/{:02}", self.pick(KEYS)).into()
    }

    fn lease(&mut self) -> i64 {
        1 + self.pick(LEASES) as i64
    }

    fn put(&mut self) -> pb::PutRequest {
        let long = self.pick(4) == 0;
        let length = self.pick(if long { VALUE_BYTES_MAX } else { 24 });
        let fill = b'a' + self.pick(26) as u8;
        pb::PutRequest {
            key: self.key(),
            value: vec![fill; length].into(),
            lease: if self.pick(5) == 0 { self.lease() } else { 0 },
            prev_kv: self.pick(4) == 0,
            ..Default::default()
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        let key = self.key();
        let range_end = if self.pick(3) == 0 { self.key() } else { Bytes::new() };
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.pick(4) == 0 }
    }

    fn compaction(&mut self) -> pb::CompactionRequest {
        let back = self.pick(40) as i64;
        pb::CompactionRequest { revision: (self.revision - back).max(1), physical: false }
    }

    fn txn(&mut self, depth: usize) -> pb::TxnRequest {
        let compares = self.pick(3);
        let compare = (0..compares).map(|_| self.compare()).collect();
        pb::TxnRequest { compare, success: self.ops(depth, 0), failure: self.ops(depth, 1) }
    }

    /// Operations on keys of one parity class each, so that no branch puts a key twice.
    fn ops(&mut self, depth: usize, class: usize) -> Vec<pb::RequestOp> {
        let count = self.pick(4);
        let mut used = Vec::new();
        let mut ops = Vec::new();
        for _ in 0..count {
            let request = match self.pick(6) {
                0..3 => {
                    let put = self.put();
                    if put.lease != 0 || used.contains(&put.key) {
                        continue;
                    }
                    used.push(put.key.clone());
                    pb::request_op::Request::RequestPut(put)
                }
                3 => {
                    let key: Bytes = format!("/d/{class}/{:02}", self.pick(KEYS)).into();
                    pb::request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest { key, ..Default::default() })
                }
                4 if depth > 0 => {
                    let inner = pb::TxnRequest { compare: vec![self.compare()], ..Default::default() };
                    pb::request_op::Request::RequestTxn(inner)
                }
                _ => {
                    let range = pb::RangeRequest {
                        key: Bytes::from_static(b"/"),
                        range_end: Bytes::from_static(b"0"),
                        limit: self.pick(5) as i64,
                        ..Default::default()
                    };
                    pb::request_op::Request::RequestRange(range)
                }
            };
            ops.push(pb::RequestOp { request: Some(request) });
        }
        ops
    }

    fn compare(&mut self) -> pb::Compare {
        use pb::compare::{CompareResult, CompareTarget, TargetUnion};
        let result = match self.pick(4) {
            0 => CompareResult::Equal,
            1 => CompareResult::Greater,
            2 => CompareResult::Less,
            _ => CompareResult::NotEqual,
        };
        let (target, target_union) = match self.pick(3) {
            0 => (CompareTarget::Version, TargetUnion::Version(self.pick(4) as i64)),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(self.revision - self.pick(30) as i64)),
            _ => (CompareTarget::Mod, TargetUnion::ModRevision(self.revision - self.pick(30) as i64)),
        };
        pb::Compare {
            result: result as i32,
            target: target as i32,
            key: self.key(),
            range_end: Bytes::new(),
            target_union: Some(target_union),
        }
    }
}
