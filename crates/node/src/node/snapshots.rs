//! Members that lag: entries read back from the disk, snapshots sent, and a snapshot taken over.
//!
//! Sending: a snapshot is a checkpoint made when the first member needs it, and serves every other one that needs it
//! while the log still goes on from it. It is bounded in time, so that files nobody names any more are not kept for ever;
//! what fails is tried again after a pause, for as long as the group wants it.
//!
//! Taking over: the group decides. Then one rename makes the new state the durable one, and only after it anything of
//! that step leaves. Whoever waits here for the outcome of an entry that the snapshot skipped is told that it is unknown;
//! watchers read from the new picture's history what they were not told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cetera_plant::{Bug, is_planted};
use cetera_proto::raftpb;
use cetera_raft::rng::Rng;
use cetera_storage::wal::WalReader;

use super::{Mode, Node, fatal, refuse_all};
use crate::event::{Effects, Fatal, Refusal};
use crate::job::{FetchEntries, Job, NewSnapshot};
use crate::limits;
use crate::snapshot::{PreparedSnapshot, SnapshotFiles, SnapshotSend};

/// Where the member's durable state lies, as far as the node must know.
pub struct Disk {
    /// Reads the write-ahead log.
    pub wal: WalReader,
    /// Number of the revision log's directory.
    pub log: u32,
    /// Bytes of the write-ahead log that a checkpoint covers and that may be kept for members that lag.
    pub laggard_bytes: u64,
}

#[derive(Default)]
pub(super) struct Snapshots {
    /// Members the group wants to send one to.
    wanted: BTreeSet<u64>,
    /// The one that is at hand, and when it was last needed.
    made: Option<(Arc<SnapshotFiles>, u64)>,
    /// One is being made.
    making: bool,
    count: u64,
    sending: BTreeMap<u64, Sending>,
    /// Members whose last one failed: no other before.
    pause_until_ms: BTreeMap<u64, u64>,
    /// Received, and to be offered to the group.
    incoming: Option<Box<PreparedSnapshot>>,
    /// A state was taken over in this step.
    pub(super) installed: bool,
}

struct Sending {
    id: u64,
    /// Of the snapshot.
    index: u64,
    /// It is to replace a state that went wrong: its receiver had all of the log before.
    resync: bool,
    until_ms: u64,
    cancelled: Arc<AtomicBool>,
    /// It is all there; what is left is to take it over.
    arrived: bool,
    /// Its receiver said that its log goes on from it.
    acknowledged: bool,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

impl Node {
    /// A snapshot was received.
    pub(super) fn snapshot_arrived(&mut self, snapshot: Box<PreparedSnapshot>) {
        if self.mode == Mode::Running {
            self.snapshots.incoming = Some(snapshot);
        }
    }

    /// Offers the group what was received. A leader that began to send it may have lost its office since: what it sent is
    /// committed all the same, and is taken as if the present leader had sent it.
    pub(super) fn offer_arrived(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        let Some(snapshot) = &self.snapshots.incoming else { return Ok(()) };
        let (leader, term) = (self.group.leader(), self.group.term());
        let mut message = snapshot.message().clone();
        let of_old = message.term < term || (message.term == term && leader != message.from);
        if of_old && leader == 0 {
            return Ok(());
        }
        if of_old {
            message.from = leader;
            message.term = term;
        }
        message.to = self.config.member_id;
        if is_planted(Bug::SnapshotKeepsMembers) && !self.group.conf_state().voters.is_empty() {
            let metadata = message.snapshot.as_mut().and_then(|snapshot| snapshot.metadata.as_mut());
            metadata.into_iter().for_each(|metadata| metadata.conf_state = Some(self.group.conf_state()));
        }
        // The highest directory counts at a start, so an older one is never taken over. What is committed here already
        // the group does not take over but answers, so that its sender stops.
        let newer = snapshot.log() > self.disk.log;
        if leader == self.config.member_id {
            // Sent by an earlier leader: this one needs no snapshot.
        } else if self.fenced && newer && snapshot.is_resync() && snapshot.index() >= self.group.committed() {
            self.group.step_replacement(message);
            self.advance(effects)?;
        } else if newer || snapshot.index() <= self.group.committed() {
            self.group.step(message);
            self.advance(effects)?;
        }
        // Unless it was taken it is of no use: its files go with it.
        self.snapshots.incoming = None;
        Ok(())
    }

    /// Whether it is the message of a snapshot that is not committed here yet.
    pub(super) fn is_news(&self, message: &raftpb::Message) -> bool {
        let metadata = message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref());
        message.r#type() == raftpb::MessageType::MsgSnap
            && metadata.is_none_or(|metadata| metadata.index > self.group.committed())
    }

    /// The group took the snapshot of this index and term over: so does everything else.
    pub(super) fn take_over(
        &mut self,
        metadata: &raftpb::SnapshotMetadata,
        effects: &mut Effects,
    ) -> Result<(), Fatal> {
        let snapshot = self.snapshots.incoming.take();
        let snapshot = snapshot.filter(|it| (it.index(), it.term()) == (metadata.index, metadata.term));
        let snapshot = snapshot.ok_or_else(|| Fatal("the group took a snapshot over that was not received".into()))?;
        let (state, log) = snapshot.commit().map_err(fatal)?;
        self.state = state;
        self.disk.log = log;
        self.snapshots.installed = true;
        self.dirty = true;
        if std::mem::take(&mut self.log_synced) {
            self.checkpoint_running = false;
            self.snapshot_made(None);
        }
        // Jobs under way are over the state that was replaced: what they bring is void.
        self.void_jobs = (self.checkpoint_running, self.rewrite_running);
        self.log_bytes_since_checkpoint = 0;
        self.step_down(effects);
        self.events.clear();
        refuse_all(self.waiters.drain(), Refusal::Timeout, effects);
        effects.jobs.push(Job::RemoveOlder { index: metadata.index, log, evidence: self.fenced });
        self.state_replaced();
        Ok(())
    }

    /// Does for members that lag what can be done now.
    pub(super) fn serve_laggards(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        let wanted = self.group.take_snapshot_wants();
        if !self.leads() || self.mode != Mode::Running {
            self.snapshots.sending.clear();
            self.snapshots.wanted.clear();
            self.forget_made();
            return Ok(());
        }
        for low in self.group.take_fetches() {
            let high = self.group.dropped() + 1;
            effects.jobs.push(Job::FetchEntries(FetchEntries { wal: self.disk.wal.clone(), low, high }));
        }
        self.snapshots.wanted.extend(wanted);
        self.look_at_sending();
        self.forget_made();
        if self.snapshots.wanted.is_empty() {
            return Ok(());
        }
        let now_ms = self.now_ms;
        let pauses = &mut self.snapshots.pause_until_ms;
        pauses.retain(|_, until_ms| *until_ms > now_ms);
        // Asked for again at the next sign of life.
        self.snapshots.wanted.retain(|member| !pauses.contains_key(member));
        let members = self.group.conf_state();
        self.snapshots.wanted.retain(|member| members.voters.contains(member) || members.learners.contains(member));
        if let Some((files, used_ms)) = &mut self.snapshots.made {
            let metadata = files.metadata.clone();
            let knows = metadata.conf_state.clone().unwrap_or_default();
            let (now, later) = std::mem::take(&mut self.snapshots.wanted).into_iter().partition(|member| {
                let known = knows.voters.contains(member) || knows.learners.contains(member);
                known && self.group.snapshot_floor(*member) <= metadata.index
            });
            self.snapshots.wanted = later;
            *used_ms = now_ms;
            let now: BTreeSet<u64> = now;
            for member in now {
                self.group.offer_snapshot(member, &metadata);
            }
            self.advance(effects)?;
        }
        let applied = self.state.applied_index();
        let ripe = self.snapshots.wanted.iter().any(|member| self.group.snapshot_floor(*member) <= applied);
        if ripe && !self.checkpoint_running {
            self.snapshots.making = true;
            self.start_checkpoint(effects)?;
        }
        Ok(())
    }

    /// What a checkpoint that is to be sent must keep: open files of the revision log as the manifest will name them.
    pub(super) fn new_snapshot(&mut self, metadata: raftpb::SnapshotMetadata) -> Option<NewSnapshot> {
        if !self.snapshots.making {
            return None;
        }
        self.snapshots.count += 1;
        let seed = self.config.member_id ^ self.config.nonce.rotate_left(21) ^ self.snapshots.count << 48;
        let segments = self.state.store().log().files();
        Some(NewSnapshot { id: Rng::new(seed).next_u64(), metadata, segments })
    }

    /// A checkpoint ended, well or not.
    pub(super) fn snapshot_made(&mut self, files: Option<Arc<SnapshotFiles>>) {
        let wanted = std::mem::take(&mut self.snapshots.making);
        if let Some(files) = files {
            self.snapshots.made = Some((files, self.now_ms));
        } else if wanted {
            let until_ms = self.now_ms + limits::SNAPSHOT_RETRY_MS;
            let members = std::mem::take(&mut self.snapshots.wanted);
            self.snapshots.pause_until_ms.extend(members.into_iter().map(|member| (member, until_ms)));
        }
    }

    /// The group wants this snapshot sent.
    pub(super) fn send_snapshot(&mut self, message: raftpb::Message, effects: &mut Effects) {
        let metadata = message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref());
        let index = metadata.map_or(0, |metadata| metadata.index);
        let made = self.snapshots.made.as_ref().filter(|(files, _)| files.metadata.index == index);
        let Some((files, _)) = made else {
            self.group.report_snapshot(message.to, false);
            return;
        };
        let (to, id, cancelled) = (message.to, files.id, Arc::new(AtomicBool::new(false)));
        let resync = self.group.snapshot_floor(to) > 0;
        effects.snapshots.push(SnapshotSend { files: files.clone(), message, resync, cancelled: cancelled.clone() });
        let until_ms = self.now_ms + limits::SNAPSHOT_SEND_MS_MAX;
        let sending = Sending { id, index, resync, until_ms, cancelled, arrived: false, acknowledged: false };
        self.snapshots.sending.insert(to, sending);
    }

    /// How the sending of one ended.
    pub(super) fn snapshot_sent(&mut self, to: u64, id: u64, ok: bool) {
        let Some(sending) = self.snapshots.sending.get_mut(&to).filter(|sending| sending.id == id) else { return };
        if ok {
            // It counts as arrived when its receiver's log goes on from it.
            sending.arrived = true;
            sending.until_ms = self.now_ms + limits::SNAPSHOT_INSTALL_MS_MAX;
            self.look_at_replaced(to);
        } else {
            self.snapshot_failed(to);
        }
    }

    /// A member acknowledges its log. One that had all of the log before it got a snapshot, because its state was wrong,
    /// says no more than it did; the library does not see that the snapshot is there.
    pub(super) fn acknowledged(&mut self, member: u64) {
        if self.group.snapshot_floor(member) > 0
            && let Some(sending) = self.snapshots.sending.get_mut(&member)
        {
            sending.acknowledged = true;
            self.look_at_replaced(member);
        }
    }

    fn look_at_replaced(&mut self, member: u64) {
        if self.snapshots.sending.get(&member).is_some_and(|sending| sending.arrived && sending.acknowledged) {
            self.snapshots.sending.remove(&member);
            self.group.report_snapshot(member, true);
        }
    }

    /// The process of a member is gone: what it had received it begins anew.
    pub(super) fn receiver_gone(&mut self, member: u64) {
        if self.snapshots.sending.contains_key(&member) {
            self.snapshot_failed(member);
        }
    }

    fn snapshot_failed(&mut self, to: u64) {
        self.snapshots.sending.remove(&to);
        self.snapshots.pause_until_ms.insert(to, self.now_ms + limits::SNAPSHOT_RETRY_MS);
        self.group.report_snapshot(to, false);
    }

    /// Lets go of those that have arrived, that nobody needs any more, or that took too long. The acknowledgement of one
    /// that was taken over may be lost; then every heartbeat's answer says it: without the snapshot its receiver would
    /// not know that so much is committed.
    fn look_at_sending(&mut self) {
        if self.snapshots.sending.is_empty() {
            return;
        }
        let now_ms = self.now_ms;
        let progress = self.group.progress();
        let waiting = |to: u64| progress.iter().find(|it| it.member == to && it.in_snapshot);
        self.snapshots.sending.retain(|to, _| waiting(*to).is_some());
        let has_it = |to: u64, it: &Sending| !it.resync && waiting(to).is_some_and(|knows| knows.committed >= it.index);
        let there = self.snapshots.sending.extract_if(.., |to, it| has_it(*to, it)).map(|(to, _)| to);
        for to in there.collect::<Vec<_>>() {
            self.group.report_snapshot(to, true);
        }
        let late = self.snapshots.sending.iter().filter(|(_, it)| it.until_ms <= now_ms).map(|(to, _)| *to);
        for to in late.collect::<Vec<_>>() {
            self.snapshot_failed(to);
        }
    }

    /// The snapshot at hand is kept while it is being sent, and for a while after that, as long as the log goes on from
    /// it.
    fn forget_made(&mut self) {
        let Some((files, used_ms)) = &mut self.snapshots.made else { return };
        if !self.snapshots.sending.is_empty() {
            *used_ms = self.now_ms;
        }
        let goes_on = files.metadata.index + 1 >= self.group.first_index();
        if !goes_on || self.now_ms >= *used_ms + limits::SNAPSHOT_REUSE_MS {
            self.snapshots.made = None;
        }
    }

    /// Up to where the log may let go of entries, with a durable checkpoint at `index`. A member that lags is served
    /// from the disk if what that takes is bounded; what is kept in memory must be found there after a restart.
    pub(super) fn log_floor(&self, index: u64) -> u64 {
        if self.group.is_alone() {
            return index;
        }
        let floor = index.min(self.group.dropped());
        let snapshot = self.snapshots.made.as_ref().map_or(floor, |(files, _)| files.metadata.index.min(floor));
        let lowest = self.group.lowest_match().map_or(snapshot, |lowest| lowest.min(snapshot));
        let fits = |from: &u64| self.disk.wal.bytes_from(*from + 1) <= self.disk.laggard_bytes;
        [lowest, snapshot].into_iter().find(fits).unwrap_or(floor)
    }
}
