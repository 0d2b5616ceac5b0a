//! A leader whose process is gone is replaced at once; one that only seems gone is left alone.

use cetera_node::event::{Refusal, Reply};

use crate::harness::{Cluster, TICK_MS};

#[test]
fn a_killed_leader_is_replaced_long_before_the_election_timeout() {
    for members in [3, 5] {
        let mut within = Vec::new();
        for round in 0..20u64 {
            let mut cluster = Cluster::new(members);
            for _ in 0..round {
                cluster.id();
            }
            let leader = cluster.elect(None);
            cluster.tick((round % 7) as usize);
            let write = cluster.put(leader, "a", "1");
            cluster.settle();
            assert!(matches!(cluster.answer(leader, write), Some(Reply::Applied(Ok(_)))));
            cluster.kill(leader);
            let killed_ms = cluster.now_ms;
            let follower = (leader + 1) % members;
            let meanwhile = cluster.put(follower, "a", "2");
            while cluster.leader().is_none() {
                cluster.pass_ms(1);
                assert!(cluster.now_ms < killed_ms + TICK_MS, "nobody leads {} ms later", cluster.now_ms - killed_ms);
            }
            within.push(cluster.now_ms - killed_ms);
            cluster.tick(2);
            assert!(matches!(cluster.answer(follower, meanwhile), Some(Reply::Applied(Ok(_)))), "lost in between");
            cluster.start(leader);
            cluster.tick(20);
            cluster.assert_equal();
        }
        within.sort_unstable();
        assert!(within[within.len() / 2] <= 15, "{within:?}");
    }
}

#[test]
fn one_that_alone_lost_its_connection_disturbs_nobody() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let (alone, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let term = cluster.published(leader).term;
    cluster.gone(alone, leader);
    cluster.pass_ms(TICK_MS);
    cluster.tick(30);
    assert_eq!(
        (cluster.leader(), cluster.published(leader).term),
        (Some(leader), term),
        "a healthy leader was deposed"
    );
    assert_eq!(cluster.published(alone).leader, leader as u64 + 1, "it found back");
    assert_eq!(cluster.published(other).term, term);
}

#[test]
fn a_leader_that_is_heard_again_keeps_its_place() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let term = cluster.published(leader).term;
    for at in (0..3).filter(|at| *at != leader) {
        cluster.gone(at, leader);
    }
    // Its heartbeat comes before either stands.
    cluster.now_ms += TICK_MS;
    cluster.tick_one(leader);
    cluster.settle();
    cluster.pass_ms(TICK_MS);
    cluster.tick(30);
    assert_eq!((cluster.leader(), cluster.published(leader).term), (Some(leader), term));
}

#[test]
fn the_one_with_the_longer_log_wins_whoever_stands_first() {
    for round in 0..20 {
        let mut cluster = Cluster::new(3);
        let leader = cluster.elect(None);
        cluster.tick(round);
        let (behind, ahead) = ((leader + 1) % 3, (leader + 2) % 3);
        cluster.isolate(behind, true);
        cluster.put(leader, "a", "1");
        cluster.settle();
        cluster.isolate(behind, false);
        cluster.kill(leader);
        cluster.pass_ms(TICK_MS - 1);
        assert_eq!(cluster.leader(), Some(ahead));
        assert_eq!(cluster.value(ahead, "a").as_deref(), Some(&b"1"[..]));
    }
}

#[test]
fn without_a_majority_it_comes_to_rest() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let (dead, left) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(dead);
    cluster.kill(leader);
    let term = cluster.published(left).term;
    let write = cluster.put(left, "a", "1");
    for _ in 0..20 {
        cluster.pass_ms(TICK_MS);
    }
    assert_eq!((cluster.leader(), cluster.published(left).term), (None, term), "a pre-vote costs no term");
    assert!(cluster.published(left).no_leader_since_ms.is_some());
    cluster.tick(80);
    assert!(matches!(cluster.answer(left, write), Some(Reply::Refused(Refusal::DeadlineExceeded))));
}
