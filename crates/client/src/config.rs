//! What a client is told when it is made.

use crate::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Largest request sent unless told otherwise (clientv3 `defaultClientMaxCallSendMsgSize`).
const MAX_SEND_BYTES: usize = 2 * 1024 * 1024;
/// Largest response taken unless told otherwise (clientv3 `defaultClientMaxCallRecvMsgSize`).
const MAX_RECEIVE_BYTES: usize = i32::MAX as usize;

/// Told of failed attempts.
pub type Listener = Arc<dyn Fn(&FailedAttempt<'_>) + Send + Sync>;

/// How to reach a cluster, and how to behave towards it.
#[derive(Clone)]
pub struct Config {
    /// Addresses of members: `host:port`, `http://host:port`, `unix:///path`.
    pub endpoints: Vec<String>,
    /// How long one attempt to connect may take.
    pub dial_timeout: Duration,
    /// Pause between pings of an idle connection.
    pub keep_alive_time: Duration,
    /// How long an unanswered ping may stand before the connection is given up.
    pub keep_alive_timeout: Duration,
    /// How long a unary call may take, retries and connecting included. None: forever.
    pub timeout: Option<Duration>,
    /// Largest request, in encoded bytes.
    pub max_send_bytes: usize,
    /// Largest response, in encoded bytes.
    pub max_receive_bytes: usize,
    /// User name and password.
    pub user: Option<(String, String)>,
    /// A token to send as it is, in place of one earned with a password.
    pub token: Option<String>,
    /// Told of every failed attempt of a unary call, before it is retried or given up.
    pub on_failed_attempt: Option<Listener>,
}

/// One attempt that failed.
#[derive(Debug)]
pub struct FailedAttempt<'a> {
    /// The endpoint asked.
    pub endpoint: &'a str,
    /// The call, as `/service/method`.
    pub method: &'static str,
    /// 0 for the first attempt.
    pub attempt: u32,
    /// Why.
    pub error: &'a Error,
}

impl Config {
    /// Defaults (those of clientv3 and etcdctl) for these endpoints.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Config {
        Config {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            dial_timeout: Duration::from_secs(2),
            keep_alive_time: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(6),
            timeout: None,
            max_send_bytes: MAX_SEND_BYTES,
            max_receive_bytes: MAX_RECEIVE_BYTES,
            user: None,
            token: None,
            on_failed_attempt: None,
        }
    }
}

/// Leaves out the secrets.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("endpoints", &self.endpoints)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
