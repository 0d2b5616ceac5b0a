//! The calls a front thread has open, and how output reaches each of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cetera_proto::services::{Kind, Method};
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use super::message::percent_encode;
use super::pings::Load;
use crate::seam::{CallId, STREAM_BUDGET_BYTES, Status};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// One open call.
pub(crate) struct Call {
    pub(crate) method: &'static Method,
    /// When the client stops waiting, by our clock; `u64::MAX` is never.
    pub(crate) deadline_ms: u64,
    /// Woken when there is output to send, or when the call is gone; only calls with a companion task have one.
    pub(crate) companion: Option<Waker>,
    sink: Sink,
    /// Framed output that the client's window has no room for.
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    /// Services were told that the queue is over [`STREAM_BUDGET_BYTES`] and have not been told otherwise.
    pub(crate) over_budget: bool,
    /// The end, waiting behind the queue.
    finish: Option<Status>,
    /// Services have ended it.
    finished: bool,
}

enum Sink {
    /// A stream of an HTTP/2 connection.
    Http2 { respond: SendResponse<Bytes>, stream: Option<SendStream<Bytes>>, load: LoadGuard },
    /// A caller on this thread (HTTP handlers).
    Local(Rc<RefCell<LocalAnswer>>),
}

/// Counts its call as open on its connection.
struct LoadGuard(Rc<Load>);

impl Drop for LoadGuard {
    fn drop(&mut self) {
        // The end of a call, too, is something sent.
        self.0.sent.set(true);
        self.0.calls.set(self.0.calls.get() - 1);
    }
}

/// Where the answer of a call made on this thread gathers.
#[derive(Default)]
pub(crate) struct LocalAnswer {
    /// Response messages with their gRPC prefixes.
    pub(crate) data: Vec<Bytes>,
    pub(crate) status: Option<Status>,
    pub(crate) waker: Option<Waker>,
}

/// What sending came to.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Sent {
    /// The call goes on.
    Open,
    /// Its queue has just grown over the budget.
    OverBudget,
    /// Nothing more can be sent: it ended, or the client is gone.
    Gone,
}

impl Call {
    /// A call on a connection with this load.
    pub(crate) fn http2(
        method: &'static Method,
        respond: SendResponse<Bytes>,
        deadline_ms: u64,
        load: &Rc<Load>,
    ) -> Self {
        load.calls.set(load.calls.get() + 1);
        let load = LoadGuard(Rc::clone(load));
        Call::new(method, deadline_ms, Sink::Http2 { respond, stream: None, load })
    }

    pub(crate) fn local(method: &'static Method, answer: Rc<RefCell<LocalAnswer>>, deadline_ms: u64) -> Self {
        Call::new(method, deadline_ms, Sink::Local(answer))
    }

    fn new(method: &'static Method, deadline_ms: u64, sink: Sink) -> Self {
        let queue = VecDeque::new();
        Call {
            method,
            deadline_ms,
            companion: None,
            sink,
            queue,
            queued_bytes: 0,
            over_budget: false,
            finish: None,
            finished: false,
        }
    }

    /// Sends framed messages, or queues them behind the client's window.
    pub(crate) fn send(&mut self, data: impl Iterator<Item = Bytes>) -> Sent {
        let stream = match &mut self.sink {
            Sink::Local(answer) => {
                answer.borrow_mut().data.extend(data);
                return Sent::Open;
            }
            Sink::Http2 { stream: Some(stream), load, .. } => {
                load.0.sent.set(true);
                stream
            }
            Sink::Http2 { respond, stream, .. } => match respond.send_response(head(), false) {
                Ok(sender) => stream.insert(sender),
                Err(_) => return Sent::Gone,
            },
        };
        // What a unary call answers is in memory anyway: the connection may hold it until the window opens.
        let unbounded = self.method.kind == Kind::Unary;
        for piece in data {
            if unbounded || (self.queue.is_empty() && has_room(stream, piece.len())) {
                if stream.send_data(piece, false).is_err() {
                    return Sent::Gone;
                }
            } else {
                self.queued_bytes += piece.len();
                self.queue.push_back(piece);
            }
        }
        if !self.queue.is_empty()
            && let Some(companion) = self.companion.take()
        {
            companion.wake();
        }
        if self.queued_bytes > STREAM_BUDGET_BYTES && !self.over_budget {
            self.over_budget = true;
            return Sent::OverBudget;
        }
        Sent::Open
    }

    /// Ends the call once all its output is sent.
    pub(crate) fn finish(&mut self, status: Status) -> Sent {
        self.finished = true;
        if !self.queue.is_empty() {
            self.finish = Some(status);
            return Sent::Open;
        }
        match &mut self.sink {
            Sink::Local(answer) => {
                let mut answer = answer.borrow_mut();
                answer.status = Some(status);
                if let Some(waker) = answer.waker.take() {
                    waker.wake();
                }
            }
            // The client may be gone; then there is nobody left to tell.
            Sink::Http2 { stream: Some(stream), .. } => drop(stream.send_trailers(trailers(&status))),
            Sink::Http2 { respond, .. } => drop(respond.send_response(trailers_only(&status, StatusCode::OK), true)),
        }
        Sent::Gone
    }

    /// Whether services have ended it, sent or not.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Drops queued output and ends the call at once.
    pub(crate) fn abort(&mut self, status: Status) {
        self.queue.clear();
        self.finish(status);
    }

    /// Moves queued output into the window as far as it is open. `Ready` once the queue is empty.
    pub(crate) fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        let Sink::Http2 { stream: Some(stream), .. } = &mut self.sink else { return Poll::Ready(Sent::Open) };
        while let Some(piece) = self.queue.front_mut() {
            if !has_room(stream, 1) {
                match stream.poll_capacity(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(_) => return Poll::Ready(Sent::Gone),
                }
            }
            stream.reserve_capacity(piece.len());
            let taken = stream.capacity().min(piece.len());
            let data = piece.split_to(taken);
            if piece.is_empty() {
                self.queue.pop_front();
            }
            self.queued_bytes -= taken;
            if stream.send_data(data, false).is_err() {
                return Poll::Ready(Sent::Gone);
            }
        }
        match self.finish.take() {
            Some(status) => Poll::Ready(self.finish(status)),
            None => Poll::Ready(Sent::Open),
        }
    }

    /// Whether services may produce again: told once per time over budget.
    pub(crate) fn take_drained(&mut self) -> bool {
        let drained = self.over_budget && self.queued_bytes <= STREAM_BUDGET_BYTES / 2;
        self.over_budget &= !drained;
        drained
    }

    /// `Ready` when the client has reset the call or its connection is lost.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sink {
            Sink::Local(_) => Poll::Pending,
            Sink::Http2 { stream: Some(stream), .. } => stream.poll_reset(cx).map(drop),
            Sink::Http2 { respond, .. } => respond.poll_reset(cx).map(drop),
        }
    }
}

/// Whether `len` more bytes fit the window now; asks the connection for them.
fn has_room(stream: &mut SendStream<Bytes>, len: usize) -> bool {
    stream.reserve_capacity(len);
    stream.capacity() >= len
}

fn head() -> Response<()> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

fn put_status(status: &Status, headers: &mut HeaderMap) {
    headers.insert(
        GRPC_STATUS,
        if status.code == 0 { HeaderValue::from_static("0") } else { HeaderValue::from(status.code) },
    );
    if !status.message.is_empty() {
        let text =
            HeaderValue::try_from(percent_encode(&status.message)).expect("percent-encoded text is a header value");
        headers.insert(GRPC_MESSAGE, text);
    }
}

fn trailers(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    put_status(status, &mut headers);
    headers
}

fn trailers_only(status: &Status, http: StatusCode) -> Response<()> {
    let mut response = head();
    *response.status_mut() = http;
    put_status(status, response.headers_mut());
    response
}

/// Refuses a request before it becomes a call.
pub(crate) fn refuse(mut respond: SendResponse<Bytes>, http: StatusCode, status: &Status) {
    if respond.send_response(trailers_only(status, http), true).is_err() {
        respond.send_reset(Reason::CANCEL);
    }
}

/// The open calls by id. An id is never used twice: its upper half counts the uses of its slot.
#[derive(Default)]
pub(crate) struct Calls {
    slots: Vec<(u32, Option<Call>)>,
    free: Vec<u32>,
}

impl Calls {
    pub(crate) fn insert(&mut self, call: Call) -> CallId {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push((0, None));
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 calls are open")
            }
        };
        let (uses, place) = &mut self.slots[slot as usize];
        *place = Some(call);
        CallId(u64::from(*uses) << 32 | u64::from(slot))
    }

    pub(crate) fn get(&mut self, id: CallId) -> Option<&mut Call> {
        match self.slots.get_mut(id.0 as u32 as usize) {
            Some((uses, call)) if u64::from(*uses) == id.0 >> 32 => call.as_mut(),
            _ => None,
        }
    }

    /// Takes a call out; its companion, if any, is woken to end itself.
    pub(crate) fn remove(&mut self, id: CallId) -> Option<Call> {
        let slot = id.0 as u32;
        let (uses, place) = self.slots.get_mut(slot as usize)?;
        if u64::from(*uses) != id.0 >> 32 {
            return None;
        }
        let mut call = place.take()?;
        // A slot whose counter is used up is never given out again.
        if let Some(next) = uses.checked_add(1) {
            *uses = next;
            self.free.push(slot);
        }
        if let Some(companion) = call.companion.take() {
            companion.wake();
        }
        Some(call)
    }

    /// Every open call.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (CallId, &mut Call)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, (uses, call))| {
            let id = CallId(u64::from(*uses) << 32 | slot as u64);
            call.as_mut().map(|call| (id, call))
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }
}
