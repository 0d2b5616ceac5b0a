//! What the keys are at one revision, and what a write does to them.

use std::collections::BTreeMap;

use cetera_client::proto::mvccpb::{self, event::EventType};

use super::op::{Key, Op, Write, key_number};
use super::value::Value;

/// One key as a server must show it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Cell {
    /// The value.
    pub value: Value,
    /// Revision at which it came to be.
    pub created: i64,
    /// Revision of its last put.
    pub modified: i64,
    /// Puts since it came to be.
    pub version: i64,
    /// The lease it is attached to, 0 for none.
    pub lease: i64,
}

impl Cell {
    /// A key as a server showed it.
    ///
    /// # Errors
    /// The key or the value is none of this run's.
    pub fn of(kv: &mvccpb::KeyValue) -> Result<(Key, Cell), String> {
        let key = key_number(&kv.key)?;
        let value = Value::parse(&kv.value).map_err(|what| format!("key {key}: {what}"))?;
        let cell = Cell {
            value,
            created: kv.create_revision,
            modified: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        };
        Ok((key, cell))
    }
}

/// One event.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// A put, with what the key became.
    Put(Key, Cell),
    /// A deletion.
    Delete(Key),
}

impl Change {
    /// The key.
    pub fn key(&self) -> Key {
        match *self {
            Change::Put(key, _) | Change::Delete(key) => key,
        }
    }

    /// An event as a server showed it, with its revision.
    ///
    /// # Errors
    /// The key or the value is none of this run's.
    pub fn of(event: &mvccpb::Event) -> Result<(i64, Change), String> {
        let kv = event.kv.as_ref().ok_or("an event without a key")?;
        let change = if event.r#type == EventType::Delete as i32 {
            Change::Delete(key_number(&kv.key)?)
        } else {
            let (key, cell) = Cell::of(kv)?;
            Change::Put(key, cell)
        };
        Ok((kv.mod_revision, change))
    }
}

/// All keys at one revision.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Keys(pub BTreeMap<Key, Cell>);

impl Keys {
    /// Whether the op's condition holds.
    pub fn permits(&self, op: &Op) -> bool {
        op.guard.is_none_or(|(key, revision)| self.0.get(&key).map_or(0, |cell| cell.modified) == revision)
    }

    /// What the op does if it happens next, at `revision`.
    pub fn changes(&self, op: &Op, revision: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        for write in &op.writes {
            match *write {
                Write::Put { key, value, lease } => {
                    let old = self.0.get(&key);
                    let created = old.map_or(revision, |cell| cell.created);
                    let version = old.map_or(0, |cell| cell.version) + 1;
                    changes.push(Change::Put(key, Cell { value, created, modified: revision, version, lease }));
                }
                Write::Delete { first, past } => {
                    changes.extend(self.0.range(first..past).map(|(&key, _)| Change::Delete(key)));
                }
            }
        }
        changes
    }

    /// What the end of a lease does.
    pub fn lease_end(&self, lease: i64) -> Vec<Change> {
        self.attached(lease).map(Change::Delete).collect()
    }

    /// The keys attached to a lease.
    pub fn attached(&self, lease: i64) -> impl Iterator<Item = Key> + '_ {
        self.0.iter().filter(move |(_, cell)| cell.lease == lease).map(|(&key, _)| key)
    }

    /// Takes the changes of one revision.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match *change {
                Change::Put(key, cell) => drop(self.0.insert(key, cell)),
                Change::Delete(key) => drop(self.0.remove(&key)),
            }
        }
    }

    /// Where two pictures differ, in words.
    pub fn difference(&self, found: &Keys) -> Option<String> {
        let all: std::collections::BTreeSet<_> = self.0.keys().chain(found.0.keys()).collect();
        let key = all.into_iter().find(|key| self.0.get(key) != found.0.get(key))?;
        Some(format!("key {key} should be {:?} and is {:?}", self.0.get(key), found.0.get(key)))
    }
}
