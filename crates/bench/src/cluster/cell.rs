//! The cells of the table, and the loads of most of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::group::{Group, MEMBERS};
use super::{failover, snapshot};
use crate::compare::cell::{KEYS, VALUE_BYTES};
use crate::compare::record::Figures;
use crate::load::requests::{Gets, Order, Puts, Requests};
use crate::load::unary::Load;

/// Load before anything is measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// Where the load goes.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum To {
    /// The member that leads.
    Leader,
    /// The two others.
    Followers,
    /// All three.
    All,
}

/// What a cell does.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Random puts.
    Put(To),
    /// Linearizable reads of one key.
    Get(To),
    /// Leaders are killed, or asked to end, under a writer.
    Failover,
    /// A learner is added to a gibibyte of data under writes.
    Snapshot,
}

/// A cell.
#[derive(Copy, Clone, Debug)]
pub struct Cell {
    /// Its name, for `--only`.
    pub name: &'static str,
    /// As the table says it.
    pub label: &'static str,
    /// What it does.
    pub kind: Kind,
    /// Connections.
    pub connections: usize,
    /// Requests in flight over all connections.
    pub in_flight: usize,
}

const fn cell(name: &'static str, label: &'static str, kind: Kind, connections: usize, in_flight: usize) -> Cell {
    Cell { name, label, kind, connections, in_flight }
}

/// All cells.
pub const CELLS: &[Cell] = &[
    cell("put-1", "put, 1 in flight at the leader", Kind::Put(To::Leader), 1, 1),
    cell("put-1-follower", "put, 1 in flight at a follower", Kind::Put(To::Followers), 1, 1),
    cell("put", "put, 256 in flight at the leader", Kind::Put(To::Leader), 4, 256),
    cell("put-followers", "put, 256 in flight at the followers", Kind::Put(To::Followers), 4, 256),
    cell("get-1-follower", "linearizable get, 1 in flight at a follower", Kind::Get(To::Followers), 1, 1),
    cell("get", "linearizable get, 256 over all members", Kind::Get(To::All), 6, 256),
    cell("failover", "the leader goes", Kind::Failover, 2, 0),
    cell("snapshot", "a new learner and 1 GiB", Kind::Snapshot, 1, 16),
];

/// What every cell is told.
#[derive(Copy, Clone, Debug)]
pub struct Extent {
    /// Time measured in each run of a short cell.
    pub window: Duration,
    /// Leaders killed, and as many asked to end, in each run.
    pub failovers: usize,
    /// Bytes of values that a learner receives.
    pub snapshot_bytes: u64,
}

impl Cell {
    /// Whether it takes long, so that it is run less often.
    pub fn is_long(&self) -> bool {
        matches!(self.kind, Kind::Failover | Kind::Snapshot)
    }

    /// Runs it once on a fresh cluster.
    ///
    /// # Errors
    /// A member ended, or did not do what was asked, or another took the lead under load.
    pub async fn run(&self, mut group: Group, extent: Extent) -> Result<Figures, String> {
        match self.kind {
            Kind::Put(to) => {
                let puts = Puts::new(Order::random(KEYS.into(), 1), VALUE_BYTES);
                self.closed_loop(&mut group, extent.window, to, puts).await
            }
            Kind::Get(to) => {
                let gets = Gets::new(Order::random(KEYS.into(), 2), VALUE_BYTES);
                self.closed_loop(&mut group, extent.window, to, gets).await
            }
            Kind::Failover => failover::run(&mut group, extent.failovers).await,
            Kind::Snapshot => snapshot::run(&mut group, extent.snapshot_bytes, self.in_flight).await,
        }
    }

    async fn closed_loop(
        &self,
        group: &mut Group,
        window: Duration,
        to: To,
        ask: impl Requests + 'static,
    ) -> Result<Figures, String> {
        fill(group, Order::Ascending(0..KEYS.into()), VALUE_BYTES).await?;
        fill(group, Order::shuffled(KEYS, 3), VALUE_BYTES).await?;
        let leader = group.leader().await?;
        let addresses = group.addresses(|n| match to {
            To::Leader => n == leader,
            To::Followers => n != leader,
            To::All => true,
        });
        let load = Load::over(&addresses, self.connections, self.in_flight, Rc::new(RefCell::new(ask)));
        sleep(WARM_UP).await;
        load.measure();
        let before = group.cpu();
        sleep(window).await;
        let used = group.cpu() - before;
        load.pause();
        let figures = Figures::of_load(&load.finish(false).await?, used);
        if group.leader().await? != leader {
            return Err("another member took the lead under load".to_owned());
        }
        Ok(figures)
    }
}

/// Puts these keys, 256 in flight on 4 connections to the leader.
///
/// # Errors
/// A put failed.
pub async fn fill(group: &mut Group, order: Order, value_bytes: usize) -> Result<(), String> {
    debug_assert_eq!(group.servers.len(), MEMBERS);
    let leader = group.leader().await?;
    let puts = Rc::new(RefCell::new(Puts::new(order, value_bytes)));
    Load::start(&group.launches[leader].address(), 4, 256, puts).finish(true).await?;
    Ok(())
}
