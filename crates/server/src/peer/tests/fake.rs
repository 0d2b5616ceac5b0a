//! A peer that is nothing but sockets and threads that read them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use cetera_proto::ceterapb::{PeerMessage, peer_message::Body};
use cetera_proto::raftpb::MessageType;

use super::PATIENCE;
use crate::peer::frame::{Encoder, Splitter};

/// Accepts everybody and keeps what they say.
pub(super) struct Fake {
    heard: Arc<(Mutex<Heard>, Condvar)>,
}

#[derive(Default)]
struct Heard {
    connections: usize,
    messages: Vec<PeerMessage>,
    /// Connections that nobody reads yet.
    unread: Vec<TcpStream>,
}

impl Fake {
    pub(super) fn listen(listener: TcpListener) -> Fake {
        Self::start(listener, true)
    }

    /// Welcomes them, and reads nothing.
    pub(super) fn listen_only(listener: TcpListener) -> Fake {
        Self::start(listener, false)
    }

    fn start(listener: TcpListener, reads: bool) -> Fake {
        listener.set_nonblocking(false).expect("blocking");
        let heard = Arc::new((Mutex::new(Heard::default()), Condvar::new()));
        let fake = Fake { heard: heard.clone() };
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                head(&mut stream);
                stream
                    .write_all(
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: cetera-peer/1\r\n\r\n",
                    )
                    .expect("answered");
                let mut all = heard.0.lock().expect("no panic");
                all.connections += 1;
                heard.1.notify_all();
                if reads {
                    let heard = heard.clone();
                    std::thread::spawn(move || read(stream, &heard));
                } else {
                    all.unread.push(stream);
                }
            }
        });
        fake
    }

    /// A connection to `address` that was welcomed.
    pub(super) fn dial(&self, hello: &str, address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).expect("listening");
        stream.write_all(hello.as_bytes()).expect("written");
        let answer = head(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        stream
    }

    fn wait<T>(&self, what: &str, mut f: impl FnMut(&mut Heard) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = self.heard.0.lock().expect("no panic");
        loop {
            if let Some(found) = f(&mut heard) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what}");
            heard = self.heard.1.wait_timeout(heard, left).expect("no panic").0;
        }
    }

    pub(super) fn wait_for_connections(&self, count: usize) {
        self.wait("connections", |heard| (heard.connections >= count).then_some(()));
    }

    pub(super) fn wait_for_messages(&self, count: usize) {
        self.wait("messages", |heard| (heard.messages.len() >= count).then_some(()));
    }

    /// Waits for a message of this kind and forgets all that came.
    pub(super) fn wait_for(&self, kind: MessageType) {
        self.wait("message", |heard| {
            let found = heard.messages.iter().any(|message| is(message, kind));
            found.then(|| heard.messages.clear())
        });
    }

    /// Begins to read, until a message of `kind`, which comes on another connection, and then what comes at once.
    pub(super) fn read_what_there_is(&self, kind: MessageType) -> Vec<PeerMessage> {
        let unread = std::mem::take(&mut self.heard.0.lock().expect("no panic").unread);
        for stream in unread {
            let heard = self.heard.clone();
            std::thread::spawn(move || read(stream, &heard));
        }
        self.wait("message", |heard| heard.messages.iter().any(|message| is(message, kind)).then_some(()));
        // Quiet for a while: everything that was kept has come.
        let mut count = 0;
        loop {
            let heard = self.heard.0.lock().expect("no panic");
            let (heard, timeout) =
                self.heard.1.wait_timeout(heard, std::time::Duration::from_millis(300)).expect("no panic");
            if timeout.timed_out() && heard.messages.len() == count {
                return heard.messages.clone();
            }
            count = heard.messages.len();
        }
    }
}

fn is(message: &PeerMessage, kind: MessageType) -> bool {
    matches!(&message.body, Some(Body::Raft(raft)) if raft.r#type() == kind)
}

fn read(mut stream: TcpStream, heard: &(Mutex<Heard>, Condvar)) {
    let mut splitter = Splitter::default();
    let mut piece = vec![0; 1 << 16];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        splitter.space().extend_from_slice(&piece[..count]);
        let mut all = heard.0.lock().expect("no panic");
        while let Some(message) = splitter.next().expect("good frames") {
            all.messages.push(message);
        }
        heard.1.notify_all();
    }
}

pub(super) fn frames(messages: &[PeerMessage]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    for message in messages {
        assert!(encoder.push(message.clone()));
    }
    encoder.take().pieces.concat()
}

pub(super) fn write(stream: &mut TcpStream, messages: &[PeerMessage]) {
    stream.write_all(&frames(messages)).expect("written");
}

/// A request or an answer: its head, and of a body what its length says.
pub(super) fn head(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut text = Vec::new();
    let mut byte = [0];
    let mut length = None;
    loop {
        match length {
            Some(end) if text.len() >= end => break,
            None if text.ends_with(b"\r\n\r\n") => {
                let head = String::from_utf8_lossy(&text).to_ascii_lowercase();
                let body = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                length = Some(text.len() + body.unwrap_or(0));
            }
            _ => match stream.read(&mut byte) {
                Ok(1) => text.push(byte[0]),
                _ => break,
            },
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
