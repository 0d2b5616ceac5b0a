//! The clocks: milliseconds since the process started, never going back, and the time of day, which may.

use std::sync::OnceLock;
#[cfg(not(feature = "fault-hooks"))]
use std::time::Duration;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds of a monotonic clock that starts near 0.
pub fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    seen(START.get_or_init(Instant::now).elapsed()).as_millis() as u64
}

#[cfg(not(feature = "fault-hooks"))]
fn seen(elapsed: Duration) -> Duration {
    elapsed
}

#[cfg(feature = "fault-hooks")]
use crate::faults::monotonic as seen;

/// Milliseconds since 1970, by the machine's clock. It may go back: nothing that must hold may rest on it.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    #[cfg(feature = "fault-hooks")]
    let since = since.saturating_add_signed(crate::faults::wall_offset_ms());
    since
}
