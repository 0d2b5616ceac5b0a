//! What only the world can see: the logs, states and leaders of all members side by side, all the time.

use std::collections::BTreeMap;

use cetera_node::{Node, Published};
use cetera_proto::raftpb;
use cetera_raft::Entry;
use cetera_storage::wal::WalEntry;
use prost::Message as _;

use crate::trace::digest;

/// What is known of one member's log on its disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mirror {
    /// Term of each entry, from index 1; 0 where it is not known.
    terms: Vec<u64>,
    /// Entries through this index were synced as they are.
    durable: usize,
    /// Entries through this index came in a snapshot, all of them.
    snapshot: usize,
    /// The disk was emptied, and the member was not started since.
    gone: bool,
    /// Term and vote as written, and as synced.
    vote: (u64, u64),
    durable_vote: (u64, u64),
    /// Commit index as written, and as synced.
    commit: u64,
    durable_commit: u64,
}

impl Mirror {
    /// Entries were written.
    pub(crate) fn append(&mut self, entries: &[WalEntry]) {
        let Some(first) = entries.first() else { return };
        let keep = first.index as usize - 1;
        self.terms.resize(keep, 0);
        self.durable = self.durable.min(keep);
        self.terms.extend(entries.iter().map(|entry| entry.term));
    }

    /// Term and vote were written.
    pub(crate) fn hard_state(&mut self, state: &[u8]) {
        if let Ok(state) = raftpb::HardState::decode(state) {
            self.vote = (state.term, state.vote);
            self.commit = state.commit;
        }
    }

    /// Everything written is synced.
    pub(crate) fn synced(&mut self) {
        self.durable = self.terms.len();
        self.durable_vote = self.vote;
        self.durable_commit = self.commit;
    }

    /// A snapshot through this entry was installed and is durable: it takes the place of the whole log.
    pub(crate) fn snapshot(&mut self, index: u64) {
        self.snapshot = index as usize;
        self.terms = vec![0; self.snapshot];
        self.durable = self.snapshot;
        self.durable_commit = self.durable_commit.max(index);
    }

    /// Whether the entry is on the disk for certain.
    fn holds(&self, index: u64, term: u64) -> bool {
        let at = index as usize - 1;
        at < self.snapshot || (at < self.durable && self.terms[at] == term)
    }

    /// The same, or the disk has been emptied since: what was on it then is not known any more.
    fn may_hold(&self, index: u64, term: u64) -> bool {
        self.gone || self.holds(index, term)
    }

    /// The member was started anew and holds these entries (index, term) above its checkpoint.
    ///
    /// # Errors
    /// A synced entry is not there any more.
    fn reopen(&mut self, entries: &[(u64, u64)], checkpoint: u64) -> Result<(), String> {
        let last = entries.last().map_or(checkpoint, |(index, _)| *index);
        if last < self.durable as u64 {
            return Err(format!("entry {} was synced; after the start the log ends at {last}", self.durable));
        }
        for (index, term) in entries {
            let before = self.terms.get(*index as usize - 1).copied().unwrap_or_default();
            if (*index as usize) <= self.durable && before != 0 && before != *term {
                return Err(format!("entry {index} was synced with term {before}; after the start it has term {term}"));
            }
        }
        self.gone = false;
        self.terms.resize(last as usize, 0);
        for (index, term) in entries {
            self.terms[*index as usize - 1] = *term;
        }
        self.durable = last as usize;
        Ok(())
    }

    /// The member was started anew with this term and vote.
    ///
    /// # Errors
    /// It has forgotten what it had synced.
    fn reopen_vote(&mut self, term: u64, vote: u64) -> Result<(), String> {
        let (synced_term, synced_vote) = self.durable_vote;
        if term < synced_term || (term == synced_term && vote != synced_vote && synced_vote != 0) {
            return Err(format!(
                "its vote for {synced_vote:x} in term {synced_term} was synced; after the start it is at term {term}                  with a vote for {vote:x}"
            ));
        }
        self.vote = (term, vote);
        self.durable_vote = self.vote;
        Ok(())
    }
}

/// The state of one member, as far as it is compared.
#[derive(Copy, Clone, Debug)]
struct Seen {
    sum: u64,
    member: usize,
}

/// What all members together must keep.
#[derive(Debug)]
pub(crate) struct Checks {
    /// What was violated.
    pub(crate) violations: Vec<String>,
    /// Terms with their leader.
    leaders: BTreeMap<u64, usize>,
    /// Applied entries: term and digest.
    entries: BTreeMap<u64, (u64, u64)>,
    /// State sums by applied index and finished compaction.
    states: BTreeMap<(u64, i64), Seen>,
    /// Applied index seen last, by member.
    applied: Vec<u64>,
    /// Voters seen last, by member.
    voters: Vec<Vec<u64>>,
    /// The member that each machine is, by its id; 0 for none.
    ids: Vec<u64>,
    /// The highest index that any member took for committed.
    committed: u64,
    /// By member.
    mirrors: Vec<Mirror>,
    /// Of members whose machines were taken back: a leader that has not applied their removal yet still counts them, and
    /// may, for what they had acknowledged. A majority with them meets every majority without them.
    departed: BTreeMap<u64, Mirror>,
    /// Members whose disk has rotted: what they lose proves nothing.
    pub(crate) rotten: Vec<bool>,
    /// Hash comparisons made.
    pub(crate) compared: u64,
    /// Comparisons of entries made.
    pub(crate) entries_compared: u64,
}

/// More violations than these say nothing new.
const VIOLATIONS_MAX: usize = 20;

impl Checks {
    /// For machines with these members on them, 0 for none; all of them are founders.
    pub(crate) fn new(ids: &[u64]) -> Self {
        let members = ids.len();
        let founders: Vec<u64> = ids.iter().copied().filter(|id| *id != 0).collect();
        Self {
            violations: Vec::new(),
            leaders: BTreeMap::new(),
            entries: BTreeMap::new(),
            states: BTreeMap::new(),
            applied: vec![0; members],
            voters: vec![founders.clone(); members],
            ids: ids.to_vec(),
            committed: founders.len() as u64,
            mirrors: vec![Mirror::default(); members],
            departed: BTreeMap::new(),
            rotten: vec![false; members],
            compared: 0,
            entries_compared: 0,
        }
    }

    /// The highest index that any member took for committed.
    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    /// A member's disk was emptied. What it had acknowledged, and may still be on its way, was on its disk; but if it is
    /// ever started again, nothing is.
    pub(crate) fn emptied(&mut self, member: usize) {
        self.mirrors[member] = Mirror { gone: true, ..Mirror::default() };
    }

    /// From now on a machine is another member, with an empty disk; 0 for none.
    pub(crate) fn seat(&mut self, member: usize, id: u64) {
        let mut mirror = std::mem::take(&mut self.mirrors[member]);
        mirror.gone |= self.rotten[member];
        self.departed.insert(self.ids[member], mirror);
        // Nobody is a voter who can have held something.
        self.departed.remove(&0);
        self.ids[member] = id;
        self.applied[member] = 0;
        self.voters[member] = Vec::new();
        self.rotten[member] = false;
    }

    /// Something was violated.
    pub(crate) fn violated(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    /// A member's log.
    pub(crate) fn mirror(&mut self, member: usize) -> &mut Mirror {
        &mut self.mirrors[member]
    }

    /// Index of the last entry that a member has written.
    pub(crate) fn last_index(&self, member: usize) -> u64 {
        self.mirrors[member].terms.len() as u64
    }

    /// Last entry that a member's disk has for certain.
    pub(crate) fn durable_index(&self, member: usize) -> u64 {
        let mirror = &self.mirrors[member];
        mirror.durable.max(mirror.snapshot) as u64
    }

    /// Whether a member would know after a power loss that the entries through this one are committed.
    pub(crate) fn knows_committed(&self, member: usize, index: u64) -> bool {
        self.mirrors[member].durable_commit >= index
    }

    /// Terms that had a leader.
    pub(crate) fn leaders(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// A member was started from its disk.
    pub(crate) fn started(&mut self, member: usize, node: &Node, checkpoint: u64) {
        let mut entries = Vec::new();
        while let Some(entry) = node.log_entry(checkpoint + 1 + entries.len() as u64) {
            entries.push((entry.index, entry.term));
        }
        if self.rotten[member] {
            self.mirrors[member] = Mirror::default();
        }
        if let Err(what) = self.mirrors[member].reopen(&entries, checkpoint) {
            self.violated(format!("member {member}: {what}"));
        }
        let hard_state = node.hard_state();
        self.mirrors[member].commit = hard_state.commit;
        self.mirrors[member].durable_commit = hard_state.commit;
        if let Err(what) = self.mirrors[member].reopen_vote(hard_state.term, hard_state.vote) {
            self.violated(format!("member {member}: {what}"));
        }
        // What the start replayed is looked at as if it were applied now.
        self.applied[member] = checkpoint;
        self.voters[member] = node.state().conf_state().voters;

        self.look(member, node, &node.published());
    }

    /// A member sends a message. One that asks for a vote, or gives one, may leave only when its disk knows.
    pub(crate) fn sends(&mut self, member: usize, message: &raftpb::Message) {
        let vote = match message.r#type() {
            raftpb::MessageType::MsgVote => message.from,
            raftpb::MessageType::MsgVoteResp if !message.reject => message.to,
            _ => return,
        };
        let (term, durable) = self.mirrors[member].durable_vote;
        let known = term > message.term || (term, durable) == (message.term, vote);
        if !known && !self.rotten[member] {
            self.violated(format!(
                "member {member} votes for {vote:x} in term {}, and its disk knows of a vote for {durable:x} in term                  {term}",
                message.term
            ));
        }
    }

    /// A member published a new picture.
    pub(crate) fn look(&mut self, member: usize, node: &Node, published: &Published) {
        if published.leader == published.member_id {
            let before = *self.leaders.entry(published.term).or_insert(member);
            if before != member {
                self.violated(format!("term {} has two leaders: members {before} and {member}", published.term));
            }
        }
        for index in self.applied[member] + 1..=published.applied_index {
            let Some(entry) = node.log_entry(index) else { continue };
            self.applied_entry(member, &entry.to_wire());
        }
        self.applied[member] = published.applied_index;
        self.voters[member] = node.state().conf_state().voters;
        self.state(member, node);
    }

    fn applied_entry(&mut self, member: usize, entry: &raftpb::Entry) {
        let this = (entry.term, digest(&entry.encode_to_vec()));
        self.entries_compared += 1;
        if let Some(before) = self.entries.insert(entry.index, this)
            && before != this
        {
            self.violated(format!(
                "members applied two entries at index {}: of term {} and, on member {member}, of term {}",
                entry.index, before.0, entry.term
            ));
        }
    }

    /// A member has made a step. What it takes for committed now, a majority of those that have a vote must have on disk: a
    /// vote as of what the member had applied before the step, or, if it applied a change of the membership in it, after.
    /// To be told of every step before anything of it leaves: the first that knows is then the leader itself, and its
    /// voters are the ones that count, also when others have applied more.
    pub(crate) fn stepped(&mut self, member: usize, node: &Node) {
        let through = node.hard_state().commit;
        if through <= self.committed {
            return;
        }
        let now = node.state().conf_state().voters;
        let before = self.voters[member].clone();
        for index in self.committed + 1..=through {
            let Some(Entry { term, .. }) = node.log_entry(index) else { continue };
            let holds = |voter: &&u64| match self.ids.iter().position(|id| id == *voter) {
                Some(at) => self.rotten[at] || self.mirrors[at].may_hold(index, term),
                None => self.departed.get(voter).is_some_and(|mirror| mirror.may_hold(index, term)),
            };
            let held = |voters: &[u64]| (voters.iter().filter(holds).count(), voters.len());
            let is_majority = |(holders, voters): (usize, usize)| holders * 2 > voters;
            let (held_before, held_now) = (held(&before), held(&now));
            if !is_majority(held_before) && !is_majority(held_now) {
                let (holders, voters) = held_now;
                self.violated(format!(
                    "member {member} takes entry {index} of term {term} for committed, which is on the disks of {holders} \
                     of {voters} voters"
                ));
            }
        }
        self.committed = through;
    }

    /// Members at the same index that finished the same compaction are equal.
    pub(crate) fn state(&mut self, member: usize, node: &Node) {
        let state = node.state();
        let hash = state.hash();
        let index = state.applied_index();
        let this = Seen { sum: hash.sum, member };
        let before = *self.states.entry((index, hash.finished)).or_insert(this);
        self.compared += u64::from(before.member != member);
        if before.sum != this.sum {
            self.violated(format!(
                "at applied index {index} (compaction {} finished) the state of member {member} is not the one that \
                 member {} had",
                hash.finished, before.member
            ));
        }
    }
}
