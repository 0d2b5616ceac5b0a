//! The peer port over real sockets: whole groups of node threads in one process, and peers that are made of a socket and
//! ill will.

mod fake;
mod group;

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cetera_proto::ceterapb::{
    PeerMessage, SnapshotChunk, SnapshotFile, SnapshotHeader, SnapshotPosition, peer_message::Body,
};
use cetera_proto::raftpb::{self, MessageType};

use self::fake::Fake;
use self::group::{Group, Timing};
use super::frame::{FRAME_BYTES_MAX, whole};
use super::link::Kind;
use crate::tls::{Tls, TlsFiles};

/// Nothing here takes as long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until `f` gives something.
fn wait_for<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = f() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what}");
        std::thread::yield_now();
    }
}

fn message(from: u64, to: u64, kind: MessageType, term: u64) -> raftpb::Message {
    let mut message = raftpb::Message { from, to, term, ..Default::default() };
    message.set_type(kind);
    message
}

#[test]
fn a_group_elects_writes_and_survives_the_stop_of_one() {
    let mut group = Group::start(3, Timing::Quick);
    let leader = group.leader();
    for at in 0..3 {
        group.put(at, &format!("through {at}"));
    }
    group.stop(leader);
    let next = group.leader();
    assert_ne!(next, leader);
    let other = (0..3).find(|at| *at != leader && *at != next).expect("three less two");
    group.put(next, "by the new leader");
    group.put(other, "by a follower");
    let applied = group.published(next).applied_index;
    group.restart(leader);
    wait_for("member that catches up", || (group.published(leader).applied_index >= applied).then_some(()));
    group.put(leader, "by the one that came back");
    wait_for("connections both ways", || {
        let id = |at: usize| at as u64 + 1;
        let connected = |at: usize, to: usize| group.peers(at).connected_since_ms(id(to)).is_some();
        (0..3).all(|at| (0..3).all(|to| to == at || connected(at, to))).then_some(())
    });
    group.stop_all();
}

#[test]
fn a_group_over_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let of_authority = rcgen::KeyPair::generate().expect("a key");
    let ca = authority.self_signed(&of_authority).expect("signed");
    let issuer = rcgen::Issuer::new(authority, of_authority);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned(), "member".to_owned()];
    let cert = rcgen::CertificateParams::new(names).and_then(|params| params.signed_by(&key, &issuer)).expect("signed");
    for (name, label, der) in [
        ("ca", "CERTIFICATE", ca.der().as_ref()),
        ("cert", "CERTIFICATE", cert.der().as_ref()),
        ("key", "PRIVATE KEY", key.serialized_der()),
    ] {
        std::fs::write(path(name), pem(label, der)).expect("written");
    }
    let allowed = |names: &[&str]| TlsFiles {
        cert: path("cert"),
        key: path("key"),
        ca: path("ca"),
        allowed_hostnames: names.iter().map(|name| (*name).to_owned()).collect(),
        ..TlsFiles::default()
    };
    let automatic = TlsFiles { auto: true, ..TlsFiles::default() };
    for files in [allowed(&[]), allowed(&["member"]), automatic] {
        let tls = Tls::load(&files).expect("good files").expect("some files");
        let mut group = Group::start_with(3, Timing::Quick, Some(tls));
        let leader = group.leader();
        group.put((leader + 1) % 3, "by a follower");
        group.stop_all();
    }
    // Verified, and not the name that may call: its dials are turned away.
    let tls = Tls::load(&allowed(&["stranger"])).expect("good files").expect("some files");
    let group = Group::start_with(2, Timing::Slow, Some(tls));
    let mut stream = std::net::TcpStream::connect(group.address(0)).expect("listening");
    stream.write_all(group.hello(2).as_bytes()).expect("written");
    // Without TLS there is no answer but an alert.
    assert!(!fake::head(&mut stream).contains("HTTP/1.1"));
    assert_eq!(group.peers(0).connected_since_ms(2), None);
    group.stop_all();
    let lonely = TlsFiles { ca: String::new(), ..allowed(&[]) };
    assert!(Tls::load(&lonely).err().expect("nobody to trust").contains("--peer-trusted-ca-file"));
}

fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut body = String::new();
    for three in der.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for at in 0..4 {
            let digit = char::from(DIGITS[(bits >> (18 - 6 * at)) as usize & 63]);
            body.push(if at > three.len() { '=' } else { digit });
        }
    }
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn who_does_not_belong_is_refused_as_by_etcd() {
    let group = Group::alone(2, Timing::Slow);
    let hello = group.hello(2);
    let good = || hello.clone();
    let answer = |text: String| {
        let mut stream = std::net::TcpStream::connect(group.address(0)).expect("listening");
        stream.write_all(text.as_bytes()).expect("written");
        fake::head(&mut stream)
    };
    let with = |name: &str, value: &str| {
        let lines = good();
        let lines = lines.split("\r\n").map(|line| match line.split_once(": ") {
            Some((known, _)) if known.eq_ignore_ascii_case(name) => format!("{known}: {value}"),
            _ => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\r\n")
    };
    let head = answer(good());
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("x-etcd-cluster-id: 4d"), "{head}");
    for (text, status, body) in [
        (with("x-etcd-cluster-id", "4e"), "412", "cluster ID mismatch\n"),
        (with("x-server-version", "2.3.0"), "412", "incompatible version\n"),
        (with("x-min-cluster-version", "99.0.0"), "412", "incompatible version\n"),
        (with("x-raft-to", "7"), "412", "to field mismatch\n"),
        (with("x-server-from", "nobody"), "404", "invalid from\n"),
        (with("x-server-from", "9"), "404", "error sender not found\n"),
        (with("x-cetera-stream", "gossip"), "404", "invalid path\n"),
        (good().replace("GET ", "POST "), "405", "Method Not Allowed\n"),
    ] {
        let answer = answer(text);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(body), "{answer}");
    }
    // It told its URLs, and may be one that joined since.
    assert!(answer(with("x-server-from", "9")).starts_with("HTTP/1.1 101 "));
    let mut published = (*group.published(0)).clone();
    published.removed_members = Arc::new([2].into());
    published.members = Arc::new(published.members.iter().filter(|member| member.id != 2).cloned().collect());
    group.peers(0).post(&mut Vec::new(), Vec::new(), Some(&published));
    wait_for("refusal of a removed member", || answer(good()).starts_with("HTTP/1.1 410 ").then_some(()));
    group.stop_all();
}

#[test]
fn http_of_the_peer_port() {
    let group = Group::alone(1, Timing::Quick);
    group.leader();
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(group.address(0)).expect("listening");
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answered");
        text
    };
    assert!(get("/raft/probing").contains("{\"OK\":true,\"Now\":\"20"));
    let members = get("/members");
    assert!(members.contains("x-etcd-cluster-id: 4d") && members.contains("[{\"id\":1,\"peerURLs\":[\""), "{members}");
    assert!(get("/version").contains("\"etcdserver\":\"3.7."));
    assert!(get("/nothing").starts_with("HTTP/1.1 404 "));
    group.stop_all();
}

/// Elections are by time-out an hour away: only a connection that broke can bring one on.
#[test]
fn a_leader_whose_connection_is_reset_is_gone() {
    let group = Group::alone(2, Timing::Slow);
    let fake = Fake::listen(group.listener(1));
    for kind in Kind::LINKS {
        // Whichever of the two connections it is.
        let mut stream = fake.dial(&group.hello_of(2, kind), group.address(0));
        let term = group.published(0).term + 1;
        fake::write(&mut stream, &[message(2, 1, MessageType::MsgHeartbeat, term).into()]);
        wait_for("leader", || (group.published(0).leader == 2).then_some(()));
        drop(stream);
        fake.wait_for(MessageType::MsgPreVote);
    }
    group.stop_all();
}

#[test]
fn nonsense_ends_a_connection_and_nothing_else() {
    let group = Group::alone(2, Timing::Slow);
    let fake = Fake::listen(group.listener(1));
    let mut long = (FRAME_BYTES_MAX as u32 + 1).to_le_bytes().to_vec();
    long.extend_from_slice(&[0; 60]);
    let foreign = fake::frames(&[message(3, 1, MessageType::MsgHeartbeat, 5).into()]);
    let misled = fake::frames(&[message(2, 3, MessageType::MsgHeartbeat, 5).into()]);
    let mut torn = fake::frames(&[message(2, 1, MessageType::MsgHeartbeat, 5).into()]);
    torn[4] ^= 1;
    for bytes in [long, foreign, misled, torn] {
        let mut stream = fake.dial(&group.hello(2), group.address(0));
        stream.write_all(&bytes).expect("written");
        let mut rest = Vec::new();
        // Closed, by whichever way: bytes that were not read make it a reset.
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty());
    }
    let published = group.published(0);
    assert_eq!((published.leader, published.term), (0, 1));
    let mut stream = fake.dial(&group.hello(2), group.address(0));
    fake::write(&mut stream, &[message(2, 1, MessageType::MsgHeartbeat, 5).into()]);
    wait_for("leader", || (group.published(0).leader == 2).then_some(()));
    group.stop_all();
}

#[test]
fn one_that_missed_what_the_logs_let_go_of_is_sent_a_snapshot() {
    let mut group = Group::forgetful(3);
    let laggard = (group.leader() + 1) % 3;
    group.put(laggard, "before");
    group.stop(laggard);
    let leader = group.leader();
    for n in 0..1_000 {
        group.put(leader, &format!("meanwhile {}", n % 50));
    }
    let (names, applied) = (group.names(laggard), group.published(leader).applied_index);
    group.restart(laggard);
    wait_for("member that catches up", || (group.published(laggard).applied_index >= applied).then_some(()));
    // The state that came with it has a log of its own.
    assert_ne!(group.names(laggard), names);
    group.put(laggard, "after");
    group.stop_all();
}

/// Its sender is not left to believe that it arrived: it begins anew at once.
#[test]
fn a_damaged_snapshot_ends_its_connection_and_is_wanted_from_its_start() {
    let group = Group::alone(2, Timing::Slow);
    let fake = Fake::listen(group.listener(1));
    let mut offer = message(2, 1, MessageType::MsgSnap, 5);
    let metadata = raftpb::SnapshotMetadata { index: 100, term: 5, ..Default::default() };
    offer.snapshot = Some(raftpb::Snapshot { metadata: Some(metadata), ..Default::default() });
    let header = SnapshotHeader {
        id: 9,
        message: Some(offer),
        files: vec![SnapshotFile { segment: None, bytes: 64 }],
        resync: false,
    };
    let start = SnapshotPosition::default();
    for _ in 0..2 {
        let mut stream = fake.dial(&group.hello_of(2, Kind::Snapshot), group.address(0));
        stream.write_all(&whole(&header)).expect("written");
        let mut wanted = vec![0; whole(&start).len()];
        stream.read_exact(&mut wanted).expect("answered");
        assert_eq!(wanted, whole(&start));
        let chunk = SnapshotChunk { at: Some(start), data: vec![7; 64].into() };
        stream.write_all(&whole(&chunk)).expect("written");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("closed");
        assert!(rest.is_empty(), "it was said to have arrived");
    }
    assert!(group.published(0).applied_index < 100);
    group.stop_all();
}

#[test]
fn a_peer_that_reads_nothing_costs_its_queue_and_delays_nobody() {
    const COUNT: usize = 256;
    let group = Group::alone(3, Timing::Slow);
    let (stuck, brisk) = (Fake::listen_only(group.listener(1)), Fake::listen(group.listener(2)));
    brisk.wait_for_connections(Kind::LINKS.len());
    let data: bytes::Bytes = vec![7; 1 << 20].into();
    for index in 1..=COUNT as u64 {
        let append = |to| {
            let entry = raftpb::Entry { term: 1, index, data: data.clone(), ..Default::default() };
            PeerMessage::from(raftpb::Message { entries: vec![entry], ..message(1, to, MessageType::MsgApp, 1) })
        };
        group.peers(0).post(&mut vec![append(2), append(3)], Vec::new(), None);
        // One at a time: the brisk one is never behind by more than a message.
        brisk.wait_for_messages(index as usize);
    }
    group.peers(0).post(&mut vec![message(1, 2, MessageType::MsgHeartbeat, 1).into()], Vec::new(), None);
    let received = stuck.read_what_there_is(MessageType::MsgHeartbeat);
    let bytes: usize = received
        .iter()
        .filter_map(|message| match &message.body {
            Some(Body::Raft(raft)) => Some(raft.entries.iter().map(|entry| entry.data.len()).sum::<usize>()),
            _ => None,
        })
        .sum();
    const SOCKET_BUFFERS: usize = 32 << 20;
    assert!(
        bytes < Kind::Append.queue_bytes_max() + SOCKET_BUFFERS,
        "{bytes} bytes were kept for a peer that was stuck"
    );
    group.stop_all();
}
