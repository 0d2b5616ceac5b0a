//! A member's own clock: it drifts and jumps, but never goes back.

/// A clock that shows microseconds of its own.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// The world's time of the last change of pace.
    since_us: u64,
    /// What it showed then.
    shown_us: u64,
    /// Microseconds too many per second.
    fast_ppm: i64,
}

impl Clock {
    /// A clock that shows `shown_us` at the start of the world.
    pub(crate) fn new(shown_us: u64) -> Self {
        Self { since_us: 0, shown_us, fast_ppm: 0 }
    }

    /// What it shows.
    pub(crate) fn now_us(&self, world_us: u64) -> u64 {
        let passed = world_us - self.since_us;
        let pace = (1_000_000 + self.fast_ppm) as u128;
        self.shown_us + (u128::from(passed) * pace / 1_000_000) as u64
    }

    /// From now on it is fast by so much, or slow.
    pub(crate) fn set_pace(&mut self, world_us: u64, fast_ppm: i64) {
        self.shown_us = self.now_us(world_us);
        self.since_us = world_us;
        self.fast_ppm = fast_ppm;
    }

    /// It jumps forward.
    pub(crate) fn jump(&mut self, world_us: u64, by_us: u64) {
        self.shown_us = self.now_us(world_us) + by_us;
        self.since_us = world_us;
    }

    /// How long the world waits until this clock has moved on by `own_us`.
    pub(crate) fn world_us_until(&self, own_us: u64) -> u64 {
        let pace = (1_000_000 + self.fast_ppm) as u128;
        (u128::from(own_us) * 1_000_000).div_ceil(pace) as u64 + 1
    }
}
