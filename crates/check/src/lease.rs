//! Leases: how long they live, and what they do to keys.
//!
//! *Not early.* A server that answered a grant or renewal of `ttl` seconds handled it at some moment between the call's
//! beginning and its end, and promised to keep the lease until that moment plus `ttl` on its clock. The moment is not
//! known; that it was not before the call began is. So the lease does not end before *the beginning of the last answered
//! renewal* plus `ttl` (counting from the end of the call would claim more than was promised). It did end before a time
//! if someone was told so by then: the revision that deleted its keys, a keep-alive answered 0, a time-to-live answered
//! -1, a refusal. A revocation, answered or of unknown outcome, ends it at any time.
//!
//! *Not late.* Once faults are over and nobody renews, it ends within `ttl` of the later of the two and the grace of
//! [`Limits`]: a new leader begins with the whole time again. Only keys that hang on it show that it lives on.
//!
//! *One life at a time.* What is told of a lease, in all calls, has to fit one order of grants, renewals, uses and its
//! end; the search of [`crate::linear`] looks for one, lease by lease, with revisions as a hint: what happened at a lower
//! revision happened before. An end without keys is seen by nobody and is put where it must have been.
//!
//! *Its keys* go all at one revision, and nothing else with them: that is the order's matter ([`crate::replay`]), where a
//! revision that deletes some of a lease's keys has nobody who made it.

use std::collections::BTreeMap;

use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;
use cetera_proto::mvccpb::event::EventType;

use crate::history::{Call, History, Outcome, Request, Response};
use crate::linear::{self, Operation, Verdict};
use crate::model::Refusal;
use crate::replay::{Maker, Order, asked_leases, is_serializable};
use crate::text;
use crate::{Limits, Report};

/// The checker's name in violations.
const NAME: &str = "lease";
/// Steps of the search for one lease.
const MOST_STEPS: u64 = 200_000;
/// Facts of a lease shown with a violation.
const SHOWN: usize = 24;

/// Judges all leases.
pub(crate) fn check(history: &History, order: &Order, limits: &Limits, report: &mut Report) {
    let keys = Keys::new(order);
    let mut leases: BTreeMap<i64, Vec<Fact>> = BTreeMap::new();
    for (at, call) in history.calls.iter().enumerate() {
        of_call(history, order, at, call, &mut leases, report);
    }
    of_revisions(history, order, &mut leases);
    for (lease, facts) in &mut leases {
        facts.sort_by_key(|fact| (fact.start, fact.end));
        lives(history, order, limits, &keys, (*lease, facts), report);
        late(history, order, limits, &keys, (*lease, facts), report);
    }
}

/// Something that is known of a lease.
#[derive(Clone, Copy, Debug)]
struct Fact {
    kind: Kind,
    start: u64,
    /// `None`: it happened after `start` or never.
    end: Option<u64>,
    /// Twice the revision for what made it, one more for what happened at it.
    position: Option<i64>,
    who: Maker,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// With the seconds granted, or at least those asked for.
    Granted {
        ttl: i64,
        exactly: bool,
    },
    Renewed {
        ttl: i64,
    },
    /// Something shows that it is there; with the seconds granted, if they were told.
    There {
        granted: Option<i64>,
    },
    NotThere,
    Revoked,
    /// Its keys are deleted all at once; by itself, or perhaps by a revocation nobody was told of.
    Ended {
        perhaps_revoked: bool,
    },
}

fn of_call(
    history: &History,
    order: &Order,
    at: usize,
    call: &Call,
    leases: &mut BTreeMap<i64, Vec<Fact>>,
    report: &mut Report,
) {
    let Call { start_us, end_us, request, outcome, .. } = call;
    let mut add = |lease: i64, kind: Kind, end: Option<u64>, position: Option<i64>| {
        leases.entry(lease).or_default().push(Fact { kind, start: *start_us, end, position, who: Maker::Call(at) });
    };
    let done = Some(*end_us);
    match (request, outcome) {
        (Request::LeaseGrant(request), Outcome::Done(Response::LeaseGrant(granted))) => {
            if granted.ttl < request.ttl || (request.id != 0 && granted.id != request.id) || granted.id == 0 {
                report.add(NAME, format!("granted what was not asked for\n  {}", text::call(history, at)));
            }
            let position = granted.header.as_ref().map(|header| 2 * header.revision + 1);
            add(granted.id, Kind::Granted { ttl: granted.ttl, exactly: true }, done, position);
        }
        (Request::LeaseGrant(request), Outcome::Unknown(_)) if request.id != 0 => {
            add(request.id, Kind::Granted { ttl: request.ttl.max(0), exactly: false }, None, None);
        }
        (Request::LeaseGrant(request), Outcome::Refused(why)) if Refusal::parse(why) == Some(Refusal::LeaseExist) => {
            add(request.id, Kind::There { granted: None }, done, None);
        }
        (Request::LeaseRevoke(request), Outcome::Done(response)) => {
            let revision = response.revision();
            let made = order.maker(revision) == Maker::Call(at);
            add(request.id, Kind::Revoked, done, Some(2 * revision + i64::from(!made)));
            let left = order.store.attached(request.id, revision);
            if !left.is_empty() {
                let key = text::Text(&left[0]).to_string();
                report.add(NAME, format!("revoked, and {key} is left\n  {}", text::call(history, at)));
            }
        }
        (Request::LeaseRevoke(request), Outcome::Unknown(_)) => add(request.id, Kind::Revoked, None, None),
        (Request::LeaseRevoke(request), Outcome::Refused(why)) if not_found(why) => {
            add(request.id, Kind::NotThere, done, None);
        }
        (Request::LeaseKeepAlive(request), Outcome::Done(Response::LeaseKeepAlive(answer))) => {
            let kind = if answer.ttl > 0 { Kind::Renewed { ttl: answer.ttl } } else { Kind::NotThere };
            add(request.id, kind, done, None);
        }
        (Request::LeaseTimeToLive(request), Outcome::Done(Response::LeaseTimeToLive(answer))) => {
            if answer.ttl < 0 {
                add(request.id, Kind::NotThere, done, None);
                return;
            }
            add(request.id, Kind::There { granted: Some(answer.granted_ttl) }, done, None);
            time_to_live(history, order, at, request, answer, report);
        }
        (Request::Put(_) | Request::Txn(_), Outcome::Refused(why)) if not_found(why) => {
            if let [lease] = asked_leases(request)[..] {
                add(lease, Kind::NotThere, done, None);
            }
        }
        _ => {}
    }
}

fn not_found(why: &str) -> bool {
    Refusal::parse(why) == Some(Refusal::LeaseNotFound)
}

/// Its keys are those of some moment before the answer. Its time is not more than was granted, and what a new leader
/// adds; that is seconds at most and known to the search only.
fn time_to_live(
    history: &History,
    order: &Order,
    at: usize,
    request: &pb::LeaseTimeToLiveRequest,
    answer: &pb::LeaseTimeToLiveResponse,
    report: &mut Report,
) {
    if !request.keys {
        return;
    }
    let mut told: Vec<Bytes> = answer.keys.clone();
    told.sort_unstable();
    let changes = (order.first + 1..=order.last).filter(|revision| {
        let touched = order.store.changes(*revision).iter().filter_map(|change| change.kv.as_ref());
        touched.clone().any(|kv| kv.lease == request.id)
            || touched
                .into_iter()
                .any(|kv| order.store.get(&kv.key, *revision - 1).is_some_and(|before| before.lease == request.id))
    });
    let mut moments = std::iter::once(order.first).chain(changes);
    if !moments.any(|revision| order.store.attached(request.id, revision) == told) {
        let problem = "told of keys that never hung on the lease together";
        report.add(NAME, format!("{problem}\n  {}", text::call(history, at)));
    }
}

/// What revisions show: keys put with a lease need it, and keys that go all at once may be its end.
fn of_revisions(history: &History, order: &Order, leases: &mut BTreeMap<i64, Vec<Fact>>) {
    for revision in order.first + 1..=order.last {
        let maker = order.maker(revision);
        let seen = order.times.seen(revision);
        let (start, end) = match maker {
            Maker::Call(call) => {
                let Call { start_us, end_us, outcome, .. } = &history.calls[call];
                (*start_us, if matches!(outcome, Outcome::Done(_)) { *end_us } else { seen })
            }
            _ => (order.began(revision), seen),
        };
        let position = Some(2 * revision);
        let mut used: Vec<i64> = Vec::new();
        for change in order.store.changes(revision) {
            let Some(kv) = change.kv.as_ref().filter(|kv| change.r#type() == EventType::Put && kv.lease != 0) else {
                continue;
            };
            if !used.contains(&kv.lease) {
                used.push(kv.lease);
                let kind = Kind::There { granted: None };
                leases.entry(kv.lease).or_default().push(Fact { kind, start, end: Some(end), position, who: maker });
            }
        }
        let Some(options) = order.options.get(&revision) else { continue };
        for option in options {
            let Maker::Expiry(lease) = *option else { continue };
            let calls = || {
                options.iter().filter_map(|option| match option {
                    Maker::Call(call) => Some(&history.calls[*call]),
                    _ => None,
                })
            };
            let answered = calls().any(|call| matches!(call.outcome, Outcome::Done(_)));
            if answered {
                continue;
            }
            let perhaps_revoked = calls().any(|call| matches!(call.request, Request::LeaseRevoke(_)));
            let perhaps_deleted = calls().any(|call| !matches!(call.request, Request::LeaseRevoke(_)));
            let kind = Kind::Ended { perhaps_revoked };
            let start = order.began(revision);
            let end = (!perhaps_deleted).then_some(seen);
            leases.entry(lease).or_default().push(Fact { kind, start, end, position, who: Maker::Expiry(lease) });
        }
    }
}

/// When keys hung on leases.
struct Keys {
    /// By lease: from which revision on some did, and from which on none did.
    spans: BTreeMap<i64, Vec<(i64, i64)>>,
}

impl Keys {
    fn new(order: &Order) -> Self {
        let mut lease_of: BTreeMap<&Bytes, i64> = BTreeMap::new();
        let mut count: BTreeMap<i64, usize> = BTreeMap::new();
        let mut spans: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
        for revision in order.first + 1..=order.last {
            for change in order.store.changes(revision) {
                let Some(kv) = &change.kv else { continue };
                let now = if change.r#type() == EventType::Put { kv.lease } else { 0 };
                let before = lease_of.insert(&kv.key, now).unwrap_or(0);
                if before == now {
                    continue;
                }
                if now != 0 {
                    let count = count.entry(now).or_default();
                    *count += 1;
                    if *count == 1 {
                        spans.entry(now).or_default().push((revision, i64::MAX));
                    }
                }
                if let Some(count) = count.get_mut(&before) {
                    *count -= 1;
                    if let (0, Some(span)) = (*count, spans.get_mut(&before).and_then(|spans| spans.last_mut())) {
                        span.1 = revision;
                    }
                }
            }
        }
        Self { spans }
    }

    /// Whether there is a revision from `from` to `to` at which no key hung on a lease.
    fn may_be_none(&self, lease: i64, from: i64, to: i64) -> bool {
        let spans = self.spans.get(&lease).map_or(&[][..], Vec::as_slice);
        !spans.iter().any(|(some, none)| *some <= from && to < *none)
    }
}

/// One lease, for the search.
struct Life<'a> {
    lease: i64,
    facts: &'a [Fact],
    keys: &'a Keys,
    /// Revisions at which a fact may have happened.
    windows: Vec<(i64, i64)>,
    /// How long a second of life lasts at least, in microseconds; 0 to leave time out.
    second_us: u64,
    slack_us: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct State {
    there: bool,
    /// Seconds granted, if they are known.
    ttl: Option<i64>,
    /// It does not end by itself before.
    deadline: u64,
    /// What has been ordered reaches at least to this time.
    now: u64,
    position: i64,
}

impl Life<'_> {
    fn until(&self, from: u64, ttl: i64) -> u64 {
        let life = (ttl.max(0) as u64).saturating_mul(self.second_us);
        if life == 0 { 0 } else { from.saturating_add(life.saturating_sub(self.slack_us)) }
    }

    /// It has ended by itself, seen by nobody, by the time of a fact.
    fn end(&self, state: &mut State, at: usize) -> Option<()> {
        let (from, to) = self.windows[at];
        let from = from.max(state.position / 2).min(to);
        let in_time = state.deadline <= self.facts[at].end.unwrap_or(u64::MAX);
        if !in_time || !self.keys.may_be_none(self.lease, from, to) {
            return None;
        }
        state.there = false;
        state.now = state.now.max(state.deadline);
        Some(())
    }
}

impl linear::Model for Life<'_> {
    type State = State;

    fn step(&self, before: &State, at: usize) -> Option<State> {
        let fact = &self.facts[at];
        let end = fact.end.unwrap_or(u64::MAX);
        let mut state = before.clone();
        if end < state.now || fact.position.is_some_and(|position| position < state.position) {
            return None;
        }
        state.now = state.now.max(fact.start);
        state.position = fact.position.unwrap_or(state.position);
        match fact.kind {
            Kind::Granted { ttl, exactly } => {
                if state.there {
                    self.end(&mut state, at)?;
                }
                state.there = true;
                state.ttl = exactly.then_some(ttl);
                state.deadline = self.until(state.now, ttl);
            }
            Kind::Renewed { ttl } => {
                if !state.there || state.ttl.is_some_and(|granted| granted != ttl) {
                    return None;
                }
                state.deadline = state.deadline.max(self.until(state.now, ttl));
            }
            Kind::There { granted } => {
                let other = state.ttl.is_some_and(|ttl| granted.is_some_and(|granted| granted != ttl));
                if !state.there || other {
                    return None;
                }
            }
            Kind::NotThere => {
                if state.there {
                    self.end(&mut state, at)?;
                }
            }
            Kind::Revoked => {
                // One that nobody was told of and that deletes keys stands as an end.
                let (from, to) = self.windows[at];
                let from = from.max(state.position / 2).min(to);
                if !state.there || (fact.end.is_none() && !self.keys.may_be_none(self.lease, from, to)) {
                    return None;
                }
                state.there = false;
            }
            Kind::Ended { perhaps_revoked } => {
                if !state.there || (!perhaps_revoked && state.deadline > end) {
                    return None;
                }
                if !perhaps_revoked {
                    state.now = state.now.max(state.deadline);
                }
                state.there = false;
            }
        }
        Some(state)
    }
}

fn lives(
    history: &History,
    order: &Order,
    limits: &Limits,
    keys: &Keys,
    (lease, facts): (i64, &[Fact]),
    report: &mut Report,
) {
    let window = |fact: &Fact| match fact.position {
        Some(position) => (position / 2, position / 2),
        None => {
            let last = order.ceiling(fact.end.unwrap_or(u64::MAX));
            // After the last revision anyone was told of there may be more.
            (order.times.floor(fact.start), if last == order.last { i64::MAX } else { last })
        }
    };
    let windows = facts.iter().map(window).collect();
    let second_us = 1_000_000 - limits.clock_drift_ppm.min(1_000_000);
    let mut life = Life { lease, facts, keys, windows, second_us, slack_us: limits.clock_slack_us };
    let operations: Vec<Operation> = facts.iter().map(|fact| Operation { start: fact.start, end: fact.end }).collect();
    let nothing = || State { there: false, ttl: None, deadline: 0, now: 0, position: 0 };
    match linear::search(&life, nothing(), &operations, MOST_STEPS) {
        Verdict::Legal(_) => {}
        Verdict::Undecided => report.undecided += 1,
        Verdict::Illegal { longest, stuck } => {
            life.second_us = 0;
            let timeless = linear::search(&life, nothing(), &operations, MOST_STEPS);
            let problem = match timeless {
                Verdict::Legal(_) => "it ended before its time".to_owned(),
                _ => "what is told of it does not fit one life after the other".to_owned(),
            };
            let shown = |fact: usize| format!("\n  {}", show(history, &facts[fact]));
            let before: String =
                longest.iter().skip(longest.len().saturating_sub(SHOWN)).map(|fact| shown(*fact)).collect();
            let stuck: String = stuck.iter().take(SHOWN).map(|fact| shown(*fact)).collect();
            report.add(NAME, format!("lease {lease:x}: {problem}; after{before}\n none of these fits:{stuck}"));
        }
    }
}

fn show(history: &History, fact: &Fact) -> String {
    let position = fact.position.map_or(String::new(), |position| format!(" at revision {}", position / 2));
    match fact.who {
        Maker::Call(call) => format!("{:?}{position}: {}", fact.kind, text::call(history, call)),
        _ => {
            let end = fact.end.map_or("?".to_owned(), text::time);
            format!("{:?}{position}, between {} and {end}", fact.kind, text::time(fact.start))
        }
    }
}

/// Keys that hang on it longer than they may.
fn late(
    history: &History,
    order: &Order,
    limits: &Limits,
    keys: &Keys,
    (lease, facts): (i64, &[Fact]),
    report: &mut Report,
) {
    let mut ttl = 0;
    let mut last = limits.faults_end_us;
    for fact in facts {
        match fact.kind {
            Kind::Granted { ttl: granted, .. } => ttl = ttl.max(granted),
            Kind::Renewed { ttl: renewed } => ttl = ttl.max(renewed),
            _ => continue,
        }
        let Maker::Call(call) = fact.who else { continue };
        last = last.max(history.calls[call].end_us);
    }
    for call in &history.calls {
        if matches!(&call.request, Request::LeaseKeepAlive(request) if request.id == lease) {
            last = last.max(call.end_us);
        }
    }
    let life = (ttl as u64).saturating_mul(1_000_000 + limits.clock_drift_ppm);
    let bound = last.saturating_add(life).saturating_add(limits.lease_grace_us);
    for (at, call) in history.calls.iter().enumerate() {
        let Outcome::Done(response) = &call.outcome else { continue };
        let keys_read =
            matches!(response, Response::Range(_) | Response::Put(_) | Response::DeleteRange(_) | Response::Txn(_));
        if call.start_us <= bound || !keys_read || is_serializable(&call.request) {
            continue;
        }
        let revision = response.revision();
        if keys.may_be_none(lease, revision, revision) {
            continue;
        }
        let left = order.store.attached(lease, revision);
        let key = left.first().map_or(String::new(), |key| text::Text(key).to_string());
        let times = format!("renewed or disturbed until {}, {ttl} s, gone by {}", text::time(last), text::time(bound));
        report.add(NAME, format!("lease {lease:x}: {key} still hangs on it; {times}\n  {}", text::call(history, at)));
        return;
    }
}
