//! One member, many lives: it works, loses power at a disk operation chosen by the seed, starts again, and must be a
//! member that never lost anything it acknowledged.
//!
//! A sole voter orders by proposing, so the log of a life is the list of its proposals. The reference is a second state
//! machine on a disk that never fails, fed with the entries that the restarted member's log holds. They must agree on
//! everything: every acknowledged entry is in the log with its bytes, the applied states hash alike, every revision reads
//! alike, and history replays alike.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cetera_mvcc::{RangeQuery, Store, View};
use cetera_node::event::{Proposal, Reply, Ticket};
use cetera_proto::raftpb;
use cetera_raft::rng::Rng;
use cetera_raft::{Entry, EntryKind};
use cetera_state::{State, StateLimits};
use cetera_storage::revlog::{RevLog, RevLogOptions};
use cetera_storage::vfs::{Vfs, memory::MemoryVfs};
use prost::Message as _;

use crate::member::{Logged, Plant, SimMember, Stopped, TICK_MS};
use crate::workload::Workload;

/// What a run does; all of it follows from the seed.
#[derive(Copy, Clone, Debug)]
pub struct Plan {
    /// Of everything.
    pub seed: u64,
    /// Lives before the last check.
    pub lives: usize,
    /// Batches proposed in a life at most.
    pub batches: usize,
    /// Deviation to be caught, or none.
    pub plant: Plant,
}

/// What a run did.
#[derive(Copy, Clone, Debug, Default)]
pub struct Tally {
    /// Power losses.
    pub crashes: u64,
    /// Acknowledged requests checked.
    pub acknowledged: u64,
    /// Entries compared.
    pub entries: u64,
    /// Checkpoints that a start began from.
    pub from_checkpoint: u64,
}

const DIR: &str = "/data";

/// Runs the plan.
///
/// # Errors
/// The violation, in words.
pub fn run(plan: Plan) -> Result<Tally, String> {
    let mut rng = Rng::new(plan.seed);
    let mut tally = Tally::default();
    let mut disk = MemoryVfs::new();
    let mut known = Known::default();
    let mut workload = Workload::new(rng.next_u64());
    let mut next_id = 1;
    let mut now_ms = 0;
    for life in 0..plan.lives {
        let ops = 40 + rng.within(0, 1_500) as u64;
        disk.crash_after(disk.ops() + ops);
        let mut member = open(&disk, now_ms, &mut rng, plan.plant, &known.logged);
        known.note_writes();
        match &mut member {
            Ok(member) => {
                tally.from_checkpoint += u64::from(member.report.checkpoint.is_some());
                known.check(member).map_err(|what| format!("life {life}: {what}"))?;
                let ended = live(member, &mut workload, &mut rng, &mut next_id, &mut known, plan.batches);
                known.take(member);
                now_ms += 10_000;
                if ended.is_ok() {
                    // The plan ended before the power did; it is cut now, with whatever is unsynced.
                    disk.crash_after(disk.ops());
                }
            }
            // A start that is cut short by the power loss proves nothing yet; any other refusal is a violation.
            Err(_) if disk.has_stopped() => {}
            Err(Stopped(why)) => return Err(format!("life {life}: refused to start: {why}")),
        }
        drop(member);
        disk = disk.crash(rng.next_u64());
        tally.crashes += 1;
    }
    let member = open(&disk, now_ms, &mut rng, Plant::None, &known.logged);
    let member = member.map_err(|Stopped(why)| format!("last start: {why}"))?;
    known.note_writes();
    known.check(&member).map_err(|what| format!("last life: {what}"))?;
    tally.acknowledged = known.acknowledged;
    tally.entries = known.compare(&member)?;
    Ok(tally)
}

fn open(disk: &MemoryVfs, now_ms: u64, rng: &mut Rng, plant: Plant, logged: &Logged) -> Result<SimMember, Stopped> {
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    SimMember::open(vfs, Path::new(DIR), now_ms, rng.next_u64(), plant, logged.clone())
}

/// Works until the plan or the power ends.
fn live(
    member: &mut SimMember,
    workload: &mut Workload,
    rng: &mut Rng,
    next_id: &mut u64,
    known: &mut Known,
    batches: usize,
) -> Result<(), Stopped> {
    for _ in 0..batches {
        let mut batch = Vec::new();
        for _ in 0..rng.within(1, 9) {
            let id = *next_id;
            *next_id += 1;
            let request = workload.request(id);
            batch.push(Proposal { ticket: Ticket { front: 0, slot: id }, id, request });
        }
        member.propose(batch)?;
        known.take(member);
        workload.revision = member.published().view.revision();
        if rng.within(0, 3) == 0 {
            member.run_job()?;
        }
        if rng.within(0, 3) == 0 {
            member.finish_slices()?;
        }
        if rng.within(0, 10) == 0 {
            member.tick(TICK_MS * rng.within(1, 30) as u64)?;
            known.take(member);
        }
    }
    Ok(())
}

/// What the world knows of the member.
#[derive(Default)]
struct Known {
    logged: Logged,
    /// Every entry ever written to the log, newest life last; an index may have been written in several lives.
    written: BTreeMap<u64, Vec<Bytes>>,
    /// Requests that were answered with an applied outcome: id -> revision in the answer (0 if refused).
    answered: BTreeMap<u64, i64>,
    acknowledged: u64,
}

impl Known {
    fn note_writes(&mut self) {
        for (index, data) in self.logged.borrow_mut().drain(..) {
            self.written.entry(index).or_default().push(data);
        }
    }

    fn take(&mut self, member: &mut SimMember) {
        self.note_writes();
        for (ticket, reply) in member.replies.drain(..) {
            if let Reply::Applied(result) = reply {
                self.answered.insert(ticket.slot, result.map_or(0, |applied| applied.revision));
                self.acknowledged += 1;
            }
        }
        member.batches.clear();
    }

    /// The restarted member against the reference.
    fn check(&self, member: &SimMember) -> Result<(), String> {
        self.compare(member).map(|_| ())
    }

    fn compare(&self, member: &SimMember) -> Result<u64, String> {
        let applied = member.published().applied_index;
        let disk: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
        let log = RevLog::create(disk, Path::new("/reference"), RevLogOptions { segment_bytes: 64 << 10 });
        let mut reference = State::create(Store::create(log.map_err(text)?), StateLimits::default());
        let mut missing = self.answered.clone();
        for index in 1..=applied {
            let candidates: Vec<&Bytes> = self.written.get(&index).into_iter().flatten().collect();
            let data = match &candidates[..] {
                [] => self.founding_entry(member, index)?,
                // Only one life's writing of an index can have survived: the last one, as later lives override.
                many => (*many.last().expect("not empty")).clone(),
            };
            self.apply(&mut reference, index, data, &mut missing)?;
        }
        if let Some((id, revision)) = missing.first_key_value() {
            return Err(format!("request {id} was acknowledged at revision {revision} and is not in the log"));
        }
        compare_states(member, &mut reference)?;
        Ok(applied)
    }

    /// A first start writes its founding entries before the harness sees the log; they are the same every time.
    fn founding_entry(&self, _member: &SimMember, index: u64) -> Result<Bytes, String> {
        let start = crate::member::start(0, 0);
        let founder =
            start.founders.get(index as usize - 1).ok_or_else(|| format!("entry {index} was never written"))?;
        let change = raftpb::ConfChange {
            node_id: founder.id,
            context: cetera_state::member::write_member(founder).into(),
            ..Default::default()
        };
        let entry = Entry { index, term: 1, kind: EntryKind::ConfChange, data: change.encode_to_vec().into() };
        Ok(entry.to_wire().encode_to_vec().into())
    }

    fn apply(
        &self,
        reference: &mut State,
        index: u64,
        data: Bytes,
        missing: &mut BTreeMap<u64, i64>,
    ) -> Result<(), String> {
        let wire = raftpb::Entry::decode(data).map_err(text)?;
        let entry = Entry::from_wire(wire).ok_or("an entry of unknown kind")?;
        if entry.kind == EntryKind::ConfChange {
            let change = raftpb::ConfChange::decode(entry.data).map_err(text)?;
            return reference.apply_conf_change(index, entry.term, &change).map(|_| ()).map_err(text);
        }
        if entry.data.is_empty() {
            reference.apply_empty(index, entry.term);
            return Ok(());
        }
        let mut events = Vec::new();
        let outcome = reference.apply(index, entry.term, &entry.data, &mut events).map_err(text)?;
        if let Some(revision) = missing.remove(&outcome.request_id) {
            let now = outcome.result.map_or(0, |applied| applied.revision);
            if now != revision {
                return Err(format!(
                    "request {} was acknowledged at revision {revision} and is at {now} in the log",
                    outcome.request_id
                ));
            }
        }
        Ok(())
    }
}

fn compare_states(member: &SimMember, reference: &mut State) -> Result<(), String> {
    let mine = &member.published().view;
    let theirs = reference.view().map_err(text)?;
    if (mine.revision(), mine.compacted()) != (theirs.revision(), theirs.compacted()) {
        return Err(format!(
            "the store is at revision {} compacted at {}, it should be at {} compacted at {}",
            mine.revision(),
            mine.compacted(),
            theirs.revision(),
            theirs.compacted()
        ));
    }
    let first = mine.compacted().max(1);
    let step = ((mine.revision() - first) / 8).max(1);
    for revision in (first..=mine.revision()).step_by(step as usize).chain([mine.revision()]) {
        if everything(mine, revision)? != everything(&theirs, revision)? {
            return Err(format!("the keys at revision {revision} differ"));
        }
    }
    if history(mine)? != history(&theirs)? {
        return Err("the history differs".to_owned());
    }
    let hash = |view: &View| view.hash_kv(0).map(|hash| (hash.hash, hash.compact_revision));
    if hash(mine).map_err(text)? != hash(&theirs).map_err(text)? {
        return Err("the hashes over the store differ".to_owned());
    }
    let leases = |state: &State| {
        let table = state.leases().iter();
        let mut all: Vec<(i64, i64, Vec<Vec<u8>>)> =
            table.map(|(id, lease)| (id, lease.ttl, lease.keys().map(<[u8]>::to_vec).collect())).collect();
        all.sort();
        all
    };
    if leases(member.node().state()) != leases(reference) {
        return Err("the leases differ".to_owned());
    }
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn everything(view: &View, revision: i64) -> Result<Bytes, String> {
    let mut out = BytesMut::new();
    let query = RangeQuery { key: b"\0", end: b"\0", revision, ..RangeQuery::default() };
    view.range(&query, &mut out).map_err(|error| format!("reading at revision {revision}: {error}"))?;
    Ok(out.freeze())
}

fn history(view: &View) -> Result<Vec<(i64, i64, Bytes)>, String> {
    let mut all = Vec::new();
    let mut from = view.compacted().max(1);
    while from <= view.revision() {
        let (events, next) =
            view.history(from, 1 << 16, &mut |_| true).map_err(|error| format!("history from {from}: {error}"))?;
        all.extend(events.into_iter().map(|event| (event.revision.main, event.revision.sub, event.event)));
        if next <= from {
            return Err(format!("history does not move on from {from}"));
        }
        from = next;
    }
    Ok(all)
}

/// Runs `count` seeds from `first`; stops at the first violation.
///
/// # Errors
/// The seed and the violation.
pub fn sweep(first: u64, count: u64, plant: Plant, each: &mut dyn FnMut(u64, Tally)) -> Result<Tally, (u64, String)> {
    let mut sum = Tally::default();
    for seed in first..first + count {
        let plan = Plan { seed, lives: 4, batches: 60, plant };
        let tally = run(plan).map_err(|what| (seed, what))?;
        sum.crashes += tally.crashes;
        sum.acknowledged += tally.acknowledged;
        sum.entries += tally.entries;
        sum.from_checkpoint += tally.from_checkpoint;
        each(seed, tally);
    }
    Ok(sum)
}
