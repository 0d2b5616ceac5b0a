//! Members that come, go and become voters.

use cetera_node::event::{Refusal, Reply};
use cetera_proto::raftpb::ConfChangeType::{ConfChangeAddLearnerNode, ConfChangeAddNode, ConfChangeRemoveNode};
use cetera_state::ApplyError;
use cetera_state::member::MemberChange;

use crate::harness::Cluster;

fn done(cluster: &mut Cluster, at: usize, slot: u64) -> Result<MemberChange, ApplyError> {
    match cluster.answer(at, slot) {
        Some(Reply::Changed { result, .. }) => result,
        other => panic!("not answered with a change but {other:?}"),
    }
}

#[test]
fn a_learner_joins_through_a_follower_catches_up_and_is_promoted() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    for n in 0..50 {
        cluster.put(leader, "k", &n.to_string());
    }
    cluster.settle();
    let added = cluster.change(follower, ConfChangeAddLearnerNode, 3, false);
    cluster.settle();
    cluster.tick(2);
    let Some(Reply::Changed { result, members }) = cluster.answer(follower, added) else { panic!("not answered") };
    assert!(matches!(result, Ok(MemberChange::Added(member)) if member.id == 4 && member.is_learner));
    assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let early = cluster.change(leader, ConfChangeAddNode, 3, true);
    assert!(matches!(cluster.answer(leader, early), Some(Reply::Refused(Refusal::LearnerNotReady))));
    let elsewhere = cluster.change(follower, ConfChangeAddNode, 3, true);
    assert!(matches!(cluster.answer(follower, elsewhere), Some(Reply::Refused(Refusal::NotLeader))));
    assert_eq!(cluster.join(), 3);
    cluster.tick(10);
    cluster.assert_equal();
    assert!(cluster.published(3).is_learner);
    let progress = cluster.published(leader).progress.clone();
    assert!(
        progress.iter().any(|it| it.member == 4 && it.is_learner && it.is_active && it.matched > 50),
        "{progress:?}"
    );
    let promoted = cluster.change(leader, ConfChangeAddNode, 3, true);
    cluster.tick(2);
    assert_eq!(done(&mut cluster, leader, promoted), Ok(MemberChange::Promoted(4)));
    assert!(!cluster.published(3).is_learner);
    // Four voters: two of them are not enough any more, and the new one counts.
    cluster.isolate(follower, true);
    let with_three = cluster.put(leader, "k", "four");
    cluster.tick(2);
    assert!(matches!(cluster.answer(leader, with_three), Some(Reply::Applied(Ok(_)))));
    cluster.isolate(3, true);
    let with_two = cluster.put(leader, "k", "five");
    cluster.tick(2);
    assert!(cluster.answer(leader, with_two).is_none(), "two of four decided");
}

#[test]
fn who_is_no_learner_is_not_promoted() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let voter = cluster.change(leader, ConfChangeAddNode, (leader + 1) % 3, true);
    cluster.settle();
    assert_eq!(done(&mut cluster, leader, voter), Err(ApplyError::MemberNotLearner));
    let unknown = cluster.change(leader, ConfChangeAddNode, 7, true);
    assert_eq!(done(&mut cluster, leader, unknown), Err(ApplyError::MemberNotFound));
}

#[test]
fn of_two_changes_at_once_one_is_refused_at_once_and_never_done() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.tick(2);
    let first = cluster.change(leader, ConfChangeAddLearnerNode, 3, false);
    let second = cluster.change(leader, ConfChangeAddNode, 4, false);
    assert!(matches!(cluster.answer(leader, second), Some(Reply::Refused(Refusal::ChangeUnderWay))));
    cluster.settle();
    assert!(matches!(done(&mut cluster, leader, first), Ok(MemberChange::Added(_))));
    cluster.tick(3);
    assert_eq!(cluster.published(leader).members.len(), 4);
    let again = cluster.change(leader, ConfChangeAddNode, 4, false);
    cluster.settle();
    assert!(matches!(done(&mut cluster, leader, again), Ok(MemberChange::Added(_))));
}

#[test]
fn a_change_asked_of_a_new_leader_waits_for_what_its_predecessors_left() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.hosts[leader].stalled = false;
    cluster.crash(leader);
    let next = cluster.elect(Some(leader));
    let added = cluster.change(next, ConfChangeAddLearnerNode, 3, false);
    cluster.tick(3);
    assert!(matches!(done(&mut cluster, next, added), Ok(MemberChange::Added(_))));
}

#[test]
fn a_removed_member_knows_it_and_the_others_go_on() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let (gone, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.put(leader, "a", "1");
    cluster.settle();
    let removed = cluster.change(other, ConfChangeRemoveNode, gone, false);
    cluster.tick(3);
    assert_eq!(done(&mut cluster, other, removed), Ok(MemberChange::Removed(gone as u64 + 1)));
    assert!(cluster.published(gone).removed && !cluster.published(other).removed);
    cluster.isolate(gone, true);
    let write = cluster.put(leader, "a", "2");
    cluster.settle();
    assert!(matches!(cluster.answer(leader, write), Some(Reply::Applied(Ok(_)))));
    let back = cluster.change(leader, ConfChangeAddNode, gone, false);
    cluster.settle();
    assert_eq!(done(&mut cluster, leader, back), Err(ApplyError::MemberNotFound), "a removed id never returns");
}

#[test]
fn a_leader_that_is_removed_leaves_the_rest_able_to_elect() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let removed = cluster.change(leader, ConfChangeRemoveNode, leader, false);
    cluster.settle();
    assert_eq!(done(&mut cluster, leader, removed), Ok(MemberChange::Removed(leader as u64 + 1)));
    assert!(cluster.published(leader).removed);
    // No election timeout passes: it handed leadership on.
    let next = cluster.leader().expect("someone leads");
    assert_ne!(next, leader);
    cluster.crash(leader);
    cluster.tick(1);
    let write = cluster.put(next, "a", "1");
    cluster.tick(2);
    assert!(matches!(cluster.answer(next, write), Some(Reply::Applied(Ok(_)))));
}

#[test]
fn one_member_becomes_two_and_then_one_again() {
    let mut cluster = Cluster::new(1);
    let leader = cluster.elect(None);
    assert!(cluster.published(leader).is_alone && cluster.node(leader).is_alone());
    cluster.put(leader, "a", "1");
    let added = cluster.change(leader, ConfChangeAddNode, 1, false);
    cluster.settle();
    assert!(matches!(done(&mut cluster, leader, added), Ok(MemberChange::Added(_))));
    assert!(!cluster.published(leader).is_alone);
    let alone = cluster.put(leader, "a", "2");
    cluster.tick(1);
    assert!(cluster.answer(leader, alone).is_none(), "one of two decided");
    cluster.join();
    cluster.tick(30);
    assert!(matches!(cluster.answer(leader, alone), Some(Reply::Applied(Ok(_)))));
    cluster.assert_equal();
    let removed = cluster.change(leader, ConfChangeRemoveNode, 1, false);
    cluster.tick(3);
    assert!(matches!(done(&mut cluster, leader, removed), Ok(MemberChange::Removed(2))));
    assert!(cluster.published(leader).is_alone && cluster.published(1).removed);
    let write = cluster.put(leader, "a", "3");
    assert!(matches!(cluster.answer(leader, write), Some(Reply::Applied(Ok(_)))));
}
