//! The order of all writes, rebuilt from revisions, and every answer of the KV service compared with it.
//!
//! Every answer carries the revision at which it happened, so the order needs no search where writers were answered. A
//! revision whose writer was not answered is given to a call of unknown outcome, or to the end of a lease, that would
//! have made exactly the changes that watchers and reads tell of it. Which of several such calls it was is left open by
//! a matching (each call at most once, none after its revision was seen); only where they would have made *different*
//! changes and nobody saw which, one is tried after the other.
//!
//! What is claimed for the order: every revision has one writer; every answer is, in full, what the model answers at the
//! answer's revision; a writer did not begin after its revision was seen; a linearizable answer is not older than what
//! anyone was told before the call began. Together this is linearizability of what changes and reads keys; serializable
//! reads are those of some prefix of the order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;
use cetera_proto::etcdserverpb::request_op::Request as Op;
use cetera_proto::etcdserverpb::response_op::Response as Answer;
use cetera_proto::mvccpb::{Event, KeyValue};

use crate::answer;
use crate::history::{Call, History, News, Outcome, Request, Response};
use crate::model::{self, PERMISSIVE, Refusal, Store, in_range, validate};
use crate::text;
use crate::time::Times;
use crate::{Report, Violation};

/// The checker's name in violations.
const NAME: &str = "linearizable";
/// Revisions tried over again, in a search for writers nobody saw, before the matter is left undecided.
const MOST_TRIED: usize = 20_000;

/// Who made a revision.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Maker {
    /// A call.
    Call(usize),
    /// The end of a lease that nobody asked for.
    Expiry(i64),
    /// It has to be there, and nothing explains it.
    Nobody,
}

/// The order of all writes.
pub(crate) struct Order {
    /// All keys at all revisions.
    pub(crate) store: Store,
    /// Who made revision `first + 1 + i`.
    pub(crate) makers: Vec<Maker>,
    /// When revisions were known to exist.
    pub(crate) times: Times,
    /// Revision before the first call.
    pub(crate) first: i64,
    /// The last revision anyone knows of.
    pub(crate) last: i64,
    /// For revisions whose maker was not answered: all that could have been it.
    pub(crate) options: BTreeMap<i64, Vec<Maker>>,
    /// `earliest[i]`: revision `first + 1 + i` cannot have been made before.
    earliest: Vec<u64>,
    /// Whether the order is the only possible one, up to calls that would have made the same changes.
    pub(crate) certain: bool,
}

impl Order {
    /// Who made a revision.
    pub(crate) fn maker(&self, revision: i64) -> Maker {
        usize::try_from(revision - self.first - 1)
            .ok()
            .and_then(|index| self.makers.get(index).copied())
            .unwrap_or(Maker::Nobody)
    }

    /// The earliest time at which a revision can have been made: not before the call began that made it, or one of
    /// those before it.
    pub(crate) fn began(&self, revision: i64) -> u64 {
        let index = usize::try_from(revision - self.first - 1).ok();
        index.and_then(|index| self.earliest.get(index).copied()).unwrap_or(0)
    }

    /// Whether there may be revisions after the last that anyone was told of in which keys went: by a call of unknown
    /// outcome, or by the end of a lease.
    fn may_lose_keys(&self, history: &History) -> bool {
        let unknown = history.calls.iter().enumerate().any(|(at, call)| {
            matches!(call.outcome, Outcome::Unknown(_))
                && !matches!(call.request, Request::Put(_))
                && may_write(&call.request)
                && !self.makers.contains(&Maker::Call(at))
        });
        unknown || !self.store.attached_leases(self.last).is_empty()
    }

    /// The highest revision that can have been made by a time.
    pub(crate) fn ceiling(&self, time: u64) -> i64 {
        self.first + self.earliest.partition_point(|earliest| *earliest <= time) as i64
    }
}

/// Whether an answered call made a revision. A revocation may have made one or not: that depends on the keys.
pub(crate) fn wrote(response: &Response) -> bool {
    fn txn(answer: &pb::TxnResponse) -> bool {
        answer.responses.iter().any(|op| match &op.response {
            Some(Answer::ResponsePut(_)) => true,
            Some(Answer::ResponseDeleteRange(answer)) => answer.deleted > 0,
            Some(Answer::ResponseTxn(answer)) => txn(answer),
            _ => false,
        })
    }
    match response {
        Response::Put(_) => true,
        Response::DeleteRange(answer) => answer.deleted > 0,
        Response::Txn(answer) => txn(answer),
        _ => false,
    }
}

/// Whether a call may be answered from the past.
pub(crate) fn is_serializable(request: &Request) -> bool {
    match request {
        Request::Range(range) => range.serializable,
        Request::Txn(txn) => model::is_serializable(txn),
        _ => false,
    }
}

fn may_write(request: &Request) -> bool {
    match request {
        Request::Put(_) | Request::DeleteRange(_) | Request::LeaseRevoke(_) => true,
        Request::Txn(txn) => !model::is_read_only(txn),
        _ => false,
    }
}

/// Whether a request has a put that keeps something of what is there.
fn keeps(request: &Request, what: fn(&pb::PutRequest) -> bool) -> bool {
    fn txn(request: &pb::TxnRequest, what: fn(&pb::PutRequest) -> bool) -> bool {
        request.success.iter().chain(&request.failure).any(|op| match &op.request {
            Some(Op::RequestPut(put)) => what(put),
            Some(Op::RequestTxn(inner)) => txn(inner, what),
            _ => false,
        })
    }
    match request {
        Request::Put(put) => what(put),
        Request::Txn(request) => txn(request, what),
        _ => false,
    }
}

/// What is told of a revision besides the answer of its writer.
#[derive(Default)]
struct Evidence {
    /// Key values with this mod revision in answers.
    read: BTreeMap<Bytes, KeyValue>,
    /// All that a watcher was told of it, by watcher.
    watched: Vec<(usize, Vec<Event>)>,
}

/// The history, sorted by what the replay needs.
struct Index<'a> {
    history: &'a History,
    /// Answered calls that made a revision, by it.
    writers: BTreeMap<i64, Vec<usize>>,
    /// Answered calls of the KV service that changed nothing, by revision.
    readers: BTreeMap<i64, Vec<usize>>,
    /// Answered revocations, by revision.
    revokes: BTreeMap<i64, Vec<usize>>,
    /// Calls of unknown outcome that may have written.
    unknown: Vec<usize>,
    /// Those of them that write a value.
    unknown_by_value: BTreeMap<Bytes, Vec<usize>>,
    /// Those of them that may write a value that is there already.
    unknown_keeping: Vec<usize>,
    evidence: BTreeMap<i64, Evidence>,
    times: Times,
    last: i64,
}

impl<'a> Index<'a> {
    fn new(history: &'a History, report: &mut Report) -> Self {
        let mut told = observations(history);
        let leases = history.calls.iter().filter(|call| matches!(call.request, Request::LeaseGrant(_)));
        // Refused ones too: if one took place all the same, it can be named.
        let writes = history.calls.iter().filter(|call| may_write(&call.request));
        let most = history.first_revision + (leases.count() + writes.count()) as i64;
        if let Some((time, revision, who)) = told.iter().find(|(_, revision, _)| *revision > most) {
            report.add(
                NAME,
                format!(
                    "revision {revision} was told at {} to {}, but there are writers for revisions up to {most} only",
                    text::time(*time),
                    who.text(history)
                ),
            );
        }
        told.retain(|(_, revision, _)| *revision <= most);
        let last = told.iter().map(|(_, revision, _)| *revision).max().unwrap_or(0).max(history.first_revision);
        let times = Times::new(
            history.first_revision,
            last,
            told.iter().map(|(time, revision, _)| (*time, *revision)).collect(),
        );
        let mut index = Self {
            history,
            writers: BTreeMap::new(),
            readers: BTreeMap::new(),
            revokes: BTreeMap::new(),
            unknown: Vec::new(),
            unknown_by_value: BTreeMap::new(),
            unknown_keeping: Vec::new(),
            evidence: BTreeMap::new(),
            times,
            last,
        };
        for (at, call) in history.calls.iter().enumerate() {
            index.call(at, call, report);
        }
        for (at, watcher) in history.watchers.iter().enumerate() {
            let events = watcher.told.iter().filter_map(|told| match &told.news {
                News::Events { events, .. } => Some(events),
                _ => None,
            });
            for event in events.flatten() {
                let Some(kv) = &event.kv else { continue };
                let watched = &mut index.evidence.entry(kv.mod_revision).or_default().watched;
                match watched.last_mut() {
                    Some((watcher, events)) if *watcher == at => events.push(event.clone()),
                    _ => watched.push((at, vec![event.clone()])),
                }
            }
        }
        index
    }

    fn call(&mut self, at: usize, call: &Call, report: &mut Report) {
        match &call.outcome {
            Outcome::Unknown(_) => {
                if may_write(&call.request) && validate(&call.request).is_ok() {
                    self.unknown.push(at);
                    if keeps(&call.request, |put| put.ignore_value) {
                        self.unknown_keeping.push(at);
                    }
                    for value in call.request.values() {
                        self.unknown_by_value.entry(value).or_default().push(at);
                    }
                }
            }
            Outcome::Refused(_) => {}
            Outcome::Done(response) => {
                let revision = response.revision();
                let by_revision = match response {
                    Response::Put(_) | Response::DeleteRange(_) | Response::Txn(_) | Response::Range(_) => {
                        if wrote(response) { &mut self.writers } else { &mut self.readers }
                    }
                    Response::LeaseRevoke(_) => &mut self.revokes,
                    _ => return,
                };
                by_revision.entry(revision).or_default().push(at);
                if revision < self.history.first_revision + i64::from(wrote(response)) {
                    report.add(
                        NAME,
                        format!(
                            "an answer of revision {revision}, with {} before the first call: {}",
                            self.history.first_revision,
                            text::call(self.history, at)
                        ),
                    );
                }
                read_evidence(&call.request, response, &mut |kv| {
                    self.evidence.entry(kv.mod_revision).or_default().read.entry(kv.key.clone()).or_insert(kv.clone());
                });
            }
        }
    }
}

/// Who was told something.
#[derive(Copy, Clone)]
enum Who {
    Call(usize),
    Watcher(usize),
}

impl Who {
    fn text(self, history: &History) -> String {
        match self {
            Self::Call(index) => text::call(history, index),
            Self::Watcher(index) => text::watcher(history, index),
        }
    }
}

/// Every (time, revision) that anyone was told.
fn observations(history: &History) -> Vec<(u64, i64, Who)> {
    let mut told = Vec::new();
    for (at, call) in history.calls.iter().enumerate() {
        if let Outcome::Done(response) = &call.outcome {
            told.push((call.end_us, response.revision(), Who::Call(at)));
        }
    }
    for (at, watcher) in history.watchers.iter().enumerate() {
        for one in &watcher.told {
            told.push((one.at_us, one.revision, Who::Watcher(at)));
            if let News::Events { events, .. } = &one.news
                && let Some(kv) = events.last().and_then(|event| event.kv.as_ref())
            {
                told.push((one.at_us, kv.mod_revision, Who::Watcher(at)));
            }
        }
    }
    told
}

/// Whole key values in an answer.
fn read_evidence(request: &Request, response: &Response, see: &mut dyn FnMut(&KeyValue)) {
    match (request, response) {
        (Request::Range(request), Response::Range(answer)) if !request.keys_only => answer.kvs.iter().for_each(see),
        (_, Response::Put(answer)) => answer.prev_kv.iter().for_each(see),
        (_, Response::DeleteRange(answer)) => answer.prev_kvs.iter().for_each(see),
        _ => {}
    }
}

/// Changes that would explain a revision, and who could have made them.
#[derive(Clone)]
struct Group {
    changes: Vec<Event>,
    makers: Vec<Maker>,
}

/// Which call of unknown outcome made which revision: each at most once.
#[derive(Clone, Default)]
struct Matching {
    options: BTreeMap<i64, Vec<Maker>>,
    by_call: BTreeMap<usize, i64>,
    made: BTreeMap<i64, Maker>,
}

impl Matching {
    fn add(&mut self, revision: i64, makers: Vec<Maker>) -> bool {
        self.options.insert(revision, makers);
        let found = self.find(revision, &mut BTreeSet::new());
        if !found {
            self.options.remove(&revision);
        }
        found
    }

    /// An augmenting path: takes a call from another revision if that one finds another.
    fn find(&mut self, revision: i64, tried: &mut BTreeSet<usize>) -> bool {
        for maker in self.options.get(&revision).cloned().unwrap_or_default() {
            if let Maker::Call(call) = maker {
                if !tried.insert(call) {
                    continue;
                }
                if let Some(other) = self.by_call.get(&call).copied()
                    && !self.find(other, tried)
                {
                    continue;
                }
                self.by_call.insert(call, revision);
            }
            self.made.insert(revision, maker);
            return true;
        }
        false
    }
}

/// A revision whose writer was chosen among several that differ.
struct Choice {
    revision: i64,
    rest: Vec<Group>,
    matching: Matching,
}

/// Rebuilds the order and judges all answers of the KV service.
pub(crate) fn replay(history: &History, report: &mut Report) -> Order {
    let index = Index::new(history, report);
    let first = history.first_revision;
    let mut run = Run { index, store: Store::new(first), matching: Matching::default(), answered: BTreeMap::new() };
    let mut choices: Vec<Choice> = Vec::new();
    let mut found: Vec<Violation> = Vec::new();
    let mut deepest: Option<(i64, Vec<Violation>)> = None;
    let mut tried = 0;
    run.readers(first, &mut found);
    let mut revision = first + 1;
    let mut next: Option<Vec<Group>> = None;
    while revision <= run.index.last {
        let mut groups = next.take().unwrap_or_else(|| run.groups(revision));
        let mut wrong = Vec::new();
        if groups.is_empty() {
            run.unexplained(revision, &mut wrong);
        } else {
            let group = groups.remove(0);
            if !groups.is_empty() {
                choices.push(Choice { revision, rest: groups, matching: run.matching.clone() });
            }
            run.apply(revision, group, &mut wrong);
        }
        run.readers(revision, &mut wrong);
        if !wrong.is_empty() && !choices.is_empty() && tried < MOST_TRIED {
            if deepest.as_ref().is_none_or(|(before, _)| *before < revision) {
                deepest = Some((revision, wrong));
            }
            let Some(choice) = choices.pop() else { continue };
            while run.store.revision() >= choice.revision {
                run.answered.remove(&run.store.revision());
                run.store.undo();
                tried += 1;
            }
            (revision, next, run.matching) = (choice.revision, Some(choice.rest), choice.matching);
            continue;
        }
        found.append(&mut wrong);
        revision += 1;
    }
    let certain = choices.is_empty();
    if tried >= MOST_TRIED {
        report.undecided += 1;
        found.clear();
    } else if let Some((_, wrong)) = deepest.filter(|_| !found.is_empty()) {
        // Every way was tried: what the furthest one ran into says most.
        found.splice(0..0, wrong);
    }
    for violation in found {
        report.violations.push(violation);
    }
    run.finish(certain, report)
}

struct Run<'a> {
    index: Index<'a>,
    store: Store,
    matching: Matching,
    /// Answered calls that made a revision.
    answered: BTreeMap<i64, Maker>,
}

impl Run<'_> {
    fn text(&self, call: usize) -> String {
        text::call(self.index.history, call)
    }

    /// Who could have made a revision, those who would have made the same changes together.
    fn groups(&mut self, revision: i64) -> Vec<Group> {
        if let Some(writers) = self.index.writers.get(&revision) {
            return vec![Group { changes: Vec::new(), makers: vec![Maker::Call(writers[0])] }];
        }
        let mut groups: Vec<Group> = Vec::new();
        // One that began after the revision was seen found no keys.
        let seen = self.index.times.seen(revision);
        let mut revokes = self.index.revokes.get(&revision).cloned().unwrap_or_default();
        revokes.retain(|call| self.index.history.calls[*call].start_us <= seen);
        let unknown = self.unknown_candidates(revision);
        let leases = self.store.attached_leases(revision - 1).into_iter().map(Maker::Expiry);
        let all = revokes.into_iter().chain(unknown).map(Maker::Call).chain(leases);
        for maker in all.collect::<Vec<_>>() {
            if !self.perform(maker) {
                continue;
            }
            let changes = self.store.changes(revision).to_vec();
            self.store.undo();
            if !self.explains(revision, &changes) {
                continue;
            }
            match groups.iter_mut().find(|group| group.changes == changes) {
                Some(group) => group.makers.push(maker),
                None => groups.push(Group { changes, makers: vec![maker] }),
            }
        }
        // An answered revocation of this revision did delete keys, if there were any.
        groups.sort_by_key(|group| !group.makers.iter().any(|maker| self.is_answered(*maker)));
        groups.retain(|group| self.matching.clone().add(revision, group.makers.clone()));
        groups
    }

    fn is_answered(&self, maker: Maker) -> bool {
        matches!(maker, Maker::Call(call) if matches!(self.index.history.calls[call].outcome, Outcome::Done(_)))
    }

    /// Calls of unknown outcome that began before the revision was seen; if a value was seen, those that write it.
    fn unknown_candidates(&self, revision: i64) -> Vec<usize> {
        let seen = self.index.times.seen(revision);
        let by_value = self.index.evidence.get(&revision).into_iter().flat_map(|evidence| {
            let watched = evidence.watched.iter().flat_map(|(_, events)| events).filter_map(|event| event.kv.as_ref());
            watched.chain(evidence.read.values())
        });
        // A deletion has no value.
        let by_value =
            by_value.filter(|kv| !kv.value.is_empty()).find_map(|kv| self.index.unknown_by_value.get(&kv.value));
        let mut all = by_value.unwrap_or(&self.index.unknown).clone();
        all.extend(by_value.into_iter().flat_map(|_| &self.index.unknown_keeping));
        all.sort_unstable();
        all.dedup();
        all.retain(|call| self.index.history.calls[*call].start_us <= seen);
        all
    }

    /// Does what a call or the end of a lease does; false if that makes no revision.
    fn perform(&mut self, maker: Maker) -> bool {
        let before = self.store.revision();
        match maker {
            Maker::Expiry(lease) => {
                self.store.revoke(lease);
            }
            Maker::Call(call) => match &self.index.history.calls[call].request {
                Request::LeaseRevoke(request) => {
                    self.store.revoke(request.id);
                }
                request => {
                    // Refused: it makes no revision.
                    let _ = self.store.execute(request, &PERMISSIVE);
                }
            },
            Maker::Nobody => {}
        }
        self.store.revision() > before
    }

    /// Whether changes agree with all that was told of a revision.
    fn explains(&self, revision: i64, changes: &[Event]) -> bool {
        let Some(evidence) = self.index.evidence.get(&revision) else { return true };
        let put = |kv: &KeyValue| changes.iter().any(|change| change.kv.as_ref() == Some(kv));
        evidence.read.values().all(put)
            && evidence.watched.iter().all(|(watcher, events)| {
                let request = &self.index.history.watchers[*watcher].request;
                let filtered = |change: &Event| request.filters.contains(&change.r#type);
                let expected = changes.iter().filter(|change| {
                    change.kv.as_ref().is_some_and(|kv| watches(request, &kv.key)) && !filtered(change)
                });
                expected
                    .map(|change| (change.r#type, &change.kv))
                    .eq(events.iter().map(|event| (event.r#type, &event.kv)))
            })
    }

    fn apply(&mut self, revision: i64, group: Group, wrong: &mut Vec<Violation>) {
        if let Some(writers) = self.index.writers.get(&revision).cloned() {
            self.answered.insert(revision, Maker::Call(writers[0]));
            if writers.len() > 1 {
                let calls: Vec<String> = writers.iter().map(|call| self.text(*call)).collect();
                wrong.push(violation(format!(
                    "{} writes at revision {revision}:\n  {}",
                    writers.len(),
                    calls.join("\n  ")
                )));
            }
            self.write(revision, writers[0], wrong);
            return;
        }
        let Some(maker) = group.makers.first().copied() else { return };
        self.perform(maker);
        self.matching.add(revision, group.makers);
    }

    /// An answered write takes place, and answers what the model answers.
    fn write(&mut self, revision: i64, call: usize, wrong: &mut Vec<Violation>) {
        let Call { request, outcome: Outcome::Done(got), .. } = &self.index.history.calls[call] else { return };
        let problem = match self.store.execute(request, &PERMISSIVE) {
            Err(refusal) => Some(format!("it should have been refused: {}", refusal.text())),
            Ok(expected) => answer::compare(&self.store, request, &expected, got)
                .err()
                .map(|what| format!("{what}; the model answers {}", text::response(&expected))),
        };
        if let Some(problem) = problem {
            wrong.push(violation(format!("at revision {revision}: {problem}\n  {}", self.text(call))));
        }
        if self.store.revision() < revision {
            self.adopt(revision);
        }
    }

    /// No call explains a revision: takes over what is told of it.
    fn unexplained(&mut self, revision: i64, wrong: &mut Vec<Violation>) {
        let evidence = self.index.evidence.get(&revision);
        let told = evidence.map_or("nothing".to_owned(), |evidence| {
            let watched = evidence.watched.iter().map(|(at, events)| {
                format!("\n  {} was told {}", text::watcher(self.index.history, *at), text::events(events))
            });
            let read = evidence.read.values().map(|kv| format!("\n  an answer tells {}", text::kv(kv)));
            watched.chain(read).collect()
        });
        let mut about = String::new();
        for value in evidence.into_iter().flat_map(|evidence| &evidence.watched).flat_map(|(_, events)| events) {
            let Some(kv) = value.kv.as_ref().filter(|kv| !kv.value.is_empty()) else { continue };
            for (at, call) in self.index.history.calls.iter().enumerate() {
                if call.request.values().contains(&kv.value) && !about.contains(&format!("call {at} ")) {
                    about.push_str(&format!("\n  the value is that of {}", self.text(at)));
                }
            }
        }
        let seen = match self.index.times.seen(revision) {
            u64::MAX => "never seen".to_owned(),
            time => format!("seen by {}", text::time(time)),
        };
        wrong.push(violation(format!("no call explains revision {revision}, {seen}; told of it: {told}{about}")));
        self.adopt(revision);
    }

    fn adopt(&mut self, revision: i64) {
        let evidence = self.index.evidence.get(&revision);
        let longest = evidence.and_then(|evidence| evidence.watched.iter().max_by_key(|(_, events)| events.len()));
        match longest {
            Some((_, events)) => self.store.adopt(events),
            None => self.store.adopt_nothing(),
        }
    }

    /// Answers that changed nothing, at a revision.
    fn readers(&mut self, revision: i64, wrong: &mut Vec<Violation>) {
        let history = self.index.history;
        for call in self.index.readers.get(&revision).cloned().unwrap_or_default() {
            let Call { request, outcome: Outcome::Done(got), .. } = &history.calls[call] else { continue };
            let expected = match request {
                Request::Range(range) => self.store.read(range, revision, &PERMISSIVE).map(Response::Range),
                Request::Txn(txn) if model::is_read_only(txn) => {
                    self.store.read_txn(txn, revision, &PERMISSIVE).map(Response::Txn)
                }
                // It should change nothing; if it does, it does so no longer than it takes to see.
                _ => {
                    let answer = self.store.execute(request, &PERMISSIVE);
                    if self.store.revision() > revision {
                        self.store.undo();
                    }
                    answer
                }
            };
            let problem = match expected {
                Err(refusal) => format!("it should have been refused: {}", refusal.text()),
                Ok(expected) => match answer::compare(&self.store, request, &expected, got) {
                    Ok(()) => continue,
                    Err(what) => format!("{what}; the model answers {}", text::response(&expected)),
                },
            };
            wrong.push(violation(format!("at revision {revision}: {problem}\n  {}", self.text(call))));
        }
    }

    /// What needs the whole order: real time, revocations, and refusals.
    fn finish(mut self, certain: bool, report: &mut Report) -> Order {
        let first = self.index.history.first_revision;
        let mut made = std::mem::take(&mut self.matching.made);
        made.append(&mut self.answered);
        let makers: Vec<Maker> =
            (first + 1..=self.index.last).map(|r| made.get(&r).copied().unwrap_or(Maker::Nobody)).collect();
        let Index { times, last, history, .. } = self.index;
        let options = self.matching.options;
        let begins = |maker: &Maker| match maker {
            Maker::Call(call) => history.calls[*call].start_us,
            Maker::Expiry(_) | Maker::Nobody => 0,
        };
        let mut earliest = 0;
        let earliest = (first + 1..=last).zip(&makers).map(|(revision, maker)| {
            // Where others could have made it too, the first of them counts.
            let others = options.get(&revision).into_iter().flatten().map(begins).min();
            earliest = begins(maker).min(others.unwrap_or(u64::MAX)).max(earliest);
            earliest
        });
        let earliest = earliest.collect();
        let order = Order { store: self.store, makers, times, first, last, options, earliest, certain };
        real_time(history, &order, report);
        refusals(history, &order, report);
        order
    }
}

fn names_a_lease(request: &Request) -> bool {
    match request {
        Request::Put(_) | Request::Txn(_) => !asked_leases(request).is_empty(),
        // Renewals and questions are answered 0 and -1 (L-5, L-9).
        Request::LeaseRevoke(_) => true,
        _ => false,
    }
}

/// The leases that a request may attach keys to.
pub(crate) fn asked_leases(request: &Request) -> Vec<i64> {
    fn txn(request: &pb::TxnRequest, leases: &mut Vec<i64>) {
        for op in request.success.iter().chain(&request.failure) {
            match &op.request {
                Some(Op::RequestPut(put)) => leases.push(put.lease),
                Some(Op::RequestTxn(inner)) => txn(inner, leases),
                _ => {}
            }
        }
    }
    let mut leases = Vec::new();
    match request {
        Request::Put(put) => leases.push(put.lease),
        Request::Txn(request) => txn(request, &mut leases),
        _ => {}
    }
    leases.sort_unstable();
    leases.dedup();
    leases.retain(|lease| *lease != 0);
    leases
}

/// Whether a watcher watches a key (W-3).
pub(crate) fn watches(request: &pb::WatchCreateRequest, key: &[u8]) -> bool {
    let start: &[u8] = if request.key.is_empty() { b"\0" } else { &request.key };
    in_range(key, start, &request.range_end)
}

/// A writer does not begin after its revision was seen; a linearizable answer is not from before its call began.
fn real_time(history: &History, order: &Order, report: &mut Report) {
    for (at, maker) in order.makers.iter().enumerate() {
        let revision = order.first + 1 + at as i64;
        let Maker::Call(call) = *maker else { continue };
        let seen = order.times.seen(revision);
        if history.calls[call].start_us > seen {
            let who = observations(history).into_iter().find(|(time, told, _)| *time == seen && *told >= revision);
            let who = who.map_or(String::new(), |(_, told, who)| format!("\n  revision {told}: {}", who.text(history)));
            report.add(
                NAME,
                format!(
                    "revision {revision} was seen at {}, before its write began\n  {}{who}",
                    text::time(seen),
                    text::call(history, call)
                ),
            );
        }
    }
    for (at, call) in history.calls.iter().enumerate() {
        let Outcome::Done(response) = &call.outcome else { continue };
        let local = matches!(response, Response::LeaseKeepAlive(_) | Response::LeaseTimeToLive(_));
        if local || is_serializable(&call.request) {
            continue;
        }
        let (revision, floor) = (response.revision(), order.times.floor(call.start_us));
        if revision < floor {
            let earlier = observations(history);
            let who = earlier
                .iter()
                .filter(|(time, told, _)| *time < call.start_us && *told > revision)
                .min_by_key(|(time, ..)| *time);
            let who = who.map_or(String::new(), |(time, told, who)| {
                format!("\n  revision {told} was told at {}: {}", text::time(*time), who.text(history))
            });
            report.add(
                NAME,
                format!(
                    "a stale answer: revision {revision}, while {floor} was known before the call began\n  {}{who}",
                    text::call(history, at)
                ),
            );
        }
    }
}

/// Refusals that the request calls for by itself, or that the keys at some moment of the call call for. Those that
/// speak of leases and compactions are judged with them.
fn refusals(history: &History, order: &Order, report: &mut Report) {
    for (at, call) in history.calls.iter().enumerate() {
        let should = validate(&call.request);
        match (&call.outcome, should) {
            (Outcome::Done(_), Err(refusal)) => report
                .add(NAME, format!("it should have been refused: {}\n  {}", refusal.text(), text::call(history, at))),
            (Outcome::Refused(why), Ok(())) => {
                let Some(refusal) = Refusal::parse(why) else { continue };
                let justified = match refusal {
                    Refusal::FutureRevision | Refusal::KeyNotFound => {
                        // Anything between what was known before it began and what was seen after it ended.
                        let from =
                            if is_serializable(&call.request) { order.first } else { order.times.floor(call.start_us) };
                        let refuses = |revision| match &call.request {
                            Request::Compact(request) => request.revision > revision,
                            request => order.store.refusal(request, revision, &PERMISSIVE) == Err(refusal),
                        };
                        let to = order.ceiling(call.end_us).max(from);
                        // What nobody was told of may have taken the key away.
                        let unseen = !order.certain || (to == order.last && order.may_lose_keys(history));
                        let keeps = keeps(&call.request, |put| put.ignore_value || put.ignore_lease);
                        let met = (from..=to).any(refuses);
                        let open = !met && refusal == Refusal::KeyNotFound && unseen && keeps;
                        report.open |= open;
                        met || open
                    }
                    // By what they ask for it may be; the rest is for the checkers of leases and compactions.
                    Refusal::LeaseNotFound => names_a_lease(&call.request),
                    Refusal::LeaseExist => matches!(call.request, Request::LeaseGrant(_)),
                    Refusal::Compacted => continue,
                    _ => false,
                };
                if !justified {
                    report.add(NAME, format!("nothing calls for this refusal\n  {}", text::call(history, at)));
                }
            }
            (Outcome::Refused(why), Err(should)) if Refusal::parse(why).is_some_and(|refusal| refusal != should) => {
                let problem = format!("it should have been refused otherwise: {}", should.text());
                report.add(NAME, format!("{problem}\n  {}", text::call(history, at)));
            }
            _ => {}
        }
    }
}

fn violation(text: String) -> Violation {
    Violation { checker: NAME, text }
}
