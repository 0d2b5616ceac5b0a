//! The history of a round as it is made.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use cetera_check::history::{Call, History, News, Outcome, Request, Told, Watcher};
use cetera_proto::etcdserverpb as pb;

/// Calls that a round's history holds at most; the load ends when it is full.
pub const CALLS_MAX: usize = 120_000;
/// Told that a round's watchers hold at most, all together; watchers made after that end at once.
pub const TOLD_MAX: usize = 2_000_000;

/// Records calls and watchers. One per round; its clock begins with it.
#[derive(Debug)]
pub struct Recorder {
    begun: Instant,
    history: RefCell<History>,
    open: Cell<u64>,
    told: Cell<usize>,
    acknowledged: Cell<u64>,
    unique: Cell<u64>,
    revision: Cell<i64>,
    observed: Cell<i64>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        let history = History { first_revision: 1, ..History::default() };
        Recorder {
            begun: Instant::now(),
            history: RefCell::new(history),
            open: Cell::new(0),
            told: Cell::new(0),
            acknowledged: Cell::new(0),
            unique: Cell::new(0),
            revision: Cell::new(1),
            observed: Cell::new(1),
        }
    }
}

/// A call under way.
#[derive(Debug)]
#[must_use]
pub struct Open(usize);

impl Recorder {
    /// Microseconds since the round began.
    pub fn now_us(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// A number never given before in this round.
    pub fn unique(&self) -> u64 {
        self.unique.set(self.unique.get() + 1);
        self.unique.get()
    }

    /// A call is about to be sent.
    pub fn begin(&self, client: u32, member: u32, request: Request) -> Open {
        let mut history = self.history.borrow_mut();
        let start_us = self.now_us();
        let outcome = Outcome::Unknown("never answered".to_owned());
        history.calls.push(Call { client, member, start_us, end_us: u64::MAX, request, outcome });
        self.open.set(self.open.get() + 1);
        Open(history.calls.len() - 1)
    }

    /// Its outcome is known.
    pub fn end(&self, call: Open, outcome: Outcome) {
        let mut history = self.history.borrow_mut();
        let end_us = self.now_us();
        if let Outcome::Done(response) = &outcome {
            self.acknowledged.set(self.acknowledged.get() + 1);
            self.revision.set(self.revision.get().max(response.revision()));
        }
        let call = &mut history.calls[call.0];
        (call.end_us, call.outcome) = (end_us, outcome);
        self.open.set(self.open.get() - 1);
    }

    /// A watcher's creation is about to be sent; returns its place in the history.
    pub fn watcher(&self, client: u32, member: u32, request: pb::WatchCreateRequest, resumes: Option<usize>) -> usize {
        let mut history = self.history.borrow_mut();
        let start_us = self.now_us();
        let watcher = Watcher { client, member, request, resumes, start_us, end_us: u64::MAX, ..Watcher::default() };
        history.watchers.push(watcher);
        history.watchers.len() - 1
    }

    /// It was told something.
    pub fn told(&self, watcher: usize, revision: i64, news: News) {
        let at_us = self.now_us();
        self.told.set(self.told.get() + 1);
        self.history.borrow_mut().watchers[watcher].told.push(Told { at_us, revision, news });
    }

    /// It is over; `owed_through`: it had been told everything through this revision, if it was open to the end.
    pub fn ended(&self, watcher: usize, owed_through: Option<i64>) {
        let end_us = self.now_us();
        let watcher = &mut self.history.borrow_mut().watchers[watcher];
        (watcher.end_us, watcher.owed_through) = (end_us, owed_through);
    }

    /// Whether no more may be recorded.
    pub fn is_full(&self) -> bool {
        self.history.borrow().calls.len() >= CALLS_MAX || self.told.get() >= TOLD_MAX
    }

    /// Calls answered so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.get()
    }

    /// The highest revision in any answer.
    pub fn revision(&self) -> i64 {
        self.revision.get()
    }

    /// The observer of everything has seen all through this revision.
    pub fn observed(&self, revision: i64) {
        self.observed.set(self.observed.get().max(revision));
    }

    /// What the observer of everything has seen; compactions stay below.
    pub fn observed_revision(&self) -> i64 {
        self.observed.get()
    }

    /// The history. What was not answered ends now.
    pub fn finish(&self) -> History {
        let end = self.now_us();
        let mut history = self.history.take();
        for call in &mut history.calls {
            call.end_us = call.end_us.min(end);
        }
        for watcher in &mut history.watchers {
            watcher.end_us = watcher.end_us.min(end);
        }
        history
    }
}
