//! A gRPC connection over HTTP/2 with prior knowledge.
//!
//! Gives the server receive windows so large that they never close, and puts all request headers into the dynamic table
//! on first use. Respects the connection's send window; a request must fit a stream's first window (64 KiB).

use std::io;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Bytes of a frame's head.
const FRAME_HEAD: usize = 9;
/// Bytes of payload in a frame at most.
const MAX_FRAME: usize = 16_384;
/// Bytes in front of a gRPC message.
pub const MESSAGE_HEAD: usize = 5;
/// Receive window of the connection and of each stream. Bytes.
const RECEIVE_WINDOW: u32 = 1 << 30;
/// Received bytes after which a window is opened again.
const REOPEN_AT: u64 = 1 << 28;
/// Bytes read at once at least.
const READ: usize = 1 << 16;

/// A frame that belongs to a call; its payload lies in [`Connection::payload`].
#[derive(Copy, Clone, Debug)]
pub struct Frame {
    /// The call.
    pub stream: u32,
    /// Part of a message; otherwise headers, trailers or a reset.
    pub is_data: bool,
    /// The last of the call.
    pub ends: bool,
    from: usize,
    to: usize,
}

impl Frame {
    /// Bytes of payload.
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// No payload.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    received: BytesMut,
    /// Bytes of `received` that the frames handed out lie in.
    used: usize,
    output: Vec<u8>,
    next_stream: u32,
    /// Bytes that may still be sent.
    window: i64,
    received_since_update: u64,
    /// What is in the dynamic table, oldest first.
    table: Vec<(&'static str, String)>,
    authority: String,
    frames: Vec<Frame>,
}

fn head(to: &mut Vec<u8>, len: usize, kind: u8, flags: u8, stream: u32) {
    to.extend_from_slice(&[(len >> 16) as u8, (len >> 8) as u8, len as u8, kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// No connection.
    pub async fn open(address: &str) -> io::Result<Connection> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let mut output = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        head(&mut output, 12, SETTINGS, 0, 0);
        output.extend_from_slice(&[0, 4]); // INITIAL_WINDOW_SIZE
        output.extend_from_slice(&RECEIVE_WINDOW.to_be_bytes());
        output.extend_from_slice(&[0, 2, 0, 0, 0, 0]); // ENABLE_PUSH: no
        head(&mut output, 4, WINDOW_UPDATE, 0, 0);
        output.extend_from_slice(&RECEIVE_WINDOW.to_be_bytes());
        Ok(Connection {
            socket,
            received: BytesMut::with_capacity(READ),
            used: 0,
            output,
            next_stream: 1,
            window: 65_535,
            received_since_update: 0,
            table: Vec::new(),
            authority: address.to_owned(),
            frames: Vec::new(),
        })
    }

    /// Whether a message of so many bytes may be sent now.
    pub fn has_room(&self, message: usize) -> bool {
        self.window >= (message + MESSAGE_HEAD) as i64
    }

    /// Begins a call with its first message; returns its stream.
    pub fn start(&mut self, path: &'static str, message: &[u8], ends: bool) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let mut block = vec![0x83, 0x86]; // :method POST, :scheme http
        let authority = std::mem::take(&mut self.authority);
        self.field(&mut block, ":path", 4, path);
        self.field(&mut block, ":authority", 1, &authority);
        self.field(&mut block, "content-type", 31, "application/grpc");
        self.field(&mut block, "te", 0, "trailers");
        self.authority = authority;
        head(&mut self.output, block.len(), HEADERS, END_HEADERS, stream);
        self.output.extend_from_slice(&block);
        self.send(stream, message, ends);
        stream
    }

    /// One header field: from the dynamic table, or into it.
    fn field(&mut self, block: &mut Vec<u8>, name: &'static str, static_name: u8, value: &str) {
        if let Some(n) = self.table.iter().position(|(known, text)| *known == name && text == value) {
            block.push(0x80 | (62 + self.table.len() - 1 - n) as u8);
            return;
        }
        block.push(0x40 | static_name);
        if static_name == 0 {
            block.push(name.len() as u8);
            block.extend_from_slice(name.as_bytes());
        }
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
        self.table.push((name, value.to_owned()));
    }

    /// Sends a message of a call.
    pub fn send(&mut self, stream: u32, message: &[u8], ends: bool) {
        let total = MESSAGE_HEAD + message.len();
        assert!(total < 65_536, "a request must fit a stream's first window");
        self.window -= total as i64;
        let first = message.len().min(MAX_FRAME - MESSAGE_HEAD);
        let (first, mut rest) = message.split_at(first);
        let end = |last: bool| if ends && last { END_STREAM } else { 0 };
        head(&mut self.output, MESSAGE_HEAD + first.len(), DATA, end(rest.is_empty()), stream);
        self.output.push(0);
        self.output.extend_from_slice(&(message.len() as u32).to_be_bytes());
        self.output.extend_from_slice(first);
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(MAX_FRAME));
            head(&mut self.output, chunk.len(), DATA, end(after.is_empty()), stream);
            self.output.extend_from_slice(chunk);
            rest = after;
        }
    }

    /// Opens a stream's receive window by this much.
    pub fn reopen(&mut self, stream: u32, bytes: u32) {
        head(&mut self.output, 4, WINDOW_UPDATE, 0, stream);
        self.output.extend_from_slice(&bytes.to_be_bytes());
    }

    /// Writes what is to be sent.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            self.socket.write_all(&self.output).await?;
            self.output.clear();
        }
        Ok(())
    }

    /// Writes, reads once, and hands out the whole frames; their payload is there until the next call.
    ///
    /// # Errors
    /// The connection broke, or the server said goodbye.
    pub async fn pump(&mut self) -> io::Result<Vec<Frame>> {
        self.received.advance(std::mem::take(&mut self.used));
        self.flush().await?;
        self.received.reserve(READ / 4);
        if self.socket.read_buf(&mut self.received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut frames = std::mem::take(&mut self.frames);
        frames.clear();
        while let Some((frame_head, _)) = self.received[self.used..].split_first_chunk::<FRAME_HEAD>() {
            let [a, b, c, kind, flags, stream @ ..] = *frame_head;
            let from = self.used + FRAME_HEAD;
            let to = from + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
            if to > self.received.len() {
                break;
            }
            self.used = to;
            let stream = u32::from_be_bytes(stream) & !(1 << 31);
            match kind {
                DATA | HEADERS | RST_STREAM => {
                    let is_data = kind == DATA;
                    let ends = flags & END_STREAM != 0 || kind == RST_STREAM;
                    self.received_since_update += if is_data { (to - from) as u64 } else { 0 };
                    frames.push(Frame { stream, is_data, ends, from, to });
                }
                _ => self.control(kind, flags, stream, from..to)?,
            }
        }
        if self.received_since_update > REOPEN_AT {
            let bytes = std::mem::take(&mut self.received_since_update);
            self.reopen(0, bytes as u32);
        }
        Ok(frames)
    }

    fn control(&mut self, kind: u8, flags: u8, stream: u32, at: std::ops::Range<usize>) -> io::Result<()> {
        match kind {
            SETTINGS if flags & ACK == 0 => head(&mut self.output, 0, SETTINGS, ACK, 0),
            PING if flags & ACK == 0 => {
                head(&mut self.output, 8, PING, ACK, 0);
                self.output.extend_from_slice(&self.received[at]);
            }
            WINDOW_UPDATE if stream == 0 => {
                let bytes = self.received[at].first_chunk().ok_or(io::ErrorKind::InvalidData)?;
                self.window += i64::from(u32::from_be_bytes(*bytes));
            }
            GOAWAY => return Err(io::Error::other("the server sent GOAWAY")),
            _ => {}
        }
        Ok(())
    }

    /// The payload of a frame.
    pub fn payload(&self, frame: &Frame) -> &[u8] {
        &self.received[frame.from..frame.to]
    }

    /// Takes the list of frames back, to be used again.
    pub fn give_back(&mut self, frames: Vec<Frame>) {
        self.frames = frames;
    }
}

/// The messages of a call that streams, put together from its frames.
#[derive(Debug, Default)]
pub struct Messages {
    buffer: Vec<u8>,
    received_since_update: u64,
}

impl Messages {
    /// Takes a payload; returns how far the stream's window should be opened, if it should.
    pub fn take(&mut self, payload: &[u8]) -> Option<u32> {
        self.buffer.extend_from_slice(payload);
        self.received_since_update += payload.len() as u64;
        (self.received_since_update > REOPEN_AT).then(|| std::mem::take(&mut self.received_since_update) as u32)
    }

    /// Calls `each` with every whole message.
    ///
    /// # Errors
    /// The first that `each` returns.
    pub fn drain<E>(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut at = 0;
        while let Some((message_head, rest)) = self.buffer[at..].split_first_chunk::<MESSAGE_HEAD>() {
            let [_, len @ ..] = *message_head;
            let Some(message) = rest.get(..u32::from_be_bytes(len) as usize) else { break };
            at += MESSAGE_HEAD + message.len();
            each(message)?;
        }
        self.buffer.drain(..at);
        Ok(())
    }
}
