//! One call: which endpoint, which metadata, when to try again.
//!
//! A write goes out at most once: it is repeated only if no connection could be made, so that it never left. A read
//! may be repeated while servers answer Unavailable. Both stop at the deadline.

use crate::endpoint::{Connection, never_sent};
use crate::{Client, Code, Error, FailedAttempt};
use bytes::Bytes;
use cetera_proto::services::MethodId;
use http::uri::PathAndQuery;
use prost::Message;
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// Attempts of one call (clientv3 `defaultUnaryMaxRetries`), those without a connection not counted.
const MAX_ATTEMPTS: u32 = 100;
/// Pause before a repeated attempt once every endpoint had its turn (clientv3 `defaultBackoffWaitBetween`).
const PAUSE: Duration = Duration::from_millis(25);
/// Pause after every endpoint refused a connection.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// The server and the channel watch the deadline too and may cancel a little before our own timer fires.
const TIMER_SLACK: Duration = Duration::from_millis(20);
/// Messages of a client stream that wait for the connection; more make the sender wait.
const STREAM_QUEUE: usize = 16;

/// Whether a call that may have reached a server may be sent again.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Repeat {
    /// It changes nothing.
    Yes,
    /// It may have taken effect.
    No,
}

/// Both ends of a call that streams.
pub(crate) struct Duplex<Q, S> {
    pub(crate) requests: tokio::sync::mpsc::Sender<Q>,
    pub(crate) responses: Streaming<S>,
}

impl Client {
    /// Sends `request` and waits for its answer, from whichever endpoint answers first in turn.
    pub(crate) async fn unary<Q, S>(&self, method: MethodId, repeat: Repeat, request: Q) -> Result<S, Error>
    where
        Q: Message + Clone + 'static,
        S: Message + Default + 'static,
    {
        self.check_size(&request)?;
        let deadline = self.timeout.map(|t| Instant::now() + t);
        self.earn_token(deadline).await?;
        let mut attempt = 0;
        let mut refused: usize = 0;
        loop {
            let connection = self.shared.pick();
            let answer = before(deadline, self.unary_once(connection, method, deadline, request.clone())).await;
            let status = match answer {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(status)) => status,
                Err(late) => {
                    self.report(connection, method, attempt, &late);
                    return Err(late);
                }
            };
            if never_sent(&status) {
                refused += 1;
                if refused.is_multiple_of(self.shared.connections.len()) {
                    self.pause(deadline, RECONNECT_PAUSE, connection, method, attempt, &status).await?;
                }
                continue;
            }
            let late = status.code() == Code::Cancelled && deadline.is_some_and(|d| Instant::now() + TIMER_SLACK >= d);
            let error = if late { Error::deadline() } else { Error::from(status) };
            self.report(connection, method, attempt, &error);
            attempt += 1;
            let again = self.refresh_token(&error, deadline).await?
                || (repeat == Repeat::Yes && error.code() == Code::Unavailable)
                || self.asked_learner(&error);
            if !again || attempt >= MAX_ATTEMPTS {
                return Err(error);
            }
            if (attempt as usize).is_multiple_of(self.shared.connections.len()) {
                before(deadline, sleep(PAUSE)).await?;
            }
        }
    }

    /// One attempt at one endpoint, without token handling or retries.
    pub(crate) async fn unary_once<Q, S>(
        &self,
        connection: &Connection,
        method: MethodId,
        deadline: Option<Instant>,
        request: Q,
    ) -> Result<S, Status>
    where
        Q: Message + 'static,
        S: Message + Default + 'static,
    {
        let mut request = Request::new(request);
        self.write_metadata(request.metadata_mut());
        if let Some(deadline) = deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let mut grpc = self.grpc(connection).await?;
        Ok(grpc.unary(request, path(method), ProstCodec::<Q, S>::default()).await?.into_inner())
    }

    /// Sends `request` and hands on the stream of answers.
    pub(crate) async fn server_stream<Q, S>(&self, method: MethodId, message: Q) -> Result<Streaming<S>, Error>
    where
        Q: Message + Clone + 'static,
        S: Message + Default + 'static,
    {
        self.check_size(&message)?;
        self.earn_token(None).await?;
        let mut refused: usize = 0;
        loop {
            let mut request = Request::new(message.clone());
            self.write_metadata(request.metadata_mut());
            let status = match self.grpc(self.shared.pick()).await {
                Err(status) => status,
                Ok(mut grpc) => {
                    let codec = ProstCodec::<Q, S>::default();
                    match grpc.server_streaming(request, path(method), codec).await {
                        Ok(stream) => return Ok(stream.into_inner()),
                        Err(status) => status,
                    }
                }
            };
            self.may_reopen(status, &mut refused).await?;
        }
    }

    /// Opens a call on which both sides stream; `first` is its first message.
    pub(crate) async fn duplex<Q, S>(
        &self,
        method: MethodId,
        first: Q,
        require_leader: bool,
    ) -> Result<Duplex<Q, S>, Error>
    where
        Q: Message + Clone + 'static,
        S: Message + Default + 'static,
    {
        self.earn_token(None).await?;
        let mut refused: usize = 0;
        loop {
            let (requests, queue) = tokio::sync::mpsc::channel(STREAM_QUEUE);
            requests.try_send(first.clone()).expect("a new queue has room");
            let mut request = Request::new(ReceiverStream::new(queue));
            self.write_metadata(request.metadata_mut());
            if require_leader {
                request.metadata_mut().insert("hasleader", AsciiMetadataValue::from_static("true"));
            }
            let status = match self.grpc(self.shared.pick()).await {
                Err(status) => status,
                Ok(mut grpc) => {
                    let codec = ProstCodec::<Q, S>::default();
                    match grpc.streaming(request, path(method), codec).await {
                        Ok(stream) => return Ok(Duplex { requests, responses: stream.into_inner() }),
                        Err(status) => status,
                    }
                }
            };
            self.may_reopen(status, &mut refused).await?;
        }
    }

    /// After a stream could not be opened: waits and returns if another attempt makes sense.
    async fn may_reopen(&self, status: Status, refused: &mut usize) -> Result<(), Error> {
        if never_sent(&status) {
            *refused += 1;
            if (*refused).is_multiple_of(self.shared.connections.len()) {
                sleep(RECONNECT_PAUSE).await;
            }
            return Ok(());
        }
        let error = Error::from(status);
        if self.refresh_token(&error, None).await? { Ok(()) } else { Err(error) }
    }

    async fn grpc(&self, connection: &Connection) -> Result<tonic::client::Grpc<tonic::transport::Channel>, Status> {
        let config = &self.shared.config;
        let mut grpc = tonic::client::Grpc::new(connection.channel.clone())
            .max_encoding_message_size(config.max_send_bytes)
            .max_decoding_message_size(config.max_receive_bytes);
        grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
        Ok(grpc)
    }

    /// What every request of clientv3 carries (contract G-7, G-8).
    fn write_metadata(&self, metadata: &mut MetadataMap) {
        metadata.insert("client-api-version", AsciiMetadataValue::from_static("3.7"));
        let token = self.shared.token().filter(|t| !t.is_empty());
        if let Some(token) = token.and_then(|t| AsciiMetadataValue::try_from(t).ok()) {
            metadata.insert("token", token);
        }
    }

    fn check_size(&self, request: &impl Message) -> Result<(), Error> {
        let (bytes, limit) = (request.encoded_len(), self.shared.config.max_send_bytes);
        if bytes > limit {
            let text = format!("trying to send message larger than max ({bytes} vs. {limit})");
            return Err(Error::new(Code::ResourceExhausted, text));
        }
        Ok(())
    }

    /// True if a learner refused what another endpoint may do. It did nothing, so a write may be repeated too.
    fn asked_learner(&self, error: &Error) -> bool {
        self.shared.connections.len() > 1 && error.message() == "etcdserver: rpc not supported for learner"
    }

    /// Waits, or gives up the call because its deadline comes first.
    async fn pause(
        &self,
        deadline: Option<Instant>,
        pause: Duration,
        connection: &Connection,
        method: MethodId,
        attempt: u32,
        status: &Status,
    ) -> Result<(), Error> {
        let Err(late) = before(deadline, sleep(pause)).await else { return Ok(()) };
        let cause = format!("latest balancer error: connection error: desc = \"{}\"", root_cause(status));
        self.report(connection, method, attempt, &Error::new(Code::DeadlineExceeded, cause));
        Err(late)
    }

    fn report(&self, connection: &Connection, method: MethodId, attempt: u32, error: &Error) {
        if let Some(listener) = &self.shared.config.on_failed_attempt {
            let method = method.method().path;
            listener(&FailedAttempt { endpoint: &connection.address, method, attempt, error });
        }
    }
}

/// The innermost reason, e.g. `Connection refused (os error 111)`.
fn root_cause(status: &Status) -> String {
    let mut text = status.message().to_string();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

/// The outcome of `future`, unless the deadline comes first.
pub(crate) async fn before<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Result<T, Error> {
    match deadline {
        None => Ok(future.await),
        Some(deadline) => timeout_at(deadline, future).await.map_err(|_| Error::deadline()),
    }
}

fn path(method: MethodId) -> PathAndQuery {
    PathAndQuery::from_maybe_shared(Bytes::from_static(method.method().path.as_bytes()))
        .expect("the paths of the table are valid")
}
