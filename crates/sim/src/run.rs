//! One run: faults, then calm, then the verdict.
//!
//! 1. Faults and clients at work, until time, operations and faults are what the plan wants.
//! 2. All faults end at once. Within a bound every living member must serve a write and a linearizable read.
//! 3. Clients come to rest; all members reach the same applied index and are equal.
//! 4. Every member is started anew from its disk, some after a power loss, and is what it was.
//! 5. The history of the clients is judged.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use cetera_check::history::{News, Outcome};

use crate::core::Happening;
use crate::dice::{Dice, Stream};
use crate::nemesis;
use crate::plan::{Plan, Report};
use crate::probe::Probe;
use crate::rotted;
use crate::world::World;
use crate::{cast, client::Client};

/// Time between looks at where a run stands.
const LOOK_US: u64 = 50_000;
/// After the faults, every living member serves within so many election timeouts, and a second for starts.
pub const RECOVERY_ELECTIONS: u64 = 12;
const RECOVERY_US: u64 = 2_000_000;
/// Calm work after that.
const CALM_US: u64 = 4_000_000;
/// Clients come to rest within this time.
const REST_US: u64 = 60_000_000;
/// Members become equal within this time, besides what their background takes.
const SETTLE_US: u64 = 30_000_000;
/// Jobs until a member that needs a snapshot has it: two make it, one looks it through.
const JOBS_OF_A_SNAPSHOT: u64 = 3;
/// Jobs of the background that those which wait may bring about: rewrites, and checkpoints that let their files go.
const JOBS_THAT_FOLLOW: u64 = 16;
/// What is on its way to watchers arrives within this time.
const DRAIN_US: u64 = 1_500_000;
/// A run that is longer than this went wrong.
const RUN_US_MAX: u64 = 1_200_000_000;

/// Runs the plan with the usual clients.
pub fn run(plan: &Plan) -> Report {
    run_with(plan, &mut cast::usual)
}

/// Makes the clients of a run.
pub type Cast<'a> = &'a mut dyn FnMut(&Plan, &mut Dice) -> Vec<Box<dyn Client>>;

/// Runs the plan with these clients.
pub fn run_with(plan: &Plan, cast: Cast<'_>) -> Report {
    plant(plan);
    let mut world = World::new(plan);
    let mut report = Report { seed: plan.seed, members: plan.members, ..Report::default() };
    if let Err(what) = listened(|| judge(plan, cast, &mut world, &mut report)) {
        world.core.checks.violated(format!("panic: {what}"));
    }
    finish(world, &mut report);
    report
}

#[cfg(feature = "plants")]
pub(crate) fn plant(plan: &Plan) {
    cetera_plant::plant(plan.plant);
}

#[cfg(not(feature = "plants"))]
pub(crate) fn plant(plan: &Plan) {
    assert!(plan.plant.is_none(), "this build has no planted bugs: it needs the feature `plants`");
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
    static IN_RUN: RefCell<bool> = const { RefCell::new(false) };
}

/// A panic in a run is a finding, kept for the report; elsewhere it is printed as ever.
fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IN_RUN.with_borrow(|inside| *inside) {
                LAST_PANIC.set(info.to_string());
            } else {
                before(info);
            }
        }));
    });
    IN_RUN.set(true);
}

/// Does it; a panic comes back as its words.
pub(crate) fn listened<T>(done: impl FnOnce() -> T) -> Result<T, String> {
    listen_for_panics();
    let ended = panic::catch_unwind(AssertUnwindSafe(done));
    IN_RUN.set(false);
    ended.map_err(|_| LAST_PANIC.with_borrow_mut(std::mem::take))
}

/// The end of a story: all come to rest, are equal, start again, and the history is judged. What was wrong.
pub(crate) fn settle_and_judge(world: &mut World) -> Vec<String> {
    let calm = settle(world, SETTLE_US);
    if calm.is_some() {
        world.compare_stores();
    } else {
        let hosts: Vec<String> = world.hosts.iter().map(|host| host.unrest()).collect();
        world.core.checks.violated(format!("liveness: the members do not settle: {}", hosts.join("; ")));
    }
    world.core.connections.finish(world.core.now_us, calm);
    if calm.is_some() {
        restart(world);
    }
    let history = std::mem::take(&mut world.core.connections.history);
    world.judge_history(&history);
    std::mem::take(&mut world.core.checks.violations)
}

fn judge(plan: &Plan, cast: Cast<'_>, world: &mut World, report: &mut Report) {
    let clients = cast(plan, &mut Dice::new(plan.seed, Stream::Clients));
    for client in clients.into_iter().take(plan.clients.unwrap_or(usize::MAX)) {
        world.join(client);
    }
    world.nemesis.schedule(&mut world.core);
    world.operator.schedule(&mut world.core);
    let calm = stages(plan, world, report);
    world.core.connections.finish(world.core.now_us, calm);
    if calm.is_some() {
        restart(world);
        rotted::look(world);
    }
    let history = std::mem::take(&mut world.core.connections.history);
    let summary = world.judge_history(&history);
    report.revisions = summary.revisions as u64;
    report.undecided = summary.undecided;
    world.core.connections.history = history;
}

/// Everything up to the end of the history; if it ended calmly, the revision of which everybody was told.
fn stages(plan: &Plan, world: &mut World, report: &mut Report) -> Option<i64> {
    // 1. Faults.
    let enough = until(world, RUN_US_MAX, |world| {
        let now_us = world.core.now_us;
        if now_us < world.nemesis.ends_us {
            return false;
        }
        let operations = world.core.connections.history.calls.len() as u64;
        if world.nemesis.is_enough() && operations * 5 >= plan.operations * 4 {
            return true;
        }
        world.nemesis.extend(&mut world.core);
        false
    });
    if !enough {
        world.core.checks.violated("the run does not reach its faults and operations".to_owned());
        return None;
    }
    // 2. Recovery.
    world.heal();
    let healed_us = world.core.now_us;
    world.nemesis.ends_us = healed_us;
    let reorganized = until(world, RUN_US_MAX / 20, |world| world.operator.is_idle());
    if !reorganized {
        world.core.checks.violated("liveness: a change of the membership does not come to its end".to_owned());
        return None;
    }
    let living = world.voters();
    let ids = world.core.ids.clone();
    let probes: Vec<(usize, usize)> =
        living.iter().map(|member| (*member, world.join(Box::new(Probe::new(*member))))).collect();
    let election_us = world.core.options.election_ms * 1_000;
    let bound_us = RECOVERY_ELECTIONS * election_us + RECOVERY_US + jobs_us(world, JOBS_OF_A_SNAPSHOT);
    // A member that finds damage when it is started now is not among the living; nor is one whose removal was under way.
    let serves = |world: &World, (member, probe): (usize, usize)| {
        world.hosts[member].refused.is_some() || world.is_at_rest(probe) || !world.belongs(ids[member])
    };
    let served = until(world, bound_us, |world| probes.iter().all(|probe| serves(world, *probe)));
    report.recovered_us = world.core.now_us - healed_us;
    // As long as nobody led, no lease came nearer to its end.
    world.nemesis.ends_us = world.core.now_us;
    report.recovered_elections = report.recovered_us * 1_000 / election_us;
    if !served {
        let late: Vec<String> = probes
            .iter()
            .filter(|probe| !serves(world, **probe))
            .map(|(member, _)| format!("member {member}"))
            .collect();
        world.core.checks.violated(format!(
            "liveness: {} s after the last fault (election timeout {} ms) no write and linearizable read through {}",
            bound_us as f64 / 1e6,
            world.core.options.election_ms,
            late.join(", ")
        ));
        return None;
    }
    let worked = until(world, RUN_US_MAX, |world| {
        let now_us = world.core.now_us;
        now_us >= healed_us + CALM_US
            && now_us >= plan.seconds * 1_000_000
            && world.core.connections.history.calls.len() as u64 >= plan.operations
    });
    if !worked {
        world.core.checks.violated("the clients do not reach the number of operations".to_owned());
        return None;
    }
    // 3. Rest.
    world.wind();
    if !until(world, REST_US, |world| world.restless().is_none()) {
        let who = world.restless().unwrap_or_default().to_owned();
        world.core.checks.violated(format!("liveness: {who} does not come to rest"));
        return None;
    }
    let at_most_us = DRAIN_US + SETTLE_US + jobs_us(world, JOBS_THAT_FOLLOW);
    let told = settle(world, at_most_us);
    if told.is_none() {
        let applied: Vec<String> = world.hosts.iter().map(|host| format!("{:?}", host.applied())).collect();
        world.core.checks.violated(format!("liveness: the members do not settle; applied: {}", applied.join(", ")));
        return None;
    }
    world.compare_stores();
    told
}

/// Lets the world go on until all members are settled and everybody was told all of it, or for `at_most_us`: what is told
/// takes its time, and a lease that ends meanwhile is one thing more to tell. The revision, if it came to that.
fn settle(world: &mut World, at_most_us: u64) -> Option<i64> {
    let ends_us = world.core.now_us + at_most_us;
    let mut told = None;
    while until(world, ends_us.saturating_sub(world.core.now_us), World::is_settled) {
        let revision =
            world.hosts.iter().filter_map(|host| host.node()).map(|node| node.published().view.revision()).max();
        if revision.is_some() && told == revision {
            return told;
        }
        told = revision;
        until(world, DRAIN_US, |_| false);
    }
    None
}

/// How long what waits to be done in the background takes in this seed at most, and `more` jobs that follow from it.
fn jobs_us(world: &World, more: u64) -> u64 {
    let waiting = world.hosts.iter().map(|host| host.jobs_waiting()).max().unwrap_or(0);
    (waiting + more) * world.core.options.job_us.1
}

/// Lets the world go on until `done`, or for `at_most_us`; whether it was done.
pub(crate) fn until(world: &mut World, at_most_us: u64, mut done: impl FnMut(&mut World) -> bool) -> bool {
    let begun_us = world.core.now_us;
    world.core.after(0, Happening::Look);
    loop {
        while !world.step() {}
        if done(world) {
            return true;
        }
        if world.core.now_us >= begun_us + at_most_us {
            return false;
        }
        world.core.after(LOOK_US, Happening::Look);
    }
}

/// Every member is started from its disk; it must come to be what it was.
fn restart(world: &mut World) {
    let before: Vec<Option<u64>> = world.hosts.iter().map(|host| host.applied()).collect();
    for member in 0..world.hosts.len() {
        if world.hosts[member].is_alive() {
            let World { core, hosts, .. } = &mut *world;
            if core.dice.chance(700) {
                hosts[member].lose_power(core, false);
            } else {
                hosts[member].kill(core);
            }
            core.after(0, Happening::Start { host: member });
        }
    }
    let back = until(world, SETTLE_US, |world| {
        world.is_settled() && world.hosts.iter().zip(&before).all(|(host, before)| host.applied() >= *before)
    });
    if !back {
        let applied: Vec<String> = world.hosts.iter().map(|host| format!("{:?}", host.applied())).collect();
        world.core.checks.violated(format!(
            "after the last start the members do not come to what they had applied: {before:?}, now {}",
            applied.join(", ")
        ));
        return;
    }
    world.compare_stores();
}

fn finish(world: World, report: &mut Report) {
    let World { core, hosts, nemesis, operator, .. } = world;
    let history = &core.connections.history;
    report.trace_hash = core.trace.hash();
    report.trace_events = core.trace.events();
    report.simulated_us = core.now_us;
    report.operations = history.calls.len() as u64;
    report.unknown = history.calls.iter().filter(|call| matches!(call.outcome, Outcome::Unknown(_))).count() as u64;
    report.refused = history.calls.iter().filter(|call| matches!(call.outcome, Outcome::Refused(_))).count() as u64;
    report.watchers = history.watchers.len() as u64;
    let told = history.watchers.iter().flat_map(|watcher| &watcher.told);
    report.watch_events = told
        .map(|told| match &told.news {
            News::Events { events, .. } => events.len() as u64,
            _ => 0,
        })
        .sum();
    report.faults = nemesis.counts;
    report.faults.extend(operator.counts);
    if core.snapshots > 0 {
        report.faults.insert("snapshot", core.snapshots);
    }
    report.overlaps = nemesis.overlaps;
    report.starts = core.starts;
    report.refused_starts = hosts.iter().filter(|host| host.refused.is_some()).count() as u64;
    report.leaders = core.checks.leaders();
    report.entries = core.checks.entries_compared;
    report.hashes = core.checks.compared;
    report.violations = core.checks.violations;
    if report.is_clean() && nemesis::is_short(report) {
        report.violations.push("the run had too few faults".to_owned());
    }
    report.text = core.trace.into_text();
}
