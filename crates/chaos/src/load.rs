//! The load: clients that make calls, and watchers that go on wherever they broke off.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use cetera_bench::rng::Rng;
use cetera_check::generate::{Dice, Generator, Mix};
use cetera_check::history::{News, Outcome, Request};
use cetera_check::keys;
use cetera_parity::Status;
use cetera_proto::etcdserverpb as pb;
use cetera_proto::services::MethodId;
use pb::watch_request::RequestUnion;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::conn::Conn;
use crate::record::Recorder;

/// Pause after a connection was refused.
const RECONNECT_PAUSE: Duration = Duration::from_millis(30);
/// Unanswered calls after which a connection is given up.
const TIMEOUTS_MAX: u32 = 2;
/// A watcher that hears nothing for this long asks for progress, and gives its connection up after twice that.
const WATCH_SILENCE: Duration = Duration::from_secs(2);
/// Pause between two asks for progress of a watcher that is to catch up.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(100);
/// A watcher that has not caught up by then, on members that serve, will not.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(20);

/// How clients reach a member.
#[derive(Clone, Debug)]
pub struct Route {
    /// Straight.
    pub direct: String,
    /// Through the proxy.
    pub proxied: String,
}

/// What a round's load is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Clients that make calls.
    pub clients: u32,
    /// Watchers besides the observer of everything.
    pub watchers: u32,
    /// Longest pause of a client between two calls.
    pub think: Duration,
    /// How long a client waits for an answer.
    pub patience: Duration,
    /// What they ask.
    pub mix: Mix,
}

/// Where the round stands.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Load.
    Run,
    /// No more calls; watchers come to this revision and end.
    CatchUp(i64),
}

/// What the clients of a round share.
#[derive(Debug)]
pub struct Shared {
    /// The history.
    pub recorder: Recorder,
    /// To the members, by number.
    pub routes: Vec<Route>,
    /// Leaves out what etcd is known to answer wrongly, see [`spare`].
    spares: bool,
    phase: watch::Sender<Phase>,
    /// When watchers that have not caught up are given up.
    closed: Cell<Option<Instant>>,
    clients: Cell<u32>,
}

impl Shared {
    /// A round begins.
    pub fn new(routes: Vec<Route>, spares: bool) -> Shared {
        let phase = watch::channel(Phase::Run).0;
        Shared { recorder: Recorder::default(), routes, spares, phase, closed: Cell::new(None), clients: Cell::new(0) }
    }

    /// No more calls.
    pub fn close(&self) {
        self.closed.set(Some(Instant::now() + CATCH_UP_PATIENCE));
    }

    /// Where it stands from now on.
    pub fn enter(&self, phase: Phase) {
        self.close();
        self.phase.send_replace(phase);
    }

    fn runs(&self) -> bool {
        !self.closes() && !self.recorder.is_full()
    }

    fn closes(&self) -> bool {
        self.closed.get().is_some()
    }

    fn is_too_late(&self) -> bool {
        self.closed.get().is_some_and(|closed| Instant::now() >= closed)
    }

    /// A client's number.
    pub fn client(&self) -> u32 {
        self.clients.set(self.clients.get() + 1);
        self.clients.get()
    }
}

/// Numbers from a stream of its own; unique ones from the round.
struct Numbers<'a>(&'a mut Rng, &'a Recorder);

impl Dice for Numbers<'_> {
    fn pick(&mut self, below: u64) -> u64 {
        self.0.within(0, below)
    }

    fn unique(&mut self) -> u64 {
        self.1.unique()
    }
}

impl Plan {
    /// A load of its own for a round.
    pub fn swarm(rng: &mut Rng) -> Plan {
        let recorder = Recorder::default();
        let mix = Mix::swarm(&mut Numbers(rng, &recorder));
        Plan {
            clients: rng.within(4, 20) as u32,
            watchers: rng.within(2, 8) as u32,
            think: Duration::from_millis([2, 6, 15, 40][rng.within(0, 4) as usize]),
            patience: Duration::from_millis([300, 1_000, 3_000][rng.within(0, 3) as usize]),
            mix,
        }
    }
}

/// The tasks of a round.
#[derive(Debug, Default)]
pub struct Load {
    /// Those that make calls.
    pub callers: JoinSet<()>,
    /// Those that watch; true from one that was told everything in the end.
    pub watchers: JoinSet<bool>,
}

/// Starts it.
pub fn start(shared: &Rc<Shared>, plan: &Plan, rng: &mut Rng) -> Load {
    let mut load = Load::default();
    load.watchers.spawn_local(observe(Rc::clone(shared), rng.next_u64()));
    for _ in 0..plan.watchers {
        load.watchers.spawn_local(watch_some(Rc::clone(shared), rng.next_u64()));
    }
    for _ in 0..plan.clients {
        load.callers.spawn_local(work(Rc::clone(shared), plan.clone(), rng.next_u64()));
    }
    load
}

/// Which member a client talks to, and how.
struct Reach {
    shared: Rc<Shared>,
    /// None: any, chosen anew for each connection.
    member: Option<usize>,
    proxied: bool,
}

impl Reach {
    fn new(shared: Rc<Shared>, rng: &mut Rng) -> Reach {
        let member = rng.chance(70).then(|| rng.within(0, shared.routes.len() as u64) as usize);
        Reach { shared, member, proxied: rng.chance(50) }
    }

    async fn connect(&self, rng: &mut Rng, patience: Duration) -> Option<(usize, Conn)> {
        let member = self.member.unwrap_or_else(|| rng.within(0, self.shared.routes.len() as u64) as usize);
        let route = &self.shared.routes[member];
        let address = if self.proxied { &route.proxied } else { &route.direct };
        Some((member, Conn::open(address, patience).await?))
    }
}

/// One client: a request, its answer, the next.
async fn work(shared: Rc<Shared>, plan: Plan, seed: u64) {
    let mut rng = Rng::new(seed);
    let client = shared.client();
    let mut generator = Generator::new(plan.mix, client);
    let reach = Reach::new(Rc::clone(&shared), &mut rng);
    let mut connected = None;
    let mut timeouts = 0;
    while shared.runs() {
        let Some((member, conn)) = &connected else {
            connected = reach.connect(&mut rng, plan.patience).await;
            if connected.is_none() {
                sleep(RECONNECT_PAUSE).await;
            }
            continue;
        };
        let mut request = generator.next(&mut Numbers(&mut rng, &shared.recorder));
        match &mut request {
            // What the observer has not seen yet must stay.
            Request::Compact(compaction) => {
                compaction.revision = compaction.revision.min(shared.recorder.observed_revision());
            }
            Request::Txn(txn) if shared.spares => spare(txn),
            _ => {}
        }
        let (outcome, broken) = call(&shared.recorder, client, *member as u32, conn, &request, plan.patience).await;
        timeouts = if matches!(outcome, Outcome::Unknown(_)) { timeouts + 1 } else { 0 };
        generator.note(&request, &outcome);
        if broken || timeouts >= TIMEOUTS_MAX {
            (connected, timeouts) = (None, 0);
        }
        let pause = rng.within(0, plan.think.as_micros() as u64 + 1);
        sleep(Duration::from_micros(pause)).await;
    }
}

/// Takes the revision out of all reads of a transaction. In a group of etcd 3.5, one that writes, and reads what is
/// compacted or still to come, is refused by the member that answers it and done by the others, which do not look at
/// the reads (`removeNeedlessRangeReqs`): from then on they differ.
fn spare(txn: &mut pb::TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(pb::request_op::Request::RequestRange(range)) => range.revision = 0,
            Some(pb::request_op::Request::RequestTxn(inner)) => spare(inner),
            _ => {}
        }
    }
}

/// Makes a call and records it.
pub async fn call(
    recorder: &Recorder,
    client: u32,
    member: u32,
    conn: &Conn,
    request: &Request,
    patience: Duration,
) -> (Outcome, bool) {
    let open = recorder.begin(client, member, request.clone());
    let (outcome, broken) = conn.make(request, patience).await;
    recorder.end(open, outcome.clone());
    (outcome, broken)
}

/// Everything, from `revision` on, with what was there before.
pub fn all_from(revision: i64) -> pb::WatchCreateRequest {
    let all = Bytes::from_static(b"\0");
    pb::WatchCreateRequest {
        key: all.clone(),
        range_end: all,
        start_revision: revision,
        prev_kv: true,
        ..Default::default()
    }
}

/// Watches everything from the first revision on.
async fn observe(shared: Rc<Shared>, seed: u64) -> bool {
    let mut rng = Rng::new(seed);
    let reach = Reach { shared: Rc::clone(&shared), member: None, proxied: rng.chance(50) };
    let mut follower = Follower::new(shared, reach, all_from(1), rng);
    follower.observes = true;
    follower.follow().await
}

/// Watches all that is left of the history, through to `revision`.
pub async fn replay(shared: Rc<Shared>, member: usize, seed: u64) -> bool {
    let reach = Reach { shared: Rc::clone(&shared), member: Some(member), proxied: false };
    Follower::new(shared, reach, all_from(1), Rng::new(seed)).follow().await
}

/// Watches one thing after the other.
async fn watch_some(shared: Rc<Shared>, seed: u64) -> bool {
    let mut rng = Rng::new(seed);
    loop {
        let request = something(&shared.recorder, &mut rng);
        let reach = Reach::new(Rc::clone(&shared), &mut rng);
        let mut follower = Follower::new(Rc::clone(&shared), reach, request, Rng::new(rng.next_u64()));
        follower.until = rng.chance(70).then(|| Instant::now() + Duration::from_millis(rng.within(50, 6_000)));
        let all = follower.follow().await;
        if !shared.runs() {
            return all || !shared.closes();
        }
    }
}

/// Some keys, from the past, from now or from the future.
fn something(recorder: &Recorder, rng: &mut Rng) -> pb::WatchCreateRequest {
    let kv = |text: &str| Bytes::from([keys::KV, text.as_bytes()].concat());
    let (key, range_end) = match rng.within(0, 6) {
        0 => (kv("a/1"), Bytes::new()),
        1 => (kv("c"), Bytes::new()),
        2 => (kv("a/"), keys::prefix_end(&kv("a/"))),
        3 => (Bytes::from_static(keys::KV), keys::prefix_end(keys::KV)),
        4 => (kv("b/"), Bytes::from_static(b"\0")),
        _ => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
    };
    let now = recorder.revision();
    let start_revision = match rng.within(0, 10) {
        0..4 => 0,
        4..7 => now.saturating_sub(rng.within(0, 300) as i64).max(1),
        7 => rng.within(1, now as u64 + 1) as i64,
        _ => now + rng.within(1, 200) as i64,
    };
    let mut filters = Vec::new();
    for filter in [pb::watch_create_request::FilterType::Noput, pb::watch_create_request::FilterType::Nodelete] {
        if rng.chance(8) {
            filters.push(filter as i32);
        }
    }
    pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        filters,
        prev_kv: rng.chance(50),
        progress_notify: rng.chance(40),
        fragment: rng.chance(30),
        ..Default::default()
    }
}

/// Follows one watch over broken connections.
struct Follower {
    shared: Rc<Shared>,
    reach: Reach,
    request: pb::WatchCreateRequest,
    rng: Rng,
    client: u32,
    /// Tells the recorder how far it is.
    observes: bool,
    /// When to end by itself.
    until: Option<Instant>,
    /// The watcher that the next one goes on from.
    last: Option<usize>,
}

/// How the stream of a watcher ended.
enum Ended {
    /// Broken, or given up.
    Broken,
    /// The server cancelled it for history that is gone, up to this revision.
    Compacted(i64),
    /// Nothing more is wanted; the flag: it was told everything.
    Done(bool),
}

/// A watcher on its stream.
struct Stream {
    watcher: usize,
    member_stream: cetera_parity::Duplex,
    /// Everything through this revision was told.
    told: i64,
    /// In the middle of a response.
    fragment: bool,
    /// The member said that it is there: what it says of progress from then on holds for this watcher.
    created: bool,
}

impl Follower {
    fn new(shared: Rc<Shared>, reach: Reach, request: pb::WatchCreateRequest, rng: Rng) -> Follower {
        let client = shared.client();
        Follower { shared, reach, request, rng, client, observes: false, until: None, last: None }
    }

    /// Returns when nothing more is wanted; true if it was told everything by then.
    async fn follow(mut self) -> bool {
        loop {
            let patience = WATCH_SILENCE;
            let Some((member, conn)) = self.reach.connect(&mut self.rng, patience).await else {
                if self.gives_up() {
                    return false;
                }
                sleep(RECONNECT_PAUSE).await;
                continue;
            };
            match self.live(member, &conn).await {
                Ended::Done(all) => return all,
                Ended::Broken => sleep(RECONNECT_PAUSE).await,
                Ended::Compacted(revision) => {
                    self.last = None;
                    self.request.start_revision = revision + 1;
                }
            }
            if self.gives_up() {
                return false;
            }
        }
    }

    /// After its time nobody waits for a connection. In the end all watchers do, for a while: that one cannot be had is
    /// a finding then.
    fn gives_up(&self) -> bool {
        match self.shared.closes() {
            true => self.shared.is_too_late(),
            false => self.until.is_some_and(|until| Instant::now() >= until),
        }
    }

    async fn live(&mut self, member: usize, conn: &Conn) -> Ended {
        let recorder = &self.shared.recorder;
        let watcher = recorder.watcher(self.client, member as u32, self.request.clone(), self.last);
        let mut stream = Stream {
            watcher,
            member_stream: conn.stream(MethodId::Watch),
            told: (self.request.start_revision - 1).max(0),
            fragment: false,
            created: false,
        };
        stream.send(RequestUnion::CreateRequest(self.request.clone())).await;
        let ended = self.listen(&mut stream).await;
        // One that begins behind the target may end before it is created.
        let owed_through = match (&ended, *self.shared.phase.borrow()) {
            (Ended::Done(_), Phase::CatchUp(target)) => Some(target).filter(|_| stream.created),
            _ => None,
        };
        self.shared.recorder.ended(watcher, owed_through);
        if stream.fragment {
            // Part of a revision was told: what follows is another watcher, which is told that revision again.
            self.last = None;
        } else if stream.told > 0 {
            self.last = Some(watcher);
        }
        if stream.told > 0 {
            self.request.start_revision = stream.told + 1;
        }
        ended
    }

    async fn listen(&self, stream: &mut Stream) -> Ended {
        let mut phase = self.shared.phase.subscribe();
        let mut heard = Instant::now();
        let mut asked = Instant::now();
        loop {
            let (pause, target) = match *phase.borrow_and_update() {
                Phase::Run => (WATCH_SILENCE, i64::MAX),
                Phase::CatchUp(target) => (CATCH_UP_PAUSE, target),
            };
            if stream.told >= target || self.shared.is_too_late() {
                return Ended::Done(stream.told >= target);
            }
            // In the end nobody leaves early.
            let until = self.until.filter(|_| !self.shared.closes());
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ended::Done(false);
            }
            let next_ask = asked + pause;
            let wake = until.map_or(next_ask, |until| until.min(next_ask));
            tokio::select! {
                message = stream.member_stream.receive.recv() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(message)) => {
                            if let Some(ended) = self.take(stream, &message) {
                                return ended;
                            }
                        }
                        Some(Err(Status { .. })) | None => return Ended::Broken,
                    }
                }
                _ = phase.changed() => {}
                () = sleep_until(wake) => {
                    if Instant::now() >= next_ask {
                        asked = Instant::now();
                        if stream.created {
                            stream.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
                        }
                    }
                    if heard.elapsed() > 2 * WATCH_SILENCE {
                        return Ended::Broken;
                    }
                }
            }
        }
    }

    /// Takes one response in.
    fn take(&self, stream: &mut Stream, message: &Bytes) -> Option<Ended> {
        // A response that is none says as much as a broken stream.
        let Ok(response) = pb::WatchResponse::decode(message.clone()) else { return Some(Ended::Broken) };
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let told = |news| self.shared.recorder.told(stream.watcher, revision, news);
        if response.created {
            told(News::Created);
            stream.created = true;
            if self.request.start_revision == 0 {
                stream.told = revision;
            }
        }
        if response.canceled {
            let compacted = response.compact_revision;
            told(News::Canceled { compact_revision: compacted, reason: response.cancel_reason });
            return Some(if compacted > 0 { Ended::Compacted(compacted) } else { Ended::Broken });
        }
        if let Some(last) = response.events.last() {
            let last = last.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            told(News::Events { events: response.events, fragment: response.fragment });
            stream.fragment = response.fragment;
            if !response.fragment {
                stream.told = stream.told.max(last);
            }
        } else if !response.created {
            told(News::Progress);
            stream.told = stream.told.max(revision);
        }
        if self.observes {
            self.shared.recorder.observed(stream.told);
        }
        None
    }
}

impl Stream {
    async fn send(&self, request: RequestUnion) {
        if let Some(send) = &self.member_stream.send {
            let request = pb::WatchRequest { request_union: Some(request) };
            // A stream that has ended, or takes nothing, says so where it is read.
            let _ = try_send(send, Bytes::from(request.encode_to_vec())).await;
        }
    }
}

async fn try_send(send: &mpsc::Sender<Bytes>, bytes: Bytes) -> Option<()> {
    timeout(WATCH_SILENCE, send.send(bytes)).await.ok()?.ok()
}
