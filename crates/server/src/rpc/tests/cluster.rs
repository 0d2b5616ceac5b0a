//! Members added, changed, promoted and removed, by one that stands alone.

use super::*;

const ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
const REMOVE: &str = "/etcdserverpb.Cluster/MemberRemove";
const UPDATE: &str = "/etcdserverpb.Cluster/MemberUpdate";
const PROMOTE: &str = "/etcdserverpb.Cluster/MemberPromote";

fn urls(list: &[&str]) -> Vec<String> {
    list.iter().map(|url| url.to_string()).collect()
}

fn learner(list: &[&str]) -> MemberAddRequest {
    MemberAddRequest { peer_urls: urls(list), is_learner: true }
}

/// C-1, C-3, C-8.
#[test]
fn a_learner_is_added_once() {
    let mut harness = Harness::new();
    harness.put("a", "1");
    let added: MemberAddResponse = harness.ok(ADD, &learner(&["http://b:2", "http://a:1"]));
    let header = added.header.expect("a header");
    assert_eq!((header.cluster_id, header.member_id, header.revision), (CLUSTER, MEMBER, 0));
    assert!(header.raft_term > 0);
    let member = added.member.expect("the member");
    assert_eq!((member.name.as_str(), member.is_learner), ("", true));
    assert_eq!(member.peer_urls, ["http://a:1", "http://b:2"]);
    // ID-2: the URLs and the second.
    let seconds = harness.node.unix_ms() / 1_000;
    assert!(
        (seconds - 1..=seconds)
            .any(|s| member.id == cetera_state::id::member_id(&member.peer_urls, "", Some(s as i64)))
    );
    let ids: Vec<u64> = added.members.iter().map(|member| member.id).collect();
    assert!(ids.is_sorted() && ids.contains(&member.id) && ids.contains(&MEMBER) && ids.len() == 2);
    assert_eq!(harness.fails(ADD, &learner(&["http://c:3", "http://a:1"])), Error::PeerUrlExist.into());
    assert_eq!(harness.fails(ADD, &learner(&["http://c:3"])), Error::TooManyLearners.into());
    for bad in [&[][..], &["nonsense"], &["http://a:1", "http://b"]] {
        assert_eq!(harness.fails(ADD, &learner(bad)), Error::MemberBadUrls.into(), "{bad:?}");
    }
    assert_eq!(harness.put("b", "2").header.expect("a header").revision, 3, "nothing of this is a revision");
}

/// C-4 to C-6.
#[test]
fn a_learner_is_changed_and_removed() {
    let mut harness = Harness::new();
    let id = harness.ok::<MemberAddResponse>(ADD, &learner(&["http://a:1"])).member.expect("the member").id;
    let not_ready = harness.fails(PROMOTE, &MemberPromoteRequest { id });
    assert_eq!(not_ready, Error::LearnerNotReady.into());
    let update = |id, list: &[&str]| MemberUpdateRequest { id, peer_urls: urls(list) };
    let updated: MemberUpdateResponse = harness.ok(UPDATE, &update(id, &["http://c:3"]));
    let learner = updated.members.iter().find(|member| member.id == id).expect("the learner");
    assert!(learner.is_learner && learner.peer_urls == ["http://c:3"]);
    assert_eq!(harness.fails(UPDATE, &update(id, &["http://localhost:2380"])), Error::PeerUrlExist.into());
    assert_eq!(harness.fails(UPDATE, &update(id, &["nonsense"])), Error::MemberBadUrls.into());
    assert_eq!(harness.fails(UPDATE, &update(5, &["http://d:4"])), Error::MemberNotFound.into());
    let removed: MemberRemoveResponse = harness.ok(REMOVE, &MemberRemoveRequest { id });
    assert_eq!((removed.members.len(), removed.members[0].id), (1, MEMBER));
    for id in [id, 5] {
        assert_eq!(harness.fails(REMOVE, &MemberRemoveRequest { id }), Error::MemberNotFound.into());
        assert_eq!(harness.fails(PROMOTE, &MemberPromoteRequest { id }), Error::MemberNotFound.into());
    }
}

/// What a member that stands alone must not do to itself.
#[test]
fn the_checks_are_made() {
    let mut harness = Harness::new();
    assert_eq!(harness.fails(REMOVE, &MemberRemoveRequest { id: MEMBER }), Error::MemberNotEnoughStarted.into());
    assert_eq!(harness.fails(PROMOTE, &MemberPromoteRequest { id: MEMBER }), Error::MemberNotLearner.into());
}

/// C-6: by the leader alone.
#[test]
fn a_promotion_is_handed_to_the_leader() {
    let mut harness = Harness::new();
    let mut follower = (*harness.node.published()).clone();
    follower.leader = MEMBER + 1;
    harness.node.0.borrow_mut().published = Arc::new(follower);
    let call = harness.front.call(PROMOTE, &MemberPromoteRequest { id: 5 });
    harness.front.turn(&mut Vec::new());
    let (ticket, member) = harness.node.0.borrow_mut().handed_on.pop().expect("handed on");
    assert_eq!(member, 5);
    let body = MemberPromoteResponse { header: None, members: vec![Member { id: 5, ..Member::default() }] };
    harness.front.turn(&mut vec![Mail::Work(ticket, Ok(vec![body.encode_to_vec().into()]))]);
    let answer = harness.front.answer(call);
    assert_eq!(answer.status, Some(ok()));
    let response = MemberPromoteResponse::decode(answer.messages[0].clone()).expect("a response");
    assert_eq!((response.header.expect("a header").revision, response.members[0].id), (0, 5));
}

/// G-10.
#[test]
fn a_learner_serves_its_own_state_and_status() {
    let mut harness = Harness::new();
    harness.put("a", "1");
    let mut learner = (*harness.node.published()).clone();
    learner.is_learner = true;
    harness.node.0.borrow_mut().published = Arc::new(learner);
    let range = |serializable| RangeRequest { key: "a".into(), serializable, ..Default::default() };
    let mut answer = |path: &str, request: &dyn Fn(&mut MemoryFront<RpcServices<TestNode>>) -> CallId| {
        let call = request(&mut harness.front);
        harness.front.turn(&mut Vec::new());
        harness.front.answer(call).status.clone().unwrap_or_else(|| panic!("{path} waits"))
    };
    let refused = Status::from(Error::NotSupportedForLearner);
    assert_eq!(answer(RANGE, &|front| front.call(RANGE, &range(true))), ok());
    assert_eq!(answer(RANGE, &|front| front.call(RANGE, &range(false))), refused);
    const STATUS: &str = "/etcdserverpb.Maintenance/Status";
    assert_eq!(answer(STATUS, &|front| front.call(STATUS, &StatusRequest {})), ok());
    const STREAM: &str = "/etcdserverpb.KV/RangeStream";
    for path in [PUT, DELETE, TXN, COMPACT, GRANT, KEEP_ALIVE, ALARM, ADD, STREAM, "/etcdserverpb.Watch/Watch"] {
        assert_eq!(answer(path, &|front| front.open(path, CallMetadata::default())), refused, "{path}");
    }
    // This process asks for its health, and is not refused.
    let own = CallMetadata { is_own: true, ..CallMetadata::default() };
    let call = harness.front.open(RANGE, own);
    harness.front.send(call, &range(false));
    harness.turn();
    assert_eq!(harness.front.answer(call).status, Some(ok()));
}
