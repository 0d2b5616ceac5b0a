//! Whole members in one thread, from one seed: the real node and the real storage over a disk in memory that crashes.
//!
//! [`member::SimMember`] is the node's shell without threads; [`workload`] makes requests; [`crash`] runs a member
//! through lives that end at chosen disk operations and compares what comes back with a reference that never crashed.

pub mod actors;
pub mod client;
pub mod crash;
pub mod member;
pub mod workload;
