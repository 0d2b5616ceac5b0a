//! What a member answers other members over HTTP/1.1 on the peer port, besides messages (P-7 to P-13).
//!
//! A handler may block: it runs on a thread of its own kind, never on the one that carries messages.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};

/// Requests answered at the same time; others wait.
pub(super) const REQUESTS_MAX: usize = 4;
/// Longest body of a request (P-10).
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;

/// Answers requests of other members.
pub trait PeerHttp: Send + Sync {
    /// The answer. It may block for as long as a request may take. The transport adds `X-Server-Version` and
    /// `X-Etcd-Cluster-ID`.
    fn respond(&self, request: &Request<Bytes>) -> Response<Bytes>;
}

/// A body of JSON.
pub fn json(body: impl Into<Bytes>) -> Response<Bytes> {
    typed(StatusCode::OK, "application/json", body)
}

/// What Go's `http.Error` and `http.NotFound` send: a line of text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = typed(status, "text/plain; charset=utf-8", body);
    let name = HeaderName::from_static("x-content-type-options");
    response.headers_mut().insert(name, HeaderValue::from_static("nosniff"));
    response
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
