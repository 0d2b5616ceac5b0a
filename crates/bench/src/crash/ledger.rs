//! What the clients of a server know of it, and the check of a new life against that.

use std::collections::BTreeMap;
use std::time::Instant;

use super::model::{Cell, Change, Keys};
use super::op::{Key, Op};

/// The changes of each revision.
pub type History = BTreeMap<i64, Vec<Change>>;

/// A lease as far as it is known.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Seconds granted.
    pub ttl: i64,
    /// The grant was acknowledged.
    pub granted: bool,
    /// A revocation was sent.
    pub revoking: bool,
    /// A revocation was acknowledged.
    pub revoked: bool,
    /// Not before this may it expire.
    pub until: Instant,
}

/// A read that was answered: at `revision` the key was `cell`.
#[derive(Copy, Clone, Debug)]
pub struct Seen {
    /// Revision in the answer.
    pub revision: i64,
    /// The key.
    pub key: Key,
    /// What it was.
    pub cell: Option<Cell>,
}

/// What a watcher of some keys saw.
#[derive(Clone, Debug, Default)]
pub struct Excerpt {
    /// Its first revision.
    pub from: i64,
    /// The keys from here ...
    pub first: Key,
    /// ... to before here.
    pub past: Key,
    /// Events by revision, in the order they came.
    pub events: Vec<(i64, Vec<Change>)>,
}

/// What a server brought back.
#[derive(Debug)]
pub struct Restored {
    /// Revision of the last compaction, 1 for none.
    pub floor: i64,
    /// Revision now.
    pub head: i64,
    /// Every revision after `floor`.
    pub history: History,
}

/// Totals over all lives.
#[derive(Copy, Clone, Debug, Default)]
pub struct Tally {
    /// Acknowledged writes found at their revision with their bytes.
    pub acknowledged: u64,
    /// Writes of unknown outcome that had happened.
    pub unknown_happened: u64,
    /// Writes of unknown outcome that had not.
    pub unknown_absent: u64,
    /// Revisions compared.
    pub revisions: u64,
    /// Events of watchers compared.
    pub watched: u64,
    /// Reads compared.
    pub reads: u64,
    /// Revisions made by the end of a lease.
    pub lease_ends: u64,
}

/// Everything known.
#[derive(Debug)]
pub struct Ledger {
    /// Revision of the last compaction that was checked, 1 for none.
    pub floor: i64,
    /// Last revision that was checked.
    pub settled: i64,
    base: Keys,
    history: History,
    head: Keys,
    /// Writes acknowledged since, by revision.
    acked: BTreeMap<i64, Op>,
    /// Writes sent since whose outcome is unknown.
    open: BTreeMap<u64, Op>,
    /// What the watcher of everything saw since.
    pub watched: History,
    /// What other watchers saw since.
    pub excerpts: Vec<Excerpt>,
    reads: Vec<Seen>,
    /// Conditions answered as not holding: revision, key, revision compared.
    unequal: Vec<(i64, Key, i64)>,
    /// Leases, by id.
    pub leases: BTreeMap<i64, Lease>,
    /// Highest compaction acknowledged.
    pub compacted: i64,
    /// Compactions sent whose outcome is unknown.
    pub compacting: Vec<i64>,
    /// Highest revision any answer carried.
    pub known: i64,
    /// Revision, compaction and hash as the server told them.
    pub hash: Option<(i64, i64, u32)>,
    /// Totals.
    pub tally: Tally,
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            floor: 1,
            settled: 1,
            base: Keys::default(),
            history: History::new(),
            head: Keys::default(),
            acked: BTreeMap::new(),
            open: BTreeMap::new(),
            watched: History::new(),
            excerpts: Vec::new(),
            reads: Vec::new(),
            unequal: Vec::new(),
            leases: BTreeMap::new(),
            compacted: 1,
            compacting: Vec::new(),
            known: 1,
            hash: None,
            tally: Tally::default(),
        }
    }
}

type Checked<T = ()> = Result<T, String>;

impl Ledger {
    /// A write is about to be sent. Returns the highest revision known: it must get a higher one.
    pub fn sent(&mut self, op: Op) -> i64 {
        self.open.insert(op.id, op);
        self.known
    }

    /// The server refused a write: it has not happened and never will.
    pub fn refused(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// A write was acknowledged as made at `revision`.
    ///
    /// # Errors
    /// That revision cannot be.
    pub fn acknowledged(&mut self, id: u64, revision: i64, known_before: i64) -> Checked {
        if revision <= known_before {
            return Err(format!("write {id}, sent when revision {known_before} was known, was given {revision}"));
        }
        let op = self.open.remove(&id).expect("an op is sent once");
        self.known = self.known.max(revision);
        match self.acked.insert(revision, op) {
            None => Ok(()),
            Some(other) => Err(format!("writes {} and {id} were both acknowledged at revision {revision}", other.id)),
        }
    }

    /// A write was answered at `revision` and changed nothing: no key it deletes was there, or its condition failed.
    ///
    /// # Errors
    /// That revision cannot be.
    pub fn changed_nothing(&mut self, id: u64, revision: i64, succeeded: bool, known_before: i64) -> Checked {
        let op = self.open.remove(&id).expect("an op is sent once");
        if succeeded {
            for write in &op.writes {
                let super::op::Write::Delete { first, past } = *write else {
                    return Err(format!("write {id} puts a key and was answered as if it did not"));
                };
                for key in first..past {
                    self.read(Seen { revision, key, cell: None }, known_before)?;
                }
            }
        } else {
            let (key, compared) = op.guard.ok_or_else(|| format!("write {id} has no condition and failed"))?;
            self.unequal.push((revision, key, compared));
        }
        Ok(())
    }

    /// A linearizable read was answered.
    ///
    /// # Errors
    /// It is of the past.
    pub fn read(&mut self, seen: Seen, known_before: i64) -> Checked {
        if seen.revision < known_before {
            return Err(format!("revision {known_before} was known, then a read was answered at {}", seen.revision));
        }
        self.known = self.known.max(seen.revision);
        self.reads.push(seen);
        Ok(())
    }

    /// The keys at a revision from `floor` to `settled`.
    pub fn at(&self, revision: i64) -> Keys {
        assert!(self.floor <= revision && revision <= self.settled, "{revision} is not known");
        if revision == self.settled {
            return self.head.clone();
        }
        let mut keys = self.base.clone();
        for changes in self.history.range(..=revision).map(|(_, changes)| changes) {
            keys.apply(changes);
        }
        keys
    }

    /// The keys now.
    pub fn head(&self) -> &Keys {
        &self.head
    }

    /// The revision at which a key was last seen written, 0 if it is not known to exist.
    pub fn last_written(&self, key: Key) -> i64 {
        let recent = self.watched.iter().rev().take(64).flat_map(|(_, changes)| changes.iter().rev());
        match recent.into_iter().find(|change| change.key() == key).copied().or(self
            .head
            .0
            .get(&key)
            .map(|cell| Change::Put(key, *cell)))
        {
            Some(Change::Put(_, cell)) => cell.modified,
            _ => 0,
        }
    }

    /// Explains what a server brought back by what is known, and takes it over.
    ///
    /// # Errors
    /// It cannot be explained.
    pub fn settle(&mut self, restored: Restored) -> Checked {
        self.check_edges(&restored)?;
        for (revision, changes) in self.history.range(restored.floor + 1..) {
            if restored.history.get(revision) != Some(changes) {
                return Err(format!(
                    "revision {revision} was {changes:?} and is now {:?}",
                    restored.history.get(revision)
                ));
            }
        }
        let mut reads = std::mem::take(&mut self.reads);
        reads.sort_by_key(|seen| seen.revision);
        let mut unequal = std::mem::take(&mut self.unequal);
        unequal.sort();
        let (mut reads, mut unequal) = (&reads[..], &unequal[..]);
        self.check_reads(&mut reads, &mut unequal)?;
        for revision in self.settled + 1..=restored.head {
            let changes = self.observed(revision, &restored)?;
            self.explain(revision, &changes)?;
            self.head.apply(&changes);
            self.history.insert(revision, changes);
            self.settled = revision;
            self.tally.revisions += 1;
            self.check_reads(&mut reads, &mut unequal)?;
        }
        if let Some(seen) = reads.first() {
            return Err(format!("a read was answered at revision {} between revisions", seen.revision));
        }
        self.check_excerpts()?;
        assert!(self.acked.is_empty(), "every acknowledged revision up to the head was explained");
        self.tally.unknown_absent += self.open.len() as u64;
        // The life they were sent in is over: from now on they must never be seen.
        self.open.clear();
        self.watched.clear();
        self.raise_floor(restored.floor);
        Ok(())
    }

    /// Compaction and head against what was acknowledged.
    fn check_edges(&mut self, restored: &Restored) -> Checked {
        let &Restored { floor, head, .. } = restored;
        if head < self.known {
            return Err(format!("revision {} was answered before the crash, now the server is at {head}", self.known));
        }
        if let Some((last, _)) = self.watched.last_key_value()
            && head < *last
        {
            return Err(format!("a watcher saw revision {last}, now the server is at {head}"));
        }
        let expected = self.compacted.max(self.floor);
        if floor != expected && !(floor > expected && self.compacting.contains(&floor)) {
            return Err(format!("compacted at {floor}; acknowledged was {expected}, in flight {:?}", self.compacting));
        }
        self.compacted = floor;
        self.compacting.clear();
        Ok(())
    }

    /// What is known to have happened at a revision, from the replay and from the watcher, which must agree.
    fn observed(&self, revision: i64, restored: &Restored) -> Checked<Vec<Change>> {
        let replayed = restored.history.get(&revision);
        if replayed.is_none() && revision > restored.floor {
            return Err(format!("revision {revision} has no events"));
        }
        match (replayed, self.watched.get(&revision)) {
            (Some(replayed), Some(watched)) if replayed != watched => {
                Err(format!("revision {revision}: a watcher saw {watched:?}, the replay shows {replayed:?}"))
            }
            (Some(changes), _) | (None, Some(changes)) => Ok(changes.clone()),
            (None, None) => Err(format!("revision {revision} was compacted before any watcher saw it")),
        }
    }

    /// Finds the one write that made a revision.
    fn explain(&mut self, revision: i64, changes: &[Change]) -> Checked {
        if let Some(op) = self.acked.remove(&revision) {
            if !self.head.permits(&op) {
                return Err(format!("revision {revision}: the condition of {op:?} did not hold, but it was made"));
            }
            let expected = self.head.changes(&op, revision);
            if expected != changes {
                return Err(format!("revision {revision} was acknowledged as {expected:?} and is {changes:?}"));
            }
            self.tally.acknowledged += 1;
            return Ok(());
        }
        let fits = |op: &Op| self.head.permits(op) && self.head.changes(op, revision) == changes;
        let value = changes.iter().find_map(|change| match change {
            Change::Put(_, cell) => Some(cell.value),
            Change::Delete(_) => None,
        });
        let id = match value {
            Some(value) => {
                let id = Op::of_value(value);
                let op = self.open.get(&id).ok_or_else(|| {
                    format!("revision {revision} is {changes:?}: write {id} was refused, or made before, or given up")
                })?;
                if !fits(op) {
                    return Err(format!("revision {revision} is {changes:?}, not whole: {op:?}"));
                }
                Some(id)
            }
            None => {
                let mut ending =
                    self.leases.iter().filter(|(_, lease)| lease.revoking || lease.until <= Instant::now());
                if ending.any(|(&lease, _)| self.head.lease_end(lease) == changes) {
                    self.tally.lease_ends += 1;
                    return Ok(());
                }
                self.open.values().find(|op| fits(op)).map(|op| op.id)
            }
        };
        let id = id.ok_or_else(|| format!("revision {revision} is {changes:?}: nobody asked for that"))?;
        self.open.remove(&id);
        self.tally.unknown_happened += 1;
        Ok(())
    }

    /// The reads and failed conditions that were answered at the settled revision; those before must be gone by now.
    fn check_reads(&mut self, reads: &mut &[Seen], unequal: &mut &[(i64, Key, i64)]) -> Checked {
        while let Some((seen, rest)) = reads.split_first()
            && seen.revision <= self.settled
        {
            *reads = rest;
            let is = self.head.0.get(&seen.key).copied();
            if seen.revision < self.settled || seen.cell != is {
                return Err(format!("a read was answered {seen:?}; at revision {} it is {is:?}", self.settled));
            }
            self.tally.reads += 1;
        }
        while let Some((&(revision, key, compared), rest)) = unequal.split_first()
            && revision <= self.settled
        {
            *unequal = rest;
            let is = self.head.0.get(&key).map_or(0, |cell| cell.modified);
            if revision == self.settled && is == compared {
                return Err(format!(
                    "at revision {revision} key {key} was last written at {is}; a condition on that failed"
                ));
            }
        }
        Ok(())
    }

    fn check_excerpts(&mut self) -> Checked {
        for excerpt in std::mem::take(&mut self.excerpts) {
            let Some(&(last, _)) = excerpt.events.last() else { continue };
            let expected: Vec<(i64, Vec<Change>)> = self
                .history
                .range(excerpt.from..=last)
                .map(|(&revision, changes)| {
                    let of_its_keys = |c: &&Change| (excerpt.first..excerpt.past).contains(&c.key());
                    (revision, changes.iter().filter(of_its_keys).copied().collect::<Vec<_>>())
                })
                .filter(|(_, changes)| !changes.is_empty())
                .collect();
            if let Some((expected, seen)) = expected.iter().zip(&excerpt.events).find(|(a, b)| a != b) {
                return Err(format!(
                    "a watcher of keys {}..{} from revision {} saw {seen:?} where history has {expected:?}",
                    excerpt.first, excerpt.past, excerpt.from
                ));
            }
            if expected.len() != excerpt.events.len() {
                return Err(format!(
                    "a watcher of keys {}..{} saw {} revisions of {}",
                    excerpt.first,
                    excerpt.past,
                    excerpt.events.len(),
                    expected.len()
                ));
            }
            self.tally.watched += excerpt.events.iter().map(|(_, changes)| changes.len() as u64).sum::<u64>();
        }
        self.tally.watched += self.watched.values().map(|changes| changes.len() as u64).sum::<u64>();
        Ok(())
    }

    fn raise_floor(&mut self, floor: i64) {
        let above = self.history.split_off(&(floor + 1));
        for changes in std::mem::replace(&mut self.history, above).values() {
            self.base.apply(changes);
        }
        self.floor = floor;
    }
}

#[cfg(test)]
mod tests;
