//! What members say to each other: the peer port.
//!
//! One thread with one current-thread runtime owns every connection. It listens on `--listen-peer-urls`, where hyper reads
//! HTTP/1.1 and [`PeerHttp`] answers etcd's endpoints. The way of messages is an upgrade of such a request: the member
//! that dials sends frames, one way, until the connection ends; each side dials the other. Every peer gets two
//! connections from here, one for appends and proposals, which may be large, and one for all else, so that heartbeats,
//! votes and confirmations of reads never stand behind bulk.
//!
//! The node's messages come as one batch under one lock with one wake; what members say goes to the node as one event per
//! read. Nothing here waits for the node, and the node waits for nothing here: what a queue has no room for is dropped,
//! which raft mends, and the node is told that the peer is unreachable. A proposal of this member is written once at
//! most.
//!
//! Promises: messages of one kind to one peer arrive in order or not at all; a peer that is slow or gone costs a bounded
//! number of bytes and delays nobody else. Never does: deciding anything about the group.

mod accept;
mod dial;
mod facts;
mod frame;
pub mod http;
mod link;
mod net;
mod probe;
mod queue;
mod receive;
mod snapshot;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cetera_node::published::Published;
use cetera_node::snapshot::{SnapshotReceiver, SnapshotSend};
use cetera_proto::ceterapb::{PeerMessage, peer_message::Body};
use cetera_state::member::Member;
use tokio::sync::Notify;
use tokio::task::LocalSet;

use self::frame::Encoder;
pub use self::http::PeerHttp;
use self::link::Kind;
use self::net::{Net, kind_of};
use self::queue::Queue;
use crate::config::Url;
use crate::front::thread::listen;
use crate::node_thread::NodeHandle;
use crate::tls::Tls;

/// Messages that wait for the peers' thread at most; beyond it they are dropped.
const OUTBOX_MESSAGES_MAX: usize = 1 << 16;
/// Messages of a step that the node thread writes itself at most.
const WRITTEN_HERE_MAX: usize = 16;
/// Bytes of entries in one of them at most.
const WRITTEN_HERE_BYTES_MAX: usize = 4 << 10;
/// Threads that may block at most: requests, name look-ups, a chunk of a snapshot each, and one snapshot being verified.
const BLOCKING_THREADS_MAX: usize = 16;
/// How long a stop waits for what is queued to be written.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What the peers' thread is started with.
pub struct PeerOptions {
    /// This member.
    pub member_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// Told to others, who may not know this member yet (`X-PeerURLs`).
    pub advertise_peer: Vec<String>,
    /// Members known by other means than the log, until the log names this one: those of `--initial-cluster`, for a
    /// member that joins.
    pub remotes: Vec<Member>,
    /// Where a snapshot from another member goes.
    pub snapshots: Arc<Mutex<SnapshotReceiver>>,
    /// Connections on which nothing is heard for this long are closed (`--raft-read-timeout`).
    pub read_timeout: Duration,
    /// Connections that take nothing for this long are closed (`--raft-write-timeout`).
    pub write_timeout: Duration,
    /// For https URLs.
    pub tls: Option<Tls>,
}

/// How the node and others reach the peers' thread. Cheap to clone.
#[derive(Clone, Default)]
pub struct PeersHandle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    outbox: Mutex<Outbox>,
    filled: Notify,
    facts: Mutex<facts::Facts>,
}

#[derive(Default)]
struct Outbox {
    messages: Vec<PeerMessage>,
    snapshots: Vec<SnapshotSend>,
    /// The members as they are from now on.
    roster: Option<Roster>,
    stop: bool,
    /// The peers' thread is distributing what it took: nothing may overtake that.
    busy: bool,
    /// The queues before the connections of each peer.
    queues: BTreeMap<u64, [Arc<Queue>; Kind::LINKS.len()]>,
    encoder: Encoder,
}

/// Who belongs to the group and who did.
#[derive(Clone)]
struct Roster {
    members: Arc<Vec<Member>>,
    removed: Arc<std::collections::BTreeSet<u64>>,
}

impl Roster {
    fn of(published: &Published) -> Roster {
        Roster { members: published.members.clone(), removed: published.removed_members.clone() }
    }
}

impl Outbox {
    /// Writes messages from this thread, as long as they are small and nothing is before them: a wake-up of the peers'
    /// thread costs more than the write. Leaves the others.
    fn write(&mut self, messages: &mut Vec<PeerMessage>) {
        if messages.len() > WRITTEN_HERE_MAX
            || messages.iter().any(|message| entry_bytes(message) > WRITTEN_HERE_BYTES_MAX)
        {
            return;
        }
        let mut left = Vec::new();
        for message in messages.drain(..) {
            let queue = self.queues.get(&message.to).map(|queues| &queues[kind_of(&message) as usize]);
            // In the order of each connection: behind one that is left all for the same member are.
            match queue {
                Some(queue) if queue.is_open() && !left.iter().any(|before: &PeerMessage| before.to == message.to) => {
                    if self.encoder.push(message) {
                        queue.write(self.encoder.take());
                    }
                }
                _ => left.push(message),
            }
        }
        *messages = left;
    }
}

fn entry_bytes(message: &PeerMessage) -> usize {
    match &message.body {
        Some(Body::Raft(raft)) => raft.entries.iter().map(|entry| entry.data.len()).sum(),
        _ => 0,
    }
}

impl PeersHandle {
    /// Hands over a step's messages and snapshots, and the members if `published` changed them. One lock, one wake.
    pub(crate) fn post(
        &self,
        messages: &mut Vec<PeerMessage>,
        snapshots: Vec<SnapshotSend>,
        published: Option<&Published>,
    ) {
        if messages.is_empty() && snapshots.is_empty() && published.is_none() {
            return;
        }
        let mut outbox = lock(&self.0.outbox);
        if let Some(published) = published {
            outbox.roster = Some(Roster::of(published));
        }
        if !outbox.busy && outbox.messages.is_empty() {
            outbox.write(messages);
            if messages.is_empty() && snapshots.is_empty() && published.is_none() {
                return;
            }
        }
        let room = OUTBOX_MESSAGES_MAX - outbox.messages.len();
        messages.truncate(room);
        if outbox.messages.is_empty() {
            std::mem::swap(&mut outbox.messages, messages);
        } else {
            outbox.messages.append(messages);
        }
        outbox.snapshots.extend(snapshots);
        drop(outbox);
        messages.clear();
        self.0.filled.notify_one();
    }

    /// Since when there are connections to and from `member`, by [`crate::clock::now_ms`]; `None` if one is missing.
    pub fn connected_since_ms(&self, member: u64) -> Option<u64> {
        lock(&self.0.facts).connected_since_ms(member)
    }

    /// Whether a member said that this one was removed from the group for good.
    pub fn is_removed(&self) -> bool {
        lock(&self.0.facts).removed
    }
}

/// The running thread.
pub struct Peers {
    handle: PeersHandle,
    addresses: Vec<SocketAddr>,
    thread: JoinHandle<()>,
}

/// A listener of the peer port that is bound and not yet served.
pub struct PeerListener {
    listener: TcpListener,
    /// Whether it speaks TLS.
    secure: bool,
}

impl PeerListener {
    /// Binds a URL.
    ///
    /// # Errors
    /// The name does not resolve or the address cannot be bound.
    pub fn bind(url: &Url) -> io::Result<PeerListener> {
        Ok(PeerListener { listener: listen(url)?, secure: url.scheme == "https" })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Peers {
    /// Starts the thread. `handle` is the one that the node was given; `http` answers what is no message.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(
        handle: PeersHandle,
        options: PeerOptions,
        listeners: Vec<PeerListener>,
        node: NodeHandle,
        http: Arc<dyn PeerHttp>,
    ) -> io::Result<Peers> {
        let addresses = listeners.iter().map(PeerListener::address).collect::<io::Result<_>>()?;
        let shared = handle.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("cetera-peer-work")
            .build()?;
        let run = move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                let net = Rc::new(Net::new(options, shared, node, http));
                for listener in listeners {
                    tokio::task::spawn_local(accept::listen(listener.listener, listener.secure, Rc::clone(&net)));
                }
                // A task of its own: polled in turn with the connections.
                let _ = tokio::task::spawn_local(net.run()).await;
            });
            // A handler that still works must not keep the process.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("cetera-peers".into()).spawn(run)?;
        Ok(Peers { handle, addresses, thread })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Writes what is queued, for a moment at most, and ends every connection.
    pub fn stop(self) {
        lock(&self.handle.0.outbox).stop = true;
        self.handle.0.filled.notify_one();
        let _ = self.thread.join();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
