//! The bytes of segment headers and batches (laid out in the essay of `wal.rs`). Pure: no files.

use bytes::Bytes;
use cetera_plant::{Bug, is_planted};

use super::WalEntry;
use crate::crc;

/// Batches start at multiples of this.
pub(super) const ALIGN: u64 = 8;
pub(super) const BATCH_HEADER_BYTES: u64 = 64;
/// The batch that an open or a create writes first.
pub(super) const FLAG_OPEN: u32 = 1;
/// The first batch of its segment.
pub(super) const FLAG_FIRST: u32 = 2;
/// The log begins anew: everything before this batch is void, and its payload begins with the index to go on behind.
pub(super) const FLAG_RESTART: u32 = 4;

const FORMAT: u32 = 1;
const SEGMENT_MAGIC: &[u8; 8] = b"cetera-w";
const SEGMENT_FIXED_BYTES: usize = 40;
/// Header lengths are multiples of this, so that no batch shares a page with a header.
const HEADER_ALIGN: u64 = 4096;
const BATCH_MAGIC: &[u8; 4] = b"cwb1";
const ENTRY_HEADER_BYTES: usize = 20;
const RESTART_BYTES: usize = 8;
/// Longer data is handed to the write as it is; shorter data is copied between the headers.
const COPY_BELOW_BYTES: usize = 4096;

/// A place in the log. Ordered as the log is.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Position {
    pub(super) sequence: u64,
    pub(super) offset: u64,
}

pub(super) struct SegmentHeader {
    pub(super) sequence: u64,
    pub(super) salt: u64,
    pub(super) metadata: Bytes,
}

pub(super) enum HeaderFault {
    Bad,
    Newer(u32),
}

/// Length of the header of a segment with this metadata; batches begin behind it.
pub(super) fn header_bytes(metadata: &[u8]) -> u64 {
    ((SEGMENT_FIXED_BYTES + metadata.len()) as u64).next_multiple_of(HEADER_ALIGN)
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let len = header_bytes(&self.metadata);
        let mut out = Vec::with_capacity(len as usize);
        out.extend_from_slice(SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&(len as u32).to_le_bytes());
        out.extend_from_slice(&(self.metadata.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.metadata);
        out.resize(len as usize, 0);
        let crc = crc::crc32c(&out[16..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(segment: &[u8]) -> Result<Self, HeaderFault> {
        if segment.len() < SEGMENT_FIXED_BYTES || &segment[..8] != SEGMENT_MAGIC {
            return Err(HeaderFault::Bad);
        }
        let format = u32_at(segment, 8);
        if format > FORMAT {
            return Err(HeaderFault::Newer(format));
        }
        let len = u32_at(segment, 32) as usize;
        let metadata_len = u32_at(segment, 36) as usize;
        let whole = (SEGMENT_FIXED_BYTES..=segment.len()).contains(&len) && metadata_len <= len - SEGMENT_FIXED_BYTES;
        if !whole || crc::crc32c(&segment[16..len]) != u32_at(segment, 12) {
            return Err(HeaderFault::Bad);
        }
        let metadata = &segment[SEGMENT_FIXED_BYTES..SEGMENT_FIXED_BYTES + metadata_len];
        if header_bytes(metadata) != len as u64 {
            return Err(HeaderFault::Bad);
        }
        Ok(Self {
            sequence: u64_at(segment, 16),
            salt: u64_at(segment, 24),
            metadata: Bytes::copy_from_slice(metadata),
        })
    }
}

/// What a batch says about itself, besides lengths and checksum.
#[derive(Clone, Copy)]
pub(super) struct BatchHeader {
    pub(super) sequence: u64,
    pub(super) offset: u32,
    pub(super) epoch: u32,
    pub(super) previous_crc: u32,
    /// The claim: everything below was durable when this was written.
    pub(super) synced: Position,
    pub(super) last_index: u64,
    pub(super) flags: u32,
}

/// A batch ready to be written.
pub(super) struct Encoded {
    /// Headers and short data.
    buf: Vec<u8>,
    /// Long data, and where in `buf` it belongs.
    long: Vec<(usize, Bytes)>,
    crc: u32,
    end: u64,
}

/// Length of a payload.
pub(super) fn payload_bytes(restart: Option<u64>, state: Option<&Bytes>, entries: &[WalEntry]) -> u64 {
    let entries: usize = entries.iter().map(|entry| ENTRY_HEADER_BYTES + entry.data.len()).sum();
    (restart.map_or(0, |_| RESTART_BYTES) + state.map_or(0, Bytes::len) + entries) as u64
}

impl Encoded {
    pub(super) fn new(
        header: BatchHeader,
        salt: u64,
        restart: Option<u64>,
        state: Option<&Bytes>,
        entries: &[WalEntry],
    ) -> Self {
        let payload = payload_bytes(restart, state, entries);
        let mut buf = Vec::with_capacity(BATCH_HEADER_BYTES as usize + entries.len() * 512);
        buf.extend_from_slice(BATCH_MAGIC);
        buf.extend_from_slice(&[0; 4]);
        buf.extend_from_slice(&header.sequence.to_le_bytes());
        buf.extend_from_slice(&header.offset.to_le_bytes());
        buf.extend_from_slice(&(payload as u32).to_le_bytes());
        buf.extend_from_slice(&header.epoch.to_le_bytes());
        buf.extend_from_slice(&header.previous_crc.to_le_bytes());
        buf.extend_from_slice(&header.synced.sequence.to_le_bytes());
        buf.extend_from_slice(&(header.synced.offset as u32).to_le_bytes());
        buf.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        buf.extend_from_slice(&header.last_index.to_le_bytes());
        buf.extend_from_slice(&state.map_or(0, |state| state.len() as u32 + 1).to_le_bytes());
        let flags = header.flags | restart.map_or(0, |_| FLAG_RESTART);
        buf.extend_from_slice(&flags.to_le_bytes());
        debug_assert_eq!(buf.len() as u64, BATCH_HEADER_BYTES);
        if let Some(index) = restart {
            buf.extend_from_slice(&index.to_le_bytes());
        }
        buf.extend_from_slice(state.map_or(&[], |state| state));
        let mut long = Vec::new();
        for entry in entries {
            buf.extend_from_slice(&entry.index.to_le_bytes());
            buf.extend_from_slice(&entry.term.to_le_bytes());
            buf.extend_from_slice(&(entry.data.len() as u32).to_le_bytes());
            if entry.data.len() < COPY_BELOW_BYTES {
                buf.extend_from_slice(&entry.data);
            } else {
                long.push((buf.len(), entry.data.clone()));
            }
        }
        let padding = payload.next_multiple_of(ALIGN) - payload;
        buf.extend_from_slice(&[0; ALIGN as usize][..padding as usize]);
        let end = u64::from(header.offset) + BATCH_HEADER_BYTES + payload + padding;
        let mut encoded = Self { buf, long, crc: 0, end };
        let slices = encoded.slices();
        let mut crc = crc::crc32c_append(salted(salt), &slices[0][8..]);
        for slice in &slices[1..] {
            crc = crc::crc32c_append(crc, slice);
        }
        encoded.crc = crc;
        encoded.buf[4..8].copy_from_slice(&crc.to_le_bytes());
        encoded
    }

    /// The bytes in the order of the file. The first slice holds at least the batch header.
    pub(super) fn slices(&self) -> Vec<&[u8]> {
        let mut slices = Vec::with_capacity(self.long.len() * 2 + 1);
        let mut from = 0;
        for (at, data) in &self.long {
            slices.push(&self.buf[from..*at]);
            slices.push(data);
            from = *at;
        }
        slices.push(&self.buf[from..]);
        slices
    }

    pub(super) fn crc(&self) -> u32 {
        self.crc
    }

    /// Offset behind the batch.
    pub(super) fn end(&self) -> u64 {
        self.end
    }
}

/// A batch that was read and whose checksum holds.
pub(super) struct Batch<'a> {
    pub(super) header: BatchHeader,
    pub(super) crc: u32,
    pub(super) end: u64,
    state_len: Option<usize>,
    entries: u32,
    payload: &'a [u8],
}

/// Reads the batch at `at` of a segment, if there is a whole one that belongs there.
pub(super) fn read_batch(segment: &[u8], at: u64, sequence: u64, salt: u64) -> Option<Batch<'_>> {
    read_batch_at(segment.get(usize::try_from(at).ok()?..)?, at, sequence, salt)
}

/// Length of the batch whose first bytes these are, header and padding counted; no checksum is looked at.
pub(super) fn batch_bytes(bytes: &[u8]) -> Option<u64> {
    read_batch_header(bytes)?;
    Some(BATCH_HEADER_BYTES + u64::from(u32_at(bytes, 20)).next_multiple_of(ALIGN))
}

/// The same for bytes of the segment from offset `at` on.
pub(super) fn read_batch_at(bytes: &[u8], at: u64, sequence: u64, salt: u64) -> Option<Batch<'_>> {
    let header =
        read_batch_header(bytes).filter(|header| header.sequence == sequence && u64::from(header.offset) == at)?;
    let payload_len = u64::from(u32_at(bytes, 20));
    let end = at + BATCH_HEADER_BYTES + payload_len.next_multiple_of(ALIGN);
    if end - at > bytes.len() as u64 {
        return None;
    }
    let covered = &bytes[8..(end - at) as usize];
    let crc = crc::crc32c_append(salted(salt), covered);
    if crc != u32_at(bytes, 4) && !is_planted(Bug::TornTailKept) {
        return None;
    }
    Some(Batch {
        header,
        crc,
        end,
        state_len: u32_at(bytes, 56).checked_sub(1).map(|len| len as usize),
        entries: u32_at(bytes, 44),
        payload: &bytes[BATCH_HEADER_BYTES as usize..][..payload_len as usize],
    })
}

/// What the bytes say if they were a batch header; no checksum is looked at.
pub(super) fn read_batch_header(bytes: &[u8]) -> Option<BatchHeader> {
    if bytes.len() < BATCH_HEADER_BYTES as usize || &bytes[..4] != BATCH_MAGIC {
        return None;
    }
    Some(BatchHeader {
        sequence: u64_at(bytes, 8),
        offset: u32_at(bytes, 16),
        epoch: u32_at(bytes, 24),
        previous_crc: u32_at(bytes, 28),
        synced: Position { sequence: u64_at(bytes, 32), offset: u64::from(u32_at(bytes, 40)) },
        last_index: u64_at(bytes, 48),
        flags: u32_at(bytes, 60),
    })
}

impl Batch<'_> {
    /// The index behind which the log begins anew, if it does.
    pub(super) fn restart(&self) -> Option<u64> {
        let restarts = self.header.flags & FLAG_RESTART != 0 && self.payload.len() >= RESTART_BYTES;
        restarts.then(|| u64_at(self.payload, 0))
    }

    /// Hands out the state and the entries; `None` if the payload is not as long as its parts say.
    pub(super) fn contents(&self, mut entry: impl FnMut(u64, u64, &[u8])) -> Option<Option<Bytes>> {
        let restart = if self.header.flags & FLAG_RESTART != 0 { RESTART_BYTES } else { 0 };
        let (state, mut rest) = self.payload.get(restart..)?.split_at_checked(self.state_len.unwrap_or(0))?;
        for _ in 0..self.entries {
            let (fixed, tail) = rest.split_at_checked(ENTRY_HEADER_BYTES)?;
            let (data, tail) = tail.split_at_checked(u32_at(fixed, 16) as usize)?;
            entry(u64_at(fixed, 0), u64_at(fixed, 8), data);
            rest = tail;
        }
        rest.is_empty().then(|| self.state_len.map(|_| Bytes::copy_from_slice(state)))
    }
}

fn salted(salt: u64) -> u32 {
    crc::crc32c(&salt.to_le_bytes())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
