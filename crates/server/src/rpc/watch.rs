//! Watch streams of one front thread: requests to the hub, the hub's responses to the streams.
//!
//! Responses gather per stream during a turn and leave as one batch at its end, so that a stream with a thousand
//! watchers of one key costs one hand-over per change.

use std::sync::Arc;

use bytes::Bytes;
use cetera_mvcc::LogError;
use cetera_node::event::EventBatch;
use cetera_node::published::Published;
use cetera_node::watch::{Create, Hub, HubOptions, HubStats, Origin, Sink, StreamKey};
use cetera_proto::etcdserverpb::watch_create_request::FilterType;
use cetera_proto::etcdserverpb::watch_request::RequestUnion;
use cetera_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use prost::Message as _;

use super::IdMap;
use super::status::{Code, Error, other};
use crate::log;
use crate::seam::{CallId, Framed, Inbound, Outbound, Status};

/// What grpc-go ends a stream with when a message of it cannot be read.
const MALFORMED: &str = "grpc: failed to unmarshal the received message: proto: cannot parse invalid wire-format data";

/// The watch service of one front thread. Only watch streams' events get here.
pub struct WatchService {
    hub: Hub,
    calls: IdMap<StreamKey>,
    output: Output,
    /// Streams that this service has ended.
    ended: Vec<CallId>,
}

/// What the hub has said in this turn.
#[derive(Default)]
struct Output {
    /// By stream key.
    streams: Vec<Option<Stream>>,
    /// Streams with something to send, in the order of their first.
    touched: Vec<StreamKey>,
    /// Streams the hub has closed.
    broken: Vec<CallId>,
}

struct Stream {
    call: CallId,
    framed: Framed,
}

impl Output {
    fn stream(&mut self, key: StreamKey) -> &mut Option<Stream> {
        let at = key.0 as usize;
        if self.streams.len() <= at {
            self.streams.resize_with(at + 1, || None);
        }
        &mut self.streams[at]
    }

    fn send(&mut self, key: StreamKey, out: &mut Vec<Outbound>) {
        if let Some(Stream { call, framed }) = self.stream(key)
            && !framed.is_empty()
        {
            out.push(Outbound::Messages { call: *call, messages: std::mem::take(framed) });
        }
    }
}

impl Sink for Output {
    fn response(&mut self, stream: StreamKey, head: &[u8], events: &Bytes) {
        let Some(Stream { framed, .. }) = &mut self.streams[stream.0 as usize] else {
            unreachable!("the hub speaks to open streams only");
        };
        if framed.is_empty() {
            self.touched.push(stream);
        }
        framed.push(head, events);
    }

    fn broken(&mut self, stream: StreamKey, error: &LogError) {
        log::error!("failed to read the history of a watch stream", "error" = log::Shown(error));
        if let Some(Stream { call, .. }) = self.stream(stream).take() {
            self.broken.push(call);
        }
    }
}

fn origin(published: &Published) -> Origin {
    Origin { cluster_id: published.cluster_id, member_id: published.member_id, term: published.term }
}

impl WatchService {
    /// A service that, while it wants changes, is told of every one after the picture it began with.
    pub fn new(options: HubOptions, published: &Published) -> Self {
        let hub = Hub::new(options, published.view.clone(), origin(published));
        WatchService { hub, calls: IdMap::default(), output: Output::default(), ended: Vec::new() }
    }

    /// Begins a turn with the picture published last.
    pub fn begin(&mut self, published: &Published) {
        self.hub.begin_turn(&published.view, published.applied_index, origin(published));
    }

    /// One event of one watch stream.
    pub fn handle(&mut self, inbound: Inbound, out: &mut Vec<Outbound>) {
        match inbound {
            Inbound::Open { call, .. } => {
                let key = self.hub.open();
                *self.output.stream(key) = Some(Stream { call, framed: Framed::default() });
                self.calls.insert(call, key);
            }
            Inbound::Message { call, body } => {
                let Some(stream) = self.calls.get(&call).copied() else { return };
                match WatchRequest::decode(body) {
                    Ok(request) => self.request(stream, request),
                    Err(_) => self.finish(call, other(Code::Internal, MALFORMED), out),
                }
            }
            // A client that has no more requests still gets its events.
            Inbound::HalfClose { .. } => {}
            Inbound::Cancel { call } => drop(self.close(call)),
            Inbound::Drained { call } => {
                if let Some(stream) = self.calls.get(&call) {
                    self.hub.drained(*stream);
                }
            }
        }
    }

    /// Unsent output of this stream went over its budget; it is to produce nothing until drained.
    pub fn full(&mut self, call: CallId) {
        if let Some(stream) = self.calls.get(&call) {
            self.hub.full(*stream);
        }
    }

    fn request(&mut self, stream: StreamKey, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.hub.create(stream, create(request), &mut self.output),
            Some(RequestUnion::CancelRequest(request)) => {
                self.hub.cancel(stream, request.watch_id, &mut self.output);
            }
            Some(RequestUnion::ProgressRequest(_)) => self.hub.progress(stream, &mut self.output),
            // W-17.
            None => log::info!("invalid watch request received in gRPC stream"),
        }
    }

    /// The changes of one apply batch; the picture of this turn is at or past them.
    pub fn deliver(&mut self, batch: &Arc<EventBatch>) {
        self.hub.deliver(batch, &mut self.output);
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        self.hub.tick(now_ms, &mut self.output);
    }

    /// Whether this service must be told of changes.
    pub fn wants_changes(&self) -> bool {
        self.hub.wants_changes()
    }

    /// Whether watchers are catching up and could go on.
    pub fn pending(&self) -> bool {
        self.hub.pending()
    }

    /// Lets watchers that catch up go on by one slice.
    pub fn turn(&mut self) {
        self.hub.turn(&mut self.output);
    }

    /// Ends a turn: everything said in it goes out.
    pub fn flush(&mut self, out: &mut Vec<Outbound>) {
        let mut touched = std::mem::take(&mut self.output.touched);
        for key in touched.drain(..) {
            self.output.send(key, out);
        }
        self.output.touched = touched;
        for call in std::mem::take(&mut self.output.broken) {
            self.calls.remove(&call);
            self.ended.push(call);
            out.push(Outbound::Finish { call, status: Error::Corrupt.into() });
        }
    }

    /// The streams this service has ended since the last time.
    pub fn take_ended(&mut self) -> Vec<CallId> {
        std::mem::take(&mut self.ended)
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> HubStats {
        self.hub.stats()
    }

    /// Ends a stream behind what was said on it.
    fn finish(&mut self, call: CallId, status: Status, out: &mut Vec<Outbound>) {
        if let Some(Stream { call, framed }) = self.close(call) {
            if !framed.is_empty() {
                out.push(Outbound::Messages { call, messages: framed });
            }
            out.push(Outbound::Finish { call, status });
            self.ended.push(call);
        }
    }

    /// Forgets a stream, and gives what was still to be sent.
    fn close(&mut self, call: CallId) -> Option<Stream> {
        let key = self.calls.remove(&call)?;
        self.hub.close(key);
        self.output.touched.retain(|touched| *touched != key);
        self.output.stream(key).take()
    }
}

fn create(request: WatchCreateRequest) -> Create {
    let filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
    Create {
        start_revision: request.start_revision,
        watch_id: request.watch_id,
        no_put: filtered(FilterType::Noput),
        no_delete: filtered(FilterType::Nodelete),
        prev_kv: request.prev_kv,
        fragment: request.fragment,
        progress_notify: request.progress_notify,
        key: request.key,
        range_end: request.range_end,
    }
}
