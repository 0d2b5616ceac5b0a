//! The wire messages of etcd 3.7 and the table of its calls.
//!
//! Holds data types with their encoding, and [`services::METHODS`]. Every `bytes` field is a [`bytes::Bytes`] that
//! shares the buffer it was decoded from. Never holds logic, and builds without a runtime or an RPC library.

#![allow(unreachable_pub)] // generated code

pub mod services;

/// What members say to each other.
#[allow(clippy::large_enum_variant)] // nearly all of them are the large one
pub mod ceterapb {
    include!(concat!(env!("OUT_DIR"), "/ceterapb.rs"));

    impl From<crate::raftpb::Message> for PeerMessage {
        fn from(message: crate::raftpb::Message) -> Self {
            Self { from: message.from, to: message.to, body: Some(peer_message::Body::Raft(message)) }
        }
    }
}

/// Users and roles, as replicated.
pub mod authpb {
    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

/// The client calls and what a log entry carries.
pub mod etcdserverpb {
    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

/// gRPC's own health check (`grpc.health.v1`).
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// Leases as kept, and the members' own lease calls.
pub mod leasepb {
    include!(concat!(env!("OUT_DIR"), "/leasepb.rs"));
}

/// Membership facts that travel in the log.
pub mod membershippb {
    include!(concat!(env!("OUT_DIR"), "/membershippb.rs"));
}

/// Keys and changes.
pub mod mvccpb {
    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

/// Consensus messages.
pub mod raftpb {
    include!(concat!(env!("OUT_DIR"), "/raftpb.rs"));
}

/// The server-side election.
pub mod v3electionpb {
    include!(concat!(env!("OUT_DIR"), "/v3electionpb.rs"));
}

/// The server-side lock.
pub mod v3lockpb {
    include!(concat!(env!("OUT_DIR"), "/v3lockpb.rs"));
}

#[cfg(test)]
mod tests;
