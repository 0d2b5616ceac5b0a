//! How the program ends when it cannot start or cannot go on: one line that says why, exit code 1.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const CETERA: &str = env!("CARGO_BIN_EXE_cetera");
/// Nothing here takes as long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);
const SEGMENT_BYTES: &str = "1048576";

/// Outlives no test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Server {
    child: Process,
    client: String,
    log: BufReader<ChildStderr>,
}

impl Server {
    fn spawn(data: &Path, level: &str) -> Server {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (first, second) = (bind(), bind());
        let [client, peer] =
            [&first, &second].map(|listener| format!("http://{}", listener.local_addr().expect("bound")));
        drop((first, second));
        let mut child = Command::new(CETERA)
            .args(["--name", "one", "--log-level", level, "--data-dir"])
            .arg(data)
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .env_clear()
            .env("CETERA_TEST_WAL_SEGMENT_BYTES", SEGMENT_BYTES)
            .env("CETERA_TEST_LOG_SEGMENT_BYTES", SEGMENT_BYTES)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        Server { child: Process(child), client, log }
    }

    fn serving(data: &Path) -> Server {
        let mut server = Server::spawn(data, "info");
        let mut before = String::new();
        while !before.contains("ready to serve client requests") {
            assert!(server.log.read_line(&mut before).expect("text") > 0, "it ended:\n{before}");
        }
        server
    }

    /// `ctl` against this server; whether it succeeded.
    fn ctl(&self, arguments: &[&str]) -> bool {
        let status = Command::new(CETERA)
            .args(["ctl", "--endpoints", &self.client, "--command-timeout", "5s"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.expect("the binary runs").success()
    }

    /// Waits for the end; what was logged until then.
    fn ended(self) -> (ExitStatus, String) {
        let Server { mut child, mut log, .. } = self;
        let (done, told) = mpsc::channel();
        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            log.read_to_string(&mut text).expect("text");
            // The test may have given up.
            let _ = done.send(());
            text
        });
        let ended = told.recv_timeout(PATIENCE).is_ok();
        if !ended {
            child.0.kill().expect("it runs");
        }
        let (status, text) = (child.0.wait().expect("a child"), reading.join().expect("no panic"));
        assert!(ended, "the server did not end by itself:\n{text}");
        (status, text)
    }

    fn kill(self) {
        drop(self);
    }
}

/// A start on `data` must be refused with one line that contains all of `parts`.
fn refused(data: &Path, parts: &[&str]) {
    let (status, text) = Server::spawn(data, "error").ended();
    assert_eq!((status.code(), text.lines().count()), (Some(1), 1), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn two_processes_never_share_a_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let first = Server::serving(&data);
    refused(&data, &["another process is using this data directory", &data.display().to_string()]);
    assert!(first.ctl(&["put", "a", "1"]));
    first.kill();
    // A killed process holds nothing.
    Server::serving(&data).kill();
}

#[test]
fn directories_of_others_are_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let etcds = dir.path().join("etcd");
    std::fs::create_dir_all(etcds.join("member/snap")).expect("made");
    std::fs::create_dir_all(etcds.join("member/wal")).expect("made");
    std::fs::write(etcds.join("member/snap/db"), b"theirs").expect("written");
    refused(&etcds, &["not a Cetera data directory", "nothing was changed"]);
    let mut names: Vec<_> = std::fs::read_dir(etcds.join("member"))
        .expect("there")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["snap", "wal"]);

    let newer = dir.path().join("newer");
    Server::serving(&newer).kill();
    std::fs::write(newer.join("member/format"), b"cetera 99\n").expect("written");
    refused(&newer, &["format 99", "use the version that wrote it"]);
}

#[test]
fn damage_is_told_with_file_and_offset() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let server = Server::serving(&data);
    for n in 0..20 {
        assert!(server.ctl(&["put", &format!("key{n}"), "value"]));
    }
    server.kill();
    let wal = data.join("member/wal");
    let mut names: Vec<_> = std::fs::read_dir(&wal)
        .expect("there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    names.sort();
    let mut bytes = std::fs::read(&names[0]).expect("a segment");
    let at = bytes.windows(4).position(|window| window == b"key3").expect("it was written");
    bytes[at] ^= 1;
    std::fs::write(&names[0], &bytes).expect("written");
    refused(&data, &["is damaged at offset", &names[0].display().to_string()]);
}

/// The revision log cannot make its next file: the member has to end, and must neither hang nor lose a write.
#[test]
fn a_member_that_cannot_go_on_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let server = Server::serving(&data);
    let value = "v".repeat(100 << 10);
    assert!(server.ctl(&["put", "key0", &value]));
    let (log, away) = (data.join("member/log"), data.join("member/away"));
    std::fs::rename(&log, &away).expect("moved");
    let mut acknowledged = 1;
    while server.ctl(&["put", &format!("key{acknowledged}"), &value]) {
        acknowledged += 1;
        assert!(acknowledged < 20, "it writes where nothing is");
    }
    let (status, text) = server.ended();
    assert_eq!(status.code(), Some(1), "{text}");
    let complaints: Vec<&str> =
        text.lines().filter(|line| !line.contains("\"level\":\"info\"") && !line.is_empty()).collect();
    assert!(complaints.len() == 1 && complaints[0].contains("revision log: create segment-"), "{complaints:#?}");
    std::fs::rename(&away, &log).expect("moved back");
    let again = Server::serving(&data);
    let listed = Command::new(CETERA)
        .args(["ctl", "--endpoints", &again.client, "get", "--prefix", "key", "--keys-only"])
        .output()
        .expect("the binary runs");
    let keys = String::from_utf8_lossy(&listed.stdout).lines().filter(|line| line.starts_with("key")).count();
    assert!(keys >= acknowledged, "{keys} of {acknowledged}");
    again.kill();
}
