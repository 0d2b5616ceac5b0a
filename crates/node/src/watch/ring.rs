//! The recent past: the last batches of changes, shared with every other hub of the process.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::EventBatch;

/// What a change costs besides its bytes, for the ring's bound.
const EVENT_OVERHEAD_BYTES: usize = 96;

/// Batches in revision order without a gap, bounded in bytes and number.
#[derive(Debug)]
pub(super) struct Ring {
    batches: VecDeque<(Arc<EventBatch>, usize)>,
    bytes: usize,
    bytes_max: usize,
    batches_max: usize,
}

impl Ring {
    pub(super) fn new(bytes_max: usize, batches_max: usize) -> Self {
        Ring { batches: VecDeque::new(), bytes: 0, bytes_max, batches_max }
    }

    /// Appends the next batch and lets go of the oldest beyond the bounds.
    pub(super) fn push(&mut self, batch: Arc<EventBatch>) {
        let bytes = batch.events.iter().map(|event| event.event.len() + EVENT_OVERHEAD_BYTES).sum();
        self.bytes += bytes;
        self.batches.push_back((batch, bytes));
        while self.bytes > self.bytes_max || self.batches.len() > self.batches_max {
            let Some((_, bytes)) = self.batches.pop_front() else { break };
            self.bytes -= bytes;
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
    }

    /// Whether every change from `revision` on is here.
    pub(super) fn reaches(&self, revision: i64) -> bool {
        let first = self.batches.front().and_then(|(batch, _)| batch.events.first());
        first.is_some_and(|first| first.revision.main <= revision)
    }

    /// Batches that hold changes from `revision` on, until they have `bytes_max`; at least one.
    pub(super) fn from(&self, revision: i64, bytes_max: usize) -> Vec<Arc<EventBatch>> {
        let start = self.batches.partition_point(|(batch, _)| batch.revision < revision);
        let mut bytes = 0;
        let within = self.batches.range(start..).take_while(|(_, size)| {
            let more = bytes < bytes_max;
            bytes += size;
            more
        });
        within.map(|(batch, _)| Arc::clone(batch)).collect()
    }
}
