//! The server program: configuration, log, node, fronts, and an orderly end.

use std::ffi::OsString;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use cetera_node::watch::HubOptions;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::bootstrap::{self, FastForward, Running};
use crate::config::{self, Config, GIT_SHA, Url, VERSION};
use crate::ending;
use crate::flags::{self, Note, Stop};
use crate::front::http1::Serving;
use crate::front::thread::{Bound, FrontOptions, Fronts, Tenants};
use crate::http::Endpoints;
use crate::http::peer::PeerEndpoints;
use crate::log;
use crate::node_thread::{MailBox, NodeHandle};
use crate::open_files;
use crate::peer::{PeerListener, PeerOptions, Peers, PeersHandle};
use crate::proposer::Proposer;
use crate::rpc::{RpcServices, Settings, watch::WatchService};
use crate::tls::{self, Tls};
use crate::versions;

/// Request messages may be this much longer than `--max-request-bytes` (G-2).
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;
/// Time between looks at who is there, at a start.
const START_POLL: Duration = Duration::from_millis(50);
/// Time between looks at whether the node has stopped by itself, or the member was removed.
const NODE_POLL: Duration = Duration::from_millis(200);

/// Runs the server with the arguments behind the program's name until it is told to stop. The process's exit code: 0,
/// 1 for an error, 2 for a malformed command line. After a signal it does not return but dies of that signal (F-16),
/// unless it is process 1.
pub fn main(arguments: Vec<OsString>) -> i32 {
    let mut notes = Vec::new();
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    match Config::read(&arguments, environment, &mut notes) {
        Ok(config) => run(config, &notes),
        Err(stop) => told_to_stop(&stop, &notes),
    }
}

fn told_to_stop(stop: &Stop, notes: &[Note]) -> i32 {
    match stop {
        Stop::Help => {
            print(&flags::help());
            0
        }
        Stop::Version => {
            print(&config::version_text());
            0
        }
        Stop::Usage(line) => {
            eprint(&format!("{line}\n{}", flags::USAGE));
            2
        }
        Stop::Failure(error) => {
            notes.iter().for_each(config::log_note);
            log::warning!("failed to verify flags", "error" = error);
            1
        }
        Stop::Shadowed(variable) => {
            log::fatal!(
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))",
                "environment-variable" = variable
            );
            1
        }
    }
}

/// To standard output; a reader that went away is no error worth a word.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn eprint(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn run(config: Config, notes: &[Note]) -> i32 {
    if let Err(error) = log::configure(config.log_level, config.log_format, &config.log_outputs) {
        log::fatal!("failed to open log outputs", "error" = log::Shown(error));
        return 1;
    }
    config.log_notes(notes);
    match serve(config) {
        Ok(()) => 0,
        Err(error) => {
            log::fatal!("server failed", "error" = error);
            1
        }
    }
}

fn serve(config: Config) -> Result<(), String> {
    let (happens, happenings) = mpsc::channel();
    watch_signals(happens.clone())?;
    log_start(&config);
    open_files::raise()?;
    let listeners = bind(&config)?;
    let peer_listeners = bind_peers(&config)?;
    let tls = peer_tls(&config)?;
    let handle = PeersHandle::default();
    let Some(running) = bootstrap::start(&config, handle.clone())? else {
        ending::say_removed();
        return Ok(());
    };
    let settings = settings(&config, &running);
    let peers = start_peers(&config, &running, Arc::clone(&settings), handle.clone(), peer_listeners, tls)?;
    // What is asked on the metrics port is asked of a member that waits for its cluster too; clients wait in the listeners'
    // backlogs until it is ready.
    let (at_once, when_ready) = listeners.into_iter().partition(|bound| bound.serving() == Serving::Metrics);
    let fronts = start_fronts(&config, &running, settings, at_once)?;
    let proposer = running.proposer(&config);
    let wanted = bootstrap::feature_level_wanted();
    versions::monitor(proposer.clone(), wanted).map_err(|error| error.to_string())?;
    publish(proposer, &config, happens)?;
    let life = Life { config: &config, node: running.handle.clone(), peers: handle, fronts: &fronts };
    let signal = life.wait(&happenings, when_ready);
    if signal.is_some() {
        life.hand_over();
    }
    log::info!("closing etcd server", "name" = config.name, "data-dir" = log::Shown(config.data_dir.display()));
    let patience = match running.handle.has_ended() {
        false => Duration::from_millis(config.request_timeout_ms()),
        // Nobody is left to answer what is under way.
        true => Duration::ZERO,
    };
    fronts.stop(patience);
    running.handle.stop();
    let result = running.threads.join().map_err(|fatal| fatal.to_string());
    peers.stop();
    log::info!("closed etcd server", "name" = config.name, "data-dir" = log::Shown(config.data_dir.display()));
    // A container's first process has no default action for signals.
    if let Some(signal) = signal.filter(|_| std::process::id() != 1) {
        signal_hook::low_level::emulate_default_handler(signal).map_err(|error| error.to_string())?;
    }
    result
}

/// What the main thread waits for.
enum Happening {
    /// A signal to end.
    Signal(i32),
    /// The member published itself, or cannot.
    Published(Result<(), String>),
}

/// Publishes on a thread of its own: it may take days, and a signal must be heard meanwhile.
fn publish(proposer: Proposer, config: &Config, happens: mpsc::Sender<Happening>) -> Result<(), String> {
    let config = config.clone();
    let publish = move || {
        // The main thread may be gone.
        let _ = happens.send(Happening::Published(bootstrap::publish(&proposer, &config)));
    };
    std::thread::Builder::new().name("publish".into()).spawn(publish).map(drop).map_err(|error| error.to_string())
}

/// A member from its start until something ends it.
struct Life<'a> {
    config: &'a Config,
    node: NodeHandle,
    peers: PeersHandle,
    fronts: &'a Fronts,
}

impl Life<'_> {
    /// Waits for the end; opens the clients' listeners when the member is ready. The signal that ended it, if one did.
    fn wait(&self, happenings: &mpsc::Receiver<Happening>, clients: Vec<Bound>) -> Option<i32> {
        let mut clients = Some(clients);
        let mut removed: Option<Instant> = None;
        let mut fast_forward = FastForward::new(self.config);
        loop {
            let poll = if fast_forward.is_over() { NODE_POLL } else { START_POLL };
            match happenings.recv_timeout(poll) {
                Ok(Happening::Signal(signal)) => return Some(signal),
                Ok(Happening::Published(Ok(()))) => self.ready(clients.take().unwrap_or_default()),
                // The node has ended; its own end says why.
                Ok(Happening::Published(Err(_))) | Err(_) => {}
            }
            if self.node.has_ended() {
                return None;
            }
            fast_forward.look(&self.node, |member| self.peers.connected_since_ms(member).is_some());
            if self.node.published().removed || self.peers.is_removed() {
                let since = *removed.get_or_insert_with(Instant::now);
                if since.elapsed() >= ending::REMOVED_STAYS {
                    ending::say_removed();
                    return None;
                }
            }
        }
    }

    /// B-9.
    fn ready(&self, clients: Vec<Bound>) {
        self.fronts.listen(clients);
        log::info!("ready to serve client requests");
        for url in &self.config.listen_client {
            let traffic = if self.config.listen_client_http.is_empty() { "grpc+http" } else { "grpc" };
            let address = format!("{}:{}", url.host, url.port);
            log::info!(
                "serving client traffic insecurely; this is strongly discouraged!",
                "traffic" = traffic,
                "address" = address
            );
        }
    }

    fn hand_over(&self) {
        if !self.node.has_ended() {
            ending::hand_over(&self.node, |member| self.peers.connected_since_ms(member));
        }
    }
}

/// The line that tells how the server was started: every flag with its value.
fn log_start(config: &Config) {
    let shown = config::shown(&config.flags);
    let mut fields: Vec<(&str, &dyn log::Field)> = vec![("etcd-version", &VERSION), ("git-sha", &GIT_SHA)];
    let numbers: Vec<(&str, i64)> = shown.iter().filter_map(|(name, text)| Some((*name, text.parse().ok()?))).collect();
    for (name, number) in &numbers {
        fields.push((name, number));
    }
    for (name, text) in &shown {
        if text.parse::<i64>().is_err() {
            fields.push((name, text));
        }
    }
    log::write(log::Level::Info, file!(), line!(), "starting an etcd server", &fields);
}

fn bind(config: &Config) -> Result<Vec<Bound>, String> {
    let mut bound = Vec::new();
    let client = if config.listen_client_http.is_empty() { Serving::All } else { Serving::Grpc };
    let all: [(&[Url], Serving); 3] = [
        (&config.listen_client, client),
        (&config.listen_client_http, Serving::Http),
        (&config.listen_metrics, Serving::Metrics),
    ];
    for (urls, serving) in all {
        for url in urls {
            let listener = Bound::bind(url, serving)
                .map_err(|error| format!("listen tcp {}:{}: bind: {}", url.host, url.port, plainly(&error)))?;
            bound.push(listener);
        }
    }
    Ok(bound)
}

fn bind_peers(config: &Config) -> Result<Vec<PeerListener>, String> {
    let bind = |url: &Url| {
        PeerListener::bind(url)
            .map_err(|error| format!("listen tcp {}:{}: bind: {}", url.host, url.port, plainly(&error)))
    };
    config.listen_peer.iter().map(bind).collect()
}

/// Certificates of the peer port, also for what is asked of other members before the transport is there.
fn peer_tls(config: &Config) -> Result<Option<Tls>, String> {
    let tls = Tls::load(&config.peer_tls)?;
    if let Some(tls) = &tls {
        tls::set_peer_client(tls);
    }
    Ok(tls)
}

fn start_peers(
    config: &Config,
    running: &Running,
    settings: Arc<Settings>,
    handle: PeersHandle,
    listeners: Vec<PeerListener>,
    tls: Option<Tls>,
) -> Result<Peers, String> {
    let options = PeerOptions {
        member_id: running.member_id,
        cluster_id: running.cluster_id,
        advertise_peer: config.advertise_peer.clone(),
        remotes: running.remotes.clone(),
        snapshots: Arc::clone(&running.snapshots),
        read_timeout: config.raft_read_timeout,
        write_timeout: config.raft_write_timeout,
        tls,
    };
    let http = Arc::new(PeerEndpoints::new(running.handle.clone(), settings));
    Peers::start(handle, options, listeners, running.handle.clone(), http).map_err(|error| error.to_string())
}

/// An error as Go words the common one.
fn plainly(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "address already in use".to_string(),
        _ => error.to_string(),
    }
}

/// What all services share, those for other members included.
fn settings(config: &Config, running: &Running) -> Arc<Settings> {
    Arc::new(Settings {
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        quota_bytes: config.quota_bytes,
        election_ms: config.election_ms,
        strict_reconfig_check: config.strict_reconfig_check,
        ids: Arc::clone(&running.ids),
    })
}

fn start_fronts(
    config: &Config,
    running: &Running,
    settings: Arc<Settings>,
    listeners: Vec<Bound>,
) -> Result<Fronts, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = FrontOptions {
        threads: cores.saturating_sub(1).max(1),
        max_message_bytes: config.max_request_bytes + MESSAGE_OVERHEAD_BYTES,
        max_concurrent_streams: config.max_concurrent_streams,
        keepalive_min_time: config.keepalive_min_time,
        keepalive_interval: config.keepalive_interval,
        keepalive_timeout: config.keepalive_timeout,
    };
    let inboxes = Fronts::inboxes(options.threads);
    for (number, inbox) in inboxes.iter().enumerate() {
        running.handle.register(number as u16, Arc::clone(inbox) as Arc<dyn MailBox>);
    }
    let hub = HubOptions {
        fragment_bytes: config.max_request_bytes + MESSAGE_OVERHEAD_BYTES,
        notify_ms: match config.progress_notify_interval.as_millis() {
            0 => HubOptions::default().notify_ms,
            ms => u64::from(u32::try_from(ms).unwrap_or(u32::MAX)),
        },
        seed: running.member_id,
        ..HubOptions::default()
    };
    let handle = running.handle.clone();
    let quota_bytes = config.quota_bytes;
    let request_timeout_ms = settings.request_timeout_ms();
    let command_line = Arc::new(std::env::args().collect::<Vec<_>>());
    let tenants = move |front: u16| {
        let source = handle.clone();
        let hub = HubOptions { seed: hub.seed.wrapping_add(u64::from(front)), ..hub.clone() };
        let watch = WatchService::new(hub, &handle.published());
        Tenants {
            services: Box::new(RpcServices::new(front, handle.clone(), Arc::clone(&settings), watch)),
            http: Rc::new(Endpoints {
                published: Arc::new(move || source.published()),
                quota_bytes,
                request_timeout_ms,
                command_line: Arc::clone(&command_line),
            }),
        }
    };
    Fronts::start(inboxes, &options, listeners, tenants).map_err(|error| error.to_string())
}

fn watch_signals(happens: mpsc::Sender<Happening>) -> Result<(), String> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).map_err(|error| error.to_string())?;
    let watch = move || {
        for signal in signals.forever() {
            let name = if signal == SIGTERM { "terminated" } else { "interrupt" };
            log::info!("received signal; shutting down", "signal" = name);
            if happens.send(Happening::Signal(signal)).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).map(drop).map_err(|error| error.to_string())
}
