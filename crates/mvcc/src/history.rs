//! The past as events: what watchers that catch up read. Scans the log in revision order; the index only tells what
//! each change replaced.

use std::ops::ControlFlow;

use bytes::BytesMut;
use cetera_storage::{revision::Revision, revlog::Record};

use crate::{
    encode::key_of_payload,
    error::MvccError,
    event::{EventRec, encode_delete, encode_put_payload, key_range},
    store::ARENA_BYTES,
    view::View,
};

/// A call reads at most this many times the bytes it may answer, so that a watcher of rare keys does not hold its
/// thread for the whole log.
const SCAN_FACTOR: usize = 16;

impl View {
    /// Events of the revisions from `from` on whose key `matches`, in order, whole revisions only. Ends once the
    /// events have `max_bytes` or sixteen times that were read; at least one revision is read. Returns the events and
    /// the revision to go on from, which is one above the current when there is nothing left (W-11, W-12).
    ///
    /// Compacted if `from` lies below the watermark; the watermark itself is fine (W-6).
    pub fn history(
        &self,
        from: i64,
        max_bytes: usize,
        matches: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(Vec<EventRec>, i64), MvccError> {
        if from < self.compacted {
            return Err(MvccError::Compacted);
        }
        let mut events = Vec::new();
        let mut next = from.max(self.current + 1);
        let mut arena = BytesMut::with_capacity(max_bytes.min(ARENA_BYTES));
        let mut answered = 0;
        let mut read = 0usize;
        let mut at = None;
        self.log.scan(Revision::new(from, 0), &mut |_, record| {
            let main = record.revision.main;
            let full = answered >= max_bytes || read >= max_bytes.saturating_mul(SCAN_FACTOR);
            if main > self.current {
                return ControlFlow::Break(());
            }
            if at.is_some_and(|at| at != main) && full {
                next = main;
                return ControlFlow::Break(());
            }
            at = Some(main);
            read += record.payload.len();
            let key = key_of_payload(record.payload);
            if matches(key) {
                let event = self.event(&record, key, &mut arena);
                answered += event.event.len();
                events.push(event);
            }
            ControlFlow::Continue(())
        })?;
        Ok((events, next))
    }

    fn event(&self, record: &Record<'_>, key: &[u8], arena: &mut BytesMut) -> EventRec {
        let Record { revision, tombstone, payload } = *record;
        let start =
            if tombstone { encode_delete(arena, key, revision.main) } else { encode_put_payload(arena, payload) };
        let event = arena.split().freeze();
        let before = revision.main - 1;
        let visible = before >= self.compacted;
        let previous = self.index.get(key).filter(|_| visible).and_then(|entry| entry.at(before));
        EventRec {
            revision,
            tombstone,
            key: event.slice(key_range(start, key.len())),
            event,
            previous: previous.map(|previous| previous.location),
        }
    }
}
