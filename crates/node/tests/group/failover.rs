//! A leader whose process is gone is replaced at once; one that only seems gone is left alone.

use cetera_node::event::{Refusal, Reply};
use cetera_proto::ceterapb::{PeerMessage, peer_message::Body};
use cetera_proto::raftpb::MessageType::MsgVote;

use crate::harness::{Cluster, ELECTION_MS, TICK_MS};

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
fn a_read_at_a_survivor_waits_for_no_retry() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.kill(leader);
    let reads: Vec<(usize, u64)> =
        (0..3).filter(|at| *at != leader).map(|at| (at, cluster.read(at))).collect::<Vec<_>>();
    cluster.pass_ms(TICK_MS - 1);
    for (at, read) in reads {
        assert!(matches!(cluster.answer(at, read), Some(Reply::Read)), "member {at}");
    }
}

#[test]
fn seeing_the_same_loss_again_and_again_does_not_put_it_off() {
    for again_ms in [1, 2, 3, 5, 10] {
        let mut cluster = Cluster::new(3);
        let leader = cluster.elect(None);
        cluster.kill(leader);
        let mut passed_ms = 0;
        while cluster.leader().is_none() {
            cluster.pass_ms(again_ms);
            passed_ms += again_ms;
            assert!(passed_ms < 20, "put off");
            for at in (0..3).filter(|at| *at != leader) {
                cluster.gone(at, leader);
            }
            cluster.settle();
        }
    }
}

#[test]
fn a_candidate_whose_request_for_a_vote_was_lost_stands_again() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.kill(leader);
    let is_vote = |message: &PeerMessage| matches!(&message.body, Some(Body::Raft(it)) if it.r#type() == MsgVote);
    let (mut lost, mut passed_ms) = (0, 0);
    while cluster.leader().is_none() {
        passed_ms += 1;
        assert!(passed_ms < ELECTION_MS / 2, "it waits for an election timeout");
        cluster.now_ms += 1;
        (0..3).filter(|at| *at != leader).for_each(|at| cluster.tick_one(at));
        while let Some(message) = cluster.queue.front() {
            if is_vote(message) && lost < 1 {
                lost += 1;
                cluster.queue.pop_front();
            } else {
                cluster.deliver();
            }
        }
    }
    assert_eq!(lost, 1);
}

#[test]
fn slow_disks_are_given_time_to_vote() {
    for delay_ms in [10, 30, 70] {
        let mut cluster = Cluster::new(3);
        let leader = cluster.elect(None);
        let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
        cluster.kill(leader);
        others.iter().for_each(|at| cluster.hosts[*at].stalled = true);
        let mut passed_ms = 0;
        while cluster.leader().is_none() {
            for _ in 0..delay_ms {
                cluster.pass_ms(1);
            }
            passed_ms += delay_ms;
            assert!(passed_ms < ELECTION_MS * 2 / 3, "nobody leads after {passed_ms} ms with disks of {delay_ms} ms");
            // What was written until now is synced, and the disks begin anew.
            for at in &others {
                cluster.resume_disk(*at);
            }
            cluster.settle();
            others.iter().for_each(|at| cluster.hosts[*at].stalled = true);
        }
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
