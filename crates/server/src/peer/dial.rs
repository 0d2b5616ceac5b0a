//! A connection to a peer: dialled, introduced, upgraded.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::link::Kind;
use super::stream::PeerStream;
use crate::config::{Url, VERSION};
use crate::tls::Tls;

/// The path that is upgraded.
pub(super) const PATH: &str = "/cetera/peer";
/// The protocol it is upgraded to.
pub(super) const PROTOCOL: &str = "cetera-peer/1";
/// Which connection of a peer it is.
pub(super) const KIND_HEADER: &str = "x-cetera-stream";
/// Oldest version this one talks to (etcd's `MinClusterVersion`).
pub(super) const MIN_CLUSTER_VERSION: &str = "3.0.0";
/// How long a dial may take, the introduction included.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest answer to an introduction.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Who dials, and whom.
#[derive(Clone)]
pub(super) struct Hello {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) cluster_id: u64,
    pub(super) peer_urls: String,
    pub(super) kind: Kind,
    /// The connection ends if the peer's kernel acknowledges nothing for this long.
    pub(super) write_timeout: Duration,
    /// For peers whose URL is https.
    pub(super) tls: Option<Tls>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum DialError {
    /// Nobody listens there: the process is gone.
    Refused,
    /// The group has removed this member.
    Removed,
    /// Answered, and not with an upgrade.
    Rejected(u16, String),
    /// Anything else on the way.
    Failed(io::Error),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> DialError {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => DialError::Refused,
            _ => DialError::Failed(error),
        }
    }
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Removed => f.write_str("the member has been permanently removed from the cluster"),
            Self::Rejected(code, text) => write!(f, "answered {code}: {text}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// Connects to `url` and introduces itself.
pub(super) async fn in_time(url: &Url, hello: &Hello) -> Result<PeerStream, DialError> {
    let late = |_| Err(DialError::Failed(io::ErrorKind::TimedOut.into()));
    tokio::time::timeout(DIAL_TIMEOUT, dial(url, hello)).await.unwrap_or_else(late)
}

async fn dial(url: &Url, hello: &Hello) -> Result<PeerStream, DialError> {
    let mut stream = PeerStream::connect(url, hello.tls.as_ref(), hello.write_timeout).await?;
    stream.write_all(introduction(url, hello).as_bytes()).await?;
    stream.flush().await?;
    let (head, body) = answer(&mut stream).await?;
    match status(&head) {
        Some(101) if body.is_empty() => Ok(stream),
        Some(410) => Err(DialError::Removed),
        Some(code) => {
            Err(DialError::Rejected(code, String::from_utf8_lossy(&body).lines().next().unwrap_or("").to_owned()))
        }
        None => Err(DialError::Failed(io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))),
    }
}

fn introduction(url: &Url, hello: &Hello) -> String {
    let mut text = format!("GET {PATH} HTTP/1.1\r\nHost: {}:{}\r\n", url.host, url.port);
    let _ = write!(
        text,
        "Connection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n{KIND_HEADER}: {}\r\nX-Server-From: {:x}\r\n\
         X-Server-Version: {VERSION}\r\nX-Min-Cluster-Version: {MIN_CLUSTER_VERSION}\r\nX-Etcd-Cluster-ID: {:x}\r\n\
         X-Raft-To: {:x}\r\nX-PeerURLs: {}\r\n\r\n",
        hello.kind.name(),
        hello.from,
        hello.cluster_id,
        hello.to,
        hello.peer_urls,
    );
    text
}

/// Head and body of the answer; of a body only what came with the head.
async fn answer(stream: &mut PeerStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            return Ok((read, body));
        }
        if read.len() >= ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer without an end"));
        }
        if stream.take((ANSWER_BYTES_MAX - read.len()) as u64).read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}
