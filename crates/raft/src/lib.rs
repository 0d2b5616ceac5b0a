//! One consensus group as a value: events in by method calls, effects out by [`Group::ready`]. No I/O, no clock, no
//! thread, no randomness but a seeded one.
//!
//! The algorithm is the `raft` library's. This crate is the only one that knows it; to everything above, the words are
//! etcd's (`raftpb`), and the library's open questions are answered here once:
//!
//! * **What may leave before it is durable.** A leader's messages may leave at once; its own vote for an entry counts
//!   only after [`Group::persisted`]. On everyone else the library marks all messages "after persistence", which would
//!   put a heartbeat response behind a slow disk. [`outbox`] releases what carries no claim about the log as soon as
//!   term and vote are durable, and the rest when every earlier ready is.
//! * **The commit index** rides with the next entries; without any, the owner says when followers are told.
//! * **Proposals travel at most once.** Nothing here retries; a dropped proposal is an error to its proposer.
//! * **Election timeouts** are drawn from a generator seeded by the caller, so that a whole cluster runs from one seed.
//! * **Membership changes** stay in etcd's encoding in the log and are translated when they are applied.
//! * **Memory.** The log kept for followers is bounded in entries and bytes ([`log::KEEP_ENTRIES_MAX`],
//!   [`log::KEEP_BYTES_MAX`]). A follower that needs more is sent what the disk has, read some MiB at a time, and a
//!   snapshot if that does not reach.
//! * **Snapshots** are files; the group sees their metadata only. Its owner says when one may be sent, and that one was
//!   received.

mod admission;
pub mod convert;
pub mod group;
pub mod log;
pub mod outbox;
pub mod rng;

pub use group::{
    CommitNews, ConfProposal, Config, Entry, EntryKind, Group, Progress, ProposeError, ReadState, Ready, Recovered,
    Role,
};
