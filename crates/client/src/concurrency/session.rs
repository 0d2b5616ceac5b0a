//! A lease kept alive in the background.

use crate::{Client, Error};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A lease that lives as long as this value and its connection do. Dropped without [`Session::close`], it is left
/// to expire.
pub struct Session {
    client: Client,
    lease: i64,
    ttl: Duration,
    alive: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Session {
    /// Time to live used by Go's `NewSession` when none is asked for.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(60);

    /// Grants a lease of `ttl` (whole seconds) and keeps it alive.
    pub async fn new(client: &Client, ttl: Duration) -> Result<Session, Error> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let lease = client.lease_grant(seconds, 0).await?.id;
        let mut keep_alive = client.lease_keep_alive(lease);
        let (sender, alive) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok(Some(_)) = keep_alive.next().await {}
            // All receivers gone means that nobody asks any more.
            let _ = sender.send(false);
        });
        Ok(Session { client: client.clone(), lease, ttl, alive, task })
    }

    /// The lease that keys of this session are attached to.
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until the lease is no longer kept alive.
    pub async fn done(&self) {
        // An error means that the task ended, which is the same news.
        let _ = self.alive.clone().wait_for(|alive| !alive).await;
    }

    /// Revokes the lease, which deletes the session's keys.
    pub async fn close(self) -> Result<(), Error> {
        self.task.abort();
        self.client.with_timeout(Some(self.ttl)).lease_revoke(self.lease).await?;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}
