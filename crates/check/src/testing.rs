//! A store that keeps all promises, clients that use it at the same time, and the history they see: what tests of the
//! checkers judge, as it is or with a lie in it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use cetera_proto::etcdserverpb as pb;
use cetera_proto::mvccpb::Event;

use crate::generate::{Dice, Generator, Mix};
use crate::history::{Call, History, News, Outcome, Request, Response, Told, Watcher};
use crate::model::{Refusal, Store, World, validate};
use crate::replay::{is_serializable, watches};

/// Numbers from a seed.
pub(crate) struct Rng {
    state: u64,
    unique: u64,
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15, unique: 0 }
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.pick(100) < percent
    }
}

impl Dice for Rng {
    fn pick(&mut self, below: u64) -> u64 {
        // splitmix64
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn unique(&mut self) -> u64 {
        self.unique += 1;
        self.unique
    }
}

/// What a server may do wrong.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Lie {
    /// A write is answered and forgotten.
    LostWrite,
    /// A write takes place twice.
    DoubleWrite,
    /// A linearizable read is answered from the past.
    StaleRead,
    /// A lease ends before its time, with its keys.
    EarlyEnd,
    /// A revocation leaves the lease's keys.
    KeysLeft,
    /// A read of what was compacted is answered.
    ReadCompacted,
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) seed: u64,
    pub(crate) clients: u32,
    pub(crate) calls: usize,
    pub(crate) watchers: usize,
    /// Calls in a hundred whose answer is lost.
    pub(crate) lost_percent: u64,
    /// Whether one watcher sees all from the beginning.
    pub(crate) observer: bool,
    /// Longest time between a request and its being handled, and between that and the answer.
    pub(crate) delay_us: u64,
    pub(crate) mix: Mix,
    /// Done wrong to the first request it can be done to after so many.
    pub(crate) lie: Option<(Lie, usize)>,
}

impl Shape {
    pub(crate) fn new(seed: u64, calls: usize) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            seed,
            clients: 1 + rng.pick(8) as u32,
            calls,
            watchers: 8,
            lost_percent: [0, 3, 15][rng.pick(3) as usize],
            observer: true,
            delay_us: [2_000, 50_000, 400_000][rng.pick(3) as usize],
            mix: Mix::swarm(&mut rng),
            lie: None,
        }
    }
}

#[derive(Copy, Clone)]
struct Lease {
    ttl: i64,
    deadline_us: u64,
}

/// The store as it was after a change of it: a member that is behind shows it so.
#[derive(Copy, Clone)]
struct Past {
    at_us: u64,
    revision: i64,
    compacted: i64,
}

/// A server that keeps all promises.
struct Server {
    store: Store,
    compacted: i64,
    leases: BTreeMap<i64, Lease>,
    auto_lease: i64,
    past: Vec<Past>,
    handled: usize,
    lie: Option<(Lie, usize)>,
}

impl Server {
    fn new(lie: Option<(Lie, usize)>) -> Self {
        let past = Past { at_us: 0, revision: 1, compacted: -1 };
        Self {
            store: Store::new(1),
            compacted: -1,
            leases: BTreeMap::new(),
            auto_lease: 0x7000_0000,
            past: vec![past],
            handled: 0,
            lie,
        }
    }

    fn expire(&mut self, now: u64) {
        let due: Vec<i64> =
            self.leases.iter().filter(|(_, lease)| lease.deadline_us <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.leases.remove(&id);
            self.store.revoke(id);
            self.note(now);
        }
    }

    fn note(&mut self, at_us: u64) {
        self.past.push(Past { at_us, revision: self.store.revision(), compacted: self.compacted });
    }

    fn handle(&mut self, request: &Request, now: u64, rng: &mut Rng) -> Result<Response, Refusal> {
        self.expire(now);
        validate(request)?;
        self.handled += 1;
        let lie = self.lie.filter(|(_, after)| *after <= self.handled).map(|(lie, _)| lie);
        let before = self.store.revision();
        if lie == Some(Lie::EarlyEnd)
            && let Some(id) =
                self.leases.iter().find(|(_, lease)| lease.deadline_us > now + 1_000_000).map(|(id, _)| *id)
        {
            self.leases.remove(&id);
            self.store.revoke(id);
            self.lie = None;
        }
        let answer = match (lie, request) {
            (Some(Lie::StaleRead), Request::Range(range)) if !range.serializable && self.past.len() > 1 => {
                let past = self.past[self.past.len() - 2 - rng.pick(self.past.len().min(10) as u64 - 1) as usize];
                self.lie = self.lie.filter(|_| past.revision == before);
                let world = World { compacted: past.compacted, lease_exists: &|_| true };
                self.store.read(range, past.revision, &world).map(Response::Range)
            }
            (Some(Lie::KeysLeft), Request::LeaseRevoke(request))
                if !self.store.attached(request.id, before).is_empty() =>
            {
                self.lie = None;
                self.leases.remove(&request.id);
                let header = Some(pb::ResponseHeader { revision: before, ..Default::default() });
                Ok(Response::LeaseRevoke(pb::LeaseRevokeResponse { header }))
            }
            (Some(Lie::ReadCompacted), Request::Range(range))
                if range.revision > 0 && range.revision < self.compacted =>
            {
                self.lie = None;
                self.store.read(range, before, &World { compacted: -1, lease_exists: &|_| true }).map(Response::Range)
            }
            _ => self.perform(request, now, rng),
        };
        if self.store.revision() > before && answer.is_ok() {
            match lie {
                Some(Lie::LostWrite) => {
                    self.store.undo();
                    self.lie = None;
                }
                Some(Lie::DoubleWrite) if matches!(request, Request::Put(_)) => {
                    let _ = self.perform(request, now, rng);
                    self.lie = None;
                }
                _ => {}
            }
        }
        self.note(now);
        answer
    }

    fn perform(&mut self, request: &Request, now: u64, rng: &mut Rng) -> Result<Response, Refusal> {
        let header = |revision| Some(pb::ResponseHeader { revision, ..Default::default() });
        if is_serializable(request) && rng.chance(50) {
            let back = rng.pick(self.past.len().min(20) as u64) as usize;
            let past = self.past[self.past.len() - 1 - back];
            let world = World { compacted: past.compacted, lease_exists: &|_| true };
            return match request {
                Request::Range(range) => self.store.read(range, past.revision, &world).map(Response::Range),
                Request::Txn(txn) => self.store.read_txn(txn, past.revision, &world).map(Response::Txn),
                _ => unreachable!(),
            };
        }
        let leases = &self.leases;
        let exists = |lease| leases.contains_key(&lease);
        match request {
            Request::Compact(request) => {
                if request.revision <= self.compacted {
                    return Err(Refusal::Compacted);
                }
                if request.revision > self.store.revision() {
                    return Err(Refusal::FutureRevision);
                }
                self.compacted = request.revision;
                Ok(Response::Compact(pb::CompactionResponse { header: header(self.store.revision()) }))
            }
            Request::LeaseGrant(request) => {
                let mut id = request.id;
                if id == 0 {
                    self.auto_lease += 1;
                    id = self.auto_lease;
                }
                if self.leases.contains_key(&id) {
                    return Err(Refusal::LeaseExist);
                }
                let ttl = request.ttl.max(2);
                self.leases.insert(id, Lease { ttl, deadline_us: now + ttl as u64 * 1_000_000 });
                let header = header(self.store.revision());
                Ok(Response::LeaseGrant(pb::LeaseGrantResponse { header, id, ttl, ..Default::default() }))
            }
            Request::LeaseRevoke(request) => {
                self.leases.remove(&request.id).ok_or(Refusal::LeaseNotFound)?;
                self.store.revoke(request.id);
                Ok(Response::LeaseRevoke(pb::LeaseRevokeResponse { header: header(self.store.revision()) }))
            }
            Request::LeaseKeepAlive(request) => {
                let ttl = self.leases.get_mut(&request.id).map_or(0, |lease| {
                    lease.deadline_us = now + lease.ttl as u64 * 1_000_000;
                    lease.ttl
                });
                let header = header(self.store.revision());
                Ok(Response::LeaseKeepAlive(pb::LeaseKeepAliveResponse { header, id: request.id, ttl }))
            }
            Request::LeaseTimeToLive(request) => {
                let mut answer = pb::LeaseTimeToLiveResponse {
                    header: header(self.store.revision()),
                    id: request.id,
                    ttl: -1,
                    ..Default::default()
                };
                if let Some(lease) = self.leases.get(&request.id) {
                    answer.ttl = (lease.deadline_us.saturating_sub(now + 1) / 1_000_000) as i64;
                    answer.granted_ttl = lease.ttl;
                    if request.keys {
                        answer.keys = self.store.attached(request.id, self.store.revision());
                    }
                }
                Ok(Response::LeaseTimeToLive(answer))
            }
            request => self.store.execute(request, &World { compacted: self.compacted, lease_exists: &exists }),
        }
    }
}

#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Step {
    Issue(u32),
    Handle(usize),
    Answer(usize),
}

/// A run of the server that keeps all promises, as its clients saw it.
pub(crate) fn legal(shape: &Shape) -> History {
    let mut rng = Rng::new(shape.seed.wrapping_mul(31).wrapping_add(7));
    let mut server = Server::new(shape.lie);
    let mut generators: Vec<Generator> =
        (0..shape.clients).map(|client| Generator::new(shape.mix.clone(), client)).collect();
    let mut calls: Vec<Call> = Vec::new();
    let mut steps: BinaryHeap<Reverse<(u64, u64, Step)>> = BinaryHeap::new();
    let mut order = 0;
    let mut push = |steps: &mut BinaryHeap<_>, at: u64, step| {
        order += 1;
        steps.push(Reverse((at, order, step)));
    };
    for client in 0..shape.clients {
        push(&mut steps, rng.pick(1_000), Step::Issue(client));
    }
    let mut now = 0;
    while let Some(Reverse((at, _, step))) = steps.pop() {
        now = at;
        match step {
            Step::Issue(client) => {
                if calls.len() >= shape.calls {
                    continue;
                }
                let request = generators[client as usize].next(&mut rng);
                let index = calls.len();
                let outcome = Outcome::Unknown("timed out".to_owned());
                calls.push(Call { client, member: 0, start_us: now, end_us: u64::MAX, request, outcome });
                let handled = now + 1 + rng.pick(shape.delay_us);
                if rng.chance(shape.lost_percent) {
                    // Lost on its way, or handled and not answered, perhaps much later.
                    match rng.pick(3) {
                        0 => {}
                        1 => push(&mut steps, handled, Step::Handle(index)),
                        _ => push(&mut steps, now + 1 + rng.pick(shape.delay_us * 10), Step::Handle(index)),
                    }
                    calls[index].end_us = now + shape.delay_us * 3;
                    push(&mut steps, now + shape.delay_us * 3, Step::Answer(index));
                } else {
                    push(&mut steps, handled, Step::Handle(index));
                    calls[index].end_us = handled + 1 + rng.pick(shape.delay_us);
                    push(&mut steps, calls[index].end_us, Step::Answer(index));
                }
            }
            Step::Handle(index) => {
                let answer = server.handle(&calls[index].request, now, &mut rng);
                // Lost ones are never answered before their time-out.
                if calls[index].end_us > now && !is_lost(&calls[index], shape, now) {
                    calls[index].outcome = match answer {
                        Ok(response) => Outcome::Done(response),
                        Err(refusal) => Outcome::Refused(refusal.text().to_owned()),
                    };
                }
            }
            Step::Answer(index) => {
                let call = &calls[index];
                generators[call.client as usize].note(&call.request, &call.outcome);
                push(&mut steps, now + rng.pick(shape.delay_us), Step::Issue(call.client));
            }
        }
    }
    server.expire(now + 1);
    server.note(now + 1);
    let mut watchers = Vec::new();
    for index in 0..shape.watchers {
        watchers.push(watcher(&server, now, shape.observer && index == 0, &mut rng));
    }
    History { calls, watchers, first_revision: 1 }
}

/// A call that is not answered ends three delays after it began, later than any answer.
fn is_lost(call: &Call, shape: &Shape, _now: u64) -> bool {
    call.end_us == call.start_us + shape.delay_us * 3
}

/// A watcher of a run that is over: what it was told while it went on.
fn watcher(server: &Server, end: u64, observer: bool, rng: &mut Rng) -> Watcher {
    let begin = if observer { 0 } else { rng.pick(end + 1) };
    let now_at = |time: u64| {
        let after = server.past.partition_point(|past| past.at_us <= time);
        server.past[after - 1]
    };
    let there = now_at(begin);
    let mut request = pb::WatchCreateRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
    request.prev_kv = rng.chance(50);
    if observer {
        request.start_revision = 1;
    } else {
        request.start_revision = match rng.pick(3) {
            0 => 0,
            1 => 1 + rng.pick(there.revision as u64) as i64,
            _ => there.revision + 1 + rng.pick(10) as i64,
        };
        if rng.chance(50) {
            request.key = b"/kv/".to_vec().into();
            request.range_end = b"/kv0".to_vec().into();
        }
        if rng.chance(30) {
            request.filters = vec![rng.pick(2) as i32];
        }
        request.fragment = rng.chance(30);
    }
    let mut at = begin + 1 + rng.pick(1_000);
    let created = Told { at_us: at, revision: there.revision, news: News::Created };
    let mut watcher =
        Watcher { request, start_us: begin, told: vec![created], end_us: end + 1_000_000, ..Default::default() };
    let mut next = match watcher.request.start_revision {
        0 => there.revision + 1,
        start => start,
    };
    if next < there.compacted {
        let news = News::Canceled { compact_revision: there.compacted, reason: String::new() };
        watcher.told.push(Told { at_us: at, revision: 0, news });
        return watcher;
    }
    // From now on it is never so slow that a compaction overtakes it.
    loop {
        at += 1 + rng.pick(end / 50 + 10_000);
        let seen = now_at(at);
        let mut events: Vec<Event> = Vec::new();
        for revision in next..=seen.revision {
            let matching = server.store.changes(revision).iter().filter(|event| {
                event.kv.as_ref().is_some_and(|kv| watches(&watcher.request, &kv.key))
                    && !watcher.request.filters.contains(&event.r#type)
            });
            events.extend(
                matching
                    .cloned()
                    .map(|event| Event { prev_kv: event.prev_kv.filter(|_| watcher.request.prev_kv), ..event }),
            );
        }
        if events.is_empty() {
            if rng.chance(30) && seen.revision + 1 >= next {
                watcher.told.push(Told { at_us: at, revision: seen.revision, news: News::Progress });
            }
        } else {
            let cut =
                if watcher.request.fragment && events.len() > 1 { 1 + rng.pick(events.len() as u64 - 1) } else { 0 };
            let rest = events.split_off(cut as usize);
            if !events.is_empty() {
                let news = News::Events { events, fragment: true };
                watcher.told.push(Told { at_us: at, revision: seen.revision, news });
            }
            let news = News::Events { events: rest, fragment: false };
            watcher.told.push(Told { at_us: at, revision: seen.revision, news });
        }
        next = next.max(seen.revision + 1);
        if at > end {
            break;
        }
    }
    watcher.owed_through = Some(i64::MAX);
    watcher
}
