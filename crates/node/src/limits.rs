//! The node's bounds, each with its name.

/// Committed and not yet applied entries above which new proposals are refused with TooManyRequests (G-12).
pub const UNAPPLIED_ENTRIES_MAX: u64 = 5_000;
/// Bytes of proposals that wait for their outcome at most; beyond it TooManyRequests.
pub const WAITING_BYTES_MAX: usize = 256 << 20;
/// Share of the leader's log that a learner must have to be promoted, in percent (C-6).
pub const LEARNER_READY_PERCENT: u64 = 90;
/// Linearizable reads that wait for confirmation at most; beyond it TooManyRequests.
pub const WAITING_READS_MAX: usize = 1 << 20;
/// Records a compaction slice looks at between two batches of work.
pub const COMPACTION_SLICE_RECORDS: usize = 128;
/// Stored bytes above which a compaction's hash (D-4) is not computed: it reads all of them, and would cost every
/// compaction of a large store more than the compaction.
pub const COMPACTION_HASH_BYTES_MAX: u64 = 256 << 20;
/// Index entries a rewrite relocates between two batches of work.
pub const REWRITE_SLICE_RECORDS: usize = 128;
/// Bytes of segments that one rewrite reads at most.
pub const REWRITE_BYTES_MAX: u64 = 256 << 20;
/// Log bytes applied since the last checkpoint that make the next one due, at least.
pub const CHECKPOINT_LOG_BYTES_MIN: u64 = 32 << 20;
/// The same, at most: it bounds the write-ahead log and the replay at a start.
pub const CHECKPOINT_LOG_BYTES_MAX: u64 = 512 << 20;
/// Leases revoked in one append at most.
pub const EXPIRIES_PER_APPEND_MAX: usize = 4_096;
/// Revocations proposed and not yet applied at most: a log that waits for a full disk must not gather them without end.
pub const REVOCATIONS_UNDER_WAY_MAX: usize = 16 * EXPIRIES_PER_APPEND_MAX;
/// Time after a rewrite that failed (a full disk, say) before the next is planned, in milliseconds.
pub const REWRITE_RETRY_MS: u64 = 10_000;
/// How long a proposal may be under way before its lease may be proposed for revocation again, in milliseconds.
pub const REVOKE_RETRY_MS: u64 = 7_000;
/// A read confirmation that did not come is asked for again after this many milliseconds (KV-8).
pub const READ_RETRY_MS: u64 = 500;
