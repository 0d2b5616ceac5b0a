//! A learner joins a cluster that holds a gibibyte, under writes: what the writers notice, what it costs the leader.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::cell::fill;
use super::group::{Group, MEMBERS};
use crate::load::meter::Meter;
use crate::load::requests::{Order, Puts};
use crate::load::unary::Load;
use crate::side_by_side::record::Figures;

/// Bytes of a value while the store is filled.
const FILL_BYTES: usize = 4 << 10;
/// Bytes of a value that is written meanwhile.
const VALUE_BYTES: usize = 256;
/// Rest after the fill: what it left behind is done, and memory comes to rest.
const REST: Duration = Duration::from_secs(5);
/// Time measured before the learner is added, and at least after.
const CONTROL: Duration = Duration::from_secs(10);
/// Longest wait for the learner.
const PATIENCE: Duration = Duration::from_secs(300);
/// Pause between two looks at memory and learner.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs it.
///
/// # Errors
/// A member ended, or the learner did not catch up.
pub async fn run(group: &mut Group, bytes: u64, in_flight: usize) -> Result<Figures, String> {
    let keys = bytes / FILL_BYTES as u64;
    fill(group, Order::Ascending(0..keys), FILL_BYTES).await?;
    sleep(REST).await;
    let leader = group.leader().await?;
    let puts = Puts::new(Order::random(keys, 9), VALUE_BYTES);
    let load = Load::start(&group.launches[leader].address(), 1, in_flight, Rc::new(RefCell::new(puts)));
    sleep(Duration::from_secs(1)).await;
    load.measure();
    let before = watch_memory(group, leader, Instant::now() + CONTROL).await?;
    let control = load.measured();
    let begun = Instant::now();
    let url = format!("http://{}", group.launches[MEMBERS].place.peer);
    let added = group.client(leader)?.member_add(vec![url], true).await;
    added.map_err(|error| format!("the learner cannot be added: {error}"))?;
    let mut learner = group.launches[MEMBERS].start().map_err(|error| error.to_string())?;
    let mut during = 0;
    let caught_up = loop {
        during = during.max(watch_memory(group, leader, Instant::now() + PAUSE).await?);
        if let Some(status) = learner.ended() {
            return Err(format!("the learner ended: {status}\n{}", group.launches[MEMBERS].last_lines()));
        }
        if has_caught_up(group, leader).await {
            break begun.elapsed();
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("the learner did not catch up within {PATIENCE:?}"));
        }
    };
    during = during.max(watch_memory(group, leader, begun + CONTROL).await?);
    load.pause();
    let meter = load.finish(false).await?;
    let mut figures = Figures::default();
    figures.set("caught_up_s", caught_up.as_secs_f64());
    figures.set("rss_before_mb", before as f64 / 1e6);
    figures.set("rss_during_mb", during as f64 / 1e6);
    figures.set("rss_growth_mb", (during as f64 - before as f64) / 1e6);
    note(&mut figures, &control, ["control_ops_s", "control_p99_us", "control_max_us"]);
    note(&mut figures, &meter, ["during_ops_s", "during_p99_us", "during_max_us"]);
    figures.series.insert("during_p99_us_by_second", meter.seconds.iter().map(|s| s.quantile_us(0.99)).collect());
    figures.series.insert("control_p99_us_by_second", control.seconds.iter().map(|s| s.quantile_us(0.99)).collect());
    Ok(figures)
}

fn note(figures: &mut Figures, meter: &Meter, names: [&'static str; 3]) {
    figures.set(names[0], meter.rate());
    figures.set(names[1], meter.latency.quantile_us(0.99));
    figures.set(names[2], meter.latency.max_us());
}

/// The leader's largest anonymous memory until then.
async fn watch_memory(group: &Group, leader: usize, until: Instant) -> Result<u64, String> {
    let server = group.server(leader)?;
    let mut most = server.anonymous_bytes();
    while Instant::now() < until {
        sleep(PAUSE).await;
        most = most.max(server.anonymous_bytes());
    }
    Ok(most)
}

/// Whether the learner has applied all that the leader had when it was asked.
async fn has_caught_up(group: &Group, leader: usize) -> bool {
    let Ok(wanted) = group.status(leader).await else { return false };
    let found = group.status(MEMBERS).await;
    found.is_ok_and(|found| found.raft_applied_index >= wanted.raft_applied_index && found.is_learner)
}
