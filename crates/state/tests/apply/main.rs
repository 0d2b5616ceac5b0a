//! The state machine from outside: entries in, replies and changes out. Tests name the contract rows they prove.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod alarms;
mod checkpoints;
mod harness;
mod keys;
mod leases;
mod members;
mod model;
mod naive;
mod reads;
mod txns;
