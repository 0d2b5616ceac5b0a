//! One member: its process, started and ended again and again, and what is known of its health.

use std::cell::{Cell, RefCell};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use cetera_bench::process::{Launch, Server};
use cetera_proto::etcdserverpb as pb;
use cetera_proto::services::MethodId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::conn::{Answer, Conn};
use crate::disk::{Disk, Hooks};

/// Pause between two looks at a server.
const PAUSE: Duration = Duration::from_millis(5);
/// Longest wait for one answer when a server is asked whether it serves.
const ASK_PATIENCE: Duration = Duration::from_millis(1000);

/// A member.
#[derive(Debug)]
pub struct Member {
    /// How it is started for the first time.
    pub launch: Launch,
    /// How often it was replaced by a new one with an empty directory.
    replaced: Cell<u64>,
    /// It is no member, or not known to be: nobody but who replaces it is to start it.
    pub out: Cell<bool>,
    /// It is new and may not have joined yet, or was told to go: it may end by itself.
    pub joins: Cell<bool>,
    server: RefCell<Option<Server>>,
    /// Its process is being handled by a fault: nobody else is to start, kill or stop it.
    busy: Cell<bool>,
    /// Starts so far.
    pub starts: Cell<u64>,
    /// Faults that a build for tests obeys.
    pub hooks: Hooks,
    /// A small disk for its data, if it has one.
    pub disk: Option<Disk>,
    /// Faults of the disk that are on.
    bad_disk: Cell<u64>,
    /// One of them is such that only a new life will serve.
    dooms: Cell<bool>,
    /// The life, by its number, in which the disk was bad: it may end by itself.
    hurt: Cell<u64>,
    /// The last life that met one of those.
    doomed: Cell<u64>,
    /// The last life that was told to end.
    told: Cell<u64>,
}

/// How a member that ended by itself may have.
#[derive(Clone, Debug)]
pub struct Ended {
    /// With this status.
    pub status: ExitStatus,
    /// It ended in order, and was told to end, or its disk was bad in that life, or it was joining or removed.
    pub excused: bool,
}

/// The right to handle a member's process, held by one at a time.
#[derive(Debug)]
pub struct Handling<'a>(&'a Member);

impl Drop for Handling<'_> {
    fn drop(&mut self) {
        self.0.busy.set(false);
    }
}

impl Member {
    /// Not started.
    pub fn new(launch: Launch, hooks: Hooks, disk: Option<Disk>) -> Member {
        Member {
            launch,
            replaced: Cell::new(0),
            out: Cell::new(false),
            joins: Cell::new(false),
            server: RefCell::new(None),
            busy: Cell::new(false),
            starts: Cell::new(0),
            hooks,
            disk,
            bad_disk: Cell::new(0),
            dooms: Cell::new(false),
            hurt: Cell::new(0),
            doomed: Cell::new(0),
            told: Cell::new(0),
        }
    }

    /// A fault of the disk begins. `dooms`: no life that meets it is expected to serve again.
    pub fn disk_is_bad(&self, dooms: bool) {
        self.bad_disk.set(self.bad_disk.get() + 1);
        self.dooms.set(self.dooms.get() || dooms);
        self.meets_disk();
    }

    /// It is over.
    pub fn disk_is_well(&self) {
        self.bad_disk.set(self.bad_disk.get().saturating_sub(1));
        self.dooms.set(self.dooms.get() && self.has_bad_disk());
    }

    /// What the disk is like now holds for this life.
    fn meets_disk(&self) {
        if self.has_bad_disk() {
            self.hurt.set(self.starts.get());
        }
        if self.dooms.get() {
            self.doomed.set(self.starts.get());
        }
    }

    /// Whether its disk is bad now: no time for a start.
    pub fn has_bad_disk(&self) -> bool {
        self.bad_disk.get() > 0
    }

    /// Undoes what is wrong with the disk.
    ///
    /// # Errors
    /// What cannot be undone.
    pub fn heal_disk(&self) -> Result<(), String> {
        self.hooks.heal()?;
        self.disk.as_ref().map_or(Ok(()), Disk::free)?;
        self.bad_disk.set(0);
        self.dooms.set(false);
        Ok(())
    }

    /// Whether it can only serve after another start.
    pub fn is_doomed(&self) -> bool {
        self.doomed.get() == self.starts.get()
    }

    /// Takes the right to handle the process; none if another has it.
    pub fn handle(&self) -> Option<Handling<'_>> {
        (!self.busy.replace(true)).then(|| Handling(self))
    }

    /// Where its data is.
    pub fn data_dir(&self) -> PathBuf {
        match self.replaced.get() {
            0 => self.launch.data_dir.clone(),
            count => self.launch.data_dir.with_file_name(format!("data{count}")),
        }
    }

    /// From now on it is a new one, which joins an existing cluster with an empty directory. The data of the one before
    /// is gone.
    ///
    /// # Errors
    /// The data cannot be removed.
    pub fn replace(&self) -> Result<(), String> {
        let old = self.data_dir();
        std::fs::remove_dir_all(&old).map_err(|error| format!("{}: {error}", old.display()))?;
        self.replaced.set(self.replaced.get() + 1);
        Ok(())
    }

    /// Whether it took the place of another.
    pub fn is_successor(&self) -> bool {
        self.replaced.get() > 0
    }

    /// Starts it. It may not serve yet.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&self) -> Result<(), String> {
        let mut launch = self.launch.clone();
        launch.data_dir = self.data_dir();
        if self.is_successor() {
            launch.flags.extend(["--initial-cluster-state", "existing"].map(str::to_owned));
        }
        self.start_as(&launch)
    }

    /// Starts it as if for the first time, in its directory, which is empty while this lasts. Returns how it ended by
    /// itself, if it did within `patience`.
    ///
    /// # Errors
    /// The program cannot be started, or the directory not be put aside and back.
    pub async fn start_emptied(&self, patience: Duration) -> Result<Option<ExitStatus>, String> {
        let (data, aside) = (self.data_dir(), self.data_dir().with_file_name("aside"));
        let moved = |error: std::io::Error| format!("{}: {error}", data.display());
        std::fs::rename(&data, &aside).map_err(moved)?;
        let launch = Launch { data_dir: data.clone(), ..self.launch.clone() };
        self.start_as(&launch)?;
        let begun = Instant::now();
        let mut ended = None;
        while ended.is_none() && begun.elapsed() < patience {
            sleep(PAUSE).await;
            ended = self.gone();
        }
        *self.server.borrow_mut() = None;
        match std::fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(moved(error)),
            _ => {}
        }
        std::fs::rename(&aside, &data).map_err(moved)?;
        Ok(ended)
    }

    fn start_as(&self, launch: &Launch) -> Result<(), String> {
        let server = launch.start();
        let server = server.map_err(|error| format!("{}: {error}", self.launch.program.display()))?;
        self.starts.set(self.starts.get() + 1);
        self.meets_disk();
        *self.server.borrow_mut() = Some(server);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It had ended by itself, with this status.
    pub fn kill(&self) -> Result<(), Ended> {
        match self.server.borrow_mut().take() {
            Some(server) => server.kill().map_err(|status| self.judged(status)),
            None => Ok(()),
        }
    }

    /// SIGTERM; how it ended, or nothing if it has not within `patience`.
    pub async fn terminate(&self, patience: Duration) -> Option<ExitStatus> {
        self.told.set(self.starts.get());
        self.server.borrow_mut().as_mut()?.terminate();
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if let Some(status) = self.gone() {
                return Some(status);
            }
            sleep(PAUSE).await;
        }
        None
    }

    fn judged(&self, status: ExitStatus) -> Ended {
        let may = self.is_hurt() || self.joins.get();
        let told = self.told.get() == self.starts.get() && ends_as_told(status);
        Ended { status, excused: told || (may && status.code().is_some()) }
    }

    /// Whether its disk was bad in this life.
    pub fn is_hurt(&self) -> bool {
        self.hurt.get() == self.starts.get()
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        if let Some(server) = &mut *self.server.borrow_mut() {
            server.pause();
        }
    }

    /// SIGCONT.
    pub fn resume(&self) {
        if let Some(server) = &mut *self.server.borrow_mut() {
            server.resume();
        }
    }

    /// How it ended by itself, if it did; it is not running then.
    pub fn ended(&self) -> Option<Ended> {
        self.gone().map(|status| self.judged(status))
    }

    fn gone(&self) -> Option<ExitStatus> {
        let mut server = self.server.borrow_mut();
        let status = server.as_mut()?.ended()?;
        *server = None;
        Some(status)
    }

    /// Whether there is a process.
    pub fn is_running(&self) -> bool {
        self.server.borrow().is_some()
    }

    /// Returns when it answers a linearizable read.
    ///
    /// # Errors
    /// It does not serve in time.
    pub async fn serves(&self, patience: Duration) -> Result<Duration, String> {
        let begun = Instant::now();
        let mut last = "no connection".to_owned();
        loop {
            if let Some(conn) = Conn::open(&self.launch.address(), ASK_PATIENCE).await {
                let read = pb::RangeRequest { key: "k".into(), count_only: true, ..Default::default() };
                match conn.call::<_, pb::RangeResponse>(MethodId::Range, &read, ASK_PATIENCE).await {
                    Answer::Done(_) => return Ok(begun.elapsed()),
                    Answer::Refused(text) | Answer::Unknown { text, .. } => last = text,
                }
            }
            if begun.elapsed() > patience {
                return Err(format!("{} does not serve within {patience:?}: {last}", self.launch.place.name));
            }
            sleep(PAUSE).await;
        }
    }

    /// What `/health` says.
    ///
    /// # Errors
    /// It does not say that all is well.
    pub async fn health(&self) -> Result<(), String> {
        match self.get("/health").await? {
            text if text.contains(r#""health":"true""#) => Ok(()),
            text => Err(format!("/health: {}", text.lines().last().unwrap_or_default())),
        }
    }

    /// The answer to an HTTP/1.1 GET, head and body.
    ///
    /// # Errors
    /// There was none in time.
    pub async fn get(&self, path: &str) -> Result<String, String> {
        match timeout(ASK_PATIENCE, get(&self.launch.address(), path)).await {
            Ok(answer) => answer.map_err(|error| format!("{path}: {error}")),
            Err(_) => Err(format!("{path}: no answer")),
        }
    }
}

/// Whether this is an end as SIGTERM asks for; etcd sends itself the signal again.
pub fn ends_as_told(status: ExitStatus) -> bool {
    status.success() || status.signal() == Some(libc::SIGTERM)
}

async fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
