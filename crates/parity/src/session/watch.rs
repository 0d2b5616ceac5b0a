//! The watch commands.
//!
//! A watcher has a name and lives on a stream (`on=STREAM`, else the stream `s`), opened by its
//! first use. Responses are kept per stream until a command asks for them, so the order in which
//! two watchers hear of the same change does not matter.
//!
//! | command | waits for, and prints |
//! |---|---|
//! | `watch NAME KEY ..` | the reply to the create request |
//! | `expect NAME N events [brief]` | responses with at least N events, printed without their grouping, or only a digest |
//! | `expect NAME response` | the next response, printed as it came |
//! | `expect NAME canceled` | the next response that says canceled |
//! | `expect NAME progress` | the next response without events |
//! | `expect STREAM end` | the stream's status |
//! | `cancel NAME`, `cancel id=N nowait` | the reply to the cancel request; nothing |
//! | `progress [on=] [nowait]` | the progress notification for the whole stream; nothing |
//! | `drain [on=]` | that all watchers are up to date; prints what no command asked for |
//! | `send HEX [on=]` | nothing: these bytes are a request message |
//! | `close [on=]`, `drop [on=]` | nothing: ends the requests; cancels the call |
//!
//! On the way every response is checked: events in revision order, never beyond the header's
//! revision, and the events of one revision in one response or its fragments (W-12).

use super::{DEADLINE, Session, decode, error_text, receive, send};
use crate::render;
use crate::request::{self, Args};
use crate::script::Line;
use crate::transport::{Duplex, Status};
use cetera_proto::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// A progress request is not answered while a watcher catches up: ask again after this.
const PROGRESS_RETRY: Duration = Duration::from_millis(200);
const DEFAULT_STREAM: &str = "s";

/// One watch stream and what came on it.
pub struct Stream {
    duplex: Duplex,
    /// Responses no command has consumed yet.
    inbox: VecDeque<pb::WatchResponse>,
    ended: Option<Status>,
    /// Per watch id: the last revision delivered, and whether its response said more follows.
    delivered: BTreeMap<i64, (i64, bool)>,
    /// Progress requests sent again whose answers may still come.
    stray_progress: usize,
}

impl Session {
    pub(super) async fn run_watch(&mut self, line: &Line) -> Result<String, String> {
        match line.name() {
            "watch" => self.watch(line).await,
            "cancel" => self.cancel(line).await,
            "progress" => self.progress(line).await,
            "expect" => self.expect(line).await,
            "drain" => self.drain(line).await,
            "send" => self.send_raw(line).await,
            "close" => {
                let name = self.only_stream(line)?;
                self.stream(&name).duplex.send = None;
                Ok(String::new())
            }
            "drop" => {
                let name = self.only_stream(line)?;
                self.streams.remove(&name);
                self.watchers.retain(|_, (stream, _)| *stream != name);
                Ok(String::new())
            }
            other => unreachable!("{other} is dispatched here"),
        }
    }

    async fn watch(&mut self, line: &Line) -> Result<String, String> {
        let name = line.words.get(1).filter(|w| w.name.is_none()).ok_or("watch wants a name")?;
        let name = String::from_utf8_lossy(&name.value).into_owned();
        let request = request::watch(line, &self.names)?;
        let on = self.stream_name(&mut Args::new(line, 2, &[], &self.names))?;
        self.request(&on, RequestUnion::CreateRequest(request)).await?;
        let response = match self.take(&on, |r| r.created).await? {
            Ok(response) => response,
            Err(status) => return Ok(ended_text(&status)),
        };
        if !response.canceled {
            let id = response.watch_id;
            if self.stream(&on).inbox.iter().any(|r| r.watch_id == id && !r.events.is_empty()) {
                return Err("events came before the create reply".to_owned());
            }
            // A used id starts again.
            self.stream(&on).delivered.remove(&id);
            self.watchers.insert(name.clone(), (on, id));
        }
        Ok(format!("{name} {}", render::watch(&response)))
    }

    async fn cancel(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &["nowait"], &self.names);
        let (nowait, by_id) = (args.flag("nowait"), args.named("id").is_some());
        if by_id {
            let on = self.stream_name(&mut args)?;
            args.finish()?;
            let watch_id = Args::new(line, 1, &["nowait"], &self.names).number("id")?;
            let cancel = pb::WatchCancelRequest { watch_id };
            self.request(&on, RequestUnion::CancelRequest(cancel)).await?;
            return if nowait { Ok(String::new()) } else { Err("cancel id= needs nowait".to_owned()) };
        }
        let name = args.required_text("watcher")?;
        args.finish()?;
        let (on, watch_id) = self.watcher(&name)?;
        let cancel = pb::WatchCancelRequest { watch_id };
        self.request(&on, RequestUnion::CancelRequest(cancel)).await?;
        let response = self.take(&on, |r| r.watch_id == watch_id && r.canceled).await?;
        Ok(named(&name, response))
    }

    async fn progress(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &["nowait"], &self.names);
        let nowait = args.flag("nowait");
        let on = self.stream_name(&mut args)?;
        args.finish()?;
        if nowait {
            self.request(&on, RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await?;
            return Ok(String::new());
        }
        Ok(named("progress", Ok(self.synced(&on).await?)))
    }

    /// Asks for progress until the answer tells that all watchers have seen the current revision.
    async fn synced(&mut self, on: &str) -> Result<pb::WatchResponse, String> {
        let (deadline, revision) = (Instant::now() + DEADLINE, self.revision);
        loop {
            self.request(on, RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await?;
            let wait = (Instant::now() + PROGRESS_RETRY).min(deadline);
            let current = |r: &pb::WatchResponse| {
                is_stream_progress(r) && r.header.as_ref().is_some_and(|h| h.revision >= revision)
            };
            match self.take_until(on, wait, current).await? {
                Some(Ok(response)) => return Ok(response),
                Some(Err(status)) => return Err(ended_text(&status)),
                None if Instant::now() >= deadline => return Err("never in sync".to_owned()),
                None => self.stream(on).stray_progress += 1,
            }
        }
    }

    async fn expect(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &["brief"], &self.names);
        let brief = args.flag("brief");
        let (name, what) = (args.required_text("watcher or stream")?, args.required_text("what")?);
        let noun = args.optional();
        args.finish()?;
        if what == "end" {
            let deadline = Instant::now() + DEADLINE;
            while self.stream(&name).ended.is_none() {
                if !self.pump(&name, deadline).await? {
                    return Err("the stream does not end".to_owned());
                }
            }
            let status = self.stream(&name).ended.clone().expect("the loop ends when it is there");
            return Ok(ended_text(&status));
        }
        let (on, id) = self.watcher(&name)?;
        let mine = |r: &pb::WatchResponse| r.watch_id == id && !r.created;
        let response = match (what.as_str(), noun.as_deref()) {
            ("response", None) => self.take(&on, mine).await?,
            ("canceled", None) => self.take(&on, |r| mine(r) && r.canceled).await?,
            ("progress", None) => self.take(&on, |r| mine(r) && !r.canceled && r.events.is_empty()).await?,
            (count, Some(b"events" | b"event")) => {
                let count = count.parse().map_err(|_| "expect wants a number of events")?;
                return self.expect_events(&name, &on, id, count, brief).await;
            }
            _ => return Err("expect what?".to_owned()),
        };
        Ok(named(&name, response))
    }

    async fn expect_events(
        &mut self,
        name: &str,
        on: &str,
        id: i64,
        count: usize,
        brief: bool,
    ) -> Result<String, String> {
        let mut events = Vec::new();
        while events.len() < count {
            let wanted = |r: &pb::WatchResponse| r.watch_id == id && !r.created;
            let response = match self.take(on, wanted).await {
                Ok(response) => response,
                Err(error) => return Err(format!("{} of {count} events: {error}", events.len())),
            };
            match response {
                Ok(response) if response.canceled => return Ok(named(name, Ok(response))),
                Ok(response) => events.extend(response.events),
                Err(status) => return Ok(ended_text(&status)),
            }
        }
        let noun = if events.len() == 1 { "event" } else { "events" };
        let text: String = events.iter().map(|e| render::indent(&render::event(e))).collect();
        if brief {
            let digest = crc32c::crc32c(text.as_bytes());
            let lines = text.lines().next().unwrap_or_default();
            return Ok(format!("{name} {} {noun}, crc32c {digest:08x}\n{lines}\n", events.len()));
        }
        Ok(format!("{name} {} {noun}\n{text}", events.len()))
    }

    async fn drain(&mut self, line: &Line) -> Result<String, String> {
        let on = self.only_stream(line)?;
        let stray = std::mem::take(&mut self.stream(&on).stray_progress);
        for _ in 0..stray {
            let inbox = &mut self.stream(&on).inbox;
            if let Some(at) = inbox.iter().position(is_stream_progress) {
                inbox.remove(at);
            }
        }
        // A progress answer nobody waited for (`progress nowait`) is worth telling.
        let early: Vec<_> = self.stream(&on).inbox.iter().filter(|r| is_stream_progress(r)).cloned().collect();
        self.synced(&on).await?;
        let mut left: Vec<_> = std::mem::take(&mut self.stream(&on).inbox).into();
        left.retain(|r| !is_stream_progress(r));
        left.splice(0..0, early);
        left.sort_by_key(|r| r.watch_id);
        if left.is_empty() {
            return Ok("nothing more\n".to_owned());
        }
        Ok(left.iter().map(|r| format!("more {}", render::watch(r))).collect())
    }

    async fn send_raw(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &[], &self.names);
        let body = super::parse_hex(&args.optional().unwrap_or_default())?;
        let on = self.stream_name(&mut args)?;
        args.finish()?;
        self.ensure(&on);
        send(&mut self.stream(&on).duplex, body).await?;
        Ok(String::new())
    }

    async fn request(&mut self, on: &str, union: RequestUnion) -> Result<(), String> {
        self.ensure(on);
        let request = pb::WatchRequest { request_union: Some(union) };
        send(&mut self.stream(on).duplex, request.encode_to_vec()).await
    }

    /// Waits for the first response that `wanted` says yes to and takes it out of the inbox.
    async fn take(
        &mut self,
        on: &str,
        wanted: impl Fn(&pb::WatchResponse) -> bool,
    ) -> Result<Result<pb::WatchResponse, Status>, String> {
        let taken = self.take_until(on, Instant::now() + DEADLINE, wanted).await?;
        taken.ok_or_else(|| "no such response came in time".to_owned())
    }

    /// As [`Session::take`]; `None` when the deadline passes first.
    async fn take_until(
        &mut self,
        on: &str,
        deadline: Instant,
        wanted: impl Fn(&pb::WatchResponse) -> bool,
    ) -> Result<Option<Result<pb::WatchResponse, Status>>, String> {
        loop {
            let stream = self.stream(on);
            if let Some(at) = stream.inbox.iter().position(&wanted) {
                return Ok(stream.inbox.remove(at).map(Ok));
            }
            if let Some(status) = &stream.ended {
                return Ok(Some(Err(status.clone())));
            }
            if !self.pump(on, deadline).await? {
                return Ok(None);
            }
        }
    }

    /// Moves one message of the stream into its inbox, checked. `false` when the deadline passed.
    async fn pump(&mut self, on: &str, deadline: Instant) -> Result<bool, String> {
        let stream = self.stream(on);
        let Ok(item) = receive(&mut stream.duplex, deadline).await else { return Ok(false) };
        match item {
            Err(status) => stream.ended = Some(status),
            Ok(bytes) => {
                let response: pb::WatchResponse = decode(&bytes)?;
                stream.check_order(&response)?;
                self.see(response.header.as_ref())?;
                self.stream(on).inbox.push_back(response);
            }
        }
        Ok(true)
    }

    fn ensure(&mut self, name: &str) {
        if !self.streams.contains_key(name) {
            let duplex = self.open("/etcdserverpb.Watch/Watch");
            let stream =
                Stream { duplex, inbox: VecDeque::new(), ended: None, delivered: BTreeMap::new(), stray_progress: 0 };
            self.streams.insert(name.to_owned(), stream);
        }
    }

    fn stream(&mut self, name: &str) -> &mut Stream {
        self.ensure(name);
        self.streams.get_mut(name).expect("just made sure")
    }

    fn stream_name(&self, args: &mut Args<'_>) -> Result<String, String> {
        Ok(args.named_text("on")?.unwrap_or_else(|| DEFAULT_STREAM.to_owned()))
    }

    fn only_stream(&self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &[], &self.names);
        let name = self.stream_name(&mut args)?;
        args.finish().map(|()| name)
    }

    fn watcher(&self, name: &str) -> Result<(String, i64), String> {
        self.watchers.get(name).cloned().ok_or_else(|| format!("no watcher {name}"))
    }
}

impl Stream {
    fn check_order(&mut self, response: &pb::WatchResponse) -> Result<(), String> {
        if response.events.is_empty() {
            return Ok(());
        }
        let header = response.header.as_ref().map_or(0, |h| h.revision);
        let (mut last, unfinished) = *self.delivered.get(&response.watch_id).unwrap_or(&(0, false));
        for (at, event) in response.events.iter().enumerate() {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let goes_on = revision == last && (at > 0 || unfinished);
            if !(revision > last || goes_on) || revision > header {
                return Err(format!("event of revision {revision} after {last}, header {header}"));
            }
            last = revision;
        }
        self.delivered.insert(response.watch_id, (last, response.fragment));
        Ok(())
    }
}

/// The answer to a progress request: for the stream, not for one watcher.
fn is_stream_progress(response: &pb::WatchResponse) -> bool {
    response.watch_id == -1 && !response.created && !response.canceled && response.events.is_empty()
}

fn named(name: &str, response: Result<pb::WatchResponse, Status>) -> String {
    match response {
        Ok(response) => format!("{name} {}", render::watch(&response)),
        Err(status) => ended_text(&status),
    }
}

fn ended_text(status: &Status) -> String {
    format!("ended {}", error_text(status))
}
