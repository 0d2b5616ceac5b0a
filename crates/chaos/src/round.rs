//! One round: new members on new data, load and faults, calm, a last restart, the whole history once more.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use cetera_bench::process::Launch;
use cetera_bench::rng::Rng;
use cetera_check::history::{History, Outcome, Request};
use cetera_proto::etcdserverpb as pb;
use cetera_proto::services::MethodId;
use tokio::time::{sleep, timeout};

use crate::conn::{Answer, Conn};
use crate::disk::{self, Disk, Hooks};
use crate::load::{self, Phase, Route, Shared};
use crate::member::Member;
use crate::nemesis::{self, Kind, Stage};
use crate::proxy::Proxy;
use crate::world::World;

/// Load before the first fault.
const WARM_UP: Duration = Duration::from_millis(500);
/// Load after the last.
const CALM: Duration = Duration::from_millis(1_000);
/// A member without faults serves within this.
const SERVE_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for one answer of a member without faults.
const CALL_PATIENCE: Duration = Duration::from_secs(10);
/// Answered calls per second of a round that has traffic; a round with less proves too little.
const ANSWERED_PER_SECOND_MIN: u64 = 20;
/// Longest that clients and watchers may take to end.
const END_PATIENCE: Duration = Duration::from_secs(60);

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
            let data = &member.launch.data_dir;
            let beside = data.parent().and_then(Path::parent).unwrap_or(data);
            disk::copy_dir(data, &beside.join("data"))?;
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
    let shared = Rc::new(Shared::new(routes));
    let load_plan = load::Plan::swarm(&mut rng);
    let fault_plan = nemesis::Plan::swarm(&stage, &mut rng);
    let shape = format!(
        "{} clients, {} watchers, think {:?}, patience {:?}; {} lanes, gap {:?}, {}",
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
    sleep(WARM_UP).await;
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..fault_plan.lanes {
        lanes.spawn_local(Rc::clone(&stage).lane(fault_plan.clone(), rng.next_u64()));
    }
    sleep(plan.duration).await;
    lanes.shutdown().await;
    stage.heal()?;
    let faults_end_us = shared.recorder.now_us();
    if let Err(what) = end(&stage, &shared, load, &mut rng).await {
        stage.find(what);
    }
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
        starts: stage.members.iter().map(|member| member.starts.get()).sum(),
        shape,
        stage,
    })
}

async fn set_up(plan: &Plan, world: &Rc<World>, rng: &mut Rng) -> Result<(Rc<Stage>, Vec<Route>), String> {
    let small_disk = world.isolated && rng.chance(50);
    let drift_ppm = [0, 0, 1_000, 50_000, -50_000][rng.within(0, 5) as usize];
    let (mut members, mut proxies, mut routes) = (Vec::new(), Vec::new(), Vec::new());
    for place in world.places() {
        let dir = plan.dir.join(&place.name);
        let mut launch =
            Launch::at(&plan.binary, &dir, place.clone()).map_err(|e| format!("{}: {e}", dir.display()))?;
        let hooks = Hooks::new(&dir.join("faults"));
        hooks.set(&[("clock_drift_ppm", drift_ppm)])?;
        launch.env = small_files(rng);
        launch.env.push(hooks.variable());
        let disk = small_disk.then(|| Disk::mount(&dir.join("disk"), SMALL_DISK_BYTES)).transpose()?;
        if let Some(disk) = &disk {
            launch.data_dir = disk.dir.join("data");
        }
        let proxy = Proxy::start(world.clients(), &place.client, rng.next_u64()).await;
        let proxy = proxy.map_err(|error| format!("the proxy: {error}"))?;
        routes.push(Route { direct: place.client.clone(), proxied: proxy.address().to_owned() });
        proxies.push(proxy);
        members.push(Member::new(launch, hooks, disk));
    }
    Ok((Rc::new(Stage::new(members, proxies, Rc::clone(world))), routes))
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

/// After the faults: it must serve, watchers must come to know all, and a restart must change nothing.
async fn end(stage: &Rc<Stage>, shared: &Rc<Shared>, mut load: load::Load, rng: &mut Rng) -> Result<(), String> {
    for member in &stage.members {
        let took = member.serves(SERVE_PATIENCE).await?;
        if took > SERVE_PATIENCE / 2 {
            stage.find(format!("{} took {took:?} to serve after the last fault", member.launch.place.name));
        }
    }
    let client = shared.client();
    write_works(shared, stage, client).await?;
    sleep(CALM).await;
    shared.close();
    let callers = timeout(END_PATIENCE, async { while load.callers.join_next().await.is_some() {} }).await;
    callers.map_err(|_| "clients do not end")?;
    let head = read_all(shared, stage, client).await?;
    shared.enter(Phase::CatchUp(head));
    join_watchers(&mut load.watchers).await?;
    let hashes = hashes(stage, head).await?;
    for (n, member) in stage.members.iter().enumerate() {
        let Some(handling) = member.handle() else { continue };
        stage.killed(member);
        member.start()?;
        drop(handling);
        member.serves(SERVE_PATIENCE).await?;
        let mut replays = tokio::task::JoinSet::new();
        replays.spawn_local(load::replay(Rc::clone(shared), n, rng.next_u64()));
        join_watchers(&mut replays).await.map_err(|what| format!("replay: {what}"))?;
        member.health().await?;
    }
    read_all(shared, stage, client).await?;
    let again = self::hashes(stage, head).await?;
    for ((before, after), member) in hashes.iter().zip(&again).zip(&stage.members) {
        if before.compact_revision == after.compact_revision && before.hash != after.hash {
            return Err(format!(
                "{}: HashKV at {head} was {} and after a restart it is {}",
                member.launch.place.name, before.hash, after.hash
            ));
        }
    }
    let same =
        |a: &pb::HashKvResponse, b: &pb::HashKvResponse| a.compact_revision != b.compact_revision || a.hash == b.hash;
    if !again.iter().all(|hash| same(hash, &again[0])) {
        return Err(format!("HashKV at {head} differs among members: {again:?}"));
    }
    Ok(())
}

async fn join_watchers(watchers: &mut tokio::task::JoinSet<bool>) -> Result<(), String> {
    let all = async {
        let mut behind = 0;
        while let Some(ended) = watchers.join_next().await {
            behind += u64::from(!matches!(ended, Ok(true)));
        }
        behind
    };
    match timeout(END_PATIENCE, all).await {
        Ok(0) => Ok(()),
        Ok(behind) => Err(format!("{behind} watchers did not come to know everything")),
        Err(_) => Err("watchers do not end".to_owned()),
    }
}

/// After the faults each member takes writes again.
async fn write_works(shared: &Rc<Shared>, stage: &Stage, client: u32) -> Result<(), String> {
    let begun = std::time::Instant::now();
    for (n, member) in stage.members.iter().enumerate() {
        let name = &member.launch.place.name;
        loop {
            let key = [cetera_check::keys::KV, b"d"].concat().into();
            let value = shared.recorder.unique().to_string().into();
            let request = Request::Put(pb::PutRequest { key, value, ..Default::default() });
            let last = match Conn::open(&member.launch.address(), CALL_PATIENCE).await {
                None => "no connection".to_owned(),
                Some(conn) => {
                    match load::call(&shared.recorder, client, n as u32, &conn, &request, CALL_PATIENCE).await.0 {
                        Outcome::Done(_) => break,
                        Outcome::Refused(text) | Outcome::Unknown(text) => text,
                    }
                }
            };
            if begun.elapsed() > SERVE_PATIENCE {
                return Err(format!("{name} takes no writes {SERVE_PATIENCE:?} after the last fault: {last}"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// Reads all keys at each member, as calls of the history; returns the highest revision.
async fn read_all(shared: &Rc<Shared>, stage: &Stage, client: u32) -> Result<i64, String> {
    let mut head = 0;
    for (n, member) in stage.members.iter().enumerate() {
        let name = &member.launch.place.name;
        let conn = Conn::open(&member.launch.address(), CALL_PATIENCE).await;
        let conn = conn.ok_or_else(|| format!("{name} takes no connection"))?;
        let all = bytes::Bytes::from_static(b"\0");
        let request = Request::Range(pb::RangeRequest { key: all.clone(), range_end: all, ..Default::default() });
        match load::call(&shared.recorder, client, n as u32, &conn, &request, CALL_PATIENCE).await.0 {
            Outcome::Done(response) => head = head.max(crate::record::revision(&response)),
            other => return Err(format!("{name}: a read of everything: {other:?}")),
        }
    }
    Ok(head)
}

async fn hashes(stage: &Stage, revision: i64) -> Result<Vec<pb::HashKvResponse>, String> {
    let mut hashes = Vec::new();
    for member in &stage.members {
        let name = &member.launch.place.name;
        let conn = Conn::open(&member.launch.address(), CALL_PATIENCE).await;
        let conn = conn.ok_or_else(|| format!("{name} takes no connection"))?;
        match conn.call(MethodId::HashKv, &pb::HashKvRequest { revision }, CALL_PATIENCE).await {
            Answer::Done(hash) => hashes.push(hash),
            other => return Err(format!("{name}: HashKV: {other:?}")),
        }
    }
    Ok(hashes)
}

/// Where a round's data is.
pub fn dir_of(dir: &Path, round: u64) -> PathBuf {
    dir.join(format!("round{round}"))
}
