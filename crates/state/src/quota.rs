//! What a request costs against the quota (Q-1, TX-13; etcd `BackendQuota.Cost`). Whether it fits is decided before the
//! proposal, against the disk of one member; apply only looks at the replicated alarm (finding 0.6, Q-3).

use cetera_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};

/// Estimated bytes of a key's bookkeeping.
const KEY_OVERHEAD: u64 = 256;

/// Cost of a LeaseGrant in bytes.
pub const LEASE_GRANT: u64 = 64;

/// Cost of a Put in bytes.
pub fn put(request: &PutRequest) -> u64 {
    KEY_OVERHEAD + request.key.len() as u64 + request.value.len() as u64
}

/// Cost of a Txn in bytes: its dearer branch, nested transactions included. 0 = it writes no key.
pub fn txn(request: &TxnRequest) -> u64 {
    branch(&request.success).max(branch(&request.failure))
}

fn branch(ops: &[RequestOp]) -> u64 {
    let cost = |op: &RequestOp| match &op.request {
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestTxn(request)) => txn(request),
        _ => 0,
    };
    ops.iter().map(cost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cetera_proto::etcdserverpb::DeleteRangeRequest;

    fn put_op(key: &'static str, value: &'static str) -> RequestOp {
        let put = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        RequestOp { request: Some(Request::RequestPut(put)) }
    }

    /// Q-1, TX-13.
    #[test]
    fn costs() {
        let delete = RequestOp { request: Some(Request::RequestDeleteRange(DeleteRangeRequest::default())) };
        let inner = TxnRequest { failure: vec![put_op("kk", "v")], ..Default::default() };
        let nested = RequestOp { request: Some(Request::RequestTxn(inner)) };
        let txn_of = |success: Vec<RequestOp>, failure: Vec<RequestOp>| {
            txn(&TxnRequest { success, failure, ..Default::default() })
        };
        assert_eq!(txn_of(vec![], vec![]), 0);
        assert_eq!(txn_of(vec![delete.clone()], vec![RequestOp { request: None }]), 0);
        assert_eq!(txn_of(vec![put_op("k", "vv"), delete], vec![put_op("k", "v")]), 259);
        assert_eq!(txn_of(vec![put_op("k", "v")], vec![nested, put_op("k", "")]), 259 + 257);
    }
}
