//! What a script needs of the server under test: calls with raw message bytes, and a fresh server
//! to make them to. Today only a process behind gRPC ([`crate::process`], [`crate::grpc`]); a
//! server inside the test's own process can implement the same traits.

use bytes::Bytes;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A boxed future, so that the traits stay object safe.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Request metadata: name and raw value.
pub type Metadata = Vec<(String, Bytes)>;

/// Messages a stream may hold in each direction before the sender waits.
pub const STREAM_MESSAGES_MAX: usize = 256;

/// A gRPC status: code name as in the specification (`InvalidArgument`, `OK`) and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: &'static str,
    pub message: String,
}

/// An open stream. Dropping it cancels the call, dropping only `send` half-closes it.
pub struct Duplex {
    /// Request messages.
    pub send: Option<mpsc::Sender<Bytes>>,
    /// Response messages; the last item is `Err` with the final status, `OK` included.
    pub receive: mpsc::Receiver<Result<Bytes, Status>>,
}

/// Calls to one server. A path is `/service/Method`.
pub trait Transport: Send + Sync {
    /// One request, one response.
    fn unary(&self, path: &str, metadata: Metadata, body: Bytes) -> BoxFuture<'_, Result<Bytes, Status>>;
    /// Opens a stream of any kind. Returns at once: that the server refuses it is told by the
    /// stream's status.
    fn stream(&self, path: &str, metadata: Metadata) -> Duplex;
}

/// A server started for one script; dropping it stops the server and removes its data.
pub trait Target: Send {
    fn transport(&self) -> Arc<dyn Transport>;
    /// Ends the server without warning and starts it again on the same data.
    fn restart(&mut self) -> BoxFuture<'_, Result<(), String>>;
}

/// Starts servers.
pub trait Launcher: Send + Sync {
    /// Starts a fresh server and returns when it answers.
    fn launch(&self, flags: Vec<String>) -> BoxFuture<'_, Result<Box<dyn Target>, String>>;
}
