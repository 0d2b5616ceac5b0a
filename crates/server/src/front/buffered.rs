//! A connection that writes once per turn of its task.
//!
//! `h2` flushes after every data frame of more than 256 bytes, which would be one system call for each answer. Here
//! writes and flushes only gather; the task that polls the connection calls [`Gathered::poll_send`] when it has nothing
//! more to do. What is gathered is bounded: beyond [`GATHERED_BYTES_MAX`] a write waits for the socket.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pings::Scanner;

/// Bytes gathered before a write goes to the socket at once.
const GATHERED_BYTES_MAX: usize = 256 << 10;
/// A buffer that grew beyond this is given back when it is empty.
const KEPT_BYTES_MAX: usize = 16 << 10;
/// What HTTP/2 writes at once at most: a frame of the default size and its header. A buffer that holds more than what is
/// kept is about to hold all of a large answer, so it grows once.
const FRAME_BYTES_MAX: usize = (16 << 10) + 9;

/// The connection's task's end: sends what was gathered.
pub(crate) struct Gathered<T>(Rc<RefCell<Inner<T>>>);

/// The protocol's end.
pub(crate) struct Buffered<T>(Rc<RefCell<Inner<T>>>);

struct Inner<T> {
    io: T,
    out: Vec<u8>,
    /// Bytes at the front of `out` that the socket has taken.
    sent: usize,
    received: Scanner,
    answered: Scanner,
}

/// Splits a connection in its two ends.
pub(crate) fn buffered<T>(io: T) -> (Gathered<T>, Buffered<T>) {
    let inner = Rc::new(RefCell::new(Inner {
        io,
        out: Vec::new(),
        sent: 0,
        received: Scanner::of_client(),
        answered: Scanner::of_server(),
    }));
    (Gathered(Rc::clone(&inner)), Buffered(inner))
}

impl<T: AsyncWrite + Unpin> Gathered<T> {
    /// Writes what was gathered as far as the socket takes it.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }

    /// Puts bytes behind what was gathered.
    pub(crate) fn push(&self, bytes: &[u8]) {
        self.0.borrow_mut().out.extend_from_slice(bytes);
    }

    /// Pings that came since the last time.
    pub(crate) fn take_pings(&self) -> u32 {
        self.0.borrow_mut().received.take()
    }

    /// Data and headers frames sent since the last time.
    pub(crate) fn take_answered(&self) -> u32 {
        self.0.borrow_mut().answered.take()
    }
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.sent = 0;
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES_MAX);
        Poll::Ready(Ok(()))
    }

    /// Makes room for `more` bytes: a little, or at once all that may gather.
    fn grow(&mut self, more: usize) {
        if self.out.len() + more > KEPT_BYTES_MAX && self.out.capacity() < GATHERED_BYTES_MAX {
            self.out.reserve(GATHERED_BYTES_MAX + FRAME_BYTES_MAX - self.out.len());
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.len() - self.sent < GATHERED_BYTES_MAX { Poll::Ready(Ok(())) } else { self.poll_send(cx) }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Buffered<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut inner.io).poll_read(cx, buf);
        inner.received.scan(&buf.filled()[before..]);
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Buffered<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_room(cx))?;
        inner.answered.scan(buf);
        inner.grow(buf.len());
        inner.out.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_room(cx))?;
        let before = inner.out.len();
        inner.grow(bufs.iter().map(|buf| buf.len()).sum());
        for buf in bufs {
            inner.answered.scan(buf);
            inner.out.extend_from_slice(buf);
        }
        Poll::Ready(Ok(inner.out.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing: the task sends when its turn ends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_send(cx))?;
        Pin::new(&mut inner.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_leaves_before_it_is_sent_and_no_more_than_the_bound_stays() {
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let (gathered, mut protocol) = buffered(near);
        protocol.write_all(b"one ").await.expect("gathers");
        protocol.write_all(b"two").await.expect("gathers");
        protocol.flush().await.expect("does nothing");
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut buf = [0; 16];
        assert!(Pin::new(&mut far).poll_read(&mut cx, &mut ReadBuf::new(&mut buf)).is_pending());
        assert!(gathered.poll_send(&mut cx).is_ready());
        assert_eq!(far.read(&mut buf).await.expect("open"), 7);
        assert_eq!(&buf[..7], b"one two");
        // A peer that does not read stops the writer at the bound.
        let mut written = 0;
        while let Poll::Ready(taken) = Pin::new(&mut protocol).poll_write(&mut cx, &[7; 5_000]) {
            written += taken.expect("open");
        }
        assert!((GATHERED_BYTES_MAX..GATHERED_BYTES_MAX + 6_000).contains(&written), "{written}");
        let read = async {
            let mut all = vec![0; written];
            far.read_exact(&mut all).await.expect("open");
            assert_eq!(all, vec![7; written]);
        };
        let send = std::future::poll_fn(|cx| gathered.poll_send(cx));
        let (sent, ()) = tokio::join!(send, read);
        sent.expect("open");
    }
}
