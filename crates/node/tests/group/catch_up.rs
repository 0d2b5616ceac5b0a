//! Members that lag behind one that was started anew.

use crate::harness::Cluster;

/// A member misses `entries` writes; the leader takes checkpoints meanwhile and is started anew before it is back.
fn laggard_after_restart(entries: usize) {
    let mut cluster = Cluster::with_checkpoints(3, 12 << 10);
    let leader = cluster.elect(None);
    let (laggard, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.put(leader, "before", "1");
    cluster.settle();
    cluster.isolate(laggard, true);
    for n in 0..entries {
        cluster.put(leader, &format!("key-{}", n % 50), &format!("value-{n:0100}"));
        cluster.settle();
    }
    for at in [leader, other] {
        cluster.crash(at);
        cluster.start(at);
        let checkpoint = cluster.hosts[at].report.checkpoint.expect("checkpoints were taken");
        assert!(checkpoint > cluster.published(laggard).applied_index, "the checkpoint is not past the laggard");
    }
    let next = cluster.elect(None);
    assert_ne!(next, laggard);
    cluster.isolate(laggard, false);
    cluster.tick(30);
    assert!(cluster.value(laggard, "key-0").is_some(), "the laggard never caught up");
    let now = cluster.leader().expect("someone leads");
    cluster.put(now, "after", "2");
    cluster.settle();
    cluster.tick(3);
    cluster.assert_equal();
    assert_eq!(cluster.value(laggard, "after").as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_restarted_leader_serves_one_that_lags() {
    laggard_after_restart(600);
}

#[test]
fn the_log_on_disk_of_a_group_is_bounded_and_a_single_member_keeps_none_of_it() {
    let grown = |members: usize, entries: usize| {
        let mut cluster = Cluster::with_checkpoints(members, 12 << 10);
        let leader = cluster.elect(None);
        for n in 0..entries {
            cluster.put(leader, &format!("key-{}", n % 50), "v");
            cluster.settle();
        }
        cluster.wal_bytes(leader)
    };
    let kept = grown(3, 6_000);
    assert!(kept > 500_000, "a group keeps what it keeps in memory, not {kept} bytes");
    assert!(grown(3, 9_000) < kept + (64 << 10), "the log grows without end");
    let single = grown(1, 6_000);
    assert!(single < 64 << 10, "{single} bytes kept for nobody");
}
