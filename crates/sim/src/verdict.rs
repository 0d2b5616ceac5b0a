//! What is compared when a run has come to rest.

use std::time::Duration;

use cetera_check::history::History;
use cetera_check::{Limits, Summary};

use crate::host::Seat;
use crate::nemesis::PPM_MAX;
use crate::world::World;

impl World {
    /// Whether all living members have applied the same, and have nothing under way.
    pub(crate) fn is_settled(&mut self) -> bool {
        let members = self.membership().members;
        let seated = self.core.ids.iter().filter(|id| **id != 0);
        let belongs = |id: &u64| members.iter().any(|member| member.id == *id);
        if !seated.clone().all(belongs) || seated.count() != members.len() {
            return false;
        }
        let living = || self.hosts.iter().filter(|host| host.seat != Seat::Nobody && host.refused.is_none());
        let first = living().next().and_then(|host| host.applied());
        living().all(|host| {
            let idle = host.is_idle();
            let published = host.node().map(|node| node.published());
            idle && published.is_some_and(|seen| {
                seen.leader != 0 && seen.applied_index == seen.committed_index && Some(seen.applied_index) == first
            })
        })
    }

    /// Members at the same index hold the same keys, leases and members.
    pub(crate) fn compare_stores(&mut self) {
        let mut first: Option<(usize, u32, i64)> = None;
        for host in &self.hosts {
            let Some(node) = host.node() else { continue };
            node.state().check_invariants();
            self.core.checks.state(host.index, node);
            let hash = match node.published().view.hash_kv(0) {
                Ok(hash) => hash,
                // Damage that is found when it is read.
                Err(_) if self.core.checks.rotten[host.index] => continue,
                Err(error) => {
                    self.core.checks.violated(format!("member {}: its store cannot be hashed: {error}", host.index));
                    continue;
                }
            };
            let this = (hash.hash, hash.compact_revision);
            match first {
                None => first = Some((host.index, this.0, this.1)),
                Some((_, value, compacted)) if (value, compacted) == this => {}
                Some((other, ..)) => {
                    let what = format!("members {other} and {} have different HashKV at the same revision", host.index);
                    self.core.checks.violated(what);
                }
            }
        }
    }

    /// What clients saw.
    pub(crate) fn judge_history(&mut self, history: &History) -> Summary {
        let limits = Limits {
            lease_grace_us: LEASE_GRACE_US,
            faults_end_us: self.nemesis.ends_us,
            clock_drift_ppm: PPM_MAX,
            clock_slack_us: CLOCK_SLACK_US + self.core.jumped_us.iter().max().copied().unwrap_or_default(),
            budget: SEARCH_BUDGET,
        };
        match cetera_check::check(history, &limits) {
            Ok(summary) => summary,
            Err(violations) => {
                for violation in violations {
                    self.core.checks.violated(violation.to_string());
                }
                Summary::default()
            }
        }
    }
}

/// A lease is gone so long after its time at the latest, once faults are over.
const LEASE_GRACE_US: u64 = 10_000_000;
/// Clocks are read in whole milliseconds.
const CLOCK_SLACK_US: u64 = 2_000;
/// For what the order of revisions leaves open.
const SEARCH_BUDGET: Duration = Duration::from_millis(500);
