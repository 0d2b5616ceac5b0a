//! A member's machine: its disk, its clock, and the life of the process that runs on it, if one does.
//!
//! A life is the shell around the real node, as threads would be, but each thread's next turn is an event of the world:
//! `node` steps the node and carries out its effects in their stated order, `log` writes and syncs the write-ahead log,
//! `jobs` does the background work, `front` runs etcd's services for the connections of clients. What ends a life is
//! here too: a kill leaves the disk as it was written, a power loss leaves what the platter had.

mod front;
mod jobs;
mod life;
mod log;
mod node;
mod publish;
pub(crate) mod snapshot;

use std::path::Path;
use std::sync::Arc;

use cetera_node::recovery::{self, Start};
use cetera_plant::{Bug, is_planted};
use cetera_state::id;
use cetera_state::member::Member;
use cetera_storage::revlog::RevLogOptions;
use cetera_storage::vfs::{Vfs, memory::MemoryVfs};
use cetera_storage::wal::WalOptions;

use self::life::Life;
use crate::client::Conn;
use crate::clock::Clock;
use crate::core::{Answer, Core, Happening, Packet, Thread};
use crate::plan::Options;
use crate::trace::Kind;

/// Where a member lives on its disk.
pub(crate) const DATA_DIR: &str = "/data";
/// Shortest and longest time before a process that ended by itself is started again.
const RESTART_US: (u64, u64) = (100_000, 2_000_000);
/// Longest time before a client learns that the process at the other end is gone.
const RESET_US_MAX: u64 = 200_000;
/// Of a thousand messages to a member that does not run, those whose sender learns that at once.
const REFUSED_PER_MILLE: u64 = 200;
/// Shortest time before a client learns that nobody answers: less only makes clients ask more often.
const REFUSED_US_MIN: u64 = 20_000;
/// What the wall clock shows at the start of the world, in milliseconds: request ids begin there.
const WALL_MS: u64 = 1_700_000_000_000;

/// What a machine is to the cluster.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Seat {
    /// Nothing: no process is started on it.
    Nobody,
    /// A member from the beginning.
    Founder,
    /// A member that was added later, as which one its place in [`Core::ids`] says.
    Joins,
}

/// A machine.
pub(crate) struct Host {
    pub(crate) index: usize,
    pub(crate) seat: Seat,
    pub(crate) disk: MemoryVfs,
    pub(crate) clock: Clock,
    life: Option<Box<Life>>,
    /// Lives so far; names the present one.
    lives: u32,
    /// The process is stopped; what happened meanwhile waits in `backlog`.
    paused: bool,
    backlog: Vec<Happening>,
    /// Faults that keep it from being started.
    pub(crate) held: u32,
    /// Why it is not started any more, if it is not.
    pub(crate) refused: Option<String>,
    /// Scripted failures of its disk: a process may end because of them.
    pub(crate) disk_trouble: u32,
    /// Its disk had trouble in this life or was short of room.
    pub(crate) excused: bool,
    /// Syncs take so many times as long.
    pub(crate) sync_factor: u64,
    /// No sync ends before.
    pub(crate) stalled_until_us: u64,
    /// The next start loses power after so many disk operations.
    pub(crate) crash_next_start: Option<u64>,
    /// Its disk was emptied since the member on it was last started.
    emptied: bool,
    /// Whether somebody refuses connections while no process runs.
    has_power: bool,
}

impl Host {
    pub(crate) fn new(index: usize, clock: Clock, seat: Seat) -> Self {
        Self {
            index,
            seat,
            disk: MemoryVfs::new(),
            clock,
            life: None,
            lives: 0,
            paused: false,
            backlog: Vec::new(),
            held: 0,
            refused: None,
            disk_trouble: 0,
            excused: false,
            sync_factor: 1,
            stalled_until_us: 0,
            crash_next_start: None,
            emptied: false,
            has_power: true,
        }
    }

    fn name(&self) -> String {
        format!("m{}", self.index)
    }

    /// Milliseconds of the process's clock.
    fn now_ms(&self, core: &Core) -> u64 {
        self.clock.now_us(core.now_us) / 1_000
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Lives so far.
    pub(crate) fn lives(&self) -> u32 {
        self.lives
    }

    /// Whether its member will never run again.
    pub(crate) fn is_lost(&self) -> bool {
        self.refused.is_some() || self.emptied
    }

    /// Whether clients are served.
    pub(crate) fn is_serving(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.serving())
    }

    /// Whether it runs and has a log that failed: an operator would start it anew.
    pub(crate) fn log_has_failed(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.log_has_failed())
    }

    /// Applied index of the running member.
    pub(crate) fn applied(&self) -> Option<u64> {
        self.life.as_ref().map(|life| life.node.state().applied_index())
    }

    /// The running member, for checks.
    pub(crate) fn node(&self) -> Option<&cetera_node::Node> {
        self.life.as_ref().map(|life| &life.node)
    }

    /// An id for a request that is made at this member.
    pub(crate) fn next_request_id(&self) -> u64 {
        self.life.as_ref().map_or(0, |life| life.settings.ids.next_id())
    }

    /// What it is at, for a finding.
    pub(crate) fn unrest(&self) -> String {
        let Some(life) = self.life.as_ref() else { return format!("{} does not run", self.name()) };
        let published = life.node.published();
        format!(
            "{} applied {} of {} in term {} under {:x}{}",
            self.name(),
            published.applied_index,
            published.committed_index,
            published.term,
            published.leader,
            if life.is_idle() { "" } else { ", busy" }
        )
    }

    /// Whether nothing is under way in it: no job, no write, no slice.
    pub(crate) fn is_idle(&self) -> bool {
        self.life.as_ref().is_none_or(|life| life.is_idle())
    }

    /// Background jobs that are not done.
    pub(crate) fn jobs_waiting(&self) -> u64 {
        self.life.as_ref().map_or(0, |life| life.jobs_waiting())
    }

    /// Starts the process on what its disk holds.
    pub(crate) fn start(&mut self, core: &mut Core) {
        if self.seat == Seat::Nobody || self.life.is_some() || self.held > 0 || self.refused.is_some() {
            return;
        }
        if self.emptied && !is_planted(Bug::EmptiedMemberVotes) {
            // The others know a member of this id that was started: it would not be that one any more.
            core.trace.say(core.now_us, &self.name(), || "refuses to start: its data is gone".to_owned());
            self.refused = Some("its data is gone".to_owned());
            return;
        }
        self.lives += 1;
        self.has_power = true;
        self.excused = self.disk_trouble > 0;
        core.starts += 1;
        if let Some(ops) = self.crash_next_start.take() {
            self.disk.crash_after(self.disk.ops() + ops);
        }
        let vfs: Arc<dyn Vfs> = Arc::new(self.disk.clone());
        let nonce = core.dice.bits();
        let wanted = start_of(&core.options, self.seat, core.ids[self.index], nonce, self.now_ms(core));
        let opened = recovery::open(&vfs, Path::new(DATA_DIR), wanted);
        let outcome = opened.as_ref().map(|opened| opened.report.clone()).map_err(ToString::to_string);
        core.trace.note(core.now_us, Kind::Life, self.index as u64, u64::from(self.lives), u64::from(outcome.is_ok()));
        core.trace.say(core.now_us, &self.name(), || match &outcome {
            Ok(report) => format!("starts: {report:?}"),
            Err(error) => format!("cannot start: {error}"),
        });
        if self.disk.has_stopped() {
            return self.lose_power(core, true);
        }
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return self.start_failed(&error.to_string(), core),
        };
        core.checks.started(self.index, &opened.node, opened.report.checkpoint.unwrap_or(0));
        self.life = Some(Box::new(Life::new(opened, vfs, self.index, core)));
        self.schedule(0, Thread::Tick, core);
        for front in 0..core.options.fronts {
            self.schedule(0, Thread::FrontTick(front as u16), core);
        }
    }

    fn start_failed(&mut self, error: &str, core: &mut Core) {
        if core.checks.rotten[self.index] {
            self.refused = Some(error.to_owned());
            return;
        }
        if !self.excused {
            core.checks.violated(format!("member {} refused to start: {error}", self.index));
            self.refused = Some(error.to_owned());
            return;
        }
        self.start_later(core);
    }

    /// A supervisor starts the process again.
    pub(crate) fn start_later(&mut self, core: &mut Core) {
        let (low, high) = RESTART_US;
        let after_us = core.dice.within(low, high);
        core.after(after_us, Happening::Start { host: self.index });
    }

    /// The process is gone, whatever it was doing. Its disk keeps what was written, and its system resets its connections.
    pub(crate) fn kill(&mut self, core: &mut Core) {
        if self.life.is_some() {
            self.end(core);
            core.reset_peers(self.index);
        }
    }

    /// The process is gone.
    fn end(&mut self, core: &mut Core) {
        self.paused = false;
        self.backlog.clear();
        let Some(life) = self.life.take() else { return };
        core.break_lines(self.index, life.lines.all());
        core.trace.note(core.now_us, Kind::Life, self.index as u64, u64::from(self.lives), 2);
        core.trace.say(core.now_us, &self.name(), || "the process is gone".to_owned());
        // What the process held is dropped with it, and must not tidy up: a process that is killed does not.
        self.disk = self.disk.outlive();
        drop(life);
        for conn in core.connections.open_to(self.index) {
            let after_us = core.dice.skewed(100, RESET_US_MAX);
            core.break_connection(conn, after_us);
        }
    }

    /// The machine loses power: the platter decides what was written. With `restart`, somebody starts it later.
    pub(crate) fn lose_power(&mut self, core: &mut Core, restart: bool) {
        self.end(core);
        let seed = core.dice.bits();
        self.disk = self.disk.crash(seed);
        core.trace.note(core.now_us, Kind::Life, self.index as u64, u64::from(self.lives), 3);
        core.trace.say(core.now_us, &self.name(), || format!("loses power (disk as of {seed:x})"));
        self.has_power = restart;
        if restart {
            self.start_later(core);
        }
    }

    /// Nothing is left of what was on the disk; no process runs.
    pub(crate) fn empty_disk(&mut self, core: &mut Core) {
        self.disk = MemoryVfs::new();
        self.emptied = true;
        core.checks.emptied(self.index);
    }

    /// The machine becomes nobody's.
    pub(crate) fn vacate(&mut self, core: &mut Core) {
        self.kill(core);
        self.seat = Seat::Nobody;
        self.refused = None;
        self.crash_next_start = None;
        self.disk = MemoryVfs::new();
        self.emptied = false;
    }

    /// The process ended by itself.
    fn fatal(&mut self, why: &str, core: &mut Core) {
        core.trace.say(core.now_us, &self.name(), || format!("FATAL {why}"));
        self.kill(core);
        if core.checks.rotten[self.index] {
            self.refused = Some(why.to_owned());
        } else if self.excused {
            self.start_later(core);
        } else {
            core.checks.violated(format!("member {} stopped: {why}", self.index));
            self.refused = Some(why.to_owned());
        }
    }

    /// Scripted failures begin; what goes wrong in this life and the next is excused.
    pub(crate) fn disk_trouble_begins(&mut self) {
        self.disk_trouble += 1;
        self.excused = true;
    }

    /// They end.
    pub(crate) fn disk_trouble_ends(&mut self) {
        self.disk_trouble -= 1;
    }

    /// Stops the process where it is.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// It goes on: everything that waited happens now, in order.
    pub(crate) fn resume(&mut self, core: &mut Core) {
        self.paused = false;
        for what in std::mem::take(&mut self.backlog) {
            core.at(core.now_us, what);
        }
    }

    fn schedule(&mut self, after_us: u64, thread: Thread, core: &mut Core) {
        core.after(after_us, Happening::Thread { host: self.index, life: self.lives, thread });
    }

    /// A thread of the process has something to do.
    pub(crate) fn thread(&mut self, life: u32, thread: Thread, core: &mut Core) {
        if life != self.lives || self.life.is_none() {
            return;
        }
        if self.paused {
            return self.backlog.push(Happening::Thread { host: self.index, life, thread });
        }
        match thread {
            Thread::Node => self.node_turn(core),
            Thread::Tick => self.node_tick(core),
            Thread::Wake => self.wake_node(core),
            Thread::Log => self.log_synced(core),
            Thread::LogRetry => self.log_retry(core),
            Thread::Job => self.job_ends(core),
            Thread::Read => self.read_ends(core),
            Thread::Front(front) => self.front_turn(front, core),
            Thread::FrontTick(front) => self.front_tick(front, core),
        }
        self.look_at_disk(core);
    }

    /// The machine may have lost power at an operation of its disk.
    fn look_at_disk(&mut self, core: &mut Core) {
        if self.disk.has_stopped() && self.life.is_some() {
            self.lose_power(core, true);
        }
    }

    /// A message of another member arrives.
    pub(crate) fn peer(&mut self, from: usize, message: cetera_proto::ceterapb::PeerMessage, core: &mut Core) {
        if self.life.is_none() {
            // Without power nobody answers, and a machine that nobody starts has none.
            if self.has_power && core.dice.chance(REFUSED_PER_MILLE) {
                core.reset_peer(from, self.index);
            }
            return;
        }
        if self.paused {
            return self.backlog.push(Happening::Peer { from, to: self.index, message });
        }
        core.trace.say(core.now_us, &self.name(), || format!("from m{from}: {}", crate::core::show(&message)));
        self.push_event(cetera_node::Event::Peer(vec![message]), core);
    }

    /// A connection to another member is gone.
    pub(crate) fn peer_gone(&mut self, gone: u64, core: &mut Core) {
        if self.life.is_some() && self.paused {
            return self.backlog.push(Happening::PeerGone { at: self.index, gone });
        }
        core.trace.say(core.now_us, &self.name(), || format!("its connection to {gone:x} is gone"));
        self.push_event(cetera_node::Event::PeerGone(gone), core);
    }

    /// Bytes of a client arrive.
    pub(crate) fn up(&mut self, conn: Conn, call: u64, packet: Packet, core: &mut Core) {
        if self.paused && self.life.is_some() {
            return self.backlog.push(Happening::Up { conn, call, packet });
        }
        if !self.is_serving() {
            let after_us = core.dice.skewed(REFUSED_US_MIN, RESET_US_MAX);
            return core.break_connection(conn, after_us);
        }
        if *core.connections.get_mut(conn).life.get_or_insert(self.lives) == self.lives {
            self.front_packet(conn, call, packet, core);
        }
    }

    /// A client has gone.
    pub(crate) fn hangup(&mut self, conn: Conn, core: &mut Core) {
        if self.paused && self.life.is_some() {
            return self.backlog.push(Happening::Hangup { conn });
        }
        self.front_hangup(conn, core);
    }

    /// Bytes have reached their client.
    pub(crate) fn delivered(&mut self, conn: Conn, call: u64, answer: &Answer, core: &mut Core) {
        if let Answer::Message(body) = answer {
            self.front_delivered(conn, call, body.len(), core);
        }
    }
}

/// The founders of a group of this size.
pub(crate) fn founders(members: usize) -> Vec<Member> {
    (0..members)
        .map(|index| {
            let peer_urls = vec![format!("http://member-{index}:2380")];
            Member { id: id::member_id(&peer_urls, "etcd-cluster", None), peer_urls, ..Default::default() }
        })
        .collect()
}

/// How a member starts.
pub(crate) fn start_of(options: &Options, seat: Seat, member_id: u64, nonce: u64, now_ms: u64) -> Start {
    let founders = founders(options.members);
    let ids: Vec<u64> = founders.iter().map(|founder| founder.id).collect();
    Start {
        member_id,
        cluster_id: id::cluster_id(&ids),
        founders: if seat == Seat::Founder { founders } else { Vec::new() },
        tick_ms: options.tick_ms,
        election_ms: options.election_ms,
        pre_vote: options.pre_vote,
        nonce,
        now_ms,
        wal: WalOptions {
            segment_bytes: options.wal_segment_bytes,
            max_bytes: options.wal_max_bytes,
            salt: nonce,
            keep_entries: options.keep.0,
            keep_bytes: options.keep.1,
        },
        log: RevLogOptions { segment_bytes: options.log_segment_bytes },
        checkpoint_log_bytes: Some(options.checkpoint_log_bytes),
        laggard_log_bytes: options.laggard_log_bytes,
        ..Start::default()
    }
}
