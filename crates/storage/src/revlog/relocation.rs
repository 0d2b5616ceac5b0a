//! Where the records of rewritten segments went.

use std::sync::Arc;

use super::Location;
use crate::revision::Revision;

/// One record a rewrite copied. Its key is in the payload at either location.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Moved {
    /// Unchanged by the move.
    pub revision: Revision,
    /// In a replaced segment.
    pub old: Location,
    /// In its successor.
    pub new: Location,
}

/// The moves of one installed rewrite, in revision order. Cloning is one reference count.
///
/// The owner of the index visits each move once, in slices as it likes. If the index still holds the old location it
/// takes the new one; if it never came to hold the new one, the record died since the rewrite looked at it, and the
/// owner releases the new location. Both stay readable meanwhile, and [`RevLog::release`](super::RevLog::release) of an old location has no
/// effect, so each record is counted exactly once. Then the relocation goes back by
/// [`RevLog::finish_relocation`](super::RevLog::finish_relocation).
#[derive(Clone)]
pub struct Relocation {
    moves: Arc<Moves>,
}

/// 24 bytes a record; the segments are kept once for each run of records that share them.
#[derive(Default)]
pub(crate) struct Moves {
    records: Vec<Compact>,
    runs: Vec<Run>,
}

struct Compact {
    main: i64,
    sub: u32,
    len: u32,
    old: u32,
    new: u32,
}

struct Run {
    start: usize,
    old_segment: u32,
    new_segment: u32,
}

impl Moves {
    pub(crate) fn push(&mut self, moved: Moved) {
        let Moved { revision, old, new } = moved;
        if self.runs.last().is_none_or(|r| (r.old_segment, r.new_segment) != (old.segment, new.segment)) {
            let run = Run { start: self.records.len(), old_segment: old.segment, new_segment: new.segment };
            self.runs.push(run);
        }
        let (main, sub, len) = (revision.main, revision.sub as u32, new.len);
        self.records.push(Compact { main, sub, len, old: old.offset, new: new.offset });
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    fn run_end(&self, run: usize) -> usize {
        self.runs.get(run + 1).map_or(self.records.len(), |next| next.start)
    }
}

impl Relocation {
    pub(crate) fn new(moves: Moves) -> Relocation {
        Relocation { moves: Arc::new(moves) }
    }

    /// Number of records moved.
    pub fn len(&self) -> usize {
        self.moves.records.len()
    }

    /// Whether everything in the replaced segments was garbage.
    pub fn is_empty(&self) -> bool {
        self.moves.records.is_empty()
    }

    /// The moves number `start..end` (clipped to what there is).
    pub fn slice(&self, start: usize, end: usize) -> impl Iterator<Item = Moved> + '_ {
        let moves = &*self.moves;
        let end = end.min(moves.records.len());
        let start = start.min(end);
        let mut run = moves.runs.partition_point(|run| run.start <= start).saturating_sub(1);
        (start..end).map(move |at| {
            if at >= moves.run_end(run) {
                run += 1;
            }
            let (record, run) = (&moves.records[at], &moves.runs[run]);
            Moved {
                revision: Revision::new(record.main, i64::from(record.sub)),
                old: Location { segment: run.old_segment, offset: record.old, len: record.len },
                new: Location { segment: run.new_segment, offset: record.new, len: record.len },
            }
        })
    }

    /// The new location of a record that moved, `None` for any other location. O(log n).
    pub fn translate(&self, old: Location) -> Option<Location> {
        self.find(old).map(|(_, new)| new)
    }

    /// The same, with the number of the move.
    pub fn find(&self, old: Location) -> Option<(usize, Location)> {
        for (at, run) in self.moves.runs.iter().enumerate() {
            if run.old_segment != old.segment {
                continue;
            }
            let records = &self.moves.records[run.start..self.moves.run_end(at)];
            if let Ok(found) = records.binary_search_by_key(&old.offset, |record| record.old) {
                let new = Location { segment: run.new_segment, offset: records[found].new, len: old.len };
                return Some((run.start + found, new));
            }
        }
        None
    }
}
