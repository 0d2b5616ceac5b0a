//! The few protobuf primitives with which responses are written straight into one buffer, without building messages.

use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_varint, encoded_len_varint, skip_field,
};

/// `ResponseHeader.revision`.
const HEADER_REVISION: u32 = 3;
/// `header` of every response.
pub(crate) const HEADER: u32 = 1;

/// Appends an integer field; zero is omitted, as Go omits it.
pub(crate) fn int_field(out: &mut BytesMut, field: u32, value: i64) {
    if value != 0 {
        key(out, field, WireType::Varint);
        encode_varint(value as u64, out);
    }
}

/// Appends a boolean field; false is omitted.
pub(crate) fn bool_field(out: &mut BytesMut, field: u32, value: bool) {
    int_field(out, field, i64::from(value));
}

/// Appends an embedded message whose bytes are at hand; an empty one is written too.
pub(crate) fn bytes_field(out: &mut BytesMut, field: u32, message: &[u8]) {
    out.reserve(11 + message.len());
    key(out, field, WireType::LengthDelimited);
    encode_varint(message.len() as u64, out);
    out.put_slice(message);
}

/// Appends an embedded message whose bytes `write` appends. They are moved once, to make room for their length.
pub(crate) fn message_field<E>(
    out: &mut BytesMut,
    field: u32,
    write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
) -> Result<(), E> {
    key(out, field, WireType::LengthDelimited);
    let start = out.len();
    out.put_u8(0);
    write(out)?;
    let len = out.len() - start - 1;
    let width = encoded_len_varint(len as u64);
    if width > 1 {
        let end = out.len();
        out.put_bytes(0, width - 1);
        out.copy_within(start + 1..end, start + width);
    }
    encode_varint(len as u64, &mut &mut out[start..start + width]);
    Ok(())
}

/// Appends the header of a response inside a transaction: a revision and nothing else (TX-9).
pub(crate) fn revision_header(out: &mut BytesMut, revision: i64) {
    let done: Result<(), Infallible> = message_field(out, HEADER, |out| {
        int_field(out, HEADER_REVISION, revision);
        Ok(())
    });
    let Ok(()) = done;
}

fn key(out: &mut BytesMut, field: u32, wire_type: WireType) {
    prost::encoding::encode_key(field, wire_type, out);
}

/// One top-level field of a message.
pub(crate) enum Field {
    Int(u64),
    /// Shares the buffer it came from.
    Message(Bytes),
    /// Of another wire type, skipped.
    Other,
}

/// Takes the next field off the front of `input`; None at its end. An error says what is wrong.
pub(crate) fn next_field(input: &mut Bytes) -> Result<Option<(u32, Field)>, String> {
    if input.is_empty() {
        return Ok(None);
    }
    let text = |error: prost::DecodeError| error.to_string();
    let (number, wire_type) = decode_key(input).map_err(text)?;
    let field = match wire_type {
        WireType::Varint => Field::Int(decode_varint(input).map_err(text)?),
        WireType::LengthDelimited => {
            let len = decode_varint(input).map_err(text)?;
            let len = usize::try_from(len).ok().filter(|&len| len <= input.len());
            Field::Message(input.split_to(len.ok_or_else(|| format!("field {number} is cut short"))?))
        }
        other => {
            skip_field(other, number, input, DecodeContext::default()).map_err(text)?;
            Field::Other
        }
    };
    Ok(Some((number, field)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cetera_proto::etcdserverpb::{PutResponse, ResponseHeader, ResponseOp, TxnResponse, response_op::Response};
    use prost::Message;

    #[test]
    fn messages_of_every_length_width() {
        for len in [0, 1, 127, 128, 300, 16_383, 16_384, 3_000_000] {
            let mut out = BytesMut::from(&b"before"[..]);
            let content: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let done: Result<(), Infallible> = message_field(&mut out, 3, |out| {
                out.put_slice(&content);
                Ok(())
            });
            done.unwrap();
            let mut want = BytesMut::from(&b"before"[..]);
            bytes_field(&mut want, 3, &content);
            assert!(out == want, "length {len}");
        }
    }

    #[test]
    fn written_as_the_generated_types_write() {
        let put = PutResponse { header: Some(ResponseHeader { revision: 300, ..Default::default() }), prev_kv: None };
        let op = ResponseOp { response: Some(Response::ResponsePut(put)) };
        let want = TxnResponse { header: None, succeeded: true, responses: vec![op] }.encode_to_vec();
        let mut out = BytesMut::new();
        bool_field(&mut out, 2, true);
        let done: Result<(), Infallible> = message_field(&mut out, 3, |out| {
            message_field(out, 2, |out| {
                revision_header(out, 300);
                Ok(())
            })
        });
        done.unwrap();
        assert_eq!(out, want);
    }

    #[test]
    fn fields_are_walked_without_a_copy() {
        let mut out = BytesMut::new();
        int_field(&mut out, 1, -1);
        bytes_field(&mut out, 20_001, b"xyz");
        out.put_slice(&[(9 << 3) | 5, 1, 2, 3, 4]);
        let whole = out.freeze();
        let mut input = whole.clone();
        assert!(matches!(next_field(&mut input), Ok(Some((1, Field::Int(u64::MAX))))));
        match next_field(&mut input) {
            Ok(Some((20_001, Field::Message(bytes)))) => {
                assert_eq!(bytes, &b"xyz"[..]);
                assert!(whole.as_ptr_range().contains(&bytes.as_ptr()));
            }
            _ => panic!("a message is next"),
        }
        assert!(matches!(next_field(&mut input), Ok(Some((9, Field::Other)))));
        assert!(matches!(next_field(&mut input), Ok(None)));
        for cut in 1..whole.len() {
            let mut input = whole.slice(..cut);
            let end = loop {
                match next_field(&mut input) {
                    Ok(Some(_)) => {}
                    end => break end.is_ok(),
                }
            };
            assert_eq!(end, [11, 18].contains(&cut), "cut at {cut}");
        }
    }
}
