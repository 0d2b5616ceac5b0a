//! Many keys with values that can be checked, and the requests for them.

use std::cell::RefCell;
use std::iter::StepBy;
use std::ops::Range;
use std::rc::Rc;

use crate::load::requests::{KeyNames, Requests};
use crate::load::wire;
use crate::rng::Rng;

/// Bytes of a value.
pub const VALUE_BYTES: usize = 1024;
/// Keys in a GiB of values.
pub const KEYS_PER_GIB: u64 = (1 << 30) / VALUE_BYTES as u64;
/// Keys read by one request of a scan.
const PAGE: u64 = 500;
/// Random keys tried before one is found that is not being written.
const TRIES: usize = 1_000;

const NAMES: KeyNames = KeyNames::SIXTEEN;

/// What is known of every key: which write was acknowledged and which was sent last. Each key has at most one write in
/// flight.
#[derive(Debug)]
pub struct Store {
    acknowledged: Vec<u32>,
    sent: Vec<u32>,
}

/// The store as the requests of one thread share it.
pub type SharedStore = Rc<RefCell<Store>>;

impl Store {
    /// No key is written yet.
    pub fn new(keys: u64) -> SharedStore {
        Rc::new(RefCell::new(Store { acknowledged: vec![0; keys as usize], sent: vec![0; keys as usize] }))
    }

    fn is_idle(&self, key: u64) -> bool {
        self.acknowledged[key as usize] == self.sent[key as usize]
    }

    fn send(&mut self, key: u64) -> u32 {
        self.sent[key as usize] += 1;
        self.sent[key as usize]
    }

    /// Checks one key as it was read while nothing is written; that write is then the acknowledged one.
    fn settle(&mut self, key: u64, value: &[u8]) -> Result<(), String> {
        let write = check_value(key, value)?;
        let n = key as usize;
        if write != self.acknowledged[n] && write != self.sent[n] {
            let (acknowledged, sent) = (self.acknowledged[n], self.sent[n]);
            return Err(format!("key {key} has write {write}; {acknowledged} was acknowledged, {sent} was sent"));
        }
        (self.acknowledged[n], self.sent[n]) = (write, write);
        Ok(())
    }
}

/// The value of a key's n-th write.
fn value(key: u64, write: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(VALUE_BYTES + 8);
    bytes.extend_from_slice(&key.to_le_bytes());
    bytes.extend_from_slice(&u64::from(write).to_le_bytes());
    let mut rng = Rng::new(key << 24 ^ u64::from(write));
    while bytes.len() < VALUE_BYTES {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes
}

/// Which write of the key a value is.
fn check_value(key: u64, bytes: &[u8]) -> Result<u32, String> {
    let write = bytes.get(8..16).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let write = u32::try_from(write).unwrap_or(u32::MAX);
    if value(key, write) == bytes { Ok(write) } else { Err(format!("key {key} has a value that was never written")) }
}

/// Writes.
#[derive(Debug)]
pub struct Writes {
    store: SharedStore,
    from: From,
    flying: Vec<(u64, u32)>,
}

/// Which keys are written.
#[derive(Debug)]
pub enum From {
    /// These, once each, one after the other.
    Each(StepBy<Range<u64>>),
    /// Some of these, for ever.
    Some(Range<u64>, Rng),
}

impl Writes {
    /// With so many in flight.
    pub fn new(store: &SharedStore, from: From, in_flight: usize) -> Rc<RefCell<Writes>> {
        Rc::new(RefCell::new(Writes { store: Rc::clone(store), from, flying: vec![(0, 0); in_flight] }))
    }
}

impl Requests for Writes {
    fn next(&mut self, slot: usize, body: &mut Vec<u8>) -> Option<&'static str> {
        let mut store = self.store.borrow_mut();
        let key = match &mut self.from {
            From::Each(keys) => keys.next()?,
            From::Some(keys, rng) => {
                let tries = std::iter::repeat_with(|| rng.within(keys.start, keys.end)).take(TRIES);
                tries.into_iter().find(|key| store.is_idle(*key)).expect("far more keys than requests in flight")
            }
        };
        let write = store.send(key);
        self.flying[slot] = (key, write);
        wire::put(body, &NAMES.name(key), &value(key, write));
        Some(wire::PUT)
    }

    fn answered(&mut self, slot: usize, _bytes: usize, _message: &[u8]) -> Result<(), String> {
        let (key, write) = self.flying[slot];
        self.store.borrow_mut().acknowledged[key as usize] = write;
        Ok(())
    }

    fn largest(&self) -> usize {
        VALUE_BYTES + 64
    }
}

/// Reads of random keys, each checked.
#[derive(Debug)]
pub struct RandomReads {
    keys: Range<u64>,
    rng: Rng,
    flying: Vec<u64>,
}

impl RandomReads {
    /// Of keys that all exist.
    pub fn new(keys: Range<u64>, seed: u64, in_flight: usize) -> Rc<RefCell<RandomReads>> {
        Rc::new(RefCell::new(RandomReads { keys, rng: Rng::new(seed), flying: vec![0; in_flight] }))
    }
}

impl Requests for RandomReads {
    fn next(&mut self, slot: usize, body: &mut Vec<u8>) -> Option<&'static str> {
        let key = self.rng.within(self.keys.start, self.keys.end);
        self.flying[slot] = key;
        wire::range(body, &NAMES.name(key), b"", 0);
        Some(wire::RANGE)
    }

    fn answered(&mut self, slot: usize, _bytes: usize, message: &[u8]) -> Result<(), String> {
        let kv = wire::message(message, 2).ok_or_else(|| format!("key {} is not there", self.flying[slot]))?;
        check_value(self.flying[slot], wire::message(kv, 5).unwrap_or_default()).map(drop)
    }

    fn wants_answers(&self) -> bool {
        true
    }

    fn largest(&self) -> usize {
        64
    }
}

/// Reads of all keys, page by page, each value checked against what is known. Nothing may be written meanwhile.
#[derive(Debug)]
pub struct Scan {
    store: SharedStore,
    pages: StepBy<Range<u64>>,
    keys: u64,
    flying: Vec<u64>,
}

impl Scan {
    /// Of keys 0 to before `keys`, which all exist.
    pub fn new(store: &SharedStore, keys: u64, in_flight: usize) -> Rc<RefCell<Scan>> {
        let pages = (0..keys).step_by(PAGE as usize);
        Rc::new(RefCell::new(Scan { store: Rc::clone(store), pages, keys, flying: vec![0; in_flight] }))
    }
}

impl Requests for Scan {
    fn next(&mut self, slot: usize, body: &mut Vec<u8>) -> Option<&'static str> {
        let first = self.pages.next()?;
        self.flying[slot] = first;
        wire::range(body, &NAMES.name(first), &NAMES.name((first + PAGE).min(self.keys)), 0);
        Some(wire::RANGE)
    }

    fn answered(&mut self, slot: usize, _bytes: usize, message: &[u8]) -> Result<(), String> {
        let first = self.flying[slot];
        let past = (first + PAGE).min(self.keys);
        let mut expected = first..past;
        let mut store = self.store.borrow_mut();
        for kv in wire::Fields(message).filter(|field| field.number == 2) {
            let key = expected.next().ok_or_else(|| format!("more keys than {first}..{past}"))?;
            if wire::message(kv.bytes, 1) != Some(&NAMES.name(key)) {
                return Err(format!("key {key} is not where it should be"));
            }
            store.settle(key, wire::message(kv.bytes, 5).unwrap_or_default())?;
        }
        match expected.next() {
            None => Ok(()),
            Some(key) => Err(format!("key {key} is missing")),
        }
    }

    fn wants_answers(&self) -> bool {
        true
    }

    fn largest(&self) -> usize {
        64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_one_key_and_write() {
        let bytes = value(7, 3);
        assert_eq!(bytes.len(), VALUE_BYTES);
        assert_eq!(check_value(7, &bytes), Ok(3));
        assert!(check_value(8, &bytes).is_err());
        let mut damaged = bytes;
        damaged[1000] ^= 1;
        assert!(check_value(7, &damaged).is_err());
        assert!(check_value(7, b"").is_err());
    }

    #[test]
    fn a_scan_sees_lost_and_missing_writes() {
        let store = Store::new(2);
        for key in [0, 0, 1] {
            let write = store.borrow_mut().send(key);
            store.borrow_mut().acknowledged[key as usize] = write;
        }
        let answer = |values: &[(u64, u32)]| {
            let mut message = Vec::new();
            for &(key, write) in values {
                let mut kv = Vec::new();
                wire::bytes(&mut kv, 1, &NAMES.name(key));
                wire::bytes(&mut kv, 5, &value(key, write));
                wire::bytes(&mut message, 2, &kv);
            }
            message
        };
        let scan = Scan::new(&store, 2, 1);
        let told = |values: &[(u64, u32)]| {
            let message = answer(values);
            scan.borrow_mut().answered(0, message.len(), &message)
        };
        assert_eq!(told(&[(0, 2), (1, 1)]), Ok(()));
        assert!(told(&[(0, 1), (1, 1)]).unwrap_err().contains("2 was acknowledged"));
        assert!(told(&[(0, 2)]).unwrap_err().contains("key 1 is missing"));
        assert!(told(&[(1, 1)]).unwrap_err().contains("not where it should be"));
        let sent = store.borrow_mut().send(1);
        assert_eq!(told(&[(0, 2), (1, sent)]), Ok(()), "a write of unknown outcome may be there");
        assert!(told(&[(0, 2), (1, 1)]).is_err(), "but then it must stay");
    }
}
