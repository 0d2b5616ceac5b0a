use super::*;
use bytes::Bytes;

const MAX_LEARNERS: usize = 1;

fn member(id: u64, learner: bool) -> Member {
    Member { id, peer_urls: vec![format!("http://m{id}:2380")], is_learner: learner, ..Default::default() }
}

fn change(kind: ConfChangeType, id: u64, context: Vec<u8>) -> ConfChange {
    ConfChange { id: 77, r#type: kind as i32, node_id: id, context: Bytes::from(context) }
}

fn add(m: &Member) -> ConfChange {
    let kind = if m.is_learner { ConfChangeType::ConfChangeAddLearnerNode } else { ConfChangeType::ConfChangeAddNode };
    change(kind, m.id, write_member(m))
}

fn promote(id: u64) -> ConfChange {
    change(ConfChangeType::ConfChangeAddNode, id, write_promotion(id))
}

fn remove(id: u64) -> ConfChange {
    change(ConfChangeType::ConfChangeRemoveNode, id, Vec::new())
}

fn update(id: u64, url: &str) -> ConfChange {
    let m = Member { id, peer_urls: vec![url.into()], ..Default::default() };
    change(ConfChangeType::ConfChangeUpdateNode, id, write_member(&m))
}

fn refused(result: Result<MemberChange, Refusal>) -> ApplyError {
    match result {
        Err(Refusal::Refused(error)) => error,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Voters 1 and 2, learner 3.
fn group() -> Membership {
    let mut group = Membership::default();
    for m in [member(1, false), member(2, false), member(3, true)] {
        assert_eq!(group.apply(&add(&m), MAX_LEARNERS).unwrap(), MemberChange::Added(m));
    }
    group
}

fn conf(group: &Membership) -> (Vec<u64>, Vec<u64>) {
    let state = group.conf_state();
    (state.voters, state.learners)
}

#[test]
fn a_life_of_a_group() {
    let mut group = group();
    assert_eq!(conf(&group), (vec![1, 2], vec![3]));
    assert_eq!(group.apply(&promote(3), MAX_LEARNERS).unwrap(), MemberChange::Promoted(3));
    assert_eq!(conf(&group), (vec![1, 2, 3], vec![]));
    assert!(!group.get(3).unwrap().is_learner);
    assert_eq!(group.get(3).unwrap().peer_urls, ["http://m3:2380"], "a promotion names no URLs and changes none");

    assert_eq!(group.apply(&remove(1), MAX_LEARNERS).unwrap(), MemberChange::Removed(1));
    assert_eq!(conf(&group), (vec![2, 3], vec![]));
    assert_eq!(group.list().iter().map(|m| m.id).collect::<Vec<_>>(), [2, 3]);
}

/// C-1, C-3, C-4, C-6 as checked at apply.
#[test]
fn refusals() {
    let mut group = group();
    let before = group.list();
    let taken = Member { peer_urls: vec!["http://m2:2380".into()], ..member(9, false) };
    for (entry, want) in [
        (add(&member(1, false)), ApplyError::MemberExist),
        (add(&taken), ApplyError::PeerUrlExist),
        (add(&member(4, true)), ApplyError::TooManyLearners),
        (promote(2), ApplyError::MemberNotLearner),
        (promote(8), ApplyError::MemberNotFound),
        (remove(8), ApplyError::MemberNotFound),
        (update(8, "http://x"), ApplyError::MemberNotFound),
        (update(1, "http://m3:2380"), ApplyError::PeerUrlExist),
    ] {
        assert_eq!(refused(group.apply(&entry, MAX_LEARNERS)), want, "{entry:?}");
    }
    assert_eq!(group.list(), before);
    assert_eq!(conf(&group), (vec![1, 2], vec![3]));
}

/// C-4: a removed id can never return.
#[test]
fn a_removed_id_never_returns() {
    let mut group = group();
    group.apply(&remove(2), MAX_LEARNERS).unwrap();
    for entry in [add(&member(2, false)), remove(2), update(2, "http://x"), promote(2)] {
        assert_eq!(refused(group.apply(&entry, MAX_LEARNERS)), ApplyError::MemberNotFound);
    }
}

#[test]
fn the_last_voter_stays() {
    let mut group = group();
    group.apply(&remove(2), MAX_LEARNERS).unwrap();
    assert_eq!(refused(group.apply(&remove(1), MAX_LEARNERS)), ApplyError::MemberNotEnoughStarted);
    group.apply(&remove(3), MAX_LEARNERS).unwrap();
    assert_eq!(conf(&group), (vec![1], vec![]));
}

/// C-5: an update may name its own URLs, and never changes the learner flag or the attributes.
#[test]
fn an_update_changes_peer_urls_only() {
    let mut group = group();
    group.set_attributes(3, "n3", &["http://c3".into()]).unwrap();
    group.apply(&update(3, "http://m3:2380"), MAX_LEARNERS).unwrap();
    group.apply(&update(3, "http://new"), MAX_LEARNERS).unwrap();
    let m = group.get(3).unwrap();
    assert_eq!((m.peer_urls.as_slice(), m.is_learner, m.name.as_str()), (&["http://new".to_string()][..], true, "n3"));
    assert_eq!(conf(&group), (vec![1, 2], vec![3]));
}

/// B-9.
#[test]
fn attributes_make_a_member_started() {
    let mut group = group();
    assert!(!group.get(1).unwrap().is_started());
    group.set_attributes(1, "n1", &["http://c1".into()]).unwrap();
    assert!(group.list()[0].is_started());
    assert_eq!(group.list()[0].client_urls, ["http://c1"]);
    assert_eq!(group.set_attributes(9, "x", &[]), Err(ApplyError::MemberNotFound));
}

#[test]
fn what_no_member_writes_is_malformed() {
    let mut group = group();
    let other = change(ConfChangeType::ConfChangeAddNode, 9, write_member(&member(8, false)));
    let garbage = change(ConfChangeType::ConfChangeAddNode, 9, b"{".to_vec());
    let unknown = ConfChange { r#type: 9, ..add(&member(9, false)) };
    for entry in [other, garbage, unknown] {
        assert!(matches!(group.apply(&entry, MAX_LEARNERS), Err(Refusal::Malformed(_))), "{entry:?}");
    }
    assert_eq!(group.list().len(), 3);
}

#[test]
fn restored_from_its_parts() {
    let mut group = group();
    group.apply(&remove(2), MAX_LEARNERS).unwrap();
    let again = Membership::restore(group.list().to_vec(), group.removed().clone(), &group.conf_state());
    assert_eq!(again.list(), group.list());
    assert_eq!(conf(&again), conf(&group));
    assert_eq!(again.removed(), group.removed());
}

/// Raft follows the entry's kind and the list of members its context: they must say the same.
#[test]
fn a_member_of_two_minds_is_malformed() {
    let mut group = group();
    let before = conf(&group);
    for (kind, context) in [
        (ConfChangeType::ConfChangeAddNode, write_member(&member(4, true))),
        (ConfChangeType::ConfChangeAddLearnerNode, write_member(&member(4, false))),
        (ConfChangeType::ConfChangeAddLearnerNode, write_promotion(3)),
    ] {
        let id = read_context(&context).unwrap().0.id;
        assert!(matches!(group.apply(&change(kind, id, context), 9), Err(Refusal::Malformed(_))));
    }
    assert_eq!((conf(&group), group.list().len()), (before, 3));
}
