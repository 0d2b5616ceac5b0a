//! The one clock: milliseconds since the process started, never going back.

use std::sync::OnceLock;
use std::time::Instant;

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Milliseconds of a monotonic clock that starts near 0.
pub fn now_ms() -> u64 {
    start().elapsed().as_millis() as u64
}

/// The moment at which [`now_ms`] will be `ms`.
pub fn instant_of(ms: u64) -> Instant {
    start() + std::time::Duration::from_millis(ms)
}
