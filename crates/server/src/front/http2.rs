//! gRPC over HTTP/2: streams of the `h2` crate in, calls out. No routing layer, no task per unary call.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use cetera_proto::services::{self, Kind, Method};
use h2::server::SendResponse;
use h2::{Ping, RecvStream};
use http::{Method as Verb, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};

use super::buffered::{Gathered, buffered};
use super::call::{Call, Sent, refuse};
use super::message::{Assembler, code, is_grpc, timeout_ms};
use super::pings::{GOAWAY, Guard, Load};
use super::{Front, deadline_passed};
use crate::clock;
use crate::seam::{CallId, CallMetadata, Status};

/// Bytes a stream may send us ahead.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes a connection may send us ahead.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of a stream that the connection holds ready to write.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Streams that a client may reset before they were accepted; more at once looks like an attack.
const EARLY_RESETS_MAX: usize = 1_024;
/// Pieces of one request read before other tasks get their turn.
const READS_PER_TURN: usize = 64;

/// What a connection is served with.
#[derive(Clone, Debug)]
pub(crate) struct Http2Options {
    pub(crate) max_concurrent_streams: u32,
    /// Shortest time between pings of the client.
    pub(crate) keepalive_min_time: Duration,
    /// Time between pings to the client; `None` is never.
    pub(crate) keepalive_interval: Option<Duration>,
    /// Time to wait for the answer to a ping.
    pub(crate) keepalive_timeout: Duration,
}

/// Serves a connection until it ends, or until the front stops and all its calls have ended.
pub(crate) async fn serve(io: impl AsyncRead + AsyncWrite + Unpin, front: Rc<Front>, options: Http2Options) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(options.max_concurrent_streams)
        .max_concurrent_reset_streams(EARLY_RESETS_MAX)
        .max_pending_accept_reset_streams(EARLY_RESETS_MAX);
    let (gathered, io) = buffered(io);
    let mut handshake = std::pin::pin!(builder.handshake::<_, Bytes>(io));
    let shaken = std::future::poll_fn(|cx| {
        let shaken = handshake.as_mut().poll(cx).map(Result::ok);
        if sent(&gathered, cx).is_err() { Poll::Ready(None) } else { shaken }
    });
    // A peer that does not speak HTTP/2 gets no answer in it.
    let Some(mut connection) = shaken.await else { return };
    let ping_pong = connection.ping_pong().expect("taken once");
    let load = Rc::new(Load::default());
    let mut pings = Guard::new(options.keepalive_min_time);
    let mut keepalive = std::pin::pin!(keepalive(ping_pong, options));
    let mut guard = None;
    let mut stopping = false;
    let mut turn = |cx: &mut Context<'_>| {
        guard.get_or_insert_with(|| front.enter_connection(cx.waker()));
        if !stopping && front.is_stopping() {
            stopping = true;
            connection.graceful_shutdown();
        }
        if keepalive.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while let Some(accepted) = ready!(connection.poll_accept(cx)) {
            match accepted {
                Ok((request, respond)) => accept(&front, &load, request, respond, cx),
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    };
    std::future::poll_fn(|cx| {
        let mut ended = turn(cx);
        let pinged = gathered.take_pings();
        pings.sent(gathered.take_answered());
        if pinged > 0 && !pings.allows(pinged, &load, clock::now_ms()) {
            gathered.push(GOAWAY);
            ended = Poll::Ready(());
        }
        if sent(&gathered, cx).is_err() { Poll::Ready(()) } else { ended }
    })
    .await;
}

/// Sends what a turn of the connection has gathered. What the socket does not take now goes out when it does, which
/// wakes this task. `Err` if the socket is gone.
fn sent(gathered: &Gathered<impl AsyncWrite + Unpin>, cx: &mut Context<'_>) -> std::io::Result<()> {
    match gathered.poll_send(cx) {
        Poll::Ready(result) => result,
        Poll::Pending => Ok(()),
    }
}

/// Ends when a ping was not answered in time.
async fn keepalive(mut ping_pong: h2::PingPong, options: Http2Options) {
    let Some(interval) = options.keepalive_interval else { return std::future::pending().await };
    loop {
        tokio::time::sleep(interval).await;
        match tokio::time::timeout(options.keepalive_timeout, ping_pong.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection's own end is noticed where it is polled.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// What a request's headers say.
struct Head {
    method: &'static Method,
    metadata: CallMetadata,
    /// By our clock; 0 is past, `u64::MAX` never.
    deadline_ms: u64,
    encoding: Option<Box<str>>,
}

fn accept(
    front: &Rc<Front>,
    load: &Rc<Load>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    cx: &mut Context<'_>,
) {
    let head = match read_head(&request) {
        Ok(head) => head,
        Err((http, status)) => return refuse(respond, http, &status),
    };
    let method = head.method;
    let mut body = request.into_body();
    let mut assembler = Assembler::new(front.max_message_bytes, head.encoding);
    if head.deadline_ms == 0 {
        // It has passed already (G-11): nothing is begun.
        front.counters.started(method);
        front.counters.handled(method, code::DEADLINE_EXCEEDED);
        return refuse(respond, StatusCode::OK, &deadline_passed());
    }
    let call = Call::http2(method, respond, head.deadline_ms, load);
    // The common case: the whole request of a unary call came along with its headers.
    let mut first = None;
    let mut early = Vec::new();
    let mut end = body.is_end_stream();
    let mut failed = None;
    if method.kind != Kind::Bidi
        && !end
        && let Poll::Ready(Some(Ok(chunk))) = body.poll_data(cx)
    {
        let _ = body.flow_control().release_capacity(chunk.len());
        let taken = assembler.push(chunk, |message| match &first {
            None => first = Some(message),
            Some(_) => early.push(message),
        });
        failed = taken.err();
        end = body.is_end_stream();
    }
    if end && failed.is_none() && early.is_empty() && first.is_some() && assembler.is_between_messages() {
        let call = front.open(call, head.metadata, first);
        if method.kind != Kind::Unary {
            spawn(front, call, None, assembler);
        }
        return;
    }
    let call = front.open(call, head.metadata, None);
    if let Some(status) = failed {
        return front.refuse(call, status);
    }
    for message in first.into_iter().chain(early) {
        front.message(call, message);
    }
    spawn(front, call, Some(body), assembler);
}

fn spawn(front: &Rc<Front>, call: CallId, body: Option<RecvStream>, assembler: Assembler) {
    tokio::task::spawn_local(Companion { front: Rc::clone(front), call, body, assembler });
}

fn read_head(request: &Request<RecvStream>) -> Result<Head, (StatusCode, Status)> {
    let mut metadata = CallMetadata::default();
    let mut deadline_ms = u64::MAX;
    let mut encoding = None;
    let mut content_type: &[u8] = b"";
    for (name, value) in request.headers() {
        let copy = || Some(Bytes::copy_from_slice(value.as_bytes()));
        match name.as_str() {
            "content-type" => content_type = value.as_bytes(),
            "grpc-timeout" => match timeout_ms(value.as_bytes()) {
                Some(0) => deadline_ms = 0,
                Some(ms) => deadline_ms = clock::now_ms().saturating_add(ms),
                None => {
                    let text = format!("malformed grpc-timeout: {value:?}");
                    return Err((StatusCode::BAD_REQUEST, Status { code: code::INTERNAL, message: text }));
                }
            },
            "grpc-encoding" => encoding = value.to_str().ok().map(Box::from),
            "hasleader" => metadata.has_leader = copy(),
            "client-api-version" => metadata.client_api_version = copy(),
            "token" => metadata.token = copy(),
            "authorization" if metadata.token.is_none() => metadata.token = copy(),
            _ => {}
        }
    }
    if !is_grpc(content_type) {
        let text = format!("invalid gRPC request content-type {:?}", String::from_utf8_lossy(content_type));
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, Status { code: code::INVALID_ARGUMENT, message: text }));
    }
    if request.method() != Verb::POST {
        let text =
            format!("Received a HEADERS frame with :method {:?} which should be POST", request.method().as_str());
        return Err((StatusCode::METHOD_NOT_ALLOWED, Status { code: code::INTERNAL, message: text }));
    }
    let path = request.uri().path();
    match services::method(path) {
        Some(method) => Ok(Head { method, metadata, deadline_ms, encoding }),
        None => Err((StatusCode::OK, Status { code: code::UNIMPLEMENTED, message: unknown(path) })),
    }
}

/// grpc-go's words for a path that names no call.
fn unknown(path: &str) -> String {
    let Some((service, method)) = path.strip_prefix('/').unwrap_or(path).rsplit_once('/') else {
        return format!("malformed method name: {path:?}");
    };
    match services::METHODS.iter().any(|known| known.service == service) {
        true => format!("unknown method {method} for service {service}"),
        false => format!("unknown service {service}"),
    }
}

/// The task beside a call that is more than one request and one answer.
struct Companion {
    front: Rc<Front>,
    call: CallId,
    /// The request, until its end.
    body: Option<RecvStream>,
    assembler: Assembler,
}

impl Future for Companion {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.step(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => {
                let waker = cx.waker();
                // The call may have ended in this very step.
                match self.front.with(self.call, |call| call.companion = Some(waker.clone())) {
                    Some(()) => Poll::Pending,
                    None => Poll::Ready(()),
                }
            }
        }
    }
}

impl Companion {
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut over_budget) = self.front.with(self.call, |call| call.over_budget) else { return Poll::Ready(()) };
        let sent = self.front.with(self.call, |call| {
            let sent = call.poll_queue(cx);
            (sent, call.take_drained())
        });
        match sent {
            None => return Poll::Ready(()),
            Some((Poll::Ready(Sent::Gone), _)) => {
                // Either the end was sent, which services know, or the client left, which they are told.
                self.front.cancel(self.call);
                return Poll::Ready(());
            }
            Some((_, drained)) => {
                if drained {
                    over_budget = false;
                    self.front.drained(self.call);
                }
            }
        }
        // A client that does not read its answers may not send more questions either.
        if !over_budget {
            self.read(cx);
        }
        if self.front.with(self.call, |call| call.poll_reset(cx).is_ready()) == Some(true) {
            self.front.cancel(self.call);
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Reads what has come.
    fn read(&mut self, cx: &mut Context<'_>) {
        for _ in 0..READS_PER_TURN {
            let Some(body) = &mut self.body else { return };
            match body.poll_data(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(chunk))) => {
                    let _ = body.flow_control().release_capacity(chunk.len());
                    let (front, call) = (&self.front, self.call);
                    if let Err(status) = self.assembler.push(chunk, |message| front.message(call, message)) {
                        self.front.refuse(self.call, status);
                        return;
                    }
                }
                Poll::Ready(Some(Err(_))) => {
                    self.front.cancel(self.call);
                    return;
                }
                Poll::Ready(None) => {
                    self.body = None;
                    if self.assembler.is_between_messages() {
                        self.front.half_close(self.call);
                    } else {
                        let message = "unexpected EOF".to_string();
                        self.front.refuse(self.call, Status { code: code::INTERNAL, message });
                    }
                    return;
                }
            }
        }
        cx.waker().wake_by_ref();
    }
}
