//! Calls on one member: make a client of that endpoint alone to choose it.

use crate::call::Repeat;
use crate::{Client, Error};
use cetera_proto::etcdserverpb::alarm_request::AlarmAction;
use cetera_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse, HashKvRequest,
    HashKvResponse, MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
};
use cetera_proto::services::MethodId;

impl Client {
    /// What the member says of itself.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        self.unary(MethodId::Status, Repeat::Yes, StatusRequest {}).await
    }

    /// The hash over all revisions up to this one; 0 means now.
    pub async fn hash_kv(&self, revision: i64) -> Result<HashKvResponse, Error> {
        self.unary(MethodId::HashKv, Repeat::Yes, HashKvRequest { revision }).await
    }

    /// The alarms that are on.
    pub async fn alarm_list(&self) -> Result<AlarmResponse, Error> {
        let request = AlarmRequest { action: AlarmAction::Get as i32, ..Default::default() };
        self.unary(MethodId::Alarm, Repeat::Yes, request).await
    }

    /// Turns an alarm off. Member 0 with alarm `None` means all that are on; the answer holds those turned off.
    pub async fn alarm_disarm(&self, member: AlarmMember) -> Result<AlarmResponse, Error> {
        if member.member_id != 0 || member.alarm != AlarmType::None as i32 {
            return self.disarm_one(member).await;
        }
        let listed = self.alarm_list().await?;
        let mut off = AlarmResponse { header: listed.header, alarms: Vec::new() };
        for member in listed.alarms {
            let one = self.disarm_one(member).await?;
            off.alarms.extend(one.alarms);
        }
        Ok(off)
    }

    async fn disarm_one(&self, member: AlarmMember) -> Result<AlarmResponse, Error> {
        let AlarmMember { member_id, alarm } = member;
        let request = AlarmRequest { action: AlarmAction::Deactivate as i32, member_id, alarm };
        self.unary(MethodId::Alarm, Repeat::No, request).await
    }

    /// Gives space back to the file system.
    pub async fn defragment(&self) -> Result<DefragmentResponse, Error> {
        self.unary(MethodId::Defragment, Repeat::No, DefragmentRequest {}).await
    }

    /// Hands leadership to this member. Only the leader does.
    pub async fn move_leader(&self, target_id: u64) -> Result<MoveLeaderResponse, Error> {
        self.unary(MethodId::MoveLeader, Repeat::No, MoveLeaderRequest { target_id }).await
    }
}
