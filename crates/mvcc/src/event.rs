//! One change of the store, as the watch hub and the history of a key hand it on: encoded once, sent many times.

use bytes::{BufMut, Bytes, BytesMut};
use cetera_storage::{revision::Revision, revlog::Location};

use crate::encode::{KeyValueRef, put_varint, varint_len};

const TYPE: u8 = 1 << 3;
const TYPE_DELETE: u8 = 1;
const KV: u8 = (2 << 3) | 2;

/// One change, as the watch hub and history hand it on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EventRec {
    /// Where the change stands in the history.
    pub revision: Revision,
    /// Whether the key was deleted.
    pub tombstone: bool,
    /// The key.
    pub key: Bytes,
    /// The encoded `mvccpb.Event` without `prev_kv`: a put omits its type (0) and carries the whole KeyValue, a
    /// delete has type 1 and a KeyValue of key and mod_revision.
    pub event: Bytes,
    /// The live predecessor at mod_revision - 1, for `prev_kv` (W-9). Locations move when the log is rewritten: a
    /// reader that may be newer than this event asks [`View::previous`](crate::View::previous) instead.
    pub previous: Option<Location>,
}

/// Appends an Event of type PUT around `payload_len` bytes that `payload` appends. Returns where the payload begins.
pub(crate) fn encode_put(out: &mut BytesMut, kv: &KeyValueRef<'_>) -> usize {
    let len = kv.encoded_len();
    out.reserve(1 + varint_len(len as u64) + len);
    out.put_u8(KV);
    put_varint(out, len as u64);
    let start = out.len();
    kv.encode(out);
    start
}

/// Appends an Event of type PUT around an encoded KeyValue. Returns where the payload begins.
pub(crate) fn encode_put_payload(out: &mut BytesMut, payload: &[u8]) -> usize {
    out.reserve(1 + varint_len(payload.len() as u64) + payload.len());
    out.put_u8(KV);
    put_varint(out, payload.len() as u64);
    let start = out.len();
    out.put_slice(payload);
    start
}

/// Appends an Event of type DELETE. Returns where its KeyValue begins.
pub(crate) fn encode_delete(out: &mut BytesMut, key: &[u8], mod_revision: i64) -> usize {
    let kv = KeyValueRef { key, mod_revision, ..Default::default() };
    let len = kv.encoded_len();
    out.reserve(3 + varint_len(len as u64) + len);
    out.put_slice(&[TYPE, TYPE_DELETE, KV]);
    put_varint(out, len as u64);
    let start = out.len();
    kv.encode(out);
    start
}

/// Where the key lies inside a KeyValue that begins at `payload`: behind its tag and its length.
pub(crate) fn key_range(payload: usize, key_len: usize) -> std::ops::Range<usize> {
    let start = payload + if key_len == 0 { 0 } else { 1 + varint_len(key_len as u64) };
    start..start + key_len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_wraps_the_payload_and_omits_its_type() {
        let kv = KeyValueRef { key: b"k", create_revision: 2, mod_revision: 2, version: 1, value: b"v", lease: 0 };
        let mut out = BytesMut::new();
        let start = encode_put(&mut out, &kv);
        assert_eq!(&out[..], [&[0x12, 12][..], &[0x0a, 1, b'k', 0x10, 2, 0x18, 2, 0x20, 1, 0x2a, 1, b'v']].concat());
        assert_eq!(&out[key_range(start, 1)], b"k");
        let mut again = BytesMut::new();
        assert_eq!(encode_put_payload(&mut again, &out[start..]), start);
        assert_eq!(again, out);
    }

    #[test]
    fn a_delete_carries_type_key_and_mod_revision() {
        let mut out = BytesMut::new();
        let start = encode_delete(&mut out, b"k", 5);
        assert_eq!(&out[..], &[0x08, 1, 0x12, 5, 0x0a, 1, b'k', 0x18, 5]);
        assert_eq!(&out[key_range(start, 1)], b"k");
    }
}
