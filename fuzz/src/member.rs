//! A member without threads: what its node wants done is done at once, in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cetera_node::event::{Effects, Event, EventBatch, Proposal, Reply, Ticket};
use cetera_node::recovery::{self, Opened, Start, StartError};
use cetera_node::{Fatal, Node, Published};
use cetera_proto::ceterapb::PeerMessage;
use cetera_proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use cetera_proto::membershippb;
use cetera_state::member::Member as StateMember;
use cetera_storage::datadir::DataDir;
use cetera_storage::revlog::RevLogOptions;
use cetera_storage::vfs::Vfs;
use cetera_storage::wal::{Wal, WalOptions};
use prost::Message as _;

pub(crate) const MEMBER: u64 = 0x8e9e_05c5_2164_694d;
pub(crate) const CLUSTER: u64 = 77;
pub(crate) const DATA: &str = "/data";
/// Steps after which a node that finds no rest hangs.
const STEPS_MAX: usize = 10_000;

/// How a member is started: small files, so that much happens to them.
pub(crate) fn start(founders: u64) -> Start {
    let founder =
        |n| StateMember { id: MEMBER + n, peer_urls: vec![format!("http://m{n}:2380")], ..Default::default() };
    Start {
        founders: (0..founders).map(founder).collect(),
        member_id: MEMBER,
        cluster_id: CLUSTER,
        nonce: 1,
        checkpoint_log_bytes: Some(1_500),
        wal: WalOptions { segment_bytes: 6 << 10, salt: 5, ..WalOptions::default() },
        log: RevLogOptions { segment_bytes: 2 << 10 },
        ..Start::default()
    }
}

/// A member and all that its effects ask for.
pub(crate) struct Member {
    pub(crate) node: Node,
    /// Not written to if absent: durability is then only claimed.
    wal: Option<Wal>,
    vfs: Arc<dyn Vfs>,
    checkpoints: PathBuf,
    pub(crate) published: Arc<Published>,
    pub(crate) now_ms: u64,
    /// What waits for the next step.
    pub(crate) events: Vec<Event>,
    pub(crate) replies: Vec<(Ticket, Reply)>,
    pub(crate) batches: Vec<Arc<EventBatch>>,
    /// To other members, since the last look.
    pub(crate) messages: Vec<PeerMessage>,
    _data_dir: DataDir,
}

impl Member {
    /// Opens what is on the disk.
    pub(crate) fn open(vfs: Arc<dyn Vfs>, start: Start, with_wal: bool) -> Result<Member, StartError> {
        let now_ms = start.now_ms;
        let Opened { node, wal, checkpoints, data_dir, .. } = recovery::open(&vfs, Path::new(DATA), start)?;
        Ok(Member {
            published: node.published(),
            node,
            wal: with_wal.then_some(wal),
            vfs,
            checkpoints,
            now_ms,
            events: Vec::new(),
            replies: Vec::new(),
            batches: Vec::new(),
            messages: Vec::new(),
            _data_dir: data_dir,
        })
    }

    /// One step with the waiting events; true if it may have left something to do.
    pub(crate) fn step(&mut self) -> Result<bool, Fatal> {
        let Effects { wal, messages, publish, events, replies, jobs, release_wal, more, .. } =
            self.node.step(&mut self.events)?;
        self.events.clear();
        if let (Some(log), Some(index)) = (&mut self.wal, release_wal) {
            log.release(index).expect("a good disk");
        }
        if let Some(log) = &mut self.wal {
            for write in &wal {
                log.append(&write.batch).expect("a good disk");
            }
            log.sync().expect("a good disk");
        }
        self.published = publish.unwrap_or_else(|| self.published.clone());
        self.batches.extend(events);
        self.replies.extend(replies);
        self.messages.extend(messages);
        let busy = more || !jobs.is_empty() || !wal.is_empty();
        for job in jobs {
            self.events.push(Event::Job(job.run(&self.vfs, &self.checkpoints)));
        }
        self.events.extend(wal.last().map(|write| Event::Persisted(write.number)));
        Ok(busy)
    }

    /// Steps until there is nothing to do; each step takes some milliseconds.
    pub(crate) fn settle(&mut self) -> Result<(), Fatal> {
        for _ in 0..STEPS_MAX {
            self.now_ms += 10;
            self.events.push(Event::Tick { now_ms: self.now_ms });
            if !self.step()? {
                return Ok(());
            }
        }
        panic!("the node finds no rest");
    }

    /// Proposes one request.
    pub(crate) fn propose(&mut self, id: u64, request: InternalRaftRequest) {
        let header = Some(RequestHeader { id, ..Default::default() });
        let request: Bytes = InternalRaftRequest { header, ..request }.encode_to_vec().into();
        self.events.push(Event::Propose(vec![Proposal { ticket: Ticket { front: 9, slot: id }, id, request }]));
    }

    /// As the only member: leads, and decides the cluster's version.
    pub(crate) fn lead(&mut self) -> Result<(), Fatal> {
        self.node.campaign();
        let version = membershippb::ClusterVersionSetRequest { ver: "3.7.0".to_string() };
        for _ in 0..100 {
            if !self.published.cluster_version.is_empty() {
                return Ok(());
            }
            self.propose(
                1,
                InternalRaftRequest { cluster_version_set: Some(version.clone().into()), ..Default::default() },
            );
            self.settle()?;
        }
        panic!("a sole member does not come to lead");
    }
}
