//! The crash run: a server is killed under load, again and again on the same data, and must bring back all that it
//! acknowledged.
//!
//! A [`ledger::Ledger`] holds what clients know: acknowledged writes by revision, writes whose outcome is unknown, what
//! watchers and readers saw, leases, compactions. After each start the whole history since the compaction is watched
//! again; the ledger must be able to explain every revision of it by exactly one write, and every key, past and present,
//! must read as that history says.

pub mod ledger;
pub mod life;
pub mod load;
pub mod model;
pub mod op;
pub mod run;
pub mod value;
pub mod verify;
