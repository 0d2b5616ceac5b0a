//! RangeStream (KV-11, KV-12): a range in chunks of about one request's size, at one pinned revision.

use bytes::{BufMut, Bytes, BytesMut};
use cetera_mvcc::{KeyValueRef, View};
use cetera_proto::etcdserverpb::RangeRequest;
use cetera_state::validate;

use super::header::{HEADER_BYTES_MAX, put_varint};
use super::range::range_into;
use super::status::{Code, ok, other};
use super::{NodeAccess, RpcServices, State, Wait, decode, respond};
use crate::seam::{CallId, Outbound, Status};

/// Keys in the first chunk (`initialStreamChunkLimit`).
const FIRST_CHUNK_KEYS: i64 = 10;

/// A range on its way.
pub(super) struct RangeStream {
    /// Held to the end, so that all chunks show one moment.
    view: View,
    /// What is left: starts behind the last key sent.
    rest: RangeRequest,
    /// Keys asked for in all.
    limit: i64,
    /// Keys sent.
    sent: i64,
    /// Keys in the next chunk.
    chunk_keys: i64,
    /// The client has not read enough of what was sent.
    paused: bool,
}

impl RangeStream {
    /// Produces no more until resumed.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }
}

/// One `RangeStreamResponse`: field 1 is a range response in two parts.
fn wrapped(head: &[u8], body: Bytes) -> Vec<Bytes> {
    let mut start = BytesMut::with_capacity(11 + head.len());
    start.put_u8(1 << 3 | 2);
    put_varint(&mut start, (head.len() + body.len()) as u64);
    start.put_slice(head);
    vec![start.freeze(), body]
}

impl<N: NodeAccess> RpcServices<N> {
    pub(super) fn range_stream(&mut self, call: CallId, body: Bytes, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let request: RangeRequest = decode(body)?;
        validate::range(&request)?;
        // Order NONE passes with any target (`txn.IsDefaultOrdering`).
        if request.sort_order != 0 && !(request.sort_order == 1 && request.sort_target == 0) {
            return Err(other(Code::Unimplemented, "RangeStream does not support custom sort orders"));
        }
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if filters != [0; 4] {
            return Err(other(Code::Unimplemented, "RangeStream does not support revision filters"));
        }
        if request.serializable {
            return self.serve_range_stream(call, request, out);
        }
        self.confirm(call, Wait::RangeStream(Box::new(request)));
        Ok(())
    }

    pub(super) fn serve_range_stream(
        &mut self,
        call: CallId,
        request: RangeRequest,
        out: &mut Vec<Outbound>,
    ) -> Result<(), Status> {
        let view = self.published.view.clone();
        if request.count_only {
            let mut body = BytesMut::new();
            range_into(&view, &request, &mut body)?;
            let header = self.headers.shared(view.revision());
            respond(call, wrapped(&header, body.freeze()), out);
            return Ok(());
        }
        let limit = if request.limit == 0 { i64::MAX } else { request.limit };
        let stream = RangeStream { view, rest: request, limit, sent: 0, chunk_keys: FIRST_CHUNK_KEYS, paused: false };
        self.calls.insert(call, State::RangeStream(Box::new(stream)));
        self.resume_range_stream(call, out);
        Ok(())
    }

    /// Sends one chunk after the other until the range ends. One batch of output holds at most one chunk; the rest
    /// follows when the front says that this one is on its way.
    pub(super) fn resume_range_stream(&mut self, call: CallId, out: &mut Vec<Outbound>) {
        let Some(State::RangeStream(mut stream)) = self.calls.remove(&call) else { return };
        stream.paused = false;
        let mut batched = 0;
        loop {
            match self.next_chunk(call, &mut stream, out) {
                Ok(Some(bytes)) => batched += bytes,
                Ok(None) => return out.push(Outbound::Finish { call, status: ok() }),
                Err(status) => return out.push(Outbound::Finish { call, status }),
            }
            if batched > crate::seam::STREAM_BUDGET_BYTES {
                break;
            }
        }
        self.calls.insert(call, State::RangeStream(stream));
    }

    /// Sends one chunk; its size, or `None` after the last.
    fn next_chunk(
        &mut self,
        call: CallId,
        stream: &mut RangeStream,
        out: &mut Vec<Outbound>,
    ) -> Result<Option<usize>, Status> {
        stream.rest.limit = stream.chunk_keys.min(stream.limit - stream.sent);
        let mut body = BytesMut::new();
        let totals = range_into(&stream.view, &stream.rest, &mut body)?;
        if stream.rest.revision == 0 {
            stream.rest.revision = stream.view.revision();
        }
        let kvs_bytes = kvs_len(&body);
        let last_key = last_key(&body[..kvs_bytes]);
        stream.sent += totals.kvs as i64;
        let size = body.len();
        if !totals.more || stream.sent == stream.limit {
            // `count` is of the whole range: what is left of it now, and what was sent before.
            body.truncate(kvs_bytes);
            if totals.more {
                body.put_slice(&[3 << 3, 1]);
            }
            let count = stream.sent - totals.kvs as i64 + totals.count;
            if count != 0 {
                body.put_u8(4 << 3);
                put_varint(&mut body, count as u64);
            }
            let mut header = BytesMut::with_capacity(HEADER_BYTES_MAX);
            self.headers.put(stream.view.revision(), &mut header);
            out.push(Outbound::Message { call, slices: wrapped(&header, body.freeze()) });
            return Ok(None);
        }
        body.truncate(kvs_bytes);
        out.push(Outbound::Message { call, slices: wrapped(&[], body.freeze()) });
        let mut next = last_key.expect("there is more, so something was sent").to_vec();
        next.push(0);
        stream.rest.key = next.into();
        stream.chunk_keys = adjust(stream.chunk_keys, size, self.settings.max_request_bytes);
        Ok(Some(size))
    }
}

/// Keys for the next chunk, to keep its size between half and twice the target (`adjustChunkLimit`).
fn adjust(keys: i64, size: usize, target: usize) -> i64 {
    if size < target / 2 {
        keys.saturating_mul(2)
    } else if size > target * 2 {
        (keys / 2).max(1)
    } else {
        keys
    }
}

/// Reads a varint at the front of `bytes`: its value and length.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

/// The kvs fields at the front of an answer's bytes, each as the range of its KeyValue.
fn kvs(answer: &[u8]) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if answer.get(at) != Some(&(2 << 3 | 2)) {
            return None;
        }
        let (len, len_bytes) = varint(&answer[at + 1..])?;
        let start = at + 1 + len_bytes;
        at = start + len as usize;
        Some(start..at)
    })
}

fn kvs_len(answer: &[u8]) -> usize {
    kvs(answer).last().map_or(0, |kv| kv.end)
}

fn last_key(kvs_fields: &[u8]) -> Option<Bytes> {
    let last = kvs(kvs_fields).last()?;
    KeyValueRef::decode(&kvs_fields[last]).map(|kv| Bytes::copy_from_slice(kv.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_settle_around_the_target() {
        assert_eq!(adjust(10, 100, 1_000), 20);
        assert_eq!(adjust(10, 500, 1_000), 10);
        assert_eq!(adjust(10, 2_000, 1_000), 10);
        assert_eq!(adjust(10, 2_001, 1_000), 5);
        assert_eq!(adjust(1, 9_999, 1_000), 1);
    }

    #[test]
    fn kvs_are_found_by_their_lengths() {
        let answer = [0x12, 3, 0x0a, 1, b'a', 0x12, 3, 0x0a, 1, b'b', 0x18, 1, 0x20, 5];
        assert_eq!(kvs_len(&answer), 10);
        assert_eq!(last_key(&answer[..10]).as_deref(), Some(&b"b"[..]));
        assert_eq!(kvs_len(&[0x20, 5]), 0);
    }
}
