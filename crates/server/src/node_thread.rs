//! The shell around the node: the thread that steps it, the thread that syncs its log, the threads that do its jobs.
//!
//! The node thread sleeps until an event or a tick is due, takes everything that waits as one batch, steps the node and
//! carries out the effects in their stated order. Log writes go to the log thread, which appends all it finds and
//! syncs once, so that load makes the batch; when nothing else waits and this member is alone, the node thread syncs itself
//! and saves two wake-ups. In a group it never waits for a disk: heartbeats and the confirmation of reads go on while the
//! log is synced, and messages are handed to the peers' thread before anything else is done.
//!
//! Order that matters: the picture is stored before any reply or event is posted. A write that the disk has no room for
//! is refused before it is proposed, because what is in the group's log cannot be taken back: what got there all the
//! same (the node's own entries ask nobody) waits on the log thread for room. Any other failure of the log is final:
//! nothing behind it is written, or the log would have a hole.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cetera_mvcc::View;
use cetera_node::event::{Effects, Event, Refusal, Reply, Ticket, WalWrite};
use cetera_node::job::{Job, JobDone, Lane};
use cetera_node::{Fatal, Node, Published};
use cetera_proto::ceterapb::PeerMessage;
use cetera_storage::vfs::Vfs;
use cetera_storage::wal::{PrepareJob, Wal, WalError};
use tokio::sync::Notify;

use crate::clock;
use crate::log;
use crate::metrics::METRICS;
use crate::peer::PeersHandle;
use crate::seam::{Mail, Status};

/// Where a front thread gets its mail.
pub trait MailBox: Send + Sync {
    /// Takes all of `mail` and wakes the thread. One lock, one wake.
    fn post(&self, mail: &mut Vec<Mail>);
}

/// A question over the whole store, answered on a background thread.
pub type Work = Box<dyn FnOnce(&View) -> Result<Vec<Bytes>, Status> + Send>;

/// The front number of calls that this process makes to itself.
pub const OWN_FRONT: u16 = u16::MAX;

/// How fronts and services reach the node. Cheap to clone.
#[derive(Clone)]
pub struct NodeHandle(Arc<Shared>);

struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    published: Mutex<Arc<Published>>,
    changed: Condvar,
    /// Told when the node took what the peers gave it, if that was as much as it may be given.
    peer_room: Notify,
    disk_low: AtomicBool,
    work: mpsc::Sender<(Ticket, Work)>,
    own: Mutex<Own>,
    own_slots: AtomicU64,
    peers: PeersHandle,
}

/// Who waits in [`NodeHandle::ask`] and [`NodeHandle::work`].
#[derive(Default)]
struct Own {
    waiting: Vec<(u64, mpsc::Sender<Mail>)>,
    /// The node thread has ended: nobody will answer.
    ended: bool,
}

#[derive(Default)]
struct Inbox {
    events: Vec<Event>,
    /// Bytes of other members' messages among the events.
    peer_bytes: usize,
    boxes: Vec<(u16, Arc<dyn MailBox>)>,
    stopping: bool,
}

impl NodeHandle {
    /// Queues an event for the node. Never blocks for longer than a push under a lock.
    pub fn send(&self, event: Event) {
        let mut inbox = lock(&self.0.inbox);
        inbox.events.push(event);
        drop(inbox);
        self.0.wake.notify_one();
    }

    /// Queues what another member said. False: the node has as much of it as it may be given until it took that.
    pub(crate) fn hear(&self, messages: Vec<PeerMessage>, bytes: usize) -> bool {
        let mut inbox = lock(&self.0.inbox);
        inbox.events.push(Event::Peer(messages));
        inbox.peer_bytes += bytes;
        let room = inbox.peer_bytes < PEER_BYTES_MAX;
        drop(inbox);
        self.0.wake.notify_one();
        room
    }

    /// Waits until the node may be given more of what other members say.
    pub(crate) async fn room_for_peers(&self) {
        loop {
            let taken = self.0.peer_room.notified();
            if lock(&self.0.inbox).peer_bytes < PEER_BYTES_MAX {
                return;
            }
            taken.await;
        }
    }

    /// The picture published last. Take it once per batch of calls.
    pub fn published(&self) -> Arc<Published> {
        lock(&self.0.published).clone()
    }

    /// Whether the reserve of free disk is being used up: writes that grow the store are to be refused.
    pub fn disk_low(&self) -> bool {
        self.0.disk_low.load(Ordering::Acquire)
    }

    /// Registers the mailbox of front thread `front`; from now on it also gets every batch of changes.
    pub fn register(&self, front: u16, mailbox: Arc<dyn MailBox>) {
        lock(&self.0.inbox).boxes.push((front, mailbox));
    }

    /// Runs `work` on a background thread over the picture of then; answered by [`Mail::Work`].
    pub fn run_job(&self, ticket: Ticket, work: Work) {
        // A failed send means the process is going down; the caller's connection goes with it.
        let _ = self.0.work.send((ticket, work));
    }

    /// Asks and waits for the answer, on a thread that may block. `make` is given the ticket to put into the event.
    pub fn ask(&self, make: impl FnOnce(Ticket) -> Event, timeout: Duration) -> Option<Reply> {
        match self.await_mail(|ticket| self.send(make(ticket)), timeout)? {
            Mail::Reply(_, reply) => Some(reply),
            Mail::Work(..) | Mail::Events(_) => None,
        }
    }

    /// Runs `work` as [`NodeHandle::run_job`] does and waits for its result, on a thread that may block.
    pub fn work(&self, work: Work, timeout: Duration) -> Option<Result<Vec<Bytes>, Status>> {
        match self.await_mail(|ticket| self.run_job(ticket, work), timeout)? {
            Mail::Work(_, result) => Some(result),
            Mail::Reply(..) | Mail::Events(_) => None,
        }
    }

    fn await_mail(&self, ask: impl FnOnce(Ticket), timeout: Duration) -> Option<Mail> {
        let slot = self.0.own_slots.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel();
        {
            let mut own = lock(&self.0.own);
            if own.ended {
                return None;
            }
            own.waiting.push((slot, sender));
        }
        ask(Ticket { front: OWN_FRONT, slot });
        let mail = receiver.recv_timeout(timeout).ok();
        lock(&self.0.own).waiting.retain(|(waiting, _)| *waiting != slot);
        mail
    }

    /// Since when there are connections to and from `member`, by [`clock::now_ms`].
    pub fn connected_since_ms(&self, member: u64) -> Option<u64> {
        self.0.peers.connected_since_ms(member)
    }

    /// Whether the node thread has ended: nothing will be answered any more.
    pub fn has_ended(&self) -> bool {
        lock(&self.0.own).ended
    }

    /// Waits until the node publishes a new picture, or for `at_most`.
    pub fn wait_for_change(&self, at_most: Duration) {
        let published = lock(&self.0.published);
        // Woken early or late makes no difference: the caller looks again.
        drop(self.0.changed.wait_timeout(published, at_most));
    }

    /// Ends the node thread after what is queued now; waiters are told `etcdserver: server stopped`.
    pub fn stop(&self) {
        let mut inbox = lock(&self.0.inbox);
        inbox.events.push(Event::Stop);
        inbox.stopping = true;
        drop(inbox);
        self.0.wake.notify_one();
    }
}

/// Threads of a running node.
pub struct NodeThreads {
    node: thread::JoinHandle<Result<(), Fatal>>,
}

impl NodeThreads {
    /// Waits for the end of the node thread. Err if the node had to stop.
    pub fn join(self) -> Result<(), Fatal> {
        match self.node.join() {
            Ok(result) => result,
            Err(_) => Err(Fatal("the node thread panicked".into())),
        }
    }
}

/// What the node thread needs besides the node.
pub struct NodeShell {
    /// The write-ahead log, recovered.
    pub wal: Wal,
    /// File system of the jobs.
    pub vfs: Arc<dyn Vfs>,
    /// Directory of the checkpoints.
    pub checkpoints: PathBuf,
    /// Milliseconds between ticks.
    pub tick_ms: u64,
    /// Whether this member may sync its log itself, while there is nobody but it.
    pub sync_inline: bool,
    /// Where messages for other members go.
    pub peers: PeersHandle,
    /// Whether the log is synced at all (`--unsafe-no-fsync`).
    pub sync: bool,
    /// Free bytes of the disk below which writes that grow the store are refused, so that the next files of both logs
    /// can still be made.
    pub reserve_bytes: u64,
}

/// Starts the threads of a node.
///
/// # Errors
/// A thread could not be started.
pub fn spawn(node: Node, shell: NodeShell) -> std::io::Result<(NodeHandle, NodeThreads)> {
    let (work, work_queue) = mpsc::channel();
    let handle = NodeHandle(Arc::new(Shared {
        inbox: Mutex::default(),
        wake: Condvar::new(),
        published: Mutex::new(node.published()),
        changed: Condvar::new(),
        peer_room: Notify::new(),
        disk_low: AtomicBool::new(false),
        work,
        own: Mutex::default(),
        own_slots: AtomicU64::new(1),
        peers: shell.peers.clone(),
    }));
    let (jobs, job_queue) = mpsc::channel();
    let wal_log = Arc::new(Log {
        room: AtomicU64::new(shell.wal.room()),
        wal: Mutex::new(shell.wal),
        sync: shell.sync,
        failed: AtomicBool::new(false),
        queue: Mutex::default(),
        queued_bytes: AtomicU64::new(0),
        prepare: jobs.clone(),
        prepare_from_ms: AtomicU64::new(0),
        wake: Condvar::new(),
    });
    let (vfs, checkpoints) = (shell.vfs, shell.checkpoints);
    let (vfs_of_jobs, checkpoints_of_jobs, of_jobs, log_of_jobs) =
        (vfs.clone(), checkpoints.clone(), handle.clone(), wal_log.clone());
    thread::Builder::new().name("cetera-jobs".into()).spawn(move || {
        for job in job_queue {
            match job {
                ShellJob::Node(job) => {
                    let done = job.run(&vfs_of_jobs, &checkpoints_of_jobs);
                    if let JobDone::Failed { what, error } = &done {
                        log::warning!("background work failed", "work" = *what, "error" = error);
                    }
                    of_jobs.send(Event::Job(done));
                }
                ShellJob::Prepare(job) => {
                    let prepared = job.run();
                    if let Err(error) = lock(&log_of_jobs.wal).install(prepared) {
                        log_of_jobs.prepare_from_ms.store(clock::now_ms() + PREPARE_RETRY_MS, Ordering::Release);
                        log::warning!("preparing a log segment failed", "error" = log::Shown(error));
                    }
                }
            }
        }
    })?;
    let (reads, reads_queue) = mpsc::channel::<Job>();
    let (vfs_of_reads, checkpoints_of_reads, of_reads) = (vfs.clone(), checkpoints.clone(), handle.clone());
    thread::Builder::new().name("cetera-reads".into()).spawn(move || {
        for job in reads_queue {
            of_reads.send(Event::Job(job.run(&vfs_of_reads, &checkpoints_of_reads)));
        }
    })?;
    let of_work = handle.clone();
    thread::Builder::new().name("cetera-work".into()).spawn(move || {
        for (ticket, work) in work_queue {
            let answer = work(&of_work.published().view);
            of_work.worked(ticket, answer);
        }
    })?;
    let (log_of_thread, of_log) = (wal_log.clone(), handle.clone());
    thread::Builder::new().name("cetera-log".into()).spawn(move || log_of_thread.run(&of_log))?;
    let runner = Runner {
        node,
        handle: handle.clone(),
        log: wal_log,
        jobs,
        reads,
        tick: Duration::from_millis(shell.tick_ms),
        sync_inline: shell.sync_inline,
        peers: shell.peers,
        vfs,
        checkpoints,
        reserve_bytes: shell.reserve_bytes,
    };
    let node = thread::Builder::new().name("cetera-node".into()).spawn(move || runner.run())?;
    Ok((handle, NodeThreads { node }))
}

impl NodeHandle {
    /// Whether `new` names other members than the picture before it.
    fn is_new_roster(&self, new: &Published) -> bool {
        let published = lock(&self.0.published);
        !Arc::ptr_eq(&published.members, &new.members) || !Arc::ptr_eq(&published.removed_members, &new.removed_members)
    }

    /// Answers a ticket with what was worked out for it elsewhere.
    pub(crate) fn worked(&self, ticket: Ticket, result: Result<Vec<Bytes>, Status>) {
        self.post(vec![(ticket, Mail::Work(ticket, result))]);
    }

    /// Posts mail, grouped by front.
    fn post(&self, mail: Vec<(Ticket, Mail)>) {
        let boxes = lock(&self.0.inbox).boxes.clone();
        post(self, &boxes, mail);
    }
}

fn post(handle: &NodeHandle, boxes: &[(u16, Arc<dyn MailBox>)], mail: Vec<(Ticket, Mail)>) {
    let mut by_front: Vec<Vec<Mail>> = boxes.iter().map(|_| Vec::new()).collect();
    for (ticket, mail) in mail {
        if ticket.front == OWN_FRONT {
            let own = lock(&handle.0.own);
            if let Some((_, sender)) = own.waiting.iter().find(|(slot, _)| *slot == ticket.slot) {
                // The asker may have given up.
                let _ = sender.send(mail);
            }
        } else if let Some(at) = boxes.iter().position(|(front, _)| *front == ticket.front) {
            by_front[at].push(mail);
        }
    }
    for ((_, mailbox), mut mail) in boxes.iter().zip(by_front) {
        if !mail.is_empty() {
            mailbox.post(&mut mail);
        }
    }
}

struct Runner {
    node: Node,
    handle: NodeHandle,
    log: Arc<Log>,
    jobs: mpsc::Sender<ShellJob>,
    reads: mpsc::Sender<Job>,
    tick: Duration,
    sync_inline: bool,
    peers: PeersHandle,
    vfs: Arc<dyn Vfs>,
    checkpoints: PathBuf,
    reserve_bytes: u64,
}

/// How long a background slice that is due waits for a gap between batches.
const SLICE_PATIENCE: Duration = Duration::from_millis(1);

/// Bytes of other members' messages that wait for the node at most; one read more of each connection is taken.
const PEER_BYTES_MAX: usize = 16 << 20;

/// How often the free space of the disk is looked at.
const DISK_LOOK_EVERY: Duration = Duration::from_secs(1);

impl Runner {
    fn run(mut self) -> Result<(), Fatal> {
        let _end = End(self.handle.clone());
        let mut events = Vec::new();
        let mut boxes = Vec::new();
        let mut next_tick = Instant::now();
        let mut next_look = next_tick;
        // When the next background slice may be done, while there are any.
        let mut next_slice: Option<Instant> = None;
        // When the node asked to be woken, if it did.
        let mut next_wake: Option<Instant> = None;
        loop {
            let wake = [next_slice, next_wake].into_iter().flatten().fold(next_tick, Instant::min);
            let stopping = self.wait(&mut events, &mut boxes, wake);
            let now = Instant::now();
            // Between batches, or when batches leave no gap.
            let slice =
                next_slice.is_some_and(|due| if events.is_empty() { due <= now } else { due + SLICE_PATIENCE <= now });
            if now >= next_tick {
                self.count_late(now - next_tick);
                next_tick = now + self.tick;
            }
            if now >= next_look {
                next_look = now + DISK_LOOK_EVERY;
                self.look_at_disk();
            }
            // Every batch begins with the time, so that no lease is measured from a moment before its grant arrived.
            events.insert(0, Event::Tick { now_ms: clock::now_ms() });
            self.make_room(&mut events, &boxes);
            let effects = if slice { self.node.step(&mut events) } else { self.node.step_without_slices(&mut events) }?;
            let after = Instant::now();
            next_wake = effects.wake_ms.map(|at| after + Duration::from_millis(at.saturating_sub(clock::now_ms())));
            next_slice = match next_slice {
                _ if !effects.more => None,
                Some(due) if !slice => Some(due),
                // As long a pause as the slice took: at most half of a core goes into them.
                _ => Some(after + (after - now)),
            };
            self.carry_out(effects, &boxes, &mut events)?;
            if stopping && events.is_empty() {
                return Ok(());
            }
        }
    }

    /// A disk that cannot be asked is taken for one that has room: what does not fit is refused where it is written.
    fn look_at_disk(&self) {
        let low = self.vfs.free_bytes(&self.checkpoints).is_ok_and(|free| free < self.reserve_bytes);
        if self.handle.0.disk_low.swap(low, Ordering::AcqRel) != low {
            log::warning!("the reserve of free disk", "reserve-bytes" = self.reserve_bytes, "used-up" = low);
        }
    }

    /// Fills `events` with all that waits; sleeps until something does, or a tick or a slice is due.
    fn wait(&self, events: &mut Vec<Event>, boxes: &mut Vec<(u16, Arc<dyn MailBox>)>, until: Instant) -> bool {
        let shared = &self.handle.0;
        let mut inbox = lock(&shared.inbox);
        while events.is_empty() && inbox.events.is_empty() {
            let now = Instant::now();
            if now >= until {
                break;
            }
            inbox = shared.wake.wait_timeout(inbox, until - now).unwrap_or_else(PoisonError::into_inner).0;
        }
        events.append(&mut inbox.events);
        if std::mem::take(&mut inbox.peer_bytes) >= PEER_BYTES_MAX {
            shared.peer_room.notify_waiters();
        }
        if boxes.len() != inbox.boxes.len() {
            boxes.clone_from(&inbox.boxes);
        }
        inbox.stopping
    }

    /// Refuses the batch's proposals if the log has no room for them.
    fn make_room(&self, events: &mut [Event], boxes: &[(u16, Arc<dyn MailBox>)]) {
        let bytes: usize = events
            .iter()
            .map(|event| match event {
                Event::Propose(proposals) => {
                    proposals.iter().map(|proposal| proposal.request.len() + LOG_RECORD_OVERHEAD_BYTES).sum()
                }
                _ => 0,
            })
            .sum();
        if bytes == 0 || self.log.has_room((bytes + LOG_BATCH_OVERHEAD_BYTES) as u64) {
            return;
        }
        let mut refused = Vec::new();
        for event in events {
            if let Event::Propose(proposals) = event {
                refused.extend(
                    proposals.drain(..).map(|proposal| {
                        (proposal.ticket, Mail::Reply(proposal.ticket, Reply::Refused(Refusal::NoSpace)))
                    }),
                );
            }
        }
        post(&self.handle, boxes, refused);
    }

    /// A leader whose ticks are twice as far apart as they should be sends its heartbeats late, to every other member.
    fn count_late(&self, late: Duration) {
        let published = self.node.published();
        if late > self.tick && published.leader == published.member_id {
            METRICS.heartbeats_late(published.members.len().saturating_sub(1) as u64);
        }
    }

    fn carry_out(
        &mut self,
        mut effects: Effects,
        boxes: &[(u16, Arc<dyn MailBox>)],
        events: &mut Vec<Event>,
    ) -> Result<(), Fatal> {
        // Before the log: entries travel while the disk here syncs them.
        let roster = effects.publish.as_deref().filter(|new| self.handle.is_new_roster(new));
        self.peers.post(&mut effects.messages, std::mem::take(&mut effects.snapshots), roster);
        if let Some(index) = effects.release_wal {
            self.log.release(index);
        }
        if !effects.wal.is_empty() {
            let idle = lock(&self.handle.0.inbox).events.is_empty();
            let alone = self.sync_inline && self.node.is_alone();
            match (alone && idle).then(|| self.log.try_take()).flatten() {
                Some(mut wal) => {
                    let mut writes = effects.wal.into();
                    events.extend(self.log.write(&mut wal, &mut writes));
                    drop(wal);
                    if !writes.is_empty() {
                        self.log.enqueue(writes);
                    }
                }
                None => self.log.enqueue(effects.wal.into()),
            }
        }
        if let Some(published) = effects.publish {
            METRICS.published(&published);
            tell_fence(&self.handle.published(), &published);
            *lock(&self.handle.0.published) = published;
            self.handle.0.changed.notify_all();
        }
        if let Some(batch) = effects.events {
            for (_, mailbox) in boxes {
                mailbox.post(&mut vec![Mail::Events(batch.clone())]);
            }
        }
        if !effects.replies.is_empty() {
            let mail = effects.replies.into_iter().map(|(ticket, reply)| (ticket, Mail::Reply(ticket, reply)));
            post(&self.handle, boxes, mail.collect());
        }
        for job in effects.jobs {
            let sent = match job.lane() {
                Lane::Work => self.jobs.send(ShellJob::Node(job)).is_ok(),
                Lane::Reads => self.reads.send(job).is_ok(),
            };
            if !sent {
                return Err(Fatal("a thread for background work is gone".into()));
            }
        }
        Ok(())
    }
}

/// Says it loudly when this member's state turns out to be wrong, and when it is mended.
fn tell_fence(before: &Published, now: &Published) {
    match (before.fenced, now.fenced) {
        (false, true) => log::error!(
            "the state of this member differs from that of a majority; it serves nobody until it has been given theirs",
            "applied-index" = now.applied_index,
            "revision" = now.view.revision()
        ),
        (true, false) => log::warning!(
            "the state of this member was replaced by the leader's; it serves again",
            "applied-index" = now.applied_index,
            "revision" = now.view.revision()
        ),
        _ => {}
    }
}

/// Tells those who would wait for the node thread that it has ended, however it did.
struct End(NodeHandle);

impl Drop for End {
    fn drop(&mut self) {
        let mut own = lock(&self.0.0.own);
        own.ended = true;
        own.waiting.clear();
    }
}

/// Room asked for per proposal besides its bytes, and per batch.
const LOG_RECORD_OVERHEAD_BYTES: usize = 128;
const LOG_BATCH_OVERHEAD_BYTES: usize = 4096;

/// Room in the present log segment below which the next one is made ready.
const PREPARE_BELOW_BYTES: u64 = 8 << 20;
/// Time before a segment that could not be made ready is tried again, in milliseconds.
const PREPARE_RETRY_MS: u64 = 5_000;
/// Time between looks at whether a full disk has room again. No event tells.
const ROOM_RETRY: Duration = Duration::from_millis(250);

/// The write-ahead log between the node thread and the log thread.
struct Log {
    wal: Mutex<Wal>,
    sync: bool,
    /// A write did not get there: none after it may.
    failed: AtomicBool,
    queue: Mutex<VecDeque<WalWrite>>,
    /// Bytes in the queue and under the log thread's pen.
    queued_bytes: AtomicU64,
    /// What the present segment can take.
    room: AtomicU64,
    prepare: mpsc::Sender<ShellJob>,
    /// No segment is made ready before.
    prepare_from_ms: AtomicU64,
    wake: Condvar,
}

/// What the jobs thread does.
enum ShellJob {
    Node(Job),
    Prepare(PrepareJob),
}

fn write_bytes(write: &WalWrite) -> u64 {
    let entries = &write.batch.entries;
    entries.iter().map(|entry| (entry.data.len() + LOG_RECORD_OVERHEAD_BYTES) as u64).sum::<u64>()
}

impl Log {
    /// The log, if nothing is queued for the log thread and it is not writing: then order allows an inline write.
    fn try_take(&self) -> Option<MutexGuard<'_, Wal>> {
        let queue = lock(&self.queue);
        if !queue.is_empty() {
            return None;
        }
        self.wal.try_lock().ok()
    }

    fn enqueue(&self, writes: VecDeque<WalWrite>) {
        self.queued_bytes.fetch_add(writes.iter().map(write_bytes).sum(), Ordering::AcqRel);
        lock(&self.queue).extend(writes);
        self.wake.notify_one();
    }

    /// Lets go of what a checkpoint covers. A failure costs space only: the next checkpoint lets go of it too.
    fn release(&self, index: u64) {
        match lock(&self.wal).release(index) {
            // Reads go on without the log.
            Ok(()) | Err(WalError::Failed) => {}
            Err(error) => log::warning!("releasing log segments failed", "error" = log::Shown(error)),
        }
    }

    /// Appends and syncs. What the disk has no room for stays in `writes`.
    fn write(&self, wal: &mut Wal, writes: &mut VecDeque<WalWrite>) -> Option<Event> {
        if self.failed.load(Ordering::Acquire) {
            writes.clear();
            return None;
        }
        let written = append_and_sync(wal, writes, self.sync);
        self.room.store(wal.room(), Ordering::Release);
        if wal.room() < PREPARE_BELOW_BYTES
            && clock::now_ms() >= self.prepare_from_ms.load(Ordering::Acquire)
            && let Some(job) = wal.prepare_job()
        {
            // Without the jobs thread the log makes its segments itself.
            let _ = self.prepare.send(ShellJob::Prepare(job));
        }
        match written {
            Ok(count) => writes.drain(..count).last().map(|write| Event::Persisted(write.number)),
            Err(error) => {
                self.failed.store(true, Ordering::Release);
                writes.clear();
                log::error!(
                    "the write-ahead log failed; this member acknowledges nothing until it is started anew",
                    "error" = log::Shown(&error)
                );
                Some(Event::LogFailed)
            }
        }
    }

    /// Whether proposals of `bytes` can be logged behind all that is queued. Asks the disk only at a segment's end.
    fn has_room(&self, bytes: u64) -> bool {
        let wanted = bytes + self.queued_bytes.load(Ordering::Acquire);
        if wanted <= self.room.load(Ordering::Acquire) {
            return true;
        }
        let mut wal = lock(&self.wal);
        let reserved = wal.reserve(bytes + self.queued_bytes.load(Ordering::Acquire));
        self.room.store(wal.room(), Ordering::Release);
        !matches!(reserved, Err(WalError::NoSpace))
    }

    /// The log thread: everything that waits is appended and synced as one.
    fn run(&self, handle: &NodeHandle) {
        let mut full = false;
        loop {
            let mut queue = lock(&self.queue);
            while queue.is_empty() {
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            // The log is locked before the queue is let go, so that an inline write can never overtake.
            let mut wal = lock(&self.wal);
            let mut writes = std::mem::take(&mut *queue);
            drop(queue);
            let bytes: u64 = writes.iter().map(write_bytes).sum();
            let event = self.write(&mut wal, &mut writes);
            let left: u64 = writes.iter().map(write_bytes).sum();
            self.queued_bytes.fetch_sub(bytes - left, Ordering::AcqRel);
            let was_full = std::mem::replace(&mut full, !writes.is_empty());
            if full {
                // Back to the front, and only then others may have the log.
                let mut queue = lock(&self.queue);
                writes.append(&mut queue);
                *queue = writes;
            }
            drop(wal);
            if let Some(event) = event {
                handle.send(event);
            }
            if full && !was_full {
                log::warning!("the disk is full; the write-ahead log waits for room");
            } else if was_full && !full {
                log::info!("the write-ahead log has room again");
            }
            if full {
                thread::sleep(ROOM_RETRY);
            }
        }
    }
}

/// Number of writes that are durable now; fewer than all if there was no room for more.
fn append_and_sync(wal: &mut Wal, writes: &VecDeque<WalWrite>, sync: bool) -> Result<usize, WalError> {
    let started = Instant::now();
    let mut count = 0;
    for write in writes {
        match wal.append(&write.batch) {
            Ok(()) => count += 1,
            Err(WalError::NoSpace) => break,
            Err(error) => return Err(error),
        }
    }
    if sync && writes.iter().take(count).any(|write| write.must_sync) {
        wal.sync()?;
        METRICS.wal_synced(started.elapsed());
    }
    Ok(count)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
