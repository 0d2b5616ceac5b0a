//! What a member answers other members over HTTP/1.1 on the peer port, besides messages (P-7 to P-13).
//!
//! A handler may block: it runs on a thread of its own kind, never on the one that carries messages.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};

use crate::config::{STORAGE_VERSION, VERSION};
use crate::http::Source;
use crate::log::quote;

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

/// The endpoints every member has.
pub struct PeerEndpoints {
    published: Source,
}

impl PeerEndpoints {
    /// Endpoints that tell of the picture published last.
    pub fn new(published: Source) -> Arc<PeerEndpoints> {
        Arc::new(PeerEndpoints { published })
    }
}

impl PeerHttp for PeerEndpoints {
    fn respond(&self, request: &Request<Bytes>) -> Response<Bytes> {
        match request.uri().path() {
            "/members" if request.method() == Method::GET => json(self.members()),
            "/version" if request.method() == Method::GET => json(self.version()),
            "/members" | "/version" => text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n"),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }
}

impl PeerEndpoints {
    /// P-8.
    fn members(&self) -> String {
        let mut out = String::from("[");
        for (at, member) in (self.published)().members.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(&format!("{{\"id\":{},\"peerURLs\":", member.id));
            list(&member.peer_urls, &mut out);
            if member.is_learner {
                out.push_str(",\"isLearner\":true");
            }
            out.push_str(",\"name\":");
            quote(&member.name, &mut out);
            out.push_str(",\"clientURLs\":");
            list(&member.client_urls, &mut out);
            out.push('}');
        }
        out.push_str("]\n");
        out
    }

    /// P-9.
    fn version(&self) -> String {
        let published = (self.published)();
        let cluster = match &*published.cluster_version {
            "" => "not_decided",
            decided => decided,
        };
        format!("{{\"etcdserver\":\"{VERSION}\",\"etcdcluster\":\"{cluster}\",\"storage\":\"{STORAGE_VERSION}\"}}")
    }
}

fn list(items: &[String], out: &mut String) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        quote(item, out);
    }
    out.push(']');
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
