//! Groups of one and three members in one thread: elections, replication, what leaves before the disk has answered.

use std::collections::VecDeque;

use bytes::Bytes;
use cetera_proto::raftpb::{self, MessageType};
use cetera_raft::{CommitNews, Config, Entry, EntryKind, Group, Ready, Recovered, Role};

/// A member with a disk that answers when the test says so.
struct Member {
    group: Group,
    /// Readies that wait for the disk, oldest first.
    unsynced: VecDeque<u64>,
    /// What a restart would find.
    durable: Recovered,
    pending: VecDeque<(u64, Vec<Entry>, Option<raftpb::HardState>)>,
    applied: Vec<(u64, Bytes)>,
    reads: Vec<Bytes>,
}

impl Member {
    fn new(id: u64, recovered: Recovered) -> Self {
        let config = Config { id, election_ticks: 10, heartbeat_ticks: 1, pre_vote: true, seed: id };
        let group = Group::new(config, recovered.clone()).expect("a possible configuration");
        Self {
            group,
            unsynced: VecDeque::new(),
            durable: recovered,
            pending: VecDeque::new(),
            applied: Vec::new(),
            reads: Vec::new(),
        }
    }

    fn restart(&self, id: u64) -> Self {
        let mut member = Self::new(id, Recovered { applied: 0, ..self.durable.clone() });
        member.durable = self.durable.clone();
        member
    }

    fn drain(&mut self) -> Vec<raftpb::Message> {
        let mut messages = Vec::new();
        while let Some(ready) = self.group.ready() {
            messages.extend(self.carry_out(ready));
        }
        messages
    }

    fn carry_out(&mut self, ready: Ready) -> Vec<raftpb::Message> {
        if ready.number != 0 {
            self.unsynced.push_back(ready.number);
            self.pending.push_back((ready.number, ready.entries, ready.hard_state));
        }
        for entry in ready.committed {
            if entry.kind == EntryKind::Normal && !entry.data.is_empty() {
                self.applied.push((entry.index, entry.data));
            }
            self.group.applied(entry.index);
        }
        self.reads.extend(ready.reads.into_iter().map(|read| read.context));
        ready.messages
    }

    /// The disk answers for everything written so far.
    fn sync(&mut self) {
        for (_, entries, hard_state) in self.pending.drain(..) {
            for entry in entries {
                self.durable.entries.retain(|kept| kept.index < entry.index);
                self.durable.entries.push(entry);
            }
            if let Some(hard_state) = hard_state {
                self.durable.hard_state = hard_state;
            }
        }
        if let Some(number) = self.unsynced.drain(..).next_back() {
            self.group.persisted(number);
        }
    }
}

fn voters(ids: &[u64]) -> Recovered {
    Recovered { conf_state: raftpb::ConfState { voters: ids.to_vec(), ..Default::default() }, ..Default::default() }
}

struct Cluster(Vec<Member>);

impl Cluster {
    fn new() -> Self {
        Self((1..=3).map(|id| Member::new(id, voters(&[1, 2, 3]))).collect())
    }

    /// Delivers messages and syncs disks until nothing moves; `cut` members neither send nor receive.
    fn settle(&mut self, cut: &[u64]) {
        for _ in 0..1_000 {
            let mut moved = false;
            for at in 0..self.0.len() {
                self.0[at].sync();
                for message in self.0[at].drain() {
                    moved = true;
                    let (from, to) = (message.from, message.to);
                    if !cut.contains(&from) && !cut.contains(&to) {
                        self.0[to as usize - 1].group.step(message);
                    }
                }
                moved |= self.0[at].group.has_ready() || !self.0[at].unsynced.is_empty();
            }
            if !moved {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    fn leader(&self, cut: &[u64]) -> Option<usize> {
        (0..3).find(|at| !cut.contains(&(*at as u64 + 1)) && self.0[*at].group.role() == Role::Leader)
    }

    fn elect(&mut self, cut: &[u64]) -> usize {
        for _ in 0..200 {
            for member in &mut self.0 {
                member.group.tick();
            }
            self.settle(cut);
            if let Some(leader) = self.leader(cut) {
                return leader;
            }
        }
        panic!("no leader after 200 ticks");
    }
}

#[test]
fn a_sole_voter_commits_only_what_its_disk_has() {
    let mut member = Member::new(1, voters(&[1]));
    member.group.campaign();
    assert!(member.drain().is_empty());
    assert!(!member.group.committed_in_term(), "the first entry of the term is not durable yet");
    member.sync();
    member.drain();
    assert!(member.group.committed_in_term());

    member.group.propose([Bytes::from_static(b"a"), Bytes::from_static(b"b")]).unwrap();
    member.drain();
    assert!(member.applied.is_empty(), "applied before the disk answered");
    member.sync();
    member.drain();
    assert_eq!(member.applied, [(2, Bytes::from_static(b"a")), (3, Bytes::from_static(b"b"))]);
}

#[test]
fn a_sole_voter_waits_for_its_disk_before_it_campaigns() {
    let mut member = Member::new(1, voters(&[1]));
    member.group.campaign();
    member.drain();
    member.sync();
    member.drain();
    member.group.propose([Bytes::from_static(b"a")]).unwrap();
    member.drain();
    let restarted = member.restart(1);
    assert_eq!(restarted.group.last_index(), 1, "the unsynced entry is gone");
    let mut restarted = restarted;
    for _ in 0..50 {
        restarted.group.tick();
        restarted.drain();
    }
    restarted.sync();
    restarted.drain();
    assert_eq!(restarted.group.role(), Role::Leader);
}

#[test]
fn a_sole_voter_tells_learners_nothing_of_a_term_that_its_disk_does_not_know() {
    let mut recovered = voters(&[1]);
    recovered.conf_state.learners = vec![2];
    let mut leader = Member::new(1, recovered);
    leader.group.campaign();
    assert_eq!(leader.group.role(), Role::Leader);
    leader.group.propose([Bytes::from_static(b"a")]).expect("it leads");
    leader.group.tick();
    assert_eq!(leader.drain(), [], "after a power loss it would lead in the same term with other entries");
    let again = leader.restart(1);
    assert_eq!(again.group.term(), 0);
    leader.sync();
    let told = leader.drain();
    assert!(told.iter().any(|message| message.r#type() == MessageType::MsgApp && message.term == 1));
    // From then on entries travel while they are synced here.
    let mut response = raftpb::Message { from: 2, to: 1, term: 1, index: 2, ..Default::default() };
    response.set_type(MessageType::MsgAppResp);
    leader.group.step(response);
    leader.drain();
    leader.group.propose([Bytes::from_static(b"b")]).expect("it leads");
    let told = leader.drain();
    assert!(!leader.unsynced.is_empty() && told.iter().any(|message| !message.entries.is_empty()));
}

#[test]
fn the_commit_index_rides_with_entries_and_is_awaited_by_other_proposers() {
    let mut cluster = Cluster::new();
    let leader = cluster.elect(&[]);
    let follower = (leader + 1) % 3;
    let applied = |cluster: &Cluster| (cluster.0[leader].applied.len(), cluster.0[follower].applied.len());
    let news = |cluster: &Cluster| cluster.0[leader].group.commit_news();
    let propose = |cluster: &mut Cluster, at: usize, what: &'static [u8]| {
        cluster.0[at].group.propose([Bytes::from_static(what)]).unwrap();
        cluster.settle(&[]);
    };
    propose(&mut cluster, leader, b"one");
    assert_eq!((applied(&cluster), news(&cluster)), ((1, 0), CommitNews::MayWait));
    propose(&mut cluster, leader, b"two");
    assert_eq!((applied(&cluster), news(&cluster)), ((2, 1), CommitNews::MayWait));
    cluster.0[leader].group.tell_commit();
    cluster.settle(&[]);
    assert_eq!((applied(&cluster), news(&cluster)), ((2, 2), CommitNews::Told));
    propose(&mut cluster, follower, b"three");
    assert_eq!((applied(&cluster), news(&cluster)), ((3, 2), CommitNews::Awaited));
    // The next entries carry it also when somebody waits.
    cluster.0[leader].group.propose([Bytes::from_static(b"four")]).unwrap();
    assert_eq!(news(&cluster), CommitNews::Told);
    cluster.settle(&[]);
    assert_eq!((applied(&cluster), news(&cluster)), ((4, 3), CommitNews::MayWait));
}

#[test]
fn three_members_replicate_and_survive_the_leader() {
    let mut cluster = Cluster::new();
    let leader = cluster.elect(&[]);
    cluster.0[leader].group.propose([Bytes::from_static(b"one")]).unwrap();
    cluster.settle(&[]);
    cluster.0[leader].group.tell_commit();
    cluster.settle(&[]);
    for member in &cluster.0 {
        assert_eq!(member.applied.len(), 1);
    }
    let cut = [leader as u64 + 1];
    cluster.0[leader].group.propose([Bytes::from_static(b"lost")]).unwrap();
    let next = cluster.elect(&cut);
    assert_ne!(next, leader);
    cluster.0[next].group.propose([Bytes::from_static(b"two")]).unwrap();
    cluster.settle(&cut);
    cluster.elect(&[]);
    for _ in 0..20 {
        for member in &mut cluster.0 {
            member.group.tick();
        }
        cluster.settle(&[]);
    }
    for member in &cluster.0 {
        let data: Vec<&[u8]> = member.applied.iter().map(|(_, data)| &data[..]).collect();
        assert_eq!(data, [&b"one"[..], b"two"]);
    }
}

#[test]
fn a_vote_and_an_append_response_wait_for_the_disk_but_a_heartbeat_response_does_not() {
    let mut cluster = Cluster::new();
    let leader = cluster.elect(&[]);
    let follower = (leader + 1) % 3;
    cluster.0[leader].group.propose([Bytes::from_static(b"x")]).unwrap();
    cluster.0[leader].group.tick();
    let messages = cluster.0[leader].drain();
    for message in messages.into_iter().filter(|message| message.to == follower as u64 + 1) {
        cluster.0[follower].group.step(message);
    }
    let early: Vec<MessageType> = cluster.0[follower].drain().iter().map(raftpb::Message::r#type).collect();
    assert!(early.contains(&MessageType::MsgHeartbeatResp), "{early:?}");
    assert!(!early.contains(&MessageType::MsgAppResp), "{early:?}");
    cluster.0[follower].sync();
    let late: Vec<MessageType> = cluster.0[follower].drain().iter().map(raftpb::Message::r#type).collect();
    assert!(late.contains(&MessageType::MsgAppResp), "{late:?}");
}

#[test]
fn a_read_is_confirmed_by_a_round_and_dropped_without_a_leader() {
    let mut cluster = Cluster::new();
    let leader = cluster.elect(&[]);
    let follower = (leader + 1) % 3;
    cluster.0[leader].group.read_index(Bytes::from_static(b"r1"));
    cluster.0[follower].group.read_index(Bytes::from_static(b"r2"));
    cluster.settle(&[]);
    assert_eq!(cluster.0[leader].reads, [Bytes::from_static(b"r1")]);
    assert_eq!(cluster.0[follower].reads, [Bytes::from_static(b"r2")]);
    let mut alone = Member::new(1, voters(&[1, 2, 3]));
    alone.group.read_index(Bytes::from_static(b"r3"));
    alone.drain();
    assert!(alone.reads.is_empty());
}

#[test]
fn a_second_membership_change_is_refused_while_one_is_pending() {
    use cetera_raft::ConfProposal;
    let mut cluster = Cluster::new();
    let leader = cluster.elect(&[]);
    let mut add = raftpb::ConfChange { node_id: 4, ..Default::default() };
    add.set_type(raftpb::ConfChangeType::ConfChangeAddLearnerNode);
    let group = &mut cluster.0[leader].group;
    assert_eq!(group.propose_conf_change(&add), Ok(ConfProposal::Accepted));
    assert_eq!(group.propose_conf_change(&add), Ok(ConfProposal::Refused));
    let state = group.apply_conf_change(&add).unwrap();
    assert_eq!(state.learners, [4]);
    let mut update = add.clone();
    update.set_type(raftpb::ConfChangeType::ConfChangeUpdateNode);
    assert_eq!(group.apply_conf_change(&update).unwrap(), state, "an update changes no vote");
}

#[test]
fn hostile_messages_are_dropped() {
    let mut member = Member::new(1, voters(&[1, 2, 3]));
    let garbage = raftpb::Entry { r#type: 1, data: Bytes::from_static(b"\xff\xff\xff"), ..Default::default() };
    let mut message = raftpb::Message { from: 2, to: 1, term: 1, entries: vec![garbage], ..Default::default() };
    message.set_type(MessageType::MsgProp);
    member.group.step(message.clone());
    message.r#type = 77;
    member.group.step(message.clone());
    message.set_type(MessageType::MsgStorageAppend);
    member.group.step(message);
    for kind in [MessageType::MsgProp, MessageType::MsgReadIndex, MessageType::MsgReadIndexResp] {
        let mut empty = raftpb::Message { from: 2, to: 1, ..Default::default() };
        empty.set_type(kind);
        member.group.step(empty);
    }
    assert!(member.drain().is_empty());
}

#[test]
fn an_answer_that_writes_nothing_waits_for_the_writes_before_it_and_no_longer() {
    let mut cluster = Cluster::new();
    let leader = cluster.elect(&[]);
    let follower = (leader + 1) % 3;
    let appends = |cluster: &mut Cluster| -> Vec<raftpb::Message> {
        let messages = cluster.0[leader].drain();
        messages.into_iter().filter(|message| message.to == follower as u64 + 1).collect()
    };
    cluster.0[leader].group.propose([Bytes::from_static(b"x")]).unwrap();
    let messages = appends(&mut cluster);
    for message in messages.clone() {
        cluster.0[follower].group.step(message);
    }
    assert!(cluster.0[follower].drain().is_empty(), "the entry is not durable");
    // The same again (a duplicate): there is nothing new to write, but the answer says the same.
    for message in messages {
        cluster.0[follower].group.step(message);
    }
    assert!(cluster.0[follower].drain().is_empty(), "the entry is still not durable");
    cluster.0[follower].sync();
    let answers = cluster.0[follower].drain().iter().filter(|m| m.r#type() == MessageType::MsgAppResp).count();
    assert_eq!(answers, 2, "the second answer stays behind although all is durable");
}

#[test]
fn a_rejection_older_than_an_acknowledgement_does_not_set_a_follower_back() {
    let mut cluster = Cluster::new();
    let leader = cluster.elect(&[]);
    let follower = (leader + 1) % 3;
    for _ in 0..10 {
        cluster.0[leader].group.propose([Bytes::from_static(b"x")]).unwrap();
        cluster.settle(&[]);
    }
    let group = &mut cluster.0[leader].group;
    let (last, term) = (group.last_index(), group.term());
    let from = follower as u64 + 1;
    let mut reject = raftpb::Message {
        from,
        to: leader as u64 + 1,
        term,
        index: last + 5,
        reject: true,
        reject_hint: last,
        log_term: term,
        ..Default::default()
    };
    reject.set_type(MessageType::MsgAppResp);
    // One for a message that overtook others: probing begins at what is known to be there.
    group.step(reject.clone());
    cluster.0[leader].drain();
    // One from long before the acknowledgements, held up on its way.
    let group = &mut cluster.0[leader].group;
    group.step(raftpb::Message { index: last, reject_hint: 2, ..reject });
    group.propose([Bytes::from_static(b"y")]).unwrap();
    for _ in 0..3 {
        cluster.0[leader].group.tick();
        let mut beat = raftpb::Message { from, to: leader as u64 + 1, term, ..Default::default() };
        beat.set_type(MessageType::MsgHeartbeatResp);
        cluster.0[leader].group.step(beat);
        for message in cluster.0[leader].drain() {
            if message.to == from && message.r#type() == MessageType::MsgApp {
                assert!(message.index >= last, "goes back to {} behind {last}", message.index);
            }
        }
    }
}

#[test]
fn a_member_that_lost_what_it_acknowledged_stops() {
    let mut cluster = Cluster::new();
    let leader = cluster.elect(&[]);
    let follower = (leader + 1) % 3;
    let (from, to, term) = (leader as u64 + 1, follower as u64 + 1, cluster.0[follower].group.term());
    let mut beat = raftpb::Message { from, to, term, commit: 50, ..Default::default() };
    beat.set_type(MessageType::MsgHeartbeat);
    assert_eq!(cluster.0[follower].group.broken(), None);
    cluster.0[follower].group.step(beat);
    let why = cluster.0[follower].group.broken().expect("it cannot go on").to_owned();
    assert!(why.contains("entry 50"), "{why}");
}

#[test]
fn members_are_told_in_order() {
    let ids = [9_000_000_000_000_000_001, 17, 5_000_000_000_000_000_003, 4, 12_345_678_901];
    let mut member = Member::new(17, voters(&ids[..3]));
    for id in &ids[3..] {
        let mut add = raftpb::ConfChange { node_id: *id, ..Default::default() };
        add.set_type(raftpb::ConfChangeType::ConfChangeAddNode);
        let state = member.group.apply_conf_change(&add).unwrap();
        assert!(state.voters.is_sorted(), "{:?}", state.voters);
    }
    assert_eq!(member.group.conf_state().voters.len(), 5);
}

/// The library can put entries into an append that is still queued. It must never put them where they do not follow on:
/// the follower would acknowledge an entry more than it has.
#[test]
fn entries_follow_the_entry_that_their_message_names() {
    let mut cluster = Cluster::new();
    let leader = cluster.elect(&[]);
    let (behind, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.0[leader].group.propose([Bytes::from_static(b"x")]).unwrap();
    cluster.0[leader].sync();
    // The entry is lost on its way to `behind`, and the other one has it: it is committed, and `behind` is to be told.
    let lost = cluster.0[leader].drain();
    assert!(lost.iter().any(|message| !message.entries.is_empty()));
    cluster.0[leader].sync();
    let group = &mut cluster.0[leader].group;
    let (last, term) = (group.last_index(), group.term());
    let answer = |from: usize, reject: bool| {
        let mut message = raftpb::Message {
            from: from as u64 + 1,
            to: leader as u64 + 1,
            term,
            index: last,
            reject,
            reject_hint: if reject { last - 1 } else { 0 },
            log_term: if reject { term } else { 0 },
            ..Default::default()
        };
        message.set_type(MessageType::MsgAppResp);
        message
    };
    group.step(answer(other, false));
    // Before that leaves, `behind` says that it does not know the entry.
    group.step(answer(behind, true));
    let messages = cluster.0[leader].drain();
    assert!(messages.iter().any(|message| !message.entries.is_empty()), "the entry is sent again");
    for message in messages {
        for (at, entry) in message.entries.iter().enumerate() {
            assert_eq!(entry.index, message.index + 1 + at as u64, "{message:?}");
        }
    }
}

/// What no member that follows the rules would send, and the library would panic at, is as good as lost.
#[test]
fn nonsense_of_a_peer_changes_nothing() {
    let recovered = Recovered {
        hard_state: raftpb::HardState { term: 2, vote: 0, commit: 3 },
        conf_state: raftpb::ConfState { voters: vec![1, 2, 3], ..Default::default() },
        entries: (1..=3).map(|index| Entry { index, term: 2, kind: EntryKind::Normal, data: Bytes::new() }).collect(),
        ..Default::default()
    };
    let message = |kind: MessageType, change: &dyn Fn(&mut raftpb::Message)| {
        let mut message = raftpb::Message { to: 1, from: 2, term: 2, ..Default::default() };
        message.set_type(kind);
        change(&mut message);
        message
    };
    let entry = |index, term| raftpb::Entry { index, term, ..Default::default() };
    let nonsense = [
        message(MessageType::MsgVote, &|m| (m.index, m.log_term, m.term) = (3, 2, u64::MAX)),
        message(MessageType::MsgHeartbeat, &|m| m.term = 0),
        message(MessageType::MsgApp, &|m| (m.index, m.log_term, m.entries) = (3, 2, vec![entry(9, 2)])),
        message(MessageType::MsgApp, &|m| (m.index, m.log_term, m.entries) = (3, 2, vec![entry(4, 7)])),
        message(MessageType::MsgApp, &|m| (m.index, m.log_term) = (9, 0)),
        message(MessageType::MsgProp, &|m| m.term = 0),
        message(MessageType::MsgProp, &|m| m.entries = vec![entry(0, 0)]),
        message(MessageType::MsgReadIndex, &|m| m.term = 0),
        message(MessageType::MsgTransferLeader, &|_| {}),
        message(MessageType::MsgSnap, &|_| {}),
        message(MessageType::MsgSnap, &|m| {
            let conf_state = Some(raftpb::ConfState { voters: vec![1, 1], ..Default::default() });
            let metadata = Some(raftpb::SnapshotMetadata { conf_state, index: 9, term: 2 });
            m.snapshot = Some(raftpb::Snapshot { metadata, ..Default::default() });
        }),
    ];
    let mut member = Member::new(1, recovered);
    // It knows a leader, so that what is forwarded would be.
    member.group.step(message(MessageType::MsgHeartbeat, &|m| m.commit = 3));
    member.drain();
    member.sync();
    member.drain();
    for message in nonsense {
        member.group.step(message.clone());
        let said = member.drain();
        assert!(said.is_empty(), "{message:?} is answered by {said:?}");
        assert_eq!((member.group.term(), member.group.last_index(), member.group.committed()), (2, 3, 3));
    }
}
