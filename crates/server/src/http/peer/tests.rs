//! The endpoints over a whole member that stands alone, on a disk in memory. Answers are those that a real etcd gave.

use std::path::Path;

use cetera_node::event::Proposal;
use cetera_node::recovery::{self, Start};
use cetera_proto::etcdserverpb::{InternalRaftRequest, LeaseGrantRequest, PutRequest, RequestHeader};
use cetera_storage::datadir::DataDir;
use cetera_storage::vfs::{Vfs, memory::MemoryVfs};

use super::*;
use crate::clock;
use crate::node_thread::{self, NodeShell, NodeThreads};
use crate::rpc::RequestIds;

/// Nothing here takes as long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const MEMBER: u64 = 7;
const CLUSTER: u64 = 0x48276a8f75b6a87;
const JSON: &str = "application/json";

struct TestMember {
    endpoints: PeerEndpoints,
    threads: NodeThreads,
    _data_dir: DataDir,
}

/// What came back, as far as etcd's members look at it.
#[derive(Debug, Eq, PartialEq)]
struct Got {
    status: u16,
    content_type: String,
    body: Vec<u8>,
}

impl Got {
    fn text(&self) -> (u16, &str) {
        (self.status, std::str::from_utf8(&self.body).expect("text"))
    }
}

impl TestMember {
    /// A leader.
    fn start() -> TestMember {
        let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
        let founder = Member {
            id: MEMBER,
            peer_urls: vec!["http://127.0.0.1:23800".into()],
            name: "default".into(),
            ..Member::default()
        };
        let start = Start {
            founders: vec![founder],
            member_id: MEMBER,
            cluster_id: CLUSTER,
            tick_ms: 10,
            election_ms: 100,
            nonce: 1,
            now_ms: clock::now_ms(),
            ..Start::default()
        };
        let mut opened = recovery::open(&vfs, Path::new("/data"), start).expect("an empty disk");
        opened.node.campaign();
        let shell = NodeShell {
            wal: opened.wal,
            vfs,
            checkpoints: opened.checkpoints,
            tick_ms: 10,
            sync_inline: true,
            peers: Default::default(),
            sync: true,
            reserve_bytes: 0,
        };
        let (node, threads) = node_thread::spawn(opened.node, shell).expect("threads");
        while node.published().leader == 0 {
            node.wait_for_change(PATIENCE);
        }
        let settings = Settings {
            max_request_bytes: 1 << 20,
            max_txn_ops: 128,
            quota_bytes: None,
            election_ms: 100,
            strict_reconfig_check: true,
            ids: Arc::new(RequestIds::new(MEMBER << 48 | 1 << 47 | 1_000)),
        };
        let endpoints = PeerEndpoints::new(node, Arc::new(settings));
        TestMember { endpoints, threads, _data_dir: opened.data_dir }
    }

    fn propose(&self, id: u64, mut request: InternalRaftRequest) {
        request.header = Some(RequestHeader { id, ..Default::default() });
        let request = request.encode_to_vec().into();
        let reply = self.endpoints.node.ask(|ticket| Event::Propose(vec![Proposal { ticket, id, request }]), PATIENCE);
        assert!(matches!(reply, Some(Reply::Applied(Ok(_)))), "{reply:?}");
    }

    fn send(&self, request: &Request<Bytes>) -> Got {
        let response = self.endpoints.respond(request);
        let header =
            |name: &HeaderName| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        Got {
            status: response.status().as_u16(),
            content_type: header(&CONTENT_TYPE).unwrap_or_default(),
            body: response.body().to_vec(),
        }
    }

    fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Got {
        self.send(&Request::builder().method(method).uri(path).body(body.into()).expect("a request"))
    }

    fn stop(self) {
        self.endpoints.node.stop();
        self.threads.join().expect("a good end");
    }
}

/// P-8, P-9, P-13.
#[test]
fn what_those_who_join_ask_for() {
    let member = TestMember::start();
    let members = member.ask("GET", "/members", "");
    assert_eq!(members.text(), (200, "[{\"id\":7,\"peerURLs\":[\"http://127.0.0.1:23800\"],\"name\":\"default\"}]\n"));
    assert_eq!(members.content_type, JSON);
    let version = member.ask("GET", "/version", "");
    assert_eq!((version.status, version.content_type.as_str()), (200, JSON));
    assert!(version.text().1.starts_with("{\"etcdserver\":\"3.7.1\",\"etcdcluster\":\"not_decided\""), "{version:?}");
    let response = member.endpoints.respond(&Request::builder().uri("/version").body(Bytes::new()).expect("a request"));
    assert!(response.headers().contains_key(crate::remote::FEATURE_LEVEL_HEADER));
    let downgrade = member.ask("GET", "/downgrade/enabled", "");
    assert_eq!((downgrade.text(), downgrade.content_type.as_str()), ((200, "false"), "text/plain"));
    for (method, path) in
        [("POST", "/members"), ("HEAD", "/version"), ("PUT", "/downgrade/enabled"), ("GET", "/leases")]
    {
        assert_eq!(member.ask(method, path, "").text(), (405, "Method Not Allowed\n"), "{method} {path}");
    }
    for path in ["/", "/members/", "/health", "/leases/other"] {
        assert_eq!(member.ask("GET", path, "").text(), (404, "404 page not found\n"), "{path}");
    }
    member.stop();
}

/// P-11.
#[test]
fn promotions_that_are_refused() {
    let member = TestMember::start();
    for (path, answer) in [
        ("/members/promote/12", (404, "membership: ID not found\n")),
        ("/members/promote/x", (404, "member x not found in cluster\n")),
        ("/members/promote/+7", (404, "member +7 not found in cluster\n")),
        ("/members/promote/7", (412, "membership: can only promote a learner member\n")),
    ] {
        let got = member.ask("POST", path, "");
        assert_eq!(got.text(), answer, "{path}");
    }
    assert_eq!(member.ask("GET", "/members/promote/12", "").status, 405);
    member.stop();
}

/// P-12.
#[test]
fn hashes_to_compare() {
    let member = TestMember::start();
    let empty = member.ask("GET", "/members/hashkv", "{\"revision\":0}");
    assert_eq!(
        empty.text(),
        (200, "{\"header\":{\"revision\":1},\"hash\":1084519789,\"compact_revision\":-1,\"hash_revision\":1}")
    );
    assert_eq!(empty.content_type, JSON);
    assert_eq!(member.ask("GET", "/members/hashkv", "{}"), empty);
    let put = PutRequest { key: "a".into(), value: "1".into(), ..Default::default() };
    member.propose(1, InternalRaftRequest { put: Some(put.into()), ..Default::default() });
    assert!(
        member.ask("GET", "/members/hashkv", "{\"revision\":2}").text().1.starts_with("{\"header\":{\"revision\":2}")
    );
    for (body, answer) in [
        ("{\"revision\":99}", (400, "mvcc: required revision is a future revision\n")),
        ("", (400, "error unmarshalling request\n")),
        ("{\"revision\":\"2\"}", (400, "error unmarshalling request\n")),
        ("[]", (400, "error unmarshalling request\n")),
    ] {
        assert_eq!(member.ask("GET", "/members/hashkv", body).text(), answer, "{body}");
    }
    let of = |id: &str| {
        let request = Request::builder().uri("/members/hashkv").header("X-Etcd-Cluster-ID", id);
        member.send(&request.body("{}".into()).expect("a request")).status
    };
    assert_eq!((of("12"), of("48276a8f75b6a87"), of("")), (412, 200, 200));
    member.stop();
}

/// P-10.
#[test]
fn leases_for_those_who_do_not_lead() {
    let member = TestMember::start();
    let renew = |id| LeaseKeepAliveRequest { id }.encode_to_vec();
    let left = |id, keys| {
        let asked = Some(LeaseTimeToLiveRequest { id, keys });
        LeaseInternalRequest { lease_time_to_live_request: asked }.encode_to_vec()
    };
    assert_eq!(member.ask("POST", "/leases", renew(5)).text(), (404, "lease not found\n"));
    assert_eq!(member.ask("POST", "/leases", "").text(), (404, "lease not found\n"));
    assert_eq!(member.ask("POST", "/leases/internal", left(5, false)).text(), (404, "lease not found\n"));
    assert_eq!(member.ask("POST", "/leases", vec![0xff]).text(), (400, "error unmarshalling request\n"));

    let grant = LeaseGrantRequest { id: 5, ttl: 1_000 };
    member.propose(1, InternalRaftRequest { lease_grant: Some(grant.into()), ..Default::default() });
    let put = PutRequest { key: "a".into(), lease: 5, ..Default::default() };
    member.propose(2, InternalRaftRequest { put: Some(put.into()), ..Default::default() });
    let renewed = member.ask("POST", "/leases", renew(5));
    assert_eq!((renewed.status, renewed.content_type.as_str()), (200, PROTOBUF));
    let renewed = LeaseKeepAliveResponse::decode(&renewed.body[..]).expect("a response");
    assert_eq!((renewed.id, renewed.ttl), (5, 1_000));
    let found = member.ask("POST", "/leases/internal", left(5, true));
    let found = LeaseInternalResponse::decode(&found.body[..]).expect("a response").lease_time_to_live_response;
    let found = found.expect("what was asked for");
    assert_eq!((found.id, found.granted_ttl, &found.keys[..]), (5, 1_000, &[Bytes::from("a")][..]));
    assert!((900..=1_000).contains(&found.ttl), "{}", found.ttl);
    member.stop();
}
