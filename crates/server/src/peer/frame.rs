//! Frames between members: length, CRC-32C, and one encoded `PeerMessage`.
//!
//! Writing copies small things into one buffer and passes long entries on as they are. Reading takes bytes cut anywhere
//! and gives messages that share the buffer they were read into. A frame without a message is a sign of life. What does
//! not parse ends the connection: after it nothing can be trusted to begin where a frame begins.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use cetera_proto::ceterapb::{PeerMessage, peer_message::Body};
use cetera_storage::crc::{crc32c, crc32c_append};
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};

/// Length and checksum, four bytes each, little end first.
pub(crate) const HEAD_BYTES: usize = 8;
/// Longest message; the bound of etcd's readers. Memory is taken as bytes arrive, never for a length alone.
pub(crate) const FRAME_BYTES_MAX: usize = 512 << 20;
/// A frame that says only that its sender is there.
pub(crate) const ALIVE: [u8; HEAD_BYTES] = [0; HEAD_BYTES];
/// Entries shorter than this are copied next to each other; longer ones are passed on as they are.
const COPY_BYTES_MAX: usize = 4 << 10;
/// Space for one read.
const READ_BYTES: usize = 64 << 10;
/// Space made at once for what is left of a long frame.
const READ_BYTES_MAX: usize = 1 << 20;

// Keys of fields: number and wire type.
const FROM: u8 = 1 << 3;
const TO: u8 = 2 << 3;
const RAFT: u8 = 3 << 3 | 2;
const ENTRIES: u8 = 7 << 3 | 2;
const DATA: u8 = 4 << 3 | 2;

/// Frames ready to be written.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    /// In order.
    pub(crate) pieces: Vec<Bytes>,
    /// Their lengths together.
    pub(crate) bytes: usize,
}

/// Puts messages into frames.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    arena: BytesMut,
    parcel: Parcel,
}

impl Encoder {
    /// Bytes gathered since the last [`Encoder::take`].
    pub(crate) fn bytes(&self) -> usize {
        self.parcel.bytes + self.arena.len()
    }

    /// Everything gathered.
    pub(crate) fn take(&mut self) -> Parcel {
        seal(&mut self.arena, &mut self.parcel);
        std::mem::take(&mut self.parcel)
    }

    /// Gathers one message. False, and nothing gathered, if it is longer than any frame.
    pub(crate) fn push(&mut self, message: PeerMessage) -> bool {
        match message.body {
            Some(Body::Raft(raft)) => self.push_raft(message.from, message.to, raft),
            _ => {
                let len = message.encoded_len();
                self.frame(len, |arena, _| message.encode_raw(arena))
            }
        }
    }

    fn push_raft(&mut self, from: u64, to: u64, mut raft: cetera_proto::raftpb::Message) -> bool {
        let entries = std::mem::take(&mut raft.entries);
        let lengths: Vec<usize> = entries.iter().map(prost::Message::encoded_len).collect();
        let of_entries: usize = lengths.iter().map(|len| field_len(*len)).sum();
        let raft_len = raft.encoded_len() + of_entries;
        let len = 2 + encoded_len_varint(from) + encoded_len_varint(to) + field_len(raft_len);
        self.frame(len, move |arena, cuts| {
            arena.put_u8(FROM);
            encode_varint(from, arena);
            arena.put_u8(TO);
            encode_varint(to, arena);
            arena.put_u8(RAFT);
            encode_varint(raft_len as u64, arena);
            raft.encode_raw(arena);
            for (mut entry, len) in entries.into_iter().zip(lengths) {
                arena.put_u8(ENTRIES);
                encode_varint(len as u64, arena);
                if entry.data.len() < COPY_BYTES_MAX {
                    entry.encode_raw(arena);
                    continue;
                }
                let data = std::mem::take(&mut entry.data);
                entry.encode_raw(arena);
                arena.put_u8(DATA);
                encode_varint(data.len() as u64, arena);
                cuts.push((arena.len(), data));
            }
        })
    }

    /// A frame of `len` bytes that `write` makes; what it does not copy it leaves as cuts into the buffer.
    fn frame(&mut self, len: usize, write: impl FnOnce(&mut BytesMut, &mut Vec<(usize, Bytes)>)) -> bool {
        if len > FRAME_BYTES_MAX {
            return false;
        }
        let arena = &mut self.arena;
        let start = arena.len();
        let mut cuts = Vec::new();
        arena.extend_from_slice(&(len as u32).to_le_bytes());
        arena.extend_from_slice(&[0; 4]);
        write(arena, &mut cuts);
        let (mut crc, mut at, mut written) = (0, start + HEAD_BYTES, 0);
        for (cut, data) in &cuts {
            crc = crc32c_append(crc32c_append(crc, &arena[at..*cut]), data);
            written += cut - at + data.len();
            at = *cut;
        }
        crc = crc32c_append(crc, &arena[at..]);
        written += arena.len() - at;
        assert_eq!(written, len, "a frame is as long as its head says");
        arena[start + 4..start + HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
        let mut gone = 0;
        for (cut, data) in cuts {
            let small = arena.split_to(cut - gone).freeze();
            gone = cut;
            self.parcel.bytes += small.len() + data.len();
            self.parcel.pieces.push(small);
            self.parcel.pieces.push(data);
        }
        true
    }
}

fn seal(arena: &mut BytesMut, parcel: &mut Parcel) {
    if !arena.is_empty() {
        parcel.bytes += arena.len();
        parcel.pieces.push(arena.split().freeze());
    }
}

/// A field of `len` bytes with its key and length.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// What no sender puts on the wire.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum FrameError {
    /// Longer than frames may be here.
    TooLong(usize),
    /// The checksum is another.
    Checksum,
    /// No `PeerMessage`.
    Malformed,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "a frame of {len} bytes"),
            Self::Checksum => f.write_str("a frame with a wrong checksum"),
            Self::Malformed => f.write_str("a frame that holds no message"),
        }
    }
}

/// One message in one frame, copied.
pub(crate) fn whole(message: &impl prost::Message) -> Vec<u8> {
    let len = message.encoded_len();
    let mut out = Vec::with_capacity(HEAD_BYTES + len);
    out.extend_from_slice(&(len as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    message.encode_raw(&mut out);
    let crc = crc32c(&out[HEAD_BYTES..]);
    out[4..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Takes frames out of a stream.
#[derive(Debug)]
pub(crate) struct Splitter {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::new(FRAME_BYTES_MAX)
    }
}

impl Splitter {
    /// For frames of at most so many bytes.
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max }
    }

    /// Where to read to: as much space as is wanted now.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        let missing = match self.head() {
            Some((len, _)) => (HEAD_BYTES + len.min(self.frame_bytes_max)).saturating_sub(self.buffer.len()),
            None => 0,
        };
        let wanted = missing.clamp(READ_BYTES, READ_BYTES_MAX);
        if self.buffer.capacity() - self.buffer.len() < wanted.min(READ_BYTES / 4) || missing > READ_BYTES {
            self.buffer.reserve(wanted);
        }
        &mut self.buffer
    }

    /// Bytes read and not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The next message that is there as a whole.
    pub(crate) fn next(&mut self) -> Result<Option<PeerMessage>, FrameError> {
        while let Some(body) = self.take()? {
            // Else a sign of life.
            if !body.is_empty() {
                return PeerMessage::decode(body).map(Some).map_err(|_| FrameError::Malformed);
            }
        }
        Ok(None)
    }

    /// What the next frame holds that is there as a whole. That may be nothing: a message whose fields are all 0, such as
    /// the position of a snapshot's start.
    pub(crate) fn take(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some((len, crc)) = self.head() else { return Ok(None) };
        if len > self.frame_bytes_max {
            return Err(FrameError::TooLong(len));
        }
        if self.buffer.len() < HEAD_BYTES + len {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(HEAD_BYTES + len).freeze();
        let body = frame.split_off(HEAD_BYTES);
        if crc32c(&body) != crc {
            return Err(FrameError::Checksum);
        }
        Ok(Some(body))
    }

    fn head(&self) -> Option<(usize, u32)> {
        let head = self.buffer.first_chunk::<HEAD_BYTES>()?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        Some((number(0) as usize, number(4)))
    }
}

#[cfg(test)]
mod tests {
    use cetera_proto::raftpb;

    use super::*;

    #[test]
    fn a_message_of_zeros_is_a_message_and_a_sign_of_life_is_none() {
        let mut splitter = Splitter::default();
        splitter.space().extend_from_slice(&whole(&cetera_proto::ceterapb::SnapshotPosition::default()));
        assert_eq!(splitter.take(), Ok(Some(Bytes::new())));
        splitter.space().extend_from_slice(&ALIVE);
        assert_eq!(splitter.next(), Ok(None));
        assert_eq!(splitter.len(), 0);
    }

    fn append(sizes: &[usize]) -> PeerMessage {
        let entry = |(at, size): (usize, &usize)| raftpb::Entry {
            term: 3,
            index: at as u64 + 1,
            data: vec![at as u8; *size].into(),
            ..Default::default()
        };
        let mut message = raftpb::Message {
            from: 1,
            to: u64::MAX,
            term: 3,
            commit: 9,
            context: "context".into(),
            entries: sizes.iter().enumerate().map(entry).collect(),
            ..Default::default()
        };
        message.set_type(raftpb::MessageType::MsgApp);
        message.into()
    }

    fn written(messages: &[PeerMessage]) -> Vec<u8> {
        let mut encoder = Encoder::default();
        for message in messages {
            assert!(encoder.push(message.clone()));
        }
        let bytes = encoder.bytes();
        let parcel = encoder.take();
        assert_eq!(parcel.bytes, bytes);
        let out = parcel.pieces.concat();
        assert_eq!(out.len(), bytes);
        out
    }

    fn read(pieces: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<PeerMessage>, FrameError> {
        let mut splitter = Splitter::default();
        let mut found = Vec::new();
        for piece in pieces {
            splitter.space().extend_from_slice(&piece);
            while let Some(message) = splitter.next()? {
                found.push(message);
            }
        }
        Ok(found)
    }

    #[test]
    fn what_is_written_is_read_however_it_is_cut() {
        let messages = [append(&[]), append(&[0, 1, 5_000, 10, 9_000]), append(&[100; 40]), append(&[70_000])];
        let mut stream = written(&messages);
        stream.splice(0..0, ALIVE);
        stream.extend_from_slice(&ALIVE);
        for step in [1, 7, 8, 9, 4_096, stream.len()] {
            let pieces = stream.chunks(step).map(<[u8]>::to_vec);
            assert_eq!(read(pieces).expect("good frames"), messages, "pieces of {step}");
        }
    }

    #[test]
    fn long_entries_are_not_copied() {
        let message = append(&[8_192]);
        let Some(Body::Raft(raft)) = &message.body else { panic!("made so") };
        let data = raft.entries[0].data.clone();
        let mut encoder = Encoder::default();
        assert!(encoder.push(message));
        assert!(encoder.take().pieces.iter().any(|piece| piece.as_ptr() == data.as_ptr()));
    }

    #[test]
    fn what_no_sender_writes_is_refused() {
        let good = written(&[append(&[10])]);
        let mut flipped = good.clone();
        *flipped.last_mut().expect("not empty") ^= 1;
        assert_eq!(read([flipped]).expect_err("flipped"), FrameError::Checksum);
        let mut long = good;
        long[..4].copy_from_slice(&(FRAME_BYTES_MAX as u32 + 1).to_le_bytes());
        assert_eq!(read([long]).expect_err("long"), FrameError::TooLong(FRAME_BYTES_MAX + 1));
        let junk = [0xff_u8; 3];
        let mut frame = vec![3, 0, 0, 0];
        frame.extend_from_slice(&crc32c(&junk).to_le_bytes());
        frame.extend_from_slice(&junk);
        assert_eq!(read([frame]).expect_err("junk"), FrameError::Malformed);
    }

    /// A length alone costs nothing.
    #[test]
    fn memory_is_taken_as_bytes_arrive() {
        let mut splitter = Splitter::default();
        splitter.space().extend_from_slice(&(FRAME_BYTES_MAX as u32).to_le_bytes());
        splitter.space().extend_from_slice(&[0; 4]);
        assert!(splitter.space().capacity() <= 2 * READ_BYTES_MAX);
        assert_eq!(splitter.next(), Ok(None));
    }
}
