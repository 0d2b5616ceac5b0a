//! Bugs put in on purpose, for the simulator to find.
//!
//! The places where one would go ask [`is_planted`]. Without the feature `plants` that is the constant `false`, and
//! nothing of it is left in the build; with it, each thread plants at most one bug at a time.

/// A bug.
#[derive(Copy, Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Bug {
    /// Leases are revoked by a member that led and does not any more.
    RevokeByOldLeader,
}

#[cfg(feature = "plants")]
mod planted {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug on this thread, in place of the one before; `None` takes it out.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is planted on this thread.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "plants")]
pub use planted::{is_planted, plant};

/// Whether this bug is planted: never, in this build.
#[cfg(not(feature = "plants"))]
#[inline(always)]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}
