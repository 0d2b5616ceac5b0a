//! Watchers, and puts to what they watch.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::connection::{Connection, Messages};
use super::meter::Meter;
use super::requests::KeyNames;
use super::wire;

/// Watches asked for before the first is confirmed.
const CREATES_IN_FLIGHT: usize = 100;

/// What watchers and the putter share.
#[derive(Debug)]
pub struct Fanout {
    /// Latencies from sending a put to reading an event of it, and counts of events.
    pub meter: RefCell<Meter>,
    /// Nothing more is to be put.
    pub stop: Cell<bool>,
    /// Watches confirmed.
    pub created: Cell<usize>,
    /// Events received.
    pub received: Cell<u64>,
    /// Events that the puts sent will cause.
    pub expected: Cell<u64>,
    /// Told of watches and events.
    pub progress: Notify,
    begun: Instant,
}

impl Default for Fanout {
    fn default() -> Self {
        Fanout {
            meter: RefCell::default(),
            stop: Cell::new(false),
            created: Cell::new(0),
            received: Cell::new(0),
            expected: Cell::new(0),
            progress: Notify::new(),
            begun: Instant::now(),
        }
    }
}

/// Watches key 0 `watchers` times over, all on one stream, for ever.
///
/// # Errors
/// The connection broke, or the stream or a watch ended.
pub async fn watch(address: String, watchers: usize, shared: Rc<Fanout>) -> io::Result<()> {
    let mut connection = Connection::open(&address).await?;
    let mut body = Vec::new();
    wire::watch_create(&mut body, &KeyNames::SIXTEEN.name(0));
    let stream = connection.start(wire::WATCH, &body, false);
    let mut asked = 1;
    let mut messages = Messages::default();
    loop {
        while asked < watchers && asked - shared.created.get() < CREATES_IN_FLIGHT && connection.has_room(body.len()) {
            connection.send(stream, &body, false);
            asked += 1;
        }
        let frames = connection.pump().await?;
        for frame in &frames {
            if frame.ends {
                return Err(io::Error::other("the server ended the watch stream"));
            }
            if !frame.is_data {
                continue;
            }
            if let Some(bytes) = messages.take(connection.payload(frame)) {
                connection.reopen(frame.stream, bytes);
            }
            messages.drain(|message| received(&shared, message))?;
        }
        connection.give_back(frames);
        shared.progress.notify_one();
    }
}

fn received(shared: &Fanout, response: &[u8]) -> io::Result<()> {
    for field in wire::Fields(response) {
        match field.number {
            3 if field.value != 0 => shared.created.set(shared.created.get() + 1),
            4 if field.value != 0 => return Err(io::Error::other("the server canceled a watch")),
            11 => {
                shared.received.set(shared.received.get() + 1);
                let value = wire::message(field.bytes, 2).and_then(|kv| wire::message(kv, 5));
                let sent = value.and_then(|value| value.first_chunk()).map(|bytes| u64::from_le_bytes(*bytes));
                let sent = sent.ok_or_else(|| io::Error::other("an event without the value that was put"))?;
                shared.meter.borrow_mut().succeeded(shared.begun + Duration::from_nanos(sent), field.bytes.len());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Puts key 0 until told to stop, with at most `in_flight` puts whose events are not all received.
///
/// # Errors
/// The connection broke or a put failed.
pub async fn put(address: String, watchers: u64, in_flight: u64, len: usize, shared: Rc<Fanout>) -> io::Result<()> {
    let mut connection = Connection::open(&address).await?;
    let mut open = 0u64;
    let mut value = vec![b'v'; len];
    let mut body = Vec::new();
    loop {
        while !shared.stop.get()
            && open < in_flight
            && shared.expected.get() < shared.received.get() + in_flight * watchers
            && connection.has_room(len + 64)
        {
            let sent = shared.begun.elapsed().as_nanos() as u64;
            value[..8].copy_from_slice(&sent.to_le_bytes());
            body.clear();
            wire::put(&mut body, &KeyNames::SIXTEEN.name(0), &value);
            connection.start(wire::PUT, &body, true);
            open += 1;
            shared.expected.set(shared.expected.get() + watchers);
        }
        if open == 0 {
            if shared.stop.get() {
                return Ok(());
            }
            connection.flush().await?;
            shared.progress.notified().await;
            continue;
        }
        connection.flush().await?;
        let frames = tokio::select! {
            () = shared.progress.notified() => continue,
            frames = connection.pump() => frames?,
        };
        open -= frames.iter().filter(|frame| frame.ends).count() as u64;
        connection.give_back(frames);
    }
}
