//! Faults. Each seed has its own mix of kinds, lengths and gaps; most lie over others.
//!
//! The list is drawn before the run, but whom a fault hits is decided when it begins, by how things are then. Every fault
//! knows how to take itself back; at the end all do, and what was broken is started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cetera_storage::vfs::Vfs as _;
use cetera_storage::vfs::memory::{Fault as DiskFault, FaultError, MemoryVfs, Op};

use crate::core::{Core, Happening};
use crate::dice::{Dice, Stream};
use crate::host::{DATA_DIR, Host, Seat};
use crate::network::Trouble;
use crate::plan::{FaultKind, Options, Plan, Report};
use crate::trace::Kind;
use crate::world::World;

/// Every run has at least so many faults.
pub(crate) const FAULTS_MIN: u64 = 5;
/// At least so many of them begin while another one lasts.
pub(crate) const OVERLAPS_MIN: u64 = 2;
/// The first fault does not begin before.
const FIRST_US: u64 = 1_500_000;
/// Calm at the end of a run, at least.
const CALM_US: u64 = 10_000_000;
/// A run that has not had its faults by then gets other kinds.
const MORE_US: u64 = 150_000_000;
/// Room that a disk has while it has no bound.
const UNBOUNDED: u64 = 1 << 40;

/// How to take a fault back.
enum Undo {
    Nothing,
    Start(Vec<usize>),
    Resume(usize),
    Links(Vec<(usize, usize, Trouble)>),
    Pace(usize),
    Slow(usize, u64),
    Disk(usize),
    PowerLossAtOp(usize, MemoryVfs),
}

struct Fault {
    kind: FaultKind,
    begins_us: u64,
    lasts_us: u64,
    /// While it lasts.
    undo: Option<Undo>,
}

/// The faults of a run.
pub(crate) struct Nemesis {
    dice: Dice,
    kinds: Vec<FaultKind>,
    /// Kinds that are added if those of the seed cannot overlap: a member that is down cannot be killed again.
    more: Vec<FaultKind>,
    faults: Vec<Fault>,
    longest_us: u64,
    active: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) overlaps: u64,
    pub(crate) ends_us: u64,
}

impl Nemesis {
    pub(crate) fn new(plan: &Plan, options: &Options) -> Self {
        let mut dice = Dice::new(plan.seed, Stream::Nemesis);
        let moves = options.machines > options.members;
        let fits = |kind: &FaultKind| kind.fits(options.machines) && !(moves && *kind == FaultKind::BitRot);
        let possible: Vec<FaultKind> = FaultKind::ALL.iter().copied().filter(fits).collect();
        let share = dice.pick(&[150, 300, 500, 800]);
        let mut kinds: Vec<FaultKind> = possible.iter().copied().filter(|_| dice.chance(share)).collect();
        while kinds.len() < 3 {
            kinds.push(dice.pick(&possible));
        }
        // Left out only now: the dice fall as they would.
        kinds.retain(|kind| !plan.without.contains(kind));
        let more = possible.into_iter().filter(|kind| !plan.without.contains(kind)).collect();
        let longest_us = dice.pick(&[500_000, 2_000_000, 6_000_000, 15_000_000]);
        let gap_us = dice.pick(&[800_000, 2_000_000, 4_000_000]);
        let ends_us = plan.seconds * 1_000_000 - CALM_US;
        let mut nemesis = Self {
            dice,
            kinds,
            more,
            faults: Vec::new(),
            longest_us,
            active: 0,
            counts: BTreeMap::new(),
            overlaps: 0,
            ends_us,
        };
        let mut at_us = FIRST_US + options.election_ms * 2_000;
        while at_us < ends_us {
            nemesis.add(at_us);
            at_us += nemesis.dice.within(gap_us / 10, 2 * gap_us);
        }
        nemesis
    }

    fn add(&mut self, begins_us: u64) {
        // Drawn in any case, so that leaving kinds out does not move the rest.
        let kind = self.dice.bits();
        let lasts_us = self.dice.skewed(100_000, self.longest_us);
        if !self.kinds.is_empty() {
            let kind = self.kinds[(kind % self.kinds.len() as u64) as usize];
            self.faults.push(Fault { kind, begins_us, lasts_us, undo: None });
        }
    }

    /// Whether the run had what it must have.
    pub(crate) fn is_enough(&self) -> bool {
        // With all kinds left out there is nothing to wait for.
        let count: u64 = self.counts.values().sum();
        self.kinds.is_empty() || (count >= FAULTS_MIN && self.overlaps >= OVERLAPS_MIN)
    }

    /// Schedules all faults.
    pub(crate) fn schedule(&self, core: &mut Core) {
        for (at, fault) in self.faults.iter().enumerate() {
            core.at(fault.begins_us, Happening::FaultBegins { fault: at });
        }
    }

    /// Two more, one over the other, from now on.
    pub(crate) fn extend(&mut self, core: &mut Core) {
        self.ends_us = core.now_us + 4_000_000;
        if core.now_us > MORE_US && !self.kinds.is_empty() {
            self.kinds.append(&mut self.more);
        }
        for after_us in [100_000, 110_000] {
            let at = self.faults.len();
            self.add(core.now_us + after_us);
            if self.faults.len() > at {
                core.after(after_us, Happening::FaultBegins { fault: at });
            }
        }
    }
}

/// Whether a run had fewer faults than it must have, though it was to have some.
pub(crate) fn is_short(report: &Report) -> bool {
    let count = report.fault_count();
    count > 0 && (count < FAULTS_MIN || report.overlaps < OVERLAPS_MIN)
}

impl World {
    pub(crate) fn fault_begins(&mut self, at: usize) {
        if !self.core.faults_on {
            return;
        }
        let kind = self.nemesis.faults[at].kind;
        let left_us = self.nemesis.ends_us.saturating_sub(self.core.now_us);
        let lasts_us = self.nemesis.faults[at].lasts_us.min(left_us);
        let Some((undo, what)) = self.strike(kind, lasts_us) else { return };
        self.core.trace.note(self.core.now_us, Kind::Fault, at as u64, kind as u64, 1);
        self.core.trace.say(self.core.now_us, "FAULT", || format!("#{at} {} begins: {what}", kind.name()));
        *self.nemesis.counts.entry(kind.name()).or_default() += 1;
        self.nemesis.overlaps += u64::from(self.nemesis.active > 0);
        self.nemesis.active += 1;
        self.nemesis.faults[at].undo = Some(undo);
        self.core.after(lasts_us, Happening::FaultEnds { fault: at });
    }

    pub(crate) fn fault_ends(&mut self, at: usize) {
        let Some(undo) = self.nemesis.faults[at].undo.take() else { return };
        let kind = self.nemesis.faults[at].kind;
        self.core.trace.note(self.core.now_us, Kind::Fault, at as u64, kind as u64, 0);
        self.core.trace.say(self.core.now_us, "FAULT", || format!("#{at} {} ends", kind.name()));
        self.nemesis.active -= 1;
        let World { core, hosts, .. } = self;
        match undo {
            Undo::Nothing => {}
            Undo::Start(members) => {
                for member in members {
                    hosts[member].held -= 1;
                    let (low, high) = core.options.start_us;
                    let after_us = core.dice.skewed(low, high);
                    core.after(after_us, Happening::Start { host: member });
                }
            }
            Undo::Resume(member) => hosts[member].resume(core),
            Undo::Links(links) => {
                for (from, to, trouble) in links {
                    let link = core.network.link(from, to);
                    link.blocked -= trouble.blocked;
                    link.loss -= trouble.loss;
                    link.duplicate -= trouble.duplicate;
                    link.jitter_us -= trouble.jitter_us;
                    link.delay_us -= trouble.delay_us;
                }
            }
            Undo::Pace(member) => hosts[member].clock.set_pace(core.now_us, 0),
            Undo::Slow(member, factor) => hosts[member].sync_factor /= factor,
            Undo::Disk(member) => {
                let host = &mut hosts[member];
                host.disk_trouble_ends();
                if host.disk_trouble == 0 {
                    host.disk.clear_faults();
                    host.disk.set_capacity(UNBOUNDED);
                }
                if host.log_has_failed() {
                    host.kill(core);
                    host.start_later(core);
                }
            }
            Undo::PowerLossAtOp(member, disk) => {
                // The disk of before: nothing came to the operation that was to be the last one.
                let host = &mut hosts[member];
                if host.disk.is_same(&disk) && host.is_alive() {
                    host.lose_power(core, true);
                }
            }
        }
    }

    /// All faults end, and everybody who is down is started: from now on nothing goes wrong.
    pub(crate) fn heal(&mut self) {
        self.core.faults_on = false;
        self.core.trace.say(self.core.now_us, "FAULT", || "all end".to_owned());
        for at in 0..self.nemesis.faults.len() {
            self.fault_ends(at);
        }
        let World { core, hosts, .. } = self;
        for host in hosts {
            host.crash_next_start = None;
            host.stalled_until_us = 0;
            host.sync_ends_now(core);
            if host.log_has_failed() {
                host.kill(core);
            }
            core.after(0, Happening::Start { host: host.index });
        }
    }

    /// Does it, if there is somebody to do it to.
    fn strike(&mut self, kind: FaultKind, lasts_us: u64) -> Option<(Undo, String)> {
        use FaultKind::*;
        let clients = self.clients();
        let World { core, hosts, nemesis, .. } = self;
        let dice = &mut nemesis.dice;
        match kind {
            Kill | PowerLoss => {
                let member = pick(hosts, dice, |host| host.is_alive())?;
                if dice.chance(300) && nemesis.kinds.contains(&PowerLossAtOp) {
                    hosts[member].crash_next_start = Some(dice.skewed(0, 100));
                }
                down(&mut hosts[member], kind == PowerLoss, core);
                Some((Undo::Start(vec![member]), format!("m{member}")))
            }
            Blackout => {
                let members: Vec<usize> = (0..hosts.len()).filter(|at| hosts[*at].seat != Seat::Nobody).collect();
                members.iter().for_each(|member| down(&mut hosts[*member], true, core));
                Some((Undo::Start(members), "all members".to_owned()))
            }
            PowerLossAtOp => {
                let member = pick(hosts, dice, |host| host.is_alive())?;
                let ops = dice.skewed(0, 400);
                let disk = &hosts[member].disk;
                disk.crash_after(disk.ops() + ops);
                if dice.chance(400) {
                    hosts[member].crash_next_start = Some(dice.skewed(0, 100));
                }
                Some((
                    Undo::PowerLossAtOp(member, hosts[member].disk.clone()),
                    format!("m{member} after {ops} operations of its disk"),
                ))
            }
            Pause => {
                let member = pick(hosts, dice, |host| host.is_alive() && !host.is_paused())?;
                hosts[member].pause();
                Some((Undo::Resume(member), format!("m{member}")))
            }
            Split | Isolate | OneWay | Loss | Delay | Reorder | Duplicate => {
                let links = links(kind, hosts.len(), dice);
                for (from, to, trouble) in &links {
                    let link = core.network.link(*from, *to);
                    link.blocked += trouble.blocked;
                    link.loss += trouble.loss;
                    link.duplicate += trouble.duplicate;
                    link.jitter_us += trouble.jitter_us;
                    link.delay_us += trouble.delay_us;
                }
                let what = links.iter().map(|(from, to, _)| format!("m{from}->m{to}")).collect::<Vec<_>>().join(" ");
                let what = format!("{what} {:?}", links.first()?.2);
                Some((Undo::Links(links), what))
            }
            ClockPace => {
                let member = dice.index(hosts.len());
                let ppm = dice.within(0, 2 * PPM_MAX) as i64 - PPM_MAX as i64;
                hosts[member].clock.set_pace(core.now_us, ppm);
                Some((Undo::Pace(member), format!("m{member} is fast by {ppm} ppm")))
            }
            ClockJump => {
                let member = dice.index(hosts.len());
                let by_us = dice.skewed(10_000, JUMP_US_MAX);
                hosts[member].clock.jump(core.now_us, by_us);
                core.jumped_us[member] += by_us;
                Some((Undo::Nothing, format!("m{member} by {by_us} us")))
            }
            SlowDisk => {
                let member = dice.index(hosts.len());
                let factor = dice.pick(&[5, 20, 100]);
                hosts[member].sync_factor *= factor;
                Some((Undo::Slow(member, factor), format!("m{member} by {factor}")))
            }
            StalledDisk => {
                let member = dice.index(hosts.len());
                let host = &mut hosts[member];
                host.stalled_until_us = host.stalled_until_us.max(core.now_us + lasts_us);
                Some((Undo::Nothing, format!("m{member}")))
            }
            DiskError => {
                let member = dice.index(hosts.len());
                let fault = disk_fault(dice);
                let what = format!("m{member}: {fault:?}");
                hosts[member].disk_trouble_begins();
                hosts[member].disk.fail(fault);
                Some((Undo::Disk(member), what))
            }
            FullDisk => {
                let member = dice.index(hosts.len());
                let host = &mut hosts[member];
                host.disk_trouble_begins();
                host.disk.set_capacity(UNBOUNDED);
                let used = UNBOUNDED - host.disk.free_bytes(Path::new(DATA_DIR)).unwrap_or(UNBOUNDED);
                let room = dice.skewed(0, 200_000);
                host.disk.set_capacity(used + room);
                Some((Undo::Disk(member), format!("m{member}: {room} bytes are left")))
            }
            DiskLost => {
                let member = pick(hosts, dice, |host| host.seat != Seat::Nobody && host.refused.is_none())?;
                if !self.may_lose(member) {
                    return None;
                }
                let World { core, hosts, .. } = self;
                down(&mut hosts[member], true, core);
                hosts[member].empty_disk(core);
                Some((Undo::Start(vec![member]), format!("m{member}")))
            }
            BitRot => {
                // A group whose list of members moves is spared: whether enough are left cannot be told.
                if core.options.machines > core.options.members {
                    return None;
                }
                let member = pick(hosts, dice, |host| host.refused.is_none())?;
                if !self.may_lose(member) {
                    return None;
                }
                let World { core, hosts, nemesis, .. } = self;
                let dice = &mut nemesis.dice;
                down(&mut hosts[member], dice.chance(500), core);
                core.checks.rotten[member] = true;
                let what = rot(&hosts[member].disk, dice);
                Some((Undo::Start(vec![member]), format!("m{member}: {}", what.unwrap_or_default())))
            }
            ConnectionsBreak => {
                let member = dice.index(hosts.len());
                for conn in core.connections.open_to(member) {
                    let after_us = dice.skewed(0, 100_000);
                    core.break_connection(conn, after_us);
                }
                Some((Undo::Nothing, format!("m{member}")))
            }
            ConnectionsStall => {
                let member = dice.index(hosts.len());
                core.network.stand_still_at_member(member, core.now_us + lasts_us);
                Some((Undo::Nothing, format!("m{member}")))
            }
            SlowClient => {
                let client = dice.index(clients.max(1));
                core.network.stand_still_at_client(client, core.now_us + lasts_us);
                Some((Undo::Nothing, format!("client {client}")))
            }
        }
    }
}

/// A clock is wrong by at most so many microseconds per second.
pub(crate) const PPM_MAX: u64 = 20_000;
/// A clock jumps by at most so much.
const JUMP_US_MAX: u64 = 3_000_000;

fn pick(hosts: &[Host], dice: &mut Dice, fits: impl Fn(&Host) -> bool) -> Option<usize> {
    let fitting: Vec<usize> = hosts.iter().filter(|host| fits(host)).map(|host| host.index).collect();
    // Thrown in any case.
    let thrown = dice.bits();
    (!fitting.is_empty()).then(|| fitting[(thrown % fitting.len() as u64) as usize])
}

fn down(host: &mut Host, power: bool, core: &mut Core) {
    host.held += 1;
    if power {
        host.lose_power(core, false);
    } else {
        host.kill(core);
    }
}

/// What a fault of the network does to which links.
fn links(kind: FaultKind, members: usize, dice: &mut Dice) -> Vec<(usize, usize, Trouble)> {
    let all = (0..members).flat_map(|from| (0..members).map(move |to| (from, to))).filter(|(from, to)| from != to);
    let mut trouble = Trouble::default();
    match kind {
        FaultKind::Loss => trouble.loss = dice.within(10, 500),
        FaultKind::Delay => trouble.delay_us = dice.skewed(1_000, 400_000),
        FaultKind::Reorder => trouble.jitter_us = dice.skewed(1_000, 300_000),
        FaultKind::Duplicate => trouble.duplicate = dice.within(50, 500),
        _ => trouble.blocked = 1,
    }
    let one = dice.index(members);
    let side = dice.within(1, (1 << members) - 2);
    let everywhere = dice.chance(500);
    let mut chosen: Vec<(usize, usize, Trouble)> = all
        .filter(|(from, to)| match kind {
            FaultKind::Split => (side >> from ^ side >> to) & 1 == 1,
            FaultKind::Isolate => *from == one || *to == one,
            FaultKind::OneWay => dice.chance(300),
            _ => dice.chance(500) || everywhere,
        })
        .map(|(from, to)| (from, to, trouble))
        .collect();
    if chosen.is_empty() {
        chosen.push((one, (one + 1) % members, trouble));
    }
    chosen
}

fn disk_fault(dice: &mut Dice) -> DiskFault {
    use Op::{Allocate, Create, Open, Read, Remove, Rename, SetLen, Sync, SyncDir, Write};
    let on =
        dice.pick(&[Sync, Sync, Sync, Write, Write, Read, Create, Rename, SyncDir, Remove, Open, SetLen, Allocate]);
    let part = dice.pick(&["", "/wal/", "/log/", "/checkpoint/"]);
    let after = dice.skewed(0, 60);
    let fault =
        if dice.chance(500) { DiskFault::once(on, FaultError::Eio) } else { DiskFault::always(on, FaultError::Eio) };
    fault.after(after).path(part)
}

/// Changes a byte of a disk; says where. The end of the write-ahead log is spared: what changes there cannot be told from
/// a torn write.
pub(crate) fn rot(disk: &MemoryVfs, dice: &mut Dice) -> Option<String> {
    let mut files = Vec::new();
    for dir in ["wal", "log", "checkpoint"] {
        let dir = Path::new(DATA_DIR).join("member").join(dir);
        let mut names: Vec<PathBuf> =
            disk.list(&dir).unwrap_or_default().into_iter().map(|name| dir.join(name)).collect();
        if dir.ends_with("wal") {
            let mut segments: Vec<PathBuf> =
                names.into_iter().filter(|path| path.extension().is_some_and(|end| end == "wal")).collect();
            segments.truncate(segments.len().saturating_sub(2));
            names = segments;
        }
        files.extend(names);
    }
    let file = files.get(dice.index(files.len().max(1)))?;
    let len = disk.open(file).and_then(|file| file.len()).unwrap_or_default();
    let offset = if dice.chance(300) { dice.below(len.min(256)) } else { dice.below(len) };
    let mask = 1 << dice.below(8);
    disk.flip(file, offset, mask);
    Some(format!("{} at {offset}, bits {mask:02x}", file.display()))
}
