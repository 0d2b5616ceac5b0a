//! Time over leases in a group: who holds it, and what a successor gives.

use cetera_node::event::{Event, LeaseQuestion, Reply, Ticket};
use cetera_proto::etcdserverpb as pb;

use crate::harness::{Cluster, ELECTION_MS, TICK_MS, put, seconds};

fn time_to_live(cluster: &mut Cluster, at: usize, lease: i64) -> Option<Reply> {
    let slot = cluster.id();
    let question = LeaseQuestion::TimeToLive { lease, keys: true };
    cluster.step(at, vec![Event::Lease(Ticket { front: 0, slot }, question)]);
    cluster.settle();
    cluster.answer(at, slot)
}

#[test]
fn a_lease_ends_on_all_members_once_its_time_is_up() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.grant((leader + 1) % 3, 9, 5);
    cluster.settle();
    cluster.propose((leader + 2) % 3, put("k", "v", 9));
    cluster.tick(1);
    assert!(matches!(
        time_to_live(&mut cluster, leader, 9),
        Some(Reply::TimeToLive { ttl: 4, granted: 5, keys }) if keys == ["k"]
    ));
    cluster.tick(seconds(4));
    assert!(cluster.value(leader, "k").is_some());
    cluster.tick(seconds(2));
    for at in 0..3 {
        assert_eq!(cluster.value(at, "k"), None);
    }
    assert!(matches!(time_to_live(&mut cluster, leader, 9), Some(Reply::TimeToLive { ttl: -1, .. })));
    assert!(matches!(time_to_live(&mut cluster, (leader + 1) % 3, 9), Some(Reply::TimeToLive { ttl: -1, .. })));
}

#[test]
fn a_leader_whose_disk_is_behind_ends_no_lease_that_was_granted_anew() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let other = (leader + 1) % 3;
    cluster.grant(leader, 9, 5);
    cluster.tick(seconds(5) - 2);
    cluster.hosts[leader].stalled = true;
    grant_anew(&mut cluster, other, 5);
    assert!(cluster.value(other, "k").is_some(), "the others are enough to commit it");
    assert!(cluster.value(leader, "k").is_none(), "the leader does not know yet");
    cluster.tick(5);
    assert_eq!(cluster.leader(), Some(leader));
    cluster.resume_disk(leader);
    cluster.tick(seconds(4));
    assert!(cluster.value(other, "k").is_some(), "its lease ended with the time of the one before it");
    cluster.tick(seconds(3));
    assert_eq!(cluster.value(other, "k"), None);
}

/// Revokes lease 9, grants it anew and hangs a key on it.
fn grant_anew(cluster: &mut Cluster, at: usize, ttl: i64) {
    let lease_revoke = Some(Box::new(pb::LeaseRevokeRequest { id: 9 }));
    cluster.propose(at, pb::InternalRaftRequest { lease_revoke, ..Default::default() });
    cluster.grant(at, 9, ttl);
    cluster.propose(at, put("k", "v", 9));
    cluster.settle();
}

#[test]
fn a_leader_ends_no_lease_that_is_granted_anew_by_what_is_not_committed_yet() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    cluster.grant(leader, 9, 5);
    cluster.tick(seconds(5) - 2);
    for at in others {
        cluster.hosts[at].stalled = true;
    }
    grant_anew(&mut cluster, leader, 5);
    cluster.tick(5);
    assert!(cluster.value(leader, "k").is_none(), "nobody has it on disk but the leader");
    for at in others {
        cluster.resume_disk(at);
    }
    cluster.tick(seconds(4));
    assert_eq!(cluster.leader(), Some(leader));
    assert!(cluster.value(leader, "k").is_some(), "its lease ended with the time of the one before it");
    cluster.tick(seconds(3));
    assert_eq!(cluster.value(leader, "k"), None);
    cluster.assert_equal();
}

#[test]
fn a_leader_whose_disk_is_behind_ends_leases_all_the_same() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let other = (leader + 1) % 3;
    cluster.grant(leader, 9, 5);
    cluster.propose(leader, put("k", "v", 9));
    cluster.tick(seconds(5) - 2);
    cluster.hosts[leader].stalled = true;
    for _ in 0..5 {
        cluster.propose(other, put("load", "v", 0));
        cluster.tick(1);
    }
    assert!(cluster.value(leader, "load").is_none(), "the leader is behind all the time");
    assert_eq!(cluster.value(other, "k"), None, "the others are enough to end a lease");
    assert_eq!(cluster.leader(), Some(leader));
}

#[test]
fn what_is_left_of_a_lease_is_not_recorded_of_the_one_that_is_granted_after_it() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    cluster.grant(leader, 9, 80);
    cluster.tick(seconds(40) - 2);
    assert_eq!(recorded(&cluster, leader, 9), 0);
    for at in others {
        cluster.hosts[at].stalled = true;
    }
    grant_anew(&mut cluster, leader, 80);
    cluster.tick(12);
    for at in others {
        cluster.resume_disk(at);
    }
    cluster.tick(2);
    assert!(cluster.value(leader, "k").is_some());
    assert_eq!(recorded(&cluster, leader, 9), 0, "a successor would count from the other one's time");
}

#[test]
fn a_leader_that_was_left_behind_ends_no_lease() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.grant(leader, 9, 5);
    cluster.propose(leader, put("k", "v", 9));
    cluster.tick(seconds(4));
    cluster.isolate(leader, true);
    // Alone it still thinks it leads when the time is up, and proposes the end of the lease to itself.
    cluster.tick(8);
    let next = cluster.elect(Some(leader));
    let renewed = cluster.renew(next, 9);
    cluster.tick(3);
    assert!(matches!(cluster.answer(next, renewed), Some(Reply::Renewed { ttl: 5 })));
    cluster.tick(seconds(2));
    cluster.isolate(leader, false);
    cluster.tick(seconds(2));
    for at in 0..3 {
        assert!(cluster.value(at, "k").is_some(), "member {at} lost the key of a lease that was renewed");
    }
    cluster.tick(seconds(3));
    cluster.assert_equal();
    assert_eq!(cluster.value(next, "k"), None);
}

#[test]
fn a_successor_gives_the_whole_time_and_what_it_took_to_elect_it() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.grant(leader, 9, 5);
    cluster.propose(leader, put("k", "v", 9));
    cluster.tick(seconds(3));
    let renewed = cluster.renew(leader, 9);
    cluster.settle();
    assert!(matches!(cluster.answer(leader, renewed), Some(Reply::Renewed { ttl: 5 })));
    cluster.crash(leader);
    let next = cluster.elect(Some(leader));
    cluster.tick(seconds(5) - 1);
    assert!(cluster.value(next, "k").is_some(), "the successor counted from the grant");
    cluster.tick((ELECTION_MS / TICK_MS) as usize + 3);
    assert_eq!(cluster.value(next, "k"), None);
}

#[test]
fn a_lease_whose_end_is_proposed_is_not_renewed() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.grant(leader, 9, 5);
    cluster.propose(leader, put("k", "v", 9));
    cluster.tick(1);
    for at in (0..3).filter(|at| *at != leader) {
        cluster.hosts[at].stalled = true;
    }
    cluster.tick(seconds(6));
    let late = cluster.renew(leader, 9);
    cluster.tick(3);
    assert!(cluster.answer(leader, late).is_none(), "nobody knows yet what becomes of it");
    for at in 0..3 {
        cluster.resume_disk(at);
    }
    cluster.tick(2);
    assert!(matches!(cluster.answer(leader, late), Some(Reply::Renewed { ttl: 0 })));
    assert_eq!(cluster.value(leader, "k"), None);
}

#[test]
fn a_grant_acknowledged_elsewhere_is_known_to_the_lessor() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    // The leader's disk is slow: the others commit and apply before it does.
    cluster.hosts[leader].stalled = true;
    let grant = cluster.grant(follower, 9, 60);
    cluster.tick(2);
    assert!(matches!(cluster.answer(follower, grant), Some(Reply::Applied(Ok(_)))));
    let renewal = cluster.renew(leader, 9);
    assert!(time_to_live(&mut cluster, leader, 9).is_none(), "answered before the grant is applied here");
    cluster.resume_disk(leader);
    cluster.tick(1);
    assert!(matches!(cluster.answer(leader, renewal), Some(Reply::Renewed { ttl: 60 })));
}

/// What the log says is left of a lease.
fn recorded(cluster: &Cluster, at: usize, lease: i64) -> i64 {
    cluster.node(at).state().leases().get(lease).expect("the lease is there").remaining_ttl
}

#[test]
fn a_lease_that_nobody_renews_is_recorded_and_a_successor_counts_from_there() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.grant(leader, 9, 80);
    cluster.propose(leader, put("k", "v", 9));
    cluster.tick(seconds(39));
    assert_eq!(recorded(&cluster, leader, 9), 0, "half of its time is not over");
    cluster.tick(seconds(3));
    for at in 0..3 {
        assert_eq!(recorded(&cluster, at, 9), 40);
    }
    cluster.tick(seconds(30));
    let left = recorded(&cluster, leader, 9);
    assert!((10..=20).contains(&left), "{left}");
    cluster.crash(leader);
    let died_ms = cluster.now_ms;
    let next = cluster.elect(Some(leader));
    let until = cluster.now_ms;
    assert!(matches!(
        time_to_live(&mut cluster, next, 9),
        Some(Reply::TimeToLive { ttl, granted: 80, .. }) if (left..=left + 1).contains(&ttl)
    ));
    // 80 seconds from the grant are never cut short, and not much is added to them.
    while cluster.value(next, "k").is_some() {
        cluster.tick(1);
        assert!(cluster.now_ms < until + 25_000, "a full time again");
    }
    assert!(cluster.now_ms >= died_ms + 7_000, "early");
    cluster.start(leader);
    cluster.tick(30);
    cluster.assert_equal();
}

#[test]
fn a_lease_that_is_renewed_is_never_recorded() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.grant(leader, 9, 60);
    cluster.settle();
    for _ in 0..12 {
        cluster.tick(seconds(20));
        cluster.renew(leader, 9);
        cluster.settle();
        assert_eq!(recorded(&cluster, leader, 9), 0);
    }
}

#[test]
fn a_renewal_of_a_recorded_lease_is_acknowledged_once_the_record_is_gone() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.grant(leader, 9, 60);
    cluster.propose(leader, put("k", "v", 9));
    cluster.tick(seconds(50));
    assert!(recorded(&cluster, leader, 9) > 0);
    for at in [follower, other] {
        cluster.hosts[at].stalled = true;
    }
    let (own, asked) = (cluster.renew(leader, 9), cluster.renew(follower, 9));
    cluster.tick(2);
    assert!(cluster.answer(leader, own).is_none(), "a successor would count from the record");
    assert!(cluster.answer(follower, asked).is_none());
    for at in [follower, other] {
        cluster.resume_disk(at);
    }
    cluster.tick(1);
    assert!(matches!(cluster.answer(leader, own), Some(Reply::Renewed { ttl: 60 })));
    assert!(matches!(cluster.answer(follower, asked), Some(Reply::Renewed { ttl: 60 })));
    assert_eq!(recorded(&cluster, leader, 9), 0);
    let renewed_ms = cluster.now_ms;
    cluster.crash(leader);
    let next = cluster.elect(Some(leader));
    while cluster.value(next, "k").is_some() {
        cluster.tick(1);
    }
    assert!(cluster.now_ms >= renewed_ms + 60_000 - TICK_MS, "a renewed lease ended early");
}

#[test]
fn a_record_that_is_being_cleared_when_the_leader_goes_is_acknowledged_by_nobody() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.grant(leader, 9, 60);
    cluster.tick(seconds(50));
    cluster.isolate(leader, true);
    let renewal = cluster.renew(leader, 9);
    let next = cluster.elect(Some(leader));
    cluster.tick(3);
    cluster.isolate(leader, false);
    cluster.tick(20);
    let answer = cluster.answer(leader, renewal);
    assert!(matches!(answer, Some(Reply::Refused(_))), "{answer:?}");
    let again = cluster.renew(next, 9);
    cluster.tick(2);
    assert!(matches!(cluster.answer(next, again), Some(Reply::Renewed { ttl: 60 })));
    cluster.assert_equal();
}
