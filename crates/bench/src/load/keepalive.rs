//! Lease renewals over streams.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use super::connection::{Connection, Messages};
use super::meter::Meter;
use super::wire;
use crate::rng::Rng;

/// What the streams of one load share.
#[derive(Debug, Default)]
pub struct Renewals {
    /// What was measured.
    pub meter: RefCell<Meter>,
    /// Nothing more is to be sent.
    pub stop: Cell<bool>,
}

/// Renews leases 1 to `leases` at random over one stream on its own connection, with so many renewals in flight, until
/// told to stop.
///
/// # Errors
/// The connection broke or the stream ended.
pub async fn renew(address: String, in_flight: usize, leases: u64, seed: u64, shared: Rc<Renewals>) -> io::Result<()> {
    let mut connection = Connection::open(&address).await?;
    let mut rng = Rng::new(seed);
    let mut sent: VecDeque<Instant> = VecDeque::new();
    let mut stream = None;
    let mut messages = Messages::default();
    loop {
        while sent.len() < in_flight && !shared.stop.get() && connection.has_room(64) {
            let mut body = Vec::new();
            wire::number(&mut body, 1, rng.within(1, leases + 1) as i64);
            match stream {
                None => stream = Some(connection.start(wire::LEASE_KEEP_ALIVE, &body, false)),
                Some(stream) => connection.send(stream, &body, false),
            }
            sent.push_back(Instant::now());
        }
        if sent.is_empty() {
            return Ok(());
        }
        let frames = connection.pump().await?;
        for frame in &frames {
            if frame.ends {
                return Err(io::Error::other("the server ended the keep-alive stream"));
            }
            if !frame.is_data {
                continue;
            }
            if let Some(bytes) = messages.take(connection.payload(frame)) {
                connection.reopen(frame.stream, bytes);
            }
            messages.drain(|message| {
                let sent = sent.pop_front().ok_or_else(|| io::Error::other("an answer too many"))?;
                let mut meter = shared.meter.borrow_mut();
                if wire::integer(message, 3) > 0 {
                    meter.succeeded(sent, message.len());
                } else {
                    meter.failed(b"a lease is gone");
                }
                Ok::<_, io::Error>(())
            })?;
        }
        connection.give_back(frames);
    }
}
