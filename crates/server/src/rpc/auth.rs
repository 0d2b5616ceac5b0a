//! Auth calls that can be answered while authentication cannot be enabled.

use cetera_proto::etcdserverpb::AuthStatusResponse;

use super::{NodeAccess, RpcServices};
use crate::seam::{CallId, Outbound, Status};

/// The auth revision of a cluster that never changed users or roles.
const FIRST_AUTH_REVISION: u64 = 1;

impl<N: NodeAccess> RpcServices<N> {
    pub(super) fn auth_status(&mut self, call: CallId, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let body = AuthStatusResponse { header: None, enabled: false, auth_revision: FIRST_AUTH_REVISION };
        self.respond_message(call, &body, out);
        Ok(())
    }
}
