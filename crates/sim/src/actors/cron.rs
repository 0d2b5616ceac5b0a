//! Schedulers that want each job run by one of them: a lock per job, put with a lease by a transaction that finds none.

use bytes::Bytes;
use cetera_check::history::{Outcome, Request, Response};
use cetera_check::keys;
use cetera_proto::etcdserverpb as pb;
use pb::request_op::Request as Op;
use pb::response_op::Response as OpAnswer;

use super::line::{Line, MS, SECOND, Session, between, is_in_vain, is_lease_gone, revision, unique_value};
use super::{created_at, op};
use crate::client::{Client, Io, News};

/// A scheduler.
pub struct Scheduler {
    name: String,
    line: Line,
    jobs: u64,
    /// The job it wants or runs.
    job: u64,
    ttl: i64,
    step: Step,
    session: Option<Session>,
    lease: i64,
    asked_us: u64,
    /// What it put, or tried to put, as the lock's value.
    value: Bytes,
    /// Create revision of the lock it holds.
    fence: i64,
    until_us: u64,
    winding: bool,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Step {
    Idle,
    Grant,
    Take,
    Run,
    Hold,
    Free,
    Revoke,
    AtRest,
}

impl Scheduler {
    /// The scheduler with this number of so many jobs.
    pub fn new(number: u32, jobs: u64, ttl: i64, timeout_us: u64) -> Self {
        Self {
            name: format!("scheduler-{number}"),
            line: Line::new(timeout_us, None),
            jobs: jobs.max(1),
            job: 0,
            ttl,
            step: Step::Idle,
            session: None,
            lease: 0,
            asked_us: 0,
            value: Bytes::new(),
            fence: 0,
            until_us: 0,
            winding: false,
        }
    }

    fn lock(&self) -> Bytes {
        [keys::CRON_LOCK, self.job.to_string().as_bytes()].concat().into()
    }

    fn idle(&mut self, io: &mut dyn Io) {
        self.step = if self.winding { Step::Revoke } else { Step::Idle };
        let pause = if self.winding { 1 } else { between(io, 50 * MS, 2 * SECOND) };
        self.line.sleep(io, pause);
    }

    fn advance(&mut self, io: &mut dyn Io) {
        let now = io.now_us();
        let renews = !matches!(self.step, Step::Revoke | Step::AtRest);
        if let Some(renewal) = self.session.as_mut().filter(|_| renews).and_then(|session| session.renewal(now)) {
            return self.line.call(io, renewal);
        }
        let request = match self.step {
            Step::Idle | Step::Grant if self.session.is_none() => {
                self.step = Step::Grant;
                self.asked_us = now;
                self.lease = super::LEASE_BASE + io.unique() as i64;
                Request::LeaseGrant(pb::LeaseGrantRequest { id: self.lease, ttl: self.ttl })
            }
            Step::Idle | Step::Grant => {
                self.step = Step::Take;
                self.job = io.pick(self.jobs);
                self.value = unique_value(io);
                self.take()
            }
            Step::Take => self.take(),
            Step::Run => self.run(io),
            Step::Hold if now < self.until_us => {
                let due = self.session.as_ref().map_or(SECOND, |session| session.due_in(now));
                return self.line.sleep(io, due.min(self.until_us - now).max(1));
            }
            Step::Hold | Step::Free => {
                self.step = Step::Free;
                self.free(io)
            }
            Step::Revoke => Request::LeaseRevoke(pb::LeaseRevokeRequest { id: self.lease }),
            Step::AtRest => return,
        };
        self.line.call(io, request);
    }

    fn take(&self) -> Request {
        let key = self.lock();
        let (value, lease) = (self.value.clone(), self.lease);
        let put = pb::PutRequest { key: key.clone(), value, lease, ..Default::default() };
        Request::Txn(pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Op::RequestPut(put))],
            failure: vec![op(Op::RequestRange(pb::RangeRequest { key, ..Default::default() }))],
        })
    }

    fn run(&self, io: &mut dyn Io) -> Request {
        let put = pb::PutRequest {
            key: [keys::CRON_JOBS, self.job.to_string().as_bytes()].concat().into(),
            value: format!("{}/{}", self.fence, io.unique()).into(),
            ..Default::default()
        };
        Request::Txn(pb::TxnRequest {
            compare: vec![created_at(&self.lock(), self.fence)],
            success: vec![op(Op::RequestPut(put))],
            failure: Vec::new(),
        })
    }

    /// A plain delete may take another's lock away, where the own one has expired: that costs order, not safety, as
    /// each run of a job is guarded.
    fn free(&self, io: &mut dyn Io) -> Request {
        let key = self.lock();
        let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
        if io.pick(2) == 0 {
            return Request::DeleteRange(delete);
        }
        Request::Txn(pb::TxnRequest {
            compare: vec![created_at(&key, self.fence)],
            success: vec![op(Op::RequestDeleteRange(delete))],
            failure: Vec::new(),
        })
    }

    fn answered(&mut self, request: &Request, outcome: &Outcome, io: &mut dyn Io) {
        if let Request::LeaseKeepAlive(_) = request {
            let now = io.now_us();
            let alive = self.session.as_mut().is_none_or(|session| session.renewed(outcome, now));
            if !alive && !matches!(self.step, Step::Revoke | Step::AtRest) {
                self.session = None;
                return self.idle(io);
            }
            return self.line.sleep(io, 1);
        }
        if is_in_vain(outcome) {
            let pause = between(io, 10 * MS, 200 * MS);
            return self.line.sleep(io, pause);
        }
        let mut pause = 1;
        match (self.step, outcome) {
            (Step::Grant, Outcome::Done(Response::LeaseGrant(granted))) => {
                self.session = Some(Session::new(self.lease, granted.ttl, self.asked_us));
            }
            (Step::Take, Outcome::Done(Response::Txn(txn))) => match self.taken(txn) {
                Some(fence) => {
                    self.fence = fence;
                    self.step = Step::Run;
                }
                None => return self.idle(io),
            },
            (Step::Take, _) if is_lease_gone(outcome) => {
                self.session = None;
                return self.idle(io);
            }
            (Step::Run, Outcome::Done(Response::Txn(txn))) => {
                if !txn.succeeded {
                    return self.idle(io);
                }
                // Some jobs take several steps.
                if io.pick(3) > 0 {
                    self.step = Step::Hold;
                    self.until_us = io.now_us() + between(io, MS, 4 * SECOND);
                } else {
                    pause = between(io, MS, 500 * MS);
                }
            }
            (Step::Free, Outcome::Done(_)) => return self.idle(io),
            (Step::Revoke, _) if matches!(request, Request::LeaseRevoke(_)) => {
                self.session = None;
                self.step = Step::AtRest;
                return;
            }
            _ => {}
        }
        self.line.sleep(io, pause);
    }

    /// The fencing revision, if the lock is ours.
    fn taken(&self, txn: &pb::TxnResponse) -> Option<i64> {
        if txn.succeeded {
            return Some(revision(txn.header.as_ref()));
        }
        match &txn.responses.first()?.response {
            // An earlier try of which no answer came.
            Some(OpAnswer::ResponseRange(range)) => {
                range.kvs.first().filter(|kv| kv.value == self.value).map(|kv| kv.create_revision)
            }
            _ => None,
        }
    }

    fn wind(&mut self, io: &mut dyn Io) {
        self.winding = true;
        let has_nothing = self.session.is_none() && self.step == Step::Idle && self.line.is_free();
        self.step = if has_nothing { Step::AtRest } else { Step::Revoke };
        if self.line.is_free() {
            self.line.sleep(io, 1);
        }
    }
}

impl Client for Scheduler {
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
