//! A million keys: how much memory they take, and how long a start takes after a kill.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::cell::{Bench, VALUE_BYTES, fill};
use crate::files::Look;
use crate::load::requests::{Order, Puts};
use crate::load::unary::Load;
use crate::serving;
use crate::side_by_side::record::Figures;

/// Keys.
const KEYS: u64 = 1_000_000;
/// Rest before memory is read.
const REST: Duration = Duration::from_secs(2);
/// Longest wait for a checkpoint.
const CHECKPOINT_PATIENCE: Duration = Duration::from_secs(120);
/// How much of the distance between two checkpoints is written before the kill. Per cent.
const APPROACH: u64 = 90;
/// Requests in flight while checkpoints are awaited.
const IN_FLIGHT: usize = 64;

/// Runs it.
///
/// # Errors
/// The server ended, or refused something.
pub async fn run(bench: Bench) -> Result<Figures, String> {
    let filled = fill(&bench, Order::Ascending(0..KEYS)).await?;
    let mut figures = Figures::default();
    figures.set("fill_ops_s", filled.numbers["ops_s"]);
    figures.set("fill_cpu_us_op", filled.numbers["cpu_us_op"]);
    sleep(REST).await;
    figures.set("anonymous_mb", megabytes(bench.server.anonymous_bytes()));
    figures.set("puts_before_kill", approach_checkpoint(&bench).await? as f64);
    let Bench { launch, server, .. } = bench;
    server.kill().map_err(|status| format!("the server ended by itself: {status}"))?;
    let (server, took) = serving::start(&launch).await?;
    figures.set("restart_ms", took.as_secs_f64() * 1e3);
    sleep(REST).await;
    figures.set("anonymous_after_restart_mb", megabytes(server.anonymous_bytes()));
    Ok(figures)
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Overwrites keys until the next checkpoint would be due, as far as the last two tell: then the log to be replayed is at
/// its longest. Nothing to do for a server without checkpoints. Returns the puts made.
async fn approach_checkpoint(bench: &Bench) -> Result<u64, String> {
    let mut seen = Look::take(&bench.launch.data_dir).checkpoints;
    if !bench.launch.data_dir.join("member/checkpoint").is_dir() {
        return Ok(0);
    }
    let puts = Puts::new(Order::random(KEYS, 5), VALUE_BYTES);
    let load = Load::start(&bench.address, 4, IN_FLIGHT, Rc::new(RefCell::new(puts)));
    let mut marks = Vec::new();
    for _ in 0..2 {
        let came = serving::wait_until(CHECKPOINT_PATIENCE, || {
            let now = Look::take(&bench.launch.data_dir).checkpoints;
            let new = now.difference(&seen).next().is_some();
            seen = now;
            new
        });
        if !came.await {
            return Err("no checkpoint came".to_owned());
        }
        marks.push(load.meter().done);
    }
    let target = marks[1] + (marks[1] - marks[0]) * APPROACH / 100;
    if !serving::wait_until(CHECKPOINT_PATIENCE, || load.meter().done >= target).await {
        return Err("the puts before the kill did not end".to_owned());
    }
    let done = load.finish(false).await?.done;
    Ok(done)
}
