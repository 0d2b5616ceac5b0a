//! How others reach the node: its inbox, the picture it published, and the answers to calls of this process's own.
//!
//! A short event for a node at rest is stepped by the thread that brought it. Waking the node thread would cost more than
//! the step, and stand in the way of every write: a put of a group passes the node of three members five times.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cetera_mvcc::View;
use cetera_node::event::{Event, Reply, Ticket};
use cetera_node::{Fatal, Published};
use cetera_proto::ceterapb::PeerMessage;
use tokio::sync::Notify;

use super::lock;
use super::stepper::{By, Stepper};
use crate::peer::PeersHandle;
use crate::seam::{Mail, Status};

/// Where a front thread gets its mail.
pub trait MailBox: Send + Sync {
    /// Takes all of `mail` and wakes the thread. One lock, one wake.
    fn post(&self, mail: &mut Vec<Mail>);
    /// Sets whether the thread is to be told of changes. Not, to begin with.
    fn want_changes(&self, wanted: bool);
    /// Whether it is.
    fn wants_changes(&self) -> bool;
}

/// A question over the whole store, answered on a background thread.
pub type Work = Box<dyn FnOnce(&View) -> Result<Vec<Bytes>, Status> + Send>;

/// The front number of calls that this process makes to itself.
pub const OWN_FRONT: u16 = u16::MAX;

/// Bytes of other members' messages that wait for the node at most; one read more of each connection is taken.
const PEER_BYTES_MAX: usize = 16 << 20;
/// Bytes of other members' messages that the thread that read them steps at most: more is work for a thread of its own,
/// while the next is read.
const STEPPED_PEER_BYTES_MAX: usize = 16 << 10;
/// Requests that a front thread steps at most, for the same reason.
const STEPPED_REQUESTS_MAX: usize = 4;

/// How fronts and services reach the node. Cheap to clone.
#[derive(Clone)]
pub struct NodeHandle(Arc<Shared>);

struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    /// The node and what carries out its effects; none before it runs and when it has ended. Locked before everything else.
    stepper: Mutex<Option<Stepper>>,
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

struct Inbox {
    events: Vec<Event>,
    /// Bytes of other members' messages among the events.
    peer_bytes: usize,
    boxes: Vec<(u16, Arc<dyn MailBox>)>,
    stopping: bool,
    /// The node thread sleeps until then at most.
    alarm: Instant,
    /// Why the node had to stop while another thread stepped it.
    fatal: Option<Fatal>,
}

impl NodeHandle {
    pub(super) fn new(published: Arc<Published>, work: mpsc::Sender<(Ticket, Work)>, peers: PeersHandle) -> NodeHandle {
        let inbox = Inbox {
            events: Vec::new(),
            peer_bytes: 0,
            boxes: Vec::new(),
            stopping: false,
            alarm: Instant::now(),
            fatal: None,
        };
        NodeHandle(Arc::new(Shared {
            inbox: Mutex::new(inbox),
            wake: Condvar::new(),
            stepper: Mutex::new(None),
            published: Mutex::new(published),
            changed: Condvar::new(),
            peer_room: Notify::new(),
            disk_low: AtomicBool::new(false),
            work,
            own: Mutex::default(),
            own_slots: AtomicU64::new(1),
            peers,
        }))
    }

    /// Queues an event for the node. Never blocks for longer than a push under a lock.
    pub fn send(&self, event: Event) {
        lock(&self.0.inbox).events.push(event);
        self.0.wake.notify_one();
    }

    /// Queues an event of a front. If it is small and the node at rest, it is stepped here. The caller holds no lock that
    /// a mailbox or the peers' handle takes.
    pub(crate) fn send_and_step(&self, event: Event) {
        let is_small = match &event {
            Event::Propose(proposals) => proposals.len() <= STEPPED_REQUESTS_MAX,
            Event::Read(tickets) => tickets.len() <= STEPPED_REQUESTS_MAX,
            Event::Persisted(_) => true,
            _ => false,
        };
        let mut inbox = lock(&self.0.inbox);
        let is_first = inbox.events.is_empty();
        inbox.events.push(event);
        drop(inbox);
        if !(is_first && is_small && self.step_here()) {
            self.0.wake.notify_one();
        }
    }

    /// Queues what another member said, or steps it, as [`NodeHandle::send_and_step`] does. False: the node has as much of
    /// it as it may be given until it took that.
    pub(crate) fn hear(&self, messages: Vec<PeerMessage>, bytes: usize) -> bool {
        let mut inbox = lock(&self.0.inbox);
        let is_first = inbox.events.is_empty();
        inbox.events.push(Event::Peer(messages));
        inbox.peer_bytes += bytes;
        let room = inbox.peer_bytes < PEER_BYTES_MAX;
        drop(inbox);
        if !(is_first && bytes <= STEPPED_PEER_BYTES_MAX && self.step_here()) {
            self.0.wake.notify_one();
        }
        room
    }

    /// Steps the node on this thread, unless another one does or the node wants its own. Whoever has it now sees what is
    /// queued: the node thread looks again before it sleeps, and is woken by whoever was not let in.
    fn step_here(&self) -> bool {
        let Ok(mut place) = self.0.stepper.try_lock() else { return false };
        let Some(stepper) = place.as_mut().filter(|stepper| stepper.may_be_stepped_by_others()) else { return false };
        match stepper.turn(By::Another) {
            Ok(until) => {
                drop(place);
                let mut inbox = lock(&self.0.inbox);
                if until < inbox.alarm {
                    inbox.alarm = until;
                    drop(inbox);
                    self.0.wake.notify_one();
                }
            }
            Err(fatal) => {
                *place = None;
                drop(place);
                lock(&self.0.inbox).fatal = Some(fatal);
                self.0.wake.notify_one();
            }
        }
        true
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

    /// Sets whether front thread `front` is told of changes. A thread that nothing concerns is not woken for each write.
    ///
    /// Nothing falls between the two: the front sets this and then takes the picture; the stepper stores the picture with
    /// a change and then looks here ([`MailBox::wants_changes`]). The lock of the picture puts one of them first. If it
    /// is the stepper, the change is in the picture that the front takes. If it is the front, the stepper sees what was
    /// set and posts the change.
    pub fn want_changes(&self, front: u16, wanted: bool) {
        if let Some((_, mailbox)) = lock(&self.0.inbox).boxes.iter().find(|(number, _)| *number == front) {
            mailbox.want_changes(wanted);
        }
    }

    /// Whether the reserve of free disk is being used up: writes that grow the store are to be refused.
    pub fn disk_low(&self) -> bool {
        self.0.disk_low.load(Ordering::Acquire)
    }

    /// Registers the mailbox of front thread `front`; while it wants them, it also gets every batch of changes.
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

    /// Since when there are connections to and from `member`, by [`crate::clock::now_ms`].
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

    /// Answers a ticket with what was worked out for it elsewhere.
    pub(crate) fn worked(&self, ticket: Ticket, result: Result<Vec<Bytes>, Status>) {
        let boxes = lock(&self.0.inbox).boxes.clone();
        self.post(&boxes, vec![(ticket, Mail::Work(ticket, result))]);
    }
}

/// What the stepper and the node thread need of it.
impl NodeHandle {
    /// The node thread: steps when something came and nobody else did it, and when time has come.
    pub(super) fn run(&self, stepper: Stepper) -> Result<(), Fatal> {
        let _end = End(self.clone());
        *lock(&self.0.stepper) = Some(stepper);
        loop {
            let stopping = self.sleep();
            let Ok(mut place) = self.0.stepper.lock() else {
                return Err(Fatal("a thread that stepped the node panicked".into()));
            };
            if let Some(stepper) = place.as_ref()
                && !stopping
                && self.is_idle()
                && let until = stepper.due()
                && until > Instant::now()
            {
                // Another thread did what the alarm was set for.
                lock(&self.0.inbox).alarm = until;
                continue;
            }
            let Some(stepper) = place.as_mut() else {
                return Err(lock(&self.0.inbox).fatal.take().unwrap_or_else(|| Fatal("the node is gone".into())));
            };
            match stepper.turns() {
                Ok(_) if stopping => {
                    *place = None;
                    return Ok(());
                }
                Ok(until) => lock(&self.0.inbox).alarm = until,
                Err(fatal) => {
                    *place = None;
                    return Err(fatal);
                }
            }
        }
    }

    /// Sleeps until something is queued, or the alarm goes. Whether the node is to stop.
    fn sleep(&self) -> bool {
        let mut inbox = lock(&self.0.inbox);
        while inbox.events.is_empty() && !inbox.stopping && inbox.fatal.is_none() {
            let now = Instant::now();
            if now >= inbox.alarm {
                break;
            }
            let left = inbox.alarm - now;
            inbox = self.0.wake.wait_timeout(inbox, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        inbox.stopping
    }

    /// Appends all that waits to `events`.
    pub(super) fn take(&self, events: &mut Vec<Event>, boxes: &mut Vec<(u16, Arc<dyn MailBox>)>) {
        let mut inbox = lock(&self.0.inbox);
        events.append(&mut inbox.events);
        if std::mem::take(&mut inbox.peer_bytes) >= PEER_BYTES_MAX {
            self.0.peer_room.notify_waiters();
        }
        if boxes.len() != inbox.boxes.len() {
            boxes.clone_from(&inbox.boxes);
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        lock(&self.0.inbox).events.is_empty()
    }

    /// Whether `new` names other members than the picture before it.
    pub(super) fn is_new_roster(&self, new: &Published) -> bool {
        let published = lock(&self.0.published);
        !Arc::ptr_eq(&published.members, &new.members) || !Arc::ptr_eq(&published.removed_members, &new.removed_members)
    }

    pub(super) fn publish(&self, published: Arc<Published>) {
        *lock(&self.0.published) = published;
        self.0.changed.notify_all();
    }

    /// Sets whether the reserve of free disk is being used up, and tells what it was.
    pub(super) fn swap_disk_low(&self, low: bool) -> bool {
        self.0.disk_low.swap(low, Ordering::AcqRel)
    }

    /// Posts mail, grouped by front.
    pub(super) fn post(&self, boxes: &[(u16, Arc<dyn MailBox>)], mail: Vec<(Ticket, Mail)>) {
        let mut by_front: Vec<Vec<Mail>> = boxes.iter().map(|_| Vec::new()).collect();
        for (ticket, mail) in mail {
            if ticket.front == OWN_FRONT {
                let own = lock(&self.0.own);
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
