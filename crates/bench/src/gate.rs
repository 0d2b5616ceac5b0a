//! The store's gate: much live data, a cold cache, compaction under load, kills, overwriting for ever; each with a limit.
//!
//! Every value says which key it belongs to and which of the key's writes it is, so that whatever is read is also
//! checked.

pub mod report;
pub mod run;
pub mod space;
pub mod steps;
pub mod store;
