//! etcd's services on one front thread: requests in, answers out, and whatever must wait given to the node as a ticket.
//!
//! A batch of calls costs one look at the published state, and one event each for its writes, its linearizable reads and
//! its lease renewals. Serializable reads are answered at once from the published view. A call that waits is one entry in
//! a map, found again by the ticket, whose slot is the call's own number.

mod auth;
pub(crate) mod cluster;
mod downgrade;
pub(crate) mod header;
mod health;
mod kv;
mod lease;
mod maintenance;
pub(crate) mod membership;
pub(crate) mod promote;
mod propose;
mod range;
mod range_stream;
pub mod status;
mod timeout;
mod txn;
pub mod watch;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cetera_node::event::{Event, Proposal, Refusal, Renewal, Reply, Ticket};
use cetera_node::published::Published;
use cetera_proto::services::{Kind, Method, MethodId};
use prost::Message as _;

use self::cluster::Changing;
use self::downgrade::Downgrade;
use self::header::Headers;
use self::lease::KeepAlive;
pub(crate) use self::maintenance::{db_bytes, db_bytes_in_use};
use self::membership::Known;
pub use self::propose::RequestIds;
use self::range_stream::RangeStream;
use self::status::{Error, malformed, ok, unimplemented};
use self::watch::WatchService;
use crate::clock;
use crate::metrics::METRICS;
use crate::metrics::clients::ClientCounts;
use crate::node_thread::{NodeHandle, Work};
use crate::seam::{CallId, CallMetadata, Inbound, Mail, Outbound, Services, Status};

/// Answers are written into chunks of this size.
const ARENA_BYTES: usize = 64 << 10;
/// Bytes of range answers after which the rest waits for another turn: connections send what there is in between, so
/// that answers go out while they are warm, and a small call does not stand behind many large ones.
const RANGES_PER_TURN_BYTES: usize = 256 << 10;
/// Election timeouts without a leader after which streams that require one are ended (G-6).
const LEADERLESS_POLLS_MAX: u32 = 3;

/// What services need of the node.
pub trait NodeAccess {
    /// Queues an event.
    fn send(&self, event: Event);
    /// The picture published last.
    fn published(&self) -> Arc<Published>;
    /// Says whether front thread `front` is to be told of changes; not, unless it said so. Once it said so, it is told of
    /// every one that is not in a picture it takes from then on.
    fn want_changes(&self, front: u16, wanted: bool);
    /// Whether the reserve of free disk is being used up.
    fn disk_low(&self) -> bool;
    /// Runs work in the background; answered by [`Mail::Work`].
    fn run_job(&self, ticket: Ticket, work: Work);
    /// Has the leader promote a learner (C-6); answered by [`Mail::Work`] with a `MemberPromoteResponse` without header.
    fn promote_at_leader(&self, ticket: Ticket, member: u64, timeout: Duration);
    /// Since when a member is connected to this one, by [`NodeAccess::now_ms`].
    fn connected_since_ms(&self, member: u64) -> Option<u64>;
    /// Milliseconds of the node's clock, which never goes back.
    fn now_ms(&self) -> u64;
    /// Milliseconds since 1970.
    fn unix_ms(&self) -> u64;
}

impl NodeAccess for NodeHandle {
    fn send(&self, event: Event) {
        self.send_and_step(event);
    }

    fn published(&self) -> Arc<Published> {
        NodeHandle::published(self)
    }

    fn want_changes(&self, front: u16, wanted: bool) {
        NodeHandle::want_changes(self, front, wanted);
    }

    fn disk_low(&self) -> bool {
        NodeHandle::disk_low(self)
    }

    fn run_job(&self, ticket: Ticket, work: Work) {
        NodeHandle::run_job(self, ticket, work);
    }

    fn promote_at_leader(&self, ticket: Ticket, member: u64, timeout: Duration) {
        let node = self.clone();
        promote::promote_at_leader(self.clone(), timeout, member, move |result| node.worked(ticket, result));
    }

    fn connected_since_ms(&self, member: u64) -> Option<u64> {
        NodeHandle::connected_since_ms(self, member)
    }

    fn now_ms(&self) -> u64 {
        clock::now_ms()
    }

    fn unix_ms(&self) -> u64 {
        clock::unix_ms()
    }
}

/// What all front threads' services share.
#[derive(Debug)]
pub struct Settings {
    /// `--max-request-bytes` (G-3).
    pub max_request_bytes: usize,
    /// `--max-txn-ops` (TX-1).
    pub max_txn_ops: usize,
    /// Logical bytes at which writes are refused; `None` is no limit.
    pub quota_bytes: Option<u64>,
    /// `--election-timeout` in milliseconds.
    pub election_ms: u64,
    /// `--strict-reconfig-check`.
    pub strict_reconfig_check: bool,
    /// Where request ids come from.
    pub ids: Arc<RequestIds>,
}

impl Settings {
    /// How long a request may be under way (G-13), in milliseconds.
    pub fn request_timeout_ms(&self) -> u64 {
        5_000 + 2 * self.election_ms
    }
}

/// The services of one front thread.
pub struct RpcServices<N> {
    /// Number of this front thread, part of its tickets.
    front: u16,
    node: N,
    settings: Arc<Settings>,
    /// The picture of this batch.
    published: Arc<Published>,
    headers: Headers,
    /// The call that was opened last, if its first message may be next.
    opened: Option<(CallId, Opened)>,
    calls: IdMap<State>,
    /// Keep-alive renewals under way: slot to stream and place in it.
    renewals: IdMap<(CallId, u64)>,
    next_renewal: u64,
    watch: WatchService,
    /// What the node was told last of what the watch service wants.
    wants_changes: bool,
    /// Ranges that may be served and wait for their turn. At most one for each open call.
    ranges: VecDeque<CallId>,
    /// Bytes of range answers made in this turn.
    range_bytes: usize,
    /// Streams that asked to be ended when there is no leader (G-6).
    need_leader: Vec<CallId>,
    /// Changes of the membership that the next tick asks for again.
    changes_to_repeat: Vec<CallId>,
    leaderless_polls: u32,
    next_leader_poll_ms: u64,
    outbox: Outbox,
    counts: Counts,
    clients: ClientCounts,
    /// Answers are written here and split off.
    arena: BytesMut,
    /// Proposals are written here and split off: apart from answers, because they live longer.
    proposals_arena: BytesMut,
}

/// What a batch has for the node.
#[derive(Default)]
struct Outbox {
    proposals: Vec<Proposal>,
    reads: Vec<Ticket>,
    renewals: Vec<Renewal>,
    settling: Vec<Ticket>,
}

/// What a batch adds to the process's numbers.
#[derive(Default)]
struct Counts {
    ranges: u64,
    settled: u64,
    failed: u64,
}

/// A call whose request has not come.
#[derive(Copy, Clone)]
struct Opened {
    method: &'static Method,
    /// Made by this process itself: what clients are refused is open to it.
    is_own: bool,
}

/// A call that is more than its one batch.
enum State {
    /// Opened; its request has not come.
    Opened(Opened),
    /// Waits for the answer to its ticket.
    Waits(Wait),
    /// A stream of keep-alives.
    KeepAlive(KeepAlive),
    /// A range that is sent in chunks.
    RangeStream(Box<RangeStream>),
    /// Nothing to do until the client leaves.
    Idle,
    /// The watch service's.
    Watch,
}

/// What to do with the answer to a ticket.
enum Wait {
    /// A write: send what apply made.
    Applied,
    /// An alarm raised because of a write over quota: refuse the write.
    OverQuota,
    /// A read that wants confirmation.
    Range(Box<cetera_proto::etcdserverpb::RangeRequest>),
    /// The same, in chunks.
    RangeStream(Box<cetera_proto::etcdserverpb::RangeRequest>),
    /// A transaction that only reads.
    Txn(Box<cetera_proto::etcdserverpb::TxnRequest>),
    /// A list of members that wants confirmation.
    MemberList,
    /// A downgrade that wants confirmation.
    Downgrade(Downgrade),
    /// The word of a downgrade, on its way into the log.
    DowngradeSet,
    /// A change of the membership.
    Change(Box<Changing>),
    /// The same, refused because another one was under way.
    ChangeAgain(Box<Changing>),
    /// A promotion that the leader was asked for.
    Promoted,
    /// Leadership on its way to another member.
    Transfer,
    /// Time left of this lease.
    TimeToLive(i64),
    /// All leases.
    Leases,
    /// Background work makes the response but for its header.
    Work,
    /// A compaction that is to be answered when its space is given back (KV-18).
    Compaction,
    /// The same, applied: this is its answer.
    Settled(Vec<Bytes>),
}

impl Wait {
    fn is_write(&self) -> bool {
        matches!(self, Wait::Applied | Wait::OverQuota | Wait::Compaction | Wait::DowngradeSet)
    }
}

impl<N: NodeAccess> RpcServices<N> {
    /// Services for front thread `front`.
    pub fn new(front: u16, node: N, settings: Arc<Settings>, watch: WatchService) -> Self {
        let published = node.published();
        RpcServices {
            front,
            headers: Headers::new(published.cluster_id, published.member_id),
            published,
            node,
            settings,
            opened: None,
            calls: IdMap::default(),
            renewals: IdMap::default(),
            next_renewal: lease::RENEWAL_SLOTS,
            watch,
            wants_changes: false,
            ranges: VecDeque::new(),
            range_bytes: 0,
            need_leader: Vec::new(),
            changes_to_repeat: Vec::new(),
            leaderless_polls: 0,
            next_leader_poll_ms: 0,
            outbox: Outbox::default(),
            counts: Counts::default(),
            clients: ClientCounts::default(),
            arena: BytesMut::with_capacity(ARENA_BYTES),
            proposals_arena: BytesMut::with_capacity(ARENA_BYTES),
        }
    }

    fn refresh(&mut self) {
        self.take_picture();
        self.range_bytes = 0;
    }

    fn take_picture(&mut self) {
        self.published = self.node.published();
        self.headers.set_term(self.published.term);
        self.watch.begin(&self.published);
    }

    /// Before the first watch stream: the picture of this batch may lack changes that nobody told this thread of.
    fn want_changes(&mut self) {
        if !self.wants_changes {
            self.wants_changes = true;
            // In this order: what is not told from now on is in the picture.
            self.node.want_changes(self.front, true);
            self.take_picture();
        }
    }

    /// Ends the watch service's turn.
    fn flush_watch(&mut self, out: &mut Vec<Outbound>) {
        self.watch.flush(out);
        for call in self.watch.take_ended() {
            self.calls.remove(&call);
        }
        if self.wants_changes && !self.watch.wants_changes() {
            self.wants_changes = false;
            self.node.want_changes(self.front, false);
        }
    }

    /// Sends what the batch has for the node: one event of each kind.
    fn flush(&mut self) {
        let counts = std::mem::take(&mut self.counts);
        if counts.ranges > 0 {
            METRICS.ranges(counts.ranges);
        }
        if counts.settled > 0 {
            METRICS.settled(counts.settled, counts.failed);
        }
        if !self.outbox.proposals.is_empty() {
            METRICS.proposed(self.outbox.proposals.len() as u64);
            self.node.send(Event::Propose(std::mem::take(&mut self.outbox.proposals)));
        }
        if !self.outbox.reads.is_empty() {
            self.node.send(Event::Read(std::mem::take(&mut self.outbox.reads)));
        }
        for ticket in self.outbox.settling.drain(..) {
            self.node.send(Event::Settle(ticket));
        }
        if !self.outbox.renewals.is_empty() {
            self.node.send(Event::Renew(std::mem::take(&mut self.outbox.renewals)));
        }
    }

    fn ticket(&self, call: CallId) -> Ticket {
        Ticket { front: self.front, slot: call.0 }
    }

    /// What every call must pass before its request is looked at (G-6, G-7, G-9, G-10). `Err` ends it.
    fn admit(&mut self, method: &Method, metadata: &CallMetadata) -> Result<(), Error> {
        if !method.service.starts_with("grpc.") {
            if self.published.cluster_version.is_empty() {
                return Err(Error::NotCapable);
            }
            // Of ranges only when the request has come.
            let learners_too = matches!(method.id, MethodId::Range | MethodId::Status | MethodId::Snapshot);
            if self.published.is_learner && !learners_too {
                return Err(Error::NotSupportedForLearner);
            }
            let of_state = matches!(method.service, "etcdserverpb.KV" | "etcdserverpb.Watch");
            if self.published.fenced && (of_state || method.id == MethodId::Snapshot) {
                return Err(Error::Corrupt);
            }
        }
        let counted = self.clients.count(metadata.client_api_version.as_ref(), method.kind == Kind::Unary);
        counted.map_err(|_| Error::InvalidClientApiVersion)?;
        if requires_leader(metadata) && self.published.leader == 0 {
            return Err(Error::NoLeader);
        }
        Ok(())
    }

    fn open(&mut self, call: CallId, method: &'static Method, metadata: CallMetadata, out: &mut Vec<Outbound>) {
        self.settle_opened();
        if !metadata.is_own
            && let Err(error) = self.admit(method, &metadata)
        {
            return fail(call, error, out);
        }
        if method.kind != Kind::Unary && requires_leader(&metadata) {
            self.need_leader.push(call);
        }
        match method.id {
            MethodId::Watch => {
                self.want_changes();
                self.calls.insert(call, State::Watch);
                self.watch.handle(Inbound::Open { call, method, metadata }, out);
            }
            MethodId::LeaseKeepAlive => {
                self.calls.insert(call, State::KeepAlive(KeepAlive::default()));
            }
            _ => self.opened = Some((call, Opened { method, is_own: metadata.is_own })),
        }
    }

    /// Keeps the call opened last for later, when something else came before its message.
    fn settle_opened(&mut self) {
        if let Some((call, opened)) = self.opened.take() {
            self.calls.insert(call, State::Opened(opened));
        }
    }

    fn message(&mut self, call: CallId, body: Bytes, out: &mut Vec<Outbound>) {
        if let Some((_, opened)) = self.opened.take_if(|(opened, _)| *opened == call) {
            return self.request(call, opened, body, out);
        }
        match self.calls.get(&call) {
            Some(State::Opened(opened)) => {
                let opened = *opened;
                self.calls.remove(&call);
                self.request(call, opened, body, out);
            }
            Some(State::KeepAlive(_)) => self.keep_alive(call, body, out),
            Some(State::Watch) => self.watch.handle(Inbound::Message { call, body }, out),
            // A second request on a call that takes one, or a call that has ended.
            Some(State::Waits(_) | State::RangeStream(_) | State::Idle) | None => {}
        }
    }

    /// The one request of a call.
    fn request(&mut self, call: CallId, opened: Opened, body: Bytes, out: &mut Vec<Outbound>) {
        let Opened { method, is_own } = opened;
        let done = match method.id {
            MethodId::Range if self.published.is_learner && !is_own && is_linearizable(&body) => {
                Err(Error::NotSupportedForLearner.into())
            }
            MethodId::Range => self.range(call, body, out),
            MethodId::RangeStream => self.range_stream(call, body, out),
            MethodId::Put => self.put(call, body),
            MethodId::DeleteRange => self.delete_range(call, body),
            MethodId::Txn => self.txn(call, body, out),
            MethodId::Compact => self.compact(call, body),
            MethodId::LeaseGrant => self.lease_grant(call, body),
            MethodId::LeaseRevoke => self.lease_revoke(call, body),
            MethodId::LeaseTimeToLive => self.lease_time_to_live(call, body),
            MethodId::LeaseLeases => self.lease_leases(call),
            MethodId::MemberList => self.member_list(call, body, out),
            MethodId::MemberAdd => self.member_add(call, body),
            MethodId::MemberRemove => self.member_remove(call, body),
            MethodId::MemberUpdate => self.member_update(call, body),
            MethodId::MemberPromote => self.member_promote(call, body),
            MethodId::Alarm => self.alarm(call, body),
            MethodId::Status => self.status(call, out),
            MethodId::MoveLeader => self.move_leader(call, body),
            MethodId::Downgrade => self.downgrade(call, body),
            MethodId::Defragment => self.defragment(call, out),
            MethodId::Hash => self.hash(call),
            MethodId::HashKv => self.hash_kv(call, body),
            MethodId::AuthStatus => self.auth_status(call, out),
            MethodId::Authenticate => Err(Error::AuthNotEnabled.into()),
            MethodId::HealthCheck => self.health_check(call, body, out),
            MethodId::HealthList => self.health_list(call, out),
            MethodId::HealthWatch => self.health_watch(call, body, out),
            _ => Err(unimplemented(method)),
        };
        if let Err(status) = done {
            out.push(Outbound::Finish { call, status });
        }
    }

    fn half_close(&mut self, call: CallId, out: &mut Vec<Outbound>) {
        self.settle_opened();
        match self.calls.get(&call) {
            Some(State::Opened(Opened { method, .. })) => {
                // grpc-go's server sees the end of the stream where it expects a request.
                let status = status::other(status::Code::Internal, format!("no request message for {method}"));
                self.calls.remove(&call);
                out.push(Outbound::Finish { call, status });
            }
            Some(State::KeepAlive(_)) => self.keep_alive_half_close(call, out),
            Some(State::Watch) => self.watch.handle(Inbound::HalfClose { call }, out),
            Some(State::Waits(_) | State::RangeStream(_) | State::Idle) | None => {}
        }
    }

    fn cancel(&mut self, call: CallId, out: &mut Vec<Outbound>) {
        self.settle_opened();
        match self.calls.remove(&call) {
            Some(State::Watch) => self.watch.handle(Inbound::Cancel { call }, out),
            Some(State::Waits(wait)) if wait.is_write() => {
                self.counts.settled += 1;
                self.counts.failed += 1;
            }
            _ => {}
        }
    }

    fn drained(&mut self, call: CallId, out: &mut Vec<Outbound>) {
        match self.calls.get(&call) {
            Some(State::RangeStream(_)) => self.resume_range_stream(call, out),
            Some(State::Watch) => self.watch.handle(Inbound::Drained { call }, out),
            _ => {}
        }
    }

    /// The node's answer to a ticket of ours.
    fn answer(&mut self, ticket: Ticket, reply: Reply, out: &mut Vec<Outbound>) {
        if ticket.slot >= lease::RENEWAL_SLOTS {
            return self.renewed(ticket.slot, reply, out);
        }
        let call = CallId(ticket.slot);
        // A call that was cancelled meanwhile is not there.
        let Some(State::Waits(wait)) = self.calls.remove(&call) else { return };
        if wait.is_write() {
            self.counts.settled += 1;
            self.counts.failed += u64::from(!matches!(reply, Reply::Applied(Ok(_))));
        }
        let done = match (wait, reply) {
            (Wait::OverQuota, _) => Err(Error::NoSpace.into()),
            (Wait::Change(changing), reply) => self.changed(call, *changing, reply, out),
            (Wait::Transfer, Reply::Refused(Refusal::Timeout)) => Err(Error::TimeoutLeaderTransfer.into()),
            (wait, Reply::Refused(Refusal::Timeout)) if wait.is_write() => Err(self.timed_out().into()),
            (_, Reply::Refused(refusal)) => Err(refusal.into()),
            (Wait::Applied, Reply::Applied(result)) => self.applied(call, result, out),
            (Wait::Compaction, Reply::Applied(result)) => self.settle(call, result),
            (Wait::Settled(slices), Reply::Settled) => {
                respond(call, slices, out);
                Ok(())
            }
            (Wait::Range(request), Reply::Read) => self.range_in_turn(call, request, out),
            (Wait::RangeStream(request), Reply::Read) => self.serve_range_stream(call, *request, out),
            (Wait::Txn(request), Reply::Read) => self.serve_txn(call, &request, out),
            (Wait::MemberList, Reply::Read) => self.serve_member_list(call, out),
            (Wait::Downgrade(asked), Reply::Read) => self.serve_downgrade(call, asked, out),
            (Wait::DowngradeSet, Reply::Applied(result)) => self.downgrade_set(call, result, out),
            (Wait::Transfer, Reply::Transferred(_)) => {
                // No header (G-14).
                respond(call, Vec::new(), out);
                Ok(())
            }
            (Wait::TimeToLive(lease), Reply::TimeToLive { ttl, granted, keys }) => {
                self.serve_time_to_live(call, lease, (ttl, granted, keys), out)
            }
            (Wait::Leases, Reply::Leases(leases)) => self.serve_leases(call, leases, out),
            (_, reply) => unreachable!("the node answers a ticket in kind, not with {reply:?}"),
        };
        if let Err(status) = done {
            out.push(Outbound::Finish { call, status });
        }
    }

    /// The end of background work.
    fn worked(&mut self, call: CallId, result: Result<Vec<Bytes>, Status>, out: &mut Vec<Outbound>) {
        let revision = match self.calls.remove(&call) {
            Some(State::Waits(Wait::Work)) => self.published.view.revision(),
            // C-8.
            Some(State::Waits(Wait::Promoted)) => 0,
            _ => return,
        };
        match result {
            Ok(body) => {
                let header = self.headers.shared(revision);
                respond(call, std::iter::once(header).chain(body).collect(), out);
            }
            Err(status) => out.push(Outbound::Finish { call, status }),
        }
    }

    /// What a write is told that found no end in time.
    fn timed_out(&self) -> Error {
        let published = &self.published;
        let begun_ms = self.node.now_ms().saturating_sub(self.settings.request_timeout_ms());
        let election_ms = self.settings.election_ms;
        self.known(|known| timeout::blame(known, published.leader, published.leader_since_ms, election_ms, begun_ms))
    }

    /// What this member knows of the group.
    fn known<T>(&self, ask: impl FnOnce(&Known<'_>) -> T) -> T {
        ask(&Known {
            myself: self.published.member_id,
            members: &self.published.members,
            connected_since_ms: &|member| self.node.connected_since_ms(member),
            now_ms: self.node.now_ms(),
            strict: self.settings.strict_reconfig_check,
        })
    }

    /// Waits for confirmation that reads from now on see all writes acknowledged before (KV-8).
    fn confirm(&mut self, call: CallId, wait: Wait) {
        self.outbox.reads.push(self.ticket(call));
        self.calls.insert(call, State::Waits(wait));
    }

    /// Answers with a message whose header tells the store's revision (G-14).
    fn respond_message(&mut self, call: CallId, body: &impl prost::Message, out: &mut Vec<Outbound>) {
        self.headers.put(self.published.view.revision(), &mut self.arena);
        self.respond_body(call, body, out);
    }

    /// Answers with what is in the arena and a message behind it.
    fn respond_body(&mut self, call: CallId, body: &impl prost::Message, out: &mut Vec<Outbound>) {
        self.arena.reserve(body.encoded_len());
        body.encode(&mut self.arena).expect("room was reserved");
        respond(call, vec![self.arena.split().freeze()], out);
    }

    /// Ends streams that require a leader after three election timeouts without one (G-6).
    fn poll_leader(&mut self, now_ms: u64, out: &mut Vec<Outbound>) {
        if now_ms < self.next_leader_poll_ms {
            return;
        }
        self.next_leader_poll_ms = now_ms + self.settings.election_ms;
        if self.published.leader != 0 {
            self.leaderless_polls = 0;
            let calls = &self.calls;
            self.need_leader.retain(|call| calls.contains_key(call));
            return;
        }
        self.leaderless_polls += 1;
        if self.leaderless_polls >= LEADERLESS_POLLS_MAX {
            for call in std::mem::take(&mut self.need_leader) {
                if self.calls.contains_key(&call) {
                    self.cancel(call, out);
                    fail(call, Error::NoLeader, out);
                }
            }
        }
    }
}

impl<N: NodeAccess> Services for RpcServices<N> {
    fn handle(&mut self, batch: &mut Vec<Inbound>, out: &mut Vec<Outbound>) {
        self.refresh();
        for inbound in batch.drain(..) {
            match inbound {
                Inbound::Open { call, method, metadata } => self.open(call, method, metadata, out),
                Inbound::Message { call, body } => self.message(call, body, out),
                Inbound::HalfClose { call } => self.half_close(call, out),
                Inbound::Cancel { call } => self.cancel(call, out),
                Inbound::Drained { call } => self.drained(call, out),
            }
        }
        self.settle_opened();
        // New watchers of the past hear of it at once.
        if self.watch.pending() {
            self.watch.turn();
        }
        self.flush_watch(out);
        self.flush();
    }

    fn deliver(&mut self, mail: &mut Vec<Mail>, out: &mut Vec<Outbound>) {
        self.refresh();
        for mail in mail.drain(..) {
            match mail {
                Mail::Reply(ticket, reply) => self.answer(ticket, reply, out),
                Mail::Work(ticket, result) => self.worked(CallId(ticket.slot), result, out),
                Mail::Events(batch) => self.watch.deliver(&batch),
            }
        }
        self.flush_watch(out);
        self.flush();
    }

    fn tick(&mut self, now_ms: u64, out: &mut Vec<Outbound>) {
        self.refresh();
        self.poll_leader(now_ms, out);
        self.repeat_changes();
        self.watch.tick(now_ms);
        self.flush_watch(out);
        self.flush();
    }

    fn full(&mut self, call: CallId) {
        match self.calls.get_mut(&call) {
            Some(State::RangeStream(stream)) => stream.pause(),
            Some(State::Watch) => self.watch.full(call),
            _ => {}
        }
    }

    fn pending(&self) -> bool {
        self.watch.pending() || !self.ranges.is_empty()
    }

    fn turn(&mut self, out: &mut Vec<Outbound>) {
        self.refresh();
        self.serve_ranges(out);
        if self.watch.pending() {
            self.watch.turn();
            self.flush_watch(out);
        }
        self.flush();
    }
}

/// Whether a range wants confirmation; what is malformed does not get that far.
fn is_linearizable(body: &Bytes) -> bool {
    let request = cetera_proto::etcdserverpb::RangeRequest::decode(body.clone());
    request.is_ok_and(|request| !request.serializable)
}

fn requires_leader(metadata: &CallMetadata) -> bool {
    metadata.has_leader.as_deref() == Some(b"true")
}

/// Answers a unary call.
fn respond(call: CallId, slices: Vec<Bytes>, out: &mut Vec<Outbound>) {
    out.push(Outbound::Message { call, slices });
    out.push(Outbound::Finish { call, status: ok() });
}

fn fail(call: CallId, error: Error, out: &mut Vec<Outbound>) {
    out.push(Outbound::Finish { call, status: error.into() });
}

/// Reads a request message.
fn decode<M: prost::Message + Default>(body: Bytes) -> Result<M, Status> {
    M::decode(body).map_err(|error| malformed(&error))
}

/// A map by numbers of our own making, which need no defence against chosen collisions.
type IdMap<V> = HashMap<CallId, V, BuildHasherDefault<IdHasher>>;

/// Spreads small numbers over the hash's upper bits, which the map takes its tags from.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

#[cfg(test)]
pub(crate) mod tests;
