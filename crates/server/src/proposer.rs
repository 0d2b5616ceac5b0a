//! What a member itself has to say through the log: its name, the cluster's version. Blocking; for threads that may wait.

use std::sync::Arc;
use std::time::Duration;

use cetera_node::event::{Event, Proposal, Reply};
use cetera_proto::etcdserverpb as pb;
use prost::Message as _;

use crate::node_thread::NodeHandle;
use crate::rpc::RequestIds;
use crate::rpc::status::Error;

/// Proposes for this member.
#[derive(Clone)]
pub struct Proposer {
    /// How the node is reached.
    pub node: NodeHandle,
    /// Where request ids come from.
    pub ids: Arc<RequestIds>,
    /// How long one proposal is waited for.
    pub timeout: Duration,
}

/// Why a proposal came to nothing, as far as is known.
#[derive(Debug, Eq, PartialEq)]
pub enum Failed {
    /// The node has ended.
    Stopped,
    /// Refused, or not answered in time: it may be applied all the same.
    Now(String),
}

impl Proposer {
    /// Proposes once and waits until it is applied here.
    ///
    /// # Errors
    /// As [`Failed`] says.
    pub fn propose(&self, mut request: pb::InternalRaftRequest) -> Result<(), Failed> {
        let id = self.ids.next_id();
        request.header = Some(pb::RequestHeader { id, ..Default::default() });
        let bytes = request.encode_to_vec();
        let reply =
            self.node.ask(|ticket| Event::Propose(vec![Proposal { ticket, id, request: bytes.into() }]), self.timeout);
        match reply {
            Some(Reply::Applied(Ok(_))) => Ok(()),
            _ if self.node.has_ended() => Err(Failed::Stopped),
            Some(Reply::Applied(Err(error))) => Err(Failed::Now(error.to_string())),
            Some(Reply::Refused(refusal)) => Err(Failed::Now(Error::from(refusal).row().1.to_owned())),
            Some(_) | None => Err(Failed::Now(Error::Timeout.row().1.to_owned())),
        }
    }
}
