//! The comparison: the same loads against our server and another one, side by side.
//!
//! Each cell is run on a fresh data directory, ours and the peer's in turn, so that a disk or a machine that drifts
//! drifts for both. What is compared is the median over the runs; every single run is kept as one JSON line.

pub mod cell;
pub mod compaction;
pub mod memory;
pub mod record;
pub mod report;
pub mod run;
