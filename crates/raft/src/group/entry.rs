//! What stands in the log.

use bytes::Bytes;
use cetera_proto::raftpb;
use prost::Message as _;

/// What an entry holds.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// An `InternalRaftRequest`, or nothing (the first entry of a term).
    Normal,
    /// A `raftpb.ConfChange`.
    ConfChange,
    /// A `raftpb.ConfChangeV2`; etcd proposes none, but the type exists on the wire.
    ConfChangeV2,
}

impl EntryKind {
    /// From `raftpb.EntryType`'s number.
    pub fn from_wire(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::Normal),
            1 => Some(Self::ConfChange),
            2 => Some(Self::ConfChangeV2),
            _ => None,
        }
    }

    pub(crate) fn parses(self, data: &[u8]) -> bool {
        match self {
            Self::Normal => true,
            Self::ConfChange => raftpb::ConfChange::decode(data).is_ok(),
            Self::ConfChangeV2 => raftpb::ConfChangeV2::decode(data).is_ok(),
        }
    }
}

/// A log entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Position, from 1.
    pub index: u64,
    /// Term it was proposed in.
    pub term: u64,
    /// What `data` holds.
    pub kind: EntryKind,
    /// The payload.
    pub data: Bytes,
}

impl Entry {
    /// As etcd's message.
    pub fn to_wire(&self) -> raftpb::Entry {
        raftpb::Entry { r#type: self.kind as i32, term: self.term, index: self.index, data: self.data.clone() }
    }

    /// From etcd's message; `None` for an unknown entry type.
    pub fn from_wire(entry: raftpb::Entry) -> Option<Self> {
        let kind = EntryKind::from_wire(entry.r#type)?;
        Some(Self { index: entry.index, term: entry.term, kind, data: entry.data })
    }
}
