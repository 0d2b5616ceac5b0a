//! A world of one linear store: answers late, loses some calls and some answers, breaks connections. Good enough to see
//! that actors get on; what real members do, only real members show.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cetera_check::history::{News as WatchNews, Outcome, Request, Response, Told};
use cetera_mvcc::{EventRec, Store};
use cetera_proto::{etcdserverpb as pb, mvccpb};
use cetera_raft::rng::Rng;
use cetera_state::{Applied, ApplyError, State, StateLimits};
use cetera_storage::revlog::{RevLog, RevLogOptions};
use cetera_storage::vfs::memory::MemoryVfs;
use prost::Message as _;

use crate::client::{CallId, Client, Conn, Io, News, WatchKey};

const MS: u64 = 1_000;

/// What actors did.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) calls: Vec<(usize, Request, Outcome)>,
    pub(super) watches: Vec<(usize, pb::WatchCreateRequest, Option<WatchKey>)>,
    pub(super) told: usize,
    pub(super) cancels: usize,
    pub(super) progress: usize,
    /// Every change, in order.
    pub(super) events: Vec<mvccpb::Event>,
}

enum Due {
    Timer(usize, u64),
    Apply(u64),
    Answer(u64, Outcome),
    Told(u64, Told),
    Break,
    Expire,
}

struct UnderWay {
    client: usize,
    conn: Conn,
    id: CallId,
    request: Request,
}

struct Watcher {
    client: usize,
    conn: Conn,
    key: WatchKey,
    request: pb::WatchCreateRequest,
    next: i64,
}

/// The world.
pub(super) struct Fake {
    rng: Rng,
    now_us: u64,
    sequence: u64,
    due: BTreeMap<(u64, u64), Due>,
    /// Of a thousand calls, how many are lost, and how many of the answers.
    faults: u64,
    state: State,
    calls: BTreeMap<u64, UnderWay>,
    conns: BTreeMap<Conn, usize>,
    watchers: BTreeMap<u64, Watcher>,
    leases: BTreeMap<i64, (u64, u64)>,
    compacted: i64,
    next: u64,
    broken: Vec<(usize, Conn)>,
    pub(super) seen: Seen,
}

impl Fake {
    pub(super) fn new(seed: u64, faults: u64) -> Self {
        let options = RevLogOptions { segment_bytes: 64 << 10 };
        let log = RevLog::create(Arc::new(MemoryVfs::new()), Path::new("/fake"), options).unwrap();
        Self {
            rng: Rng::new(seed),
            now_us: 0,
            sequence: 0,
            due: BTreeMap::new(),
            faults,
            state: State::create(Store::create(log), StateLimits::default()),
            calls: BTreeMap::new(),
            conns: BTreeMap::new(),
            watchers: BTreeMap::new(),
            leases: BTreeMap::new(),
            compacted: 0,
            next: 1,
            broken: Vec::new(),
            seen: Seen::default(),
        }
    }

    /// Runs the clients: work until `wind_us`, then at most as long as until `end_us`. Whether all came to rest.
    pub(super) fn run(&mut self, clients: &mut [Box<dyn Client>], wind_us: u64, end_us: u64) -> bool {
        for client in 0..clients.len() {
            self.tell(clients, client, News::Begin);
        }
        self.after(500 * MS, Due::Expire);
        self.after(700 * MS, Due::Break);
        let mut winding = false;
        while let Some(((at, _), due)) = self.due.pop_first() {
            if at >= wind_us && !winding {
                winding = true;
                self.faults = 0;
                for client in 0..clients.len() {
                    self.tell(clients, client, News::Wind);
                }
            }
            if winding && clients.iter().all(|client| client.at_rest()) {
                return true;
            }
            if at > end_us {
                for client in clients.iter().filter(|client| !client.at_rest()) {
                    println!("{} is not at rest", client.name());
                }
                return false;
            }
            self.now_us = at;
            self.happen(due, clients);
        }
        false
    }

    fn happen(&mut self, due: Due, clients: &mut [Box<dyn Client>]) {
        match due {
            Due::Timer(client, token) => self.tell(clients, client, News::Timer(token)),
            Due::Apply(call) => {
                if let Some(under_way) = self.calls.get(&call) {
                    let request = under_way.request.clone();
                    let outcome = self.serve(&request);
                    if self.pick(1_000) >= self.faults {
                        let late = 1 + self.pick(5 * MS);
                        self.after(late, Due::Answer(call, outcome));
                    }
                }
            }
            Due::Answer(call, outcome) => {
                if let Some(done) = self.calls.remove(&call) {
                    self.seen.calls.push((done.client, done.request, outcome.clone()));
                    self.tell(clients, done.client, News::Answer(done.id, outcome));
                }
            }
            Due::Told(watcher, told) => {
                if let Some(watcher) = self.watchers.get(&watcher) {
                    self.seen.told += 1;
                    let (client, key) = (watcher.client, watcher.key);
                    self.tell(clients, client, News::Watch(key, told));
                }
            }
            Due::Break => {
                if self.faults > 0 && !self.conns.is_empty() {
                    let index = self.pick(self.conns.len() as u64) as usize;
                    let (conn, client) = self.conns.iter().nth(index).map(|(conn, client)| (*conn, *client)).unwrap();
                    self.broken.push((client, conn));
                }
                self.after(700 * MS, Due::Break);
            }
            Due::Expire => {
                let gone: Vec<i64> =
                    self.leases.iter().filter(|(_, (_, end))| *end <= self.now_us).map(|(lease, _)| *lease).collect();
                for id in gone {
                    self.serve(&Request::LeaseRevoke(pb::LeaseRevokeRequest { id }));
                }
                self.after(500 * MS, Due::Expire);
            }
        }
        while let Some((client, conn)) = self.broken.pop() {
            self.end(conn, clients);
            self.tell(clients, client, News::Broken(conn));
        }
    }

    fn tell(&mut self, clients: &mut [Box<dyn Client>], client: usize, news: News) {
        let mut closed = Vec::new();
        clients[client].on(news, &mut FakeIo { fake: self, client, closed: &mut closed });
        for conn in closed {
            self.end(conn, clients);
        }
    }

    /// A connection ends: its calls are unknown, its watchers gone.
    fn end(&mut self, conn: Conn, clients: &mut [Box<dyn Client>]) {
        if self.conns.remove(&conn).is_none() {
            return;
        }
        self.watchers.retain(|_, watcher| watcher.conn != conn);
        let calls: Vec<u64> = self.calls.iter().filter(|(_, call)| call.conn == conn).map(|(id, _)| *id).collect();
        for call in calls {
            self.happen(Due::Answer(call, Outcome::Unknown("connection broke".to_owned())), clients);
        }
    }

    fn after(&mut self, us: u64, due: Due) {
        self.sequence += 1;
        self.due.insert((self.now_us + us, self.sequence), due);
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.rng.next_u64() % below
    }

    fn serve(&mut self, request: &Request) -> Outcome {
        let mut entry = pb::InternalRaftRequest::default();
        match request.clone() {
            Request::Range(range) => entry.range = Some(range.into()),
            Request::Put(put) => entry.put = Some(put.into()),
            Request::DeleteRange(delete) => entry.delete_range = Some(delete.into()),
            Request::Txn(txn) => entry.txn = Some(txn.into()),
            Request::Compact(compaction) => entry.compaction = Some(compaction.into()),
            Request::LeaseGrant(mut grant) => {
                grant.ttl = grant.ttl.max(2);
                if grant.id == 0 {
                    self.next += 1;
                    grant.id = self.next as i64;
                }
                entry.lease_grant = Some(grant.into());
            }
            Request::LeaseRevoke(revoke) => entry.lease_revoke = Some(revoke.into()),
            Request::LeaseKeepAlive(alive) => {
                let now = self.now_us;
                let lease = self.leases.get_mut(&alive.id).filter(|(_, end)| *end > now);
                let ttl = lease.map_or(0, |(ttl, end)| {
                    *end = now + *ttl * 1_000 * MS;
                    *ttl as i64
                });
                let header = Some(self.header());
                return Outcome::Done(Response::LeaseKeepAlive(pb::LeaseKeepAliveResponse {
                    header,
                    id: alive.id,
                    ttl,
                }));
            }
            Request::LeaseTimeToLive(left) => {
                let ttl = if self.leases.contains_key(&left.id) { 1 } else { -1 };
                let header = Some(self.header());
                let left = pb::LeaseTimeToLiveResponse { header, id: left.id, ttl, ..Default::default() };
                return Outcome::Done(Response::LeaseTimeToLive(left));
            }
        }
        let index = self.state.applied_index() + 1;
        let mut events = Vec::new();
        let outcome = self.state.apply(index, 1, &entry.encode_to_vec().into(), &mut events).unwrap();
        self.publish(&events);
        match outcome.result {
            Ok(applied) => {
                if let Request::Compact(compaction) = request {
                    self.compacted = compaction.revision;
                }
                Outcome::Done(self.response(request, &applied))
            }
            Err(error) => Outcome::Refused(text(error).to_owned()),
        }
    }

    fn response(&mut self, request: &Request, applied: &Applied) -> Response {
        let header = Some(pb::ResponseHeader { revision: applied.revision, ..Default::default() });
        let body = &applied.body[..];
        match request {
            Request::Range(_) => {
                Response::Range(pb::RangeResponse { header, ..pb::RangeResponse::decode(body).unwrap() })
            }
            Request::Put(_) => Response::Put(pb::PutResponse { header, ..pb::PutResponse::decode(body).unwrap() }),
            Request::DeleteRange(_) => Response::DeleteRange(pb::DeleteRangeResponse {
                header,
                ..pb::DeleteRangeResponse::decode(body).unwrap()
            }),
            Request::Txn(_) => Response::Txn(pb::TxnResponse { header, ..pb::TxnResponse::decode(body).unwrap() }),
            Request::LeaseGrant(_) => {
                let granted = pb::LeaseGrantResponse { header, ..pb::LeaseGrantResponse::decode(body).unwrap() };
                let ttl = granted.ttl as u64;
                self.leases.insert(granted.id, (ttl, self.now_us + ttl * 1_000 * MS));
                Response::LeaseGrant(granted)
            }
            Request::LeaseRevoke(revoke) => {
                self.leases.remove(&revoke.id);
                Response::LeaseRevoke(pb::LeaseRevokeResponse { header })
            }
            _ => Response::Compact(pb::CompactionResponse { header }),
        }
    }

    fn header(&self) -> pb::ResponseHeader {
        pb::ResponseHeader { revision: self.state.revision(), ..Default::default() }
    }

    fn publish(&mut self, events: &[EventRec]) {
        self.seen.events.extend(events.iter().map(|event| mvccpb::Event::decode(event.event.clone()).unwrap()));
        let all: Vec<u64> = self.watchers.keys().copied().collect();
        for watcher in all {
            self.catch_up(watcher);
        }
    }

    fn catch_up(&mut self, number: u64) {
        let revision = self.state.revision();
        let Some(watcher) = self.watchers.get_mut(&number) else { return };
        let matches = |event: &&mvccpb::Event| {
            let kv = event.kv.as_ref().unwrap();
            let (key, end) = (&watcher.request.key, &watcher.request.range_end);
            match &end[..] {
                [] => kv.key == key,
                [0] => kv.key >= *key,
                _ => kv.key >= *key && kv.key < *end,
            }
        };
        let mod_revision = |event: &mvccpb::Event| event.kv.as_ref().unwrap().mod_revision;
        let from = self.seen.events.partition_point(|event| mod_revision(event) < watcher.next);
        let events: Vec<mvccpb::Event> = self.seen.events[from..].iter().filter(matches).cloned().collect();
        watcher.next = watcher.next.max(revision + 1);
        if !events.is_empty() {
            self.tell_later(number, WatchNews::Events { events, fragment: false });
        }
    }

    fn tell_later(&mut self, watcher: u64, news: WatchNews) {
        let told = Told { at_us: self.now_us, revision: self.state.revision(), news };
        self.after(MS, Due::Told(watcher, told));
    }
}

fn text(error: ApplyError) -> &'static str {
    match error {
        ApplyError::LeaseNotFound => "etcdserver: requested lease not found",
        ApplyError::LeaseExist => "etcdserver: lease already exists",
        ApplyError::KeyNotFound => "etcdserver: key not found",
        ApplyError::Compacted => "etcdserver: mvcc: required revision has been compacted",
        ApplyError::FutureRevision => "etcdserver: mvcc: required revision is a future revision",
        other => panic!("no actor asks for that: {other}"),
    }
}

struct FakeIo<'a> {
    fake: &'a mut Fake,
    client: usize,
    closed: &'a mut Vec<Conn>,
}

impl Io for FakeIo<'_> {
    fn now_us(&self) -> u64 {
        self.fake.now_us
    }

    fn members(&self) -> u32 {
        3
    }

    fn connect(&mut self, member: u32) -> Conn {
        assert!(member < 3);
        self.fake.next += 1;
        let conn = Conn(self.fake.next);
        self.fake.conns.insert(conn, self.client);
        conn
    }

    fn close(&mut self, conn: Conn) {
        // It may be breaking this very moment.
        self.closed.push(conn);
    }

    fn call(&mut self, conn: Conn, id: CallId, request: Request, timeout_us: u64) {
        assert_eq!(self.fake.conns.get(&conn), Some(&self.client), "a call on a connection that is gone");
        self.fake.next += 1;
        let call = self.fake.next;
        self.fake.calls.insert(call, UnderWay { client: self.client, conn, id, request });
        if self.fake.pick(1_000) >= self.fake.faults {
            let late = 1 + self.fake.pick(5 * MS);
            self.fake.after(late, Due::Apply(call));
        }
        self.fake.after(timeout_us, Due::Answer(call, Outcome::Unknown("timed out".to_owned())));
    }

    fn watch(&mut self, conn: Conn, key: WatchKey, request: pb::WatchCreateRequest, resumes: Option<WatchKey>) {
        assert_eq!(self.fake.conns.get(&conn), Some(&self.client), "a watcher on a connection that is gone");
        self.fake.seen.watches.push((self.client, request.clone(), resumes));
        self.fake.next += 1;
        let number = self.fake.next;
        let start = request.start_revision;
        let next = if start == 0 { self.fake.state.revision() + 1 } else { start };
        self.fake.watchers.insert(number, Watcher { client: self.client, conn, key, request, next });
        self.fake.tell_later(number, WatchNews::Created);
        if next < self.fake.compacted {
            let compact_revision = self.fake.compacted;
            self.fake.tell_later(number, WatchNews::Canceled { compact_revision, reason: String::new() });
        } else {
            self.fake.catch_up(number);
        }
    }

    fn cancel(&mut self, key: WatchKey) {
        self.fake.seen.cancels += 1;
        let owner = |watcher: &Watcher| watcher.client == self.client && watcher.key == key;
        let found = self.fake.watchers.iter().find(|(_, watcher)| owner(watcher)).map(|(number, _)| *number);
        let number = found.expect("a watcher that is there is cancelled");
        self.fake.tell_later(number, WatchNews::Canceled { compact_revision: 0, reason: String::new() });
    }

    fn progress(&mut self, conn: Conn) {
        self.fake.seen.progress += 1;
        let on: Vec<u64> =
            self.fake.watchers.iter().filter(|(_, watcher)| watcher.conn == conn).map(|(number, _)| *number).collect();
        for watcher in on {
            self.fake.tell_later(watcher, WatchNews::Progress);
        }
    }

    fn timer(&mut self, after_us: u64, token: u64) {
        self.fake.after(after_us.max(1), Due::Timer(self.client, token));
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.fake.pick(below)
    }

    fn unique(&mut self) -> u64 {
        self.fake.next += 1;
        self.fake.next
    }
}
