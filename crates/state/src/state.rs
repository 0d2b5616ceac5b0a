//! The state itself: everything replicated, at one index of the log.

use std::sync::Arc;

use cetera_mvcc::{LogError, Store, View};
use cetera_proto::etcdserverpb::AlarmMember;
use cetera_proto::raftpb::ConfState;

use crate::alarm::Alarms;
use crate::hash::{Kind, fingerprint};
use crate::lease::LeaseTable;
use crate::member::{Member, Membership};
use crate::version::{KNOWN_FEATURE_LEVEL, Version, Versions};

/// What the configuration says that apply must respect. All members of a group must agree on `max_learners`.
#[derive(Copy, Clone, Debug)]
pub struct StateLimits {
    /// `--max-learners` (C-3).
    pub max_learners: usize,
    /// This server's version; a cluster above it stops the node (V-2).
    pub server_version: Version,
    /// The highest feature level this server applies. Lower than [`KNOWN_FEATURE_LEVEL`] only in tests.
    pub known_feature_level: u64,
}

impl Default for StateLimits {
    fn default() -> Self {
        Self { max_learners: 1, server_version: Version::SERVER, known_feature_level: KNOWN_FEATURE_LEVEL }
    }
}

/// The replicated state machine: one group's whole applied state. Entries change it (see [`State::apply`]), nothing
/// else does.
pub struct State {
    pub(crate) store: Store,
    pub(crate) leases: LeaseTable,
    pub(crate) members: Membership,
    pub(crate) alarms: Alarms,
    pub(crate) versions: Versions,
    pub(crate) applied_index: u64,
    pub(crate) applied_term: u64,
    pub(crate) limits: StateLimits,
}

/// What members compare to find out whether they drifted apart: equal at equal applied index and equal `finished`.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct StateHash {
    /// Keys and their history, leases, members, alarms, versions.
    pub sum: u64,
    /// The compaction whose background pass the store's part belongs to; -1 before the first.
    pub finished: i64,
}

impl State {
    /// The state before the first entry, over an empty store.
    pub fn create(store: Store, limits: StateLimits) -> State {
        State {
            store,
            leases: LeaseTable::default(),
            members: Membership::default(),
            alarms: Alarms::default(),
            versions: Versions::default(),
            applied_index: 0,
            applied_term: 0,
            limits,
        }
    }

    /// Index of the last applied entry, 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// Term of the last applied entry.
    pub fn applied_term(&self) -> u64 {
        self.applied_term
    }

    /// Current revision of the store.
    pub fn revision(&self) -> i64 {
        self.store.revision()
    }

    /// A snapshot of keys and history for readers. Flushes the revision log: fails if the disk is full, and may then
    /// be tried again.
    pub fn view(&mut self) -> Result<View, LogError> {
        self.store.view()
    }

    /// The leases.
    pub fn leases(&self) -> &LeaseTable {
        &self.leases
    }

    /// The members, by id.
    pub fn members(&self) -> Arc<Vec<Member>> {
        self.members.list()
    }

    /// Members, removed ids and the raft configuration.
    pub fn membership(&self) -> &Membership {
        &self.members
    }

    /// The raft configuration after the last applied entry.
    pub fn conf_state(&self) -> ConfState {
        self.members.conf_state()
    }

    /// The active alarms.
    pub fn alarms(&self) -> Arc<Vec<AlarmMember>> {
        self.alarms.list()
    }

    /// Whether writes that cost space are refused.
    pub fn no_space(&self) -> bool {
        self.alarms.no_space()
    }

    /// Cluster version, downgrade, feature level.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// The decided cluster version (V-1).
    pub fn cluster_version(&self) -> Option<Version> {
        self.versions.cluster()
    }

    /// The feature level all members have.
    pub fn feature_level(&self) -> u64 {
        self.versions.feature_level()
    }

    /// The store, to ask it about its size and health.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The store, for its background work: compaction and rewrite steps, retired files, compaction hashes. Writing to
    /// it or moving its watermark would make this member differ from the others.
    pub fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    /// The hash of everything replicated. Costs a few fingerprints: the large parts are kept summed.
    pub fn hash(&self) -> StateHash {
        let (store_sum, finished) = self.store.hash_sum();
        let mut sum = store_sum.wrapping_add(self.leases.sum()).wrapping_add(self.members.sum());
        let mut add = |kind, numbers: &[u64], bytes: &[u8]| sum = sum.wrapping_add(fingerprint(kind, numbers, bytes));
        for alarm in self.alarms.list().iter() {
            add(Kind::Alarm, &[alarm.alarm as u64, alarm.member_id], b"");
        }
        if let Some(Version { major, minor, patch }) = self.versions.cluster() {
            add(Kind::ClusterVersion, &[major, minor, patch], b"");
        }
        let downgrade = self.versions.downgrade();
        add(Kind::Downgrade, &[u64::from(downgrade.enabled)], downgrade.target_version.as_bytes());
        add(Kind::FeatureLevel, &[self.versions.feature_level()], b"");
        StateHash { sum, finished }
    }

    /// Panics if the state contradicts itself. Linear; for tests and simulation.
    pub fn check_invariants(&self) {
        self.store.check_invariants();
        self.leases.check_invariants();
        let members = self.members.list();
        let conf_state = self.members.conf_state();
        assert_eq!(members.len(), conf_state.voters.len() + conf_state.learners.len());
        assert_eq!(self.members.sum(), self.members.compute_sum(), "the sum over the members is kept");
        for member in members.iter() {
            let side = if member.is_learner { &conf_state.learners } else { &conf_state.voters };
            assert!(side.contains(&member.id), "member {:x} is in the raft configuration", member.id);
            assert!(!self.members.removed().contains(&member.id), "member {:x} was removed", member.id);
        }
    }
}
