//! Members that come and go, as stories: each with nothing going wrong but what it does, and, in a build with planted
//! bugs, with a bug that it must find.

use cetera_check::history::{Outcome, Request, Response};
use cetera_plant::Bug;
use cetera_sim::Options;
use cetera_sim::directed::{Script, Stuck, everything_from, get, play, put};

type Told = Result<(), Stuck>;

/// The story holds with so many founders and machines, and finds each of these bugs.
fn holds(founders: usize, machines: usize, finds: &[Bug], story: impl Fn(&mut Script) -> Told) {
    let tune = |options: &mut Options| options.machines = machines;
    let violations = play(founders, None, tune, &story);
    assert!(violations.is_empty(), "{violations:#?}");
    if cfg!(feature = "plants") {
        for bug in finds {
            let violations = play(founders, Some(*bug), tune, &story);
            assert!(!violations.is_empty(), "the story does not find {}", bug.name());
        }
    }
}

fn write_some(script: &mut Script, member: usize, count: usize) -> Told {
    for at in 0..count {
        script.put(member, &format!("k{}", at % 5))?;
    }
    Ok(())
}

/// What a member answers to a read at once, if it answers.
fn read(script: &mut Script, member: usize, key: &str) -> Result<Option<bytes::Bytes>, Stuck> {
    match script.call(member, get(key))? {
        Outcome::Done(Response::Range(range)) => Ok(range.kvs.first().map(|kv| kv.value.clone())),
        _ => Ok(None),
    }
}

#[test]
fn a_group_grows_to_five_and_shrinks_to_three_while_it_is_used() {
    holds(1, 5, &[], |script| {
        let watcher = script.watch(0, everything_from(1), None);
        for machine in 1..5 {
            write_some(script, 0, 20)?;
            script.add(machine, true)?;
            write_some(script, 0, 5)?;
            script.promote(machine)?;
            script.put(machine, "by the new one")?;
        }
        for machine in [2, 0] {
            let other = if machine == 2 { 0 } else { 1 };
            script.remove(machine)?;
            write_some(script, other, 10)?;
        }
        let told = script.revisions(watcher);
        script.promise(told.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a watcher missed something");
        script.put(4, "last").map(|_| ())
    });
}

/// Nothing waits for a learner.
#[test]
fn a_learner_has_no_vote() {
    holds(1, 2, &[Bug::LearnerCounts], |script| {
        script.add(1, true)?;
        write_some(script, 0, 5)?;
        script.until("the learner has all", |script| script.applied(1) >= script.applied(0))?;
        script.kill(1);
        write_some(script, 0, 5)?;
        script.start(1);
        Ok(())
    });
}

#[test]
fn a_removed_member_does_not_count() {
    holds(3, 3, &[Bug::RemovedMemberCounts], |script| {
        let leader = script.leader()?;
        let removed = script.others(&[leader])[0];
        script.remove(removed)?;
        write_some(script, leader, 10)?;
        // Two are left, and both are needed.
        let other = script.others(&[leader, removed])[0];
        script.kill(other);
        let value = script.value();
        let asked = script.ask(leader, put("k", value, 0));
        script.wait_us(900_000);
        let answered = matches!(script.outcome(asked), Some(Outcome::Done(_)));
        script.promise(!answered, "a write is acknowledged by a leader and one that was removed");
        script.start(other);
        script.wait_us(2_000_000);
        script.kill(removed);
        script.put(other, "k").map(|_| ())
    });
}

#[test]
fn a_leader_that_is_removed_hands_on_and_the_rest_goes_on_at_once() {
    holds(3, 3, &[], |script| {
        let old = script.leader()?;
        script.put(old, "k")?;
        script.remove(old)?;
        let new = script.leader_but(Some(old))?;
        script.put(new, "k")?;
        let rest = script.others(&[old, new])[0];
        script.put(rest, "k")?;
        // The last but one goes too: nobody is left but one.
        let old = script.leader()?;
        script.remove(old)?;
        let last = script.leader_but(Some(old))?;
        script.put(last, "k").map(|_| ())
    });
}

#[test]
fn a_learner_that_is_behind_is_not_promoted() {
    holds(3, 4, &[Bug::PromotedUnready], |script| {
        let leader = script.leader()?;
        script.add(3, true)?;
        script.isolate(3, true);
        write_some(script, leader, 100)?;
        let refused = script.try_to_promote(3)?;
        script.promise(refused.is_some(), "a learner without the log is promoted");
        script.isolate(3, false);
        script.promote(3)?;
        script.put(3, "k").map(|_| ())
    });
}

/// A member whose disk is emptied knows neither what it acknowledged nor for whom it voted: were it to start again, an
/// acknowledged write could be outvoted.
#[test]
fn a_member_whose_disk_was_emptied_does_not_vote() {
    holds(3, 3, &[Bug::EmptiedMemberVotes], |script| {
        let leader = script.leader()?;
        let (behind, emptied) = (script.others(&[leader])[0], script.others(&[leader])[1]);
        script.put(leader, "k")?;
        script.isolate(behind, true);
        let value = script.value();
        script.insist(leader, &put("k", value.clone(), 0))?;
        script.isolate(leader, true);
        script.empty_disk(emptied);
        // The two of them have never seen the write.
        for (from, to) in [(behind, emptied), (emptied, behind)] {
            script.join(from, to);
        }
        script.wait_us(5_000_000);
        let asked: Request = put("k2", script.value(), 0);
        script.ask(behind, asked);
        script.wait_us(3_000_000);
        script.isolate(leader, false);
        script.isolate(behind, false);
        let read = read(script, behind, "k")?;
        script.promise(read.is_none_or(|read| read == value), "an acknowledged write is lost");
        Ok(())
    });
}

#[test]
fn leadership_goes_where_it_is_sent() {
    holds(3, 3, &[], |script| {
        for _ in 0..3 {
            let old = script.leader()?;
            let next = script.others(&[old])[0];
            script.transfer(next)?;
            let leader = script.leader()?;
            script.promise(leader == next, "another one leads than was asked for");
            script.put(old, "k")?;
        }
        Ok(())
    });
}
