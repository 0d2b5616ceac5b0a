//! What a checkpoint records about the log: which segments it is made of and where it ends.

use super::{LogError, segment::SEGMENT_HEADER};
use crate::revision::Revision;

/// One segment as a checkpoint names it.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct SegmentInfo {
    /// Never used twice within one history of checkpoints.
    pub id: u32,
    /// Revision of the first record.
    pub first: Revision,
    /// Revision of the last record.
    pub last: Revision,
    /// End of the last record. Bytes from the start of the file.
    pub bytes: u64,
    /// Bytes of records not released.
    pub live_bytes: u64,
}

/// The log at one moment, in revision order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogManifest {
    /// The last one is the segment that is appended to.
    pub segments: Vec<SegmentInfo>,
    /// No segment with this id or a higher one exists yet.
    pub next_id: u32,
    /// Counts installed rewrites: a segment retired in generation g is named by no manifest of generation g or later.
    pub generation: u64,
}

const VERSION: u32 = 1;
const SEGMENT_BYTES: usize = 4 + 2 * 12 + 8 + 8;

impl LogManifest {
    /// Appends the encoded manifest: version, generation, next id, count, segments; little endian, no checksum (the
    /// checkpoint's chunk has one).
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.next_id.to_le_bytes());
        out.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for segment in &self.segments {
            out.extend_from_slice(&segment.id.to_le_bytes());
            for revision in [segment.first, segment.last] {
                out.extend_from_slice(&revision.main.to_le_bytes());
                out.extend_from_slice(&(revision.sub as u32).to_le_bytes());
            }
            out.extend_from_slice(&segment.bytes.to_le_bytes());
            out.extend_from_slice(&segment.live_bytes.to_le_bytes());
        }
    }

    /// Reads what [`LogManifest::encode`] wrote. Nothing may follow it.
    pub fn decode(bytes: &[u8]) -> Result<LogManifest, LogError> {
        let mut input = Input(bytes);
        if input.u32()? != VERSION {
            return Err(LogError::BadManifest("unknown version"));
        }
        let generation = input.u64()?;
        let next_id = input.u32()?;
        let count = input.u32()? as usize;
        if input.0.len() != count * SEGMENT_BYTES {
            return Err(LogError::BadManifest("wrong length"));
        }
        let segments = (0..count)
            .map(|_| {
                Ok(SegmentInfo {
                    id: input.u32()?,
                    first: input.revision()?,
                    last: input.revision()?,
                    bytes: input.u64()?,
                    live_bytes: input.u64()?,
                })
            })
            .collect::<Result<_, LogError>>()?;
        let manifest = LogManifest { segments, next_id, generation };
        manifest.check()?;
        Ok(manifest)
    }

    /// Where the log ends, `None` while it is empty.
    pub fn last(&self) -> Option<Revision> {
        self.segments.last().map(|segment| segment.last)
    }

    /// Whether segment `id` belongs to the log.
    pub fn names(&self, id: u32) -> bool {
        self.segments.iter().any(|segment| segment.id == id)
    }

    /// The order and ranges every user of a manifest relies on.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        let mut ids: Vec<u32> = self.segments.iter().map(|segment| segment.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) || ids.last().is_some_and(|id| *id >= self.next_id) {
            return Err(LogError::BadManifest("segment ids"));
        }
        if self.segments.iter().any(|s| s.first > s.last) {
            return Err(LogError::BadManifest("a segment's revisions"));
        }
        if self.segments.windows(2).any(|pair| pair[0].last >= pair[1].first) {
            return Err(LogError::BadManifest("segment order"));
        }
        if self.segments.iter().any(|s| s.bytes < SEGMENT_HEADER || s.live_bytes > s.bytes) {
            return Err(LogError::BadManifest("segment sizes"));
        }
        Ok(())
    }
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], LogError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(LogError::BadManifest("too short"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, LogError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, LogError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn revision(&mut self) -> Result<Revision, LogError> {
        Ok(Revision::new(i64::from_le_bytes(self.take()?), i64::from(self.u32()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> LogManifest {
        let info = |id, first, last| SegmentInfo {
            id,
            first: Revision::new(first, 0),
            last: Revision::new(last, 3),
            bytes: 1000,
            live_bytes: 900,
        };
        LogManifest { segments: vec![info(9, 2, 7), info(3, 8, 8)], next_id: 10, generation: 4 }
    }

    #[test]
    fn round_trip_and_every_cut() {
        for manifest in [sample(), LogManifest::default()] {
            let mut bytes = Vec::new();
            manifest.encode(&mut bytes);
            assert_eq!(LogManifest::decode(&bytes).unwrap(), manifest);
            for cut in 0..bytes.len() {
                assert!(LogManifest::decode(&bytes[..cut]).is_err());
            }
            bytes.push(0);
            assert!(LogManifest::decode(&bytes).is_err());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |change: fn(&mut LogManifest)| {
            let mut manifest = sample();
            change(&mut manifest);
            assert!(matches!(manifest.check(), Err(LogError::BadManifest(_))), "{manifest:?}");
        };
        refused(|m| m.segments.swap(0, 1));
        refused(|m| m.next_id = 9);
        refused(|m| m.segments[0].id = 3);
        refused(|m| m.segments[1].live_bytes = 1001);
        refused(|m| m.segments[1].bytes = 31);
        refused(|m| m.segments[0].first = Revision::new(7, 4));
    }
}
