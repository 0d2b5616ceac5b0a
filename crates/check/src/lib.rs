//! What clients saw, and whether a server that keeps etcd's promises could have shown it to them.
//!
//! A [`history::History`] is what the clients of one run recorded, in the simulator or against real processes. The
//! checkers know nothing of the server: they judge by the history alone.

pub mod generate;
pub mod history;
pub mod keys;
