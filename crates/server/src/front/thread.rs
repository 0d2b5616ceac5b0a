//! The front threads: one current-thread runtime each, with a pump between its connections and its services.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Interval, MissedTickBehavior};

use super::http1::{HEADER_READ_TIMEOUT, HttpService, Serving};
use super::http2::Http2Options;
use super::rewind::{Protocol, peek};
use super::{Front, http1, http2};
use crate::clock;
use crate::config::Url;
use crate::log;
use crate::metrics::FrontCounters;
use crate::node_thread::MailBox;
use crate::seam::{Inbound, Mail, Outbound, Services};

/// Time between ticks of the services and checks of deadlines.
const TICK: Duration = Duration::from_millis(100);
/// Idle time before a connection is probed, and between probes (etcd's `NewKeepAliveListener`).
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Pause after a failed accept (out of file descriptors, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What comes to a front thread from other threads.
#[derive(Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    /// Set when something is waiting, so that the pump need not lock to find nothing.
    filled: AtomicBool,
    /// Whether there are watch streams on the thread.
    wants_changes: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    mail: Vec<Mail>,
    connections: Vec<(std::net::TcpStream, Serving)>,
    listeners: Vec<Bound>,
    stop: Option<Stop>,
    pump: Option<Waker>,
}

#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Stop {
    /// Finish unary calls, end streams, then stop.
    Graceful,
    /// Stop now.
    Hard,
}

impl MailBox for Inbox {
    fn post(&self, mail: &mut Vec<Mail>) {
        self.put(|waiting| {
            if waiting.mail.is_empty() {
                std::mem::swap(&mut waiting.mail, mail);
            } else {
                waiting.mail.append(mail);
            }
        });
    }

    fn want_changes(&self, wanted: bool) {
        self.wants_changes.store(wanted, Ordering::Release);
    }

    fn wants_changes(&self) -> bool {
        self.wants_changes.load(Ordering::Acquire)
    }
}

impl Inbox {
    fn put(&self, f: impl FnOnce(&mut Waiting)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut waiting);
        if !self.filled.swap(true, Ordering::AcqRel)
            && let Some(pump) = &waiting.pump
        {
            pump.wake_by_ref();
        }
    }
}

/// What front threads are started with.
#[derive(Clone, Debug)]
pub struct FrontOptions {
    /// Number of threads, at least one.
    pub threads: usize,
    /// Largest request message in bytes.
    pub max_message_bytes: usize,
    /// `--max-concurrent-streams`.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-min-time`.
    pub keepalive_min_time: Duration,
    /// `--grpc-keepalive-interval`.
    pub keepalive_interval: Option<Duration>,
    /// `--grpc-keepalive-timeout`.
    pub keepalive_timeout: Duration,
}

/// What runs on one front thread; made on that thread.
pub(crate) struct Tenants {
    pub(crate) services: Box<dyn Services>,
    pub(crate) http: Rc<dyn HttpService>,
}

/// The running front threads.
pub struct Fronts {
    inboxes: Vec<Arc<Inbox>>,
    threads: Vec<JoinHandle<()>>,
}

/// A listener that is bound and not yet served.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    serving: Serving,
}

impl Bound {
    /// Binds a URL. `localhost` is its IPv4 address if it has one, as in Go.
    ///
    /// # Errors
    /// The name does not resolve or the address cannot be bound.
    pub fn bind(url: &Url, serving: Serving) -> io::Result<Bound> {
        let listener = listen(url)?;
        Ok(Bound { address: listener.local_addr()?, listener, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it serves.
    pub fn serving(&self) -> Serving {
        self.serving
    }
}

/// A listener on a URL that is ready for a runtime.
pub(crate) fn listen(url: &Url) -> io::Result<TcpListener> {
    let mut addresses: Vec<SocketAddr> = (url.host.as_str(), url.port).to_socket_addrs()?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let listener = TcpListener::bind(addresses.as_slice())?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Fronts {
    /// One inbox per thread, to be told to whoever has mail for them before the threads start.
    pub fn inboxes(threads: usize) -> Vec<Arc<Inbox>> {
        (0..threads.max(1)).map(|_| Arc::default()).collect()
    }

    /// Starts a thread for each inbox. `tenants` makes what runs on it, given the thread's number.
    pub(crate) fn start(
        inboxes: Vec<Arc<Inbox>>,
        options: &FrontOptions,
        listeners: Vec<Bound>,
        tenants: impl Fn(u16) -> Tenants + Clone + Send + 'static,
    ) -> io::Result<Fronts> {
        let mut threads = Vec::new();
        for number in 0..inboxes.len() {
            let own = FrontThread { number, inboxes: inboxes.clone(), options: options.clone() };
            let tenants = tenants.clone();
            let name = format!("front-{number}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || own.run(tenants))?);
        }
        let fronts = Fronts { inboxes, threads };
        fronts.listen(listeners);
        Ok(fronts)
    }

    /// Serves more listeners. The first thread accepts for all.
    pub fn listen(&self, listeners: Vec<Bound>) {
        if let Some(first) = self.inboxes.first() {
            first.put(|waiting| waiting.listeners.extend(listeners));
        }
    }

    /// Ends streams, lets unary calls finish for at most `patience`, then stops (G-16).
    pub fn stop(self, patience: Duration) {
        let put = |stop: Stop| self.inboxes.iter().for_each(|inbox| inbox.put(|waiting| waiting.stop = Some(stop)));
        put(Stop::Graceful);
        let (done, all_done) = std::sync::mpsc::channel();
        let threads = self.threads;
        std::thread::spawn(move || {
            for thread in threads {
                let _ = thread.join();
            }
            let _ = done.send(());
        });
        if all_done.recv_timeout(patience).is_err() {
            put(Stop::Hard);
            let _ = all_done.recv();
        }
    }
}

struct FrontThread {
    number: usize,
    inboxes: Vec<Arc<Inbox>>,
    options: FrontOptions,
}

impl FrontThread {
    fn run(self, tenants: impl Fn(u16) -> Tenants) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime needs an epoll descriptor, and the process just started");
        let number = u16::try_from(self.number).expect("there are fewer than 2^16 cores");
        let Tenants { services, http } = tenants(number);
        let options = self.options;
        let connections = Connections {
            front: Front::new(options.max_message_bytes, FrontCounters::register()),
            http,
            http2: Http2Options {
                max_concurrent_streams: options.max_concurrent_streams,
                keepalive_min_time: options.keepalive_min_time,
                keepalive_interval: options.keepalive_interval,
                keepalive_timeout: options.keepalive_timeout,
            },
        };
        let inbox = Arc::clone(&self.inboxes[self.number]);
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            let mut pump = Pump {
                connections,
                services,
                inbox,
                inboxes: self.inboxes,
                next: Rc::default(),
                acceptors: Vec::new(),
                interval: tokio::time::interval(TICK),
                batch: Vec::new(),
                mail: Vec::new(),
                out: Vec::new(),
                started: false,
                stop: None,
            };
            pump.interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // A task of its own: it must be polled in turn with the connections, not before each of them.
            let _ = spawn_local(std::future::poll_fn(move |cx| pump.turn(cx))).await;
        });
    }
}

/// What every connection of a thread is served with.
#[derive(Clone)]
struct Connections {
    front: Rc<Front>,
    http: Rc<dyn HttpService>,
    http2: Http2Options,
}

impl Connections {
    fn serve(&self, stream: std::net::TcpStream, serving: Serving) {
        // Without them it is served too; a client that left already is noticed where it is read.
        let _ = prepare(&stream);
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let own = self.clone();
        spawn_local(async move {
            let Ok(Ok((protocol, io))) = tokio::time::timeout(HEADER_READ_TIMEOUT, peek(stream)).await else { return };
            match (protocol, serving) {
                (Protocol::Http2, Serving::All | Serving::Grpc) => http2::serve(io, own.front, own.http2).await,
                (Protocol::Http1, Serving::All | Serving::Http | Serving::Metrics) => {
                    http1::serve(io, own.front, serving, own.http).await;
                }
                // Not spoken here: the connection is closed.
                _ => {}
            }
        });
    }
}

/// Small answers leave at once; a client that vanished without a word is noticed.
fn prepare(stream: &std::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, TCP_KEEPALIVE)?;
    Ok(sockopt::set_tcp_keepintvl(stream, TCP_KEEPALIVE)?)
}

/// Accepts for all threads and deals connections out in turn.
async fn accept(bound: Bound, inboxes: Vec<Arc<Inbox>>, next: Rc<std::cell::Cell<usize>>) {
    let listener = match tokio::net::TcpListener::from_std(bound.listener) {
        Ok(listener) => listener,
        Err(error) => return log::error!("cannot serve a listener", "error" = log::Shown(error)),
    };
    loop {
        match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                let number = next.get();
                next.set((number + 1) % inboxes.len());
                inboxes[number].put(|waiting| waiting.connections.push((stream, bound.serving)));
            }
            Err(error) => {
                log::warning!("failed to accept a connection", "error" = log::Shown(error));
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Carries batches between the connections' queue, the services and the node's mail.
struct Pump {
    connections: Connections,
    services: Box<dyn Services>,
    inbox: Arc<Inbox>,
    /// Of all threads, and the one that gets the next connection.
    inboxes: Vec<Arc<Inbox>>,
    next: Rc<std::cell::Cell<usize>>,
    acceptors: Vec<tokio::task::JoinHandle<()>>,
    interval: Interval,
    batch: Vec<Inbound>,
    mail: Vec<Mail>,
    out: Vec<Outbound>,
    started: bool,
    stop: Option<Stop>,
}

impl Pump {
    /// One turn of the thread: everything that waits goes through the services once, until nothing does.
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.started {
            self.started = true;
            self.inbox.put(|waiting| waiting.pump = Some(cx.waker().clone()));
        }
        loop {
            let mut idle = true;
            while self.interval.poll_tick(cx).is_ready() {
                let now_ms = clock::now_ms();
                self.connections.front.expire(now_ms);
                self.services.tick(now_ms, &mut self.out);
                self.deliver();
            }
            if self.connections.front.poll_input(&mut self.batch, cx) {
                idle = false;
                self.services.handle(&mut self.batch, &mut self.out);
                self.batch.clear();
                self.deliver();
            }
            if self.inbox.filled.swap(false, Ordering::AcqRel) {
                idle = false;
                self.take_inbox();
            }
            if idle {
                break;
            }
        }
        if self.services.pending() {
            self.services.turn(&mut self.out);
            self.deliver();
            // Again, once the connections had their turn and the sockets were looked at.
            let _ = std::pin::pin!(tokio::task::yield_now()).poll(cx);
        }
        match self.stop {
            Some(Stop::Hard) => Poll::Ready(()),
            Some(Stop::Graceful) if self.connections.front.is_idle() => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn deliver(&mut self) {
        if !self.out.is_empty() {
            self.connections.front.deliver(&mut self.out, &mut *self.services);
        }
    }

    fn take_inbox(&mut self) {
        let (connections, listeners, stop) = {
            let mut waiting = self.inbox.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut waiting.mail, &mut self.mail);
            (std::mem::take(&mut waiting.connections), std::mem::take(&mut waiting.listeners), waiting.stop)
        };
        for bound in listeners {
            self.acceptors.push(spawn_local(accept(bound, self.inboxes.clone(), Rc::clone(&self.next))));
        }
        for (stream, serving) in connections {
            self.connections.serve(stream, serving);
        }
        if !self.mail.is_empty() {
            self.services.deliver(&mut self.mail, &mut self.out);
            self.mail.clear();
            self.deliver();
        }
        if stop > self.stop {
            self.stop = stop;
            self.acceptors.drain(..).for_each(|acceptor| acceptor.abort());
            match stop {
                Some(Stop::Hard) => self.connections.front.end_calls(true),
                _ => self.connections.front.stop(),
            }
        }
    }
}
