//! One member as a value: [`event::Event`]s in, [`event::Effects`] out. Owns the consensus group, the replicated state,
//! the read queue and the lessor; watch hubs are values of this crate too, one per reader thread.
//!
//! Nothing here knows a runtime, a socket, a file or a clock (the revision log writes through the storage crate's file
//! system trait), so a whole cluster runs inside a test from one seed.

pub mod event;
pub mod evidence;
pub mod job;
pub mod lessor;
pub mod limits;
pub mod node;
pub mod published;
mod read;
pub mod recovery;
pub mod snapshot;
mod waiters;
pub mod watch;

pub use event::{Change, Effects, Event, EventBatch, Fatal, Proposal, Refusal, Reply, Ticket};
pub use node::{Disk, Node, NodeConfig};
pub use published::{MemberProgress, Published};
