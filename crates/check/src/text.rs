//! Calls, watchers and what they were told, in short form for people.

use std::fmt;

use cetera_proto::etcdserverpb as pb;
use cetera_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cetera_proto::etcdserverpb::request_op::Request as Op;
use cetera_proto::etcdserverpb::response_op::Response as Answer;
use cetera_proto::mvccpb::{Event, KeyValue, event::EventType};

use crate::history::{Call, History, Outcome, Request, Response, Watcher};

/// Bytes shown before the rest is cut off.
const SHOWN: usize = 32;
/// Elements of a list shown before the rest is counted.
const LISTED: usize = 8;

/// Bytes as text, cut to a length that can be read.
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0[..self.0.len().min(SHOWN)].escape_ascii())?;
        if self.0.len() > SHOWN { write!(f, "..({} B)", self.0.len()) } else { Ok(()) }
    }
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    let mut text = items.iter().take(LISTED).map(show).collect::<Vec<_>>().join(", ");
    if items.len() > LISTED {
        text.push_str(&format!(", ..({} in all)", items.len()));
    }
    format!("[{text}]")
}

fn range(key: &[u8], end: &[u8]) -> String {
    match end {
        [] => Text(key).to_string(),
        [0] => format!("{}..", Text(key)),
        _ => format!("{}..{}", Text(key), Text(end)),
    }
}

/// Seconds with microseconds.
pub(crate) fn time(us: u64) -> String {
    format!("{}.{:06}s", us / 1_000_000, us % 1_000_000)
}

/// A call of the history: number, client, member, times, request, outcome.
pub(crate) fn call(history: &History, index: usize) -> String {
    let Call { client, member, start_us, end_us, request: asked, outcome: came, .. } = &history.calls[index];
    format!(
        "call {index} c{client}@m{member} {}..{} {} -> {}",
        time(*start_us),
        time(*end_us),
        request(asked),
        outcome(came)
    )
}

/// A watcher of the history: number, client, member, times, what it asked for.
pub(crate) fn watcher(history: &History, index: usize) -> String {
    let Watcher { client, member, start_us, request, resumes, .. } = &history.watchers[index];
    let mut text = format!("watcher {index} c{client}@m{member} {} ", time(*start_us));
    text.push_str(&range(&request.key, &request.range_end));
    text.push_str(&format!(" from {}", request.start_revision));
    for (set, word) in
        [(request.prev_kv, "prev_kv"), (request.progress_notify, "progress"), (request.fragment, "fragment")]
    {
        if set {
            text.push_str(&format!(" {word}"));
        }
    }
    if !request.filters.is_empty() {
        text.push_str(&format!(" filters {:?}", request.filters));
    }
    if let Some(before) = resumes {
        text.push_str(&format!(" resumes {before}"));
    }
    text
}

pub(crate) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done(answer) => response(answer),
        Outcome::Refused(why) => format!("refused: {why}"),
        Outcome::Unknown(why) => format!("unknown: {why}"),
    }
}

pub(crate) fn request(request: &Request) -> String {
    match request {
        Request::Range(asked) => range_request(asked),
        Request::Put(asked) => put_request(asked),
        Request::DeleteRange(asked) => delete_request(asked),
        Request::Txn(asked) => txn_request(asked),
        Request::Compact(asked) => {
            format!("compact {}{}", asked.revision, if asked.physical { " physical" } else { "" })
        }
        Request::LeaseGrant(asked) => format!("lease grant {:x} ttl {}", asked.id, asked.ttl),
        Request::LeaseRevoke(asked) => format!("lease revoke {:x}", asked.id),
        Request::LeaseKeepAlive(asked) => format!("lease keep-alive {:x}", asked.id),
        Request::LeaseTimeToLive(asked) => {
            format!("lease time-to-live {:x}{}", asked.id, if asked.keys { " keys" } else { "" })
        }
    }
}

fn range_request(asked: &pb::RangeRequest) -> String {
    let mut text = format!("range {}", range(&asked.key, &asked.range_end));
    for (set, word) in
        [(asked.serializable, "serializable"), (asked.keys_only, "keys_only"), (asked.count_only, "count_only")]
    {
        if set {
            text.push_str(&format!(" {word}"));
        }
    }
    for (number, word) in [
        (asked.revision, "revision"),
        (asked.limit, "limit"),
        (asked.min_mod_revision, "min_mod"),
        (asked.max_mod_revision, "max_mod"),
        (asked.min_create_revision, "min_create"),
        (asked.max_create_revision, "max_create"),
        (i64::from(asked.sort_order), "order"),
        (i64::from(asked.sort_target), "target"),
    ] {
        if number != 0 {
            text.push_str(&format!(" {word} {number}"));
        }
    }
    text
}

fn put_request(asked: &pb::PutRequest) -> String {
    let mut text = format!("put {}", Text(&asked.key));
    if asked.ignore_value {
        text.push_str(" ignore_value");
    } else {
        text.push_str(&format!("={}", Text(&asked.value)));
    }
    if asked.ignore_lease {
        text.push_str(" ignore_lease");
    } else if asked.lease != 0 {
        text.push_str(&format!(" lease {:x}", asked.lease));
    }
    if asked.prev_kv {
        text.push_str(" prev_kv");
    }
    text
}

fn delete_request(asked: &pb::DeleteRangeRequest) -> String {
    format!("delete {}{}", range(&asked.key, &asked.range_end), if asked.prev_kv { " prev_kv" } else { "" })
}

fn txn_request(asked: &pb::TxnRequest) -> String {
    let op = |op: &pb::RequestOp| match &op.request {
        Some(Op::RequestRange(asked)) => range_request(asked),
        Some(Op::RequestPut(asked)) => put_request(asked),
        Some(Op::RequestDeleteRange(asked)) => delete_request(asked),
        Some(Op::RequestTxn(asked)) => txn_request(asked),
        None => "nothing".to_owned(),
    };
    format!(
        "txn if {} then {} else {}",
        list(&asked.compare, compare),
        list(&asked.success, op),
        list(&asked.failure, op)
    )
}

fn compare(asked: &pb::Compare) -> String {
    let target = match asked.target() {
        CompareTarget::Version => "version",
        CompareTarget::Create => "create",
        CompareTarget::Mod => "mod",
        CompareTarget::Value => "value",
        CompareTarget::Lease => "lease",
    };
    let result = match asked.result() {
        CompareResult::Equal => "=",
        CompareResult::Greater => ">",
        CompareResult::Less => "<",
        CompareResult::NotEqual => "!=",
    };
    let with = match &asked.target_union {
        Some(TargetUnion::Version(n) | TargetUnion::CreateRevision(n) | TargetUnion::ModRevision(n)) => n.to_string(),
        Some(TargetUnion::Lease(lease)) => format!("{lease:x}"),
        Some(TargetUnion::Value(value)) => Text(value).to_string(),
        None => "-".to_owned(),
    };
    format!("{target}({}){result}{with}", range(&asked.key, &asked.range_end))
}

pub(crate) fn response(response: &Response) -> String {
    match response {
        Response::Range(answer) => format!("{} {}", rev(&answer.header), range_answer(answer)),
        Response::Put(answer) => format!("{}{}", rev(&answer.header), previous(&answer.prev_kv)),
        Response::DeleteRange(answer) => format!("{} {}", rev(&answer.header), delete_answer(answer)),
        Response::Txn(answer) => format!("{} {}", rev(&answer.header), txn_answer(answer)),
        Response::Compact(answer) => rev(&answer.header),
        Response::LeaseGrant(answer) => {
            format!("{} lease {:x} ttl {} {}", rev(&answer.header), answer.id, answer.ttl, answer.error)
        }
        Response::LeaseRevoke(answer) => rev(&answer.header),
        Response::LeaseKeepAlive(answer) => format!("{} ttl {}", rev(&answer.header), answer.ttl),
        Response::LeaseTimeToLive(answer) => {
            let keys = list(&answer.keys, |key| Text(key).to_string());
            format!("{} ttl {} of {} keys {keys}", rev(&answer.header), answer.ttl, answer.granted_ttl)
        }
    }
}

fn rev(header: &Option<pb::ResponseHeader>) -> String {
    header.as_ref().map_or("no header".to_owned(), |header| format!("rev {}", header.revision))
}

fn previous(prev: &Option<KeyValue>) -> String {
    prev.as_ref().map_or(String::new(), |prev| format!(" prev {}", kv(prev)))
}

fn range_answer(answer: &pb::RangeResponse) -> String {
    let more = if answer.more { " more" } else { "" };
    format!("count {}{more} {}", answer.count, list(&answer.kvs, kv))
}

fn delete_answer(answer: &pb::DeleteRangeResponse) -> String {
    let prev = if answer.prev_kvs.is_empty() { String::new() } else { format!(" prev {}", list(&answer.prev_kvs, kv)) };
    format!("deleted {}{prev}", answer.deleted)
}

fn txn_answer(answer: &pb::TxnResponse) -> String {
    let op = |op: &pb::ResponseOp| match &op.response {
        Some(Answer::ResponseRange(answer)) => format!("{} {}", rev(&answer.header), range_answer(answer)),
        Some(Answer::ResponsePut(answer)) => format!("{}{}", rev(&answer.header), previous(&answer.prev_kv)),
        Some(Answer::ResponseDeleteRange(answer)) => format!("{} {}", rev(&answer.header), delete_answer(answer)),
        Some(Answer::ResponseTxn(answer)) => format!("{} {}", rev(&answer.header), txn_answer(answer)),
        None => "nothing".to_owned(),
    };
    format!("{} {}", if answer.succeeded { "then" } else { "else" }, list(&answer.responses, op))
}

/// `key=value (create c mod m version v lease l)`.
pub(crate) fn kv(kv: &KeyValue) -> String {
    let mut text = format!(
        "{}={} (create {} mod {} version {}",
        Text(&kv.key),
        Text(&kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version
    );
    if kv.lease != 0 {
        text.push_str(&format!(" lease {:x}", kv.lease));
    }
    text.push(')');
    text
}

/// A change, with the value before it if it carries one.
pub(crate) fn event(event: &Event) -> String {
    let Some(now) = &event.kv else { return "event without kv".to_owned() };
    let what = if event.r#type() == EventType::Delete {
        format!("DELETE {} (mod {})", Text(&now.key), now.mod_revision)
    } else {
        format!("PUT {}", kv(now))
    };
    what + &previous(&event.prev_kv)
}

/// Changes, cut to a length that can be read.
pub(crate) fn events(events: &[Event]) -> String {
    list(events, event)
}
