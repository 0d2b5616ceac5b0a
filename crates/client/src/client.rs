//! The client itself: endpoints, the token, the timeout.

use crate::endpoint::Connection;
use crate::{Config, Error};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A handle to a cluster. Clones share connections; each has its own [`Client::with_timeout`].
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) timeout: Option<Duration>,
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) connections: Vec<Connection>,
    /// The next connection to ask. Moves on with every call, as clientv3's round robin does.
    next: AtomicUsize,
    /// The token earned with the password of the config, if any.
    token: Mutex<Option<String>>,
}

impl Client {
    /// A client for these endpoints. Connects when first used.
    ///
    /// # Errors
    /// No endpoint, or one that cannot be an address.
    pub fn new(config: Config) -> Result<Client, Error> {
        if config.endpoints.is_empty() {
            return Err(Error::refused("etcdclient: no available endpoints"));
        }
        let connections =
            config.endpoints.iter().map(|address| Connection::new(address, &config)).collect::<Result<_, _>>()?;
        let timeout = config.timeout;
        let token = Mutex::new(config.token.clone());
        let shared = Shared { config, connections, next: AtomicUsize::new(0), token };
        Ok(Client { shared: Arc::new(shared), timeout })
    }

    /// The same client whose unary calls take at most this long. None: forever.
    pub fn with_timeout(&self, timeout: Option<Duration>) -> Client {
        Client { shared: Arc::clone(&self.shared), timeout }
    }

    /// The endpoints, as given.
    pub fn endpoints(&self) -> &[String] {
        &self.shared.config.endpoints
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.shared.config).field("timeout", &self.timeout).finish()
    }
}

impl Shared {
    /// The connection whose turn it is.
    pub(crate) fn pick(&self) -> &Connection {
        &self.connections[self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len()]
    }

    pub(crate) fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_token(&self, token: Option<String>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}
