//! Leases, and keeping them alive.

use crate::call::{Duplex, Repeat};
use crate::{Client, Error};
use cetera_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use cetera_proto::services::MethodId;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Pause before a broken stream is opened again (clientv3 `retryConnWait`).
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// How long a lease counts as alive before its first answer (clientv3 `defaultTTL`).
const FIRST_TTL: Duration = Duration::from_secs(5);

impl Client {
    /// A new lease of `ttl` seconds. Id 0: the server chooses.
    pub async fn lease_grant(&self, ttl: i64, id: i64) -> Result<LeaseGrantResponse, Error> {
        self.unary(MethodId::LeaseGrant, Repeat::No, LeaseGrantRequest { ttl, id }).await
    }

    /// Ends a lease and deletes its keys.
    pub async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse, Error> {
        self.unary(MethodId::LeaseRevoke, Repeat::No, LeaseRevokeRequest { id }).await
    }

    /// How much time a lease has left (-1 second: there is none), with its keys if asked.
    pub async fn lease_time_to_live(&self, id: i64, keys: bool) -> Result<LeaseTimeToLiveResponse, Error> {
        self.unary(MethodId::LeaseTimeToLive, Repeat::Yes, LeaseTimeToLiveRequest { id, keys }).await
    }

    /// All leases.
    pub async fn lease_leases(&self) -> Result<LeaseLeasesResponse, Error> {
        self.unary(MethodId::LeaseLeases, Repeat::Yes, LeaseLeasesRequest {}).await
    }

    /// Gives a lease its full time again, once.
    ///
    /// # Errors
    /// NotFound if there is no such lease.
    pub async fn lease_keep_alive_once(&self, id: i64) -> Result<LeaseKeepAliveResponse, Error> {
        let request = LeaseKeepAliveRequest { id };
        let mut stream: Duplex<_, LeaseKeepAliveResponse> =
            self.duplex(MethodId::LeaseKeepAlive, request, false).await?;
        match stream.responses.message().await? {
            Some(response) if response.ttl > 0 => Ok(response),
            _ => Err(Error::lease_not_found()),
        }
    }

    /// Keeps a lease alive for as long as [`KeepAlive::next`] is called.
    pub fn lease_keep_alive(&self, id: i64) -> KeepAlive {
        let now = Instant::now();
        KeepAlive { client: self.clone(), id, stream: None, send_at: now, expires_at: now + FIRST_TTL }
    }
}

/// A lease being kept alive: renewed each third of its time.
pub struct KeepAlive {
    client: Client,
    id: i64,
    stream: Option<Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse>>,
    send_at: Instant,
    /// Without an answer by then the lease is gone for all we know.
    expires_at: Instant,
}

impl KeepAlive {
    /// The next renewal; None once the lease has expired, was revoked, or could not be renewed in time. Dropping
    /// the future loses nothing but an answer.
    ///
    /// # Errors
    /// What the server refused for good, e.g. permission.
    pub async fn next(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Error> {
        loop {
            match timeout_at(self.expires_at, self.renew()).await {
                Err(_expired) => return Ok(None),
                Ok(Ok(Some(response))) if response.ttl <= 0 => return Ok(None),
                Ok(Ok(Some(response))) => {
                    let ttl = Duration::from_secs(response.ttl.unsigned_abs());
                    self.send_at = Instant::now() + ttl / 3;
                    self.expires_at = Instant::now() + ttl;
                    return Ok(Some(response));
                }
                Ok(Ok(None)) => self.reopen_later(),
                Ok(Err(e)) if e.is_transient() => self.reopen_later(),
                Ok(Err(e)) => return Err(e),
            }
        }
    }

    async fn renew(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Error> {
        sleep_until(self.send_at).await;
        let request = LeaseKeepAliveRequest { id: self.id };
        let stream = match &mut self.stream {
            None => {
                let opened = self.client.duplex(MethodId::LeaseKeepAlive, request, false).await?;
                self.stream.insert(opened)
            }
            Some(stream) => {
                if stream.requests.send(request).await.is_err() {
                    return Ok(None);
                }
                stream
            }
        };
        Ok(stream.responses.message().await?)
    }

    fn reopen_later(&mut self) {
        self.stream = None;
        self.send_at = Instant::now() + RECONNECT_PAUSE;
    }
}
