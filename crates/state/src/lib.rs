//! The replicated state machine: [`State::apply`] takes committed log entries in order and changes keys, leases,
//! members, alarms and versions, the same way on every member.
//!
//! Promises: deterministic (no clock, no randomness, no thread, no local configuration but [`StateLimits`]) and total:
//! an entry ends in a reply that is the same everywhere ([`ApplyError`] included), or in [`Fatal`], and the node stops.
//! A failed request costs an index and no revision (D-9). Responses are encoded once, without their header.
//!
//! Never does: deciding what to propose, telling time, answering anyone. Requests are judged by [`validate`] before
//! they are proposed; reads go to a [`cetera_mvcc::View`] and do not come here.

pub mod alarm;
mod apply;
pub mod checkpoint;
mod error;
mod hash;
pub mod id;
mod kv;
pub mod lease;
pub mod member;
pub mod quota;
mod request;
mod state;
pub mod validate;
pub mod version;
mod wire;

pub use self::{
    apply::{Applied, ConfOutcome, LeaseEffect, Outcome},
    checkpoint::{RestoreError, StateCheckpoint, StateRestore},
    error::{ApplyError, Fatal},
    kv::{ReadError, is_read_only, is_serializable, range_query, read_txn},
    state::{State, StateHash, StateLimits},
};
