//! The applied state as readers see it: an immutable picture, replaced as a whole after every apply batch.

use std::fmt;
use std::sync::Arc;

use cetera_mvcc::View;
use cetera_proto::etcdserverpb::AlarmMember;
use cetera_state::member::Member;

/// One picture of the member's state. Readers on any thread hold it as long as they need, the writer never waits.
#[derive(Clone)]
pub struct Published {
    /// Keys and history.
    pub view: View,
    /// Last applied log index.
    pub applied_index: u64,
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
    /// Whether this member is a learner.
    pub is_learner: bool,
    /// The members, by id.
    pub members: Arc<Vec<Member>>,
    /// Active alarms.
    pub alarms: Arc<Vec<AlarmMember>>,
    /// Decided cluster version such as `3.7.0`; empty until decided (V-1).
    pub cluster_version: Arc<str>,
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
