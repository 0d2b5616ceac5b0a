//! The load: clients that write, delete, read, lease, compact and watch all at once, and note in the ledger what they
//! are told.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cetera_client::proto::etcdserverpb::response_op::Response;
use cetera_client::{Client, Code, Error, Get, Watch, watch_error};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::ledger::{Excerpt, Lease, Ledger, Seen};
use super::model::Cell;
use super::op::{BLOCK, KEYS, Key, Op, PUTS_PER_OP, Write, key_name};
use super::value::Value;
use super::verify::{all_keys, by_revision};
use crate::rng::Rng;

/// Clients that each have one request in flight.
pub const WORKERS: usize = 24;
/// Watchers besides the one of everything.
const WATCHERS: usize = 3;
/// Leases that no one revokes, kept at least.
const LASTING_LEASES: usize = 6;
/// Leases at most.
const LEASES: usize = 40;
/// Seconds of a lease that outlasts a run, and of one that may end in a long life.
const LASTING_TTL: i64 = 36_000;
const SHORT_TTL: i64 = 2;
const MIDDLE_TTL: i64 = 600;

/// What the clients of one life share.
pub struct Shared {
    /// What is known.
    pub ledger: RefCell<Ledger>,
    /// Numbers of ops and leases.
    next_id: RefCell<u64>,
    /// The first violation seen by a client.
    violation: RefCell<Option<String>>,
    /// Workers are to stop after the request they have in flight.
    stop: RefCell<bool>,
}

type Told = Result<(), String>;

impl Shared {
    /// With what is known from former lives; ids begin at `next_id`.
    pub fn new(ledger: Ledger, next_id: u64) -> Shared {
        Shared {
            ledger: RefCell::new(ledger),
            next_id: RefCell::new(next_id),
            violation: RefCell::new(None),
            stop: RefCell::new(false),
        }
    }

    /// What is known, and the next id.
    pub fn into_parts(self) -> (Ledger, u64) {
        (self.ledger.into_inner(), self.next_id.into_inner())
    }

    /// Asks workers to stop.
    pub fn stop(&self) {
        *self.stop.borrow_mut() = true;
    }

    fn stopped(&self) -> bool {
        *self.stop.borrow() || self.violation.borrow().is_some()
    }

    /// The first violation that a client saw.
    pub fn violation(&self) -> Option<String> {
        self.violation.borrow().clone()
    }

    fn note(&self, told: Told) {
        if let Err(what) = told {
            self.violation.borrow_mut().get_or_insert(what);
        }
    }

    fn id(&self) -> u64 {
        let mut next = self.next_id.borrow_mut();
        *next += 1;
        *next
    }
}

/// The tasks of one life.
pub struct Load {
    /// Those that end when asked to.
    pub workers: JoinSet<()>,
    /// Those that end with the connection.
    pub watchers: JoinSet<()>,
}

/// Starts it all, over these clients.
pub fn start(shared: &Rc<Shared>, clients: &[Client], rng: &mut Rng) -> Load {
    let mut load = Load { workers: JoinSet::new(), watchers: JoinSet::new() };
    let (floor, settled) = {
        let ledger = shared.ledger.borrow();
        (ledger.floor, ledger.settled)
    };
    let client = |n: usize| clients[n % clients.len()].clone();
    load.watchers.spawn_local(noted(Rc::clone(shared), record(Rc::clone(shared), client(0), settled + 1)));
    for n in 0..WATCHERS {
        let from = rng.within(floor as u64 + 1, settled as u64 + 2) as i64;
        let first = rng.within(0, u64::from(KEYS)) as Key;
        let past = rng.within(u64::from(first) + 1, u64::from(KEYS) + 1) as Key;
        let excerpt = Excerpt { from, first, past, events: Vec::new() };
        load.watchers.spawn_local(noted(Rc::clone(shared), watch_some(Rc::clone(shared), client(n + 1), excerpt)));
    }
    for n in 0..WORKERS {
        let seed = Rng::new(rng.next_u64());
        load.workers.spawn_local(noted(Rc::clone(shared), work(Rc::clone(shared), client(n), seed)));
    }
    let seed = Rng::new(rng.next_u64());
    load.workers.spawn_local(noted(Rc::clone(shared), compact(Rc::clone(shared), client(0), seed)));
    load
}

async fn noted(shared: Rc<Shared>, task: impl Future<Output = Told>) {
    let told = task.await;
    shared.note(told);
}

/// Whether an answer says for certain that nothing happened.
fn is_refusal(error: &Error) -> bool {
    use Code::{AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, OutOfRange, ResourceExhausted};
    matches!(
        error.code(),
        AlreadyExists | FailedPrecondition | InvalidArgument | NotFound | OutOfRange | ResourceExhausted
    )
}

async fn work(shared: Rc<Shared>, client: Client, mut rng: Rng) -> Told {
    while !shared.stopped() {
        let answered = match rng.within(0, 100) {
            0..55 => put(&shared, &client, &mut rng).await,
            55..65 => delete(&shared, &client, &mut rng).await,
            65..78 => txn(&shared, &client, &mut rng, false).await,
            78..88 => txn(&shared, &client, &mut rng, true).await,
            88..95 => get(&shared, &client, &mut rng).await,
            _ => lease(&shared, &client, &mut rng).await,
        };
        if !answered? {
            return Ok(()); // The connection broke: the server is gone.
        }
    }
    Ok(())
}

fn any_key(rng: &mut Rng) -> Key {
    rng.within(0, u64::from(KEYS)) as Key
}

/// Mostly small, some that fill segments quickly.
fn any_value(rng: &mut Rng, op: u64, n: u64) -> Value {
    let len = match rng.within(0, 1000) {
        0..600 => rng.within(u64::from(Value::MIN_BYTES), 300),
        600..940 => rng.within(300, 4_500),
        940..990 => rng.within(4_500, 40_000),
        990..998 => rng.within(40_000, 200_000),
        _ => rng.within(200_000, 1_000_000),
    };
    Value { id: op * PUTS_PER_OP + n, len: len as u32 }
}

async fn put(shared: &Shared, client: &Client, rng: &mut Rng) -> Result<bool, String> {
    let id = shared.id();
    let lease = if rng.chance(15) { any_lease(&shared.ledger.borrow(), rng, |_| true) } else { 0 };
    let (key, value) = (any_key(rng), any_value(rng, id, 0));
    let known = shared.ledger.borrow_mut().sent(Op { id, guard: None, writes: vec![Write::Put { key, value, lease }] });
    match client.put(Write::put(key, value, lease)).await {
        Ok(answer) => {
            shared.ledger.borrow_mut().acknowledged(id, answer.header.map_or(0, |h| h.revision), known)?;
            Ok(true)
        }
        Err(error) => Ok(unanswered(shared, id, &error)),
    }
}

async fn delete(shared: &Shared, client: &Client, rng: &mut Rng) -> Result<bool, String> {
    let id = shared.id();
    let first = any_key(rng);
    let (first, past) = if rng.chance(10) { block_of(first) } else { (first, first + 1) };
    let known = shared.ledger.borrow_mut().sent(Op { id, guard: None, writes: vec![Write::Delete { first, past }] });
    match client.delete(Write::delete(first, past)).await {
        Ok(answer) => {
            let revision = answer.header.map_or(0, |h| h.revision);
            let mut ledger = shared.ledger.borrow_mut();
            if answer.deleted > 0 {
                ledger.acknowledged(id, revision, known)?;
            } else {
                ledger.changed_nothing(id, revision, true, known)?;
            }
            Ok(true)
        }
        Err(error) => Ok(unanswered(shared, id, &error)),
    }
}

fn block_of(key: Key) -> (Key, Key) {
    let first = key / BLOCK * BLOCK;
    (first, first + BLOCK)
}

async fn txn(shared: &Shared, client: &Client, rng: &mut Rng, guarded: bool) -> Result<bool, String> {
    let id = shared.id();
    let mut keys: Vec<Key> = (0..KEYS).collect();
    rng.shuffle(&mut keys);
    let mut keys = keys.into_iter();
    let mut op = Op { id, guard: None, writes: Vec::new() };
    let lasting = any_lease(&shared.ledger.borrow(), rng, |lease| lease.ttl == LASTING_TTL);
    for n in 0..rng.within(1, if guarded { 3 } else { 7 }) {
        let key = keys.next().expect("fewer writes than keys");
        let value = any_value(rng, id, n);
        let lease = if rng.chance(10) { lasting } else { 0 };
        if guarded && n == 0 {
            op.guard = Some((key, shared.ledger.borrow().last_written(key)));
        }
        let is_put = n == 0 || rng.chance(70);
        op.writes.push(if is_put {
            Write::Put { key, value, lease }
        } else {
            Write::Delete { first: key, past: key + 1 }
        });
    }
    let known = shared.ledger.borrow_mut().sent(op.clone());
    let answer = match client.txn(op.txn()).await {
        Ok(answer) => answer,
        Err(error) => return Ok(unanswered(shared, id, &error)),
    };
    let revision = answer.header.map_or(0, |h| h.revision);
    let mut ledger = shared.ledger.borrow_mut();
    if answer.succeeded {
        ledger.acknowledged(id, revision, known)?;
        return Ok(true);
    }
    ledger.changed_nothing(id, revision, false, known)?;
    let (key, _) = op.guard.expect("changed_nothing refuses a failure without a condition");
    match answer.responses.first().and_then(|first| first.response.as_ref()) {
        Some(Response::ResponseRange(range)) => {
            let cell = range.kvs.first().map(Cell::of).transpose()?.map(|(_, cell)| cell);
            ledger.read(Seen { revision, key, cell }, known)?;
        }
        other => return Err(format!("a failed transaction with a read was answered {other:?}")),
    }
    Ok(true)
}

async fn get(shared: &Shared, client: &Client, rng: &mut Rng) -> Result<bool, String> {
    let key = any_key(rng);
    let known = shared.ledger.borrow().known;
    match client.get(Get::new(key_name(key))).await {
        Ok(answer) => {
            let cell = answer.kvs.first().map(Cell::of).transpose()?.map(|(_, cell)| cell);
            let revision = answer.header.map_or(0, |h| h.revision);
            shared.ledger.borrow_mut().read(Seen { revision, key, cell }, known)?;
            Ok(true)
        }
        Err(error) if is_refusal(&error) => Err(format!("a read was refused: {error}")),
        Err(_) => Ok(false),
    }
}

/// A lease that is granted and that nobody is revoking, 0 if there is none.
fn any_lease(ledger: &Ledger, rng: &mut Rng, fits: impl Fn(&Lease) -> bool) -> i64 {
    let usable = |lease: &Lease| lease.granted && !lease.revoking && fits(lease);
    let ids: Vec<i64> = ledger.leases.iter().filter(|(_, lease)| usable(lease)).map(|(&id, _)| id).collect();
    if ids.is_empty() { 0 } else { ids[rng.within(0, ids.len() as u64) as usize] }
}

/// Grants, revokes or renews one.
async fn lease(shared: &Shared, client: &Client, rng: &mut Rng) -> Result<bool, String> {
    let (count, lasting) = {
        let ledger = shared.ledger.borrow();
        (ledger.leases.len(), ledger.leases.values().filter(|l| l.ttl == LASTING_TTL && l.granted).count())
    };
    if lasting < LASTING_LEASES || (count < LEASES && rng.chance(40)) {
        let short = if rng.chance(30) { SHORT_TTL } else { MIDDLE_TTL };
        return grant(shared, client, if lasting < LASTING_LEASES { LASTING_TTL } else { short }).await;
    }
    let id = any_lease(&shared.ledger.borrow(), rng, |lease| lease.ttl != LASTING_TTL);
    if id == 0 {
        return Ok(true);
    }
    if rng.chance(50) { revoke(shared, client, id).await } else { renew(shared, client, id).await }
}

async fn grant(shared: &Shared, client: &Client, ttl: i64) -> Result<bool, String> {
    let id = shared.id() as i64;
    let until = Instant::now() + Duration::from_secs(ttl.unsigned_abs());
    let lease = Lease { ttl, granted: false, revoking: false, revoked: false, until };
    shared.ledger.borrow_mut().leases.insert(id, lease);
    match client.lease_grant(ttl, id).await {
        Ok(answer) if answer.id == id && answer.ttl == ttl => {
            change_lease(shared, id, |lease| lease.granted = true);
            Ok(true)
        }
        Ok(answer) => Err(format!("lease {id} of {ttl} s was granted as {answer:?}")),
        Err(error) if is_refusal(&error) => Err(format!("granting lease {id} was refused: {error}")),
        Err(_) => Ok(false),
    }
}

async fn revoke(shared: &Shared, client: &Client, id: i64) -> Result<bool, String> {
    change_lease(shared, id, |lease| lease.revoking = true);
    match client.lease_revoke(id).await {
        Ok(_) => {
            change_lease(shared, id, |lease| lease.revoked = true);
            Ok(true)
        }
        Err(error) if is_refusal(&error) => gone_in_time(shared, id, &error),
        Err(_) => Ok(false),
    }
}

async fn renew(shared: &Shared, client: &Client, id: i64) -> Result<bool, String> {
    let sent = Instant::now();
    match client.lease_keep_alive_once(id).await {
        Ok(answer) => {
            let until = sent + Duration::from_secs(answer.ttl.unsigned_abs());
            change_lease(shared, id, |lease| lease.until = lease.until.max(until));
            Ok(true)
        }
        Err(error) if is_refusal(&error) => gone_in_time(shared, id, &error),
        Err(_) => Ok(false),
    }
}

fn change_lease(shared: &Shared, id: i64, change: impl FnOnce(&mut Lease)) {
    if let Some(lease) = shared.ledger.borrow_mut().leases.get_mut(&id) {
        change(lease);
    }
}

/// The server says that there is no such lease: right only if its time is over or somebody revoked it.
fn gone_in_time(shared: &Shared, id: i64, error: &Error) -> Result<bool, String> {
    let ledger = shared.ledger.borrow();
    match ledger.leases.get(&id) {
        Some(lease) if !lease.revoking && Instant::now() < lease.until => {
            Err(format!("lease {id} has time left and the server says: {error}"))
        }
        _ => Ok(true),
    }
}

/// Notes a write without an acknowledgement. False if the server is gone.
fn unanswered(shared: &Shared, id: u64, error: &Error) -> bool {
    let refused = is_refusal(error);
    if refused {
        shared.ledger.borrow_mut().refused(id);
    }
    refused
}

/// Compacts now and then, never beyond what the recording watcher has seen.
async fn compact(shared: Rc<Shared>, client: Client, mut rng: Rng) -> Told {
    while !shared.stopped() {
        sleep(Duration::from_millis(rng.within(20, 200))).await;
        let target = {
            let ledger = shared.ledger.borrow();
            let seen = ledger.watched.last_key_value().map_or(ledger.settled, |(&revision, _)| revision);
            (seen - rng.within(0, 300) as i64).max(1)
        };
        if target <= shared.ledger.borrow().compacted {
            continue;
        }
        shared.ledger.borrow_mut().compacting.push(target);
        let answer = client.compact(target, rng.chance(30)).await;
        let mut ledger = shared.ledger.borrow_mut();
        match answer {
            Ok(_) => {
                ledger.compacting.retain(|&open| open != target);
                ledger.compacted = ledger.compacted.max(target);
            }
            Err(error) if is_refusal(&error) => return Err(format!("compacting at {target} was refused: {error}")),
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// Watches everything and records it, revision by revision without a gap.
async fn record(shared: Rc<Shared>, client: Client, from: i64) -> Told {
    let mut watcher = client.watch(all_keys().revision(from));
    let mut next = from;
    while let Ok(Some(response)) = watcher.next().await {
        if let Some(why) = watch_error(&response) {
            return Err(format!("the watch of everything was ended at revision {next}: {why}"));
        }
        for (revision, changes) in by_revision(&response.events)? {
            if revision != next {
                return Err(format!("a watcher of everything saw revision {revision} instead of {next}"));
            }
            next += 1;
            let mut ledger = shared.ledger.borrow_mut();
            ledger.watched.insert(revision, changes);
        }
    }
    Ok(())
}

/// Watches some keys from a revision of the past.
async fn watch_some(shared: Rc<Shared>, client: Client, excerpt: Excerpt) -> Told {
    let watch = Watch::new(key_name(excerpt.first)).range(key_name(excerpt.past)).revision(excerpt.from);
    let mut watcher = client.watch(watch);
    let number = {
        let mut ledger = shared.ledger.borrow_mut();
        ledger.excerpts.push(excerpt);
        ledger.excerpts.len() - 1
    };
    while let Ok(Some(response)) = watcher.next().await {
        if response.compact_revision > 0 {
            // Right if it had not got that far yet, and that much was compacted.
            let ledger = shared.ledger.borrow();
            let asked = ledger.compacting.iter().copied().fold(ledger.compacted, i64::max);
            if response.compact_revision > asked {
                return Err(format!("a watcher was told of a compaction at {}", response.compact_revision));
            }
            return Ok(());
        }
        if let Some(why) = watch_error(&response) {
            return Err(format!("a watch was ended: {why}"));
        }
        let mut events = by_revision(&response.events)?;
        shared.ledger.borrow_mut().excerpts[number].events.append(&mut events);
    }
    Ok(())
}
