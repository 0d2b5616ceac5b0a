//! The bytes of one record: `crc32c u32 | payload length u32 | main i64 | sub u32, top bit = tombstone | payload`,
//! all little endian. The checksum covers everything after itself.

use crate::crc;
use crate::revision::Revision;

/// Bytes before a record's payload.
pub const RECORD_HEADER: usize = 20;
/// Longest payload. Bytes.
pub(crate) const MAX_PAYLOAD: usize = 1 << 30;

const TOMBSTONE: u32 = 1 << 31;

/// Where a record lies. 12 bytes, kept per revision in the key index.
#[derive(Copy, Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Location {
    /// Segment id.
    pub segment: u32,
    /// Start of the record in its segment. Bytes.
    pub offset: u32,
    /// Length of the payload. Bytes.
    pub len: u32,
}

impl Location {
    /// Bytes the record takes in its segment.
    pub fn record_bytes(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.len)
    }

    pub(crate) fn end(&self) -> u64 {
        u64::from(self.offset) + self.record_bytes()
    }
}

/// One record, lent while it is looked at.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// Position in the history.
    pub revision: Revision,
    /// The key was deleted here; the payload is the key alone.
    pub tombstone: bool,
    /// `mvccpb.KeyValue` bytes as they go on the wire.
    pub payload: &'a [u8],
}

/// Outcome of looking for a record at the start of some bytes.
pub(crate) enum Parsed<'a> {
    Record(Record<'a>),
    /// The record is longer than the bytes at hand: this many are needed.
    Partial(usize),
    Bad,
}

/// Appends a record; returns its size.
pub(crate) fn encode(out: &mut Vec<u8>, revision: Revision, tombstone: bool, payload: &[&[u8]]) -> usize {
    let start = out.len();
    let len: usize = payload.iter().map(|part| part.len()).sum();
    assert!(len <= MAX_PAYLOAD, "record payload of {len} bytes");
    assert!((0..i64::from(TOMBSTONE)).contains(&revision.sub), "sub revision {} out of range", revision.sub);
    let sub = revision.sub as u32 | if tombstone { TOMBSTONE } else { 0 };
    let mut header = [0; RECORD_HEADER];
    header[4..8].copy_from_slice(&(len as u32).to_le_bytes());
    header[8..16].copy_from_slice(&revision.main.to_le_bytes());
    header[16..20].copy_from_slice(&sub.to_le_bytes());
    out.reserve(RECORD_HEADER + len);
    out.extend_from_slice(&header);
    for part in payload {
        out.extend_from_slice(part);
    }
    let crc = crc::crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    RECORD_HEADER + len
}

/// Payload length and revision a header claims, unchecked. Needs [`RECORD_HEADER`] bytes.
pub(crate) fn peek(header: &[u8]) -> (usize, Revision) {
    let sub = u32_at(header, 16) & !TOMBSTONE;
    let main = i64::from(u32_at(header, 8)) | i64::from(u32_at(header, 12)) << 32;
    (u32_at(header, 4) as usize, Revision::new(main, i64::from(sub)))
}

/// Reads and checks the record at the start of `bytes`.
#[inline]
pub(crate) fn parse(bytes: &[u8]) -> Parsed<'_> {
    if bytes.len() < RECORD_HEADER {
        return Parsed::Partial(RECORD_HEADER);
    }
    let (len, revision) = peek(bytes);
    if len > MAX_PAYLOAD {
        return Parsed::Bad;
    }
    let size = RECORD_HEADER + len;
    if bytes.len() < size {
        return Parsed::Partial(size);
    }
    if crc::crc32c(&bytes[4..size]) != u32_at(bytes, 0) {
        return Parsed::Bad;
    }
    let tombstone = u32_at(bytes, 16) & TOMBSTONE != 0;
    Parsed::Record(Record { revision, tombstone, payload: &bytes[RECORD_HEADER..size] })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut bytes = Vec::new();
        let revision = Revision::new(0x0102_0304_0506_0708, 9);
        let size = encode(&mut bytes, revision, true, &[b"ab", b"", b"cde"]);
        assert_eq!(size, bytes.len());
        let Parsed::Record(record) = parse(&bytes) else { panic!("no record") };
        assert_eq!(record, Record { revision, tombstone: true, payload: b"abcde" });
        for bit in 0..bytes.len() * 8 {
            let mut copy = bytes.clone();
            copy[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(parse(&copy), Parsed::Record(_)), "bit {bit}");
        }
        assert!(matches!(parse(&bytes[..19]), Parsed::Partial(20)));
        assert!(matches!(parse(&bytes[..24]), Parsed::Partial(25)));
    }
}
