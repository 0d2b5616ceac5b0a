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
/// Leases of which a rest is recorded, or forgotten, in one entry at most (L-13).
pub const RECORDS_PER_ENTRY_MAX: usize = 1_000;
/// Leases of which a rest is recorded in one step at most.
pub const RECORDS_PER_STEP_MAX: usize = 4_000;
/// Seconds left of a lease below which nothing is recorded any more: a successor then gives it a full time again, and
/// recording so little would cost more than it saves.
pub const RECORDED_REST_MIN_SECONDS: i64 = 5;
/// A lease that is not renewed is recorded when half of its time is left, and again after each further part of this
/// size.
pub const RECORDED_PARTS: i64 = 8;
/// Time after a rewrite that failed (a full disk, say) before the next is planned, in milliseconds.
pub const REWRITE_RETRY_MS: u64 = 10_000;
/// How long a proposal may be under way before its lease may be proposed for revocation again, in milliseconds.
pub const REVOKE_RETRY_MS: u64 = 7_000;
/// Keep-alives of one lease that wait for the log at most.
pub const UNSETTLED_PER_LEASE_MAX: usize = 1_024;
/// Lease questions in one message to the leader at most.
pub const LEASE_QUESTIONS_PER_MESSAGE_MAX: usize = 4_096;
/// A lease question that the leader did not answer is asked again after this many milliseconds.
pub const LEASE_ASK_RETRY_MS: u64 = 500;
/// The same, if whoever was asked said that it does not lead (L-6).
pub const LEASE_REASK_MS: u64 = 50;
/// Milliseconds by which survivors of a leader that is gone stand apart, in the order of their ids: more than a pre-vote
/// takes on a near network, so that the first is not disturbed by the second.
pub const FAILOVER_STEP_MS: u64 = 5;
/// Milliseconds the first election may take before this member stands again, or after another one. Each further one is
/// given twice as long, up to the election timeout, which then takes over.
pub const FAILOVER_ROUND_MS: u64 = 40;
/// Distances between the indexes of the log at which members compare their states: whatever the pace of writes, members
/// some seconds apart have one of them in common.
pub const REPORT_DISTANCES: [u64; 3] = [64, 1 << 10, 1 << 14];
/// Hashes kept per distance, for members that lag.
pub const REPORT_HASHES_KEPT: usize = 64;
/// Hashes sent per distance.
pub const REPORT_HASHES_SENT: usize = 8;
/// Milliseconds between reports.
pub const REPORT_EVERY_MS: u64 = 2_000;
/// Milliseconds that states may differ without a majority before the alarm is raised although some voter is silent.
pub const UNDECIDED_MS_MAX: u64 = 60_000;
/// A read confirmation that did not come is asked for again after this many milliseconds (KV-8).
pub const READ_RETRY_MS: u64 = 500;
/// Share of the write-ahead log's bytes that may hold what a checkpoint covers, for members that lag: a fourth. With
/// [`CHECKPOINT_LOG_BYTES_MAX`] it stays well below what the log may take in all.
pub const LAGGARD_LOG_SHARE: u64 = 4;
/// How long the sending of one snapshot may take, in milliseconds: its files take room on the disk meanwhile. A shell
/// gives up a line that stands still long before.
pub const SNAPSHOT_SEND_MS_MAX: u64 = 60 * 60 * 1_000;
/// Time after which a member that has all of a snapshot, and has not gone on from it, is asked again, in milliseconds. One
/// that is still at it says that it has everything.
pub const SNAPSHOT_INSTALL_MS_MAX: u64 = 10_000;
/// Time after a snapshot that failed before the next one to the same member, in milliseconds.
pub const SNAPSHOT_RETRY_MS: u64 = 1_000;
/// How long a snapshot is kept for others after it was last needed, in milliseconds.
pub const SNAPSHOT_REUSE_MS: u64 = 30_000;
/// Bytes of other members' proposals that are held while leadership moves: what comes in during one election.
pub const HELD_FORWARDED_BYTES_MAX: usize = 16 << 20;
/// How long what is committed waits for entries that can carry it to the followers, in milliseconds: clients of theirs
/// that only watch learn of it later by at most that.
pub const COMMIT_RIDES_MS: u64 = 1;
