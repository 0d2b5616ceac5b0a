//! Membership, versions and the feature level through the log: C-1, C-3 to C-5, D-8, V-1, V-2, M-8, B-9.

use cetera_proto::etcdserverpb::{FeatureLevelSetRequest, InternalRaftRequest};
use cetera_proto::membershippb::{
    Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest,
};
use cetera_proto::raftpb::{ConfChange, ConfChangeType};
use cetera_state::member::{Member, MemberChange, write_member, write_promotion};
use cetera_state::version::{KNOWN_FEATURE_LEVEL, Version};
use cetera_state::{ApplyError, ConfOutcome, Fatal, StateLimits};

use crate::harness::Machine;

pub(crate) fn member(id: u64, is_learner: bool) -> Member {
    Member { id, peer_urls: vec![format!("http://m{id}:2380")], is_learner, ..Default::default() }
}

pub(crate) fn added(member: &Member) -> ConfChange {
    let kind = match member.is_learner {
        true => ConfChangeType::ConfChangeAddLearnerNode,
        false => ConfChangeType::ConfChangeAddNode,
    };
    ConfChange { id: 77, r#type: kind as i32, node_id: member.id, context: write_member(member).into() }
}

impl Machine {
    pub(crate) fn conf_change(&mut self, change: &ConfChange) -> Result<ConfOutcome, Fatal> {
        let index = self.state.applied_index() + 1;
        self.state.apply_conf_change(index, 1, change)
    }
}

fn attributes(id: u64, name: &str) -> InternalRaftRequest {
    InternalRaftRequest {
        cluster_member_attr_set: Some(Box::new(ClusterMemberAttrSetRequest {
            member_id: id,
            member_attributes: Some(Attributes { name: name.into(), client_urls: vec![format!("http://{name}:2379")] }),
        })),
        ..Default::default()
    }
}

/// D-8, B-9.
#[test]
fn members_come_change_and_go() {
    let mut m = Machine::new();
    let outcome = m.conf_change(&added(&member(1, false))).unwrap();
    assert_eq!((outcome.request_id, outcome.result), (77, Ok(MemberChange::Added(member(1, false)))));
    let outcome = m.conf_change(&added(&member(2, true))).unwrap();
    assert_eq!((outcome.conf_state.voters, outcome.conf_state.learners), (vec![1], vec![2]));
    m.apply(attributes(2, "n2")).unwrap();
    let promote = ConfChange { context: write_promotion(2).into(), r#type: 0, ..added(&member(2, false)) };
    let outcome = m.conf_change(&promote).unwrap();
    assert_eq!(outcome.conf_state.voters, [1, 2]);
    let want = Member { name: "n2".into(), client_urls: vec!["http://n2:2379".into()], ..member(2, false) };
    assert_eq!(outcome.members[1], want);
    let remove = ConfChange { r#type: ConfChangeType::ConfChangeRemoveNode as i32, node_id: 1, ..promote };
    assert_eq!(m.conf_change(&remove).unwrap().result, Ok(MemberChange::Removed(1)));
    assert_eq!(m.state.conf_state().voters, [2]);
    assert_eq!(m.apply(attributes(1, "gone")).unwrap_err(), ApplyError::MemberNotFound);
    assert_eq!(m.state.revision(), 1);
    m.state.check_invariants();
}

/// C-3, with the limit of the configuration; a refusal costs an index and changes nothing (D-9).
#[test]
fn refused_changes() {
    let mut m = Machine::with_limits(StateLimits { max_learners: 2, ..Default::default() });
    for change in [added(&member(1, false)), added(&member(2, true)), added(&member(3, true))] {
        m.conf_change(&change).unwrap().result.unwrap();
    }
    let before = (m.state.hash(), m.state.conf_state());
    let outcome = m.conf_change(&added(&member(4, true))).unwrap();
    assert_eq!(outcome.result, Err(ApplyError::TooManyLearners));
    assert_eq!((m.state.hash(), m.state.conf_state()), before);
    assert_eq!(m.state.applied_index(), 4);
}

#[test]
fn a_context_nobody_writes_stops_the_node() {
    let mut m = Machine::new();
    let change = ConfChange { context: "{".into(), ..added(&member(1, false)) };
    assert!(matches!(m.conf_change(&change), Err(Fatal::Malformed { index: 1, .. })));
}

/// V-1, V-2.
#[test]
fn cluster_version() {
    let set = |ver: &str| InternalRaftRequest {
        cluster_version_set: Some(Box::new(ClusterVersionSetRequest { ver: ver.into() })),
        ..Default::default()
    };
    let mut m = Machine::new();
    assert_eq!(m.state.cluster_version(), None);
    m.apply(set("3.0.0")).unwrap();
    m.apply(set("3.7.0")).unwrap();
    assert_eq!(m.state.cluster_version(), Some(Version { major: 3, minor: 7, patch: 0 }));
    m.apply(set("3.6.0")).unwrap();
    assert!(matches!(m.try_apply(set("3.8.0")), Err(Fatal::ClusterVersion { .. })));
    assert!(matches!(m.try_apply(set("three")), Err(Fatal::Malformed { .. })));
}

/// M-8, as far as it is replicated.
#[test]
fn downgrade() {
    let set = |enabled: bool| InternalRaftRequest {
        downgrade_info_set: Some(Box::new(DowngradeInfoSetRequest { enabled, ver: "3.6.0".into() })),
        ..Default::default()
    };
    let mut m = Machine::new();
    m.apply(set(true)).unwrap();
    let info = m.state.versions().downgrade().clone();
    assert_eq!((info.enabled, info.target_version.as_str()), (true, "3.6.0"));
    m.apply(set(false)).unwrap();
    assert_eq!(m.state.versions().downgrade(), &Default::default());
    let test = InternalRaftRequest { downgrade_version_test: Some(Box::default()), ..Default::default() };
    m.apply(test).unwrap();
}

/// A member never applies what it does not understand.
#[test]
fn feature_level() {
    let set = |level: u64| InternalRaftRequest {
        feature_level_set: Some(FeatureLevelSetRequest { level }),
        ..Default::default()
    };
    let mut m = Machine::new();
    assert_eq!(m.state.feature_level(), 0);
    m.apply(set(KNOWN_FEATURE_LEVEL)).unwrap();
    m.apply(set(0)).unwrap();
    assert_eq!(m.state.feature_level(), KNOWN_FEATURE_LEVEL);
    let chunks = m.checkpoint();
    assert!(matches!(m.try_apply(set(KNOWN_FEATURE_LEVEL + 1)), Err(Fatal::FeatureLevel { .. })));

    // An older build stops at the entry, and refuses the checkpoint of a group that went on without it.
    let old = StateLimits { known_feature_level: KNOWN_FEATURE_LEVEL - 1, ..Default::default() };
    let mut behind = Machine::with_limits(old);
    assert!(matches!(behind.try_apply(set(KNOWN_FEATURE_LEVEL)), Err(Fatal::FeatureLevel { .. })));
    let error = m.try_restored(&chunks, 1, old).err().unwrap();
    assert!(matches!(error, cetera_state::RestoreError::Fatal(Fatal::FeatureLevel { .. })));
}
