//! Leases asked about on a member that does not hold time over them (L-6, L-9, L-10).
//!
//! The questions of a step go to the leader as one message. It treats them like its own: a confirmation round begun
//! after they arrived, then the lessor. A question that gets no answer, or goes to one who leads no more, is asked again
//! until its time is up; asked twice it does no harm, because a renewal only moves a deadline on, and an answer that
//! comes twice finds nobody waiting.

use std::collections::{BTreeMap, BTreeSet};

use cetera_plant::{Bug, is_planted};
use cetera_proto::ceterapb::{
    LeaseAnswer, LeaseAsk, LeaseIds, LeaseQuestion as Asked, LeaseReply, LeaseTime, PeerMessage, lease_question,
    lease_reply, peer_message::Body,
};

use super::{Mode, Node, refuse_all};
use crate::event::{Effects, LeaseQuestion, Refusal, Reply, Ticket};
use crate::limits;
use crate::read::{Asker, LeaseWant, Waiting};

/// Questions of this member's own clients, under way to the leader.
#[derive(Debug)]
pub(super) struct Asks {
    next: u64,
    waiting: BTreeMap<u64, Ask>,
    /// When which of them is to be asked (again).
    due: BTreeSet<(u64, u64)>,
    /// Term and leader asked last.
    asked: (u64, u64),
}

#[derive(Copy, Clone, Debug)]
struct Ask {
    ticket: Ticket,
    want: LeaseWant,
    deadline_ms: u64,
    due_ms: u64,
}

impl Asks {
    /// Numbers never repeat over restarts: an answer meant for an earlier life finds nobody.
    pub(super) fn new(nonce: u64) -> Self {
        Self { next: nonce << 32, waiting: BTreeMap::new(), due: BTreeSet::new(), asked: (0, 0) }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, ticket: Ticket, want: LeaseWant, deadline_ms: u64) {
        self.next += 1;
        self.waiting.insert(self.next, Ask { ticket, want, deadline_ms, due_ms: 0 });
        self.due.insert((0, self.next));
    }

    /// Takes everyone, by arrival.
    pub(super) fn drain(&mut self) -> Vec<Ticket> {
        self.due.clear();
        std::mem::take(&mut self.waiting).into_values().map(|ask| ask.ticket).collect()
    }

    /// Takes those whose time is up. Numbers grow with deadlines, but for what came back from a lost leadership.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<Ticket> {
        if self.waiting.values().next().is_none_or(|first| first.deadline_ms > now_ms) {
            return Vec::new();
        }
        let over: Vec<(u64, Ask)> = self.waiting.extract_if(.., |_, ask| ask.deadline_ms <= now_ms).collect();
        for (number, ask) in &over {
            self.due.remove(&(ask.due_ms, *number));
        }
        over.into_iter().map(|(_, ask)| ask.ticket).collect()
    }

    fn take(&mut self, number: u64) -> Option<Ticket> {
        let ask = self.waiting.remove(&number)?;
        self.due.remove(&(ask.due_ms, number));
        Some(ask.ticket)
    }

    fn ask_at(&mut self, number: u64, due_ms: u64) {
        if let Some(ask) = self.waiting.get_mut(&number) {
            self.due.remove(&(ask.due_ms, number));
            ask.due_ms = due_ms;
            self.due.insert((due_ms, number));
        }
    }

    /// Questions due at `now_ms`, as many as go into a message.
    fn questions(&mut self, now_ms: u64) -> Vec<Asked> {
        let due = self.due.iter().take_while(|(due_ms, _)| *due_ms <= now_ms).map(|(_, number)| *number);
        let numbers: Vec<u64> = due.take(limits::LEASE_QUESTIONS_PER_MESSAGE_MAX).collect();
        for number in &numbers {
            self.ask_at(*number, now_ms + limits::LEASE_ASK_RETRY_MS);
        }
        let ask = |number: u64| Asked { number, question: Some(question(self.waiting[&number].want)) };
        numbers.into_iter().map(ask).collect()
    }
}

impl Node {
    /// A client wants something of the lessor, here or elsewhere.
    pub(super) fn want(&mut self, ticket: Ticket, want: LeaseWant, effects: &mut Effects) {
        if self.mode == Mode::Running && (self.fenced || !self.leads()) {
            if self.asks.len() >= limits::WAITING_READS_MAX {
                refuse_all([ticket], Refusal::TooManyRequests, effects);
            } else {
                self.asks.push(ticket, want, self.now_ms + self.config.request_timeout_ms());
            }
        } else {
            self.enqueue(Waiting::Lease(Asker::Client(ticket), want), effects);
        }
    }

    /// Sends what is due to the leader; takes it over if that is this member now. Then sends what others asked here.
    pub(super) fn exchange_leases(&mut self, effects: &mut Effects) {
        if self.mode != Mode::Running {
            self.answers.clear();
            return;
        }
        if self.leads() && !self.fenced {
            for ask in std::mem::take(&mut self.asks.waiting).into_values() {
                self.reads.push(Waiting::Lease(Asker::Client(ask.ticket), ask.want), ask.deadline_ms);
            }
            self.asks.due.clear();
        } else if !self.leads() && self.leader() != 0 && self.asks.len() > 0 {
            self.ask_leader(effects);
        }
        for (member, replies) in std::mem::take(&mut self.answers) {
            self.say(member, Body::LeaseAnswer(LeaseAnswer { replies }), effects);
        }
    }

    fn ask_leader(&mut self, effects: &mut Effects) {
        let leader = self.leader();
        let asked = (self.group.term(), leader);
        if self.asks.asked != asked {
            self.asks.asked = asked;
            if is_planted(Bug::RenewalAnsweredByFollower) {
                self.answer_renewals(effects);
            }
            let all: Vec<u64> = self.asks.waiting.keys().copied().collect();
            all.into_iter().for_each(|number| self.asks.ask_at(number, 0));
        }
        loop {
            let questions = self.asks.questions(self.now_ms);
            if questions.is_empty() {
                return;
            }
            self.say(leader, Body::LeaseAsk(LeaseAsk { questions }), effects);
        }
    }

    /// A bug: nobody confirmed these.
    fn answer_renewals(&mut self, effects: &mut Effects) {
        for ask in std::mem::take(&mut self.asks.waiting).into_values() {
            if let LeaseWant::Renew(lease) = ask.want
                && let Some(lease) = self.state.leases().get(lease)
            {
                effects.replies.push((ask.ticket, Reply::Renewed { ttl: lease.ttl }));
            }
        }
        self.asks.due.clear();
    }

    pub(super) fn say(&self, to: u64, body: Body, effects: &mut Effects) {
        effects.messages.push(PeerMessage { from: self.config.member_id, to, body: Some(body) });
    }

    /// Another member asks.
    pub(super) fn hear_lease_ask(&mut self, member: u64, ask: LeaseAsk, effects: &mut Effects) {
        for Asked { number, question } in ask.questions {
            // Of a later version: left unanswered, as it would be by one that is lost.
            let Some(want) = question.map(wanted) else { continue };
            let asker = Asker::Member { member, number };
            if self.leads() && !self.fenced {
                self.enqueue(Waiting::Lease(asker, want), effects);
            } else {
                self.reply_lease(asker, Reply::Refused(Refusal::NotPrimaryLessor), effects);
            }
        }
    }

    /// The leader answers.
    pub(super) fn hear_lease_answer(&mut self, answer: LeaseAnswer, effects: &mut Effects) {
        for LeaseReply { number, reply } in answer.replies {
            let reply = match reply {
                Some(lease_reply::Reply::Renewed(ttl)) => Reply::Renewed { ttl },
                Some(lease_reply::Reply::Time(LeaseTime { ttl, granted, keys })) => {
                    Reply::TimeToLive { ttl, granted, keys }
                }
                Some(lease_reply::Reply::Leases(LeaseIds { ids })) => Reply::Leases(ids),
                Some(lease_reply::Reply::NotPrimary(_)) | None => {
                    self.asks.ask_at(number, self.now_ms + limits::LEASE_REASK_MS);
                    continue;
                }
            };
            effects.replies.extend(self.asks.take(number).map(|ticket| (ticket, reply)));
        }
    }

    /// Answers whoever asked: a client here, or another member with the message at the end of the step.
    pub(super) fn reply_lease(&mut self, asker: Asker, reply: Reply, effects: &mut Effects) {
        let (member, number) = match asker {
            Asker::Client(ticket) => return effects.replies.push((ticket, reply)),
            Asker::Member { member, number } => (member, number),
        };
        let reply = match reply {
            Reply::Renewed { ttl } => lease_reply::Reply::Renewed(ttl),
            Reply::TimeToLive { ttl, granted, keys } => lease_reply::Reply::Time(LeaseTime { ttl, granted, keys }),
            Reply::Leases(ids) => lease_reply::Reply::Leases(LeaseIds { ids }),
            // It asks again by itself while its client still waits.
            Reply::Refused(refusal) if refusal != Refusal::NotPrimaryLessor => return,
            _ => lease_reply::Reply::NotPrimary(true),
        };
        self.answers.entry(member).or_default().push(LeaseReply { number, reply: Some(reply) });
    }
}

fn question(want: LeaseWant) -> lease_question::Question {
    use lease_question::Question;
    match want {
        LeaseWant::Renew(lease) => Question::Renew(lease),
        LeaseWant::Ask(LeaseQuestion::TimeToLive { lease, keys: false }) => Question::TimeToLive(lease),
        LeaseWant::Ask(LeaseQuestion::TimeToLive { lease, keys: true }) => Question::TimeToLiveAndKeys(lease),
        LeaseWant::Ask(LeaseQuestion::Leases) => Question::Leases(true),
    }
}

fn wanted(question: lease_question::Question) -> LeaseWant {
    use lease_question::Question;
    match question {
        Question::Renew(lease) => LeaseWant::Renew(lease),
        Question::TimeToLive(lease) => LeaseWant::Ask(LeaseQuestion::TimeToLive { lease, keys: false }),
        Question::TimeToLiveAndKeys(lease) => LeaseWant::Ask(LeaseQuestion::TimeToLive { lease, keys: true }),
        Question::Leases(_) => LeaseWant::Ask(LeaseQuestion::Leases),
    }
}
