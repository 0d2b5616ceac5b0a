//! Histograms of durations with etcd's buckets: a first bound, doubled from bucket to bucket.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts durations. Any thread may observe.
#[derive(Debug)]
pub(crate) struct Histogram<const BUCKETS: usize> {
    first: Duration,
    /// Observations per bucket.
    counts: [AtomicU64; BUCKETS],
    /// Those above the last bound.
    longer: AtomicU64,
    sum_nanos: AtomicU64,
}

impl<const BUCKETS: usize> Histogram<BUCKETS> {
    pub(crate) const fn new(first: Duration) -> Self {
        Histogram {
            first,
            counts: [const { AtomicU64::new(0) }; BUCKETS],
            longer: AtomicU64::new(0),
            sum_nanos: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe(&self, took: Duration) {
        let bucket = (0..BUCKETS).position(|bucket| took <= self.bound(bucket));
        bucket.map_or(&self.longer, |bucket| &self.counts[bucket]).fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    /// How many were observed.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().chain([&self.longer]).map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// The only series of its name.
    pub(crate) fn render(&self, out: &mut String, name: &str, help: &str) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        self.series(out, name, "");
    }

    /// One of several series; `labels` tells it from the others.
    pub(crate) fn series(&self, out: &mut String, name: &str, labels: &str) {
        let (and, of) = match labels {
            "" => (String::new(), String::new()),
            labels => (format!("{labels},"), format!("{{{labels}}}")),
        };
        let mut total = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{and}le=\"{}\"}} {total}", self.bound(bucket).as_secs_f64());
        }
        total += self.longer.load(Ordering::Relaxed);
        let sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)).as_secs_f64();
        let _ =
            writeln!(out, "{name}_bucket{{{and}le=\"+Inf\"}} {total}\n{name}_sum{of} {sum}\n{name}_count{of} {total}");
    }

    fn bound(&self, bucket: usize) -> Duration {
        self.first * (1 << bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_from_bucket_to_bucket() {
        let histogram = Histogram::<14>::new(Duration::from_millis(1));
        for millis in [1, 2, 3, 10_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut out = String::new();
        histogram.render(&mut out, "x", "h");
        assert!(
            out.starts_with("# HELP x h\n# TYPE x histogram\nx_bucket{le=\"0.001\"} 1\nx_bucket{le=\"0.002\"} 2\n"),
            "{out}"
        );
        assert!(out.ends_with("x_bucket{le=\"8.192\"} 3\nx_bucket{le=\"+Inf\"} 4\nx_sum 10.006\nx_count 4\n"), "{out}");
    }

    #[test]
    fn series_have_labels() {
        let histogram = Histogram::<2>::new(Duration::from_micros(100));
        histogram.observe(Duration::from_micros(150));
        let mut out = String::new();
        histogram.series(&mut out, "x", "To=\"a\"");
        let lines = [
            "x_bucket{To=\"a\",le=\"0.0001\"} 0",
            "x_bucket{To=\"a\",le=\"0.0002\"} 1",
            "x_bucket{To=\"a\",le=\"+Inf\"} 1",
            "x_sum{To=\"a\"} 0.00015",
            "x_count{To=\"a\"} 1",
            "",
        ];
        assert_eq!(out, lines.join("\n"));
    }
}
