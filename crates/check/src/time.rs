//! What can be said of revisions and time: everything that anyone was told carries a revision, and whoever was told of
//! revision r at time t proves that r existed by t.

/// When which revision was known to exist.
#[derive(Debug)]
pub(crate) struct Times {
    /// (time, highest revision told by then), by time.
    told: Vec<(u64, i64)>,
    first: i64,
    /// `seen[r - first]`: when r, or one after it, was told for the first time.
    seen: Vec<u64>,
}

impl Times {
    /// From all (time, revision) that anyone was told; revisions are at most `last`.
    pub(crate) fn new(first: i64, last: i64, mut told: Vec<(u64, i64)>) -> Self {
        let mut seen = vec![u64::MAX; (last - first + 1).max(1) as usize];
        for (time, revision) in &told {
            if let Some(seen) = usize::try_from(revision - first).ok().and_then(|index| seen.get_mut(index)) {
                *seen = (*seen).min(*time);
            }
        }
        for index in (1..seen.len()).rev() {
            seen[index - 1] = seen[index - 1].min(seen[index]);
        }
        told.sort_unstable();
        let mut highest = first;
        for (_, revision) in &mut told {
            highest = highest.max(*revision);
            *revision = highest;
        }
        Self { told, first, seen }
    }

    /// The highest revision that is known to have existed before `time`.
    pub(crate) fn floor(&self, time: u64) -> i64 {
        let before = self.told.partition_point(|(told, _)| *told < time);
        self.told[..before].last().map_or(self.first, |(_, revision)| *revision)
    }

    /// The time by which a revision existed; the end of time if nobody was told of it.
    pub(crate) fn seen(&self, revision: i64) -> u64 {
        let index = usize::try_from(revision - self.first).unwrap_or(0);
        self.seen.get(index).copied().unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_revision_proves_the_ones_before() {
        let times = Times::new(1, 5, vec![(100, 2), (50, 4), (70, 3)]);
        assert_eq!([1, 2, 3, 4, 5].map(|revision| times.seen(revision)), [50, 50, 50, 50, u64::MAX]);
        assert_eq!([50, 51, 70, 71, 200].map(|time| times.floor(time)), [1, 4, 4, 4, 4]);
    }
}
