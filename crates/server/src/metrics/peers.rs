//! Numbers about the other members, one set each: what was sent and received, connections that broke, round trips and
//! snapshots.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cetera_node::published::Published;

use super::family;
use super::histogram::Histogram;

/// Buckets of round trips: 0.1 ms, doubled 15 times.
const ROUND_TRIP_BUCKETS: usize = 16;
const ROUND_TRIP_FIRST: Duration = Duration::from_micros(100);
/// Buckets of snapshots: 100 ms, doubled nine times.
const SNAPSHOT_BUCKETS: usize = 10;
const SNAPSHOT_FIRST: Duration = Duration::from_millis(100);
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
    pub(crate) round_trips: Histogram<ROUND_TRIP_BUCKETS>,
    snapshots_sent: Snapshots,
    snapshots_received: Snapshots,
}

/// Snapshots in one direction.
#[derive(Debug)]
pub(crate) struct Snapshots {
    under_way: AtomicU64,
    failed: AtomicU64,
    /// How long those took that arrived.
    done: Histogram<SNAPSHOT_BUCKETS>,
}

/// Which direction.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Side {
    Sent,
    Received,
}

/// A snapshot under way; failed, unless it is said to have arrived before this is dropped.
pub(crate) struct SnapshotUnderWay {
    peer: Arc<PeerCounters>,
    side: Side,
    begun: Instant,
    arrived: bool,
}

impl SnapshotUnderWay {
    pub(crate) fn arrived(mut self) {
        self.arrived = true;
    }
}

impl Drop for SnapshotUnderWay {
    fn drop(&mut self) {
        let snapshots = self.peer.snapshots(self.side);
        snapshots.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.arrived {
            snapshots.done.observe(self.begun.elapsed());
        } else {
            snapshots.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Snapshots {
    const fn new() -> Self {
        Snapshots { under_way: AtomicU64::new(0), failed: AtomicU64::new(0), done: Histogram::new(SNAPSHOT_FIRST) }
    }
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
            round_trips: Histogram::new(ROUND_TRIP_FIRST),
            snapshots_sent: Snapshots::new(),
            snapshots_received: Snapshots::new(),
        }
    }

    fn snapshots(&self, side: Side) -> &Snapshots {
        match side {
            Side::Sent => &self.snapshots_sent,
            Side::Received => &self.snapshots_received,
        }
    }

    /// A snapshot begins.
    pub(crate) fn snapshot_begins(self: Arc<Self>, side: Side) -> SnapshotUnderWay {
        self.snapshots(side).under_way.fetch_add(1, Ordering::Relaxed);
        SnapshotUnderWay { peer: self, side, begun: Instant::now(), arrived: false }
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
        type Row<'a> = (&'a str, &'a str, &'a str, Labels<'a>, Number);
        let load = |number: Number| peers.iter().map(move |(member, peer)| (*member, number(peer)));
        let (to, from) = (|id: u64| format!("To=\"{id:x}\""), |id: u64| format!("From=\"{id:x}\""));
        let rows: [Row<'_>; 10] = [
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
            ("gauge", "snapshot_send_inflights_total", "Total number of inflight snapshot sends", &to, |peer| {
                get(&peer.snapshots_sent.under_way)
            }),
            ("counter", "snapshot_send_failures", "Total number of snapshot send failures", &to, |peer| {
                get(&peer.snapshots_sent.failed)
            }),
            (
                "gauge",
                "snapshot_receive_inflights_total",
                "Total number of inflight snapshot receives",
                &from,
                |peer| get(&peer.snapshots_received.under_way),
            ),
            ("counter", "snapshot_receive_failures", "Total number of snapshot receive failures", &from, |peer| {
                get(&peer.snapshots_received.failed)
            }),
        ];
        for (kind, name, help, labels, number) in rows {
            let series = load(number).map(|(member, value)| (labels(member), value));
            family(out, kind, &format!("etcd_network_{name}"), help, series);
        }
        let sides: [(&str, &str, Side, Labels<'_>); 2] =
            [("send", "snapshot sends", Side::Sent, &to), ("receive", "snapshot receives", Side::Received, &from)];
        for (verb, what, side, labels) in sides {
            let done = peers.iter().map(|(member, peer)| (labels(*member), peer.snapshots(side).done.count()));
            let (name, help) =
                (format!("etcd_network_snapshot_{verb}_success"), format!("Total number of successful {what}"));
            family(out, "counter", &name, &help, done);
            let took = peers.iter().map(|(member, peer)| (labels(*member), &peer.snapshots(side).done));
            let name = format!("etcd_network_snapshot_{verb}_total_duration_seconds");
            histograms(out, &name, &format!("Total latency distributions of v3 {what}"), took);
        }
        let trips = peers.iter().map(|(member, peer)| (to(*member), &peer.round_trips));
        histograms(out, "etcd_network_peer_round_trip_time_seconds", "Round-Trip-Time histogram between peers", trips);
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// One histogram of several series, without those that observed nothing.
fn histograms<'a, const BUCKETS: usize>(
    out: &mut String,
    name: &str,
    help: &str,
    series: impl Iterator<Item = (String, &'a Histogram<BUCKETS>)>,
) {
    let mut series = series.filter(|(_, histogram)| histogram.count() > 0).peekable();
    if series.peek().is_some() {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
    }
    for (labels, histogram) in series {
        histogram.series(out, name, &labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_counted_however_they_end() {
        let peer = Arc::new(PeerCounters::new());
        Arc::clone(&peer).snapshot_begins(Side::Sent).arrived();
        drop(Arc::clone(&peer).snapshot_begins(Side::Sent));
        let under_way = Arc::clone(&peer).snapshot_begins(Side::Received);
        let sent = &peer.snapshots_sent;
        assert_eq!((get(&sent.under_way), get(&sent.failed), sent.done.count()), (0, 1, 1));
        assert_eq!(get(&peer.snapshots_received.under_way), 1);
        drop(under_way);
        assert_eq!(get(&peer.snapshots_received.failed), 1);
    }

    #[test]
    fn a_connection_breaks_once() {
        let peer = PeerCounters::new();
        for active in [false, true, true, false, false, true] {
            peer.set_active(active);
        }
        assert_eq!((get(&peer.active), get(&peer.disconnected)), (1, 1));
    }
}
