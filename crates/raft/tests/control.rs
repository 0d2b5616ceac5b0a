//! Who leads, and who may not: hand-overs, members that are barred, states to be replaced. Disks answer at once.

use std::collections::BTreeSet;

use bytes::Bytes;
use cetera_proto::raftpb::{self, MessageType};
use cetera_raft::{Config, Group, Recovered, Role};

struct Trio {
    groups: Vec<Group>,
    /// Everything that was sent.
    sent: Vec<raftpb::Message>,
    cut: BTreeSet<u64>,
}

impl Trio {
    fn new(seed: u64) -> Self {
        let member = |id| {
            let config = Config { id, election_ticks: 10, heartbeat_ticks: 1, pre_vote: true, seed: seed * 10 + id };
            let conf_state = raftpb::ConfState { voters: vec![1, 2, 3], ..Default::default() };
            Group::new(config, Recovered { conf_state, ..Default::default() }).expect("a possible configuration")
        };
        Self { groups: (1..=3).map(member).collect(), sent: Vec::new(), cut: BTreeSet::new() }
    }

    fn settle(&mut self) {
        for _ in 0..1_000 {
            let mut messages = Vec::new();
            for group in &mut self.groups {
                while let Some(ready) = group.ready() {
                    for entry in &ready.committed {
                        group.applied(entry.index);
                    }
                    messages.extend(ready.messages);
                    if ready.number != 0 {
                        group.persisted(ready.number);
                    }
                }
            }
            if messages.is_empty() {
                return;
            }
            for message in messages {
                self.sent.push(message.clone());
                if !self.cut.contains(&message.from) && !self.cut.contains(&message.to) {
                    self.groups[message.to as usize - 1].step(message);
                }
            }
        }
        panic!("the group does not come to rest");
    }

    fn tick(&mut self) {
        for group in &mut self.groups {
            group.tick();
        }
        self.settle();
    }

    fn elect(&mut self) -> usize {
        for _ in 0..100 {
            self.tick();
            let leads = |at: &usize| self.groups[*at].role() == Role::Leader && !self.cut.contains(&(*at as u64 + 1));
            if let Some(leader) = (0..3).find(leads) {
                return leader;
            }
        }
        panic!("nobody leads");
    }

    fn propose(&mut self, at: usize, data: &'static [u8]) {
        self.groups[at].propose([Bytes::from_static(data)]).expect("it leads");
    }

    /// Append messages with entries to a member since the last look.
    fn appends_to(&mut self, id: u64) -> usize {
        let appends =
            |it: &&raftpb::Message| it.to == id && it.r#type() == MessageType::MsgApp && !it.entries.is_empty();
        let count = self.sent.iter().filter(appends).count();
        self.sent.clear();
        count
    }
}

#[test]
fn leadership_handed_on_takes_no_tick_and_no_proposal_meanwhile() {
    let mut trio = Trio::new(1);
    let leader = trio.elect();
    let to = (leader + 1) % 3;
    assert!(trio.groups[leader].takes_proposals());
    trio.groups[leader].transfer_leader(to as u64 + 1);
    assert_eq!(trio.groups[leader].transferring_to(), Some(to as u64 + 1));
    assert!(!trio.groups[leader].takes_proposals());
    assert!(trio.groups[leader].propose([Bytes::from_static(b"x")]).is_err());
    trio.settle();
    assert_eq!(trio.groups[to].role(), Role::Leader);
    assert!(trio.groups[to].applied_in_term());
}

#[test]
fn a_member_that_is_barred_never_leads_and_keeps_nobody_from_leading() {
    for seed in 1..30 {
        let mut trio = Trio::new(seed);
        let leader = trio.elect();
        let barred = (leader + 1) % 3;
        trio.groups[barred].bar(true);
        trio.groups[leader].transfer_leader(barred as u64 + 1);
        trio.settle();
        trio.groups[barred].campaign();
        trio.settle();
        assert_eq!(trio.groups[leader].role(), Role::Leader);
        trio.cut.insert(leader as u64 + 1);
        let next = trio.elect();
        assert_ne!(next, barred, "seed {seed}");
        trio.groups[barred].bar(false);
        trio.cut.clear();
        trio.tick();
        trio.groups[next].transfer_leader(barred as u64 + 1);
        trio.settle();
        assert_eq!(trio.groups[barred].role(), Role::Leader, "seed {seed}");
    }
}

#[test]
fn a_member_whose_state_is_to_be_replaced_gets_nothing_else_until_then() {
    let mut trio = Trio::new(2);
    let leader = trio.elect();
    let wrong = (leader + 1) as u64 % 3 + 1;
    trio.propose(leader, b"a");
    trio.settle();
    assert!(trio.appends_to(wrong) > 0);
    assert_eq!(trio.groups[leader].snapshot_floor(wrong), 0);
    trio.groups[leader].replace_state(wrong);
    let floor = trio.groups[leader].snapshot_floor(wrong);
    assert_eq!(floor, trio.groups[leader].last_index(), "all that the member may have");
    trio.propose(leader, b"b");
    trio.settle();
    trio.tick();
    trio.groups[leader].replace_state(wrong);
    assert_eq!((trio.appends_to(wrong), trio.groups[leader].snapshot_floor(wrong)), (0, floor));
    assert_eq!(trio.groups[leader].committed(), floor + 1, "the others go on");
}

#[test]
fn a_snapshot_that_replaces_a_state_is_taken_over_whatever_the_log_holds() {
    let mut trio = Trio::new(5);
    let leader = trio.elect();
    let wrong = (leader + 1) % 3;
    trio.propose(leader, b"a");
    trio.settle();
    trio.tick();
    let index = trio.groups[leader].last_index();
    let (term, from, to) = (trio.groups[leader].term(), leader as u64 + 1, wrong as u64 + 1);
    let metadata = raftpb::SnapshotMetadata { index, term, conf_state: Some(trio.groups[leader].conf_state()) };
    let mut message = raftpb::Message { from, to, term, ..Default::default() };
    message.set_type(MessageType::MsgSnap);
    message.snapshot = Some(raftpb::Snapshot { metadata: Some(metadata.clone()), ..Default::default() });
    trio.groups[wrong].step(message.clone());
    let taken = |trio: &mut Trio| {
        let ready = std::iter::from_fn(|| trio.groups[wrong].ready());
        ready.filter_map(|ready| ready.snapshot).next()
    };
    assert!(taken(&mut trio).is_none(), "the log has all of it");
    trio.groups[wrong].step_replacement(message);
    assert_eq!(taken(&mut trio).map(|it| it.index), Some(index));
}

#[test]
fn what_was_lost_on_its_way_is_sent_again() {
    let mut trio = Trio::new(3);
    let leader = trio.elect();
    let other = (leader + 1) as u64 % 3 + 1;
    trio.tick();
    trio.cut.insert(other);
    trio.propose(leader, b"lost on its way");
    trio.settle();
    trio.cut.clear();
    assert!(trio.appends_to(other) > 0);
    trio.groups[leader].report_unreachable(other);
    trio.tick();
    assert!(trio.appends_to(other) > 0, "not sent again");
    let progress = trio.groups[leader].progress();
    assert!(progress.iter().all(|it| it.matched == trio.groups[leader].last_index()), "{progress:?}");
    assert!(trio.groups[other as usize - 1].progress().is_empty(), "only a leader knows");
}

#[test]
fn a_leader_whose_connection_is_lost_counts_as_silent_until_it_is_heard() {
    let mut trio = Trio::new(4);
    let leader = trio.elect();
    let other = (leader + 1) % 3;
    trio.tick();
    assert!(!trio.groups[other].leader_is_silent());
    trio.groups[other].leader_connection_lost();
    assert!(trio.groups[other].leader_is_silent());
    assert!(!trio.groups[leader].leader_is_silent(), "a leader does not wait for itself");
    trio.groups[leader].tick();
    trio.settle();
    assert!(!trio.groups[other].leader_is_silent());
}
