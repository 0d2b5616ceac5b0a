//! Latencies.

/// Sub-buckets per power of two: an error below 1.6 %.
const STEPS: usize = 64;
/// Groups of buckets: one for values below 64, one for each power of two of a `u64` from there.
const POWERS: usize = 59;

/// A log-linear histogram of nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u32>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; STEPS * POWERS], count: 0, max: 0 }
    }
}

impl Histogram {
    /// Takes one.
    pub fn add(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The highest, in microseconds.
    pub fn max_us(&self) -> f64 {
        self.max as f64 / 1e3
    }

    /// A quantile from 0 to 1, in microseconds; 0 if there is nothing.
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        let wanted = ((self.count as f64 * quantile).ceil() as u64).clamp(1, self.count.max(1));
        let mut below = 0;
        for (n, &count) in self.buckets.iter().enumerate() {
            below += u64::from(count);
            if below >= wanted {
                return lower_bound(n) as f64 / 1e3;
            }
        }
        0.0
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let value = nanoseconds.max(1);
    let power = value.ilog2() as usize;
    if power < 6 { value as usize } else { (power - 5) * STEPS + ((value >> (power - 6)) as usize & (STEPS - 1)) }
}

fn lower_bound(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let power = bucket / STEPS + 5;
    (1 << power) + ((bucket % STEPS) as u64) * (1 << (power - 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_the_error() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(0.5), 0.0);
        for n in 1..=100_000u64 {
            histogram.add(n * 1000);
        }
        for (quantile, us) in [(0.01, 1_000.0), (0.5, 50_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
            let found = histogram.quantile_us(quantile);
            assert!((found - us).abs() / us < 0.016, "{quantile}: {found}");
        }
        assert_eq!((histogram.count(), histogram.max_us()), (100_000, 100_000.0));
    }

    #[test]
    fn every_value_lies_in_its_bucket() {
        for value in [1, 2, 63, 64, 65, 127, 128, 1_000, 123_456_789, u64::MAX] {
            let n = bucket(value);
            assert!(n < STEPS * POWERS, "{value}");
            assert!(lower_bound(n) <= value && (value == u64::MAX || value < lower_bound(n + 1)), "{value}");
        }
    }
}
