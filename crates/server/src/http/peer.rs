//! What a member answers on its peer URLs besides consensus (P-8 to P-13): members and versions for those who join,
//! promotions and lease requests that other members forward, hashes to compare. Other members ask, ours and etcd's
//! alike.
//!
//! Handlers may block, for as long as a request may take. The transport bounds the bodies it reads, and adds this
//! server's version and the cluster's id to every answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cetera_mvcc::View;
use cetera_node::event::{Event, LeaseQuestion, Refusal, Renewal, Reply};
use cetera_node::published::Published;
use cetera_proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, ResponseHeader,
};
use cetera_proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use cetera_state::member::{Member, write_member};
use cetera_state::version::KNOWN_FEATURE_LEVEL;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use prost::Message as _;

use crate::node_thread::NodeHandle;
use crate::peer::http::{PeerHttp, json, text};
use crate::rpc::Settings;
use crate::rpc::promote::promote_as_leader;
use crate::rpc::status::Error;
use crate::versions;

/// How long a hash over the whole store may take: others that are due before it included.
const HASH_WAIT: Duration = Duration::from_secs(60);
/// How long a lease request may wait for the lessor (etcd `applyTimeout`).
const LEASE_WAIT: Duration = Duration::from_secs(1);

const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
/// [`crate::remote::FEATURE_LEVEL_HEADER`].
const FEATURE_LEVEL: HeaderName = HeaderName::from_static("x-cetera-feature-level");
const PROTOBUF: &str = "application/protobuf";

/// etcd's words, which its members look for in what they are answered.
mod words {
    pub(super) use crate::rpc::promote::words::*;
    pub(super) const LEASE_NOT_FOUND: &str = "lease not found";
    pub(super) const LEASE_TIMEOUT: &str = "waiting for node to catch up its applied index has timed out";
}

/// The endpoints of one member.
pub(crate) struct PeerEndpoints {
    node: NodeHandle,
    settings: Arc<Settings>,
}

impl PeerEndpoints {
    pub(crate) fn new(node: NodeHandle, settings: Arc<Settings>) -> Self {
        PeerEndpoints { node, settings }
    }
}

impl PeerHttp for PeerEndpoints {
    fn respond(&self, request: &Request<Bytes>) -> Response<Bytes> {
        match request.uri().path() {
            "/members" => self.members(request.method()),
            "/version" => self.version(request.method()),
            "/members/hashkv" => self.hash_kv(request),
            "/downgrade/enabled" => self.downgrade_enabled(request.method()),
            "/leases" => self.renew(request),
            "/leases/internal" => self.time_to_live(request),
            path => match path.strip_prefix("/members/promote/") {
                Some(id) => self.promote(request.method(), id),
                None => error(StatusCode::NOT_FOUND, "404 page not found"),
            },
        }
    }
}

impl PeerEndpoints {
    fn published(&self) -> Arc<Published> {
        self.node.published()
    }

    /// P-8.
    fn members(&self, method: &Method) -> Response<Bytes> {
        if *method != Method::GET {
            return not_allowed(Some("GET"));
        }
        let published = self.published();
        json(members_json(&published.members))
    }

    /// P-9.
    fn version(&self, method: &Method) -> Response<Bytes> {
        if *method != Method::GET {
            return not_allowed(Some("GET"));
        }
        let mut response = json(versions::json(&self.published()));
        response.headers_mut().insert(FEATURE_LEVEL, HeaderValue::from(KNOWN_FEATURE_LEVEL));
        response
    }

    /// P-11. What was forwarded once is not forwarded again: who asks the wrong member asks the next.
    fn promote(&self, method: &Method, id: &str) -> Response<Bytes> {
        if *method != Method::POST {
            return not_allowed(Some("POST"));
        }
        match parse_id(id) {
            None => error(StatusCode::NOT_FOUND, &format!("member {id} not found in cluster")),
            Some(id) => promoted(promote_as_leader(&self.node, &self.settings, id)),
        }
    }

    /// P-12.
    fn hash_kv(&self, request: &Request<Bytes>) -> Response<Bytes> {
        if *request.method() != Method::GET {
            return not_allowed(Some("GET"));
        }
        let cluster_id = self.published().cluster_id;
        let wanted = request.headers().get(CLUSTER_ID).map_or(&b""[..], HeaderValue::as_bytes);
        if !wanted.is_empty() && wanted != format!("{cluster_id:x}").as_bytes() {
            return error(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch");
        }
        let Some(revision) = revision_of(request.body()) else {
            return error(StatusCode::BAD_REQUEST, "error unmarshalling request");
        };
        let work = Box::new(move |view: &View| hash_json(view, revision).map(|json| vec![json]));
        match self.node.work(work, HASH_WAIT) {
            Some(Ok(found)) => json(found.concat()),
            Some(Err(status)) => {
                let text = status.message.strip_prefix("etcdserver: ").unwrap_or(&status.message);
                error(StatusCode::BAD_REQUEST, text)
            }
            None => error(StatusCode::INTERNAL_SERVER_ERROR, Error::Timeout.row().1),
        }
    }

    /// P-13.
    fn downgrade_enabled(&self, method: &Method) -> Response<Bytes> {
        if *method != Method::GET {
            return not_allowed(Some("GET"));
        }
        let timeout = Duration::from_millis(self.settings.request_timeout_ms());
        let reply = self.node.ask(|ticket| Event::Read(vec![ticket]), timeout);
        let published = self.published();
        match reply {
            Some(Reply::Read) => typed("text/plain", published.downgrade_target.is_some().to_string()),
            other => {
                let why = refusal_of(other).row().1;
                error(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed linearized read: {why}"))
            }
        }
    }

    /// P-10, a renewal.
    fn renew(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let lease = match self.lease_request(request, |body| LeaseKeepAliveRequest::decode(body).map(|r| r.id).ok()) {
            Ok(lease) => lease,
            Err(response) => return *response,
        };
        match self.node.ask(|ticket| Event::Renew(vec![Renewal { ticket, lease }]), LEASE_WAIT) {
            Some(Reply::Renewed { ttl: 0 }) => error(StatusCode::NOT_FOUND, words::LEASE_NOT_FOUND),
            Some(Reply::Renewed { ttl }) => {
                typed(PROTOBUF, LeaseKeepAliveResponse { header: None, id: lease, ttl }.encode_to_vec())
            }
            None => error(StatusCode::REQUEST_TIMEOUT, words::LEASE_TIMEOUT),
            other => error(StatusCode::BAD_REQUEST, refusal_of(other).row().1),
        }
    }

    /// P-10, a question for the time left.
    fn time_to_live(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let read = |body| Some(LeaseInternalRequest::decode(body).ok()?.lease_time_to_live_request.unwrap_or_default());
        let LeaseTimeToLiveRequest { id: lease, keys } = match self.lease_request(request, read) {
            Ok(asked) => asked,
            Err(response) => return *response,
        };
        let question = LeaseQuestion::TimeToLive { lease, keys };
        match self.node.ask(|ticket| Event::Lease(ticket, question), LEASE_WAIT) {
            Some(Reply::TimeToLive { ttl: -1, .. }) => error(StatusCode::NOT_FOUND, words::LEASE_NOT_FOUND),
            Some(Reply::TimeToLive { ttl, granted: granted_ttl, keys }) => {
                let header = Some(ResponseHeader::default());
                let found = LeaseTimeToLiveResponse { header, id: lease, ttl, granted_ttl, keys };
                let response = LeaseInternalResponse { lease_time_to_live_response: Some(found) };
                typed(PROTOBUF, response.encode_to_vec())
            }
            None => error(StatusCode::REQUEST_TIMEOUT, words::LEASE_TIMEOUT),
            other => error(StatusCode::INTERNAL_SERVER_ERROR, refusal_of(other).row().1),
        }
    }

    /// A lease request that this member may answer: it leads.
    fn lease_request<T>(
        &self,
        request: &Request<Bytes>,
        decode: impl FnOnce(Bytes) -> Option<T>,
    ) -> Result<T, Box<Response<Bytes>>> {
        if *request.method() != Method::POST {
            return Err(Box::new(not_allowed(None)));
        }
        let asked = decode(request.body().clone())
            .ok_or_else(|| Box::new(error(StatusCode::BAD_REQUEST, "error unmarshalling request")))?;
        let published = self.published();
        // The node would pass it on, perhaps to the one it came from.
        if published.leader != published.member_id {
            return Err(Box::new(error(StatusCode::BAD_REQUEST, Error::NotPrimaryLessor.row().1)));
        }
        Ok(asked)
    }
}

/// What a promotion came to. etcd's members tell the errors apart by code and words.
fn promoted(result: Result<Arc<Vec<Member>>, Error>) -> Response<Bytes> {
    match result {
        Ok(members) => json(members_json(&members)),
        Err(Error::MemberNotFound) => error(StatusCode::NOT_FOUND, words::MEMBER_NOT_FOUND),
        Err(Error::MemberNotLearner) => error(StatusCode::PRECONDITION_FAILED, words::MEMBER_NOT_LEARNER),
        Err(Error::LearnerNotReady) => error(StatusCode::PRECONDITION_FAILED, Error::LearnerNotReady.row().1),
        Err(_) => {
            let mut response = json(r#"{"message":"Internal Server Error"}"#);
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

/// As Go reads a decimal id.
fn parse_id(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The members as a JSON list and a newline, as Go's encoder writes it.
fn members_json(members: &[Member]) -> Bytes {
    let mut out = vec![b'['];
    for (at, member) in members.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&write_member(member));
    }
    out.extend_from_slice(b"]\n");
    out.into()
}

/// The revision that a `HashKVRequest` in JSON asks for; an object without one asks for the present.
fn revision_of(body: &[u8]) -> Option<i64> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    match value.as_object()?.get("revision") {
        None | Some(serde_json::Value::Null) => Some(0),
        Some(number) => number.as_i64(),
    }
}

/// A `HashKVResponse` as Go's encoder writes it: zeros are left out.
fn hash_json(view: &View, revision: i64) -> Result<Bytes, crate::seam::Status> {
    let found = view.hash_kv(revision)?;
    let mut out = format!("{{\"header\":{{\"revision\":{}}}", view.revision());
    for (name, value) in [
        ("hash", i64::from(found.hash)),
        ("compact_revision", found.compact_revision),
        ("hash_revision", found.hash_revision),
    ] {
        if value != 0 {
            out.push_str(&format!(",\"{name}\":{value}"));
        }
    }
    out.push('}');
    Ok(out.into())
}

/// What the node's silence or refusal is called.
fn refusal_of(reply: Option<Reply>) -> Error {
    match reply {
        Some(Reply::Refused(refusal)) => refusal.into(),
        _ => Refusal::Stopped.into(),
    }
}

/// A body of what is no JSON.
fn typed(content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// As Go's `http.Error` answers.
fn error(status: StatusCode, line: &str) -> Response<Bytes> {
    text(status, format!("{line}\n"))
}

fn not_allowed(allow: Option<&'static str>) -> Response<Bytes> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if let Some(allow) = allow {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}

#[cfg(test)]
mod tests;
