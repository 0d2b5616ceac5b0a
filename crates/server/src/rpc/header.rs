//! Response headers as bytes: field 1 of every response, made once per revision and put in front of what apply made.

use bytes::{BufMut, Bytes, BytesMut};

/// Most bytes of a header field: tag, length, four fields of a tag and a varint each.
pub(crate) const HEADER_BYTES_MAX: usize = 2 + 4 * 11;

/// Writes headers of one member.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    /// Fields cluster_id and member_id.
    ids: Vec<u8>,
    term: u64,
    /// The last header made.
    last: (i64, u64, Bytes),
}

impl Headers {
    pub(crate) fn new(cluster_id: u64, member_id: u64) -> Self {
        let mut ids = Vec::with_capacity(22);
        put_field(&mut ids, 1, cluster_id);
        put_field(&mut ids, 2, member_id);
        Headers { ids, term: 0, last: (-1, 0, Bytes::new()) }
    }

    /// The term that headers tell from now on.
    pub(crate) fn set_term(&mut self, term: u64) {
        self.term = term;
    }

    /// Appends the header field (number 1) with this revision; 0 leaves the revision out (C-8).
    pub(crate) fn put(&self, revision: i64, out: &mut BytesMut) {
        out.reserve(HEADER_BYTES_MAX);
        let revision = revision as u64;
        let len = self.ids.len() + field_len(revision) + field_len(self.term);
        out.put_u8(1 << 3 | 2);
        out.put_u8(u8::try_from(len).expect("a header is at most 44 bytes"));
        out.put_slice(&self.ids);
        put_field(out, 3, revision);
        put_field(out, 4, self.term);
    }

    /// The header field with this revision. Neighbouring answers share it.
    pub(crate) fn shared(&mut self, revision: i64) -> Bytes {
        if self.last.0 != revision || self.last.1 != self.term {
            let mut out = BytesMut::with_capacity(HEADER_BYTES_MAX);
            self.put(revision, &mut out);
            self.last = (revision, self.term, out.freeze());
        }
        self.last.2.clone()
    }
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Bytes of a varint.
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// A varint field with a number below 16; nothing if the value is 0.
fn put_field(out: &mut impl BufMut, number: u8, value: u64) {
    if value != 0 {
        out.put_u8(number << 3);
        put_varint(out, value);
    }
}

fn field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cetera_proto::etcdserverpb::{PutResponse, ResponseHeader};
    use prost::Message as _;

    #[test]
    fn bytes_are_what_prost_reads() {
        for (cluster_id, member_id, revision, raft_term) in
            [(u64::MAX, 1 << 63, i64::MAX, u64::MAX), (1, 2, 3, 4), (0, 0, 0, 0), (300, 128, 0, 127)]
        {
            let mut headers = Headers::new(cluster_id, member_id);
            headers.set_term(raft_term);
            let response = PutResponse {
                header: Some(ResponseHeader { cluster_id, member_id, revision, raft_term }),
                ..Default::default()
            };
            assert_eq!(headers.shared(revision), response.encode_to_vec());
            assert!(headers.shared(revision).len() <= HEADER_BYTES_MAX);
        }
    }

    #[test]
    fn varint_lengths() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
    }
}
