use std::collections::BTreeSet;

use super::*;
use crate::history::Response;

/// Numbers by a fixed rule.
struct Fixed {
    state: u64,
    unique: u64,
}

impl Dice for Fixed {
    fn pick(&mut self, below: u64) -> u64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn unique(&mut self) -> u64 {
        self.unique += 1;
        self.unique
    }
}

fn requests(seed: u64, count: usize) -> Vec<Request> {
    let mut dice = Fixed { state: seed, unique: 0 };
    let mut generator = Generator::new(Mix::default(), 7);
    let mut all = Vec::new();
    for i in 0..count {
        let request = generator.next(&mut dice);
        let header = Some(pb::ResponseHeader { revision: 2 + i as i64, ..Default::default() });
        let outcome = match &request {
            Request::Range(_) => Outcome::Done(Response::Range(pb::RangeResponse { header, ..Default::default() })),
            Request::LeaseGrant(grant) => {
                let granted = pb::LeaseGrantResponse { header, id: grant.id, ttl: grant.ttl, ..Default::default() };
                Outcome::Done(Response::LeaseGrant(granted))
            }
            _ => Outcome::Unknown("no answer".to_owned()),
        };
        generator.note(&request, &outcome);
        all.push(request);
    }
    all
}

#[test]
fn the_same_numbers_make_the_same_requests() {
    assert_eq!(requests(1, 2_000), requests(1, 2_000));
    assert_ne!(requests(1, 50), requests(2, 50));
}

#[test]
fn every_value_is_unique() {
    let mut seen = BTreeSet::new();
    for request in requests(3, 20_000) {
        for value in request.values() {
            // A kept value is none.
            assert!(value.is_empty() || seen.insert(value), "{request:?}");
        }
    }
    assert!(seen.len() > 5_000);
}

#[test]
fn everything_is_asked_for() {
    let all = requests(4, 20_000);
    let has = |what: &dyn Fn(&Request) -> bool| assert!(all.iter().any(what));
    has(&|r| matches!(r, Request::Put(put) if put.ignore_value && put.value.is_empty()));
    has(&|r| matches!(r, Request::Put(put) if put.ignore_lease && put.lease == 0));
    has(&|r| matches!(r, Request::Put(put) if put.lease != 0));
    has(&|r| matches!(r, Request::Range(range) if range.serializable));
    has(&|r| matches!(r, Request::Range(range) if range.revision > 0));
    has(&|r| matches!(r, Request::Range(range) if range.limit > 0));
    has(&|r| matches!(r, Request::Range(range) if range.sort_order != 0 && range.sort_target != 0));
    has(&|r| matches!(r, Request::Range(range) if range.count_only));
    has(&|r| matches!(r, Request::Range(range) if range.keys_only));
    has(&|r| matches!(r, Request::Range(range) if range.max_create_revision > 0));
    has(&|r| matches!(r, Request::DeleteRange(delete) if delete.prev_kv && !delete.range_end.is_empty()));
    has(&|r| matches!(r, Request::Txn(txn) if depth(txn) == 4));
    has(&|r| matches!(r, Request::Txn(txn) if txn.compare.iter().any(|compare| !compare.range_end.is_empty())));
    has(&|r| matches!(r, Request::Compact(_)));
    has(&|r| matches!(r, Request::LeaseGrant(_)));
    has(&|r| matches!(r, Request::LeaseRevoke(_)));
    has(&|r| matches!(r, Request::LeaseKeepAlive(_)));
    has(&|r| matches!(r, Request::LeaseTimeToLive(_)));
}

fn depth(txn: &pb::TxnRequest) -> usize {
    let inner = txn.success.iter().chain(&txn.failure).filter_map(|op| match &op.request {
        Some(pb::request_op::Request::RequestTxn(inner)) => Some(depth(inner)),
        _ => None,
    });
    1 + inner.max().unwrap_or(0)
}

/// What a branch puts and deletes on any path.
#[derive(Default)]
struct Changes {
    put: BTreeSet<Bytes>,
    deleted: Vec<(Bytes, Bytes)>,
}

impl Changes {
    /// As etcd checks it: a key is put once, and not deleted besides; only the two branches of one nested transaction
    /// may put the same key.
    fn of(branch: &[pb::RequestOp]) -> Option<Changes> {
        use pb::request_op::Request as Op;
        let mut all = Changes::default();
        for op in branch {
            let mut one = Changes::default();
            match op.request.as_ref() {
                Some(Op::RequestPut(put)) => one.put = [put.key.clone()].into(),
                Some(Op::RequestDeleteRange(delete)) => {
                    one.deleted.push((delete.key.clone(), delete.range_end.clone()))
                }
                Some(Op::RequestTxn(inner)) => {
                    one = Changes::of(&inner.success)?;
                    let other = Changes::of(&inner.failure)?;
                    one.put.extend(other.put);
                    one.deleted.extend(other.deleted);
                }
                _ => {}
            }
            if !all.put.is_disjoint(&one.put) {
                return None;
            }
            all.put.extend(one.put);
            all.deleted.extend(one.deleted);
        }
        let covers =
            |from: &Bytes, to: &Bytes, key: &Bytes| if to.is_empty() { key == from } else { key >= from && key < to };
        let met = all.deleted.iter().any(|(from, to)| all.put.iter().any(|key| covers(from, to, key)));
        (!met).then_some(all)
    }
}

#[test]
fn no_branch_changes_a_key_twice() {
    for request in requests(5, 20_000) {
        if let Request::Txn(txn) = &request {
            assert!(Changes::of(&txn.success).is_some() && Changes::of(&txn.failure).is_some(), "{txn:?}");
        }
    }
}

#[test]
fn a_lost_swap_is_tried_again_from_what_it_lost_to() {
    let mut dice = Fixed { state: 9, unique: 0 };
    let none = Mix { put: 0, get: 0, range: 0, delete: 0, delete_marked: 0, txn: 0, ..Mix::default() };
    let mut generator = Generator::new(Mix { txn_read: 0, compact: 0, lease: 0, swap: 1, ..none }, 0);
    let mut retried = 0;
    for _ in 0..50 {
        let read = generator.next(&mut dice);
        let Request::Range(range) = &read else { panic!("a swap begins with a read: {read:?}") };
        let found = |revision| pb::RangeResponse {
            kvs: vec![cetera_proto::mvccpb::KeyValue {
                key: range.key.clone(),
                mod_revision: revision,
                ..Default::default()
            }],
            count: 1,
            ..Default::default()
        };
        generator.note(&read, &Outcome::Done(Response::Range(found(5))));
        let write = generator.next(&mut dice);
        assert_eq!(guard(&write), 5);
        let lost = pb::response_op::Response::ResponseRange(found(8));
        let lost = pb::TxnResponse { responses: vec![pb::ResponseOp { response: Some(lost) }], ..Default::default() };
        generator.note(&write, &Outcome::Done(Response::Txn(lost)));
        while let Some(Swap::Read { .. }) = &generator.swap {
            let again = generator.next(&mut dice);
            assert_eq!(guard(&again), 8);
            retried += 1;
            let won = pb::TxnResponse { succeeded: true, ..Default::default() };
            generator.note(&again, &Outcome::Done(Response::Txn(won)));
        }
    }
    assert!(retried > 0);
}

fn guard(request: &Request) -> i64 {
    match request {
        Request::Txn(txn) => match txn.compare[0].target_union {
            Some(pb::compare::TargetUnion::ModRevision(revision)) => revision,
            _ => panic!("not guarded by the revision"),
        },
        _ => panic!("not a transaction: {request:?}"),
    }
}
