//! A turn of the node: everything that waits is taken as one batch, the node stepped, its effects carried out in their
//! stated order. One thread at a time does that, whichever it is.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use cetera_node::event::{Effects, Event, Refusal, Reply};
use cetera_node::job::{Job, Lane};
use cetera_node::{Fatal, Node, Published};
use cetera_storage::vfs::Vfs;

use super::ShellJob;
use super::handle::{MailBox, NodeHandle};
use super::log::{BATCH_OVERHEAD_BYTES, Log, RECORD_OVERHEAD_BYTES};
use crate::clock;
use crate::log;
use crate::metrics::METRICS;
use crate::peer::PeersHandle;
use crate::seam::Mail;

/// How long a background slice that is due waits for a gap between batches.
const SLICE_PATIENCE: Duration = Duration::from_millis(1);

/// How often the free space of the disk is looked at.
const DISK_LOOK_EVERY: Duration = Duration::from_secs(1);

/// Which thread steps the node.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum By {
    /// Its own: it also looks after the disk, does background slices, and may wait for a sync if the member is alone.
    Its,
    /// One that brought an event.
    Another,
}

/// The node, and where its effects go.
pub(super) struct Stepper {
    pub(super) node: Node,
    pub(super) handle: NodeHandle,
    pub(super) log: Arc<Log>,
    pub(super) jobs: mpsc::Sender<ShellJob>,
    pub(super) reads: mpsc::Sender<Job>,
    pub(super) tick: Duration,
    pub(super) sync_inline: bool,
    pub(super) peers: PeersHandle,
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) checkpoints: PathBuf,
    pub(super) reserve_bytes: u64,
    pub(super) due: Due,
    /// Taken and not stepped yet.
    pub(super) events: Vec<Event>,
    /// What the log may let go of, told to another thread.
    pub(super) released: Option<u64>,
    pub(super) boxes: Vec<(u16, Arc<dyn MailBox>)>,
}

/// When what is to be done.
pub(super) struct Due {
    tick: Instant,
    look: Instant,
    /// The next background slice, while there are any.
    slice: Option<Instant>,
    /// When the node asked to be woken, if it did.
    wake: Option<Instant>,
}

impl Due {
    pub(super) fn at_once() -> Due {
        let now = Instant::now();
        Due { tick: now, look: now, slice: None, wake: None }
    }

    fn first(&self) -> Instant {
        [self.slice, self.wake].into_iter().flatten().fold(self.tick, Instant::min)
    }
}

impl Stepper {
    /// A member that is alone syncs its log on the node thread, where nobody else waits for that.
    pub(super) fn may_be_stepped_by_others(&self) -> bool {
        !self.node.is_alone()
    }

    /// When the next turn is due, if nothing comes before.
    pub(super) fn due(&self) -> Instant {
        if self.events.is_empty() && self.released.is_none() { self.due.first() } else { Instant::now() }
    }

    /// Turns of the node thread until nothing is left to take. When the next one is due.
    pub(super) fn turns(&mut self) -> Result<Instant, Fatal> {
        loop {
            let until = self.turn(By::Its)?;
            if self.events.is_empty() {
                return Ok(until);
            }
        }
    }

    /// Takes all that waits, steps the node and carries out what follows. When the next turn is due.
    pub(super) fn turn(&mut self, by: By) -> Result<Instant, Fatal> {
        let mut events = std::mem::take(&mut self.events);
        self.handle.take(&mut events, &mut self.boxes);
        if by == By::Another && !self.log.has_room_at_hand(log_bytes(&events)) {
            self.events = events;
            return Ok(self.due());
        }
        let now = Instant::now();
        // Between batches, or when batches leave no gap.
        let due = |due: Instant| if events.is_empty() { due <= now } else { due + SLICE_PATIENCE <= now };
        let slice = by == By::Its && self.due.slice.is_some_and(due);
        if by == By::Its {
            self.keep_time(now);
        }
        // Every batch begins with the time, so that no lease is measured from a moment before its grant arrived.
        events.insert(0, Event::Tick { now_ms: clock::now_ms() });
        self.make_room(&mut events);
        let effects = if slice { self.node.step(&mut events) } else { self.node.step_without_slices(&mut events) }?;
        let after = Instant::now();
        self.due.wake = effects.wake_ms.map(|at| after + Duration::from_millis(at.saturating_sub(clock::now_ms())));
        self.due.slice = match self.due.slice {
            _ if !effects.more => None,
            Some(due) if !slice => Some(due),
            // As long a pause as the slice took: at most half of a core goes into them.
            _ => Some(after + (after - now)),
        };
        self.carry_out(effects, &mut events, by)?;
        self.events = events;
        Ok(self.due())
    }

    fn keep_time(&mut self, now: Instant) {
        if now >= self.due.tick {
            self.count_late(now - self.due.tick);
            self.due.tick = now + self.tick;
        }
        if now >= self.due.look {
            self.due.look = now + DISK_LOOK_EVERY;
            self.look_at_disk();
        }
    }

    /// A leader whose ticks are twice as far apart as they should be sends its heartbeats late, to every other member.
    fn count_late(&self, late: Duration) {
        let published = self.node.published();
        if late > self.tick && published.leader == published.member_id {
            METRICS.heartbeats_late(published.members.len().saturating_sub(1) as u64);
        }
    }

    /// A disk that cannot be asked is taken for one that has room: what does not fit is refused where it is written.
    fn look_at_disk(&self) {
        let low = self.vfs.free_bytes(&self.checkpoints).is_ok_and(|free| free < self.reserve_bytes);
        if self.handle.swap_disk_low(low) != low {
            log::warning!("the reserve of free disk", "reserve-bytes" = self.reserve_bytes, "used-up" = low);
        }
    }

    /// Refuses the batch's proposals if the log has no room for them.
    fn make_room(&self, events: &mut [Event]) {
        let bytes = log_bytes(events);
        if bytes == 0 || self.log.has_room(bytes) {
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
        self.handle.post(&self.boxes, refused);
    }

    fn carry_out(&mut self, mut effects: Effects, events: &mut Vec<Event>, by: By) -> Result<(), Fatal> {
        // Before the log: entries travel while the disk here syncs them.
        let roster = effects.publish.as_deref().filter(|new| self.handle.is_new_roster(new));
        self.peers.post(&mut effects.messages, std::mem::take(&mut effects.snapshots), roster);
        // The log is locked while it is synced: that is for nobody but the node thread to wait for.
        self.released = effects.release_wal.or(self.released);
        if by == By::Its
            && let Some(index) = self.released.take()
        {
            self.log.release(index);
        }
        if !effects.wal.is_empty() {
            let alone = by == By::Its && self.sync_inline && self.node.is_alone();
            if alone && self.handle.is_idle() {
                events.extend(self.log.write_inline(effects.wal.into()));
            } else {
                self.log.enqueue(effects.wal.into());
            }
        }
        if let Some(published) = effects.publish {
            METRICS.published(&published);
            tell_fence(&self.handle.published(), &published);
            self.handle.publish(published);
        }
        if let Some(batch) = effects.events {
            METRICS.applied(&batch);
            // Asked only now that the picture is stored: see `NodeHandle::want_changes`.
            for (_, mailbox) in self.boxes.iter().filter(|(_, mailbox)| mailbox.wants_changes()) {
                mailbox.post(&mut vec![Mail::Events(batch.clone())]);
            }
        }
        if !effects.replies.is_empty() {
            let mail = effects.replies.into_iter().map(|(ticket, reply)| (ticket, Mail::Reply(ticket, reply)));
            self.handle.post(&self.boxes, mail.collect());
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

/// What the log needs for the proposals among these; 0 if there are none.
fn log_bytes(events: &[Event]) -> u64 {
    let of = |event: &Event| match event {
        Event::Propose(proposals) => {
            proposals.iter().map(|proposal| proposal.request.len() + RECORD_OVERHEAD_BYTES).sum()
        }
        _ => 0,
    };
    match events.iter().map(of).sum::<usize>() {
        0 => 0,
        bytes => (bytes + BATCH_OVERHEAD_BYTES) as u64,
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
