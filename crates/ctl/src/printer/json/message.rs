//! The wire messages, as Go's struct tags name them.

use super::writer::{Object, object};
use crate::go::json_string;
use cetera_proto::etcdserverpb::response_op::Response;
use cetera_proto::etcdserverpb::{
    AlarmResponse, DeleteRangeResponse, HashKvResponse, Member, PutResponse, RangeResponse, ResponseHeader, ResponseOp,
    StatusResponse, TxnResponse,
};
use cetera_proto::mvccpb::{Event, KeyValue};

pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

pub(super) fn header(h: &ResponseHeader) -> String {
    object(|o| header_fields(o, &Some(*h)))
}

/// The header's own fields, as those of the object.
pub(super) fn header_fields(o: &mut Object, header: &Option<ResponseHeader>) {
    let h = header.unwrap_or_default();
    o.number_unless_zero("cluster_id", h.cluster_id);
    o.number_unless_zero("member_id", h.member_id);
    o.number_unless_zero("revision", h.revision);
    o.number_unless_zero("raft_term", h.raft_term);
}

pub(super) fn header_field(o: &mut Object, header: &Option<ResponseHeader>) {
    if let Some(h) = header {
        o.json("header", &self::header(h));
    }
}

pub(super) fn only_header(header: &Option<ResponseHeader>) -> String {
    object(|o| header_field(o, header))
}

fn kv(kv: &KeyValue) -> String {
    object(|o| {
        o.bytes_unless_empty("key", &kv.key);
        o.number_unless_zero("create_revision", kv.create_revision);
        o.number_unless_zero("mod_revision", kv.mod_revision);
        o.number_unless_zero("version", kv.version);
        o.bytes_unless_empty("value", &kv.value);
        o.number_unless_zero("lease", kv.lease);
    })
}

pub(super) fn event(event: &Event) -> String {
    object(|o| {
        o.number_unless_zero("type", event.r#type);
        if let Some(now) = &event.kv {
            o.json("kv", &kv(now));
        }
        if let Some(before) = &event.prev_kv {
            o.json("prev_kv", &kv(before));
        }
    })
}

pub(super) fn range(r: &RangeResponse) -> String {
    object(|o| {
        header_field(o, &r.header);
        o.list_unless_empty("kvs", r.kvs.iter().map(kv));
        o.bool_unless_false("more", r.more);
        o.number_unless_zero("count", r.count);
    })
}

pub(super) fn put(r: &PutResponse) -> String {
    object(|o| {
        header_field(o, &r.header);
        if let Some(before) = &r.prev_kv {
            o.json("prev_kv", &kv(before));
        }
    })
}

pub(super) fn delete(r: &DeleteRangeResponse) -> String {
    object(|o| {
        header_field(o, &r.header);
        o.number_unless_zero("deleted", r.deleted);
        o.list_unless_empty("prev_kvs", r.prev_kvs.iter().map(kv));
    })
}

pub(super) fn txn(r: &TxnResponse) -> String {
    object(|o| {
        header_field(o, &r.header);
        o.bool_unless_false("succeeded", r.succeeded);
        o.list_unless_empty("responses", r.responses.iter().map(response_op));
    })
}

/// Wrapped once more: Go's struct for a oneof has a field of its own.
fn response_op(op: &ResponseOp) -> String {
    let inner = object(|o| match &op.response {
        Some(Response::ResponseRange(r)) => o.json("response_range", &range(r)),
        Some(Response::ResponsePut(r)) => o.json("response_put", &put(r)),
        Some(Response::ResponseDeleteRange(r)) => o.json("response_delete_range", &delete(r)),
        Some(Response::ResponseTxn(r)) => o.json("response_txn", &txn(r)),
        None => {}
    });
    object(|o| o.json("Response", &inner))
}

pub(super) fn member(m: &Member) -> String {
    object(|o| {
        o.number_unless_zero("ID", m.id);
        member_fields(o, m);
    })
}

/// All but the id.
pub(super) fn member_fields(o: &mut Object, m: &Member) {
    let text = |s: &String| json_string(s.as_bytes());
    o.text_unless_empty("name", &m.name);
    o.list_unless_empty("peerURLs", m.peer_urls.iter().map(text));
    o.list_unless_empty("clientURLs", m.client_urls.iter().map(text));
    o.bool_unless_false("isLearner", m.is_learner);
}

pub(super) fn status(r: &StatusResponse) -> String {
    object(|o| {
        header_field(o, &r.header);
        o.text_unless_empty("version", &r.version);
        o.number_unless_zero("dbSize", r.db_size);
        o.number_unless_zero("leader", r.leader);
        o.number_unless_zero("raftIndex", r.raft_index);
        o.number_unless_zero("raftTerm", r.raft_term);
        o.number_unless_zero("raftAppliedIndex", r.raft_applied_index);
        o.list_unless_empty("errors", r.errors.iter().map(|e| json_string(e.as_bytes())));
        o.number_unless_zero("dbSizeInUse", r.db_size_in_use);
        o.bool_unless_false("isLearner", r.is_learner);
        o.text_unless_empty("storageVersion", &r.storage_version);
        o.number_unless_zero("dbSizeQuota", r.db_size_quota);
        if let Some(downgrade) = &r.downgrade_info {
            let fields = object(|o| {
                o.bool_unless_false("enabled", downgrade.enabled);
                o.text_unless_empty("targetVersion", &downgrade.target_version);
            });
            o.json("downgradeInfo", &fields);
        }
    })
}

pub(super) fn hash_kv(r: &HashKvResponse) -> String {
    object(|o| {
        header_field(o, &r.header);
        o.number_unless_zero("hash", r.hash);
        o.number_unless_zero("compact_revision", r.compact_revision);
        o.number_unless_zero("hash_revision", r.hash_revision);
    })
}

pub(super) fn alarm(r: &AlarmResponse) -> String {
    object(|o| {
        header_field(o, &r.header);
        o.list_unless_empty(
            "alarms",
            r.alarms.iter().map(|a| {
                object(|o| {
                    o.number_unless_zero("memberID", a.member_id);
                    o.number_unless_zero("alarm", a.alarm);
                })
            }),
        );
    })
}
