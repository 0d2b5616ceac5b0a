//! A directed world: a cluster in which nothing goes wrong but what a script does, in the order in which it does it.
//!
//! [`play`] is one story: it starts the members, lets the script act, and then judges as every run is judged: all come to
//! rest, are equal, start again from their disks and are what they were, and the history goes through the checkers. The
//! links, disks and threads still take times from the seed; a story must hold for any.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cetera_check::history::{Outcome, Request, Response, Told};
use cetera_node::watch::HubOptions;
use cetera_plant::Bug;
use cetera_proto::etcdserverpb as pb;

use crate::client::{CallId, Client, Conn, News, WatchKey};
use crate::core::Happening;
use crate::host::{Host, Seat};
use crate::network::Trouble;
use crate::operator::{Done, Task, member_id};
use crate::plan::{Options, Plan};
use crate::run::{self, listened};
use crate::world::World;

/// Set in the environment, a story prints its readable trace.
pub const TRACE: &str = "CETERA_SIM_TRACE";
/// How long anything that a script waits for may take.
const PATIENCE_US: u64 = 30_000_000;
/// How long its calls wait for an answer.
const CALL_US: u64 = 10_000_000;
/// How often a change of the membership is asked for.
const CHANGE_TRIES: usize = 100;
/// Time between looks at what a script waits for.
const LOOK_US: u64 = 200;

/// The client that a script moves: it keeps what it is told.
struct Puppet(Rc<RefCell<Vec<News>>>);

impl Client for Puppet {
    fn on(&mut self, news: News, _io: &mut dyn crate::client::Io) {
        self.0.borrow_mut().push(news);
    }

    fn at_rest(&self) -> bool {
        true
    }

    fn name(&self) -> &str {
        "script"
    }
}

/// The world, for a script.
pub struct Script {
    world: World,
    puppet: usize,
    news: Rc<RefCell<Vec<News>>>,
    outcomes: BTreeMap<CallId, Outcome>,
    told: BTreeMap<WatchKey, Vec<Told>>,
    /// The connection to each member.
    conns: BTreeMap<usize, Conn>,
    broken: Vec<Conn>,
    calls: CallId,
    watches: WatchKey,
}

/// Plays a story with so many members; what it and the checkers found wrong.
pub fn play(
    members: usize,
    bug: Option<Bug>,
    tune: impl FnOnce(&mut Options),
    story: impl FnOnce(&mut Script) -> Result<(), Stuck>,
) -> Vec<String> {
    let trace = std::env::var_os(TRACE).is_some();
    let plan = Plan { plant: bug, trace, ..Plan::new(1, members) };
    run::plant(&plan);
    let mut options = Options::calm(members);
    tune(&mut options);
    let ended = listened(|| {
        let mut world = World::with(&plan, options);
        let news = Rc::default();
        let puppet = world.join(Box::new(Puppet(Rc::clone(&news))));
        let mut script = Script::new(world, puppet, news);
        let played = script.all_serve().and_then(|()| story(&mut script));
        if let Err(Stuck(what)) = played {
            script.promise(false, &what);
        }
        script.judge()
    });
    run::plant(&Plan::new(1, members));
    match ended {
        Ok(violations) => violations,
        Err(what) => vec![format!("panic: {what}")],
    }
}

/// A story does not go on: what it waits for does not come.
#[derive(Debug)]
pub struct Stuck(pub String);

impl Script {
    fn new(world: World, puppet: usize, news: Rc<RefCell<Vec<News>>>) -> Self {
        Self {
            world,
            puppet,
            news,
            outcomes: BTreeMap::new(),
            told: BTreeMap::new(),
            conns: BTreeMap::new(),
            broken: Vec::new(),
            calls: 0,
            watches: 0,
        }
    }

    /// Something that must hold; if it does not, the story has found it.
    pub fn promise(&mut self, holds: bool, what: &str) {
        if !holds {
            self.world.core.checks.violated(what.to_owned());
        }
    }

    /// Lets time pass.
    pub fn wait_us(&mut self, us: u64) {
        self.world.core.after(us, Happening::Look);
        while !self.world.step() {}
        self.hear();
    }

    /// Lets time pass until something is so.
    ///
    /// # Errors
    /// It does not come to be.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) -> Result<(), Stuck> {
        let end_us = self.world.core.now_us + PATIENCE_US;
        loop {
            self.hear();
            if done(self) {
                return Ok(());
            }
            if self.world.core.now_us >= end_us {
                return Err(Stuck(format!("the story does not come to where {what}")));
            }
            self.wait_us(LOOK_US);
        }
    }

    fn hear(&mut self) {
        for news in self.news.take() {
            match news {
                News::Answer(id, outcome) => {
                    self.outcomes.insert(id, outcome);
                }
                News::Watch(key, told) => self.told.entry(key).or_default().push(told),
                News::Broken(conn) => {
                    self.broken.push(conn);
                    self.conns.retain(|_, open| *open != conn);
                }
                News::Begin | News::Timer(_) | News::Wind => {}
            }
        }
    }

    /// Waits until all members that run serve.
    ///
    /// # Errors
    /// They do not.
    pub fn all_serve(&mut self) -> Result<(), Stuck> {
        self.until("all members serve", |script| {
            let waited_for = |host: &&Host| host.seat != Seat::Nobody && host.held == 0 && host.refused.is_none();
            script.world.hosts.iter().filter(waited_for).all(Host::is_serving)
        })
    }

    /// The member that leads in the newest term, of those that run and are not paused.
    ///
    /// # Errors
    /// There is none.
    pub fn leader(&mut self) -> Result<usize, Stuck> {
        self.leader_but(None)
    }

    /// The same, of all but one.
    ///
    /// # Errors
    /// There is none.
    pub fn leader_but(&mut self, but: Option<usize>) -> Result<usize, Stuck> {
        let mut leader = None;
        self.until("somebody leads", |script| {
            let pictures = script.world.hosts.iter().filter(|host| !host.is_paused());
            let leading = pictures.filter_map(|host| Some((host.index, host.node()?.published())));
            let newest = leading.filter(|(_, seen)| seen.leader == seen.member_id).max_by_key(|(_, seen)| seen.term);
            leader = newest.map(|(index, _)| index).filter(|index| Some(*index) != but);
            leader.is_some()
        })?;
        leader.ok_or_else(|| Stuck("nobody leads".to_owned()))
    }

    /// Members other than these.
    pub fn others(&self, than: &[usize]) -> Vec<usize> {
        (0..self.world.hosts.len()).filter(|index| !than.contains(index)).collect()
    }

    /// The connection to a member; a new one, if the one before broke.
    pub fn conn(&mut self, member: usize) -> Conn {
        self.hear();
        if let Some(conn) = self.conns.get(&member) {
            return *conn;
        }
        let conn = self.world.act(self.puppet, |io| io.connect(member as u32));
        self.conns.insert(member, conn);
        conn
    }

    /// Makes a call and does not wait.
    pub fn ask(&mut self, member: usize, request: Request) -> CallId {
        let conn = self.conn(member);
        self.calls += 1;
        let id = self.calls;
        self.world.act(self.puppet, |io| io.call(conn, id, request, CALL_US));
        id
    }

    /// What came of a call, once something did.
    pub fn outcome(&mut self, id: CallId) -> Option<Outcome> {
        self.hear();
        self.outcomes.get(&id).cloned()
    }

    /// Waits for what comes of a call.
    ///
    /// # Errors
    /// Nothing does.
    pub fn answer(&mut self, id: CallId) -> Result<Outcome, Stuck> {
        self.until("a call is answered", |script| script.outcomes.contains_key(&id))?;
        self.outcomes.get(&id).cloned().ok_or_else(|| Stuck("no answer".to_owned()))
    }

    /// Makes a call and waits for its outcome.
    ///
    /// # Errors
    /// There is none.
    pub fn call(&mut self, member: usize, request: Request) -> Result<Outcome, Stuck> {
        let id = self.ask(member, request);
        self.answer(id)
    }

    /// Makes a call until it is answered: for writes that may be done twice, and reads.
    ///
    /// # Errors
    /// It is not.
    pub fn insist(&mut self, member: usize, request: &Request) -> Result<Response, Stuck> {
        let end_us = self.world.core.now_us + PATIENCE_US;
        loop {
            match self.call(member, request.clone())? {
                Outcome::Done(response) => return Ok(response),
                other if self.world.core.now_us >= end_us => {
                    return Err(Stuck(format!("member {member} does not do {request:?}: {other:?}")));
                }
                _ => self.wait_us(20_000),
            }
        }
    }

    /// A value that no other write has.
    pub fn value(&mut self) -> bytes::Bytes {
        self.world.core.unique += 1;
        format!("v{}", self.world.core.unique).into()
    }

    /// The same, with so many bytes more.
    pub fn long_value(&mut self, bytes: usize) -> bytes::Bytes {
        [self.value(), vec![b'.'; bytes].into()].concat().into()
    }

    /// Puts a value of its own under a key, until that is done; the revision.
    ///
    /// # Errors
    /// It is not done.
    pub fn put(&mut self, member: usize, key: &str) -> Result<i64, Stuck> {
        let value = self.value();
        match self.insist(member, &put(key, value, 0))? {
            Response::Put(response) => Ok(response.header.map_or(0, |header| header.revision)),
            other => Err(Stuck(format!("a put is answered with {other:?}"))),
        }
    }

    /// Creates a watcher.
    pub fn watch(&mut self, member: usize, request: pb::WatchCreateRequest, resumes: Option<WatchKey>) -> WatchKey {
        let conn = self.conn(member);
        self.watches += 1;
        let key = self.watches;
        self.world.act(self.puppet, |io| io.watch(conn, key, request, resumes));
        key
    }

    /// Asks for progress of the watchers at a member.
    pub fn progress(&mut self, member: usize) {
        let conn = self.conn(member);
        self.world.act(self.puppet, |io| io.progress(conn));
    }

    /// What a watcher was told so far.
    pub fn told(&mut self, key: WatchKey) -> Vec<Told> {
        self.hear();
        self.told.get(&key).cloned().unwrap_or_default()
    }

    /// Revisions of the changes that a watcher was told of, in order.
    pub fn revisions(&mut self, key: WatchKey) -> Vec<i64> {
        let told = self.told(key);
        let changes = told.iter().flat_map(|told| match &told.news {
            cetera_check::history::News::Events { events, .. } => events.as_slice(),
            _ => &[],
        });
        changes.filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).collect()
    }

    /// The client takes nothing and says nothing for a while.
    pub fn stall_client(&mut self, us: u64) {
        let until_us = self.world.core.now_us + us;
        self.world.core.network.stand_still_at_client(self.puppet, until_us);
    }

    /// Closes the connection to a member, with all its watchers.
    pub fn hang_up(&mut self, member: usize) {
        if let Some(conn) = self.conns.remove(&member) {
            self.world.act(self.puppet, |io| io.close(conn));
        }
    }

    /// A process is killed, and stays down.
    pub fn kill(&mut self, member: usize) {
        let World { core, hosts, .. } = &mut self.world;
        hosts[member].held += 1;
        hosts[member].kill(core);
        self.conns.remove(&member);
    }

    /// A machine loses power, and stays down.
    pub fn lose_power(&mut self, member: usize) {
        let World { core, hosts, .. } = &mut self.world;
        hosts[member].held += 1;
        hosts[member].lose_power(core, false);
        self.conns.remove(&member);
    }

    /// A machine will lose power after so many operations of its disk; it is started again by itself.
    pub fn lose_power_after(&mut self, member: usize, operations: u64) {
        let disk = &self.world.hosts[member].disk;
        disk.crash_after(disk.ops() + operations);
    }

    /// Whether the process runs.
    pub fn is_alive(&self, member: usize) -> bool {
        self.world.hosts[member].is_alive()
    }

    /// Lives of a member so far.
    pub fn lives(&self, member: usize) -> u32 {
        self.world.hosts[member].lives()
    }

    /// A member that was taken down is started.
    pub fn start(&mut self, member: usize) {
        let World { core, hosts, .. } = &mut self.world;
        hosts[member].held = 0;
        hosts[member].start(core);
    }

    /// A process stands still.
    pub fn pause(&mut self, member: usize) {
        self.world.hosts[member].pause();
    }

    /// It goes on: what waited happens.
    pub fn resume(&mut self, member: usize) {
        let World { core, hosts, .. } = &mut self.world;
        hosts[member].resume(core);
    }

    /// What one member sends to another is lost from now on.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.world.core.network.link(from, to).blocked = 1;
    }

    /// What one member sends to another arrives again.
    pub fn join(&mut self, from: usize, to: usize) {
        *self.world.core.network.link(from, to) = Trouble::default();
    }

    /// What one member sends to another takes so much longer from now on.
    pub fn delay(&mut self, from: usize, to: usize, us: u64) {
        self.world.core.network.link(from, to).delay_us = us;
    }

    /// A member is cut from all others, or, with `false`, not any more.
    pub fn isolate(&mut self, member: usize, cut: bool) {
        for other in self.others(&[member]) {
            for (from, to) in [(member, other), (other, member)] {
                *self.world.core.network.link(from, to) = Trouble { blocked: u32::from(cut), ..Trouble::default() };
            }
        }
    }

    /// Syncs of a member take so many times as long.
    pub fn slow_disk(&mut self, member: usize, factor: u64) {
        self.world.hosts[member].sync_factor = factor;
    }

    /// Snapshots that members took over so far.
    pub fn snapshots(&self) -> u64 {
        self.world.core.snapshots
    }

    /// Applied index of a member that runs.
    pub fn applied(&self, member: usize) -> u64 {
        self.world.hosts[member].applied().unwrap_or_default()
    }

    /// Revision of a member's store, if it runs.
    pub fn revision(&self, member: usize) -> i64 {
        self.world.hosts[member].node().map_or(0, |node| node.published().view.revision())
    }

    /// A new member is added on a machine that is nobody's, and its process started; its id.
    ///
    /// # Errors
    /// It is not added.
    pub fn add(&mut self, machine: usize, learner: bool) -> Result<u64, Stuck> {
        self.world.core.unique += 1;
        let id = member_id(machine, self.world.core.unique);
        self.world.operator.reserved.insert(id, machine);
        self.change(Task::Add { machine, id, learner })?;
        self.until("the new member is known", |script| {
            script.world.keep_house();
            script.world.core.ids.contains(&id)
        })?;
        Ok(id)
    }

    /// A learner gets a vote.
    ///
    /// # Errors
    /// It does not.
    pub fn promote(&mut self, machine: usize) -> Result<(), Stuck> {
        self.change(Task::Promote(self.id(machine)))
    }

    /// The leader is asked once to promote a learner; why it does not.
    ///
    /// # Errors
    /// There is no answer.
    pub fn try_to_promote(&mut self, machine: usize) -> Result<Option<String>, Stuck> {
        let leader = self.leader()?;
        match self.ask_once(leader, Task::Promote(self.id(machine)))? {
            Done::No(why) => Ok(Some(why)),
            _ => Ok(None),
        }
    }

    /// A member is removed. Its machine goes on as it is.
    ///
    /// # Errors
    /// It is not removed.
    pub fn remove(&mut self, machine: usize) -> Result<(), Stuck> {
        self.change(Task::Remove(self.id(machine)))?;
        // From here on the operator waits for the others to know of it, and of nothing later.
        self.world.keep_house();
        Ok(())
    }

    /// Leadership goes to a member.
    ///
    /// # Errors
    /// It does not.
    pub fn transfer(&mut self, machine: usize) -> Result<(), Stuck> {
        self.change(Task::Transfer(self.id(machine)))
    }

    /// The disk of a member is emptied; its process is down, and is started.
    pub fn empty_disk(&mut self, member: usize) {
        self.lose_power(member);
        let World { core, hosts, .. } = &mut self.world;
        hosts[member].empty_disk(core);
        self.start(member);
    }

    /// The member that a machine is.
    pub fn id(&self, machine: usize) -> u64 {
        self.world.core.ids[machine]
    }

    fn ask_once(&mut self, at: usize, task: Task) -> Result<Done, Stuck> {
        let slot = self.world.ask_member(at, task);
        let mut done = None;
        self.until("a task of the operator is answered", |script| {
            for (answered, outcome) in std::mem::take(&mut script.world.core.told_operator) {
                if answered == slot {
                    done = Some(outcome);
                }
            }
            done.is_some() || !script.is_alive(at)
        })?;
        Ok(done.unwrap_or(Done::Perhaps))
    }

    /// Asks the leader until it is done.
    fn change(&mut self, task: Task) -> Result<(), Stuck> {
        for _ in 0..CHANGE_TRIES {
            let leader = self.leader()?;
            match self.ask_once(leader, task)? {
                Done::Yes => return Ok(()),
                // An earlier try was not in vain.
                Done::No(why) if why.contains("MemberExist") || why.contains("MemberNotFound") => return Ok(()),
                _ => self.wait_us(100_000),
            }
        }
        Err(Stuck(format!("{task:?} is not done")))
    }

    /// Every fault ends; the story is judged.
    fn judge(mut self) -> Vec<String> {
        let members = self.world.hosts.len();
        for from in 0..members {
            for to in (0..members).filter(|to| *to != from) {
                *self.world.core.network.link(from, to) = Trouble::default();
            }
        }
        for member in 0..members {
            if self.world.hosts[member].is_paused() {
                self.resume(member);
            }
            self.world.hosts[member].held = 0;
            self.world.hosts[member].sync_factor = 1;
        }
        self.world.core.faults_on = false;
        run::until(&mut self.world, PATIENCE_US, |world| {
            world.keep_house();
            world.no_zombies()
        });
        self.world.heal();
        self.world.nemesis.ends_us = self.world.core.now_us;
        let violations = run::settle_and_judge(&mut self.world);
        self.print_trace();
        violations
    }

    #[allow(clippy::print_stdout)]
    fn print_trace(self) {
        for line in self.world.core.trace.into_text() {
            println!("{line}");
        }
    }
}

impl Options {
    /// A small, healthy group: short delays, quick disks, small files, watch hubs that soon have to look back.
    pub fn calm(members: usize) -> Self {
        Self {
            members,
            machines: members,
            tick_ms: 100,
            election_ms: 1_000,
            pre_vote: true,
            wal_segment_bytes: 64 << 10,
            wal_max_bytes: 1 << 30,
            keep: (5_000, 16 << 20),
            log_segment_bytes: 8 << 10,
            checkpoint_log_bytes: 16 << 10,
            laggard_log_bytes: None,
            fronts: 1,
            hub: HubOptions {
                ring_bytes: 1 << 10,
                ring_batches: 2,
                slice_bytes: 256,
                response_bytes: 512,
                stream_turn_bytes: 512,
                fragment_bytes: 600,
                notify_ms: 2_000,
                seed: 1,
            },
            stream_budget_bytes: 512,
            sync_us: (100, 300),
            job_us: (1_000, 5_000),
            delay_us: (100, 300),
            client_delay_us: (50, 100),
            line_breaks_per_mille: 0,
            start_us: (1_000, 2_000),
        }
    }
}

/// A put.
pub fn put(key: &str, value: bytes::Bytes, lease: i64) -> Request {
    Request::Put(pb::PutRequest { key: key.to_owned().into(), value, lease, ..Default::default() })
}

/// A linearizable read of one key.
pub fn get(key: &str) -> Request {
    Request::Range(pb::RangeRequest { key: key.to_owned().into(), ..Default::default() })
}

/// A compaction.
pub fn compact(revision: i64) -> Request {
    Request::Compact(pb::CompactionRequest { revision, physical: false })
}

/// A watcher of everything from a revision on.
pub fn everything_from(start_revision: i64) -> pb::WatchCreateRequest {
    let all = bytes::Bytes::from_static(b"\0");
    pb::WatchCreateRequest { key: all.clone(), range_end: all, start_revision, ..Default::default() }
}
