//! `-w protobuf`: the answer's own bytes.

use super::Answer;
use cetera_proto::etcdserverpb::WatchResponse;
use prost::Message;

/// None if the answer is not one message.
pub(super) fn bytes(answer: &Answer<'_>) -> Option<Vec<u8>> {
    Some(match answer {
        Answer::Get(r) | Answer::Values(r) => r.encode_to_vec(),
        Answer::Put(r) => r.encode_to_vec(),
        Answer::Delete(r) => r.encode_to_vec(),
        Answer::Txn(r) => r.encode_to_vec(),
        // Without what belongs to the stream, not to the watch.
        Answer::Watch(r) => {
            WatchResponse { watch_id: 0, cancel_reason: String::new(), fragment: false, ..(*r).clone() }.encode_to_vec()
        }
        Answer::Grant(r) => r.encode_to_vec(),
        Answer::Revoke(_, r) => r.encode_to_vec(),
        Answer::KeepAlive(r) => r.encode_to_vec(),
        Answer::TimeToLive(r, _) => r.encode_to_vec(),
        Answer::Leases(r) => r.encode_to_vec(),
        Answer::MemberAdd(r) => r.encode_to_vec(),
        Answer::MemberRemove(_, r) => r.encode_to_vec(),
        Answer::MemberUpdate(_, r) => r.encode_to_vec(),
        Answer::MemberPromote(_, r) => r.encode_to_vec(),
        Answer::MemberList(r) => r.encode_to_vec(),
        Answer::MoveLeader { response, .. } => response.encode_to_vec(),
        Answer::Alarm(r) => r.encode_to_vec(),
        Answer::Health(_) | Answer::Status(_) | Answer::HashKv(_) => return None,
    })
}
