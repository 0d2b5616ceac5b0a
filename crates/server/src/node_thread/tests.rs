//! What is left of a member when its disk fails: whole members, services and all, on a disk in memory.

use std::path::Path;
use std::rc::Rc;
use std::sync::Condvar;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use cetera_node::event::{Proposal, Reply};
use cetera_node::recovery::{self, Start, StartError};
use cetera_proto::etcdserverpb::*;
use cetera_state::member::Member;
use cetera_storage::datadir::DataDir;
use cetera_storage::revlog::RevLogOptions;
use cetera_storage::vfs::memory::{Fault, FaultError, MemoryVfs, Op};
use cetera_storage::wal::WalOptions;
use prost::Message;

use super::*;
use crate::clock;
use crate::front::http1::Serving;
use crate::front::memory::MemoryFront;
use crate::front::thread::{Bound, FrontOptions, Fronts, Tenants};
use crate::http::Endpoints;
use crate::rpc::status::{Error, ok};
use crate::rpc::watch::WatchService;
use crate::rpc::{RequestIds, RpcServices, Settings};
use crate::seam::{CallId, Mail, Status};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
/// Nothing here takes as long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
/// Request ids begin here, further on at each start.
const FIRST_ID: u64 = 7 << 48 | 1 << 47;

#[derive(Default)]
struct TestBox {
    mail: Mutex<Vec<Mail>>,
    filled: Condvar,
    wants_changes: AtomicBool,
}

impl MailBox for TestBox {
    fn post(&self, mail: &mut Vec<Mail>) {
        lock(&self.mail).append(mail);
        self.filled.notify_one();
    }

    fn want_changes(&self, wanted: bool) {
        self.wants_changes.store(wanted, Ordering::Release);
    }

    fn wants_changes(&self) -> bool {
        self.wants_changes.load(Ordering::Acquire)
    }
}

/// Sizes of a member's files.
#[derive(Copy, Clone)]
struct Sizes {
    wal: u64,
    log: u64,
}

/// Both logs have room for a whole test.
const ROOMY: Sizes = Sizes { wal: 1 << 20, log: 1 << 20 };

fn services(handle: &NodeHandle, front: u16, first_id: u64) -> RpcServices<NodeHandle> {
    let settings = Settings {
        max_request_bytes: 1 << 20,
        max_txn_ops: 128,
        quota_bytes: None,
        election_ms: 100,
        strict_reconfig_check: true,
        ids: Arc::new(RequestIds::new(first_id)),
    };
    let watch = WatchService::new(Default::default(), &handle.published());
    RpcServices::new(front, handle.clone(), Arc::new(settings), watch)
}

struct TestMember {
    handle: NodeHandle,
    threads: NodeThreads,
    front: MemoryFront<RpcServices<NodeHandle>>,
    inbox: Arc<TestBox>,
    _data_dir: DataDir,
}

impl TestMember {
    fn start(disk: &MemoryVfs, sizes: Sizes, life: u64) -> Result<TestMember, StartError> {
        Self::start_with_reserve(disk, sizes, life, 0)
    }

    fn start_with_reserve(
        disk: &MemoryVfs,
        sizes: Sizes,
        life: u64,
        reserve_bytes: u64,
    ) -> Result<TestMember, StartError> {
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let start = Start {
            founders: vec![Member { id: 7, peer_urls: vec!["http://localhost:2380".into()], ..Default::default() }],
            member_id: 7,
            cluster_id: 9,
            tick_ms: 10,
            election_ms: 100,
            nonce: life,
            now_ms: clock::now_ms(),
            wal: WalOptions { segment_bytes: sizes.wal, salt: 1, ..WalOptions::default() },
            log: RevLogOptions { segment_bytes: sizes.log },
            ..Start::default()
        };
        let mut opened = recovery::open(&vfs, Path::new("/data"), start)?;
        opened.node.campaign();
        let shell = NodeShell {
            wal: opened.wal,
            vfs,
            checkpoints: opened.checkpoints,
            tick_ms: 10,
            sync_inline: true,
            peers: Default::default(),
            sync: true,
            reserve_bytes,
        };
        let (handle, threads) = spawn(opened.node, shell).expect("threads");
        let inbox = Arc::new(TestBox::default());
        handle.register(0, inbox.clone());
        let front = MemoryFront::new(services(&handle, 0, FIRST_ID + life * 1_000_000));
        let member = TestMember { handle, threads, front, inbox, _data_dir: opened.data_dir };
        member.publish();
        Ok(member)
    }

    /// As at every start: once it is applied, so is everything an earlier life acknowledged.
    fn publish(&self) {
        let version = cetera_proto::membershippb::ClusterVersionSetRequest { ver: "3.7.0".to_string() };
        let request = InternalRaftRequest {
            header: Some(RequestHeader { id: FIRST_ID - 1, ..Default::default() }),
            cluster_version_set: Some(version.into()),
            ..Default::default()
        };
        let bytes: Bytes = request.encode_to_vec().into();
        while !self.handle.has_ended() {
            let propose = |ticket| Event::Propose(vec![Proposal { ticket, id: FIRST_ID - 1, request: bytes.clone() }]);
            if let Some(Reply::Applied(_)) = self.handle.ask(propose, PATIENCE) {
                return;
            }
        }
    }

    fn put(&mut self, n: usize, bytes: usize) -> CallId {
        let put = PutRequest { key: key(n), value: vec![n as u8; bytes].into(), ..Default::default() };
        self.front.call(PUT, &put)
    }

    /// Hands over what was called and waits until each of `calls` is answered, or the node has ended.
    fn answers(&mut self, calls: &[CallId]) -> Vec<Option<Status>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut mail = std::mem::take(&mut *lock(&self.inbox.mail));
            self.front.turn(&mut mail);
            let answers: Vec<Option<Status>> =
                calls.iter().map(|call| self.front.answer(*call).status.clone()).collect();
            if answers.iter().all(Option::is_some) || self.handle.has_ended() {
                return answers;
            }
            assert!(Instant::now() < deadline, "unanswered: {answers:?}");
            let mail = lock(&self.inbox.mail);
            if mail.is_empty() {
                drop(self.inbox.filled.wait_timeout(mail, Duration::from_millis(20)));
            }
        }
    }

    fn answer(&mut self, call: CallId) -> Option<Status> {
        self.answers(&[call]).remove(0)
    }

    /// The keys there are, by two kinds of read that must agree.
    fn keys(&mut self) -> Vec<Bytes> {
        let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), keys_only: true, ..Default::default() };
        let calls =
            [false, true].map(|serializable| self.front.call(RANGE, &RangeRequest { serializable, ..all.clone() }));
        assert_eq!(self.answers(&calls), [Some(ok()), Some(ok())]);
        let keys = calls.map(|call| {
            let body = self.front.answer(call).messages[0].clone();
            let response = RangeResponse::decode(body).expect("a response");
            response.kvs.into_iter().map(|kv| kv.key).collect::<Vec<_>>()
        });
        assert_eq!(keys[0], keys[1], "linearizable and serializable");
        let [keys, _] = keys;
        keys
    }

    fn stop(self) {
        self.handle.stop();
        self.threads.join().expect("an orderly end");
    }
}

fn key(n: usize) -> Bytes {
    format!("{n:06}").into()
}

fn refused(error: Error) -> Option<Status> {
    Some(error.into())
}

/// Every acknowledged key is there; others only if they were `unknown`.
fn check_keys(found: &[Bytes], acknowledged: &[usize], unknown: &[usize]) {
    for n in acknowledged {
        assert!(found.contains(&key(*n)), "{n} was acknowledged and is lost");
    }
    for found in found {
        assert!(acknowledged.iter().chain(unknown).any(|n| key(*n) == *found), "{found:?} came from nowhere");
    }
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_reads_go_on() {
    let disk = MemoryVfs::new();
    let mut member = TestMember::start(&disk, ROOMY, 1).expect("an empty disk");
    for n in 0..20 {
        let call = member.put(n, 100);
        assert_eq!(member.answer(call), Some(ok()));
    }
    let acknowledged: Vec<usize> = (0..20).collect();
    disk.fail(Fault::once(Op::Sync, FaultError::Eio).path("/wal/"));
    let under_way: Vec<CallId> = (20..25).map(|n| member.put(n, 100)).collect();
    // Their outcome is unknown.
    assert!(member.answers(&under_way).iter().all(|answer| *answer == refused(Error::Timeout)));
    // The disk is well again; what was lost is not.
    for n in 25..30 {
        let call = member.put(n, 100);
        assert_eq!(member.answer(call), refused(Error::Stopped));
    }
    assert_eq!(member.keys(), acknowledged.iter().map(|n| key(*n)).collect::<Vec<_>>());
    assert!(member.handle.published().log_failed);
    for seed in 0..20 {
        let mut again = TestMember::start(&disk.crash(seed), ROOMY, 2).expect("a disk that crashed");
        check_keys(&again.keys(), &acknowledged, &[20, 21, 22, 23, 24]);
        let call = again.put(99, 10);
        assert_eq!(again.answer(call), Some(ok()));
        again.stop();
    }
    member.stop();
}

#[test]
fn a_checkpoint_that_ends_after_the_log_failed_stops_nobody() {
    let disk = MemoryVfs::new();
    let mut member = TestMember::start(&disk, ROOMY, 1).expect("an empty disk");
    disk.fail(Fault::always(Op::Sync, FaultError::Eio).path("/wal/"));
    let call = member.put(0, 100);
    assert_eq!(member.answer(call), refused(Error::Timeout));
    let done = JobDone::Checkpoint { index: 1, manifest: Default::default(), snapshot: None };
    member.handle.send(Event::Job(done));
    assert_eq!(member.keys(), Vec::<Bytes>::new());
    member.stop();
}

#[test]
fn a_front_that_wants_no_changes_is_not_told() {
    let disk = MemoryVfs::new();
    let mut member = TestMember::start(&disk, ROOMY, 1).expect("an empty disk");
    let (other, sockets) = (Arc::new(TestBox::default()), Fronts::inboxes(1).remove(0));
    member.handle.register(1, other.clone());
    member.handle.register(2, sockets.clone());
    let mut put = |n| {
        let call = member.put(n, 10);
        assert_eq!(member.answer(call), Some(ok()));
        // Whoever is told is told before the answer leaves.
        lock(&other.mail).drain(..).filter(|mail| matches!(mail, Mail::Events(_))).count()
    };
    assert_eq!(put(0), 0);
    other.want_changes(true);
    assert_eq!(put(1), 1);
    other.want_changes(false);
    assert_eq!(put(2), 0);
    // Each says it through the node, for itself; front threads begin without.
    assert!(!sockets.wants_changes());
    member.handle.want_changes(2, true);
    assert_eq!((sockets.wants_changes(), other.wants_changes()), (true, false));
    member.handle.want_changes(2, false);
    assert!(!sockets.wants_changes());
    member.stop();
}

/// The log's own files are in order; the next one cannot be made. Nothing written after that may stand behind a hole.
#[test]
fn a_segment_that_cannot_be_made_ends_the_log_without_a_hole() {
    let disk = MemoryVfs::new();
    let sizes = Sizes { wal: 64 << 10, log: 8 << 20 };
    let mut member = TestMember::start(&disk, sizes, 1).expect("an empty disk");
    disk.fail(Fault::always(Op::Rename, FaultError::Eio).path("/wal/"));
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    let mut stopped = false;
    for batch in 0..100 {
        let numbers = batch * 5..batch * 5 + 5;
        let calls: Vec<CallId> = numbers.clone().map(|n| member.put(n, 1_000)).collect();
        for (n, answer) in numbers.zip(member.answers(&calls)) {
            match answer {
                answer if answer == Some(ok()) => {
                    assert!(!stopped && unknown.is_empty(), "{n} was acknowledged after the end");
                    acknowledged.push(n);
                }
                answer if answer == refused(Error::Timeout) => unknown.push(n),
                answer => {
                    assert_eq!(answer, refused(Error::Stopped));
                    stopped = true;
                }
            }
        }
    }
    assert!(stopped && !unknown.is_empty() && acknowledged.len() > 20, "{} {}", acknowledged.len(), unknown.len());
    // The disk is well again for the files; the log of this life has ended.
    disk.clear_faults();
    let call = member.put(9_999, 10);
    assert_eq!(member.answer(call), refused(Error::Stopped));
    for seed in 0..5 {
        let mut again = TestMember::start(&disk.crash(seed), sizes, 2).expect("there is no hole");
        check_keys(&again.keys(), &acknowledged, &unknown);
        again.stop();
    }
    member.stop();
}

/// Puts values until one is refused for lack of room; returns who was acknowledged.
fn fill(member: &mut TestMember, from: usize, bytes: usize) -> Vec<usize> {
    let mut acknowledged = Vec::new();
    for n in from.. {
        let call = member.put(n, bytes);
        match member.answer(call) {
            answer if answer == Some(ok()) => acknowledged.push(n),
            answer if answer == refused(Error::NoSpace) => return acknowledged,
            answer => panic!("put {n}: {answer:?}"),
        }
    }
    unreachable!("the disk is not that large")
}

#[test]
fn a_full_disk_refuses_writes_until_it_has_room() {
    let disk = MemoryVfs::new();
    let sizes = Sizes { wal: 64 << 10, log: 32 << 20 };
    let mut member = TestMember::start(&disk, sizes, 1).expect("an empty disk");
    let call = member.put(0, 100);
    assert_eq!(member.answer(call), Some(ok()));
    // Both logs have their first files; a few more segments of the write-ahead log, then no more.
    disk.set_capacity((32 << 20) + (400 << 10));
    let mut acknowledged = vec![0];
    acknowledged.extend(fill(&mut member, 1, 1_000));
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    // Refused cleanly: reads go on, and the next is refused like the first.
    assert_eq!(member.keys().len(), acknowledged.len());
    let refused_call = member.put(99_998, 1_000);
    assert_eq!(member.answer(refused_call), refused(Error::NoSpace));
    assert!(!member.handle.published().log_failed);
    disk.set_capacity(64 << 20);
    let call = member.put(99_999, 1_000);
    assert_eq!(member.answer(call), Some(ok()));
    acknowledged.push(99_999);
    check_keys(&member.keys(), &acknowledged, &[]);
    for seed in 0..5 {
        let mut again = TestMember::start(&disk.crash(seed), sizes, 2).expect("a disk that crashed");
        check_keys(&again.keys(), &acknowledged, &[]);
        again.stop();
    }
    member.stop();
}

/// Before the disk is full: what grows the store is refused, what gives space back passes, and it ends by itself.
#[test]
fn a_disk_whose_reserve_is_used_up_refuses_what_grows_the_store() {
    const RESERVE: u64 = 8 << 20;
    let disk = MemoryVfs::new();
    let sizes = Sizes { wal: 64 << 10, log: 1 << 20 };
    let mut member = TestMember::start_with_reserve(&disk, sizes, 1, RESERVE).expect("an empty disk");
    let call = member.put(0, 100);
    assert_eq!(member.answer(call), Some(ok()));
    disk.set_capacity(RESERVE);
    let deadline = Instant::now() + PATIENCE;
    while !member.handle.disk_low() && Instant::now() < deadline {
        member.handle.wait_for_change(Duration::from_millis(50));
    }
    let call = member.put(1, 100);
    assert_eq!(member.answer(call), refused(Error::NoSpace));
    let delete = DeleteRangeRequest { key: key(0), ..Default::default() };
    let call = member.front.call("/etcdserverpb.KV/DeleteRange", &delete);
    assert_eq!(member.answer(call), Some(ok()));
    assert!(member.handle.published().alarms.is_empty());
    disk.set_capacity(4 * RESERVE);
    while member.handle.disk_low() && Instant::now() < deadline {
        member.handle.wait_for_change(Duration::from_millis(50));
    }
    let call = member.put(2, 100);
    assert_eq!(member.answer(call), Some(ok()));
    member.stop();
}

/// The node's own entries ask nobody for room; they wait for it.
#[test]
fn a_lease_that_ends_on_a_full_disk_is_revoked_when_there_is_room() {
    let disk = MemoryVfs::new();
    let sizes = Sizes { wal: 64 << 10, log: 32 << 20 };
    let mut member = TestMember::start(&disk, sizes, 1).expect("an empty disk");
    let mut calls = vec![member.put(0, 100)];
    // So many that their revocations fit no rest of a segment.
    for id in 1..=1_000 {
        calls.push(member.front.call("/etcdserverpb.Lease/LeaseGrant", &LeaseGrantRequest { ttl: 1, id }));
    }
    assert!(member.answers(&calls).iter().all(|answer| *answer == Some(ok())));
    disk.set_capacity(32 << 20);
    let acknowledged = fill(&mut member, 1, 1_000);
    let leases = |member: &mut TestMember| {
        let call = member.front.call("/etcdserverpb.Lease/LeaseLeases", &LeaseLeasesRequest {});
        assert_eq!(member.answer(call), Some(ok()));
        let body = member.front.answer(call).messages[0].clone();
        LeaseLeasesResponse::decode(body).expect("a response").leases.len()
    };
    // Their time passes, and nothing fails by it.
    let deadline = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < deadline {
        member.handle.wait_for_change(Duration::from_millis(50));
    }
    assert!(!member.handle.published().log_failed);
    assert_eq!(leases(&mut member), 1_000);
    disk.set_capacity(64 << 20);
    let deadline = Instant::now() + PATIENCE;
    while leases(&mut member) > 0 {
        assert!(Instant::now() < deadline, "the leases were not revoked");
        member.handle.wait_for_change(Duration::from_millis(50));
    }
    let call = member.put(99_999, 10);
    assert_eq!(member.answer(call), Some(ok()));
    assert_eq!(member.keys().len(), acknowledged.len() + 2);
    member.stop();
}

#[test]
fn a_revision_log_without_room_ends_the_member_and_loses_nothing() {
    let disk = MemoryVfs::new();
    let sizes = Sizes { wal: 16 << 20, log: 64 << 10 };
    let mut member = TestMember::start(&disk, sizes, 1).expect("an empty disk");
    let mut acknowledged = Vec::new();
    for n in 0..10 {
        let call = member.put(n, 1_000);
        assert_eq!(member.answer(call), Some(ok()));
        acknowledged.push(n);
    }
    // Files of the write-ahead log are there; the revision log's next one finds no room.
    disk.fail(Fault::always(Op::Allocate, FaultError::Enospc).path("/log/"));
    let mut unknown = None;
    for n in 10..1_000 {
        let call = member.put(n, 1_000);
        match member.answer(call) {
            None => {
                unknown = Some(n);
                break;
            }
            answer => assert_eq!(answer, Some(ok())),
        }
        acknowledged.push(n);
    }
    let unknown = unknown.expect("the member ended");
    assert!((40..70).contains(&unknown), "{unknown}");
    let TestMember { threads, _data_dir: data_dir, .. } = member;
    let error = threads.join().expect_err("it could not go on").to_string();
    assert!(error.starts_with("revision log: allocate segment-"), "{error}");
    drop(data_dir);
    // A start that finds no room says so and leaves everything as it is.
    let error = TestMember::start(&disk, sizes, 2).err().expect("there is still no room").to_string();
    assert!(error.starts_with("revision log: allocate segment-"), "{error}");
    disk.clear_faults();
    for seed in 0..5 {
        let mut again = TestMember::start(&disk.crash(seed), sizes, 3).expect("there is room");
        check_keys(&again.keys(), &acknowledged, &[unknown]);
        again.stop();
    }
    let mut again = TestMember::start(&disk, sizes, 4).expect("there is room");
    // Nothing crashed: what the log had is applied now.
    assert_eq!(again.keys().len(), acknowledged.len() + 1);
    again.stop();
}

/// One HTTP/1.1 request to a member's front; status and body.
fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("answered");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_string())
}

#[test]
fn health_is_told_after_the_log_failed() {
    let disk = MemoryVfs::new();
    let mut member = TestMember::start(&disk, ROOMY, 1).expect("an empty disk");
    let url = crate::config::Url::parse("http://127.0.0.1:0").expect("valid");
    let listener = Bound::bind(&url, Serving::All).expect("a free port");
    let address = listener.address();
    let inboxes = Fronts::inboxes(1);
    member.handle.register(1, inboxes[0].clone());
    let handle = member.handle.clone();
    let tenants = move |_| {
        let source = handle.clone();
        Tenants {
            services: Box::new(services(&handle, 1, FIRST_ID + 500_000)),
            http: Rc::new(Endpoints {
                published: Arc::new(move || source.published()),
                quota_bytes: None,
                request_timeout_ms: 7_000,
                command_line: Arc::default(),
            }),
        }
    };
    let options = FrontOptions {
        threads: 1,
        max_message_bytes: 1 << 20,
        max_concurrent_streams: 10,
        keepalive_min_time: PATIENCE,
        keepalive_interval: None,
        keepalive_timeout: PATIENCE,
    };
    let fronts = Fronts::start(inboxes, &options, vec![listener], tenants).expect("threads");
    let well = (200, "{\"health\":\"true\",\"reason\":\"\"}".to_string());
    assert_eq!(get(address, "/health"), well);
    assert_eq!(get(address, "/readyz"), (200, "ok\n".to_string()));

    disk.fail(Fault::once(Op::Sync, FaultError::Eio).path("/wal/"));
    let call = member.put(1, 10);
    assert_eq!(member.answer(call), refused(Error::Timeout));
    let ill = (503, "{\"health\":\"false\",\"reason\":\"WRITE-AHEAD LOG FAILED\"}\n".to_string());
    assert_eq!(get(address, "/health"), ill);
    assert_eq!(get(address, "/health?serializable=true"), ill);
    // Reads still work, and a probe says so.
    let lines = "[-]write_ahead_log failed: WRITE-AHEAD LOG FAILED\n[+]serializable_read ok\n";
    assert_eq!(get(address, "/livez"), (503, lines.to_string()));
    let (status, lines) = get(address, "/readyz?verbose");
    assert!(status == 503 && lines.contains("[+]linearizable_read ok\n"), "{lines}");
    let (status, metrics) = get(address, "/metrics");
    assert!(status == 200 && metrics.contains("etcd_server_has_leader 1\n"));
    fronts.stop(PATIENCE);
    member.stop();
}
