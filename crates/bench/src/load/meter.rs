//! What a load counts.

use std::time::{Duration, Instant};

use super::histogram::Histogram;

/// Counts and latencies, of the measured time only.
#[derive(Clone, Debug)]
pub struct Meter {
    since: Option<Instant>,
    measured: Duration,
    /// Latencies of successful operations.
    pub latency: Histogram,
    /// The same, second by second.
    pub seconds: Vec<Histogram>,
    /// Failed operations.
    pub errors: u64,
    /// Bytes of messages received.
    pub bytes: u64,
    /// All successful operations since the load began, measured or not.
    pub done: u64,
    /// The raw header block of the first failure.
    pub first_error: Option<String>,
}

impl Default for Meter {
    fn default() -> Self {
        Meter {
            since: None,
            measured: Duration::ZERO,
            latency: Histogram::default(),
            seconds: Vec::new(),
            errors: 0,
            bytes: 0,
            done: 0,
            first_error: None,
        }
    }
}

impl Meter {
    /// Begins to measure, from nothing.
    pub fn start(&mut self) {
        let (done, first_error) = (self.done, self.first_error.take());
        *self = Meter { since: Some(Instant::now()), done, first_error, ..Meter::default() };
    }

    /// Ends measuring.
    pub fn stop(&mut self) {
        if let Some(since) = self.since.take() {
            self.measured = since.elapsed();
        }
    }

    /// An operation succeeded.
    pub fn succeeded(&mut self, sent: Instant, bytes: usize) {
        self.done += 1;
        if let Some(since) = self.since {
            let now = Instant::now();
            let nanoseconds = now.duration_since(sent).as_nanos() as u64;
            self.latency.add(nanoseconds);
            self.bytes += bytes as u64;
            let second = now.duration_since(since).as_secs() as usize;
            if self.seconds.len() <= second {
                self.seconds.resize_with(second + 1, Histogram::default);
            }
            self.seconds[second].add(nanoseconds);
        }
    }

    /// An operation failed.
    pub fn failed(&mut self, block: &[u8]) {
        self.errors += u64::from(self.since.is_some());
        self.first_error.get_or_insert_with(|| String::from_utf8_lossy(block).into_owned());
    }

    /// How long was measured.
    pub fn measured(&self) -> Duration {
        self.since.map_or(self.measured, |since| since.elapsed())
    }

    /// Successful operations in the measured time.
    pub fn count(&self) -> u64 {
        self.latency.count()
    }

    /// Operations per second.
    pub fn rate(&self) -> f64 {
        self.count() as f64 / self.measured().as_secs_f64().max(1e-9)
    }
}
