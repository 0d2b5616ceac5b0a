//! Puts while a million revisions are compacted, second by second, against the same puts before.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::cell::{Bench, VALUE_BYTES, fill};
use crate::load::meter::Meter;
use crate::load::requests::{Order, Puts};
use crate::load::unary::Load;
use crate::load::wire;
use crate::serving;
use crate::side_by_side::record::Figures;

/// `etcdserverpb.KV/Compact`.
const COMPACT: &str = "/etcdserverpb.KV/Compact";
/// Each is written twice: half of the million revisions are garbage.
const KEYS: u32 = 500_000;
/// Revision after both fills of an empty store.
const FILLED_REVISION: i64 = 2 * KEYS as i64 + 1;
/// Puts in flight.
const IN_FLIGHT: usize = 16;
/// Seconds measured without a compaction, and at least with one.
const CONTROL: Duration = Duration::from_secs(10);
/// Seconds measured after the compaction was answered: files may still be rewritten.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// Longest wait for the answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs it.
///
/// # Errors
/// The server ended, or refused something.
pub async fn run(bench: &Bench, warm_up: Duration) -> Result<Figures, String> {
    fill(bench, Order::Ascending(0..KEYS.into())).await?;
    fill(bench, Order::shuffled(KEYS, 7)).await?;
    let puts = Puts::new(Order::random(KEYS.into(), 8), VALUE_BYTES);
    let load = Load::start(&bench.address, 1, IN_FLIGHT, Rc::new(RefCell::new(puts)));
    sleep(warm_up).await;
    load.measure();
    sleep(CONTROL).await;
    let mut figures = Figures::default();
    let control = load.measured();
    let begun = Instant::now();
    let mut body = Vec::new();
    wire::number(&mut body, 1, FILLED_REVISION);
    wire::number(&mut body, 2, 1); // physical
    let answered = tokio::time::timeout(PATIENCE, serving::ask(&bench.address, COMPACT, &body)).await;
    match answered {
        Ok(Ok(true)) => figures.set("compaction_s", begun.elapsed().as_secs_f64()),
        Ok(Ok(false)) => return Err("the compaction was refused".to_owned()),
        Ok(Err(error)) => return Err(format!("the compaction: {error}")),
        Err(_) => return Err(format!("the compaction took more than {PATIENCE:?}")),
    }
    sleep(AFTERWARDS.max(CONTROL.saturating_sub(begun.elapsed()))).await;
    load.pause();
    let during = load.finish(false).await?;
    note(&mut figures, &control, ["control_ops_s", "control_p99_us", "control_least_ops_s", "control_most_p99_us"]);
    note(&mut figures, &during, ["during_ops_s", "during_p99_us", "during_least_ops_s", "during_most_p99_us"]);
    let seconds = whole_seconds(&control);
    figures.series.insert("control_ops_by_second", seconds.0);
    figures.series.insert("control_p99_us_by_second", seconds.1);
    let seconds = whole_seconds(&during);
    figures.series.insert("during_ops_by_second", seconds.0);
    figures.series.insert("during_p99_us_by_second", seconds.1);
    Ok(figures)
}

/// Over all, and the worst second.
fn note(figures: &mut Figures, meter: &Meter, names: [&'static str; 4]) {
    let (rates, tails) = whole_seconds(meter);
    figures.set(names[0], meter.rate());
    figures.set(names[1], meter.latency.quantile_us(0.99));
    figures.set(names[2], rates.iter().copied().fold(f64::INFINITY, f64::min));
    figures.set(names[3], tails.iter().copied().fold(0.0, f64::max));
}

/// Puts and p99 in each whole second.
fn whole_seconds(meter: &Meter) -> (Vec<f64>, Vec<f64>) {
    let whole = meter.measured().as_secs() as usize;
    let seconds = meter.seconds.iter().take(whole);
    seconds.map(|second| (second.count() as f64, second.quantile_us(0.99))).unzip()
}
