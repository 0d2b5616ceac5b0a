//! Client actors: what they are told and what they may do. All they know of the cluster comes over connections.

use cetera_check::history::{Outcome, Request, Told};
use cetera_proto::etcdserverpb as pb;

/// A connection from one client to one member; ids are never used twice in a run.
#[derive(Copy, Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Conn(pub u64);

/// A call's own number on the client that made it.
pub type CallId = u64;

/// A watcher's own number on the client that made it.
pub type WatchKey = u64;

/// What a client is told.
#[derive(Clone, Debug)]
pub enum News {
    /// The run begins.
    Begin,
    /// A timer that this client set.
    Timer(u64),
    /// A call's outcome. Comes exactly once per call: a time-out or a broken connection is `Outcome::Unknown`.
    Answer(CallId, Outcome),
    /// A watcher was told something.
    Watch(WatchKey, Told),
    /// The connection broke: its calls under way were answered `Unknown` before this, its watchers are gone.
    Broken(Conn),
    /// Faults are over and the run comes to its end: make no new calls that are not needed to come to rest (a watcher
    /// goes on, a lock is let go).
    Wind,
}

/// A client.
pub trait Client {
    /// Something happened.
    fn on(&mut self, news: News, io: &mut dyn Io);
    /// Whether it has nothing under way and nothing more to do; asked after `Wind`.
    fn at_rest(&self) -> bool;
    /// For the trace.
    fn name(&self) -> &str;
}

/// What a client may do. Every call and watcher is recorded in the run's history by the world itself.
pub trait Io {
    /// The clock that all clients share, microseconds from the start of the run.
    fn now_us(&self) -> u64;
    /// Members of the cluster, to choose from: `0..members()`.
    fn members(&self) -> u32;
    /// A member to connect to: any, but rarely one that is no member at present.
    fn somewhere(&mut self) -> u32 {
        let members = u64::from(self.members());
        self.pick(members) as u32
    }
    /// A new connection to a member. It always succeeds here; a member that cannot be reached breaks it later.
    fn connect(&mut self, member: u32) -> Conn;
    /// Closes a connection: its calls under way become `Unknown`, its watchers end.
    fn close(&mut self, conn: Conn);
    /// Makes a call with a time-out in microseconds.
    fn call(&mut self, conn: Conn, id: CallId, request: Request, timeout_us: u64);
    /// Creates a watcher on the stream of this connection; `resumes` names an earlier watcher of this client that it
    /// goes on from.
    fn watch(&mut self, conn: Conn, key: WatchKey, request: pb::WatchCreateRequest, resumes: Option<WatchKey>);
    /// Cancels a watcher.
    fn cancel(&mut self, key: WatchKey);
    /// Asks for progress of all watchers of the connection's stream (W-15).
    fn progress(&mut self, conn: Conn);
    /// Sets a timer: `News::Timer(token)` after `after_us`.
    fn timer(&mut self, after_us: u64, token: u64);
    /// A number below `below`, from the seed.
    fn pick(&mut self, below: u64) -> u64;
    /// A number unique in the run, for values.
    fn unique(&mut self) -> u64;
}
