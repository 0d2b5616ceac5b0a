//! gRPC's own framing, header values and percent-encoding; no sockets.

use bytes::{Buf, Bytes, BytesMut};

use crate::seam::Status;

/// Bytes before each message: a compression flag and a big-endian length.
pub(crate) const PREFIX_BYTES: usize = 5;

/// gRPC code numbers.
pub(crate) mod code {
    pub(crate) const CANCELED: u32 = 1;
    pub(crate) const INVALID_ARGUMENT: u32 = 3;
    pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
    pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(crate) const UNIMPLEMENTED: u32 = 12;
    pub(crate) const INTERNAL: u32 = 13;
    pub(crate) const UNAVAILABLE: u32 = 14;
}

/// Cuts a byte stream into messages. A message that arrives in one piece is a slice of that piece.
#[derive(Debug)]
pub(crate) struct Assembler {
    /// Bytes of a message that is not whole yet, prefix included.
    partial: BytesMut,
    max_message_bytes: usize,
    /// `grpc-encoding` of the call, for the refusal of compressed messages.
    encoding: Option<Box<str>>,
}

impl Assembler {
    /// Messages longer than `max_message_bytes` are refused before they are collected (G-2).
    pub(crate) fn new(max_message_bytes: usize, encoding: Option<Box<str>>) -> Self {
        Assembler { partial: BytesMut::new(), max_message_bytes, encoding }
    }

    /// Whether the stream may end here.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.partial.is_empty()
    }

    /// Takes the next piece of the stream; hands whole messages to `message`.
    ///
    /// # Errors
    /// What grpc-go answers to a message that is compressed or too large.
    pub(crate) fn push(&mut self, mut chunk: Bytes, mut message: impl FnMut(Bytes)) -> Result<(), Status> {
        while !chunk.is_empty() {
            if self.partial.is_empty() {
                if let Some(len) = self.message_len(&chunk)?
                    && chunk.len() >= PREFIX_BYTES + len
                {
                    chunk.advance(PREFIX_BYTES);
                    message(chunk.split_to(len));
                    continue;
                }
                self.partial.extend_from_slice(&chunk);
                return Ok(());
            }
            let wanted = match self.message_len(&self.partial)? {
                Some(len) => PREFIX_BYTES + len,
                None => PREFIX_BYTES,
            };
            self.partial.reserve(wanted - self.partial.len());
            let taken = (wanted - self.partial.len()).min(chunk.len());
            self.partial.extend_from_slice(&chunk[..taken]);
            chunk.advance(taken);
            if let Some(len) = self.message_len(&self.partial)?
                && self.partial.len() == PREFIX_BYTES + len
            {
                let mut whole = std::mem::take(&mut self.partial).freeze();
                whole.advance(PREFIX_BYTES);
                message(whole);
            }
        }
        Ok(())
    }

    /// Length of the message whose prefix opens `bytes`; `None` while the prefix is not whole.
    fn message_len(&self, bytes: &[u8]) -> Result<Option<usize>, Status> {
        let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if prefix[0] != 0 {
            return Err(match &self.encoding {
                Some(encoding) if &**encoding != "identity" => Status {
                    code: code::UNIMPLEMENTED,
                    message: format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}"),
                },
                _ => Status {
                    code: code::INTERNAL,
                    message: "grpc: compressed flag set with identity or empty encoding".to_string(),
                },
            });
        }
        if len > self.max_message_bytes {
            return Err(Status {
                code: code::RESOURCE_EXHAUSTED,
                message: format!("grpc: received message larger than max ({len} vs. {})", self.max_message_bytes),
            });
        }
        Ok(Some(len))
    }
}

/// The prefix of a message of `len` bytes.
pub(crate) fn prefix(len: usize) -> [u8; PREFIX_BYTES] {
    let len = u32::try_from(len).expect("a response is below 4 GiB").to_be_bytes();
    [0, len[0], len[1], len[2], len[3]]
}

/// A call that has less time than this has none: no answer would reach its client. In nanoseconds.
const TIMEOUT_NS_MIN: u64 = 50_000;

/// Milliseconds of a `grpc-timeout` value, rounded up, or 0 if there is no time to do anything; `None` if malformed.
pub(crate) fn timeout_ms(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount = digits.iter().fold(0u64, |amount, digit| amount * 10 + u64::from(digit - b'0'));
    let ns = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    };
    // Eight digits of hours are more nanoseconds than fit: they are as good as no deadline.
    let ns = amount.saturating_mul(ns);
    Some(if ns < TIMEOUT_NS_MIN { 0 } else { ns.div_ceil(1_000_000) })
}

/// Whether a content type is gRPC's.
pub(crate) fn is_grpc(content_type: &[u8]) -> bool {
    content_type
        .strip_prefix(b"application/grpc")
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'+' || rest[0] == b';')
}

/// A status text as a `grpc-message` value: everything but printable ASCII, and `%`, percent-encoded.
pub(crate) fn percent_encode(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(messages: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            out.extend_from_slice(&prefix(message.len()));
            out.extend_from_slice(message);
        }
        out
    }

    #[test]
    fn any_cut_gives_the_same_messages() {
        let stream = framed(&[b"one", b"", b"three is longer"]);
        for size in 1..=stream.len() {
            let mut assembler = Assembler::new(64, None);
            let mut messages = Vec::new();
            for piece in stream.chunks(size) {
                assembler.push(Bytes::copy_from_slice(piece), |message| messages.push(message)).expect("valid");
            }
            assert_eq!(messages, [&b"one"[..], b"", b"three is longer"], "pieces of {size}");
            assert!(assembler.is_between_messages());
        }
    }

    #[test]
    fn whole_messages_are_not_copied() {
        let stream = Bytes::from(framed(&[b"abc"]));
        let mut seen = None;
        Assembler::new(64, None).push(stream.clone(), |message| seen = Some(message)).expect("valid");
        assert_eq!(seen.expect("one message").as_ptr(), stream[PREFIX_BYTES..].as_ptr());
    }

    #[test]
    fn refusals_are_grpc_gos() {
        let mut compressed = framed(&[b"x"]);
        compressed[0] = 1;
        let refusal = |encoding: Option<&str>, stream: &[u8]| {
            let mut assembler = Assembler::new(4, encoding.map(Box::from));
            assembler.push(Bytes::copy_from_slice(stream), |_| {}).expect_err("must refuse")
        };
        let status = refusal(Some("gzip"), &compressed);
        assert_eq!(
            (status.code, &*status.message),
            (12, "grpc: Decompressor is not installed for grpc-encoding \"gzip\"")
        );
        let status = refusal(None, &compressed);
        assert_eq!((status.code, &*status.message), (13, "grpc: compressed flag set with identity or empty encoding"));
        // Refused from the prefix alone, before anything is collected.
        let status = refusal(None, &prefix(5));
        assert_eq!((status.code, &*status.message), (8, "grpc: received message larger than max (5 vs. 4)"));
    }

    #[test]
    fn header_values() {
        assert_eq!(timeout_ms(b"5S"), Some(5_000));
        assert_eq!(timeout_ms(b"100u"), Some(1));
        assert_eq!((timeout_ms(b"49u"), timeout_ms(b"1n"), timeout_ms(b"0S")), (Some(0), Some(0), Some(0)));
        assert_eq!(timeout_ms(b"99999999H"), Some(u64::MAX.div_ceil(1_000_000)));
        for malformed in [&b""[..], b"S", b"5", b"5s", b"123456789S", b"-1S"] {
            assert_eq!(timeout_ms(malformed), None);
        }
        assert_eq!(percent_encode("50% of ü\n"), "50%25 of %C3%BC%0A");
        assert!(is_grpc(b"application/grpc") && is_grpc(b"application/grpc+proto") && is_grpc(b"application/grpc;x=y"));
        assert!(!is_grpc(b"application/grpcx") && !is_grpc(b"application/json"));
    }
}
