//! The state in a checkpoint: everything at one applied index, so that replaying the log from there gives exactly what
//! the member had. The store writes its own chunks; these are the others.
//!
//! ```text
//! META    one Meta message: index, term, members, configuration, alarms, versions
//! LEASES  LeaseRecord messages, each behind its length; a lease with many keys takes several records
//! ```

use std::collections::BTreeSet;
use std::fmt;

use cetera_mvcc::{ChunkSink, LogError, StoreCheckpoint, StoreRestore, WriteError};
use cetera_plant::{Bug, is_planted};
use cetera_proto::etcdserverpb::AlarmMember;
use cetera_proto::membershippb;
use cetera_proto::raftpb::ConfState;
use cetera_storage::revlog::{LogManifest, RevLog};
use prost::Message;
use prost::bytes::{Buf, Bytes};

use crate::alarm::Alarms;
use crate::error::Fatal;
use crate::lease::{LeaseSnapshot, LeaseTable};
use crate::member::{Member, Membership};
use crate::state::{State, StateLimits};
use crate::version::{DowngradeInfo, Version, Versions};

/// Kinds of the state's chunks; others in the same checkpoint belong to others.
const META: u8 = 0x20;
const LEASES: u8 = 0x21;

/// Layout of META and LEASES.
const FORMAT: u32 = 1;
/// A chunk ends behind the record that brings it past this size. Bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// Key bytes of one lease record; more keys go into further records. Bytes.
const RECORD_BYTES: usize = 256 << 10;

#[derive(Clone, PartialEq, prost::Message)]
struct Meta {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(uint64, tag = "2")]
    applied_index: u64,
    #[prost(uint64, tag = "3")]
    applied_term: u64,
    #[prost(message, optional, tag = "4")]
    conf_state: Option<ConfState>,
    #[prost(message, repeated, tag = "5")]
    members: Vec<membershippb::Member>,
    #[prost(uint64, repeated, tag = "6")]
    removed: Vec<u64>,
    #[prost(message, repeated, tag = "7")]
    alarms: Vec<AlarmMember>,
    /// Empty until decided.
    #[prost(string, tag = "8")]
    cluster_version: String,
    #[prost(bool, tag = "9")]
    downgrade_enabled: bool,
    #[prost(string, tag = "10")]
    downgrade_target: String,
    #[prost(uint64, tag = "11")]
    feature_level: u64,
    /// Leases in the LEASES chunks.
    #[prost(uint64, tag = "12")]
    leases: u64,
    /// What [`State::hash`] must give again.
    #[prost(fixed64, tag = "13")]
    hash: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeaseRecord {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    keys: Vec<Bytes>,
    /// More keys of the lease in the record before.
    #[prost(bool, tag = "5")]
    continued: bool,
}

/// Why a state was not restored.
#[derive(Debug)]
pub enum RestoreError {
    /// The store's chunks.
    Store(cetera_mvcc::RestoreError),
    /// The chunks are not a state's: what is wrong.
    Malformed(&'static str),
    /// This build is too old for what is in them.
    Fatal(Fatal),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Malformed(what) => write!(f, "checkpoint: bad state chunk: {what}"),
            Self::Fatal(fatal) => fatal.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {}

/// The state at one moment, to be written on a background thread.
pub struct StateCheckpoint {
    store: StoreCheckpoint,
    leases: LeaseSnapshot,
    meta: Meta,
}

impl State {
    /// Flushes the revision log and takes what a checkpoint needs: reference counts and small copies.
    pub fn checkpoint(&mut self) -> Result<StateCheckpoint, LogError> {
        let store = self.store.checkpoint()?;
        let downgrade = self.versions.downgrade();
        let meta = Meta {
            format: FORMAT,
            applied_index: self.applied_index + u64::from(is_planted(Bug::CheckpointIndexHigh)),
            applied_term: self.applied_term,
            conf_state: Some(self.members.conf_state()),
            members: self.members.list().iter().map(member_out).collect(),
            removed: self.members.removed().iter().copied().collect(),
            alarms: self.alarms.list().to_vec(),
            cluster_version: self.versions.cluster().map_or_else(String::new, |version| version.to_string()),
            downgrade_enabled: downgrade.enabled,
            downgrade_target: downgrade.target_version.clone(),
            feature_level: self.versions.feature_level(),
            leases: self.leases.len() as u64,
            hash: self.hash().sum,
        };
        Ok(StateCheckpoint { store, leases: self.leases.snapshot(), meta })
    }
}

impl StateCheckpoint {
    /// Index of the last entry in it: the log may drop entries through this one once the checkpoint is durable.
    pub fn applied_index(&self) -> u64 {
        self.meta.applied_index
    }

    /// Term of that entry.
    pub fn applied_term(&self) -> u64 {
        self.meta.applied_term
    }

    /// The raft configuration at that entry.
    pub fn conf_state(&self) -> ConfState {
        self.meta.conf_state.clone().unwrap_or_default()
    }

    /// What the checkpoint will say of the revision log.
    pub fn manifest(&self) -> &LogManifest {
        self.store.manifest()
    }

    /// Syncs the revision log, then writes all chunks. Blocks on the disk.
    pub fn write(self, sink: &mut impl ChunkSink) -> Result<(), WriteError> {
        self.store.write(sink)?;
        sink.chunk(META, &self.meta.encode_to_vec()).map_err(WriteError::Sink)?;
        write_leases(&self.leases, &mut |chunk| sink.chunk(LEASES, chunk)).map_err(WriteError::Sink)
    }
}

fn write_leases(leases: &LeaseSnapshot, sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut out = Vec::new();
    for (id, lease) in leases.iter() {
        let mut record =
            LeaseRecord { id, ttl: lease.ttl, remaining_ttl: lease.remaining_ttl, keys: Vec::new(), continued: false };
        let mut key_bytes = 0;
        for key in lease.keys().take(if is_planted(Bug::LeaseKeysForgotten) { 0 } else { usize::MAX }) {
            record.keys.push(Bytes::copy_from_slice(key));
            key_bytes += key.len();
            if key_bytes >= RECORD_BYTES {
                flush_record(&mut record, &mut out, sink)?;
                key_bytes = 0;
            }
        }
        if !record.continued || !record.keys.is_empty() {
            flush_record(&mut record, &mut out, sink)?;
        }
    }
    if out.is_empty() { Ok(()) } else { sink(&out) }
}

/// Appends a record, and hands the chunk on once it is long enough. The next record of the lease continues this one.
fn flush_record(
    record: &mut LeaseRecord,
    out: &mut Vec<u8>,
    sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    out.extend_from_slice(&record.encode_length_delimited_to_vec());
    record.keys.clear();
    record.continued = true;
    if out.len() >= CHUNK_BYTES {
        sink(out)?;
        out.clear();
    }
    Ok(())
}

/// Collects a checkpoint's chunks and becomes a state.
#[derive(Default)]
pub struct StateRestore {
    store: StoreRestore,
    meta: Option<Meta>,
    leases: LeaseTable,
}

impl StateRestore {
    /// Nothing collected yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one chunk of the checkpoint, in the order they were written. Ok(false): not one of the state's.
    pub fn chunk(&mut self, kind: u8, data: Vec<u8>) -> Result<bool, RestoreError> {
        match kind {
            META => {
                let meta = Meta::decode(&data[..]).map_err(|_| RestoreError::Malformed("meta"))?;
                if meta.format != FORMAT {
                    return Err(RestoreError::Malformed("unknown format"));
                }
                self.meta = Some(meta);
                Ok(true)
            }
            LEASES => {
                read_leases(data, &mut self.leases)?;
                Ok(true)
            }
            _ => self.store.chunk(kind, data).map_err(RestoreError::Store),
        }
    }

    /// Index of the last entry in the checkpoint, once its chunk was taken.
    pub fn applied_index(&self) -> Option<u64> {
        self.meta.as_ref().map(|meta| meta.applied_index)
    }

    /// Builds the state over the revision log that `open` opens with the recorded manifest.
    pub fn finish(
        self,
        limits: StateLimits,
        open: impl FnOnce(&LogManifest) -> Result<RevLog, LogError>,
    ) -> Result<State, RestoreError> {
        let meta = self.meta.ok_or(RestoreError::Malformed("no meta"))?;
        if self.leases.len() as u64 != meta.leases {
            return Err(RestoreError::Malformed("leases are missing"));
        }
        let members = meta.members.into_iter().map(member_in).collect();
        let removed: BTreeSet<u64> = meta.removed.into_iter().collect();
        let mut versions = Versions {
            cluster: None,
            downgrade: DowngradeInfo { enabled: meta.downgrade_enabled, target_version: meta.downgrade_target },
            feature_level: 0,
        };
        versions.raise_feature_level(meta.feature_level, limits.known_feature_level).map_err(RestoreError::Fatal)?;
        if !meta.cluster_version.is_empty() {
            let cluster = Version::parse(&meta.cluster_version).ok_or(RestoreError::Malformed("cluster version"))?;
            versions.set_cluster(cluster, limits.server_version).map_err(RestoreError::Fatal)?;
        }
        let state = State {
            store: self.store.finish(open).map_err(RestoreError::Store)?,
            leases: self.leases,
            members: Membership::restore(members, removed, &meta.conf_state.unwrap_or_default()),
            alarms: Alarms::from_list(&meta.alarms),
            versions,
            applied_index: meta.applied_index,
            applied_term: meta.applied_term,
            limits,
        };
        if state.hash().sum != meta.hash && !is_planted(Bug::LeaseKeysForgotten) {
            return Err(RestoreError::Malformed("the hash of the state does not match"));
        }
        Ok(state)
    }
}

fn read_leases(data: Vec<u8>, leases: &mut LeaseTable) -> Result<(), RestoreError> {
    const BAD: RestoreError = RestoreError::Malformed("leases");
    let mut input = Bytes::from(data);
    while input.has_remaining() {
        let record = LeaseRecord::decode_length_delimited(&mut input).map_err(|_| BAD)?;
        if record.continued != leases.get(record.id).is_some() {
            return Err(BAD);
        }
        if !record.continued {
            leases.insert(record.id, record.ttl, record.remaining_ttl);
        }
        for key in record.keys {
            if leases.lease_of(&key) != crate::lease::NO_LEASE {
                return Err(BAD);
            }
            leases.attach(record.id, (&key[..]).into());
        }
    }
    Ok(())
}

fn member_out(member: &Member) -> membershippb::Member {
    membershippb::Member {
        id: member.id,
        raft_attributes: Some(membershippb::RaftAttributes {
            peer_urls: member.peer_urls.clone(),
            is_learner: member.is_learner,
        }),
        member_attributes: Some(membershippb::Attributes {
            name: member.name.clone(),
            client_urls: member.client_urls.clone(),
        }),
    }
}

fn member_in(member: membershippb::Member) -> Member {
    let raft = member.raft_attributes.unwrap_or_default();
    let attributes = member.member_attributes.unwrap_or_default();
    Member {
        id: member.id,
        peer_urls: raft.peer_urls,
        is_learner: raft.is_learner,
        name: attributes.name,
        client_urls: attributes.client_urls,
    }
}
