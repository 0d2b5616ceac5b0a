//! The end of a round, after its faults: members serve and take writes, watchers come to know everything, a restart
//! changes nothing, and all members are equal.

use std::rc::Rc;
use std::time::{Duration, Instant};

use cetera_bench::rng::Rng;
use cetera_check::history::{Outcome, Request};
use cetera_proto::etcdserverpb as pb;
use cetera_proto::services::MethodId;
use tokio::time::{sleep, timeout};

use crate::conn::{Answer, Conn};
use crate::load::{self, Phase, Shared};
use crate::member::Member;
use crate::nemesis::Stage;
use crate::round::SERVE_PATIENCE;
use crate::state::equal_states;

/// Load after the last fault.
const CALM: Duration = Duration::from_millis(1_000);
/// Longest wait for one answer of a member without faults.
const CALL_PATIENCE: Duration = Duration::from_secs(10);
/// Longest that clients and watchers may take to end.
const END_PATIENCE: Duration = Duration::from_secs(60);
/// A member that is to refuse to start does within this.
const REFUSE_PATIENCE: Duration = Duration::from_secs(15);
/// Longest that members may take to come to the same revision: leases end meanwhile.
const EQUAL_PATIENCE: Duration = Duration::from_secs(20);

/// How a round ended in which all was as it should be.
#[derive(Copy, Clone, Debug)]
pub struct Ending {
    /// How long after the last fault the last member served and took a write.
    pub recovered: Duration,
    /// The hashes of the members' states were compared, not only `HashKV`.
    pub states_compared: bool,
}

/// Ends it.
///
/// # Errors
/// What is wrong.
pub async fn end(
    stage: &Rc<Stage>,
    shared: &Rc<Shared>,
    mut load: load::Load,
    rng: &mut Rng,
) -> Result<Ending, String> {
    let begun = Instant::now();
    stage.finish_replacement(rng).await?;
    let replaced = begun.elapsed();
    for member in &stage.members {
        member.serves(SERVE_PATIENCE).await?;
    }
    let client = shared.client();
    write_works(shared, stage, client).await?;
    let recovered = begun.elapsed() - replaced;
    if recovered > SERVE_PATIENCE / 2 {
        stage.find(format!("members took {recovered:?} to serve after the last fault"));
    }
    sleep(CALM).await;
    shared.close();
    let callers = timeout(END_PATIENCE, async { while load.callers.join_next().await.is_some() {} }).await;
    callers.map_err(|_| "clients do not end")?;
    let head = read_all(shared, stage, client).await?;
    shared.enter(Phase::CatchUp(head));
    join_watchers(&mut load.watchers).await?;
    let before = equal_hashes(stage, head).await?;
    equal_states(stage).await?;
    no_alarm(stage).await?;
    if stage.members.len() > 1 && rng.chance(50) {
        refuses_to_found(stage, rng).await?;
    }
    if stage.members.len() > 1 && rng.chance(50) {
        restart(stage, &stage.members.iter().collect::<Vec<_>>()).await?;
    } else {
        for member in &stage.members {
            restart(stage, &[member]).await?;
        }
    }
    for (n, member) in stage.members.iter().enumerate() {
        let mut replays = tokio::task::JoinSet::new();
        replays.spawn_local(load::replay(Rc::clone(shared), n, rng.next_u64()));
        join_watchers(&mut replays).await.map_err(|what| format!("replay: {what}"))?;
        member.health().await?;
    }
    read_all(shared, stage, client).await?;
    let after = equal_hashes(stage, head).await?;
    if before.compact_revision == after.compact_revision && before.hash != after.hash {
        let (before, after) = (before.hash, after.hash);
        return Err(format!("HashKV at {head} was {before} and after a restart it is {after}"));
    }
    Ok(Ending { recovered, states_compared: equal_states(stage).await? })
}

/// Kills some at once, and returns when they serve again.
async fn restart(stage: &Stage, members: &[&Member]) -> Result<(), String> {
    let handled: Vec<_> = members.iter().filter_map(|member| member.handle()).collect();
    members.iter().for_each(|member| stage.killed(member));
    members.iter().try_for_each(|member| member.start())?;
    drop(handled);
    for member in members {
        member.serves(SERVE_PATIENCE).await?;
    }
    Ok(())
}

/// A member whose directory was emptied, and is started as at the very first, must not found its cluster anew: the
/// others know it.
async fn refuses_to_found(stage: &Stage, rng: &mut Rng) -> Result<(), String> {
    let member = &stage.members[rng.within(0, stage.members.len() as u64) as usize];
    // etcd does not look for ids that were removed.
    if stage.spares() && member.is_successor() {
        return Ok(());
    }
    let handling = member.handle();
    stage.killed(member);
    let ended = member.start_emptied(REFUSE_PATIENCE).await?;
    member.start()?;
    drop(handling);
    member.serves(SERVE_PATIENCE).await?;
    match ended {
        Some(status) if status.code().is_some_and(|code| code != 0) => {
            stage.note("refused to start on a directory that was emptied".to_owned());
            Ok(())
        }
        other => {
            let name = &member.launch.place.name;
            Err(format!("{name} did not refuse to start on a directory that was emptied: {other:?}"))
        }
    }
}

/// No member may have found that it differs from the others.
async fn no_alarm(stage: &Stage) -> Result<(), String> {
    for member in &stage.members {
        let name = &member.launch.place.name;
        let conn = Conn::open(&member.launch.address(), CALL_PATIENCE).await;
        let conn = conn.ok_or_else(|| format!("{name} takes no connection"))?;
        match conn.call::<_, pb::AlarmResponse>(MethodId::Alarm, &pb::AlarmRequest::default(), CALL_PATIENCE).await {
            Answer::Done(answer) if answer.alarms.iter().any(|alarm| alarm.alarm == pb::AlarmType::Corrupt as i32) => {
                return Err(format!("{name}: an alarm of corruption: {:?}", answer.alarms));
            }
            Answer::Done(_) => {}
            other => return Err(format!("{name}: Alarm: {other:?}")),
        }
    }
    Ok(())
}

/// `HashKV` of all members once they are at the same revision, where it must be the same.
async fn equal_hashes(stage: &Stage, revision: i64) -> Result<pb::HashKvResponse, String> {
    let begun = Instant::now();
    loop {
        let mut hashes = hashes(stage, revision).await?;
        let at = |hash: &pb::HashKvResponse| {
            (hash.header.as_ref().map_or(0, |header| header.revision), hash.compact_revision)
        };
        if hashes.iter().all(|hash| at(hash) == at(&hashes[0])) {
            if hashes.iter().any(|hash| hash.hash != hashes[0].hash) {
                return Err(format!("HashKV at {revision} differs among members: {hashes:?}"));
            }
            return Ok(hashes.swap_remove(0));
        }
        if begun.elapsed() > EQUAL_PATIENCE {
            return Err(format!("members do not come to the same revision within {EQUAL_PATIENCE:?}: {hashes:?}"));
        }
        sleep(Duration::from_millis(50)).await;
    }
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
    let begun = Instant::now();
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
            Outcome::Done(response) => head = head.max(response.revision()),
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
