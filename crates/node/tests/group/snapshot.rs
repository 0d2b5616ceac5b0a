//! Members that lag further than memory reaches: from the disk, and by snapshot; crashes at every step of it; watchers.

use std::path::Path;

use cetera_node::watch::{Create, Hub, HubOptions, Origin, Sink, StreamKey};
use cetera_proto::etcdserverpb::{self as pb, WatchResponse};
use cetera_proto::raftpb::ConfChangeType::{ConfChangeAddLearnerNode, ConfChangeRemoveNode};
use cetera_storage::revlog::LogError;
use cetera_storage::vfs::Vfs as _;

use crate::harness::Cluster;

const ORIGIN: Origin = Origin { cluster_id: 77, member_id: 1, term: 1 };

/// Three members of which one is cut off and misses `entries` writes.
fn with_laggard(log_bytes: u64, entries: usize) -> (Cluster, usize, usize) {
    let mut cluster = Cluster::forgetful(3, 20, log_bytes);
    let leader = cluster.elect(None);
    let laggard = (leader + 1) % 3;
    cluster.put(leader, "before", "1");
    cluster.settle();
    cluster.isolate(laggard, true);
    write(&mut cluster, leader, entries);
    (cluster, leader, laggard)
}

fn write(cluster: &mut Cluster, leader: usize, entries: usize) {
    for n in 0..entries {
        cluster.put(leader, &format!("key-{}", n % 50), &format!("value-{n:0300}"));
        cluster.settle();
    }
}

/// The laggard is back; all end up with the same.
fn converge(cluster: &mut Cluster, laggard: usize) {
    cluster.isolate(laggard, false);
    cluster.tick(40);
    let now = cluster.leader().expect("someone leads");
    cluster.put(now, "after", "2");
    cluster.settle();
    cluster.tick(3);
    cluster.assert_equal();
    assert_eq!(cluster.value(laggard, "after").as_deref(), Some(&b"2"[..]));
}

/// Names below a member's data directory.
fn names(cluster: &Cluster, at: usize, dir: &str) -> Vec<String> {
    cluster.hosts[at].vfs.list(&Path::new("/data/member").join(dir)).expect("the directory is there")
}

#[test]
fn one_past_the_log_in_memory_is_served_from_the_disk() {
    let (mut cluster, _, laggard) = with_laggard(1 << 30, 300);
    converge(&mut cluster, laggard);
    assert_eq!(cluster.chunks, 0, "no snapshot was needed");
}

#[test]
fn a_restarted_leader_serves_from_the_disk_too() {
    let (mut cluster, leader, laggard) = with_laggard(1 << 30, 300);
    for at in [leader, (leader + 2) % 3] {
        cluster.crash(at);
        cluster.start(at);
    }
    let now = cluster.elect(Some(laggard));
    if now != leader {
        cluster.transfer(now, Some(leader));
        cluster.tick(3);
    }
    assert_eq!(cluster.leader(), Some(leader), "who knew of the laggard leads again");
    converge(&mut cluster, laggard);
    assert_eq!(cluster.chunks, 0, "no snapshot was needed");
}

#[test]
fn a_lost_acknowledgement_of_a_snapshot_is_made_up_for_by_a_heartbeat() {
    let (mut cluster, _, laggard) = with_laggard(0, 600);
    cluster.lose_acknowledgement = true;
    converge(&mut cluster, laggard);
    assert!(!cluster.lose_acknowledgement, "there was one to lose");
}

#[test]
fn one_past_the_disk_gets_a_snapshot() {
    let (mut cluster, leader, laggard) = with_laggard(0, 600);
    converge(&mut cluster, laggard);
    assert!(cluster.chunks > 0, "a snapshot was needed");
    assert_eq!(names(&cluster, laggard, ""), ["checkpoint", "format", "lock", "log", "log.00000001", "wal"]);
    assert_eq!(names(&cluster, laggard, "log").len(), 0, "the old log is gone");
    // It goes on like any other, and starts again from what it has.
    write(&mut cluster, leader, 100);
    cluster.kill(laggard);
    cluster.start(laggard);
    converge(&mut cluster, laggard);
    // And once more.
    cluster.isolate(laggard, true);
    let leader = cluster.elect(Some(laggard));
    write(&mut cluster, leader, 600);
    converge(&mut cluster, laggard);
    assert_eq!(names(&cluster, laggard, ""), ["checkpoint", "format", "lock", "log", "log.00000002", "wal"]);
    assert_eq!(names(&cluster, laggard, "checkpoint").len(), 1);
}

#[test]
fn a_snapshot_that_breaks_off_is_gone_on_with() {
    let (mut cluster, _, laggard) = with_laggard(0, 600);
    cluster.break_after = Some(1);
    converge(&mut cluster, laggard);
    let whole = cluster.chunks;
    assert!(cluster.break_after.is_none(), "it broke");
    let (mut cluster, _, laggard) = with_laggard(0, 600);
    converge(&mut cluster, laggard);
    assert_eq!(cluster.chunks, whole, "nothing was sent twice");
}

/// Whoever received a snapshot says so when it has looked at it. If it finds it damaged, it has nothing under that id any
/// more, and gets all of it again.
#[test]
fn a_snapshot_that_is_damaged_once_received_is_sent_anew() {
    let (mut cluster, _, laggard) = with_laggard(0, 600);
    cluster.isolate(laggard, false);
    cluster.spoil_received = true;
    for _ in 0..20 {
        if cluster.spoiled == 0 {
            cluster.tick(1);
        }
    }
    assert_eq!(cluster.spoiled, 1);
    let whole = cluster.chunks;
    assert!(cluster.value(laggard, "key-0").is_none(), "it has the state of a damaged snapshot");
    assert_eq!(names(&cluster, laggard, "checkpoint").iter().filter(|name| name.starts_with("snapshot-")).count(), 0);
    cluster.tick(20);
    assert_eq!(cluster.chunks, 2 * whole, "all of it is sent again");
    converge(&mut cluster, laggard);
}

#[test]
fn writes_go_on_meanwhile() {
    let (mut cluster, leader, laggard) = with_laggard(64 << 10, 900);
    cluster.isolate(laggard, false);
    for n in 0..200 {
        cluster.put(leader, &format!("late-{n}"), "x");
        if n % 5 == 0 {
            cluster.tick(1);
        }
    }
    converge(&mut cluster, laggard);
    assert!(cluster.chunks > 0, "a snapshot was needed");
}

#[test]
fn a_new_leader_takes_what_the_old_one_sent() {
    let (mut cluster, leader, laggard) = with_laggard(0, 600);
    let other = (leader + 2) % 3;
    cluster.isolate(laggard, false);
    // Time passes without its snapshot being carried over.
    for _ in 0..50 {
        cluster.now_ms += 100;
        (0..3).for_each(|at| cluster.tick_one(at));
        while cluster.deliver() || cluster.run_jobs() {}
        if !cluster.transfers.is_empty() {
            break;
        }
    }
    assert!(!cluster.transfers.is_empty(), "a snapshot is to be sent");
    cluster.isolate(leader, true);
    for _ in 0..60 {
        cluster.now_ms += 100;
        (0..3).for_each(|at| cluster.tick_one(at));
        while cluster.deliver() || cluster.run_jobs() {}
    }
    let next = cluster.leader().expect("the other leads");
    assert_eq!(next, other);
    cluster.isolate(leader, false);
    converge(&mut cluster, laggard);
}

#[test]
fn a_new_member_gets_a_snapshot() {
    let mut cluster = Cluster::forgetful(1, 20, 0);
    let leader = cluster.elect(None);
    write(&mut cluster, leader, 600);
    let joined = cluster.join();
    cluster.change(leader, ConfChangeAddLearnerNode, joined, false);
    cluster.settle();
    converge(&mut cluster, joined);
    assert!(cluster.chunks > 0, "a snapshot was needed");
    cluster.kill(joined);
    cluster.start(joined);
    converge(&mut cluster, joined);
}

#[test]
fn a_member_that_is_removed_is_not_sent_to_any_more() {
    let (mut cluster, leader, laggard) = with_laggard(0, 600);
    cluster.isolate(laggard, false);
    cluster.link(leader, laggard, true);
    for _ in 0..50 {
        cluster.now_ms += 100;
        (0..3).for_each(|at| cluster.tick_one(at));
        while cluster.deliver() || cluster.run_jobs() {}
        if !cluster.transfers.is_empty() {
            break;
        }
    }
    let send = cluster.transfers[0].1.clone();
    assert!(!send.is_cancelled());
    cluster.change(leader, ConfChangeRemoveNode, laggard, false);
    while cluster.deliver() {}
    cluster.tick(3);
    assert!(send.is_cancelled(), "its sender is told to stop");
    cluster.put(leader, "after", "3");
    cluster.settle();
}

/// The laggard's machine stops at each of its disk operations in turn, and starts again.
#[test]
fn a_crash_at_any_operation_leaves_the_old_state_or_the_new() {
    let mut op = 0;
    let mut finished = false;
    let mut seen = [0, 0];
    while !finished {
        let (mut cluster, _, laggard) = with_laggard(0, 330);
        let old = cluster.published(laggard).applied_index;
        cluster.isolate(laggard, false);
        let vfs = cluster.hosts[laggard].vfs.clone();
        vfs.crash_after(vfs.ops() + op);
        cluster.tick(30);
        finished = cluster.is_up(laggard);
        cluster.kill(laggard);
        cluster.start(laggard);
        let now = cluster.published(laggard).applied_index;
        seen[usize::from(now > old)] += 1;
        assert!(now <= old || now > old + 250, "after {op} operations the state is at {now}, it was at {old}");
        let logs = names(&cluster, laggard, "").iter().filter(|name| name.starts_with("log.")).count();
        let checkpoints = names(&cluster, laggard, "checkpoint");
        assert!(logs <= 1 && checkpoints.len() <= 1, "after {op} operations there are leftovers: {checkpoints:?}");
        converge(&mut cluster, laggard);
        cluster.kill(laggard);
        cluster.start(laggard);
        converge(&mut cluster, laggard);
        op += 1;
    }
    assert!(seen[0] > 10 && seen[1] > 3, "both outcomes were met: {seen:?} in {op}");
}

/// What one watcher was told.
#[derive(Default)]
struct Told {
    revisions: Vec<i64>,
    compacted: i64,
}

impl Sink for Told {
    fn response(&mut self, _: StreamKey, head: &[u8], events: &bytes::Bytes) {
        let response: WatchResponse = prost::Message::decode(&[head, events].concat()[..]).expect("responses decode");
        self.compacted = self.compacted.max(response.compact_revision);
        self.revisions.extend(response.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision));
    }

    fn broken(&mut self, _: StreamKey, error: &LogError) {
        panic!("{error}");
    }
}

/// A watcher of everything on the laggard, over the snapshot. `compact`: the history it needs is compacted meanwhile.
fn watched(compact: bool) -> (Told, i64) {
    let mut cluster = Cluster::forgetful(3, 20, 0);
    let leader = cluster.elect(None);
    let laggard = (leader + 1) % 3;
    let mut told = Told::default();
    let mut hub = Hub::new(HubOptions::default(), cluster.published(laggard).view.clone(), ORIGIN);
    let stream = hub.open();
    let all = Create { key: b"\0"[..].into(), range_end: b"\0"[..].into(), prev_kv: true, ..Create::default() };
    hub.create(stream, all, &mut told);
    cluster.hosts[laggard].batches.clear();
    cluster.put(leader, "before", "1");
    cluster.settle();
    cluster.tick(2);
    cluster.isolate(laggard, true);
    write(&mut cluster, leader, 600);
    if compact {
        let revision = cluster.published(leader).view.revision() - 10;
        let compaction = Some(Box::new(pb::CompactionRequest { revision, ..Default::default() }));
        cluster.propose(leader, pb::InternalRaftRequest { compaction, ..Default::default() });
        cluster.settle();
        write(&mut cluster, leader, 100);
    }
    converge(&mut cluster, laggard);
    assert!(cluster.chunks > 0, "a snapshot was needed");
    let picture = cluster.published(laggard);
    for batch in std::mem::take(&mut cluster.hosts[laggard].batches) {
        hub.begin_turn(&picture.view, picture.applied_index, ORIGIN);
        hub.deliver(&batch, &mut told);
    }
    while hub.pending() {
        hub.begin_turn(&picture.view, picture.applied_index, ORIGIN);
        hub.turn(&mut told);
    }
    (told, picture.view.revision())
}

#[test]
fn a_watcher_misses_nothing_over_a_snapshot() {
    let (told, revision) = watched(false);
    assert_eq!(told.revisions, (2..=revision).collect::<Vec<_>>());
}

#[test]
fn a_watcher_whose_history_is_compacted_is_told_so() {
    let (told, revision) = watched(true);
    assert_eq!(told.revisions, [2]);
    assert!(told.compacted > 500 && told.compacted < revision);
}
