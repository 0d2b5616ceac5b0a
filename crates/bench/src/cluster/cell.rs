//! The cells of the table, and the loads of most of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::group::{Group, MEMBERS};
use super::{failover, snapshot};
use crate::compare::cell::{KEYS, VALUE_BYTES};
use crate::load::requests::{Gets, Order, Puts, Requests};
use crate::load::unary::Load;
use crate::side_by_side::record::Figures;
use crate::side_by_side::run::{self, Cell};

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

/// All cells.
pub const CELLS: &[Cell<Kind>] = &[
    Cell::new("put-1", "put, 1 in flight at the leader", Kind::Put(To::Leader), 1, 1),
    Cell::new("put-1-follower", "put, 1 in flight at a follower", Kind::Put(To::Followers), 1, 1),
    Cell::new("put", "put, 256 in flight at the leader", Kind::Put(To::Leader), 4, 256),
    Cell::new("put-followers", "put, 256 in flight at the followers", Kind::Put(To::Followers), 4, 256),
    Cell::new("get-1-follower", "linearizable get, 1 in flight at a follower", Kind::Get(To::Followers), 1, 1),
    Cell::new("get", "linearizable get, 256 over all members", Kind::Get(To::All), 6, 256),
    Cell::new("failover", "the leader goes", Kind::Failover, 2, 0),
    Cell::new("snapshot", "a new learner and 1 GiB", Kind::Snapshot, 1, 16),
];

/// How much the long cells do.
#[derive(Copy, Clone, Debug)]
pub struct Extent {
    /// Leaders killed, and as many asked to end, in each run.
    pub failovers: usize,
    /// Bytes of values that a learner receives.
    pub snapshot_bytes: u64,
}

impl run::Kind for Kind {
    fn is_long(self) -> bool {
        matches!(self, Kind::Failover | Kind::Snapshot)
    }
}

impl Cell<Kind> {
    /// Runs it once on a fresh cluster.
    ///
    /// # Errors
    /// A member ended, or did not do what was asked, or another took the lead under load.
    pub async fn run(&self, mut group: Group, window: Duration, extent: &Extent) -> Result<Figures, String> {
        match self.kind {
            Kind::Put(to) => {
                let puts = Puts::new(Order::random(KEYS.into(), 1), VALUE_BYTES);
                self.closed_loop(&mut group, window, to, puts).await
            }
            Kind::Get(to) => {
                let gets = Gets::new(Order::random(KEYS.into(), 2), VALUE_BYTES);
                self.closed_loop(&mut group, window, to, gets).await
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
