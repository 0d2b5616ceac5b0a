//! What watchers were told, against the order of all writes.
//!
//! For every watcher, from its first revision on: every change that matches its range and filters, once, in the order of
//! revisions and within one revision in that of the changes, whole revisions in one response (or its fragments), with
//! `create_revision`, `mod_revision`, `version`, value, lease and `prev_kv` right. A header is not behind the changes it
//! comes with. Progress at r means that everything through r was told, and nothing at or below r comes later. A start
//! that is compacted ends the watcher with the watermark; nothing else does but a cancellation without one.
//!
//! Where a watcher begins: at its start revision; without one, right after the revision of the answer to its creation,
//! or earlier, if what it is told begins earlier (the server may have registered it before it made that answer).

use cetera_proto::mvccpb::{Event, event::EventType};

use crate::Report;
use crate::history::{History, News, Outcome, Request, Response, Watcher};
use crate::replay::{Order, watches};
use crate::text;

/// The checker's name in violations.
const NAME: &str = "watch";

/// Judges all watchers.
pub(crate) fn check(history: &History, order: &Order, report: &mut Report) {
    let compactions = Compactions::new(history);
    for (index, watcher) in history.watchers.iter().enumerate() {
        let mut run = Run { order, compactions: &compactions, watcher, created: None, next: None, ended: None };
        if let Err(problem) = run.watcher() {
            report.add(NAME, format!("{problem}\n  {}", text::watcher(history, index)));
        }
    }
}

/// Compactions that took place or may have.
struct Compactions {
    /// (began, ended or the end of time if its outcome is unknown, watermark, header revision).
    all: Vec<(u64, u64, i64, i64)>,
}

impl Compactions {
    fn new(history: &History) -> Self {
        let all = history.calls.iter().filter_map(|call| match (&call.request, &call.outcome) {
            (Request::Compact(request), Outcome::Done(Response::Compact(_))) => {
                let Outcome::Done(response) = &call.outcome else { return None };
                Some((call.start_us, call.end_us, request.revision, response.revision()))
            }
            (Request::Compact(request), Outcome::Unknown(_)) => {
                Some((call.start_us, u64::MAX, request.revision, i64::MAX))
            }
            _ => None,
        });
        Self { all: all.collect() }
    }

    /// Whether history below `revision` may be gone at `time`.
    fn may_have_compacted(&self, revision: i64, time: u64) -> bool {
        self.all.iter().any(|(began, _, watermark, _)| *began <= time && *watermark > revision)
    }

    /// Whether the watermark may have been `watermark` at `time`.
    fn may_be(&self, watermark: i64, time: u64) -> bool {
        self.all.iter().any(|(began, _, at, _)| *began <= time && *at == watermark)
    }

    /// The highest watermark that a member which is past `revision` must know of.
    fn surely(&self, revision: i64) -> i64 {
        let known = self.all.iter().filter(|(_, ended, _, header)| *ended != u64::MAX && *header < revision);
        known.map(|(_, _, watermark, _)| *watermark).max().unwrap_or(0)
    }
}

struct Run<'a> {
    order: &'a Order,
    compactions: &'a Compactions,
    watcher: &'a Watcher,
    /// Revision in the answer to its creation.
    created: Option<i64>,
    /// The first revision of which it was not told all; `None` until that is known.
    next: Option<i64>,
    /// When it was cancelled.
    ended: Option<u64>,
}

impl Run<'_> {
    fn watcher(&mut self) -> Result<(), String> {
        let start = self.watcher.request.start_revision;
        if start > 0 {
            self.next = Some(start);
        }
        // A response may come in several fragments.
        let mut part: Vec<Event> = Vec::new();
        for told in &self.watcher.told {
            let at = text::time(told.at_us);
            if let Some(ended) = self.ended {
                return Err(format!("told something at {at}, after it was cancelled at {}", text::time(ended)));
            }
            if self.created.is_none() && !matches!(told.news, News::Created | News::Canceled { .. }) {
                return Err(format!("told something at {at} before it was created"));
            }
            if !part.is_empty() && !matches!(told.news, News::Events { .. }) {
                return Err(format!("a response in fragments is broken off at {at}"));
            }
            match &told.news {
                News::Created if self.created.is_some() => return Err(format!("created again at {at}")),
                News::Created => self.created = Some(told.revision),
                News::Events { events, fragment } => {
                    part.extend(events.iter().cloned());
                    if *fragment {
                        continue;
                    }
                    let events = std::mem::take(&mut part);
                    self.events(&events, told.revision, told.at_us).map_err(|problem| format!("at {at}: {problem}"))?;
                }
                News::Progress => {
                    self.progress(told.revision).map_err(|problem| format!("at {at}: {problem}"))?;
                }
                News::Canceled { compact_revision, reason } => {
                    self.ended = Some(told.at_us);
                    self.canceled(*compact_revision, told.at_us)
                        .map_err(|problem| format!("at {at}: {problem} (reason: {reason:?})"))?;
                }
            }
        }
        if let (Some(through), None) = (self.watcher.owed_through, self.ended) {
            self.complete(through.min(self.order.last))?;
        }
        Ok(())
    }

    /// All that it must be told of a revision.
    fn expected(&self, revision: i64) -> impl Iterator<Item = &Event> {
        let request = &self.watcher.request;
        self.order.store.changes(revision).iter().filter(move |change| {
            // NOPUT is 0 and NODELETE 1, as the kinds of events are.
            change.kv.as_ref().is_some_and(|kv| watches(request, &kv.key)) && !request.filters.contains(&change.r#type)
        })
    }

    /// The first revision of which it has not been told all, if that is known; before the first changes of a watcher
    /// without a start revision, the one after its creation.
    fn owed_from(&self) -> i64 {
        self.next.unwrap_or_else(|| self.created.unwrap_or(0) + 1)
    }

    fn events(&mut self, events: &[Event], header: i64, at_us: u64) -> Result<(), String> {
        let revision_of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let (Some(first), Some(last)) = (events.first().map(revision_of), events.last().map(revision_of)) else {
            return Err("changes without a change".to_owned());
        };
        if !events.is_sorted_by_key(revision_of) {
            return Err(format!("changes out of order: {}", text::events(events)));
        }
        if header < last {
            return Err(format!("header.revision {header} is behind the changes: {}", text::events(events)));
        }
        if let Some(next) = self.next
            && first < next
        {
            let why = if next == self.watcher.request.start_revision { "the start revision" } else { "what was told" };
            return Err(format!("told of revision {first}, which is before {why} ({next}): {}", text::events(events)));
        }
        if last > self.order.last {
            return Err(format!("told of revision {last}, which does not exist: {}", text::events(events)));
        }
        let compacted = self.compactions.surely(self.created.unwrap_or(0));
        if self.watcher.request.start_revision > 0 && self.watcher.request.start_revision < compacted {
            return Err(format!(
                "told of changes although the start is below the compaction at {compacted}: {}",
                text::events(events)
            ));
        }
        let from = self.next.unwrap_or_else(|| self.owed_from().min(first));
        let mut got = events.iter();
        for revision in from..=last {
            for expected in self.expected(revision) {
                let Some(event) = got.next() else {
                    return Err(format!("revision {revision} is not whole: without {}", text::event(expected)));
                };
                self.same(expected, event, at_us)?;
            }
        }
        if let Some(event) = got.next() {
            return Err(format!("told of a change that does not exist, or again: {}", text::event(event)));
        }
        self.next = Some(last + 1);
        Ok(())
    }

    fn same(&self, expected: &Event, got: &Event, at_us: u64) -> Result<(), String> {
        if expected.r#type != got.r#type || expected.kv != got.kv {
            return Err(format!("told {}, should have been told {}", text::event(got), text::event(expected)));
        }
        let wanted = self.watcher.request.prev_kv;
        match (&expected.prev_kv, &got.prev_kv) {
            (_, None) if !wanted => Ok(()),
            (None, None) => Ok(()),
            (Some(before), Some(told)) if wanted && before == told => Ok(()),
            // It is looked up when it is sent (W-9), and may be gone by then.
            (Some(_), None) => {
                let revision = expected.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                if self.compactions.may_have_compacted(revision - 1, at_us) {
                    Ok(())
                } else {
                    Err(format!("prev_kv is missing: {}, should have been {}", text::event(got), text::event(expected)))
                }
            }
            _ => Err(format!("prev_kv is wrong: {}, should have been {}", text::event(got), text::event(expected))),
        }
    }

    fn progress(&mut self, revision: i64) -> Result<(), String> {
        if revision > self.order.last {
            return Err(format!("progress at revision {revision}, which does not exist"));
        }
        self.told_through(revision).map_err(|problem| format!("progress at revision {revision}, but {problem}"))?;
        self.next = Some(self.owed_from().max(revision + 1));
        Ok(())
    }

    /// Whether all that it is owed through a revision was told.
    fn told_through(&self, revision: i64) -> Result<(), String> {
        for missing in self.owed_from()..=revision {
            let events: Vec<Event> = self.expected(missing).cloned().collect();
            if !events.is_empty() {
                return Err(format!("it was not told of revision {missing}: {}", text::events(&events)));
            }
        }
        Ok(())
    }

    fn canceled(&self, compact_revision: i64, at_us: u64) -> Result<(), String> {
        if compact_revision == 0 {
            return Ok(());
        }
        if !self.compactions.may_be(compact_revision, at_us) {
            return Err(format!("cancelled for a compaction at {compact_revision} that nobody asked for"));
        }
        if self.owed_from() >= compact_revision {
            return Err(format!(
                "cancelled for the compaction at {compact_revision}, but it needs nothing before {}",
                self.owed_from()
            ));
        }
        Ok(())
    }

    /// It was open to the end and the end was calm.
    fn complete(&self, through: i64) -> Result<(), String> {
        if self.created.is_none() {
            return Err("open to the end and never created".to_owned());
        }
        let compacted = self.compactions.surely(self.created.unwrap_or(0));
        if self.watcher.request.start_revision > 0 && self.watcher.request.start_revision < compacted {
            return Err(format!("never cancelled, although its start is below the compaction at {compacted}"));
        }
        self.told_through(through)
            .map_err(|problem| format!("the run ended calmly at revision {through}, but {problem}"))
    }
}

const _: () = assert!(EventType::Put as i32 == 0 && EventType::Delete as i32 == 1);
