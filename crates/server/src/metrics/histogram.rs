//! A histogram with etcd's buckets for disk latencies.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets: 1 ms, doubled 13 times.
const BUCKETS: usize = 14;

/// Counts durations. Any thread may observe.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// Observations per bucket, the last one without a bound.
    counts: [AtomicU64; BUCKETS + 1],
    sum_nanos: AtomicU64,
}

impl Histogram {
    pub(crate) const fn new() -> Self {
        Histogram { counts: [const { AtomicU64::new(0) }; BUCKETS + 1], sum_nanos: AtomicU64::new(0) }
    }

    pub(crate) fn observe(&self, took: Duration) {
        let bucket = (0..BUCKETS).position(|bucket| took <= bound(bucket)).unwrap_or(BUCKETS);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(crate) fn render(&self, out: &mut String, name: &str, help: &str) {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
        let mut total = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let _ = match bucket {
                BUCKETS => writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {total}"),
                _ => writeln!(out, "{name}_bucket{{le=\"{}\"}} {total}", bound(bucket).as_secs_f64()),
            };
        }
        let sum = Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(out, "{name}_sum {sum}\n{name}_count {total}");
    }
}

fn bound(bucket: usize) -> Duration {
    Duration::from_millis(1 << bucket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_from_bucket_to_bucket() {
        let histogram = Histogram::new();
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
}
