//! The nemesis: faults, each bounded and undone, one after the other on two lanes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use cetera_bench::rng::Rng;
use tokio::time::sleep;

use crate::member::{Ended, Member};
use crate::proxy::Proxy;
use crate::world::{Direction, World};

/// A kind of fault.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// SIGKILL, and a start.
    Kill,
    /// Killed again, while it starts.
    KillInStart,
    /// SIGSTOP for a while.
    Pause,
    /// Packets from or to clients dropped.
    Partition,
    /// A share of the packets dropped.
    Loss,
    /// Connections slow.
    Delay,
    /// Connections held in one direction or both.
    Hold,
    /// Connections reset.
    Reset,
    /// Connections refused.
    Refuse,
    /// The disk is full.
    FullDisk,
    /// Writes fail for want of space.
    NoSpace,
    /// Writes and syncs take long.
    SlowDisk,
    /// Syncs fail.
    FailedSync,
    /// Writes fail.
    FailedWrite,
    /// The time of day jumps between two lives.
    WallClock,
    /// The monotonic clock jumps ahead.
    ClockJump,
}

impl Kind {
    /// All, with their names.
    pub const ALL: [(Kind, &'static str); 16] = [
        (Kind::Kill, "kill"),
        (Kind::KillInStart, "kill during start"),
        (Kind::Pause, "pause"),
        (Kind::Partition, "partition"),
        (Kind::Loss, "packet loss"),
        (Kind::Delay, "delay"),
        (Kind::Hold, "held connections"),
        (Kind::Reset, "reset connections"),
        (Kind::Refuse, "refused connections"),
        (Kind::FullDisk, "full disk"),
        (Kind::NoSpace, "no space"),
        (Kind::SlowDisk, "slow disk"),
        (Kind::FailedSync, "failed sync"),
        (Kind::FailedWrite, "failed write"),
        (Kind::WallClock, "time of day"),
        (Kind::ClockJump, "clock jump"),
    ];

    /// The fault that it cannot be on a member together with.
    fn slot(self) -> Kind {
        match self {
            Kind::Loss => Kind::Partition,
            Kind::KillInStart => Kind::Kill,
            Kind::NoSpace | Kind::FailedWrite => Kind::FailedSync,
            other => other,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, _)| *kind == self).map_or("?", |(_, name)| name)
    }
}

/// What the nemesis works on.
#[derive(Debug)]
pub struct Stage {
    /// The members.
    pub members: Vec<Member>,
    /// One before each.
    pub proxies: Vec<Proxy>,
    /// The system around them.
    pub world: Rc<World>,
    /// Faults done, by kind.
    pub done: RefCell<BTreeMap<Kind, u64>>,
    /// What went wrong that no checker of histories sees.
    pub findings: RefCell<Vec<String>>,
    /// What members did that is no finding, and how often.
    pub notes: RefCell<BTreeMap<String, u64>>,
    /// Sum of the jumps of monotonic clocks.
    pub jumped: Cell<Duration>,
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
    /// A mix of its own for a round, out of what is there.
    pub fn swarm(stage: &Stage, rng: &mut Rng) -> Plan {
        let there = |kind: &Kind| match kind {
            Kind::FullDisk => stage.members.iter().all(|member| member.disk.is_some()),
            kind => !stage.left_out().contains(kind),
        };
        let mut all: Vec<Kind> = Kind::ALL.iter().map(|(kind, _)| *kind).filter(there).collect();
        rng.shuffle(&mut all);
        let most = all.len() as u64;
        all.truncate(rng.within(3, most + 1) as usize);
        Plan {
            kinds: all,
            lanes: if rng.chance(75) { 2 } else { 1 },
            gap: Duration::from_millis([300, 1_000, 3_000][rng.within(0, 3) as usize]),
        }
    }
}

impl Stage {
    /// Nothing is started.
    pub fn new(members: Vec<Member>, proxies: Vec<Proxy>, world: Rc<World>) -> Stage {
        Stage {
            members,
            proxies,
            world,
            done: RefCell::default(),
            findings: RefCell::default(),
            notes: RefCell::default(),
            jumped: Cell::default(),
            active: RefCell::default(),
        }
    }

    /// Faults that cannot be done to these members on this system.
    pub fn left_out(&self) -> Vec<Kind> {
        let mut out = Vec::new();
        if !self.world.isolated {
            out.push(Kind::FullDisk);
        }
        if !self.world.filter {
            out.extend([Kind::Partition, Kind::Loss]);
        }
        if !self.members.iter().all(|member| member.hooks.are_obeyed()) {
            out.extend([Kind::NoSpace, Kind::SlowDisk, Kind::FailedSync, Kind::FailedWrite]);
            out.extend([Kind::WallClock, Kind::ClockJump]);
        }
        out
    }

    /// Something is wrong.
    pub fn find(&self, what: String) {
        self.findings.borrow_mut().push(what);
    }

    /// One lane: faults until the task is dropped. What is on then is undone by [`Stage::heal`].
    pub async fn lane(self: Rc<Stage>, plan: Plan, seed: u64) {
        let mut rng = Rng::new(seed);
        loop {
            sleep(millis(&mut rng, 20, plan.gap.as_millis() as u64 + 21)).await;
            let kind = plan.kinds[rng.within(0, plan.kinds.len() as u64) as usize];
            let member = rng.within(0, self.members.len() as u64) as usize;
            if !self.active.borrow_mut().insert((member, kind.slot())) {
                continue;
            }
            match self.fault(kind, member, &mut rng).await {
                Ok(true) => *self.done.borrow_mut().entry(kind).or_default() += 1,
                Ok(false) => {}
                Err(what) => self.find(format!("{}: {what}", kind.name())),
            }
            self.active.borrow_mut().remove(&(member, kind.slot()));
        }
    }

    /// Does it and undoes it. False: it could not be done now.
    async fn fault(&self, kind: Kind, member: usize, rng: &mut Rng) -> Result<bool, String> {
        match kind {
            Kind::Kill => self.kill(member, rng, 0).await,
            Kind::KillInStart => {
                let times = rng.within(1, 4);
                self.kill(member, rng, times).await
            }
            Kind::Pause => self.pause(member, rng).await,
            Kind::Partition => self.partition(member, rng).await,
            Kind::Loss => {
                let loss = [2, 10, 30, 60][rng.within(0, 4) as usize];
                self.filtered(member, &[], loss, millis(rng, 200, 4_000)).await
            }
            Kind::Delay => {
                let proxy = &self.proxies[member];
                proxy.delay(millis(rng, 1, 200), millis(rng, 0, 100));
                sleep(millis(rng, 200, 4_000)).await;
                proxy.delay(Duration::ZERO, Duration::ZERO);
                Ok(true)
            }
            Kind::Hold => {
                let proxy = &self.proxies[member];
                proxy.hold(directions(rng));
                sleep(millis(rng, 50, 4_000)).await;
                proxy.hold(&[]);
                Ok(true)
            }
            Kind::Reset => {
                for _ in 0..rng.within(1, 6) {
                    self.proxies[member].reset();
                    sleep(millis(rng, 1, 300)).await;
                }
                Ok(true)
            }
            Kind::Refuse => {
                let proxy = &self.proxies[member];
                proxy.refuse(true);
                proxy.reset();
                sleep(millis(rng, 50, 1_500)).await;
                proxy.refuse(false);
                Ok(true)
            }
            Kind::FullDisk => self.fill(member, rng).await,
            Kind::NoSpace => {
                let duration = millis(rng, 5, 2_500);
                self.hooked(member, &[("space_error", libc::ENOSPC.into())], duration, false).await
            }
            Kind::SlowDisk => {
                let sync = [1_000, 20_000, 200_000, 1_500_000][rng.within(0, 4) as usize];
                let write = [0, 0, 2_000, 20_000][rng.within(0, 4) as usize];
                let duration = millis(rng, 200, 5_000);
                self.hooked(member, &[("sync_delay_us", sync), ("write_delay_us", write)], duration, false).await
            }
            Kind::FailedSync => self.failed(member, "sync_error", rng).await,
            Kind::FailedWrite => self.failed(member, "write_error", rng).await,
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

    /// Fills the disk, and gives the room back.
    async fn fill(&self, member: usize, rng: &mut Rng) -> Result<bool, String> {
        let member = &self.members[member];
        let Some(disk) = &member.disk else { return Ok(false) };
        let leave = [0, 0, 100 << 10, 1 << 20, 6 << 20][rng.within(0, 5) as usize];
        member.disk_is_bad(false);
        for _ in 0..rng.within(1, 50) {
            disk.fill(leave)?;
            sleep(millis(rng, 20, 200)).await;
        }
        disk.free()?;
        member.disk_is_well();
        Ok(true)
    }

    /// Sets faults that a build for tests obeys, for a while.
    async fn hooked(
        &self,
        member: usize,
        faults: &[(&'static str, i64)],
        duration: Duration,
        dooms: bool,
    ) -> Result<bool, String> {
        let member = &self.members[member];
        member.disk_is_bad(dooms);
        member.hooks.set(faults)?;
        sleep(duration).await;
        let undone: Vec<_> = faults.iter().map(|(name, _)| (*name, 0)).collect();
        member.hooks.set(&undone)?;
        member.disk_is_well();
        Ok(true)
    }

    /// A disk that fails, and after it a new life.
    async fn failed(&self, member: usize, fault: &'static str, rng: &mut Rng) -> Result<bool, String> {
        self.hooked(member, &[(fault, libc::EIO.into())], millis(rng, 4, 600), true).await?;
        sleep(millis(rng, 0, 1_000)).await;
        if self.members[member].is_doomed() {
            self.kill(member, rng, 0).await?;
        }
        Ok(true)
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
            *self.notes.borrow_mut().entry(format!("ended by itself on a bad disk, {status}")).or_default() += 1;
            return;
        }
        self.find(format!("{} ended by itself: {status}\n{}", member.launch.place.name, member.launch.last_lines()));
    }

    async fn kill(&self, member: usize, rng: &mut Rng, in_start: u64) -> Result<bool, String> {
        let member = &self.members[member];
        let Some(_handling) = member.handle() else { return Ok(false) };
        if !member.is_running() {
            return Ok(false);
        }
        self.killed(member);
        sleep(millis(rng, 0, 600)).await;
        for _ in 0..in_start {
            member.start()?;
            // Not a wait for anything: the moment of the kill is the point.
            sleep(Duration::from_micros(rng.within(0, 150_000))).await;
            self.killed(member);
        }
        member.start()?;
        Ok(true)
    }

    async fn pause(&self, member: usize, rng: &mut Rng) -> Result<bool, String> {
        let member = &self.members[member];
        let life = member.starts.get();
        let longest = if rng.chance(15) { 10_000 } else { 2_500 };
        member.pause();
        sleep(millis(rng, 100, longest)).await;
        if member.starts.get() == life {
            member.resume();
        }
        Ok(true)
    }

    async fn partition(&self, member: usize, rng: &mut Rng) -> Result<bool, String> {
        let directions = directions(rng);
        self.filtered(member, directions, 0, millis(rng, 100, 5_000)).await
    }

    async fn filtered(&self, member: usize, cut: &[Direction], loss: u32, duration: Duration) -> Result<bool, String> {
        self.world.filter(member, cut, loss)?;
        sleep(duration).await;
        self.world.filter(member, &[], 0)?;
        Ok(true)
    }

    /// Undoes all faults and starts what does not run.
    ///
    /// # Errors
    /// What cannot be undone.
    pub fn heal(&self) -> Result<(), String> {
        for (n, member) in self.members.iter().enumerate() {
            self.proxies[n].heal();
            if self.world.filter {
                self.world.filter(n, &[], 0)?;
            }
            member.heal_disk()?;
            member.resume();
            if member.is_doomed() {
                self.killed(member);
            }
            if !member.is_running() {
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
                if member.is_running() || member.has_bad_disk() {
                    continue;
                }
                if let Err(what) = member.start() {
                    self.find(what);
                }
            }
        }
    }
}

fn directions(rng: &mut Rng) -> &'static [Direction] {
    match rng.within(0, 3) {
        0 => &[Direction::ToMember],
        1 => &[Direction::FromMember],
        _ => &[Direction::ToMember, Direction::FromMember],
    }
}

fn millis(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.within(from, to))
}
