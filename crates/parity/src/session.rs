//! Plays the commands of one script against one server.
//!
//! | command | what it does |
//! |---|---|
//! | `put`, `range`, `delete`, `txn` | see [`crate::request`]; `range .. brief` prints a digest of the keys |
//! | `rangestream` | as `range`, printed merged; `chunks` adds the number of keys of each chunk |
//! | `compact REV [physical]`, `hashkv [rev=]`, `hash`, `status`, `defragment`, `moveleader ID` | maintenance calls |
//! | `alarm get\|activate\|deactivate [KIND] [member=]`, `downgrade ACTION VERSION` | |
//! | `memberlist`, `memberadd URL.. [learner] [as=NAME]`, `memberremove ID`, `memberupdate ID URL..`, `memberpromote ID` | cluster calls; an id may be `self` |
//! | `grant ID ttl= [as=NAME]`, `revoke ID`, `keepalive ID`, `ttl ID [keys]`, `leases`, `past ID` | leases; `$NAME` stands for an id the server chose; `past` waits until the lease's deadline has passed |
//! | `watch NAME KEY ..`, `cancel NAME`, `progress`, `expect ..`, `drain`, `send HEX`, `close`, `drop` | watches, see [`watch`] |
//! | `raw PATH [HEX] [fill=N]` | a call with these message bytes and N more of `x` |
//! | `metadata NAME=VALUE..` | sent with the next call |
//! | `until TEXT COMMAND..` | repeats the command until its output contains TEXT, prints the last |
//! | `repeat N COMMAND..` | `{i}` becomes 00000, 00001, ..; prints the last output, ends at the first error |
//! | `restart` | kills the server and starts it on the same data |

mod cluster;
mod lease;
mod maintenance;
pub mod watch;

use crate::render::{self, Place};
use crate::request::{self, Args, Names};
use crate::script::Line;
use crate::transport::{BoxFuture, Duplex, Metadata, Status, Target, Transport};
use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long one call, or one condition a script waits for, may take.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Pause between two looks at a condition that can only be polled.
const POLL: Duration = Duration::from_millis(50);

/// The state of a running script.
pub struct Session {
    target: Box<dyn Target>,
    transport: Arc<dyn Transport>,
    streams: BTreeMap<String, watch::Stream>,
    /// Watcher name to its stream's name and its id there.
    watchers: BTreeMap<String, (String, i64)>,
    keepalive: Option<Duplex>,
    names: Names,
    /// Lease id to the latest moment its deadline can be.
    deadlines: BTreeMap<i64, Instant>,
    /// For the next call.
    metadata: Metadata,
    /// The highest revision any header told.
    revision: i64,
    /// Cluster and member id: every response must tell the same.
    identity: Option<(u64, u64)>,
}

impl Session {
    pub fn new(target: Box<dyn Target>) -> Session {
        Session {
            transport: target.transport(),
            target,
            streams: BTreeMap::new(),
            watchers: BTreeMap::new(),
            keepalive: None,
            names: Names::new(),
            deadlines: BTreeMap::new(),
            metadata: Metadata::new(),
            revision: 0,
            identity: None,
        }
    }

    /// Runs one command and returns what it prints. `Err` is not an answer of the server but a
    /// script that cannot go on: a command not understood, a condition that never came true, a
    /// response that breaks a rule every response must keep.
    pub fn run<'a>(&'a mut self, line: &'a Line) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            if let Some(copies) = request::repeated(line)? {
                return self.run_repeated(&copies).await;
            }
            match line.name() {
                "put" => {
                    let request = request::put(line, &self.names)?;
                    self.answer("/etcdserverpb.KV/Put", request.encode_to_vec()).await
                }
                "delete" => {
                    let request = request::delete(line, &self.names)?;
                    self.answer("/etcdserverpb.KV/DeleteRange", request.encode_to_vec()).await
                }
                "txn" => {
                    let request = request::txn(line, &self.names)?;
                    self.answer("/etcdserverpb.KV/Txn", request.encode_to_vec()).await
                }
                "range" => self.range(line).await,
                "rangestream" => self.range_stream(line).await,
                "raw" => self.raw(line).await,
                "metadata" => {
                    let mut args = Args::new(line, 1, &[], &self.names);
                    self.metadata = args.rest();
                    args.finish().map(|()| String::new())
                }
                "until" => self.until(line).await,
                "restart" => self.restart().await,
                "watch" | "cancel" | "progress" | "expect" | "drain" | "send" | "close" | "drop" => {
                    self.run_watch(line).await
                }
                "grant" | "revoke" | "keepalive" | "ttl" | "leases" | "past" => self.run_lease(line).await,
                _ => self.run_maintenance(line).await,
            }
        })
    }

    async fn run_repeated(&mut self, copies: &[Line]) -> Result<String, String> {
        let mut last = String::new();
        for copy in copies {
            last = self.run(copy).await?;
            if is_error(&last) {
                break;
            }
        }
        Ok(last)
    }

    async fn until(&mut self, line: &Line) -> Result<String, String> {
        let wanted = line.words.get(1).ok_or("until wants a text and a command")?;
        let wanted = String::from_utf8_lossy(&wanted.value).into_owned();
        let command = Line { words: line.words[2..].to_vec(), ..line.clone() };
        let deadline = Instant::now() + DEADLINE;
        loop {
            let output = self.run(&command).await?;
            if output.contains(&wanted) {
                return Ok(output);
            }
            if Instant::now() >= deadline {
                return Err(format!("never printed {wanted:?}, at last:\n{output}"));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn restart(&mut self) -> Result<String, String> {
        self.streams.clear();
        self.watchers.clear();
        self.keepalive = None;
        self.target.restart().await?;
        self.transport = self.target.transport();
        Ok("restarted\n".to_owned())
    }

    async fn range(&mut self, line: &Line) -> Result<String, String> {
        let request = request::range(line, &self.names, &["brief"])?;
        if !has_flag(line, "brief") {
            return self.answer("/etcdserverpb.KV/Range", request.encode_to_vec()).await;
        }
        let result = self.call::<pb::RangeResponse>("/etcdserverpb.KV/Range", request.encode_to_vec()).await?;
        self.show(result, |r| (r.header.as_ref(), render::range_brief(r)))
    }

    /// All chunks merged into one response, which must equal what Range answers; the rules for
    /// the single chunk (KV-12) are checked here.
    async fn range_stream(&mut self, line: &Line) -> Result<String, String> {
        let request = request::range(line, &self.names, &["brief", "chunks"])?;
        let mut stream = self.open("/etcdserverpb.KV/RangeStream");
        send(&mut stream, request.encode_to_vec()).await?;
        stream.send = None;
        let mut chunks: Vec<pb::RangeResponse> = Vec::new();
        let end = loop {
            match receive(&mut stream, Instant::now() + DEADLINE).await? {
                // The stream carries its own message around the usual response.
                Ok(bytes) => {
                    let chunk: pb::RangeStreamResponse = decode(&bytes)?;
                    chunks.push(chunk.range_response.ok_or("a chunk without a response")?);
                }
                Err(status) => break status,
            }
        };
        if end.code != "OK" {
            return Ok(error_text(&end));
        }
        let (last, earlier) = chunks.split_last().ok_or("a stream without a message")?;
        if earlier.iter().any(|c| c.header.is_some() || c.more || c.count != 0) {
            return Err("a chunk before the last carries header, more or count".to_owned());
        }
        self.see(last.header.as_ref())?;
        let kvs = chunks.iter().flat_map(|c| c.kvs.iter().cloned()).collect();
        let merged = pb::RangeResponse { kvs, ..last.clone() };
        let mut text =
            if has_flag(line, "brief") { render::range_brief(&merged) } else { render::range(&merged, Place::Top) };
        if has_flag(line, "chunks") {
            let sizes: Vec<_> = chunks.iter().map(|c| c.kvs.len().to_string()).collect();
            text.push_str(&format!("  chunks {}\n", sizes.join(" ")));
        }
        Ok(text)
    }

    async fn raw(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &[], &self.names);
        let path = args.required_text("path")?;
        let mut body = parse_hex(&args.optional().unwrap_or_default())?;
        let fill = usize::try_from(args.number("fill")?).map_err(|e| e.to_string())?;
        args.finish()?;
        body.extend(std::iter::repeat_n(b'x', fill));
        self.answer(&path, body).await
    }

    /// A unary call whose response is rendered by its path alone.
    async fn answer(&mut self, path: &str, body: Vec<u8>) -> Result<String, String> {
        let bytes = match self.unary(path, body).await? {
            Ok(bytes) => bytes,
            Err(status) => return Ok(error_text(&status)),
        };
        let (header, text) = match path {
            "/etcdserverpb.KV/Range" => {
                let r: pb::RangeResponse = decode(&bytes)?;
                (r.header, render::range(&r, Place::Top))
            }
            "/etcdserverpb.KV/Put" => {
                let r: pb::PutResponse = decode(&bytes)?;
                (r.header, render::put(&r, Place::Top))
            }
            "/etcdserverpb.KV/DeleteRange" => {
                let r: pb::DeleteRangeResponse = decode(&bytes)?;
                (r.header, render::delete(&r, Place::Top))
            }
            "/etcdserverpb.KV/Txn" => {
                let r: pb::TxnResponse = decode(&bytes)?;
                (r.header, render::txn(&r, Place::Top))
            }
            "/grpc.health.v1.Health/Check" => {
                let r: cetera_proto::health::HealthCheckResponse = decode(&bytes)?;
                return Ok(format!("health {}\n", r.status().as_str_name()));
            }
            _ => return Ok(format!("answered {path}\n")),
        };
        self.see(header.as_ref())?;
        Ok(text)
    }

    async fn call<M: Message + Default>(&mut self, path: &str, body: Vec<u8>) -> Result<Result<M, Status>, String> {
        match self.unary(path, body).await? {
            Ok(bytes) => Ok(Ok(decode(&bytes)?)),
            Err(status) => Ok(Err(status)),
        }
    }

    async fn unary(&mut self, path: &str, body: Vec<u8>) -> Result<Result<Bytes, Status>, String> {
        let metadata = std::mem::take(&mut self.metadata);
        let call = self.transport.unary(path, metadata, body.into());
        tokio::time::timeout(DEADLINE, call).await.map_err(|_| format!("no answer to {path}"))
    }

    fn open(&mut self, path: &str) -> Duplex {
        self.transport.stream(path, std::mem::take(&mut self.metadata))
    }

    /// Renders the answer, or the error, of a call; the header goes through [`Session::see`].
    fn show<M>(
        &mut self,
        result: Result<M, Status>,
        render: impl FnOnce(&M) -> (Option<&pb::ResponseHeader>, String),
    ) -> Result<String, String> {
        match result {
            Ok(message) => {
                let (header, text) = render(&message);
                self.see(header)?;
                Ok(text)
            }
            Err(status) => Ok(error_text(&status)),
        }
    }

    /// Checks that a header names the same cluster and member as all before, notes its revision.
    fn see(&mut self, header: Option<&pb::ResponseHeader>) -> Result<(), String> {
        let Some(header) = header else { return Ok(()) };
        let identity = (header.cluster_id, header.member_id);
        if *self.identity.get_or_insert(identity) != identity {
            return Err(format!("a header of another member or cluster: {header:?}"));
        }
        self.revision = self.revision.max(header.revision);
        Ok(())
    }
}

/// `Code: message`, also told apart from other output by its capital.
fn error_text(status: &Status) -> String {
    format!("{}: {}\n", status.code, status.message).replace(": \n", "\n")
}

fn is_error(output: &str) -> bool {
    output.starts_with(|c: char| c.is_ascii_uppercase())
}

fn has_flag(line: &Line, flag: &str) -> bool {
    line.words.iter().any(|w| w.name.is_none() && !w.quoted && w.value == flag)
}

/// Decodes, and insists that encoding again gives as many bytes: a server that writes default
/// fields or fields unknown to etcd shows here.
fn decode<M: Message + Default>(bytes: &Bytes) -> Result<M, String> {
    let message = M::decode(bytes.clone()).map_err(|e| format!("response: {e}"))?;
    if message.encoded_len() != bytes.len() {
        return Err(format!("{} bytes decode to a message of {}", bytes.len(), message.encoded_len()));
    }
    Ok(message)
}

async fn send(stream: &mut Duplex, body: Vec<u8>) -> Result<(), String> {
    let sender = stream.send.as_ref().ok_or("the stream is closed")?;
    // An ended stream tells its status on the receiving side.
    let _ = sender.send(body.into()).await;
    Ok(())
}

/// The next message, or the stream's status. `Err` when `deadline` passes first.
async fn receive(stream: &mut Duplex, deadline: Instant) -> Result<Result<Bytes, Status>, String> {
    let next = tokio::time::timeout_at(deadline, stream.receive.recv()).await;
    let ended = Status { code: "OK", message: "the stream had ended before".to_owned() };
    next.map(|item| item.unwrap_or(Err(ended))).map_err(|_| "nothing came in time".to_owned())
}

fn parse_hex(text: &[u8]) -> Result<Vec<u8>, String> {
    let digit = |b: u8| char::from(b).to_digit(16).ok_or("hexadecimal digits expected");
    let pair = |p: &[u8]| -> Result<u8, String> {
        let &[high, low] = p else {
            return Err("an even number of digits expected".to_owned());
        };
        u8::try_from(digit(high)? * 16 + digit(low)?).map_err(|e| e.to_string())
    };
    text.chunks(2).map(pair).collect()
}
