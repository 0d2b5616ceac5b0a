//! What all actors share: one call at a time over a connection that moves on when it fails, one timer, one lease.

use cetera_check::generate::Dice;
use cetera_check::history::{Outcome, Request, Response};
use cetera_proto::etcdserverpb as pb;

use crate::client::{CallId, Conn, Io};

/// One millisecond in microseconds.
pub(super) const MS: u64 = 1_000;
/// One second in microseconds.
pub(super) const SECOND: u64 = 1_000_000;

/// The world as a source of numbers.
pub(super) struct IoDice<'a>(pub(super) &'a mut dyn Io);

impl Dice for IoDice<'_> {
    fn pick(&mut self, below: u64) -> u64 {
        self.0.pick(below)
    }

    fn unique(&mut self) -> u64 {
        self.0.unique()
    }
}

/// A value that no other write of the run has.
pub(super) fn unique_value(io: &mut dyn Io) -> bytes::Bytes {
    io.unique().to_string().into()
}

/// A number in `[low, high)`.
pub(super) fn between(io: &mut dyn Io, low: u64, high: u64) -> u64 {
    low + io.pick(high - low)
}

/// A client's line to the cluster: at most one call under way.
#[derive(Debug)]
pub(super) struct Line {
    /// Member of the present connection, or of the next.
    member: Option<u32>,
    conn: Option<Conn>,
    /// Whether to return to one and the same member.
    pinned: bool,
    timeout_us: u64,
    calls: CallId,
    under_way: Option<(CallId, Request)>,
    /// The timer that counts; those set earlier do not.
    wake: u64,
    asleep: bool,
}

impl Line {
    /// A line whose calls time out after `timeout_us`; `member` if it always goes to the same one.
    pub(super) fn new(timeout_us: u64, member: Option<u32>) -> Self {
        Self {
            member,
            conn: None,
            pinned: member.is_some(),
            timeout_us,
            calls: 0,
            under_way: None,
            wake: 0,
            asleep: false,
        }
    }

    /// Whether no call is under way.
    pub(super) fn is_free(&self) -> bool {
        self.under_way.is_none()
    }

    /// Makes a call; none is under way.
    pub(super) fn call(&mut self, io: &mut dyn Io, request: Request) {
        assert!(self.under_way.is_none(), "a call is under way: {:?}", self.under_way);
        self.asleep = false;
        let conn = match self.conn {
            Some(conn) => conn,
            None => {
                let members = u64::from(io.members());
                let member = match self.member {
                    Some(member) if self.pinned => member,
                    // Any but the one that failed, if there is another.
                    Some(member) if members > 1 => ((u64::from(member) + 1 + io.pick(members - 1)) % members) as u32,
                    _ => io.pick(members) as u32,
                };
                self.member = Some(member);
                *self.conn.insert(io.connect(member))
            }
        };
        self.calls += 1;
        self.under_way = Some((self.calls, request.clone()));
        io.call(conn, self.calls, request, self.timeout_us);
    }

    /// The call that was answered, if it is the one under way. An outcome that makes this member look unwell closes the
    /// connection: the next call goes elsewhere.
    pub(super) fn answered(&mut self, io: &mut dyn Io, id: CallId, outcome: &Outcome) -> Option<Request> {
        let (under_way, _) = self.under_way.as_ref()?;
        if *under_way != id {
            return None;
        }
        let (_, request) = self.under_way.take()?;
        if is_in_vain(outcome) {
            self.leave(io);
        }
        Some(request)
    }

    /// Closes the connection; the next call goes elsewhere.
    pub(super) fn leave(&mut self, io: &mut dyn Io) {
        assert!(self.under_way.is_none(), "a call is under way: {:?}", self.under_way);
        if let Some(conn) = self.conn.take() {
            io.close(conn);
        }
    }

    /// Goes to any member from the next failure on.
    pub(super) fn unpin(&mut self) {
        self.pinned = false;
    }

    /// A connection broke.
    pub(super) fn broken(&mut self, conn: Conn) {
        if self.conn == Some(conn) {
            self.conn = None;
        }
    }

    /// Sets the timer, in place of the one set before.
    pub(super) fn sleep(&mut self, io: &mut dyn Io, us: u64) {
        self.wake += 1;
        self.asleep = true;
        io.timer(us, self.wake);
    }

    /// Whether this is the timer that counts.
    pub(super) fn wakes(&mut self, token: u64) -> bool {
        let wakes = self.asleep && token == self.wake;
        if wakes {
            self.asleep = false;
        }
        wakes
    }
}

/// Whether an outcome says nothing of the store: it is to be asked again, of someone else.
pub(super) fn is_in_vain(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Done(_) => false,
        Outcome::Unknown(_) => true,
        Outcome::Refused(why) => !ANSWERS.iter().any(|answer| why.contains(answer)),
    }
}

/// Refusals that are answers: the same from every member.
const ANSWERS: [&str; 8] = [
    "requested lease not found",
    "lease already exists",
    "key not found",
    "has been compacted",
    "is a future revision",
    "duplicate key given",
    "key is not provided",
    "too many operations",
];

/// Whether the outcome says that there is no such lease.
pub(super) fn is_lease_gone(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Refused(why) => why.contains("requested lease not found"),
        Outcome::Done(Response::LeaseKeepAlive(alive)) => alive.ttl <= 0,
        Outcome::Done(Response::LeaseTimeToLive(left)) => left.ttl < 0,
        _ => false,
    }
}

/// The revision in an answer's header; 0 if there is none.
pub(super) fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// A read of one key, linearizable.
pub(super) fn get(key: &[u8]) -> Request {
    Request::Range(pb::RangeRequest { key: key.to_vec().into(), ..Default::default() })
}

/// A lease that is kept alive: when to renew it.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) lease: i64,
    pub(super) ttl: i64,
    /// When to renew it next.
    due_us: u64,
    /// When the renewal under way was sent.
    sent_us: u64,
}

impl Session {
    /// The session of a lease asked for at `asked_us`, granted for `ttl` seconds.
    pub(super) fn new(lease: i64, ttl: i64, asked_us: u64) -> Self {
        let third = ttl.max(1) as u64 * SECOND / 3;
        Self { lease, ttl, due_us: asked_us + third, sent_us: asked_us }
    }

    /// The renewal, if it is time for it.
    pub(super) fn renewal(&mut self, now_us: u64) -> Option<Request> {
        if now_us < self.due_us {
            return None;
        }
        self.sent_us = now_us;
        Some(Request::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id: self.lease }))
    }

    /// How long until the next renewal.
    pub(super) fn due_in(&self, now_us: u64) -> u64 {
        self.due_us.saturating_sub(now_us)
    }

    /// The outcome of a renewal; false if the lease is gone.
    pub(super) fn renewed(&mut self, outcome: &Outcome, now_us: u64) -> bool {
        match outcome {
            _ if is_lease_gone(outcome) => {
                self.due_us = u64::MAX;
                false
            }
            Outcome::Done(_) => {
                self.due_us = self.sent_us + self.ttl.max(1) as u64 * SECOND / 3;
                true
            }
            _ => {
                self.due_us = now_us + 100 * MS;
                true
            }
        }
    }
}
