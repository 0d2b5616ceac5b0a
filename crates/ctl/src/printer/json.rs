//! `-w json`: what Go's encoding/json makes of the answers, field by field (contract 4.2).
//!
//! Zero fields are left out of messages; the client's own structs (leases, watches, lists of endpoints) keep theirs.

mod message;
mod writer;

use super::Answer;
use cetera_proto::etcdserverpb::{Member, ResponseHeader};
use writer::{Object, object};

/// None if etcdctl has no such output.
pub(super) fn text(answer: &Answer<'_>, hex: bool) -> Option<Vec<u8>> {
    let mut out = match answer {
        Answer::Get(r) | Answer::Values(r) => message::range(r),
        Answer::Put(r) => message::put(r),
        Answer::Delete(r) => message::delete(r),
        Answer::Txn(r) => message::txn(r),
        Answer::Watch(r) => object(|o| {
            o.json("Header", &r.header.as_ref().map_or("null".to_string(), message::header));
            let events = message::list(r.events.iter().map(message::event));
            o.json("Events", if r.events.is_empty() { "null" } else { &events });
            o.number("CompactRevision", r.compact_revision);
            o.bool("Canceled", r.canceled);
            o.bool("Created", false);
            o.text("CancelReason", &r.cancel_reason);
        }),
        Answer::Grant(r) => object(|o| {
            message::header_fields(o, &r.header);
            o.number("ID", r.id);
            o.number("TTL", r.ttl);
            o.text("Error", &r.error);
        }),
        Answer::KeepAlive(r) => object(|o| {
            message::header_fields(o, &r.header);
            o.number("ID", r.id);
            o.number("TTL", r.ttl);
        }),
        Answer::TimeToLive(r, _) => object(|o| {
            message::header_fields(o, &r.header);
            o.number("id", r.id);
            o.number("ttl", r.ttl);
            o.number("granted-ttl", r.granted_ttl);
            let keys = message::list(r.keys.iter().map(|k| writer::base64(k)));
            o.json("keys", if r.keys.is_empty() { "null" } else { &keys });
        }),
        Answer::Leases(r) => object(|o| {
            message::header_fields(o, &r.header);
            o.json("leases", &message::list(r.leases.iter().map(|l| object(|o| o.number("id", l.id)))));
        }),
        Answer::Revoke(_, r) => message::only_header(&r.header),
        Answer::MoveLeader { .. } => return None,
        Answer::MemberAdd(r) => members(hex, &r.header, Some(r.member.as_ref()), &r.members),
        Answer::MemberRemove(_, r) => members(hex, &r.header, None, &r.members),
        Answer::MemberUpdate(_, r) => members(hex, &r.header, None, &r.members),
        Answer::MemberPromote(_, r) => members(hex, &r.header, None, &r.members),
        Answer::MemberList(r) => members(hex, &r.header, None, &r.members),
        Answer::Health(list) => endpoints(list.iter().map(|h| {
            object(|o| {
                o.text("endpoint", &h.endpoint);
                o.bool("health", h.healthy);
                o.text("took", &h.took);
                o.text_unless_empty("error", &h.error);
            })
        })),
        Answer::Status(list) => endpoints(list.iter().map(|(endpoint, r)| {
            object(|o| {
                o.text("Endpoint", endpoint);
                o.json("Status", &message::status(r));
            })
        })),
        Answer::HashKv(list) => endpoints(list.iter().map(|(endpoint, r)| {
            object(|o| {
                o.text("Endpoint", endpoint);
                o.json("HashKV", &message::hash_kv(r));
            })
        })),
        Answer::Alarm(r) => message::alarm(r),
    };
    out.push('\n');
    Some(out.into_bytes())
}

/// A list of endpoints; Go prints an empty one as null.
fn endpoints(items: impl Iterator<Item = String>) -> String {
    let list = message::list(items);
    if list == "[]" { "null".to_string() } else { list }
}

/// Answers about members, whose ids are texts with `--hex`.
fn members(hex: bool, header: &Option<ResponseHeader>, one: Option<Option<&Member>>, all: &[Member]) -> String {
    let member = |m: &Member| if hex { hex_member(m) } else { message::member(m) };
    object(|o| {
        if hex {
            o.json("header", &header.as_ref().map_or("null".to_string(), hex_header));
        } else {
            message::header_field(o, header);
        }
        match one {
            Some(Some(m)) => o.json("member", &member(m)),
            Some(None) if hex => o.json("member", "null"),
            Some(None) | None => {}
        }
        if hex || !all.is_empty() {
            o.json("members", &message::list(all.iter().map(member)));
        }
    })
}

fn hex_header(h: &ResponseHeader) -> String {
    object(|o| {
        o.text("cluster_id", &format!("{:x}", h.cluster_id));
        o.text("member_id", &format!("{:x}", h.member_id));
        o.number_unless_zero("revision", h.revision);
        o.number_unless_zero("raft_term", h.raft_term);
    })
}

fn hex_member(m: &Member) -> String {
    object(|o: &mut Object| {
        o.text("ID", &format!("{:x}", m.id));
        message::member_fields(o, m);
    })
}
