//! Maintenance calls.

use bytes::Bytes;
use cetera_node::event::Event;
use cetera_node::published::Published;
use cetera_proto::etcdserverpb::{
    AlarmRequest, AlarmType, DowngradeInfo, HashKvRequest, HashKvResponse, HashResponse, MoveLeaderRequest,
    StatusResponse,
};
use prost::Message as _;

use super::propose::field;
use super::status::Error;
use super::{NodeAccess, RpcServices, State, Wait, decode, respond};
use crate::config::VERSION;
use crate::seam::{CallId, Outbound, Status};
use crate::versions;

/// Page size that reported sizes are rounded to, as clients and tests expect of etcd's file.
const PAGE_BYTES: u64 = 4_096;
/// What an empty store reports, as etcd's empty file has.
const EMPTY_BYTES: u64 = 5 * PAGE_BYTES;

/// The size a member reports and counts against its quota: logical bytes in pages. The quota sees no garbage, so there
/// is nothing a defragmentation would have to free.
pub(crate) fn db_bytes(published: &Published) -> u64 {
    EMPTY_BYTES + published.logical_bytes.next_multiple_of(PAGE_BYTES)
}

/// The part of [`db_bytes`] that is live.
pub(crate) fn db_bytes_in_use(published: &Published) -> u64 {
    EMPTY_BYTES + published.live_bytes.next_multiple_of(PAGE_BYTES)
}

impl<N: NodeAccess> RpcServices<N> {
    /// M-1.
    pub(super) fn alarm(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let _: AlarmRequest = decode(body.clone())?;
        self.propose(call, field::ALARM, &body)
    }

    /// M-2.
    pub(super) fn status(&mut self, call: CallId, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let published = &self.published;
        let mut errors = Vec::new();
        if published.leader == 0 {
            errors.push(Error::NoLeader.row().1.to_string());
        }
        errors.extend(published.alarms.iter().map(|alarm| {
            let kind = AlarmType::try_from(alarm.alarm).map_or("", |kind| kind.as_str_name());
            format!("memberID:{} alarm:{kind}", alarm.member_id)
        }));
        let body = StatusResponse {
            header: None,
            version: VERSION.to_string(),
            db_size: db_bytes(published) as i64,
            leader: published.leader,
            raft_index: published.committed_index,
            raft_term: published.term,
            raft_applied_index: published.applied_index,
            errors,
            db_size_in_use: db_bytes_in_use(published) as i64,
            is_learner: published.is_learner,
            storage_version: versions::storage(&self.published).unwrap_or_default().to_owned(),
            db_size_quota: self.settings.quota_bytes.map_or(0, |bytes| bytes as i64),
            downgrade_info: Some(DowngradeInfo {
                enabled: published.downgrade_target.is_some(),
                target_version: published.downgrade_target.as_deref().unwrap_or_default().to_string(),
            }),
        };
        self.respond_message(call, &body, out);
        Ok(())
    }

    /// M-3: there is nothing to defragment; no header (G-14).
    pub(super) fn defragment(&mut self, call: CallId, out: &mut Vec<Outbound>) -> Result<(), Status> {
        respond(call, Vec::new(), out);
        Ok(())
    }

    /// M-7: answered once the target leads; a leader that is told to lead goes on.
    pub(super) fn move_leader(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let request: MoveLeaderRequest = decode(body)?;
        let published = &self.published;
        if published.leader != published.member_id {
            return Err(Error::NotLeader.into());
        }
        let to = request.target_id;
        if !published.members.iter().any(|member| member.id == to && !member.is_learner) {
            return Err(Error::BadLeaderTransferee.into());
        }
        self.node.send(Event::Transfer { ticket: Some(self.ticket(call)), to });
        self.calls.insert(call, State::Waits(Wait::Transfer));
        Ok(())
    }

    /// M-4: for comparing members in tests.
    pub(super) fn hash(&mut self, call: CallId) -> Result<(), Status> {
        self.work(call, |view| {
            let hash = view.hash_kv(0)?;
            Ok(HashResponse { header: None, hash: hash.hash }.encode_to_vec().into())
        })
    }

    /// M-5.
    pub(super) fn hash_kv(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let HashKvRequest { revision } = decode(body)?;
        self.work(call, move |view| {
            let found = view.hash_kv(revision)?;
            let response = HashKvResponse {
                header: None,
                hash: found.hash,
                compact_revision: found.compact_revision,
                hash_revision: found.hash_revision,
            };
            Ok(response.encode_to_vec().into())
        })
    }

    /// Makes the response but for its header on a background thread.
    fn work(
        &mut self,
        call: CallId,
        make: impl FnOnce(&cetera_mvcc::View) -> Result<Bytes, Status> + Send + 'static,
    ) -> Result<(), Status> {
        self.node.run_job(self.ticket(call), Box::new(move |view| make(view).map(|body| vec![body])));
        self.calls.insert(call, State::Waits(Wait::Work));
        Ok(())
    }
}
