//! A leader of two that removes itself, and the one that remains. Disks answer at once.

use bytes::Bytes;
use cetera_proto::raftpb::{self, MessageType};
use cetera_raft::{Config, EntryKind, Group, Recovered, Role};
use prost::Message as _;

struct Pair {
    groups: Vec<Group>,
    /// What is under way.
    sent: Vec<raftpb::Message>,
    /// What the leader said last as a leader; it is lost.
    parting: Vec<raftpb::Message>,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let member = |id| {
            let config = Config { id, election_ticks: 10, heartbeat_ticks: 1, pre_vote: true, seed: seed * 10 + id };
            let conf_state = raftpb::ConfState { voters: vec![1, 2], ..Default::default() };
            Group::new(config, Recovered { conf_state, ..Default::default() }).expect("a possible configuration")
        };
        Self { groups: (1..=2).map(member).collect(), sent: Vec::new(), parting: Vec::new() }
    }

    /// Carries out what a member has to do; its messages are under way then.
    fn drain(&mut self, at: usize) {
        let group = &mut self.groups[at];
        while let Some(ready) = group.ready() {
            for entry in &ready.committed {
                if entry.kind == EntryKind::ConfChange {
                    let change = raftpb::ConfChange::decode(&entry.data[..]).expect("a change");
                    group.apply_conf_change(&change).expect("a possible change");
                }
                group.applied(entry.index);
            }
            self.sent.extend(ready.messages);
            if ready.number != 0 {
                group.persisted(ready.number);
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..1_000 {
            (0..2).for_each(|at| self.drain(at));
            if self.sent.is_empty() {
                return;
            }
            for message in std::mem::take(&mut self.sent) {
                self.groups[message.to as usize - 1].step(message);
            }
        }
        panic!("the group does not come to rest");
    }

    fn tick(&mut self) {
        self.groups.iter_mut().for_each(Group::tick);
        self.settle();
    }

    fn elect(&mut self) -> usize {
        for _ in 0..100 {
            self.tick();
            if let Some(leader) = (0..2).find(|at| self.groups[*at].role() == Role::Leader) {
                return leader;
            }
        }
        panic!("nobody leads");
    }

    /// The leader removes itself, and has one entry more than the other, to whom nothing is said of what is committed.
    /// Returns the leader that was, and the other.
    fn part(&mut self) -> (usize, usize) {
        let leader = self.elect();
        self.tick();
        let other = 1 - leader;
        let mut change = raftpb::ConfChange { node_id: leader as u64 + 1, ..Default::default() };
        change.set_type(raftpb::ConfChangeType::ConfChangeRemoveNode);
        self.groups[leader].propose_conf_change(&change).expect("it leads");
        self.drain(leader);
        for message in std::mem::take(&mut self.sent) {
            self.groups[other].step(message);
        }
        self.drain(other);
        let acknowledged = std::mem::take(&mut self.sent);
        self.groups[leader].propose([Bytes::from_static(b"one more")]).expect("it leads still");
        self.drain(leader);
        acknowledged.into_iter().for_each(|message| self.groups[leader].step(message));
        self.drain(leader);
        assert_eq!(self.groups[leader].conf_state().voters, [other as u64 + 1], "it knows that it is removed");
        assert_eq!(self.groups[leader].role(), Role::Follower, "and leads no more");
        assert!(self.sent.iter().any(|message| message.r#type() == MessageType::MsgTimeoutNow), "it hands on");
        assert!(self.sent.iter().any(|message| message.r#type() == MessageType::MsgHeartbeat), "it tells");
        self.parting = std::mem::take(&mut self.sent);
        assert_eq!(self.groups[other].conf_state().voters.len(), 2, "the other does not know");
        assert!(self.groups[other].last_index() < self.groups[leader].last_index());
        (leader, other)
    }
}

#[test]
fn the_last_one_of_two_is_told_that_it_is_alone() {
    for seed in 1..20 {
        let mut pair = Pair::new(seed);
        let (leader, other) = pair.part();
        assert_eq!(pair.elect(), other, "seed {seed}");
        assert_eq!(pair.groups[other].conf_state().voters, [other as u64 + 1]);
        assert_eq!(pair.groups[leader].role(), Role::Follower);
        pair.groups[other].propose([Bytes::from_static(b"alone")]).expect("it leads");
        pair.settle();
        assert_eq!(pair.groups[other].committed(), pair.groups[other].last_index());
    }
}

#[test]
fn the_last_one_of_two_leads_also_if_it_stands_before_it_is_told() {
    for seed in 1..20 {
        let mut pair = Pair::new(seed);
        let (leader, other) = pair.part();
        let hands_on = |message: &raftpb::Message| message.r#type() == MessageType::MsgTimeoutNow;
        let word = pair.parting.iter().find(|message| hands_on(message)).expect("it hands on").clone();
        pair.groups[other].step(word);
        assert_eq!(pair.groups[other].role(), Role::Candidate, "in a term of its own");
        assert_eq!(pair.elect(), other, "seed {seed}");
        for _ in 0..5 {
            pair.tick();
        }
        assert_eq!(pair.groups[other].conf_state().voters, [other as u64 + 1], "seed {seed}");
        assert_eq!((pair.groups[leader].role(), pair.groups[other].role()), (Role::Follower, Role::Leader));
        pair.groups[other].propose([Bytes::from_static(b"alone")]).expect("it leads");
        pair.settle();
        assert_eq!(pair.groups[other].committed(), pair.groups[other].last_index());
    }
}

#[test]
fn nobody_is_told_more_than_it_has() {
    let mut pair = Pair::new(1);
    let (leader, other) = pair.part();
    let has = pair.groups[other].last_index();
    let (term, from, to) = (pair.groups[leader].term() + 1, other as u64 + 1, leader as u64 + 1);
    let mut asks = raftpb::Message { from, to, term, index: has, log_term: term - 1, ..Default::default() };
    asks.set_type(MessageType::MsgPreVote);
    pair.groups[leader].step(asks.clone());
    pair.drain(leader);
    let told: Vec<(i32, u64)> = pair.sent.drain(..).map(|message| (message.r#type, message.commit)).collect();
    assert_eq!(told, [(MessageType::MsgHeartbeat as i32, has)]);
    // Who knows already is answered like anybody.
    pair.groups[leader].step(raftpb::Message { commit: has, ..asks });
    pair.drain(leader);
    assert!(pair.sent.iter().all(|message| message.r#type() != MessageType::MsgHeartbeat));
}
