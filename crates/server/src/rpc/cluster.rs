//! Cluster calls. Changes of membership are not offered yet.

use bytes::Bytes;
use cetera_proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};

use super::{NodeAccess, RpcServices, Wait, decode};
use crate::seam::{CallId, Outbound, Status};

impl<N: NodeAccess> RpcServices<N> {
    /// C-7.
    pub(super) fn member_list(&mut self, call: CallId, body: Bytes, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let request: MemberListRequest = decode(body)?;
        if request.linearizable {
            self.confirm(call, Wait::MemberList);
            return Ok(());
        }
        self.serve_member_list(call, out)
    }

    /// The members by id; the header tells no revision (C-8).
    pub(super) fn serve_member_list(&mut self, call: CallId, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let members = self.published.members.iter().map(|member| Member {
            id: member.id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            is_learner: member.is_learner,
        });
        let body = MemberListResponse { header: None, members: members.collect() };
        self.headers.put(0, &mut self.arena);
        self.respond_body(call, &body, out);
        Ok(())
    }
}
