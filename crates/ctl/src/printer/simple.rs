//! `-w simple`: for people, and for `cut` and `grep`.

use super::{Answer, Text, alarm_name, hash_rows, member_rows, status_rows};
use cetera_proto::etcdserverpb::response_op::Response;
use cetera_proto::etcdserverpb::{
    DeleteRangeResponse, LeaseTimeToLiveResponse, PutResponse, RangeResponse, ResponseHeader, TxnResponse,
    WatchResponse,
};
use cetera_proto::mvccpb::KeyValue;
use cetera_proto::mvccpb::event::EventType;
use std::io::Write;

pub(super) fn text(answer: &Answer<'_>, hex: bool) -> Text {
    let mut printer = Simple { hex, out: Vec::new(), err: Vec::new() };
    printer.answer(answer);
    Text { out: printer.out, err: printer.err }
}

struct Simple {
    hex: bool,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Simple {
    fn answer(&mut self, answer: &Answer<'_>) {
        match answer {
            Answer::Get(r) => self.get(r),
            Answer::Values(r) => r.kvs.iter().for_each(|kv| self.bytes(&kv.value)),
            Answer::Put(r) => self.put(r),
            Answer::Delete(r) => self.delete(r),
            Answer::Txn(r) => self.txn(r),
            Answer::Watch(r) => self.watch(r),
            Answer::Grant(r) => self.line(format_args!("lease {:016x} granted with TTL({}s)", r.id, r.ttl)),
            Answer::Revoke(id, _) => self.line(format_args!("lease {id:016x} revoked")),
            Answer::KeepAlive(r) => self.line(format_args!("lease {:016x} keepalived with TTL({})", r.id, r.ttl)),
            Answer::TimeToLive(r, keys) => self.time_to_live(r, *keys),
            Answer::Leases(r) => {
                self.line(format_args!("found {} leases", r.leases.len()));
                r.leases.iter().for_each(|l| self.line(format_args!("{:016x}", l.id)));
            }
            Answer::MemberAdd(r) => {
                let member = r.member.clone().unwrap_or_default();
                let learner = if member.is_learner { " as learner" } else { "" };
                let cluster = cluster_id(&r.header);
                self.line(format_args!("Member {:16x} added{learner} to cluster {cluster:16x}", member.id));
            }
            Answer::MemberRemove(id, r) => {
                self.line(format_args!("Member {id:16x} removed from cluster {:16x}", cluster_id(&r.header)));
            }
            Answer::MemberUpdate(id, r) => {
                self.line(format_args!("Member {id:16x} updated in cluster {:16x}", cluster_id(&r.header)));
            }
            Answer::MemberPromote(id, r) => {
                self.line(format_args!("Member {id:16x} promoted in cluster {:16x}", cluster_id(&r.header)));
            }
            Answer::MemberList(r) => self.rows(&member_rows(r).1),
            Answer::MoveLeader { from, to, .. } => {
                self.line(format_args!("Leadership transferred from {from:x} to {to:x}"));
            }
            Answer::Health(list) => self.health(list),
            Answer::Status(list) => self.rows(&status_rows(list).1),
            Answer::HashKv(list) => self.rows(&hash_rows(list).1),
            Answer::Alarm(r) => {
                for a in &r.alarms {
                    self.line(format_args!("memberID:{} alarm:{} ", a.member_id, alarm_name(a.alarm)));
                }
            }
        }
    }

    fn line(&mut self, text: impl std::fmt::Display) {
        writeln!(self.out, "{text}").expect("a vector takes all");
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.hex {
            self.line(bytes.iter().map(|b| format!("\\x{b:02x}")).collect::<String>());
        } else {
            self.out.extend_from_slice(bytes);
            self.out.push(b'\n');
        }
    }

    fn kv(&mut self, kv: &KeyValue) {
        self.bytes(&kv.key);
        self.bytes(&kv.value);
    }

    fn get(&mut self, r: &RangeResponse) {
        r.kvs.iter().for_each(|kv| self.kv(kv));
    }

    fn put(&mut self, r: &PutResponse) {
        self.line("OK");
        r.prev_kv.iter().for_each(|kv| self.kv(kv));
    }

    fn delete(&mut self, r: &DeleteRangeResponse) {
        self.line(r.deleted);
        r.prev_kvs.iter().for_each(|kv| self.kv(kv));
    }

    fn txn(&mut self, r: &TxnResponse) {
        self.line(if r.succeeded { "SUCCESS" } else { "FAILURE" });
        for op in &r.responses {
            self.line("");
            match &op.response {
                Some(Response::ResponseRange(r)) => self.get(r),
                Some(Response::ResponsePut(r)) => self.put(r),
                Some(Response::ResponseDeleteRange(r)) => self.delete(r),
                Some(Response::ResponseTxn(r)) => self.txn(r),
                None => {}
            }
        }
    }

    fn watch(&mut self, r: &WatchResponse) {
        for event in &r.events {
            self.line(if event.r#type == EventType::Put as i32 { "PUT" } else { "DELETE" });
            event.prev_kv.iter().chain(&event.kv).for_each(|kv| self.kv(kv));
        }
    }

    fn time_to_live(&mut self, r: &LeaseTimeToLiveResponse, keys: bool) {
        if r.granted_ttl == 0 && r.ttl == -1 {
            return self.line(format_args!("lease {:016x} already expired", r.id));
        }
        let (id, granted, left) = (r.id, r.granted_ttl, r.ttl);
        write!(self.out, "lease {id:016x} granted with TTL({granted}s), remaining({left}s)")
            .expect("a vector takes all");
        if keys {
            self.out.extend_from_slice(b", attached keys([");
            self.out.extend_from_slice(&r.keys.join(&b' '));
            self.out.extend_from_slice(b"])");
        }
        self.out.push(b'\n');
    }

    fn health(&mut self, list: &[super::Health]) {
        for h in list {
            let endpoint = &h.endpoint;
            if h.error.is_empty() {
                let took = &h.took;
                self.line(format_args!("{endpoint} is healthy: successfully committed proposal: took = {took}"));
            } else {
                let error = &h.error;
                writeln!(self.err, "{endpoint} is unhealthy: failed to commit proposal: {error}")
                    .expect("a vector takes all");
            }
        }
    }

    fn rows(&mut self, rows: &[Vec<String>]) {
        rows.iter().for_each(|row| self.line(row.join(", ")));
    }
}

fn cluster_id(header: &Option<ResponseHeader>) -> u64 {
    header.map_or(0, |h| h.cluster_id)
}
