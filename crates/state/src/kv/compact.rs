//! Compact (KV-18): the watermark moves and that is all; space comes back in the background.

use cetera_mvcc::{CompactionHash, MvccError, Store};

use crate::error::Failure;

/// Moves the watermark. Returns the job that computes the hash this compaction leaves behind (D-4), unless the log
/// could not be flushed for it: a full disk must not keep anyone from compacting, and the hash is a member's own.
pub(crate) fn apply(store: &mut Store, revision: i64) -> Result<Option<CompactionHash>, Failure> {
    match store.compact_hashed(revision) {
        Ok(job) => Ok(Some(job)),
        Err(MvccError::Log(_)) => {
            store.compact(revision)?;
            Ok(None)
        }
        Err(refused) => Err(refused.into()),
    }
}
