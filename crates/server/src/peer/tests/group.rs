//! Members of one group in one process: node threads, disks in memory, sockets on the loopback.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cetera_node::Published;
use cetera_node::event::{Event, Proposal, Reply};
use cetera_node::recovery::{self, Start};
use cetera_proto::etcdserverpb as pb;
use cetera_state::member::Member as Founder;
use cetera_storage::datadir::DataDir;
use cetera_storage::revlog::RevLogOptions;
use cetera_storage::vfs::Vfs;
use cetera_storage::vfs::memory::MemoryVfs;
use cetera_storage::wal::WalOptions;
use prost::Message as _;

use super::{PATIENCE, wait_for};
use crate::clock;
use crate::http::peer::PeerEndpoints;
use crate::node_thread::{NodeHandle, NodeShell, NodeThreads, spawn};
use crate::peer::dial::PATH;
use crate::peer::link::Kind;
use crate::peer::{PeerListener, PeerOptions, Peers, PeersHandle};
use crate::rpc::{RequestIds, Settings};
use crate::tls::Tls;

const CLUSTER_ID: u64 = 0x4d;

/// How patient members are with their leader.
#[derive(Copy, Clone)]
pub(super) enum Timing {
    Quick,
    /// No election by time-out within a test.
    Slow,
}

struct Running {
    handle: NodeHandle,
    threads: NodeThreads,
    peers: Peers,
    _data_dir: DataDir,
}

pub(super) struct Group {
    addresses: Vec<SocketAddr>,
    listeners: Vec<TcpListener>,
    disks: Vec<MemoryVfs>,
    members: Vec<Option<Running>>,
    timing: Timing,
    tls: Option<Tls>,
    /// Logs keep next to nothing for members that lag.
    forgetful: bool,
    lives: u64,
}

impl Group {
    /// All of `count` members, of which one that stops for long needs a snapshot.
    pub(super) fn forgetful(count: usize) -> Group {
        let mut group = Self { forgetful: true, ..Self::bound(count, Timing::Quick) };
        for at in 0..count {
            group.restart(at);
        }
        group
    }

    /// All of `count` members.
    pub(super) fn start(count: usize, timing: Timing) -> Group {
        Self::start_with(count, timing, None)
    }

    pub(super) fn start_with(count: usize, timing: Timing, tls: Option<Tls>) -> Group {
        let mut group = Self { tls, ..Self::bound(count, timing) };
        for at in 0..count {
            group.restart(at);
        }
        group
    }

    /// Only the first of `count`.
    pub(super) fn alone(count: usize, timing: Timing) -> Group {
        let mut group = Self::bound(count, timing);
        group.restart(0);
        group
    }

    fn bound(count: usize, timing: Timing) -> Group {
        let listeners: Vec<TcpListener> =
            (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        Group {
            addresses: listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect(),
            listeners,
            disks: (0..count).map(|_| MemoryVfs::new()).collect(),
            members: (0..count).map(|_| None).collect(),
            timing,
            tls: None,
            forgetful: false,
            lives: 0,
        }
    }

    /// Starts a member that does not run, from what its disk holds.
    pub(super) fn restart(&mut self, at: usize) {
        self.lives += 1;
        let id = at as u64 + 1;
        let vfs: Arc<dyn Vfs> = Arc::new(self.disks[at].clone());
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let url = |at: usize| format!("{scheme}://{}", self.addresses[at]);
        let founder = |at: usize| Founder { id: at as u64 + 1, peer_urls: vec![url(at)], ..Default::default() };
        let (tick_ms, election_ms) = match self.timing {
            Timing::Quick => (20, 200),
            Timing::Slow => (100, 3_600_000),
        };
        let usual = WalOptions { segment_bytes: 1 << 20, salt: self.lives, ..WalOptions::default() };
        let small = WalOptions { segment_bytes: 32 << 10, keep_entries: 20, keep_bytes: 4 << 10, ..usual.clone() };
        let start = Start {
            founders: (0..self.addresses.len()).map(founder).collect(),
            member_id: id,
            cluster_id: CLUSTER_ID,
            tick_ms,
            election_ms,
            nonce: self.lives,
            now_ms: clock::now_ms(),
            checkpoint_log_bytes: self.forgetful.then_some(16 << 10),
            laggard_log_bytes: self.forgetful.then_some(0),
            wal: if self.forgetful { small } else { usual },
            log: RevLogOptions { segment_bytes: 1 << 20 },
            ..Start::default()
        };
        let mut opened = recovery::open(&vfs, Path::new("/data"), start).expect("a good disk");
        if opened.report.sole_voter {
            opened.node.campaign();
        }
        let peers = PeersHandle::default();
        let shell = NodeShell {
            wal: opened.wal,
            vfs,
            checkpoints: opened.checkpoints,
            tick_ms,
            sync_inline: true,
            peers: peers.clone(),
            sync: true,
            reserve_bytes: 0,
        };
        let (handle, threads) = spawn(opened.node, shell).expect("threads");
        let options = PeerOptions {
            member_id: id,
            cluster_id: CLUSTER_ID,
            advertise_peer: vec![url(at)],
            remotes: Vec::new(),
            snapshots: Arc::new(Mutex::new(opened.snapshots)),
            tls: self.tls.clone(),
            read_timeout: PATIENCE,
            write_timeout: PATIENCE,
        };
        let listener = self.listeners[at].try_clone().expect("a descriptor");
        listener.set_nonblocking(true).expect("nonblocking");
        let settings = Settings {
            max_request_bytes: 1 << 20,
            max_txn_ops: 128,
            quota_bytes: None,
            election_ms,
            strict_reconfig_check: true,
            ids: Arc::new(RequestIds::new(id << 48 | 1 << 47)),
        };
        let http = Arc::new(PeerEndpoints::new(handle.clone(), Arc::new(settings)));
        let peers = Peers::start(
            peers,
            options,
            vec![PeerListener { listener, secure: self.tls.is_some() }],
            handle.clone(),
            http,
        )
        .expect("a thread");
        self.members[at] = Some(Running { handle, threads, peers, _data_dir: opened.data_dir });
    }

    /// Names in a member's data directory.
    pub(super) fn names(&self, at: usize) -> Vec<String> {
        self.disks[at].list(Path::new("/data/member")).expect("it was started once")
    }

    fn member(&self, at: usize) -> &Running {
        self.members[at].as_ref().expect("it runs")
    }

    pub(super) fn peers(&self, at: usize) -> &PeersHandle {
        &self.member(at).peers.handle
    }

    pub(super) fn published(&self, at: usize) -> Arc<Published> {
        self.member(at).handle.published()
    }

    pub(super) fn address(&self, at: usize) -> SocketAddr {
        self.addresses[at]
    }

    /// The place of a member that does not run.
    pub(super) fn listener(&self, at: usize) -> TcpListener {
        self.listeners[at].try_clone().expect("a descriptor")
    }

    /// The leader that all who run agree on.
    pub(super) fn leader(&self) -> usize {
        wait_for("leader", || {
            let told: Vec<u64> = self.members.iter().flatten().map(|member| member.handle.published().leader).collect();
            let leader = told[0];
            let runs = leader != 0 && self.members[leader as usize - 1].is_some();
            (runs && told.iter().all(|told| *told == leader)).then(|| leader as usize - 1)
        })
    }

    /// Puts a key through a member, and again while there is no leader.
    pub(super) fn put(&mut self, at: usize, key: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.lives += 1;
            let id = (at as u64 + 1) << 48 | 1 << 47 | self.lives;
            let put = pb::PutRequest { key: key.to_owned().into(), value: "x".into(), ..Default::default() };
            let request = pb::InternalRaftRequest {
                header: Some(pb::RequestHeader { id, ..Default::default() }),
                put: Some(Box::new(put)),
                ..Default::default()
            };
            let request = request.encode_to_vec().into();
            let propose = |ticket| Event::Propose(vec![Proposal { ticket, id, request }]);
            match self.member(at).handle.ask(propose, Duration::from_secs(5)) {
                Some(Reply::Applied(Ok(_))) => return,
                other => assert!(Instant::now() < deadline, "{key} through {at}: {other:?}"),
            }
        }
    }

    /// The introduction of the other member `from` to the first.
    pub(super) fn hello(&self, from: u64) -> String {
        self.hello_of(from, Kind::Other)
    }

    pub(super) fn hello_of(&self, from: u64, kind: Kind) -> String {
        format!(
            "GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: cetera-peer/1\r\nX-Cetera-Stream: {}\r\n\
             X-Server-From: {from:x}\r\nX-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: 3.0.0\r\n\
             X-Etcd-Cluster-ID: {CLUSTER_ID:x}\r\nX-Raft-To: 1\r\nX-PeerURLs: http://127.0.0.1:1\r\n\r\n",
            kind.name()
        )
    }

    pub(super) fn stop(&mut self, at: usize) {
        let member = self.members[at].take().expect("it runs");
        member.handle.stop();
        member.threads.join().expect("an orderly end");
        member.peers.stop();
    }

    pub(super) fn stop_all(mut self) {
        for at in 0..self.members.len() {
            if self.members[at].is_some() {
                self.stop(at);
            }
        }
    }
}
