//! From a data directory to a member that may take part: the one way in, for a first start and for every other.
//!
//! 1. The data directory is locked and its format checked.
//! 2. The newest good checkpoint A gives the state at its applied index, and the revision log is cut at the end that A
//!    recorded; without one the state is empty, at index 0.
//! 3. The write-ahead log is opened; its entries after A up to the saved commit index go through the same `apply` as
//!    ever. Members come from A plus this replay, never from entries older than A.
//! 4. Only then the consensus group is created, with the entries beyond the commit index as its undecided tail, and, in
//!    a group of several, with what the log still holds below A, for members that lag.
//!
//! A checkpoint that came as a snapshot may find a log that does not go on from it: the member stopped before the log
//! began anew. Then it does so now, before anything else, and nothing of what it held is used.
//!
//! A first start writes one AddNode entry per member, term 1, as committed (B-1), and then takes steps 2 to 4 like any
//! other start. A crash before that write is synced leaves an empty log, and the next start is a first start again.
//!
//! A member that joins has no first entries: its log begins with an empty hard state, and everything, its own addition
//! included, comes from the leader. It has no voters in its configuration, and so never asks for votes, until it
//! applied the entry that made it one.

mod alone;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cetera_mvcc::Store;
use cetera_plant::{Bug, is_planted};
use cetera_proto::{etcdserverpb::Metadata, raftpb};
use cetera_raft::log::{Keep, Terms};
use cetera_raft::{Config as GroupConfig, Entry, EntryKind, Group, Recovered as GroupState};
use cetera_state::member::{Member, write_member};
use cetera_state::{State, StateLimits, StateRestore};
use cetera_storage::checkpoint::{self, CheckpointReader};
use cetera_storage::datadir::{self, DataDir, DataDirError};
use cetera_storage::revlog::{LogManifest, RevLog, RevLogOptions};
use cetera_storage::vfs::Vfs;
use cetera_storage::wal::{Recovered, TornTail, Wal, WalBatch, WalEntry, WalOptions};
use prost::Message as _;

pub use self::alone::Forced;
use crate::event::Fatal;
use crate::limits;
use crate::node::{Disk, Node, NodeConfig};
use crate::snapshot::SnapshotReceiver;

/// What a start needs to know.
#[derive(Clone, Debug)]
pub struct Start {
    /// The members of a new cluster by id, this one among them; none to join a cluster that exists. Not read when the
    /// directory holds a log (F-9), like the two ids.
    pub founders: Vec<Member>,
    /// This member's id.
    pub member_id: u64,
    /// The cluster's id.
    pub cluster_id: u64,
    /// What apply must respect.
    pub limits: StateLimits,
    /// Go on alone from what the directory holds: all other members are given up (B-6). Nothing to a first start.
    pub force_new_cluster: bool,
    /// Milliseconds between ticks.
    pub tick_ms: u64,
    /// Milliseconds without a leader before an election.
    pub election_ms: u64,
    /// Whether to ask before an election.
    pub pre_vote: bool,
    /// Differs at every start.
    pub nonce: u64,
    /// The clock now, in milliseconds.
    pub now_ms: u64,
    /// Log bytes between checkpoints, if not to follow the size of the index.
    pub checkpoint_log_bytes: Option<u64>,
    /// Bytes of the write-ahead log that a checkpoint covers and that may be kept for members that lag, if not the usual
    /// share of what the log may hold.
    pub laggard_log_bytes: Option<u64>,
    /// Sizes of the write-ahead log. What is kept in memory for members that lag is bounded as the group bounds it, unless
    /// `keep_entries` and `keep_bytes` are set; what is kept for them on the disk by a share of `max_bytes`,
    /// unless `laggard_log_bytes` is set.
    pub wal: WalOptions,
    /// Sizes of the revision log.
    pub log: RevLogOptions,
}

impl Default for Start {
    /// No founders, and the flags' defaults.
    fn default() -> Self {
        Self {
            founders: Vec::new(),
            member_id: 0,
            cluster_id: 0,
            limits: StateLimits::default(),
            force_new_cluster: false,
            tick_ms: 100,
            election_ms: 1_000,
            pre_vote: true,
            nonce: 0,
            now_ms: 0,
            checkpoint_log_bytes: None,
            laggard_log_bytes: None,
            wal: WalOptions::default(),
            log: RevLogOptions::default(),
        }
    }
}

/// A member ready to be stepped.
pub struct Opened {
    /// The member.
    pub node: Node,
    /// Its write-ahead log.
    pub wal: Wal,
    /// Directory of its checkpoints.
    pub checkpoints: PathBuf,
    /// Where snapshots of other members arrive.
    pub snapshots: SnapshotReceiver,
    /// Holds the lock of the directory.
    pub data_dir: DataDir,
    /// This member's and its cluster's id, from the log.
    pub ids: (u64, u64),
    /// What was found.
    pub report: Report,
}

/// What a start found, for the log.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whether the directory was new.
    pub first_start: bool,
    /// Applied index of the checkpoint used.
    pub checkpoint: Option<u64>,
    /// Whether the log did not go on from it, and began anew.
    pub begins_anew: bool,
    /// Entries replayed.
    pub replayed: u64,
    /// A torn tail of the write-ahead log that was cut.
    pub torn: Option<TornTail>,
    /// Whether this member is the only voter.
    pub sole_voter: bool,
    /// What was given up, if it was forced.
    pub forced: Option<Forced>,
    /// This member was removed from its cluster, and knows it: it has nothing to do.
    pub removed: bool,
}

/// Why a member could not start. Each is one line that says where and what.
#[derive(Debug)]
pub enum StartError {
    /// The directory is held by another process, not ours, or of a newer format.
    DataDir(DataDirError),
    /// Stored bytes are damaged or cannot be read; nothing was changed.
    Storage(String),
    /// The log and this build do not fit.
    State(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(f),
            Self::Storage(text) | Self::State(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StartError {}

fn storage(error: impl fmt::Display) -> StartError {
    StartError::Storage(error.to_string())
}

fn state(error: impl fmt::Display) -> StartError {
    StartError::State(error.to_string())
}

/// Opens the member that lives in `dir`, or makes it: a founder, or one that joins.
///
/// # Errors
/// [`StartError`]; nothing that was acknowledged is given up silently.
pub fn open(vfs: &Arc<dyn Vfs>, dir: &Path, start: Start) -> Result<Opened, StartError> {
    let opened = open_or_make(vfs, dir, start, true)?;
    Ok(opened.expect("what is not there was made"))
}

/// Opens the member that lives in `dir`; `None` if none does, or if its making was cut short. Then nothing is made, and
/// whoever starts it can ask around first.
///
/// # Errors
/// As [`open`].
pub fn reopen(vfs: &Arc<dyn Vfs>, dir: &Path, start: Start) -> Result<Option<Opened>, StartError> {
    open_or_make(vfs, dir, start, false)
}

fn open_or_make(vfs: &Arc<dyn Vfs>, dir: &Path, start: Start, make: bool) -> Result<Option<Opened>, StartError> {
    let data_dir = DataDir::open(vfs.clone(), dir).map_err(StartError::DataDir)?;
    let checkpoints = data_dir.checkpoint_dir();
    let reader = checkpoint::open_newest(vfs.clone(), &checkpoints).map_err(storage)?;
    let checkpoint = reader.as_ref().map(|reader| (reader.index(), reader.log()));
    let index = checkpoint.map(|(index, _)| index);
    // Before the revision log is cut to what the checkpoint says: if the two logs do not meet, nothing is touched.
    let Some((mut wal, mut recovered, first_start)) = open_wal(vfs, &data_dir.wal_dir(), &start, index, make)? else {
        return Ok(None);
    };
    let mut applied_state = restore(vfs, &data_dir, &start, reader)?;
    let mut before = (applied_state.applied_index(), applied_state.applied_term());
    let begins_anew = !wal.continues(before.0, before.1);
    if begins_anew {
        wal.restart(before.0).map_err(storage)?;
        recovered.entries.clear();
        recovered.kept.clear();
    }
    let metadata = Metadata::decode(recovered.metadata).map_err(storage)?;
    let hard_state = match recovered.state {
        Some(bytes) => raftpb::HardState::decode(bytes).map_err(storage)?,
        None => raftpb::HardState::default(),
    };
    let mut hard_state = hard_state;
    if hard_state.term < before.1 {
        // The snapshot came in a term that was not noted yet: nothing was voted in it.
        hard_state = raftpb::HardState { term: before.1, vote: 0, ..hard_state };
    }
    let mut entries = decode_entries(recovered.entries)?;
    let mut forced = (start.force_new_cluster && !first_start)
        .then(|| alone::commit_all(metadata.node_id, &mut entries, &mut hard_state));
    let commit = if is_planted(Bug::UncommittedApplied) { u64::MAX } else { hard_state.commit };
    let replayed = replay(&mut applied_state, &entries, commit)?;
    if let Some(forced) = &mut forced {
        alone::force(metadata.node_id, forced, &mut wal, &mut entries, &mut hard_state, &mut applied_state)?;
    }
    let applied = applied_state.applied_index();
    let conf_state = applied_state.conf_state();
    let mut on_disk = None;
    if conf_state.voters.len() + conf_state.learners.len() > 1 {
        prepend(&mut entries, &mut before, decode_entries(recovered.kept)?);
        on_disk = reach(&wal).filter(|(first, _)| *first <= before.0);
    }
    let group = Group::new(
        GroupConfig {
            id: metadata.node_id,
            election_ticks: (start.election_ms / start.tick_ms) as usize,
            heartbeat_ticks: 1,
            pre_vote: start.pre_vote,
            seed: start.nonce,
        },
        GroupState {
            hard_state: raftpb::HardState { commit: hard_state.commit.max(applied), ..hard_state },
            conf_state,
            applied,
            before,
            entries,
            on_disk,
            keep: keep(&start),
        },
    )
    .map_err(state)?;
    let removed = applied_state.membership().removed().contains(&metadata.node_id);
    let report = Report {
        first_start,
        checkpoint: index,
        begins_anew,
        replayed,
        torn: recovered.torn,
        sole_voter: group.is_sole_voter(),
        forced,
        removed,
    };
    let config = NodeConfig {
        member_id: metadata.node_id,
        cluster_id: metadata.cluster_id,
        tick_ms: start.tick_ms,
        election_ms: start.election_ms,
        nonce: start.nonce,
        checkpoint_log_bytes: start.checkpoint_log_bytes,
    };
    let log = checkpoint.map_or(0, |(_, log)| log);
    let next_log = remove_leftovers(vfs.as_ref(), &data_dir, checkpoint)?;
    let snapshots = SnapshotReceiver::new(vfs.clone(), &data_dir, start.log, start.limits, next_log);
    let laggard_bytes = start.laggard_log_bytes.unwrap_or(start.wal.max_bytes / limits::LAGGARD_LOG_SHARE);
    let disk = Disk { wal: wal.reader(), log, laggard_bytes };
    let node =
        Node::new(config, group, applied_state, hard_state, disk, start.now_ms).map_err(|Fatal(text)| state(text))?;
    let ids = (metadata.node_id, metadata.cluster_id);
    Ok(Some(Opened { node, wal, checkpoints, snapshots, data_dir, ids, report }))
}

fn keep(start: &Start) -> Keep {
    let WalOptions { keep_entries, keep_bytes, .. } = start.wal;
    if keep_entries == 0 { Keep::default() } else { Keep { entries: keep_entries, bytes: keep_bytes } }
}

/// The log after the checkpoint. A new one, or one whose making was cut short, gets its first entries if `make` says so.
fn open_wal(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    start: &Start,
    checkpoint: Option<u64>,
    make: bool,
) -> Result<Option<(Wal, Recovered, bool)>, StartError> {
    let metadata: Bytes = Metadata { node_id: start.member_id, cluster_id: start.cluster_id }.encode_to_vec().into();
    if Wal::exists(vfs.as_ref(), dir).map_err(storage)? {
        let after = checkpoint.unwrap_or(0);
        let Keep { entries: keep_entries, bytes: keep_bytes } = keep(start);
        let options = WalOptions { keep_entries, keep_bytes, ..start.wal.clone() };
        let (mut wal, mut recovered) = Wal::open(vfs.clone(), dir, options, after).map_err(storage)?;
        let unfinished = checkpoint.is_none() && recovered.state.is_none();
        if unfinished {
            if !make {
                return Ok(None);
            }
            if recovered.metadata != metadata {
                return Err(StartError::Storage(format!(
                    "{}: the first start of this member was cut short, and it was started as another one then; nothing \
                     was stored, remove the directory",
                    dir.display()
                )));
            }
            begin(&mut wal, &mut recovered, start)?;
        }
        return Ok(Some((wal, recovered, unfinished)));
    }
    if checkpoint.is_some() {
        return Err(StartError::Storage(format!(
            "{}: there is a checkpoint but no write-ahead log; the directory is incomplete",
            dir.display()
        )));
    }
    if !make {
        return Ok(None);
    }
    let mut wal = Wal::create(vfs.clone(), dir, start.wal.clone(), metadata.clone()).map_err(storage)?;
    let mut recovered = Recovered { metadata, state: None, entries: Vec::new(), kept: Vec::new(), torn: None };
    begin(&mut wal, &mut recovered, start)?;
    Ok(Some((wal, recovered, true)))
}

/// The state of the checkpoint, or the empty state.
fn restore(
    vfs: &Arc<dyn Vfs>,
    data_dir: &DataDir,
    start: &Start,
    reader: Option<CheckpointReader>,
) -> Result<State, StartError> {
    let dir = data_dir.log_dir(reader.as_ref().map_or(0, CheckpointReader::log));
    let Some(mut reader) = reader else {
        let log = RevLog::open(vfs.clone(), &dir, start.log, &LogManifest::default()).map_err(storage)?;
        return Ok(State::create(Store::create(log), start.limits));
    };
    let mut parts = StateRestore::new();
    while let Some((kind, data)) = reader.next_chunk().map_err(storage)? {
        if !parts.chunk(kind, data).map_err(state)? {
            return Err(StartError::State(format!("checkpoint {}: a chunk of unknown kind {kind}", reader.index())));
        }
    }
    let restored =
        parts.finish(start.limits, |manifest| RevLog::open(vfs.clone(), &dir, start.log, manifest)).map_err(state)?;
    restored.store().log().reader().verify(VERIFY_AT_START_BYTES).map_err(storage)?;
    Ok(restored)
}

/// Newest bytes of the revision log whose checksums are looked at before serving; older ones are looked at when they are
/// read.
const VERIFY_AT_START_BYTES: u64 = 256 << 20;

/// The first entries of a new log: one per founding member, and the word that they are committed (B-1). Of one that joins,
/// a hard state that says nothing: it tells a log that is begun from one that is not.
fn begin(wal: &mut Wal, recovered: &mut Recovered, start: &Start) -> Result<(), StartError> {
    for (at, member) in start.founders.iter().enumerate() {
        let change = raftpb::ConfChange {
            r#type: raftpb::ConfChangeType::ConfChangeAddNode as i32,
            node_id: member.id,
            context: write_member(member).into(),
            ..Default::default()
        };
        let index = at as u64 + 1;
        let entry = Entry { index, term: 1, kind: EntryKind::ConfChange, data: change.encode_to_vec().into() };
        recovered.entries.push(WalEntry { index, term: 1, data: entry.to_wire().encode_to_vec().into() });
    }
    let hard_state = match start.founders.len() as u64 {
        0 => raftpb::HardState::default(),
        commit => raftpb::HardState { term: 1, vote: 0, commit },
    };
    recovered.state = Some(hard_state.encode_to_vec().into());
    let batch = WalBatch { entries: recovered.entries.clone(), state: recovered.state.clone(), restart: None };
    wal.append(&batch).map_err(storage)?;
    wal.sync().map_err(storage)
}

fn decode_entries(entries: Vec<WalEntry>) -> Result<Vec<Entry>, StartError> {
    entries
        .into_iter()
        .map(|entry| {
            let wire = raftpb::Entry::decode(entry.data).map_err(storage)?;
            Entry::from_wire(wire)
                .ok_or_else(|| StartError::State(format!("entry {} is of a kind unknown here", entry.index)))
        })
        .collect()
}

/// The first entry that can be read back from the disk and whose predecessor's term is known, and the terms from there.
fn reach(wal: &Wal) -> Option<(u64, Terms)> {
    let reader = wal.reader();
    let (first, last) = reader.range();
    let mut terms = reader.terms();
    let known = match terms.first() {
        Some((known, _)) if *known < first => first,
        _ if first == 1 => {
            terms.insert(0, (0, 0));
            first
        }
        _ => first + 1,
    };
    (known <= last).then(|| (known, terms.into_iter().collect()))
}

/// Removes what belongs to no checkpoint there is: logs of snapshots that were not taken over, and what they replaced.
/// Returns a number for the next log that none has.
fn remove_leftovers(vfs: &dyn Vfs, data_dir: &DataDir, checkpoint: Option<(u64, u32)>) -> Result<u32, StartError> {
    let dir = data_dir.checkpoint_dir();
    if let Some((_, log)) = checkpoint {
        checkpoint::remove_older(vfs, &dir, 0, log).map_err(storage)?;
    }
    let named = checkpoint::named_logs(vfs, &dir).map_err(storage)?;
    let present = checkpoint.map_or(0, |(_, log)| log);
    let logs = data_dir.logs(vfs).map_err(StartError::DataDir)?;
    let next = logs.iter().chain(&named).max().map_or(1, |last| last + 1);
    datadir::remove_logs(vfs, data_dir.member_dir(), |log| log != present && !named.contains(&log))
        .map_err(StartError::DataDir)?;
    Ok(next)
}

/// Puts what the log holds below the checkpoint before `entries`. The term of the entry before the first is needed too,
/// so the oldest one gives only that, unless the log begins with it.
fn prepend(entries: &mut Vec<Entry>, before: &mut (u64, u64), mut kept: Vec<Entry>) {
    let Some(oldest) = kept.first() else { return };
    if oldest.index == 1 {
        *before = (0, 0);
    } else {
        *before = (oldest.index, oldest.term);
        kept.remove(0);
    }
    kept.append(entries);
    *entries = kept;
}

/// Applies what is committed and not in the checkpoint. Nobody waits for these, and no watcher is there yet.
fn replay(state_machine: &mut State, entries: &[Entry], commit: u64) -> Result<u64, StartError> {
    let mut replayed = 0;
    let mut events = Vec::new();
    for entry in entries.iter().take_while(|entry| entry.index <= commit) {
        match entry.kind {
            EntryKind::Normal if entry.data.is_empty() => {
                state_machine.apply_empty(entry.index, entry.term);
            }
            EntryKind::Normal => {
                let _ = state_machine.apply(entry.index, entry.term, &entry.data, &mut events).map_err(state)?;
                events.clear();
            }
            EntryKind::ConfChange => {
                let change = raftpb::ConfChange::decode(entry.data.clone()).map_err(storage)?;
                let _ = state_machine.apply_conf_change(entry.index, entry.term, &change).map_err(state)?;
            }
            EntryKind::ConfChangeV2 => {
                return Err(StartError::State(format!(
                    "entry {} is a ConfChangeV2, which no member proposes",
                    entry.index
                )));
            }
        }
        replayed += 1;
    }
    Ok(replayed)
}
