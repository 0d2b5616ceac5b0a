//! Just enough protobuf for the requests of the load.

/// `etcdserverpb.KV/Put`.
pub const PUT: &str = "/etcdserverpb.KV/Put";
/// `etcdserverpb.KV/Range`.
pub const RANGE: &str = "/etcdserverpb.KV/Range";
/// `etcdserverpb.KV/Txn`.
pub const TXN: &str = "/etcdserverpb.KV/Txn";
/// `etcdserverpb.Lease/LeaseGrant`.
pub const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
/// `etcdserverpb.Lease/LeaseKeepAlive`.
pub const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// `etcdserverpb.Watch/Watch`.
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}

/// A number field; 0 is left out.
pub fn number(to: &mut Vec<u8>, field: u32, value: i64) {
    if value != 0 {
        varint(to, u64::from(field << 3));
        varint(to, value as u64);
    }
}

/// A bytes field, also when empty.
pub fn bytes(to: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(to, u64::from(field << 3 | 2));
    varint(to, value.len() as u64);
    to.extend_from_slice(value);
}

/// `PutRequest`.
pub fn put(to: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    bytes(to, 1, key);
    bytes(to, 2, value);
}

/// `RangeRequest`; an empty `end` is one key, `limit` 0 is none.
pub fn range(to: &mut Vec<u8>, key: &[u8], end: &[u8], limit: i64) {
    bytes(to, 1, key);
    if !end.is_empty() {
        bytes(to, 2, end);
    }
    number(to, 3, limit);
}

/// `TxnRequest` of the Kubernetes API server: if the key was last written at `revision`, put, else get.
pub fn compare_and_put(to: &mut Vec<u8>, key: &[u8], revision: i64, value: &[u8]) {
    let mut compare = Vec::with_capacity(key.len() + 16);
    number(&mut compare, 2, 2); // target: MOD
    bytes(&mut compare, 3, key);
    varint(&mut compare, 6 << 3); // mod_revision, a oneof: 0 is sent too
    varint(&mut compare, revision as u64);
    bytes(to, 1, &compare);
    let put_len = 2 + varint_len(key.len() as u64) + varint_len(value.len() as u64) + key.len() + value.len();
    varint(to, 2 << 3 | 2);
    varint(to, (1 + varint_len(put_len as u64) + put_len) as u64);
    varint(to, 2 << 3 | 2);
    varint(to, put_len as u64);
    put(to, key, value);
    let mut get = Vec::with_capacity(key.len() + 8);
    range(&mut get, key, b"", 0);
    let mut failure = Vec::with_capacity(get.len() + 4);
    bytes(&mut failure, 1, &get);
    bytes(to, 3, &failure);
}

/// `WatchRequest` that creates a watch of one key.
pub fn watch_create(to: &mut Vec<u8>, key: &[u8]) {
    let mut create = Vec::with_capacity(key.len() + 4);
    bytes(&mut create, 1, key);
    bytes(to, 1, &create);
}

/// One field of a message.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Field<'a> {
    /// Its number.
    pub number: u32,
    /// Its value if it is a varint.
    pub value: u64,
    /// Its bytes if it has a length.
    pub bytes: &'a [u8],
}

/// The fields of a message, one after the other; ends early at malformed input.
#[derive(Clone, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let key = read_varint(&mut self.0)?;
        let number = (key >> 3) as u32;
        let fixed = |rest: &mut &'a [u8], len: usize| {
            let (bytes, after) = rest.split_at_checked(len)?;
            *rest = after;
            Some(bytes)
        };
        match key & 7 {
            0 => Some(Field { number, value: read_varint(&mut self.0)?, bytes: &[] }),
            1 => fixed(&mut self.0, 8).map(|bytes| Field { number, value: 0, bytes }),
            2 => {
                let len = read_varint(&mut self.0)?;
                fixed(&mut self.0, len as usize).map(|bytes| Field { number, value: 0, bytes })
            }
            5 => fixed(&mut self.0, 4).map(|bytes| Field { number, value: 0, bytes }),
            _ => None,
        }
    }
}

fn read_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The first field of this number that has bytes.
pub fn message(of: &[u8], field: u32) -> Option<&[u8]> {
    Fields(of).find(|f| f.number == field).map(|f| f.bytes)
}

/// The first number field of this number, 0 if it is absent.
pub fn integer(of: &[u8], field: u32) -> i64 {
    Fields(of).find(|f| f.number == field).map_or(0, |f| f.value as i64)
}

/// The revision in the header of any response.
pub fn header_revision(response: &[u8]) -> i64 {
    message(response, 1).map_or(0, |header| integer(header, 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cetera_client::proto::etcdserverpb as pb;
    use cetera_client::{Cmp, Compare, Get, Put, Txn};

    #[test]
    fn requests_are_what_a_full_encoder_makes() {
        use prost::Message as _;
        let (key, value) = (b"k/0000001".as_slice(), vec![7; 300]);
        let mut found = Vec::new();
        put(&mut found, key, &value);
        assert_eq!(found, Put::new(key, value.clone()).0.encode_to_vec());
        found.clear();
        range(&mut found, key, b"l", 1000);
        assert_eq!(found, Get::new(key).range(b"l".as_slice()).limit(1000).0.encode_to_vec());
        for revision in [0, 1, 1 << 40] {
            found.clear();
            compare_and_put(&mut found, key, revision, &value);
            let txn = Txn::new()
                .when([Compare::mod_revision(key, Cmp::Equal, revision)])
                .and_then([Put::new(key, value.clone()).into()])
                .or_else([Get::new(key).into()]);
            assert_eq!(pb::TxnRequest::decode(found.as_slice()).unwrap(), txn.0);
        }
    }

    #[test]
    fn damaged_messages_end_early() {
        assert_eq!(Fields(&[0x0a, 5, 1]).next(), None);
        assert_eq!(Fields(&[0xff; 12]).next(), None);
        assert_eq!(header_revision(&[0x0a, 2, 0x18, 9]), 9);
    }
}
