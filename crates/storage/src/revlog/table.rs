//! The segments of the log at one moment. Immutable: the writer publishes a new table when a segment joins or leaves.

use std::sync::Arc;

use super::segment::Segment;

/// Segments in revision order, found by id in O(1).
#[derive(Default)]
pub(crate) struct Table {
    /// The history, in revision order. The last one is appended to.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Replaced by rewrites, readable by location until their files go.
    pub(crate) retired: Vec<Arc<Segment>>,
    /// Open addressing by id: ids count up, so the low bits spread well; at most half full.
    slots: Vec<Option<Arc<Segment>>>,
}

impl Table {
    pub(crate) fn new(segments: Vec<Arc<Segment>>, retired: Vec<Arc<Segment>>) -> Table {
        assert!(segments.windows(2).all(|pair| pair[0].first < pair[1].first), "segments out of order");
        let capacity = ((segments.len() + retired.len()) * 2).next_power_of_two();
        let mut slots = vec![None; capacity];
        for segment in segments.iter().chain(&retired) {
            let mut at = segment.id as usize & (capacity - 1);
            while slots[at].is_some() {
                at = (at + 1) & (capacity - 1);
            }
            slots[at] = Some(segment.clone());
        }
        Table { segments, retired, slots }
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&Arc<Segment>> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = id as usize & mask;
        loop {
            let segment = self.slots.get(at)?.as_ref()?;
            if segment.id == id {
                return Some(segment);
            }
            at = (at + 1) & mask;
        }
    }

    /// This table with one more segment at the end.
    pub(crate) fn with(&self, segment: Arc<Segment>) -> Table {
        let mut segments = self.segments.clone();
        segments.push(segment);
        Table::new(segments, self.retired.clone())
    }
}
