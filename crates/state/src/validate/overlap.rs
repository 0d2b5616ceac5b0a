//! Whether a transaction would change a key twice (TX-3; etcd `checkIntervals`).
//!
//! Followed to the letter, quirks included, because a client sees what is refused:
//! * a delete of everything from a key on (`range_end` = `"\0"`) covers nothing here, so a put after it is accepted
//!   (recorded from etcd 3.5.30). One case is refused all the same: an `ignore_value` or `ignore_lease` put behind such
//!   a delete, which makes etcd's apply loop panic;
//! * puts of nested transactions are compared with deletes of this level and of nested transactions *before* them, not
//!   after: put then delete passes, delete then put does not;
//! * then and else of one nested transaction exclude each other and may put the same key.

use std::collections::BTreeMap;

use cetera_proto::etcdserverpb::{RequestOp, request_op::Request};

use crate::error::ApplyError;

/// Keys put below some level: the key, and whether one of its puts needs the key to be there (`ignore_*`).
type Puts<'a> = BTreeMap<&'a [u8], bool>;

/// What the branches of a level change.
#[derive(Default)]
struct Changes<'a> {
    puts: Puts<'a>,
    deletes: Spans<'a>,
}

pub(super) fn check(ops: &[RequestOp]) -> Result<(), ApplyError> {
    collect(ops).map(drop)
}

fn collect(ops: &[RequestOp]) -> Result<Changes<'_>, ApplyError> {
    let mut changes = Changes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            changes.deletes.insert(&delete.key, &delete.range_end);
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            let then = collect(&nested.success)?;
            let otherwise = collect(&nested.failure)?;
            let twice = |key: &&[u8]| changes.puts.contains_key(*key);
            if then.puts.keys().any(twice) || otherwise.puts.keys().any(twice) {
                return Err(ApplyError::DuplicateKey);
            }
            for (key, needs) in then.puts.into_iter().chain(otherwise.puts) {
                changes.deletes.check_put(key, needs)?;
                *changes.puts.entry(key).or_default() |= needs;
            }
            changes.deletes.merge(then.deletes);
            changes.deletes.merge(otherwise.deletes);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            let needs = put.ignore_value || put.ignore_lease;
            changes.deletes.check_put(&put.key, needs)?;
            if changes.puts.insert(&put.key, needs).is_some() {
                return Err(ApplyError::DuplicateKey);
            }
        }
    }
    Ok(changes)
}

/// Deleted keys: disjoint spans by their start, each with its (exclusive) end; single keys as spans up to their
/// successor, which an inclusive end says without building it.
#[derive(Default)]
struct Spans<'a> {
    /// start -> end; the bool says whether the end itself is deleted too.
    spans: BTreeMap<&'a [u8], (&'a [u8], bool)>,
    /// Lowest start of a delete without an end.
    open_from: Option<&'a [u8]>,
}

impl<'a> Spans<'a> {
    fn insert(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        match range_end {
            [] => self.add(key, (key, true)),
            [0] => self.add_open(key),
            end if end > key => self.add(key, (end, false)),
            _ => {}
        }
    }

    fn add_open(&mut self, from: &'a [u8]) {
        self.open_from = Some(self.open_from.map_or(from, |have| have.min(from)));
    }

    fn add(&mut self, mut start: &'a [u8], mut end: (&'a [u8], bool)) {
        if let Some((&before, &before_end)) = self.spans.range(..=start).next_back()
            && before_end >= (start, false)
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.spans.range(start..).next() {
            if (next, false) > end {
                break;
            }
            end = end.max(next_end);
            self.spans.remove(next);
        }
        self.spans.insert(start, end);
    }

    /// The larger takes the smaller in.
    fn merge(&mut self, mut other: Spans<'a>) {
        if other.spans.len() > self.spans.len() {
            std::mem::swap(&mut self.spans, &mut other.spans);
        }
        for (start, end) in other.spans {
            self.add(start, end);
        }
        if let Some(from) = other.open_from {
            self.add_open(from);
        }
    }

    fn check_put(&self, key: &[u8], needs_key: bool) -> Result<(), ApplyError> {
        let before = self.spans.range(..=key).next_back();
        let covered = before.is_some_and(|(_, &(end, inclusive))| key < end || inclusive && key == end);
        let gone = needs_key && self.open_from.is_some_and(|from| key >= from);
        if covered || gone { Err(ApplyError::DuplicateKey) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_against_a_plain_list() {
        let key = |n: u64| -> &'static [u8] {
            const KEYS: [&[u8]; 12] =
                [b"a", b"a\0", b"a\0\0", b"aa", b"b", b"b\0", b"ba", b"c", b"ca", b"d", b"da", b"e"];
            KEYS[n as usize % KEYS.len()]
        };
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            state >> 33
        };
        for _ in 0..3000 {
            let mut spans = Spans::default();
            let mut other = Spans::default();
            let mut plain: Vec<(&[u8], &[u8])> = Vec::new();
            for _ in 0..random() % 6 {
                let (start, end): (&[u8], &[u8]) = (key(random()), if random() % 2 == 0 { b"" } else { key(random()) });
                if random() % 2 == 0 {
                    spans.insert(start, end)
                } else {
                    other.insert(start, end)
                }
                plain.push((start, end));
            }
            spans.merge(other);
            for n in 0..12 {
                let k = key(n);
                let covered =
                    plain.iter().any(|&(start, end)| if end.is_empty() { k == start } else { k >= start && k < end });
                assert_eq!(spans.check_put(k, false).is_err(), covered, "{plain:?} {k:?}");
            }
        }
    }
}
