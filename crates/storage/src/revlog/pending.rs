//! Records appended but not yet in the page cache: one buffer, cut into one run of bytes for each segment touched.

use std::sync::Arc;

use super::{
    Location,
    segment::{SEGMENT_HEADER, SPARSE_INTERVAL, SparseEntry},
};
use crate::{revision::Revision, vfs::File};

/// Capacity the buffer keeps between flushes. Bytes.
const KEPT_BYTES: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) buffer: Vec<u8>,
    /// In file order; all but the last belong to segments that are full.
    pub(crate) chunks: Vec<Chunk>,
}

/// The pending bytes of one segment.
pub(crate) struct Chunk {
    pub(crate) segment: u32,
    /// Where they go in the file.
    pub(crate) offset: u64,
    /// Where they are in the buffer: from here to the next chunk's start.
    pub(crate) start: usize,
    /// Length to create the file with; `None` if it exists.
    pub(crate) create: Option<u64>,
    /// The created file, once there: a flush that failed later does not create it again.
    pub(crate) file: Option<Arc<dyn File>>,
    pub(crate) first: Revision,
    pub(crate) last: Revision,
    pub(crate) live: u64,
    pub(crate) sparse: Vec<SparseEntry>,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Starts the run of bytes of a segment.
    pub(crate) fn begin(&mut self, segment: u32, offset: u64, create: Option<u64>, first: Revision) {
        let start = self.buffer.len();
        let (file, sparse) = (None, Vec::new());
        self.chunks.push(Chunk { segment, offset, start, create, file, first, last: first, live: 0, sparse });
    }

    /// The record at `location`, if it is pending.
    pub(crate) fn get(&self, location: Location) -> Option<&[u8]> {
        let at = self.chunks.iter().position(|chunk| chunk.segment == location.segment)?;
        let skip = u64::from(location.offset).checked_sub(self.chunks[at].offset)? as usize;
        let bytes = self.chunk_bytes(at);
        bytes.get(skip..skip + location.record_bytes() as usize)
    }

    /// The chunk that holds `location`, if it is pending.
    pub(crate) fn chunk_of(&mut self, location: Location) -> Option<&mut Chunk> {
        self.chunks.iter_mut().find(|c| c.segment == location.segment && u64::from(location.offset) >= c.offset)
    }

    pub(crate) fn chunk_bytes(&self, at: usize) -> &[u8] {
        let end = self.chunks.get(at + 1).map_or(self.buffer.len(), |next| next.start);
        &self.buffer[self.chunks[at].start..end]
    }

    /// Forgets the first `flushed` chunks.
    pub(crate) fn drop_first(&mut self, flushed: usize) {
        self.chunks.drain(..flushed);
        if self.chunks.is_empty() {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT_BYTES);
        }
    }
}

/// Decides which records of a segment get a sparse entry.
#[derive(Default)]
pub(crate) struct SparseCursor {
    /// The first record from here on gets one.
    next: u64,
}

impl SparseCursor {
    pub(crate) fn visit(&mut self, revision: Revision, offset: u64, sparse: &mut Vec<SparseEntry>) {
        if offset >= self.next {
            sparse.push(SparseEntry { revision, offset: offset as u32 });
            self.next = offset + SPARSE_INTERVAL;
        }
    }

    pub(crate) fn restart(&mut self) {
        self.next = SEGMENT_HEADER;
    }
}
