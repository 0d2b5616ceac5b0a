//! `--initial-election-tick-advance`: a member that starts, finds the others there and hears of no leader, need not
//! wait for a whole election timeout.

use std::time::{Duration, Instant};

use cetera_node::event::Event;

use crate::config::Config;
use crate::log;
use crate::node_thread::NodeHandle;

/// How long the others are waited for (etcd `rafthttp.ConnReadTimeout`).
const WAIT: Duration = Duration::from_secs(5);
/// Ticks of the election timeout that are left, so that a leader that is slow to tell of itself is not disturbed.
const TICKS_LEFT: usize = 2;

/// Looks for the others until it has seen them or it is too late.
pub struct FastForward {
    /// Until when it looks; `None` once it is over.
    until: Option<Instant>,
    election_ticks: usize,
    tick: Duration,
}

impl FastForward {
    /// For a member that starts now.
    pub fn new(config: &Config) -> FastForward {
        let election_ticks = (config.election_ms / config.heartbeat_ms) as usize;
        let until = config.election_tick_advance.then(|| Instant::now() + WAIT);
        if until.is_none() {
            log::info!("skipping initial election tick advance", "election-ticks" = election_ticks);
        }
        FastForward { until, election_ticks, tick: Duration::from_millis(config.heartbeat_ms) }
    }

    /// Whether there is nothing left to look for.
    pub fn is_over(&self) -> bool {
        self.until.is_none()
    }

    /// Looks once. As etcd, it takes two others to go by.
    pub fn look(&mut self, node: &NodeHandle, is_connected: impl Fn(u64) -> bool) {
        let Some(until) = self.until else { return };
        let published = node.published();
        let own = published.member_id;
        let active = published.members.iter().filter(|member| member.id != own && is_connected(member.id)).count();
        if published.leader != 0 || published.members.len() == 1 || Instant::now() >= until {
            self.until = None;
        } else if active > 1 {
            self.until = None;
            let ticks = self.election_ticks.saturating_sub(TICKS_LEFT);
            log::info!(
                "initialized peer connections; fast-forwarding election ticks",
                "local-member-id" = log::Hex(own),
                "forward-ticks" = ticks,
                "forward-duration" = self.tick * ticks as u32,
                "election-ticks" = self.election_ticks,
                "election-timeout" = self.tick * self.election_ticks as u32,
                "active-remote-members" = active,
            );
            node.send(Event::AdvanceElection(ticks));
        }
    }
}
