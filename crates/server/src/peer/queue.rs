//! What waits for one connection, under a lock that the node thread and the peers' thread share.
//!
//! While nothing waits, a short parcel is written by the thread that made it, without waking the other: that saves the
//! most of what a small message costs. The socket takes it at once or the rest is queued; whoever finds something queued
//! queues behind it, so order holds.

use std::collections::VecDeque;
use std::io::{IoSlice, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use bytes::{Buf, Bytes};

use super::frame::Parcel;
use super::lock;
use crate::metrics::peers::PeerCounters;

/// Slices of one write at most.
pub(super) const SLICES_MAX: usize = 64;

/// A queue of frames before a connection.
pub(super) struct Queue {
    state: Mutex<State>,
    counters: Arc<PeerCounters>,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    /// Of the pieces here and of those the writer holds.
    bytes: usize,
    /// Bytes at the front whose beginning went to the present connection.
    torn: usize,
    /// The connection, if there is one that may be written to without its writer.
    socket: Option<TcpStream>,
    /// Whom to wake when something was queued.
    writer: Option<Waker>,
}

impl Queue {
    pub(super) fn new(counters: Arc<PeerCounters>) -> Queue {
        Queue { state: Mutex::default(), counters }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Bytes not written yet.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Queues frames for the writer.
    pub(super) fn push(&self, parcel: Parcel) {
        self.lock().push(parcel);
    }

    /// Whether frames could be written from here now.
    pub(super) fn is_open(&self) -> bool {
        let state = self.lock();
        state.bytes == 0 && state.socket.is_some()
    }

    /// Writes frames now if nothing is before them; what the socket does not take is queued.
    pub(super) fn write(&self, parcel: Parcel) {
        let mut state = self.lock();
        let mut written = 0;
        if let (0, Some(socket)) = (state.bytes, &mut state.socket) {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            for (slice, piece) in slices.iter_mut().zip(&parcel.pieces) {
                *slice = IoSlice::new(piece);
            }
            // An error shows itself to the writer, which is woken for what is left.
            written = socket.write_vectored(&slices[..parcel.pieces.len().min(SLICES_MAX)]).unwrap_or(0);
            self.counters.sent_bytes.fetch_add(written as u64, Ordering::Relaxed);
        }
        if written < parcel.bytes {
            let bytes = parcel.bytes - written;
            if written > 0 {
                state.torn = bytes;
            }
            let mut pieces: VecDeque<Bytes> = parcel.pieces.into();
            skip(&mut pieces, written);
            state.push(Parcel { pieces: pieces.into(), bytes });
        }
    }

    /// There is a connection from now on, or none; what was begun on the one before is lost with it. `socket`: if others
    /// than the writer may write to it.
    pub(super) fn connect(&self, socket: Option<TcpStream>) {
        let mut state = self.lock();
        state.socket = socket;
        let torn = std::mem::take(&mut state.torn);
        skip(&mut state.pieces, torn);
        state.bytes -= torn;
    }

    /// Takes everything queued, which stays counted until it is [`Queue::written`], and notes whom to wake for more.
    pub(super) fn take(&self, pieces: &mut VecDeque<Bytes>, writer: &Waker) {
        let mut state = self.lock();
        std::mem::swap(&mut state.pieces, pieces);
        state.torn = 0;
        if !state.writer.as_ref().is_some_and(|known| known.will_wake(writer)) {
            state.writer = Some(writer.clone());
        }
    }

    /// The writer adds bytes of its own.
    pub(super) fn count(&self, bytes: usize) {
        self.lock().bytes += bytes;
    }

    /// The writer got rid of bytes, this way or that.
    pub(super) fn forget(&self, bytes: usize) {
        self.lock().bytes -= bytes;
    }

    /// The writer wrote bytes.
    pub(super) fn written(&self, bytes: usize) {
        self.forget(bytes);
        self.counters.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Drops what is queued. Whether there was anything.
    pub(super) fn clear(&self) -> bool {
        let mut state = self.lock();
        state.pieces.clear();
        state.torn = 0;
        std::mem::take(&mut state.bytes) > 0
    }
}

impl State {
    fn push(&mut self, parcel: Parcel) {
        self.bytes += parcel.bytes;
        self.pieces.extend(parcel.pieces);
        if let Some(writer) = &self.writer {
            writer.wake_by_ref();
        }
    }
}

/// Drops the first `bytes`.
pub(super) fn skip(pieces: &mut VecDeque<Bytes>, mut bytes: usize) {
    while let Some(piece) = pieces.front_mut() {
        if bytes < piece.len() {
            piece.advance(bytes);
            return;
        }
        bytes -= piece.len();
        pieces.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;
    use crate::metrics::METRICS;

    fn parcel(bytes: &[u8]) -> Parcel {
        Parcel { pieces: bytes.chunks(1_000).map(Bytes::copy_from_slice).collect(), bytes: bytes.len() }
    }

    #[test]
    fn what_the_socket_does_not_take_is_queued_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        socket.set_nonblocking(true).expect("nonblocking");
        let (mut reader, _) = listener.accept().expect("dialled");
        let queue = Queue::new(METRICS.peer(u64::MAX));
        assert!(!queue.is_open());
        queue.connect(Some(socket));
        assert!(queue.is_open());
        let mut sent = Vec::new();
        for n in 0..4_000_u32 {
            let bytes: Vec<u8> = n.to_le_bytes().repeat(500);
            sent.extend_from_slice(&bytes);
            queue.write(parcel(&bytes));
        }
        let waiting = queue.bytes();
        assert!(waiting > 0 && waiting < sent.len(), "{waiting}");
        assert!(!queue.is_open());
        let mut read = vec![0; sent.len() - waiting];
        reader.read_exact(&mut read).expect("written");
        let mut pieces = VecDeque::new();
        queue.take(&mut pieces, Waker::noop());
        read.extend(pieces.iter().flatten());
        assert!(read == sent);
        queue.written(waiting);
        assert!(queue.is_open());
        // What another connection began is not gone on with.
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        socket.set_nonblocking(true).expect("nonblocking");
        queue.connect(Some(socket));
        // Either a part of it was taken or nothing.
        while queue.bytes() == 0 {
            queue.write(parcel(&[7; 50_000]));
        }
        queue.push(parcel(b"whole"));
        queue.connect(None);
        let mut pieces = VecDeque::new();
        queue.take(&mut pieces, Waker::noop());
        assert!(
            pieces.iter().flatten().copied().eq(*b"whole") || pieces.iter().map(Bytes::len).sum::<usize>() == 50_005
        );
    }
}
