//! What goes into a member and what comes out: one closed list of events, one struct of effects.
//!
//! [`crate::Node::step`] takes events and returns [`Effects`]; it never waits. The shell performs the effects in the
//! order the fields are listed, with two exceptions stated there, and feeds the answers back as events.

use std::sync::Arc;

use bytes::Bytes;
use cetera_mvcc::EventRec;
use cetera_proto::{ceterapb::PeerMessage, raftpb};
use cetera_state::member::{Member, MemberChange};
use cetera_state::{Applied, ApplyError};
use cetera_storage::wal::WalBatch;

use crate::job::{Job, JobDone};
use crate::published::Published;
use crate::snapshot::{PreparedSnapshot, SnapshotSend};

/// Where an answer goes: a front thread and a slot of its own choosing. Opaque to the node.
#[derive(Copy, Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket {
    /// Index of the front thread.
    pub front: u16,
    /// The front's own number for the waiting call.
    pub slot: u64,
}

/// A write on its way into the log.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// Who waits for the outcome.
    pub ticket: Ticket,
    /// `InternalRaftRequest.header.ID`, unique over members and restarts (ID-5).
    pub id: u64,
    /// The encoded `InternalRaftRequest`.
    pub request: Bytes,
}

/// A membership change on its way into the log (C-1 to C-6).
#[derive(Clone, Debug)]
pub struct Change {
    /// Who waits for the outcome.
    pub ticket: Ticket,
    /// The entry. Its `id` names the waiter; it comes from where proposals get theirs.
    pub change: raftpb::ConfChange,
    /// It makes a voter of a learner: only the leader takes it, and only once the learner has nearly all of the log
    /// (C-6). On another member it is refused as [`Refusal::NotLeader`]; the caller sends it on.
    pub promotes: bool,
}

/// A lease keep-alive (L-5) on its way to the lessor.
#[derive(Copy, Clone, Debug)]
pub struct Renewal {
    /// Who waits.
    pub ticket: Ticket,
    /// The lease.
    pub lease: i64,
}

/// A question only the lessor can answer.
#[derive(Copy, Clone, Debug)]
pub enum LeaseQuestion {
    /// Time left of one lease; with `keys`, the attached keys too (L-9).
    TimeToLive {
        /// The lease.
        lease: i64,
        /// Whether attached keys are wanted.
        keys: bool,
    },
    /// All leases by expiry (L-10).
    Leases,
}

/// Everything that can happen to a member.
#[derive(Debug)]
pub enum Event {
    /// Writes to order. Bounded by [`crate::limits::WAITING_BYTES_MAX`]; refused beyond it.
    Propose(Vec<Proposal>),
    /// A membership change. Answered by [`Reply::Changed`] on the member that was asked.
    Change(Change),
    /// Hand leadership to the member `to`, 0 for the voter that is furthest ahead among those lately heard of. Answered
    /// by [`Reply::Transferred`] once that one leads (M-7, R-4).
    Transfer {
        /// Who waits, if anyone does.
        ticket: Option<Ticket>,
        /// The next leader.
        to: u64,
    },
    /// Linearizable reads that want a confirmed read index (KV-8).
    Read(Vec<Ticket>),
    /// Keep-alives.
    Renew(Vec<Renewal>),
    /// A question for the lessor.
    Lease(Ticket, LeaseQuestion),
    /// Tell this ticket when compaction has nothing left to give back and its hash is known.
    Settle(Ticket),
    /// Messages from other members, already parsed by our own types.
    Peer(Vec<PeerMessage>),
    /// A connection to this member was reset or refused: its process is gone. If it led, an election begins at once.
    PeerGone(u64),
    /// Messages to this member were lost: what was sent to it ahead of its answers is sent again.
    PeerUnreachable(u64),
    /// A snapshot that was received is ready to be this member's state, if the group takes it.
    Snapshot(Box<PreparedSnapshot>),
    /// The sending of a snapshot ended. `ok`: the receiver said that it has every byte; it may still be long until it is
    /// installed. Otherwise the node tries again by itself.
    SnapshotSent {
        /// Who was to get it.
        to: u64,
        /// [`SnapshotSend::id`].
        id: u64,
        /// Whether all of it is there.
        ok: bool,
    },
    /// Time has passed. Milliseconds of a clock that never goes back; missed ticks are not replayed.
    Tick {
        /// The clock now.
        now_ms: u64,
    },
    /// This many ticks count as passed without a leader.
    AdvanceElection(usize),
    /// The write-ahead batch with this number, and all before it, are durable.
    Persisted(u64),
    /// The write-ahead log failed for good: this member acknowledges and votes no more.
    LogFailed,
    /// A background job ended.
    Job(JobDone),
    /// The shell is going down: refuse new work, fail waiters.
    Stop,
}

/// Why the node did not carry a request to an applied outcome.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// E: NoLeader.
    NoLeader,
    /// E: LeaderChanged.
    LeaderChanged,
    /// E: Timeout. The outcome is unknown.
    Timeout,
    /// E: Stopped.
    Stopped,
    /// E: TooManyRequests (G-12).
    TooManyRequests,
    /// E: NoSpace: the disk is full; nothing was logged.
    NoSpace,
    /// `not a primary lessor` (L-8).
    NotPrimaryLessor,
    /// E: DeadlineExceeded: no leader was found in time; nothing was logged.
    DeadlineExceeded,
    /// E: NotLeader: only the leader can say (C-6, M-7).
    NotLeader,
    /// E: LearnerNotReady (C-6).
    LearnerNotReady,
    /// Another membership change is under way; nothing was logged.
    ChangeUnderWay,
    /// E: BadLeaderTransferee (M-7).
    BadLeaderTransferee,
    /// E: Corrupt: this member's state differs from the others'; it serves nobody until it has theirs.
    Corrupt,
}

/// An answer to a ticket.
#[derive(Debug)]
pub enum Reply {
    /// The proposal was applied; the inner result is the same on every member.
    Applied(Result<Applied, ApplyError>),
    /// The membership change was applied here; the inner result is the same on every member.
    Changed {
        /// What it did.
        result: Result<MemberChange, ApplyError>,
        /// All members afterwards.
        members: Arc<Vec<Member>>,
    },
    /// Leadership went to this member.
    Transferred(u64),
    /// A linearizable read may be served from any view published from now on.
    Read,
    /// Compaction has nothing left to do.
    Settled,
    /// Keep-alive: remaining seconds granted, 0 if the lease is gone (L-5).
    Renewed {
        /// Seconds.
        ttl: i64,
    },
    /// TimeToLive (L-9): `ttl` is -1 and `granted` 0 for an unknown lease.
    TimeToLive {
        /// Whole seconds left.
        ttl: i64,
        /// Seconds granted.
        granted: i64,
        /// Attached keys, if asked.
        keys: Vec<Bytes>,
    },
    /// Lease ids by expiry.
    Leases(Vec<i64>),
    /// Not done; see [`Refusal`] for what is known of the outcome.
    Refused(Refusal),
}

/// Changes of one apply batch, for the watch hubs. Whole revisions, in order. A batch that does not begin where the one
/// before it ended says that the state was replaced by a snapshot: hubs read what they were not told from the picture.
#[derive(Debug)]
pub struct EventBatch {
    /// The changes, by revision.
    pub events: Vec<EventRec>,
    /// Store revision after the batch.
    pub revision: i64,
    /// Applied index of the picture that came with it. When a state is replaced, revisions may go back; this stays or
    /// grows.
    pub applied_index: u64,
}

/// A batch for the write-ahead log; answered by [`Event::Persisted`] with its number.
#[derive(Debug)]
pub struct WalWrite {
    /// Consecutive number.
    pub number: u64,
    /// What to append.
    pub batch: WalBatch,
    /// False when only the commit index moved: no sync is needed then (WAL-5).
    pub must_sync: bool,
}

/// What the shell must do after a step.
#[derive(Debug, Default)]
pub struct Effects {
    /// Appended in order; several may be synced together. Never waited for inside the step.
    pub wal: Vec<WalWrite>,
    /// To other members; may leave at once: what had to wait for durability was held back by the node.
    pub messages: Vec<PeerMessage>,
    /// Snapshots to be sent, each on a line of its own; ends in [`Event::SnapshotSent`].
    pub snapshots: Vec<SnapshotSend>,
    /// The new applied state. Stored where readers find it BEFORE any event or reply below leaves.
    pub publish: Option<Arc<Published>>,
    /// For every watch hub.
    pub events: Option<Arc<EventBatch>>,
    /// For the waiting calls.
    pub replies: Vec<(Ticket, Reply)>,
    /// Background work; each ends in an [`Event::Job`].
    pub jobs: Vec<Job>,
    /// Entries through this index are covered by a durable checkpoint and not kept for other members: the log may let
    /// go of them.
    pub release_wal: Option<u64>,
    /// Background slices are left to do: step again soon, with or without events.
    pub more: bool,
    /// On the node's clock: something is to be done then. Step at that time at the latest, with a tick, even if the next
    /// regular tick is later.
    pub wake_ms: Option<u64>,
}

/// The node cannot go on: storage failed or a rule of consensus was broken. Nothing more is acknowledged.
#[derive(Debug)]
pub struct Fatal(pub String);

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fatal {}
