//! The steps on the large store.

use std::fs;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::report::Row;
use super::store::{From, KEYS_PER_GIB, RandomReads, Scan, SharedStore, Store, Writes};
use crate::files::{Look, disk_bytes};
use crate::load::meter::Meter;
use crate::load::unary::Load;
use crate::load::wire;
use crate::process::{Launch, Server};
use crate::rng::Rng;
use crate::serving;

/// Requests in flight while filling, and on how many connections.
const FILL_IN_FLIGHT: usize = 256;
const FILL_CONNECTIONS: usize = 4;
/// Puts in flight beside what else is measured.
const PUTS_IN_FLIGHT: usize = 16;
/// Reads in flight on a cold cache.
const READS_IN_FLIGHT: usize = 4;
/// Pages in flight of a scan.
const SCAN_IN_FLIGHT: usize = 4;
/// Time measured in a step.
const WINDOW: Duration = Duration::from_secs(10);
/// Limit of the 99th percentile of reads. Microseconds.
const COLD_P99_US: f64 = 10_000.0;
/// Limit of a reopening.
const REOPEN: Duration = Duration::from_secs(30);
/// Kills before the scan.
const KILLS: usize = 10;
/// Longest wait for rewriting to come to rest, and how long it must rest.
const REWRITE_PATIENCE: Duration = Duration::from_secs(180);
const REWRITE_REST: Duration = Duration::from_secs(3);
/// Longest wait for the whole fill, per GiB.
const FILL_PATIENCE: Duration = Duration::from_secs(300);
/// `etcdserverpb.KV/Compact`.
const COMPACT: &str = "/etcdserverpb.KV/Compact";

/// A server with its store.
#[derive(Debug)]
pub struct Large {
    launch: Launch,
    server: Server,
    store: SharedStore,
    keys: u64,
    rng: Rng,
}

type Rows = Vec<Row>;

impl Large {
    /// Starts it, empty.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(launch: Launch, gib: u64) -> Result<Large, String> {
        let (server, _) = serving::start(&launch).await?;
        let keys = gib * KEYS_PER_GIB;
        Ok(Large { launch, server, store: Store::new(keys), keys, rng: Rng::new(gib) })
    }

    fn writes(&self, connections: usize, in_flight: usize, from: From) -> Load {
        let writes = Writes::new(&self.store, from, in_flight);
        Load::start(&self.launch.address(), connections, in_flight, writes)
    }

    fn random_puts(&mut self) -> Load {
        let from = From::Some(0..self.keys, Rng::new(self.rng.next_u64()));
        self.writes(1, PUTS_IN_FLIGHT, from)
    }

    /// Fills the store; the rate of each GiB against that of the first.
    ///
    /// # Errors
    /// A put failed.
    pub async fn fill(&mut self) -> Result<Rows, String> {
        let load = self.writes(FILL_CONNECTIONS, FILL_IN_FLIGHT, From::Each((0..self.keys).step_by(1)));
        load.measure();
        let mut rates = Vec::new();
        let mut since = Instant::now();
        for done in (KEYS_PER_GIB..=self.keys).step_by(KEYS_PER_GIB as usize) {
            if !serving::wait_until(FILL_PATIENCE, || load.meter().done >= done).await {
                return Err(format!("filling stands still at {} puts", load.meter().done));
            }
            rates.push(KEYS_PER_GIB as f64 / since.elapsed().as_secs_f64());
            since = Instant::now();
        }
        load.finish(true).await?;
        let (first, last) = (rates[0], rates[rates.len() - 1]);
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let found = format!("{first:.0} puts/s in the first GiB, {last:.0} in the last, {least:.0} in the slowest");
        let disk = disk_bytes(&self.launch.data_dir) as f64 / self.live_bytes() as f64;
        Ok(vec![
            Row::new("append rate", found, "the slowest GiB at least half as fast as the first", least * 2.0 >= first),
            Row::note("disk after the fill", format!("{disk:.2} bytes per live byte")),
            Row::note("RssAnon after the fill", format!("{} MB", self.server.anonymous_bytes() / 1_000_000)),
        ])
    }

    fn live_bytes(&self) -> u64 {
        self.keys * (super::store::VALUE_BYTES as u64 + 16)
    }

    /// Random reads on a cold page cache while puts go on.
    ///
    /// # Errors
    /// A request failed, or a value was wrong.
    pub async fn cold_reads(&mut self) -> Result<Rows, String> {
        // What is dirty cannot be dropped.
        // SAFETY: sync has no arguments and cannot fail.
        unsafe { libc::sync() };
        let dropped = fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
        let puts = self.random_puts();
        let reads = RandomReads::new(0..self.keys, self.rng.next_u64(), READS_IN_FLIGHT);
        let reads = Load::start(&self.launch.address(), 1, READS_IN_FLIGHT, reads);
        puts.measure();
        reads.measure();
        sleep(WINDOW).await;
        puts.pause();
        let reads = reads.finish(false).await?;
        let puts = puts.finish(false).await?;
        let p99 = reads.latency.quantile_us(0.99);
        let found = format!(
            "p50 {:.2} ms, p99 {:.2} ms, {:.0} reads/s beside {:.0} puts/s",
            reads.latency.quantile_us(0.5) / 1e3,
            p99 / 1e3,
            reads.rate(),
            puts.rate()
        );
        let what =
            if dropped { "random gets, page cache dropped" } else { "random gets (page cache NOT dropped: not root)" };
        Ok(vec![Row::new(what, found, "p99 < 10 ms", p99 < COLD_P99_US)])
    }

    /// Puts while a part of the store is garbage, compacted and rewritten, against puts before.
    ///
    /// # Errors
    /// A request failed.
    pub async fn compaction(&mut self) -> Result<Rows, String> {
        // Every second key, so that every segment holds garbage between what lives; and an eighth of all, neighbours,
        // whose segments become garbage altogether. More than the log may hold: some must be rewritten.
        for keys in [(0..self.keys).step_by(2), (0..self.keys / 8).step_by(1), (0..self.keys / 8).step_by(1)] {
            self.writes(FILL_CONNECTIONS, FILL_IN_FLIGHT, From::Each(keys)).finish(true).await?;
        }
        let load = self.random_puts();
        load.measure();
        sleep(WINDOW).await;
        let control = load.measured();
        let before = Look::take(&self.launch.data_dir).log;
        let begun = Instant::now();
        compact_all(&self.launch.address(), true).await?;
        let passed = begun.elapsed();
        let mut files = before.clone();
        let mut changed = Instant::now();
        let rests = serving::wait_until(REWRITE_PATIENCE, || {
            let now = Look::take(&self.launch.data_dir).log;
            // New segments at the end come with the puts; those that go were rewritten.
            if files.difference(&now).next().is_some() {
                changed = Instant::now();
            }
            files = now;
            changed.elapsed() > REWRITE_REST && begun.elapsed() > WINDOW
        });
        let rests = rests.await;
        load.pause();
        let during = load.finish(false).await?;
        let gone = before.difference(&files).count();
        let (quiet, loud) = (control.latency.quantile_us(0.99), during.latency.quantile_us(0.99));
        let found = format!(
            "p99 {:.2} ms before, {:.2} ms during; worst second {:.2} ms and {:.2} ms; {:.0} and {:.0} puts/s",
            quiet / 1e3,
            loud / 1e3,
            worst_second(&control) / 1e3,
            worst_second(&during) / 1e3,
            control.rate(),
            during.rate()
        );
        let took = if rests { format!("{:.0} s", begun.elapsed().as_secs_f64()) } else { "not at rest".to_owned() };
        Ok(vec![
            Row::new("puts while compacting and rewriting", found, "p99 at most 2x", loud <= 2.0 * quiet),
            Row::note(
                "compacted and rewritten",
                format!(
                    "compaction through after {:.0} s, {gone} of {} segments gone, at rest after {took}",
                    passed.as_secs_f64(),
                    before.len()
                ),
            ),
        ])
    }

    /// Kill -9 under load, then the time to a first read.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn reopen(mut self) -> Result<(Large, Rows), String> {
        let mut slowest = Duration::ZERO;
        let took;
        (self, took) = self.kill_under_load().await?;
        let row = Row::new(
            "kill -9, start to first read",
            format!("{:.2} s", took.as_secs_f64()),
            "within 30 s",
            took <= REOPEN,
        );
        for _ in 1..KILLS {
            let took;
            (self, took) = self.kill_under_load().await?;
            slowest = slowest.max(took);
        }
        let more = format!("{:.2} s at most", slowest.as_secs_f64());
        Ok((self, vec![row, Row::new(format!("{} more kills", KILLS - 1), more, "within 30 s", slowest <= REOPEN)]))
    }

    async fn kill_under_load(mut self) -> Result<(Large, Duration), String> {
        let load = self.random_puts();
        sleep(Duration::from_millis(self.rng.within(200, 1_500))).await;
        let Large { launch, server, store, keys, rng } = self;
        server.kill().map_err(|status| format!("the server ended by itself: {status}"))?;
        load.abandon().await;
        let (server, took) = serving::start(&launch).await?;
        Ok((Large { launch, server, store, keys, rng }, took))
    }

    /// Reads every key back.
    ///
    /// # Errors
    /// One is missing or wrong.
    pub async fn scan(&mut self) -> Result<Rows, String> {
        let begun = Instant::now();
        let scan = Scan::new(&self.store, self.keys, SCAN_IN_FLIGHT);
        Load::start(&self.launch.address(), 1, SCAN_IN_FLIGHT, scan).finish(true).await?;
        let took = begun.elapsed().as_secs_f64();
        let rate = self.live_bytes() as f64 / 1e6 / took;
        let found = format!("all {} keys right, in {took:.0} s ({rate:.0} MB/s)", self.keys);
        Ok(vec![Row::new("every key read back after the kills", found, "every acknowledged write", true)])
    }
}

fn worst_second(meter: &Meter) -> f64 {
    let whole = meter.measured().as_secs() as usize;
    meter.seconds.iter().take(whole).map(|second| second.quantile_us(0.99)).fold(0.0, f64::max)
}

/// Compacts at the revision of now; `physical`: returns when the background pass is through.
///
/// # Errors
/// The server refuses.
pub async fn compact_all(address: &str, physical: bool) -> Result<(), String> {
    let client = client(address)?;
    let now = client.get(cetera_client::Get::new("k").count_only()).await.map_err(|e| e.to_string())?;
    let revision = now.header.map_or(0, |header| header.revision);
    let mut body = Vec::new();
    wire::number(&mut body, 1, revision);
    wire::number(&mut body, 2, i64::from(physical));
    match serving::ask(address, COMPACT, &body).await {
        Ok(true) => Ok(()),
        other => Err(format!("the compaction at {revision} was not made: {other:?}")),
    }
}

/// A full client.
///
/// # Errors
/// No address.
pub fn client(address: &str) -> Result<cetera_client::Client, String> {
    let mut config = cetera_client::Config::new([address]);
    config.timeout = Some(Duration::from_secs(60));
    cetera_client::Client::new(config).map_err(|error| error.to_string())
}
