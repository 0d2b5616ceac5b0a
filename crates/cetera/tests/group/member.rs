//! A member as a process of its own, told apart from the others by its name and its free ports.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const CETERA: &str = env!("CARGO_BIN_EXE_cetera");
/// Nothing here takes as long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a member is started with, and keeps over its lives.
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) client: String,
    pub(crate) peer: String,
    pub(crate) data: PathBuf,
}

impl Place {
    pub(crate) fn new(name: &'static str, dir: &Path) -> Place {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (first, second) = (bind(), bind());
        let [client, peer] =
            [&first, &second].map(|listener| format!("http://{}", listener.local_addr().expect("bound")));
        Place { name, client, peer, data: dir.join(name) }
    }

    /// Starts a life, with more arguments.
    pub(crate) fn start(&self, arguments: &[&str]) -> Member {
        self.start_with(arguments, &[])
    }

    /// The same with variables.
    pub(crate) fn start_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Member {
        let mut child = Command::new(CETERA)
            .args(["--name", self.name, "--log-level", "debug", "--data-dir"])
            .arg(&self.data)
            .args(["--listen-client-urls", &self.client, "--advertise-client-urls", &self.client])
            .args(["--listen-peer-urls", &self.peer, "--initial-advertise-peer-urls", &self.peer])
            .args(arguments)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let log: Arc<Log> = Arc::default();
        let into = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|count| count > 0) {
                into.put(&std::mem::take(&mut line), false);
            }
            let mut rest = String::new();
            let _ = stderr.read_to_string(&mut rest);
            into.put(&rest, true);
        });
        Member { child, log }
    }
}

#[derive(Default)]
struct Log {
    text: Mutex<(String, bool)>,
    grown: Condvar,
}

impl Log {
    fn put(&self, line: &str, ended: bool) {
        let mut text = self.text.lock().expect("no panic");
        text.0.push_str(line);
        text.1 = ended;
        self.grown.notify_all();
    }

    /// Waits until `found` gives something of the text.
    fn wait<T>(&self, what: &str, found: impl Fn(&str, bool) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let mut text = self.text.lock().expect("no panic");
        loop {
            if let Some(found) = found(&text.0, text.1) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !text.1, "waiting for {what}:\n{}", text.0);
            text = self.grown.wait_timeout(text, left).expect("no panic").0;
        }
    }
}

/// A running member. Outlives no test.
pub(crate) struct Member {
    child: Child,
    log: Arc<Log>,
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Member {
    /// Waits for a line of the log that contains `part`, and gives it.
    pub(crate) fn says(&self, part: &str) -> String {
        self.log.wait(part, |text, _| text.lines().find(|line| line.contains(part)).map(str::to_owned))
    }

    pub(crate) fn is_ready(&self) {
        self.says("ready to serve client requests");
    }

    /// Whether a line that contains `part` was said until now.
    pub(crate) fn said(&self, part: &str) -> bool {
        self.log.text.lock().expect("no panic").0.contains(part)
    }

    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status().expect("there is a kill");
        assert!(status.success());
    }

    /// Waits for the end; what was logged until then.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let text = self.log.wait("the end", |text, ended| ended.then(|| text.to_owned()));
        (self.child.wait().expect("a child"), text)
    }
}

/// `ctl` against an endpoint; what it printed, or what it complained of.
pub(crate) fn ctl(endpoint: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(CETERA)
        .args(["ctl", "--endpoints", endpoint, "--command-timeout", "10s"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// The same until it succeeds and `wanted` likes what it printed.
pub(crate) fn until(endpoint: &str, arguments: &[&str], wanted: impl Fn(&str) -> bool) -> String {
    let started = Instant::now();
    loop {
        let printed = ctl(endpoint, arguments);
        if let Some(printed) = printed.as_ref().ok().filter(|printed| wanted(printed)) {
            return printed.clone();
        }
        assert!(started.elapsed() < PATIENCE, "{arguments:?} at {endpoint} still prints {printed:?}");
    }
}
