//! Linearizable reads: what waits for a confirmation round, and what waits for apply.
//!
//! A round confirms that this member still led (or asked the leader, who did) after the round began; it serves only
//! what was queued before it began. Everything that arrives while a round is under way waits for the next one. A round
//! that gets no answer (no leader, leader change, nothing committed in the term yet) is begun again, with a context
//! never used before, until its reads time out.

use std::collections::VecDeque;

use bytes::Bytes;
use cetera_plant::{Bug, is_planted};

use crate::event::{LeaseQuestion, Ticket};
use crate::limits::READ_RETRY_MS;

/// What a confirmed round lets go.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Waiting {
    /// A read.
    Read(Ticket),
    /// Something for the lessor: leadership confirmed after it arrived, and a grant acknowledged elsewhere known here.
    Lease(Asker, LeaseWant),
}

/// What is wanted of the lessor.
#[derive(Copy, Clone, Debug)]
pub(crate) enum LeaseWant {
    /// A keep-alive.
    Renew(i64),
    /// A question.
    Ask(LeaseQuestion),
}

/// Who wants it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Asker {
    /// A call on this member.
    Client(Ticket),
    /// Another member, under a number of its own.
    Member {
        /// Its id.
        member: u64,
        /// Its number.
        number: u64,
    },
}

struct Round {
    context: Bytes,
    begun_ms: u64,
    waiting: Vec<(u64, Waiting)>,
}

/// The queue of reads of one member.
pub(crate) struct Reads {
    /// Arrived and not yet in a round, with their deadlines.
    queued: Vec<(u64, Waiting)>,
    /// The one round under way.
    round: Option<Round>,
    /// Confirmed at an index that is not applied yet.
    confirmed: VecDeque<(u64, Vec<(u64, Waiting)>)>,
    /// Member id and start nonce: contexts never repeat over members and restarts.
    origin: (u64, u64),
    counter: u64,
}

impl Reads {
    pub(crate) fn new(member_id: u64, nonce: u64) -> Self {
        Self { queued: Vec::new(), round: None, confirmed: VecDeque::new(), origin: (member_id, nonce), counter: 0 }
    }

    pub(crate) fn push(&mut self, waiting: Waiting, deadline_ms: u64) {
        self.queued.push((deadline_ms, waiting));
    }

    /// How many wait, in whatever stage.
    pub(crate) fn len(&self) -> usize {
        let in_round = self.round.as_ref().map_or(0, |round| round.waiting.len());
        self.queued.len() + in_round + self.confirmed.iter().map(|(_, waiting)| waiting.len()).sum::<usize>()
    }

    /// The context of a round to begin now, if one is due: something is queued and no round is under way, or the round
    /// under way is overdue.
    pub(crate) fn begin(&mut self, now_ms: u64) -> Option<Bytes> {
        match &mut self.round {
            Some(round) if now_ms < round.begun_ms + READ_RETRY_MS => {
                if is_planted(Bug::ReadJoinsRound) {
                    round.waiting.append(&mut self.queued);
                }
                None
            }
            Some(round) => {
                round.waiting.append(&mut self.queued);
                self.renew_context(now_ms)
            }
            None if self.queued.is_empty() => None,
            None => {
                let waiting = std::mem::take(&mut self.queued);
                self.round = Some(Round { context: Bytes::new(), begun_ms: now_ms, waiting });
                self.renew_context(now_ms)
            }
        }
    }

    /// The answer of a round; one that is not the round under way is stale and confirms nothing.
    pub(crate) fn confirmed(&mut self, context: &[u8], index: u64) {
        if self.round.as_ref().is_some_and(|round| round.context == context) {
            let round = self.round.take().expect("just seen");
            self.confirmed.push_back((index, round.waiting));
        }
    }

    /// The round under way will not be answered (leadership changed): the next [`Reads::begin`] starts it anew.
    pub(crate) fn restart(&mut self) {
        if let Some(mut round) = self.round.take() {
            round.waiting.append(&mut self.queued);
            self.queued = round.waiting;
        }
    }

    /// Everything that waits for the lessor, in whatever stage, with its deadline.
    pub(crate) fn take_leases(&mut self) -> Vec<(u64, Asker, LeaseWant)> {
        let mut taken = Vec::new();
        let mut take = |list: &mut Vec<(u64, Waiting)>| {
            list.retain(|(deadline, waiting)| match waiting {
                Waiting::Lease(asker, want) => {
                    taken.push((*deadline, *asker, *want));
                    false
                }
                Waiting::Read(_) => true,
            });
        };
        for (_, waiting) in &mut self.confirmed {
            take(waiting);
        }
        if let Some(round) = &mut self.round {
            take(&mut round.waiting);
        }
        take(&mut self.queued);
        taken
    }

    /// Everything confirmed at or below `applied`.
    pub(crate) fn ready(&mut self, applied: u64) -> Vec<Waiting> {
        let mut free = Vec::new();
        while self.confirmed.front().is_some_and(|(index, _)| *index <= applied) {
            let (_, waiting) = self.confirmed.pop_front().expect("front was there");
            free.extend(waiting.into_iter().map(|(_, waiting)| waiting));
        }
        free
    }

    /// Everything whose time is up.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Vec<Waiting> {
        let mut due = Vec::new();
        let mut take = |list: &mut Vec<(u64, Waiting)>| {
            due.extend(list.extract_if(.., |(deadline, _)| *deadline <= now_ms).map(|(_, waiting)| waiting));
        };
        if let Some(round) = &mut self.round {
            take(&mut round.waiting);
        }
        for (_, waiting) in &mut self.confirmed {
            take(waiting);
        }
        take(&mut self.queued);
        due
    }

    fn renew_context(&mut self, now_ms: u64) -> Option<Bytes> {
        self.counter += 1;
        let mut context = Vec::with_capacity(24);
        context.extend_from_slice(&self.origin.0.to_be_bytes());
        context.extend_from_slice(&self.origin.1.to_be_bytes());
        context.extend_from_slice(&self.counter.to_be_bytes());
        let context = Bytes::from(context);
        let round = self.round.as_mut().expect("a round is under way");
        round.context = context.clone();
        round.begun_ms = now_ms;
        Some(context)
    }
}
