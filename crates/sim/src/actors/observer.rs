//! The observer: watches everything from the first revision, so that every revision is seen by someone.

use cetera_check::history::Told;
use cetera_proto::etcdserverpb as pb;

use super::line::{MS, SECOND, between};
use super::watching::{Turn, Watching};
use crate::client::{Client, Conn, Io, News, WatchKey};

/// Watches everything from revision 1 with prev_kv, and always resumes: at the revision after the last it was told, or,
/// where that is compacted, at the compact revision.
pub struct Observer {
    name: String,
    conn: Option<(Conn, u32)>,
    watching: Option<Watching>,
    keys: WatchKey,
    /// Longest stay with a member.
    stay_us: u64,
    /// When it moves on.
    moves_us: u64,
    /// Whether progress was asked for since it last heard something.
    asked: bool,
    winding: bool,
    fragment: bool,
}

/// How often it looks after its watcher.
const LOOK_US: u64 = 500 * MS;
/// Silence after which it asks for progress; after twice as much it goes elsewhere.
const SILENCE_US: u64 = 2 * SECOND;

impl Observer {
    /// An observer that stays with a member for up to `stay_us`.
    pub fn new(number: u32, stay_us: u64, fragment: bool) -> Self {
        Self {
            name: format!("observer-{number}"),
            conn: None,
            watching: None,
            keys: 0,
            stay_us: stay_us.max(SECOND),
            moves_us: 0,
            asked: false,
            winding: false,
            fragment,
        }
    }

    fn watch(&mut self, io: &mut dyn Io) {
        let conn = match self.conn {
            Some((conn, _)) => conn,
            None => {
                let member = io.somewhere();
                let conn = io.connect(member);
                self.conn = Some((conn, member));
                self.moves_us = io.now_us() + between(io, self.stay_us / 2, self.stay_us);
                conn
            }
        };
        self.keys += 1;
        self.asked = false;
        match &mut self.watching {
            Some(watching) => watching.resume(io, conn, self.keys),
            None => {
                let request = pb::WatchCreateRequest {
                    key: bytes::Bytes::from_static(b"\0"),
                    range_end: bytes::Bytes::from_static(b"\0"),
                    start_revision: 1,
                    prev_kv: true,
                    progress_notify: true,
                    fragment: self.fragment,
                    ..Default::default()
                };
                self.watching = Some(Watching::begin(io, conn, self.keys, request));
            }
        }
    }

    fn leave(&mut self, io: &mut dyn Io) {
        if let Some((conn, _)) = self.conn.take() {
            io.close(conn);
        }
        if let Some(watching) = &mut self.watching {
            watching.lost();
        }
    }

    fn told(&mut self, key: WatchKey, told: &Told, io: &mut dyn Io) {
        let Some(watching) = self.watching.as_mut().filter(|watching| watching.key == key) else { return };
        self.asked = false;
        match watching.told(told) {
            Turn::On => {}
            Turn::Compacted => self.watch(io),
            // Nobody asked for that: somebody else may do better.
            Turn::Ended => self.leave(io),
        }
    }

    fn look(&mut self, io: &mut dyn Io) {
        let now = io.now_us();
        let (Some((conn, _)), Some(watching)) = (self.conn, &self.watching) else { return self.watch(io) };
        let silent = now.saturating_sub(watching.heard_us);
        if silent > 2 * SILENCE_US || (now >= self.moves_us && !self.winding) {
            self.leave(io);
            self.watch(io);
        } else if silent > SILENCE_US && !self.asked {
            self.asked = true;
            io.progress(conn);
        }
    }
}

impl Client for Observer {
    fn on(&mut self, news: News, io: &mut dyn Io) {
        match news {
            News::Begin => {
                self.watch(io);
                io.timer(LOOK_US, 0);
            }
            News::Timer(_) => {
                self.look(io);
                io.timer(LOOK_US, 0);
            }
            News::Watch(key, told) => self.told(key, &told, io),
            News::Broken(conn) => {
                if self.conn.is_some_and(|(own, _)| own == conn) {
                    self.conn = None;
                    if let Some(watching) = &mut self.watching {
                        watching.lost();
                    }
                }
            }
            News::Answer(..) => {}
            News::Wind => self.winding = true,
        }
    }

    fn at_rest(&self) -> bool {
        self.conn.is_some() && self.watching.as_ref().is_some_and(Watching::is_created)
    }

    fn name(&self) -> &str {
        &self.name
    }
}
