//! `WatchResponse` as bytes, in two pieces: a head that differs from watcher to watcher, and the events, which all
//! watchers of the same changes share. Field order is Go's.

use bytes::{BufMut, Bytes, BytesMut};
use cetera_mvcc::{EventRec, LogError, View};
use cetera_plant::{Bug, is_planted};

const HEADER: u8 = (1 << 3) | 2;
const WATCH_ID: u8 = 2 << 3;
const CREATED: u8 = 3 << 3;
const CANCELED: u8 = 4 << 3;
const COMPACT_REVISION: u8 = 5 << 3;
const CANCEL_REASON: u8 = (6 << 3) | 2;
const FRAGMENT: u8 = 7 << 3;
const EVENTS: u8 = (11 << 3) | 2;
/// `mvccpb.Event.prev_kv`.
const PREV_KV: u8 = (3 << 3) | 2;

/// Fills the headers of responses: who answers, in which term.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The member's id.
    pub member_id: u64,
    /// Its term.
    pub term: u64,
}

fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_field(out: &mut impl BufMut, tag: u8, value: u64) {
    if value != 0 {
        out.put_u8(tag);
        put_varint(out, value);
    }
}

fn field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// The head of a response.
#[derive(Debug, Default)]
pub(super) struct Head(Vec<u8>);

impl Head {
    /// The header field.
    pub(super) fn new(origin: &Origin, revision: i64) -> Head {
        let mut head = Head(Vec::with_capacity(64));
        let revision = revision as u64;
        let fields = [(1, origin.cluster_id), (2, origin.member_id), (3, revision), (4, origin.term)];
        head.0.put_u8(HEADER);
        let len: usize = fields.iter().map(|(_, value)| field_len(*value)).sum();
        head.0.put_u8(u8::try_from(len).expect("four fields have at most 44 bytes"));
        for (number, value) in fields {
            put_field(&mut head.0, number << 3, value);
        }
        head
    }

    /// Makes this a copy of another, with a watch id.
    pub(super) fn copy_with_id(&mut self, header: &Head, id: i64) {
        self.0.clear();
        self.0.extend_from_slice(&header.0);
        self.id_mut(id);
    }

    fn id_mut(&mut self, id: i64) {
        put_field(&mut self.0, WATCH_ID, id as u64);
    }

    pub(super) fn id(mut self, id: i64) -> Head {
        self.id_mut(id);
        self
    }

    pub(super) fn created(mut self) -> Head {
        put_field(&mut self.0, CREATED, 1);
        self
    }

    pub(super) fn canceled(mut self) -> Head {
        put_field(&mut self.0, CANCELED, 1);
        self
    }

    pub(super) fn compact_revision(mut self, revision: i64) -> Head {
        put_field(&mut self.0, COMPACT_REVISION, revision as u64);
        self
    }

    pub(super) fn reason(mut self, reason: &str) -> Head {
        if !reason.is_empty() {
            self.0.put_u8(CANCEL_REASON);
            put_varint(&mut self.0, reason.len() as u64);
            self.0.extend_from_slice(reason.as_bytes());
        }
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn fragment(&mut self) {
        put_field(&mut self.0, FRAGMENT, 1);
    }
}

/// Appends one element of the `events` field, with the pair it replaced if `previous` is given.
pub(super) fn put_event(out: &mut BytesMut, event: &EventRec, previous: Option<&View>) -> Result<(), LogError> {
    let previous = match previous {
        Some(view) if is_planted(Bug::PrevKvIsNew) => view.kv(&event.key, event.revision.main).unwrap_or(None),
        Some(view) => view.previous(event)?,
        None => None,
    };
    let previous_len = previous.as_ref().map_or(0, |kv| 1 + varint_len(kv.len() as u64) + kv.len());
    let len = event.event.len() + previous_len;
    out.reserve(1 + varint_len(len as u64) + len);
    out.put_u8(EVENTS);
    put_varint(out, len as u64);
    out.put_slice(&event.event);
    if let Some(kv) = previous {
        out.put_u8(PREV_KV);
        put_varint(out, kv.len() as u64);
        out.put_slice(&kv);
    }
    Ok(())
}

/// Splits a response of `head` and `events` that has `limit` bytes or more (W-10): `f` gets each part's head and
/// events. A single event is never split; every part but the last says `fragment`.
pub(super) fn fragments(head: &mut Head, events: &Bytes, limit: usize, mut f: impl FnMut(&Head, Bytes)) {
    let mut ends = Vec::new();
    let mut at = 0;
    while at < events.len() {
        at += element_len(&events[at..]);
        ends.push(at);
    }
    if head.0.len() + events.len() < limit || ends.len() < 2 {
        return f(head, events.clone());
    }
    let plain = head.0.len();
    head.fragment();
    let marked = head.0.len();
    let (mut start, mut end) = (0, 0);
    for next in ends {
        // The mark of all parts counts towards their size, as in etcd.
        if end > start && marked + (next - start) >= limit {
            f(head, events.slice(start..end));
            start = end;
        }
        end = next;
    }
    head.0.truncate(plain);
    f(head, events.slice(start..end));
}

/// Bytes of the element of the `events` field that `bytes` begin with.
fn element_len(bytes: &[u8]) -> usize {
    let mut len = 0usize;
    for (at, byte) in bytes[1..].iter().enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return 2 + at + len;
        }
    }
    unreachable!("put_event wrote a whole element")
}
