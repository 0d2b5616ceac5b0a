//! The shell around the node: who steps it, the thread that syncs its log, the threads that do its jobs.
//!
//! The node thread sleeps until an event or a tick is due, takes everything that waits as one batch, steps the node and
//! carries out the effects in their stated order. In a group, the thread that brings a short event to a node at rest
//! does that itself: the front thread for a put, the peers' thread for an append, the log thread when it has synced.
//!
//! Log writes go to the log thread, which appends all it finds and syncs once, so that load makes the batch; when nothing
//! else waits and this member is alone, the node thread syncs itself and saves two wake-ups. In a group nobody that steps
//! the node waits for a disk: heartbeats and the confirmation of reads go on while the log is synced, and messages are
//! handed to the peers before anything else is done.
//!
//! Order that matters: the picture is stored before any reply or event is posted. A write that the disk has no room for
//! is refused before it is proposed, because what is in the group's log cannot be taken back: what got there all the
//! same (the node's own entries ask nobody) waits on the log thread for room. Any other failure of the log is final:
//! nothing behind it is written, or the log would have a hole.

mod handle;
mod log;
mod stepper;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use cetera_node::event::Event;
use cetera_node::job::{Job, JobDone};
use cetera_node::{Fatal, Node};
use cetera_storage::vfs::Vfs;
use cetera_storage::wal::{PrepareJob, Wal};

pub use self::handle::{MailBox, NodeHandle, OWN_FRONT, Work};
use self::log::Log;
use self::stepper::{Due, Stepper};
use crate::log::warning;
use crate::peer::PeersHandle;

/// What the jobs thread does.
enum ShellJob {
    Node(Job),
    Prepare(PrepareJob),
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
    let handle = NodeHandle::new(node.published(), work, shell.peers.clone());
    let (jobs, job_queue) = mpsc::channel();
    let wal_log = Arc::new(Log::new(shell.wal, shell.sync, jobs.clone()));
    let (vfs, checkpoints) = (shell.vfs, shell.checkpoints);
    let (vfs_of_jobs, checkpoints_of_jobs, of_jobs, log_of_jobs) =
        (vfs.clone(), checkpoints.clone(), handle.clone(), wal_log.clone());
    thread::Builder::new().name("cetera-jobs".into()).spawn(move || {
        for job in job_queue {
            match job {
                ShellJob::Node(job) => {
                    let done = job.run(&vfs_of_jobs, &checkpoints_of_jobs);
                    if let JobDone::Failed { what, error } = &done {
                        warning!("background work failed", "work" = *what, "error" = error);
                    }
                    of_jobs.send(Event::Job(done));
                }
                ShellJob::Prepare(job) => log_of_jobs.install(job.run()),
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
    let stepper = Stepper {
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
        due: Due::at_once(),
        events: Vec::new(),
        released: None,
        boxes: Vec::new(),
    };
    let of_node = handle.clone();
    let node = thread::Builder::new().name("cetera-node".into()).spawn(move || of_node.run(stepper))?;
    Ok((handle, NodeThreads { node }))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
