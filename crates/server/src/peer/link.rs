//! One connection to one peer, dialled again whenever it ends, and the queue before it.
//!
//! While there is no connection the queue keeps what a dial under way may still deliver; a dial that fails empties it.
//! A connection that ends takes what was being written with it: nothing is written twice.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::dial::{self, DialError, Hello};
use super::frame::ALIVE;
use super::net::Net;
use super::queue::{Queue, SLICES_MAX, skip};
use super::stream::PeerStream;
use crate::config::Url;
use crate::log;

/// Pause before the second dial in a row; it doubles from dial to dial.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// Longest pause between dials.
const BACKOFF_MAX: Duration = Duration::from_millis(200);
/// The same after an answer that another dial will not change soon (unknown here, another cluster).
const BACKOFF_REJECTED: Duration = Duration::from_millis(500);
/// A connection that stood for less than this counts as another failed dial.
const SETTLED: Duration = Duration::from_secs(1);

/// What a connection carries.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Entries for the log, and proposals on their way to the leader.
    Append,
    /// Everything small that must not wait behind them.
    Other,
    /// One snapshot.
    Snapshot,
}

impl Kind {
    /// Those that stand all the time.
    pub(super) const LINKS: [Kind; 2] = [Kind::Append, Kind::Other];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Append => "append",
            Kind::Other => "other",
            Kind::Snapshot => "snapshot",
        }
    }

    pub(super) fn parse(name: &[u8]) -> Option<Kind> {
        [Kind::Append, Kind::Other, Kind::Snapshot].into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// Bytes that wait for the connection at most. What is larger than all of it passes an empty queue.
    pub(super) fn queue_bytes_max(self) -> usize {
        match self {
            Kind::Append => 64 << 20,
            Kind::Other => 4 << 20,
            // One chunk at a time, and no queue.
            Kind::Snapshot => 0,
        }
    }
}

/// A connection and the queue before it.
pub(super) struct Link {
    pub(super) queue: Arc<Queue>,
    connected: Cell<bool>,
    hurry: Notify,
}

impl Link {
    pub(super) fn new(queue: Arc<Queue>) -> Link {
        Link { queue, connected: Cell::default(), hurry: Notify::new() }
    }

    /// Whether there is a connection that has not taken everything yet.
    pub(super) fn is_writing(&self) -> bool {
        self.connected.get() && self.queue.bytes() > 0
    }

    /// The peer is known to be there: no pause before the next dial.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }
}

/// When the link is given up: nobody may write to a connection that nobody watches.
struct Connected<'a>(&'a Link);

impl<'a> Connected<'a> {
    fn begin(link: &'a Link, stream: &PeerStream) -> Self {
        link.connected.set(true);
        // Without a second descriptor all goes through the writer.
        link.queue.connect(stream.second());
        Connected(link)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.queue.connect(None);
        self.0.connected.set(false);
    }
}

/// Keeps `link` connected until the task is ended.
pub(super) async fn run(link: Rc<Link>, urls: Rc<RefCell<Vec<Url>>>, hello: Hello, net: Rc<Net>) {
    let (peer, kind) = (hello.to, hello.kind);
    let mut backoff = Duration::ZERO;
    let mut at = 0;
    let mut told = false;
    loop {
        let url = {
            let urls = urls.borrow();
            urls.get(at % urls.len().max(1)).cloned()
        };
        let dialled = match &url {
            Some(url) => dial::in_time(url, &hello).await,
            None => Err(DialError::Failed(io::Error::new(io::ErrorKind::NotFound, "no URL is known"))),
        };
        backoff = (backoff * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        let mut pause = backoff;
        match dialled {
            Ok(stream) => {
                let since = Instant::now();
                net.dialled(peer, kind);
                told = false;
                let connected = Connected::begin(&link, &stream);
                let end = Writer::new(&link, stream, net.read_timeout() / 3, net.write_timeout()).await;
                drop(connected);
                net.dialled_ended(peer, kind, &end);
                if since.elapsed() >= SETTLED {
                    // At once: the peer's process may be there again already.
                    backoff = Duration::ZERO;
                    continue;
                }
            }
            Err(error) => {
                at += 1;
                if !told {
                    told = true;
                    log::warning!(
                        "failed to dial peer",
                        "remote-peer-id" = log::Hex(peer),
                        "stream" = kind.name(),
                        "error" = log::Shown(&error)
                    );
                }
                net.dial_failed(peer, kind, &error, link.queue.clear());
                if matches!(error, DialError::Removed | DialError::Rejected(..)) {
                    pause = BACKOFF_REJECTED;
                }
            }
        }
        if tokio::time::timeout(pause, link.hurry.notified()).await.is_ok() {
            backoff = Duration::ZERO;
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The peer closed it, or its process is gone.
    Closed,
    /// Reset or otherwise broken.
    Broken(io::Error),
    /// It took nothing for too long.
    Stalled,
    /// The peer says something where it has nothing to say.
    Nonsense(String),
    /// The peer has another connection of this kind.
    Superseded,
}

impl End {
    /// Whether the peer's process is gone, as far as one can see from here. A connection that nothing came through any
    /// more tells nothing of the process.
    pub(super) fn is_gone(&self) -> bool {
        match self {
            End::Closed => true,
            End::Broken(error) => {
                error.kind() != io::ErrorKind::TimedOut && error.kind() != io::ErrorKind::HostUnreachable
            }
            End::Stalled | End::Nonsense(_) | End::Superseded => false,
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Closed => f.write_str("EOF"),
            End::Broken(error) => error.fmt(f),
            End::Stalled => f.write_str("i/o timeout"),
            End::Nonsense(text) => f.write_str(text),
            End::Superseded => f.write_str("the peer has connected again"),
        }
    }
}

/// Writes what is queued until the connection ends. It is one future and no task per frame.
struct Writer<'a, T> {
    link: &'a Link,
    io: T,
    /// Taken from the queue, not written yet.
    pieces: VecDeque<Bytes>,
    unflushed: bool,
    /// When the next sign of life is due, or when a stalled write ends the connection.
    timer: Pin<Box<Sleep>>,
    stalled: bool,
    alive_every: Duration,
    write_timeout: Duration,
}

impl<'a, T: AsyncRead + AsyncWrite + Unpin> Writer<'a, T> {
    fn new(link: &'a Link, io: T, alive_every: Duration, write_timeout: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(alive_every));
        let pieces = VecDeque::new();
        Self { link, io, pieces, unflushed: false, timer, stalled: false, alive_every, write_timeout }
    }

    /// The peer says nothing here; reading tells when it is gone.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut space = [0; 16];
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(End::Broken(error)),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(End::Closed),
            Poll::Ready(Ok(())) => Poll::Ready(End::Nonsense("the peer speaks on a connection that is ours".into())),
        }
    }

    /// Ready when everything is written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.pieces.is_empty() {
                self.link.queue.take(&mut self.pieces, cx.waker());
            }
            if self.pieces.is_empty() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.pieces.len().min(SLICES_MAX);
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece);
            }
            match Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.link.queue.written(written);
                    skip(&mut self.pieces, written);
                    self.unflushed = true;
                    self.stalled = false;
                }
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => self.unflushed = false,
            }
            self.timer.as_mut().reset(Instant::now() + self.alive_every);
        }
        Poll::Ready(Ok(()))
    }
}

/// What was taken and not written is lost.
impl<T> Drop for Writer<'_, T> {
    fn drop(&mut self) {
        self.link.queue.forget(self.pieces.iter().map(Bytes::len).sum());
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Writer<'_, T> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = self.get_mut();
        if let Poll::Ready(end) = this.poll_end(cx) {
            return Poll::Ready(end);
        }
        loop {
            match this.poll_write(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(End::Broken(error)),
                Poll::Ready(Ok(())) => {
                    if this.timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    this.link.queue.count(ALIVE.len());
                    this.pieces.push_back(Bytes::from_static(&ALIVE));
                }
                Poll::Pending => {
                    if !this.stalled {
                        this.stalled = true;
                        this.timer.as_mut().reset(Instant::now() + this.write_timeout);
                    }
                    return this.timer.as_mut().poll(cx).map(|()| End::Stalled);
                }
            }
        }
    }
}
