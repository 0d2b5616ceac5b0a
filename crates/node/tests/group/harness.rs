//! Several whole members in one thread, joined by a queue of messages that the test delivers, holds back or loses.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cetera_node::event::{Change, Effects, Event, EventBatch, Proposal, Renewal, Reply, Ticket};
use cetera_node::job::Job;
use cetera_node::limits;
use cetera_node::recovery::{self, Opened, Report, Start};
use cetera_node::snapshot::{SnapshotError, SnapshotReceiver, SnapshotSend};
use cetera_node::{Node, Published};
use cetera_proto::ceterapb::{PeerMessage, peer_message::Body};
use cetera_proto::etcdserverpb as pb;
use cetera_proto::raftpb::{ConfChange, ConfChangeType, MessageType};
use cetera_state::member::{Member, write_member, write_promotion};
use cetera_storage::datadir::DataDir;
use cetera_storage::revlog::RevLogOptions;
use cetera_storage::vfs::{MemoryVfs, Vfs};
use cetera_storage::wal::{Wal, WalOptions};
use prost::Message as _;

pub(crate) const TICK_MS: u64 = 100;
pub(crate) const ELECTION_MS: u64 = 10 * TICK_MS;
/// How long a request may take.
pub(crate) const REQUEST_TICKS: usize = ((5_000 + 2 * ELECTION_MS) / TICK_MS) as usize;
const DIR: &str = "/data";

/// Ticks in this many seconds.
pub(crate) fn seconds(seconds: u64) -> usize {
    (seconds * 1_000 / TICK_MS) as usize
}

struct Life {
    node: Node,
    wal: Wal,
    checkpoints: PathBuf,
    jobs: VecDeque<Job>,
    snapshots: SnapshotReceiver,
    /// Batches written and not reported durable.
    unsynced: Option<u64>,
    _data_dir: DataDir,
}

pub(crate) struct Host {
    pub(crate) vfs: MemoryVfs,
    life: Option<Life>,
    /// Its disk does not answer.
    pub(crate) stalled: bool,
    /// It gets no time and no messages: paused.
    pub(crate) paused: bool,
    /// When it asked to be woken.
    wake_ms: Option<u64>,
    pub(crate) replies: Vec<(u64, Reply)>,
    pub(crate) batches: Vec<Arc<EventBatch>>,
    pub(crate) report: Report,
}

pub(crate) struct Cluster {
    pub(crate) hosts: Vec<Host>,
    pub(crate) now_ms: u64,
    /// Messages under way.
    pub(crate) queue: VecDeque<PeerMessage>,
    /// Links (from, to) that lose everything.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// What is written over in the entries that reach a member: (member, these bytes, those).
    pub(crate) tamper: Option<(usize, &'static [u8], &'static [u8])>,
    /// Snapshots under way, by sender.
    pub(crate) transfers: VecDeque<(usize, SnapshotSend)>,
    /// Transfers break after so many chunks; counts down.
    pub(crate) break_after: Option<u64>,
    /// No snapshot gets to where it is sent.
    pub(crate) lose_snapshots: bool,
    /// What the next receiver of a snapshot says of its log, when it has taken it over, is lost.
    pub(crate) lose_acknowledgement: bool,
    /// The next snapshot that is received whole is damaged on its receiver's disk before it is looked at.
    pub(crate) spoil_received: bool,
    /// How often that was so.
    pub(crate) spoiled: usize,
    /// Chunks of snapshots that were delivered.
    pub(crate) chunks: u64,
    nonce: u64,
    next_id: u64,
    checkpoint_log_bytes: u64,
    wal: WalOptions,
    founders: usize,
}

fn member(at: usize) -> Member {
    let peer_urls = vec![format!("http://localhost:{}", 2380 + at)];
    Member { id: at as u64 + 1, peer_urls, ..Default::default() }
}

fn founders(count: usize) -> Vec<Member> {
    (0..count).map(member).collect()
}

fn host() -> Host {
    Host {
        vfs: MemoryVfs::new(),
        life: None,
        stalled: false,
        paused: false,
        wake_ms: None,
        replies: Vec::new(),
        batches: Vec::new(),
        report: Report::default(),
    }
}

impl Cluster {
    pub(crate) fn new(count: usize) -> Self {
        Self::with_checkpoints(count, 1 << 30)
    }

    pub(crate) fn with_checkpoints(count: usize, checkpoint_log_bytes: u64) -> Self {
        Self::with_wal(count, checkpoint_log_bytes, WalOptions::default())
    }

    /// Members that keep little for those that lag: `entries` in memory, `log_bytes` on the disk.
    pub(crate) fn forgetful(count: usize, entries: usize, log_bytes: u64) -> Self {
        let wal = WalOptions {
            keep_entries: entries,
            keep_bytes: 1 << 20,
            max_bytes: 4 * log_bytes.max(64 << 10),
            ..WalOptions::default()
        };
        Self::with_wal(count, 12 << 10, wal)
    }

    fn with_wal(count: usize, checkpoint_log_bytes: u64, wal: WalOptions) -> Self {
        let mut cluster = Self {
            hosts: (0..count).map(|_| host()).collect(),
            now_ms: 0,
            queue: VecDeque::new(),
            cut: BTreeSet::new(),
            tamper: None,
            transfers: VecDeque::new(),
            lose_snapshots: false,
            lose_acknowledgement: false,
            spoil_received: false,
            spoiled: 0,
            break_after: None,
            chunks: 0,
            nonce: 0,
            next_id: 0,
            checkpoint_log_bytes,
            wal,
            founders: count,
        };
        for at in 0..count {
            cluster.start(at);
        }
        cluster
    }

    /// Starts a member from its disk.
    pub(crate) fn start(&mut self, at: usize) {
        self.try_start(at).expect("the member starts");
    }

    pub(crate) fn try_start(&mut self, at: usize) -> Result<(), String> {
        self.nonce += 1;
        let vfs: Arc<dyn Vfs> = Arc::new(self.hosts[at].vfs.clone());
        let start = Start {
            // One that joins founds nothing: it is told who belongs to the group.
            founders: if at < self.founders { founders(self.founders) } else { Vec::new() },
            member_id: at as u64 + 1,
            cluster_id: 77,
            tick_ms: TICK_MS,
            election_ms: ELECTION_MS,
            nonce: self.nonce,
            now_ms: self.now_ms,
            checkpoint_log_bytes: Some(self.checkpoint_log_bytes),
            wal: WalOptions { segment_bytes: 8 << 10, salt: 5, ..self.wal.clone() },
            log: RevLogOptions { segment_bytes: 64 << 10 },
            ..Start::default()
        };
        let opened = recovery::open(&vfs, Path::new(DIR), start).map_err(|error| error.to_string())?;
        let Opened { node, wal, checkpoints, snapshots, data_dir, report, .. } = opened;
        let host = &mut self.hosts[at];
        host.report = report;
        let jobs = VecDeque::new();
        host.life = Some(Life { node, wal, checkpoints, jobs, snapshots, unsynced: None, _data_dir: data_dir });
        Ok(())
    }

    /// A machine for one more member, which knows nothing yet.
    pub(crate) fn join(&mut self) -> usize {
        self.hosts.push(host());
        let at = self.hosts.len() - 1;
        self.start(at);
        at
    }

    /// Power is lost: what was not synced goes with it.
    pub(crate) fn crash(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.life = None;
        host.wake_ms = None;
        host.stalled = false;
        host.vfs = host.vfs.crash(self.nonce);
    }

    /// Its process is killed, and the others see their connections to it reset.
    pub(crate) fn kill(&mut self, at: usize) {
        self.crash(at);
        for other in (0..self.hosts.len()).filter(|other| *other != at) {
            self.gone(other, at);
        }
    }

    /// A member sees its connection to another one reset.
    pub(crate) fn gone(&mut self, at: usize, other: usize) {
        self.step(at, vec![Event::PeerGone(other as u64 + 1)]);
    }

    pub(crate) fn node(&self, at: usize) -> &Node {
        &self.hosts[at].life.as_ref().expect("the member runs").node
    }

    pub(crate) fn published(&self, at: usize) -> Arc<Published> {
        self.node(at).published()
    }

    pub(crate) fn is_up(&self, at: usize) -> bool {
        self.hosts[at].life.is_some()
    }

    /// Steps one member; its disk answers unless it is stalled. One whose machine stops is gone.
    pub(crate) fn step(&mut self, at: usize, events: Vec<Event>) {
        if let Err(error) = self.try_step(at, events) {
            assert!(self.hosts[at].vfs.has_stopped(), "member {at} stops: {error}");
        }
        if self.hosts[at].vfs.has_stopped() {
            self.hosts[at].life = None;
        }
    }

    fn try_step(&mut self, at: usize, mut events: Vec<Event>) -> Result<(), String> {
        loop {
            let host = &mut self.hosts[at];
            let Some(life) = &mut host.life else { return Ok(()) };
            let effects = life.node.step(&mut events).map_err(|error| error.to_string())?;
            let Effects { wal, messages, snapshots, events: batch, replies, jobs, release_wal, wake_ms, .. } = effects;
            host.wake_ms = wake_ms;
            if let Some(through) = release_wal {
                life.wal.release(through).map_err(|error| error.to_string())?;
            }
            for write in &wal {
                life.wal.append(&write.batch).map_err(|error| error.to_string())?;
                life.unsynced = Some(write.number);
            }
            self.queue.extend(messages);
            self.transfers.extend(snapshots.into_iter().map(|send| (at, send)));
            host.batches.extend(batch);
            host.replies.extend(replies.into_iter().map(|(ticket, reply)| (ticket.slot, reply)));
            life.jobs.extend(jobs);
            if host.stalled {
                return Ok(());
            }
            let Some(number) = life.unsynced.take() else { return Ok(()) };
            life.wal.sync().map_err(|error| error.to_string())?;
            events.push(Event::Persisted(number));
        }
    }

    /// Carries one snapshot over, as far as it goes.
    fn carry_next(&mut self) -> bool {
        let Some((from, send)) = self.transfers.pop_front() else { return false };
        let ok = !self.lose_snapshots && !send.is_cancelled() && self.carry(from, &send).is_some();
        self.step(from, vec![Event::SnapshotSent { to: send.to(), id: send.id(), ok }]);
        true
    }

    fn carry(&mut self, from: usize, send: &SnapshotSend) -> Option<()> {
        let to = send.to() as usize - 1;
        if self.cut.contains(&(from, to)) || self.hosts[to].paused {
            return None;
        }
        let life = self.hosts[to].life.as_mut()?;
        let header = send.header();
        let message = header.message.clone().expect("a header has one");
        let metadata = message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref());
        let index = metadata.expect("it is a snapshot's").index;
        if !header.resync && index <= life.node.published().committed_index {
            self.step(to, vec![Event::Peer(vec![message.into()])]);
            return None;
        }
        let receiver = &mut life.snapshots;
        let mut at = receiver.begin(&header).ok()?;
        let sent = loop {
            let Some(chunk) = send.chunk(at).expect("the sender can read") else { break receiver.finish(send.id()) };
            if self.break_after == Some(0) {
                self.break_after = None;
                return None;
            }
            self.break_after = self.break_after.map(|left| left - 1);
            self.chunks += 1;
            match receiver.chunk(send.id(), &chunk) {
                Ok(next) => at = next,
                Err(error) => break Err(error),
            }
        };
        if std::mem::take(&mut self.spoil_received) && matches!(sent, Ok(Some(_))) {
            let (vfs, checkpoints) = (&self.hosts[to].vfs, Path::new(DIR).join("member/checkpoint"));
            let names = vfs.list(&checkpoints).expect("the directory is there");
            let received = names.iter().find(|name| name.starts_with("snapshot-")).expect("a checkpoint was received");
            vfs.flip(&checkpoints.join(received), 100, 1);
            let prepared = sent.map(|received| received.expect("just looked").prepare());
            assert!(matches!(prepared, Ok(Err(SnapshotError::Damaged(_)))), "the damage was not seen");
            self.spoiled += 1;
            return None;
        }
        let prepared = sent.and_then(|received| received.map(|received| received.prepare()).transpose());
        if self.hosts[to].vfs.has_stopped() {
            self.hosts[to].life = None;
            return None;
        }
        if let Some(prepared) = prepared.expect("what was sent is whole") {
            self.step(to, vec![Event::Snapshot(Box::new(prepared))]);
            if std::mem::take(&mut self.lose_acknowledgement) {
                self.queue.retain(|message| message.from != send.to() || !acknowledges(message));
            }
        }
        Some(())
    }

    /// The disk of a member answers again.
    pub(crate) fn resume_disk(&mut self, at: usize) {
        self.hosts[at].stalled = false;
        self.step(at, Vec::new());
    }

    pub(crate) fn link(&mut self, from: usize, to: usize, up: bool) {
        if up {
            self.cut.remove(&(from, to));
        } else {
            self.cut.insert((from, to));
        }
    }

    /// Cuts a member off from everyone, or joins it again.
    pub(crate) fn isolate(&mut self, at: usize, away: bool) {
        for other in (0..self.hosts.len()).filter(|other| *other != at) {
            self.link(at, other, !away);
            self.link(other, at, !away);
        }
    }

    /// Delivers one message; `false` if none is under way.
    pub(crate) fn deliver(&mut self) -> bool {
        let Some(mut message) = self.queue.pop_front() else { return false };
        if let Some((_, from, to)) = self.tamper.filter(|(at, ..)| *at as u64 + 1 == message.to) {
            write_over(&mut message, from, to);
        }
        let (from, to) = (message.from as usize - 1, message.to as usize - 1);
        if to < self.hosts.len() && !self.cut.contains(&(from, to)) && !self.hosts[to].paused {
            self.step(to, vec![Event::Peer(vec![message])]);
        }
        true
    }

    /// Delivers until nothing is under way, runs the background jobs, and lets the moment pass after which a leader tells
    /// what is committed.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.deliver() && !self.run_jobs() && !self.carry_next() && !self.let_commit_be_told() {
                return;
            }
        }
        panic!("the group does not come to rest");
    }

    fn let_commit_be_told(&mut self) -> bool {
        let soon = self.now_ms + limits::COMMIT_RIDES_MS;
        let Some(leader) = self.leader().filter(|at| self.hosts[*at].wake_ms.is_some_and(|wake| wake <= soon)) else {
            return false;
        };
        self.now_ms = soon;
        self.tick_one(leader);
        true
    }

    pub(crate) fn run_jobs(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            let Some(life) = host.life.as_mut().filter(|_| !host.stalled) else { continue };
            let Some(job) = life.jobs.pop_front() else { continue };
            let vfs: Arc<dyn Vfs> = Arc::new(host.vfs.clone());
            let done = job.run(&vfs, &life.checkpoints.clone());
            if host.vfs.has_stopped() {
                host.life = None;
                continue;
            }
            self.step(at, vec![Event::Job(done)]);
            any = true;
        }
        any
    }

    /// Time passes for one member; nothing is delivered.
    pub(crate) fn tick_one(&mut self, at: usize) {
        let now_ms = self.now_ms;
        if !self.hosts[at].paused {
            self.step(at, vec![Event::Tick { now_ms }]);
        }
    }

    /// Time passes for all, message by message.
    pub(crate) fn tick(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.now_ms += TICK_MS;
            for at in 0..self.hosts.len() {
                self.tick_one(at);
            }
            self.settle();
        }
    }

    /// Less than a tick passes: only those who asked for it are woken. Messages take no time.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            for at in 0..self.hosts.len() {
                if self.hosts[at].wake_ms.is_some_and(|wake| wake <= self.now_ms) {
                    self.tick_one(at);
                }
            }
            self.settle();
        }
    }

    /// The member that leads, in the highest term anyone runs in.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| {
            let host = &self.hosts[*at];
            let up = host.life.is_some() && !host.paused;
            up && self.published(*at).leader == *at as u64 + 1
        };
        (0..self.hosts.len()).filter(leads).max_by_key(|at| self.published(*at).term)
    }

    /// Lets time pass until someone other than `not` leads and serves.
    pub(crate) fn elect(&mut self, not: Option<usize>) -> usize {
        for _ in 0..200 {
            self.tick(1);
            if let Some(leader) = self.leader().filter(|leader| Some(*leader) != not) {
                return leader;
            }
        }
        panic!("nobody leads after 200 ticks");
    }

    pub(crate) fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn proposal(&mut self, request: pb::InternalRaftRequest) -> Proposal {
        let id = self.id();
        let header = Some(pb::RequestHeader { id, ..Default::default() });
        let request = pb::InternalRaftRequest { header, ..request }.encode_to_vec().into();
        Proposal { ticket: Ticket { front: 0, slot: id }, id, request }
    }

    /// Proposes at a member; returns the slot that will be answered.
    pub(crate) fn propose(&mut self, at: usize, request: pb::InternalRaftRequest) -> u64 {
        let proposal = self.proposal(request);
        let id = proposal.id;
        self.step(at, vec![Event::Propose(vec![proposal])]);
        id
    }

    pub(crate) fn put(&mut self, at: usize, key: &str, value: &str) -> u64 {
        self.propose(at, put(key, value, 0))
    }

    /// Asks a member to add, remove or promote `whom`.
    pub(crate) fn change(&mut self, at: usize, kind: ConfChangeType, whom: usize, promotes: bool) -> u64 {
        let id = self.id();
        let learner = kind == ConfChangeType::ConfChangeAddLearnerNode;
        let context = match kind {
            ConfChangeType::ConfChangeRemoveNode => Vec::new(),
            _ if promotes => write_promotion(whom as u64 + 1),
            _ => write_member(&Member { is_learner: learner, ..member(whom) }),
        };
        let change = ConfChange { id, r#type: kind as i32, node_id: whom as u64 + 1, context: context.into() };
        let ticket = Ticket { front: 0, slot: id };
        self.step(at, vec![Event::Change(Change { ticket, change, promotes })]);
        id
    }

    pub(crate) fn transfer(&mut self, at: usize, to: Option<usize>) -> u64 {
        let slot = self.id();
        let to = to.map_or(0, |to| to as u64 + 1);
        self.step(at, vec![Event::Transfer { ticket: Some(Ticket { front: 0, slot }), to }]);
        slot
    }

    pub(crate) fn read(&mut self, at: usize) -> u64 {
        let slot = self.id();
        self.step(at, vec![Event::Read(vec![Ticket { front: 0, slot }])]);
        slot
    }

    pub(crate) fn renew(&mut self, at: usize, lease: i64) -> u64 {
        let slot = self.id();
        self.step(at, vec![Event::Renew(vec![Renewal { ticket: Ticket { front: 0, slot }, lease }])]);
        slot
    }

    pub(crate) fn grant(&mut self, at: usize, lease: i64, ttl: i64) -> u64 {
        let grant = Box::new(pb::LeaseGrantRequest { id: lease, ttl });
        self.propose(at, pb::InternalRaftRequest { lease_grant: Some(grant), ..Default::default() })
    }

    /// The answer to a slot, if it came; taken out.
    pub(crate) fn answer(&mut self, at: usize, slot: u64) -> Option<Reply> {
        let replies = &mut self.hosts[at].replies;
        let found = replies.iter().position(|(of, _)| *of == slot)?;
        let (_, reply) = replies.remove(found);
        assert!(replies.iter().all(|(of, _)| *of != slot), "slot {slot} was answered twice");
        Some(reply)
    }

    /// The value of a key as a member has it.
    pub(crate) fn value(&self, at: usize, key: &str) -> Option<Vec<u8>> {
        let kv = self.published(at).view.kv(key.as_bytes(), 0).expect("the log can be read")?;
        Some(cetera_proto::mvccpb::KeyValue::decode(kv).expect("a pair").value.to_vec())
    }

    /// All members that run hold the same.
    pub(crate) fn assert_equal(&self) {
        let hash = |at: usize| {
            let published = self.published(at);
            (published.applied_index, published.view.hash_kv(0).expect("a hash").hash)
        };
        let running: Vec<usize> = (0..self.hosts.len()).filter(|at| self.hosts[*at].life.is_some()).collect();
        for at in &running {
            assert_eq!(hash(*at), hash(running[0]), "members {at} and {} differ", running[0]);
        }
    }

    /// Names of the files in a directory of a member's.
    pub(crate) fn files(&self, at: usize, directory: &str) -> Vec<String> {
        let member = Path::new(DIR).join("member");
        self.hosts[at].vfs.list(&member.join(directory)).unwrap_or_default()
    }

    /// Bytes of a member's revision log on its disk, and of those the ones that wait for a checkpoint.
    pub(crate) fn revision_log_bytes(&self, at: usize) -> (u64, u64) {
        let log = self.hosts[at].life.as_ref().expect("the member runs").node.state().store().log();
        (log.disk_bytes(), log.retired_bytes())
    }

    /// Which segments the write-ahead log of a member has, for what it keeps.
    pub(crate) fn wal_bytes(&self, at: usize) -> u64 {
        self.hosts[at].life.as_ref().expect("the member runs").wal.bytes()
    }
}

fn write_over(message: &mut PeerMessage, from: &[u8], to: &[u8]) {
    let Some(Body::Raft(message)) = &mut message.body else { return };
    for entry in &mut message.entries {
        if let Some(at) = entry.data.windows(from.len()).position(|window| window == from) {
            let mut data = entry.data.to_vec();
            data[at..at + to.len()].copy_from_slice(to);
            entry.data = data.into();
        }
    }
}

fn acknowledges(message: &PeerMessage) -> bool {
    matches!(&message.body, Some(Body::Raft(raft)) if raft.r#type() == MessageType::MsgAppResp)
}

pub(crate) fn put(key: &str, value: &str, lease: i64) -> pb::InternalRaftRequest {
    let put = pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease,
        ..Default::default()
    };
    pb::InternalRaftRequest { put: Some(Box::new(put)), ..Default::default() }
}
