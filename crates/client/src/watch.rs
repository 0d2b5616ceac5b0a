//! Watches: one stream each, opened again where it broke off.

use crate::call::Duplex;
use crate::{Client, Code, Error, prefix_end};
use bytes::Bytes;
use cetera_proto::etcdserverpb::watch_request::RequestUnion;
use cetera_proto::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use cetera_proto::services::MethodId;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Pause before a broken stream is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Asks for progress that wait to be sent; more are dropped, for one answer serves them all.
const PROGRESS_QUEUE: usize = 4;

/// What to watch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watch {
    request: WatchCreateRequest,
    require_leader: bool,
}

impl Watch {
    /// One key, from now on.
    pub fn new(key: impl Into<Bytes>) -> Watch {
        let request = WatchCreateRequest { key: key.into(), ..Default::default() };
        Watch { request, require_leader: false }
    }
    /// All keys from this one to before `end`.
    pub fn range(mut self, end: impl Into<Bytes>) -> Watch {
        self.request.range_end = end.into();
        self
    }
    /// All keys that start with the key.
    pub fn prefix(mut self) -> Watch {
        self.request.range_end = prefix_end(&self.request.key);
        if self.request.key.is_empty() {
            self.request.key = Bytes::from_static(b"\0");
        }
        self
    }
    /// From this revision on; 0 means from now on.
    pub fn revision(mut self, revision: i64) -> Watch {
        self.request.start_revision = revision;
        self
    }
    /// Each event with what was there before.
    pub fn prev_kv(mut self) -> Watch {
        self.request.prev_kv = true;
        self
    }
    /// A response without events now and then, to say how far the watch is.
    pub fn progress_notify(mut self) -> Watch {
        self.request.progress_notify = true;
        self
    }
    /// Ends when the member asked has lost its leader (clientv3 `WithRequireLeader`).
    pub fn require_leader(mut self) -> Watch {
        self.require_leader = true;
        self
    }
}

/// A running watch.
pub struct Watcher {
    client: Client,
    /// What to ask for when the stream is opened again; its start revision follows the events received.
    request: WatchCreateRequest,
    require_leader: bool,
    stream: Option<Duplex<WatchRequest, WatchResponse>>,
    progress: mpsc::Receiver<()>,
    handle: WatchHandle,
    done: bool,
}

/// Acts on a watch whose [`Watcher`] is busy elsewhere.
#[derive(Clone, Debug)]
pub struct WatchHandle {
    progress: mpsc::Sender<()>,
}

impl WatchHandle {
    /// Asks for a response that says how far the watch is.
    pub fn request_progress(&self) {
        // Full means that asks are waiting already, closed that the watch is over.
        let _ = self.progress.try_send(());
    }
}

impl Client {
    /// Watches. Nothing is sent before the first [`Watcher::next`].
    pub fn watch(&self, watch: Watch) -> Watcher {
        let (progress, receiver) = mpsc::channel(PROGRESS_QUEUE);
        let handle = WatchHandle { progress };
        let Watch { request, require_leader } = watch;
        Watcher { client: self.clone(), request, require_leader, stream: None, progress: receiver, handle, done: false }
    }
}

impl Watcher {
    /// A handle to this watch.
    pub fn handle(&self) -> WatchHandle {
        self.handle.clone()
    }

    /// The next response with events, progress or the watch's end (`canceled`); None after its end. A broken
    /// connection is not an end: the watch goes on at the next revision. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What the server refused for good, e.g. a missing token. The watch is over then.
    pub async fn next(&mut self) -> Result<Option<WatchResponse>, Error> {
        while !self.done {
            match self.step().await {
                Ok(Some(response)) if response.created && !response.canceled => self.created(&response),
                Ok(Some(response)) => {
                    self.follow(&response);
                    return Ok(Some(response));
                }
                Ok(None) => {}
                Err(e) if e.is_transient() => self.reconnect().await,
                Err(e) => {
                    self.done = true;
                    return Err(e);
                }
            }
        }
        Ok(None)
    }

    /// Opens the stream, or waits for a message on it. None: nothing to tell yet.
    async fn step(&mut self) -> Result<Option<WatchResponse>, Error> {
        let Some(stream) = &mut self.stream else {
            let create = RequestUnion::CreateRequest(self.request.clone());
            let request = WatchRequest { request_union: Some(create) };
            self.stream = Some(self.client.duplex(MethodId::Watch, request, self.require_leader).await?);
            return Ok(None);
        };
        tokio::select! {
            message = stream.responses.message() => match message? {
                Some(response) => Ok(Some(response)),
                None => Err(Error::new(Code::Unavailable, "the watch stream ended")),
            },
            Some(()) = self.progress.recv() => {
                let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
                // A closed stream is noticed by the next read.
                let _ = stream.requests.send(WatchRequest { request_union: Some(ask) }).await;
                Ok(None)
            }
        }
    }

    async fn reconnect(&mut self) {
        self.stream = None;
        sleep(RECONNECT_PAUSE).await;
    }

    /// A watch from "now" is pinned to the revision it began at, or a reconnect would miss events.
    fn created(&mut self, response: &WatchResponse) {
        if self.request.start_revision == 0 {
            self.request.start_revision = response.header.as_ref().map_or(0, |h| h.revision + 1);
        }
    }

    fn follow(&mut self, response: &WatchResponse) {
        if response.canceled || response.compact_revision != 0 {
            self.done = true;
            self.stream = None;
        } else if let Some(kv) = response.events.last().and_then(|e| e.kv.as_ref()) {
            self.request.start_revision = kv.mod_revision + 1;
        } else if let Some(header) = &response.header {
            // Progress: everything up to the header's revision was sent.
            self.request.start_revision = self.request.start_revision.max(header.revision + 1);
        }
    }
}

/// Why a response ended its watch, None if it did not (clientv3 `WatchResponse.Err`).
pub fn watch_error(response: &WatchResponse) -> Option<String> {
    if response.compact_revision != 0 {
        return Some("etcdserver: mvcc: required revision has been compacted".to_string());
    }
    if !response.canceled {
        return None;
    }
    Some(match response.cancel_reason.as_str() {
        "" => "etcdserver: mvcc: required revision is a future revision".to_string(),
        reason if response.created => reason.to_string(),
        reason => Error::new(Code::FailedPrecondition, reason).to_string(),
    })
}
