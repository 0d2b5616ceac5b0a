//! A member without threads: the node's effects are carried out on the spot, in their stated order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cetera_node::event::{Effects, Event, EventBatch, Proposal, Reply, Ticket, WalWrite};
use cetera_node::job::Job;
use cetera_node::recovery::{self, Opened, Report, Start};
use cetera_node::{Node, Published};
use cetera_state::id;
use cetera_state::member::Member;
use cetera_storage::datadir::DataDir;
use cetera_storage::revlog::RevLogOptions;
use cetera_storage::vfs::Vfs;
use cetera_storage::wal::{Wal, WalOptions};

/// Deviations from the rules, for the controls that must be caught.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Plant {
    /// None: the rules hold.
    #[default]
    None,
    /// The log is reported durable when it was only written.
    AckBeforeSync,
    /// The write-ahead log is never synced; everything else is.
    NoSync,
}

/// Milliseconds between ticks of a simulated member.
pub const TICK_MS: u64 = 100;

/// A member over any file system.
pub struct SimMember {
    node: Node,
    wal: Wal,
    vfs: Arc<dyn Vfs>,
    checkpoints: PathBuf,
    now_ms: u64,
    plant: Plant,
    jobs: VecDeque<Job>,
    logged: Logged,
    /// Answers not taken yet.
    pub replies: Vec<(Ticket, Reply)>,
    /// Changes not taken yet.
    pub batches: Vec<Arc<EventBatch>>,
    /// What the start found.
    pub report: Report,
    more: bool,
    _data_dir: DataDir,
}

/// Everything members wrote to their log (index, entry), in order of writing; outlives them.
pub type Logged = Rc<RefCell<Vec<(u64, Bytes)>>>;

/// Why a member ended.
#[derive(Debug)]
pub struct Stopped(pub String);

/// Small files, so that a short run rolls, recycles, checkpoints and rewrites often.
pub fn start(now_ms: u64, nonce: u64) -> Start {
    let peer_urls = vec!["http://localhost:2380".to_owned()];
    let member_id = id::member_id(&peer_urls, "etcd-cluster", None);
    Start {
        founders: vec![Member { id: member_id, peer_urls, ..Default::default() }],
        member_id,
        cluster_id: id::cluster_id(&[member_id]),
        tick_ms: TICK_MS,
        election_ms: 10 * TICK_MS,
        nonce,
        now_ms,
        wal: WalOptions { segment_bytes: 8 << 10, ..WalOptions::default() },
        log: RevLogOptions { segment_bytes: 8 << 10 },
        checkpoint_log_bytes: Some(12 << 10),
        ..Start::default()
    }
}

impl SimMember {
    /// Opens what is on the disk and waits (in simulated time) until it leads.
    ///
    /// # Errors
    /// The start was refused, or the disk ended the member's life.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        now_ms: u64,
        nonce: u64,
        plant: Plant,
        logged: Logged,
    ) -> Result<Self, Stopped> {
        let opened = recovery::open(&vfs, dir, start(now_ms, nonce)).map_err(|error| Stopped(error.to_string()))?;
        let Opened { mut node, wal, checkpoints, data_dir, report, .. } = opened;
        node.campaign();
        let mut member = Self {
            node,
            wal,
            vfs,
            checkpoints,
            now_ms,
            plant,
            jobs: VecDeque::new(),
            logged,
            replies: Vec::new(),
            batches: Vec::new(),
            report,
            more: false,
            _data_dir: data_dir,
        };
        for _ in 0..100 {
            member.tick(TICK_MS)?;
            if member.published().leader == member.published().member_id && member.settled() {
                return Ok(member);
            }
        }
        Err(Stopped("no leader after 100 ticks".to_owned()))
    }

    /// The present picture.
    pub fn published(&self) -> Arc<Published> {
        self.node.published()
    }

    /// The node, for checks.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whether everything committed is applied.
    pub fn settled(&self) -> bool {
        let published = self.published();
        published.applied_index == published.committed_index
    }

    /// Proposes a batch; answers appear in `replies`.
    ///
    /// # Errors
    /// The member's life ended; the outcome of the batch is unknown.
    pub fn propose(&mut self, batch: Vec<Proposal>) -> Result<(), Stopped> {
        self.step(vec![Event::Propose(batch)])
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// As [`SimMember::propose`].
    pub fn tick(&mut self, ms: u64) -> Result<(), Stopped> {
        self.now_ms += ms;
        self.step(vec![Event::Tick { now_ms: self.now_ms }])
    }

    /// Runs one waiting background job, if there is one.
    ///
    /// # Errors
    /// As [`SimMember::propose`].
    pub fn run_job(&mut self) -> Result<bool, Stopped> {
        let Some(job) = self.jobs.pop_front() else { return Ok(false) };
        let done = job.run(&self.vfs, &self.checkpoints);
        self.step(vec![Event::Job(done)])?;
        Ok(true)
    }

    /// Steps until no background slice is left.
    ///
    /// # Errors
    /// As [`SimMember::propose`].
    pub fn finish_slices(&mut self) -> Result<(), Stopped> {
        while self.more {
            self.step(Vec::new())?;
        }
        Ok(())
    }

    /// Steps the node with these events and all that follow from them.
    ///
    /// # Errors
    /// As [`SimMember::propose`].
    pub fn step(&mut self, mut events: Vec<Event>) -> Result<(), Stopped> {
        loop {
            let effects = self.node.step(&mut events).map_err(|fatal| Stopped(fatal.0))?;
            if let Some(persisted) = self.carry_out(effects)? {
                events.push(persisted);
            } else {
                return Ok(());
            }
        }
    }

    fn carry_out(&mut self, effects: Effects) -> Result<Option<Event>, Stopped> {
        if let Some(index) = effects.release_wal {
            self.wal.release(index).map_err(|error| Stopped(error.to_string()))?;
        }
        let persisted = self.write(&effects.wal)?;
        self.batches.extend(effects.events);
        self.replies.extend(effects.replies);
        self.jobs.extend(effects.jobs);
        self.more = effects.more;
        Ok(persisted)
    }

    fn write(&mut self, writes: &[WalWrite]) -> Result<Option<Event>, Stopped> {
        let Some(last) = writes.last() else { return Ok(None) };
        for write in writes {
            for entry in &write.batch.entries {
                self.logged.borrow_mut().push((entry.index, entry.data.clone()));
            }
            self.wal.append(&write.batch).map_err(|error| Stopped(error.to_string()))?;
        }
        match self.plant {
            Plant::None => self.wal.sync().map_err(|error| Stopped(error.to_string()))?,
            Plant::NoSync => {}
            Plant::AckBeforeSync => {
                // What the log says of the sync comes too late to matter.
                let persisted = Event::Persisted(last.number);
                let mut early = vec![persisted];
                let effects = self.node.step(&mut early).map_err(|fatal| Stopped(fatal.0))?;
                let follow_up = self.carry_out(effects)?;
                self.wal.sync().map_err(|error| Stopped(error.to_string()))?;
                return Ok(follow_up);
            }
        }
        Ok(Some(Event::Persisted(last.number)))
    }
}
