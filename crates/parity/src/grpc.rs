//! The gRPC transport: one HTTP/2 connection, message bytes passed through as they are.
//!
//! It sits on hyper's connection rather than on tonic's channel: the channel would reconnect
//! behind the script's back and would enforce a `grpc-timeout` itself, where a script wants to see
//! what the server does.

use crate::transport::{BoxFuture, Duplex, Metadata, STREAM_MESSAGES_MAX, Status, Transport};
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request};

/// A connection to one server.
#[derive(Clone)]
pub struct GrpcTransport {
    client: Grpc<Connection>,
}

impl GrpcTransport {
    /// Connects to `host:port`, in plain text.
    pub async fn connect(address: &str) -> Result<GrpcTransport, String> {
        let socket = tokio::net::TcpStream::connect(address).await.map_err(|e| e.to_string())?;
        socket.set_nodelay(true).map_err(|e| e.to_string())?;
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(socket)).await.map_err(|e| e.to_string())?;
        // Ends when the server closes or the last sender is dropped; calls report its errors.
        tokio::spawn(connection);
        let origin = http::Uri::builder()
            .scheme("http")
            .authority(address)
            .path_and_query("/")
            .build()
            .map_err(|e| e.to_string())?;
        let client = Grpc::with_origin(Connection { sender }, origin)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Ok(GrpcTransport { client })
    }
}

impl Transport for GrpcTransport {
    fn unary(&self, path: &str, metadata: Metadata, body: Bytes) -> BoxFuture<'_, Result<Bytes, Status>> {
        let (mut client, path) = (self.client.clone(), path.to_owned());
        Box::pin(async move {
            let deadline = has_deadline(&metadata);
            let request = request(metadata, body)?;
            client.ready().await.map_err(|e| unavailable(&e))?;
            let response = client.unary(request, uri(&path)?, BytesCodec).await;
            response.map(tonic::Response::into_inner).map_err(|s| status(&s, deadline))
        })
    }

    fn stream(&self, path: &str, metadata: Metadata) -> Duplex {
        let (send, requests) = mpsc::channel(STREAM_MESSAGES_MAX);
        let (responses, receive) = mpsc::channel(STREAM_MESSAGES_MAX);
        let (mut client, path) = (self.client.clone(), path.to_owned());
        tokio::spawn(async move {
            let last = tokio::select! {
                last = run_stream(&mut client, &path, metadata, requests, &responses) => last,
                () = responses.closed() => return,
            };
            // The script may have dropped the stream meanwhile: then nobody wants to know.
            let _ = responses.send(Err(last)).await;
        });
        Duplex { send: Some(send), receive }
    }
}

async fn run_stream(
    client: &mut Grpc<Connection>,
    path: &str,
    metadata: Metadata,
    requests: mpsc::Receiver<Bytes>,
    responses: &mpsc::Sender<Result<Bytes, Status>>,
) -> Status {
    let deadline = has_deadline(&metadata);
    let result = async {
        let request = request(metadata, ReceiverStream::new(requests))?;
        client.ready().await.map_err(|e| unavailable(&e))?;
        let response = client.streaming(request, uri(path)?, BytesCodec).await;
        let mut messages = response.map_err(|s| status(&s, deadline))?.into_inner();
        while let Some(message) = messages.next().await {
            if responses.send(Ok(message.map_err(|s| status(&s, deadline))?)).await.is_err() {
                break;
            }
        }
        Ok(Status { code: "OK", message: String::new() })
    };
    result.await.unwrap_or_else(|status| status)
}

fn uri(path: &str) -> Result<PathAndQuery, Status> {
    path.parse().map_err(|_| Status { code: "Internal", message: format!("not a method path: {path}") })
}

fn request<T>(metadata: Metadata, message: T) -> Result<Request<T>, Status> {
    let mut map = MetadataMap::new();
    for (name, value) in metadata {
        // Through http's types: a script may want bytes that are not ASCII.
        let header = http::HeaderValue::from_bytes(&value);
        let key = name.parse::<tonic::metadata::AsciiMetadataKey>();
        let (Ok(key), Ok(header)) = (key, header) else {
            return Err(Status { code: "Internal", message: format!("not metadata: {name}") });
        };
        let value = MetadataValue::try_from(header.as_bytes()).map_err(|e| unavailable(&e))?;
        map.insert(key, value);
    }
    let mut request = Request::new(message);
    *request.metadata_mut() = map;
    Ok(request)
}

fn has_deadline(metadata: &Metadata) -> bool {
    metadata.iter().any(|(name, _)| name == "grpc-timeout")
}

fn unavailable(error: &dyn std::error::Error) -> Status {
    Status { code: "Unavailable", message: error.to_string() }
}

/// A status in the words of a script. `deadline`: the call carried one. When it passes, the server's
/// status races with its reset of the stream; every gRPC client watches the clock itself and makes
/// the same of both.
fn status(status: &tonic::Status, deadline: bool) -> Status {
    let canceled = || reset_reason(status).is_some_and(|reason| reason == "CANCEL");
    if deadline && (status.code() == Code::DeadlineExceeded || canceled()) {
        return Status { code: "DeadlineExceeded", message: String::new() };
    }
    if let Some(reason) = reset_reason(status) {
        return Status { code: "Reset", message: reason };
    }
    // Go's protobuf library writes its errors with a space or a no-break space, chosen per build.
    Status { code: code_name(status.code()), message: status.message().replace('\u{a0}', " ") }
}

/// The server ended the stream with an HTTP/2 reset and no status. A status tonic makes of that
/// would hide the difference.
fn reset_reason(status: &tonic::Status) -> Option<String> {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(error.reason().map_or_else(|| error.to_string(), |r| format!("{r:?}")));
        }
        source = error.source();
    }
    None
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// hyper's sender as the service tonic wants.
#[derive(Clone)]
struct Connection {
    sender: SendRequest<Body>,
}

impl tower_service::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

#[derive(Clone, Copy, Default)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = BytesCodec;
    type Decoder = BytesCodec;

    fn encoder(&mut self) -> BytesCodec {
        BytesCodec
    }

    fn decoder(&mut self) -> BytesCodec {
        BytesCodec
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        let len = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(len)))
    }
}
