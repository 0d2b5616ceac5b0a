//! Snapshots on their way between members, each on a connection of its own.
//!
//! After the upgrade the sender's header goes first and the receiver answers with the position from which it wants the
//! rest: the start, or where an earlier connection broke off. Then chunks, one way. At the end the receiver verifies what
//! it has, saying now and then that it is not done yet, and at last that it has everything; if something is damaged, it
//! ends the connection, and the sender begins anew. Files are read and written on threads that may block, one chunk at a time: a snapshot holds two
//! chunks in memory, however large it is, and a receiver that is slow slows its sender through the socket. The sender
//! pauses after each chunk for as long as that took, so that disk, processor and line are never its alone.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cetera_node::event::Event;
use cetera_node::snapshot::{ReceivedSnapshot, SnapshotReceiver, SnapshotSend};
use cetera_proto::ceterapb::{SnapshotChunk, SnapshotHeader, SnapshotPosition};
use cetera_proto::raftpb;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::frame::{Splitter, whole};
use super::link::End;
use super::lock;
use super::net::Net;
use crate::log;
use crate::metrics::METRICS;
use crate::metrics::peers::Side;

/// Longest frame on such a connection: a header that names as many files as a snapshot may have.
const FRAME_BYTES_MAX: usize = 4 << 20;
/// Longest wait for the other side to take or give one frame. A file's sync lies in it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between signs of life of a receiver that verifies.
const VERIFYING_SIGN_EVERY: Duration = Duration::from_secs(5);
/// Longest pause between chunks.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// What the receiving side writes to; shared by the connections, of which one is of use.
pub(super) type Receiver = Arc<Mutex<SnapshotReceiver>>;

/// Sends a snapshot and tells the node how it went.
pub(super) async fn send(net: Rc<Net>, snapshot: SnapshotSend) {
    let (to, id, bytes) = (snapshot.to(), snapshot.id(), snapshot.bytes());
    log::info!("sending database snapshot", "remote-peer-id" = log::Hex(to), "bytes" = bytes);
    let started = Instant::now();
    let under_way = METRICS.peer(to).snapshot_begins(Side::Sent);
    let sent = transfer(&net, &snapshot).await;
    if sent.is_ok() {
        under_way.arrived();
    }
    match &sent {
        Ok(()) => log::info!(
            "sent database snapshot",
            "remote-peer-id" = log::Hex(to),
            "bytes" = bytes,
            "took" = started.elapsed()
        ),
        Err(error) => log::warning!(
            "failed to send database snapshot",
            "remote-peer-id" = log::Hex(to),
            "bytes" = bytes,
            "error" = log::Shown(error)
        ),
    }
    net.tell(Event::SnapshotSent { to, id, ok: sent.is_ok() });
}

async fn transfer(net: &Rc<Net>, snapshot: &SnapshotSend) -> io::Result<()> {
    let header = snapshot.header();
    let files = header.files.len();
    let mut line = Line::new(net.dial_for_snapshot(snapshot.to()).await?);
    line.write(&header).await?;
    let mut at: SnapshotPosition = line.read().await?;
    loop {
        let started = Instant::now();
        let reading = snapshot.clone();
        let Some(chunk) = blocking(move || reading.chunk(at)).await? else { break };
        // Asked only while there is more: a receiver may have taken over what it was sent before it says so here.
        if snapshot.is_cancelled() {
            return Err(io::Error::other("it is not wanted any more"));
        }
        at = behind(&chunk);
        line.write(&chunk).await?;
        tokio::time::sleep(started.elapsed().min(PAUSE_MAX)).await;
    }
    await_end(&mut line, files, || snapshot.is_cancelled()).await
}

/// Waits until the receiver has all `files`, and found them good.
async fn await_end<T>(line: &mut Line<T>, files: usize, is_cancelled: impl Fn() -> bool) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while (line.read::<SnapshotPosition>().await?.file as usize) < files {
        if is_cancelled() {
            return Err(io::Error::other("it is not wanted any more"));
        }
    }
    Ok(())
}

fn behind(chunk: &SnapshotChunk) -> SnapshotPosition {
    let at = chunk.at.unwrap_or_default();
    SnapshotPosition { offset: at.offset + chunk.data.len() as u64, ..at }
}

/// Receives a snapshot; when it is whole, the node is given it.
pub(super) async fn receive(io: impl AsyncRead + AsyncWrite + Unpin, from: u64, net: &Rc<Net>) -> End {
    let under_way = METRICS.peer(from).snapshot_begins(Side::Received);
    match take(io, from, net).await {
        Ok(()) => {
            under_way.arrived();
            End::Closed
        }
        Err(error) => End::Broken(error),
    }
}

async fn take(io: impl AsyncRead + AsyncWrite + Unpin, from: u64, net: &Rc<Net>) -> io::Result<()> {
    let mut line = Line::new(io);
    let header: SnapshotHeader = line.read().await?;
    let message = header.message.as_ref().map(|message| (message.from, message.to));
    if message != Some((from, net.member_id())) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a snapshot of or for another member"));
    }
    if let Some(message) = old_news(&header, net) {
        // The sender learns from the answer how far this member is.
        net.node().send(Event::Peer(vec![message.into()]));
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what the snapshot holds is here already"));
    }
    let (id, files) = (header.id, header.files.len());
    let bytes: u64 = header.files.iter().map(|file| file.bytes).sum();
    let receiver = net.snapshots();
    let begun = Arc::clone(&receiver);
    let mut at = blocking(move || lock(&begun).begin(&header).map_err(io::Error::other)).await?;
    log::info!(
        "receiving database snapshot",
        "remote-peer-id" = log::Hex(from),
        "bytes" = bytes,
        "from-file" = at.file,
        "from-offset" = at.offset
    );
    line.write(&at).await?;
    while (at.file as usize) < files {
        let chunk: SnapshotChunk = line.read().await?;
        let receiver = Arc::clone(&receiver);
        at = blocking(move || lock(&receiver).chunk(id, &chunk).map_err(io::Error::other)).await?;
    }
    if let Some(received) = blocking(move || lock(&receiver).finish(id).map_err(io::Error::other)).await? {
        log::info!("received database snapshot", "remote-peer-id" = log::Hex(from), "bytes" = bytes);
        verify(received, &mut line, net).await?;
    }
    line.write(&at).await
}

/// Gives the node a snapshot that is good. That goes on when the connection ends.
async fn verify<T>(received: ReceivedSnapshot, line: &mut Line<T>, net: &Rc<Net>) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let node = net.node();
    let verifying = tokio::task::spawn_blocking(move || match received.prepare() {
        Ok(prepared) => {
            node.send(Event::Snapshot(Box::new(prepared)));
            Ok(())
        }
        Err(error) => {
            log::error!("a received snapshot is not used", "error" = log::Shown(&error));
            Err(io::Error::other(error))
        }
    });
    with_signs_of_life(verifying, VERIFYING_SIGN_EVERY, line).await
}

/// Waits for `work`, saying every so often that the end is not reached.
async fn with_signs_of_life<T>(
    mut work: JoinHandle<io::Result<()>>,
    every: Duration,
    line: &mut Line<T>,
) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match tokio::time::timeout(every, &mut work).await {
            Ok(done) => return done.unwrap_or_else(|error| Err(io::Error::other(error))),
            Err(_) => line.write(&SnapshotPosition::default()).await?,
        }
    }
}

/// The message of a snapshot of which everything is committed here, unless it is to replace a state that went wrong.
fn old_news(header: &SnapshotHeader, net: &Net) -> Option<raftpb::Message> {
    let message = header.message.as_ref().filter(|_| !header.resync)?;
    let index = message.snapshot.as_ref()?.metadata.as_ref()?.index;
    (index <= net.node().published().committed_index).then(|| message.clone())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// A connection with frames in both directions.
struct Line<T> {
    io: T,
    splitter: Splitter,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Line<T> {
    fn new(io: T) -> Self {
        Self { io, splitter: Splitter::new(FRAME_BYTES_MAX) }
    }

    async fn write(&mut self, message: &impl Message) -> io::Result<()> {
        let frame = whole(message);
        let write = async {
            self.io.write_all(&frame).await?;
            self.io.flush().await
        };
        tokio::time::timeout(PATIENCE, write).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn read<M: Message + Default>(&mut self) -> io::Result<M> {
        let invalid = |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
        let read = async {
            loop {
                if let Some(body) = self.splitter.take().map_err(|error| invalid(&error))? {
                    return M::decode(body).map_err(|error| invalid(&error));
                }
                if self.io.read_buf(self.splitter.space()).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc;

    use super::*;

    const FILES: usize = 3;
    const OFTEN: Duration = Duration::from_millis(1);

    /// A receiver that verifies until it has been heard of `signs` times, and what its sender makes of that.
    async fn sent(signs: u32, verified: io::Result<()>, is_wanted: bool) -> io::Result<()> {
        let (sender, receiver) = tokio::io::duplex(1 << 10);
        let (mut sender, mut receiver) = (Line::new(sender), Line::new(receiver));
        let (enough, until) = mpsc::channel();
        let work = tokio::task::spawn_blocking(move || until.recv().map_err(io::Error::other).and(verified));
        let heard = Cell::new(0);
        let receive = async move {
            with_signs_of_life(work, OFTEN, &mut receiver).await?;
            receiver.write(&SnapshotPosition { file: FILES as u32, offset: 0 }).await
        };
        let heard = &heard;
        let is_cancelled = move || {
            heard.set(heard.get() + 1);
            if heard.get() == signs {
                enough.send(()).expect("it waits");
            }
            !is_wanted
        };
        let (_, end) = tokio::join!(receive, await_end(&mut sender, FILES, is_cancelled));
        assert!(heard.get() >= signs || !is_wanted);
        end
    }

    #[tokio::test]
    async fn a_sender_waits_as_long_as_its_receiver_verifies() {
        sent(3, Ok(()), true).await.expect("it arrived");
        let error = sent(2, Err(io::Error::other("damaged")), true).await.expect_err("the line ends");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let error = sent(9, Ok(()), false).await.expect_err("given up");
        assert!(error.to_string().contains("not wanted any more"), "{error}");
    }
}
