//! The writes of the load, and the requests they become.

use bytes::Bytes;
use cetera_client::{Cmp, Compare, Delete, Get, Op as Request, Put, Txn};

use super::value::Value;

/// Keys in the store at most.
pub const KEYS: u16 = 400;
/// Neighbouring keys that one ranged delete takes.
pub const BLOCK: u16 = 10;
/// Puts of one write at most: the low digits of a value's id.
pub const PUTS_PER_OP: u64 = 16;

/// Number of a key.
pub type Key = u16;

/// A key's name.
pub fn key_name(key: Key) -> Bytes {
    format!("k/{key:04}").into()
}

/// The key of a name.
///
/// # Errors
/// No key of this run.
pub fn key_number(name: &[u8]) -> Result<Key, String> {
    let number = std::str::from_utf8(name).ok().and_then(|name| name.strip_prefix("k/")?.parse().ok());
    number
        .filter(|&key| key < KEYS && key_name(key) == name)
        .ok_or_else(|| format!("a key nobody wrote: {:?}", String::from_utf8_lossy(name)))
}

/// One part of a write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// This value under this key.
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: Value,
        /// The lease, 0 for none.
        lease: i64,
    },
    /// All keys from `first` to before `past`.
    Delete {
        /// The first.
        first: Key,
        /// Behind the last.
        past: Key,
    },
}

/// A write: all of it happens at one revision, or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// Its number, never used twice in a run. The id of its n-th value is `id * PUTS_PER_OP + n`.
    pub id: u64,
    /// Only if this key was last written at this revision (0: does not exist).
    pub guard: Option<(Key, i64)>,
    /// Its parts; no key is in two of them.
    pub writes: Vec<Write>,
}

impl Op {
    /// The op that a value belongs to.
    pub fn of_value(value: Value) -> u64 {
        value.id / PUTS_PER_OP
    }

    /// As a transaction.
    pub fn txn(&self) -> Txn {
        let txn = Txn::new().and_then(self.writes.iter().map(Write::request));
        match self.guard {
            None => txn,
            Some((key, revision)) => txn
                .when([Compare::mod_revision(key_name(key), Cmp::Equal, revision)])
                .or_else([Request::Get(Get::new(key_name(key)))]),
        }
    }
}

impl Write {
    /// As a put.
    pub fn put(key: Key, value: Value, lease: i64) -> Put {
        Put::new(key_name(key), value.bytes()).lease(lease)
    }

    /// As a deletion.
    pub fn delete(first: Key, past: Key) -> Delete {
        let delete = Delete::new(key_name(first));
        if past == first + 1 { delete } else { delete.range(key_name(past)) }
    }

    fn request(&self) -> Request {
        match *self {
            Write::Put { key, value, lease } => Write::put(key, value, lease).into(),
            Write::Delete { first, past } => Write::delete(first, past).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_name() {
        for key in [0, 9, 10, KEYS - 1] {
            assert_eq!(key_number(&key_name(key)), Ok(key));
        }
        for name in ["k/0400", "k/1", "k/00001", "x", "k/+001"] {
            assert!(key_number(name.as_bytes()).is_err(), "{name}");
        }
    }
}
