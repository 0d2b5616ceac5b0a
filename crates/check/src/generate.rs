//! Requests from a seed: everything that can be asked of KV and Lease, over few keys so that requests meet.
//!
//! Pure: numbers come from [`Dice`], what is known of the store from [`Generator::note`]. The same numbers and the same
//! outcomes make the same requests. Every value written is unique over the run; a transaction that changes something
//! without writing a value puts a mark besides ([`crate::keys::MARK`]), so that most outcomes can be recognised by who
//! watches. A share of plain deletes and kept values has no mark: these must be judged too.
//!
//! Compare-and-swap and read-modify-write take two requests: [`Generator::next`] after the answer to the read makes the
//! write.

mod known;
mod ops;
mod txn;

use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;

pub use known::Known;
pub use ops::NAMES;

use crate::history::{Outcome, Request};
use crate::keys;

/// Where numbers come from.
pub trait Dice {
    /// A number below `below`, which is not 0.
    fn pick(&mut self, below: u64) -> u64;
    /// A number unique in the run.
    fn unique(&mut self) -> u64;
}

/// How often each kind of request comes: shares, of which at least one is not 0.
#[derive(Clone, Debug)]
pub struct Mix {
    /// Put with all its flags.
    pub put: u32,
    /// Range of one key.
    pub get: u32,
    /// Range of several keys with all its options, now and in history.
    pub range: u32,
    /// Of the above two, how many in a hundred are serializable.
    pub serializable_percent: u32,
    /// DeleteRange of a key or a range, without a mark.
    pub delete: u32,
    /// A transaction that deletes, with a mark.
    pub delete_marked: u32,
    /// A transaction of several keys, nested or not.
    pub txn: u32,
    /// A transaction that only reads.
    pub txn_read: u32,
    /// A read, and a write if nothing changed since.
    pub swap: u32,
    /// Compaction behind the last revision seen.
    pub compact: u32,
    /// How far behind, at most.
    pub compact_behind: u64,
    /// LeaseGrant, and what is done with leases afterwards: revoke, time to live, keep alive.
    pub lease: u32,
    /// Longest time to live of a lease granted, in seconds.
    pub lease_ttl_max: u64,
    /// Of puts, how many in a hundred are attached to a lease.
    pub attach_percent: u32,
    /// Longest value in bytes.
    pub value_bytes_max: u64,
}

impl Default for Mix {
    /// Everything, in everyday proportions.
    fn default() -> Self {
        Self {
            put: 22,
            get: 14,
            range: 14,
            serializable_percent: 20,
            delete: 4,
            delete_marked: 5,
            txn: 14,
            txn_read: 5,
            swap: 10,
            compact: 2,
            compact_behind: 60,
            lease: 6,
            lease_ttl_max: 12,
            attach_percent: 12,
            value_bytes_max: 40,
        }
    }
}

impl Mix {
    /// Shares of a run of its own: some kinds are missing, some prevail.
    pub fn swarm(dice: &mut dyn Dice) -> Self {
        let usual = Self::default();
        let compact_behind = [5, 60, 200, 500][dice.pick(4) as usize];
        let lease_ttl_max = [3, 12, 60][dice.pick(3) as usize];
        let value_bytes_max = [40, 40, 400, 3_000][dice.pick(4) as usize];
        let mut share = |usual: u32| match dice.pick(6) {
            0 => 0,
            1 => usual * 4,
            2 => usual.div_ceil(3),
            _ => usual,
        };
        Self {
            put: share(usual.put).max(4),
            get: share(usual.get),
            range: share(usual.range),
            serializable_percent: share(usual.serializable_percent),
            delete: share(usual.delete),
            delete_marked: share(usual.delete_marked),
            txn: share(usual.txn),
            txn_read: share(usual.txn_read),
            swap: share(usual.swap),
            compact: share(usual.compact).min(4),
            compact_behind,
            lease: share(usual.lease),
            lease_ttl_max,
            attach_percent: share(usual.attach_percent),
            value_bytes_max,
        }
    }

    fn kinds(&self) -> [(u32, Kind); 9] {
        [
            (self.put, Kind::Put),
            (self.get, Kind::Get),
            (self.range, Kind::Range),
            (self.delete, Kind::Delete),
            (self.delete_marked, Kind::DeleteMarked),
            (self.txn, Kind::Txn),
            (self.txn_read, Kind::TxnRead),
            (self.compact, Kind::Compact),
            (self.lease, Kind::Lease),
        ]
    }
}

#[derive(Copy, Clone, Debug)]
enum Kind {
    Put,
    Get,
    Range,
    Delete,
    DeleteMarked,
    Txn,
    TxnRead,
    Compact,
    Lease,
}

/// Makes the requests of one client.
#[derive(Clone, Debug)]
pub struct Generator {
    mix: Mix,
    /// What this client has seen of the store.
    pub known: Known,
    /// Key of this client's marks.
    mark: Bytes,
    /// A read whose answer decides a write.
    swap: Option<Swap>,
}

/// A compare-and-swap under way.
#[derive(Clone, Debug)]
enum Swap {
    /// The read was sent; after the answer it can be tried so many times.
    Reading { key: Bytes, tries: u32 },
    /// The key was last changed at this revision, 0 if it is not there.
    Read { key: Bytes, changed: i64, tries: u32 },
    /// The write was sent.
    Writing { key: Bytes, tries: u32 },
}

impl Generator {
    /// A generator for the client with this number (of [`crate::history::Call::client`], or any that no other has).
    pub fn new(mix: Mix, client: u32) -> Self {
        let mark = [keys::MARK, format!("{client}").as_bytes()].concat();
        Self { mix, known: Known::default(), mark: mark.into(), swap: None }
    }

    /// The next request. The one before has been answered or given up.
    pub fn next(&mut self, dice: &mut dyn Dice) -> Request {
        if let Some(Swap::Read { key, changed, tries }) = self.swap.take() {
            self.swap = Some(Swap::Writing { key: key.clone(), tries });
            return Request::Txn(self.swap_txn(dice, key, changed));
        }
        let kinds = self.mix.kinds();
        let total: u32 = kinds.iter().map(|(share, _)| share).sum::<u32>() + self.mix.swap;
        let mut at = dice.pick(u64::from(total.max(1))) as u32;
        for (share, kind) in kinds {
            if at < share {
                return self.make(kind, dice);
            }
            at -= share;
        }
        let key = ops::key(dice);
        self.swap = Some(Swap::Reading { key: key.clone(), tries: 1 + dice.pick(4) as u32 });
        Request::Range(pb::RangeRequest { key, ..Default::default() })
    }

    /// What came of a request, in any order over the clients that share a generator.
    pub fn note(&mut self, request: &Request, outcome: &Outcome) {
        self.known.note(request, outcome);
        let Outcome::Done(response) = outcome else {
            self.swap = None;
            return;
        };
        self.swap = match self.swap.take() {
            Some(Swap::Reading { key, tries }) => {
                known::changed_at(response, &key).map(|changed| Swap::Read { key, changed, tries })
            }
            // A write that found another change is tried again from what its other branch read.
            Some(Swap::Writing { key, tries }) if tries > 1 => {
                known::swap_lost_to(response, &key).map(|changed| Swap::Read { key, changed, tries: tries - 1 })
            }
            _ => None,
        };
    }

    fn make(&mut self, kind: Kind, dice: &mut dyn Dice) -> Request {
        match kind {
            Kind::Put => Request::Put(self.put(dice)),
            Kind::Get => Request::Range(self.get(dice)),
            Kind::Range => Request::Range(self.range(dice)),
            Kind::Delete => Request::DeleteRange(ops::delete(dice)),
            Kind::DeleteMarked => Request::Txn(self.delete_marked(dice)),
            Kind::Txn => Request::Txn(self.txn(dice)),
            Kind::TxnRead => Request::Txn(self.txn_read(dice)),
            Kind::Compact => Request::Compact(self.compact(dice)),
            Kind::Lease => self.lease(dice),
        }
    }
}

#[cfg(test)]
mod tests;
