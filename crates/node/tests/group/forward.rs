//! What passes through a follower: proposals, reads; and what their callers are told.

use cetera_node::event::{Refusal, Reply};

use crate::harness::{Cluster, REQUEST_TICKS};

#[test]
fn a_proposal_forwarded_by_a_follower_is_answered_there() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    let slot = cluster.put(follower, "a", "1");
    assert!(cluster.answer(follower, slot).is_none(), "answered before it was committed");
    cluster.settle();
    cluster.tick(2);
    let Some(Reply::Applied(Ok(applied))) = cluster.answer(follower, slot) else { panic!("not answered") };
    assert_eq!(applied.revision, 2);
    assert!(cluster.answer(leader, slot).is_none(), "answered elsewhere");
    cluster.assert_equal();
}

#[test]
fn a_proposal_waits_for_a_leader_and_then_goes_its_way() {
    let mut cluster = Cluster::new(3);
    let early: Vec<u64> = (0..3).map(|n| cluster.put(1, "a", &format!("{n}"))).collect();
    assert!(early.iter().all(|slot| cluster.answer(1, *slot).is_none()), "nobody leads yet");
    let leader = cluster.elect(None);
    cluster.tick(2);
    let revisions: Vec<i64> = early
        .iter()
        .map(|slot| match cluster.answer(1, *slot) {
            Some(Reply::Applied(Ok(applied))) => applied.revision,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(revisions, [2, 3, 4], "in the order in which they came");
    assert_eq!(cluster.value(leader, "a").as_deref(), Some(&b"2"[..]));
    cluster.assert_equal();
}

#[test]
fn without_a_leader_a_proposal_is_refused_in_the_end_and_never_done() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    cluster.isolate(follower, true);
    cluster.tick(30);
    let slot = cluster.put(follower, "a", "never");
    cluster.tick(REQUEST_TICKS - 2);
    assert!(cluster.answer(follower, slot).is_none(), "refused before its time was up");
    cluster.tick(3);
    assert!(matches!(cluster.answer(follower, slot), Some(Reply::Refused(Refusal::DeadlineExceeded))));
    cluster.isolate(follower, false);
    cluster.tick(30);
    assert_eq!(cluster.value(follower, "a"), None);
    cluster.assert_equal();
}

#[test]
fn a_proposal_on_its_way_to_a_leader_that_is_gone_is_unknown_and_not_sent_again() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    cluster.isolate(leader, true);
    let forwarded = cluster.put(follower, "a", "forwarded");
    let kept = cluster.put(leader, "b", "kept");
    cluster.settle();
    let next = cluster.elect(Some(leader));
    assert_ne!(next, leader);
    assert!(cluster.answer(follower, forwarded).is_none(), "nothing is known yet");
    cluster.tick(REQUEST_TICKS + 2);
    assert!(matches!(cluster.answer(follower, forwarded), Some(Reply::Refused(Refusal::Timeout))));
    assert!(matches!(cluster.answer(leader, kept), Some(Reply::Refused(Refusal::Timeout))));
    cluster.isolate(leader, false);
    cluster.tick(30);
    assert_eq!((cluster.value(next, "a"), cluster.value(next, "b")), (None, None));
    cluster.assert_equal();
}

#[test]
fn a_read_at_a_follower_sees_what_was_acknowledged_before_it() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    let follower = (leader + 1) % 3;
    // The follower's disk is slow: it has the entry, and cannot apply it.
    cluster.hosts[follower].stalled = true;
    let write = cluster.put(leader, "a", "1");
    cluster.settle();
    assert!(matches!(cluster.answer(leader, write), Some(Reply::Applied(Ok(_)))));
    let read = cluster.read(follower);
    cluster.settle();
    cluster.tick(3);
    assert!(cluster.answer(follower, read).is_none(), "served before the write was applied here");
    cluster.resume_disk(follower);
    cluster.settle();
    cluster.tick(2);
    assert!(matches!(cluster.answer(follower, read), Some(Reply::Read)));
    assert_eq!(cluster.value(follower, "a").as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_deposed_leader_serves_no_read_and_no_renewal() {
    let mut cluster = Cluster::new(3);
    let leader = cluster.elect(None);
    cluster.grant(leader, 9, 60);
    cluster.settle();
    let renewed = cluster.renew(leader, 9);
    cluster.settle();
    assert!(matches!(cluster.answer(leader, renewed), Some(Reply::Renewed { ttl: 60 })));
    cluster.isolate(leader, true);
    let (read, renewal) = (cluster.read(leader), cluster.renew(leader, 9));
    let next = cluster.elect(Some(leader));
    cluster.put(next, "a", "1");
    cluster.settle();
    cluster.tick(30);
    assert!(cluster.answer(leader, read).is_none());
    assert!(matches!(cluster.answer(leader, renewal), Some(Reply::Refused(Refusal::NotPrimaryLessor))), "L-8");
    cluster.isolate(leader, false);
    cluster.tick(30);
    assert!(matches!(cluster.answer(leader, read), Some(Reply::Read)), "asked again once there is a leader");
    assert_eq!(cluster.value(leader, "a").as_deref(), Some(&b"1"[..]));
    let renewal = cluster.renew(leader, 9);
    cluster.tick(2);
    assert!(matches!(cluster.answer(leader, renewal), Some(Reply::Renewed { ttl: 60 })), "by the one that leads now");
}
