//! Single requests.

use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};

use super::{Dice, Generator};
use crate::history::Request;
use crate::keys::{KV, prefix_end};

/// Keys below [`KV`]: two groups with a prefix of their own, and two loners.
pub const NAMES: [&str; 10] = ["a/0", "a/1", "a/2", "a/3", "b/0", "b/1", "b/2", "b/3", "c", "d"];

pub(super) fn named(name: &str) -> Bytes {
    [KV, name.as_bytes()].concat().into()
}

pub(super) fn key(dice: &mut dyn Dice) -> Bytes {
    named(NAMES[dice.pick(NAMES.len() as u64) as usize])
}

/// One in `of`.
pub(super) fn one_in(dice: &mut dyn Dice, of: u64) -> bool {
    dice.pick(of) == 0
}

/// Several keys: a group, everything of the workload, between two keys, or from a key on.
pub(super) fn span(dice: &mut dyn Dice) -> (Bytes, Bytes) {
    match dice.pick(10) {
        0..3 => (named("a/"), prefix_end(&named("a/"))),
        3..5 => (named("b/"), prefix_end(&named("b/"))),
        5..8 => (Bytes::from_static(KV), prefix_end(KV)),
        _ => {
            let (one, other) = (key(dice), key(dice));
            // The same key twice, or in the wrong order: an empty range, which is allowed.
            if one < other || one_in(dice, 4) { (one, other) } else { (other, one) }
        }
    }
}

pub(super) fn delete(dice: &mut dyn Dice) -> pb::DeleteRangeRequest {
    let (key, range_end) = if one_in(dice, 3) { span(dice) } else { (key(dice), Bytes::new()) };
    pb::DeleteRangeRequest { key, range_end, prev_kv: one_in(dice, 2) }
}

impl Generator {
    /// A value that no other write of the run has.
    pub(super) fn value(&self, dice: &mut dyn Dice) -> Bytes {
        let mut value = dice.unique().to_string().into_bytes();
        if one_in(dice, 3) {
            let length = dice.pick(self.mix.value_bytes_max.max(1)) as usize;
            value.push(b'.');
            value.resize(value.len().max(length), b'a' + (length % 26) as u8);
        }
        value.into()
    }

    fn attached(&self, dice: &mut dyn Dice) -> i64 {
        if dice.pick(100) >= u64::from(self.mix.attach_percent) || self.known.leases.is_empty() {
            return 0;
        }
        self.known.leases[dice.pick(self.known.leases.len() as u64) as usize]
    }

    pub(super) fn put(&self, dice: &mut dyn Dice) -> pb::PutRequest {
        let mut put = pb::PutRequest {
            key: key(dice),
            value: self.value(dice),
            lease: self.attached(dice),
            prev_kv: one_in(dice, 3),
            ..Default::default()
        };
        match dice.pick(24) {
            0 => put.ignore_value = true,
            1..3 => put.ignore_lease = true,
            _ => {}
        }
        if put.ignore_value {
            put.value = Bytes::new();
        }
        if put.ignore_lease {
            put.lease = 0;
        }
        put
    }

    pub(super) fn get(&self, dice: &mut dyn Dice) -> pb::RangeRequest {
        let serializable = self.serializable(dice);
        let revision = if one_in(dice, 8) { self.past(dice) } else { 0 };
        pb::RangeRequest { key: key(dice), revision, serializable, ..Default::default() }
    }

    pub(super) fn range(&self, dice: &mut dyn Dice) -> pb::RangeRequest {
        let (key, range_end) = span(dice);
        let mut range =
            pb::RangeRequest { key, range_end, serializable: self.serializable(dice), ..Default::default() };
        if one_in(dice, 4) {
            range.revision = self.past(dice);
        }
        if one_in(dice, 4) {
            range.limit = 1 + dice.pick(5) as i64;
        }
        if one_in(dice, 4) {
            range.sort_order = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend][dice.pick(3) as usize] as i32;
            // Version and mod revision may be alike, and etcd leaves the order of the like open where there are more
            // than a dozen: the workload's keys are fewer.
            let target = [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];
            range.sort_target = target[dice.pick(5) as usize] as i32;
        }
        match dice.pick(16) {
            0 => range.count_only = true,
            1 => range.keys_only = true,
            2 => range.min_mod_revision = self.near(dice),
            3 => range.max_mod_revision = self.near(dice),
            4 => range.min_create_revision = self.near(dice),
            5 => range.max_create_revision = self.near(dice),
            _ => {}
        }
        range
    }

    fn serializable(&self, dice: &mut dyn Dice) -> bool {
        dice.pick(100) < u64::from(self.mix.serializable_percent)
    }

    /// A revision around the last one seen, at least 1.
    pub(super) fn near(&self, dice: &mut dyn Dice) -> i64 {
        (self.known.revision + 2 - dice.pick(40) as i64).max(1)
    }

    /// A revision to read at: mostly one that is there, sometimes one at the edge of what is compacted, seldom one
    /// that is to come.
    fn past(&self, dice: &mut dyn Dice) -> i64 {
        match dice.pick(16) {
            0 => self.known.revision + 1 + dice.pick(3) as i64,
            1..3 => (self.known.compacted - 1 + dice.pick(3) as i64).max(1),
            3 => 1 + dice.pick(self.known.revision.max(1) as u64) as i64,
            _ => (self.known.revision - dice.pick(25) as i64).max(self.known.compacted).max(1),
        }
    }

    pub(super) fn compact(&self, dice: &mut dyn Dice) -> pb::CompactionRequest {
        let behind = dice.pick(self.mix.compact_behind.max(1)) as i64;
        let revision = match dice.pick(20) {
            // Refused: compacted already, or in the future.
            0 => self.known.compacted.max(1),
            1 => self.known.revision + 50,
            _ => (self.known.revision - behind).max(1),
        };
        pb::CompactionRequest { revision, physical: one_in(dice, 4) }
    }

    /// Something with a lease; a grant if none is known.
    pub(super) fn lease(&self, dice: &mut dyn Dice) -> Request {
        let known = &self.known.leases;
        if known.is_empty() || one_in(dice, 3) {
            let ttl = 1 + dice.pick(self.mix.lease_ttl_max.max(1)) as i64;
            // One in a while asks for an id that is taken, or lets the member choose.
            let id = match dice.pick(12) {
                0 => known.last().copied().unwrap_or(0),
                1 => 0,
                _ => LEASE_BASE + dice.unique() as i64,
            };
            return Request::LeaseGrant(pb::LeaseGrantRequest { id, ttl });
        }
        let id = known[dice.pick(known.len() as u64) as usize];
        match dice.pick(4) {
            0 => Request::LeaseRevoke(pb::LeaseRevokeRequest { id }),
            1 => Request::LeaseTimeToLive(pb::LeaseTimeToLiveRequest { id, keys: one_in(dice, 2) }),
            _ => Request::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id }),
        }
    }
}

/// Lease ids of this workload begin here: none is mistaken for a revision or a count in a trace.
const LEASE_BASE: i64 = 0x1000_0000;
