//! A plain client: puts, deletes, reads and one watcher, over few keys.

use bytes::Bytes;
use cetera_check::history::{News as Word, Request};
use cetera_proto::etcdserverpb as pb;

use crate::client::{Client, Conn, Io, News};

const PATIENCE_US: u64 = 2_000_000;
const PAUSE_US: u64 = 300_000;
const TIMER: u64 = 0;

/// The client.
#[derive(Debug)]
pub struct Plain {
    name: String,
    conn: Option<Conn>,
    calls: u64,
    watches: u64,
    next_revision: i64,
    busy: bool,
    winding: bool,
}

impl Plain {
    /// Client `number`.
    pub fn new(number: u64) -> Self {
        let name = format!("plain-{number}");
        Self { name, conn: None, calls: 0, watches: 0, next_revision: 1, busy: false, winding: false }
    }

    fn connect(&mut self, io: &mut dyn Io) -> Conn {
        if let Some(conn) = self.conn {
            return conn;
        }
        let member = io.pick(u64::from(io.members())) as u32;
        let conn = io.connect(member);
        self.conn = Some(conn);
        let resumes = (self.watches > 0).then_some(self.watches);
        self.watches += 1;
        let request = pb::WatchCreateRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            start_revision: self.next_revision,
            ..Default::default()
        };
        io.watch(conn, self.watches, request, resumes);
        conn
    }

    fn ask(&mut self, io: &mut dyn Io) {
        if self.winding || self.busy {
            return;
        }
        let conn = self.connect(io);
        let key: Bytes = format!("k/{}", io.pick(10)).into();
        let request = match io.pick(10) {
            0..5 => {
                let value = format!("v{}", io.unique()).into();
                Request::Put(pb::PutRequest { key, value, ..Default::default() })
            }
            5 => Request::DeleteRange(pb::DeleteRangeRequest { key, ..Default::default() }),
            _ => Request::Range(pb::RangeRequest { key, ..Default::default() }),
        };
        self.calls += 1;
        self.busy = true;
        io.call(conn, self.calls, request, PATIENCE_US);
    }
}

impl Client for Plain {
    fn on(&mut self, news: News, io: &mut dyn Io) {
        match news {
            News::Begin | News::Timer(TIMER) => self.ask(io),
            News::Answer(..) => {
                self.busy = false;
                let after_us = io.pick(PAUSE_US);
                io.timer(after_us, TIMER);
            }
            News::Watch(key, told) if key == self.watches => {
                if let Word::Events { events, .. } = told.news
                    && let Some(last) = events.last().and_then(|event| event.kv.as_ref())
                {
                    self.next_revision = last.mod_revision + 1;
                }
            }
            News::Broken(conn) if self.conn == Some(conn) => {
                self.conn = None;
                if self.winding {
                    self.connect(io);
                }
            }
            News::Wind => self.winding = true,
            _ => {}
        }
    }

    fn at_rest(&self) -> bool {
        self.winding && !self.busy
    }

    fn name(&self) -> &str {
        &self.name
    }
}
