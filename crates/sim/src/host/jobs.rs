//! The jobs thread: one job after the other, beside the node.
//!
//! A job touches the disk either when it begins or when it ends, as the seed has it, and its outcome comes at the end:
//! both a result that is late and a plan that is old happen.

use std::collections::VecDeque;

use cetera_node::event::{Event, Ticket};
use cetera_node::job::{Job, JobDone, Lane};
use cetera_node::snapshot::ReceivedSnapshot;
use cetera_server::node_thread::Work;
use cetera_server::rpc::NodeAccess as _;
use cetera_server::seam::Mail;
use cetera_storage::wal::{PrepareJob, Prepared};

use super::Host;
use super::snapshot::Line;
use crate::core::{Core, Thread};
use crate::trace::Kind;

/// Shortest and longest time of a read, mostly near the shortest.
const READ_US: (u64, u64) = (100, 20_000);

enum ShellJob {
    Node(Job),
    Prepare(PrepareJob),
    Work(Ticket, Work),
    Received(Line, Box<ReceivedSnapshot>),
}

enum Running {
    Begun(ShellJob),
    Done(JobDone),
    Prepared(Prepared),
}

/// The jobs that wait, and the one under way; reads, which wait for nothing, have a thread of their own.
#[derive(Default)]
pub(super) struct Jobs {
    queue: VecDeque<ShellJob>,
    running: Option<Running>,
    reads: VecDeque<Job>,
    reading: Option<Job>,
}

impl Jobs {
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.is_none() && self.reads.is_empty() && self.reading.is_none()
    }

    /// Jobs that are not done.
    pub(super) fn waiting(&self) -> u64 {
        (self.queue.len() + self.reads.len()) as u64 + u64::from(self.running.is_some())
    }

    pub(super) fn enqueue(&mut self, jobs: Vec<Job>) {
        for job in jobs {
            match job.lane() {
                Lane::Work => self.queue.push_back(ShellJob::Node(job)),
                Lane::Reads => self.reads.push_back(job),
            }
        }
    }

    pub(super) fn enqueue_prepare(&mut self, job: PrepareJob) {
        self.queue.push_back(ShellJob::Prepare(job));
    }

    pub(super) fn enqueue_received(&mut self, line: Line, received: ReceivedSnapshot) {
        self.queue.push_back(ShellJob::Received(line, Box::new(received)));
    }

    pub(super) fn enqueue_work(&mut self, work: Vec<(Ticket, Work)>) {
        self.queue.extend(work.into_iter().map(|(ticket, work)| ShellJob::Work(ticket, work)));
    }
}

impl Host {
    /// Begins a job if one waits and none is under way.
    pub(super) fn jobs_kick(&mut self, core: &mut Core) {
        self.reads_kick(core);
        let Some(life) = &mut self.life else { return };
        if life.jobs.running.is_some() {
            return;
        }
        let Some(job) = life.jobs.queue.pop_front() else { return };
        let name = match &job {
            ShellJob::Node(job) => format!("{job:?}"),
            ShellJob::Prepare(_) => "Prepare".to_owned(),
            ShellJob::Work(..) => "Work".to_owned(),
            ShellJob::Received(_, received) => format!("{received:?}"),
        };
        let early = core.dice.chance(500);
        let (low, high) = core.options.job_us;
        let takes_us = core.dice.skewed(low, high);
        core.trace.say(core.now_us, &format!("m{}", self.index), || {
            format!(
                "job {name} begins, {} the disk {}",
                if early { "touching" } else { "to touch" },
                if early { "now" } else { "at its end" }
            )
        });
        let running = Running::Begun(job);
        let life = self.life.as_mut().expect("just seen");
        life.jobs.running = Some(running);
        if early {
            self.job_touches_disk();
            if self.disk.has_stopped() {
                return;
            }
        }
        self.schedule(takes_us, Thread::Job, core);
    }

    fn reads_kick(&mut self, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        if life.jobs.reading.is_none()
            && let Some(job) = life.jobs.reads.pop_front()
        {
            life.jobs.reading = Some(job);
            let (low, high) = READ_US;
            let takes_us = core.dice.skewed(low, high);
            self.schedule(takes_us, Thread::Read, core);
        }
    }

    /// The read under way ends.
    pub(super) fn read_ends(&mut self, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        let Some(job) = life.jobs.reading.take() else { return };
        let done = job.run(&life.vfs, &life.checkpoints);
        if self.disk.has_stopped() {
            return;
        }
        core.trace.note(core.now_us, Kind::Job, self.index as u64, 1, 0);
        core.trace.say(core.now_us, &format!("m{}", self.index), || format!("read ends: {done:?}"));
        self.push_event(Event::Job(done), core);
        self.reads_kick(core);
    }

    fn job_touches_disk(&mut self) {
        let Some(life) = &mut self.life else { return };
        let Some(running) = life.jobs.running.take() else { return };
        life.jobs.running = Some(match running {
            Running::Begun(ShellJob::Node(job)) => Running::Done(job.run(&life.vfs, &life.checkpoints)),
            Running::Begun(ShellJob::Prepare(job)) => Running::Prepared(job.run()),
            other => other,
        });
    }

    /// The job under way ends.
    pub(super) fn job_ends(&mut self, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        if matches!(life.jobs.running, Some(Running::Begun(ShellJob::Prepare(_)) | Running::Prepared(_)))
            && let Some(until_us) = life.log.busy_until_us()
        {
            // The log is locked while it is written.
            let after_us = until_us.saturating_sub(core.now_us) + 1;
            return self.schedule(after_us, Thread::Job, core);
        }
        self.job_touches_disk();
        if self.disk.has_stopped() {
            return;
        }
        let life = self.life.as_mut().expect("just seen");
        let Some(running) = life.jobs.running.take() else { return };
        core.trace.note(core.now_us, Kind::Job, self.index as u64, 0, 0);
        match running {
            Running::Done(done) => {
                core.trace.say(core.now_us, &format!("m{}", self.index), || format!("job ends: {done:?}"));
                self.push_event(Event::Job(done), core);
            }
            Running::Prepared(prepared) => {
                life.log.preparing = false;
                let installed = life.log.wal.install(prepared);
                if self.disk.has_stopped() {
                    return;
                }
                if installed.is_err() {
                    self.prepare_failed(core);
                }
            }
            Running::Begun(ShellJob::Work(ticket, work)) => {
                let answer = work(&life.access.published().view);
                let front = usize::from(ticket.front);
                life.fronts[front].mail.push(Mail::Work(ticket, answer));
                self.wake_front(ticket.front, core);
            }
            Running::Begun(ShellJob::Received(line, received)) => self.snapshot_prepared(line, *received, core),
            Running::Begun(_) => unreachable!("jobs that touch the disk have done so"),
        }
        self.jobs_kick(core);
    }
}
