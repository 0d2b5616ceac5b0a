//! Bugs put in on purpose, for the simulator to find.
//!
//! The places where one would go ask [`is_planted`]. Without the feature `plants` that is the constant `false`, and
//! nothing of it is left in the build; with it, each thread plants at most one bug at a time.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A bug.
        #[derive(Copy, Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Bug {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Bug {
            /// All of them, in the order of their declaration.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name on a command line and in tables.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What is wrong.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

bugs! {
    // The host: who carries out a member's effects.
    /// The write-ahead log is reported durable as soon as it is written, before its sync.
    AckBeforeSync = "ack-before-sync",
    /// The write-ahead log is never synced.
    NoSync = "no-sync",

    // Consensus.
    /// A follower acknowledges entries before its disk has them.
    AppendAckBeforeDurable = "append-ack-before-durable",
    /// A vote leaves before the disk has it.
    VoteBeforeDurable = "vote-before-durable",
    /// A restarted member does not know for whom it voted.
    VoteForgotten = "vote-forgotten",
    /// A leader answers reads without asking whether it still leads.
    ReadWithoutRound = "read-without-round",
    /// A read that arrives while a confirmation round is under way is served by that round.
    ReadJoinsRound = "read-joins-round",
    /// A proposal whose leader changes is proposed again.
    ProposalSentAgain = "proposal-sent-again",

    // Membership.
    /// The group goes on counting a removed member.
    RemovedMemberCounts = "removed-member-counts",
    /// The group counts a learner as if it had a vote.
    LearnerCounts = "learner-counts",
    /// A learner is promoted however far behind it is.
    PromotedUnready = "promoted-unready",
    /// A member whose disk was emptied starts as if it were new, and votes.
    EmptiedMemberVotes = "emptied-member-votes",

    // Members that lag.
    /// A member that takes a snapshot over keeps the group as it knew it.
    SnapshotKeepsMembers = "snapshot-keeps-members",
    /// A checkpoint counts as there before its name is durable.
    CheckpointNameNotSynced = "checkpoint-name-not-synced",
    /// Entries read back from the disk are those one further on.
    FetchedEntriesShifted = "fetched-entries-shifted",
    /// Watchers go on behind a snapshot without what it skipped.
    WatchGapAfterSnapshot = "watch-gap-after-snapshot",

    // Recovery.
    /// A restarted member applies its whole log, committed or not.
    UncommittedApplied = "uncommitted-applied",
    /// A checkpoint says that one entry more is applied than is.
    CheckpointIndexHigh = "checkpoint-index-high",
    /// A torn batch at the end of the write-ahead log is taken for a whole one.
    TornTailKept = "torn-tail-kept",
    /// A damaged batch of the write-ahead log ends the log there, synced or not.
    DamageSkipped = "damage-skipped",
    /// A key whose last change before a checkpoint is its deletion is back after a restart.
    TombstoneLost = "tombstone-lost",

    // Leases.
    /// A member that led and does not any more goes on expiring leases, and its revocations reach the leader.
    RevokeByOldLeader = "revoke-by-old-leader",
    /// A new leader counts a lease's time from its grant, not from when it began to lead.
    LeaseEarlyAfterLeaderChange = "lease-early-after-leader-change",
    /// A renewal is granted although the lease's revocation is proposed.
    RenewalAfterRevocation = "renewal-after-revocation",
    /// A member that must ask its leader again answers keep-alives itself.
    RenewalAnsweredByFollower = "renewal-answered-by-follower",
    /// A checkpoint holds leases without the keys attached to them.
    LeaseKeysForgotten = "lease-keys-forgotten",
    /// A revocation leaves the last of several keys.
    RevokeLeavesKey = "revoke-leaves-key",
    /// A revocation of a lease with several keys deletes the first one a revision before the rest.
    RevokeTwoRevisions = "revoke-two-revisions",

    // Keys.
    /// The compares of a nested transaction see what the outer one wrote before it.
    CompareAfterWrite = "compare-after-write",
    /// Every so often all members but one apply an entry.
    ApplyDependsOnMember = "apply-depends-on-member",
    /// A read of the past shows the present.
    PastIsPresent = "past-is-present",
    /// A count of the past counts the present.
    CountOfPresent = "count-of-present",
    /// A compaction at a key's last revision takes the key out of the index.
    CompactionLosesKey = "compaction-loses-key",

    // Watches.
    /// A watcher that has caught up goes live one revision too far.
    WatchGapAtHandOver = "watch-gap-at-hand-over",
    /// A watcher from a past revision is told the revision before it too.
    WatchDuplicate = "watch-duplicate",
    /// Progress names a revision whose events were not sent yet.
    ProgressBeforeEvents = "progress-before-events",
    /// A watcher of a compacted revision begins at the oldest one there is, without a word.
    CompactedWatchBegins = "compacted-watch-begins",
    /// A watcher of a revision to come is told of revisions before it.
    FutureWatchOldEvents = "future-watch-old-events",
    /// prev_kv is the key after the change.
    PrevKvIsNew = "prev-kv-is-new",
    /// The changes of one transaction reach a watcher in a response each.
    TxnSplitForWatcher = "txn-split-for-watcher",
}

impl Bug {
    /// The bug of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

#[cfg(feature = "plants")]
mod planted {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use super::Bug;

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
        static KEPT: RefCell<BTreeMap<(u64, u64), Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Plants a bug on this thread, in place of the one before; `None` takes it out.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
        KEPT.take();
    }

    /// Keeps a proposal of a member for [`Bug::ProposalSentAgain`].
    pub fn keep(member: u64, id: u64, request: &[u8]) {
        if is_planted(Bug::ProposalSentAgain) {
            KEPT.with_borrow_mut(|kept| kept.insert((member, id), request.to_vec()));
        }
    }

    /// What was kept of a member.
    pub fn kept(member: u64) -> Vec<(u64, Vec<u8>)> {
        KEPT.with_borrow(|kept| {
            kept.range((member, 0)..=(member, u64::MAX)).map(|((_, id), request)| (*id, request.clone())).collect()
        })
    }

    /// Whether this bug is planted on this thread.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}

#[cfg(feature = "plants")]
pub use planted::{is_planted, keep, kept, plant};

/// Whether this bug is planted: never, in this build.
#[cfg(not(feature = "plants"))]
#[inline(always)]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}

/// Keeps nothing, in this build.
#[cfg(not(feature = "plants"))]
#[inline(always)]
pub const fn keep(_member: u64, _id: u64, _request: &[u8]) {}

/// Nothing, in this build.
#[cfg(not(feature = "plants"))]
#[inline(always)]
pub const fn kept(_member: u64) -> Vec<(u64, Vec<u8>)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::Bug;

    #[test]
    fn names_are_unique_and_found() {
        for bug in Bug::ALL {
            assert_eq!(Bug::from_name(bug.name()), Some(*bug));
            assert!(!bug.what().is_empty());
        }
    }
}
