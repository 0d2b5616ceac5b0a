//! Reading: by location and in revision order. No lock is shared with the writer on the way to a record.

use std::{ops::ControlFlow, sync::Arc};

use super::{
    Location, LogError, Record,
    segment::{SEGMENT_HEADER, Segment},
    table::Table,
};
use crate::revision::Revision;

/// The flushed log at one moment. Cloning is one reference count; it keeps the files it may read open, also after
/// they were unlinked.
#[derive(Clone)]
pub struct LogReader {
    pub(crate) table: Arc<Table>,
    /// The last record that belongs to this moment.
    pub(crate) last: Revision,
}

impl LogReader {
    /// Lends the record at `location` to `f`; its checksum was verified. The payload is not copied: it is the page
    /// cache itself on a real disk.
    #[inline]
    pub fn read<R>(&self, location: Location, f: impl FnOnce(Record<'_>) -> R) -> Result<R, LogError> {
        match self.table.get(location.segment) {
            Some(segment) => segment.read(location, f),
            None => Err(LogError::UnknownSegment { segment: location.segment }),
        }
    }

    /// A hint that the record at `location` will be read soon.
    #[inline]
    pub fn prefetch(&self, location: Location) {
        if let Some(segment) = self.table.get(location.segment) {
            segment.prefetch(location);
        }
    }

    /// Passes the records with revision `from` or later in revision order, checked, until `f` breaks.
    pub fn scan(
        &self,
        from: Revision,
        f: &mut dyn FnMut(Location, Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let segments = &self.table.segments;
        let start = segments.partition_point(|segment| segment.first <= from).saturating_sub(1);
        let mut more = true;
        for segment in &segments[start..] {
            let at = if segment.first >= from { SEGMENT_HEADER } else { segment.seek(from)? };
            segment.walk(at, segment.end(), |location, record| {
                if record.revision < from {
                    return ControlFlow::Continue(());
                }
                let flow = if record.revision > self.last { ControlFlow::Break(()) } else { f(location, record) };
                more = flow.is_continue();
                flow
            })?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Revision of the last record, `0.0` while there is none.
    pub fn last(&self) -> Revision {
        self.last
    }

    /// Checks the checksums of (at least) the newest `budget` bytes. Returns how many bytes were read.
    pub fn verify(&self, budget: u64) -> Result<u64, LogError> {
        let mut checked = 0;
        for segment in self.table.segments.iter().rev() {
            if checked >= budget {
                break;
            }
            checked += verify_tail(segment, budget - checked)?;
        }
        Ok(checked)
    }

    /// One step of a scrub through the whole log: checks the records with revision `from` or later until `max_bytes`
    /// were read. Returns where the next step starts, `None` at the end. [`LogError::Damaged`] names file and offset.
    pub fn scrub(&self, from: Revision, max_bytes: u64) -> Result<Option<Revision>, LogError> {
        let mut left = max_bytes;
        let mut next = None;
        self.scan(from, &mut |location, record| {
            if left == 0 {
                next = Some(record.revision);
                return ControlFlow::Break(());
            }
            left = left.saturating_sub(location.record_bytes());
            ControlFlow::Continue(())
        })?;
        Ok(next)
    }
}

fn verify_tail(segment: &Segment, budget: u64) -> Result<u64, LogError> {
    let end = segment.end();
    let from = if end - SEGMENT_HEADER <= budget { SEGMENT_HEADER } else { segment.seek_offset(end - budget)? };
    segment.walk(from, end, |_, _| ControlFlow::Continue(()))?;
    Ok(end - from)
}
