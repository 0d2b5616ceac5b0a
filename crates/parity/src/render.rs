//! Responses as text: every field a client can see, the machine dependent ones masked.
//!
//! A field at its default is not written. A header with cluster, member, term and revision is
//! `rev=N`; the sub-responses of a transaction carry only a revision, which is also `rev=N` there.
//! Anything else in either place is spelled out.

use crate::words::show;
use cetera_proto::etcdserverpb as pb;
use cetera_proto::mvccpb;

/// Which fields a header has where this one stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A response of its own: all four.
    Top,
    /// Inside a transaction's response: the revision only.
    Inside,
}

/// A header in one word.
pub fn header(header: Option<&pb::ResponseHeader>, place: Place) -> String {
    let Some(header) = header else {
        return "no-header".to_owned();
    };
    let revision = header.revision;
    let fields =
        [("cluster", header.cluster_id != 0), ("member", header.member_id != 0), ("term", header.raft_term != 0)];
    let present: Vec<_> = fields.iter().filter(|f| f.1).map(|f| f.0).collect();
    match (place, present.len()) {
        (Place::Top, 3) | (Place::Inside, 0) if place == Place::Top || revision != 0 => {
            format!("rev={revision}")
        }
        (_, 0) if revision == 0 => "empty-header".to_owned(),
        _ => format!("rev={revision} header-has=[{}]", present.join(",")),
    }
}

/// `key = value create= mod= version= lease=`
pub fn key_value(kv: &mvccpb::KeyValue) -> String {
    let mut text = show(&kv.key);
    if !kv.value.is_empty() {
        text.push_str(&format!(" = {}", show(&kv.value)));
    }
    let numbers =
        [("create", kv.create_revision), ("mod", kv.mod_revision), ("version", kv.version), ("lease", kv.lease)];
    for (name, number) in numbers {
        if number != 0 {
            text.push_str(&format!(" {name}={number}"));
        }
    }
    text
}

pub fn put(response: &pb::PutResponse, place: Place) -> String {
    let mut text = format!("put {}\n", header(response.header.as_ref(), place));
    if let Some(kv) = &response.prev_kv {
        text.push_str(&format!("  prev {}\n", key_value(kv)));
    }
    text
}

pub fn range(response: &pb::RangeResponse, place: Place) -> String {
    let mut text = range_head(response, place);
    for kv in &response.kvs {
        text.push_str(&format!("  {}\n", key_value(kv)));
    }
    text
}

/// A long range in two lines.
pub fn range_brief(response: &pb::RangeResponse) -> String {
    let mut text = range_head(response, Place::Top);
    if let (Some(first), Some(last)) = (response.kvs.first(), response.kvs.last()) {
        let all: String = response.kvs.iter().map(|kv| key_value(kv) + "\n").collect();
        text.push_str(&format!(
            "  {} kvs from {} to {}, crc32c {:08x}\n",
            response.kvs.len(),
            show(&first.key),
            show(&last.key),
            crc32c::crc32c(all.as_bytes())
        ));
    }
    text
}

fn range_head(response: &pb::RangeResponse, place: Place) -> String {
    let more = if response.more { " more" } else { "" };
    format!("range {} count={}{more}\n", header(response.header.as_ref(), place), response.count)
}

pub fn delete(response: &pb::DeleteRangeResponse, place: Place) -> String {
    let mut text = format!("delete {} deleted={}\n", header(response.header.as_ref(), place), response.deleted);
    for kv in &response.prev_kvs {
        text.push_str(&format!("  prev {}\n", key_value(kv)));
    }
    text
}

pub fn txn(response: &pb::TxnResponse, place: Place) -> String {
    use pb::response_op::Response;
    let outcome = if response.succeeded { "succeeded" } else { "failed" };
    let mut text = format!("txn {} {outcome}\n", header(response.header.as_ref(), place));
    for op in &response.responses {
        let inner = match &op.response {
            Some(Response::ResponseRange(r)) => range(r, Place::Inside),
            Some(Response::ResponsePut(r)) => put(r, Place::Inside),
            Some(Response::ResponseDeleteRange(r)) => delete(r, Place::Inside),
            Some(Response::ResponseTxn(r)) => txn(r, Place::Inside),
            None => "nothing\n".to_owned(),
        };
        text.push_str(&indent(&inner));
    }
    text
}

/// Every line two columns to the right.
pub fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Writes a line that stands more than three times in a row once, with the number.
pub fn collapse(text: &str) -> String {
    const SHOWN: usize = 3;
    let mut result = String::new();
    let lines: Vec<_> = text.lines().collect();
    for run in lines.chunk_by(|a, b| a == b) {
        if run.len() > SHOWN {
            result.push_str(&format!("{} ({} times)\n", run[0], run.len()));
        } else {
            result.extend(run.iter().map(|line| format!("{line}\n")));
        }
    }
    result
}

/// `put KEY..` or `delete KEY..`, with the previous value on a second line.
pub fn event(event: &mvccpb::Event) -> String {
    let kind = match event.r#type {
        0 => "put".to_owned(),
        1 => "delete".to_owned(),
        other => format!("type{other}"),
    };
    let kv = event.kv.as_ref().map_or("no-kv".to_owned(), key_value);
    let mut text = format!("{kind} {kv}\n");
    if let Some(kv) = &event.prev_kv {
        text.push_str(&format!("  prev {}\n", key_value(kv)));
    }
    text
}

/// A whole watch response: one line, then its events.
pub fn watch(response: &pb::WatchResponse) -> String {
    let mut text = format!("id={} {}", response.watch_id, header(response.header.as_ref(), Place::Top));
    for (flag, name) in
        [(response.created, " created"), (response.canceled, " canceled"), (response.fragment, " fragment")]
    {
        if flag {
            text.push_str(name);
        }
    }
    if response.compact_revision != 0 {
        text.push_str(&format!(" compact={}", response.compact_revision));
    }
    if !response.cancel_reason.is_empty() {
        text.push_str(&format!(" reason={}", show(response.cancel_reason.as_bytes())));
    }
    text.push('\n');
    for e in &response.events {
        text.push_str(&indent(&event(e)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_counted() {
        assert_eq!(collapse("a\na\na\nb\n"), "a\na\na\nb\n");
        assert_eq!(collapse("a\n b\n b\n b\n b\nc\n"), "a\n b (4 times)\nc\n");
    }

    #[test]
    fn headers() {
        let full = pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        let bare = pb::ResponseHeader { revision: 3, ..Default::default() };
        let odd = pb::ResponseHeader { raft_term: 4, ..bare };
        let empty = pb::ResponseHeader::default();
        assert_eq!(header(Some(&full), Place::Top), "rev=3");
        assert_eq!(header(Some(&full), Place::Inside), "rev=3 header-has=[cluster,member,term]");
        assert_eq!(header(Some(&bare), Place::Inside), "rev=3");
        assert_eq!(header(Some(&bare), Place::Top), "rev=3 header-has=[]");
        assert_eq!(header(Some(&odd), Place::Top), "rev=3 header-has=[term]");
        assert_eq!(header(Some(&empty), Place::Inside), "empty-header");
        assert_eq!(header(None, Place::Top), "no-header");
    }
}
