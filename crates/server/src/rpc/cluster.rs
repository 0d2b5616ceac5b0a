//! Cluster calls (C-1 to C-8): members listed, added, removed, changed and promoted.
//!
//! What this member can see is checked here ([`super::membership`]); the rest is refused when the change is applied. A
//! promotion is the leader's to make: another member hands it on and passes back what came of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cetera_node::event::{Change, Event, Refusal, Reply};
use cetera_proto::etcdserverpb as pb;
use cetera_proto::raftpb::{ConfChange, ConfChangeType};
use cetera_state::id::member_id;
use cetera_state::member::{Member, write_member};

use super::membership::peer_urls;
use super::promote::{may_promote, promotion};
use super::status::Error;
use super::{NodeAccess, RpcServices, State, Wait, decode};
use crate::log;
use crate::metrics::METRICS;
use crate::seam::{CallId, Outbound, Status};

/// A change of the membership under way: how it is answered.
pub(super) struct Changing {
    what: What,
    change: ConfChange,
    /// Until when it is asked for again if another change is in its way.
    deadline_ms: u64,
}

enum What {
    Add(pb::Member),
    Remove,
    Update,
    Promote,
}

impl<N: NodeAccess> RpcServices<N> {
    /// C-7.
    pub(super) fn member_list(&mut self, call: CallId, body: Bytes, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let request: pb::MemberListRequest = decode(body)?;
        if request.linearizable {
            self.confirm(call, Wait::MemberList);
            return Ok(());
        }
        self.serve_member_list(call, out)
    }

    /// The members by id.
    pub(super) fn serve_member_list(&mut self, call: CallId, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let body = pb::MemberListResponse { header: None, members: members(&self.published.members) };
        self.respond_cluster(call, &body, out);
        Ok(())
    }

    /// C-1 to C-3. The id is made of the URLs and the second (ID-2), so that who was removed can come back as another.
    pub(super) fn member_add(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let request: pb::MemberAddRequest = decode(body)?;
        let peer_urls = peer_urls(&request.peer_urls)?;
        self.known(|known| known.may_add(request.is_learner)).inspect_err(|error| rejected("add", *error))?;
        let seconds = (self.node.unix_ms() / 1_000) as i64;
        let id = member_id(&peer_urls, "", Some(seconds));
        let is_learner = request.is_learner;
        let member = Member { id, peer_urls: peer_urls.clone(), is_learner, ..Member::default() };
        let kind = match is_learner {
            true => ConfChangeType::ConfChangeAddLearnerNode,
            false => ConfChangeType::ConfChangeAddNode,
        };
        let added = pb::Member { id, peer_urls, is_learner, ..pb::Member::default() };
        let change = self.entry(kind, id, write_member(&member));
        self.change(call, What::Add(added), change);
        Ok(())
    }

    /// C-4.
    pub(super) fn member_remove(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let pb::MemberRemoveRequest { id } = decode(body)?;
        self.known(|known| known.may_remove(id)).inspect_err(|error| rejected("remove", *error))?;
        let change = self.entry(ConfChangeType::ConfChangeRemoveNode, id, Vec::new());
        self.change(call, What::Remove, change);
        Ok(())
    }

    /// C-5. etcd looks at these URLs in its client alone, and a member that is told nonsense panics.
    pub(super) fn member_update(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let pb::MemberUpdateRequest { id, peer_urls: urls } = decode(body)?;
        let member = Member { id, peer_urls: peer_urls(&urls)?, ..Member::default() };
        let change = self.entry(ConfChangeType::ConfChangeUpdateNode, id, write_member(&member));
        self.change(call, What::Update, change);
        Ok(())
    }

    /// C-6.
    pub(super) fn member_promote(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let pb::MemberPromoteRequest { id } = decode(body)?;
        if self.published.leader != self.published.member_id {
            self.promote_elsewhere(call, id);
            return Ok(());
        }
        let strict = self.settings.strict_reconfig_check;
        if let Err(error) = may_promote(&self.node, &self.published, strict, id) {
            rejected("promote", error);
            METRICS.promoted(Err(error));
            return Err(error.into());
        }
        let change = promotion(self.settings.ids.next_id(), id);
        self.change(call, What::Promote, change);
        Ok(())
    }

    fn promote_elsewhere(&mut self, call: CallId, id: u64) {
        let timeout = Duration::from_millis(self.settings.request_timeout_ms());
        self.node.promote_at_leader(self.ticket(call), id, timeout);
        self.calls.insert(call, State::Waits(Wait::Promoted));
    }

    fn entry(&self, kind: ConfChangeType, node_id: u64, context: Vec<u8>) -> ConfChange {
        ConfChange { id: self.settings.ids.next_id(), r#type: kind as i32, node_id, context: context.into() }
    }

    fn change(&mut self, call: CallId, what: What, change: ConfChange) {
        let deadline_ms = self.node.now_ms() + self.settings.request_timeout_ms();
        self.send_change(call, Changing { what, change, deadline_ms });
    }

    fn send_change(&mut self, call: CallId, changing: Changing) {
        let promotes = matches!(changing.what, What::Promote);
        self.node.send(Event::Change(Change { ticket: self.ticket(call), change: changing.change.clone(), promotes }));
        self.calls.insert(call, State::Waits(Wait::Change(Box::new(changing))));
    }

    /// What came of a change.
    pub(super) fn changed(
        &mut self,
        call: CallId,
        changing: Changing,
        reply: Reply,
        out: &mut Vec<Outbound>,
    ) -> Result<(), Status> {
        let (result, now) = match reply {
            Reply::Changed { result, members } => (result.map(drop).map_err(Error::from), members),
            Reply::Refused(Refusal::ChangeUnderWay) if self.node.now_ms() < changing.deadline_ms => {
                // Nothing was logged: asked for again by the next tick.
                self.calls.insert(call, State::Waits(Wait::ChangeAgain(Box::new(changing))));
                self.changes_to_repeat.push(call);
                return Ok(());
            }
            // Leadership moved on while the request was on its way.
            Reply::Refused(Refusal::NotLeader) => {
                self.promote_elsewhere(call, changing.change.node_id);
                return Ok(());
            }
            Reply::Refused(Refusal::Timeout) => (Err(self.timed_out()), Arc::default()),
            // Held for a leader that did not come.
            Reply::Refused(Refusal::DeadlineExceeded) => return Err(Refusal::DeadlineExceeded.into()),
            Reply::Refused(refusal) => (Err(refusal.into()), Arc::default()),
            reply => unreachable!("the node answers a change in kind, not with {reply:?}"),
        };
        if matches!(changing.what, What::Promote) {
            METRICS.promoted(result);
        }
        result?;
        let members = members(&now);
        match changing.what {
            What::Add(added) => {
                let body = pb::MemberAddResponse { header: None, member: Some(added), members };
                self.respond_cluster(call, &body, out);
            }
            What::Remove => self.respond_cluster(call, &pb::MemberRemoveResponse { header: None, members }, out),
            What::Update => self.respond_cluster(call, &pb::MemberUpdateResponse { header: None, members }, out),
            What::Promote => self.respond_cluster(call, &pb::MemberPromoteResponse { header: None, members }, out),
        }
        Ok(())
    }

    /// Asks again for changes that another change stood in the way of.
    pub(super) fn repeat_changes(&mut self) {
        for call in std::mem::take(&mut self.changes_to_repeat) {
            match self.calls.remove(&call) {
                Some(State::Waits(Wait::ChangeAgain(changing))) => self.send_change(call, *changing),
                Some(other) => drop(self.calls.insert(call, other)),
                None => {}
            }
        }
    }

    /// Answers with a header that tells no revision (C-8).
    fn respond_cluster(&mut self, call: CallId, body: &impl prost::Message, out: &mut Vec<Outbound>) {
        self.headers.put(0, &mut self.arena);
        self.respond_body(call, body, out);
    }
}

fn rejected(what: &str, error: Error) {
    log::warning!("rejecting a change of the membership", "change" = what, "error" = error.row().1);
}

/// Members as clients see them.
pub(crate) fn members(members: &[Member]) -> Vec<pb::Member> {
    let of = |member: &Member| pb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    };
    members.iter().map(of).collect()
}
