//! Applying the log: one entry in, one outcome out, the same on every member.
//!
//! The order of an entry is that of etcd's appliers (`uberApplier.dispatch` and the wrappers around it): alarms first
//! (CORRUPT before NOSPACE), then what the request itself must satisfy, then the change.

use bytes::{Bytes, BytesMut};
use cetera_mvcc::{CompactionHash, EventRec};
use cetera_plant::{Bug, is_planted};
use cetera_proto::etcdserverpb::{AlarmRequest, LeaseCheckpointRequest, LeaseGrantRequest, alarm_request::AlarmAction};
use cetera_proto::raftpb::{ConfChange, ConfState};
use prost::Message;
use std::sync::Arc;

use crate::error::{ApplyError, Failure, Fatal, split};
use crate::kv::{Answer, Writing, compact, delete, put, range, txn};
use crate::member::{Member, MemberChange, Refusal};
use crate::quota;
use crate::request::{Request, decode};
use crate::state::State;
use crate::version::Version;
use crate::wire;

/// What came of an entry.
#[must_use]
pub struct Outcome {
    /// `header.ID` of the request: names the waiter on the member that proposed it.
    pub request_id: u64,
    /// The reply, the same on all members.
    pub result: Result<Applied, ApplyError>,
    /// After a compaction: computes the hash it leaves behind (D-4). To be run in the background soon, or dropped; it
    /// holds the store as it was.
    pub compaction_hash: Option<CompactionHash>,
}

/// A request that was done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    /// The store's revision for the response's header.
    pub revision: i64,
    /// The fields of the response except its header (field 1), encoded.
    pub body: Bytes,
    /// What the lessor must know.
    pub lease_effect: Option<LeaseEffect>,
}

/// What an entry did to leases.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LeaseEffect {
    /// A new lease, in seconds.
    Granted {
        /// The lease.
        id: i64,
        /// Seconds.
        ttl: i64,
    },
    /// A lease is gone.
    Revoked {
        /// The lease.
        id: i64,
    },
    /// Remaining times were recorded: (lease, seconds), 0 = the record was forgotten. Only leases that exist.
    Checkpointed(Vec<(i64, i64)>),
}

/// What came of a membership entry.
#[derive(Clone, Debug)]
#[must_use = "raft must be told whether the change was refused"]
pub struct ConfOutcome {
    /// `ConfChange.id` (D-8).
    pub request_id: u64,
    /// Refused, the entry must be given to raft as a change of node 0, which changes nothing.
    pub result: Result<MemberChange, ApplyError>,
    /// All members afterwards.
    pub members: Arc<Vec<Member>>,
    /// The raft configuration afterwards.
    pub conf_state: ConfState,
}

impl State {
    /// Applies one committed entry that holds a request, and appends its changes to `events`.
    ///
    /// # Panics
    /// If `index` is not the next one, or `term` goes back.
    pub fn apply(
        &mut self,
        index: u64,
        term: u64,
        request: &Bytes,
        events: &mut Vec<EventRec>,
    ) -> Result<Outcome, Fatal> {
        self.advance(index, term);
        let entry = decode(index, request)?;
        let mut compaction_hash = None;
        let result = split(self.perform(index, entry.request, events, &mut compaction_hash))?;
        Ok(Outcome { request_id: entry.request_id, result, compaction_hash })
    }

    /// Applies one committed membership entry.
    ///
    /// # Panics
    /// As [`State::apply`].
    pub fn apply_conf_change(&mut self, index: u64, term: u64, change: &ConfChange) -> Result<ConfOutcome, Fatal> {
        self.advance(index, term);
        let result = match self.members.apply(change, self.limits.max_learners) {
            Ok(done) => Ok(done),
            Err(Refusal::Refused(error)) => Err(error),
            Err(Refusal::Malformed(what)) => return Err(Fatal::Malformed { index, what }),
        };
        let conf_state = self.members.conf_state();
        Ok(ConfOutcome { request_id: change.id, result, members: self.members.list(), conf_state })
    }

    /// Applies one committed entry without data: what a new leader begins its term with.
    ///
    /// # Panics
    /// As [`State::apply`].
    pub fn apply_empty(&mut self, index: u64, term: u64) {
        self.advance(index, term);
    }

    fn advance(&mut self, index: u64, term: u64) {
        assert_eq!(index, self.applied_index + 1, "entries are applied in order, once each");
        assert!(term >= self.applied_term, "entry {index} of term {term} after term {}", self.applied_term);
        self.applied_index = index;
        self.applied_term = term;
    }

    fn perform(
        &mut self,
        index: u64,
        request: Request,
        events: &mut Vec<EventRec>,
        compaction_hash: &mut Option<CompactionHash>,
    ) -> Result<Applied, Failure> {
        self.check_alarms(&request)?;
        match request {
            Request::Range(request) => answered(range::apply(&self.writing(), &request)?),
            Request::Put(request) => answered(put::apply(self.writing(), &request, events)?),
            Request::DeleteRange(request) => answered(delete::apply(self.writing(), &request, events)?),
            Request::Txn(request) => answered(txn::apply(self.writing(), &request, events)?),
            Request::Compaction(request) => {
                *compaction_hash = compact::apply(&mut self.store, request.revision)?;
                Ok(self.done())
            }
            Request::LeaseGrant(request) => self.lease_grant(&request),
            Request::LeaseRevoke(request) => self.lease_revoke(request.id, events),
            Request::LeaseCheckpoint(request) => Ok(self.lease_checkpoint(&request)),
            Request::Alarm(request) => Ok(self.alarm(&request)),
            Request::ClusterVersionSet(request) => {
                let version = Version::parse(&request.ver)
                    .ok_or_else(|| Fatal::Malformed { index, what: format!("{:?} is no version", request.ver) })?;
                self.versions.set_cluster(version, self.limits.server_version)?;
                Ok(self.done())
            }
            Request::ClusterMemberAttrSet(request) => {
                let attributes = request.member_attributes.unwrap_or_default();
                self.members.set_attributes(request.member_id, &attributes.name, &attributes.client_urls)?;
                Ok(self.done())
            }
            Request::DowngradeInfoSet(request) => {
                self.versions.set_downgrade(request.enabled, &request.ver);
                Ok(self.done())
            }
            Request::DowngradeVersionTest => Ok(self.done()),
            Request::FeatureLevelSet(request) => {
                self.versions.raise_feature_level(request.level, self.limits.known_feature_level)?;
                Ok(self.done())
            }
        }
    }

    /// The size of this member's store plays no part (finding 0.6).
    fn check_alarms(&self, request: &Request) -> Result<(), ApplyError> {
        if self.alarms.corrupt() {
            let stopped = matches!(
                request,
                Request::Range(_)
                    | Request::Put(_)
                    | Request::DeleteRange(_)
                    | Request::Txn(_)
                    | Request::Compaction(_)
                    | Request::LeaseGrant(_)
                    | Request::LeaseRevoke(_)
            );
            if stopped {
                return Err(ApplyError::Corrupt);
            }
        }
        if self.alarms.no_space() {
            let costs = match request {
                Request::Put(_) | Request::LeaseGrant(_) => true,
                Request::Txn(request) => quota::txn(request) > 0,
                _ => false,
            };
            if costs {
                return Err(ApplyError::NoSpace);
            }
        }
        Ok(())
    }

    /// L-1 to L-3.
    fn lease_grant(&mut self, request: &LeaseGrantRequest) -> Result<Applied, Failure> {
        /// `LeaseGrantResponse.ID`.
        const ID: u32 = 2;
        /// `LeaseGrantResponse.TTL`.
        const TTL: u32 = 3;

        let LeaseGrantRequest { id, ttl, .. } = *request;
        self.leases.grant(id, ttl)?;
        let mut body = BytesMut::new();
        wire::int_field(&mut body, ID, id);
        wire::int_field(&mut body, TTL, ttl);
        Ok(Applied { body: body.freeze(), lease_effect: Some(LeaseEffect::Granted { id, ttl }), ..self.done() })
    }

    /// L-4: the attached keys go in sorted order (D-5), at one revision, or none if there are no keys.
    fn lease_revoke(&mut self, id: i64, events: &mut Vec<EventRec>) -> Result<Applied, Failure> {
        let lease = self.leases.remove(id).ok_or(ApplyError::LeaseNotFound)?;
        let mut txn = self.store.begin();
        let several = lease.keys().len() > 1;
        for (at, key) in lease.keys().enumerate() {
            if is_planted(Bug::RevokeLeavesKey) && several && at + 1 == lease.keys().len() {
                break;
            }
            if is_planted(Bug::RevokeTwoRevisions) && at == 1 {
                txn.commit(events);
                txn = self.store.begin();
            }
            let deleted = txn.delete_range(key, &[], &mut |_, _| {});
            assert_eq!(deleted, 1, "a key that hangs on a lease is alive");
        }
        let revision = txn.commit(events);
        Ok(Applied { revision, body: Bytes::new(), lease_effect: Some(LeaseEffect::Revoked { id }) })
    }

    /// L-13. Leases that are gone by now are passed over.
    fn lease_checkpoint(&mut self, request: &LeaseCheckpointRequest) -> Applied {
        let mut recorded = Vec::with_capacity(request.checkpoints.len());
        for checkpoint in &request.checkpoints {
            if self.leases.record_remaining(checkpoint.id, checkpoint.remaining_ttl) {
                recorded.push((checkpoint.id, checkpoint.remaining_ttl));
            }
        }
        Applied { lease_effect: Some(LeaseEffect::Checkpointed(recorded)), ..self.done() }
    }

    /// M-1: answers the affected alarms.
    fn alarm(&mut self, request: &AlarmRequest) -> Applied {
        /// `AlarmResponse.alarms`.
        const ALARMS: u32 = 2;

        let affected = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.alarms.of_type(request.alarm),
            Ok(AlarmAction::Activate) => self.alarms.activate(request.member_id, request.alarm).into_iter().collect(),
            Ok(AlarmAction::Deactivate) => {
                self.alarms.deactivate(request.member_id, request.alarm).into_iter().collect()
            }
            Err(_) => Vec::new(),
        };
        let mut body = BytesMut::new();
        for alarm in affected {
            wire::bytes_field(&mut body, ALARMS, &alarm.encode_to_vec());
        }
        Applied { body: body.freeze(), ..self.done() }
    }

    /// An empty answer at the present revision.
    fn done(&self) -> Applied {
        Applied { revision: self.store.revision(), ..Applied::default() }
    }

    fn writing(&mut self) -> Writing<'_> {
        let compacted = self.store.compacted();
        Writing { txn: self.store.begin(), leases: &mut self.leases, compacted }
    }
}

fn answered(answer: Answer) -> Result<Applied, Failure> {
    Ok(Applied { revision: answer.revision, body: answer.body, lease_effect: None })
}
