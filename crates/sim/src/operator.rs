//! The operator: changes who belongs to the group, while everything else goes on.
//!
//! It has spare machines. It adds members on them, as learners or at once with a vote, promotes, removes (the leader too),
//! moves and replaces members, and hands leadership over, one task at a time, towards a size that it changes its mind about.
//! A task whose outcome is unknown is looked up in the list of members, as a person would. A machine is given to a member
//! before it is added and taken back, and its disk emptied, only when the member is removed for good: no member ever comes
//! back without what it knew.

mod doubts;

use std::collections::{BTreeMap, BTreeSet};

use cetera_node::event::{Change, Event, Refusal, Reply, Ticket};
use cetera_proto::raftpb::{ConfChange, ConfChangeType};
use cetera_server::node_thread::OWN_FRONT;
use cetera_state::id;
use cetera_state::member::{Member, write_member, write_promotion};

use self::doubts::Doubts;
use crate::core::{Core, Happening};
use crate::dice::{Dice, Stream};
use crate::host::Seat;
use crate::plan::{Options, Plan};
use crate::world::World;

/// Tickets of the operator begin here: below are those of members that publish themselves.
pub(crate) const OPERATOR_SLOTS: u64 = 1 << 40;
/// Time between its looks at how things are.
const LOOK_US: u64 = 20_000;
/// How long it waits for the outcome of a task.
const PATIENCE_US: u64 = 8_000_000;
/// Longest time that a removed member's process goes on, if it does not end by itself.
const ZOMBIE_US_MAX: u64 = 6_000_000;
/// It begins its work not before.
const FIRST_US: u64 = 1_000_000;
/// How many members with a vote there are to be.
const TARGETS: [usize; 4] = [1, 3, 3, 5];
/// Members with a vote at most.
const VOTERS_MAX: usize = 5;

/// Something to be done.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Task {
    /// A member joins.
    Add {
        /// Where it will run.
        machine: usize,
        /// Its id.
        id: u64,
        /// Without a vote.
        learner: bool,
    },
    /// A learner gets a vote.
    Promote(u64),
    /// A member is removed.
    Remove(u64),
    /// A member is to be reached elsewhere.
    Move(u64),
    /// Leadership goes to a member; 0 for any.
    Transfer(u64),
}

impl Task {
    /// Its name in counts.
    fn name(self) -> &'static str {
        match self {
            Self::Add { learner: true, .. } => "add-learner",
            Self::Add { .. } => "add-member",
            Self::Promote(_) => "promote",
            Self::Remove(_) => "remove",
            Self::Move(_) => "update",
            Self::Transfer(_) => "transfer",
        }
    }
}

/// What came of a task.
#[derive(Clone, Debug)]
pub(crate) enum Done {
    /// It is done.
    Yes,
    /// It was refused, and nothing was done.
    No(String),
    /// Nobody knows.
    Perhaps,
}

#[derive(Debug)]
struct UnderWay {
    task: Task,
    slot: u64,
    until_us: u64,
    /// Last entry that the leader's disk had when it was asked: that is what it counts.
    last: u64,
}

/// The operator.
pub(crate) struct Operator {
    dice: Dice,
    /// Whether it does anything of itself.
    works: bool,
    slots: u64,
    under_way: Option<UnderWay>,
    /// Voters that there are to be.
    target: usize,
    next_us: u64,
    until_us: u64,
    /// Machines of members that were asked for and are not in the list yet.
    pub(crate) reserved: BTreeMap<u64, usize>,
    doubts: Doubts,
    /// Removed members: when their machines are taken back at the earliest, and an index by which they were removed.
    leaving: BTreeMap<u64, (u64, u64)>,
    /// Tasks done.
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

impl Operator {
    pub(crate) fn new(plan: &Plan, options: &Options) -> Self {
        let mut dice = Dice::new(plan.seed, Stream::Operator);
        let works = options.machines > options.members;
        Self {
            works,
            slots: OPERATOR_SLOTS,
            under_way: None,
            target: dice.pick(&TARGETS),
            next_us: FIRST_US + dice.skewed(0, 10_000_000),
            until_us: plan.seconds * 1_000_000,
            reserved: BTreeMap::new(),
            doubts: Doubts::default(),
            leaving: BTreeMap::new(),
            counts: BTreeMap::new(),
            dice,
        }
    }

    /// Whether nothing is open.
    pub(crate) fn is_idle(&self) -> bool {
        self.under_way.is_none() && self.reserved.is_empty()
    }

    /// Its first look.
    pub(crate) fn schedule(&self, core: &mut Core) {
        if self.works {
            core.after(LOOK_US, Happening::Operate);
        }
    }
}

/// Who belongs to the group, as the member knows that has applied most.
#[derive(Clone, Debug, Default)]
pub(crate) struct Now {
    pub(crate) members: Vec<Member>,
    removed: BTreeSet<u64>,
    applied: u64,
}

impl Now {
    fn voters(&self) -> Vec<u64> {
        self.members.iter().filter(|member| !member.is_learner).map(|member| member.id).collect()
    }
}

impl World {
    /// Who belongs to the group, as the running member knows that has applied most.
    pub(crate) fn membership(&self) -> Now {
        let nodes = self.hosts.iter().filter_map(|host| host.node());
        let newest = nodes.max_by_key(|node| node.state().applied_index());
        newest.map_or_else(Now::default, |node| {
            let membership = node.state().membership();
            let applied = node.state().applied_index();
            Now { members: membership.list().to_vec(), removed: membership.removed().clone(), applied }
        })
    }

    /// The operator looks at how things are.
    pub(crate) fn operate(&mut self) {
        self.core.after(LOOK_US, Happening::Operate);
        self.keep_house();
        for (slot, done) in std::mem::take(&mut self.core.told_operator) {
            if self.operator.under_way.as_ref().is_some_and(|under_way| under_way.slot == slot) {
                let under_way = self.operator.under_way.take().expect("just seen");
                self.task_ends(&under_way, done);
            }
        }
        if let Some(under_way) = self.operator.under_way.take_if(|task| task.until_us <= self.core.now_us) {
            self.task_ends(&under_way, Done::Perhaps);
        }
        let now_us = self.core.now_us;
        let working = self.core.faults_on && self.operator.works && now_us < self.operator.until_us;
        if self.operator.under_way.is_some() || now_us < self.operator.next_us || !(working || self.has_reserved()) {
            return;
        }
        self.operator.next_us = now_us + self.operator.dice.skewed(20_000, 4_000_000);
        if let Some(task) = self.next_task() {
            self.ask_operator(task);
        }
    }

    fn has_reserved(&self) -> bool {
        !self.operator.reserved.is_empty()
    }

    /// Machines follow the list of members.
    pub(crate) fn keep_house(&mut self) {
        let now = self.membership();
        self.operator.doubts.settle(&now);
        for member in &now.members {
            if let Some(machine) = self.operator.reserved.remove(&member.id) {
                let host = &mut self.hosts[machine];
                host.seat = Seat::Joins;
                self.core.ids[machine] = member.id;
                self.core.checks.seat(machine, member.id);
                self.core.trace.say(self.core.now_us, "OPERATOR", || format!("m{machine} is {:x}", member.id));
                let (low, high) = self.core.options.start_us;
                let after_us = self.operator.dice.skewed(low, high);
                self.core.after(after_us, Happening::Start { host: machine });
            }
        }
        for machine in 0..self.hosts.len() {
            let id = self.core.ids[machine];
            if id == 0 || !now.removed.contains(&id) {
                continue;
            }
            let now_us = self.core.now_us;
            let zombie_us = self.operator.dice.skewed(0, ZOMBIE_US_MAX);
            let leaves = (now_us + zombie_us, now.applied);
            let (leaves_us, index) = *self.operator.leaving.entry(id).or_insert(leaves);
            // Until most of the others know that it is gone, and would after a power loss, they may need its vote.
            let knows = |voter: &u64| self.knows_committed(*voter, index);
            let voters = now.voters();
            let is_known = voters.iter().filter(|voter| knows(voter)).count() * 2 > voters.len();
            if is_known && (now_us >= leaves_us || !self.core.faults_on) {
                self.operator.leaving.remove(&id);
                self.vacate(machine);
            }
        }
    }

    /// Whether a member belongs to the group.
    pub(crate) fn belongs(&self, id: u64) -> bool {
        self.membership().members.iter().any(|member| member.id == id)
    }

    /// Whether every machine's member belongs to the group.
    pub(crate) fn no_zombies(&self) -> bool {
        let removed = self.membership().removed;
        self.core.ids.iter().all(|id| *id == 0 || !removed.contains(id))
    }

    /// Whether a member would know after a power loss that the entries through this one are committed.
    fn knows_committed(&self, voter: u64, index: u64) -> bool {
        let seat = self.core.ids.iter().position(|seated| *seated == voter);
        seat.is_some_and(|at| self.core.checks.knows_committed(at, index))
    }

    /// Machines of members that have a vote and can run.
    pub(crate) fn voters(&self) -> Vec<usize> {
        let voters = self.membership().voters();
        let can_run = |at: &usize| self.hosts[*at].refused.is_none() && voters.contains(&self.core.ids[*at]);
        (0..self.hosts.len()).filter(can_run).collect()
    }

    /// A machine is taken back: its process ends, its disk is emptied.
    fn vacate(&mut self, machine: usize) {
        let World { core, hosts, .. } = self;
        core.trace.say(core.now_us, "OPERATOR", || format!("m{machine} is free"));
        hosts[machine].vacate(core);
        core.ids[machine] = 0;
        core.checks.seat(machine, 0);
    }

    /// A machine whose member will be there when all is well.
    fn is_sound(&self, id: u64) -> bool {
        let reserved = self.operator.reserved.contains_key(&id);
        let seat = self.core.ids.iter().position(|seated| *seated == id);
        reserved || seat.is_some_and(|at| !self.hosts[at].is_lost() && !self.core.checks.rotten[at])
    }

    /// Whether a group of these voters goes on once faults are over.
    fn goes_on(&self, voters: &[u64]) -> bool {
        voters.iter().filter(|id| self.is_sound(**id)).count() * 2 > voters.len()
    }

    /// Whether the group goes on without this machine for good, whatever is under way. While those that run know less
    /// than is committed, it cannot be told: somebody may have a vote that they do not know of.
    pub(crate) fn may_lose(&self, machine: usize) -> bool {
        let now = self.membership();
        if now.applied < self.core.checks.committed() {
            return false;
        }
        let id = self.core.ids[machine];
        // Removed, but not vacated: the others may need its log to learn that.
        if now.removed.contains(&id) {
            return false;
        }
        let is_enough = |voters: &[u64]| {
            let left = voters.iter().filter(|voter| **voter != id && self.is_sound(**voter)).count();
            left * 2 > voters.len()
        };
        self.operator.is_idle() && self.operator.doubts.whatever_comes(&now.voters(), is_enough)
    }

    fn next_task(&mut self) -> Option<Task> {
        let now = self.membership();
        if let Some((&id, &machine)) = self.operator.reserved.iter().next() {
            // It may be in some log: it is asked for until it is in the list.
            return Some(Task::Add { machine, id, learner: self.operator.dice.chance(700) });
        }
        let voters = now.voters();
        // What is gone for good is removed first.
        let lost = now.members.iter().map(|member| member.id).find(|id| !self.is_sound(*id));
        if let Some(id) = lost {
            let rest: Vec<u64> = voters.iter().copied().filter(|voter| *voter != id).collect();
            return (!rest.is_empty() && self.goes_on(&rest)).then_some(Task::Remove(id));
        }
        let learner = now.members.iter().find(|member| member.is_learner).map(|member| member.id);
        let dice = &mut self.operator.dice;
        let chosen = dice.below(100);
        let (first, second) = (dice.bits(), dice.bits());
        if voters.len() == self.operator.target && chosen < 30 {
            self.operator.target = dice.pick(&TARGETS);
        }
        let target = self.operator.target;
        let leader = self.hosts.iter().filter_map(|host| host.node()).map(|node| node.published());
        let leader = leader.max_by_key(|seen| seen.term).map(|seen| seen.leader).filter(|leader| *leader != 0);
        let any = |of: &[u64], bits: u64| of.get((bits % of.len().max(1) as u64) as usize).copied();
        let victim = if chosen.is_multiple_of(2) { leader } else { None }.or_else(|| any(&voters, first));
        match chosen {
            0..10 => return any(&voters, first).map(Task::Transfer),
            10..15 => return any(&voters, first).map(Task::Move),
            15..20 => {
                if let Some(id) = learner {
                    return Some(Task::Remove(id));
                }
            }
            _ => {}
        }
        let replaces = voters.len() == target && voters.len() > 1 && chosen >= 60;
        if voters.len() > target || replaces {
            let victim = victim.filter(|id| voters.contains(id))?;
            if voters.len() == 2 && !self.core.options.pre_vote {
                // Without pre-votes the last one may never learn that it is alone.
                return None;
            }
            let rest: Vec<u64> = voters.iter().copied().filter(|id| *id != victim).collect();
            return self.goes_on(&rest).then_some(Task::Remove(victim));
        }
        if let Some(id) = learner {
            let grown = [voters, vec![id]].concat();
            return self.goes_on(&grown).then_some(Task::Promote(id));
        }
        if voters.len() < target.min(VOTERS_MAX) || chosen >= 80 {
            let free: Vec<usize> = (0..self.hosts.len()).filter(|at| self.hosts[*at].seat == Seat::Nobody).collect();
            let machine = *free.get((second % free.len().max(1) as u64) as usize)?;
            let learner = voters.len() >= target || chosen % 10 < 7;
            self.core.unique += 1;
            let id = member_id(machine, self.core.unique);
            self.operator.reserved.insert(id, machine);
            // Until it is there, its vote counts among those that are not.
            let grown = [voters, vec![id]].concat();
            if learner || self.goes_on(&grown) {
                return Some(Task::Add { machine, id, learner });
            }
            self.operator.reserved.remove(&id);
        }
        None
    }

    /// A member is asked to do it: the leader what only it does, if there is one, else anybody that runs.
    pub(crate) fn ask_operator(&mut self, task: Task) {
        let running: Vec<usize> = self.hosts.iter().filter(|host| host.is_serving()).map(|host| host.index).collect();
        let leader = running.iter().copied().find(|at| {
            self.hosts[*at].node().map(|node| node.published()).is_some_and(|seen| seen.leader == seen.member_id)
        });
        let thrown = self.operator.dice.bits();
        let any = running.get((thrown % running.len().max(1) as u64) as usize).copied();
        let Some(at) = (if matches!(task, Task::Promote(_) | Task::Transfer(_)) { leader } else { None }).or(any)
        else {
            return;
        };
        let slot = self.ask_member(at, task);
        let last = self.core.checks.durable_index(at);
        let until_us = self.core.now_us + PATIENCE_US;
        self.operator.under_way = Some(UnderWay { task, slot, until_us, last });
    }

    /// One member is asked to do it; the ticket of its answer.
    pub(crate) fn ask_member(&mut self, at: usize, task: Task) -> u64 {
        self.operator.slots += 1;
        let slot = self.operator.slots;
        let ticket = Ticket { front: OWN_FRONT, slot };
        self.core.trace.say(self.core.now_us, "OPERATOR", || format!("asks m{at}: {task:?}"));
        let (kind, node_id, context) = match task {
            Task::Transfer(to) => {
                let World { core, hosts, .. } = self;
                hosts[at].push_event(Event::Transfer { ticket: Some(ticket), to }, core);
                return slot;
            }
            Task::Add { machine, id, learner } => {
                let member = Member { id, peer_urls: peer_urls(machine), is_learner: learner, ..Member::default() };
                let kind =
                    if learner { ConfChangeType::ConfChangeAddLearnerNode } else { ConfChangeType::ConfChangeAddNode };
                (kind, id, write_member(&member))
            }
            Task::Promote(id) => (ConfChangeType::ConfChangeAddNode, id, write_promotion(id)),
            Task::Remove(id) => (ConfChangeType::ConfChangeRemoveNode, id, Vec::new()),
            Task::Move(id) => {
                self.core.unique += 1;
                let peer_urls = vec![format!("http://moved-{}:2380", self.core.unique)];
                let member = Member { id, peer_urls, ..Member::default() };
                (ConfChangeType::ConfChangeUpdateNode, id, write_member(&member))
            }
        };
        let World { core, hosts, .. } = self;
        let id = hosts[at].next_request_id();
        let change = ConfChange { id, r#type: kind as i32, node_id, context: context.into() };
        let promotes = matches!(task, Task::Promote(_));
        hosts[at].push_event(Event::Change(Change { ticket, change, promotes }), core);
        slot
    }

    fn task_ends(&mut self, under_way: &UnderWay, done: Done) {
        let task = under_way.task;
        self.core.trace.say(self.core.now_us, "OPERATOR", || format!("{task:?}: {done:?}"));
        match (&done, task) {
            (Done::Yes, Task::Promote(id)) => {
                *self.operator.counts.entry(task.name()).or_default() += 1;
                let seat = self.core.ids.iter().position(|seated| *seated == id);
                let has = seat.map_or(0, |at| self.core.checks.last_index(at));
                if seat.is_some() && has * 100 < under_way.last * READY_PERCENT {
                    self.core.checks.violated(format!(
                        "a learner was promoted with {has} entries, when its leader had {}",
                        under_way.last
                    ));
                }
            }
            (Done::Yes, _) => *self.operator.counts.entry(task.name()).or_default() += 1,
            (Done::Perhaps, _) => self.operator.doubts.add(task),
            (Done::No(_), _) => {}
        }
    }
}

/// What an answer says of a task.
pub(crate) fn outcome(reply: &Reply) -> Done {
    match reply {
        Reply::Changed { result: Ok(_), .. } | Reply::Transferred(_) => Done::Yes,
        Reply::Changed { result: Err(error), .. } => Done::No(format!("{error:?}")),
        Reply::Refused(Refusal::Timeout | Refusal::Stopped | Refusal::LeaderChanged) => Done::Perhaps,
        other => Done::No(format!("{other:?}")),
    }
}

/// A learner must have so much of the leader's log to be promoted.
const READY_PERCENT: u64 = 90;

/// The id of a new member on a machine.
pub(crate) fn member_id(machine: usize, unique: u64) -> u64 {
    id::member_id(&peer_urls(machine), "", Some(unique as i64))
}

fn peer_urls(machine: usize) -> Vec<String> {
    vec![format!("http://member-{machine}:2380")]
}
