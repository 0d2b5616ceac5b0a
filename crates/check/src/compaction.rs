//! Compactions, and reads of the past, against each other.
//!
//! The watermark only rises, so no search is needed. By any moment a least watermark is known: that of every compaction
//! answered or found done before, and one above every revision that was refused as compacted. A linearizable read at a
//! lower revision that begins later must be refused; a compaction at it or below too. And a refusal needs a compaction
//! that reaches above what it refuses and that began before the refusal was answered.

use cetera_proto::etcdserverpb as pb;
use cetera_proto::etcdserverpb::request_op::Request as Op;

use crate::Report;
use crate::history::{Call, History, News, Outcome, Request, Response};
use crate::model::Refusal;
use crate::replay::is_serializable;
use crate::text;

/// The checker's name in violations.
const NAME: &str = "compaction";

/// Judges compactions and reads of the past.
pub(crate) fn check(history: &History, report: &mut Report) {
    let known = known(history);
    for (at, call) in history.calls.iter().enumerate() {
        match (&call.request, &call.outcome) {
            (Request::Compact(request), Outcome::Done(response)) => {
                let before = watermark(&known, call.start_us);
                if request.revision <= before.0 {
                    report.add(NAME, contradiction(history, "compacted what was compacted", at, before));
                }
                if request.revision > response.revision() {
                    report.add(NAME, format!("compacted in the future\n  {}", text::call(history, at)));
                }
            }
            (request, Outcome::Done(response)) => {
                let Some(oldest) = oldest_read(request, response) else { continue };
                let before = watermark(&known, call.start_us);
                if oldest < before.0 && !is_serializable(request) {
                    report.add(NAME, contradiction(history, "read what was compacted", at, before));
                }
                // A member that has gone past a compaction knows of it, whatever the kind of read.
                let revision = response.revision();
                let passed = known.iter().find(|known| known.watermark > oldest && known.passed_at < revision);
                if let Some(known) = passed {
                    let before = (known.watermark, Some(known.who));
                    report.add(NAME, contradiction(history, "read what its member had compacted", at, before));
                }
            }
            (request, Outcome::Refused(why)) if Refusal::parse(why) == Some(Refusal::Compacted) => {
                let needed = match request {
                    Request::Compact(request) => Some(request.revision),
                    request => oldest_asked(request).map(|oldest| oldest + 1),
                };
                if !needed.is_some_and(|watermark| may_reach(history, watermark, call.end_us, at)) {
                    report.add(NAME, format!("no compaction calls for this refusal\n  {}", text::call(history, at)));
                }
            }
            _ => {}
        }
    }
}

#[derive(Copy, Clone)]
enum Who {
    Call(usize),
    Watcher(usize),
}

/// From a moment on the watermark is at least this.
struct Known {
    since: u64,
    watermark: i64,
    /// A member at a later revision than this has done it.
    passed_at: i64,
    who: Who,
}

fn known(history: &History) -> Vec<Known> {
    let mut all = Vec::new();
    for (at, call) in history.calls.iter().enumerate() {
        let Call { end_us, request, outcome, .. } = call;
        let mut add =
            |watermark, passed_at| all.push(Known { since: *end_us, watermark, passed_at, who: Who::Call(at) });
        match (request, outcome) {
            (Request::Compact(request), Outcome::Done(response)) => add(request.revision, response.revision()),
            (request, Outcome::Refused(why)) if Refusal::parse(why) == Some(Refusal::Compacted) => match request {
                Request::Compact(request) => add(request.revision, i64::MAX),
                // With one read of the past only is it clear which one was refused.
                Request::Range(range) => add(range.revision + 1, i64::MAX),
                _ => {}
            },
            _ => {}
        }
    }
    for (at, watcher) in history.watchers.iter().enumerate() {
        for told in &watcher.told {
            if let News::Canceled { compact_revision, .. } = told.news
                && compact_revision > 0
            {
                let who = Who::Watcher(at);
                all.push(Known { since: told.at_us, watermark: compact_revision, passed_at: i64::MAX, who });
            }
        }
    }
    all
}

/// The least watermark at a time, and who was told.
fn watermark(known: &[Known], time: u64) -> (i64, Option<Who>) {
    let before = known.iter().filter(|known| known.since < time);
    before.max_by_key(|known| known.watermark).map_or((i64::MIN, None), |known| (known.watermark, Some(known.who)))
}

fn contradiction(history: &History, what: &str, at: usize, (watermark, who): (i64, Option<Who>)) -> String {
    let who = match who {
        Some(Who::Call(call)) => text::call(history, call),
        Some(Who::Watcher(watcher)) => text::watcher(history, watcher),
        None => String::new(),
    };
    format!("{what}, the watermark being {watermark} or above\n  {}\n  {who}", text::call(history, at))
}

/// Whether a compaction may have brought the watermark to `watermark` or above by a time.
fn may_reach(history: &History, watermark: i64, by: u64, except: usize) -> bool {
    history.calls.iter().enumerate().any(|(at, call)| {
        let reaches = matches!(&call.request, Request::Compact(request) if request.revision >= watermark);
        reaches && call.start_us <= by && at != except && !matches!(call.outcome, Outcome::Refused(_))
    })
}

/// The oldest revision of the past that an answered request read.
fn oldest_read(request: &Request, response: &Response) -> Option<i64> {
    fn txn(request: &pb::TxnRequest, answer: &pb::TxnResponse) -> Option<i64> {
        let branch = if answer.succeeded { &request.success } else { &request.failure };
        let oldest =
            branch.iter().zip(&answer.responses).filter_map(|(op, response)| match (&op.request, &response.response) {
                (Some(Op::RequestRange(range)), _) => past(range),
                (Some(Op::RequestTxn(inner)), Some(pb::response_op::Response::ResponseTxn(answer))) => {
                    txn(inner, answer)
                }
                _ => None,
            });
        oldest.min()
    }
    match (request, response) {
        (Request::Range(range), _) => past(range),
        (Request::Txn(request), Response::Txn(answer)) => txn(request, answer),
        _ => None,
    }
}

/// The oldest revision of the past that a request may read, in any branch.
fn oldest_asked(request: &Request) -> Option<i64> {
    fn txn(request: &pb::TxnRequest) -> Option<i64> {
        let ops = request.success.iter().chain(&request.failure);
        let oldest = ops.filter_map(|op| match &op.request {
            Some(Op::RequestRange(range)) => past(range),
            Some(Op::RequestTxn(inner)) => txn(inner),
            _ => None,
        });
        oldest.min()
    }
    match request {
        Request::Range(range) => past(range),
        Request::Txn(request) => txn(request),
        _ => None,
    }
}

fn past(range: &pb::RangeRequest) -> Option<i64> {
    Some(range.revision).filter(|revision| *revision > 0)
}
