//! The member's one loop body: what a step does with a batch of events.
//!
//! A step drains everything that waits, proposes it as one batch, and walks the consequences in one direction: ready ->
//! log writes and messages -> committed entries -> apply -> new picture -> replies and watch events. It never waits for
//! the disk: the log answers with [`Event::Persisted`], and the next step carries on from there.
//!
//! Invariants: applied <= committed <= last index. An entry is applied once, in order. A reply leaves only together
//! with, and is carried out after, the picture that contains its effect. Background slices run after the batch's
//! replies are made, and are bounded.

mod background;
mod failover;
mod lease_ask;
mod lease_log;
mod leases;
mod news;
mod propose;
mod report;
mod snapshots;
mod transfer;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::BytesMut;
use cetera_mvcc::EventRec;
use cetera_plant::{Bug, is_planted};
use cetera_proto::ceterapb::LeaseReply;
use cetera_proto::ceterapb::{PeerMessage, peer_message::Body};
use cetera_proto::raftpb;
use cetera_raft::rng::Rng;
use cetera_raft::{Entry, EntryKind, Group, Ready, Role};
use cetera_state::State;
use cetera_storage::wal::{WalBatch, WalEntry};
use prost::Message as _;

use crate::event::{Change, Effects, Event, EventBatch, Fatal, Proposal, Refusal, Renewal, Reply, Ticket, WalWrite};
use crate::job::Job;
use crate::lessor::Lessor;
use crate::limits;
use crate::published::{MemberProgress, Published};
use crate::read::{LeaseWant, Reads, Waiting};
use crate::waiters::Waiters;

pub use snapshots::Disk;

/// What does not change while a member runs.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This member (ID-1).
    pub member_id: u64,
    /// Its cluster (ID-3).
    pub cluster_id: u64,
    /// Milliseconds between ticks: the heartbeat interval.
    pub tick_ms: u64,
    /// Milliseconds without a leader before an election.
    pub election_ms: u64,
    /// Differs at every start of this member; makes read contexts and request ids unique over restarts.
    pub nonce: u64,
    /// Log bytes between checkpoints, if not to follow the size of the index.
    pub checkpoint_log_bytes: Option<u64>,
}

impl NodeConfig {
    /// How long a request may be under way (G-13), in milliseconds.
    pub fn request_timeout_ms(&self) -> u64 {
        5_000 + 2 * self.election_ms
    }
}

/// A member.
pub struct Node {
    config: NodeConfig,
    group: Group,
    state: State,
    lessor: Lessor,
    reads: Reads,
    waiters: Waiters,
    now_ms: u64,
    ticked_ms: Option<u64>,
    /// Role and term seen last, to notice when they change.
    seen: (Role, u64, u64),
    hard_state: raftpb::HardState,
    /// Since when a leader is known, or none is.
    leader_since_ms: u64,
    /// Arrived in this step.
    proposals: Vec<Proposal>,
    changes: Vec<Change>,
    /// Waits for a leader.
    held: propose::Held,
    transfers: Vec<transfer::Transfer>,
    /// When other members were heard of last.
    heard_ms: BTreeMap<u64, u64>,
    /// What was published of them last.
    progress: Arc<Vec<MemberProgress>>,
    /// Keep-alives that wait for what the log does to their lease.
    unsettled: BTreeMap<i64, Vec<leases::Unsettled>>,
    /// Leases renewed although a rest is recorded: the record must go. Not proposed yet, and proposed.
    to_clear: BTreeSet<i64>,
    clearing: BTreeSet<i64>,
    /// Lease questions of this member's clients, on their way to the leader.
    asks: lease_ask::Asks,
    /// Answers to other members' lease questions, by member, for the end of the step.
    answers: BTreeMap<u64, Vec<LeaseReply>>,
    failover: Option<failover::Failover>,
    /// When followers are told what is committed, if nothing carries it to them before.
    tell_ms: Option<u64>,
    reports: report::Reports,
    /// This member's state is not what a majority has.
    fenced: bool,
    rng: Rng,
    /// Request ids of revocations proposed by this member's lessor.
    revocations: HashMap<u64, i64>,
    own_requests: u64,
    /// Who waits for the end of compaction.
    settling: Vec<Ticket>,
    /// Compaction hashes being computed.
    hashing: usize,
    events: Vec<EventRec>,
    log_bytes_since_checkpoint: u64,
    checkpoint_running: bool,
    /// The revision log was synced for the checkpoint, which is to be written now.
    log_synced: bool,
    rewrite_running: bool,
    /// Whether the checkpoint and the rewrite under way are over a state that was replaced since.
    void_jobs: (bool, bool),
    snapshots: snapshots::Snapshots,
    disk: Disk,
    /// No rewrite is planned, nor a checkpoint made for the sake of one, before.
    rewrite_from_ms: u64,
    mode: Mode,
    published: Arc<Published>,
    dirty: bool,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Mode {
    Running,
    /// The log failed: nothing is acknowledged, no vote is given; reads that need neither go on.
    Failed,
    Stopped,
}

impl Node {
    /// A member that continues from its recovered state: `state` has applied what `group` was told is applied.
    ///
    /// # Errors
    /// The revision log failed.
    pub fn new(
        config: NodeConfig,
        group: Group,
        mut state: State,
        hard_state: raftpb::HardState,
        disk: Disk,
        now_ms: u64,
    ) -> Result<Self, Fatal> {
        let outlook = Outlook {
            leader: group.leader(),
            leader_since_ms: now_ms,
            mode: Mode::Running,
            fenced: false,
            progress: Arc::default(),
        };
        let published = Arc::new(picture(&config, &group, &mut state, outlook)?);
        let reads = Reads::new(config.member_id, config.nonce);
        let (asks, rng) = (lease_ask::Asks::new(config.nonce), Rng::new(config.nonce ^ config.member_id));
        let seen = (group.role(), group.term(), group.leader());
        Ok(Self {
            config,
            group,
            state,
            lessor: Lessor::default(),
            reads,
            waiters: Waiters::default(),
            now_ms,
            ticked_ms: None,
            seen,
            hard_state,
            leader_since_ms: now_ms,
            proposals: Vec::new(),
            changes: Vec::new(),
            held: propose::Held::default(),
            transfers: Vec::new(),
            heard_ms: BTreeMap::new(),
            progress: Arc::default(),
            unsettled: BTreeMap::new(),
            to_clear: BTreeSet::new(),
            clearing: BTreeSet::new(),
            asks,
            answers: BTreeMap::new(),
            failover: None,
            tell_ms: None,
            reports: report::Reports::default(),
            fenced: false,
            rng,
            revocations: HashMap::new(),
            own_requests: 0,
            settling: Vec::new(),
            hashing: 0,
            events: Vec::new(),
            log_bytes_since_checkpoint: 0,
            checkpoint_running: false,
            log_synced: false,
            rewrite_running: false,
            void_jobs: (false, false),
            snapshots: snapshots::Snapshots::default(),
            disk,
            rewrite_from_ms: 0,
            mode: Mode::Running,
            published,
            dirty: false,
        })
    }

    /// The picture published last.
    pub fn published(&self) -> Arc<Published> {
        self.published.clone()
    }

    /// The replicated state, for checks.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Term, vote and commit index. For checks.
    pub fn hard_state(&self) -> raftpb::HardState {
        self.group.hard_state()
    }

    /// The log entry at `index`, if it is still kept in memory. For checks.
    pub fn log_entry(&self, index: u64) -> Option<Entry> {
        self.group.entry(index)
    }

    /// Whether there is nobody but this member, voter or learner: then the shell may sync the log on this thread.
    pub fn is_alone(&self) -> bool {
        self.group.is_alone()
    }

    /// Starts an election at once; for a sole voter, which need not wait for anyone.
    pub fn campaign(&mut self) {
        self.group.campaign();
    }

    /// Takes all of `events` and returns what is to be done; then does background slices, if there are any.
    ///
    /// # Errors
    /// [`Fatal`]: the member must stop; nothing of this step may be carried out.
    pub fn step(&mut self, events: &mut Vec<Event>) -> Result<Effects, Fatal> {
        self.step_with(events, true)
    }

    /// The same without background slices: for events whose answers should not stand behind one. A shell that uses it
    /// must also [`Node::step`] now and then while [`Effects::more`] says so.
    ///
    /// # Errors
    /// As [`Node::step`].
    pub fn step_without_slices(&mut self, events: &mut Vec<Event>) -> Result<Effects, Fatal> {
        self.step_with(events, false)
    }

    fn step_with(&mut self, events: &mut Vec<Event>, slices: bool) -> Result<Effects, Fatal> {
        let mut effects = Effects::default();
        for event in events.drain(..) {
            self.take(event, &mut effects);
        }
        self.offer_arrived(&mut effects)?;
        self.stand(&mut effects);
        self.propose(&mut effects);
        self.advance(&mut effects)?;
        // What was held, if a leader was found just now.
        self.propose(&mut effects);
        self.advance(&mut effects)?;
        self.settle_transfers(&mut effects);
        self.confirm_reads(&mut effects)?;
        self.expire_leases(&mut effects)?;
        self.record_leases(&mut effects)?;
        self.exchange_leases(&mut effects);
        self.tell_commit(&mut effects)?;
        self.report(&mut effects)?;
        self.serve_laggards(&mut effects)?;
        if slices {
            self.slices()?;
        }
        self.background(&mut effects)?;
        self.publish(&mut effects)?;
        Ok(effects)
    }

    fn take(&mut self, event: Event, effects: &mut Effects) {
        match event {
            Event::Propose(mut proposals) => self.proposals.append(&mut proposals),
            Event::Change(change) => self.changes.push(change),
            Event::Transfer { ticket, to } => self.begin_transfer(ticket, to, effects),
            Event::Read(tickets) => {
                for ticket in tickets {
                    self.enqueue(Waiting::Read(ticket), effects);
                }
            }
            Event::Renew(renewals) => {
                for Renewal { ticket, lease } in renewals {
                    self.want(ticket, LeaseWant::Renew(lease), effects);
                }
            }
            Event::Lease(ticket, question) => self.want(ticket, LeaseWant::Ask(question), effects),
            Event::Settle(ticket) => self.settling.push(ticket),
            Event::Peer(messages) => {
                if self.mode == Mode::Running {
                    for message in messages {
                        self.hear(message, effects);
                    }
                }
            }
            Event::PeerGone(member) => {
                self.peer_gone(member);
                self.receiver_gone(member);
            }
            Event::PeerUnreachable(member) => self.group.report_unreachable(member),
            Event::Snapshot(snapshot) => self.snapshot_arrived(snapshot),
            Event::SnapshotSent { to, id, ok } => self.snapshot_sent(to, id, ok),
            Event::Tick { now_ms } => self.tick(now_ms, effects),
            Event::AdvanceElection(ticks) => self.group.advance_election(ticks),
            Event::Persisted(number) => {
                self.group.persisted(number);
                self.group.applied(self.state.applied_index());
            }
            Event::LogFailed if self.mode == Mode::Stopped => {}
            Event::LogFailed => {
                self.mode = Mode::Failed;
                self.dirty = true;
                refuse_all(self.waiters.drain(), Refusal::Timeout, effects);
                refuse_all(self.held.drain(), Refusal::Stopped, effects);
                self.fail_transfers(Refusal::Stopped, effects);
                if self.is_cut_off() {
                    self.step_down(effects);
                    refuse_all(self.asks.drain(), Refusal::NoLeader, effects);
                    self.refuse_waiting(u64::MAX, Refusal::NoLeader, effects);
                }
            }
            Event::Job(done) => self.job_done(done, effects),
            Event::Stop => {
                self.mode = Mode::Stopped;
                refuse_all(self.waiters.drain(), Refusal::Stopped, effects);
                refuse_all(self.held.drain(), Refusal::Stopped, effects);
                self.fail_transfers(Refusal::Stopped, effects);
                refuse_all(self.asks.drain(), Refusal::Stopped, effects);
                self.refuse_waiting(u64::MAX, Refusal::Stopped, effects);
                self.refuse_unsettled(Refusal::Stopped, effects);
                refuse_all(self.settling.drain(..), Refusal::Stopped, effects);
            }
        }
    }

    /// A message of another member.
    fn hear(&mut self, message: PeerMessage, effects: &mut Effects) {
        let PeerMessage { from, body, .. } = message;
        let is_member = self.state.membership().get(from).is_some();
        if is_member {
            self.heard_ms.insert(from, self.now_ms);
        }
        match body {
            // A snapshot comes with its files, but for one that says nothing new: its sender is told so.
            Some(Body::Raft(message)) if self.is_news(&message) => {}
            Some(Body::Raft(message)) if self.has_to_wait(&message) => self.hold_forwarded(message),
            Some(Body::Raft(message)) => {
                self.yield_to(&message);
                let acknowledges = message.r#type() == raftpb::MessageType::MsgAppResp && !message.reject;
                self.group.step(message);
                if acknowledges {
                    self.acknowledged(from);
                }
            }
            Some(Body::LeaseAsk(ask)) if is_member => self.hear_lease_ask(from, ask, effects),
            Some(Body::LeaseAnswer(answer)) if is_member => self.hear_lease_answer(answer, effects),
            Some(Body::StateReport(report)) if is_member => self.hear_report(from, report),
            // From one that is no member, or of a later version: to us it says nothing.
            Some(Body::LeaseAsk(_) | Body::LeaseAnswer(_) | Body::StateReport(_)) | None => {}
        }
    }

    fn enqueue(&mut self, waiting: Waiting, effects: &mut Effects) {
        if self.mode == Mode::Stopped {
            self.refuse(waiting, Refusal::Stopped, effects);
        } else if self.fenced {
            self.refuse(waiting, Refusal::Corrupt, effects);
        } else if self.is_cut_off() {
            self.refuse(waiting, Refusal::NoLeader, effects);
        } else if self.reads.len() >= limits::WAITING_READS_MAX {
            self.refuse(waiting, Refusal::TooManyRequests, effects);
        } else {
            self.reads.push(waiting, self.now_ms + self.config.request_timeout_ms());
        }
    }

    /// Time moves on. However much of it passed, it is one tick: ticks that a pause swallowed are not replayed, or a
    /// member that slept would depose a healthy leader the moment it wakes.
    fn tick(&mut self, now_ms: u64, effects: &mut Effects) {
        let now_ms = now_ms.max(self.now_ms);
        self.now_ms = now_ms;
        let last = *self.ticked_ms.get_or_insert(now_ms);
        if now_ms - last >= self.config.election_ms {
            self.lessor.hold(now_ms + 2 * self.config.tick_ms);
        }
        if now_ms - last >= self.config.tick_ms {
            self.ticked_ms = Some(now_ms);
            if self.mode == Mode::Running {
                self.group.tick();
            }
            self.look_at_progress();
            self.expire_unsettled(effects);
        }
        refuse_all(self.waiters.expire(now_ms), Refusal::Timeout, effects);
        refuse_all(self.held.expire(now_ms), Refusal::DeadlineExceeded, effects);
        let refusal = if self.leader() == 0 { Refusal::NoLeader } else { Refusal::Timeout };
        refuse_all(self.asks.expire(now_ms), refusal, effects);
        self.refuse_waiting(now_ms, Refusal::Timeout, effects);
    }

    /// Refuses what waits for a confirmed round and whose time is up.
    fn refuse_waiting(&mut self, now_ms: u64, refusal: Refusal, effects: &mut Effects) {
        for waiting in self.reads.expire(now_ms) {
            self.refuse(waiting, refusal, effects);
        }
    }

    fn refuse(&mut self, waiting: Waiting, refusal: Refusal, effects: &mut Effects) {
        match waiting {
            Waiting::Read(ticket) => refuse_all([ticket], refusal, effects),
            Waiting::Lease(asker, _) => self.reply_lease(asker, Reply::Refused(refusal), effects),
        }
    }

    /// Carries out every ready until the group is quiet.
    fn advance(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        while let Some(ready) = self.group.ready() {
            self.carry_out(ready, effects)?;
        }
        if let Some(why) = self.group.broken() {
            return Err(Fatal(why.to_owned()));
        }
        if self.mode != Mode::Running {
            // A member whose log failed must not vote or acknowledge: nothing of it reaches the others.
            effects.messages.clear();
            effects.snapshots.clear();
            effects.wal.clear();
        }
        let now = (self.group.role(), self.group.term(), self.group.leader());
        if now != self.seen {
            if now.0 != Role::Leader && !is_planted(Bug::RevokeByOldLeader) {
                self.step_down(effects);
            }
            if is_planted(Bug::ProposalSentAgain) && now.2 != 0 && now.2 != self.seen.2 {
                let kept = cetera_plant::kept(self.config.member_id);
                let again = kept.into_iter().filter(|(id, _)| self.waiters.contains(*id));
                let _ = self.group.propose(again.map(|(_, request)| request.into()));
            }
            self.reads.restart();
            if now.2 != self.seen.2 {
                self.leader_since_ms = self.now_ms;
            }
            self.seen = now;
            self.dirty = true;
        }
        Ok(())
    }

    fn carry_out(&mut self, ready: Ready, effects: &mut Effects) -> Result<(), Fatal> {
        // Durable before anything that says so.
        if let Some(metadata) = &ready.snapshot {
            self.take_over(metadata, effects)?;
        }
        if let Some(hard_state) = ready.hard_state {
            self.hard_state = hard_state;
        }
        if ready.number != 0 {
            let batch = WalBatch {
                entries: encode_entries(&ready.entries),
                state: Some(self.hard_state.encode_to_vec().into()),
                restart: ready.snapshot.as_ref().map(|metadata| metadata.index),
            };
            effects.wal.push(WalWrite { number: ready.number, batch, must_sync: ready.must_sync });
        }
        for message in ready.messages {
            if message.r#type() == raftpb::MessageType::MsgSnap {
                self.send_snapshot(message, effects);
            } else {
                effects.messages.push(PeerMessage::from(message));
            }
        }
        for read in ready.reads {
            self.reads.confirmed(&read.context, read.index);
        }
        for entry in ready.committed {
            self.apply(entry, effects)?;
        }
        self.group.applied(self.state.applied_index());
        Ok(())
    }

    fn apply(&mut self, entry: Entry, effects: &mut Effects) -> Result<(), Fatal> {
        self.log_bytes_since_checkpoint += entry.data.len() as u64 + ENTRY_LOG_OVERHEAD_BYTES;
        self.dirty = true;
        match entry.kind {
            EntryKind::Normal if entry.data.is_empty() || self.skips(entry.index) => {
                self.state.apply_empty(entry.index, entry.term);
            }
            EntryKind::Normal => {
                let outcome =
                    self.state.apply(entry.index, entry.term, &entry.data, &mut self.events).map_err(fatal)?;
                if let Ok(applied) = &outcome.result {
                    self.lease_effect(applied.lease_effect.as_ref(), effects);
                }
                if let Some(hash) = outcome.compaction_hash
                    && self.state.store().log().live_bytes() <= limits::COMPACTION_HASH_BYTES_MAX
                {
                    self.hashing += 1;
                    effects.jobs.push(Job::CompactionHash(Box::new(hash)));
                }
                if self.revocations.remove(&outcome.request_id).is_none()
                    && let Some(ticket) = self.waiters.take(outcome.request_id)
                {
                    effects.replies.push((ticket, Reply::Applied(outcome.result)));
                }
            }
            EntryKind::ConfChange => {
                let change = raftpb::ConfChange::decode(entry.data).map_err(fatal)?;
                self.apply_change(entry.index, entry.term, change, effects)?;
            }
            EntryKind::ConfChangeV2 => {
                return Err(Fatal(format!("entry {} is a ConfChangeV2, which no member proposes", entry.index)));
            }
        }
        self.note_state(self.state.applied_index());
        if self.leads()
            && !self.fenced
            && entry.term == self.group.term()
            && self.lessor.primary_in() != Some(entry.term)
        {
            self.forget_words();
            let leases = self.state.leases().iter().map(|(id, lease)| (id, lease.ttl, lease.remaining_ttl));
            self.lessor.promote(entry.term, leases, self.now_ms, self.config.election_ms);
        }
        Ok(())
    }

    /// A bug: every so often an entry is applied by all members but one.
    fn skips(&self, index: u64) -> bool {
        is_planted(Bug::ApplyDependsOnMember) && index % 128 == self.config.member_id % 128
    }

    /// Begins a confirmation round if one is due, and lets go what the applied state now covers.
    fn confirm_reads(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        // A leader answers once an entry of its term is committed, and drops what is asked before. On another member nothing
        // is lost by waiting for it: a read would have to be served from behind that entry anyway.
        if self.group.leader() != 0
            && self.group.committed_in_term()
            && let Some(context) = self.reads.begin(self.now_ms)
        {
            self.group.read_index(context);
            self.advance(effects)?;
        }
        for waiting in self.reads.ready(self.state.applied_index()) {
            match waiting {
                Waiting::Read(ticket) => effects.replies.push((ticket, Reply::Read)),
                Waiting::Lease(asker, LeaseWant::Renew(lease)) => self.renew(asker, lease, effects),
                Waiting::Lease(asker, LeaseWant::Ask(question)) => {
                    let answer = self.answer(question);
                    self.reply_lease(asker, answer, effects);
                }
            }
        }
        Ok(())
    }

    /// The log failed and there are others: for them this member is gone, and it leads nobody.
    fn is_cut_off(&self) -> bool {
        self.mode == Mode::Failed && !self.group.is_sole_voter()
    }

    fn leader(&self) -> u64 {
        if self.is_cut_off() { 0 } else { self.group.leader() }
    }

    fn leads(&self) -> bool {
        self.group.role() == Role::Leader && !self.is_cut_off()
    }

    /// Replaces the picture if anything changed, and hands the changes to the watch hubs.
    fn publish(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        if !self.dirty {
            return Ok(());
        }
        self.dirty = false;
        let outlook = Outlook {
            leader: self.leader(),
            leader_since_ms: self.leader_since_ms,
            mode: self.mode,
            fenced: self.fenced,
            progress: self.progress.clone(),
        };
        self.published = Arc::new(picture(&self.config, &self.group, &mut self.state, outlook)?);
        effects.publish = Some(self.published.clone());
        // What a fenced member makes of the log is for nobody.
        if self.fenced {
            self.events.clear();
        }
        // After a snapshot also an empty one: it tells hubs that there is something they were not told.
        if !self.events.is_empty() || std::mem::take(&mut self.snapshots.installed) {
            let events = std::mem::take(&mut self.events);
            let (revision, applied_index) = (self.published.view.revision(), self.published.applied_index);
            effects.events = Some(Arc::new(EventBatch { events, revision, applied_index }));
        }
        Ok(())
    }
}

/// Set in the request ids that fronts make, clear in the node's own, so that the two never meet.
pub const FRONT_REQUEST_BIT: u64 = 1 << 47;
/// What an entry costs in the log besides its data.
const ENTRY_LOG_OVERHEAD_BYTES: u64 = 32;

/// What a picture shows besides the group's and the state's own.
struct Outlook {
    leader: u64,
    leader_since_ms: u64,
    mode: Mode,
    fenced: bool,
    progress: Arc<Vec<MemberProgress>>,
}

fn picture(config: &NodeConfig, group: &Group, state: &mut State, outlook: Outlook) -> Result<Published, Fatal> {
    let Outlook { leader, leader_since_ms, mode, fenced, progress } = outlook;
    let view = state.view().map_err(fatal)?;
    Ok(Published {
        applied_index: state.applied_index(),
        state_hash: state.hash(),
        committed_index: group.committed(),
        term: group.term(),
        leader,
        member_id: config.member_id,
        cluster_id: config.cluster_id,
        leader_since_ms,
        no_leader_since_ms: (leader == 0).then_some(leader_since_ms),
        removed: state.membership().removed().contains(&config.member_id),
        is_alone: group.is_alone(),
        fenced,
        progress,
        is_learner: state.membership().get(config.member_id).is_some_and(|me| me.is_learner),
        members: state.members(),
        removed_members: state.membership().removed_list(),
        alarms: state.alarms(),
        cluster_version: state.cluster_version().map_or_else(|| "".into(), |version| version.to_string().into()),
        feature_level: state.feature_level(),
        downgrade_target: Some(state.versions().downgrade())
            .filter(|downgrade| downgrade.enabled)
            .map(|downgrade| downgrade.target_version.as_str().into()),
        log_failed: mode == Mode::Failed,
        logical_bytes: state.store().log().live_bytes(),
        live_bytes: view.totals(b"\0", b"\0").bytes,
        view,
    })
}

/// The entries as etcd's messages, in one buffer.
fn encode_entries(entries: &[Entry]) -> Vec<WalEntry> {
    let wire: Vec<raftpb::Entry> = entries.iter().map(Entry::to_wire).collect();
    let lengths: Vec<usize> = wire.iter().map(prost::Message::encoded_len).collect();
    let mut buffer = BytesMut::with_capacity(lengths.iter().sum());
    let mut out = Vec::with_capacity(entries.len());
    for (entry, length) in wire.iter().zip(lengths) {
        entry.encode_raw(&mut buffer);
        out.push(WalEntry { index: entry.index, term: entry.term, data: buffer.split_to(length).freeze() });
    }
    out
}

fn refuse_all(tickets: impl IntoIterator<Item = Ticket>, refusal: Refusal, effects: &mut Effects) {
    effects.replies.extend(tickets.into_iter().map(|ticket| (ticket, Reply::Refused(refusal))));
}

fn fatal(error: impl std::fmt::Display) -> Fatal {
    Fatal(error.to_string())
}
