//! One round: new members on new data, load and faults, calm, a last restart, the whole history once more.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use cetera_bench::process::Launch;
use cetera_bench::rng::Rng;
use cetera_check::history::History;
use tokio::time::sleep;

use crate::disk::{self, Disk, Hooks};
use crate::ending::{self, Ending};
use crate::kind::Kind;
use crate::load::{self, Route, Shared};
use crate::member::Member;
use crate::nemesis::{self, Stage};
use crate::proxy::Proxy;
use crate::world::World;

/// Load before the first fault.
const WARM_UP: Duration = Duration::from_millis(500);
/// A member without faults serves within this.
pub const SERVE_PATIENCE: Duration = Duration::from_secs(30);
/// Answered calls per second of a round that has traffic; a round with less proves too little.
const ANSWERED_PER_SECOND_MIN: u64 = 20;
/// A small disk: room for what any server sets aside from the start. Bytes.
const SMALL_DISK_BYTES: u64 = 320 << 20;

/// What a round is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The program.
    pub binary: PathBuf,
    /// Where its data goes; made anew.
    pub dir: PathBuf,
    /// Members.
    pub members: usize,
    /// How long load and faults last.
    pub duration: Duration,
    /// Of every choice of the round.
    pub seed: u64,
    /// Only these kinds of faults, as far as they can be done; none: the seed picks.
    pub faults: Vec<Kind>,
}

/// What came of a round.
#[derive(Debug)]
pub struct Round {
    /// What clients saw.
    pub history: History,
    /// What is wrong besides.
    pub findings: Vec<String>,
    /// Faults done.
    pub faults: Vec<(Kind, u64)>,
    /// Answered calls.
    pub answered: u64,
    /// Whether there was traffic enough.
    pub valid: bool,
    /// When the last fault was undone, in the history's time.
    pub faults_end_us: u64,
    /// By how much clocks jumped ahead, all together.
    pub clock_slack_us: u64,
    /// By how much the fastest clock was too fast.
    pub clock_drift_ppm: u64,
    /// What members did that is no finding, and how often.
    pub notes: Vec<(String, u64)>,
    /// Starts of members.
    pub starts: u64,
    /// Leaders seen, one after the other.
    pub leaders: u64,
    /// How it ended; none if something was not as it should be then.
    pub ending: Option<Ending>,
    /// Mix and pace, for the log.
    pub shape: String,
    /// The members, which have ended; with them go their small disks.
    pub stage: Rc<Stage>,
}

impl Round {
    /// Copies what is on small disks beside them.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn keep_disks(&self) -> std::io::Result<()> {
        for member in self.stage.members.iter().filter(|member| member.disk.is_some()) {
            let data = member.data_dir();
            let beside = data.parent().and_then(Path::parent).unwrap_or(&data);
            disk::copy_dir(&data, &beside.join("data"))?;
        }
        Ok(())
    }
}

/// Lives it. The members are gone when it returns; the data is not.
///
/// # Errors
/// The round could not be held at all.
pub async fn live(plan: &Plan, world: &Rc<World>) -> Result<Round, String> {
    let mut rng = Rng::new(plan.seed);
    let (stage, routes) = set_up(plan, world, &mut rng).await?;
    for member in &stage.members {
        member.start()?;
    }
    for member in &stage.members {
        member.serves(SERVE_PATIENCE).await?;
    }
    let shared = Rc::new(Shared::new(routes, stage.spares()));
    let load_plan = load::Plan::swarm(&mut rng);
    let fault_plan = nemesis::Plan::swarm(&stage, &plan.faults, &mut rng);
    let shape = format!(
        "{}{} clients, {} watchers, think {:?}, patience {:?}; {} lanes, gap {:?}, {}",
        if stage.peer_proxies.is_empty() { "" } else { "proxied links, " },
        load_plan.clients,
        load_plan.watchers,
        load_plan.think,
        load_plan.patience,
        fault_plan.lanes,
        fault_plan.gap,
        fault_plan.kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", "),
    );
    let load = load::start(&shared, &load_plan, &mut rng);
    let guard = tokio::task::spawn_local(Rc::clone(&stage).guard());
    let mut scouts = tokio::task::JoinSet::new();
    for (n, member) in stage.members.iter().enumerate() {
        scouts.spawn_local(Rc::clone(&stage.scout).look(n, member.launch.address()));
    }
    sleep(WARM_UP).await;
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..fault_plan.lanes {
        lanes.spawn_local(Rc::clone(&stage).lane(fault_plan.clone(), rng.next_u64()));
    }
    sleep(plan.duration).await;
    lanes.shutdown().await;
    stage.heal()?;
    let ending = match ending::end(&stage, &shared, load, &mut rng).await {
        Ok(ending) => Some(ending),
        Err(what) => {
            stage.find(what);
            None
        }
    };
    // The restarts of the end are faults too: a lease has its whole time again after each.
    let faults_end_us = shared.recorder.now_us();
    scouts.shutdown().await;
    guard.abort();
    // Cancelled: that is what was asked for.
    let _ = guard.await;
    stage.members.iter().for_each(|member| stage.killed(member));
    let slack = stage.jumped.get().as_micros() as u64;
    let drift = stage.members.iter().map(|member| member.hooks.get("clock_drift_ppm").max(0)).max();
    let answered = shared.recorder.acknowledged();
    Ok(Round {
        history: shared.recorder.finish(),
        findings: stage.findings.take(),
        faults: stage.done.take().into_iter().collect(),
        answered,
        valid: answered >= ANSWERED_PER_SECOND_MIN * plan.duration.as_secs(),
        faults_end_us,
        clock_slack_us: slack,
        clock_drift_ppm: drift.unwrap_or(0) as u64,
        notes: stage.notes.take().into_iter().collect(),
        leaders: stage.scout.leaders(),
        ending,
        starts: stage.members.iter().map(|member| member.starts.get()).sum(),
        shape,
        stage,
    })
}

async fn set_up(plan: &Plan, world: &Rc<World>, rng: &mut Rng) -> Result<(Rc<Stage>, Vec<Route>), String> {
    let small_disk = world.isolated && rng.chance(50);
    let drift_ppm = [0, 0, 1_000, 50_000, -50_000][rng.within(0, 5) as usize];
    let (mut proxies, mut routes) = (Vec::new(), Vec::new());
    for place in world.places() {
        let proxy = Proxy::start(world.clients(), &place.client, Vec::new(), rng.next_u64()).await;
        let proxy = proxy.map_err(|error| format!("the proxy: {error}"))?;
        routes.push(Route { direct: place.client.clone(), proxied: proxy.address().to_owned() });
        proxies.push(proxy);
    }
    let peer_proxies = join(world, rng).await?;
    let mut places = world.places().to_vec();
    for (place, proxy) in places.iter_mut().zip(&peer_proxies) {
        place.advertised = proxy.address().to_owned();
    }
    let cluster: Vec<String> = places.iter().map(|p| format!("{}=http://{}", p.name, p.advertised)).collect();
    let flags = snapshots(rng);
    let mut members = Vec::new();
    for mut place in places {
        place.cluster = cluster.join(",");
        let dir = plan.dir.join(&place.name);
        let mut launch = Launch::at(&plan.binary, &dir, place).map_err(|e| format!("{}: {e}", dir.display()))?;
        let hooks = Hooks::new(&dir.join("faults"));
        // Each clock has a pace of its own.
        hooks.set(&[("clock_drift_ppm", if rng.chance(70) { drift_ppm } else { 0 })])?;
        launch.flags.clone_from(&flags);
        // A violation is explained by it.
        launch.log_level = "info";
        launch.env = small_files(rng);
        launch.env.push(hooks.variable());
        let disk = small_disk.then(|| Disk::mount(&dir.join("disk"), SMALL_DISK_BYTES)).transpose()?;
        if let Some(disk) = &disk {
            launch.data_dir = disk.dir.join("data");
        }
        members.push(Member::new(launch, hooks, disk));
    }
    Ok((Rc::new(Stage::new(members, proxies, peer_proxies, Rc::clone(world))), routes))
}

/// Proxies between the members, in some rounds: with them packets cannot be dropped, but connections can be troubled.
async fn join(world: &World, rng: &mut Rng) -> Result<Vec<Proxy>, String> {
    let count = world.places().len();
    let mut proxies = Vec::new();
    if count < 2 || !world.isolated || rng.chance(60) {
        return Ok(proxies);
    }
    let hosts: Vec<IpAddr> = (0..count).filter_map(|n| world.host(n).parse().ok()).collect();
    for place in world.places() {
        let proxy = Proxy::start(world.clients(), &place.peer, hosts.clone(), rng.next_u64()).await;
        proxies.push(proxy.map_err(|error| format!("the proxy: {error}"))?);
    }
    Ok(proxies)
}

/// How often a member takes a snapshot, so that those who lag need one; a single member cannot lag.
fn snapshots(rng: &mut Rng) -> Vec<String> {
    let count = ["100", "1000", "10000", "100000"][rng.within(0, 4) as usize];
    ["--snapshot-count", count].map(str::to_owned).to_vec()
}

/// Environment variables of our server that make its files small, so that much happens to them; others ignore them.
fn small_files(rng: &mut Rng) -> Vec<(String, String)> {
    let small = [
        ("CETERA_TEST_WAL_SEGMENT_BYTES", [64 << 10, 256 << 10, 1 << 20]),
        ("CETERA_TEST_LOG_SEGMENT_BYTES", [64 << 10, 256 << 10, 1 << 20]),
        ("CETERA_TEST_CHECKPOINT_BYTES", [64 << 10, 512 << 10, 2 << 20]),
    ];
    small.map(|(name, sizes)| (name.to_owned(), sizes[rng.within(0, 3) as usize].to_string())).to_vec()
}

/// Where a round's data is.
pub fn dir_of(dir: &Path, round: u64) -> PathBuf {
    dir.join(format!("round{round}"))
}
