//! One member: a process, its state as far as it is known here, and signals to it.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal};

use super::plan::{self, Place, Plan};

/// How long a member may take to end when it is asked to.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks at whether it has ended.
const STOP_PAUSE: Duration = Duration::from_millis(5);

/// What is known of the process.
#[derive(Debug)]
pub(super) enum Process {
    Running(Child),
    Paused(Child),
    /// It was never started, or ended because it was told to.
    Down(&'static str),
    /// It ended of its own accord.
    Ended(ExitStatus),
}

/// A member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) place: Place,
    pub(super) log: PathBuf,
    pub(super) process: Process,
    program: PathBuf,
    args: Vec<OsString>,
}

impl Member {
    /// Not started yet.
    pub(super) fn new(plan: &Plan, place: &Place, program: &Path, flags: &[OsString]) -> Member {
        let [client, peer] = [&place.client, &place.peer].map(|address| OsString::from(format!("http://{address}")));
        let given: [(&str, OsString); 9] = [
            ("--name", place.name.clone().into()),
            ("--data-dir", plan::data_dir(&plan.dir, place).into()),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", plan.initial_cluster().into()),
            ("--initial-cluster-state", "new".into()),
            ("--initial-cluster-token", "cetera-dev".into()),
        ];
        let args = given.into_iter().flat_map(|(name, value)| [name.into(), value]).chain(flags.iter().cloned());
        Member {
            place: place.clone(),
            log: plan::log_file(&plan.dir, place),
            process: Process::Down("not started"),
            program: program.to_owned(),
            args: args.collect(),
        }
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.place.name
    }

    /// Its process id, if it has a process.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.process {
            Process::Running(child) | Process::Paused(child) => Some(child.id()),
            Process::Down(_) | Process::Ended(_) => None,
        }
    }

    /// Whether it can answer.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.process, Process::Running(_))
    }

    /// Whether a command makes sense for it now.
    pub(super) fn can(&self, verb: &str) -> bool {
        match (verb, &self.process) {
            ("start", process) => matches!(process, Process::Down(_) | Process::Ended(_)),
            ("pause", process) => matches!(process, Process::Running(_)),
            ("resume", process) => matches!(process, Process::Paused(_)),
            (_, process) => matches!(process, Process::Running(_) | Process::Paused(_)),
        }
    }

    /// Its state in a word or two.
    pub(super) fn state(&self) -> String {
        match &self.process {
            Process::Running(_) => "running".to_owned(),
            Process::Paused(_) => "paused".to_owned(),
            Process::Down(how) => (*how).to_owned(),
            Process::Ended(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended ({code})"),
                (None, Some(signal)) => format!("ended (signal {signal})"),
                (None, None) => "ended".to_owned(),
            },
        }
    }

    /// Starts it; on the main thread, see [`tied`].
    pub(super) fn start(&mut self) -> Result<(), String> {
        if self.pid().is_some() {
            return Err(format!("{} is {} already", self.name(), self.state()));
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let told = |error: io::Error| format!("{}: {error}", self.log.display());
        let log = log.map_err(told)?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone().map_err(told)?).stderr(log);
        // Ctrl-C reaches this process alone, which then ends its members in its own way.
        command.process_group(0);
        // A flag and a variable at once would stop the start.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(name);
            }
        }
        let child = tied(&mut command).spawn().map_err(|error| format!("{}: {error}", self.program.display()))?;
        self.process = Process::Running(child);
        Ok(())
    }

    /// SIGKILL, also to a paused one.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        self.signal(Signal::KILL)?;
        self.ends(STOP_PATIENCE, "killed")
    }

    /// Asks it to end, and does not wait.
    pub(super) fn terminate(&mut self) -> Result<(), String> {
        self.signal(Signal::TERM)?;
        // One that stands still would not hear it.
        self.signal(Signal::CONT)
    }

    /// Waits for the end that [`Member::terminate`] asked for.
    pub(super) fn stopped(&mut self) -> Result<(), String> {
        self.ends(STOP_PATIENCE, "stopped")
    }

    /// Lets it stand still.
    pub(super) fn pause(&mut self) -> Result<(), String> {
        self.signal(Signal::STOP)?;
        self.become_(Process::Paused);
        Ok(())
    }

    /// Lets it go on.
    pub(super) fn resume(&mut self) -> Result<(), String> {
        self.signal(Signal::CONT)?;
        self.become_(Process::Running);
        Ok(())
    }

    fn become_(&mut self, state: impl FnOnce(Child) -> Process) {
        self.process = match std::mem::replace(&mut self.process, Process::Down("")) {
            Process::Running(child) | Process::Paused(child) => state(child),
            other => other,
        };
    }

    fn signal(&mut self, signal: Signal) -> Result<(), String> {
        self.look();
        let pid = self.pid().and_then(|pid| Pid::from_raw(pid as i32));
        let pid = pid.ok_or_else(|| format!("{} is not running: {}", self.name(), self.state()))?;
        // It was not waited for, so the id is still its own.
        kill_process(pid, signal).map_err(|error| format!("{}: {error}", self.name()))
    }

    /// Waits for the end that it was told to come to.
    fn ends(&mut self, patience: Duration, how: &'static str) -> Result<(), String> {
        let begun = Instant::now();
        while !self.look() && self.pid().is_some() {
            if begun.elapsed() > patience {
                return Err(format!("{} has not ended after {patience:?}", self.name()));
            }
            std::thread::sleep(STOP_PAUSE);
        }
        self.process = Process::Down(how);
        Ok(())
    }

    /// Whether it has ended since the last look; then of its own accord, unless the caller knows better.
    pub(super) fn look(&mut self) -> bool {
        let (Process::Running(child) | Process::Paused(child)) = &mut self.process else { return false };
        let Ok(Some(status)) = child.try_wait() else { return false };
        self.process = Process::Ended(status);
        true
    }

    /// The last lines that it printed.
    pub(super) fn last_lines(&self, count: usize) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Makes the system end a command's process when this one ends, however it does. The command must be started on the
/// main thread: it goes with the thread.
pub(super) fn tied(command: &mut Command) -> &mut Command {
    let parent = getpid();
    // SAFETY: what runs between fork and exec are two system calls; both are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before that call.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
        })
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Process::Running(child) | Process::Paused(child) = &mut self.process {
            // Fails only if it has ended, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
