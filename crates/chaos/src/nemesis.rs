//! The nemesis: faults, each bounded and undone, one after the other on some lanes.

mod disk;
mod membership;
mod network;
mod process;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use cetera_bench::rng::Rng;
use tokio::time::sleep;

use crate::cluster::Scout;
use crate::kind::{Joined, Kind};
use crate::links::Links;
use crate::member::{Ended, Member};
use crate::proxy::Proxy;
use crate::world::World;
use membership::Replacement;

/// Percentage of the faults of one member that hit the leader, if it is known, rather than any.
const LEADER_PERCENT: u64 = 35;

/// What the nemesis works on.
#[derive(Debug)]
pub struct Stage {
    /// The members.
    pub members: Vec<Member>,
    /// One before each, for clients.
    pub proxies: Vec<Proxy>,
    /// One before each, for the other members, with a way for each; none if they are joined directly.
    pub peer_proxies: Vec<Proxy>,
    /// The system around them.
    pub world: Rc<World>,
    /// Who leads.
    pub scout: Rc<Scout>,
    /// Faults done, by kind.
    pub done: RefCell<BTreeMap<Kind, u64>>,
    /// What went wrong that no checker of histories sees.
    pub findings: RefCell<Vec<String>>,
    /// What members did that is no finding, and how often.
    pub notes: RefCell<BTreeMap<String, u64>>,
    /// Sum of the jumps of monotonic clocks.
    pub jumped: Cell<Duration>,
    links: Links,
    replacement: RefCell<Option<Replacement>>,
    /// Why a step of it was not done.
    last_answer: RefCell<String>,
    /// Kinds on a member that are on now.
    active: RefCell<BTreeSet<(usize, Kind)>>,
}

/// What a round's nemesis does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kinds of faults.
    pub kinds: Vec<Kind>,
    /// How many faults may be on at once.
    pub lanes: u64,
    /// Longest pause before a fault.
    pub gap: Duration,
}

impl Plan {
    /// A mix of its own for a round, out of what is there; or all of `only` that is.
    pub fn swarm(stage: &Stage, only: &[Kind], rng: &mut Rng) -> Plan {
        let mut all: Vec<Kind> = Kind::ALL.iter().map(|(kind, _)| *kind).filter(|kind| stage.can(*kind)).collect();
        rng.shuffle(&mut all);
        let most = all.len() as u64;
        all.truncate(rng.within(3, most + 1) as usize);
        if !only.is_empty() {
            all = only.iter().copied().filter(|kind| stage.can(*kind)).collect();
        }
        let lanes = match stage.members.len() {
            1 => [1, 2, 2, 2],
            _ => [1, 2, 2, 3],
        };
        Plan {
            kinds: all,
            lanes: lanes[rng.within(0, 4) as usize],
            gap: Duration::from_millis([300, 1_000, 3_000][rng.within(0, 3) as usize]),
        }
    }
}

impl Stage {
    /// Nothing is started.
    pub fn new(members: Vec<Member>, proxies: Vec<Proxy>, peer_proxies: Vec<Proxy>, world: Rc<World>) -> Stage {
        Stage {
            members,
            proxies,
            peer_proxies,
            world,
            scout: Rc::default(),
            done: RefCell::default(),
            findings: RefCell::default(),
            notes: RefCell::default(),
            jumped: Cell::default(),
            links: Links::default(),
            replacement: RefCell::default(),
            last_answer: RefCell::default(),
            active: RefCell::default(),
        }
    }

    fn joined(&self) -> Joined {
        if self.peer_proxies.is_empty() { Joined::Directly } else { Joined::ByProxies }
    }

    /// Whether a kind can be done in this round.
    fn can(&self, kind: Kind) -> bool {
        let needs = kind.needs();
        self.members.len() >= needs.members
            && !self.left_out().contains(&kind)
            && needs.links.is_none_or(|joined| joined == self.joined())
            && (!needs.disk || self.members.iter().all(|member| member.disk.is_some()))
    }

    /// Faults that cannot be done to these members on this system, whatever the round.
    pub fn left_out(&self) -> Vec<Kind> {
        let obeyed = self.obeys();
        let out = |kind: &Kind| {
            let needs = kind.needs();
            let isolated = self.world.isolated || !(needs.disk || needs.filter || needs.links.is_some());
            let can = isolated && (self.world.filter || !needs.filter) && (obeyed || !needs.hooks);
            self.members.len() >= needs.members && !can
        };
        Kind::ALL.iter().map(|(kind, _)| *kind).filter(out).collect()
    }

    /// Whether the servers were built with hooks: they are ours.
    pub fn obeys(&self) -> bool {
        self.members.iter().all(|member| member.hooks.are_obeyed())
    }

    /// Whether clients leave out what a group of etcd is known to answer wrongly.
    pub fn spares(&self) -> bool {
        self.members.len() > 1 && !self.obeys()
    }

    /// Something is wrong.
    pub fn find(&self, what: String) {
        self.findings.borrow_mut().push(what);
    }

    /// Something that is no finding is counted.
    pub fn note(&self, what: String) {
        *self.notes.borrow_mut().entry(what).or_default() += 1;
    }

    /// One lane: faults until the task is dropped. What is on then is undone by [`Stage::heal`].
    pub async fn lane(self: Rc<Stage>, plan: Plan, seed: u64) {
        let mut rng = Rng::new(seed);
        while !plan.kinds.is_empty() {
            sleep(millis(&mut rng, 20, plan.gap.as_millis() as u64 + 21)).await;
            let kind = plan.kinds[rng.within(0, plan.kinds.len() as u64) as usize];
            let member = self.some(&mut rng);
            let slot = (if kind.is_of_all() { 0 } else { member }, kind.slot());
            if !self.active.borrow_mut().insert(slot) {
                continue;
            }
            match self.fault(kind, member, &mut rng).await {
                Ok(true) => *self.done.borrow_mut().entry(kind).or_default() += 1,
                Ok(false) => {}
                Err(what) => self.find(format!("{}: {what}", kind.name())),
            }
            self.active.borrow_mut().remove(&slot);
        }
    }

    /// A member: often the leader.
    fn some(&self, rng: &mut Rng) -> usize {
        let any = rng.within(0, self.members.len() as u64) as usize;
        let leader = self.scout.leader();
        leader.filter(|_| rng.chance(LEADER_PERCENT)).unwrap_or(any)
    }

    /// Members in random order, at least so many and at most so many.
    fn several(&self, rng: &mut Rng, least: usize, most: usize) -> Vec<usize> {
        let mut members: Vec<usize> = (0..self.members.len()).collect();
        rng.shuffle(&mut members);
        members.truncate(rng.within(least as u64, most as u64 + 1) as usize);
        members
    }

    /// Does it and undoes it. False: it could not be done now.
    async fn fault(&self, kind: Kind, member: usize, rng: &mut Rng) -> Result<bool, String> {
        let count = self.members.len();
        match kind {
            Kind::Kill => self.kill(member, rng, 0).await,
            Kind::KillInStart => {
                let times = rng.within(1, 4);
                self.kill(member, rng, times).await
            }
            Kind::KillSome => {
                let members = self.several(rng, 2, count - 1);
                self.kill_several(&members, rng).await
            }
            Kind::KillAll => {
                let members = self.several(rng, count, count);
                self.kill_several(&members, rng).await
            }
            Kind::Pause => self.pause(member, rng).await,
            Kind::PauseSome => {
                let members = self.several(rng, 2, count);
                self.pause_several(&members, rng).await
            }
            Kind::Terminate => self.terminate(member, rng).await,
            Kind::Rolling => self.roll(rng).await,
            Kind::MoveLeader => self.move_leader(rng).await,
            Kind::Replace => self.replace(member, rng).await,
            Kind::Partition | Kind::Loss => self.cut_off(kind, member, rng).await,
            Kind::Delay | Kind::Hold | Kind::Reset | Kind::Refuse => {
                self.trouble_clients(kind, member, rng).await;
                Ok(true)
            }
            Kind::Split | Kind::IsolateLeader | Kind::Isolate | Kind::OneWay | Kind::Bridge | Kind::LinkLoss => {
                self.cut_links(kind, member, rng).await
            }
            Kind::LinkDelay | Kind::LinkHold | Kind::LinkReset => {
                self.trouble_links(kind, rng).await;
                Ok(true)
            }
            Kind::FullDisk => self.fill(member, rng).await,
            Kind::NoSpace | Kind::SlowDisk | Kind::FailedSync | Kind::FailedWrite => {
                self.trouble_disk(kind, member, rng).await
            }
            Kind::WallClock => {
                let offset = rng.within(0, 7_200_000) as i64 - 3_600_000;
                self.members[member].hooks.set(&[("wall_offset_ms", offset)])?;
                self.kill(member, rng, 0).await
            }
            Kind::ClockJump => {
                let jump = millis(rng, 10, 700);
                self.jumped.set(self.jumped.get() + jump);
                let hooks = &self.members[member].hooks;
                hooks.set(&[("clock_jump_ms", hooks.get("clock_jump_ms") + jump.as_millis() as i64)])?;
                Ok(true)
            }
        }
    }

    /// Undoes all faults and starts what does not run.
    ///
    /// # Errors
    /// What cannot be undone.
    pub fn heal(&self) -> Result<(), String> {
        self.proxies.iter().chain(&self.peer_proxies).for_each(Proxy::heal);
        if self.world.filter {
            self.links.heal(&self.world)?;
        }
        for member in &self.members {
            member.heal_disk()?;
            member.resume();
            if member.is_doomed() {
                self.killed(member);
            }
            if !member.is_running() && !member.out.get() {
                member.start()?;
            }
        }
        self.active.borrow_mut().clear();
        Ok(())
    }

    /// Looks after members that end by themselves, until the task is dropped.
    pub async fn guard(self: Rc<Stage>) {
        loop {
            sleep(Duration::from_millis(20)).await;
            for member in &self.members {
                let Some(_handling) = member.handle() else { continue };
                if let Some(ended) = member.ended() {
                    self.ended(member, &ended);
                }
                if member.is_running() || member.has_bad_disk() || member.out.get() {
                    continue;
                }
                if let Err(what) = member.start() {
                    self.find(what);
                }
            }
        }
    }

    /// SIGKILL. That it had ended by itself is a finding, or a note.
    pub fn killed(&self, member: &Member) {
        if let Err(ended) = member.kill() {
            self.ended(member, &ended);
        }
    }

    fn ended(&self, member: &Member, ended: &Ended) {
        let status = ended.status;
        if ended.excused {
            let why = match (member.is_hurt(), member.joins.get()) {
                (true, _) => "on a bad disk",
                (_, true) => "while it joined or was removed",
                _ => "after SIGTERM",
            };
            return self.note(format!("ended by itself {why}, {status}"));
        }
        self.find(format!("{} ended by itself: {status}\n{}", member.launch.place.name, member.launch.last_lines()));
    }
}

fn millis(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.within(from, to))
}
