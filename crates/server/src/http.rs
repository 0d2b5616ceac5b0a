//! What a member answers to HTTP/1.1 requests (contract 3.1).
//!
//! Health checks ask the services of the same front thread, by the same calls clients use, so that they fail when
//! clients would.

mod health;
pub(crate) mod peer;
mod state;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cetera_node::published::Published;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::front::Front;
use crate::front::http1::{Answer, HttpService, Serving};
use crate::log::quote;
use crate::metrics;
use crate::versions;

/// Where the pictures of the state come from.
pub(crate) type Source = Arc<dyn Fn() -> Arc<Published> + Send + Sync>;

/// The HTTP endpoints of one front thread.
pub(crate) struct Endpoints {
    /// The picture published last.
    pub(crate) published: Source,
    /// For the metric that tells it.
    pub(crate) quota_bytes: Option<u64>,
    /// How long a request may be under way (G-13).
    pub(crate) request_timeout_ms: u64,
    /// The command line, for `/debug/vars`.
    pub(crate) command_line: Arc<Vec<String>>,
}

/// An answer before it is given its headers.
pub(super) struct Page {
    pub(super) status: StatusCode,
    content_type: &'static str,
    body: String,
    allow: Option<&'static str>,
    /// Whether the client is told to take the content type as it is: where Go says so.
    no_sniff: bool,
}

impl Page {
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: String) -> Page {
        let no_sniff = !status.is_success();
        Page { status, content_type, body, allow: None, no_sniff }
    }

    pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Page {
        Page::new(status, "text/plain; charset=utf-8", body.into())
    }

    /// A line of a probe's.
    fn probe(status: StatusCode, body: impl Into<String>) -> Page {
        Page { no_sniff: true, ..Page::text(status, body) }
    }

    fn not_allowed() -> Page {
        Page { allow: Some("GET"), ..Page::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n") }
    }

    fn respond(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.no_sniff {
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        // H-11: always, whatever was asked.
        for (name, value) in [
            (HeaderName::from_static("access-control-allow-methods"), "POST, GET, OPTIONS, PUT, DELETE"),
            (HeaderName::from_static("access-control-allow-origin"), "*"),
            (HeaderName::from_static("access-control-allow-headers"), "accept, content-type, authorization"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl HttpService for Endpoints {
    fn respond(&self, front: Rc<Front>, serving: Serving, request: Request<Incoming>) -> Answer {
        let page = route(request.method(), request.uri().path(), request.uri().query().unwrap_or(""), serving);
        let published = Arc::clone(&self.published);
        let immediate = match page {
            Route::Health(check) => {
                let timeout_ms = self.request_timeout_ms;
                return Box::pin(async move { check.run(&front, &published, timeout_ms).await.respond() });
            }
            Route::Version => version(&published()),
            Route::Metrics => {
                let text = metrics::render(&published(), self.quota_bytes);
                Page::new(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            Route::Vars => vars(&published(), &self.command_line),
            Route::State => state::page(&published()),
            Route::Options => Page::text(StatusCode::OK, ""),
            Route::NotAllowed => Page::not_allowed(),
            Route::NotFound => Page::text(StatusCode::NOT_FOUND, "404 page not found\n"),
        };
        Box::pin(std::future::ready(immediate.respond()))
    }
}

enum Route {
    Health(health::Check),
    Version,
    Metrics,
    Vars,
    State,
    Options,
    NotAllowed,
    NotFound,
}

fn route(method: &Method, path: &str, query: &str, serving: Serving) -> Route {
    let everything = serving != Serving::Metrics;
    if method == Method::OPTIONS && everything {
        return Route::Options;
    }
    let found = match path {
        "/metrics" => Route::Metrics,
        "/version" if everything => Route::Version,
        "/debug/vars" if everything => Route::Vars,
        "/cetera/state" if everything => Route::State,
        _ => match health::Check::of(path, query) {
            Some(check) => Route::Health(check),
            None => return Route::NotFound,
        },
    };
    if method == Method::GET || method == Method::HEAD { found } else { Route::NotAllowed }
}

/// H-4.
fn version(published: &Published) -> Page {
    Page::new(StatusCode::OK, "application/json", versions::json(published))
}

/// H-6, as far as it says something about this program.
fn vars(published: &Published, command_line: &[String]) -> Page {
    let mut body = String::from("{\n\"cmdline\": [");
    for (at, argument) in command_line.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        quote(argument, &mut body);
    }
    let state = if published.leader == published.member_id { "StateLeader" } else { "StateFollower" };
    body.push_str(&format!(
        "],\n\"file_descriptor_limit\": {},\n\"raft.status\": {{\"id\":\"{:x}\",\"term\":{},\"commit\":{},\"lead\":\"{:x}\",\"raftState\":\"{state}\",\"applied\":{}}}\n}}\n",
        metrics::process::fd_limit().unwrap_or(0),
        published.member_id,
        published.term,
        published.committed_index,
        published.leader,
        published.applied_index,
    ));
    Page::new(StatusCode::OK, "application/json; charset=utf-8", body)
}
