//! Watch clients: many watchers of all kinds on few streams, made, asked, cancelled and resumed.

use bytes::Bytes;
use cetera_check::generate::{Dice, NAMES};
use cetera_check::keys::{self, prefix_end};
use cetera_proto::etcdserverpb as pb;
use pb::watch_create_request::FilterType;

use super::line::{IoDice, MS, SECOND, between};
use super::watching::{Turn, Watching};
use crate::client::{Client, Conn, Io, News, WatchKey};

/// Watchers of one client at most.
const WATCHERS_MAX: usize = 24;

/// Silence after a creation that is one too many.
const SILENCE_US: u64 = 3 * SECOND;

/// A watch client.
pub struct WatchClient {
    name: String,
    streams: Vec<Stream>,
    watchings: Vec<Owned>,
    /// Watchers it tends to have.
    usual: usize,
    keys: WatchKey,
    /// Highest revision heard of.
    seen: i64,
    /// Longest pause between two things it does, microseconds.
    think_us: u64,
    winding: bool,
}

/// A stream; gone while there is no connection.
#[derive(Debug, Default)]
struct Stream {
    conn: Option<Conn>,
    /// When to connect again.
    back_us: u64,
}

#[derive(Debug)]
struct Owned {
    watching: Watching,
    stream: usize,
    state: State,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum State {
    /// A watcher is there or being created.
    Up,
    /// Its stream is gone: it will be resumed.
    Down,
    /// Its cancellation was asked for.
    Ending,
}

impl WatchClient {
    /// A client with so many streams and about so many watchers, which does something every `think_us` or so.
    pub fn new(number: u32, streams: usize, watchers: usize, think_us: u64) -> Self {
        Self {
            name: format!("watch-{number}"),
            streams: (0..streams.max(1)).map(|_| Stream::default()).collect(),
            watchings: Vec::new(),
            usual: watchers.clamp(1, WATCHERS_MAX),
            keys: 0,
            seen: 1,
            think_us: think_us.max(1),
            winding: false,
        }
    }

    fn act(&mut self, io: &mut dyn Io) {
        self.reconnect(io);
        if self.winding {
            return self.leave_silent_members(io);
        }
        let stream = io.pick(self.streams.len() as u64) as usize;
        let Some(conn) = self.streams[stream].conn else { return };
        let crowded = self.watchings.len() >= self.usual;
        match io.pick(16) {
            0..6 if !crowded => self.create(io, stream, conn),
            6..9 => io.progress(conn),
            9 | 10 if crowded => self.cancel(io),
            11 if io.pick(4) == 0 => {
                // The client moves: the server sees the stream go.
                io.close(conn);
                self.gone(stream, io);
            }
            12 => {
                // Made and cancelled in one breath.
                self.create(io, stream, conn);
                if io.pick(2) == 0 {
                    self.end(self.watchings.len() - 1, io);
                }
            }
            _ => {}
        }
    }

    fn create(&mut self, io: &mut dyn Io, stream: usize, conn: Conn) {
        if self.watchings.len() >= WATCHERS_MAX {
            return;
        }
        let request = request(io, self.seen);
        self.keys += 1;
        let watching = Watching::begin(io, conn, self.keys, request);
        self.watchings.push(Owned { watching, stream, state: State::Up });
    }

    fn cancel(&mut self, io: &mut dyn Io) {
        let up: Vec<usize> =
            (0..self.watchings.len()).filter(|index| self.watchings[*index].state == State::Up).collect();
        if !up.is_empty() {
            let index = up[io.pick(up.len() as u64) as usize];
            self.end(index, io);
        }
    }

    fn end(&mut self, index: usize, io: &mut dyn Io) {
        let owned = &mut self.watchings[index];
        owned.state = State::Ending;
        io.cancel(owned.watching.key);
    }

    /// A stream is gone, and the watchers on it.
    fn gone(&mut self, stream: usize, io: &mut dyn Io) {
        self.streams[stream].conn = None;
        self.streams[stream].back_us = io.now_us() + between(io, MS, 500 * MS);
        self.watchings.retain(|owned| owned.stream != stream || owned.state != State::Ending);
        for owned in self.watchings.iter_mut().filter(|owned| owned.stream == stream) {
            owned.state = State::Down;
            owned.watching.lost();
        }
    }

    fn reconnect(&mut self, io: &mut dyn Io) {
        for stream in 0..self.streams.len() {
            if self.streams[stream].conn.is_some() || io.now_us() < self.streams[stream].back_us {
                continue;
            }
            let member = io.somewhere();
            let conn = io.connect(member);
            self.streams[stream].conn = Some(conn);
            for owned in &mut self.watchings {
                if owned.stream == stream && owned.state == State::Down {
                    self.keys += 1;
                    owned.watching.resume(io, conn, self.keys);
                    owned.state = State::Up;
                }
            }
        }
    }

    /// A member that does not even say that a watcher exists is left.
    fn leave_silent_members(&mut self, io: &mut dyn Io) {
        let now = io.now_us();
        for stream in 0..self.streams.len() {
            let silent = self.watchings.iter().any(|owned| {
                owned.stream == stream && !owned.watching.is_created() && now > owned.watching.heard_us + SILENCE_US
            });
            if let (true, Some(conn)) = (silent, self.streams[stream].conn) {
                io.close(conn);
                self.gone(stream, io);
            }
        }
    }

    fn told(&mut self, key: WatchKey, told: &cetera_check::history::Told, io: &mut dyn Io) {
        self.seen = self.seen.max(told.revision);
        let Some(index) = self.watchings.iter().position(|owned| owned.watching.key == key) else { return };
        let owned = &mut self.watchings[index];
        match owned.watching.told(told) {
            Turn::On => {}
            Turn::Compacted if owned.state == State::Up => {
                let Some(conn) = self.streams[owned.stream].conn else { return };
                self.keys += 1;
                owned.watching.resume(io, conn, self.keys);
            }
            Turn::Compacted | Turn::Ended => {
                self.watchings.remove(index);
            }
        }
    }
}

impl Client for WatchClient {
    fn on(&mut self, news: News, io: &mut dyn Io) {
        match news {
            News::Begin | News::Timer(_) => {
                self.act(io);
                let pause = 1 + io.pick(2 * self.think_us);
                io.timer(pause, 0);
            }
            News::Watch(key, told) => self.told(key, &told, io),
            News::Broken(conn) => {
                if let Some(stream) = self.streams.iter().position(|stream| stream.conn == Some(conn)) {
                    self.gone(stream, io);
                }
            }
            News::Answer(..) => {}
            News::Wind => self.winding = true,
        }
    }

    fn at_rest(&self) -> bool {
        self.watchings.iter().all(|owned| owned.state == State::Up && owned.watching.is_created())
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// A watcher of some kind, where `seen` is about the present revision.
fn request(io: &mut dyn Io, seen: i64) -> pb::WatchCreateRequest {
    let mut dice = IoDice(io);
    let (key, range_end) = watched(&mut dice);
    let start_revision = match dice.pick(12) {
        0..4 => 0,
        // The next one, or one close by on either side.
        4 => seen + 1,
        5 => (seen - 1 + dice.pick(4) as i64).max(1),
        6 => seen + 2 + dice.pick(40) as i64,
        7 => 1,
        8 => 1 + dice.pick(seen.max(1) as u64) as i64,
        _ => (seen - dice.pick(30) as i64).max(1),
    };
    let filters = match dice.pick(8) {
        0 => vec![FilterType::Noput as i32],
        1 => vec![FilterType::Nodelete as i32],
        _ => Vec::new(),
    };
    pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        progress_notify: dice.pick(4) == 0,
        filters,
        prev_kv: dice.pick(2) == 0,
        fragment: dice.pick(3) == 0,
        ..Default::default()
    }
}

fn watched(dice: &mut dyn Dice) -> (Bytes, Bytes) {
    let under = |prefix: &[u8], rest: &str| Bytes::from([prefix, rest.as_bytes()].concat());
    let span = |prefix: Bytes| {
        let end = prefix_end(&prefix);
        (prefix, end)
    };
    match dice.pick(12) {
        0..4 => (under(keys::KV, NAMES[dice.pick(NAMES.len() as u64) as usize]), Bytes::new()),
        4 | 5 => span(under(keys::KV, "a/")),
        6 => span(under(keys::KV, "b/")),
        7 => (under(keys::KV, "a/1"), under(keys::KV, "b/2")),
        8 => span(Bytes::from_static(keys::KV)),
        9 => span(Bytes::from_static([keys::LOCK, keys::ELECTION, keys::LEASED][dice.pick(3) as usize])),
        // From a key on, and everything.
        10 => (under(keys::KV, "b/"), Bytes::from_static(b"\0")),
        _ => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
    }
}
