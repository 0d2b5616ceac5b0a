//! Puts at a steady rate, answered or not: how long nobody could write.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval_at};

use super::connection::{Connection, MESSAGE_HEAD};
use super::requests::KeyNames;
use super::wire;

/// Bytes of a value.
const VALUE_BYTES: usize = 256;
/// Keys written by one writer, in turn.
const KEYS: u64 = 1_000;

/// A put that was acknowledged.
#[derive(Copy, Clone, Debug)]
pub struct Acknowledged {
    /// When it was sent.
    pub sent: Instant,
    /// When the answer came.
    pub at: Instant,
}

/// What several writers share.
#[derive(Debug, Default)]
pub struct Steady {
    /// In the order of the answers.
    pub acknowledged: RefCell<Vec<Acknowledged>>,
    /// Puts that were refused.
    pub refused: Cell<u64>,
    /// Nothing more is to be sent.
    pub stop: Cell<bool>,
}

impl Steady {
    /// The first acknowledgement of a put sent at or after this moment.
    pub fn first_sent_after(&self, moment: Instant) -> Option<Acknowledged> {
        let acknowledged = self.acknowledged.borrow();
        acknowledged.iter().find(|put| put.sent >= moment).copied()
    }

    /// The longest time between two acknowledgements, of those from the last before `moment` on.
    pub fn longest_pause(&self, moment: Instant) -> Duration {
        let acknowledged = self.acknowledged.borrow();
        let before = acknowledged.iter().rposition(|put| put.at < moment).unwrap_or(0);
        let pauses = acknowledged[before..].windows(2).map(|pair| pair[1].at.duration_since(pair[0].at));
        pauses.max().unwrap_or_default()
    }
}

/// Puts through one server, one every `pace`, beginning after `delay`, until told to stop. A put that is not answered
/// holds nothing up.
///
/// # Errors
/// The connection broke.
pub async fn write(address: String, pace: Duration, delay: Duration, shared: Rc<Steady>) -> io::Result<()> {
    let mut connection = Connection::open(&address).await?;
    let mut ticks = interval_at(tokio::time::Instant::now() + delay, pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let value = vec![b'v'; VALUE_BYTES];
    let (mut body, mut number) = (Vec::new(), 0);
    let mut flying: HashMap<u32, (Instant, usize)> = HashMap::new();
    while !shared.stop.get() {
        // What is to be sent is sent here: below, a write could be broken off in its middle.
        connection.flush().await?;
        let frames = tokio::select! {
            _ = ticks.tick() => {
                if connection.has_room(VALUE_BYTES + 64) {
                    body.clear();
                    wire::put(&mut body, &KeyNames::SIXTEEN.name(number % KEYS), &value);
                    number += 1;
                    flying.insert(connection.start(wire::PUT, &body, true), (Instant::now(), 0));
                }
                continue;
            }
            frames = connection.pump() => frames?,
        };
        for frame in &frames {
            let Some((_, bytes)) = flying.get_mut(&frame.stream) else { continue };
            *bytes += if frame.is_data { frame.len() } else { 0 };
            if !frame.ends {
                continue;
            }
            let Some((sent, bytes)) = flying.remove(&frame.stream) else { continue };
            if bytes > MESSAGE_HEAD {
                shared.acknowledged.borrow_mut().push(Acknowledged { sent, at: Instant::now() });
            } else {
                shared.refused.set(shared.refused.get() + 1);
            }
        }
        connection.give_back(frames);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let steady = Steady::default();
        assert_eq!(steady.longest_pause(begin), Duration::ZERO);
        for (sent, answered) in [(0, 1), (2, 40), (42, 43), (44, 50), (40, 170), (52, 171)] {
            steady.acknowledged.borrow_mut().push(Acknowledged { sent: at(sent), at: at(answered) });
        }
        assert_eq!(steady.longest_pause(at(0)), Duration::from_millis(120));
        assert_eq!(steady.longest_pause(at(45)), Duration::from_millis(120));
        assert_eq!(steady.first_sent_after(at(51)).unwrap().at, at(171));
        assert!(steady.first_sent_after(at(53)).is_none());
    }
}
