//! The replicated lease table: which leases exist, how long they were granted for, what is recorded of their remaining
//! time, and which keys hang on them. No deadlines here: time is the lessor's, and apply knows no clock (D-10).
//!
//! Leases lie in [`SHARDS`] copy-on-write shards, so that a checkpoint takes the whole table in a few hundred reference
//! counts, and a write afterwards copies one shard, not the table. The way back from a key to its lease is derived and
//! never leaves this module.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::ApplyError;
use crate::hash::{Kind, fingerprint};

/// No lease has this id.
pub const NO_LEASE: i64 = 0;

/// The longest time to live that can be granted, in seconds (L-3; etcd `MaxLeaseTTL`).
pub const TTL_MAX_SECONDS: i64 = 9_000_000_000;

/// Copy-on-write units of the table.
const SHARDS: usize = 256;

type Key = Arc<[u8]>;
type Shard = BTreeMap<i64, Lease>;

/// One lease.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lease {
    /// Seconds granted.
    pub ttl: i64,
    /// Seconds left when last recorded in the log, 0 if nothing is recorded: then all of `ttl` (L-13, L-15).
    pub remaining_ttl: i64,
    keys: Arc<BTreeSet<Key>>,
}

impl Lease {
    /// Attached keys, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.keys.iter().map(|key| &**key)
    }
}

/// All leases and what hangs on them.
#[derive(Clone, Debug)]
pub struct LeaseTable {
    shards: Vec<Arc<Shard>>,
    attached: BTreeMap<Key, i64>,
    len: usize,
    /// Sum of fingerprints of every lease and every attachment.
    sum: u64,
}

impl Default for LeaseTable {
    fn default() -> Self {
        Self { shards: vec![Arc::default(); SHARDS], attached: BTreeMap::new(), len: 0, sum: 0 }
    }
}

impl LeaseTable {
    /// How many leases exist.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lease with this id.
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.shards[shard_of(id)].get(&id)
    }

    /// The lease a key hangs on, [`NO_LEASE`] if none.
    pub fn lease_of(&self, key: &[u8]) -> i64 {
        self.attached.get(key).copied().unwrap_or(NO_LEASE)
    }

    /// Every lease with its id. The order is the same on all members, but means nothing.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.shards.iter().flat_map(|shard| shard.iter().map(|(&id, lease)| (id, lease)))
    }

    /// Sum of fingerprints: equal tables have equal sums, whatever their history.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// The table as it is now, to be written elsewhere.
    pub(crate) fn snapshot(&self) -> LeaseSnapshot {
        LeaseSnapshot { shards: self.shards.clone() }
    }

    /// A new lease (L-1, L-3; etcd `lessor.Grant`). The proposer chose the id and raised a short time to live (L-2).
    pub(crate) fn grant(&mut self, id: i64, ttl: i64) -> Result<(), ApplyError> {
        if id == NO_LEASE {
            return Err(ApplyError::LeaseNotFound);
        }
        if ttl > TTL_MAX_SECONDS {
            return Err(ApplyError::LeaseTtlTooLarge);
        }
        if self.get(id).is_some() {
            return Err(ApplyError::LeaseExist);
        }
        self.insert(id, ttl, 0);
        Ok(())
    }

    /// Takes a lease out, its attachments too. The caller deletes the keys, in the order in which the lease gives them
    /// (L-4).
    pub(crate) fn remove(&mut self, id: i64) -> Option<Lease> {
        // Looked up first: a missing lease must not cost the copy of a shard.
        self.get(id)?;
        let lease = self.shard_mut(id).remove(&id)?;
        self.len -= 1;
        self.sum = self.sum.wrapping_sub(lease_print(id, &lease));
        for key in lease.keys.iter() {
            self.attached.remove(key);
            self.sum = self.sum.wrapping_sub(attachment_print(id, key));
        }
        Some(lease)
    }

    /// Records the remaining time of a lease, 0 = forget the record (L-13). False if there is no such lease.
    pub(crate) fn record_remaining(&mut self, id: i64, remaining_ttl: i64) -> bool {
        if self.get(id).is_none() {
            return false;
        }
        let lease = self.shard_mut(id).get_mut(&id).expect("looked up above");
        let before = lease_print(id, lease);
        lease.remaining_ttl = remaining_ttl;
        let after = lease_print(id, lease);
        self.sum = self.sum.wrapping_sub(before).wrapping_add(after);
        true
    }

    /// The key was written with lease `id`, [`NO_LEASE`] for none: it leaves its old lease (L-14). Only a key that
    /// `existed` can have one, which spares new keys the search. A lease that does not exist holds no key; a put that
    /// carries one on (`ignore_lease`) keeps the number in its KeyValue all the same.
    pub(crate) fn assign(&mut self, key: &[u8], id: i64, existed: bool) {
        if existed && !self.attached.is_empty() {
            if self.lease_of(key) == id {
                return;
            }
            self.detach(key);
        }
        if id != NO_LEASE && self.get(id).is_some() {
            self.attach(id, Arc::from(key));
        }
    }

    /// The key is gone (L-14).
    pub(crate) fn detach(&mut self, key: &[u8]) {
        let Some(id) = self.attached.remove(key) else {
            return;
        };
        let lease = self.shard_mut(id).get_mut(&id).expect("a key hangs on a lease that exists");
        Arc::make_mut(&mut lease.keys).remove(key);
        self.sum = self.sum.wrapping_sub(attachment_print(id, key));
    }

    pub(crate) fn insert(&mut self, id: i64, ttl: i64, remaining_ttl: i64) {
        let lease = Lease { ttl, remaining_ttl, keys: Arc::default() };
        self.sum = self.sum.wrapping_add(lease_print(id, &lease));
        let replaced = self.shard_mut(id).insert(id, lease);
        assert!(replaced.is_none(), "lease {id:x} granted twice");
        self.len += 1;
    }

    pub(crate) fn attach(&mut self, id: i64, key: Key) {
        self.sum = self.sum.wrapping_add(attachment_print(id, &key));
        let lease = self.shard_mut(id).get_mut(&id).expect("the caller looked the lease up");
        Arc::make_mut(&mut lease.keys).insert(key.clone());
        self.attached.insert(key, id);
    }

    fn shard_mut(&mut self, id: i64) -> &mut Shard {
        Arc::make_mut(&mut self.shards[shard_of(id)])
    }

    /// Panics if the table contradicts itself. Linear; for tests and simulation.
    pub fn check_invariants(&self) {
        let mut sum = 0u64;
        let mut attachments = 0;
        for (id, lease) in self.iter() {
            sum = sum.wrapping_add(lease_print(id, lease));
            for key in lease.keys() {
                assert_eq!(self.lease_of(key), id, "a key of a lease points back at it");
                sum = sum.wrapping_add(attachment_print(id, key));
                attachments += 1;
            }
        }
        assert_eq!(self.attached.len(), attachments, "every attached key is in its lease");
        assert_eq!(self.iter().count(), self.len);
        assert_eq!(self.sum, sum);
    }
}

/// The table of one moment, for a checkpoint. Send; shares what has not changed since.
#[derive(Clone, Debug)]
pub struct LeaseSnapshot {
    shards: Vec<Arc<Shard>>,
}

impl LeaseSnapshot {
    /// Every lease with its id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i64, &Lease)> {
        self.shards.iter().flat_map(|shard| shard.iter().map(|(&id, lease)| (id, lease)))
    }
}

/// Ids count up in their low bits; a multiplication spreads them.
fn shard_of(id: i64) -> usize {
    ((id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize % SHARDS
}

fn lease_print(id: i64, lease: &Lease) -> u64 {
    fingerprint(Kind::Lease, &[id as u64, lease.ttl as u64, lease.remaining_ttl as u64], b"")
}

fn attachment_print(id: i64, key: &[u8]) -> u64 {
    fingerprint(Kind::Attachment, &[id as u64], key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(table: &LeaseTable, id: i64) -> Vec<&[u8]> {
        table.get(id).unwrap().keys().collect()
    }

    /// L-1, L-3.
    #[test]
    fn grants_and_their_refusals() {
        let mut table = LeaseTable::default();
        assert_eq!(table.grant(7, 10), Ok(()));
        assert_eq!(table.grant(7, 10), Err(ApplyError::LeaseExist));
        assert_eq!(table.grant(8, TTL_MAX_SECONDS + 1), Err(ApplyError::LeaseTtlTooLarge));
        assert_eq!(table.grant(8, TTL_MAX_SECONDS), Ok(()));
        assert_eq!(table.grant(NO_LEASE, 10), Err(ApplyError::LeaseNotFound));
        assert_eq!(table.grant(-5, 10), Ok(()), "an explicit id may be negative");
        assert_eq!(table.len(), 3);
        table.check_invariants();
    }

    /// L-14.
    #[test]
    fn a_key_hangs_on_one_lease() {
        let mut table = LeaseTable::default();
        table.assign(b"a", NO_LEASE, true);
        table.grant(1, 10).unwrap();
        table.grant(2, 10).unwrap();
        table.assign(b"b", 1, false);
        table.assign(b"a", 1, false);
        table.assign(b"a", 1, true);
        assert_eq!(keys(&table, 1), [b"a", b"b"], "in sorted order (L-4)");
        table.assign(b"a", 2, true);
        assert_eq!((keys(&table, 1), keys(&table, 2)), (vec![&b"b"[..]], vec![&b"a"[..]]));
        table.assign(b"a", NO_LEASE, true);
        table.detach(b"b");
        table.detach(b"b");
        assert_eq!((table.lease_of(b"a"), table.lease_of(b"b")), (NO_LEASE, NO_LEASE));
        table.assign(b"a", 99, true);
        assert_eq!(table.lease_of(b"a"), NO_LEASE, "a lease that does not exist holds nothing");
        table.check_invariants();
    }

    #[test]
    fn a_removed_lease_lets_go_of_its_keys() {
        let mut table = LeaseTable::default();
        let empty = table.sum();
        table.grant(1, 10).unwrap();
        table.assign(b"b", 1, true);
        table.assign(b"a", 1, true);
        let lease = table.remove(1).unwrap();
        assert_eq!(lease.keys().collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(table.lease_of(b"a"), NO_LEASE);
        assert!(table.remove(1).is_none());
        assert!(table.is_empty());
        assert_eq!(table.sum(), empty);
        table.check_invariants();
    }

    /// L-13.
    #[test]
    fn remaining_time_is_recorded_and_forgotten() {
        let mut table = LeaseTable::default();
        table.grant(1, 100).unwrap();
        let fresh = table.sum();
        assert!(table.record_remaining(1, 40));
        assert_eq!(table.get(1).unwrap().remaining_ttl, 40);
        assert_ne!(table.sum(), fresh);
        assert!(table.record_remaining(1, 0));
        assert_eq!(table.sum(), fresh);
        assert!(!table.record_remaining(2, 40));
    }

    #[test]
    fn a_snapshot_does_not_move() {
        let mut table = LeaseTable::default();
        for id in 1..1000 {
            table.grant(id, id).unwrap();
        }
        table.assign(b"k", 5, true);
        let snapshot = table.snapshot();
        let before: Vec<(i64, Lease)> = snapshot.iter().map(|(id, lease)| (id, lease.clone())).collect();
        for id in 1..500 {
            table.remove(id);
        }
        table.assign(b"other", 700, true);
        assert_eq!(snapshot.iter().map(|(id, lease)| (id, lease.clone())).collect::<Vec<_>>(), before);
        assert_eq!(before.len(), 999);
        table.check_invariants();
    }

    #[test]
    fn shards_share_the_load() {
        let mut counts = [0usize; SHARDS];
        for id in 0..25_600 {
            counts[shard_of(0x1abc_2345_6789_0000 + id)] += 1;
        }
        assert!(counts.iter().all(|&n| n > 50 && n < 200), "{counts:?}");
    }
}
