//! `-w fields`: one `"Name" : value` a line.

use super::{Answer, alarm_name};
use crate::go::quote;
use cetera_proto::etcdserverpb::response_op::Response;
use cetera_proto::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
};
use cetera_proto::mvccpb::KeyValue;
use cetera_proto::mvccpb::event::EventType;
use std::fmt::Display;
use std::io::Write;

/// None if etcdctl has no such output.
pub(super) fn text(answer: &Answer<'_>, hex: bool) -> Option<Vec<u8>> {
    let mut printer = Fields { hex, out: Vec::new() };
    printer.answer(answer).then_some(printer.out)
}

struct Fields {
    hex: bool,
    out: Vec<u8>,
}

impl Fields {
    fn answer(&mut self, answer: &Answer<'_>) -> bool {
        match answer {
            Answer::Get(r) | Answer::Values(r) => self.get(r),
            Answer::Put(r) => self.put(r),
            Answer::Delete(r) => self.delete(r),
            Answer::Txn(r) => self.txn(r),
            Answer::Watch(r) => self.watch(r),
            Answer::Grant(r) => {
                self.header(&r.header);
                self.lease("ID", r.id);
                self.field("TTL", r.ttl);
            }
            Answer::Revoke(_, r) => self.header(&r.header),
            Answer::KeepAlive(r) => {
                self.header(&r.header);
                self.lease("ID", r.id);
                self.field("TTL", r.ttl);
            }
            Answer::TimeToLive(r, _) => {
                self.header(&r.header);
                self.lease("ID", r.id);
                self.field("TTL", r.ttl);
                self.field("GrantedTTL", r.granted_ttl);
                r.keys.iter().for_each(|k| self.field("Key", quote(k)));
            }
            Answer::Leases(r) => {
                self.header(&r.header);
                r.leases.iter().for_each(|l| self.lease("ID", l.id));
            }
            Answer::MemberList(r) => {
                self.header(&r.header);
                for m in &r.members {
                    self.id("ID", m.id);
                    self.field("Name", quote(m.name.as_bytes()));
                    m.peer_urls.iter().for_each(|u| self.field("PeerURL", quote(u.as_bytes())));
                    m.client_urls.iter().for_each(|u| self.field("ClientURL", quote(u.as_bytes())));
                    self.field("IsLearner", m.is_learner);
                    self.gap();
                }
            }
            Answer::Health(list) => {
                for h in *list {
                    self.field("Endpoint", quote(h.endpoint.as_bytes()));
                    self.field("Health", h.healthy);
                    self.field("Took", &h.took);
                    self.field("Error", &h.error);
                    self.gap();
                }
            }
            Answer::Status(list) => list.iter().for_each(|(endpoint, status)| self.status(endpoint, status)),
            Answer::HashKv(list) => {
                for (endpoint, r) in *list {
                    self.header(&r.header);
                    self.field("Endpoint", quote(endpoint.as_bytes()));
                    self.field("Hash", r.hash);
                    self.field("HashRevision", r.hash_revision);
                    self.gap();
                }
            }
            Answer::Alarm(r) => {
                self.header(&r.header);
                for a in &r.alarms {
                    self.id("MemberID", a.member_id);
                    self.field("AlarmType", alarm_name(a.alarm));
                    self.gap();
                }
            }
            Answer::MemberAdd(_)
            | Answer::MemberRemove(..)
            | Answer::MemberUpdate(..)
            | Answer::MemberPromote(..)
            | Answer::MoveLeader { .. } => return false,
        }
        true
    }

    fn field(&mut self, name: &str, value: impl Display) {
        writeln!(self.out, "\"{name}\" : {value}").expect("a vector takes all");
    }

    fn gap(&mut self) {
        self.out.push(b'\n');
    }

    fn id(&mut self, name: &str, id: u64) {
        if self.hex { self.field(name, format_args!("{id:x}")) } else { self.field(name, id) }
    }

    fn lease(&mut self, name: &str, id: i64) {
        if self.hex { self.field(name, format_args!("{id:016x}")) } else { self.field(name, id) }
    }

    /// The revision only where there is one: answers about members have none.
    fn header(&mut self, header: &Option<ResponseHeader>) {
        let header = header.unwrap_or_default();
        self.id("ClusterID", header.cluster_id);
        self.id("MemberID", header.member_id);
        if header.revision > 0 {
            self.field("Revision", header.revision);
        }
        self.field("RaftTerm", header.raft_term);
    }

    fn kv(&mut self, prefix: &str, kv: &KeyValue) {
        self.field(&format!("{prefix}Key"), quote(&kv.key));
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.field(&format!("{prefix}Value"), quote(&kv.value));
        self.lease(&format!("{prefix}Lease"), kv.lease);
    }

    fn get(&mut self, r: &RangeResponse) {
        self.header(&r.header);
        r.kvs.iter().for_each(|kv| self.kv("", kv));
        self.field("More", r.more);
        self.field("Count", r.count);
    }

    fn put(&mut self, r: &PutResponse) {
        self.header(&r.header);
        r.prev_kv.iter().for_each(|kv| self.kv("Prev", kv));
    }

    fn delete(&mut self, r: &DeleteRangeResponse) {
        self.header(&r.header);
        self.field("Deleted", r.deleted);
        r.prev_kvs.iter().for_each(|kv| self.kv("Prev", kv));
    }

    fn txn(&mut self, r: &TxnResponse) {
        self.header(&r.header);
        self.field("Succeeded", r.succeeded);
        for op in &r.responses {
            match &op.response {
                Some(Response::ResponseRange(r)) => self.get(r),
                Some(Response::ResponsePut(r)) => self.put(r),
                Some(Response::ResponseDeleteRange(r)) => self.delete(r),
                Some(Response::ResponseTxn(r)) => self.txn(r),
                None => self.field("Unknown", quote(b"<nil>")),
            }
        }
    }

    fn watch(&mut self, r: &WatchResponse) {
        self.header(&r.header);
        for event in &r.events {
            self.field("Type", if event.r#type == EventType::Put as i32 { "PUT" } else { "DELETE" });
            event.prev_kv.iter().for_each(|kv| self.kv("Prev", kv));
            event.kv.iter().for_each(|kv| self.kv("", kv));
        }
    }

    fn status(&mut self, endpoint: &str, r: &StatusResponse) {
        self.header(&r.header);
        self.field("Version", quote(r.version.as_bytes()));
        self.field("StorageVersion", quote(r.storage_version.as_bytes()));
        self.field("DBSize", r.db_size);
        self.field("DBSizeInUse", r.db_size_in_use);
        self.field("DBSizeQuota", r.db_size_quota);
        self.field("Leader", r.leader);
        self.field("IsLearner", r.is_learner);
        self.field("RaftIndex", r.raft_index);
        self.field("RaftTerm", r.raft_term);
        self.field("RaftAppliedIndex", r.raft_applied_index);
        self.field("Errors", format_args!("[{}]", r.errors.join(" ")));
        self.field("Endpoint", quote(endpoint.as_bytes()));
        let downgrade = r.downgrade_info.clone().unwrap_or_default();
        self.field("DowngradeTargetVersion", quote(downgrade.target_version.as_bytes()));
        self.field("DowngradeEnabled", downgrade.enabled);
        self.gap();
    }
}
