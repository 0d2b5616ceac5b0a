//! Slow disks, failed logs, lost leaders: who goes on and what is still acknowledged.

use cetera_node::event::{Event, Refusal, Reply};

use crate::harness::Cluster;

#[test]
fn a_leader_whose_log_failed_leads_nobody() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.grant(leader, 9, 60);
    cluster.settle();
    cluster.hosts[leader].stalled = true;
    let (write, read) = (cluster.put(leader, "a", "1"), cluster.read(leader));
    cluster.queue.clear();
    cluster.step(leader, vec![Event::LogFailed]);
    assert!(matches!(cluster.answer(leader, write), Some(Reply::Refused(Refusal::Timeout))), "its outcome is unknown");
    assert!(matches!(cluster.answer(leader, read), Some(Reply::Refused(Refusal::NoLeader))));
    assert!(cluster.queue.is_empty());
    assert_eq!(cluster.published(leader).leader, 0);
    cluster.tick_one(leader);
    assert!(cluster.queue.is_empty(), "it still sends heartbeats");
    let next = cluster.elect(Some(leader));
    let acknowledged = cluster.put(next, "b", "2");
    cluster.settle();
    assert!(matches!(cluster.answer(next, acknowledged), Some(Reply::Applied(Ok(_)))));
    let (write, read, renewal) = (cluster.put(leader, "c", "3"), cluster.read(leader), cluster.renew(leader, 9));
    assert!(matches!(cluster.answer(leader, write), Some(Reply::Refused(Refusal::Stopped))));
    assert!(matches!(cluster.answer(leader, read), Some(Reply::Refused(Refusal::NoLeader))));
    assert!(matches!(cluster.answer(leader, renewal), Some(Reply::Refused(Refusal::NoLeader))));
    // Started anew it is a member like any other.
    cluster.crash(leader);
    cluster.start(leader);
    cluster.tick(30);
    cluster.assert_equal();
    assert_eq!((cluster.value(leader, "b").as_deref(), cluster.value(leader, "c")), (Some(&b"2"[..]), None));
}

#[test]
fn a_follower_whose_log_failed_neither_acknowledges_nor_votes() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let (failed, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.hosts[failed].stalled = true;
    cluster.step(failed, vec![Event::LogFailed]);
    let with_two = cluster.put(leader, "a", "1");
    cluster.settle();
    assert!(matches!(cluster.answer(leader, with_two), Some(Reply::Applied(Ok(_)))));
    cluster.isolate(other, true);
    let with_one = cluster.put(leader, "b", "2");
    cluster.settle();
    cluster.tick(3);
    assert!(cluster.answer(leader, with_one).is_none(), "acknowledged by a member that cannot remember it");
    // The leader goes, the other one is back: alone with the failed member it must not win.
    cluster.isolate(leader, true);
    cluster.isolate(other, false);
    cluster.link(other, leader, false);
    cluster.link(leader, other, false);
    cluster.tick(50);
    assert_eq!(cluster.published(other).leader, 0);
}

#[test]
fn slow_disks_delay_writes_and_neither_reads_nor_heartbeats() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let term = cluster.published(leader).term;
    // The second one carries to the followers that the first is committed: that is no change of a vote.
    cluster.put(leader, "a", "0");
    while cluster.deliver() {}
    for at in (0..3).filter(|at| *at != leader) {
        cluster.hosts[at].stalled = true;
    }
    let write = cluster.put(leader, "a", "1");
    cluster.tick(5);
    let reads: Vec<(usize, u64)> = (0..3).map(|at| (at, cluster.read(at))).collect();
    cluster.tick(40);
    assert_eq!((cluster.leader(), cluster.published(leader).term), (Some(leader), term), "the leader was deposed");
    assert!(cluster.answer(leader, write).is_none());
    for (at, read) in reads {
        assert!(matches!(cluster.answer(at, read), Some(Reply::Read)), "member {at} serves no read");
    }
    for at in 0..3 {
        cluster.resume_disk(at);
    }
    cluster.tick(2);
    assert!(matches!(cluster.answer(leader, write), Some(Reply::Applied(Ok(_)))));
}

#[test]
fn a_leader_whose_disk_stands_still_lets_another_lead() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.hosts[leader].stalled = true;
    let at_leader = cluster.put(leader, "a", "1");
    cluster.tick(10);
    assert_eq!(cluster.leader(), Some(leader), "a slow write is no reason yet");
    let next = cluster.elect(Some(leader));
    let (write, read) = (cluster.put(next, "b", "2"), cluster.read(next));
    cluster.tick(2);
    assert!(matches!(cluster.answer(next, write), Some(Reply::Applied(Ok(_)))));
    assert!(matches!(cluster.answer(next, read), Some(Reply::Read)));
    cluster.tick(20);
    assert_eq!(cluster.leader(), Some(next));
    cluster.resume_disk(leader);
    cluster.tick(5);
    assert!(matches!(cluster.answer(leader, at_leader), Some(Reply::Applied(Ok(_)))), "the others had it");
    cluster.assert_equal();
}

#[test]
fn a_suffix_that_was_never_committed_is_gone_after_a_restart_too() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.put(leader, "a", "1");
    cluster.settle();
    cluster.isolate(leader, true);
    for n in 0..20 {
        cluster.put(leader, "a", &format!("lost-{n}"));
    }
    let next = cluster.elect(Some(leader));
    for n in 0..5 {
        cluster.put(next, &format!("b-{n}"), "2");
    }
    cluster.settle();
    cluster.isolate(leader, false);
    cluster.tick(30);
    for at in 0..3 {
        cluster.crash(at);
    }
    for at in 0..3 {
        cluster.start(at);
    }
    cluster.elect(None);
    cluster.tick(3);
    cluster.assert_equal();
    assert_eq!(cluster.value(leader, "a").as_deref(), Some(&b"1"[..]));
    assert_eq!(cluster.value(leader, "b-4").as_deref(), Some(&b"2"[..]));
}

#[test]
fn five_members_go_on_without_two() {
    let mut cluster = Cluster::new(5);
    let leader = cluster.elect(None);
    cluster.crash(leader);
    let next = cluster.elect(Some(leader));
    let gone = (0..5).find(|at| *at != leader && *at != next).expect("there are five");
    cluster.isolate(gone, true);
    let write = cluster.put(next, "a", "1");
    cluster.settle();
    assert!(matches!(cluster.answer(next, write), Some(Reply::Applied(Ok(_)))));
    cluster.start(leader);
    cluster.isolate(gone, false);
    cluster.tick(40);
    cluster.assert_equal();
}

#[test]
fn a_leader_that_slept_reads_nothing_old() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.put(leader, "a", "1");
    cluster.settle();
    cluster.hosts[leader].paused = true;
    let next = cluster.elect(Some(leader));
    cluster.put(next, "a", "2");
    cluster.tick(50);
    cluster.hosts[leader].paused = false;
    let read = cluster.read(leader);
    cluster.tick_one(leader);
    assert!(cluster.answer(leader, read).is_none(), "nobody has confirmed that it still leads");
    cluster.settle();
    cluster.tick(10);
    assert!(matches!(cluster.answer(leader, read), Some(Reply::Read)));
    assert_eq!(cluster.value(leader, "a").as_deref(), Some(&b"2"[..]));
}
