//! Overwriting for ever: neither the disk nor memory may grow with it.

use std::time::Duration;

use bytes::Bytes;
use cetera_client::Put;

use super::report::Row;
use super::steps::{client, compact_all};
use super::store::{From, Store, VALUE_BYTES, Writes};
use crate::files::disk_bytes;
use crate::load::unary::Load;
use crate::process::Launch;
use crate::serving;

/// Live data that is overwritten. Bytes of values.
const LIVE: u64 = 256 << 20;
/// Times that all of it is.
const ROUNDS: usize = 10;
/// The disk may hold twice the live data and this. Bytes.
const SLACK: u64 = 256_000_000;
/// Longest wait for the space to be given back after a compaction.
const PATIENCE: Duration = Duration::from_secs(30);
/// A large value, and how often it is written.
const LARGE_VALUE: usize = 1_000_000;
const LARGE_WRITES: usize = 1_000;
/// Limit of anonymous memory after that. Bytes.
const LARGE_RSS: u64 = 100_000_000;
const IN_FLIGHT: usize = 256;

/// All keys overwritten and history compacted, again and again.
///
/// # Errors
/// A request failed.
pub async fn disk(launch: &Launch) -> Result<Vec<Row>, String> {
    let (server, _) = serving::start(launch).await?;
    let keys = LIVE / VALUE_BYTES as u64;
    let store = Store::new(keys);
    let live = keys * (VALUE_BYTES as u64 + 16);
    let limit = 2 * live + SLACK;
    let mut most: u64 = 0;
    let mut highest: u64 = 0;
    let mut kept = true;
    for _ in 0..=ROUNDS {
        let writes = Writes::new(&store, From::Each((0..keys).step_by(1)), IN_FLIGHT);
        Load::start(&launch.address(), 4, IN_FLIGHT, writes).finish(true).await?;
        highest = highest.max(disk_bytes(&launch.data_dir));
        compact_all(&launch.address(), false).await?;
        kept &= serving::wait_until(PATIENCE, || disk_bytes(&launch.data_dir) <= limit).await;
        most = most.max(disk_bytes(&launch.data_dir));
    }
    drop(server);
    let megabytes = |bytes: u64| bytes / 1_000_000;
    let found = format!(
        "{} MB at most after each compaction ({} MB before it), {} MB live",
        megabytes(most),
        megabytes(highest),
        megabytes(live)
    );
    let what = format!("disk over {ROUNDS} rounds of overwriting everything and compacting");
    let limit = format!("2x live + 256 MB = {} MB, within {} s", megabytes(limit), PATIENCE.as_secs());
    Ok(vec![Row::new(what, found, limit, kept)])
}

/// One large value, overwritten and compacted.
///
/// # Errors
/// A request failed.
pub async fn large_value(launch: &Launch) -> Result<Vec<Row>, String> {
    let (server, _) = serving::start(launch).await?;
    let client = client(&launch.address())?;
    for n in 0..LARGE_WRITES {
        let value = Bytes::from(vec![n as u8; LARGE_VALUE]);
        client.put(Put::new("large", value)).await.map_err(|error| format!("put {n}: {error}"))?;
    }
    compact_all(&launch.address(), false).await?;
    let kept = serving::wait_until(PATIENCE, || server.anonymous_bytes() < LARGE_RSS).await;
    let found = format!("RssAnon {} MB", server.anonymous_bytes() / 1_000_000);
    let what = format!("{LARGE_WRITES} writes of one 1 MB key, compacted");
    let limit = format!("< 100 MB within {} s", PATIENCE.as_secs());
    Ok(vec![Row::new(what, found, limit, kept)])
}
