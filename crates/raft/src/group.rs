//! The group: proposals, messages and time in; readies out.

use bytes::Bytes;
use cetera_plant::{Bug, is_planted};
use cetera_proto::raftpb;
use prost::Message as _;
use raft::{RawNode, StateRole, eraftpb};

use crate::admission;
use crate::convert;
use crate::log::{FETCH_BYTES_MAX, Keep, MemoryLog, Terms};
use crate::outbox::Outbox;
use crate::rng::Rng;

/// Largest append message in bytes.
pub const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// Append messages under way to one follower.
pub const INFLIGHT_MESSAGES_MAX: usize = 512;
/// Proposed and not yet committed bytes above which proposals are dropped.
pub const UNCOMMITTED_BYTES_MAX: u64 = 256 << 20;
/// Bytes of committed entries handed out in one ready.
pub const COMMITTED_BYTES_PER_READY_MAX: u64 = 16 << 20;

/// Election timeouts that a leader's disk may take for one write before the leader steps down.
pub const STALL_ELECTIONS: usize = 2;

/// What a member must know to take part.
#[derive(Clone, Debug)]
pub struct Config {
    /// Member id, not 0.
    pub id: u64,
    /// Ticks without a leader before an election; also the check-quorum window.
    pub election_ticks: usize,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: usize,
    /// Ask before disturbing a leader (thesis 9.6).
    pub pre_vote: bool,
    /// Seed of the election timeouts.
    pub seed: u64,
}

/// What a member finds on its disk: the group continues from here.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Term, vote and commit index last saved.
    pub hard_state: raftpb::HardState,
    /// Members as of `applied`.
    pub conf_state: raftpb::ConfState,
    /// Index up to which the state machine has applied already.
    pub applied: u64,
    /// Index and term of the entry before `entries[0]`; (0, 0) for a log that begins at 1.
    pub before: (u64, u64),
    /// The durable log after `before`, contiguous. It may begin below `applied`: those are for members that lag.
    pub entries: Vec<Entry>,
    /// The first entry that can be read back from the disk, if that is below the first of `entries`, and the terms from
    /// the entry before it on.
    pub on_disk: Option<(u64, Terms)>,
    /// How much of what is applied stays in memory.
    pub keep: Keep,
}

/// What an entry holds.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// An `InternalRaftRequest`, or nothing (the first entry of a term).
    Normal,
    /// A `raftpb.ConfChange`.
    ConfChange,
    /// A `raftpb.ConfChangeV2`; etcd proposes none, but the type exists on the wire.
    ConfChangeV2,
}

impl EntryKind {
    /// From `raftpb.EntryType`'s number.
    pub fn from_wire(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::Normal),
            1 => Some(Self::ConfChange),
            2 => Some(Self::ConfChangeV2),
            _ => None,
        }
    }

    pub(crate) fn parses(self, data: &[u8]) -> bool {
        match self {
            Self::Normal => true,
            Self::ConfChange => raftpb::ConfChange::decode(data).is_ok(),
            Self::ConfChangeV2 => raftpb::ConfChangeV2::decode(data).is_ok(),
        }
    }
}

/// A log entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Position, from 1.
    pub index: u64,
    /// Term it was proposed in.
    pub term: u64,
    /// What `data` holds.
    pub kind: EntryKind,
    /// The payload.
    pub data: Bytes,
}

impl Entry {
    /// As etcd's message.
    pub fn to_wire(&self) -> raftpb::Entry {
        raftpb::Entry { r#type: self.kind as i32, term: self.term, index: self.index, data: self.data.clone() }
    }

    /// From etcd's message; `None` for an unknown entry type.
    pub fn from_wire(entry: raftpb::Entry) -> Option<Self> {
        let kind = EntryKind::from_wire(entry.r#type)?;
        Some(Self { index: entry.index, term: entry.term, kind, data: entry.data })
    }
}

/// A confirmed read: the state applied at `index` or later answers every read asked under `context`.
#[derive(Clone, Debug)]
pub struct ReadState {
    /// Commit index at the confirmation.
    pub index: u64,
    /// What the reader passed to [`Group::read_index`].
    pub context: Bytes,
}

/// Part a member plays.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Role {
    /// Follows, or knows no leader.
    Follower,
    /// Asks whether an election would be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Orders proposals.
    Leader,
}

/// What must be done now. Entries and hard state go to the log first; `committed` is already durable on a quorum
/// (and here), `messages` may leave at once.
#[derive(Debug, Default)]
pub struct Ready {
    /// To be passed to [`Group::persisted`] when entries and hard state are durable; 0 if nothing has to be.
    pub number: u64,
    /// Term, vote and commit index, if they changed.
    pub hard_state: Option<raftpb::HardState>,
    /// To append; an entry replaces what stands at its index, and everything after it.
    pub entries: Vec<Entry>,
    /// Whether a sync must follow (false if only the commit index moved, and not over a membership change).
    pub must_sync: bool,
    /// For other members.
    pub messages: Vec<raftpb::Message>,
    /// To apply, in order.
    pub committed: Vec<Entry>,
    /// Reads confirmed.
    pub reads: Vec<ReadState>,
    /// A snapshot to install, with its metadata.
    pub snapshot: Option<raftpb::SnapshotMetadata>,
}

/// What the leader knows of a member's log.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Progress {
    /// The member.
    pub member: u64,
    /// Entries up to this one are the leader's, and durable.
    pub matched: u64,
    /// Whether it has no vote.
    pub is_learner: bool,
    /// Whether it waits for a snapshot.
    pub in_snapshot: bool,
}

/// A proposal that did not enter the log.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ProposeError {
    /// No leader is known, leadership moves, or too much is uncommitted.
    Dropped,
}

/// What became of a proposed membership change.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ConfProposal {
    /// In the log, or on its way to the leader.
    Accepted,
    /// Another change is under way; the library logged an empty entry instead, so the waiter must be failed.
    Refused,
}

/// The change as a bug has it, if there is one.
fn miscounted(change: &raftpb::ConfChange) -> raftpb::ConfChange {
    use raftpb::ConfChangeType::{ConfChangeAddLearnerNode, ConfChangeAddNode, ConfChangeRemoveNode};
    let mut change = change.clone();
    if is_planted(Bug::RemovedMemberCounts) && change.r#type() == ConfChangeRemoveNode {
        change.node_id = 0;
    }
    if is_planted(Bug::LearnerCounts) && change.r#type() == ConfChangeAddLearnerNode {
        change.r#type = ConfChangeAddNode as i32;
    }
    change
}

/// One member's view of one consensus group.
pub struct Group {
    raw: RawNode<MemoryLog>,
    outbox: Outbox,
    rng: Rng,
    config: Config,
    /// Term and role the election timeout was drawn for, and what was drawn.
    drawn_for: (u64, StateRole),
    drawn: usize,
    /// Number of the newest ready, of the newest of which something must become durable, and of the newest known durable.
    newest: u64,
    issued: u64,
    persisted: u64,
    /// A ready whose durability is awaited, and for how many ticks already.
    awaited: (u64, usize),
    /// Why this member must not go on.
    broken: Option<String>,
    released: Vec<raftpb::Message>,
    /// Of a leader that was removed: its term, and how much of the log each of the others was known to have.
    parted: Option<(u64, Vec<Progress>)>,
    /// This member may not lead.
    barred: bool,
}

impl Group {
    /// Continues from what was recovered.
    ///
    /// # Errors
    /// The library's text if the configuration is impossible (id 0, election not above heartbeat).
    pub fn new(config: Config, mut recovered: Recovered) -> Result<Self, String> {
        if is_planted(Bug::VoteForgotten) {
            recovered.hard_state.vote = 0;
        }
        let mut log = MemoryLog::new(
            convert::hard_state_in(&recovered.hard_state),
            convert::conf_state_in(&recovered.conf_state),
            recovered.before,
            recovered.entries.into_iter().map(convert::entry_in).collect(),
        );
        log.keep(recovered.keep);
        if let Some((first, terms)) = recovered.on_disk {
            log.reach_back(first, terms);
        }
        let settings = raft::Config {
            id: config.id,
            election_tick: config.election_ticks,
            heartbeat_tick: config.heartbeat_ticks,
            applied: recovered.applied,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: INFLIGHT_MESSAGES_MAX,
            check_quorum: true,
            pre_vote: config.pre_vote,
            read_only_option: raft::ReadOnlyOption::Safe,
            // The library merges entries into a queued append without looking whether they follow the entry it names.
            batch_append: false,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_READY_MAX,
            ..Default::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&settings, log, &logger).map_err(|error| error.to_string())?;
        let mut group = Self {
            raw,
            outbox: Outbox::default(),
            rng: Rng::new(config.seed),
            drawn_for: (u64::MAX, StateRole::Follower),
            drawn: 0,
            config,
            newest: 0,
            issued: 0,
            persisted: 0,
            awaited: (0, 0),
            broken: None,
            released: Vec::new(),
            parted: None,
            barred: false,
        };
        group.draw_election_timeout();
        Ok(group)
    }

    /// One tick of logical time.
    pub fn tick(&mut self) {
        if !self.may_campaign() && self.would_campaign() {
            // It may not stand, and must not keep others from it: the leader counts as silent all the same.
            let raft = &mut self.raw.raft;
            raft.election_elapsed = raft.election_elapsed.max(self.config.election_ticks);
            return;
        }
        self.raw.tick();
        self.watch_disk();
        self.draw_election_timeout();
    }

    /// A leader whose disk stands still holds up everything that is only answered by it, and its heartbeats keep the
    /// others from electing one that is better off. After [`STALL_ELECTIONS`] it lets go.
    fn watch_disk(&mut self) {
        let (number, ticks) = self.awaited;
        self.awaited = if self.persisted >= number { (self.issued, 0) } else { (number, ticks + 1) };
        if self.awaited.1 > STALL_ELECTIONS * self.config.election_ticks
            && self.role() == Role::Leader
            && !self.is_sole_voter()
        {
            let term = self.term();
            self.raw.raft.become_follower(term, 0);
        }
    }

    /// Starts an election now, unless this member leads, is no voter, or has log entries that are not durable yet.
    pub fn campaign(&mut self) {
        if self.may_campaign() && self.raw.raft.promotable() {
            // An error means the library ignored it; there is nothing to undo.
            let _ = self.raw.campaign();
            self.draw_election_timeout();
        }
    }

    /// Proposes a batch of requests as one message.
    ///
    /// # Errors
    /// [`ProposeError::Dropped`]: none of them entered the log, and none will.
    pub fn propose(&mut self, requests: impl IntoIterator<Item = Bytes>) -> Result<(), ProposeError> {
        let entries = requests.into_iter().map(|data| eraftpb::Entry { data, ..Default::default() }).collect();
        self.step_proposal(entries)
    }

    /// Proposes a membership change, in etcd's encoding.
    ///
    /// # Errors
    /// As [`Group::propose`].
    pub fn propose_conf_change(&mut self, change: &raftpb::ConfChange) -> Result<ConfProposal, ProposeError> {
        let data = change.encode_to_vec().into();
        let entry = Entry { index: 0, term: 0, kind: EntryKind::ConfChange, data };
        self.step_proposal(vec![convert::entry_in(entry)])?;
        let refused = self.role() == Role::Leader
            && self
                .raw
                .raft
                .raft_log
                .unstable_entries()
                .last()
                .is_some_and(|entry| entry.entry_type == eraftpb::EntryType::EntryNormal);
        Ok(if refused { ConfProposal::Refused } else { ConfProposal::Accepted })
    }

    /// Takes a message of another member. Messages of unknown kind, or with entries that do not parse, are dropped.
    pub fn step(&mut self, message: raftpb::Message) {
        if self.tell_commit(&message) {
            return;
        }
        if let Some(message) = convert::message_in(message)
            && self.may_step(&message)
        {
            // The library's errors here mean "not from a member of this group" or "proposal dropped": the sender
            // learns by time-out, as it would from a lost message.
            let _ = self.raw.step(message);
            self.draw_election_timeout();
        }
    }

    /// Asks for a read index; answered by a [`ReadState`] with the same context, or never (leader change, nothing
    /// committed in this term yet): the caller asks again.
    pub fn read_index(&mut self, context: Bytes) {
        if is_planted(Bug::ReadWithoutRound) && self.role() == Role::Leader {
            let index = self.committed();
            self.raw.raft.read_states.push(raft::ReadState { index, request_ctx: context.into() });
            return;
        }
        self.raw.read_index(context.into());
    }

    /// Whether [`Group::ready`] would return something.
    pub fn has_ready(&self) -> bool {
        !self.released.is_empty() || self.raw.has_ready()
    }

    /// What is to be done now; `None` if nothing is.
    pub fn ready(&mut self) -> Option<Ready> {
        if !self.has_ready() {
            return None;
        }
        let mut ready = Ready { messages: std::mem::take(&mut self.released), ..Ready::default() };
        if !self.raw.has_ready() {
            return Some(ready);
        }
        let mut theirs = self.raw.ready();
        let number = theirs.number();
        ready.hard_state = theirs.hs().map(convert::hard_state_out);
        ready.must_sync = theirs.must_sync();
        ready.committed = theirs.take_committed_entries().iter().map(convert::entry_out).collect();
        // A group of two that became one by a removal must not ask the removed for its vote after a power loss: that a
        // membership change is committed is made durable, as nothing else of the commit index is.
        if ready.committed.iter().any(|entry| entry.kind != EntryKind::Normal) {
            ready.must_sync = true;
            ready.hard_state.get_or_insert_with(|| convert::hard_state_out(&self.raw.raft.hard_state()));
        }
        self.newest = number;
        if ready.must_sync || !theirs.entries().is_empty() {
            self.issued = number;
            ready.number = number;
        }
        if theirs.must_sync() && theirs.hs().is_some() {
            self.outbox.vote_changes(number);
        }
        ready.entries = theirs.entries().iter().map(convert::entry_out).collect();
        ready.reads = theirs
            .take_read_states()
            .into_iter()
            .map(|read| ReadState { index: read.index, context: read.request_ctx.into() })
            .collect();
        if !theirs.snapshot().is_empty() {
            let metadata = theirs.snapshot().get_metadata();
            ready.snapshot = Some(raftpb::SnapshotMetadata {
                index: metadata.index,
                term: metadata.term,
                conf_state: Some(convert::conf_state_out(metadata.get_conf_state())),
            });
        }
        ready.messages.extend(theirs.take_messages().iter().map(convert::message_out));
        let held = theirs.take_persisted_messages().iter().map(convert::message_out).collect();
        // What comes with a ready that writes nothing waits for the last one that does, not for one to come.
        ready.messages.extend(self.outbox.push(self.issued, held));
        if let Some(metadata) = &ready.snapshot {
            let conf_state = convert::conf_state_in(metadata.conf_state.as_ref().expect("just set"));
            self.raw.mut_store().restore(metadata.index, metadata.term, conf_state);
        }
        self.raw.mut_store().append(theirs.entries());
        self.raw.advance_append_async(theirs);
        if self.issued == self.persisted {
            self.raw.on_persist_ready(number);
        }
        Some(ready)
    }

    /// The ready of this number, and all before it, are durable.
    pub fn persisted(&mut self, number: u64) {
        assert!(number <= self.issued, "ready {number} was never issued (newest {})", self.issued);
        if number > self.persisted {
            self.persisted = number;
            self.raw.on_persist_ready(if number == self.issued { self.newest } else { number });
            self.released.extend(self.outbox.persisted(number));
        }
    }

    /// Why this member must stop, if it must: what it knows cannot be what it told the others.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// The state machine has applied through `index`; the log in memory may shrink to its bounds.
    pub fn applied(&mut self, index: u64) {
        // After a snapshot the state is ahead of what is known durable.
        let through = index.min(self.raw.raft.raft_log.persisted);
        if through > self.raw.raft.raft_log.applied() {
            self.raw.advance_apply_to(through);
        }
        self.raw.mut_store().trim(through);
        if self.raw.store().holds_fetched() {
            let before = self.dropped();
            let needed = self.raw.raft.prs().iter().any(|(_, progress)| progress.next_idx <= before);
            if !needed || self.role() != Role::Leader {
                self.raw.mut_store().forget_fetched();
            }
        }
    }

    /// First entries of ranges that members need and that only the disk has: read each, [`FETCH_BYTES_MAX`] at most, and
    /// answer with [`Group::fetched`]. A member is read ahead for by one range at most, so that what is under way to it
    /// is bounded.
    pub fn take_fetches(&mut self) -> Vec<u64> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        // What a member has of our log is known only once it takes what it is sent.
        let known = |progress: &raft::Progress| match progress.state {
            raft::ProgressState::Replicate => progress.matched,
            _ => u64::MAX - 1,
        };
        let next: Vec<(u64, u64)> =
            self.raw.raft.prs().iter().map(|(_, progress)| (progress.next_idx, known(progress))).collect();
        self.raw.mut_store().let_go_of_sent(next.iter().map(|(next, _)| *next));
        self.raw.mut_store().take_wants(|log, low| {
            let Some(first) = log.read_before(low) else { return true };
            next.iter().any(|(next, matched)| *next == low && matched + 1 >= first)
        })
    }

    /// The entries from `low` on, as read from the disk; `None` if they cannot be had: who needs them gets a snapshot.
    pub fn fetched(&mut self, low: u64, entries: Option<Vec<Entry>>) {
        debug_assert!(FETCH_BYTES_MAX as u64 >= MESSAGE_BYTES_MAX, "a read is worth a message");
        let entries = entries.map(|entries| entries.into_iter().map(convert::entry_in).collect());
        if self.raw.store().before() < low {
            return;
        }
        for context in self.raw.mut_store().fetched(low, entries) {
            self.raw.on_entries_fetched(context);
        }
    }

    /// The disk lets go of the entries through this one.
    pub fn released(&mut self, through: u64) {
        self.raw.mut_store().released(through);
    }

    /// Members that need a snapshot and have none under way. Each is asked for again until one is offered.
    pub fn take_snapshot_wants(&mut self) -> Vec<u64> {
        self.raw.mut_store().take_snapshot_wants()
    }

    /// Has the snapshot sent to `member` now, as a message with this metadata; false if the member needs none any more.
    pub fn offer_snapshot(&mut self, member: u64, metadata: &raftpb::SnapshotMetadata) -> bool {
        let mut snapshot = eraftpb::Snapshot::default();
        snapshot.mut_metadata().index = metadata.index;
        snapshot.mut_metadata().term = metadata.term;
        let conf_state = metadata.conf_state.clone().unwrap_or_default();
        snapshot.mut_metadata().set_conf_state(convert::conf_state_in(&conf_state));
        self.raw.mut_store().offer(member, Some(snapshot));
        if self.role() == Role::Leader && self.raw.raft.prs().get(member).is_some() {
            self.raw.raft.send_append(member);
        }
        self.raw.mut_store().offer(member, None);
        self.raw.raft.prs().get(member).is_some_and(|progress| progress.state == raft::ProgressState::Snapshot)
    }

    /// The lowest index that another member is known to have, as far as this member, as leader, knows.
    pub fn lowest_match(&self) -> Option<u64> {
        let others = self.raw.raft.prs().iter().filter(|(id, _)| **id != self.config.id);
        others.map(|(_, progress)| progress.matched).min().filter(|_| self.role() == Role::Leader)
    }

    /// The first entry that can still be sent, from memory or from the disk.
    pub fn first_index(&self) -> u64 {
        self.raw.raft.raft_log.first_index()
    }

    /// Applies a committed membership change and returns the members after it.
    ///
    /// # Errors
    /// The library's text if the change is impossible; the log then differs from every other member's: stop.
    pub fn apply_conf_change(&mut self, change: &raftpb::ConfChange) -> Result<raftpb::ConfState, String> {
        let change = &miscounted(change);
        let state = match convert::conf_change_in(change) {
            Some(change) => self.raw.apply_conf_change(&change).map_err(|error| error.to_string())?,
            None => self.raw.raft.prs().conf().to_conf_state(),
        };
        let out = convert::conf_state_out(&state);
        self.raw.mut_store().set_conf_state(state);
        if self.role() == Role::Leader && !out.voters.contains(&self.config.id) {
            self.abdicate();
        }
        Ok(out)
    }

    /// A leader that has no vote any more leads nobody: the library would go on with it, and not find it among the
    /// members. The voter that is furthest ahead is told to stand at once.
    fn abdicate(&mut self) {
        let term = self.term();
        let rest: Vec<Progress> = self.progress().into_iter().filter(|progress| !progress.is_learner).collect();
        if let Some(next) = rest.iter().rev().max_by_key(|progress| progress.matched) {
            self.released.push(self.own_message(raftpb::MessageType::MsgTimeoutNow, next.member, term));
        }
        self.parted = Some((term, rest));
        self.raw.raft.become_follower(term, raft::INVALID_ID);
    }

    /// The last one of two that remains may not know that it is alone: the leader that was removed may have been the
    /// only one that knew, and then it needs the vote of one whose log is longer. It is told what is committed when it
    /// asks, as a leader of that term tells it. `false` if there is nothing to tell.
    fn tell_commit(&mut self, message: &raftpb::Message) -> bool {
        let Some((term, rest)) = &self.parted else { return false };
        let of = rest.iter().find(|progress| progress.member == message.from);
        let commit = of.map_or(0, |progress| progress.matched).min(self.committed());
        let asks = message.r#type() == raftpb::MessageType::MsgPreVote && message.commit < commit;
        if !asks || *term != self.term() || self.role() != Role::Follower {
            return false;
        }
        let told = self.own_message(raftpb::MessageType::MsgHeartbeat, message.from, *term);
        self.released.push(raftpb::Message { commit, ..told });
        true
    }

    fn own_message(&self, kind: raftpb::MessageType, to: u64, term: u64) -> raftpb::Message {
        raftpb::Message { r#type: kind as i32, from: self.config.id, to, term, ..Default::default() }
    }

    /// Tells the members of the group as they are now.
    pub fn conf_state(&self) -> raftpb::ConfState {
        convert::conf_state_out(&self.raw.raft.prs().conf().to_conf_state())
    }

    /// Hands leadership to `member` (R-4, M-7). No proposal is taken until it leads, or an election timeout has passed.
    pub fn transfer_leader(&mut self, member: u64) {
        self.raw.transfer_leader(member);
    }

    /// The member to which leadership is being handed.
    pub fn transferring_to(&self) -> Option<u64> {
        self.raw.raft.lead_transferee
    }

    /// Whether a proposal has somewhere to go: a leader is known, and leadership is not on the move.
    pub fn takes_proposals(&self) -> bool {
        self.leader() != raft::INVALID_ID && self.transferring_to().is_none()
    }

    /// What this member, as leader, knows of all members' logs, its own among them, by id.
    pub fn progress(&self) -> Vec<Progress> {
        if self.role() != Role::Leader {
            return Vec::new();
        }
        let tracker = self.raw.raft.prs();
        let mut all: Vec<Progress> = tracker
            .iter()
            .map(|(&member, progress)| Progress {
                member,
                matched: progress.matched,
                is_learner: tracker.conf().learners().contains(&member),
                in_snapshot: progress.state == raft::ProgressState::Snapshot,
            })
            .collect();
        all.sort_unstable_by_key(|progress| progress.member);
        all
    }

    /// Messages to `member` were lost: what was sent ahead of its answers is sent again.
    pub fn report_unreachable(&mut self, member: u64) {
        self.raw.report_unreachable(member);
    }

    /// The snapshot sent to `member` arrived, or did not.
    pub fn report_snapshot(&mut self, member: u64, ok: bool) {
        let status = if ok { raft::SnapshotStatus::Finish } else { raft::SnapshotStatus::Failure };
        self.raw.report_snapshot(member, status);
    }

    /// Term, vote and commit index as they are now, durable or not.
    pub fn hard_state(&self) -> raftpb::HardState {
        convert::hard_state_out(&self.raw.raft.hard_state())
    }

    /// Current term.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Leader's id, 0 if none is known.
    pub fn leader(&self) -> u64 {
        self.raw.raft.leader_id
    }

    /// Commit index known here.
    pub fn committed(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// Entries through this index are no longer kept for members that lag: the log on disk need not keep them either.
    pub fn dropped(&self) -> u64 {
        self.raw.store().before()
    }

    /// Index of the last entry of the log.
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// The entry at `index`, if it is still kept in memory. For checks.
    pub fn entry(&self, index: u64) -> Option<Entry> {
        self.raw.store().get(index).map(convert::entry_out)
    }

    /// Part played now.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    /// Whether an entry of the current term is committed: only then does the library answer reads.
    pub fn committed_in_term(&self) -> bool {
        self.raw.raft.commit_to_current_term()
    }

    /// Whether an entry of the current term is applied: everything of earlier terms is, too.
    pub fn applied_in_term(&self) -> bool {
        self.raw.raft.apply_to_current_term()
    }

    /// Whether this member is the only voter.
    pub fn is_sole_voter(&self) -> bool {
        self.raw.raft.prs().is_singleton() && self.raw.raft.promotable()
    }

    /// Whether there is nobody but this member, voter or learner.
    pub fn is_alone(&self) -> bool {
        self.is_sole_voter() && self.raw.raft.prs().iter().count() == 1
    }

    /// Counts `ticks` as passed without a leader: at a start, when the others are there and none of them leads. It
    /// begins no election by itself; the next ticks do.
    pub fn advance_election(&mut self, ticks: usize) {
        if self.role() == Role::Follower && self.leader() == raft::INVALID_ID {
            let timeout = self.raw.raft.randomized_election_timeout();
            self.raw.raft.election_elapsed = (self.raw.raft.election_elapsed + ticks).min(timeout.saturating_sub(1));
        }
    }

    /// A follower whose connection to the leader was reset stops trusting it at once: the next tick asks for
    /// pre-votes, and this member grants them.
    pub fn leader_connection_lost(&mut self) {
        if self.role() == Role::Follower {
            let timeout = self.raw.raft.randomized_election_timeout();
            self.raw.raft.election_elapsed = timeout.max(self.config.election_ticks);
        }
    }

    /// Whether the disk has all that this member wrote: what it knows and what it voted is said.
    pub fn is_settled(&self) -> bool {
        self.issued == self.persisted
    }

    /// Whether the leader was not heard of for an election timeout, or counts as such: then pre-votes are granted.
    pub fn leader_is_silent(&self) -> bool {
        self.role() == Role::Follower && self.raw.raft.election_elapsed >= self.config.election_ticks
    }

    fn step_proposal(&mut self, entries: Vec<eraftpb::Entry>) -> Result<(), ProposeError> {
        if entries.is_empty() {
            return Ok(());
        }
        let message = eraftpb::Message {
            msg_type: eraftpb::MessageType::MsgPropose,
            from: self.config.id,
            entries: entries.into(),
            ..Default::default()
        };
        self.raw.step(message).map_err(|_| ProposeError::Dropped)
    }

    /// Keeps from the library what it would stumble over.
    fn may_step(&mut self, message: &eraftpb::Message) -> bool {
        if admission::refusal(&self.raw, self.may_campaign(), message).is_some() {
            return false;
        }
        match message.msg_type {
            // A commit index in a heartbeat is one that this member once said it has.
            eraftpb::MessageType::MsgHeartbeat if message.term >= self.term() && message.commit > self.last_index() => {
                self.broken = Some(format!(
                    "member {} knows that entry {} is here, and the log ends at {}: the disk has lost what it had synced",
                    message.from,
                    message.commit,
                    self.last_index()
                ));
                false
            }
            // A rejection of what was acknowledged since is old. The library would begin anew below what the member is
            // known to have, and needs a snapshot where that is no longer in memory (its issue 557).
            eraftpb::MessageType::MsgAppendResponse if message.reject && message.term == self.term() => {
                let progress = self.raw.raft.prs().get(message.from);
                progress.is_none_or(|progress| message.index > progress.matched)
            }
            // A sole voter that is told to campaign would win at once; see `may_campaign`.
            eraftpb::MessageType::MsgTimeoutNow => !self.is_sole_voter() && !self.barred,
            _ => true,
        }
    }

    /// This member may not stand for election, or may again. Its votes for others and its acknowledgements are not in
    /// question.
    pub fn bar(&mut self, barred: bool) {
        self.barred = barred;
    }

    /// Has `member` sent a snapshot although its log needs none, because its state is wrong. The snapshot must be of the
    /// end of this leader's log or later: until it is there nothing else is sent to the member.
    pub fn replace_state(&mut self, member: u64) {
        let index = self.last_index();
        if self.role() == Role::Leader
            && let Some(progress) = self.raw.raft.mut_prs().get_mut(member)
            && progress.state != raft::ProgressState::Snapshot
            && progress.pending_request_snapshot == raft::INVALID_INDEX
        {
            progress.become_probe();
            progress.pending_request_snapshot = index;
            self.raw.raft.send_append(member);
        }
    }

    /// Takes the message of a snapshot over even if the log here has all of it: this member's state is to be replaced.
    /// Everything after the snapshot goes with the state, so it must be of [`Group::replace_state`].
    pub fn step_replacement(&mut self, message: raftpb::Message) {
        // The library tells by this field that a snapshot was asked for, and then does not compare logs.
        self.raw.raft.pending_request_snapshot = self.last_index().max(1);
        self.step(message);
        self.raw.raft.pending_request_snapshot = raft::INVALID_INDEX;
    }

    /// The lowest index that a snapshot for `member` must have, 0 if any will do.
    pub fn snapshot_floor(&self, member: u64) -> u64 {
        self.raw.raft.prs().get(member).map_or(0, |progress| progress.pending_request_snapshot)
    }

    /// A sole voter wins its election inside one call, and the library then insists that its log is durable. Others
    /// reach leadership only by votes that followed durable requests; for them the same wait costs nothing.
    fn may_campaign(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        !self.barred && log.last_index() == log.persisted && self.issued == self.persisted
    }

    fn would_campaign(&self) -> bool {
        let raft = &self.raw.raft;
        raft.state != StateRole::Leader
            && raft.promotable()
            && raft.election_elapsed + 1 >= raft.randomized_election_timeout()
    }

    fn draw_election_timeout(&mut self) {
        let now = (self.raw.raft.term, self.raw.raft.state);
        if now != self.drawn_for {
            self.drawn_for = now;
            let ticks = self.config.election_ticks;
            self.drawn = self.rng.within(ticks, 2 * ticks);
        }
        // The library draws its own at every reset, from a generator that no seed repeats.
        if self.raw.raft.randomized_election_timeout() != self.drawn {
            self.raw.raft.set_randomized_election_timeout(self.drawn);
        }
    }
}
