//! Messages of one call gathered in the form in which they leave: each behind its gRPC prefix.

use bytes::{Buf, Bytes, BytesMut};

use crate::front::message::{PREFIX_BYTES, prefix};

/// Parts shorter than this are copied in between their neighbours; longer ones are passed on as they are.
const COPY_BYTES_MAX: usize = 4 << 10;
/// A piece that has this many bytes is closed.
const PIECE_BYTES: usize = 64 << 10;

/// Messages of one call, framed.
#[derive(Debug, Default)]
pub struct Framed {
    pieces: Vec<Bytes>,
    open: BytesMut,
    count: usize,
    bytes: usize,
}

impl Framed {
    /// Appends a message of two parts. The second may be shared with other calls.
    pub fn push(&mut self, head: &[u8], tail: &Bytes) {
        let len = head.len() + tail.len();
        self.count += 1;
        self.bytes += len;
        if self.open.len() >= PIECE_BYTES {
            self.seal();
        }
        let copied = PREFIX_BYTES + head.len() + if tail.len() < COPY_BYTES_MAX { tail.len() } else { 0 };
        // The first message gets what it needs; those that follow double it.
        self.open.reserve(copied);
        self.open.extend_from_slice(&prefix(len));
        self.open.extend_from_slice(head);
        if tail.len() < COPY_BYTES_MAX {
            self.open.extend_from_slice(tail);
        } else {
            self.seal();
            self.pieces.push(tail.clone());
        }
    }

    fn seal(&mut self) {
        if !self.open.is_empty() {
            self.pieces.push(std::mem::take(&mut self.open).freeze());
        }
    }

    /// Whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the messages without their prefixes.
    pub fn message_bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes to send.
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        self.seal();
        self.pieces
    }

    /// The messages one by one, for fronts that do not speak gRPC.
    pub fn into_messages(self) -> Vec<Bytes> {
        let mut bytes = Bytes::from(self.into_pieces().concat());
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            bytes.advance(1);
            let len = bytes.get_u32() as usize;
            messages.push(bytes.split_to(len));
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut framed = Framed::default();
        let tails: Vec<Bytes> =
            [0, 1, 100, COPY_BYTES_MAX - 1, COPY_BYTES_MAX, 200_000].iter().map(|len| vec![7; *len].into()).collect();
        let mut expected = Vec::new();
        for round in 0..30u8 {
            for tail in &tails {
                framed.push(&[round; 20], tail);
                expected.push([&[round; 20][..], tail].concat());
            }
        }
        assert_eq!(framed.message_bytes(), expected.iter().map(Vec::len).sum::<usize>());
        assert_eq!(framed.into_messages(), expected);
    }

    #[test]
    fn long_tails_are_not_copied() {
        let tail = Bytes::from(vec![1; COPY_BYTES_MAX]);
        let mut framed = Framed::default();
        framed.push(b"head", &tail);
        assert!(framed.into_pieces().iter().any(|piece| piece.as_ptr() == tail.as_ptr()));
    }
}
