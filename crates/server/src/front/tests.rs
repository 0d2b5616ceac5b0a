//! The front over real sockets, with services that only play back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use cetera_proto::services::MethodId;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use super::http1::{Answer, HttpService, Serving};
use super::thread::{Bound, FrontOptions, Fronts, Tenants};
use super::*;
use crate::config::Url;
use crate::seam::{Mail, STREAM_BUDGET_BYTES};

const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// Put and Watch echo; RangeStream sends as many chunks as its one byte says, as far as its budget goes; Status never
/// answers, and reports when it is cancelled by answering the oldest Compact.
#[derive(Default)]
struct Playback {
    methods: HashMap<CallId, MethodId>,
    chunks: HashMap<CallId, u8>,
    paused: HashMap<CallId, bool>,
    most_unread: usize,
    compacts: Vec<CallId>,
    cancelled: u32,
}

const CHUNK_BYTES: usize = 600 << 10;

fn ok(call: CallId) -> Outbound {
    Outbound::Finish { call, status: Status { code: 0, message: String::new() } }
}

impl Playback {
    fn chunks(&mut self, call: CallId, out: &mut Vec<Outbound>) {
        let mut now = 0;
        while now < STREAM_BUDGET_BYTES {
            let Some(left) = self.chunks.get_mut(&call) else { return };
            if *left == 0 {
                self.chunks.remove(&call);
                return out.push(ok(call));
            }
            *left -= 1;
            now += CHUNK_BYTES;
            out.push(Outbound::Message { call, slices: vec![vec![*left; CHUNK_BYTES].into()] });
        }
        self.most_unread = self.most_unread.max(now);
    }

    fn tell_compacts(&mut self, out: &mut Vec<Outbound>) {
        if self.cancelled > 0 {
            for call in self.compacts.drain(..) {
                out.push(Outbound::Message { call, slices: vec![vec![self.cancelled as u8].into()] });
                out.push(ok(call));
            }
        }
    }
}

impl Services for Playback {
    fn handle(&mut self, batch: &mut Vec<Inbound>, out: &mut Vec<Outbound>) {
        for inbound in batch.drain(..) {
            match inbound {
                Inbound::Open { call, method, .. } => drop(self.methods.insert(call, method.id)),
                Inbound::Message { call, body } => match self.methods[&call] {
                    MethodId::Put => {
                        out.push(Outbound::Message { call, slices: vec![body.slice(..1), body.slice(1..)] });
                        out.push(ok(call));
                    }
                    MethodId::Watch => out.push(Outbound::Message { call, slices: vec![body] }),
                    MethodId::RangeStream => {
                        self.chunks.insert(call, body[0]);
                        self.chunks(call, out);
                    }
                    MethodId::Compact => self.compacts.push(call),
                    MethodId::Range => {
                        let message = "50% wrong\n".to_string();
                        out.push(Outbound::Finish { call, status: Status { code: 9, message } });
                    }
                    _ => {}
                },
                Inbound::HalfClose { call } => {
                    if self.methods[&call] == MethodId::Watch {
                        out.push(ok(call));
                    }
                }
                Inbound::Cancel { call } => {
                    self.chunks.remove(&call);
                    self.cancelled += 1;
                }
                Inbound::Drained { call } => {
                    assert_eq!(self.paused.insert(call, false), Some(true), "drained without having been full");
                    self.chunks(call, out);
                }
            }
        }
        self.tell_compacts(out);
    }

    fn deliver(&mut self, mail: &mut Vec<Mail>, _: &mut Vec<Outbound>) {
        mail.clear();
    }

    fn tick(&mut self, _: u64, _: &mut Vec<Outbound>) {}

    fn full(&mut self, call: CallId) {
        assert_ne!(self.paused.insert(call, true), Some(true), "full twice");
    }
}

/// Answers the path it was asked for, or what a local Put echoed.
struct Pages;

impl HttpService for Pages {
    fn respond(&self, front: Rc<Front>, _: Serving, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_string();
        Box::pin(async move {
            if path != "/local" {
                return Response::new(Full::new(Bytes::from(path)));
            }
            let (data, status) = front.call_local(MethodId::Put.method(), Bytes::from_static(b"local"), 1_000).await;
            assert_eq!(status.code, 0);
            Response::new(Full::new(data.concat().into()))
        })
    }
}

struct Server {
    fronts: Fronts,
    address: SocketAddr,
}

fn start(threads: usize) -> Server {
    let url = Url::parse("http://localhost:0").expect("valid");
    let bound = Bound::bind(&url, Serving::All).expect("a free port");
    let address = bound.address();
    let options = FrontOptions {
        threads,
        max_message_bytes: 4 << 20,
        max_concurrent_streams: 1_000,
        keepalive_min_time: Duration::from_secs(5),
        keepalive_interval: None,
        keepalive_timeout: Duration::from_secs(20),
    };
    let tenants = |_| Tenants { services: Box::new(Playback::default()), http: Rc::new(Pages) };
    let fronts = Fronts::start(Fronts::inboxes(threads), &options, vec![bound], tenants).expect("threads start");
    Server { fronts, address }
}

/// Runs a client on its own runtime.
fn client(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test ends in time");
    });
}

async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let (sender, connection) = h2::client::handshake(stream).await.expect("speaks HTTP/2");
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    sender.ready().await.expect("open")
}

fn call(sender: &mut SendRequest<Bytes>, path: &str, headers: &[(&str, &str)]) -> (ResponseFuture, SendStream<Bytes>) {
    let mut request = Request::post(format!("http://x{path}"));
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.send_request(request.body(()).expect("valid"), false).expect("open")
}

fn framed(message: &[u8]) -> Bytes {
    [&prefix(message.len())[..], message].concat().into()
}

struct Got {
    http: StatusCode,
    headers: HeaderMap,
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Got {
    /// gRPC status and text, from the trailers or a trailers-only answer.
    fn status(&self) -> (&str, &str) {
        let map = self.trailers.as_ref().unwrap_or(&self.headers);
        let text = |name: &str| map.get(name).map_or("", |value| value.to_str().expect("ASCII"));
        (text("grpc-status"), text("grpc-message"))
    }
}

async fn read(body: &mut RecvStream, at_least: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < at_least {
        let Some(chunk) = body.data().await else { break };
        let chunk = chunk.expect("no reset");
        body.flow_control().release_capacity(chunk.len()).expect("it was received");
        data.extend_from_slice(&chunk);
    }
    data
}

async fn finish(response: ResponseFuture) -> Got {
    let (head, mut body) = response.await.expect("a response").into_parts();
    let data = read(&mut body, usize::MAX).await;
    let trailers = body.trailers().await.expect("no reset");
    Got { http: head.status, headers: head.headers, data, trailers }
}

async fn unary(sender: &mut SendRequest<Bytes>, path: &str, headers: &[(&str, &str)], data: Bytes) -> Got {
    let (response, mut stream) = call(sender, path, headers);
    stream.send_data(data, true).expect("open");
    finish(response).await
}

#[test]
fn unary_calls_answers_and_refusals() {
    let server = start(1);
    client(async {
        let mut sender = connect(server.address).await;
        let got = unary(&mut sender, PUT, &[], framed(b"hello")).await;
        assert_eq!((got.http, &got.data[..], got.status()), (StatusCode::OK, &framed(b"hello")[..], ("0", "")));
        assert_eq!(got.headers["content-type"], "application/grpc");
        // Large answers pass as they are, around what is copied.
        let large = framed(&vec![7; 3 << 20]);
        let got = unary(&mut sender, PUT, &[], large.clone()).await;
        assert!(got.data == large && got.status() == ("0", ""));
        // An error without an answer has no trailers of its own.
        let got = unary(&mut sender, "/etcdserverpb.KV/Range", &[], framed(b"x")).await;
        assert_eq!((got.status(), got.trailers.is_none()), (("9", "50%25 wrong%0A"), true));

        for (path, headers, data, http, code, text) in [
            ("/x.Y/Z", &[][..], framed(b""), 200, "12", "unknown service x.Y"),
            ("/etcdserverpb.KV/Nope", &[], framed(b""), 200, "12", "unknown method Nope for service etcdserverpb.KV"),
            ("/nope", &[], framed(b""), 200, "12", "malformed method name: \"/nope\""),
            (
                PUT,
                &[("content-type", "application/json")],
                framed(b"x"),
                415,
                "3",
                "invalid gRPC request content-type \"application/json\"",
            ),
            // Too late before it began: a service would have echoed.
            (PUT, &[("grpc-timeout", "1n")], framed(b"x"), 200, "4", "context deadline exceeded"),
            (PUT, &[("grpc-timeout", "5x")], framed(b"x"), 400, "13", "malformed grpc-timeout: \"5x\""),
            (
                PUT,
                &[("grpc-encoding", "gzip")],
                Bytes::from_static(&[1, 0, 0, 0, 1, 9]),
                200,
                "12",
                "grpc: Decompressor is not installed for grpc-encoding \"gzip\"",
            ),
            (
                PUT,
                &[],
                Bytes::from_static(&[0, 1, 0, 0, 0]),
                200,
                "8",
                "grpc: received message larger than max (16777216 vs. 4194304)",
            ),
        ] {
            let got = unary(&mut sender, path, headers, data).await;
            assert_eq!((got.http.as_u16(), got.status()), (http, (code, text)), "{path} {headers:?}");
        }
        // A request in several frames.
        let (response, mut stream) = call(&mut sender, PUT, &[]);
        for byte in framed(b"slowly") {
            stream.send_data(vec![byte].into(), false).expect("open");
            tokio::task::yield_now().await;
        }
        stream.send_data(Bytes::new(), true).expect("open");
        assert_eq!(finish(response).await.data, framed(b"slowly"));
    });
    server.fronts.stop(Duration::from_secs(5));
}

#[test]
fn many_calls_on_many_connections_and_threads() {
    let server = start(3);
    client(async {
        let mut connections = Vec::new();
        for connection in 0..7u8 {
            let mut sender = connect(server.address).await;
            connections.push(tokio::task::spawn_local(async move {
                for round in 0..20u8 {
                    let mut waiting = Vec::new();
                    for number in 0..50u8 {
                        let message = framed(&[connection, round, number]);
                        let (response, mut stream) = call(&mut sender, PUT, &[]);
                        stream.send_data(message.clone(), true).expect("open");
                        waiting.push((response, message));
                    }
                    for (response, message) in waiting {
                        let got = finish(response).await;
                        assert_eq!(
                            (got.data, got.trailers.expect("trailers")["grpc-status"].as_bytes()),
                            (message.to_vec(), &b"0"[..])
                        );
                    }
                }
            }));
        }
        for connection in connections {
            connection.await.expect("no panic");
        }
    });
    server.fronts.stop(Duration::from_secs(5));
}

#[test]
fn streams_both_ways_to_an_orderly_end() {
    let server = start(1);
    client(async {
        let mut sender = connect(server.address).await;
        let (response, mut stream) = call(&mut sender, WATCH, &[]);
        stream.send_data([framed(b"a"), framed(b"b")].concat().into(), false).expect("open");
        let (head, mut body) = response.await.expect("a response").into_parts();
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(read(&mut body, 12).await, [framed(b"a"), framed(b"b")].concat());
        stream.send_data(framed(b"c"), true).expect("open");
        assert_eq!(read(&mut body, usize::MAX).await, framed(b"c"));
        let trailers = body.trailers().await.expect("no reset").expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
    });
    server.fronts.stop(Duration::from_secs(5));
}

#[test]
fn a_client_that_does_not_read_holds_its_stream_and_nothing_else() {
    let server = start(1);
    client(async {
        let mut sender = connect(server.address).await;
        let (response, mut stream) = call(&mut sender, RANGE_STREAM, &[]);
        stream.send_data(framed(&[20]), true).expect("open");
        let (_, mut body) = response.await.expect("a response").into_parts();
        // Its window is full now; a call on another connection passes.
        let mut other = connect(server.address).await;
        assert_eq!(unary(&mut other, PUT, &[], framed(b"hello")).await.status(), ("0", ""));
        let data = read(&mut body, usize::MAX).await;
        assert_eq!(data.len(), 20 * (CHUNK_BYTES + PREFIX_BYTES));
        let order: Vec<u8> = data.chunks(CHUNK_BYTES + PREFIX_BYTES).map(|chunk| chunk[PREFIX_BYTES]).collect();
        assert_eq!(order, (0..20).rev().collect::<Vec<u8>>());
        assert_eq!(body.trailers().await.expect("no reset").expect("trailers")["grpc-status"], "0");
    });
    server.fronts.stop(Duration::from_secs(5));
}

/// Waits until the services have seen `n` cancelled calls.
async fn cancelled(sender: &mut SendRequest<Bytes>, n: u8) {
    loop {
        let got = unary(sender, "/etcdserverpb.KV/Compact", &[], framed(b"?")).await;
        if got.data[PREFIX_BYTES] >= n {
            return;
        }
    }
}

#[test]
fn services_hear_of_every_way_a_client_leaves() {
    let server = start(1);
    client(async {
        let mut sender = connect(server.address).await;
        // A reset of an open stream.
        let (response, mut stream) = call(&mut sender, WATCH, &[]);
        stream.send_data(framed(b"a"), false).expect("open");
        let (_, body) = response.await.expect("a response").into_parts();
        stream.send_reset(Reason::CANCEL);
        drop(body);
        cancelled(&mut sender, 1).await;
        // A reset behind the client's own end.
        let (response, mut stream) = call(&mut sender, RANGE_STREAM, &[]);
        stream.send_data(framed(&[200]), true).expect("open");
        let (_, body) = response.await.expect("a response").into_parts();
        drop((body, stream));
        cancelled(&mut sender, 2).await;
        // A unary call that waits is found by the sweep.
        let (response, mut stream) = call(&mut sender, STATUS, &[]);
        stream.send_data(framed(b"x"), true).expect("open");
        tokio::task::yield_now().await;
        stream.send_reset(Reason::CANCEL);
        drop((response, stream));
        cancelled(&mut sender, 3).await;
        // Its deadline passes.
        let got = unary(&mut sender, STATUS, &[("grpc-timeout", "20m")], framed(b"x")).await;
        assert_eq!(got.status(), ("4", "context deadline exceeded"));
        cancelled(&mut sender, 4).await;
        // The connection is lost.
        let mut other = connect(server.address).await;
        let (response, mut stream) = call(&mut other, WATCH, &[]);
        stream.send_data(framed(b"a"), false).expect("open");
        response.await.expect("a response");
        drop((other, stream));
        cancelled(&mut sender, 5).await;
    });
    server.fronts.stop(Duration::from_secs(5));
}

#[test]
fn http1_lives_on_the_same_port() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = start(1);
    client(async {
        for (path, body) in [("/x", &b"/x"[..]), ("/local", &framed(b"local"))] {
            let mut stream = tokio::net::TcpStream::connect(server.address).await.expect("connects");
            // A first byte that HTTP/2 shares, and the rest later.
            stream.write_all(b"P").await.expect("open");
            tokio::task::yield_now().await;
            let rest = format!("OST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(rest.as_bytes()).await.expect("open");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("an answer");
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{:?}", String::from_utf8_lossy(&answer));
            assert!(answer.ends_with(body), "{:?}", String::from_utf8_lossy(&answer));
        }
    });
    server.fronts.stop(Duration::from_secs(5));
}

#[test]
fn stopping_ends_streams_and_waits_for_calls() {
    let Server { fronts, address } = start(2);
    client(async {
        let mut sender = connect(address).await;
        let (watching, mut stream) = call(&mut sender, WATCH, &[]);
        stream.send_data(framed(b"a"), false).expect("open");
        let (_, mut body) = watching.await.expect("a response").into_parts();
        assert_eq!(read(&mut body, 6).await, framed(b"a"));
        let (waiting, mut stream) = call(&mut sender, STATUS, &[("grpc-timeout", "300m")]);
        stream.send_data(framed(b"x"), true).expect("open");
        unary(&mut sender, PUT, &[], framed(b"x")).await;
        let stopped = std::thread::spawn(move || fronts.stop(Duration::from_secs(30)));
        assert!(read(&mut body, usize::MAX).await.is_empty());
        let trailers = body.trailers().await.expect("no reset").expect("trailers");
        assert_eq!(
            (&trailers["grpc-status"], &trailers["grpc-message"]),
            (&"14".parse().expect("valid"), &"etcdserver: server stopped".parse().expect("valid"))
        );
        // The unary call had until its deadline.
        assert_eq!(finish(waiting).await.status(), ("4", "context deadline exceeded"));
        tokio::task::spawn_blocking(|| stopped.join().expect("no panic")).await.expect("no panic");
    });
}

#[test]
fn a_client_that_pings_too_often_is_sent_away() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = start(1);
    client(async {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.expect("connects");
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
        for _ in 0..4 {
            bytes.extend(b"\x00\x00\x08\x06\x00\x00\x00\x00\x0001234567");
        }
        stream.write_all(&bytes).await.expect("open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("it is closed in order");
        assert!(answer.ends_with(b"\x00\x00\x00\x0btoo_many_pings"), "{answer:?}");
    });
    server.fronts.stop(Duration::from_secs(5));
}
