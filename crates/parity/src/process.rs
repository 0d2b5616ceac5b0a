//! Starts a server binary, real etcd or ours, on free ports and a temporary data directory.

use crate::grpc::GrpcTransport;
use crate::transport::{BoxFuture, Launcher, Target, Transport};
use bytes::Bytes;
use prost::Message;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// How long a server may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// Pause between two attempts to reach a starting server.
const START_POLL: Duration = Duration::from_millis(20);
/// Another process may take a port between our choosing it and the server's binding it.
const PORT_ATTEMPTS: usize = 3;

/// Sizes that our server takes from its environment so that a start writes little and files roll in a short run; etcd
/// knows nothing of them.
const SMALL_FILES: [(&str, &str); 2] =
    [("CETERA_TEST_WAL_SEGMENT_BYTES", "1048576"), ("CETERA_TEST_LOG_SEGMENT_BYTES", "1048576")];

/// Starts one server process per script.
pub struct ProcessLauncher {
    binary: PathBuf,
}

impl ProcessLauncher {
    /// `binary` must understand etcd's flags.
    pub fn new(binary: &Path) -> ProcessLauncher {
        ProcessLauncher { binary: binary.to_owned() }
    }
}

impl Launcher for ProcessLauncher {
    fn launch(&self, flags: Vec<String>) -> BoxFuture<'_, Result<Box<dyn Target>, String>> {
        Box::pin(async move {
            let mut last = String::new();
            for _ in 0..PORT_ATTEMPTS {
                match Server::start(&self.binary, flags.clone()).await {
                    Ok(server) => return Ok(Box::new(server) as Box<dyn Target>),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

struct Server {
    binary: PathBuf,
    flags: Vec<String>,
    /// Holds the data directory and the log; removed on drop, after `child` is killed.
    dir: TempDir,
    client_address: String,
    peer_address: String,
    running: Option<(Child, Arc<GrpcTransport>)>,
}

impl Server {
    async fn start(binary: &Path, flags: Vec<String>) -> Result<Server, String> {
        let dir = tempfile::tempdir().map_err(|e| format!("temporary directory: {e}"))?;
        let (client_address, peer_address) = free_addresses()?;
        let mut server = Server { binary: binary.to_owned(), flags, dir, client_address, peer_address, running: None };
        server.spawn().await?;
        Ok(server)
    }

    async fn spawn(&mut self) -> Result<(), String> {
        let log_path = self.dir.path().join("log");
        let log = std::fs::File::create(&log_path).map_err(|e| format!("server log: {e}"))?;
        let errors = log.try_clone().map_err(|e| format!("server log: {e}"))?;
        let client_url = format!("http://{}", self.client_address);
        let peer_url = format!("http://{}", self.peer_address);
        let mut child = Command::new(&self.binary)
            .args(["--name", "parity", "--data-dir"])
            .arg(self.dir.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("parity={peer_url}"), "--log-level", "error"])
            .args(&self.flags)
            .envs(SMALL_FILES)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| format!("{}: {e}", self.binary.display()))?;
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                return Err(format!("the server ended with {status}\n{log}"));
            }
            let reason = match self.probe().await {
                Ok(transport) => {
                    self.running = Some((child, Arc::new(transport)));
                    return Ok(());
                }
                Err(reason) => reason,
            };
            if Instant::now() >= deadline {
                return Err(format!("the server does not answer: {reason}"));
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    /// Ready is: a linearizable read succeeds, so there is a leader and a cluster version.
    async fn probe(&self) -> Result<GrpcTransport, String> {
        let transport = GrpcTransport::connect(&self.client_address).await?;
        let request =
            cetera_proto::etcdserverpb::RangeRequest { key: Bytes::from_static(b"ready?"), ..Default::default() };
        let call = transport.unary("/etcdserverpb.KV/Range", Vec::new(), request.encode_to_vec().into());
        let answer = tokio::time::timeout(START_DEADLINE, call).await.map_err(|e| e.to_string())?;
        answer.map_err(|status| format!("{}: {}", status.code, status.message))?;
        Ok(transport)
    }
}

impl Target for Server {
    fn transport(&self) -> Arc<dyn Transport> {
        let (_, transport) = self.running.as_ref().expect("a started server runs until restart fails");
        transport.clone()
    }

    fn restart(&mut self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            if let Some((mut child, _)) = self.running.take() {
                child.kill().await.map_err(|e| format!("kill: {e}"))?;
            }
            self.spawn().await
        })
    }
}

/// Two loopback addresses nobody listens on now. Both are held until both are chosen.
fn free_addresses() -> Result<(String, String), String> {
    let bind = || std::net::TcpListener::bind("127.0.0.1:0").map_err(|e| format!("bind: {e}"));
    let (first, second) = (bind()?, bind()?);
    let name = |listener: &std::net::TcpListener| {
        listener.local_addr().map(|a| a.to_string()).map_err(|e| format!("bind: {e}"))
    };
    Ok((name(&first)?, name(&second)?))
}
