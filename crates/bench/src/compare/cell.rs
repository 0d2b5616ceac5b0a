//! The cells of the table, and the loads of most of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{compaction, memory};
use crate::load::keepalive::{Renewals, renew};
use crate::load::requests::{Gets, Grants, Order, Puts, Ranges, Requests, Swaps};
use crate::load::unary::Load;
use crate::load::watch::{Fanout, put, watch};
use crate::process::{Launch, Server};
use crate::serving;
use crate::side_by_side::record::Figures;
use crate::side_by_side::run::{self, Cell};

/// Keys of the small cells.
pub const KEYS: u32 = 10_000;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 256;
/// Keys in a range.
const RANGE_KEYS: i64 = 1_000;
/// Load before anything is measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// Longest wait for watches to be made, and for the last events.
const WATCH_PATIENCE: Duration = Duration::from_secs(30);
/// Puts in flight under the watchers.
const WATCH_PUTS: u64 = 16;
/// Leases renewed, and over how many streams with how many renewals in flight each.
const LEASES: u64 = 1_000;
const LEASE_STREAMS: u64 = 4;
const LEASE_IN_FLIGHT: usize = 16;

/// What a cell does.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Random puts.
    Put,
    /// The transaction of the Kubernetes API server.
    Txn,
    /// Linearizable reads of one key.
    Get,
    /// Reads of 1,000 keys after all were overwritten in random order.
    Range,
    /// 100 watchers of one key on one stream.
    Watch,
    /// Lease renewals.
    KeepAlive,
    /// A million keys: memory, and the start after a kill.
    Memory,
    /// Puts while a million revisions are compacted.
    Compaction,
}

/// All cells.
pub const CELLS: &[Cell<Kind>] = &[
    Cell::new("put-1", "put, 1 in flight", Kind::Put, 1, 1),
    Cell::new("put-16", "put, 16 in flight", Kind::Put, 1, 16),
    Cell::new("put", "put, 256 in flight", Kind::Put, 4, 256),
    Cell::new("txn", "txn (compare and put), 256", Kind::Txn, 4, 256),
    Cell::new("get", "linearizable get, 256", Kind::Get, 4, 256),
    Cell::new("range", "1,000-key range, 256", Kind::Range, 4, 256),
    Cell::new("range-4", "1,000-key range, 4 in flight", Kind::Range, 4, 4),
    Cell::new("keepalive", "lease keep-alive, 4 streams of 16", Kind::KeepAlive, 4, 64),
    Cell::new("watch", "100 watchers on one stream", Kind::Watch, 2, 16),
    Cell::new("memory", "1 M keys", Kind::Memory, 4, 256),
    Cell::new("compaction", "compaction of 1 M revisions", Kind::Compaction, 1, 16),
];

/// A server under test.
#[derive(Debug)]
pub struct Bench {
    /// How it was started.
    pub launch: Launch,
    /// The process.
    pub server: Server,
    /// Where it is.
    pub address: String,
}

impl run::Kind for Kind {
    fn is_long(self) -> bool {
        matches!(self, Kind::Memory | Kind::Compaction)
    }
}

impl Cell<Kind> {
    /// Runs it once on a fresh server.
    ///
    /// # Errors
    /// The server ended, or did not do what was asked.
    pub async fn run(&self, launch: Launch, window: Duration) -> Result<Figures, String> {
        let (server, _) = serving::start(&launch).await?;
        let address = launch.address();
        let bench = Bench { launch, server, address };
        match self.kind {
            Kind::Put => {
                let order = Order::random(KEYS.into(), 1);
                self.closed_loop(&bench, window, Puts::new(order, VALUE_BYTES)).await
            }
            Kind::Txn => self.closed_loop(&bench, window, Swaps::new(self.in_flight, KEYS.into(), VALUE_BYTES)).await,
            Kind::Get => {
                let order = Order::random(KEYS.into(), 2);
                self.closed_loop(&bench, window, Gets::new(order, VALUE_BYTES)).await
            }
            Kind::Range => self.closed_loop(&bench, window, Ranges { limit: RANGE_KEYS, value_len: VALUE_BYTES }).await,
            Kind::Watch => watchers(&bench, window).await,
            Kind::KeepAlive => renewals(&bench, window).await,
            Kind::Memory => memory::run(bench).await,
            Kind::Compaction => compaction::run(&bench, window).await,
        }
    }

    async fn closed_loop(
        &self,
        bench: &Bench,
        window: Duration,
        ask: impl Requests + 'static,
    ) -> Result<Figures, String> {
        fill(bench, Order::Ascending(0..KEYS.into())).await?;
        fill(bench, Order::shuffled(KEYS, 3)).await?;
        let load = Load::start(&bench.address, self.connections, self.in_flight, Rc::new(RefCell::new(ask)));
        sleep(WARM_UP).await;
        load.measure();
        let before = bench.server.cpu();
        sleep(window).await;
        let used = bench.server.cpu() - before;
        load.pause();
        Ok(Figures::of_load(&load.finish(false).await?, used))
    }
}

/// Puts these keys, 256 in flight on 4 connections; returns what that took.
///
/// # Errors
/// A put failed.
pub async fn fill(bench: &Bench, order: Order) -> Result<Figures, String> {
    let puts = Rc::new(RefCell::new(Puts::new(order, VALUE_BYTES)));
    let before = bench.server.cpu();
    let load = Load::start(&bench.address, 4, 256, puts);
    load.measure();
    let meter = load.finish(true).await?;
    Ok(Figures::of_load(&meter, bench.server.cpu() - before))
}

async fn watchers(bench: &Bench, window: Duration) -> Result<Figures, String> {
    const WATCHERS: usize = 100;
    let shared = Rc::new(Fanout::default());
    let mut tasks = JoinSet::new();
    tasks.spawn_local(watch(bench.address.clone(), WATCHERS, Rc::clone(&shared)));
    if !serving::wait_until(WATCH_PATIENCE, || shared.created.get() == WATCHERS).await {
        return Err(format!("{} of {WATCHERS} watches were made", shared.created.get()));
    }
    let putting = put(bench.address.clone(), WATCHERS as u64, WATCH_PUTS, VALUE_BYTES, Rc::clone(&shared));
    tasks.spawn_local(putting);
    sleep(WARM_UP).await;
    shared.meter.borrow_mut().start();
    let before = bench.server.cpu();
    sleep(window).await;
    let used = bench.server.cpu() - before;
    shared.meter.borrow_mut().stop();
    shared.stop.set(true);
    let all = serving::wait_until(WATCH_PATIENCE, || shared.received.get() >= shared.expected.get()).await;
    if let Some(ended) = tasks.try_join_next()
        && let Err(error) = ended.map_err(|e| e.to_string())?
    {
        return Err(format!("watching: {error}"));
    }
    if !all || shared.received.get() != shared.expected.get() {
        return Err(format!("{} of {} events came", shared.received.get(), shared.expected.get()));
    }
    tasks.shutdown().await;
    Ok(Figures::of_load(&shared.meter.borrow(), used))
}

async fn renewals(bench: &Bench, window: Duration) -> Result<Figures, String> {
    let grants = Rc::new(RefCell::new(Grants::new(LEASES as i64, 3_600)));
    Load::start(&bench.address, 1, 64, grants).finish(true).await?;
    let shared = Rc::new(Renewals::default());
    let mut streams = JoinSet::new();
    for n in 0..LEASE_STREAMS {
        streams.spawn_local(renew(bench.address.clone(), LEASE_IN_FLIGHT, LEASES, n, Rc::clone(&shared)));
    }
    sleep(WARM_UP).await;
    shared.meter.borrow_mut().start();
    let before = bench.server.cpu();
    sleep(window).await;
    let used = bench.server.cpu() - before;
    shared.meter.borrow_mut().stop();
    shared.stop.set(true);
    while let Some(ended) = streams.join_next().await {
        ended.map_err(|e| e.to_string())?.map_err(|e| format!("renewing: {e}"))?;
    }
    let meter = shared.meter.borrow();
    match &meter.first_error {
        Some(what) => Err(what.clone()),
        None => Ok(Figures::of_load(&meter, used)),
    }
}
