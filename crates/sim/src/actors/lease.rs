//! Lease clients: grant, attach, keep alive with several members, then let go in one of several ways and look whether
//! the keys are gone.

use bytes::Bytes;
use cetera_check::history::{Outcome, Request, Response};
use cetera_check::keys::{LEASED, prefix_end};
use cetera_proto::etcdserverpb as pb;

use super::line::{Line, MS, SECOND, Session, between, get, is_in_vain, is_lease_gone, unique_value};
use crate::client::{Client, Io, News};

/// A lease client.
pub struct LeaseClient {
    name: String,
    line: Line,
    /// `/leased/<client>/`.
    prefix: Bytes,
    ttl_max: u64,
    step: Step,
    /// The lease that is used, was used last, or is to be granted.
    lease: i64,
    session: Option<Session>,
    /// When the grant under way was sent.
    asked_us: u64,
    /// When it stops renewing.
    until_us: u64,
    winding: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Step {
    Grant {
        ttl: i64,
    },
    Attach {
        key: u64,
        keys: u64,
    },
    Live,
    /// Nobody renews: the keys must go.
    Fade,
    Revoke,
    /// After a revocation: the keys must be gone.
    Look,
    AtRest,
}

impl LeaseClient {
    /// The client with this number, whose leases are granted for up to `ttl_max` seconds.
    pub fn new(number: u32, ttl_max: u64, timeout_us: u64) -> Self {
        Self {
            name: format!("lease-{number}"),
            line: Line::new(timeout_us, None),
            prefix: [LEASED, format!("{number}/").as_bytes()].concat().into(),
            ttl_max: ttl_max.max(1),
            step: Step::AtRest,
            lease: 0,
            session: None,
            asked_us: 0,
            until_us: 0,
            winding: false,
        }
    }

    /// A new round: with a new lease, or with the id of the last one.
    fn begin(&mut self, io: &mut dyn Io) {
        if self.winding {
            self.step = Step::AtRest;
            return;
        }
        if self.lease == 0 || io.pick(3) > 0 {
            self.lease = super::LEASE_BASE + io.unique() as i64;
        }
        self.session = None;
        self.step = Step::Grant { ttl: between(io, 1, self.ttl_max + 1) as i64 };
        let pause = between(io, MS, 800 * MS);
        self.line.sleep(io, pause);
    }

    /// Does the next thing; no call is under way.
    fn advance(&mut self, io: &mut dyn Io) {
        let now = io.now_us();
        let request = match &self.step {
            Step::Grant { ttl } => {
                self.asked_us = now;
                Request::LeaseGrant(pb::LeaseGrantRequest { id: self.lease, ttl: *ttl })
            }
            Step::Attach { key, .. } => Request::Put(pb::PutRequest {
                key: [&self.prefix[..], key.to_string().as_bytes()].concat().into(),
                value: unique_value(io),
                lease: self.lease,
                ..Default::default()
            }),
            Step::Live => return self.live(io, now),
            Step::Fade | Step::Look => self.all_keys(),
            Step::Revoke => Request::LeaseRevoke(pb::LeaseRevokeRequest { id: self.lease }),
            Step::AtRest => return,
        };
        self.line.call(io, request);
    }

    fn live(&mut self, io: &mut dyn Io, now: u64) {
        if now >= self.until_us || self.session.is_none() {
            self.step = if io.pick(2) == 0 { Step::Revoke } else { Step::Fade };
            return self.advance(io);
        }
        let session = self.session.as_mut().expect("looked above");
        if let Some(renewal) = session.renewal(now) {
            // Any member forwards renewals: they need not go through the same.
            if io.pick(3) == 0 {
                self.line.leave(io);
            }
            return self.line.call(io, renewal);
        }
        match io.pick(6) {
            0 => {
                let keys = io.pick(2) == 0;
                self.line.call(io, Request::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id: self.lease, keys }));
            }
            1 => {
                let key = [&self.prefix[..], b"0"].concat();
                self.line.call(io, get(&key));
            }
            _ => {
                let pause = session.due_in(now).min(between(io, 50 * MS, 900 * MS));
                self.line.sleep(io, pause);
            }
        }
    }

    fn all_keys(&self) -> Request {
        let range_end = prefix_end(&self.prefix);
        Request::Range(pb::RangeRequest { key: self.prefix.clone(), range_end, ..Default::default() })
    }

    fn answered(&mut self, request: &Request, outcome: &Outcome, io: &mut dyn Io) {
        let failed = is_in_vain(outcome);
        // From seldom to often: the keys are looked for from long before the lease can end until it has.
        let mut pause = if failed { between(io, 10 * MS, 200 * MS) } else { between(io, MS, 40 * MS) };
        match (&self.step, request, outcome) {
            // Granted; or it was before, by a call whose answer was lost.
            (Step::Grant { ttl }, Request::LeaseGrant(_), _) if !failed => {
                let granted = match outcome {
                    Outcome::Done(Response::LeaseGrant(granted)) => granted.ttl,
                    _ => *ttl,
                };
                self.session = Some(Session::new(self.lease, granted, self.asked_us));
                self.until_us = io.now_us() + between(io, 0, 4 * granted.max(1) as u64 * SECOND);
                self.step = Step::Attach { key: 0, keys: 1 + io.pick(4) };
            }
            (Step::Attach { .. }, Request::Put(_), _) if is_lease_gone(outcome) => self.step = Step::Fade,
            (Step::Attach { key, keys }, Request::Put(_), _) if !failed => {
                self.step = if key + 1 < *keys { Step::Attach { key: key + 1, keys: *keys } } else { Step::Live };
            }
            (Step::Live, Request::LeaseKeepAlive(_), _) => {
                let now = io.now_us();
                let alive = self.session.as_mut().is_some_and(|session| session.renewed(outcome, now));
                if !alive {
                    self.step = Step::Fade;
                }
            }
            (Step::Fade | Step::Look, Request::Range(_), Outcome::Done(Response::Range(range))) => {
                // A call whose answer was lost may attach a key late: it goes with the lease, or it fails.
                if range.count == 0 {
                    return self.begin(io);
                }
                pause = between(io, 100 * MS, 600 * MS);
            }
            (Step::Revoke, Request::LeaseRevoke(_), _) if !failed => self.step = Step::Look,
            _ => {}
        }
        self.line.sleep(io, pause);
    }

    fn wind(&mut self, io: &mut dyn Io) {
        self.winding = true;
        match self.step {
            // Its outcome may be unknown.
            Step::Grant { .. } | Step::Attach { .. } | Step::Live => self.step = Step::Revoke,
            Step::Fade | Step::Revoke | Step::Look | Step::AtRest => {}
        }
        if self.line.is_free() {
            self.line.sleep(io, 1);
        }
    }
}

impl Client for LeaseClient {
    fn on(&mut self, news: News, io: &mut dyn Io) {
        match news {
            News::Begin => self.begin(io),
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
            News::Broken(conn) => self.line.broken(conn),
            News::Watch(..) => {}
            News::Wind => self.wind(io),
        }
    }

    fn at_rest(&self) -> bool {
        self.step == Step::AtRest && self.line.is_free()
    }

    fn name(&self) -> &str {
        &self.name
    }
}
