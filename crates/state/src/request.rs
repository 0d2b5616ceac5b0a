//! What a log entry asks for: `InternalRaftRequest` (D-7) read one level deep, so that an entry costs the decoding of
//! the one message it holds. Keys and values share the entry's buffer.

use bytes::Bytes;
use cetera_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, FeatureLevelSetRequest, LeaseCheckpointRequest,
    LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestHeader, TxnRequest,
};
use cetera_proto::membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest};
use prost::Message;

use crate::error::Fatal;
use crate::wire::{Field, next_field};

/// Field numbers of `InternalRaftRequest` that are no request.
const ID: u32 = 1;
const HEADER: u32 = 100;

/// A log entry's payload.
pub(crate) struct Entry {
    /// `header.ID`, or the old `ID` (etcd `apply.Apply`): names the waiter of whoever proposed it.
    pub(crate) request_id: u64,
    pub(crate) request: Request,
}

/// The requests this build applies, in the order of D-7.
pub(crate) enum Request {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compaction(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    Alarm(AlarmRequest),
    LeaseCheckpoint(LeaseCheckpointRequest),
    ClusterVersionSet(ClusterVersionSetRequest),
    ClusterMemberAttrSet(ClusterMemberAttrSetRequest),
    DowngradeInfoSet(DowngradeInfoSetRequest),
    /// Means nothing, for tests of etcd's (etcd `DowngradeVersionTest`).
    DowngradeVersionTest,
    FeatureLevelSet(FeatureLevelSetRequest),
}

/// Reads an entry. A request this build does not know stops the node: the others know what it does.
pub(crate) fn decode(index: u64, data: &Bytes) -> Result<Entry, Fatal> {
    let malformed = |error: prost::DecodeError| Fatal::Malformed { index, what: error.to_string() };
    let mut input = data.clone();
    let mut id = 0;
    let mut header_id = 0;
    let mut found: Option<(u32, Bytes)> = None;
    while let Some((number, field)) = next_field(&mut input).map_err(|what| Fatal::Malformed { index, what })? {
        match (number, field) {
            (ID, Field::Int(value)) => id = value,
            (HEADER, Field::Message(bytes)) => header_id = RequestHeader::decode(bytes).map_err(malformed)?.id,
            (number, Field::Message(bytes)) => {
                if let Some((first, _)) = found {
                    let what = format!("requests {first} and {number} in one entry");
                    return Err(Fatal::Malformed { index, what });
                }
                found = Some((number, bytes));
            }
            (number, _) => return Err(Fatal::UnknownRequest { index, field: number }),
        }
    }
    let Some((number, bytes)) = found else {
        return Err(Fatal::Malformed { index, what: "no request in it".into() });
    };
    let request_id = if id != 0 { id } else { header_id };
    let request = decode_request(number, bytes).map_err(malformed)?;
    let request = request.ok_or(Fatal::UnknownRequest { index, field: number })?;
    Ok(Entry { request_id, request })
}

fn decode_request(number: u32, bytes: Bytes) -> Result<Option<Request>, prost::DecodeError> {
    Ok(Some(match number {
        3 => Request::Range(RangeRequest::decode(bytes)?),
        4 => Request::Put(PutRequest::decode(bytes)?),
        5 => Request::DeleteRange(DeleteRangeRequest::decode(bytes)?),
        6 => Request::Txn(TxnRequest::decode(bytes)?),
        7 => Request::Compaction(CompactionRequest::decode(bytes)?),
        8 => Request::LeaseGrant(LeaseGrantRequest::decode(bytes)?),
        9 => Request::LeaseRevoke(LeaseRevokeRequest::decode(bytes)?),
        10 => Request::Alarm(AlarmRequest::decode(bytes)?),
        11 => Request::LeaseCheckpoint(LeaseCheckpointRequest::decode(bytes)?),
        1300 => Request::ClusterVersionSet(ClusterVersionSetRequest::decode(bytes)?),
        1301 => Request::ClusterMemberAttrSet(ClusterMemberAttrSetRequest::decode(bytes)?),
        1302 => Request::DowngradeInfoSet(DowngradeInfoSetRequest::decode(bytes)?),
        9900 => Request::DowngradeVersionTest,
        20_001 => Request::FeatureLevelSet(FeatureLevelSetRequest::decode(bytes)?),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cetera_proto::etcdserverpb::{AuthEnableRequest, InternalRaftRequest};

    fn entry(request: &InternalRaftRequest) -> Result<Entry, Fatal> {
        decode(9, &Bytes::from(request.encode_to_vec()))
    }

    fn header(id: u64) -> Option<RequestHeader> {
        Some(RequestHeader { id, ..Default::default() })
    }

    /// D-7: the field numbers are those of the generated message.
    #[test]
    fn every_known_request_is_found() {
        let one = InternalRaftRequest { header: header(5), ..Default::default() };
        macro_rules! check {
            ($($field:ident => $variant:pat),+ $(,)?) => {$(
                let request = InternalRaftRequest { $field: Some(Default::default()), ..one.clone() };
                let found = entry(&request).unwrap_or_else(|e| panic!("{}: {e}", stringify!($field)));
                assert!(matches!(found.request, $variant), stringify!($field));
                assert_eq!(found.request_id, 5);
            )+};
        }
        check! {
            range => Request::Range(_),
            put => Request::Put(_),
            delete_range => Request::DeleteRange(_),
            txn => Request::Txn(_),
            compaction => Request::Compaction(_),
            lease_grant => Request::LeaseGrant(_),
            lease_revoke => Request::LeaseRevoke(_),
            alarm => Request::Alarm(_),
            lease_checkpoint => Request::LeaseCheckpoint(_),
            cluster_version_set => Request::ClusterVersionSet(_),
            cluster_member_attr_set => Request::ClusterMemberAttrSet(_),
            downgrade_info_set => Request::DowngradeInfoSet(_),
            downgrade_version_test => Request::DowngradeVersionTest,
            feature_level_set => Request::FeatureLevelSet(_),
        }
    }

    #[test]
    fn the_old_id_goes_before_the_header() {
        let put = Some(Box::default());
        let both = InternalRaftRequest { id: 7, header: header(5), put, ..Default::default() };
        assert_eq!(entry(&both).unwrap().request_id, 7);
    }

    #[test]
    fn keys_and_values_share_the_entry() {
        let put = PutRequest { key: "key".into(), value: vec![7; 5000].into(), ..Default::default() };
        let request = InternalRaftRequest { put: Some(Box::new(put)), ..Default::default() };
        let data = Bytes::from(request.encode_to_vec());
        let Request::Put(put) = decode(1, &data).unwrap().request else { panic!("a put") };
        assert!(data.as_ptr_range().contains(&put.value.as_ptr()));
    }

    #[test]
    fn what_is_not_understood_stops_the_node() {
        let auth = InternalRaftRequest { auth_enable: Some(AuthEnableRequest {}), ..Default::default() };
        assert!(matches!(entry(&auth), Err(Fatal::UnknownRequest { index: 9, field: 1000 })));
        let later = [0xfa, 0xff, 0x0f, 0]; // field 32767, empty
        assert!(matches!(decode(9, &Bytes::copy_from_slice(&later)), Err(Fatal::UnknownRequest { field: 32767, .. })));
        let empty = InternalRaftRequest { header: header(5), ..Default::default() };
        assert!(matches!(entry(&empty), Err(Fatal::Malformed { index: 9, .. })));
        let two = InternalRaftRequest { put: Some(Box::default()), txn: Some(Box::default()), ..Default::default() };
        assert!(matches!(entry(&two), Err(Fatal::Malformed { .. })));
        assert!(matches!(decode(9, &Bytes::from_static(&[0x22, 9, 1])), Err(Fatal::Malformed { .. })));
    }
}
