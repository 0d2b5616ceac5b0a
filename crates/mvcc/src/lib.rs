//! The multi-version store: revisions, key index, ranges, compaction, history for watchers.
//!
//! Holds every revision of every key since the compaction watermark: payloads in a revision log on the disk, places in
//! an index in memory. [`Store`] is the one writer, [`View`] a snapshot for any number of readers.
//!
//! Promises etcd's results to the byte (contract KV, TX-8 to TX-11, D-1 to D-5). Never starts a thread, reads a clock
//! or syncs a file: background work comes as jobs to run elsewhere and as steps the writer is given time for.

mod checkpoint;
mod compaction;
mod encode;
mod error;
mod event;
mod hash;
mod history;
pub mod past;
mod query;
mod range;
mod rewrite;
mod store;
#[cfg(test)]
mod tests;
pub mod tree;
mod txn;
mod view;

pub use cetera_storage::{
    revision::Revision,
    revlog::{Location, LogError},
};

pub use self::{
    checkpoint::{ChunkSink, RestoreError, StoreCheckpoint, StoreRestore, WriteError},
    encode::KeyValueRef,
    error::MvccError,
    event::EventRec,
    hash::{CompactionHash, HashKv},
    past::{KeyRevision, KeyRevision as LiveKey},
    query::{RangeQuery, SortOrder, SortTarget, UnknownSortOption},
    range::RangeTotals,
    rewrite::StoreRewrite,
    store::Store,
    tree::{KeyEnd, Totals},
    txn::WriteTxn,
    view::View,
};
