//! The bytes of `mvccpb.KeyValue`, exactly as Go writes them: fields in ascending order, zero and empty ones omitted.
//! HashKV and snapshots depend on every one of these bytes (contract D-3).
//!
//! Holds the few protobuf primitives the store needs to frame payloads without decoding them. Knows no store and
//! does no I/O.

use bytes::{BufMut, BytesMut};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

const KEY: u8 = (1 << 3) | LENGTH as u8;
const CREATE_REVISION: u8 = 2 << 3;
const MOD_REVISION: u8 = 3 << 3;
const VERSION: u8 = 4 << 3;
const VALUE: u8 = (5 << 3) | LENGTH as u8;
const LEASE: u8 = 6 << 3;

/// Bytes of `value` as a protobuf varint.
pub(crate) const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value` as a protobuf varint.
pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Takes a varint off the front of `input`. None if it is cut short or longer than ten bytes.
pub(crate) fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, &byte) in input.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *input = &input[i + 1..];
            return Some(value);
        }
    }
    None
}

const fn int_field_len(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value as u64) }
}

const fn bytes_field_len(len: usize) -> usize {
    if len == 0 { 0 } else { 1 + varint_len(len as u64) + len }
}

fn put_int_field(out: &mut BytesMut, tag: u8, value: i64) {
    if value != 0 {
        out.put_u8(tag);
        put_varint(out, value as u64);
    }
}

fn put_bytes_field(out: &mut BytesMut, tag: u8, value: &[u8]) {
    if !value.is_empty() {
        out.put_u8(tag);
        put_varint(out, value.len() as u64);
        out.put_slice(value);
    }
}

/// One key-value pair, borrowing key and value from its encoded bytes (or from whoever encodes it).
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyValueRef<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Revision at which the key was created in its present life.
    pub create_revision: i64,
    /// Revision of this change.
    pub mod_revision: i64,
    /// Puts since creation, 1 for the first.
    pub version: i64,
    /// The value.
    pub value: &'a [u8],
    /// The attached lease, 0 for none.
    pub lease: i64,
}

impl<'a> KeyValueRef<'a> {
    /// Length of the encoding.
    pub(crate) fn encoded_len(&self) -> usize {
        bytes_field_len(self.key.len())
            + int_field_len(self.create_revision)
            + int_field_len(self.mod_revision)
            + int_field_len(self.version)
            + bytes_field_len(self.value.len())
            + int_field_len(self.lease)
    }

    /// Appends the encoding.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        put_bytes_field(out, KEY, self.key);
        put_int_field(out, CREATE_REVISION, self.create_revision);
        put_int_field(out, MOD_REVISION, self.mod_revision);
        put_int_field(out, VERSION, self.version);
        put_bytes_field(out, VALUE, self.value);
        put_int_field(out, LEASE, self.lease);
    }

    /// Reads an encoded `mvccpb.KeyValue`; unknown fields are skipped. None if the bytes are not one.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut kv = KeyValueRef::default();
        walk(payload, |field, bytes, int| match field {
            1 => kv.key = bytes,
            2 => kv.create_revision = int as i64,
            3 => kv.mod_revision = int as i64,
            4 => kv.version = int as i64,
            5 => kv.value = bytes,
            6 => kv.lease = int as i64,
            _ => {}
        })?;
        Some(kv)
    }

    /// [`KeyValueRef::decode`] of a payload of the revision log.
    ///
    /// # Panics
    /// If the bytes are not a KeyValue: the log verified their checksum, and only this crate writes them.
    pub(crate) fn of_payload(payload: &'a [u8]) -> Self {
        Self::decode(payload).expect("a checksummed payload of the revision log is a KeyValue")
    }
}

/// The key of a payload, without looking at the rest: it is the first field (and absent only if empty).
pub(crate) fn key_of_payload(payload: &[u8]) -> &[u8] {
    let mut rest = payload;
    if rest.first() != Some(&KEY) {
        return &[];
    }
    rest = &rest[1..];
    take_varint(&mut rest)
        .and_then(|len| rest.get(..usize::try_from(len).ok()?))
        .expect("a checksummed payload of the revision log begins with its key")
}

/// Splits a payload at its value field: the bytes before it and those after it (contract KV-5).
pub(crate) fn around_value(payload: &[u8]) -> (&[u8], &[u8]) {
    let kv = KeyValueRef::of_payload(payload);
    if kv.value.is_empty() {
        return (payload, &[]);
    }
    let end = kv.value.as_ptr() as usize - payload.as_ptr() as usize + kv.value.len();
    let start = end - bytes_field_len(kv.value.len());
    (&payload[..start], &payload[end..])
}

/// Calls `f(field number, bytes, integer)` for each field of a message. None if it is malformed.
fn walk<'a>(mut input: &'a [u8], mut f: impl FnMut(u64, &'a [u8], u64)) -> Option<()> {
    while !input.is_empty() {
        let tag = take_varint(&mut input)?;
        let field = tag >> 3;
        let skip = match tag & 7 {
            VARINT => {
                f(field, &[], take_varint(&mut input)?);
                0
            }
            LENGTH => {
                let len = usize::try_from(take_varint(&mut input)?).ok()?;
                f(field, input.get(..len)?, 0);
                len
            }
            FIXED64 => 8,
            FIXED32 => 4,
            _ => return None,
        };
        input = input.get(skip..)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kv: &KeyValueRef<'_>) -> Vec<u8> {
        let mut out = BytesMut::new();
        kv.encode(&mut out);
        assert_eq!(out.len(), kv.encoded_len());
        out.to_vec()
    }

    #[test]
    fn fields_ascend_and_zeros_are_omitted() {
        let kv =
            KeyValueRef { key: b"foo", create_revision: 2, mod_revision: 300, version: 1, value: b"bar", lease: 7 };
        let want = [&[0x0a, 3][..], b"foo", &[0x10, 2, 0x18, 0xac, 0x02, 0x20, 1, 0x2a, 3], b"bar", &[0x30, 7]];
        assert_eq!(bytes(&kv), want.concat());
        assert_eq!(bytes(&KeyValueRef { key: b"k", ..Default::default() }), [0x0a, 1, b'k']);
        // Go writes a negative int64 in ten bytes.
        let negative = KeyValueRef { key: b"k", lease: -1, ..Default::default() };
        assert_eq!(bytes(&negative).len(), 3 + 1 + 10);
    }

    #[test]
    fn decode_is_the_inverse() {
        for (value, lease) in [(&b""[..], 0), (b"v", 0), (b"", 9), (&[7u8; 300][..], -5)] {
            let kv = KeyValueRef {
                key: b"key",
                create_revision: 1 << 40,
                mod_revision: i64::MAX,
                version: 200,
                value,
                lease,
            };
            let encoded = bytes(&kv);
            assert_eq!(KeyValueRef::decode(&encoded), Some(kv));
            assert_eq!(key_of_payload(&encoded), b"key");
            let (head, tail) = around_value(&encoded);
            assert_eq!(KeyValueRef::decode(&[head, tail].concat()), Some(KeyValueRef { value: b"", ..kv }));
            for cut in 1..3 {
                assert_eq!(KeyValueRef::decode(&encoded[..cut]), None);
            }
        }
    }

    #[test]
    fn varints_of_every_width() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, (1u64 << shift) + 1] {
                let mut out = BytesMut::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value));
                let mut rest = &out[..];
                assert_eq!(take_varint(&mut rest), Some(value));
                assert!(rest.is_empty());
                assert_eq!(take_varint(&mut &out[..out.len() - 1]), None);
            }
        }
    }
}
