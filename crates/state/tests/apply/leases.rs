//! Leases through the log: L-1, L-3, L-4, L-13, L-14, D-5, D-10.

use cetera_proto::etcdserverpb::{InternalRaftRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantResponse};
use cetera_state::lease::TTL_MAX_SECONDS;
use cetera_state::{ApplyError, LeaseEffect};

use crate::harness::{Machine, op_delete, op_put, put, then, typed};
use cetera_proto::etcdserverpb::PutRequest;

fn attached(m: &Machine, id: i64) -> Vec<String> {
    m.state.leases().get(id).unwrap().keys().map(|k| String::from_utf8(k.to_vec()).unwrap()).collect()
}

/// L-1, L-3, D-10: what was granted is what was asked for; raising a short TTL is the proposer's part (L-2).
#[test]
fn grant() {
    let mut m = Machine::new();
    let applied = m.grant(7, 60).unwrap();
    assert_eq!(applied.lease_effect, Some(LeaseEffect::Granted { id: 7, ttl: 60 }));
    let (revision, response): (_, LeaseGrantResponse) = typed(applied);
    assert_eq!((revision, response.id, response.ttl, response.error.as_str()), (1, 7, 60, ""));
    assert_eq!(m.grant(7, 60).unwrap_err(), ApplyError::LeaseExist);
    assert_eq!(m.grant(8, TTL_MAX_SECONDS + 1).unwrap_err(), ApplyError::LeaseTtlTooLarge);
    assert_eq!(m.grant(0, 60).unwrap_err(), ApplyError::LeaseNotFound);
    assert_eq!(m.state.leases().len(), 1);
}

/// L-4, D-5.
#[test]
fn revoke_deletes_keys_in_sorted_order_at_one_revision() {
    let mut m = Machine::new();
    m.grant(7, 60).unwrap();
    for key in ["b", "c", "a", "z"] {
        m.put_leased(key, "v", if key == "z" { 0 } else { 7 });
    }
    m.changes();
    let applied = m.revoke(7).unwrap();
    assert_eq!((applied.revision, applied.lease_effect), (6, Some(LeaseEffect::Revoked { id: 7 })));
    assert!(applied.body.is_empty());
    let want: Vec<_> = [(0, "a"), (1, "b"), (2, "c")].map(|(sub, k)| (6, sub, k.to_string(), true)).into();
    assert_eq!(m.changes(), want);
    assert_eq!(m.value("z").as_deref(), Some("v"));
    assert_eq!(m.revoke(7).unwrap_err(), ApplyError::LeaseNotFound);

    m.grant(7, 60).unwrap();
    assert_eq!(m.revoke(7).unwrap().revision, 6, "no keys, no revision");
    m.state.check_invariants();
}

/// L-14.
#[test]
fn keys_move_between_leases_and_leave_with_deletion() {
    let mut m = Machine::new();
    m.grant(7, 60).unwrap();
    m.grant(8, 60).unwrap();
    m.put_leased("a", "v", 7);
    m.put_leased("b", "v", 7);
    m.put_leased("a", "v", 8);
    assert_eq!((attached(&m, 7), attached(&m, 8)), (vec!["b".into()], vec!["a".into()]));
    m.put("a", "v");
    m.delete("b", "", false);
    assert_eq!((attached(&m, 7), attached(&m, 8)), (vec![], vec![]));
    m.put("b", "again");
    m.revoke(7).unwrap();
    m.revoke(8).unwrap();
    assert_eq!((m.value("a").as_deref(), m.value("b").as_deref()), (Some("v"), Some("again")));
    m.state.check_invariants();
}

/// L-14 inside a transaction.
#[test]
fn transactions_attach_and_detach() {
    let mut m = Machine::new();
    m.grant(7, 60).unwrap();
    m.put_leased("a", "v", 7);
    let leased = PutRequest { lease: 7, ..put("b", "v") };
    m.txn(then(vec![op_delete("a", ""), op_put(leased)])).unwrap();
    assert_eq!(attached(&m, 7), ["b"]);
    m.state.check_invariants();
}

/// L-13: leases that are gone are passed over, as in etcd.
#[test]
fn checkpoint_records_remaining_time() {
    let mut m = Machine::new();
    m.grant(7, 600).unwrap();
    let record = |list: &[(i64, i64)]| InternalRaftRequest {
        lease_checkpoint: Some(Box::new(LeaseCheckpointRequest {
            checkpoints: list.iter().map(|&(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl }).collect(),
        })),
        ..Default::default()
    };
    let applied = m.apply(record(&[(9, 1), (7, 300)])).unwrap();
    assert_eq!(applied.lease_effect, Some(LeaseEffect::Checkpointed(vec![(7, 300)])));
    assert_eq!(m.state.leases().get(7).unwrap().remaining_ttl, 300);
    m.apply(record(&[(7, 0)])).unwrap();
    let lease = m.state.leases().get(7).unwrap();
    assert_eq!((lease.remaining_ttl, lease.ttl), (0, 600));
}
