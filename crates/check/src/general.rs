//! The general search over the whole of KV and Lease: for what the replay leaves open, and to prove the replay by.
//!
//! It knows nothing of makers and evidence. The revision in an answer is its hint: a write has to make just that
//! revision and a read has to stand at it, so that few operations can come next. The end of every lease is an operation
//! that may happen at any time or never; that it does not come too early is not judged here ([`crate::lease`]).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::answer;
use crate::history::{History, Outcome, Request, Response};
use crate::linear::{self, Operation, Verdict};
use crate::model::{self, Refusal, Store, World, validate};
use crate::replay::is_serializable;

/// Calls of a history for which the search is tried: every step of it copies the whole store.
pub(crate) const MOST_CALLS: usize = 400;

/// Searches for an order of all calls. What its operations are: calls of the history, by their numbers.
pub(crate) fn search(history: &History, most_steps: u64) -> Verdict {
    let etcd = Etcd::new(history);
    match linear::search(&etcd, etcd.beginning(), &etcd.operations, most_steps) {
        Verdict::Illegal { longest, stuck } => {
            Verdict::Illegal { longest: etcd.calls(&longest), stuck: etcd.calls(&stuck) }
        }
        Verdict::Legal(order) => Verdict::Legal(etcd.calls(&order)),
        Verdict::Undecided => Verdict::Undecided,
    }
}

/// What an operation is.
#[derive(Copy, Clone, Debug)]
enum What {
    Call(usize),
    /// The lease of this number ends by itself.
    End(i64),
    /// A revision that was told beside what was answered: it was the present one by then.
    Told(i64),
}

/// etcd, as far as the calls of a history ask for it.
pub(crate) struct Etcd<'a> {
    history: &'a History,
    what: Vec<What>,
    pub(crate) operations: Vec<Operation>,
    /// Revisions that answered calls made.
    taken: BTreeSet<i64>,
}

/// What is replicated.
#[derive(Clone, Debug)]
pub(crate) struct State {
    store: Store,
    compacted: i64,
    /// Leases with the seconds granted, if they are known.
    leases: BTreeMap<i64, Option<i64>>,
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.compacted == other.compacted && self.leases == other.leases && self.store.is_same(&other.store)
    }
}

impl Eq for State {}

impl<'a> Etcd<'a> {
    pub(crate) fn new(history: &'a History) -> Self {
        let mut etcd = Self { history, what: Vec::new(), operations: Vec::new(), taken: BTreeSet::new() };
        for (at, call) in history.calls.iter().enumerate() {
            if validate(&call.request).is_err() {
                continue;
            }
            let (start, end) = match &call.outcome {
                // Answered from some prefix of the order, which may end long before the call.
                Outcome::Done(_) if is_serializable(&call.request) => (0, Some(call.end_us)),
                Outcome::Done(response) => {
                    if crate::replay::wrote(response) {
                        etcd.taken.insert(response.revision());
                    }
                    (call.start_us, Some(call.end_us))
                }
                Outcome::Refused(why) if Refusal::parse(why).is_some() => {
                    (if is_serializable(&call.request) { 0 } else { call.start_us }, Some(call.end_us))
                }
                Outcome::Unknown(_) if changes_something(&call.request) => (call.start_us, None),
                _ => continue,
            };
            etcd.what.push(What::Call(at));
            etcd.operations.push(Operation { start, end });
            // Their headers are made before or after what they do.
            if let Outcome::Done(
                response @ (Response::Compact(_) | Response::LeaseKeepAlive(_) | Response::LeaseTimeToLive(_)),
            ) = &call.outcome
            {
                etcd.what.push(What::Told(response.revision()));
                etcd.operations.push(Operation { start: 0, end: Some(call.end_us) });
            }
            let granted = match (&call.request, &call.outcome) {
                (_, Outcome::Done(Response::LeaseGrant(granted))) => granted.id,
                (Request::LeaseGrant(request), Outcome::Unknown(_)) => request.id,
                _ => 0,
            };
            if granted != 0 {
                etcd.what.push(What::End(granted));
                etcd.operations.push(Operation { start: call.start_us, end: None });
            }
        }
        etcd
    }

    pub(crate) fn beginning(&self) -> Rc<State> {
        Rc::new(State { store: Store::new(self.history.first_revision), compacted: -1, leases: BTreeMap::new() })
    }

    fn calls(&self, operations: &[usize]) -> Vec<usize> {
        let call = |operation: &usize| match self.what[*operation] {
            What::Call(call) => Some(call),
            What::End(_) | What::Told(_) => None,
        };
        operations.iter().filter_map(call).collect()
    }

    /// An answered call.
    fn answered(&self, state: &Rc<State>, request: &Request, got: &Response) -> Option<Rc<State>> {
        let now = state.store.revision();
        let revision = got.revision();
        let there = |lease: &i64| state.leases.contains_key(lease);
        match (request, got) {
            (Request::Compact(request), _) => {
                if request.revision <= state.compacted || request.revision > now || revision < now {
                    return None;
                }
                Some(Rc::new(State { compacted: request.revision, ..(**state).clone() }))
            }
            (Request::LeaseGrant(request), Response::LeaseGrant(granted)) => {
                let asked = granted.id == request.id || request.id == 0;
                if revision != now || there(&granted.id) || !asked || granted.ttl < request.ttl {
                    return None;
                }
                let mut next = (**state).clone();
                next.leases.insert(granted.id, Some(granted.ttl));
                Some(Rc::new(next))
            }
            (Request::LeaseRevoke(request), _) => {
                let next = revoke(state, request.id)?;
                (next.store.revision() == revision).then_some(next)
            }
            (Request::LeaseKeepAlive(request), Response::LeaseKeepAlive(answer)) => {
                let fits = match state.leases.get(&request.id) {
                    None => answer.ttl == 0,
                    Some(ttl) => answer.ttl > 0 && ttl.is_none_or(|ttl| ttl == answer.ttl),
                };
                fits.then(|| state.clone())
            }
            (Request::LeaseTimeToLive(request), Response::LeaseTimeToLive(answer)) => {
                let fits = match state.leases.get(&request.id) {
                    None => answer.ttl < 0,
                    Some(ttl) => answer.ttl >= 0 && ttl.is_none_or(|ttl| ttl == answer.granted_ttl),
                };
                fits.then(|| state.clone())
            }
            _ => {
                let wrote = crate::replay::wrote(got);
                if revision != now + i64::from(wrote) {
                    return None;
                }
                let world = World { compacted: state.compacted, lease_exists: &|lease| there(&lease) };
                let read = match request {
                    Request::Range(range) => Some(state.store.read(range, now, &world).map(Response::Range)),
                    Request::Txn(txn) if model::is_read_only(txn) => {
                        Some(state.store.read_txn(txn, now, &world).map(Response::Txn))
                    }
                    _ => None,
                };
                if let Some(expected) = read {
                    answer::compare(&state.store, request, &expected.ok()?, got).ok()?;
                    return Some(state.clone());
                }
                let mut next = (**state).clone();
                let expected = next.store.execute(request, &world).ok()?;
                answer::compare(&next.store, request, &expected, got).ok()?;
                Some(Rc::new(next))
            }
        }
    }

    /// A call that was refused for what it met.
    fn refused(&self, state: &Rc<State>, request: &Request, refusal: Refusal) -> Option<Rc<State>> {
        let now = state.store.revision();
        let there = |lease: i64| state.leases.contains_key(&lease);
        let met = match request {
            Request::Compact(request) if request.revision <= state.compacted => Err(Refusal::Compacted),
            Request::Compact(request) if request.revision > now => Err(Refusal::FutureRevision),
            Request::LeaseGrant(request) if request.id != 0 && there(request.id) => Err(Refusal::LeaseExist),
            Request::LeaseRevoke(request) if !there(request.id) => Err(Refusal::LeaseNotFound),
            request => state.store.refusal(request, now, &World { compacted: state.compacted, lease_exists: &there }),
        };
        (met == Err(refusal)).then(|| state.clone())
    }

    /// A call of unknown outcome takes place.
    fn unknown(&self, state: &Rc<State>, request: &Request) -> Option<Rc<State>> {
        let now = state.store.revision();
        if self.taken.contains(&(now + 1))
            && matches!(request, Request::Put(_) | Request::DeleteRange(_) | Request::Txn(_))
        {
            return None;
        }
        let mut next = (**state).clone();
        match request {
            Request::Compact(request) if request.revision > state.compacted && request.revision <= now => {
                next.compacted = request.revision;
            }
            Request::LeaseGrant(request) if request.id != 0 && !state.leases.contains_key(&request.id) => {
                next.leases.insert(request.id, None);
            }
            Request::LeaseRevoke(request) => return self.unseen_end(state, request.id),
            Request::Put(_) | Request::DeleteRange(_) | Request::Txn(_) => {
                let there = |lease: i64| state.leases.contains_key(&lease);
                let world = World { compacted: state.compacted, lease_exists: &there };
                next.store.execute(request, &world).ok()?;
                if next.store.revision() == now {
                    return None;
                }
            }
            _ => return None,
        }
        Some(Rc::new(next))
    }

    /// A lease ends, and nobody was answered that it did: it must not make a revision that an answered call made.
    fn unseen_end(&self, state: &Rc<State>, lease: i64) -> Option<Rc<State>> {
        let now = state.store.revision();
        if !state.leases.contains_key(&lease)
            || (self.taken.contains(&(now + 1)) && !state.store.attached(lease, now).is_empty())
        {
            return None;
        }
        revoke(state, lease)
    }
}

fn changes_something(request: &Request) -> bool {
    match request {
        Request::Range(_) | Request::LeaseKeepAlive(_) | Request::LeaseTimeToLive(_) => false,
        Request::Txn(txn) => !model::is_read_only(txn),
        _ => true,
    }
}

fn revoke(state: &Rc<State>, lease: i64) -> Option<Rc<State>> {
    let mut next = (**state).clone();
    next.leases.remove(&lease)?;
    next.store.revoke(lease);
    Some(Rc::new(next))
}

impl linear::Model for Etcd<'_> {
    type State = Rc<State>;

    fn step(&self, state: &Rc<State>, operation: usize) -> Option<Rc<State>> {
        match self.what[operation] {
            What::End(lease) => self.unseen_end(state, lease),
            What::Told(revision) => (revision == state.store.revision()).then(|| state.clone()),
            What::Call(at) => {
                let call = &self.history.calls[at];
                match &call.outcome {
                    Outcome::Done(got) => self.answered(state, &call.request, got),
                    Outcome::Refused(why) => self.refused(state, &call.request, Refusal::parse(why)?),
                    Outcome::Unknown(_) => self.unknown(state, &call.request),
                }
            }
        }
    }
}
