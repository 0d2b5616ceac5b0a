//! The listening side: hyper reads HTTP/1.1, a connection of a peer is upgraded, the rest goes to [`super::PeerHttp`].
//!
//! Refusals are etcd's, in its order and words (P-4).

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

use super::dial::{KIND_HEADER, MIN_CLUSTER_VERSION, PATH, PROTOCOL};
use super::http::{BODY_BYTES_MAX, json, text};
use super::link::{End, Kind};
use super::net::Net;
use super::receive::receive;
use super::snapshot;
use crate::clock;
use crate::config::VERSION;
use crate::log;
use crate::tls::HANDSHAKE_TIMEOUT;

/// Open connections of the peer port at most; others wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 4_096;
/// Pause after a failed accept (out of file descriptors, say), and between looks for a free place.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a peer may take to send a request's headers.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Accepts until the thread ends.
pub(super) async fn listen(listener: std::net::TcpListener, secure: bool, net: Rc<Net>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return log::error!("cannot serve a listener", "error" = log::Shown(error)),
    };
    let open = Rc::new(Cell::new(0));
    loop {
        if open.get() >= CONNECTIONS_MAX {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let (open, net) = (Rc::clone(&open), Rc::clone(&net));
                open.set(open.get() + 1);
                spawn_local(async move {
                    begin(stream, secure, net).await;
                    open.set(open.get() - 1);
                });
            }
            Err(error) => {
                log::warning!("failed to accept a connection", "error" = log::Shown(error));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves what was accepted, after the handshake if there has to be one.
async fn begin(stream: TcpStream, secure: bool, net: Rc<Net>) {
    // Without it the connection works too.
    let _ = stream.set_nodelay(true);
    if !secure {
        return serve(stream, net).await;
    }
    let Some(tls) = net.tls().cloned() else { return };
    let address = stream.peer_addr().map_or_else(|_| String::new(), |address| address.to_string());
    let rejected = |error: &dyn std::fmt::Display| {
        log::warning!("rejected connection on peer endpoint", "remote-addr" = address, "error" = log::Shown(error));
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) if tls.is_allowed(stream.get_ref().1.peer_certificates()) => serve(stream, net).await,
        Ok(Ok(_)) => rejected(&"its certificate names no host that is allowed"),
        Ok(Err(error)) => rejected(&error),
        Err(_) => rejected(&"TLS handshake timeout"),
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, net: Rc<Net>) {
    let upgrade: Rc<Cell<Option<Upgrade>>> = Rc::default();
    let service = service_fn(|request| {
        let (net, upgrade) = (Rc::clone(&net), Rc::clone(&upgrade));
        async move { Ok::<_, Infallible>(respond(request, net, &upgrade).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    // Errors are the caller's: a malformed request was answered, a lost connection cannot be.
    if builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await.is_ok()
        && let Some(upgrade) = upgrade.take()
    {
        upgrade.run(net).await;
    }
}

/// A request that was answered 101.
struct Upgrade {
    from: u64,
    kind: Kind,
    stream: hyper::upgrade::OnUpgrade,
}

impl Upgrade {
    async fn run(self, net: Rc<Net>) {
        let Ok(stream) = self.stream.await else { return };
        let (number, close) = net.accepted(self.from, self.kind);
        let end = {
            let stream = TokioIo::new(stream);
            let mut receiving = pin!(async {
                match self.kind {
                    Kind::Snapshot => snapshot::receive(stream, self.from, &net).await,
                    _ => receive(stream, self.from, &net).await,
                }
            });
            let mut closed = pin!(close.notified());
            poll_fn(|cx| match receiving.as_mut().poll(cx) {
                Poll::Pending => closed.as_mut().poll(cx).map(|()| End::Superseded),
                ready => ready,
            })
            .await
        };
        net.accepted_ended(self.from, self.kind, number, &end);
    }
}

async fn respond(request: Request<Incoming>, net: Rc<Net>, upgrade: &Cell<Option<Upgrade>>) -> Response<Full<Bytes>> {
    let cluster_id = format!("{:x}", net.cluster_id());
    let mut response = match request.uri().path() {
        PATH => introduced(request, &net, upgrade),
        "/raft/probing" => json(probe()),
        _ => handled(request, &net).await,
    };
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("x-server-version"), HeaderValue::from_static(VERSION));
    if let Ok(value) = HeaderValue::try_from(cluster_id) {
        headers.insert(HeaderName::from_static("x-etcd-cluster-id"), value);
    }
    response.map(Full::new)
}

/// P-7.
fn probe() -> String {
    format!("{{\"OK\":true,\"Now\":\"{}\"}}\n", log::rfc3339(Duration::from_millis(clock::unix_ms())))
}

/// Everything that is not ours, on a thread that may block.
async fn handled(request: Request<Incoming>, net: &Net) -> Response<Bytes> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body,
        Err(error) if error.is::<LengthLimitError>() => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "request body too large\n");
        }
        Err(_) => return text(StatusCode::BAD_REQUEST, "error reading body\n"),
    };
    let request = Request::from_parts(parts, body.to_bytes());
    let Ok(_place) = net.http_places().acquire_owned().await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n");
    };
    let http = net.http();
    let answer = tokio::task::spawn_blocking(move || http.respond(&request)).await;
    answer.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n"))
}

/// A peer's introduction (P-3): welcome, or refused as etcd refuses a stream.
fn introduced(mut request: Request<Incoming>, net: &Rc<Net>, upgrade: &Cell<Option<Upgrade>>) -> Response<Bytes> {
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let (from, kind) = match check(request.headers(), net) {
        Ok(known) => known,
        Err((StatusCode::GONE, _)) => {
            let mut gone = Response::new(Bytes::new());
            *gone.status_mut() = StatusCode::GONE;
            return gone;
        }
        Err((status, why)) => return text(status, why),
    };
    upgrade.set(Some(Upgrade { from, kind, stream: hyper::upgrade::on(&mut request) }));
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

/// Who calls for what, or the answer that says why not.
fn check(headers: &HeaderMap, net: &Rc<Net>) -> Result<(u64, Kind), (StatusCode, &'static str)> {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let from = u64::from_str_radix(value("x-server-from"), 16);
    if !versions_fit(value("x-server-version"), value("x-min-cluster-version")) {
        log::warning!("failed to check version compatibility", "remote-peer-server-from" = value("x-server-from"));
        return Err((StatusCode::PRECONDITION_FAILED, "incompatible version\n"));
    }
    if value("x-etcd-cluster-id") != format!("{:x}", net.cluster_id()) {
        log::warning!(
            "request cluster ID mismatch",
            "local-member-cluster-id" = log::Hex(net.cluster_id()),
            "remote-peer-cluster-id" = value("x-etcd-cluster-id"),
            "remote-peer-server-from" = value("x-server-from")
        );
        return Err((StatusCode::PRECONDITION_FAILED, "cluster ID mismatch\n"));
    }
    let Ok(from) = from else { return Err((StatusCode::NOT_FOUND, "invalid from\n")) };
    let (removed, is_peer) = net.knows(from);
    if removed {
        log::warning!(
            "rejected stream from remote peer because it was removed",
            "remote-peer-id-from" = log::Hex(from)
        );
        return Err((StatusCode::GONE, ""));
    }
    if !is_peer {
        let urls: Vec<String> =
            value("x-peerurls").split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect();
        if !urls.is_empty() {
            net.learn(from, urls);
        }
        log::warning!("failed to find remote peer in cluster", "remote-peer-id-from" = log::Hex(from));
        return Err((StatusCode::NOT_FOUND, "error sender not found\n"));
    }
    if value("x-raft-to") != format!("{:x}", net.member_id()) {
        log::warning!("ignored streaming request; ID mismatch", "remote-peer-id-header" = value("x-raft-to"));
        return Err((StatusCode::PRECONDITION_FAILED, "to field mismatch\n"));
    }
    let speaks = value("upgrade").eq_ignore_ascii_case(PROTOCOL);
    match headers.get(KIND_HEADER).and_then(|kind| Kind::parse(kind.as_bytes())) {
        Some(kind) if speaks => Ok((from, kind)),
        _ => Err((StatusCode::NOT_FOUND, "invalid path\n")),
    }
}

/// Neither side is older than what the other talks to (etcd's `checkVersionCompatibility`).
fn versions_fit(remote: &str, remote_min: &str) -> bool {
    let minor = |text: &str| {
        let mut numbers = text.split('.').map(|number| number.parse::<u32>().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    // etcd's answer to a header that is missing.
    let or_oldest = |text: &str| minor(if text.is_empty() { "2.0.0" } else { text });
    let (Some(remote), Some(remote_min)) = (or_oldest(remote), or_oldest(remote_min)) else { return false };
    Some(remote) >= minor(MIN_CLUSTER_VERSION) && minor(VERSION) >= Some(remote_min)
}

#[cfg(test)]
mod tests {
    use super::versions_fit;

    #[test]
    fn versions() {
        for (remote, min, fits) in [
            (crate::config::VERSION, "3.0.0", true),
            ("3.0.0", "3.0.0", true),
            ("2.3.0", "2.0.0", false),
            ("9.0.0", "8.0.0", false),
            ("9.0.0", "3.7.0", true),
            ("", "", false),
            ("x", "3.0.0", false),
        ] {
            assert_eq!(versions_fit(remote, min), fits, "{remote} from {min}");
        }
    }
}
