//! A whole cluster with its clients, in one thread, from one seed.

use cetera_check::history::Request;
use cetera_proto::etcdserverpb as pb;
use cetera_proto::services::MethodId;
use prost::Message as _;

use crate::client::{CallId, Client, Conn, Io, News, WatchKey};
use crate::clock::Clock;
use crate::connection::WatchSend;
use crate::core::{Answer, Core, Happening, Packet};
use crate::dice::{Dice, Stream};
use crate::host::{Host, Seat as MachineSeat, founders};
use crate::nemesis::Nemesis;
use crate::operator::Operator;
use crate::plan::{Options, Plan};
use crate::trace::{Kind, Trace, digest};

/// Longest time between the starts of a new group's members.
const FIRST_STARTS_US: u64 = 300_000;

/// A client and its dice.
struct Seat {
    /// Taken out while it acts.
    client: Option<Box<dyn Client>>,
    dice: Dice,
}

/// The world of one run.
pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) hosts: Vec<Host>,
    seats: Vec<Seat>,
    pub(crate) nemesis: Nemesis,
    pub(crate) operator: Operator,
    seed: u64,
}

impl World {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self::with(plan, Options::draw(plan))
    }

    /// The world of a plan, with options that are not drawn.
    pub(crate) fn with(plan: &Plan, options: Options) -> Self {
        let mut ids: Vec<u64> = founders(plan.members).iter().map(|founder| founder.id).collect();
        ids.resize(options.machines, 0);
        let dice = Dice::new(plan.seed, Stream::World);
        let nemesis = Nemesis::new(plan, &options);
        let operator = Operator::new(plan, &options);
        let mut core = Core::new(options, ids, dice, Trace::new(plan.trace));
        core.connections.history.first_revision = 1;
        let mut hosts = Vec::new();
        for index in 0..core.ids.len() {
            let shows_us = core.dice.within(0, 1 << 40);
            let seat = if index < plan.members { MachineSeat::Founder } else { MachineSeat::Nobody };
            hosts.push(Host::new(index, Clock::new(shows_us), seat));
            let after_us = core.dice.within(0, FIRST_STARTS_US);
            core.after(after_us, Happening::Start { host: index });
        }
        Self { core, hosts, seats: Vec::new(), nemesis, operator, seed: plan.seed }
    }

    /// A client joins; its number.
    pub(crate) fn join(&mut self, client: Box<dyn Client>) -> usize {
        let number = self.seats.len();
        let dice = Dice::numbered(self.seed, Stream::Clients, number as u64);
        self.seats.push(Seat { client: Some(client), dice });
        self.core.after(0, Happening::Tell { client: number, news: News::Begin });
        number
    }

    /// A client acts by itself, not because it was told something.
    pub(crate) fn act<T>(&mut self, client: usize, act: impl FnOnce(&mut dyn Io) -> T) -> T {
        act(&mut Hand { core: &mut self.core, client, dice: &mut self.seats[client].dice, name: String::new() })
    }

    /// How many clients there are.
    pub(crate) fn clients(&self) -> usize {
        self.seats.len()
    }

    /// Tells all clients to come to rest.
    pub(crate) fn wind(&mut self) {
        for client in 0..self.seats.len() {
            self.core.after(0, Happening::Tell { client, news: News::Wind });
        }
    }

    /// The first client that is not at rest.
    pub(crate) fn restless(&self) -> Option<&str> {
        let clients = self.seats.iter().filter_map(|seat| seat.client.as_deref());
        clients.into_iter().find(|client| !client.at_rest()).map(Client::name)
    }

    /// Whether this client is at rest.
    pub(crate) fn is_at_rest(&self, client: usize) -> bool {
        self.seats[client].client.as_ref().is_some_and(|client| client.at_rest())
    }

    /// Lets the next thing happen; true if it was a [`Happening::Look`].
    pub(crate) fn step(&mut self) -> bool {
        let Some(what) = self.core.next() else { return true };
        match what {
            Happening::Look => return true,
            Happening::Start { host } => self.hosts[host].start(&mut self.core),
            Happening::Thread { host, life, thread } => self.hosts[host].thread(life, thread, &mut self.core),
            Happening::Peer { from, to, message } => {
                let content = digest(&message.encode_to_vec());
                self.core.trace.note(self.core.now_us, Kind::Peer, from as u64, to as u64, content);
                self.hosts[to].peer(from, message, &mut self.core);
            }
            Happening::Wire { line, at, wire } => self.hosts[at].wire(line, wire, &mut self.core),
            Happening::PeerGone { at, gone } => {
                self.core.trace.note(self.core.now_us, Kind::PeerGone, at as u64, gone, 0);
                self.hosts[at].peer_gone(gone, &mut self.core);
            }
            Happening::Up { conn, call, packet } => {
                let member = self.core.connections.get(conn).member;
                self.hosts[member].up(conn, call, packet, &mut self.core);
            }
            Happening::Hangup { conn } => {
                let member = self.core.connections.get(conn).member;
                self.hosts[member].hangup(conn, &mut self.core);
            }
            Happening::Down { conn, call, answer } => self.down(conn, call, answer),
            Happening::Broken { conn } => self.broken(conn),
            Happening::Timeout { conn, call } => self.timeout(conn, call),
            Happening::Tell { client, news } => self.tell(client, news),
            Happening::Operate => self.operate(),
            Happening::FaultBegins { fault } => self.fault_begins(fault),
            Happening::FaultEnds { fault } => self.fault_ends(fault),
        }
        false
    }

    fn down(&mut self, conn: Conn, call: u64, answer: Answer) {
        let now_us = self.core.now_us;
        let connection = self.core.connections.get(conn);
        let (member, client, open) = (connection.member, connection.client, connection.open);
        self.hosts[member].delivered(conn, call, &answer, &mut self.core);
        if !open {
            return;
        }
        match answer {
            Answer::Message(body) => {
                self.core.trace.note(now_us, Kind::Down, conn.0, call, digest(&body));
                let (told, send) = self.core.connections.message(conn, call, body, now_us);
                for send in send {
                    send_watch(&mut self.core, conn, send);
                }
                for (key, told) in told {
                    self.tell(client, News::Watch(key, told));
                }
            }
            Answer::End(status) => {
                self.core.trace.note(now_us, Kind::Down, conn.0, call, u64::from(status.code));
                match self.core.connections.end(conn, call, status, now_us) {
                    Ok(Some(news)) => self.tell(client, news),
                    Ok(None) => {}
                    // The stream of watchers ended: clients give such a connection up.
                    Err(()) => self.broken(conn),
                }
            }
        }
    }

    fn broken(&mut self, conn: Conn) {
        let connection = self.core.connections.get(conn);
        let client = connection.client;
        if !connection.open {
            return;
        }
        let news = self.core.connections.close(conn, self.core.now_us, "the connection broke");
        for news in news {
            self.tell(client, news);
        }
        self.tell(client, News::Broken(conn));
        let at_us = self.core.connections.get(conn).up_us;
        self.core.at(at_us, Happening::Hangup { conn });
    }

    fn timeout(&mut self, conn: Conn, call: u64) {
        let client = self.core.connections.get(conn).client;
        if let Some(news) = self.core.connections.timeout(conn, call, self.core.now_us) {
            self.core.send_up(conn, call, Packet::Cancel);
            self.tell(client, news);
        }
    }

    fn tell(&mut self, client: usize, news: News) {
        let now_us = self.core.now_us;
        let kind = match &news {
            News::Begin => 0,
            News::Timer(token) => 1 << 32 | token,
            News::Answer(id, _) => 2 << 32 | id,
            News::Watch(key, _) => 3 << 32 | key,
            News::Broken(conn) => 4 << 32 | conn.0,
            News::Wind => 5 << 32,
        };
        self.core.trace.note(now_us, Kind::News, client as u64, kind, 0);
        let mut actor = self.seats[client].client.take().expect("a client is not told anything while it acts");
        if self.core.trace.is_readable() && !matches!(news, News::Timer(_)) {
            let name = actor.name().to_owned();
            self.core.trace.say(now_us, &name, || readable(&news));
        }
        let mut hand = Hand { core: &mut self.core, client, dice: &mut self.seats[client].dice, name: String::new() };
        if hand.core.trace.is_readable() {
            hand.name = actor.name().to_owned();
        }
        actor.on(news, &mut hand);
        self.seats[client].client = Some(actor);
    }
}

fn readable(news: &News) -> String {
    let mut text = format!("{news:?}");
    if text.len() > TEXT_MAX {
        let mut end = TEXT_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Longest line of what a client says or is told.
const TEXT_MAX: usize = 400;

fn send_watch(core: &mut Core, conn: Conn, send: WatchSend) {
    match send {
        WatchSend::Open(call, body) => {
            core.send_up(conn, call, Packet::Open { method: MethodId::Watch, body, half_close: false });
        }
        WatchSend::Message(call, body) => core.send_up(conn, call, Packet::Message { body }),
    }
}

/// How often a client draws again that drew a machine on which no member is.
const LOOKS_FOR_A_MEMBER: usize = 3;

/// What a client may do, while it does it.
struct Hand<'a> {
    core: &'a mut Core,
    client: usize,
    dice: &'a mut Dice,
    name: String,
}

impl Hand<'_> {
    fn say(&mut self, what: impl FnOnce() -> String) {
        self.core.trace.say(self.core.now_us, &self.name, what);
    }
}

impl Io for Hand<'_> {
    fn now_us(&self) -> u64 {
        self.core.now_us
    }

    fn members(&self) -> u32 {
        self.core.ids.len() as u32
    }

    fn somewhere(&mut self) -> u32 {
        let machines = self.core.ids.len() as u64;
        let mut member = self.pick(machines) as usize;
        for _ in 0..LOOKS_FOR_A_MEMBER {
            if self.core.ids[member] != 0 {
                break;
            }
            member = self.pick(machines) as usize;
        }
        member as u32
    }

    fn connect(&mut self, member: u32) -> Conn {
        let conn = self.core.connections.open(self.client, member as usize, self.core.now_us);
        self.say(|| format!("connects to m{member}: {conn:?}"));
        conn
    }

    fn close(&mut self, conn: Conn) {
        if !self.core.connections.get(conn).open {
            return;
        }
        self.say(|| format!("closes {conn:?}"));
        let news = self.core.connections.close(conn, self.core.now_us, "the client closed the connection");
        for news in news {
            self.core.after(0, Happening::Tell { client: self.client, news });
        }
        let at_us = self.core.connections.get(conn).up_us;
        self.core.at(at_us, Happening::Hangup { conn });
    }

    fn call(&mut self, conn: Conn, id: CallId, request: Request, timeout_us: u64) {
        let member = self.core.connections.get(conn).member;
        if self.core.trace.is_readable() {
            self.say(|| format!("asks m{member} on {conn:?}, call {id}: {request:?}"));
        }
        match self.core.connections.call(conn, id, request, self.core.now_us) {
            Some((call, method, body)) => {
                self.core.send_up(conn, call, Packet::Open { method, body, half_close: true });
                self.core.after(timeout_us, Happening::Timeout { conn, call });
            }
            None => {
                let outcome = cetera_check::history::Outcome::Refused("the connection is closed".to_owned());
                self.core.after(0, Happening::Tell { client: self.client, news: News::Answer(id, outcome) });
            }
        }
    }

    fn watch(&mut self, conn: Conn, key: WatchKey, request: pb::WatchCreateRequest, resumes: Option<WatchKey>) {
        let member = self.core.connections.get(conn).member;
        if self.core.trace.is_readable() {
            self.say(|| format!("watches at m{member} on {conn:?}, key {key}: {request:?}"));
        }
        let resumes = resumes.and_then(|resumes| self.core.connections.watcher_record(self.client, resumes));
        if let Some(send) = self.core.connections.watch(conn, key, request, resumes, self.core.now_us) {
            send_watch(self.core, conn, send);
        }
    }

    fn cancel(&mut self, key: WatchKey) {
        self.say(|| format!("cancels watcher {key}"));
        if let Some((conn, send)) = self.core.connections.cancel(self.client, key) {
            send_watch(self.core, conn, send);
        }
    }

    fn progress(&mut self, conn: Conn) {
        if let Some(send) = self.core.connections.progress(conn) {
            send_watch(self.core, conn, send);
        }
    }

    fn timer(&mut self, after_us: u64, token: u64) {
        self.core.after(after_us, Happening::Tell { client: self.client, news: News::Timer(token) });
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.dice.below(below)
    }

    fn unique(&mut self) -> u64 {
        self.core.unique += 1;
        self.core.unique
    }
}
