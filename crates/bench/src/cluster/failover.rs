//! How long nobody can write when the leader goes, and how long until it is back.
//!
//! Writers at both other members send a put every two milliseconds each, whether the ones before were answered or not:
//! a put that was lost with the leader holds nothing up, as it would a client that waits. What counts is the longest time
//! between two acknowledgements, over both writers.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::cell::fill;
use super::group::{Group, MEMBERS};
use crate::load::requests::Order;
use crate::load::steady::{Steady, write};
use crate::process::Server;
use crate::serving;
use crate::side_by_side::record::Figures;

/// Keys in the store.
const KEYS: u64 = 100_000;
/// Bytes of a value.
const VALUE_BYTES: usize = 256;
/// Time between two puts of a writer.
const PACE: Duration = Duration::from_millis(2);
/// Writes before the leader goes.
const BEFORE: usize = 500;
/// Time watched after writes are acknowledged again, or after a leader that was asked has ended.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// Longest wait for writes to go on.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the leader goes.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Way {
    Kill,
    Terminate,
}

/// Runs `times` kills and as many orderly ends.
///
/// # Errors
/// Writes did not go on, or a member did not come back.
pub async fn run(group: &mut Group, times: usize) -> Result<Figures, String> {
    fill(group, Order::Ascending(0..KEYS), VALUE_BYTES).await?;
    let (mut killed, mut terminated, mut ends, mut back) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..times {
        for way in [Way::Kill, Way::Terminate] {
            let leader = group.leader().await?;
            let (pause, end) = once(group, leader, way).await?;
            match way {
                Way::Kill => killed.push(ms(pause)),
                Way::Terminate => {
                    terminated.push(ms(pause));
                    ends.push(ms(end));
                }
            }
            let took = group.restart(leader).await?;
            if way == Way::Kill {
                back.push(ms(took));
            }
        }
    }
    let mut figures = Figures::default();
    for (all, [median, worst, series]) in [
        (killed, ["kill_ms", "kill_worst_ms", "kill_all_ms"]),
        (terminated, ["term_ms", "term_worst_ms", "term_all_ms"]),
        (ends, ["term_end_ms", "term_end_worst_ms", "term_end_all_ms"]),
        (back, ["back_ms", "back_worst_ms", "back_all_ms"]),
    ] {
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        figures.set(median, sorted[sorted.len() / 2]);
        figures.set(worst, sorted[sorted.len() - 1]);
        figures.series.insert(series, all);
    }
    Ok(figures)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Lets the leader go; returns the longest pause between acknowledgements, and how long the process took to end.
async fn once(group: &mut Group, leader: usize, way: Way) -> Result<(Duration, Duration), String> {
    let steady = Rc::new(Steady::default());
    let mut writers = JoinSet::new();
    for (n, address) in group.addresses(|n| n != leader).into_iter().enumerate() {
        let delay = PACE * n as u32 / (MEMBERS - 1) as u32;
        writers.spawn_local(write(address, PACE, delay, Rc::clone(&steady)));
    }
    wait(&mut writers, "writes", || steady.acknowledged.borrow().len() >= BEFORE).await?;
    let mut server = group.servers[leader].take().ok_or("the leader is down")?;
    let moment = Instant::now();
    let end = match way {
        Way::Kill => {
            server.kill().map_err(|status| format!("the leader ended by itself: {status}"))?;
            moment.elapsed()
        }
        Way::Terminate => terminate(&mut writers, &mut server).await?,
    };
    let gone = Instant::now();
    wait(&mut writers, "writes after the leader went", || steady.first_sent_after(gone).is_some()).await?;
    sleep(AFTERWARDS).await;
    steady.stop.set(true);
    while let Some(ended) = writers.join_next().await {
        ended.map_err(|e| e.to_string())?.map_err(|e| format!("a writer: {e}"))?;
    }
    Ok((steady.longest_pause(moment), end))
}

async fn terminate(writers: &mut JoinSet<io::Result<()>>, server: &mut Server) -> Result<Duration, String> {
    let asked = Instant::now();
    server.terminate();
    wait(writers, "the end of the leader", || server.ended().is_some()).await?;
    Ok(asked.elapsed())
}

async fn wait(writers: &mut JoinSet<io::Result<()>>, what: &str, done: impl FnMut() -> bool) -> Result<(), String> {
    let came = serving::wait_until(PATIENCE, done).await;
    match writers.try_join_next() {
        Some(Ok(Err(error))) => Err(format!("a writer's connection broke: {error}")),
        _ if !came => Err(format!("not within {PATIENCE:?}: {what}")),
        _ => Ok(()),
    }
}
