//! What alarms stop, M-1, finding 0.6.

use cetera_proto::etcdserverpb::{InternalRaftRequest, LeaseCheckpointRequest};
use cetera_state::ApplyError;

use crate::harness::{Machine, op_delete, op_put, op_range, op_txn, put, range, then};

const GET: i32 = 0;
const ACTIVATE: i32 = 1;
const DEACTIVATE: i32 = 2;
const NONE: i32 = 0;
const NOSPACE: i32 = 1;
const CORRUPT: i32 = 2;

fn machine() -> Machine {
    let mut m = Machine::new();
    m.grant(7, 60).unwrap();
    m.grant(8, 60).unwrap();
    m.put("a", "v");
    m.put("b", "v");
    m
}

/// M-1, Q-5.
#[test]
fn answers_name_the_affected_alarms() {
    let mut m = Machine::new();
    assert_eq!(m.alarm(ACTIVATE, 5, NONE), []);
    assert_eq!(m.alarm(ACTIVATE, 5, NOSPACE), [(5, NOSPACE)]);
    assert_eq!(m.alarm(ACTIVATE, 5, NOSPACE), [(5, NOSPACE)]);
    assert_eq!(m.alarm(ACTIVATE, 6, CORRUPT), [(6, CORRUPT)]);
    assert_eq!(m.alarm(GET, 0, NONE), [(5, NOSPACE), (6, CORRUPT)]);
    assert_eq!(m.alarm(GET, 0, CORRUPT), [(6, CORRUPT)]);
    assert_eq!(m.alarm(DEACTIVATE, 0, NOSPACE), []);
    assert_eq!(m.alarm(DEACTIVATE, 5, NOSPACE), [(5, NOSPACE)]);
    assert_eq!(m.alarm(9, 6, CORRUPT), [], "an unknown action does nothing");
    assert_eq!(m.state.alarms().len(), 1);
}

///
#[test]
fn no_space_stops_what_costs_space() {
    let mut m = machine();
    m.alarm(ACTIVATE, 1, NOSPACE);
    assert_eq!(m.put_request(put("k", "")).unwrap_err(), ApplyError::NoSpace);
    assert_eq!(m.grant(9, 60).unwrap_err(), ApplyError::NoSpace);
    let costly = then(vec![op_put(put("k", ""))]);
    assert_eq!(m.txn(costly.clone()).unwrap_err(), ApplyError::NoSpace);
    assert_eq!(m.txn(then(vec![op_txn(costly)])).unwrap_err(), ApplyError::NoSpace);

    assert!(m.txn(then(vec![op_delete("a", ""), op_range(range("b"))])).is_ok());
    assert_eq!(m.delete("b", "", false).1.deleted, 1);
    assert!(m.revoke(7).is_ok());
    assert!(m.compact(2).is_ok());

    m.alarm(DEACTIVATE, 1, NOSPACE);
    assert!(m.put_request(put("k", "")).is_ok());
}

/// Q-4; CORRUPT goes before NOSPACE.
#[test]
fn corrupt_stops_keys_and_leases() {
    let mut m = machine();
    m.alarm(ACTIVATE, 1, NOSPACE);
    m.alarm(ACTIVATE, 0, CORRUPT);
    let before = m.state.hash();
    let delete = InternalRaftRequest { delete_range: Some(Box::default()), ..Default::default() };
    let log_range = InternalRaftRequest { range: Some(Box::new(range("a"))), ..Default::default() };
    assert_eq!(m.put_request(put("k", "")).unwrap_err(), ApplyError::Corrupt);
    assert_eq!(m.apply(delete).unwrap_err(), ApplyError::Corrupt);
    assert_eq!(m.apply(log_range).unwrap_err(), ApplyError::Corrupt);
    assert_eq!(m.txn(then(vec![])).unwrap_err(), ApplyError::Corrupt);
    assert_eq!(m.compact(2).unwrap_err(), ApplyError::Corrupt);
    assert_eq!(m.grant(9, 60).unwrap_err(), ApplyError::Corrupt);
    assert_eq!(m.revoke(7).unwrap_err(), ApplyError::Corrupt);
    assert_eq!(m.state.hash(), before);

    let checkpoint = LeaseCheckpointRequest::default();
    let checkpoint = InternalRaftRequest { lease_checkpoint: Some(Box::new(checkpoint)), ..Default::default() };
    assert!(m.apply(checkpoint).is_ok());
    m.alarm(DEACTIVATE, 0, CORRUPT);
    assert_eq!(m.put_request(put("k", "")).unwrap_err(), ApplyError::NoSpace);
}
