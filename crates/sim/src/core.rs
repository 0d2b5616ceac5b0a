//! What all parts of the world share: the one clock, the one queue, the network, the clients' side, the checks.
//!
//! Events are ordered by time and, at equal times, by the order in which they were scheduled; nothing else decides.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use cetera_proto::ceterapb::{PeerMessage, peer_message::Body};
use cetera_proto::raftpb;
use cetera_proto::services::MethodId;
use cetera_server::seam::Status;

use crate::checks::Checks;
use crate::client::{Conn, News};
use crate::connection::Connections;
use crate::dice::Dice;
use crate::host::snapshot::{Ends, Line, Wire};
use crate::network::Network;
use crate::operator::Done;
use crate::plan::Options;
use crate::trace::{Kind, Trace};

/// Longest time, besides that of a message, until a reset is noticed.
const RESET_US_MAX: u64 = 3_000;

/// Bytes of a client on their way to a member.
#[derive(Debug)]
pub(crate) enum Packet {
    /// A call begins with this message.
    Open { method: MethodId, body: Bytes, half_close: bool },
    /// One more message of a call.
    Message { body: Bytes },
    /// The client gives a call up.
    Cancel,
}

/// Bytes of a member on their way to a client.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A message of a call.
    Message(Bytes),
    /// The end of a call.
    End(Status),
}

/// Which thread of a member has something to do.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Thread {
    /// The node, woken by an event.
    Node,
    /// The node, woken by its tick.
    Tick,
    /// The node, woken when it asked to be.
    Wake,
    /// The log: what it writes is synced now.
    Log,
    /// The log, which waits for room on the disk.
    LogRetry,
    /// The job under way ends.
    Job,
    /// The read under way ends.
    Read,
    /// A front.
    Front(u16),
    /// A front's tick.
    FrontTick(u16),
}

/// What can happen in the world.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A member is started.
    Start { host: usize },
    /// A thread of a member's life has something to do.
    Thread { host: usize, life: u32, thread: Thread },
    /// A message arrives at a member.
    Peer { from: usize, to: usize, message: PeerMessage },
    /// Something arrives over the line of a snapshot.
    Wire { line: Line, at: usize, wire: Wire },
    /// A member learns that its connection to another was reset, or refused.
    PeerGone { at: usize, gone: u64 },
    /// A client's bytes arrive at its member.
    Up { conn: Conn, call: u64, packet: Packet },
    /// The client's side of a connection is gone.
    Hangup { conn: Conn },
    /// A member's bytes arrive at their client.
    Down { conn: Conn, call: u64, answer: Answer },
    /// A client learns that its connection broke.
    Broken { conn: Conn },
    /// A call takes too long for its client.
    Timeout { conn: Conn, call: u64 },
    /// A client is told something.
    Tell { client: usize, news: News },
    /// The operator looks at how things are.
    Operate,
    /// A fault begins.
    FaultBegins { fault: usize },
    /// A fault ends.
    FaultEnds { fault: usize },
    /// The run looks at where it stands.
    Look,
}

struct Queued {
    at_us: u64,
    sequence: u64,
    what: Happening,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    /// The heap gives the greatest first: that is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.sequence).cmp(&(self.at_us, self.sequence))
    }
}

/// The shared part of the world.
pub(crate) struct Core {
    pub(crate) now_us: u64,
    queue: BinaryHeap<Queued>,
    sequence: u64,
    pub(crate) options: Options,
    pub(crate) dice: Dice,
    pub(crate) trace: Trace,
    pub(crate) network: Network,
    pub(crate) connections: Connections,
    pub(crate) checks: Checks,
    /// The member that each machine is, by its id; 0 for none.
    pub(crate) ids: Vec<u64>,
    /// Whether faults may still be added to what happens (a power loss during a start, say).
    pub(crate) faults_on: bool,
    pub(crate) starts: u64,
    /// Snapshots that members took over.
    pub(crate) snapshots: u64,
    pub(crate) unique: u64,
    /// Lines of snapshots that stand.
    pub(crate) lines: BTreeMap<Line, Ends>,
    /// What members answered the operator: ticket, outcome.
    pub(crate) told_operator: Vec<(u64, Done)>,
    /// By how much the members' clocks jumped.
    pub(crate) jumped_us: Vec<u64>,
}

impl Core {
    pub(crate) fn new(options: Options, ids: Vec<u64>, dice: Dice, trace: Trace) -> Self {
        let machines = ids.len();
        Self {
            now_us: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            network: Network::new(machines, options.delay_us, options.client_delay_us),
            connections: Connections::default(),
            checks: Checks::new(&ids),
            options,
            dice,
            trace,
            ids,
            faults_on: true,
            starts: 0,
            snapshots: 0,
            unique: 0,
            lines: BTreeMap::new(),
            told_operator: Vec::new(),
            jumped_us: vec![0; machines],
        }
    }

    /// Schedules something; never in the past.
    pub(crate) fn at(&mut self, at_us: u64, what: Happening) {
        self.sequence += 1;
        self.queue.push(Queued { at_us: at_us.max(self.now_us), sequence: self.sequence, what });
    }

    /// Schedules something after a while.
    pub(crate) fn after(&mut self, after_us: u64, what: Happening) {
        self.at(self.now_us + after_us, what);
    }

    /// Moves on to the next thing that happens.
    pub(crate) fn next(&mut self) -> Option<Happening> {
        let next = self.queue.pop()?;
        self.now_us = next.at_us;
        Some(next.what)
    }

    /// A member sends a message to another.
    pub(crate) fn send_peer(&mut self, from: usize, message: PeerMessage) {
        let Some(to) = self.ids.iter().position(|id| *id == message.to) else { return };
        // A proposal that arrived twice would be applied twice: the transport must not double it (nor does TCP).
        let once = raft(&message).is_some_and(|message| message.r#type() == raftpb::MessageType::MsgProp);
        let mut arrivals = self.network.send(self.now_us, from, to, once, &mut self.dice);
        if arrivals.is_empty() {
            self.trace.note(self.now_us, Kind::Lost, from as u64, to as u64, raft(&message).map_or(0, |m| m.index));
            self.trace.say(self.now_us, &format!("m{from}"), || format!("lost to m{to}: {}", show(&message)));
        }
        let last = arrivals.pop();
        for at_us in arrivals {
            self.at(at_us, Happening::Peer { from, to, message: message.clone() });
        }
        if let Some(at_us) = last {
            self.at(at_us, Happening::Peer { from, to, message });
        }
    }

    /// The connections of other members to this one are reset, where a reset gets through: its process is gone.
    pub(crate) fn reset_peers(&mut self, gone: usize) {
        for at in (0..self.ids.len()).filter(|at| *at != gone) {
            self.reset_peer(at, gone);
        }
    }

    /// The connection of one member to another is reset or refused.
    pub(crate) fn reset_peer(&mut self, at: usize, gone: usize) {
        if self.ids[at] != 0 && self.ids[gone] != 0 && self.network.link(gone, at).blocked == 0 {
            let (_, high) = self.options.delay_us;
            let after_us = self.dice.skewed(20, high + RESET_US_MAX);
            self.after(after_us, Happening::PeerGone { at, gone: self.ids[gone] });
        }
    }

    /// A member sends bytes to a client.
    pub(crate) fn send_down(&mut self, conn: Conn, call: u64, answer: Answer) {
        let connection = self.connections.get_mut(conn);
        let at_us = self.network.stream(self.now_us, connection.member, connection.client, &mut self.dice);
        connection.down_us = connection.down_us.max(at_us);
        let at_us = connection.down_us;
        self.at(at_us, Happening::Down { conn, call, answer });
    }

    /// A client sends bytes to its member.
    pub(crate) fn send_up(&mut self, conn: Conn, call: u64, packet: Packet) {
        let connection = self.connections.get_mut(conn);
        let at_us = self.network.stream(self.now_us, connection.member, connection.client, &mut self.dice);
        connection.up_us = connection.up_us.max(at_us);
        let at_us = connection.up_us;
        self.at(at_us, Happening::Up { conn, call, packet });
    }

    /// The member's side of a connection is gone: its client learns that behind what it was sent.
    pub(crate) fn break_connection(&mut self, conn: Conn, after_us: u64) {
        let at_us = (self.now_us + after_us).max(self.connections.get_mut(conn).down_us);
        self.at(at_us, Happening::Broken { conn });
    }
}

/// The consensus message in a message between members.
pub(crate) fn raft(message: &PeerMessage) -> Option<&raftpb::Message> {
    match &message.body {
        Some(Body::Raft(message)) => Some(message),
        _ => None,
    }
}

/// A message between members, for readers.
pub(crate) fn show(message: &PeerMessage) -> String {
    let Some(message) = raft(message) else { return format!("{:?}", message.body) };
    let name = message.r#type().as_str_name();
    let mut text = format!("{} term {} index {}", name, message.term, message.index);
    if !message.entries.is_empty() {
        let (first, last) = (&message.entries[0], &message.entries[message.entries.len() - 1]);
        text.push_str(&format!(" entries {}..={}", first.index, last.index));
    }
    if message.commit > 0 {
        text.push_str(&format!(" commit {}", message.commit));
    }
    if message.reject {
        text.push_str(" REJECTED");
    }
    text
}
