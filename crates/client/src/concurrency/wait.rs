//! Waiting for one's turn.

use super::RecipeError;
use crate::{Client, Get, Watch, watch_error};
use bytes::Bytes;
use cetera_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use cetera_proto::mvccpb::event::EventType;

/// Waits until no key under `prefix` created at or before `revision` is left. Each waiter watches the one key before
/// its own, so that a release wakes one waiter and not all.
pub(super) async fn wait_for_turn(client: &Client, prefix: &Bytes, revision: i64) -> Result<(), RecipeError> {
    let mut last = Get::new(prefix.clone()).prefix().sort(SortTarget::Create, SortOrder::Descend).limit(1);
    last.0.max_create_revision = revision;
    loop {
        let found = client.get(last.clone()).await?;
        let Some(before) = found.kvs.into_iter().next() else { return Ok(()) };
        let from = found.header.map_or(0, |h| h.revision);
        wait_for_delete(client, before.key, from).await?;
    }
}

async fn wait_for_delete(client: &Client, key: Bytes, revision: i64) -> Result<(), RecipeError> {
    let mut watcher = client.watch(Watch::new(key).revision(revision));
    while let Some(response) = watcher.next().await? {
        if let Some(reason) = watch_error(&response) {
            return Err(RecipeError::WatchLost(reason));
        }
        if response.events.iter().any(|e| e.r#type == EventType::Delete as i32) {
            return Ok(());
        }
    }
    Err(RecipeError::WatchLost("lost watcher waiting for delete".to_string()))
}
