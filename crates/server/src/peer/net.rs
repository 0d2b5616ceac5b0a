//! Who the peers are and what goes where. All of it lives on the peers' thread.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cetera_node::event::Event;
use cetera_proto::ceterapb::{PeerMessage, peer_message::Body};
use cetera_proto::raftpb::{self, MessageType};
use cetera_state::member::Member;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, spawn_local};

use super::dial::{self, DialError, Hello};
use super::frame::Encoder;
use super::http::{PeerHttp, REQUESTS_MAX};
use super::link::{self, End, Kind, Link};
use super::queue::Queue;
use super::snapshot::{self, Receiver};
use super::stream::PeerStream;
use super::{LAST_WORDS, PeerOptions, PeersHandle, Roster, lock, probe};
use crate::clock;
use crate::config::Url;
use crate::log;
use crate::metrics::METRICS;
use crate::metrics::peers::PeerCounters;
use crate::node_thread::NodeHandle;
use crate::tls::Tls;

/// Bytes of proposals in one message: a large batch is sent as several, so that no frame grows with the load.
const PROPOSAL_BYTES_MAX: usize = 1 << 20;
/// How long what was sent to a member that was removed may take to be written.
const PARTING: Duration = Duration::from_secs(1);
/// Pause between two looks at that.
const PARTING_LOOKS: Duration = Duration::from_millis(5);
/// Members known only because they called, at most.
const REMOTES_MAX: usize = 64;

/// Everything the connections share.
pub(super) struct Net {
    options: PeerOptions,
    shared: PeersHandle,
    node: NodeHandle,
    http: Arc<dyn PeerHttp>,
    http_places: Arc<Semaphore>,
    roster: RefCell<Roster>,
    /// Members the log does not name (yet).
    remotes: RefCell<Vec<Member>>,
    peers: RefCell<BTreeMap<u64, Peer>>,
    incoming: RefCell<BTreeMap<(u64, &'static str), Incoming>>,
    next_incoming: Cell<u64>,
}

/// A peer and the connections to it.
struct Peer {
    counters: Arc<PeerCounters>,
    probing: JoinHandle<()>,
    urls: Rc<RefCell<Vec<Url>>>,
    links: [Rc<Link>; Kind::LINKS.len()],
    encoders: [Encoder; Kind::LINKS.len()],
    tasks: [JoinHandle<()>; Kind::LINKS.len()],
    /// Entries did not get into the queue.
    dropped: bool,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.probing.abort();
    }
}

/// A connection from a peer.
struct Incoming {
    number: u64,
    close: Rc<Notify>,
}

impl Net {
    pub(super) fn new(options: PeerOptions, shared: PeersHandle, node: NodeHandle, http: Arc<dyn PeerHttp>) -> Net {
        let roster = Roster::of(&node.published());
        Net {
            remotes: RefCell::new(options.remotes.clone()),
            options,
            shared,
            node,
            http,
            http_places: Arc::new(Semaphore::new(REQUESTS_MAX)),
            roster: RefCell::new(roster),
            peers: RefCell::default(),
            incoming: RefCell::default(),
            next_incoming: Cell::new(0),
        }
    }

    /// Carries what the node posts to the links until it is told to stop.
    pub(super) async fn run(self: Rc<Self>) {
        // Nobody departs from an empty list.
        let _ = self.follow_roster();
        let mut messages = Vec::new();
        loop {
            self.shared.0.filled.notified().await;
            let (roster, snapshots, stop) = {
                let mut outbox = lock(&self.shared.0.outbox);
                std::mem::swap(&mut outbox.messages, &mut messages);
                outbox.busy = true;
                (outbox.roster.take(), std::mem::take(&mut outbox.snapshots), outbox.stop)
            };
            let departed = match roster {
                Some(roster) => {
                    *self.roster.borrow_mut() = roster;
                    self.follow_roster()
                }
                None => Vec::new(),
            };
            self.send(messages.drain(..));
            departed.into_iter().for_each(|id| self.part(id));
            // From here on the node may write past this thread again.
            lock(&self.shared.0.outbox).busy = false;
            for snapshot in snapshots {
                spawn_local(snapshot::send(Rc::clone(&self), snapshot));
            }
            if stop {
                let _ = tokio::time::timeout(LAST_WORDS, self.written()).await;
                return;
            }
        }
    }

    /// Waits until no link that is connected has anything left to write.
    async fn written(&self) {
        let left = || {
            let peers = self.peers.borrow();
            peers.values().any(|peer| peer.links.iter().any(|link| link.is_writing()))
        };
        while left() {
            tokio::task::yield_now().await;
        }
    }

    fn send(&self, messages: impl Iterator<Item = PeerMessage>) {
        let mut peers = self.peers.borrow_mut();
        for message in messages {
            let Some(peer) = peers.get_mut(&message.to) else { continue };
            let kind = kind_of(&message);
            let (link, encoder) = (&peer.links[kind as usize], &mut peer.encoders[kind as usize]);
            for message in split(message) {
                let room = link.queue.bytes() + encoder.bytes() < kind.queue_bytes_max();
                if !(room && encoder.push(message)) {
                    peer.counters.sent_failures.fetch_add(1, Ordering::Relaxed);
                    peer.dropped |= kind == Kind::Append;
                }
            }
        }
        for (id, peer) in &mut *peers {
            if std::mem::take(&mut peer.dropped) {
                self.node.send(Event::PeerUnreachable(*id));
            }
            for (link, encoder) in peer.links.iter().zip(&mut peer.encoders) {
                if encoder.bytes() > 0 {
                    link.queue.push(encoder.take());
                }
            }
        }
    }

    /// Lets go of a peer that is none any more, once it has what was sent to it: how else is it to know.
    fn part(self: &Rc<Self>, id: u64) {
        let Some(peer) = self.peers.borrow_mut().remove(&id) else { return };
        lock(&self.shared.0.outbox).queues.remove(&id);
        log::info!("stopped remote peer", "remote-peer-id" = log::Hex(id));
        let this = Rc::clone(self);
        spawn_local(async move {
            let written = async {
                while peer.links.iter().any(|link| link.is_writing()) {
                    tokio::time::sleep(PARTING_LOOKS).await;
                }
            };
            let _ = tokio::time::timeout(PARTING, written).await;
            drop(peer);
            // It may be a peer again by now.
            if !this.peers.borrow().contains_key(&id) {
                Kind::LINKS.iter().for_each(|kind| lock(&this.shared.0.facts).dialled_ended(id, *kind));
                this.tell_active(id);
            }
        });
    }

    /// Makes the peers those that the roster and the remotes name, besides those that are none any more; returns them.
    fn follow_roster(self: &Rc<Self>) -> Vec<u64> {
        let roster = self.roster.borrow().clone();
        let me = self.options.member_id;
        let is_named = |id: u64| roster.members.iter().any(|member| member.id == id);
        let mut remotes = self.remotes.borrow_mut();
        if is_named(me) {
            remotes.retain(|remote| !self.options.remotes.contains(remote));
        }
        remotes.retain(|remote| remote.id != me && !is_named(remote.id) && !roster.removed.contains(&remote.id));
        if roster.removed.contains(&me) {
            lock(&self.shared.0.facts).removed = true;
        }
        let wanted: BTreeMap<u64, Vec<Url>> = roster
            .members
            .iter()
            .chain(remotes.iter())
            .filter(|member| member.id != me)
            .map(|member| (member.id, member.peer_urls.iter().filter_map(|url| Url::parse(url).ok()).collect()))
            .collect();
        drop(remotes);
        let mut peers = self.peers.borrow_mut();
        let departed = peers.keys().filter(|id| !wanted.contains_key(id)).copied().collect();
        for ((from, _), incoming) in &*self.incoming.borrow() {
            if !wanted.contains_key(from) {
                incoming.close.notify_one();
            }
        }
        for (id, urls) in wanted {
            match peers.get(&id) {
                Some(peer) => *peer.urls.borrow_mut() = urls,
                None => {
                    peers.insert(id, self.start(id, urls));
                }
            }
        }
        departed
    }

    fn start(self: &Rc<Self>, id: u64, urls: Vec<Url>) -> Peer {
        let urls = Rc::new(RefCell::new(urls));
        let counters = METRICS.peer(id);
        let queues = Kind::LINKS.map(|_| Arc::new(Queue::new(Arc::clone(&counters))));
        lock(&self.shared.0.outbox).queues.insert(id, queues.clone());
        let links = queues.map(|queue| Rc::new(Link::new(queue)));
        let tasks = Kind::LINKS.map(|kind| {
            let hello = self.hello(id, kind);
            spawn_local(link::run(Rc::clone(&links[kind as usize]), Rc::clone(&urls), hello, Rc::clone(self)))
        });
        let probing =
            spawn_local(probe::run(Rc::clone(&urls), Arc::clone(&counters), self.options.tls.clone(), probe::EVERY));
        log::info!("started remote peer", "remote-peer-id" = log::Hex(id));
        Peer { counters, probing, urls, links, encoders: Default::default(), tasks, dropped: false }
    }

    fn hello(&self, to: u64, kind: Kind) -> Hello {
        Hello {
            from: self.options.member_id,
            to,
            cluster_id: self.options.cluster_id,
            peer_urls: self.options.advertise_peer.join(","),
            kind,
            write_timeout: self.options.write_timeout,
            tls: self.options.tls.clone(),
        }
    }

    /// A connection for a snapshot, by whichever of the peer's URLs answers.
    pub(super) async fn dial_for_snapshot(&self, to: u64) -> io::Result<PeerStream> {
        let urls = self.peers.borrow().get(&to).map(|peer| peer.urls.borrow().clone()).unwrap_or_default();
        let hello = self.hello(to, Kind::Snapshot);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no URL is known");
        for url in urls {
            match dial::in_time(&url, &hello).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = io::Error::other(error.to_string()),
            }
        }
        Err(last)
    }

    /// Gives messages to the node; returns when it may be given more.
    pub(super) async fn hear(&self, messages: Vec<PeerMessage>, bytes: usize) {
        if !self.node.hear(messages, bytes) {
            self.node.room_for_peers().await;
        }
    }

    /// A connection from `from` begins; one that it had before ends.
    pub(super) fn accepted(&self, from: u64, kind: Kind) -> (u64, Rc<Notify>) {
        let number = self.next_incoming.replace(self.next_incoming.get() + 1);
        let close = Rc::new(Notify::new());
        let incoming = Incoming { number, close: Rc::clone(&close) };
        if let Some(before) = self.incoming.borrow_mut().insert((from, kind.name()), incoming) {
            before.close.notify_one();
        }
        if kind == Kind::Snapshot {
            return (number, close);
        }
        lock(&self.shared.0.facts).accepted(from, clock::now_ms());
        self.tell_active(from);
        if let Some(peer) = self.peers.borrow().get(&from) {
            peer.links.iter().for_each(|link| link.hurry());
        }
        (number, close)
    }

    pub(super) fn accepted_ended(&self, from: u64, kind: Kind, number: u64, end: &End) {
        let mut incoming = self.incoming.borrow_mut();
        if incoming.get(&(from, kind.name())).is_some_and(|incoming| incoming.number == number) {
            incoming.remove(&(from, kind.name()));
        }
        if kind == Kind::Snapshot {
            return log::info!(
                "a connection for a snapshot ended",
                "remote-peer-id" = log::Hex(from),
                "error" = log::Shown(end)
            );
        }
        lock(&self.shared.0.facts).accepted_ended(from);
        self.tell_active(from);
        if !matches!(end, End::Closed | End::Superseded) {
            METRICS.peer(from).received_failures.fetch_add(1, Ordering::Relaxed);
        }
        self.ended("lost TCP streaming connection from remote peer", from, kind, end);
    }

    pub(super) fn dialled(&self, peer: u64, kind: Kind) {
        lock(&self.shared.0.facts).dialled(peer, kind, clock::now_ms());
        self.tell_active(peer);
        log::info!(
            "established TCP streaming connection with remote peer",
            "remote-peer-id" = log::Hex(peer),
            "stream" = kind.name()
        );
    }

    pub(super) fn dialled_ended(&self, peer: u64, kind: Kind, end: &End) {
        lock(&self.shared.0.facts).dialled_ended(peer, kind);
        self.tell_active(peer);
        self.ended("lost TCP streaming connection with remote peer", peer, kind, end);
        if kind == Kind::Append {
            // What was on its way may or may not have got there.
            self.node.send(Event::PeerUnreachable(peer));
        }
    }

    fn ended(&self, what: &str, peer: u64, kind: Kind, end: &End) {
        log::warning!(what, "remote-peer-id" = log::Hex(peer), "stream" = kind.name(), "error" = log::Shown(end));
        if end.is_gone() {
            self.node.send(Event::PeerGone(peer));
        }
    }

    /// `dropped`: something waited for the connection and is lost.
    pub(super) fn dial_failed(&self, peer: u64, kind: Kind, error: &DialError, dropped: bool) {
        if dropped {
            METRICS.peer(peer).sent_failures.fetch_add(1, Ordering::Relaxed);
        }
        if dropped && kind == Kind::Append {
            self.node.send(Event::PeerUnreachable(peer));
        }
        match error {
            // Somebody who is heard from is there, whatever the port says.
            DialError::Refused if !lock(&self.shared.0.facts).is_heard(peer) => self.node.send(Event::PeerGone(peer)),
            DialError::Removed => lock(&self.shared.0.facts).removed = true,
            _ => {}
        }
    }

    /// Whether `id` was removed, and whether it is a peer.
    pub(super) fn knows(&self, id: u64) -> (bool, bool) {
        (self.roster.borrow().removed.contains(&id), self.peers.borrow().contains_key(&id))
    }

    /// A caller the log does not name: it may have joined after what this member has applied.
    pub(super) fn learn(self: &Rc<Self>, id: u64, peer_urls: Vec<String>) {
        {
            let mut remotes = self.remotes.borrow_mut();
            remotes.retain(|remote| remote.id != id);
            if remotes.len() >= REMOTES_MAX || id == 0 {
                return;
            }
            remotes.push(Member { id, peer_urls, ..Default::default() });
        }
        let departed = self.follow_roster();
        departed.into_iter().for_each(|id| self.part(id));
    }

    /// Whether a peer is connected is a metric, too.
    fn tell_active(&self, peer: u64) {
        let connected = lock(&self.shared.0.facts).connected_since_ms(peer).is_some();
        METRICS.peer(peer).set_active(connected);
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.options.tls.as_ref()
    }

    pub(super) fn member_id(&self) -> u64 {
        self.options.member_id
    }

    pub(super) fn snapshots(&self) -> Receiver {
        Arc::clone(&self.options.snapshots)
    }

    pub(super) fn node(&self) -> NodeHandle {
        self.node.clone()
    }

    pub(super) fn tell(&self, event: Event) {
        self.node.send(event);
    }

    pub(super) fn cluster_id(&self) -> u64 {
        self.options.cluster_id
    }

    pub(super) fn http(&self) -> Arc<dyn PeerHttp> {
        Arc::clone(&self.http)
    }

    pub(super) fn http_places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.http_places)
    }

    pub(super) fn read_timeout(&self) -> Duration {
        self.options.read_timeout
    }

    pub(super) fn write_timeout(&self) -> Duration {
        self.options.write_timeout
    }
}

pub(super) fn kind_of(message: &PeerMessage) -> Kind {
    match &message.body {
        Some(Body::Raft(raft)) => match raft.r#type() {
            MessageType::MsgApp | MessageType::MsgProp | MessageType::MsgSnap => Kind::Append,
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}

/// A large batch of proposals as several messages; everything else as it is.
fn split(message: PeerMessage) -> impl Iterator<Item = PeerMessage> {
    let (first, rest) = match message {
        PeerMessage { from, to, body: Some(Body::Raft(raft)) } if raft.r#type() == MessageType::MsgProp => {
            let mut messages = split_proposal(raft).into_iter().map(move |raft| PeerMessage {
                from,
                to,
                body: Some(Body::Raft(raft)),
            });
            (messages.next(), Some(messages))
        }
        other => (Some(other), None),
    };
    first.into_iter().chain(rest.into_iter().flatten())
}

fn split_proposal(mut message: raftpb::Message) -> Vec<raftpb::Message> {
    let entries = std::mem::take(&mut message.entries);
    let mut out = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        if out.is_empty() || bytes + entry.data.len() > PROPOSAL_BYTES_MAX {
            out.push(message.clone());
            bytes = 0;
        }
        bytes += entry.data.len();
        out.last_mut().expect("there is one by now").entries.push(entry);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_batch_of_proposals_is_several_messages_in_order() {
        let entry = |n: u8| raftpb::Entry { data: vec![n; PROPOSAL_BYTES_MAX / 3].into(), ..Default::default() };
        let mut raft = raftpb::Message { from: 1, to: 2, entries: (0..8).map(entry).collect(), ..Default::default() };
        raft.set_type(MessageType::MsgProp);
        let parts: Vec<_> = split(raft.clone().into()).collect();
        assert_eq!(parts.len(), 3);
        let entries = parts.into_iter().flat_map(|part| match part.body {
            Some(Body::Raft(raft)) => raft.entries,
            _ => panic!("a raft message"),
        });
        assert_eq!(entries.collect::<Vec<_>>(), raft.entries);
    }
}
