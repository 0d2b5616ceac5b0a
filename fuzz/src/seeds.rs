//! Where the corpus began: inputs made by hand or from real data, among them the faults that the fuzzing audit of etcd
//! of 2022 found. `cargo run -p cetera-fuzz --bin seeds-of-fuzz` writes them; everything else in the corpus an engine
//! has found from here.

use cetera_proto::etcdserverpb::*;
use cetera_proto::membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest};
use cetera_proto::raftpb::{ConfChange, ConfChangeType, Entry, Message as Raft, MessageType};
use cetera_proto::services::MethodId;
use prost::Message;

use crate::input::Script;

/// Name and bytes of a target's first inputs.
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    let named = |list: Vec<(&str, Script)>| list.into_iter().map(|(name, s)| (name.to_string(), s.0)).collect();
    match target {
        "wal" => wal(),
        "revlog" => named(revlog()),
        "checkpoint" => checkpoint(),
        "datadir" => named(datadir()),
        "start" => named(edits(Script::default())),
        "apply" => named(apply()),
        "services" => named(services()),
        "peer" => {
            // Said to a follower, and to a leader.
            let to = |leads: u8, (name, script): &(&str, Script)| {
                let bytes = Script::default().u8(leads).raw(&script.0).0;
                (format!("{name}{}", ["", "-to-leader"][usize::from(leads)]), bytes)
            };
            let all = peer();
            all.iter().map(|seed| to(0, seed)).chain(all.iter().map(|seed| to(1, seed))).collect()
        }
        "store" => named(vec![("some", any(600, 1)), ("more", any(900, 2))]),
        "hub" => named(vec![("some", any(300, 3)), ("more", any(500, 4))]),
        "config" => named(config()),
        "http" => named(http()),
        "front" => named(front()),
        "framing" => named(framing()),
        "script" => named(script()),
        "ctl" => named(ctl()),
        _ => Vec::new(),
    }
}

/// Bytes of a small generator, for targets whose inputs are decisions through and through.
fn any(len: usize, seed: u32) -> Script {
    let mut state = seed;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    Script((0..len).map(byte).collect())
}

fn edits(begin: Script) -> Vec<(&'static str, Script)> {
    let edit = |kind: u8, file: u8, at: u16| begin.clone().u8(kind).u8(file).u16(at);
    vec![
        ("as-it-is", begin.clone()),
        ("bit", edit(0, 0, 4_200).bytes([1])),
        ("bit-later", edit(0, 1, 5_000).bytes([0x80])),
        ("header", edit(0, 0, 9).bytes([1])),
        ("length", edit(2, 0, 4_116).bytes([0xff; 4])),
        ("cut", edit(4, 1, 4_500)),
        ("longer", edit(5, 1, 0).bytes([7; 40])),
        ("gone", edit(6, 0, 0)),
        ("stale", edit(7, 1, 0).u8(1)),
        ("renamed", edit(7, 1, 0).u8(0).u8(2)),
        ("two", edit(0, 0, 4_300).bytes([2]).u8(4).u8(2).u16(4_400)),
    ]
}

fn wal() -> Vec<(String, Vec<u8>)> {
    let mut all = edits(Script::default().u8(0).u8(0).u8(0));
    all.extend([
        ("long", Script::default().u8(1).u8(0).u8(0)),
        ("released", Script::default().u8(2).u8(0).u8(0)),
        ("other-checkpoint", Script::default().u8(2).u8(0).u8(7).u8(3)),
        ("released-bit", Script::default().u8(2).u8(0).u8(0).u8(0).u8(1).u16(4_300).bytes([1])),
        // A checksum that is right over an epoch, an index or a length that is not.
        ("mended-epoch", Script::default().u8(0).u8(3).u8(0).u8(2).u8(0).u16(4_096 + 24).bytes([0xff; 4])),
        ("mended-index", Script::default().u8(0).u8(3).u8(0).u8(2).u8(0).u16(4_096 + 64 + 48).bytes([0xff; 8])),
        ("mended-entries", Script::default().u8(0).u8(3).u8(0).u8(2).u8(0).u16(4_096 + 64 + 44).bytes([0xff; 4])),
        ("mended-payload", Script::default().u8(1).u8(3).u8(0).u8(2).u8(0).u16(4_096 + 64 + 20).bytes([0xff; 4])),
        ("mended-metadata", Script::default().u8(0).u8(3).u8(0).u8(2).u8(0).u16(36).bytes([0xff; 4])),
    ]);
    // The same in the last batch, behind which nothing tells that it is wrong.
    let mut last = Vec::new();
    for base in 0..3 {
        let (file, at) = crate::wal::last_batch(base);
        for (name, field, len) in [
            ("epoch", 24, 4),
            ("claim", 32, 12),
            ("entries", 44, 4),
            ("last-index", 48, 8),
            ("state", 56, 4),
            ("flags", 60, 4),
            ("index", 64, 8),
        ] {
            let seed = Script::default().u8(base as u8).u8(3).u8(0).u8(2).u8(file).u16(at + field);
            last.push((format!("last-{name}-{base}"), seed.bytes(&[0xff; 12][..len]).0));
        }
    }
    last.extend(all.into_iter().map(|(name, script)| (name.to_string(), script.0)));
    last
}

fn revlog() -> Vec<(&'static str, Script)> {
    let mut all: Vec<_> = edits(Script::default().u8(1));
    all.push(("manifest", Script::default().u8(0).raw(crate::revlog::manifest_bytes())));
    all.push(("mended-length", Script::default().u8(2).u8(2).u8(0).u16(36).bytes([0xff; 4])));
    all.push(("place", Script::default().u8(3).u8(0).raw(32u64.to_le_bytes()).u8(1).u16(62)));
    all
}

fn checkpoint() -> Vec<(String, Vec<u8>)> {
    let mut whole = Script::default().u8(0);
    for (kind, data) in crate::checkpoint::chunks() {
        whole = whole.u8(kind).bytes(data);
    }
    let edit =
        |chunk: u8, kind: u8, at: u16, bytes: &[u8]| Script::default().u8(1).u8(chunk).u8(kind).u16(at).bytes(bytes);
    let mut all = vec![("whole".to_string(), whole.0), ("as-it-is".to_string(), vec![1])];
    for chunk in 0..5 {
        for (name, kind, at) in
            [("changed", 0, 2), ("longer", 2, 5), ("shorter", 3, 3), ("gone", 4, 0), ("twice", 5, 0)]
        {
            all.push((format!("{name}-{chunk}"), edit(chunk, kind, at, &[0xff]).0));
        }
    }
    all.extend(edits(Script::default().u8(2)).into_iter().map(|(name, s)| (format!("file-{name}"), s.0)));
    all
}

fn datadir() -> Vec<(&'static str, Script)> {
    vec![
        ("empty", Script::default()),
        ("ours", Script::default().u8(0).bytes("cetera 1\n")),
        ("newer", Script::default().u8(0).bytes("cetera 99999999999\n")),
        ("foreign", Script::default().u8(6).bytes("x").u8(3).bytes("y")),
        ("cut-short", Script::default().u8(1).bytes("").u8(2).bytes("cet")),
        ("no-text", Script::default().u8(0).bytes([0xff, 0xfe, 0])),
    ]
}

fn put(key: &'static str, lease: i64) -> PutRequest {
    PutRequest { key: key.into(), value: "value".into(), lease, prev_kv: true, ..Default::default() }
}

fn range(key: &'static str, end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: end.into(), ..Default::default() }
}

fn op(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn txn() -> TxnRequest {
    use request_op::Request::*;
    let compare = Compare {
        key: "a".into(),
        target: compare::CompareTarget::Version as i32,
        target_union: Some(compare::TargetUnion::Version(1)),
        ..Default::default()
    };
    let inner = TxnRequest { success: vec![op(RequestPut(put("inner", 0)))], ..Default::default() };
    let delete = DeleteRangeRequest { key: "b".into(), range_end: "d".into(), prev_kv: true };
    TxnRequest {
        compare: vec![compare],
        success: vec![op(RequestPut(put("a", 0))), op(RequestTxn(inner)), op(RequestRange(range("a", "z")))],
        failure: vec![op(RequestDeleteRange(delete)), op(RequestPut(put("a", 0)))],
    }
}

/// A transaction that lacks what protobuf lets one leave out.
fn bare_txn() -> TxnRequest {
    let compare = Compare { target: compare::CompareTarget::Value as i32, ..Default::default() };
    TxnRequest { compare: vec![compare], success: vec![RequestOp::default()], failure: vec![RequestOp::default()] }
}

fn duplicate_txn() -> TxnRequest {
    let put = || op(request_op::Request::RequestPut(put("same", 0)));
    TxnRequest { success: vec![put(), put()], ..Default::default() }
}

/// A transaction whose second write cannot be done: services refuse it, a log may hold it all the same.
fn late_txn() -> TxnRequest {
    use request_op::Request::*;
    let future = RangeRequest { revision: 1 << 40, ..range("a", "") };
    TxnRequest {
        success: vec![op(RequestPut(put("a", 0))), op(RequestPut(put("b", 77))), op(RequestRange(future))],
        ..Default::default()
    }
}

fn deep_txn(depth: usize) -> TxnRequest {
    (0..depth).fold(TxnRequest::default(), |inner, _| TxnRequest {
        success: vec![op(request_op::Request::RequestTxn(inner))],
        ..Default::default()
    })
}

fn apply() -> Vec<(&'static str, Script)> {
    let header = Some(RequestHeader { id: 7, ..Default::default() });
    let entry = |request: InternalRaftRequest| Script::default().u8(0).bytes(request.encode_to_vec());
    let with = |request: InternalRaftRequest| entry(InternalRaftRequest { header: header.clone(), ..request });
    let default = InternalRaftRequest::default;
    let life = with(InternalRaftRequest { put: Some(put("a", 0).into()), ..default() })
        .raw(
            with(InternalRaftRequest { lease_grant: Some(LeaseGrantRequest { id: 5, ttl: 60 }.into()), ..default() }).0,
        )
        .raw(with(InternalRaftRequest { put: Some(put("b", 5).into()), ..default() }).0)
        .raw(with(InternalRaftRequest { txn: Some(txn().into()), ..default() }).0)
        .u8(8)
        .raw(
            with(InternalRaftRequest {
                compaction: Some(CompactionRequest { revision: 3, physical: false }.into()),
                ..default()
            })
            .0,
        )
        .u8(7)
        .u8(3)
        .raw(with(InternalRaftRequest { lease_revoke: Some(LeaseRevokeRequest { id: 5 }.into()), ..default() }).0)
        .u8(9);
    let json = |id: u64, learner: bool| {
        format!("{{\"id\":{id},\"peerURLs\":[\"http://m{id}:1\"],\"isLearner\":{learner},\"name\":\"\"}}")
    };
    let conf = |kind: ConfChangeType, id: u64, context: String| {
        let change = ConfChange { r#type: kind as i32, node_id: id, context: context.into(), ..Default::default() };
        Script::default().u8(5).bytes(change.encode_to_vec())
    };
    let members = conf(ConfChangeType::ConfChangeAddNode, 1, json(1, false))
        .raw(conf(ConfChangeType::ConfChangeAddLearnerNode, 2, json(2, true)).0)
        .raw(conf(ConfChangeType::ConfChangeUpdateNode, 1, json(1, false)).0)
        .raw(conf(ConfChangeType::ConfChangeRemoveNode, 2, String::new()).0);
    let version = |ver: &str| ClusterVersionSetRequest { ver: ver.into() }.into();
    vec![
        ("life", life),
        ("members", members),
        ("member-of-two-minds", conf(ConfChangeType::ConfChangeAddNode, 3, json(3, true))),
        ("member-without-context", conf(ConfChangeType::ConfChangeAddNode, 3, String::new())),
        // The audit's: an entry without a header, without a request, with messages that lack their fields.
        ("no-header", entry(InternalRaftRequest { put: Some(put("a", 0).into()), ..default() })),
        ("nothing", Script::default().u8(0).bytes("")),
        ("bare-txn", with(InternalRaftRequest { txn: Some(bare_txn().into()), ..default() })),
        ("duplicate-txn", with(InternalRaftRequest { txn: Some(duplicate_txn().into()), ..default() })),
        ("late-txn", with(InternalRaftRequest { txn: Some(late_txn().into()), ..default() })),
        ("deep-txn", with(InternalRaftRequest { txn: Some(deep_txn(60).into()), ..default() })),
        ("bare-version", with(InternalRaftRequest { cluster_version_set: Some(version("")), ..default() })),
        (
            "high-version",
            with(InternalRaftRequest { cluster_version_set: Some(version("99999999999999999999.0.0")), ..default() }),
        ),
        (
            "bare-attributes",
            with(InternalRaftRequest {
                cluster_member_attr_set: Some(ClusterMemberAttrSetRequest::default().into()),
                ..default()
            }),
        ),
        (
            "bare-downgrade",
            with(InternalRaftRequest {
                downgrade_info_set: Some(DowngradeInfoSetRequest { enabled: true, ver: String::new() }.into()),
                ..default()
            }),
        ),
        (
            "alarm",
            with(InternalRaftRequest {
                alarm: Some(AlarmRequest { action: 1, member_id: 1, alarm: 1 }.into()),
                ..default()
            }),
        ),
        (
            "lease-of-odd-ttl",
            with(InternalRaftRequest {
                lease_grant: Some(LeaseGrantRequest { id: -1, ttl: i64::MIN }.into()),
                ..default()
            }),
        ),
        (
            "lease-checkpoint",
            with(InternalRaftRequest {
                lease_checkpoint: Some(LeaseCheckpointRequest { checkpoints: vec![LeaseCheckpoint::default()] }.into()),
                ..default()
            }),
        ),
        ("no-utf8", Script::default().u8(0).bytes([0xa2, 0x51, 4, 0x0a, 2, 0xff, 0xfe])),
    ]
}

fn call(method: MethodId, message: &impl Message) -> Script {
    Script::default().u8(0).u8(method as u8).u8(0).bytes(message.encode_to_vec())
}

fn services() -> Vec<(&'static str, Script)> {
    use MethodId::*;
    let odd = RangeRequest { sort_order: 9, sort_target: -1, limit: i64::MIN, revision: i64::MAX, ..range("a", "") };
    let create = WatchCreateRequest {
        key: "a".into(),
        range_end: "\0".into(),
        start_revision: 1,
        progress_notify: true,
        ..Default::default()
    };
    let watch = WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) };
    let life = call(Put, &put("a", 0))
        .raw(call(Watch, &watch).0)
        .raw(call(LeaseGrant, &LeaseGrantRequest { id: 9, ttl: 5 }).0)
        .raw(call(LeaseKeepAlive, &LeaseKeepAliveRequest { id: 9 }).0)
        .u8(7)
        .u8(10)
        .raw(call(Put, &put("b", 9)).0)
        .raw(call(Txn, &txn()).0)
        .raw(call(Range, &range("a", "\0")).0)
        .raw(call(RangeStream, &range("a", "\0")).0)
        .raw(call(LeaseTimeToLive, &LeaseTimeToLiveRequest { id: 9, keys: true }).0)
        .raw(call(DeleteRange, &DeleteRangeRequest { key: "a".into(), ..Default::default() }).0)
        .raw(call(Compact, &CompactionRequest { revision: 3, physical: true }).0)
        .u8(4)
        .u8(1)
        .bytes(
            WatchRequest { request_union: Some(watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {})) }
                .encode_to_vec(),
        )
        .u8(7)
        .u8(255)
        .u8(6)
        .u8(1);
    let rest = call(Status, &StatusRequest::default())
        .raw(call(HashKv, &HashKvRequest { revision: 1 }).0)
        .raw(call(Hash, &HashRequest::default()).0)
        .raw(call(MemberList, &MemberListRequest { linearizable: true }).0)
        .raw(call(Alarm, &AlarmRequest { action: 1, member_id: 1, alarm: 1 }).0)
        .raw(call(Downgrade, &DowngradeRequest { action: 1, version: "3.6.0".into() }).0)
        .raw(call(MoveLeader, &MoveLeaderRequest { target_id: 1 }).0)
        .raw(call(LeaseLeases, &LeaseLeasesRequest::default()).0)
        .raw(call(HealthCheck, &StatusRequest::default()).0)
        .raw(call(HealthWatch, &StatusRequest::default()).0)
        .raw(call(AuthStatus, &StatusRequest::default()).0)
        .raw(call(Snapshot, &SnapshotRequest::default()).0);
    let metadata = |which: u8, value: &[u8]| {
        Script::default().u8(0).u8(Range as u8).u8(which).bytes(value).bytes(range("a", "").encode_to_vec())
    };
    vec![
        ("life", life),
        ("rest", rest),
        ("bare-txn", call(Txn, &bare_txn())),
        ("duplicate-txn", call(Txn, &duplicate_txn())),
        ("deep-txn", call(Txn, &deep_txn(60))),
        ("odd-range", call(Range, &odd)),
        ("bare-watch", call(Watch, &WatchRequest::default())),
        ("lease-of-odd-ttl", call(LeaseGrant, &LeaseGrantRequest { id: i64::MIN, ttl: i64::MAX })),
        // The audit's: a label made of what a client says it is.
        ("version-no-utf8", metadata(2, &[0xff, 0xfe])),
        ("token-no-utf8", metadata(4, &[0xff, 0xfe])),
        ("leader-no-utf8", metadata(1, &[0xff])),
        ("name-no-utf8", Script::default().u8(0).u8(Authenticate as u8).u8(0).bytes([0x0a, 2, 0xff, 0xfe])),
        ("varint-without-end", Script::default().u8(0).u8(Put as u8).u8(0).bytes([0xff; 11])),
        ("group", Script::default().u8(0).u8(Put as u8).u8(0).bytes([0x0b; 40])),
        ("huge-length", Script::default().u8(0).u8(Put as u8).u8(0).bytes([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f])),
    ]
}

fn peer() -> Vec<(&'static str, Script)> {
    let message = |kind: MessageType, change: fn(&mut Raft)| {
        let mut message =
            Raft { to: crate::member::MEMBER, from: crate::member::MEMBER + 1, term: 2, ..Default::default() };
        message.set_type(kind);
        change(&mut message);
        Script::default().u8(0).bytes(message.encode_to_vec()).u8(0)
    };
    let entry = |index, data: &[u8]| Entry { term: 2, index, data: data.to_vec().into(), ..Default::default() };
    let request = InternalRaftRequest { put: Some(put("a", 0).into()), ..Default::default() }.encode_to_vec();
    let mut append = Raft {
        to: crate::member::MEMBER,
        from: crate::member::MEMBER + 1,
        term: 2,
        log_term: 1,
        index: 3,
        commit: 4,
        ..Default::default()
    };
    append.set_type(MessageType::MsgApp);
    append.entries = vec![entry(4, &request), entry(5, b"")];
    vec![
        ("append", Script::default().u8(0).bytes(append.encode_to_vec()).u8(0).u8(7).u8(0)),
        ("commit-beyond", message(MessageType::MsgHeartbeat, |m| m.commit = 1_000)),
        (
            "append-below",
            message(MessageType::MsgApp, |m| {
                m.index = 1;
                m.log_term = 1;
                m.entries = vec![Entry { term: 2, index: 2, ..Default::default() }];
            }),
        ),
        (
            "append-with-a-gap",
            message(MessageType::MsgApp, |m| {
                m.index = 3;
                m.log_term = 1;
                m.entries = vec![Entry { term: 2, index: 9, ..Default::default() }];
            }),
        ),
        ("empty-snapshot", message(MessageType::MsgSnap, |_| {})),
        ("vote", message(MessageType::MsgVote, |m| (m.index, m.log_term) = (3, 1))),
        ("vote-without-term", message(MessageType::MsgVote, |m| m.term = 0)),
        ("pre-vote", message(MessageType::MsgPreVote, |m| (m.index, m.log_term) = (3, 1))),
        ("own-hup", message(MessageType::MsgHup, |m| m.term = 0)),
        ("own-storage", message(MessageType::MsgStorageAppend, |_| {})),
        ("read-index", message(MessageType::MsgReadIndex, |m| m.term = 0)),
        ("acknowledged-beyond", message(MessageType::MsgAppResp, |m| m.index = 1_000)),
        (
            "rejected",
            message(MessageType::MsgAppResp, |m| (m.index, m.reject, m.reject_hint, m.log_term) = (4, true, 2, 1)),
        ),
        ("beaten", message(MessageType::MsgHeartbeatResp, |_| {})),
        ("transfer", message(MessageType::MsgTransferLeader, |m| m.term = 0)),
        ("time-out-now", message(MessageType::MsgTimeoutNow, |_| {})),
        ("bare", Script::default().u8(0).bytes("").u8(0)),
        ("proposal", message(MessageType::MsgProp, |m| m.term = 0)),
        ("ticks", Script(vec![5, 15, 0, 7, 0, 5, 15, 0, 5, 15, 0, 6, 1, 0])),
        ("some", any(300, 5)),
    ]
}

fn config() -> Vec<(&'static str, Script)> {
    let lines = |text: &str| Script::default().u8(2).raw(text);
    vec![
        ("duration", Script::default().u8(0).raw("1h2m3.25s")),
        ("duration-long", Script::default().u8(0).raw("2562047h47m16.854775807s")),
        ("url", Script::default().u8(1).raw("https://[::1]:2379")),
        ("url-unix", Script::default().u8(1).raw("unix:///run/x")),
        (
            "flags",
            lines(
                "--name=a\n--listen-client-urls\nhttp://127.0.0.1:1,http://localhost:2\n--advertise-client-urls=http://a:1\n--pre-vote=f",
            ),
        ),
        (
            "environment",
            lines("--name=a\n$ETCD_SNAPSHOT_COUNT=5\n$ETCD_NOTHING=1\n$ETCD_VERSION=3\n$ETCD_HEARTBEAT_INTERVAL=+10"),
        ),
        (
            "cluster",
            lines(
                "--initial-cluster=a=http://x:1,b=http://y:2,a=http://z:3\n--name=a\n--initial-advertise-peer-urls=http://x:1,http://z:3",
            ),
        ),
        (
            "limits",
            lines(
                "--max-txn-ops=18446744073709551615\n--election-timeout=-1\n--quota-backend-bytes=-9223372036854775808",
            ),
        ),
        (
            "times",
            lines(
                "--grpc-keepalive-interval=99999h\n--watch-progress-notify-interval=0.1ns\n--auto-compaction-retention=1h",
            ),
        ),
        ("log", lines("--log-level=debug\n--log-outputs=stderr,/tmp/x\n--log-format=console\n-h")),
    ]
}

fn http() -> Vec<(&'static str, Script)> {
    let get =
        |path: u8, rest: &str| Script::default().u8(0).u8(1).u8(0).u8(path).bytes(rest).u8(1).bytes("a").bytes("");
    vec![
        ("health", get(0, "?serializable=true&exclude=NOSPACE")),
        ("metrics", get(1, "")),
        ("version", get(2, "")),
        ("livez", get(3, "?verbose&exclude=serializable_read")),
        ("readyz", get(4, "linearizable_read")),
        ("vars", get(5, "")),
        ("raw", Script::default().u8(0).u8(0).bytes("GET /health HTTP/1.1\r\n\r\nGET /")),
        (
            "chunked",
            Script::default().u8(0).u8(0).bytes("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"),
        ),
        ("no-text", Script::default().u8(0).u8(1).u8(0).u8(6).bytes([0xff, 0x80]).u8(0).bytes([0xff]).bytes("x: y")),
    ]
}

fn front() -> Vec<(&'static str, Script)> {
    // Kind of piece, odd, method, body, whole, compressed, end.
    let call = |method: MethodId, body: Vec<u8>, end: u8| {
        Script::default().u8(0).u8(0).u8(0).u8(method as u8).bytes(body).u8(1).u8(0).u8(end)
    };
    let with = |name: u8, value: &[u8]| {
        let headers = Script::default().u8(0).u8(0).u8(0x20).u8(MethodId::Range as u8).u8(name).bytes(value);
        headers.bytes(range("a", "").encode_to_vec()).u8(1).u8(0).u8(1)
    };
    let create = WatchCreateRequest { key: "a".into(), ..Default::default() };
    let watch = WatchRequest { request_union: Some(watch_request::RequestUnion::CreateRequest(create)) };
    let both = call(MethodId::Watch, watch.encode_to_vec(), 0);
    vec![
        ("put", call(MethodId::Put, put("a", 0).encode_to_vec(), 1)),
        ("watch-and-put", both.raw(&call(MethodId::Put, put("a", 0).encode_to_vec(), 1).0[1..])),
        ("range-stream", call(MethodId::RangeStream, range("a", "\0").encode_to_vec(), 1)),
        ("timeout", with(1, b"1n")),
        ("odd-timeout", with(1, b"99999999H")),
        ("encoding", with(2, b"gzip")),
        ("version-no-utf8", with(5, &[0xff, 0xfe])),
        ("no-grpc", Script::default().u8(0).u8(0).u8(4).u8(0).bytes("").u8(1).u8(0).u8(1)),
        ("get", Script::default().u8(0).u8(0).u8(1).u8(0).bytes("").u8(1).u8(0).u8(1)),
        ("unknown-path", Script::default().u8(0).u8(0).u8(2).u8(0).bytes("/x/y").bytes("").u8(1).u8(0).u8(1)),
        ("lying-length", Script::default().u8(0).u8(0).u8(0).u8(2).bytes("abc").u8(0).raw([0xff; 8]).u8(0).u8(1)),
        (
            "ping-reset-goaway",
            Script::default()
                .u8(0)
                .u8(3)
                .u8(6)
                .u8(0)
                .u8(0)
                .u8(0)
                .bytes([0; 8])
                .u8(3)
                .u8(3)
                .u8(0)
                .u8(0)
                .u8(1)
                .bytes([0; 4]),
        ),
        ("settings", Script::default().u8(0).u8(3).u8(4).u8(0).u8(0).u8(0).bytes([0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("no-preface", Script::default().u8(255).bytes("PRI * HTTP/2.0\r\n\r\nXX")),
    ]
}

fn framing() -> Vec<(&'static str, Script)> {
    let stream = [0, 0, 0, 0, 3, b'a', b'b', b'c', 0, 0, 0, 0, 0, 0, 0, 0, 1];
    vec![
        ("cuts", Script::default().u8(0).u8(0).bytes([1, 3, 1, 2, 9]).raw(stream)),
        ("compressed", Script::default().u8(0).u8(2).bytes([2]).raw([1, 0, 0, 0, 3])),
        ("large", Script::default().u8(0).u8(1).bytes([5]).raw([0, 0xff, 0xff, 0xff, 0xff, 1])),
        ("timeout", Script::default().u8(1).raw("12345678m")),
        ("percent", Script::default().u8(2).raw("50% wrong\né")),
    ]
}

fn script() -> Vec<(&'static str, Script)> {
    let text = "# About.\n# rows: KV-1\n# flags: --x=1\n\nput a 1 lease=$x prev_kv\ntxn\n  if\n    version a = 1\n  then\n    put b 2\n    range a end=\\0 limit=3\n  else\n    delete a prefix\nrepeat 3\n  put k{i} v\n---\nput rev=2\n";
    vec![
        ("script", Script::default().u8(0).raw(text)),
        ("quotes", Script::default().u8(0).raw("put \"a b\" \\x00\\n end=\"x y\"\n")),
        ("watch", Script::default().u8(0).raw("watch a end=b start=1 prev_kv filter=put fragment\n")),
        ("bytes", Script::default().u8(1).raw([0, 0xff, b'"', b'\\', b'a'])),
        ("no-bytes", Script::default().u8(1)),
    ]
}

fn ctl() -> Vec<(&'static str, Script)> {
    let line = |text: &str| Script::default().u8(0).raw(text);
    let range = RangeResponse {
        header: Some(ResponseHeader { revision: 5, ..Default::default() }),
        kvs: vec![cetera_proto::mvccpb::KeyValue {
            key: vec![0xff, 0, b'"'].into(),
            value: "<v>".into(),
            ..Default::default()
        }],
        count: 1,
        ..Default::default()
    };
    let inner = ResponseOp { response: Some(response_op::Response::ResponseRange(range.clone())) };
    let txn = TxnResponse { responses: vec![inner, ResponseOp::default()], ..Default::default() };
    vec![
        ("compare", line("mod(\"key1\") > \"0\"")),
        ("value", line("val(\"k\") = \"a b\\x00\"")),
        ("put", line("put --lease=1a k 'single quoted' \"double\\n\"")),
        ("get", line("get --prefix --rev=3 --sort-by=mod k")),
        ("del", line("del --from-key k z")),
        ("args", Script::default().u8(1).raw("get\0--prefix\0-w\0json\0--\0k")),
        ("unknown", Script::default().u8(1).raw("ge\0--nothing")),
        ("quote", Script::default().u8(2).raw("é\u{200b}\"\\\n")),
        ("range", Script::default().u8(3).u8(0).raw(range.encode_to_vec())),
        ("txn", Script::default().u8(3).u8(4).raw(txn.encode_to_vec())),
        (
            "bare-txn",
            Script::default()
                .u8(3)
                .u8(4)
                .raw(TxnResponse { responses: vec![ResponseOp::default()], ..Default::default() }.encode_to_vec()),
        ),
        (
            "status",
            Script::default().u8(3).u8(8).raw(StatusResponse { db_size: -1, ..Default::default() }.encode_to_vec()),
        ),
        (
            "alarm",
            Script::default().u8(3).u8(9).raw(
                AlarmResponse { alarms: vec![AlarmMember { alarm: 77, member_id: 1 }], ..Default::default() }
                    .encode_to_vec(),
            ),
        ),
        (
            "watch",
            Script::default().u8(3).u8(5).raw(
                WatchResponse { events: vec![cetera_proto::mvccpb::Event::default()], ..Default::default() }
                    .encode_to_vec(),
            ),
        ),
        (
            "members",
            Script::default()
                .u8(3)
                .u8(7)
                .raw(MemberListResponse { members: vec![Member::default()], ..Default::default() }.encode_to_vec()),
        ),
        (
            "time-to-live",
            Script::default()
                .u8(3)
                .u8(6)
                .raw(LeaseTimeToLiveResponse { ttl: -1, ..Default::default() }.encode_to_vec()),
        ),
    ]
}
