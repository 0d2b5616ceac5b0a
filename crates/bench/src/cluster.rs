//! The comparison of clusters: three members of ours and three of another server, in turn, on this machine.
//!
//! Each run is made on a fresh cluster. What is compared is the median over the runs; every single run is kept as one
//! JSON line. Processor time is summed over the three members.

pub mod cell;
pub mod failover;
pub mod group;
pub mod report;
pub mod run;
pub mod snapshot;
