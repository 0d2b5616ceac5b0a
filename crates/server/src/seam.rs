//! The seam between a front (what speaks a wire protocol) and the services (what the protocol means).
//!
//! A front turns sockets into [`Inbound`] events and [`Outbound`] events into bytes; it knows no service. Services
//! turn batches of the one into batches of the other without ever waiting; they know no socket, stream or runtime.
//! Whatever has to wait goes to the node as a ticket and comes back as mail.

mod framed;

use bytes::Bytes;
use cetera_node::event::{EventBatch, Reply, Ticket};
use cetera_proto::services::Method;
use std::sync::Arc;

pub use self::framed::Framed;

/// A call, unique within one front thread for the life of the process.
#[derive(Copy, Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId(pub u64);

/// Request metadata that services look at, as sent.
#[derive(Clone, Debug, Default)]
pub struct CallMetadata {
    /// `hasleader` (G-6).
    pub has_leader: Option<Bytes>,
    /// `client-api-version` (G-7).
    pub client_api_version: Option<Bytes>,
    /// `token`, or `authorization` (G-8).
    pub token: Option<Bytes>,
    /// No client's: this process calls itself.
    pub is_own: bool,
}

/// From the front.
#[derive(Debug)]
pub enum Inbound {
    /// A call begins.
    Open {
        /// The call.
        call: CallId,
        /// What is called. Unknown paths never get here; the front answers Unimplemented.
        method: &'static Method,
        /// Metadata.
        metadata: CallMetadata,
    },
    /// One request message, without gRPC framing.
    Message {
        /// The call.
        call: CallId,
        /// The encoded message.
        body: Bytes,
    },
    /// The client sends no more.
    HalfClose {
        /// The call.
        call: CallId,
    },
    /// The client is gone, or its deadline passed: nothing more may be sent, and all that the call holds must go.
    Cancel {
        /// The call.
        call: CallId,
    },
    /// Output of this call fell below [`STREAM_BUDGET_BYTES`] again after [`Services`] was told it was full.
    Drained {
        /// The call.
        call: CallId,
    },
}

/// To the front.
#[derive(Debug)]
pub enum Outbound {
    /// One response message as a list of slices to be sent one after the other; the front adds gRPC framing.
    Message {
        /// The call.
        call: CallId,
        /// The message in pieces.
        slices: Vec<Bytes>,
    },
    /// Many response messages of one call, framed already.
    Messages {
        /// The call.
        call: CallId,
        /// The messages.
        messages: Framed,
    },
    /// The call ends.
    Finish {
        /// The call.
        call: CallId,
        /// How.
        status: Status,
    },
}

/// A gRPC status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// gRPC code number; 0 is OK.
    pub code: u32,
    /// Text, exactly as etcd words it.
    pub message: String,
}

/// Unsent output of one call above which services stop producing for it until [`Inbound::Drained`].
pub const STREAM_BUDGET_BYTES: usize = 1 << 20;

/// What the node's thread sends to a front's thread.
#[derive(Debug)]
pub enum Mail {
    /// The answer to a ticket.
    Reply(Ticket, Reply),
    /// New changes for the watch hub.
    Events(Arc<EventBatch>),
    /// The answer of background work asked for by a service (a hash over the store, say).
    Work(Ticket, Result<Vec<Bytes>, Status>),
}

/// The services of one front thread. Single threaded; never blocks; a batch in, a batch out.
pub trait Services {
    /// Takes all of `batch`, appends to `out`.
    fn handle(&mut self, batch: &mut Vec<Inbound>, out: &mut Vec<Outbound>);
    /// Takes all of `mail`, appends to `out`.
    fn deliver(&mut self, mail: &mut Vec<Mail>, out: &mut Vec<Outbound>);
    /// Time for what runs on it (watch progress notifications). Milliseconds of a clock that never goes back.
    fn tick(&mut self, now_ms: u64, out: &mut Vec<Outbound>);
    /// Unsent bytes of a call, as the front counts them; services consult it through their own bookkeeping:
    /// a front calls this after it queued output of a stream that went over [`STREAM_BUDGET_BYTES`].
    fn full(&mut self, call: CallId);
    /// Whether there is work left that no event will ask for. The front then gives [`Services::turn`]s, with turns of
    /// its connections in between.
    fn pending(&self) -> bool {
        false
    }
    /// A bounded piece of that work.
    fn turn(&mut self, out: &mut Vec<Outbound>) {
        let _ = out;
    }
}
