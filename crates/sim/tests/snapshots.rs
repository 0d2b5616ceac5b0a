//! Members that fell behind, as stories: each with nothing going wrong but what it does, and, in a build with planted
//! bugs, with a bug that it must find.

use cetera_plant::Bug;
use cetera_sim::Options;
use cetera_sim::directed::{Script, Stuck, everything_from, play, put};

type Told = Result<(), Stuck>;

/// Little is kept for members that lag: neither in memory nor on the disk.
fn little_is_kept(options: &mut Options) {
    options.machines = options.members + 1;
    options.keep = (5, 1 << 10);
    options.wal_segment_bytes = 8 << 10;
    options.wal_max_bytes = 256 << 10;
}

/// Much is kept on the disk, and little in memory.
fn kept_on_disk(options: &mut Options) {
    options.keep = (5, 1 << 10);
    options.wal_segment_bytes = 8 << 10;
}

fn holds(finds: &[Bug], tune: impl Fn(&mut Options), story: impl Fn(&mut Script) -> Told) {
    let violations = play(3, None, &tune, &story);
    assert!(violations.is_empty(), "{violations:#?}");
    if cfg!(feature = "plants") {
        for bug in finds {
            let violations = play(3, Some(*bug), &tune, &story);
            assert!(!violations.is_empty(), "the story does not find {}", bug.name());
        }
    }
}

/// Writes more than is kept; the last revision.
fn write_much(script: &mut Script, member: usize) -> Result<i64, Stuck> {
    let mut asked = Vec::new();
    for at in 0..240 {
        let value = script.long_value(700);
        asked.push(script.ask(member, put(&format!("k{}", at % 11), value, 0)));
        script.wait_us(600);
    }
    for id in asked {
        script.answer(id)?;
    }
    script.wait_us(300_000);
    script.put(member, "last")
}

fn catches_up(script: &mut Script, behind: usize, leader: usize) -> Told {
    script.until("the member that lagged has all", |script| script.applied(behind) >= script.applied(leader))
}

/// Watchers on a member that is given a snapshot are told what it skipped (W-21).
#[test]
fn watchers_miss_nothing_over_a_snapshot() {
    holds(&[Bug::WatchGapAfterSnapshot], little_is_kept, |script| {
        let leader = script.leader()?;
        let behind = script.others(&[leader, 3])[0];
        let watcher = script.watch(behind, everything_from(1), None);
        script.put(leader, "k")?;
        script.isolate(behind, true);
        write_much(script, leader)?;
        let before = script.snapshots();
        script.isolate(behind, false);
        catches_up(script, behind, leader)?;
        let taken = script.snapshots();
        script.promise(taken > before, "no snapshot was needed");
        let last = script.put(leader, "after")?;
        script.until("the watcher knows all", |script| script.revisions(watcher).last() == Some(&last))?;
        let told = script.revisions(watcher);
        script.promise(told.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a watcher missed something");
        Ok(())
    });
}

/// etcd #18055: a second snapshot came while the first one was being taken over, and the member stopped for good.
#[test]
fn issue_18055_two_snapshots_in_a_row() {
    holds(&[], little_is_kept, |script| {
        let leader = script.leader()?;
        let behind = script.others(&[leader, 3])[0];
        for wait_us in [0, 500, 2_000, 5_000, 10_000, 20_000] {
            script.isolate(behind, true);
            write_much(script, leader)?;
            script.isolate(behind, false);
            script.wait_us(100_000 + wait_us);
            // The next one is needed before the first one is digested.
            script.isolate(behind, true);
            write_much(script, leader)?;
            script.isolate(behind, false);
            catches_up(script, behind, leader)?;
        }
        let taken = script.snapshots();
        script.promise(taken >= 6, "no snapshots were needed");
        script.put(behind, "k").map(|_| ())
    });
}

/// Whatever operation of the disk is the last one, the member is what it was or what the snapshot makes of it.
#[test]
fn a_snapshot_is_taken_over_whole_whatever_interrupts_it() {
    holds(&[Bug::CheckpointNameNotSynced], little_is_kept, |script| {
        let leader = script.leader()?;
        let behind = script.others(&[leader, 3])[0];
        for operations in (0..40).step_by(2) {
            script.isolate(behind, true);
            // What it has and nobody else will ever have.
            let value = script.value();
            script.ask(behind, put("lost", value, 0));
            let lives = script.lives(behind);
            write_much(script, leader)?;
            script.isolate(behind, false);
            script.lose_power_after(behind, operations);
            script.until("the power is lost", |script| script.lives(behind) > lives)?;
            catches_up(script, behind, leader)?;
        }
        script.put(behind, "k").map(|_| ())
    });
}

/// A member that joins a group that is old gets a snapshot too, and its members with it.
#[test]
fn a_new_member_begins_with_a_snapshot() {
    holds(&[], little_is_kept, |script| {
        let leader = script.leader()?;
        write_much(script, leader)?;
        script.add(3, true)?;
        catches_up(script, 3, leader)?;
        let taken = script.snapshots();
        script.promise(taken > 0, "no snapshot was needed");
        script.promote(3)?;
        let removed = script.others(&[leader, 3])[0];
        script.remove(removed)?;
        script.put(3, "k").map(|_| ())
    });
}

/// The list of members changes while a member does not look.
#[test]
fn a_snapshot_brings_the_members_along() {
    holds(&[Bug::SnapshotKeepsMembers], little_is_kept, |script| {
        let leader = script.leader()?;
        let behind = script.others(&[leader, 3])[0];
        script.isolate(behind, true);
        script.add(3, true)?;
        catches_up(script, 3, leader)?;
        script.promote(3)?;
        write_much(script, leader)?;
        script.isolate(behind, false);
        catches_up(script, behind, leader)?;
        let removed = script.others(&[leader, 3, behind])[0];
        script.remove(removed)?;
        script.put(behind, "k").map(|_| ())
    });
}

#[test]
fn entries_come_back_from_the_disk() {
    holds(&[Bug::FetchedEntriesShifted], kept_on_disk, |script| {
        let leader = script.leader()?;
        let behind = script.others(&[leader])[0];
        for _ in 0..3 {
            script.isolate(behind, true);
            write_much(script, leader)?;
            script.isolate(behind, false);
            catches_up(script, behind, leader)?;
        }
        let taken = script.snapshots();
        script.promise(taken == 0, "a snapshot was needed though the disk had all");
        script.put(behind, "k").map(|_| ())
    });
}
