//! The clients' side of connections: calls and watchers under way, and the history that is made of them.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use cetera_check::history::{Call, History, News as Word, Outcome, Request, Response, Told, Watcher};
use cetera_proto::etcdserverpb as pb;
use cetera_proto::services::MethodId;
use cetera_server::rpc::status::Code;
use cetera_server::seam::Status;
use prost::Message as _;

use crate::client::{CallId, Conn, News, WatchKey};

/// Calls of one client at the same time are the history's clients of their own; so many at most.
const LANES_MAX: u32 = 1_000;

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: usize,
    pub(crate) member: usize,
    /// Whether the client may use it.
    pub(crate) open: bool,
    /// The life of the member that accepted it.
    pub(crate) life: Option<u32>,
    /// When the last bytes sent to the member arrive.
    pub(crate) up_us: u64,
    /// When the last bytes sent to the client arrive.
    pub(crate) down_us: u64,
    next_call: u64,
    calls: BTreeMap<u64, Pending>,
    stream: Option<WatchStream>,
}

#[derive(Debug)]
struct Pending {
    id: CallId,
    /// Place in the history.
    record: usize,
    lane: u32,
    method: MethodId,
    body: Option<Bytes>,
}

#[derive(Debug)]
struct WatchStream {
    call: u64,
    /// Creations not yet answered; answers come in the order of the requests.
    creating: VecDeque<WatchKey>,
    ids: BTreeMap<i64, WatchKey>,
}

#[derive(Debug)]
struct Watching {
    conn: Conn,
    /// Place in the history.
    record: usize,
    id: Option<i64>,
    canceled: bool,
    /// To be cancelled as soon as it is there.
    cancel: bool,
}

/// What a stream of a client sends next.
#[derive(Debug)]
pub(crate) enum WatchSend {
    /// The stream's first message.
    Open(u64, Bytes),
    /// Another.
    Message(u64, Bytes),
}

/// All connections of a run, and its history.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    all: Vec<Connection>,
    lanes: Vec<Vec<bool>>,
    watching: BTreeMap<(usize, WatchKey), Watching>,
    /// Every watcher there ever was: its place in the history.
    records: BTreeMap<(usize, WatchKey), usize>,
    pub(crate) history: History,
}

impl Connections {
    pub(crate) fn get_mut(&mut self, conn: Conn) -> &mut Connection {
        &mut self.all[conn.0 as usize]
    }

    pub(crate) fn get(&self, conn: Conn) -> &Connection {
        &self.all[conn.0 as usize]
    }

    pub(crate) fn open(&mut self, client: usize, member: usize, now_us: u64) -> Conn {
        let conn = Conn(self.all.len() as u64);
        self.all.push(Connection {
            client,
            member,
            open: true,
            life: None,
            up_us: now_us,
            down_us: now_us,
            next_call: 0,
            calls: BTreeMap::new(),
            stream: None,
        });
        conn
    }

    /// Open connections to a member.
    pub(crate) fn open_to(&self, member: usize) -> Vec<Conn> {
        let open = self.all.iter().enumerate().filter(|(_, conn)| conn.open && conn.member == member);
        open.map(|(at, _)| Conn(at as u64)).collect()
    }

    /// Records a call and gives it its number on the connection; `None` if the connection is not open.
    pub(crate) fn call(
        &mut self,
        conn: Conn,
        id: CallId,
        request: Request,
        now_us: u64,
    ) -> Option<(u64, MethodId, Bytes)> {
        let Connection { client, member, open, .. } = *self.get(conn);
        let lane = self.take_lane(client);
        let (method, body) = encode(&request);
        let record = self.history.calls.len();
        self.history.calls.push(Call {
            client: client as u32 * LANES_MAX + lane,
            member: member as u32,
            start_us: now_us,
            end_us: now_us,
            request,
            outcome: Outcome::Refused("the connection is closed".to_owned()),
        });
        if !open {
            self.lanes[client][lane as usize] = false;
            return None;
        }
        self.history.calls[record].outcome = Outcome::Unknown("the run ended".to_owned());
        let connection = self.get_mut(conn);
        let number = connection.next_call;
        connection.next_call += 1;
        connection.calls.insert(number, Pending { id, record, lane, method, body: None });
        Some((number, method, body))
    }

    fn take_lane(&mut self, client: usize) -> u32 {
        if self.lanes.len() <= client {
            self.lanes.resize_with(client + 1, Vec::new);
        }
        let lanes = &mut self.lanes[client];
        let free = lanes.iter().position(|busy| !busy).unwrap_or(lanes.len());
        if free == lanes.len() {
            lanes.push(false);
        }
        lanes[free] = true;
        assert!(free < LANES_MAX as usize, "client {client} has too many calls under way");
        free as u32
    }

    /// A call is over for its client; `None` if it was before.
    fn end_call(&mut self, conn: Conn, call: u64, now_us: u64, outcome: Outcome) -> Option<News> {
        let connection = self.get_mut(conn);
        let pending = connection.calls.remove(&call)?;
        let client = connection.client;
        self.lanes[client][pending.lane as usize] = false;
        let record = &mut self.history.calls[pending.record];
        record.end_us = now_us;
        record.outcome = outcome.clone();
        Some(News::Answer(pending.id, outcome))
    }

    /// The client's patience is at its end.
    pub(crate) fn timeout(&mut self, conn: Conn, call: u64, now_us: u64) -> Option<News> {
        self.end_call(conn, call, now_us, Outcome::Unknown("timed out at the client".to_owned()))
    }

    /// Ends everything on a connection; what the client is to be told, in order.
    pub(crate) fn close(&mut self, conn: Conn, now_us: u64, why: &str) -> Vec<News> {
        let connection = self.get_mut(conn);
        connection.open = false;
        let client = connection.client;
        let calls: Vec<u64> = connection.calls.keys().copied().collect();
        let stream = connection.stream.take();
        let ends =
            calls.into_iter().filter_map(|call| self.end_call(conn, call, now_us, Outcome::Unknown(why.to_owned())));
        let news = ends.collect();
        if stream.is_some() {
            self.end_watchers(client, conn, now_us);
        }
        news
    }

    fn end_watchers(&mut self, client: usize, conn: Conn, now_us: u64) {
        let all = self.watching.range((client, 0)..=(client, WatchKey::MAX));
        let gone: Vec<_> = all.filter(|(_, watching)| watching.conn == conn).map(|(key, _)| *key).collect();
        for key in gone {
            let watching = self.watching.remove(&key).expect("just seen");
            if !watching.canceled {
                self.history.watchers[watching.record].end_us = now_us;
            }
        }
    }

    /// A member's message or end of a call arrives; what the client is told.
    pub(crate) fn message(
        &mut self,
        conn: Conn,
        call: u64,
        body: Bytes,
        now_us: u64,
    ) -> (Vec<(WatchKey, Told)>, Vec<WatchSend>) {
        let connection = self.get_mut(conn);
        if connection.stream.as_ref().is_some_and(|stream| stream.call == call) {
            return self.watch_response(conn, body, now_us);
        }
        if let Some(pending) = connection.calls.get_mut(&call) {
            pending.body = Some(body);
        }
        (Vec::new(), Vec::new())
    }

    /// A member ends a call. A stream of watchers that ends takes its watchers along: the connection is as good as
    /// broken for them, which the caller sees to (`Err`).
    pub(crate) fn end(&mut self, conn: Conn, call: u64, status: Status, now_us: u64) -> Result<Option<News>, ()> {
        let connection = self.get_mut(conn);
        if connection.stream.as_ref().is_some_and(|stream| stream.call == call) {
            return Err(());
        }
        let Some(pending) = connection.calls.get_mut(&call) else { return Ok(None) };
        let outcome = outcome(pending.method, pending.body.take(), status);
        Ok(self.end_call(conn, call, now_us, outcome))
    }

    /// Records a new watcher; what to send.
    pub(crate) fn watch(
        &mut self,
        conn: Conn,
        key: WatchKey,
        request: pb::WatchCreateRequest,
        resumes: Option<usize>,
        now_us: u64,
    ) -> Option<WatchSend> {
        let Connection { client, member, open, .. } = *self.get(conn);
        let record = self.history.watchers.len();
        self.history.watchers.push(Watcher {
            client: client as u32 * LANES_MAX,
            member: member as u32,
            request: request.clone(),
            resumes,
            start_us: now_us,
            end_us: now_us,
            ..Default::default()
        });
        let watching = Watching { conn, record, id: None, canceled: false, cancel: false };
        let before = self.records.insert((client, key), record);
        assert!(before.is_none(), "client {client} uses the watch key {key} twice");
        if !open {
            return None;
        }
        self.watching.insert((client, key), watching);
        let message = watch_request(pb::watch_request::RequestUnion::CreateRequest(request));
        let connection = self.get_mut(conn);
        if let Some(stream) = &mut connection.stream {
            stream.creating.push_back(key);
            return Some(WatchSend::Message(stream.call, message));
        }
        let call = connection.next_call;
        connection.next_call += 1;
        connection.stream = Some(WatchStream { call, creating: [key].into(), ids: BTreeMap::new() });
        Some(WatchSend::Open(call, message))
    }

    /// The history's number of a client's watcher.
    pub(crate) fn watcher_record(&self, client: usize, key: WatchKey) -> Option<usize> {
        self.records.get(&(client, key)).copied()
    }

    /// What to send to cancel a watcher, and where.
    pub(crate) fn cancel(&mut self, client: usize, key: WatchKey) -> Option<(Conn, WatchSend)> {
        let watching = self.watching.get_mut(&(client, key)).filter(|watching| !watching.canceled)?;
        watching.cancel = true;
        let (conn, id) = (watching.conn, watching.id?);
        let call = self.get(conn).stream.as_ref()?.call;
        Some((conn, WatchSend::Message(call, cancel_request(id))))
    }

    /// What to send to ask for progress.
    pub(crate) fn progress(&self, conn: Conn) -> Option<WatchSend> {
        let call = self.get(conn).stream.as_ref()?.call;
        let request = pb::watch_request::RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        Some(WatchSend::Message(call, watch_request(request)))
    }

    fn watch_response(&mut self, conn: Conn, body: Bytes, now_us: u64) -> (Vec<(WatchKey, Told)>, Vec<WatchSend>) {
        let response = pb::WatchResponse::decode(body).expect("a member sends watch responses on a watch stream");
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let connection = self.get_mut(conn);
        let client = connection.client;
        let stream = connection.stream.as_mut().expect("the caller looked");
        let call = stream.call;
        let mut keys = Vec::new();
        if response.created {
            let key = stream.creating.pop_front().expect("a creation is answered once");
            if !response.canceled {
                stream.ids.insert(response.watch_id, key);
            }
            keys.push(key);
        } else if response.canceled {
            keys.extend(stream.ids.remove(&response.watch_id));
        } else if response.watch_id == NO_WATCHER {
            keys.extend(stream.ids.values().copied());
            keys.sort_unstable();
        } else {
            keys.extend(stream.ids.get(&response.watch_id).copied());
        }
        let word = if response.canceled {
            Word::Canceled { compact_revision: response.compact_revision, reason: response.cancel_reason }
        } else if response.created {
            Word::Created
        } else if response.events.is_empty() {
            Word::Progress
        } else {
            Word::Events { events: response.events, fragment: response.fragment }
        };
        let mut told = Vec::new();
        let mut send = Vec::new();
        for key in keys {
            let watching = self.watching.get_mut(&(client, key)).expect("the stream's watchers are known");
            let record = &mut self.history.watchers[watching.record];
            if response.created {
                watching.id = Some(response.watch_id);
                if watching.cancel && !response.canceled {
                    send.push(WatchSend::Message(call, cancel_request(response.watch_id)));
                }
            }
            if response.canceled {
                watching.canceled = true;
                record.end_us = now_us;
            }
            let this = Told { at_us: now_us, revision, news: word.clone() };
            record.told.push(this.clone());
            told.push((key, this));
        }
        (told, send)
    }

    /// The run ends: what is open is closed in the history. If it ended calmly, at this revision, watchers owe all up to it.
    pub(crate) fn finish(&mut self, now_us: u64, calm: Option<i64>) {
        for connection in &self.all {
            for pending in connection.calls.values() {
                self.history.calls[pending.record].end_us = now_us;
            }
        }
        for watching in self.watching.values().filter(|watching| !watching.canceled) {
            let record = &mut self.history.watchers[watching.record];
            record.end_us = now_us;
            record.owed_through = calm.filter(|_| watching.id.is_some() && !watching.cancel);
        }
    }
}

/// The id in answers that are for all watchers of a stream.
const NO_WATCHER: i64 = cetera_node::watch::NO_WATCHER;

fn watch_request(request: pb::watch_request::RequestUnion) -> Bytes {
    pb::WatchRequest { request_union: Some(request) }.encode_to_vec().into()
}

fn cancel_request(watch_id: i64) -> Bytes {
    watch_request(pb::watch_request::RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }))
}

fn encode(request: &Request) -> (MethodId, Bytes) {
    let (method, body) = match request {
        Request::Range(message) => (MethodId::Range, message.encode_to_vec()),
        Request::Put(message) => (MethodId::Put, message.encode_to_vec()),
        Request::DeleteRange(message) => (MethodId::DeleteRange, message.encode_to_vec()),
        Request::Txn(message) => (MethodId::Txn, message.encode_to_vec()),
        Request::Compact(message) => (MethodId::Compact, message.encode_to_vec()),
        Request::LeaseGrant(message) => (MethodId::LeaseGrant, message.encode_to_vec()),
        Request::LeaseRevoke(message) => (MethodId::LeaseRevoke, message.encode_to_vec()),
        Request::LeaseKeepAlive(message) => (MethodId::LeaseKeepAlive, message.encode_to_vec()),
        Request::LeaseTimeToLive(message) => (MethodId::LeaseTimeToLive, message.encode_to_vec()),
    };
    (method, body.into())
}

/// What a client makes of the end of a call. Only an error that says that nothing was done counts as one.
fn outcome(method: MethodId, body: Option<Bytes>, status: Status) -> Outcome {
    const OPEN: [u32; 5] = [
        Code::Unavailable as u32,
        Code::DeadlineExceeded as u32,
        Code::Canceled as u32,
        Code::DataLoss as u32,
        Code::Internal as u32,
    ];
    if status.code == Code::Ok as u32 {
        return match body {
            Some(body) => Outcome::Done(decode(method, body)),
            None => Outcome::Unknown("ended without an answer".to_owned()),
        };
    }
    if OPEN.contains(&status.code) { Outcome::Unknown(status.message) } else { Outcome::Refused(status.message) }
}

fn decode(method: MethodId, body: Bytes) -> Response {
    const WHOLE: &str = "a member's answers are whole messages";
    match method {
        MethodId::Range => Response::Range(pb::RangeResponse::decode(body).expect(WHOLE)),
        MethodId::Put => Response::Put(pb::PutResponse::decode(body).expect(WHOLE)),
        MethodId::DeleteRange => Response::DeleteRange(pb::DeleteRangeResponse::decode(body).expect(WHOLE)),
        MethodId::Txn => Response::Txn(pb::TxnResponse::decode(body).expect(WHOLE)),
        MethodId::Compact => Response::Compact(pb::CompactionResponse::decode(body).expect(WHOLE)),
        MethodId::LeaseGrant => Response::LeaseGrant(pb::LeaseGrantResponse::decode(body).expect(WHOLE)),
        MethodId::LeaseRevoke => Response::LeaseRevoke(pb::LeaseRevokeResponse::decode(body).expect(WHOLE)),
        MethodId::LeaseKeepAlive => Response::LeaseKeepAlive(pb::LeaseKeepAliveResponse::decode(body).expect(WHOLE)),
        MethodId::LeaseTimeToLive => Response::LeaseTimeToLive(pb::LeaseTimeToLiveResponse::decode(body).expect(WHOLE)),
        other => unreachable!("no client calls {other:?}"),
    }
}
