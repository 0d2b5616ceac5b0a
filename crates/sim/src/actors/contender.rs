//! Mutexes and elections as etcd's client library makes them: a key under a prefix for each contender, bound to its
//! lease; the one that was created first holds; the others wait for the one before them to go.
//!
//! While it holds, a contender writes to what the mutex protects, by a transaction that its own key's create revision
//! guards (the fencing revision). Now and then one sleeps past its lease and writes on, as a paused process would: the
//! guard must refuse it.

use bytes::Bytes;
use cetera_check::history::{News as WatchNews, Outcome, Request, Response, Told};
use cetera_check::keys::{self, prefix_end};
use cetera_proto::{etcdserverpb as pb, mvccpb};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Op;
use pb::response_op::Response as OpAnswer;

use super::line::{Line, MS, SECOND, Session, between, get, is_in_vain, is_lease_gone, revision};
use super::watching::{Turn, Watching};
use super::{created_at, op};
use crate::client::{Client, Conn, Io, News, WatchKey};

/// What is contended for.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Style {
    /// A mutex.
    Mutex,
    /// An election: the leader changes its own key's value too, and resigns by a guarded delete.
    Election,
}

/// Silence after which a waiter looks again for itself.
const SILENCE_US: u64 = 8 * SECOND;

/// A client that contends.
pub struct Contender {
    name: String,
    style: Style,
    line: Line,
    /// `/lock/<name>/` or `/election/<name>/`.
    prefix: Bytes,
    /// `/resource/<name>` or `/term/<name>`.
    protects: Bytes,
    ttl: i64,
    step: Step,
    session: Option<Session>,
    /// When the grant under way was sent.
    asked_us: u64,
    lease: i64,
    /// Create revision of the own key.
    fence: i64,
    hold_until_us: u64,
    /// It neither renews nor does anything before.
    deaf_until_us: u64,
    stream: Option<Conn>,
    keys: WatchKey,
    winding: bool,
}

#[derive(Debug)]
enum Step {
    /// Before the next try.
    Idle,
    Grant,
    Enter,
    /// Who is before us?
    Look,
    Wait(Watching),
    /// Nobody any more; are we still there?
    Confirm,
    Hold,
    Leave,
    Revoke,
    AtRest,
}

impl Contender {
    /// The contender with this number for what is called `what`.
    pub fn new(number: u32, style: Style, what: &str, ttl: i64, timeout_us: u64) -> Self {
        let (name, prefix, protects) = match style {
            Style::Mutex => ("lock", keys::LOCK, keys::RESOURCE),
            Style::Election => ("candidate", keys::ELECTION, keys::TERM),
        };
        Self {
            name: format!("{name}-{number}"),
            style,
            line: Line::new(timeout_us, None),
            prefix: [prefix, what.as_bytes(), b"/"].concat().into(),
            protects: [protects, what.as_bytes()].concat().into(),
            ttl,
            step: Step::Idle,
            session: None,
            asked_us: 0,
            lease: 0,
            fence: 0,
            hold_until_us: 0,
            deaf_until_us: 0,
            stream: None,
            keys: 0,
            winding: false,
        }
    }

    fn own_key(&self) -> Bytes {
        [&self.prefix[..], format!("{:x}", self.lease).as_bytes()].concat().into()
    }

    /// Starts over after a pause; the session is kept if there is one.
    fn idle(&mut self, io: &mut dyn Io) {
        self.step = if self.winding { Step::Revoke } else { Step::Idle };
        let pause = if self.winding { 1 } else { between(io, 20 * MS, 2 * SECOND) };
        self.line.sleep(io, pause);
    }

    /// The session is lost: all that hung on it is gone, or goes with the lease.
    fn lost(&mut self, io: &mut dyn Io) {
        self.session = None;
        self.idle(io);
    }

    /// Does the next thing; no call is under way.
    fn advance(&mut self, io: &mut dyn Io) {
        let now = io.now_us();
        if now < self.deaf_until_us && !self.winding {
            return self.line.sleep(io, self.deaf_until_us - now);
        }
        let renews = !matches!(self.step, Step::Revoke | Step::AtRest);
        if let Some(renewal) = self.session.as_mut().filter(|_| renews).and_then(|session| session.renewal(now)) {
            return self.line.call(io, renewal);
        }
        let request = match &self.step {
            Step::Idle | Step::Grant if self.session.is_none() => {
                self.step = Step::Grant;
                self.asked_us = now;
                self.lease = super::LEASE_BASE + io.unique() as i64;
                Request::LeaseGrant(pb::LeaseGrantRequest { id: self.lease, ttl: self.ttl })
            }
            Step::Idle | Step::Grant | Step::Enter => {
                self.step = Step::Enter;
                self.enter(io)
            }
            Step::Look => self.look(),
            Step::Wait(watching) => {
                if now > watching.heard_us + SILENCE_US {
                    self.stop_waiting(io);
                    return self.advance(io);
                }
                let due = self.session.as_ref().map_or(SECOND, |session| session.due_in(now));
                return self.line.sleep(io, due.clamp(MS, SILENCE_US / 4));
            }
            Step::Confirm => get(&self.own_key()),
            Step::Hold if now >= self.hold_until_us => {
                self.step = Step::Leave;
                self.leave_request()
            }
            Step::Hold => self.work(io),
            Step::Leave => self.leave_request(),
            Step::Revoke => Request::LeaseRevoke(pb::LeaseRevokeRequest { id: self.lease }),
            Step::AtRest => return,
        };
        self.line.call(io, request);
    }

    /// Puts the own key if it is not there, and asks who was first.
    fn enter(&self, io: &mut dyn Io) -> Request {
        let key = self.own_key();
        let put =
            pb::PutRequest { key: key.clone(), value: self.candidate(io), lease: self.lease, ..Default::default() };
        let first = Op::RequestRange(pb::RangeRequest {
            key: self.prefix.clone(),
            range_end: prefix_end(&self.prefix),
            limit: 1,
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            ..Default::default()
        });
        let own = Op::RequestRange(pb::RangeRequest { key: key.clone(), ..Default::default() });
        Request::Txn(pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Op::RequestPut(put)), op(first.clone())],
            failure: vec![op(own), op(first)],
        })
    }

    /// The last one that came before us.
    fn look(&self) -> Request {
        Request::Range(pb::RangeRequest {
            key: self.prefix.clone(),
            range_end: prefix_end(&self.prefix),
            limit: 1,
            sort_order: SortOrder::Descend as i32,
            sort_target: SortTarget::Create as i32,
            max_create_revision: self.fence - 1,
            ..Default::default()
        })
    }

    /// A change that only who holds may make.
    fn work(&self, io: &mut dyn Io) -> Request {
        let own = self.own_key();
        let put = if self.style == Style::Election && io.pick(2) == 0 {
            let value = self.candidate(io);
            pb::PutRequest { key: own.clone(), value, lease: self.lease, ..Default::default() }
        } else {
            let value = format!("{}/{}", self.fence, io.unique()).into();
            pb::PutRequest { key: self.protects.clone(), value, ..Default::default() }
        };
        Request::Txn(pb::TxnRequest {
            compare: vec![created_at(&own, self.fence)],
            success: vec![op(Op::RequestPut(put))],
            failure: vec![op(Op::RequestRange(pb::RangeRequest { key: own, ..Default::default() }))],
        })
    }

    fn candidate(&self, io: &mut dyn Io) -> Bytes {
        format!("{:x}/{}", self.lease, io.unique()).into()
    }

    fn leave_request(&self) -> Request {
        let own = self.own_key();
        let delete = pb::DeleteRangeRequest { key: own.clone(), ..Default::default() };
        match self.style {
            Style::Mutex => Request::DeleteRange(delete),
            Style::Election => Request::Txn(pb::TxnRequest {
                compare: vec![created_at(&own, self.fence)],
                success: vec![op(Op::RequestDeleteRange(delete))],
                failure: Vec::new(),
            }),
        }
    }

    fn answered(&mut self, request: &Request, outcome: &Outcome, io: &mut dyn Io) {
        if let Request::LeaseKeepAlive(_) = request {
            let now = io.now_us();
            let alive = self.session.as_mut().is_none_or(|session| session.renewed(outcome, now));
            // A careful client stops here; one that holds tries its luck against the guard.
            if !alive && !matches!(self.step, Step::Hold | Step::Leave | Step::Revoke | Step::AtRest) {
                self.stop_waiting(io);
                return self.lost(io);
            }
            return self.line.sleep(io, 1);
        }
        if is_in_vain(outcome) {
            let pause = between(io, 10 * MS, 200 * MS);
            return self.line.sleep(io, pause);
        }
        let mut pause = 1;
        match (&self.step, outcome) {
            (Step::Grant, Outcome::Done(Response::LeaseGrant(granted))) => {
                self.session = Some(Session::new(self.lease, granted.ttl, self.asked_us));
                self.step = Step::Enter;
            }
            (Step::Enter, Outcome::Done(Response::Txn(txn))) => match entered(txn) {
                Some((fence, first)) => {
                    self.fence = fence;
                    self.step = Step::Look;
                    if first == fence {
                        self.hold(io);
                    }
                }
                None => return self.lost(io),
            },
            (Step::Enter, _) if is_lease_gone(outcome) => return self.lost(io),
            (Step::Look, Outcome::Done(Response::Range(range))) => match range.kvs.first() {
                Some(before) => self.wait(before.key.clone(), revision(range.header.as_ref()), io),
                None => self.step = Step::Confirm,
            },
            (Step::Confirm, Outcome::Done(Response::Range(range))) => match range.kvs.first() {
                Some(own) if own.create_revision == self.fence => self.hold(io),
                _ => return self.lost(io),
            },
            (Step::Hold, Outcome::Done(Response::Txn(txn))) => {
                if !txn.succeeded {
                    return self.lost(io);
                }
                pause = between(io, 20 * MS, 500 * MS);
                if io.pick(12) == 0 {
                    self.deaf_until_us = io.now_us() + between(io, 1, 2 * self.ttl.max(1) as u64 * SECOND);
                }
            }
            (Step::Leave, Outcome::Done(_)) => {
                if io.pick(2) == 0 {
                    return self.idle(io);
                }
                self.step = Step::Revoke;
            }
            (Step::Revoke, _) if matches!(request, Request::LeaseRevoke(_)) => {
                self.session = None;
                if self.winding {
                    self.step = Step::AtRest;
                    return;
                }
                return self.idle(io);
            }
            // What was answered belongs to a step that is over.
            _ => {}
        }
        self.line.sleep(io, pause);
    }

    fn hold(&mut self, io: &mut dyn Io) {
        self.step = Step::Hold;
        self.hold_until_us = io.now_us() + between(io, 50 * MS, 3 * SECOND);
    }

    fn wait(&mut self, before: Bytes, seen: i64, io: &mut dyn Io) {
        let conn = self.stream_conn(io);
        self.keys += 1;
        let request = pb::WatchCreateRequest { key: before, start_revision: seen + 1, ..Default::default() };
        self.step = Step::Wait(Watching::begin(io, conn, self.keys, request));
    }

    fn stream_conn(&mut self, io: &mut dyn Io) -> Conn {
        match self.stream {
            Some(conn) => conn,
            None => {
                let member = io.somewhere();
                *self.stream.insert(io.connect(member))
            }
        }
    }

    /// Gives up the watcher, if there is one, and looks again.
    fn stop_waiting(&mut self, io: &mut dyn Io) {
        if let Step::Wait(watching) = &self.step {
            if self.stream.is_some() {
                if watching.is_created() {
                    io.cancel(watching.key);
                } else if let Some(conn) = self.stream.take() {
                    // It does not answer: somebody else may.
                    io.close(conn);
                }
            }
            self.step = Step::Look;
        }
    }

    fn told(&mut self, key: WatchKey, told: &Told, io: &mut dyn Io) {
        let Step::Wait(watching) = &mut self.step else { return };
        if watching.key != key {
            return;
        }
        let gone = match &told.news {
            WatchNews::Events { events, .. } => {
                events.iter().any(|event| event.r#type == mvccpb::event::EventType::Delete as i32)
            }
            _ => false,
        };
        let turn = watching.told(told);
        if gone {
            self.stop_waiting(io);
        } else if turn != Turn::On {
            self.step = Step::Look;
        }
        if self.line.is_free() && !matches!(self.step, Step::Wait(_)) {
            self.line.sleep(io, 1);
        }
    }

    fn stream_broke(&mut self, io: &mut dyn Io) {
        self.stream = None;
        let Step::Wait(_) = &self.step else { return };
        if io.pick(2) == 0 {
            self.step = Step::Look;
            if self.line.is_free() {
                let pause = between(io, MS, 200 * MS);
                self.line.sleep(io, pause);
            }
            return;
        }
        let conn = self.stream_conn(io);
        self.keys += 1;
        if let Step::Wait(watching) = &mut self.step {
            watching.resume(io, conn, self.keys);
        }
    }

    fn wind(&mut self, io: &mut dyn Io) {
        self.winding = true;
        self.stop_waiting(io);
        let has_nothing = self.session.is_none() && matches!(self.step, Step::Idle) && self.line.is_free();
        self.step = if has_nothing { Step::AtRest } else { Step::Revoke };
        if self.line.is_free() {
            self.line.sleep(io, 1);
        }
    }
}

/// The fencing revision and the create revision of who is first, by the answer to [`Contender::enter`].
fn entered(txn: &pb::TxnResponse) -> Option<(i64, i64)> {
    let kv = |index: usize| match txn.responses.get(index).map(|op| &op.response) {
        Some(Some(OpAnswer::ResponseRange(range))) => range.kvs.first(),
        _ => None,
    };
    let fence = if txn.succeeded { revision(txn.header.as_ref()) } else { kv(0)?.create_revision };
    Some((fence, kv(1).map_or(fence, |first| first.create_revision)))
}

impl Client for Contender {
    fn on(&mut self, news: News, io: &mut dyn Io) {
        match news {
            News::Begin => self.idle(io),
            News::Timer(token) => {
                if self.line.wakes(token) && self.line.is_free() {
                    self.advance(io);
                }
            }
            News::Answer(id, outcome) => {
                if let Some(request) = self.line.answered(io, id, &outcome) {
                    self.answered(&request, &outcome, io);
                }
            }
            News::Watch(key, told) => self.told(key, &told, io),
            News::Broken(conn) if self.stream == Some(conn) => self.stream_broke(io),
            News::Broken(conn) => self.line.broken(conn),
            News::Wind => self.wind(io),
        }
    }

    fn at_rest(&self) -> bool {
        matches!(self.step, Step::AtRest) && self.line.is_free()
    }

    fn name(&self) -> &str {
        &self.name
    }
}
