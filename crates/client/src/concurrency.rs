//! Recipes on keys with leases: sessions, mutexes, elections. They keep the keys of Go's `client/v3/concurrency`, so
//! clients of both kinds exclude each other.

mod election;
mod mutex;
mod session;
mod wait;

pub use election::Election;
pub use mutex::Mutex;
pub use session::Session;

use crate::Error;
use std::fmt;

/// Why a recipe failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RecipeError {
    /// A call failed.
    Call(Error),
    /// The session's lease is gone, and with it what it held.
    SessionExpired,
    /// Another session holds the lock.
    Locked,
    /// There is no lock of this session to release.
    LockReleased,
    /// This session does not lead.
    NotLeader,
    /// Nobody leads.
    NoLeader,
    /// The watch for the key before ours ended, with this reason.
    WatchLost(String),
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecipeError::Call(e) => e.fmt(f),
            RecipeError::SessionExpired => f.write_str("mutex: session is expired"),
            RecipeError::Locked => f.write_str("mutex: Locked by another session"),
            RecipeError::LockReleased => f.write_str("mutex: lock has already been released"),
            RecipeError::NotLeader => f.write_str("election: not leader"),
            RecipeError::NoLeader => f.write_str("election: no leader"),
            RecipeError::WatchLost(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for RecipeError {}

impl From<Error> for RecipeError {
    fn from(error: Error) -> RecipeError {
        RecipeError::Call(error)
    }
}
