//! Calls on the membership.

use crate::call::Repeat;
use crate::{Client, Error};
use cetera_proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
};
use cetera_proto::services::MethodId;

impl Client {
    /// The members. `linearizable`: confirmed by a majority, not just known to the member asked.
    pub async fn member_list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        self.unary(MethodId::MemberList, Repeat::Yes, MemberListRequest { linearizable }).await
    }

    /// Adds a member that will be reached at these URLs.
    pub async fn member_add(&self, peer_urls: Vec<String>, is_learner: bool) -> Result<MemberAddResponse, Error> {
        self.unary(MethodId::MemberAdd, Repeat::No, MemberAddRequest { peer_urls, is_learner }).await
    }

    /// Removes a member for good.
    pub async fn member_remove(&self, id: u64) -> Result<MemberRemoveResponse, Error> {
        self.unary(MethodId::MemberRemove, Repeat::No, MemberRemoveRequest { id }).await
    }

    /// Changes the URLs at which its peers reach a member.
    pub async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<MemberUpdateResponse, Error> {
        self.unary(MethodId::MemberUpdate, Repeat::No, MemberUpdateRequest { id, peer_urls }).await
    }

    /// Makes a learner a voter.
    pub async fn member_promote(&self, id: u64) -> Result<MemberPromoteResponse, Error> {
        self.unary(MethodId::MemberPromote, Repeat::No, MemberPromoteRequest { id }).await
    }
}
