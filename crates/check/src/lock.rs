//! Locks, elections and jobs: at most one holder, by fencing revision.
//!
//! Whoever holds a lock writes what the lock protects, with the create revision of its lock key in the value
//! ([`crate::keys`]). Over the changes of such a key that revision never goes back: a holder that was superseded writes
//! no more. And whoever writes is the owner as etcd's concurrency package defines it: of the keys of the lock that are
//! there, its own has the lowest create revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use cetera_proto::mvccpb::{KeyValue, event::EventType};

use crate::Report;
use crate::history::History;
use crate::keys;
use crate::replay::{Maker, Order};
use crate::text;

/// The checker's name in violations.
const NAME: &str = "lock";

/// Judges all that locks protect.
pub(crate) fn check(history: &History, order: &Order, report: &mut Report) {
    let mut highest: BTreeMap<Bytes, (i64, i64)> = BTreeMap::new();
    for revision in order.first + 1..=order.last {
        for change in order.store.changes(revision) {
            let Some(kv) = change.kv.as_ref().filter(|_| change.r#type() == EventType::Put) else { continue };
            let Some(lock) = lock(&kv.key) else { continue };
            let Some(fencing) = keys::fencing_revision(&kv.value) else { continue };
            let writer = match order.maker(revision) {
                Maker::Call(call) => text::call(history, call),
                _ => text::kv(kv),
            };
            if let Some((before, at)) = highest.get(&kv.key).filter(|(before, _)| *before > fencing) {
                report.add(
                    NAME,
                    format!(
                        "{} was written at revision {at} by the holder since {before}, and at {revision} by the one \
                         since {fencing}\n  {writer}",
                        text::Text(&kv.key)
                    ),
                );
                continue;
            }
            highest.insert(kv.key.clone(), (fencing, revision));
            let Lock::Contenders(prefix, end) = lock else { continue };
            let owner = order.store.live(&prefix, &end, revision).min_by_key(|key| key.create_revision);
            if owner.map(|owner: &KeyValue| owner.create_revision) != Some(fencing) {
                report.add(
                    NAME,
                    format!(
                        "{} was written at revision {revision} by the holder since {fencing}, but the owner was {}\n  {writer}",
                        text::Text(&kv.key),
                        owner.map_or("nobody".to_owned(), text::kv)
                    ),
                );
            }
        }
    }
}

/// What protects a key.
enum Lock {
    /// The owner is the contender that came first, in this range.
    Contenders(Bytes, Bytes),
    /// A lock whose key goes with its lease, perhaps before its holder knows.
    Job,
}

fn lock(key: &Bytes) -> Option<Lock> {
    for (protected, lock) in [(keys::RESOURCE, keys::LOCK), (keys::TERM, keys::ELECTION)] {
        if let Some(name) = key.strip_prefix(protected) {
            let prefix = [lock, name, b"/"].concat();
            let end = keys::prefix_end(&prefix);
            return Some(Lock::Contenders(prefix.into(), end));
        }
    }
    key.starts_with(keys::CRON_JOBS).then_some(Lock::Job)
}
