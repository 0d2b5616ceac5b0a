//! One thing watched for as long as a client wants, over as many watchers as it takes.

use cetera_check::history::{News, Told};
use cetera_proto::etcdserverpb as pb;

use crate::client::{Conn, Io, WatchKey};

/// Something watched.
#[derive(Debug)]
pub(super) struct Watching {
    /// The present watcher.
    pub(super) key: WatchKey,
    request: pb::WatchCreateRequest,
    /// The revision to go on from; 0 while nothing is known and the watcher began at the present.
    next: i64,
    /// Whether the present watcher exists, as far as we were told.
    created: bool,
    /// When it was told something last, or created.
    pub(super) heard_us: u64,
}

/// What a piece of news means for who watches.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// It goes on.
    On,
    /// What it was to go on from is compacted: resume at this revision.
    Compacted,
    /// It was cancelled, on request or for another reason.
    Ended,
}

impl Watching {
    /// Begins to watch.
    pub(super) fn begin(io: &mut dyn Io, conn: Conn, key: WatchKey, request: pb::WatchCreateRequest) -> Self {
        io.watch(conn, key, request.clone(), None);
        let next = request.start_revision;
        Self { key, request, next, created: false, heard_us: io.now_us() }
    }

    /// Whether the present watcher exists.
    pub(super) fn is_created(&self) -> bool {
        self.created
    }

    /// The watcher was told something.
    pub(super) fn told(&mut self, told: &Told) -> Turn {
        self.heard_us = told.at_us;
        match &told.news {
            News::Created => {
                self.created = true;
                if self.next == 0 {
                    self.next = told.revision + 1;
                }
                Turn::On
            }
            // Only the last part of a response moves it on: what is resumed after a part begins with the whole again.
            News::Events { events, fragment } => {
                if !fragment {
                    let last = events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).max();
                    self.next = self.next.max(last.unwrap_or(0) + 1);
                }
                Turn::On
            }
            News::Progress => {
                self.next = self.next.max(told.revision + 1);
                Turn::On
            }
            News::Canceled { compact_revision, .. } if *compact_revision > 0 => {
                self.created = false;
                self.next = self.next.max(*compact_revision);
                Turn::Compacted
            }
            News::Canceled { .. } => {
                self.created = false;
                Turn::Ended
            }
        }
    }

    /// Goes on with a new watcher.
    pub(super) fn resume(&mut self, io: &mut dyn Io, conn: Conn, key: WatchKey) {
        // One that began at the present and was never told where that is has nothing to go on from.
        let resumes = (self.next != 0).then_some(self.key);
        let request = pb::WatchCreateRequest { start_revision: self.next, ..self.request.clone() };
        io.watch(conn, key, request, resumes);
        self.key = key;
        self.created = false;
        self.heard_us = io.now_us();
    }

    /// Nobody watches any more; [`Watching::resume`] goes on.
    pub(super) fn lost(&mut self) {
        self.created = false;
    }
}
