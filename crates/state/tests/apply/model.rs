//! Random logs against the plain model, against themselves, and across a power loss.

use bytes::Bytes;
use cetera_proto::etcdserverpb::{
    self as pb, AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, LeaseCheckpoint,
    LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    compare::TargetUnion,
};
use cetera_proto::mvccpb::KeyValue;
use cetera_state::validate::{self, RequestLimits};
use cetera_state::{Applied, ApplyError};
use prost::Message;

use crate::harness::{Machine, Random, bytes, op_put, op_range, op_txn};
use crate::naive::{Change, Naive};

const KEYS: [&str; 7] = ["a", "b", "ba", "c", "d", "e", "f"];
const ENDS: [&str; 6] = ["", "", "\0", "c", "e", "a"];
const LEASES: i64 = 5;

fn key(r: &mut Random) -> Bytes {
    bytes(r.pick(&KEYS))
}

fn end(r: &mut Random) -> Bytes {
    bytes(r.pick(&ENDS))
}

fn random_put(r: &mut Random) -> PutRequest {
    let ignore_value = r.chance(15);
    let ignore_lease = r.chance(15);
    PutRequest {
        key: key(r),
        value: if ignore_value { Bytes::new() } else { bytes(r.pick(&["", "1", "2", "three"])) },
        lease: if ignore_lease || r.chance(60) { 0 } else { 1 + r.below(LEASES as u64) as i64 },
        prev_kv: r.chance(40),
        ignore_value,
        ignore_lease,
    }
}

fn random_delete(r: &mut Random) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key(r), range_end: end(r), prev_kv: r.chance(40) }
}

fn random_range(r: &mut Random, now: i64) -> RangeRequest {
    let revision = match r.below(10) {
        0..6 => 0,
        6 => -(r.below(3) as i64),
        _ => 1 + r.below(now as u64 + 2) as i64,
    };
    RangeRequest {
        key: key(r),
        range_end: end(r),
        limit: r.below(4) as i64,
        revision,
        keys_only: r.chance(20),
        count_only: r.chance(20),
        ..Default::default()
    }
}

fn random_compare(r: &mut Random, now: i64) -> Compare {
    let target = match r.below(5) {
        0 => TargetUnion::Version(r.below(4) as i64),
        1 => TargetUnion::CreateRevision(r.below(now as u64 + 1) as i64),
        2 => TargetUnion::ModRevision(r.below(now as u64 + 1) as i64),
        3 => TargetUnion::Lease(r.below(LEASES as u64 + 1) as i64),
        _ => TargetUnion::Value(bytes(r.pick(&["", "1", "2"]))),
    };
    let range_end = if r.chance(70) { Bytes::new() } else { end(r) };
    let result = r.pick(&[
        pb::compare::CompareResult::Equal,
        pb::compare::CompareResult::Greater,
        pb::compare::CompareResult::Less,
        pb::compare::CompareResult::NotEqual,
    ]);
    Compare { key: key(r), range_end, ..crate::txns::compare("", target, result) }
}

fn random_txn(r: &mut Random, now: i64, depth: u32) -> TxnRequest {
    let compare = (0..r.below(3)).map(|_| random_compare(r, now)).collect();
    let branch = |r: &mut Random| -> Vec<RequestOp> {
        (0..r.below(4))
            .map(|_| match r.below(10) {
                0..3 => op_range(random_range(r, now)),
                3..6 => op_put(random_put(r)),
                6..8 => RequestOp { request: Some(pb::request_op::Request::RequestDeleteRange(random_delete(r))) },
                _ if depth == 0 => op_put(random_put(r)),
                _ => op_txn(random_txn(r, now, depth - 1)),
            })
            .collect()
    };
    let success = branch(r);
    let failure = branch(r);
    TxnRequest { compare, success, failure }
}

/// A request that the doors would let through.
fn random_request(r: &mut Random, now: i64) -> InternalRaftRequest {
    let empty = InternalRaftRequest::default();
    match r.below(100) {
        0..30 => InternalRaftRequest { put: Some(Box::new(random_put(r))), ..empty },
        30..40 => InternalRaftRequest { delete_range: Some(Box::new(random_delete(r))), ..empty },
        40..80 => loop {
            let txn = random_txn(r, now, 2);
            if validate::txn(&txn, &RequestLimits::default()).is_ok() {
                break InternalRaftRequest { txn: Some(Box::new(txn)), ..empty };
            }
        },
        80..84 => {
            let revision = r.below(now as u64 + 2) as i64;
            InternalRaftRequest { compaction: Some(Box::new(CompactionRequest { revision, physical: false })), ..empty }
        }
        84..91 => {
            let grant = LeaseGrantRequest { id: 1 + r.below(LEASES as u64) as i64, ttl: 10 + r.below(5) as i64 };
            InternalRaftRequest { lease_grant: Some(Box::new(grant)), ..empty }
        }
        91..95 => {
            let revoke = LeaseRevokeRequest { id: 1 + r.below(LEASES as u64) as i64 };
            InternalRaftRequest { lease_revoke: Some(Box::new(revoke)), ..empty }
        }
        95..98 => {
            let checkpoints = (0..r.below(3))
                .map(|_| LeaseCheckpoint { id: 1 + r.below(LEASES as u64) as i64, remaining_ttl: r.below(9) as i64 })
                .collect();
            let checkpoint = LeaseCheckpointRequest { checkpoints };
            InternalRaftRequest { lease_checkpoint: Some(Box::new(checkpoint)), ..empty }
        }
        _ => {
            let action = if r.chance(30) { 1 } else { 2 };
            InternalRaftRequest { alarm: Some(Box::new(AlarmRequest { action, member_id: 1, alarm: 1 })), ..empty }
        }
    }
}

/// What the model says: revision, body and changes.
type Expected = Result<(i64, Vec<u8>, Vec<Change>), ApplyError>;

fn expected(model: &mut Naive, request: &InternalRaftRequest) -> Option<Expected> {
    if let Some(put) = &request.put {
        return Some(model.put(put).map(|(revision, response, changes)| (revision, response.encode_to_vec(), changes)));
    }
    if let Some(delete) = &request.delete_range {
        let (revision, response, changes) = model.delete(delete);
        return Some(Ok((revision, response.encode_to_vec(), changes)));
    }
    if let Some(txn) = &request.txn {
        return Some(model.txn(txn).map(|(revision, response, changes)| (revision, response.encode_to_vec(), changes)));
    }
    if let Some(compaction) = &request.compaction {
        return Some(model.compact(compaction.revision).map(|revision| (revision, vec![], vec![])));
    }
    if let Some(grant) = &request.lease_grant {
        if model.no_space {
            return Some(Err(ApplyError::NoSpace));
        }
        if model.leases.contains_key(&grant.id) {
            return Some(Err(ApplyError::LeaseExist));
        }
        model.leases.insert(grant.id, (grant.ttl, 0));
        let response = pb::LeaseGrantResponse { id: grant.id, ttl: grant.ttl, ..Default::default() };
        return Some(Ok((model.revision(), response.encode_to_vec(), vec![])));
    }
    if let Some(revoke) = &request.lease_revoke {
        return Some(model.revoke(revoke.id).map(|(revision, changes)| (revision, vec![], changes)));
    }
    if let Some(checkpoint) = &request.lease_checkpoint {
        for record in &checkpoint.checkpoints {
            if let Some(lease) = model.leases.get_mut(&record.id) {
                lease.1 = record.remaining_ttl;
            }
        }
        return Some(Ok((model.revision(), vec![], vec![])));
    }
    let alarm = request.alarm.as_ref()?;
    model.no_space = alarm.action == 1;
    None
}

fn changes(m: &mut Machine) -> Vec<Change> {
    m.events.drain(..).map(|e| (e.revision.main, e.revision.sub, e.key, e.tombstone)).collect()
}

fn check_same(m: &mut Machine, model: &Naive) {
    m.state.check_invariants();
    let view = m.state.view().unwrap();
    for (key, want) in model.now() {
        let payload = view.kv(key, 0).unwrap().unwrap_or_else(|| panic!("{key:?} is there"));
        assert_eq!(KeyValue::decode(payload.clone()).unwrap(), *want);
        assert_eq!(payload, want.encode_to_vec(), "byte for byte");
    }
    assert_eq!(view.totals(b"\0", b"\0").keys, model.now().len() as u64);
    let leases = m.state.leases();
    assert_eq!(leases.len(), model.leases.len());
    for (&id, &(ttl, remaining)) in &model.leases {
        let lease = leases.get(id).unwrap();
        assert_eq!((lease.ttl, lease.remaining_ttl), (ttl, remaining));
        let keys: Vec<&[u8]> = lease.keys().collect();
        let want: Vec<&[u8]> = model.now().values().filter(|kv| kv.lease == id).map(|kv| &kv.key[..]).collect();
        assert_eq!(keys, want, "keys of lease {id}");
    }
}

/// TX-4 to TX-11, KV-13 to KV-20, L-1, L-4, L-13, L-14, Q-3, D-9.
#[test]
fn random_logs_against_the_plain_model() {
    let mut refused = 0;
    let mut wrote = 0;
    for seed in 1..=60 {
        let mut r = Random::new(seed);
        let mut m = Machine::new();
        let mut model = Naive::new();
        for step in 0..150 {
            let request = random_request(&mut r, model.revision());
            let got = m.apply(request.clone());
            let got_changes = changes(&mut m);
            if let Some(want) = expected(&mut model, &request) {
                refused += u64::from(want.is_err());
                wrote += u64::from(!got_changes.is_empty());
                let got = got.map(|applied| (applied.revision, applied.body.to_vec(), got_changes));
                assert_eq!(got, want, "seed {seed} step {step}: {request:?}");
            }
            assert_eq!(m.state.revision(), model.revision());
        }
        check_same(&mut m, &model);
    }
    assert!(refused > 1000 && wrote > 2000, "{refused} refused, {wrote} wrote");
}

/// One log, in one go and with a power loss in the middle: same replies, same changes, same hash. The second machine
/// also does its background compaction at other times, and answers from a checkpoint taken some entries before.
#[test]
fn a_power_loss_in_the_middle_changes_nothing() {
    type Step = (Result<Applied, ApplyError>, Vec<(Change, Bytes)>);
    fn step(m: &mut Machine, data: &Bytes) -> Step {
        let result = m.entry(data).unwrap().result;
        let events =
            m.events.drain(..).map(|e| ((e.revision.main, e.revision.sub, e.key, e.tombstone), e.event)).collect();
        (result, events)
    }
    fn settle(m: &mut Machine) {
        while m.state.store_mut().compaction_step(7).unwrap() {}
    }
    for seed in 1..=40 {
        let mut r = Random::new(seed * 31);
        let mut now = 1;
        let mut first = Machine::new();
        let mut log = Vec::new();
        let mut replies = Vec::new();
        for _ in 0..120 {
            let data = Bytes::from(random_request(&mut r, now).encode_to_vec());
            replies.push(step(&mut first, &data));
            now = first.state.revision();
            log.push(data);
        }
        settle(&mut first);

        let mut second = Machine::new();
        let taken_at = r.below(100) as usize;
        let lost_at = taken_at + r.below((log.len() - taken_at) as u64) as usize;
        for (i, data) in log[..taken_at].iter().enumerate() {
            assert_eq!(step(&mut second, data), replies[i], "seed {seed} entry {i}");
            if r.chance(5) {
                second.state.store_mut().compaction_step(3).unwrap();
            }
        }
        let hash = second.state.hash();
        let chunks = second.checkpoint();
        for data in &log[taken_at..lost_at] {
            let _ = step(&mut second, data);
            if r.chance(20) {
                second.state.view().unwrap();
            }
        }
        let mut third = second.restored(&chunks, seed);
        assert_eq!(third.state.hash(), hash);
        for (i, data) in log.iter().enumerate().skip(taken_at) {
            assert_eq!(step(&mut third, data), replies[i], "seed {seed} entry {i} after the loss");
        }
        settle(&mut third);
        assert_eq!(third.state.hash(), first.state.hash(), "seed {seed}");
        third.state.check_invariants();
    }
}

/// The hash tells states apart that differ in one fact of any kind.
#[test]
fn the_hash_sees_every_fact() {
    let base = |m: &mut Machine| {
        m.grant(1, 10).unwrap();
        m.put_leased("k", "v", 1);
    };
    let record = |remaining_ttl: i64| InternalRaftRequest {
        lease_checkpoint: Some(Box::new(LeaseCheckpointRequest {
            checkpoints: vec![LeaseCheckpoint { id: 1, remaining_ttl }],
        })),
        ..Default::default()
    };
    type Change = Box<dyn Fn(&mut Machine)>;
    let variants: Vec<(&str, Change)> = vec![
        ("nothing", Box::new(|_| {})),
        ("a key", Box::new(|m| assert!(m.put("x", "") > 1))),
        ("another value", Box::new(|m| assert!(m.put("x", "y") > 1))),
        ("a lease", Box::new(|m| drop(m.grant(2, 10)))),
        ("another ttl", Box::new(|m| drop(m.grant(2, 11)))),
        ("a record", Box::new(move |m| drop(m.apply(record(5))))),
        ("an alarm", Box::new(|m| drop(m.alarm(1, 1, 1)))),
        ("a member", Box::new(|m| drop(m.conf_change(&crate::members::added(&crate::members::member(4, false)))))),
        ("a learner", Box::new(|m| drop(m.conf_change(&crate::members::added(&crate::members::member(4, true)))))),
    ];
    let mut seen = Vec::new();
    for (name, change) in &variants {
        let mut m = Machine::new();
        base(&mut m);
        change(&mut m);
        let hash = m.state.hash();
        let same: Vec<_> = seen.iter().filter(|(_, h)| *h == hash).collect();
        assert!(same.is_empty(), "{name} looks like {same:?}");
        seen.push((name, hash));
    }
}
