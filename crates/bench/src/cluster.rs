//! The comparison of clusters: three members of ours and three of another server, [side by side](crate::side_by_side).
//!
//! Processor time is summed over the three members.

pub mod cell;
pub mod failover;
pub mod group;
pub mod report;
pub mod run;
pub mod snapshot;
