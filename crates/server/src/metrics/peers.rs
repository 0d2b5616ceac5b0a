//! Numbers about the other members, one set each: what was sent and received, and connections that broke.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cetera_node::published::Published;

use super::family;

/// Members told apart; ids come from the log, yet there must be an end. What comes later is not counted.
const MEMBERS_MAX: usize = 1_024;

/// All members' numbers.
#[derive(Debug)]
pub(super) struct PeerNumbers(Mutex<BTreeMap<u64, Arc<PeerCounters>>>);

/// One member's. Kept after it is gone: counters do not go back.
#[derive(Debug)]
pub(crate) struct PeerCounters {
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    /// Messages dropped on the way out.
    pub(crate) sent_failures: AtomicU64,
    /// Connections from it that ended in an error.
    pub(crate) received_failures: AtomicU64,
    /// 1 while it is connected.
    pub(crate) active: AtomicU64,
    pub(crate) disconnected: AtomicU64,
}

impl PeerCounters {
    const fn new() -> Self {
        PeerCounters {
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            sent_failures: AtomicU64::new(0),
            received_failures: AtomicU64::new(0),
            active: AtomicU64::new(0),
            disconnected: AtomicU64::new(0),
        }
    }

    /// It is connected from now on, or not.
    pub(crate) fn set_active(&self, active: bool) {
        let before = self.active.swap(u64::from(active), Ordering::Relaxed);
        self.disconnected.fetch_add(u64::from(before == 1 && !active), Ordering::Relaxed);
    }
}

impl PeerNumbers {
    pub(super) const fn new() -> Self {
        PeerNumbers(Mutex::new(BTreeMap::new()))
    }

    pub(super) fn of(&self, member: u64) -> Arc<PeerCounters> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MEMBERS_MAX && !peers.contains_key(&member) {
            return Arc::new(PeerCounters::new());
        }
        Arc::clone(peers.entry(member).or_insert_with(|| Arc::new(PeerCounters::new())))
    }

    pub(super) fn render(&self, published: &Published, out: &mut String) {
        let local = published.member_id;
        let pair = |remote: u64| format!("Local=\"{local:x}\",Remote=\"{remote:x}\"");
        // This member among them, as in etcd.
        let known = published.members.iter().map(|member| (pair(member.id), 1));
        family(out, "gauge", "etcd_network_known_peers", "The current number of known peers.", known);
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        type Number = fn(&PeerCounters) -> u64;
        type Labels<'a> = &'a dyn Fn(u64) -> String;
        let load = |number: Number| peers.iter().map(move |(member, peer)| (*member, number(peer)));
        let (to, from) = (|id: u64| format!("To=\"{id:x}\""), |id: u64| format!("From=\"{id:x}\""));
        type Row<'a> = (&'a str, &'a str, &'a str, Labels<'a>, Number);
        let rows: [Row<'_>; 6] = [
            (
                "gauge",
                "active_peers",
                "The current number of active peer connections.",
                &pair,
                |peer| get(&peer.active),
            ),
            ("counter", "disconnected_peers_total", "The total number of disconnected peers.", &pair, |peer| {
                get(&peer.disconnected)
            }),
            ("counter", "peer_sent_bytes_total", "The total number of bytes sent to peers.", &to, |peer| {
                get(&peer.sent_bytes)
            }),
            ("counter", "peer_received_bytes_total", "The total number of bytes received from peers.", &from, |peer| {
                get(&peer.received_bytes)
            }),
            ("counter", "peer_sent_failures_total", "The total number of send failures from peers.", &to, |peer| {
                get(&peer.sent_failures)
            }),
            (
                "counter",
                "peer_received_failures_total",
                "The total number of receive failures from peers.",
                &from,
                |peer| get(&peer.received_failures),
            ),
        ];
        for (kind, name, help, labels, number) in rows {
            let series = load(number).map(|(member, value)| (labels(member), value));
            family(out, kind, &format!("etcd_network_{name}"), help, series);
        }
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
