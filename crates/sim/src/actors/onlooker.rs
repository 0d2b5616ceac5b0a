//! Who follows an election without taking part, as etcd's `Election.Observe` does: reads who leads, watches that key
//! until it goes, and reads again.

use bytes::Bytes;
use cetera_check::history::{News as WatchNews, Outcome, Request, Response, Told};
use cetera_check::keys::{self, prefix_end};
use cetera_proto::{etcdserverpb as pb, mvccpb};
use pb::range_request::{SortOrder, SortTarget};

use super::line::{Line, MS, SECOND, between, revision};
use super::watching::{Turn, Watching};
use crate::client::{Client, Conn, Io, News, WatchKey};

/// Silence after which it reads for itself.
const SILENCE_US: u64 = 6 * SECOND;

/// A client that observes an election.
pub struct Onlooker {
    name: String,
    line: Line,
    prefix: Bytes,
    stream: Option<Conn>,
    keys: WatchKey,
    /// The leader's key, or, while there is none, whatever comes under the prefix.
    watching: Option<Watching>,
    /// Whether the next leader is waited for.
    vacant: bool,
    winding: bool,
}

impl Onlooker {
    /// The onlooker with this number of the election `what`.
    pub fn new(number: u32, what: &str, timeout_us: u64) -> Self {
        Self {
            name: format!("onlooker-{number}"),
            line: Line::new(timeout_us, None),
            prefix: [keys::ELECTION, what.as_bytes(), b"/"].concat().into(),
            stream: None,
            keys: 0,
            watching: None,
            vacant: false,
            winding: false,
        }
    }

    fn look(&mut self, io: &mut dyn Io) {
        if self.winding {
            return;
        }
        let first = pb::RangeRequest {
            key: self.prefix.clone(),
            range_end: prefix_end(&self.prefix),
            limit: 1,
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            ..Default::default()
        };
        self.line.call(io, Request::Range(first));
    }

    fn answered(&mut self, outcome: &Outcome, io: &mut dyn Io) {
        let Outcome::Done(Response::Range(range)) = outcome else {
            let pause = between(io, 10 * MS, 300 * MS);
            return self.line.sleep(io, pause);
        };
        if self.winding {
            return;
        }
        let start_revision = revision(range.header.as_ref()) + 1;
        let (key, range_end) = match range.kvs.first() {
            Some(leader) => (leader.key.clone(), Bytes::new()),
            None => (self.prefix.clone(), prefix_end(&self.prefix)),
        };
        self.vacant = range.kvs.is_empty();
        let conn = match self.stream {
            Some(conn) => conn,
            None => {
                let member = io.somewhere();
                *self.stream.insert(io.connect(member))
            }
        };
        self.keys += 1;
        let request = pb::WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
        self.watching = Some(Watching::begin(io, conn, self.keys, request));
        self.line.sleep(io, SILENCE_US);
    }

    fn told(&mut self, key: WatchKey, told: &Told, io: &mut dyn Io) {
        let Some(watching) = self.watching.as_mut().filter(|watching| watching.key == key) else { return };
        let turn = watching.told(told);
        let vacant = self.vacant;
        let over = match &told.news {
            WatchNews::Events { events, .. } => {
                events.iter().any(|event| vacant != (event.r#type == mvccpb::event::EventType::Delete as i32))
            }
            _ => false,
        };
        if turn != Turn::On {
            self.again(io);
        } else if over {
            io.cancel(key);
            self.again(io);
        }
    }

    fn again(&mut self, io: &mut dyn Io) {
        self.watching = None;
        if self.line.is_free() {
            let pause = between(io, 1, 50 * MS);
            self.line.sleep(io, pause);
        }
    }

    fn timer(&mut self, io: &mut dyn Io) {
        if let Some(watching) = &self.watching {
            if io.now_us() < watching.heard_us + SILENCE_US {
                return self.line.sleep(io, SILENCE_US);
            }
            if let Some(conn) = self.stream.take() {
                io.close(conn);
            }
            self.watching = None;
        }
        self.look(io);
    }
}

impl Client for Onlooker {
    fn on(&mut self, news: News, io: &mut dyn Io) {
        match news {
            News::Begin => {
                let pause = between(io, 1, SECOND);
                self.line.sleep(io, pause);
            }
            News::Timer(token) => {
                if self.line.wakes(token) && self.line.is_free() && !self.winding {
                    self.timer(io);
                }
            }
            News::Answer(id, outcome) => {
                if self.line.answered(io, id, &outcome).is_some() {
                    self.answered(&outcome, io);
                }
            }
            News::Watch(key, told) => self.told(key, &told, io),
            News::Broken(conn) if self.stream == Some(conn) => {
                self.stream = None;
                if self.watching.is_some() {
                    self.again(io);
                }
            }
            News::Broken(conn) => self.line.broken(conn),
            News::Wind => {
                self.winding = true;
                if let (Some(watching), Some(_)) = (self.watching.take(), self.stream) {
                    io.cancel(watching.key);
                }
            }
        }
    }

    fn at_rest(&self) -> bool {
        self.winding && self.line.is_free()
    }

    fn name(&self) -> &str {
        &self.name
    }
}
