//! Clients of the world's own: one that asks whether a member serves, and a plain one for tests of the world itself.

use bytes::Bytes;
use cetera_check::history::{Outcome, Request};
use cetera_proto::etcdserverpb as pb;

use crate::client::{Client, Conn, Io, News};

/// How long a probe waits for an answer before it asks again.
const PATIENCE_US: u64 = 1_000_000;
/// How long it waits after a refusal.
const AGAIN_US: u64 = 20_000;

/// Writes and reads through one member until both have worked.
pub(crate) struct Probe {
    name: String,
    member: u32,
    conn: Option<Conn>,
    calls: u64,
    wrote: bool,
    read: bool,
    given_up: bool,
}

impl Probe {
    pub(crate) fn new(member: usize) -> Self {
        let name = format!("probe-m{member}");
        Self { name, member: member as u32, conn: None, calls: 0, wrote: false, read: false, given_up: false }
    }

    fn key(&self) -> Bytes {
        format!("probe/{}", self.member).into()
    }

    fn ask(&mut self, io: &mut dyn Io) {
        if self.read || self.given_up {
            return;
        }
        let member = self.member;
        let conn = *self.conn.get_or_insert_with(|| io.connect(member));
        let request = if self.wrote {
            Request::Range(pb::RangeRequest { key: self.key(), ..Default::default() })
        } else {
            let value = format!("v{}", io.unique()).into();
            Request::Put(pb::PutRequest { key: self.key(), value, ..Default::default() })
        };
        self.calls += 1;
        io.call(conn, self.calls, request, PATIENCE_US);
    }
}

impl Client for Probe {
    fn on(&mut self, news: News, io: &mut dyn Io) {
        match news {
            News::Begin => self.ask(io),
            News::Timer(token) if token == self.calls => self.ask(io),
            News::Answer(id, outcome) if id == self.calls => match outcome {
                Outcome::Done(_) => {
                    self.read = self.wrote;
                    self.wrote = true;
                    self.ask(io);
                }
                _ => io.timer(AGAIN_US, self.calls),
            },
            News::Wind => self.given_up = true,
            News::Broken(conn) if self.conn == Some(conn) => self.conn = None,
            _ => {}
        }
    }

    fn at_rest(&self) -> bool {
        self.read || self.given_up
    }

    fn name(&self) -> &str {
        &self.name
    }
}
