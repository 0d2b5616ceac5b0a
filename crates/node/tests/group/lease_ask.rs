//! Leases asked about on followers.

use cetera_node::event::{Event, LeaseQuestion, Refusal, Reply, Ticket};

use crate::harness::{Cluster, REQUEST_TICKS, put, seconds};

fn ask(cluster: &mut Cluster, at: usize, question: LeaseQuestion) -> u64 {
    let slot = cluster.id();
    cluster.step(at, vec![Event::Lease(Ticket { front: 0, slot }, question)]);
    slot
}

#[test]
fn a_follower_renews_and_answers_through_the_leader() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    cluster.grant(follower, 9, 60);
    cluster.grant(follower, 7, 20);
    cluster.settle();
    cluster.propose(follower, put("k", "v", 9));
    cluster.tick(seconds(10));
    let renewal = cluster.renew(follower, 9);
    let unknown = cluster.renew(follower, 8);
    cluster.settle();
    assert!(matches!(cluster.answer(follower, renewal), Some(Reply::Renewed { ttl: 60 })));
    assert!(matches!(cluster.answer(follower, unknown), Some(Reply::Renewed { ttl: 0 })));
    let with_keys = ask(&mut cluster, follower, LeaseQuestion::TimeToLive { lease: 9, keys: true });
    let without = ask(&mut cluster, follower, LeaseQuestion::TimeToLive { lease: 7, keys: false });
    let nothing = ask(&mut cluster, follower, LeaseQuestion::TimeToLive { lease: 8, keys: true });
    let all = ask(&mut cluster, follower, LeaseQuestion::Leases);
    cluster.settle();
    assert!(matches!(
        cluster.answer(follower, with_keys),
        Some(Reply::TimeToLive { ttl: 59, granted: 60, keys }) if keys == ["k"]
    ));
    assert!(matches!(
        cluster.answer(follower, without),
        Some(Reply::TimeToLive { ttl: 9, granted: 20, keys }) if keys.is_empty()
    ));
    assert!(matches!(cluster.answer(follower, nothing), Some(Reply::TimeToLive { ttl: -1, granted: 0, .. })));
    assert!(matches!(cluster.answer(follower, all), Some(Reply::Leases(ids)) if ids == [7, 9]));
    cluster.tick(seconds(12));
    let gone = cluster.renew(follower, 7);
    cluster.settle();
    assert!(matches!(cluster.answer(follower, gone), Some(Reply::Renewed { ttl: 0 })));
}

#[test]
fn the_questions_of_a_step_travel_together() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    for lease in 1..=100 {
        cluster.grant(leader, lease, 60);
    }
    cluster.settle();
    let renewals: Vec<(u64, i64)> = (1..=100).map(|lease| (cluster.id(), lease)).collect();
    let renewal =
        |&(slot, lease): &(u64, i64)| cetera_node::event::Renewal { ticket: Ticket { front: 0, slot }, lease };
    cluster.step(follower, vec![Event::Renew(renewals.iter().map(renewal).collect())]);
    assert_eq!(cluster.queue.len(), 1, "one message");
    cluster.settle();
    for (slot, _) in renewals {
        assert!(matches!(cluster.answer(follower, slot), Some(Reply::Renewed { ttl: 60 })));
    }
}

#[test]
fn a_question_lost_on_its_way_is_asked_again_and_answered_once() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    cluster.grant(leader, 9, 60);
    cluster.settle();
    let asked = cluster.renew(follower, 9);
    cluster.queue.clear();
    cluster.link(leader, follower, false);
    cluster.tick(6);
    assert!(cluster.answer(follower, asked).is_none());
    cluster.link(leader, follower, true);
    cluster.tick(7);
    // `answer` sees to it that nothing is answered twice.
    assert!(matches!(cluster.answer(follower, asked), Some(Reply::Renewed { ttl: 60 })));
    cluster.tick(10);
    assert!(cluster.answer(follower, asked).is_none());
}

#[test]
fn a_question_finds_the_next_leader() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    cluster.grant(leader, 9, 60);
    cluster.tick(2);
    cluster.isolate(leader, true);
    let renewal = cluster.renew(follower, 9);
    let question = ask(&mut cluster, follower, LeaseQuestion::Leases);
    cluster.settle();
    assert!(cluster.answer(follower, renewal).is_none());
    cluster.elect(Some(leader));
    cluster.tick(8);
    assert!(matches!(cluster.answer(follower, renewal), Some(Reply::Renewed { ttl: 60 })));
    assert!(matches!(cluster.answer(follower, question), Some(Reply::Leases(ids)) if ids == [9]));
}

#[test]
fn without_a_leader_a_question_is_refused_in_the_end() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    cluster.grant(leader, 9, 60);
    cluster.tick(2);
    cluster.isolate(follower, true);
    cluster.tick(30);
    let renewal = cluster.renew(follower, 9);
    cluster.tick(REQUEST_TICKS - 1);
    assert!(cluster.answer(follower, renewal).is_none());
    cluster.tick(2);
    assert!(matches!(cluster.answer(follower, renewal), Some(Reply::Refused(Refusal::NoLeader))));
}

#[test]
fn a_leader_that_nobody_confirms_renews_for_nobody() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    cluster.grant(leader, 9, 60);
    cluster.tick(2);
    // The follower's word reaches the leader, and nothing else does: it cannot know whether it still leads.
    let own = cluster.renew(leader, 9);
    cluster.queue.clear();
    let asked = cluster.renew(follower, 9);
    let message = cluster.queue.pop_back().expect("the question");
    cluster.queue.clear();
    cluster.isolate(leader, true);
    cluster.step(leader, vec![Event::Peer(vec![message])]);
    cluster.tick(8);
    assert!(cluster.answer(leader, own).is_none() && cluster.answer(follower, asked).is_none());
    cluster.elect(Some(leader));
    cluster.tick(25);
    assert!(matches!(cluster.answer(leader, own), Some(Reply::Refused(Refusal::NotPrimaryLessor))), "L-8");
    assert!(matches!(cluster.answer(follower, asked), Some(Reply::Renewed { ttl: 60 })), "by the next leader");
}

#[test]
fn a_lease_whose_end_is_proposed_is_not_renewed_for_a_follower_either() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.grant(leader, 9, 5);
    cluster.tick(1);
    for at in [follower, other] {
        cluster.hosts[at].stalled = true;
    }
    cluster.tick(seconds(6));
    let late = cluster.renew(follower, 9);
    cluster.tick(3);
    assert!(cluster.answer(follower, late).is_none(), "nobody knows yet what becomes of it");
    for at in [follower, other] {
        cluster.resume_disk(at);
    }
    cluster.tick(2);
    assert!(matches!(cluster.answer(follower, late), Some(Reply::Renewed { ttl: 0 })));
}
