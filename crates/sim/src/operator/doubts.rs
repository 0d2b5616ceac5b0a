//! Changes of who has a vote that were asked for and never answered: they may be in the log of a member, and come true
//! whenever that one leads.

use super::{Now, Task};

/// Doubts that are told apart at most: with more of them nothing can be told.
const DOUBTS_MAX: usize = 4;

/// Promotions and removals of which nobody knows what became.
#[derive(Debug, Default)]
pub(crate) struct Doubts(Vec<Task>);

impl Doubts {
    /// Nobody knows what becomes of this task.
    pub(crate) fn add(&mut self, task: Task) {
        if matches!(task, Task::Promote(_) | Task::Remove(_)) && !self.0.contains(&task) {
            self.0.push(task);
        }
    }

    /// Forgets what has come true.
    pub(crate) fn settle(&mut self, now: &Now) {
        self.0.retain(|task| match task {
            Task::Promote(id) => now.members.iter().any(|member| member.id == *id && member.is_learner),
            Task::Remove(id) => now.members.iter().any(|member| member.id == *id),
            Task::Add { .. } | Task::Move(_) | Task::Transfer(_) => false,
        });
    }

    /// Whether `holds` for these voters and for all that may come to be the voters.
    pub(crate) fn whatever_comes(&self, voters: &[u64], holds: impl Fn(&[u64]) -> bool) -> bool {
        let comes_true = |chosen: usize| {
            let mut group = voters.to_vec();
            for (_, task) in self.0.iter().enumerate().filter(|(at, _)| chosen & (1 << at) != 0) {
                match task {
                    Task::Promote(id) if !group.contains(id) => group.push(*id),
                    Task::Remove(id) => group.retain(|voter| voter != id),
                    _ => {}
                }
            }
            group
        };
        self.0.len() <= DOUBTS_MAX && (0..1 << self.0.len()).all(|chosen| holds(&comes_true(chosen)))
    }
}

#[cfg(test)]
mod tests {
    use cetera_state::member::Member;

    use super::*;

    /// Voters 1, 2 and 3, of which 1 is gone for good: whether those that are left without `lost` are a majority.
    fn may_lose(doubts: &Doubts, lost: u64) -> bool {
        doubts.whatever_comes(&[1, 2, 3], |voters| {
            voters.iter().filter(|voter| ![1, lost].contains(voter)).count() * 2 > voters.len()
        })
    }

    #[test]
    fn a_learner_that_may_get_a_vote_counts_as_a_voter() {
        let mut doubts = Doubts::default();
        assert!(may_lose(&doubts, 4), "nobody needs a learner");
        doubts.add(Task::Promote(4));
        assert!(!may_lose(&doubts, 4));
        let members = vec![Member { id: 4, is_learner: true, ..Default::default() }];
        doubts.settle(&Now { members, ..Default::default() });
        assert!(!may_lose(&doubts, 4), "it still may");
        doubts.settle(&Now { members: vec![Member { id: 4, ..Default::default() }], ..Default::default() });
        assert!(may_lose(&doubts, 4), "whether it has one is known now");
    }

    #[test]
    fn one_that_may_be_removed_is_not_counted_on() {
        let mut doubts = Doubts::default();
        assert!(may_lose(&doubts, 1), "it is gone already");
        doubts.add(Task::Remove(2));
        doubts.add(Task::Remove(2));
        assert!(!may_lose(&doubts, 1), "of 1 and 3 alone one would be left");
        doubts.add(Task::Move(3));
        doubts.settle(&Now::default());
        assert!(may_lose(&doubts, 1));
        (5..5 + DOUBTS_MAX as u64).for_each(|id| doubts.add(Task::Remove(id)));
        assert!(may_lose(&doubts, 1));
        doubts.add(Task::Remove(99));
        assert!(!may_lose(&doubts, 1), "too much to tell");
    }
}
