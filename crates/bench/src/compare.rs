//! The comparison of one member: the same loads against our server and another one, [side by side](crate::side_by_side).

pub mod cell;
pub mod compaction;
pub mod memory;
pub mod report;
pub mod run;
