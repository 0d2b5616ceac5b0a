//! A connection to one member: one HTTP/2 connection, calls sent at most once, nothing repeated or opened again behind
//! the caller's back.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use cetera_check::history::{Outcome, Request, Response};
use cetera_parity::grpc::GrpcTransport;
use cetera_parity::{Duplex, Status, Transport as _};
use cetera_proto::etcdserverpb as pb;
use cetera_proto::services::{METHODS, MethodId};
use prost::Message;
use tokio::time::timeout;

/// A connection.
#[derive(Clone)]
pub struct Conn {
    transport: GrpcTransport,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<T> {
    /// Answered.
    Done(T),
    /// An error that says that nothing was done.
    Refused(String),
    /// It may have been done; `broken`: the connection is of no use any more.
    Unknown {
        /// Why.
        text: String,
        /// Whether to connect again.
        broken: bool,
    },
}

impl Conn {
    /// Connects; none if that takes longer than `patience` or is refused.
    pub async fn open(address: &str, patience: Duration) -> Option<Conn> {
        let transport = timeout(patience, GrpcTransport::connect(address)).await.ok()?.ok()?;
        Some(Conn { transport })
    }

    /// One request, one answer.
    pub async fn call<Q: Message, S: Message + Default>(
        &self,
        method: MethodId,
        request: &Q,
        patience: Duration,
    ) -> Answer<S> {
        let body = Bytes::from(request.encode_to_vec());
        within(patience, self.transport.unary(METHODS[method as usize].path, Vec::new(), body)).await
    }

    /// Opens a stream.
    pub fn stream(&self, method: MethodId) -> Duplex {
        self.transport.stream(METHODS[method as usize].path, Vec::new())
    }

    /// One keep-alive on a stream of its own.
    async fn keep_alive(
        &self,
        request: &pb::LeaseKeepAliveRequest,
        patience: Duration,
    ) -> Answer<pb::LeaseKeepAliveResponse> {
        let mut stream = self.stream(MethodId::LeaseKeepAlive);
        let body = Bytes::from(request.encode_to_vec());
        within(patience, async move {
            if let Some(send) = &stream.send {
                // Fails if the stream has ended, which its status tells.
                let _ = send.send(body).await;
            }
            let ended = || Status { code: "Unavailable", message: "the stream ended".to_owned() };
            stream.receive.recv().await.unwrap_or_else(|| Err(ended()))
        })
        .await
    }

    /// Makes any call of a history. The flag: the connection is of no use any more.
    pub async fn make(&self, request: &Request, patience: Duration) -> (Outcome, bool) {
        match request {
            Request::Range(q) => outcome(self.call(MethodId::Range, q, patience).await, Response::Range),
            Request::Put(q) => outcome(self.call(MethodId::Put, q, patience).await, Response::Put),
            Request::DeleteRange(q) => {
                outcome(self.call(MethodId::DeleteRange, q, patience).await, Response::DeleteRange)
            }
            Request::Txn(q) => outcome(self.call(MethodId::Txn, q, patience).await, Response::Txn),
            Request::Compact(q) => outcome(self.call(MethodId::Compact, q, patience).await, Response::Compact),
            Request::LeaseGrant(q) => outcome(self.call(MethodId::LeaseGrant, q, patience).await, Response::LeaseGrant),
            Request::LeaseRevoke(q) => {
                outcome(self.call(MethodId::LeaseRevoke, q, patience).await, Response::LeaseRevoke)
            }
            Request::LeaseKeepAlive(q) => outcome(self.keep_alive(q, patience).await, Response::LeaseKeepAlive),
            Request::LeaseTimeToLive(q) => {
                outcome(self.call(MethodId::LeaseTimeToLive, q, patience).await, Response::LeaseTimeToLive)
            }
        }
    }
}

async fn within<S: Message + Default>(
    patience: Duration,
    call: impl Future<Output = Result<Bytes, Status>>,
) -> Answer<S> {
    match timeout(patience, call).await {
        Err(_) => Answer::Unknown { text: format!("no answer within {patience:?}"), broken: false },
        Ok(Err(status)) => judged(&status),
        Ok(Ok(bytes)) => match S::decode(bytes) {
            Ok(message) => Answer::Done(message),
            Err(error) => Answer::Unknown { text: format!("an answer that is no message: {error}"), broken: true },
        },
    }
}

/// What an error says of the call. Only what etcd answers instead of a proposal, or from its application, is a
/// refusal; all else leaves it open.
fn judged<T>(status: &Status) -> Answer<T> {
    let text = format!("{}: {}", status.code, status.message);
    let of_the_server = status.message.starts_with("etcdserver: ");
    match status.code {
        "InvalidArgument" | "NotFound" | "AlreadyExists" | "OutOfRange" | "FailedPrecondition"
        | "ResourceExhausted"
            if of_the_server =>
        {
            Answer::Refused(text)
        }
        _ => Answer::Unknown { text, broken: !of_the_server },
    }
}

fn outcome<T>(answer: Answer<T>, response: impl FnOnce(T) -> Response) -> (Outcome, bool) {
    match answer {
        Answer::Done(message) => (Outcome::Done(response(message)), false),
        Answer::Refused(text) => (Outcome::Refused(text), false),
        Answer::Unknown { text, broken } => (Outcome::Unknown(text), broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: &'static str, message: &str) -> Answer<()> {
        judged(&Status { code, message: message.to_owned() })
    }

    #[test]
    fn only_the_servers_own_refusals_are_refusals() {
        assert!(matches!(answer("ResourceExhausted", "etcdserver: mvcc: database space exceeded"), Answer::Refused(_)));
        assert!(matches!(
            answer("OutOfRange", "etcdserver: mvcc: required revision has been compacted"),
            Answer::Refused(_)
        ));
        assert!(matches!(answer("ResourceExhausted", "grpc: message too large"), Answer::Unknown { broken: true, .. }));
        assert!(matches!(
            answer("Unavailable", "etcdserver: request timed out"),
            Answer::Unknown { broken: false, .. }
        ));
        assert!(matches!(answer("Unavailable", "connection closed"), Answer::Unknown { broken: true, .. }));
    }
}
