//! Hashes of the store: the one etcd members compare, and the one that is always at hand.
//!
//! **HashKV** is etcd's: CRC32C over `"key"` and then, for each counted record in revision order, the 17 bytes of its
//! revision (main big endian, `_`, sub big endian), `t` if it is a tombstone, and its payload. What is counted
//! (etcd `kvHasher.WriteKeyValue`; contract D-3, M-5) at hash revision R with compaction watermark C:
//!
//! * nothing above R; everything in (C, R], tombstones included;
//! * at or below C only what is the newest state of a live key *at R*: a record that survives the compaction but is
//!   replaced before R does not count, though it is on the disk;
//! * except if no key at all is alive at R: etcd then takes its empty keep-set for "no compaction planned" and counts
//!   all that the compaction kept, that is the newest put of each key alive *at C*;
//! * never a tombstone exactly at C: old members drop it, new ones keep it, and both must agree.
//!
//! All of this is decided by looking keys up in the index, so the answer does not depend on how far the background
//! pass has come: the log may hold any number of records that compaction has condemned.
//!
//! A compaction at C also leaves behind the hash at C as it was just before, counted from the previous watermark; the
//! last ten are answered for their revisions even when these are compacted (D-4). They live in memory only, as in etcd.
//!
//! **The record sum** costs nothing to ask: a 64-bit hash of each record not yet dropped by compaction, summed, so
//! that the order in which records come and go does not matter. A pass keeps what it dropped in a second sum until it
//! is through: the first one always belongs to a state every member reaches, that of (current, finished watermark).

use std::{ops::ControlFlow, sync::Arc};

use cetera_storage::{crc, revision::Revision, revlog::Record};

use crate::{encode::key_of_payload, error::MvccError, tree::KeyEnd, view::View};

/// Compaction hashes kept (etcd `hashStorageMaxSize`).
const KEPT_HASHES: usize = 10;

/// etcd's hash of the keyspace (`HashKVResponse`).
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct HashKv {
    /// CRC32C.
    pub hash: u32,
    /// The revision hashed up to.
    pub hash_revision: i64,
    /// The watermark hashed from, -1 if the store was never compacted.
    pub compact_revision: i64,
}

impl View {
    /// HashKV at `revision`, 0 = the latest (contract M-5). Reads the whole log up to there: seconds on a large store.
    pub fn hash_kv(&self, revision: i64) -> Result<HashKv, MvccError> {
        if let Some(kept) = self.hashes.iter().find(|kept| kept.hash_revision == revision) {
            return Ok(*kept);
        }
        if revision > 0 && revision < self.compacted {
            return Err(MvccError::Compacted);
        }
        if revision > self.current {
            return Err(MvccError::FutureRevision);
        }
        self.compute_hash(if revision == 0 { self.current } else { revision })
    }

    fn compute_hash(&self, revision: i64) -> Result<HashKv, MvccError> {
        let any_alive = self.index.range(&[], KeyEnd::Open).any(|(_, entry)| entry.hashed_below(revision).is_some());
        let keep_at = if any_alive { revision } else { self.compacted };
        let mut hash = crc::crc32c(b"key");
        self.log.scan(Revision::default(), &mut |_, record| {
            if record.revision.main > revision {
                return ControlFlow::Break(());
            }
            let counts = record.revision.main > self.compacted || !record.tombstone && self.keeps(&record, keep_at);
            if counts {
                hash = append_record(hash, &record);
            }
            ControlFlow::Continue(())
        })?;
        Ok(HashKv { hash, hash_revision: revision, compact_revision: self.compacted })
    }

    fn keeps(&self, record: &Record<'_>, at: i64) -> bool {
        let entry = self.index.get(key_of_payload(record.payload));
        entry.and_then(|entry| entry.hashed_below(at)) == Some(record.revision)
    }
}

fn append_record(hash: u32, record: &Record<'_>) -> u32 {
    let mut key = [0; 18];
    key[..8].copy_from_slice(&record.revision.main.to_be_bytes());
    key[8] = b'_';
    key[9..17].copy_from_slice(&record.revision.sub.to_be_bytes());
    key[17] = b't';
    let key = if record.tombstone { &key[..] } else { &key[..17] };
    crc::crc32c_append(crc::crc32c_append(hash, key), record.payload)
}

/// The hash a compaction leaves behind, not computed yet: Send, to be run on a background thread. It holds the store
/// as it was before the compaction, so run it or drop it soon.
pub struct CompactionHash {
    before: View,
    revision: i64,
}

impl CompactionHash {
    pub(crate) fn new(before: View, revision: i64) -> Self {
        Self { before, revision }
    }

    /// Reads the log up to the compacted revision. Hand the result to
    /// [`Store::remember_hash`](crate::Store::remember_hash).
    pub fn run(self) -> Result<HashKv, MvccError> {
        self.before.compute_hash(self.revision)
    }
}

/// `hashes` with one more, the newest ten by revision (etcd `hashStorage.Store`).
pub(crate) fn remember(hashes: &[HashKv], hash: HashKv) -> Arc<[HashKv]> {
    let mut kept: Vec<_> = hashes.iter().copied().filter(|kept| kept.hash_revision != hash.hash_revision).collect();
    kept.push(hash);
    kept.sort_by_key(|kept| kept.hash_revision);
    kept.drain(..kept.len().saturating_sub(KEPT_HASHES));
    kept.into()
}

/// The hash of one record in the record sum: multiply and fold over eight bytes at a time.
pub(crate) fn record_hash(revision: Revision, tombstone: bool, payload: &[u8]) -> u64 {
    const SECRET: [u64; 4] =
        [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5899_65cc_7537_4cc3];
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let place = revision.sub as u64 * 2 + u64::from(tombstone);
    let mut hash = fold(revision.main as u64 ^ SECRET[0], place ^ SECRET[1]);
    let mut chunks = payload.chunks_exact(16);
    for chunk in &mut chunks {
        hash = fold(word(&chunk[..8]) ^ SECRET[2], word(&chunk[8..]) ^ hash);
    }
    let (low, high) = chunks.remainder().split_at(chunks.remainder().len().min(8));
    hash = fold(word(low) ^ SECRET[3], word(high) ^ hash);
    fold(hash ^ payload.len() as u64, SECRET[1])
}

/// Up to eight bytes as a number, little endian.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}
