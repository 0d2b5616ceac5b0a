//! What applying costs: CPU time per entry on this machine, a view published every hundred entries.
//!
//! `cargo run --release -p cetera-state --example apply_cost [entries]`

use std::sync::Arc;

use bytes::Bytes;
use cetera_mvcc::Store;
use cetera_proto::etcdserverpb::{
    Compare, InternalRaftRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestHeader,
    RequestOp, TxnRequest, compare::TargetUnion, request_op::Request,
};
use cetera_state::{State, StateLimits};
use cetera_storage::revlog::{RevLog, RevLogOptions};
use cetera_storage::vfs::RealVfs;
use prost::Message;

const BATCH: usize = 100;

/// CPU time of this thread in microseconds: what others do on the machine counts less than on the wall clock.
fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = stat.split(' ').next().and_then(|first| first.parse::<f64>().ok());
    nanoseconds.expect("the first number is the time on a CPU") / 1e3
}

fn entry(request: InternalRaftRequest) -> Bytes {
    let header = Some(RequestHeader { id: 1, ..Default::default() });
    InternalRaftRequest { header, ..request }.encode_to_vec().into()
}

fn put(n: u64, lease: i64) -> PutRequest {
    let key = format!("key-{:012}", n.wrapping_mul(0x9e37_79b9) % 1_000_000).into();
    PutRequest { key, value: vec![b'v'; 256].into(), lease, ..Default::default() }
}

fn put_entry(n: u64, lease: i64) -> Bytes {
    entry(InternalRaftRequest { put: Some(Box::new(put(n, lease))), ..Default::default() })
}

/// Compare and swap, as locks and Kubernetes do it: compare mod revision, put, else range.
fn txn_entry(n: u64) -> Bytes {
    let put = put(n, 0);
    let key = put.key.clone();
    let absent =
        Compare { target: 2, key: key.clone(), target_union: Some(TargetUnion::ModRevision(0)), ..Default::default() };
    let range = RangeRequest { key, ..Default::default() };
    let txn = TxnRequest {
        compare: vec![absent],
        success: vec![RequestOp { request: Some(Request::RequestPut(put)) }],
        failure: vec![RequestOp { request: Some(Request::RequestRange(range)) }],
    };
    entry(InternalRaftRequest { txn: Some(Box::new(txn)), ..Default::default() })
}

fn grant_entry(id: i64) -> Bytes {
    let grant = LeaseGrantRequest { id, ttl: 60 };
    entry(InternalRaftRequest { lease_grant: Some(Box::new(grant)), ..Default::default() })
}

fn revoke_entry(id: i64) -> Bytes {
    let revoke = LeaseRevokeRequest { id };
    entry(InternalRaftRequest { lease_revoke: Some(Box::new(revoke)), ..Default::default() })
}

fn run(state: &mut State, name: &str, entries: &[Bytes]) {
    let mut events = Vec::new();
    let mut index = state.applied_index();
    let mut refused = 0;
    let start = cpu_us();
    for batch in entries.chunks(BATCH) {
        for data in batch {
            index += 1;
            let outcome = state.apply(index, 1, data, &mut events).expect("entries are sound");
            refused += u64::from(outcome.result.is_err());
        }
        let view = state.view().expect("the disk has room");
        assert_eq!(view.revision(), state.revision());
        events.clear();
    }
    let each = (cpu_us() - start) / entries.len() as f64;
    println!("{name:<34} {each:6.2} us, {refused} of {} refused", entries.len());
}

fn main() {
    let count: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(300_000);
    let dir = tempfile::tempdir().expect("a directory for the log");
    let log = RevLog::create(Arc::new(RealVfs), &dir.path().join("log"), RevLogOptions::default())
        .expect("an empty directory takes a log");
    let mut state = State::create(Store::create(log), StateLimits::default());
    let puts: Vec<Bytes> = (0..count).map(|n| put_entry(n, 0)).collect();
    run(&mut state, "put, new keys", &puts);
    run(&mut state, "put, again", &puts);
    run(&mut state, "txn: compare, range", &(0..count).map(txn_entry).collect::<Vec<_>>());
    run(&mut state, "txn: compare, put", &(count..2 * count).map(txn_entry).collect::<Vec<_>>());
    let leases = count as i64 / 10;
    run(&mut state, "lease grant", &(1..=leases).map(grant_entry).collect::<Vec<_>>());
    let leased = (0..count).map(|n| put_entry(n, 1 + (n as i64 % leases))).collect::<Vec<_>>();
    run(&mut state, "put with a lease", &leased);
    let checkpoint = state.checkpoint().expect("the disk has room");
    run(&mut state, "put with a lease, under checkpoint", &leased);
    drop(checkpoint);
    run(&mut state, "lease revoke, 10 keys each", &(1..=leases).map(revoke_entry).collect::<Vec<_>>());
}
