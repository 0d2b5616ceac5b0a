//! A server as a process: started, looked at, killed.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::rng::Rng;

/// Who a member is in its cluster, and where on the network.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Where clients connect, `host:port`.
    pub client: String,
    /// Where it listens for peers, `host:port`.
    pub peer: String,
    /// Where peers are told to connect, `host:port`; not the same if something stands between.
    pub advertised: String,
    /// All members, as `--initial-cluster` takes them.
    pub cluster: String,
    /// The network namespace to run in; none: that of this process.
    pub network: Option<Arc<File>>,
}

impl Place {
    /// A single member on ports of the loopback address that are free now.
    ///
    /// # Errors
    /// No port is free.
    pub fn alone() -> io::Result<Place> {
        let mut rng = Rng::new(u64::from(std::process::id()) ^ since_boot());
        let client = format!("127.0.0.1:{}", free_port(&mut rng)?);
        let peer = format!("127.0.0.1:{}", free_port(&mut rng)?);
        let cluster = format!("m=http://{peer}");
        let advertised = peer.clone();
        Ok(Place { name: "m".to_owned(), client, peer, advertised, cluster, network: None })
    }

    /// A cluster of so many members, m1 and so on, and then as many more that know of all before them: each could be
    /// added to it.
    ///
    /// # Errors
    /// No port is free.
    pub fn group(members: usize, more: usize) -> io::Result<Vec<Place>> {
        let mut rng = Rng::new(u64::from(std::process::id()) ^ since_boot());
        let mut ports = Vec::new();
        while ports.len() < 2 * (members + more) {
            let port = free_port(&mut rng)?;
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
        let name = |n: usize| format!("m{}", n + 1);
        let known: Vec<String> =
            ports.chunks(2).enumerate().map(|(n, pair)| format!("{}=http://127.0.0.1:{}", name(n), pair[1])).collect();
        let place = |(n, pair): (usize, &[u16])| Place {
            name: name(n),
            client: format!("127.0.0.1:{}", pair[0]),
            peer: format!("127.0.0.1:{}", pair[1]),
            advertised: format!("127.0.0.1:{}", pair[1]),
            cluster: known[..members.max(n + 1)].join(","),
            network: None,
        };
        Ok(ports.chunks(2).enumerate().map(place).collect())
    }
}

/// How to start a server on one data directory, again and again.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Where what it prints is appended.
    pub log: PathBuf,
    /// Flags besides those of a single member.
    pub flags: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// Who and where it is.
    pub place: Place,
    /// From which level on it logs.
    pub log_level: &'static str,
}

impl Launch {
    /// A single member with its data in `dir`/data, on ports that are free now.
    ///
    /// # Errors
    /// `dir` cannot be made, or no port is free.
    pub fn new(program: &Path, dir: &Path) -> io::Result<Launch> {
        Launch::at(program, dir, Place::alone()?)
    }

    /// A member with its data in `dir`/data.
    ///
    /// # Errors
    /// `dir` cannot be made.
    pub fn at(program: &Path, dir: &Path, place: Place) -> io::Result<Launch> {
        std::fs::create_dir_all(dir)?;
        Ok(Launch {
            program: program.to_owned(),
            data_dir: dir.join("data"),
            log: dir.join("server.log"),
            flags: Vec::new(),
            env: Vec::new(),
            place,
            log_level: "warn",
        })
    }

    /// Where clients connect, `host:port`.
    pub fn address(&self) -> String {
        self.place.client.clone()
    }

    /// Starts it. It may not serve yet.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&self) -> io::Result<Server> {
        let client = format!("http://{}", self.place.client);
        let peer = format!("http://{}", self.place.peer);
        let advertised = format!("http://{}", self.place.advertised);
        let log: File = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .args(["--name", &self.place.name, "--log-level", self.log_level, "--data-dir"])
            .arg(&self.data_dir)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &advertised])
            .args(["--initial-cluster", &self.place.cluster])
            .args(&self.flags)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let network = self.place.network.clone();
        // SAFETY: prctl and setns with these arguments change the new process only and are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                // A server must not outlive a run that panicked or was killed.
                done(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
                match &network {
                    Some(network) => done(libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET)),
                    None => Ok(()),
                }
            });
        }
        let started = Instant::now();
        Ok(Server { child: command.spawn()?, started })
    }

    /// The last lines it printed.
    pub fn last_lines(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

fn done(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// When it was started.
    pub started: Instant,
}

impl Server {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL; returns once it is gone.
    ///
    /// # Errors
    /// It had ended by itself, with this status.
    pub fn kill(mut self) -> Result<(), ExitStatus> {
        match self.ended() {
            Some(status) => Err(status),
            None => {
                self.stop();
                Ok(())
            }
        }
    }

    /// SIGSTOP: it stands still until [`Server::resume`], or dies standing.
    pub fn pause(&mut self) {
        self.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.signal(libc::SIGCONT);
    }

    /// SIGTERM: it is asked to end, and does when it likes.
    pub fn terminate(&mut self) {
        self.signal(libc::SIGTERM);
    }

    fn signal(&mut self, signal: libc::c_int) {
        if self.ended().is_some() {
            return;
        }
        // SAFETY: kill only sends a signal; the process is ours and was not waited for, so the id is still its own.
        // It fails only if the process has ended, which its next look tells.
        let _ = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    fn stop(&mut self) {
        // Fails only if it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Processor time used so far, user and system.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        // SAFETY: sysconf only looks up a number.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as u64;
        Duration::from_millis(ticks * 1000 / per_second)
    }

    /// Anonymous resident memory in bytes (`RssAnon`).
    pub fn anonymous_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A free port below those the system deals out: while a server is down, no outgoing connection can take its port (one
/// to the port itself would connect to itself).
fn free_port(rng: &mut Rng) -> io::Result<u16> {
    const FIRST: u64 = 20_000;
    const PAST: u64 = 32_000;
    const TRIES: usize = 200;
    let tries = std::iter::repeat_with(|| rng.within(FIRST, PAST) as u16).take(TRIES);
    let free = tries.into_iter().find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.ok_or_else(|| io::Error::new(io::ErrorKind::AddrInUse, "no free port"))
}

fn since_boot() -> u64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_whitespace().next().and_then(|s| s.replace('.', "").parse().ok()).unwrap_or(0)
}
