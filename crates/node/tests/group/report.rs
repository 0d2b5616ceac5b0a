//! Members whose states differ find out, and the wrong one keeps to itself.

use std::collections::BTreeSet;

use cetera_node::event::{Refusal, Reply};
use cetera_proto::etcdserverpb::{self as pb, AlarmType};
use cetera_state::{ApplyError, StateHash};

use crate::harness::Cluster;

const REPORTS: usize = 45;

fn compact(cluster: &mut Cluster, at: usize, revision: i64) {
    let compaction = Some(Box::new(pb::CompactionRequest { revision, physical: false }));
    cluster.propose(at, pb::InternalRaftRequest { compaction, ..Default::default() });
}

/// One value reaches a member wrong.
fn spoil(cluster: &mut Cluster, leader: usize, at: usize) {
    cluster.tamper = Some((at, b"right", b"wrong"));
    cluster.put(leader, "a", "right");
    cluster.settle();
    cluster.tamper = None;
    assert_eq!(cluster.value(at, "a").as_deref(), Some(&b"wrong"[..]));
}

fn fenced(cluster: &Cluster) -> Vec<usize> {
    (0..cluster.hosts.len()).filter(|at| cluster.published(*at).fenced).collect()
}

#[test]
fn a_member_that_differs_from_a_majority_serves_nobody_and_the_others_go_on() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let (wrong, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.lose_snapshots = true;
    spoil(&mut cluster, leader, wrong);
    cluster.tick(REPORTS);
    assert_eq!(fenced(&cluster), [wrong]);
    let (read, write) = (cluster.read(wrong), cluster.put(wrong, "b", "1"));
    assert!(matches!(cluster.answer(wrong, read), Some(Reply::Refused(Refusal::Corrupt))));
    assert!(matches!(cluster.answer(wrong, write), Some(Reply::Refused(Refusal::Corrupt))));
    let (read, write) = (cluster.read(other), cluster.put(other, "b", "1"));
    cluster.tick(2);
    assert!(matches!(cluster.answer(other, read), Some(Reply::Read)));
    assert!(matches!(cluster.answer(other, write), Some(Reply::Applied(Ok(_)))));
    assert!(cluster.published(leader).alarms.is_empty(), "one is wrong and known: no reason to stop them all");
}

#[test]
fn a_fenced_member_votes_and_does_not_lead() {
    let mut cluster = Cluster::new(3);
    cluster.lose_snapshots = true;
    let leader = cluster.elect(None);
    let (wrong, other) = ((leader + 1) % 3, (leader + 2) % 3);
    spoil(&mut cluster, leader, wrong);
    cluster.tick(REPORTS);
    assert_eq!(fenced(&cluster), [wrong]);
    cluster.crash(leader);
    for _ in 0..60 {
        cluster.tick(1);
        assert_ne!(cluster.leader(), Some(wrong));
    }
    assert_eq!(cluster.leader(), Some(other));
}

#[test]
fn a_leader_that_differs_hands_leadership_on() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let wrong = (leader + 1) % 3;
    spoil(&mut cluster, leader, wrong);
    cluster.transfer(leader, Some(wrong));
    cluster.settle();
    assert_eq!(cluster.leader(), Some(wrong));
    cluster.lose_snapshots = true;
    cluster.tick(REPORTS);
    assert_eq!(fenced(&cluster), [wrong]);
    let next = cluster.leader().expect("someone leads");
    assert_ne!(next, wrong);
    let write = cluster.put(next, "b", "1");
    cluster.tick(2);
    assert!(matches!(cluster.answer(next, write), Some(Reply::Applied(Ok(_)))));
}

#[test]
fn a_member_that_went_wrong_is_given_the_state_of_the_leader() {
    for busy in [false, true] {
        let mut cluster = Cluster::with_checkpoints(3, 12 << 10);
        let leader = cluster.elect(None);
        let wrong = (leader + 1) % 3;
        for n in 0..50 {
            cluster.put(leader, &format!("k{n}"), "v");
        }
        cluster.tick(2);
        spoil(&mut cluster, leader, wrong);
        let mut was_fenced = false;
        for n in 0..4 * REPORTS {
            if busy {
                cluster.put((leader + 2) % 3, "k", &n.to_string());
                cluster.put(leader, "l", &n.to_string());
            }
            cluster.tick(1);
            was_fenced |= cluster.published(wrong).fenced;
        }
        assert!(was_fenced && fenced(&cluster).is_empty(), "busy: {busy}");
        cluster.tick(10);
        cluster.assert_equal();
        assert_eq!(cluster.value(wrong, "a").as_deref(), Some(&b"right"[..]));
        let (read, write) = (cluster.read(wrong), cluster.put(wrong, "b", "1"));
        cluster.tick(2);
        assert!(matches!(cluster.answer(wrong, read), Some(Reply::Read)));
        assert!(matches!(cluster.answer(wrong, write), Some(Reply::Applied(Ok(_)))));
        let evidence = cluster.files(wrong, cetera_node::evidence::DIRECTORY);
        assert!(evidence.iter().any(|name| name.contains("log")), "{evidence:?}");
        // It counts again: with it, and without another one.
        cluster.isolate((leader + 2) % 3, true);
        let write = cluster.put(leader, "b", "2");
        cluster.tick(3);
        assert!(matches!(cluster.answer(leader, write), Some(Reply::Applied(Ok(_)))));
        cluster.isolate((leader + 2) % 3, false);
        cluster.crash(wrong);
        cluster.start(wrong);
        cluster.tick(3 * REPORTS);
        cluster.assert_equal();
        assert!(fenced(&cluster).is_empty());
    }
}

#[test]
fn a_difference_under_steady_writes_is_found_too() {
    let mut cluster = Cluster::new(3);
    cluster.lose_snapshots = true;
    let leader = cluster.elect(None);
    let wrong = (leader + 1) % 3;
    spoil(&mut cluster, leader, wrong);
    for n in 0..REPORTS {
        for m in 0..7 {
            cluster.put(leader, "k", &format!("{n}-{m}"));
        }
        cluster.tick(1);
    }
    assert_eq!(fenced(&cluster), [wrong]);
}

#[test]
fn of_two_that_differ_nobody_is_right_and_writes_stop() {
    let mut cluster = Cluster::new(2);
    let leader = cluster.elect(None);
    spoil(&mut cluster, leader, 1 - leader);
    cluster.tick(REPORTS);
    assert!(fenced(&cluster).is_empty());
    for at in 0..2 {
        let alarms = cluster.published(at).alarms.clone();
        assert!(
            matches!(&alarms[..], [it] if it.member_id == 0 && it.alarm == AlarmType::Corrupt as i32),
            "{alarms:?}"
        );
    }
    let write = cluster.put(leader, "b", "1");
    cluster.tick(2);
    assert!(matches!(cluster.answer(leader, write), Some(Reply::Applied(Err(ApplyError::Corrupt)))));
}

#[test]
fn with_one_silent_two_that_differ_wait_for_it_for_a_while() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let (wrong, silent) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.lose_snapshots = true;
    cluster.isolate(silent, true);
    spoil(&mut cluster, leader, wrong);
    cluster.tick(200);
    assert!(fenced(&cluster).is_empty() && cluster.published(leader).alarms.is_empty(), "the third may know");
    cluster.isolate(silent, false);
    cluster.tick(REPORTS);
    assert_eq!(fenced(&cluster), [wrong]);
    // And for not longer than that.
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.isolate((leader + 2) % 3, true);
    spoil(&mut cluster, leader, (leader + 1) % 3);
    cluster.tick(700);
    assert_eq!(cluster.published(leader).alarms.len(), 1);
}

#[test]
fn equal_members_find_nothing_whatever_they_are_at() {
    let mut cluster = Cluster::with_checkpoints(3, 12 << 10);
    let leader = cluster.elect(None);
    for n in 0..600 {
        cluster.put(n % 3, &format!("k{}", n % 17), &n.to_string());
        cluster.grant(leader, 1 + n as i64, 20 + n as i64);
        if n % 50 == 49 {
            let revision = cluster.published(leader).view.revision();
            compact(&mut cluster, leader, revision - 20);
        }
        if n % 200 == 100 {
            cluster.crash((leader + 1) % 3);
            cluster.start((leader + 1) % 3);
        }
        cluster.tick(1);
    }
    cluster.tick(REPORTS);
    assert!(fenced(&cluster).is_empty());
    assert!(cluster.published(leader).alarms.is_empty());
}

/// With `--features plants`: entries that one member passes over.
#[cfg(feature = "plants")]
#[test]
fn a_member_that_passed_over_an_entry_is_found() {
    use cetera_plant::{Bug, plant};
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.lose_snapshots = true;
    plant(Some(Bug::ApplyDependsOnMember));
    // Member 1 passes over entry 129; what the others pass over changes nothing.
    while cluster.published(leader).applied_index < 129 {
        cluster.put(leader, "k", "v");
        cluster.settle();
    }
    for _ in 0..6 {
        let lease_revoke = Some(Box::new(pb::LeaseRevokeRequest { id: 99 }));
        cluster.propose(leader, pb::InternalRaftRequest { lease_revoke, ..Default::default() });
        cluster.settle();
    }
    plant(None);
    cluster.tick(REPORTS);
    assert_eq!(fenced(&cluster), [0]);
}

#[test]
fn every_picture_has_the_hash_of_its_own_state() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let told = |cluster: &Cluster| -> Vec<(u64, StateHash)> {
        let pictures = (0..3).map(|at| cluster.published(at));
        pictures.map(|picture| (picture.applied_index, picture.state_hash)).collect()
    };
    let mut seen = BTreeSet::new();
    for n in 0..20 {
        cluster.put(leader, "a", &n.to_string());
        if n == 10 {
            compact(&mut cluster, leader, 5);
        }
        cluster.tick(1);
        cluster.settle();
        for (at, picture) in told(&cluster).into_iter().enumerate() {
            let state = cluster.node(at).state();
            assert_eq!(picture, (state.applied_index(), state.hash()), "put {n}, member {at}");
        }
        assert!(seen.insert(told(&cluster)[leader].1.sum), "put {n} leaves the hash as it was");
    }
    cluster.tick(5);
    assert!(told(&cluster).iter().all(|(_, hash)| hash.finished == 5), "the pass is over, and the pictures say so");
    assert!(told(&cluster).windows(2).all(|pair| pair[0] == pair[1]), "{:?}", told(&cluster));
}
