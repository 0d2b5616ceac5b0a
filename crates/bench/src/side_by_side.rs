//! Two servers under the same loads, in turn: what the comparisons of one member and of three have in common.
//!
//! Each run of a cell is made on a fresh data directory, ours and the peer's in turn, so that a disk or a machine that
//! drifts drifts for both. What is compared is the median over the runs; every single run is kept as one JSON line.

pub mod page;
pub mod record;
pub mod run;
