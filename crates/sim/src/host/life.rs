//! One life of a member's process: what it holds while it runs.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use cetera_node::event::{Event, Ticket};
use cetera_node::recovery::Opened;
use cetera_node::{Node, Published};
use cetera_server::node_thread::Work;
use cetera_server::rpc::status::Error;
use cetera_server::rpc::{NodeAccess, RequestIds, Settings};
use cetera_storage::datadir::DataDir;
use cetera_storage::vfs::Vfs;

use super::front::Front;
use super::jobs::Jobs;
use super::log::Log;
use super::publish::Publish;
use super::snapshot::Lines;
use super::{WALL_MS, node::Turn};
use crate::core::Core;

/// Most bytes of a request, as by default.
const REQUEST_BYTES_MAX: usize = 1_536 << 10;
/// Most operations of a transaction, as by default.
const TXN_OPS_MAX: usize = 128;

/// How the fronts of a process reach its node.
#[derive(Clone)]
pub(super) struct Access(Rc<RefCell<Shared>>);

struct Shared {
    published: Arc<Published>,
    /// Fronts that are to be told of changes.
    wanting: BTreeSet<u16>,
    disk_low: bool,
    events: Vec<Event>,
    work: Vec<(Ticket, Work)>,
    /// The process's clock when its fronts were last given something to do.
    now_ms: u64,
}

impl NodeAccess for Access {
    fn send(&self, event: Event) {
        self.0.borrow_mut().events.push(event);
    }

    fn published(&self) -> Arc<Published> {
        self.0.borrow().published.clone()
    }

    fn want_changes(&self, front: u16, wanted: bool) {
        let wanting = &mut self.0.borrow_mut().wanting;
        _ = if wanted { wanting.insert(front) } else { wanting.remove(&front) };
    }

    fn disk_low(&self) -> bool {
        self.0.borrow().disk_low
    }

    fn run_job(&self, ticket: Ticket, work: Work) {
        self.0.borrow_mut().work.push((ticket, work));
    }

    /// Simulated members have no HTTP between them: whoever asks must ask the leader.
    fn promote_at_leader(&self, ticket: Ticket, _: u64, _: Duration) {
        self.run_job(ticket, Box::new(|_| Err(Error::NotLeader.into())));
    }

    /// Operators here change what they like, whoever is connected.
    fn connected_since_ms(&self, _: u64) -> Option<u64> {
        Some(0)
    }

    fn now_ms(&self) -> u64 {
        self.0.borrow().now_ms
    }

    fn unix_ms(&self) -> u64 {
        WALL_MS + self.now_ms()
    }
}

impl Access {
    pub(super) fn set_now_ms(&self, now_ms: u64) {
        self.0.borrow_mut().now_ms = now_ms;
    }

    pub(super) fn publish(&self, published: Arc<Published>) {
        self.0.borrow_mut().published = published;
    }

    pub(super) fn wants_changes(&self, front: u16) -> bool {
        self.0.borrow().wanting.contains(&front)
    }

    pub(super) fn set_disk_low(&self, low: bool) {
        self.0.borrow_mut().disk_low = low;
    }

    pub(super) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.borrow_mut().events)
    }

    pub(super) fn take_work(&self) -> Vec<(Ticket, Work)> {
        std::mem::take(&mut self.0.borrow_mut().work)
    }
}

/// A running process.
pub(super) struct Life {
    pub(super) node: Node,
    pub(super) access: Access,
    pub(super) settings: Arc<Settings>,
    pub(super) turn: Turn,
    pub(super) log: Log,
    pub(super) jobs: Jobs,
    pub(super) fronts: Vec<Front>,
    pub(super) publish: Publish,
    pub(super) lines: Lines,
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) checkpoints: PathBuf,
    /// Holds the lock of the directory.
    _data_dir: DataDir,
}

impl Life {
    pub(super) fn new(opened: Opened, vfs: Arc<dyn Vfs>, index: usize, core: &Core) -> Self {
        let Opened { mut node, wal, checkpoints, snapshots, data_dir, ids: (member_id, _), report, .. } = opened;
        if report.sole_voter {
            node.campaign();
        }
        let published = node.published();
        let shared = Shared {
            published: published.clone(),
            wanting: BTreeSet::new(),
            disk_low: false,
            events: Vec::new(),
            work: Vec::new(),
            now_ms: 0,
        };
        let access = Access(Rc::new(RefCell::new(shared)));
        let wall_ms = WALL_MS + core.now_us / 1_000;
        let first_id = member_id << 48 | (wall_ms & 0x7f_ffff_ffff) << 8;
        let settings = Arc::new(Settings {
            max_request_bytes: REQUEST_BYTES_MAX,
            max_txn_ops: TXN_OPS_MAX,
            quota_bytes: None,
            election_ms: core.options.election_ms,
            strict_reconfig_check: true,
            ids: Arc::new(RequestIds::new(first_id)),
        });
        let fronts = (0..core.options.fronts)
            .map(|number| Front::new(number as u16, access.clone(), settings.clone(), &published, &core.options, index))
            .collect();
        Self {
            node,
            access,
            settings,
            turn: Turn::default(),
            log: Log::new(wal),
            jobs: Jobs::default(),
            fronts,
            publish: Publish::default(),
            lines: Lines::new(snapshots),
            vfs,
            checkpoints,
            _data_dir: data_dir,
        }
    }

    /// Whether clients are served: once this member has published itself.
    pub(super) fn serving(&self) -> bool {
        self.publish.is_done()
    }

    pub(super) fn log_has_failed(&self) -> bool {
        self.log.has_failed() || self.node.published().log_failed
    }

    pub(super) fn jobs_waiting(&self) -> u64 {
        self.jobs.waiting()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.turn.is_idle() && self.log.is_idle() && self.jobs.is_idle()
    }
}
