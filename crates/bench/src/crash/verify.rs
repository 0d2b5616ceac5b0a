//! Looks at a server that came back, and settles the ledger with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cetera_client::{Client, Code, Error, Get, Watch, watch_error};
use tokio::time::timeout;

use super::ledger::{History, Ledger, Restored};
use super::model::{Cell, Change, Keys};
use crate::rng::Rng;

/// Longest wait for the replay of history to go on.
const REPLAY_PATIENCE: Duration = Duration::from_secs(20);
/// Random revisions of the past read in full, each time.
const PAST_READS: usize = 2;

/// Checks everything. `spawned` is when this life's process was started, `killed` when the last one ended.
///
/// # Errors
/// What is wrong.
pub async fn check(
    client: &Client,
    ledger: &mut Ledger,
    rng: &mut Rng,
    killed: Option<Instant>,
    spawned: Instant,
) -> Result<(), String> {
    let head = revision_now(client).await?;
    let restored = replay(client, head).await?;
    ledger.settle(restored)?;
    ledger.known = ledger.known.max(head);
    let mut past = vec![ledger.settled, ledger.floor];
    past.extend((0..PAST_READS).map(|_| rng.within(ledger.floor as u64, ledger.settled as u64 + 1) as i64));
    for revision in past {
        check_keys(client, ledger, revision).await?;
    }
    if ledger.floor > 1 {
        check_compacted(client, ledger.floor - 1).await?;
    }
    check_hash(client, ledger).await?;
    check_leases(client, ledger, killed, spawned).await
}

fn failed(what: &str) -> impl FnOnce(Error) -> String + '_ {
    move |error| format!("{what}: {error}")
}

async fn revision_now(client: &Client) -> Result<i64, String> {
    let answer = client.get(Get::new("k").count_only()).await.map_err(failed("reading the revision"))?;
    Ok(answer.header.map_or(0, |header| header.revision))
}

/// Watches all keys from the compaction to `head`.
async fn replay(client: &Client, head: i64) -> Result<Restored, String> {
    let mut restored = Restored { floor: 1, head, history: History::new() };
    if head == 1 {
        return Ok(restored);
    }
    let mut from = 1;
    let mut reached = 1;
    let mut watcher = client.watch(all_keys().revision(from));
    while reached < head {
        let next = timeout(REPLAY_PATIENCE, watcher.next()).await;
        let next = next.map_err(|_| format!("the replay stands still at revision {reached} of {head}"))?;
        let response = next.map_err(failed("replay"))?.ok_or("the replay ended")?;
        if response.compact_revision > 0 && from == 1 {
            restored.floor = response.compact_revision;
            reached = restored.floor;
            from = restored.floor + 1;
            watcher = client.watch(all_keys().revision(from));
            continue;
        }
        if let Some(why) = watch_error(&response) {
            return Err(format!("the replay from {from} was ended at {reached}: {why}"));
        }
        for (revision, changes) in by_revision(&response.events)? {
            if revision <= reached {
                return Err(format!("the replay showed revision {revision} after {reached}"));
            }
            reached = revision;
            if revision <= head {
                restored.history.insert(revision, changes);
            }
        }
    }
    Ok(restored)
}

/// A watch of everything.
pub fn all_keys() -> Watch {
    Watch::new(Bytes::from_static(b"\0")).range(Bytes::from_static(b"\0"))
}

/// The events of one response, put together by revision.
///
/// # Errors
/// An event that is none of this run's, or out of order.
pub fn by_revision(events: &[cetera_client::proto::mvccpb::Event]) -> Result<Vec<(i64, Vec<Change>)>, String> {
    let mut groups: Vec<(i64, Vec<Change>)> = Vec::new();
    for event in events {
        let (revision, change) = Change::of(event)?;
        match groups.last_mut() {
            Some((last, changes)) if *last == revision => changes.push(change),
            Some((last, _)) if *last > revision => {
                return Err(format!("an event of revision {revision} after one of {last}"));
            }
            _ => groups.push((revision, vec![change])),
        }
    }
    Ok(groups)
}

async fn check_keys(client: &Client, ledger: &Ledger, revision: i64) -> Result<(), String> {
    let get = Get::new("").from_key().revision(revision);
    let answer = client.get(get).await.map_err(|e| format!("all keys at revision {revision}: {e}"))?;
    let mut found = Keys::default();
    for kv in &answer.kvs {
        let (key, cell) = Cell::of(kv)?;
        found.0.insert(key, cell);
    }
    if answer.count != answer.kvs.len() as i64 || found.0.len() != answer.kvs.len() {
        return Err(format!("revision {revision}: {} keys, count {}", answer.kvs.len(), answer.count));
    }
    match ledger.at(revision).difference(&found) {
        None => Ok(()),
        Some(difference) => Err(format!("at revision {revision} {difference}")),
    }
}

async fn check_compacted(client: &Client, revision: i64) -> Result<(), String> {
    match client.get(Get::new("").from_key().revision(revision).limit(1)).await {
        Err(error) if error.code() == Code::OutOfRange => Ok(()),
        other => Err(format!("revision {revision} is compacted, but a read of it was answered {other:?}")),
    }
}

/// The hash at a revision, with the compaction it belongs to.
///
/// # Errors
/// The server does not tell.
pub async fn hash_at(client: &Client, revision: i64) -> Result<(i64, i64, u32), String> {
    let answer = client.hash_kv(revision).await.map_err(failed("HashKV"))?;
    Ok((revision, answer.compact_revision, answer.hash))
}

/// The hash of last time at the same revision, unless there was a compaction since; then a new one.
async fn check_hash(client: &Client, ledger: &mut Ledger) -> Result<(), String> {
    if let Some((revision, compaction, hash)) = ledger.hash
        && revision >= ledger.floor
    {
        let (_, now_compacted, now) = hash_at(client, revision).await?;
        if now_compacted == compaction && now != hash {
            return Err(format!("HashKV at revision {revision} was {hash} and is now {now}"));
        }
    }
    ledger.hash = Some(hash_at(client, ledger.settled).await?);
    Ok(())
}

async fn check_leases(
    client: &Client,
    ledger: &mut Ledger,
    killed: Option<Instant>,
    spawned: Instant,
) -> Result<(), String> {
    let listed = client.lease_leases().await.map_err(failed("listing leases"))?;
    let listed_at = Instant::now();
    let listed: BTreeSet<i64> = listed.leases.iter().map(|lease| lease.id).collect();
    if let Some(id) = listed.iter().find(|id| !ledger.leases.contains_key(id)) {
        return Err(format!("lease {id} was never asked for"));
    }
    for (&id, lease) in &ledger.leases {
        let ttl = Duration::from_secs(lease.ttl.unsigned_abs());
        let outlived = killed.is_none_or(|killed| killed < lease.until);
        if lease.granted && !lease.revoking && outlived && listed_at < spawned + ttl && !listed.contains(&id) {
            return Err(format!("lease {id} is gone: {lease:?}"));
        }
        if lease.revoked && listed.contains(&id) {
            return Err(format!("lease {id} was revoked and is back"));
        }
    }
    for (&key, cell) in &ledger.head().0 {
        if cell.lease != 0 && !listed.contains(&cell.lease) {
            // It may have ended between the two reads; then its key must be gone by now.
            let answer = client.get(Get::new(super::op::key_name(key))).await.map_err(failed("get"))?;
            if answer.kvs.iter().any(|kv| kv.lease == cell.lease) {
                return Err(format!("key {key} is attached to lease {}, which does not exist", cell.lease));
            }
        }
    }
    check_attached(client, ledger, &listed).await?;
    let mut known: BTreeMap<_, _> = std::mem::take(&mut ledger.leases);
    known.retain(|id, _| listed.contains(id));
    for lease in known.values_mut() {
        lease.granted = true;
        // A start gives every lease its whole time again.
        lease.until = spawned + Duration::from_secs(lease.ttl.unsigned_abs());
    }
    ledger.leases = known;
    Ok(())
}

/// Each lease with its time and its keys.
async fn check_attached(client: &Client, ledger: &Ledger, listed: &BTreeSet<i64>) -> Result<(), String> {
    for &id in listed {
        let answer = client.lease_time_to_live(id, true).await.map_err(failed("asking for a lease"))?;
        if answer.ttl < 0 {
            continue; // Ended since it was listed.
        }
        let lease = &ledger.leases[&id];
        // A new leader adds an election timeout to every lease, as etcd's does (lessor `Promote`).
        if answer.granted_ttl != lease.ttl || answer.ttl > lease.ttl + 1 {
            return Err(format!("lease {id} of {} s has {} s of {} s", lease.ttl, answer.ttl, answer.granted_ttl));
        }
        let found: BTreeSet<Bytes> = answer.keys.into_iter().collect();
        let expected: BTreeSet<Bytes> = ledger.head().attached(id).map(super::op::key_name).collect();
        if found != expected {
            // Ending leases take keys with them, and only they move the revision in a server without other clients.
            let revision = revision_now(client).await?;
            if revision == ledger.settled {
                return Err(format!("lease {id} has the keys {found:?}, should have {expected:?}"));
            }
        }
    }
    Ok(())
}
