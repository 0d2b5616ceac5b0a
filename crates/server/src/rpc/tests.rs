//! Every service, driven with bytes against a real node on a disk in memory.

mod cluster;
mod maintenance;
mod watch;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cetera_node::Node;
use cetera_node::recovery::{self, Start};
use cetera_proto::etcdserverpb::*;
use cetera_proto::health::{HealthCheckRequest, HealthCheckResponse};
use cetera_proto::{membershippb, mvccpb};
use cetera_state::member::Member as StateMember;
use cetera_storage::datadir::DataDir;
use cetera_storage::vfs::{Vfs, memory::MemoryVfs};
use prost::Message;

use super::*;
use crate::front::memory::MemoryFront;
use crate::seam::STREAM_BUDGET_BYTES;

const MEMBER: u64 = 0x8e9e_05c5_2164_694d;
const CLUSTER: u64 = 77;

/// A node whose every wish comes true at once, on this thread.
#[derive(Clone)]
pub(crate) struct TestNode(Rc<RefCell<Inner>>);

struct Inner {
    node: Node,
    events: Vec<Event>,
    work: Vec<(Ticket, Work)>,
    /// Promotions that were handed on.
    handed_on: Vec<(Ticket, u64)>,
    published: Arc<Published>,
    /// What front 0 said last.
    wants_changes: bool,
    /// A picture that is published right before the front says next that it wants changes.
    published_then: Option<Arc<Published>>,
    now_ms: u64,
    vfs: Arc<dyn Vfs>,
    checkpoints: PathBuf,
    _data_dir: DataDir,
}

impl NodeAccess for TestNode {
    fn send(&self, event: Event) {
        self.0.borrow_mut().events.push(event);
    }

    fn published(&self) -> Arc<Published> {
        Arc::clone(&self.0.borrow().published)
    }

    fn want_changes(&self, front: u16, wanted: bool) {
        let inner = &mut *self.0.borrow_mut();
        assert_eq!((front, inner.wants_changes), (0, !wanted), "it says so when that changes");
        inner.wants_changes = wanted;
        if let Some(published) = inner.published_then.take() {
            inner.published = published;
        }
    }

    fn disk_low(&self) -> bool {
        false
    }

    fn run_job(&self, ticket: Ticket, work: Work) {
        self.0.borrow_mut().work.push((ticket, work));
    }

    fn promote_at_leader(&self, ticket: Ticket, member: u64, _: Duration) {
        self.0.borrow_mut().handed_on.push((ticket, member));
    }

    fn connected_since_ms(&self, _: u64) -> Option<u64> {
        None
    }

    fn now_ms(&self) -> u64 {
        self.0.borrow().now_ms
    }

    fn unix_ms(&self) -> u64 {
        1_700_000_000_000 + self.now_ms()
    }
}

impl TestNode {
    pub(crate) fn new() -> TestNode {
        let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
        let founder = StateMember {
            id: MEMBER,
            peer_urls: vec!["http://localhost:2380".into()],
            name: "m".into(),
            ..Default::default()
        };
        let opened = recovery::open(
            &vfs,
            Path::new("/data"),
            Start { founders: vec![founder], member_id: MEMBER, cluster_id: CLUSTER, nonce: 1, ..Start::default() },
        )
        .expect("an empty disk");
        let published = opened.node.published();
        TestNode(Rc::new(RefCell::new(Inner {
            node: opened.node,
            events: Vec::new(),
            work: Vec::new(),
            handed_on: Vec::new(),
            published,
            wants_changes: false,
            published_then: None,
            now_ms: 0,
            vfs,
            checkpoints: opened.checkpoints,
            _data_dir: opened.data_dir,
        })))
    }

    /// Steps the node until it rests; what it has to say to front 0.
    fn settle(&self) -> Vec<Mail> {
        let inner = &mut *self.0.borrow_mut();
        let mut mail = Vec::new();
        loop {
            inner.now_ms += 10;
            inner.events.push(Event::Tick { now_ms: inner.now_ms });
            let effects = inner.node.step(&mut inner.events).expect("the disk in memory does not fail");
            inner.events.clear();
            if let Some(published) = effects.publish {
                inner.published = published;
            }
            mail.extend(effects.events.filter(|_| inner.wants_changes).map(Mail::Events));
            mail.extend(effects.replies.into_iter().map(|(ticket, reply)| Mail::Reply(ticket, reply)));
            let jobs = effects.jobs.len();
            for job in effects.jobs {
                inner.events.push(Event::Job(job.run(&inner.vfs, &inner.checkpoints)));
            }
            if let Some(last) = effects.wal.last() {
                inner.events.push(Event::Persisted(last.number));
            } else if !effects.more && jobs == 0 {
                break;
            }
        }
        for (ticket, work) in inner.work.drain(..) {
            mail.push(Mail::Work(ticket, work(&inner.published.view)));
        }
        mail
    }

    /// Becomes leader and decides the cluster's version.
    fn lead(&self) {
        self.0.borrow_mut().node.campaign();
        let request = InternalRaftRequest {
            header: Some(RequestHeader { id: 1, ..Default::default() }),
            cluster_version_set: Some(membershippb::ClusterVersionSetRequest { ver: "3.7.0".to_string() }.into()),
            ..Default::default()
        };
        while self.published().cluster_version.is_empty() {
            let ticket = Ticket { front: 9, slot: 0 };
            let request = request.encode_to_vec().into();
            self.send(Event::Propose(vec![Proposal { ticket, id: 1, request }]));
            self.settle();
        }
    }
}

struct Harness {
    node: TestNode,
    front: MemoryFront<RpcServices<TestNode>>,
}

impl Harness {
    fn with_quota(quota_bytes: Option<u64>) -> Harness {
        let harness = Harness::leaderless(quota_bytes);
        harness.node.lead();
        harness
    }

    fn new() -> Harness {
        Harness::with_quota(None)
    }

    fn leaderless(quota_bytes: Option<u64>) -> Harness {
        let node = TestNode::new();
        let settings = Arc::new(Settings {
            max_request_bytes: 4_096,
            max_txn_ops: 128,
            quota_bytes,
            election_ms: 1_000,
            strict_reconfig_check: true,
            ids: Arc::new(RequestIds::new(MEMBER << 48 | 1 << 47 | 5)),
        });
        let watch = WatchService::new(cetera_node::watch::HubOptions::default(), &node.published());
        let services = RpcServices::new(0, node.clone(), settings, watch);
        Harness { node, front: MemoryFront::new(services) }
    }

    /// Lets everything happen that waits.
    fn turn(&mut self) {
        let mut mail = Vec::new();
        loop {
            self.front.turn(&mut mail);
            mail = self.node.settle();
            if mail.is_empty() {
                return;
            }
        }
    }

    fn call(&mut self, path: &str, request: &impl Message) -> CallId {
        let call = self.front.call(path, request);
        self.turn();
        call
    }

    /// A unary call that must succeed.
    fn ok<R: Message + Default>(&mut self, path: &str, request: &impl Message) -> R {
        let call = self.call(path, request);
        let answer = self.front.answer(call);
        assert_eq!(answer.status, Some(ok()), "{path}");
        assert_eq!(answer.messages.len(), 1);
        R::decode(answer.messages[0].clone()).expect("a response")
    }

    /// A call that must fail; code and text.
    fn fails(&mut self, path: &str, request: &impl Message) -> Status {
        let call = self.call(path, request);
        let answer = self.front.answer(call);
        assert!(answer.messages.is_empty(), "{path} answered");
        answer.status.clone().expect("the call ended")
    }

    fn put(&mut self, key: &'static str, value: impl Into<Bytes>) -> PutResponse {
        self.ok(PUT, &PutRequest { key: key.into(), value: value.into(), ..Default::default() })
    }

    fn get(&mut self, key: &'static str) -> RangeResponse {
        self.ok(RANGE, &RangeRequest { key: key.into(), ..Default::default() })
    }

    fn revision(&self) -> i64 {
        self.node.published().view.revision()
    }
}

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
const ALARM: &str = "/etcdserverpb.Maintenance/Alarm";

fn range_op(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(request_op::Request::RequestRange(range)) }
}

fn put_op(key: &'static str) -> RequestOp {
    let put = PutRequest { key: key.into(), value: "v".into(), ..Default::default() };
    RequestOp { request: Some(request_op::Request::RequestPut(put)) }
}

#[test]
fn keys_live_and_die() {
    let mut harness = Harness::new();
    let header = harness.put("a", "1").header.expect("a header");
    assert_eq!((header.cluster_id, header.member_id, header.revision), (CLUSTER, MEMBER, 2));
    assert!(header.raft_term > 0);
    let previous = PutRequest { key: "a".into(), value: "2".into(), prev_kv: true, ..Default::default() };
    let response: PutResponse = harness.ok(PUT, &previous);
    assert_eq!(response.prev_kv.expect("it lived").value, "1");
    let got = harness.get("a");
    let kv = mvccpb::KeyValue {
        key: "a".into(),
        value: "2".into(),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        lease: 0,
    };
    assert_eq!((got.header.expect("a header").revision, got.kvs, got.count, got.more), (3, vec![kv], 1, false));
    let request = DeleteRangeRequest { key: "a".into(), ..Default::default() };
    let deleted: DeleteRangeResponse = harness.ok(DELETE, &request);
    assert_eq!((deleted.deleted, deleted.header.expect("a header").revision), (1, 4));
    assert_eq!(harness.get("a").count, 0);
    let compacted: CompactionResponse = harness.ok(COMPACT, &CompactionRequest { revision: 4, physical: true });
    assert_eq!(compacted.header.expect("a header").revision, 4);
    let old = RangeRequest { key: "a".into(), revision: 3, ..Default::default() };
    assert_eq!(harness.fails(RANGE, &old), Error::Compacted.into());
    assert_eq!(harness.fails(COMPACT, &CompactionRequest { revision: 9, physical: false }), Error::FutureRev.into());
}

#[test]
fn one_batch_of_many_calls() {
    let mut harness = Harness::new();
    let puts: Vec<CallId> = (0..100)
        .map(|n| harness.front.call(PUT, &PutRequest { key: format!("{n:02}").into(), ..Default::default() }))
        .collect();
    let range = RangeRequest { key: "0".into(), range_end: "\0".into(), count_only: true, ..Default::default() };
    let early = harness.front.call(RANGE, &RangeRequest { serializable: true, ..range.clone() });
    harness.turn();
    // All in one event, so all in one apply pass; a serializable read does not wait for it.
    let counted = |front: &MemoryFront<_>, call| {
        RangeResponse::decode(front.answer(call).messages[0].clone()).expect("a response").count
    };
    assert_eq!(counted(&harness.front, early), 0);
    let revisions: Vec<i64> = puts
        .iter()
        .map(|call| {
            let response = PutResponse::decode(harness.front.answer(*call).messages[0].clone()).expect("a response");
            response.header.expect("a header").revision
        })
        .collect();
    assert_eq!(revisions, (2..102).collect::<Vec<_>>());
    let late = harness.call(RANGE, &range);
    assert_eq!(counted(&harness.front, late), 100);
}

#[test]
fn many_large_ranges_take_turns() {
    let mut harness = Harness::new();
    const CALLS: usize = 6;
    let value = vec![b'v'; 3_000];
    for n in 0..CALLS * RANGES_PER_TURN_BYTES / 3_000 / 4 {
        let put = PutRequest { key: format!("k{n:03}").into(), value: value.clone().into(), ..Default::default() };
        let _: PutResponse = harness.ok(PUT, &put);
    }
    let all =
        |serializable| RangeRequest { key: "k".into(), range_end: "l".into(), serializable, ..Default::default() };
    let calls: Vec<CallId> = (0..CALLS).map(|n| harness.front.call(RANGE, &all(n % 2 == 0))).collect();
    let answered =
        |harness: &Harness| calls.iter().filter(|call| harness.front.answer(**call).status.is_some()).count();
    harness.turn();
    assert!((1..CALLS).contains(&answered(&harness)), "all at once, or none");
    assert!(harness.front.services().pending());
    // One that leaves while it waits is not answered.
    let gone = *calls.iter().rev().find(|call| harness.front.answer(**call).status.is_none()).expect("one waits");
    harness.front.cancel(gone);
    harness.turn();
    harness.front.settle();
    assert_eq!(answered(&harness), CALLS - 1);
    let first = harness.front.answer(calls[0]).messages.clone();
    assert!(calls.iter().all(|call| *call == gone || harness.front.answer(*call).messages == first));
}

#[test]
fn requests_are_refused_in_etcds_words() {
    let mut harness = Harness::new();
    let put = |key: &'static str| PutRequest { key: key.into(), ..Default::default() };
    assert_eq!(harness.fails(PUT, &put("")), Error::EmptyKey.into());
    assert_eq!(harness.fails(RANGE, &RangeRequest::default()), Error::EmptyKey.into());
    assert_eq!(harness.fails(DELETE, &DeleteRangeRequest::default()), Error::EmptyKey.into());
    let sorted = RangeRequest { key: "a".into(), sort_order: 9, ..Default::default() };
    assert_eq!(harness.fails(RANGE, &sorted), Error::InvalidSortOption.into());
    let request = PutRequest { ignore_value: true, value: "x".into(), ..put("a") };
    assert_eq!(harness.fails(PUT, &request), Error::ValueProvided.into());
    assert_eq!(harness.fails(PUT, &PutRequest { ignore_value: true, ..put("a") }), Error::KeyNotFound.into());
    assert_eq!(harness.fails(PUT, &PutRequest { lease: 9, ..put("a") }), Error::LeaseNotFound.into());
    let future = RangeRequest { key: "a".into(), revision: 100, ..Default::default() };
    assert_eq!(harness.fails(RANGE, &future), Error::FutureRev.into());
    let many = TxnRequest { success: vec![put_op("a"); 129], ..Default::default() };
    assert_eq!(harness.fails(TXN, &many), Error::TooManyOps.into());
    let twice = TxnRequest { success: vec![put_op("a"); 2], ..Default::default() };
    assert_eq!(harness.fails(TXN, &twice), Error::DuplicateKey.into());
    // The limit is on the whole log entry: the last byte that fits, and one more.
    let large = |len: usize| PutRequest { key: "a".into(), value: vec![0; len].into(), ..Default::default() };
    let overhead = (0..4_096).find(|len| harness.call_status(PUT, &large(4_096 - len)) == Some(ok())).expect("it fits");
    assert!((10..40).contains(&overhead), "{overhead}");
    assert_eq!(harness.fails(PUT, &large(4_096 - overhead + 1)), Error::RequestTooLarge.into());
    assert_eq!(harness.revision(), 2);
    // What is no message at all.
    let call = harness.front.open(PUT, CallMetadata::default());
    harness.front.send_bytes(call, Bytes::from_static(&[0x0a, 0xff]));
    harness.turn();
    let status = harness.front.answer(call).status.clone().expect("the call ended");
    assert!(status.code == 13 && status.message.starts_with("grpc: error unmarshalling request: "), "{status:?}");
    let call = harness.front.open(RANGE, CallMetadata::default());
    harness.front.half_close(call);
    harness.turn();
    assert_eq!(harness.front.answer(call).status.as_ref().map(|status| status.code), Some(13));
}

impl Harness {
    fn call_status(&mut self, path: &str, request: &impl Message) -> Option<Status> {
        let call = self.call(path, request);
        self.front.answer(call).status.clone()
    }
}

#[test]
fn calls_not_offered_are_unimplemented() {
    let mut harness = Harness::new();
    for (path, name, service) in [
        ("/etcdserverpb.Maintenance/Snapshot", "Snapshot", "etcdserverpb.Maintenance"),
        ("/v3lockpb.Lock/Lock", "Lock", "v3lockpb.Lock"),
    ] {
        let status = harness.fails(path, &HealthCheckRequest::default());
        assert_eq!((status.code, status.message), (12, format!("unknown method {name} for service {service}")));
    }
    let status = harness.fails("/etcdserverpb.Auth/Authenticate", &AuthenticateRequest::default());
    assert_eq!(status, Error::AuthNotEnabled.into());
    let status: AuthStatusResponse = harness.ok("/etcdserverpb.Auth/AuthStatus", &AuthStatusRequest::default());
    assert_eq!((status.enabled, status.auth_revision), (false, 1));
}

#[test]
fn transactions_that_only_read_leave_no_trace_in_the_log() {
    let mut harness = Harness::new();
    harness.put("a", "1");
    let applied = harness.node.published().applied_index;
    let range = RangeRequest { key: "a".into(), ..Default::default() };
    let compare = Compare {
        key: "a".into(),
        target: compare::CompareTarget::Version as i32,
        target_union: Some(compare::TargetUnion::Version(1)),
        ..Default::default()
    };
    let txn = TxnRequest { compare: vec![compare], success: vec![range_op(range)], ..Default::default() };
    let response: TxnResponse = harness.ok(TXN, &txn);
    assert!(response.succeeded);
    assert_eq!(response.header.expect("a header").revision, 2);
    let Some(response_op::Response::ResponseRange(got)) = &response.responses[0].response else { panic!("a range") };
    assert_eq!((got.count, got.kvs[0].value.as_ref()), (1, &b"1"[..]));
    assert_eq!(harness.node.published().applied_index, applied);
    let response: TxnResponse = harness.ok(TXN, &TxnRequest { success: vec![put_op("b")], ..Default::default() });
    assert_eq!(response.header.expect("a header").revision, 3);
    assert_eq!(harness.node.published().applied_index, applied + 1);
}

#[test]
fn leases_are_granted_renewed_and_told() {
    let mut harness = Harness::new();
    // L-2: raised to one and a half election timeouts.
    let granted: LeaseGrantResponse = harness.ok(GRANT, &LeaseGrantRequest { ttl: -1, id: 0 });
    assert!(granted.id > 0 && granted.ttl == 2, "{granted:?}");
    let granted: LeaseGrantResponse = harness.ok(GRANT, &LeaseGrantRequest { ttl: 100, id: 7 });
    assert_eq!((granted.id, granted.ttl, granted.header.expect("a header").revision), (7, 100, 1));
    assert_eq!(harness.fails(GRANT, &LeaseGrantRequest { ttl: 100, id: 7 }), Error::LeaseExist.into());
    let long = LeaseGrantRequest { ttl: 9_000_000_001, id: 0 };
    assert_eq!(harness.fails(GRANT, &long), Error::LeaseTtlTooLarge.into());
    let put = PutRequest { key: "k".into(), lease: 7, ..Default::default() };
    let _: PutResponse = harness.ok(PUT, &put);
    let path = "/etcdserverpb.Lease/LeaseTimeToLive";
    let told: LeaseTimeToLiveResponse = harness.ok(path, &LeaseTimeToLiveRequest { id: 7, keys: true });
    assert_eq!((told.granted_ttl, told.keys), (100, vec![Bytes::from("k")]));
    assert!(told.ttl == 99 || told.ttl == 100, "{}", told.ttl);
    let told: LeaseTimeToLiveResponse = harness.ok(path, &LeaseTimeToLiveRequest { id: 8, keys: false });
    assert_eq!((told.ttl, told.granted_ttl), (-1, 0));
    let told: LeaseLeasesResponse = harness.ok("/etcdserverpb.Lease/LeaseLeases", &LeaseLeasesRequest {});
    assert_eq!((told.leases.len(), told.leases[1].id), (2, 7));
    let revoke = LeaseRevokeRequest { id: 7 };
    let revoked: LeaseRevokeResponse = harness.ok("/etcdserverpb.Lease/LeaseRevoke", &revoke);
    assert_eq!(revoked.header.expect("a header").revision, 3);
    assert_eq!(harness.fails("/etcdserverpb.Lease/LeaseRevoke", &revoke), Error::LeaseNotFound.into());
}

#[test]
fn keep_alives_are_answered_in_order_on_a_stream_that_stays() {
    let mut harness = Harness::new();
    let _: LeaseGrantResponse = harness.ok(GRANT, &LeaseGrantRequest { ttl: 100, id: 7 });
    let call = harness.front.open(KEEP_ALIVE, CallMetadata::default());
    for id in [7, 8, 7] {
        harness.front.send(call, &LeaseKeepAliveRequest { id });
    }
    harness.turn();
    let answers = |messages: Vec<Bytes>| -> Vec<(i64, i64)> {
        let decode = |bytes| LeaseKeepAliveResponse::decode(bytes).expect("a response");
        messages.into_iter().map(decode).map(|response| (response.id, response.ttl)).collect()
    };
    assert_eq!(answers(harness.front.take_messages(call)), [(7, 100), (8, 0), (7, 100)]);
    assert_eq!(harness.front.answer(call).status, None);
    // The end comes behind the last answer.
    harness.front.send(call, &LeaseKeepAliveRequest { id: 7 });
    harness.front.half_close(call);
    harness.turn();
    assert_eq!(answers(harness.front.take_messages(call)), [(7, 100)]);
    assert_eq!(harness.front.answer(call).status, Some(ok()));
    // Answers to a stream that is gone go nowhere.
    let call = harness.front.open(KEEP_ALIVE, CallMetadata::default());
    harness.front.send(call, &LeaseKeepAliveRequest { id: 7 });
    harness.front.turn(&mut Vec::new());
    harness.front.cancel(call);
    harness.turn();
    assert!(harness.front.take_messages(call).is_empty());
}

#[test]
fn members_status_and_hashes() {
    let mut harness = Harness::new();
    harness.put("a", "1");
    for linearizable in [true, false] {
        let request = MemberListRequest { linearizable };
        let list: MemberListResponse = harness.ok("/etcdserverpb.Cluster/MemberList", &request);
        assert_eq!(list.header.expect("a header").revision, 0);
        assert_eq!((list.members.len(), list.members[0].id), (1, MEMBER));
    }
    let status: StatusResponse = harness.ok("/etcdserverpb.Maintenance/Status", &StatusRequest {});
    assert_eq!((status.version.as_str(), status.storage_version.as_str()), ("3.7.1", "3.7.0"));
    assert_eq!((status.leader, status.header.expect("a header").revision, status.errors.len()), (MEMBER, 2, 0));
    assert_eq!(status.db_size % 4_096, 0);
    assert!(status.raft_index >= status.raft_applied_index && status.raft_applied_index > 0);
    let hash: HashKvResponse = harness.ok("/etcdserverpb.Maintenance/HashKV", &HashKvRequest { revision: 0 });
    assert_eq!((hash.compact_revision, hash.hash_revision), (-1, 2));
    let again: HashKvResponse = harness.ok("/etcdserverpb.Maintenance/HashKV", &HashKvRequest { revision: 2 });
    assert_eq!(hash.hash, again.hash);
    let status = harness.fails("/etcdserverpb.Maintenance/HashKV", &HashKvRequest { revision: 9 });
    assert_eq!(status, Error::FutureRev.into());
    let done: DefragmentResponse = harness.ok("/etcdserverpb.Maintenance/Defragment", &DefragmentRequest {});
    assert_eq!(done.header, None);
    let health: HealthCheckResponse = harness.ok("/grpc.health.v1.Health/Check", &HealthCheckRequest::default());
    assert_eq!(health.status, 1);
}

#[test]
fn over_quota_an_alarm_stops_writes_until_it_is_disarmed() {
    let mut harness = Harness::with_quota(Some(13 * 4_096));
    let mut puts = 0;
    loop {
        let put = PutRequest { key: format!("k{puts}").into(), value: vec![7; 3_000].into(), ..Default::default() };
        match harness.call_status(PUT, &put) {
            Some(status) if status == ok() => puts += 1,
            status => {
                assert_eq!(status, Some(Error::NoSpace.into()));
                break;
            }
        }
        assert!(puts < 100, "the quota holds nothing back");
    }
    let list: AlarmResponse = harness.ok(ALARM, &AlarmRequest::default());
    let nospace = AlarmMember { member_id: MEMBER, alarm: AlarmType::Nospace as i32 };
    assert_eq!(list.alarms, [nospace]);
    // what frees space still works.
    let small = PutRequest { key: "x".into(), ..Default::default() };
    assert_eq!(harness.fails(PUT, &small), Error::NoSpace.into());
    assert_eq!(harness.fails(GRANT, &LeaseGrantRequest { ttl: 10, id: 0 }), Error::NoSpace.into());
    let all = DeleteRangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let deleted: DeleteRangeResponse = harness.ok(DELETE, &all);
    assert_eq!(deleted.deleted, puts);
    let status: StatusResponse = harness.ok("/etcdserverpb.Maintenance/Status", &StatusRequest {});
    assert_eq!(status.errors, [format!("memberID:{MEMBER} alarm:NOSPACE")]);
    let revision = harness.revision();
    let _: CompactionResponse = harness.ok(COMPACT, &CompactionRequest { revision, physical: true });
    let disarm = AlarmRequest { action: 2, member_id: MEMBER, alarm: AlarmType::Nospace as i32 };
    let _: AlarmResponse = harness.ok(ALARM, &disarm);
    assert_eq!(harness.call_status(PUT, &small), Some(ok()));
}

#[test]
fn range_streams_add_up_to_the_range() {
    let mut harness = Harness::new();
    for n in 0..100 {
        let put = PutRequest { key: format!("{n:03}").into(), value: vec![1; 3_000].into(), ..Default::default() };
        let _: PutResponse = harness.ok(PUT, &put);
    }
    for (limit, revision) in [(0, 0), (57, 0), (100, 60), (5, 0)] {
        let request = RangeRequest { key: "0".into(), range_end: "\0".into(), limit, revision, ..Default::default() };
        let whole: RangeResponse = harness.ok(RANGE, &request);
        let call = harness.call("/etcdserverpb.KV/RangeStream", &request);
        assert_eq!(harness.front.answer(call).status, Some(ok()));
        let mut merged = RangeResponse::default();
        let messages = harness.front.take_messages(call);
        assert_eq!(messages.len() > 1, limit != 5);
        for message in messages {
            let chunk = RangeStreamResponse::decode(message).expect("a chunk").range_response.expect("it is there");
            assert!(merged.header.is_none(), "the header comes last");
            merged.kvs.extend(chunk.kvs);
            (merged.header, merged.count, merged.more) = (chunk.header, chunk.count, chunk.more);
        }
        assert_eq!(merged, whole, "limit {limit}, revision {revision}");
    }
    let sorted = RangeRequest { key: "0".into(), sort_order: 2, ..Default::default() };
    let status = harness.fails("/etcdserverpb.KV/RangeStream", &sorted);
    assert_eq!((status.code, status.message.as_str()), (12, "RangeStream does not support custom sort orders"));
    let filtered = RangeRequest { key: "0".into(), min_mod_revision: 2, ..Default::default() };
    let status = harness.fails("/etcdserverpb.KV/RangeStream", &filtered);
    assert_eq!(status.message, "RangeStream does not support revision filters");
}

#[test]
fn a_range_stream_waits_for_its_client() {
    let mut harness = Harness::new();
    for n in 0..600 {
        let put = PutRequest { key: format!("{n:03}").into(), value: vec![1; 4_000].into(), ..Default::default() };
        let _: PutResponse = harness.ok(PUT, &put);
    }
    let request = RangeRequest { key: "0".into(), range_end: "\0".into(), serializable: true, ..Default::default() };
    let call = harness.call("/etcdserverpb.KV/RangeStream", &request);
    let bytes = |messages: Vec<Bytes>| messages.iter().map(Bytes::len).sum::<usize>();
    let first = bytes(harness.front.take_messages(call));
    assert!((STREAM_BUDGET_BYTES..2 * STREAM_BUDGET_BYTES).contains(&first), "{first}");
    harness.front.services().full(call);
    harness.turn();
    assert!(harness.front.take_messages(call).is_empty());
    harness.front.drained(call);
    harness.turn();
    let second = bytes(harness.front.take_messages(call));
    assert!(second > 0);
    harness.front.drained(call);
    harness.turn();
    assert_eq!(harness.front.answer(call).status, Some(ok()));
    let third = bytes(harness.front.take_messages(call));
    assert!(first + second + third > 600 * 4_000);
}

#[test]
fn calls_wait_for_a_version_and_streams_need_a_leader() {
    let mut harness = Harness::leaderless(None);
    assert_eq!(harness.fails(PUT, &PutRequest::default()), Error::NotCapable.into());
    harness.node.lead();
    let metadata = || CallMetadata { has_leader: Some("true".into()), ..Default::default() };
    let call = harness.front.open(KEEP_ALIVE, metadata());
    let unary = harness.front.open(RANGE, metadata());
    harness.front.send(unary, &RangeRequest { key: "a".into(), ..Default::default() });
    harness.turn();
    assert_eq!(harness.front.answer(unary).status, Some(ok()));
    let mut leaderless = (*harness.node.published()).clone();
    leaderless.leader = 0;
    harness.node.0.borrow_mut().published = Arc::new(leaderless);
    let refused = harness.front.open(RANGE, metadata());
    harness.front.turn(&mut Vec::new());
    assert_eq!(harness.front.answer(refused).status, Some(Error::NoLeader.into()));
    // Three election timeouts, not two.
    for poll in 0..3 {
        assert_eq!(harness.front.answer(call).status, None, "poll {poll}");
        harness.front.tick(10_000 + 1_000 * poll);
    }
    assert_eq!(harness.front.answer(call).status, Some(Error::NoLeader.into()));
    let odd = CallMetadata { client_api_version: Some(Bytes::from_static(&[0xff])), ..Default::default() };
    let call = harness.front.open(RANGE, odd);
    harness.front.turn(&mut Vec::new());
    assert_eq!(harness.front.answer(call).status, Some(Error::InvalidClientApiVersion.into()));
    // Versions are counted (G-7).
    for (path, kind) in [(RANGE, "unary"), (KEEP_ALIVE, "stream")] {
        let tells = CallMetadata { client_api_version: Some("of-this-test".into()), ..Default::default() };
        harness.front.open(path, tells);
        harness.front.turn(&mut Vec::new());
        let line =
            format!("etcd_server_client_requests_total{{client_api_version=\"of-this-test\",type=\"{kind}\"}} 1\n");
        assert!(crate::metrics::render(&harness.node.published(), None).contains(&line));
    }
}

#[test]
fn a_call_that_was_cancelled_is_not_answered() {
    let mut harness = Harness::new();
    let put = harness.front.call(PUT, &PutRequest { key: "a".into(), ..Default::default() });
    let range = harness.front.call(RANGE, &RangeRequest { key: "a".into(), ..Default::default() });
    harness.front.turn(&mut Vec::new());
    harness.front.cancel(put);
    harness.front.cancel(range);
    harness.turn();
    assert!(harness.front.answer(put).messages.is_empty() && harness.front.answer(put).status.is_none());
    assert!(harness.front.answer(range).messages.is_empty() && harness.front.answer(range).status.is_none());
    // The write itself was on its way.
    assert_eq!(harness.get("a").count, 1);
}
