//! A member in the world: fronts, services, HTTP, configuration, log, metrics, and the program that starts them.
//!
//! Everything that touches a socket, a thread, a clock or the environment is here; what a member does with an event is
//! `cetera-node`'s.

pub mod clock;
pub mod config;
pub mod flags;
pub mod log;
