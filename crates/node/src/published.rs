//! The applied state as readers see it: an immutable picture, replaced as a whole after every apply batch.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use cetera_mvcc::View;
use cetera_proto::etcdserverpb::AlarmMember;
use cetera_state::StateHash;
use cetera_state::member::Member;

/// What the leader knows of a member's log.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct MemberProgress {
    /// The member.
    pub member: u64,
    /// Entries up to this one are the leader's, and durable.
    pub matched: u64,
    /// Whether it was heard of within an election timeout.
    pub is_active: bool,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// Whether it waits for a snapshot.
    pub in_snapshot: bool,
}

/// One picture of the member's state. Readers on any thread hold it as long as they need, the writer never waits.
#[derive(Clone)]
pub struct Published {
    /// Keys and history.
    pub view: View,
    /// Last applied log index.
    pub applied_index: u64,
    /// Hash of the whole state at `applied_index`: what members compare.
    pub state_hash: StateHash,
    /// Last committed log index known.
    pub committed_index: u64,
    /// Term of this member.
    pub term: u64,
    /// Leader's member id, 0 if none is known.
    pub leader: u64,
    /// This member's id.
    pub member_id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// Since when `leader` is known, on the node's clock in milliseconds (G-13).
    pub leader_since_ms: u64,
    /// Since when no leader is known (G-6); `None` while one is.
    pub no_leader_since_ms: Option<u64>,
    /// Whether this member is a learner.
    pub is_learner: bool,
    /// This member was removed from its cluster and has applied it: it has nothing left to do.
    pub removed: bool,
    /// There is nobody but this member, voter or learner.
    pub is_alone: bool,
    /// This member's state differs from that of a majority: it serves no reads, takes no proposals and does not stand
    /// for election until it has been given a snapshot.
    pub fenced: bool,
    /// How far the other members are, by id; empty unless this member leads. Renewed with each picture, and by the tick.
    pub progress: Arc<Vec<MemberProgress>>,
    /// The members, by id.
    pub members: Arc<Vec<Member>>,
    /// Ids of members that were removed: they never return.
    pub removed_members: Arc<BTreeSet<u64>>,
    /// Active alarms.
    pub alarms: Arc<Vec<AlarmMember>>,
    /// Decided cluster version such as `3.7.0`; empty until decided (V-1).
    pub cluster_version: Arc<str>,
    /// Level of our own features that all members have.
    pub feature_level: u64,
    /// Where a downgrade under way goes (M-8).
    pub downgrade_target: Option<Arc<str>>,
    /// The write-ahead log failed: nothing is acknowledged until this member is started anew. Reads go on.
    pub log_failed: bool,
    /// Logical bytes of live data and retained history, which the quota counts.
    pub logical_bytes: u64,
    /// Bytes of live data alone.
    pub live_bytes: u64,
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Published(revision {}, applied {}, term {})", self.view.revision(), self.applied_index, self.term)
    }
}
