//! Ranges: index order in, the fields of a `RangeResponse` out. Payloads are copied from the log behind a tag and a
//! length; nothing is decoded unless the answer is sorted by value.
//!
//! One [`Reading`] serves views and write transactions alike: they differ in where payloads come from (flushed
//! segments, or also what the writer holds back) and in what "now" means.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};
use cetera_plant::{Bug, is_planted};
use cetera_storage::revlog::{Location, LogError, LogReader, Record, RevLog};

use crate::{
    encode::{KeyValueRef, around_value, put_varint, varint_len},
    error::MvccError,
    past::KeyRevision,
    query::{Bounds, RangeQuery, SortOrder, SortTarget},
    tree::{KeyEnd, Totals, Tree},
};

/// `RangeResponse.kvs`.
const KVS: u8 = (2 << 3) | 2;
/// `RangeResponse.more`.
const MORE: u8 = 3 << 3;
/// `RangeResponse.count`.
const COUNT: u8 = 4 << 3;
/// Pairs looked ahead.
const LOOKAHEAD: usize = 16;
/// Most bytes set aside ahead of an answer whose size is known from the index.
const RESERVE_BYTES: u64 = 64 << 20;

/// What an answer amounts to.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct RangeTotals {
    /// All keys in the range, limit and filters aside.
    pub count: i64,
    /// Pairs in the answer.
    pub kvs: u64,
    /// Whether the limit cut the answer short.
    pub more: bool,
}

/// Where payloads come from.
pub(crate) trait Payloads {
    /// The record at `location` will be read soon.
    fn prefetch(&self, _location: Location) {}

    fn read<R>(&self, location: Location, f: impl FnOnce(Record<'_>) -> R) -> Result<R, LogError>;
}

impl Payloads for LogReader {
    fn prefetch(&self, location: Location) {
        LogReader::prefetch(self, location);
    }

    fn read<R>(&self, location: Location, f: impl FnOnce(Record<'_>) -> R) -> Result<R, LogError> {
        LogReader::read(self, location, f)
    }
}

impl Payloads for RevLog {
    fn read<R>(&self, location: Location, f: impl FnOnce(Record<'_>) -> R) -> Result<R, LogError> {
        RevLog::read(self, location, f)
    }
}

/// The store as one reader sees it.
pub(crate) struct Reading<'a, S> {
    pub(crate) index: &'a Tree,
    pub(crate) source: &'a S,
    pub(crate) current: i64,
    pub(crate) compacted: i64,
}

/// One pair of an answer that cannot be written in index order.
struct Row<'a> {
    key: &'a [u8],
    live: KeyRevision,
    /// Sorted by value: where the payload was copied to, and the value inside it.
    payload: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

impl<'a, S: Payloads> Reading<'a, S> {
    /// The revision a request for `revision` reads at (contract KV-2).
    pub(crate) fn resolve(&self, revision: i64) -> Result<i64, MvccError> {
        if revision > self.current {
            return Err(MvccError::FutureRevision);
        }
        let at = if revision <= 0 { self.current } else { revision };
        if at < self.compacted { Err(MvccError::Compacted) } else { Ok(at) }
    }

    /// The state of `key` at the end of main revision `at`, None if it was absent.
    pub(crate) fn get(&self, key: &[u8], at: i64) -> Option<KeyRevision> {
        self.index.get(key)?.at(at)
    }

    /// The keys of a span alive at `at`, in order.
    fn span(
        &self,
        start: &'a [u8],
        end: KeyEnd<'a>,
        at: i64,
    ) -> impl Iterator<Item = (&'a [u8], KeyRevision)> + use<'a, S> {
        self.index.range(start, end).filter_map(move |(key, entry)| entry.at(at).map(|live| (key, live)))
    }

    /// The keys alive at `at`, in order.
    pub(crate) fn live(
        &self,
        bounds: Bounds<'a>,
        at: i64,
    ) -> impl Iterator<Item = (&'a [u8], KeyRevision)> + use<'a, S> {
        let (one, span) = match bounds {
            Bounds::Single(key) => (self.get(key, at).map(|live| (key, live)), None),
            Bounds::Span(start, end) => (None, Some(self.span(start, end, at))),
        };
        one.into_iter().chain(span.into_iter().flatten())
    }

    fn count(&self, bounds: Bounds<'a>, at: i64) -> u64 {
        match bounds {
            Bounds::Single(key) => u64::from(self.get(key, at).is_some()),
            Bounds::Span(start, end) if at == self.current || is_planted(Bug::CountOfPresent) => {
                self.index.totals(start, end).keys
            }
            Bounds::Span(start, end) => self.span(start, end, at).count() as u64,
        }
    }

    /// Appends kvs, more and count of the answer to `out`; after an error `out` is as it was.
    pub(crate) fn range(&self, query: &RangeQuery<'a>, out: &mut BytesMut) -> Result<RangeTotals, MvccError> {
        let at = self.resolve(query.revision)?;
        let at = if is_planted(Bug::PastIsPresent) { self.current } else { at };
        let start = out.len();
        let totals = if query.count_only {
            Ok(RangeTotals { count: self.count(query.bounds(), at) as i64, ..Default::default() })
        } else if let Bounds::Single(key) = query.bounds() {
            self.single(query, key, at, out)
        } else if query.is_default_ordering() && query.sort_target == SortTarget::Key && !query.has_revision_filters() {
            self.in_order(query, at, out)
        } else {
            self.arranged(query, at, out)
        };
        match totals {
            Ok(totals) => {
                put_totals(out, &totals);
                Ok(totals)
            }
            Err(error) => {
                out.truncate(start);
                Err(error.into())
            }
        }
    }

    fn single(
        &self,
        query: &RangeQuery<'a>,
        key: &'a [u8],
        at: i64,
        out: &mut BytesMut,
    ) -> Result<RangeTotals, LogError> {
        let Some(live) = self.get(key, at) else { return Ok(RangeTotals::default()) };
        if !query.accepts(live.created, live.modified.main) {
            return Ok(RangeTotals { count: 1, ..Default::default() });
        }
        self.put_pair(query, key, &live, out)?;
        Ok(RangeTotals { count: 1, kvs: 1, more: false })
    }

    /// The common case: key order, no filters. Pairs go out as the index yields them.
    fn in_order(&self, query: &RangeQuery<'a>, at: i64, out: &mut BytesMut) -> Result<RangeTotals, LogError> {
        let Bounds::Span(start, end) = query.bounds() else { unreachable!("a single key is no span") };
        let limit = if query.limit > 0 { query.limit as u64 } else { u64::MAX };
        let latest = at == self.current;
        if latest && limit == u64::MAX && !query.keys_only {
            reserve(out, self.index.totals(start, end));
        }
        let mut totals = RangeTotals::default();
        let mut live = self.span(start, end, at);
        // Neighbouring keys lie at random places of the log: the memory is asked for some pairs ahead of the copying.
        let mut ahead = VecDeque::with_capacity(LOOKAHEAD);
        loop {
            while ahead.len() < LOOKAHEAD
                && let Some((key, found)) = live.next()
            {
                if !query.keys_only {
                    self.source.prefetch(found.location);
                }
                ahead.push_back((key, found));
            }
            let Some((key, found)) = ahead.pop_front() else { break };
            if totals.kvs == limit {
                totals.more = true;
                break;
            }
            self.put_pair(query, key, &found, out)?;
            totals.kvs += 1;
        }
        totals.count = match totals.more {
            false => totals.kvs as i64,
            true if latest || is_planted(Bug::CountOfPresent) => self.index.totals(start, end).keys as i64,
            // The one the limit refused was taken off the iterator.
            true => totals.kvs as i64 + 1 + (ahead.len() + live.count()) as i64,
        };
        Ok(totals)
    }

    /// Filtered or sorted answers (KV-3, KV-6, KV-7): collected, arranged, cut, written.
    fn arranged(&self, query: &RangeQuery<'a>, at: i64, out: &mut BytesMut) -> Result<RangeTotals, LogError> {
        let Bounds::Span(start, end) = query.bounds() else { unreachable!("a single key is no span") };
        let fetch = query.fetch_limit().map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let mut seen = 0;
        let mut rows: Vec<Row<'a>> = self
            .span(start, end, at)
            .take(fetch)
            .inspect(|_| seen += 1)
            .filter(|(_, live)| query.accepts(live.created, live.modified.main))
            .map(|(key, live)| Row { key, live, payload: 0..0, value: 0..0 })
            .collect();
        let count = if seen < fetch { seen as u64 } else { self.count(query.bounds(), at) };
        let mut payloads = Vec::new();
        if query.sort_target == SortTarget::Value {
            self.copy_payloads(&mut rows, &mut payloads)?;
        }
        sort(&mut rows, query, &payloads);
        let limit = if query.limit > 0 { usize::try_from(query.limit).unwrap_or(usize::MAX) } else { usize::MAX };
        let more = rows.len() > limit;
        rows.truncate(limit);
        for row in &rows {
            if query.sort_target == SortTarget::Value {
                put_payload(query.keys_only, &payloads[row.payload.clone()], out);
            } else {
                self.put_pair(query, row.key, &row.live, out)?;
            }
        }
        Ok(RangeTotals { count: count as i64, kvs: rows.len() as u64, more })
    }

    fn copy_payloads(&self, rows: &mut [Row<'_>], payloads: &mut Vec<u8>) -> Result<(), LogError> {
        for row in rows {
            let start = payloads.len();
            row.value = self.source.read(row.live.location, |record| {
                payloads.extend_from_slice(record.payload);
                let value = KeyValueRef::of_payload(record.payload).value;
                let at = if value.is_empty() { 0 } else { value.as_ptr() as usize - record.payload.as_ptr() as usize };
                start + at..start + at + value.len()
            })?;
            row.payload = start..payloads.len();
        }
        Ok(())
    }

    /// Writes one pair. Keys alone come from the index, without lease (contract 0.3), unless sorted by value.
    fn put_pair(
        &self,
        query: &RangeQuery<'_>,
        key: &[u8],
        live: &KeyRevision,
        out: &mut BytesMut,
    ) -> Result<(), LogError> {
        if query.keys_only && query.sort_target != SortTarget::Value {
            let kv = KeyValueRef {
                key,
                create_revision: live.created,
                mod_revision: live.modified.main,
                version: live.version,
                ..Default::default()
            };
            let len = kv.encoded_len();
            put_head(out, len);
            kv.encode(out);
            return Ok(());
        }
        let written = self.source.read(live.location, |record| {
            let is_it = record.revision == live.modified;
            if is_it {
                put_payload(query.keys_only, record.payload, out);
            }
            is_it
        })?;
        if written { Ok(()) } else { Err(LogError::Misplaced { location: live.location }) }
    }
}

fn reserve(out: &mut BytesMut, totals: Totals) {
    // Tag and length take at most six bytes of a pair.
    out.reserve((totals.bytes + 6 * totals.keys + 16).min(RESERVE_BYTES) as usize);
}

fn put_head(out: &mut BytesMut, len: usize) {
    out.reserve(1 + varint_len(len as u64) + len);
    out.put_u8(KVS);
    put_varint(out, len as u64);
}

fn put_payload(keys_only: bool, payload: &[u8], out: &mut BytesMut) {
    if keys_only {
        let (head, tail) = around_value(payload);
        put_head(out, head.len() + tail.len());
        out.put_slice(head);
        out.put_slice(tail);
    } else {
        put_head(out, payload.len());
        out.put_slice(payload);
    }
}

fn put_totals(out: &mut BytesMut, totals: &RangeTotals) {
    if totals.more {
        out.put_slice(&[MORE, 1]);
    }
    if totals.count != 0 {
        out.put_u8(COUNT);
        put_varint(out, totals.count as u64);
    }
}

/// Ties stay in key order; Go's sort leaves them in any (KV-6).
fn sort(rows: &mut [Row<'_>], query: &RangeQuery<'_>, payloads: &[u8]) {
    let descend = query.sort_order == SortOrder::Descend;
    rows.sort_by(|a, b| {
        let (a, b) = if descend { (b, a) } else { (a, b) };
        match query.sort_target {
            SortTarget::Key => a.key.cmp(b.key),
            SortTarget::Version => a.live.version.cmp(&b.live.version),
            SortTarget::Create => a.live.created.cmp(&b.live.created),
            SortTarget::Mod => a.live.modified.main.cmp(&b.live.modified.main),
            SortTarget::Value => payloads[a.value.clone()].cmp(&payloads[b.value.clone()]),
        }
    });
}
