//! The general client: whatever the generator makes, one call after the other.

use cetera_check::generate::{Generator, Mix};
use cetera_check::history::{Outcome, Request};
use cetera_check::keys;
use cetera_proto::etcdserverpb as pb;

use super::line::{IoDice, Line, MS, between, unique_value};
use crate::client::{Client, Io, News};

/// A KV client.
pub struct KvClient {
    name: String,
    line: Line,
    generator: Generator,
    /// Longest pause between two calls, microseconds.
    think_us: u64,
    stage: Stage,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Stage {
    Working,
    /// At the end: a write that must succeed.
    LastWrite,
    /// And a read of everything.
    LastRead,
    AtRest,
}

impl KvClient {
    /// The client with this number (no other has it): pauses up to `think_us` between calls, each of which times out
    /// after `timeout_us`; stays with `member` if one is given.
    pub fn new(number: u32, mix: Mix, think_us: u64, timeout_us: u64, member: Option<u32>) -> Self {
        Self {
            name: format!("kv-{number}"),
            line: Line::new(timeout_us, member),
            generator: Generator::new(mix, number),
            think_us: think_us.max(1),
            stage: Stage::Working,
        }
    }

    fn next(&mut self, io: &mut dyn Io) {
        let request = match self.stage {
            Stage::Working => self.generator.next(&mut IoDice(io)),
            Stage::LastWrite => {
                let key = [keys::KV, b"d"].concat().into();
                Request::Put(pb::PutRequest { key, value: unique_value(io), ..Default::default() })
            }
            Stage::LastRead => {
                let all = bytes::Bytes::from_static(b"\0");
                Request::Range(pb::RangeRequest { key: all.clone(), range_end: all, ..Default::default() })
            }
            Stage::AtRest => return,
        };
        self.line.call(io, request);
    }

    fn answered(&mut self, request: &Request, outcome: &Outcome, io: &mut dyn Io) {
        self.generator.note(request, outcome);
        let pause = match (self.stage, outcome) {
            (Stage::Working, Outcome::Done(_)) => 1 + io.pick(2 * self.think_us),
            // An outage is no reason to hammer.
            (_, Outcome::Unknown(_)) => between(io, 10 * MS, 200 * MS),
            (_, Outcome::Refused(_)) => between(io, 10 * MS, 100 * MS),
            (Stage::LastWrite, Outcome::Done(_)) if matches!(request, Request::Put(_)) => {
                self.stage = Stage::LastRead;
                1
            }
            (Stage::LastRead, Outcome::Done(_)) if matches!(request, Request::Range(range) if range.key == b"\0"[..]) =>
            {
                self.stage = Stage::AtRest;
                return;
            }
            // The last call of the working day.
            _ => 1,
        };
        self.line.sleep(io, pause);
    }
}

impl Client for KvClient {
    fn on(&mut self, news: News, io: &mut dyn Io) {
        match news {
            News::Begin => {
                let first = 1 + io.pick(self.think_us);
                self.line.sleep(io, first);
            }
            News::Timer(token) => {
                if self.line.wakes(token) && self.line.is_free() {
                    self.next(io);
                }
            }
            News::Answer(id, outcome) => {
                if let Some(request) = self.line.answered(io, id, &outcome) {
                    self.answered(&request, &outcome, io);
                }
            }
            News::Broken(conn) => self.line.broken(conn),
            News::Watch(..) => {}
            News::Wind => {
                self.stage = Stage::LastWrite;
                self.line.unpin();
                if self.line.is_free() {
                    self.next(io);
                }
            }
        }
    }

    fn at_rest(&self) -> bool {
        self.stage == Stage::AtRest
    }

    fn name(&self) -> &str {
        &self.name
    }
}
