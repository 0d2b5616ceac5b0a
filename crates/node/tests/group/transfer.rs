//! Leadership handed on.

use cetera_node::event::{Refusal, Reply};
use cetera_proto::raftpb::ConfChangeType::ConfChangeAddLearnerNode;

use crate::harness::{Cluster, ELECTION_MS, TICK_MS};

#[test]
fn leadership_goes_where_it_is_sent_without_an_election_timeout() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let to = (leader + 1) % 3;
    let term = cluster.published(leader).term;
    let slot = cluster.transfer(leader, Some(to));
    cluster.settle();
    assert!(matches!(cluster.answer(leader, slot), Some(Reply::Transferred(id)) if id == to as u64 + 1));
    assert_eq!((cluster.leader(), cluster.published(to).term), (Some(to), term + 1));
    assert!(cluster.published(to).no_leader_since_ms.is_none());
    cluster.tick(1);
    let write = cluster.put(to, "a", "1");
    cluster.settle();
    assert!(matches!(cluster.answer(to, write), Some(Reply::Applied(Ok(_)))));
}

#[test]
fn writes_that_arrive_during_a_hand_over_are_done_by_the_successor() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let to = (leader + 1) % 3;
    cluster.transfer(leader, Some(to));
    let meanwhile = cluster.put(leader, "a", "1");
    assert!(cluster.answer(leader, meanwhile).is_none(), "refused for a hand-over");
    cluster.settle();
    cluster.tick(2);
    assert!(matches!(cluster.answer(leader, meanwhile), Some(Reply::Applied(Ok(_)))));
    assert_eq!(cluster.leader(), Some(to));
    cluster.assert_equal();
}

#[test]
fn of_its_own_choice_a_leader_takes_the_one_furthest_ahead_that_is_there() {
    let mut cluster = Cluster::new(5);
    let leader = cluster.elect(None);
    let others: Vec<usize> = (0..5).filter(|at| *at != leader).collect();
    cluster.isolate(others[0], true);
    cluster.hosts[others[1]].stalled = true;
    cluster.hosts[others[2]].stalled = true;
    cluster.tick((ELECTION_MS / TICK_MS) as usize + 1);
    cluster.put(leader, "a", "1");
    cluster.settle();
    let slot = cluster.transfer(leader, None);
    cluster.resume_disk(others[1]);
    cluster.resume_disk(others[2]);
    cluster.settle();
    assert!(matches!(cluster.answer(leader, slot), Some(Reply::Transferred(id)) if id == others[3] as u64 + 1));
}

#[test]
fn a_hand_over_that_comes_to_nothing_is_given_up_and_said() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let to = (leader + 1) % 3;
    cluster.isolate(to, true);
    let slot = cluster.transfer(leader, Some(to));
    let meanwhile = cluster.put(leader, "a", "1");
    cluster.tick((ELECTION_MS / TICK_MS) as usize + 1);
    assert!(matches!(cluster.answer(leader, slot), Some(Reply::Refused(Refusal::Timeout))));
    cluster.tick(1);
    assert!(matches!(cluster.answer(leader, meanwhile), Some(Reply::Applied(Ok(_)))), "held for good");
    assert_eq!(cluster.leader(), Some(leader));
}

#[test]
fn who_cannot_lead_is_not_sent_there() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    let slot = cluster.transfer(follower, Some(leader));
    assert!(matches!(cluster.answer(follower, slot), Some(Reply::Refused(Refusal::NotLeader))));
    let slot = cluster.transfer(leader, Some(8));
    assert!(matches!(cluster.answer(leader, slot), Some(Reply::Refused(Refusal::BadLeaderTransferee))));
    cluster.tick(2);
    cluster.change(leader, ConfChangeAddLearnerNode, 3, false);
    cluster.settle();
    let slot = cluster.transfer(leader, Some(3));
    assert!(matches!(cluster.answer(leader, slot), Some(Reply::Refused(Refusal::BadLeaderTransferee))));
    let slot = cluster.transfer(leader, Some(leader));
    cluster.settle();
    assert!(matches!(cluster.answer(leader, slot), Some(Reply::Transferred(_))), "it leads already");
    let mut alone = Cluster::new(1);
    let only = alone.elect(None);
    let slot = alone.transfer(only, None);
    assert!(matches!(alone.answer(only, slot), Some(Reply::Refused(Refusal::BadLeaderTransferee))));
}

/// a proposal that reaches the old leader in the midst of it goes on to the new one.
#[test]
fn a_forwarded_proposal_is_not_lost_while_leadership_moves() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let (to, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let transfer = cluster.transfer(leader, Some(to));
    let slot = cluster.put(other, "a", "1");
    cluster.settle();
    cluster.tick(2);
    assert!(matches!(cluster.answer(leader, transfer), Some(Reply::Transferred(id)) if id == to as u64 + 1));
    let Some(Reply::Applied(Ok(applied))) = cluster.answer(other, slot) else { panic!("not answered") };
    assert_eq!(applied.revision, 2);
    cluster.assert_equal();
}
