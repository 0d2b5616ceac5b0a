//! Who waits for which proposal, and until when.

use std::collections::{HashMap, VecDeque};

use crate::event::Ticket;

/// Proposals under way, by request id. Bounded by the caller ([`crate::limits::WAITING_BYTES_MAX`]).
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    waiting: HashMap<u64, Waiter>,
    /// In order of arrival, which is the order of deadlines; entries already answered are skipped.
    deadlines: VecDeque<(u64, u64)>,
    bytes: usize,
}

#[derive(Copy, Clone, Debug)]
struct Waiter {
    ticket: Ticket,
    bytes: usize,
}

impl Waiters {
    pub(crate) fn insert(&mut self, id: u64, ticket: Ticket, bytes: usize, deadline_ms: u64) {
        let before = self.waiting.insert(id, Waiter { ticket, bytes });
        assert!(before.is_none(), "request id {id:x} is under way twice");
        self.deadlines.push_back((deadline_ms, id));
        self.bytes += bytes;
    }

    /// Takes the waiter of a request, if it is one of ours and still waits.
    pub(crate) fn take(&mut self, id: u64) -> Option<Ticket> {
        let waiter = self.waiting.remove(&id)?;
        self.bytes -= waiter.bytes;
        if self.waiting.is_empty() {
            self.deadlines.clear();
        }
        Some(waiter.ticket)
    }

    /// Takes all whose time is up.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Vec<Ticket> {
        let mut due = Vec::new();
        while let Some(&(deadline, id)) = self.deadlines.front() {
            if deadline > now_ms && self.waiting.contains_key(&id) {
                break;
            }
            self.deadlines.pop_front();
            if deadline <= now_ms {
                due.extend(self.take(id));
            }
        }
        due
    }

    /// Takes everyone, in order of arrival.
    pub(crate) fn drain(&mut self) -> Vec<Ticket> {
        let order: Vec<u64> = self.deadlines.drain(..).map(|(_, id)| id).collect();
        let all = order.into_iter().filter_map(|id| self.waiting.remove(&id).map(|waiter| waiter.ticket)).collect();
        self.bytes = 0;
        all
    }

    /// Whether a request is one of ours and still waits.
    pub(crate) fn contains(&self, id: u64) -> bool {
        self.waiting.contains_key(&id)
    }

    /// Bytes of the proposals under way.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
