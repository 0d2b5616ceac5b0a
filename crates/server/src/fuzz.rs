//! What fuzz targets need of this crate's insides: connections without sockets, and the small parsers by themselves.
//! Behind the feature `fuzz`, which no program enables.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use cetera_node::published::Published;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::front::http1::Serving;
use crate::front::insides::{self, Assembler, Front, Http2Options, Protocol, Scanner, peek};
use crate::http::Endpoints;
use crate::metrics::FrontCounters;
use crate::seam::{Mail, Outbound, Services, Status};

/// Turns in which nothing happens before a connection counts as at rest.
const QUIET_TURNS: u32 = 4;
/// Turns after which a connection that finds no rest hangs.
const TURNS_MAX: u32 = 100_000;

/// A client that says what it is told, and all that it was sent.
#[derive(Default)]
struct Client {
    to_say: VecDeque<Bytes>,
    gone: bool,
    heard: Vec<u8>,
    reader: Option<Waker>,
}

struct Io(Rc<RefCell<Client>>);

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let client = &mut *self.0.borrow_mut();
        if let Some(front) = client.to_say.front_mut() {
            let piece = front.split_to(front.len().min(buf.remaining()));
            buf.put_slice(&piece);
            if front.is_empty() {
                client.to_say.pop_front();
            }
            return Poll::Ready(Ok(()));
        }
        client.reader = Some(cx.waker().clone());
        if client.gone { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().heard.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

thread_local! {
    static RUNTIME: (Runtime, Arc<FrontCounters>) = (
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
        FrontCounters::register(),
    );
}

/// Serves one connection, HTTP/1.1 or HTTP/2, whose client says `pieces` one after the other, each when the one before
/// had its effect, and then leaves. `settle` lets the node work and takes its mail. Returns what the client heard.
///
/// # Panics
/// If the connection never comes to rest, or does not end when the client has left.
pub fn connection(
    pieces: impl IntoIterator<Item = Bytes>,
    serving: Serving,
    services: impl Services,
    published: Arc<Published>,
    settle: impl FnMut() -> Vec<Mail>,
) -> Vec<u8> {
    let client = Rc::new(RefCell::new(Client::default()));
    RUNTIME.with(|(runtime, counters)| {
        let front = Front::new(64 << 10, Arc::clone(counters));
        let mut pump = Pump { front: Rc::clone(&front), services, settle };
        let http = Endpoints {
            published: Arc::new(move || Arc::clone(&published)),
            quota_bytes: None,
            request_timeout_ms: 7_000,
            command_line: Arc::new(vec!["fuzz".to_string()]),
        };
        let io = Io(Rc::clone(&client));
        LocalSet::new().block_on(runtime, async {
            let serving = tokio::task::spawn_local(async move {
                let options = Http2Options {
                    max_concurrent_streams: 8,
                    keepalive_min_time: Duration::from_secs(5),
                    keepalive_interval: None,
                    keepalive_timeout: Duration::from_secs(20),
                };
                match peek(io).await {
                    Ok((Protocol::Http2, io)) => insides::serve_http2(io, front, options).await,
                    Ok((Protocol::Http1, io)) => insides::serve_http1(io, front, serving, Rc::new(http)).await,
                    Err(_) => {}
                }
            });
            for piece in pieces {
                say(&client, |client| client.to_say.push_back(piece));
                pump.rest().await;
            }
            say(&client, |client| client.gone = true);
            pump.rest().await;
            // Calls under way may keep it open; they end when the front does.
            pump.front.end_calls(true);
            pump.rest().await;
            assert!(serving.is_finished(), "a connection outlives its client");
        });
    });
    std::mem::take(&mut client.borrow_mut().heard)
}

fn say(client: &RefCell<Client>, what: impl FnOnce(&mut Client)) {
    let mut client = client.borrow_mut();
    what(&mut client);
    if let Some(reader) = client.reader.take() {
        reader.wake();
    }
}

/// What a front thread's own pump does, step by step.
struct Pump<S, F> {
    front: Rc<Front>,
    services: S,
    settle: F,
}

impl<S: Services, F: FnMut() -> Vec<Mail>> Pump<S, F> {
    async fn rest(&mut self) {
        let mut quiet = 0;
        for _ in 0..TURNS_MAX {
            tokio::task::yield_now().await;
            quiet = if self.turn() { 0 } else { quiet + 1 };
            if quiet == QUIET_TURNS {
                return;
            }
        }
        panic!("the connection finds no rest");
    }

    fn turn(&mut self) -> bool {
        let (mut batch, mut out) = (Vec::new(), Vec::new());
        let mut busy = self.front.poll_input(&mut batch, &Context::from_waker(Waker::noop()));
        if busy {
            self.services.handle(&mut batch, &mut out);
            self.deliver(&mut out);
        }
        let mut mail = (self.settle)();
        if !mail.is_empty() {
            busy = true;
            self.services.deliver(&mut mail, &mut out);
            self.deliver(&mut out);
        }
        if self.services.pending() {
            busy = true;
            self.services.turn(&mut out);
            self.deliver(&mut out);
        }
        busy
    }

    fn deliver(&mut self, out: &mut Vec<Outbound>) {
        if !out.is_empty() {
            self.front.deliver(out, &mut self.services);
        }
    }
}

/// The messages that a call's data holds, given in `chunks`; the refusal, if it ended in one; whether it may end there.
pub fn messages(max: usize, encoding: Option<&str>, chunks: &[Bytes]) -> (Vec<Bytes>, Option<Status>, bool) {
    let mut assembler = Assembler::new(max, encoding.map(Box::from));
    let mut found = Vec::new();
    for chunk in chunks {
        if let Err(status) = assembler.push(chunk.clone(), |message| found.push(message)) {
            return (found, Some(status), false);
        }
    }
    (found, None, assembler.is_between_messages())
}

/// Pings of a client whose bytes come in `chunks`.
pub fn pings(chunks: &[Bytes]) -> u32 {
    let mut scanner = Scanner::of_client();
    chunks.iter().for_each(|chunk| scanner.scan(chunk));
    scanner.take()
}

/// `grpc-timeout` in milliseconds, as a call has it.
pub fn timeout_ms(value: &[u8]) -> Option<u64> {
    insides::timeout_ms(value)
}

/// A text as `grpc-message` carries it.
pub fn percent_encode(text: &str) -> String {
    insides::percent_encode(text)
}
