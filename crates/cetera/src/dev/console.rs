//! From lines and signals to what the cluster does, until the end.
//!
//! Lines are read one at a time, when the one before is done; so a script may be piped in and never runs ahead.

use std::io::{BufRead as _, IsTerminal as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::cluster::{Cluster, Flow};
use super::member::{Member, STOP_PATIENCE};
use super::options::Options;
use super::{complain, say};

/// How long the cluster may take until it serves.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks at whether it does.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Events that wait: one line, and signals that all mean the same.
const EVENTS: usize = 8;
/// Lines shown of a member that ended by itself.
const LAST_LINES: usize = 5;

enum Event {
    Line(String),
    InputEnded,
    Signal(i32),
}

struct Console {
    events: Receiver<Event>,
    /// Asks for the next line.
    more: SyncSender<()>,
    /// A line was asked for and has not come.
    asked: bool,
    /// Somebody sits there.
    interactive: bool,
    deadline: Option<Instant>,
    /// A command failed, or a member ended by itself.
    failed: bool,
}

/// Runs a cluster from start to end. The process's exit code.
pub(super) fn run(options: &Options) -> Result<i32, String> {
    let mut console = Console::open()?;
    let mut cluster = Cluster::start(options)?;
    let mut flow = console.until_it_serves(&mut cluster, true)?;
    if flow == Flow::On {
        say(&banner(&cluster));
        console.deadline = options.lifetime.map(|lifetime| Instant::now() + lifetime);
        while flow != Flow::End {
            flow = console.step(&mut cluster);
        }
    }
    console.end(&mut cluster);
    Ok(i32::from(console.failed && !console.interactive))
}

fn banner(cluster: &Cluster) -> String {
    let (plan, count) = (&cluster.plan, cluster.members.len());
    let (are, fate) =
        (if count == 1 { "member is" } else { "members are" }, if plan.is_temporary() { "removed" } else { "kept" });
    let mut text = format!("{count} {are} serving; data and logs are in {}, {fate} at the end\n\n", plan.dir.display());
    for member in &cluster.members {
        let (place, pid) = (&member.place, member.pid().unwrap_or_default());
        text += &format!("  {}  client {}  peer {}  pid {pid}\n", place.name, place.client, place.peer);
    }
    let endpoints = plan.endpoints();
    text + &format!(
        "\n  --endpoints {endpoints}\n  export ETCDCTL_ENDPOINTS={endpoints}\n\n`help` lists the commands; Ctrl-C ends \
         the cluster.\n"
    )
}

impl Console {
    /// Signals and lines come from here on.
    fn open() -> Result<Console, String> {
        let (send, events) = sync_channel(EVENTS);
        let (more, wanted) = sync_channel(1);
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP, SIGCHLD]).map_err(|error| format!("signals: {error}"))?;
        let lines = send.clone();
        std::thread::spawn(move || signals.forever().try_for_each(|signal| send.send(Event::Signal(signal))));
        std::thread::spawn(move || read_lines(&wanted, &lines));
        let interactive = std::io::stdin().is_terminal();
        Ok(Console { events, more, asked: false, interactive, deadline: None, failed: false })
    }

    /// One event: a line, a signal, or the time that was set.
    fn step(&mut self, cluster: &mut Cluster) -> Flow {
        if !self.asked {
            self.asked = true;
            // It fails when the input has ended; then only signals come.
            let _ = self.more.send(());
            self.prompt();
        }
        match self.next(None) {
            Ok(Event::Line(line)) => {
                self.asked = false;
                // A member that ended before the line was given is told of first.
                self.tell_of_ends(cluster);
                let done = cluster.execute(&line).and_then(|flow| match flow {
                    Flow::Await => self.until_it_serves(cluster, false),
                    flow => Ok(flow),
                });
                done.unwrap_or_else(|error| {
                    complain(&error);
                    self.failed = true;
                    Flow::On
                })
            }
            Ok(Event::InputEnded) if self.interactive => {
                say("\n");
                Flow::End
            }
            Ok(Event::InputEnded) => Flow::On,
            Ok(Event::Signal(SIGCHLD)) => {
                if self.tell_of_ends(cluster) {
                    self.prompt();
                }
                Flow::On
            }
            // Nothing can come any more only if both threads are gone.
            Ok(Event::Signal(_)) | Err(_) => Flow::End,
        }
    }

    /// The next event; Timeout: the deadline, or `pause`, is over.
    fn next(&self, pause: Option<Duration>) -> Result<Event, RecvTimeoutError> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match pause.into_iter().chain(left).min() {
            Some(wait) => self.events.recv_timeout(wait),
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn prompt(&self) {
        if self.interactive {
            say("> ");
        }
    }

    /// Waits until every running member knows the same leader. `starting`: all of them have to.
    fn until_it_serves(&mut self, cluster: &mut Cluster, starting: bool) -> Result<Flow, String> {
        let begun = Instant::now();
        while !cluster.is_ready() {
            let ended = cluster.look();
            if let Some(n) = ended.first().filter(|_| starting) {
                return Err(told(&cluster.members[*n]));
            }
            ended.iter().for_each(|n| self.member_ended(&cluster.members[*n]));
            if begun.elapsed() > START_PATIENCE {
                return Err(format!("the cluster does not serve after {START_PATIENCE:?}"));
            }
            match self.next(Some(LOOK_PAUSE)) {
                Ok(Event::Signal(signal)) if signal != SIGCHLD => return Ok(Flow::End),
                Err(_) if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Ok(Flow::End),
                // No line comes while none is asked for.
                _ => {}
            }
        }
        Ok(Flow::On)
    }

    fn tell_of_ends(&mut self, cluster: &mut Cluster) -> bool {
        let ended = cluster.look();
        ended.iter().for_each(|n| self.member_ended(&cluster.members[*n]));
        !ended.is_empty()
    }

    fn member_ended(&mut self, member: &Member) {
        complain(&told(member));
        self.failed = true;
    }

    /// Ends all members: asked first, killed if they do not listen or another signal comes.
    fn end(&mut self, cluster: &mut Cluster) {
        self.deadline = None;
        for member in &mut cluster.members {
            // One that is down has nothing to be told.
            let _ = member.terminate();
        }
        let begun = Instant::now();
        loop {
            cluster.look();
            if cluster.members.iter().all(|member| member.pid().is_none()) {
                return;
            }
            let hurry = matches!(self.next(Some(LOOK_PAUSE)), Ok(Event::Signal(signal)) if signal != SIGCHLD);
            if hurry || begun.elapsed() > STOP_PATIENCE {
                cluster.members.iter_mut().filter(|member| member.pid().is_some()).for_each(|member| {
                    // Dropping it kills again.
                    let _ = member.kill();
                });
                return;
            }
        }
    }
}

fn told(member: &Member) -> String {
    let lines = member.last_lines(LAST_LINES);
    format!("{} ended by itself: {}; the end of {}:\n{lines}", member.name(), member.state(), member.log.display())
}

/// One line for each time one is wanted.
fn read_lines(wanted: &Receiver<()>, lines: &SyncSender<Event>) {
    let mut input = std::io::stdin().lock();
    while wanted.recv().is_ok() {
        let mut line = String::new();
        let event = match input.read_line(&mut line) {
            Ok(0) | Err(_) => Event::InputEnded,
            Ok(_) => Event::Line(line.trim().to_owned()),
        };
        let over = matches!(event, Event::InputEnded);
        if lines.send(event).is_err() || over {
            return;
        }
    }
}
