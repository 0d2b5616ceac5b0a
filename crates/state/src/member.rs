//! Who belongs to the group: members, removed ids, and the raft configuration that follows from them. Changes come only
//! from membership entries and attribute requests in the log (etcd `api/membership`).

mod json;

pub use json::{JsonError, read_context, read_members, write_member, write_promotion};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cetera_proto::raftpb::{ConfChange, ConfChangeType, ConfState};

use crate::error::ApplyError;
use crate::hash::{Kind, fingerprint};

/// A member (etcd `membership.Member`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Member {
    /// ID-1.
    pub id: u64,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Whether it does not vote.
    pub is_learner: bool,
    /// Empty until the member published itself (B-9).
    pub name: String,
    /// Where clients reach it; empty until it published itself.
    pub client_urls: Vec<String>,
}

impl Member {
    /// Whether the member ever published itself.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }
}

/// What an accepted membership entry did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MemberChange {
    /// A voter or learner joined.
    Added(Member),
    /// A learner votes from now on.
    Promoted(u64),
    /// A member is gone; its id never returns.
    Removed(u64),
    /// A member has new peer URLs.
    Updated(Member),
}

/// Why a membership entry did nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The same on all members.
    Refused(ApplyError),
    /// The entry is not what a member writes.
    Malformed(String),
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Self {
        Refusal::Refused(error)
    }
}

impl From<JsonError> for Refusal {
    fn from(error: JsonError) -> Self {
        Refusal::Malformed(error.to_string())
    }
}

/// The group's members.
#[derive(Clone, Debug, Default)]
pub struct Membership {
    members: BTreeMap<u64, Member>,
    removed: Arc<BTreeSet<u64>>,
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
    /// What readers get; replaced on change.
    list: Arc<Vec<Member>>,
    /// The sum of the fingerprints of all this.
    sum: u64,
}

impl Membership {
    pub(crate) fn restore(members: Vec<Member>, removed: BTreeSet<u64>, conf_state: &ConfState) -> Self {
        let mut this = Self {
            members: members.into_iter().map(|m| (m.id, m)).collect(),
            removed: Arc::new(removed),
            voters: conf_state.voters.iter().copied().collect(),
            learners: conf_state.learners.iter().copied().collect(),
            list: Arc::default(),
            sum: 0,
        };
        this.refresh();
        this
    }

    /// All members by id.
    pub fn list(&self) -> Arc<Vec<Member>> {
        self.list.clone()
    }

    /// One member.
    pub fn get(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// Ids that were members once.
    pub fn removed(&self) -> &BTreeSet<u64> {
        &self.removed
    }

    /// The same, shared.
    pub fn removed_list(&self) -> Arc<BTreeSet<u64>> {
        self.removed.clone()
    }

    /// What members add to the hash of the state. It is computed when they change, and costs a picture nothing.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// The same, from the members themselves.
    pub(crate) fn compute_sum(&self) -> u64 {
        let members = self.members.values().map(|member| fingerprint(Kind::Member, &[], &write_member(member)));
        let ids = |kind, ids: &BTreeSet<u64>| {
            ids.iter().fold(0, |sum: u64, id| sum.wrapping_add(fingerprint(kind, &[*id], b"")))
        };
        members
            .fold(0, u64::wrapping_add)
            .wrapping_add(ids(Kind::RemovedMember, &self.removed))
            .wrapping_add(ids(Kind::Voter, &self.voters))
            .wrapping_add(ids(Kind::Learner, &self.learners))
    }

    /// The raft configuration after the last applied entry.
    pub fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.voters.iter().copied().collect(),
            learners: self.learners.iter().copied().collect(),
            ..Default::default()
        }
    }

    /// Checks and performs a membership entry (etcd `ValidateConfigurationChange`, `applyConfChange`). Refused, it
    /// changes nothing, and must be given to raft as a change of node 0.
    pub(crate) fn apply(&mut self, change: &ConfChange, max_learners: usize) -> Result<MemberChange, Refusal> {
        let id = change.node_id;
        if self.removed.contains(&id) {
            return Err(ApplyError::MemberNotFound.into());
        }
        let done = match ConfChangeType::try_from(change.r#type) {
            Ok(kind @ (ConfChangeType::ConfChangeAddNode | ConfChangeType::ConfChangeAddLearnerNode)) => {
                let learner = kind == ConfChangeType::ConfChangeAddLearnerNode;
                let (member, is_promote) = read_context(&change.context)?;
                same_id(id, member.id)?;
                // Whom the two sides of the entry do not agree on, raft would count otherwise than the list of members.
                if learner != member.is_learner || (is_promote && learner) {
                    return Err(Refusal::Malformed(format!(
                        "{id:x} joins as a learner by one half of the entry alone"
                    )));
                }
                let done = if is_promote { self.promote(id)? } else { self.add(member, learner, max_learners)? };
                let (into, from) = if learner {
                    (&mut self.learners, &mut self.voters)
                } else {
                    (&mut self.voters, &mut self.learners)
                };
                from.remove(&id);
                into.insert(id);
                done
            }
            Ok(ConfChangeType::ConfChangeRemoveNode) => self.remove(id)?,
            Ok(ConfChangeType::ConfChangeUpdateNode) => self.update(id, &change.context)?,
            Err(_) => return Err(Refusal::Malformed(format!("unknown type of membership change {}", change.r#type))),
        };
        self.refresh();
        Ok(done)
    }

    /// A member publishes its name and client URLs (B-9; etcd `UpdateAttributes`).
    pub(crate) fn set_attributes(&mut self, id: u64, name: &str, client_urls: &[String]) -> Result<(), ApplyError> {
        let member = self.members.get_mut(&id).ok_or(ApplyError::MemberNotFound)?;
        member.name = name.to_owned();
        member.client_urls = client_urls.to_vec();
        self.refresh();
        Ok(())
    }

    fn promote(&mut self, id: u64) -> Result<MemberChange, Refusal> {
        let member = self.members.get_mut(&id).ok_or(ApplyError::MemberNotFound)?;
        if !member.is_learner {
            return Err(ApplyError::MemberNotLearner.into());
        }
        member.is_learner = false;
        Ok(MemberChange::Promoted(id))
    }

    fn add(&mut self, member: Member, learner: bool, max_learners: usize) -> Result<MemberChange, Refusal> {
        if self.members.contains_key(&member.id) {
            return Err(ApplyError::MemberExist.into());
        }
        self.check_peer_urls(member.id, &member.peer_urls)?;
        let learners = self.members.values().filter(|m| m.is_learner).count();
        if learner && learners + 1 > max_learners {
            return Err(ApplyError::TooManyLearners.into());
        }
        self.members.insert(member.id, member.clone());
        Ok(MemberChange::Added(member))
    }

    fn remove(&mut self, id: u64) -> Result<MemberChange, Refusal> {
        if !self.members.contains_key(&id) {
            return Err(ApplyError::MemberNotFound.into());
        }
        // A group without voters cannot go on; raft itself would stop at it (etcd panics: "removed all voters").
        if self.voters.len() == 1 && self.voters.contains(&id) {
            return Err(ApplyError::MemberNotEnoughStarted.into());
        }
        self.members.remove(&id);
        self.voters.remove(&id);
        self.learners.remove(&id);
        Arc::make_mut(&mut self.removed).insert(id);
        Ok(MemberChange::Removed(id))
    }

    /// C-5: peer URLs only.
    fn update(&mut self, id: u64, context: &[u8]) -> Result<MemberChange, Refusal> {
        if !self.members.contains_key(&id) {
            return Err(ApplyError::MemberNotFound.into());
        }
        let (update, _) = read_context(context)?;
        same_id(id, update.id)?;
        self.check_peer_urls(id, &update.peer_urls)?;
        let member = self.members.get_mut(&id).expect("looked up above");
        member.peer_urls = update.peer_urls;
        Ok(MemberChange::Updated(member.clone()))
    }

    fn check_peer_urls(&self, id: u64, urls: &[String]) -> Result<(), ApplyError> {
        let taken = |url: &String| self.members.values().any(|m| m.id != id && m.peer_urls.contains(url));
        if urls.iter().any(taken) { Err(ApplyError::PeerUrlExist) } else { Ok(()) }
    }

    fn refresh(&mut self) {
        self.list = Arc::new(self.members.values().cloned().collect());
        self.sum = self.compute_sum();
    }
}

fn same_id(entry: u64, context: u64) -> Result<(), Refusal> {
    if entry == context {
        return Ok(());
    }
    Err(Refusal::Malformed(format!("membership change of {entry:x} with a context of {context:x}")))
}

#[cfg(test)]
mod tests;
