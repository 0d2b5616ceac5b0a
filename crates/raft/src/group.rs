//! The group: proposals, messages and time in; readies out.

mod election;
mod entry;
mod facts;
mod laggards;
mod members;
mod news;
mod parting;
mod snapshot;

use bytes::Bytes;
use cetera_plant::{Bug, is_planted};
use cetera_proto::raftpb;
use raft::{RawNode, StateRole, eraftpb};

pub use self::entry::{Entry, EntryKind};
pub use self::laggards::Progress;
pub use self::members::ConfProposal;
pub use self::news::CommitNews;
use self::news::News;
use self::parting::Parted;
use crate::admission;
use crate::convert;
use crate::log::{Keep, MemoryLog, Terms};
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

/// A proposal that did not enter the log.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ProposeError {
    /// No leader is known, leadership moves, or too much is uncommitted.
    Dropped,
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
    /// Of a leader that was removed.
    parted: Option<Parted>,
    news: News,
    /// This member may not lead.
    barred: bool,
    /// Term and vote as of the newest ready.
    voted: (u64, u64),
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
            // See `news`.
            skip_bcast_commit: true,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_READY_MAX,
            ..Default::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&settings, log, &logger).map_err(|error| error.to_string())?;
        let mut group = Self {
            voted: (recovered.hard_state.term, recovered.hard_state.vote),
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
            news: News::default(),
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

    /// Proposes a batch of requests as one message.
    ///
    /// # Errors
    /// [`ProposeError::Dropped`]: none of them entered the log, and none will.
    pub fn propose(&mut self, requests: impl IntoIterator<Item = Bytes>) -> Result<(), ProposeError> {
        let entries = requests.into_iter().map(|data| eraftpb::Entry { data, ..Default::default() }).collect();
        self.step_proposal(entries)
    }

    /// Takes a message of another member. Messages of unknown kind, or with entries that do not parse, are dropped.
    pub fn step(&mut self, message: raftpb::Message) {
        if self.tell_parting_commit(&message) {
            return;
        }
        if let Some(message) = convert::message_in(message)
            && self.may_step(&message)
        {
            // The library's errors here mean "not from a member of this group" or "proposal dropped": the sender
            // learns by time-out, as it would from a lost message.
            let (proposes, last) = (message.msg_type == eraftpb::MessageType::MsgPropose, self.last_index());
            let _ = self.raw.step(message);
            if proposes && self.last_index() > last {
                self.told();
                self.await_last();
            }
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
        let vote = (self.raw.raft.term, self.raw.raft.vote);
        if self.voted != vote {
            self.voted = vote;
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
        let of_leader = theirs.take_messages().iter().map(convert::message_out).collect();
        ready.messages.extend(self.outbox.push_of_leader(of_leader));
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
        self.raw.step(message).map_err(|_| ProposeError::Dropped)?;
        if self.role() == Role::Leader {
            self.told();
        }
        Ok(())
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
}
