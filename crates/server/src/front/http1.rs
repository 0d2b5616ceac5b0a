//! HTTP/1.1 on the same port as gRPC: hyper reads requests, an [`HttpService`] answers them.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Front;

/// How long a client may take to send a request's headers (H-14).
pub(crate) const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(300);

/// Which paths a listener serves.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Serving {
    /// gRPC and HTTP.
    All,
    /// gRPC alone.
    Grpc,
    /// HTTP alone.
    Http,
    /// Metrics and health alone (H-10).
    Metrics,
}

/// An answer on its way.
pub type Answer = Pin<Box<dyn Future<Output = Response<Full<Bytes>>>>>;

/// What answers HTTP/1.1 requests. One per front thread.
pub(crate) trait HttpService {
    fn respond(&self, front: Rc<Front>, serving: Serving, request: Request<Incoming>) -> Answer;
}

/// Serves a connection until it ends or the front stops.
pub(crate) async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin,
    front: Rc<Front>,
    serving: Serving,
    http: Rc<dyn HttpService>,
) {
    let answering = Rc::clone(&front);
    let service = service_fn(move |request| {
        let answer = http.respond(Rc::clone(&answering), serving, request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut guard = None;
    let mut stopping = false;
    std::future::poll_fn(|cx| {
        guard.get_or_insert_with(|| front.enter_connection(cx.waker()));
        if !stopping && front.is_stopping() {
            stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        // Errors are the client's: a malformed request was answered, a lost connection cannot be.
        connection.as_mut().poll(cx).map(drop)
    })
    .await;
}
