//! Members compare what they have become, and one that went wrong keeps to itself.
//!
//! Equal logs give equal states; a fault of memory, of a disk or of this program may break that. So members tell each
//! other the hash of their state at indexes where they can meet: the last few multiples of some powers of two, and where
//! they are now, for a group at rest. One whose hash differs from what a majority of voters has at the same index fences
//! itself: it serves no reads, takes no proposals, hands leadership on and does not stand again, and asks the leader for
//! a snapshot. Its log and its votes are not in doubt, so it goes on acknowledging and voting for others.
//!
//! Where no majority agrees nobody can say who is wrong: the leader raises the CORRUPT alarm for member 0, as etcd does,
//! and writes stop everywhere.

use std::collections::{BTreeMap, VecDeque};

use cetera_proto::ceterapb::{StateAt, StateReport, peer_message::Body};
use cetera_proto::etcdserverpb::{self as pb, AlarmType, alarm_request::AlarmAction};

use super::{Mode, Node, refuse_all};
use crate::event::{Effects, Fatal, Refusal};
use crate::limits;

/// What this member was, and what the others say they were.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Of this member, per distance between agreed indexes, the newest last.
    own: [VecDeque<StateAt>; limits::REPORT_DISTANCES.len()],
    /// Where this member was when it reported last: others may be there still.
    resting: Option<StateAt>,
    others: BTreeMap<u64, StateReport>,
    /// One of them is new.
    heard: bool,
    reported_ms: u64,
    /// Since when states differ and no majority agrees.
    undecided_since_ms: Option<u64>,
}

/// What a comparison came to.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Verdict {
    /// Nothing is known to differ.
    Equal,
    /// A majority of voters agrees on another state than this member's.
    Wrong,
    /// States differ, and no majority agrees; `true` if all voters have spoken.
    Undecided(bool),
}

impl Node {
    /// Keeps the hash of the state as it is at an agreed index. Called after every entry.
    pub(super) fn note_state(&mut self, index: u64) {
        if !index.is_multiple_of(limits::REPORT_DISTANCES[0]) {
            return;
        }
        let now = self.state_now();
        for (own, distance) in self.reports.own.iter_mut().zip(limits::REPORT_DISTANCES) {
            if index.is_multiple_of(distance) {
                if own.len() >= limits::REPORT_HASHES_KEPT {
                    own.pop_front();
                }
                own.push_back(now);
            }
        }
    }

    fn state_now(&self) -> StateAt {
        let hash = self.state.hash();
        StateAt { index: self.state.applied_index(), finished: hash.finished, sum: hash.sum }
    }

    /// Every so often: tells the others, and looks at what they told.
    pub(super) fn report(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        if self.mode != Mode::Running {
            return Ok(());
        }
        let due = self.now_ms >= self.reports.reported_ms + limits::REPORT_EVERY_MS;
        if due && !self.group.is_alone() {
            self.send_report(effects);
        }
        if due || std::mem::take(&mut self.reports.heard) {
            self.look_at_reports(effects)?;
        }
        Ok(())
    }

    fn send_report(&mut self, effects: &mut Effects) {
        self.reports.reported_ms = self.now_ms;
        let now = self.state_now();
        self.reports.resting = Some(now);
        let newest = |own: &VecDeque<StateAt>| own.iter().rev().take(limits::REPORT_HASHES_SENT).copied().collect();
        let mut states: Vec<StateAt> =
            self.reports.own.iter().flat_map(|own| -> Vec<StateAt> { newest(own) }).collect();
        states.push(now);
        let members = self.state.members();
        for member in members.iter().filter(|member| member.id != self.config.member_id) {
            let report = StateReport { states: states.clone(), fenced: self.fenced };
            self.say(member.id, Body::StateReport(report), effects);
        }
        self.reports.others.retain(|id, _| members.iter().any(|member| member.id == *id));
    }

    /// Another member told where it is.
    pub(super) fn hear_report(&mut self, member: u64, report: StateReport) {
        self.reports.others.insert(member, report);
        self.reports.heard = true;
    }

    fn look_at_reports(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        self.answer_fenced();
        if self.fenced {
            self.leave_office(effects);
            return Ok(());
        }
        match self.verdict() {
            Verdict::Equal => self.reports.undecided_since_ms = None,
            Verdict::Wrong => self.fence(effects),
            Verdict::Undecided(all) => {
                let since = *self.reports.undecided_since_ms.get_or_insert(self.now_ms);
                if all || self.now_ms >= since + limits::UNDECIDED_MS_MAX {
                    self.raise_corrupt(effects)?;
                }
            }
        }
        Ok(())
    }

    /// The worst that any index shows at which this member and others have met.
    fn verdict(&self) -> Verdict {
        let voters = self.state.conf_state().voters;
        let majority = voters.len() / 2 + 1;
        let mut worst = Verdict::Equal;
        for own in self.reports.own.iter().flatten().chain(&self.reports.resting) {
            let at_it = |report: &StateReport| {
                let met = |it: &&StateAt| (it.index, it.finished) == (own.index, own.finished);
                report.states.iter().find(met).map(|it| it.sum)
            };
            let me = voters.contains(&self.config.member_id).then_some(own.sum);
            let others = self.reports.others.iter().filter(|(id, _)| voters.contains(id));
            let sums: Vec<u64> = others.filter_map(|(_, report)| at_it(report)).chain(me).collect();
            if sums.iter().all(|sum| *sum == own.sum) {
                continue;
            }
            let agree = |sum: &u64| sums.iter().filter(|other| *other == sum).count();
            match sums.iter().find(|sum| agree(sum) >= majority) {
                Some(sum) if *sum == own.sum => {}
                Some(_) => return Verdict::Wrong,
                None => worst = Verdict::Undecided(sums.len() == voters.len() || worst == Verdict::Undecided(true)),
            }
        }
        worst
    }

    /// This member's state is not to be trusted. Nothing that depends on it leaves any more.
    fn fence(&mut self, effects: &mut Effects) {
        self.fenced = true;
        self.dirty = true;
        self.group.bar(true);
        self.step_down(effects);
        refuse_all(self.waiters.drain(), Refusal::Timeout, effects);
        refuse_all(self.held.drain(), Refusal::Corrupt, effects);
        self.refuse_waiting(u64::MAX, Refusal::Corrupt, effects);
        self.leave_office(effects);
    }

    /// A fenced member does not lead; until another one can, it is asked again with each report.
    fn leave_office(&mut self, effects: &mut Effects) {
        if self.group.role() == cetera_raft::Role::Leader && self.group.transferring_to().is_none() {
            self.begin_transfer(None, 0, effects);
        }
    }

    /// This member's state is another one now, taken over from the leader.
    pub(super) fn state_replaced(&mut self) {
        self.fenced = false;
        self.dirty = true;
        self.group.bar(false);
        self.reports = Reports { reported_ms: self.now_ms, ..Reports::default() };
    }

    /// The leader gives those that have fenced themselves its own state.
    fn answer_fenced(&mut self) {
        if !self.leads() || self.fenced {
            return;
        }
        for (member, report) in &mut self.reports.others {
            if std::mem::take(&mut report.fenced) {
                self.group.replace_state(*member);
            }
        }
    }

    /// Nobody can say who is wrong: all writes stop.
    fn raise_corrupt(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        let alarm = AlarmType::Corrupt as i32;
        let raised = self.state.alarms().iter().any(|it| it.alarm == alarm);
        if raised || !self.leads() || !self.group.takes_proposals() {
            return Ok(());
        }
        let action = AlarmAction::Activate as i32;
        let request = Some(Box::new(pb::AlarmRequest { action, member_id: 0, alarm }));
        let (_, request) = self.own_request(pb::InternalRaftRequest { alarm: request, ..Default::default() });
        // Not taken now, it is proposed again with the next report.
        if self.group.propose([request]).is_ok() {
            self.advance(effects)?;
        }
        Ok(())
    }
}
