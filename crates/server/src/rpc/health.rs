//! gRPC's own health service (G-15): the one service it knows is `""`, and that serves.

use bytes::Bytes;
use cetera_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListResponse, health_check_response::ServingStatus,
};
use prost::Message as _;

use super::status::{Code, other};
use super::{NodeAccess, RpcServices, State, decode, respond};
use crate::seam::{CallId, Outbound, Status};

fn serving(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

impl<N: NodeAccess> RpcServices<N> {
    pub(super) fn health_check(&mut self, call: CallId, body: Bytes, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let request: HealthCheckRequest = decode(body)?;
        if !request.service.is_empty() {
            return Err(other(Code::NotFound, "unknown service"));
        }
        respond(call, vec![serving(ServingStatus::Serving).encode_to_vec().into()], out);
        Ok(())
    }

    pub(super) fn health_list(&mut self, call: CallId, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let statuses = [(String::new(), serving(ServingStatus::Serving))].into();
        respond(call, vec![HealthListResponse { statuses }.encode_to_vec().into()], out);
        Ok(())
    }

    /// One answer, then silence until something changes, which nothing does.
    pub(super) fn health_watch(&mut self, call: CallId, body: Bytes, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let request: HealthCheckRequest = decode(body)?;
        let status = if request.service.is_empty() { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
        out.push(Outbound::Message { call, slices: vec![serving(status).encode_to_vec().into()] });
        self.calls.insert(call, State::Idle);
        Ok(())
    }
}
