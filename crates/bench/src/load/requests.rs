//! What the loads ask for.

use super::wire;
use crate::rng::Rng;

/// A source of requests; slots are the requests in flight, numbered from 0.
pub trait Requests {
    /// Writes the next request of a slot; returns its path, or None if there is none any more.
    fn next(&mut self, slot: usize, body: &mut Vec<u8>) -> Option<&'static str>;

    /// A slot was answered with `bytes` bytes, and this message if answers are wanted.
    ///
    /// # Errors
    /// It is not what was asked for.
    fn answered(&mut self, slot: usize, bytes: usize, message: &[u8]) -> Result<(), String>;

    /// Whether answers are kept to be looked at.
    fn wants_answers(&self) -> bool {
        false
    }

    /// Bytes of the largest request.
    fn largest(&self) -> usize;
}

/// Names of keys of a fixed length.
#[derive(Copy, Clone, Debug)]
pub struct KeyNames {
    /// What they begin with.
    pub prefix: &'static str,
    /// Their length in bytes.
    pub len: usize,
}

impl KeyNames {
    /// Keys of 16 bytes.
    pub const SIXTEEN: KeyNames = KeyNames { prefix: "k/", len: 16 };

    /// One of them.
    pub fn name(&self, number: u64) -> Vec<u8> {
        format!("{}{number:0width$}", self.prefix, width = self.len - self.prefix.len()).into_bytes()
    }

    /// The first name that is none of them.
    pub fn end(&self) -> Vec<u8> {
        let mut end = self.prefix.as_bytes().to_vec();
        *end.last_mut().expect("a prefix is not empty") += 1;
        end
    }
}

/// In which order keys are taken.
#[derive(Clone, Debug)]
pub enum Order {
    /// At random, for ever.
    Random {
        /// Numbers below this.
        keys: u64,
        /// The source.
        rng: Rng,
    },
    /// These, once.
    Once(std::vec::IntoIter<u32>),
    /// From here to before there, once.
    Ascending(std::ops::Range<u64>),
}

impl Order {
    /// At random, for ever.
    pub fn random(keys: u64, seed: u64) -> Order {
        Order::Random { keys, rng: Rng::new(seed) }
    }

    /// Each key once, in random order.
    pub fn shuffled(keys: u32, seed: u64) -> Order {
        let mut list: Vec<u32> = (0..keys).collect();
        Rng::new(seed).shuffle(&mut list);
        Order::Once(list.into_iter())
    }

    fn next(&mut self) -> Option<u64> {
        match self {
            Order::Random { keys, rng } => Some(rng.within(0, *keys)),
            Order::Once(list) => list.next().map(u64::from),
            Order::Ascending(range) => range.next(),
        }
    }
}

/// Puts.
#[derive(Clone, Debug)]
pub struct Puts {
    names: KeyNames,
    order: Order,
    value: Vec<u8>,
}

impl Puts {
    /// Values of `len` bytes.
    pub fn new(order: Order, len: usize) -> Puts {
        Puts { names: KeyNames::SIXTEEN, order, value: vec![b'v'; len] }
    }
}

impl Requests for Puts {
    fn next(&mut self, _slot: usize, body: &mut Vec<u8>) -> Option<&'static str> {
        let key = self.order.next()?;
        wire::put(body, &self.names.name(key), &self.value);
        Some(wire::PUT)
    }

    fn answered(&mut self, _slot: usize, _bytes: usize, _message: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn largest(&self) -> usize {
        self.value.len() + 64
    }
}

/// Linearizable reads of one key, which must exist.
#[derive(Clone, Debug)]
pub struct Gets {
    order: Order,
    value_len: usize,
}

impl Gets {
    /// Values are `value_len` bytes.
    pub fn new(order: Order, value_len: usize) -> Gets {
        Gets { order, value_len }
    }
}

impl Requests for Gets {
    fn next(&mut self, _slot: usize, body: &mut Vec<u8>) -> Option<&'static str> {
        let key = self.order.next()?;
        wire::range(body, &KeyNames::SIXTEEN.name(key), b"", 0);
        Some(wire::RANGE)
    }

    fn answered(&mut self, _slot: usize, bytes: usize, _message: &[u8]) -> Result<(), String> {
        if bytes > self.value_len { Ok(()) } else { Err(format!("a key was not there: {bytes} bytes")) }
    }

    fn largest(&self) -> usize {
        64
    }
}

/// Reads of the first `limit` keys.
#[derive(Clone, Debug)]
pub struct Ranges {
    /// Keys in an answer.
    pub limit: i64,
    /// Bytes of a value.
    pub value_len: usize,
}

impl Requests for Ranges {
    fn next(&mut self, _slot: usize, body: &mut Vec<u8>) -> Option<&'static str> {
        let names = KeyNames::SIXTEEN;
        wire::range(body, names.prefix.as_bytes(), &names.end(), self.limit);
        Some(wire::RANGE)
    }

    fn answered(&mut self, _slot: usize, bytes: usize, _message: &[u8]) -> Result<(), String> {
        let least = self.limit as usize * self.value_len;
        if bytes > least { Ok(()) } else { Err(format!("a range of {} keys had {bytes} bytes", self.limit)) }
    }

    fn largest(&self) -> usize {
        64
    }
}

/// The Kubernetes pattern: each slot owns one key and puts it if nobody else did since.
#[derive(Clone, Debug)]
pub struct Swaps {
    /// Revision of the last write of each slot's key.
    revisions: Vec<i64>,
    keys: u64,
    value: Vec<u8>,
}

impl Swaps {
    /// Slots own keys spread over `keys`.
    pub fn new(slots: usize, keys: u64, value_len: usize) -> Swaps {
        Swaps { revisions: vec![0; slots], keys, value: vec![b'v'; value_len] }
    }

    fn key(&self, slot: usize) -> Vec<u8> {
        KeyNames::SIXTEEN.name(slot as u64 * self.keys / self.revisions.len() as u64)
    }
}

impl Requests for Swaps {
    fn next(&mut self, slot: usize, body: &mut Vec<u8>) -> Option<&'static str> {
        wire::compare_and_put(body, &self.key(slot), self.revisions[slot], &self.value);
        Some(wire::TXN)
    }

    fn answered(&mut self, slot: usize, _bytes: usize, message: &[u8]) -> Result<(), String> {
        if wire::integer(message, 2) != 0 {
            self.revisions[slot] = wire::header_revision(message);
            return Ok(());
        }
        // The first try of a slot: it does not know its key's revision and is told.
        if self.revisions[slot] != 0 {
            return Err("a transaction on a key of its own failed".to_owned());
        }
        let range = wire::message(message, 3).and_then(|op| wire::message(op, 1));
        let kv = range.and_then(|range| wire::message(range, 2));
        self.revisions[slot] = kv.map_or(0, |kv| wire::integer(kv, 3));
        Ok(())
    }

    fn wants_answers(&self) -> bool {
        true
    }

    fn largest(&self) -> usize {
        self.value.len() + 128
    }
}

/// Grants leases 1, 2, 3 and so on.
#[derive(Clone, Debug)]
pub struct Grants {
    ids: std::ops::RangeInclusive<i64>,
    ttl: i64,
}

impl Grants {
    /// So many of so many seconds.
    pub fn new(count: i64, ttl: i64) -> Grants {
        Grants { ids: 1..=count, ttl }
    }
}

impl Requests for Grants {
    fn next(&mut self, _slot: usize, body: &mut Vec<u8>) -> Option<&'static str> {
        let id = self.ids.next()?;
        wire::number(body, 1, self.ttl);
        wire::number(body, 2, id);
        Some(wire::LEASE_GRANT)
    }

    fn answered(&mut self, _slot: usize, _bytes: usize, _message: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn largest(&self) -> usize {
        32
    }
}
