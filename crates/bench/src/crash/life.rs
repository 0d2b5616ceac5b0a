//! One life of a server: started, checked, loaded, killed.

use std::rc::Rc;
use std::time::{Duration, Instant};

use cetera_client::{Client, Config, Get};
use tokio::task::LocalSet;
use tokio::time::sleep;

use super::ledger::Ledger;
use super::load::{self, Shared};
use super::verify;
use crate::files::{FileWatch, FilesSeen};
use crate::process::{Launch, Server};
use crate::rng::Rng;

/// A server that does not serve within this will not.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two tries to reach a starting server.
const START_PAUSE: Duration = Duration::from_millis(3);
/// Longest wait for one answer; far beyond what a loaded machine takes.
const CALL_PATIENCE: Duration = Duration::from_secs(30);
/// Connections that the load shares.
const CONNECTIONS: usize = 3;

/// What one life is to be.
#[derive(Copy, Clone, Debug)]
pub struct Plan {
    /// How long the load lasts.
    pub load: Duration,
    /// Writes are to stop before the kill.
    pub quiescent: bool,
    /// No load: the check alone.
    pub check_only: bool,
}

/// What is carried from life to life.
#[derive(Debug)]
pub struct Memory {
    /// What is known.
    pub ledger: Ledger,
    /// The last id given out.
    pub next_id: u64,
    /// When the last life ended.
    pub killed: Option<Instant>,
    /// How long the last start took.
    pub start: Duration,
    /// What was seen of the server's files while it served.
    pub files: FilesSeen,
}

/// Lives it.
///
/// # Errors
/// The violation, in words.
pub fn live(launch: &Launch, memory: Memory, plan: Plan, rng: &mut Rng) -> Result<Memory, String> {
    let server = launch.start().map_err(|error| format!("the server cannot be started: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let lived = LocalSet::new().block_on(&runtime, life(launch, server, memory, plan, rng));
    // Whatever the clients still had to send must not reach the next life.
    runtime.shutdown_timeout(Duration::from_secs(5));
    lived
}

async fn life(
    launch: &Launch,
    mut server: Server,
    memory: Memory,
    plan: Plan,
    rng: &mut Rng,
) -> Result<Memory, String> {
    let Memory { mut ledger, next_id, killed, mut files, .. } = memory;
    let clients = (0..CONNECTIONS).map(|_| connect(launch)).collect::<Result<Vec<_>, _>>()?;
    await_start(&clients[0], &mut server).await?;
    let start = server.started.elapsed();
    // Not from the start on: a start removes files too.
    let watch = FileWatch::start(&launch.data_dir);
    verify::check(&clients[0], &mut ledger, rng, killed, server.started).await?;
    let shared = Rc::new(Shared::new(ledger, next_id));
    if !plan.check_only {
        let mut load = load::start(&shared, &clients, rng);
        sleep(plan.load).await;
        if plan.quiescent {
            shared.stop();
            while load.workers.join_next().await.is_some() {}
            remember_hash(&clients[0], &shared).await?;
        }
        if let Some(violation) = shared.violation() {
            return Err(violation);
        }
        kill(server)?;
        let killed = Instant::now();
        load.workers.shutdown().await;
        load.watchers.shutdown().await;
        files.add(watch.stop());
        if let Some(violation) = shared.violation() {
            return Err(violation);
        }
        return Ok(remember(shared, killed, start, files));
    }
    kill(server)?;
    files.add(watch.stop());
    Ok(remember(shared, Instant::now(), start, files))
}

fn remember(shared: Rc<Shared>, killed: Instant, start: Duration, files: FilesSeen) -> Memory {
    let shared = Rc::into_inner(shared).expect("all tasks have ended");
    let (ledger, next_id) = shared.into_parts();
    Memory { ledger, next_id, killed: Some(killed), start, files }
}

/// SIGKILL.
///
/// # Errors
/// It ended before that.
pub fn kill(server: Server) -> Result<(), String> {
    server.kill().map_err(|status| format!("the server ended by itself: {status}"))
}

fn connect(launch: &Launch) -> Result<Client, String> {
    let mut config = Config::new([launch.address()]);
    config.timeout = Some(CALL_PATIENCE);
    Client::new(config).map_err(|error| error.to_string())
}

/// Returns when a linearizable read is answered.
async fn await_start(client: &Client, server: &mut Server) -> Result<(), String> {
    let client = client.with_timeout(Some(Duration::from_millis(500)));
    loop {
        let Err(error) = client.get(Get::new("k")).await else { return Ok(()) };
        if let Some(status) = server.ended() {
            return Err(format!("the server refused to start: {status}"));
        }
        if server.started.elapsed() > START_PATIENCE {
            return Err(format!("the server does not serve {START_PATIENCE:?} after its start: {error}"));
        }
        sleep(START_PAUSE).await;
    }
}

/// No write is in flight: the hash now must be the hash after the kill.
async fn remember_hash(client: &Client, shared: &Shared) -> Result<(), String> {
    if shared.violation().is_some() {
        return Ok(());
    }
    let revision = shared.ledger.borrow().known;
    let hash = verify::hash_at(client, revision).await?;
    shared.ledger.borrow_mut().hash = Some(hash);
    Ok(())
}
