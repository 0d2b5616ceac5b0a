//! What turns sockets into the batches of the [seam](crate::seam) and back.
//!
//! Each front thread runs one current-thread runtime. The tasks of its connections append to one queue; one pump task
//! drains it into the services once per turn of the runtime and hands their output to the calls, so that load makes
//! batches and nothing is locked or sent across threads per request. Mail from the node's thread comes the same way.
//!
//! A unary call whose request is in one read costs no task: it lives in the table of [`call::Calls`] until it is
//! answered. Every other call has a companion task that reads its request, feeds its output to the client's window and
//! notices when the client leaves.

mod buffered;
pub(crate) mod call;
pub mod http1;
mod http2;
pub mod memory;
pub(crate) mod message;
mod pings;
mod rewind;
pub mod thread;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use cetera_proto::services::Method;

use self::call::{Call, Calls, LocalAnswer, Sent};
use self::message::{PREFIX_BYTES, code, prefix};
use crate::clock;
use crate::metrics::FrontCounters;
use crate::seam::{CallId, CallMetadata, Inbound, Outbound, Services, Status};

/// Slices shorter than this are copied into one buffer with their neighbours; longer ones are passed on as they are.
const COPY_BYTES_MAX: usize = 4 << 10;
/// Output is gathered in chunks of this size.
const ARENA_BYTES: usize = 64 << 10;
/// Between two checks of whether clients of waiting unary calls are gone, in milliseconds.
const SWEEP_MS: u64 = 1_000;

/// One front thread's calls and queues. Shared by its tasks, all on that thread.
pub(crate) struct Front {
    inner: RefCell<Inner>,
    /// Largest request message.
    pub(crate) max_message_bytes: usize,
    /// This thread's numbers.
    pub(crate) counters: Arc<FrontCounters>,
}

struct Inner {
    queue: Vec<Inbound>,
    calls: Calls,
    /// The pump, while it waits.
    pump: Option<Waker>,
    /// No call's deadline is earlier.
    earliest_deadline_ms: u64,
    arena: BytesMut,
    next_sweep_ms: u64,
    /// Tasks of open connections, to be woken when the thread stops.
    connections: BTreeMap<u64, Waker>,
    next_connection: u64,
    stopping: bool,
}

impl Inner {
    fn push(&mut self, inbound: Inbound) {
        self.queue.push(inbound);
        if let Some(pump) = self.pump.take() {
            pump.wake();
        }
    }
}

impl Front {
    pub(crate) fn new(max_message_bytes: usize, counters: Arc<FrontCounters>) -> Rc<Front> {
        let inner = Inner {
            queue: Vec::new(),
            calls: Calls::default(),
            pump: None,
            earliest_deadline_ms: u64::MAX,
            arena: BytesMut::with_capacity(ARENA_BYTES),
            next_sweep_ms: 0,
            connections: BTreeMap::new(),
            next_connection: 0,
            stopping: false,
        };
        Rc::new(Front { inner: RefCell::new(inner), max_message_bytes, counters })
    }

    /// Enters a call. `message` is its whole request if that is known already.
    pub(crate) fn open(&self, call: Call, metadata: CallMetadata, message: Option<Bytes>) -> CallId {
        let inner = &mut *self.inner.borrow_mut();
        let method = call.method;
        self.counters.started(method);
        inner.earliest_deadline_ms = inner.earliest_deadline_ms.min(call.deadline_ms);
        let call = inner.calls.insert(call);
        inner.push(Inbound::Open { call, method, metadata });
        if let Some(body) = message {
            self.counters.received(body.len());
            inner.queue.push(Inbound::Message { call, body });
            inner.queue.push(Inbound::HalfClose { call });
        }
        call
    }

    /// A request message of an open call.
    pub(crate) fn message(&self, call: CallId, body: Bytes) {
        self.counters.received(body.len());
        self.inner.borrow_mut().push(Inbound::Message { call, body });
    }

    /// The client of an open call sends no more.
    pub(crate) fn half_close(&self, call: CallId) {
        self.inner.borrow_mut().push(Inbound::HalfClose { call });
    }

    /// Runs `f` on a call if it is still open.
    pub(crate) fn with<R>(&self, call: CallId, f: impl FnOnce(&mut Call) -> R) -> Option<R> {
        self.inner.borrow_mut().calls.get(call).map(f)
    }

    /// The client is gone.
    pub(crate) fn cancel(&self, call: CallId) {
        self.end(call, code::CANCELED, |_| {});
    }

    /// A call's queue is below its budget again.
    pub(crate) fn drained(&self, call: CallId) {
        self.inner.borrow_mut().push(Inbound::Drained { call });
    }

    /// The front itself ends an open call.
    pub(crate) fn refuse(&self, call: CallId, status: Status) {
        self.end(call, status.code, |open| open.abort(status));
    }

    fn end(&self, call: CallId, code: u32, last: impl FnOnce(&mut Call)) {
        let inner = &mut *self.inner.borrow_mut();
        let Some(mut open) = inner.calls.remove(call) else { return };
        // Services that have ended it need not hear that nobody read the end.
        if !open.is_finished() {
            last(&mut open);
            self.counters.handled(open.method, code);
            inner.push(Inbound::Cancel { call });
        }
    }

    /// Calls a method on this thread and waits for the end: its messages with their prefixes, and its status.
    pub(crate) async fn call_local(
        &self,
        method: &'static Method,
        body: Bytes,
        timeout_ms: u64,
    ) -> (Vec<Bytes>, Status) {
        let answer = Rc::new(RefCell::new(LocalAnswer::default()));
        let deadline_ms = clock::now_ms() + timeout_ms;
        let metadata = CallMetadata { is_own: true, ..CallMetadata::default() };
        let call = self.open(Call::local(method, Rc::clone(&answer), deadline_ms), metadata, Some(body));
        let guard = CancelOnDrop { front: self, call };
        let done = std::future::poll_fn(|cx| {
            let mut answer = answer.borrow_mut();
            match answer.status.take() {
                Some(status) => Poll::Ready((std::mem::take(&mut answer.data), status)),
                None => {
                    answer.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        std::mem::forget(guard);
        done
    }

    /// Enters a connection's task: it is woken when the thread stops. Leaves when the guard is dropped.
    pub(crate) fn enter_connection(self: &Rc<Self>, task: &Waker) -> ConnectionGuard {
        let inner = &mut *self.inner.borrow_mut();
        let number = inner.next_connection;
        inner.next_connection += 1;
        inner.connections.insert(number, task.clone());
        ConnectionGuard { front: Rc::clone(self), number }
    }

    /// Whether connections should finish what they have and end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.inner.borrow().stopping
    }

    /// Tells every connection to end, and ends the streaming calls.
    pub(crate) fn stop(&self) {
        self.end_calls(false);
        let mut inner = self.inner.borrow_mut();
        inner.stopping = true;
        inner.connections.values().for_each(Waker::wake_by_ref);
    }

    /// Whether no call is open and no connection is left.
    pub(crate) fn is_idle(&self) -> bool {
        let inner = self.inner.borrow();
        inner.calls.is_empty() && inner.connections.is_empty()
    }

    /// Ends calls whose deadline passed, and now and then looks for waiting unary calls whose client is gone.
    pub(crate) fn expire(&self, now_ms: u64) {
        let inner = &mut *self.inner.borrow_mut();
        let sweep = now_ms >= inner.next_sweep_ms;
        if now_ms < inner.earliest_deadline_ms && !sweep {
            return;
        }
        if sweep {
            inner.next_sweep_ms = now_ms + SWEEP_MS;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let mut gone = Vec::new();
        inner.earliest_deadline_ms = u64::MAX;
        for (id, call) in inner.calls.iter_mut() {
            if call.deadline_ms <= now_ms {
                gone.push((id, true));
            } else if sweep && call.companion.is_none() && call.poll_reset(&mut cx).is_ready() {
                gone.push((id, false));
            } else {
                inner.earliest_deadline_ms = inner.earliest_deadline_ms.min(call.deadline_ms);
            }
        }
        for (id, late) in gone {
            let mut call = inner.calls.remove(id).expect("it was found open above");
            if call.is_finished() {
                continue;
            }
            let code = if late { code::DEADLINE_EXCEEDED } else { code::CANCELED };
            if late {
                call.abort(deadline_passed());
            }
            self.counters.handled(call.method, code);
            inner.push(Inbound::Cancel { call: id });
        }
    }

    /// Ends every streaming call, or with `all` every call, as a server that goes away.
    pub(crate) fn end_calls(&self, all: bool) {
        let ids: Vec<CallId> = {
            let mut inner = self.inner.borrow_mut();
            let streaming = |call: &Call| all || call.method.kind != cetera_proto::services::Kind::Unary;
            inner.calls.iter_mut().filter(|(_, call)| streaming(call)).map(|(id, _)| id).collect()
        };
        for id in ids {
            self.refuse(id, Status { code: code::UNAVAILABLE, message: "etcdserver: server stopped".to_string() });
        }
    }

    /// Takes the waiting input, or leaves the pump's waker for when there is some.
    pub(crate) fn poll_input(&self, batch: &mut Vec<Inbound>, cx: &Context<'_>) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        if inner.queue.is_empty() {
            if !inner.pump.as_ref().is_some_and(|pump| pump.will_wake(cx.waker())) {
                inner.pump = Some(cx.waker().clone());
            }
            return false;
        }
        std::mem::swap(&mut inner.queue, batch);
        true
    }

    /// Hands the services' output to the calls, emptying `out`. Neighbouring messages of one call leave as one.
    pub(crate) fn deliver(&self, out: &mut Vec<Outbound>, services: &mut dyn Services) {
        let inner = &mut *self.inner.borrow_mut();
        let mut gathering: Option<CallId> = None;
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut over = Vec::new();
        for outbound in out.drain(..) {
            let call = match &outbound {
                Outbound::Message { call, .. } | Outbound::Messages { call, .. } | Outbound::Finish { call, .. } => {
                    *call
                }
            };
            if let Some(other) = gathering.filter(|other| *other != call) {
                inner.flush(&self.counters, other, &mut pieces, &mut over);
                gathering = None;
            }
            match outbound {
                Outbound::Message { slices, .. } => {
                    self.counters.sent(inner.gather(slices, &mut pieces));
                    gathering = Some(call);
                }
                Outbound::Messages { messages, .. } => {
                    self.counters.sent(messages.message_bytes());
                    inner.seal(&mut pieces);
                    pieces.extend(messages.into_pieces());
                    gathering = Some(call);
                }
                Outbound::Finish { status, .. } => {
                    if gathering.take().is_some() {
                        inner.flush(&self.counters, call, &mut pieces, &mut over);
                    }
                    let Some(open) = inner.calls.get(call) else { continue };
                    self.counters.handled(open.method, status.code);
                    if open.finish(status) == Sent::Gone {
                        inner.calls.remove(call);
                    }
                }
            }
        }
        if let Some(call) = gathering {
            inner.flush(&self.counters, call, &mut pieces, &mut over);
        }
        for call in over {
            services.full(call);
        }
    }
}

impl Inner {
    /// Frames one message behind what is gathered already. Returns its length.
    fn gather(&mut self, slices: Vec<Bytes>, pieces: &mut Vec<Bytes>) -> usize {
        let len = slices.iter().map(Bytes::len).sum();
        self.arena.reserve(PREFIX_BYTES);
        self.arena.extend_from_slice(&prefix(len));
        for slice in slices {
            if slice.len() < COPY_BYTES_MAX {
                if self.arena.capacity() - self.arena.len() < slice.len() {
                    self.seal(pieces);
                    self.arena = BytesMut::with_capacity(ARENA_BYTES);
                }
                self.arena.extend_from_slice(&slice);
            } else {
                self.seal(pieces);
                pieces.push(slice);
            }
        }
        len
    }

    fn seal(&mut self, pieces: &mut Vec<Bytes>) {
        if !self.arena.is_empty() {
            pieces.push(self.arena.split().freeze());
        }
    }

    /// Sends what was gathered for `call`.
    fn flush(&mut self, counters: &FrontCounters, call: CallId, pieces: &mut Vec<Bytes>, over: &mut Vec<CallId>) {
        self.seal(pieces);
        let Some(open) = self.calls.get(call) else {
            pieces.clear();
            return;
        };
        match open.send(pieces.drain(..)) {
            Sent::Open => {}
            Sent::OverBudget => over.push(call),
            Sent::Gone => {
                counters.handled(open.method, code::CANCELED);
                self.calls.remove(call);
                self.push(Inbound::Cancel { call });
            }
        }
    }
}

/// What a call is answered whose deadline has passed (G-11).
fn deadline_passed() -> Status {
    Status { code: code::DEADLINE_EXCEEDED, message: "context deadline exceeded".to_string() }
}

/// A connection's place among those to be woken.
pub(crate) struct ConnectionGuard {
    front: Rc<Front>,
    number: u64,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut inner = self.front.inner.borrow_mut();
        inner.connections.remove(&self.number);
        // The pump may be waiting for the last one.
        if let (true, Some(pump)) = (inner.stopping, &inner.pump) {
            pump.wake_by_ref();
        }
    }
}

/// Cancels a local call that is dropped before its end.
struct CancelOnDrop<'a> {
    front: &'a Front,
    call: CallId,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.front.cancel(self.call);
    }
}

/// The parts of a front by themselves, for fuzz targets.
#[cfg(feature = "fuzz")]
pub(crate) mod insides {
    pub(crate) use super::Front;
    pub(crate) use super::http1::serve as serve_http1;
    pub(crate) use super::http2::{Http2Options, serve as serve_http2};
    pub(crate) use super::message::{Assembler, percent_encode, timeout_ms};
    pub(crate) use super::pings::Scanner;
    pub(crate) use super::rewind::{Protocol, peek};
}

#[cfg(test)]
mod tests;
