//! etcd's own history: bugs that it had, as stories that a member of ours must live through. Each is named after etcd's
//! issue and what went wrong there. A story is played twice: as it is, and, in a build with planted bugs, with a bug of
//! the same kind, which it must find.

use cetera_check::history::{News, Outcome, Request, Response};
use cetera_plant::Bug;
use cetera_proto::etcdserverpb as pb;
use cetera_sim::Options;
use cetera_sim::directed::{Script, Stuck, compact, everything_from, get, play, put};

type Told = Result<(), Stuck>;

/// The story holds, and finds each of these bugs.
fn holds(members: usize, finds: &[Bug], tune: impl Fn(&mut Options), story: impl Fn(&mut Script) -> Told) {
    let violations = play(members, None, &tune, &story);
    assert!(violations.is_empty(), "{violations:#?}");
    if cfg!(feature = "plants") {
        for bug in finds {
            let violations = play(members, Some(*bug), &tune, &story);
            assert!(!violations.is_empty(), "the story does not find {}", bug.name());
        }
    }
}

/// Sets nothing.
fn as_it_is(_: &mut Options) {}

/// The value of one key as a member reads it, linearizable.
fn value_at(script: &mut Script, member: usize, key: &str) -> Result<bytes::Bytes, Stuck> {
    match script.insist(member, &get(key))? {
        Response::Range(range) => Ok(range.kvs.first().map(|kv| kv.value.clone()).unwrap_or_default()),
        other => Err(Stuck(format!("a read is answered with {other:?}"))),
    }
}

fn grant(id: i64, ttl: i64) -> Request {
    Request::LeaseGrant(pb::LeaseGrantRequest { id, ttl })
}

fn keep_alive(id: i64) -> Request {
    Request::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id })
}

fn delete(key: &str) -> Request {
    Request::DeleteRange(pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() })
}

fn txn(operations: Vec<pb::request_op::Request>) -> Request {
    let success = operations.into_iter().map(|request| pb::RequestOp { request: Some(request) }).collect();
    Request::Txn(pb::TxnRequest { success, ..Default::default() })
}

/// 3.5: under load, a crash left the index of the last applied entry ahead of the data, and members differed for good.
#[test]
fn issue_13766_a_crash_under_load_leaves_the_applied_index_and_the_data_in_step() {
    holds(3, &[Bug::CheckpointIndexHigh], as_it_is, |script| {
        for operations in [0, 3, 7, 12, 20, 33, 50] {
            let member = script.leader()?;
            let lives = script.lives(member);
            let mut asked = Vec::new();
            for at in 0..120 {
                let value = script.long_value(300);
                asked.push(script.ask(member, put(&format!("k{}", at % 7), value, 0)));
                if at == 60 {
                    script.lose_power_after(member, operations);
                }
                script.wait_us(700);
            }
            script.until("the power was lost and came back", |script| script.lives(member) > lives)?;
            script.all_serve()?;
            for id in asked {
                script.answer(id)?;
            }
            for at in 0..3 {
                script.put(at, "after")?;
            }
        }
        Ok(())
    });
}

/// 3.4 and 3.5: the only member of a cluster answered a put before its log was synced.
#[test]
fn issue_14370_a_single_member_that_loses_power_keeps_what_it_acknowledged() {
    holds(
        1,
        &[Bug::AckBeforeSync, Bug::NoSync],
        |options| options.sync_us = (5_000, 20_000),
        |script| {
            for _ in 0..12 {
                let value = script.value();
                let answered = script.call(0, put("k", value.clone(), 0))?;
                script.promise(matches!(answered, Outcome::Done(_)), "a put on a healthy member is answered");
                script.lose_power(0);
                script.wait_us(200_000);
                script.start(0);
                script.all_serve()?;
                let read = value_at(script, 0, "k")?;
                script.promise(read == value, "an acknowledged put is there after a power loss");
            }
            Ok(())
        },
    );
}

/// 3.5: a member that died while it defragmented came back with another revision. Here space is given back by rewriting
/// segments of the log, so that is what is interrupted, and what the compaction before it does.
#[test]
fn issue_14685_a_power_loss_while_space_is_given_back_changes_nothing() {
    holds(3, &[Bug::CompactionLosesKey], as_it_is, |script| interrupted_compactions(script, 16, true));
}

/// 3.5: a progress notification was sent on a stream whose events up to that revision were not.
#[test]
fn issue_15220_progress_is_in_step_with_the_stream() {
    holds(3, &[Bug::ProgressBeforeEvents], as_it_is, |script| {
        let leader = script.leader()?;
        let member = script.others(&[leader])[0];
        let watcher = script.watch(member, everything_from(1), None);
        script.until("a watcher is created", |script| !script.told(watcher).is_empty())?;
        for at in 0..60 {
            if at % 20 == 5 {
                script.stall_client(200_000);
            }
            let value = script.long_value(200);
            script.ask(leader, put(&format!("k{}", at % 5), value, 0));
            script.progress(member);
            script.wait_us(3_000);
        }
        let last = script.put(leader, "last")?;
        script.until("the watcher knows all", |script| script.revisions(watcher).last() == Some(&last))?;
        script.until("it is told how far it is", |script| {
            script.progress(member);
            script.told(watcher).iter().any(|told| told.news == News::Progress && told.revision == last)
        })?;
        // What the checkers say of every progress before is the point.
        Ok(())
    });
}

/// 3.4 and 3.5: a leader that was cut off went on expiring leases, and when it was back its revocations were carried out
/// by the leader there was by then, against the client that had kept its lease alive all the time.
#[test]
fn issue_15247_no_lease_is_revoked_by_an_old_leader() {
    holds(3, &[Bug::RevokeByOldLeader], as_it_is, |script| {
        let old = script.leader()?;
        script.insist(old, &grant(77, 4))?;
        let value = script.value();
        script.insist(old, &put("leased", value.clone(), 77))?;
        script.isolate(old, true);
        let new = script.leader_but(Some(old))?;
        for _ in 0..8 {
            script.insist(new, &keep_alive(77))?;
            script.wait_us(500_000);
        }
        script.isolate(old, false);
        for _ in 0..12 {
            script.insist(new, &keep_alive(77))?;
            script.wait_us(500_000);
            let read = value_at(script, new, "leased")?;
            script.promise(read == value, "a key goes although its lease is kept alive");
        }
        Ok(())
    });
}

/// Of the same time: what a member has in its log is not what is committed. A leader that is cut off writes what nobody
/// else has, loses power, and comes back with it.
#[test]
fn a_leader_that_was_cut_off_applies_nothing_that_it_alone_has() {
    holds(3, &[Bug::UncommittedApplied], as_it_is, |script| {
        let old = script.leader()?;
        script.put(old, "k")?;
        script.isolate(old, true);
        for at in 0..5 {
            let value = script.value();
            script.ask(old, put(&format!("lost{at}"), value, 0));
        }
        script.wait_us(50_000);
        script.lose_power(old);
        let new = script.leader_but(Some(old))?;
        script.put(new, "k")?;
        script.start(old);
        script.wait_us(200_000);
        script.isolate(old, false);
        script.all_serve()
    });
}

/// 3.4 and 3.5: a client that moved from a member to one that lagged behind, and watched on from where it was, was told
/// of older revisions.
#[test]
fn issue_15271_a_watch_does_not_travel_back_in_time_on_a_member_that_lags() {
    holds(3, &[Bug::FutureWatchOldEvents], as_it_is, |script| {
        let leader = script.leader()?;
        let lagging = script.others(&[leader])[0];
        let first = script.watch(leader, everything_from(1), None);
        script.put(leader, "before")?;
        script.isolate(lagging, true);
        let mut last = 0;
        for at in 0..20 {
            last = script.put(leader, &format!("k{}", at % 3))?;
        }
        script.until("the watcher knows all", |script| script.revisions(first).last() == Some(&last))?;
        script.promise(script.revision(lagging) < last, "the member that is cut off does not lag");
        script.hang_up(leader);
        let next = script.watch(lagging, everything_from(last + 1), Some(first));
        script.until("it goes on elsewhere", |script| !script.told(next).is_empty())?;
        script.isolate(lagging, false);
        let new = script.put(leader, "after")?;
        script.until("it is told of what comes", |script| !script.revisions(next).is_empty())?;
        let told = script.revisions(next);
        script.promise(told.first() == Some(&new), "the first change is not the next one");
        Ok(())
    });
}

/// 3.5: a transaction that read what it had written reached watchers twice.
#[test]
fn issue_17247_a_transaction_reaches_a_watcher_once() {
    holds(1, &[Bug::WatchDuplicate, Bug::TxnSplitForWatcher], as_it_is, |script| {
        use pb::request_op::Request::{RequestDeleteRange, RequestPut, RequestRange};
        script.put(0, "a")?;
        let from = script.put(0, "b")?;
        let past = script.watch(0, everything_from(from), None);
        let live = script.watch(0, everything_from(0), None);
        script.until("both are created", |script| !script.told(past).is_empty() && !script.told(live).is_empty())?;
        let value = script.value();
        let key = bytes::Bytes::from_static(b"a");
        let range = || RequestRange(pb::RangeRequest { key: key.clone(), ..Default::default() });
        let operations = vec![
            range(),
            RequestPut(pb::PutRequest { key: key.clone(), value, ..Default::default() }),
            range(),
            RequestDeleteRange(pb::DeleteRangeRequest { key: b"b".to_vec().into(), ..Default::default() }),
        ];
        script.insist(0, &txn(operations))?;
        let last = script.put(0, "c")?;
        script.until("both know all", |script| {
            [past, live].into_iter().all(|watcher| script.revisions(watcher).last() == Some(&last))
        })?;
        let told = (script.revisions(past), script.revisions(live));
        let once = vec![last - 1, last - 1, last];
        script.promise(told.1 == once, "the live watcher is not told of each change once");
        script
            .promise(told.0 == [vec![from], once].concat(), "the watcher of the past is not told of each change once");
        Ok(())
    });
}

/// 3.4 and 3.5: a stream that did not get its turn for long lost events, or was never told of them.
#[test]
fn issue_17529_a_starved_stream_loses_no_event() {
    holds(3, &[Bug::WatchGapAtHandOver], as_it_is, |script| {
        let leader = script.leader()?;
        let first = script.put(leader, "first")?;
        let member = script.others(&[leader])[0];
        let watchers: Vec<_> = (0..10).map(|_| script.watch(member, everything_from(first), None)).collect();
        let mut last = 0;
        for at in 0..150 {
            if at % 50 == 10 {
                script.stall_client(300_000);
            }
            let value = script.long_value(150);
            script.ask(leader, put(&format!("k{}", at % 7), value, 0));
            script.wait_us(if at % 30 == 29 { 400_000 } else { 1_000 });
        }
        for _ in 0..3 {
            last = script.put(leader, "last")?;
        }
        script.until("all watchers know all", |script| {
            watchers.iter().all(|watcher| script.revisions(*watcher).last() == Some(&last))
        })?;
        for watcher in watchers {
            let told = script.revisions(watcher);
            script.promise(told == (first..=last).collect::<Vec<_>>(), "a watcher is not told of every revision once");
        }
        Ok(())
    });
}

/// 3.4 and 3.5: after a crash during compaction the revision was lower than what clients had seen.
#[test]
fn issue_17780_a_crash_during_compaction_does_not_lower_the_revision() {
    holds(1, &[Bug::CompactionLosesKey, Bug::NoSync], as_it_is, |script| interrupted_compactions(script, 20, false));
}

/// Compactions, each with a power loss of one member some disk operations later than the last time.
fn interrupted_compactions(script: &mut Script, times: u64, load: bool) -> Told {
    let member = 0;
    let mut seen = 0;
    for operations in (0..times).map(|time| 3 * time) {
        let lives = script.lives(member);
        for at in 0..24 {
            let value = script.long_value(400);
            script.insist(member, &put(&format!("k{}", at % 5), value, 0))?;
            if at % 6 == 5 {
                script.insist(member, &delete(&format!("k{}", at % 5)))?;
            }
        }
        let last = script.put(member, "last")?;
        script.promise(last > seen, "the revision went back");
        seen = last;
        // All but the end is compacted, deletions among it, and segments have nothing left alive.
        let asked = script.ask(member, compact(last));
        script.lose_power_after(member, operations);
        let mut busy = 0;
        script.until("the power is lost and comes back", |script| {
            if load || busy < 200 {
                let value = script.long_value(100);
                script.ask(member, put("busy", value, 0));
                busy += 1;
            }
            script.wait_us(2_000);
            script.lives(member) > lives
        })?;
        script.all_serve()?;
        script.answer(asked)?;
        let revision = script.put(member, "after")?;
        script.promise(revision > seen, "the revision went back");
        seen = revision;
    }
    Ok(())
}

/// 3.5 and 3.6: a watcher from the revision of a compaction on was not told of the deletion at just that revision.
#[test]
fn issues_18089_and_19179_a_watch_from_the_compaction_on_is_told_of_the_deletion_there() {
    holds(1, &[], as_it_is, |script| {
        for round in 0..6 {
            script.put(0, "a")?;
            script.put(0, "b")?;
            script.insist(0, &delete("a"))?;
            let deleted = script.revision(0);
            if round % 2 == 0 {
                script.put(0, "c")?;
            }
            script.insist(0, &compact(deleted))?;
            if round >= 3 {
                script.wait_us(500_000);
                script.lose_power(0);
                script.start(0);
                script.all_serve()?;
            }
            let watcher = script.watch(0, everything_from(deleted), None);
            let last = script.put(0, "d")?;
            script.until("the watcher knows all", |script| script.revisions(watcher).last() == Some(&last))?;
            let told = script.revisions(watcher);
            script.promise(told == (deleted..=last).collect::<Vec<_>>(), "the deletion at the compaction is not told");
        }
        Ok(())
    });
}

/// 3.5: whether a transaction could read a compacted revision depended on how far the member's compaction was.
#[test]
fn issue_18667_a_transaction_that_reads_a_compacted_revision_is_refused_everywhere() {
    holds(3, &[Bug::ApplyDependsOnMember], as_it_is, |script| {
        use pb::request_op::Request::{RequestPut, RequestRange};
        for round in 0..20 {
            let leader = script.leader()?;
            let old = script.put(leader, "k")?;
            for at in 0..10 {
                script.put(at % 3, "k")?;
            }
            let member = round % 3;
            let last = script.put(member, "k")?;
            let compacted = script.ask(member, compact(last));
            script.wait_us(round as u64 * 50);
            let value = script.value();
            let key = bytes::Bytes::from_static(b"k");
            let operations = vec![
                RequestPut(pb::PutRequest { key: b"side".to_vec().into(), value, ..Default::default() }),
                RequestRange(pb::RangeRequest { key, revision: old, ..Default::default() }),
            ];
            let asked = script.ask((member + 1) % 3, txn(operations));
            script.answer(compacted)?;
            script.answer(asked)?;
        }
        Ok(())
    });
}

/// 3.5 and 3.6: a watcher of a revision to come was told of revisions before it.
#[test]
fn issue_20221_a_watch_on_a_revision_to_come_is_told_of_nothing_before_it() {
    holds(1, &[Bug::FutureWatchOldEvents], as_it_is, |script| {
        for ahead in 1..12 {
            let now = script.put(0, "k")?;
            let watcher = script.watch(0, everything_from(now + ahead), None);
            script.until("it is created", |script| !script.told(watcher).is_empty())?;
            if ahead % 3 == 0 {
                script.progress(0);
            }
            for _ in 0..ahead + 2 {
                script.put(0, "k")?;
            }
            script.until("it is told of something", |script| script.revisions(watcher).len() >= 3)?;
            let told = script.revisions(watcher);
            script.promise(told.first() == Some(&(now + ahead)), "the first change is not the one asked for");
        }
        Ok(())
    });
}

/// 3.4 to 3.6: a leader that stood still while another one took over served a read from its own state when it went on.
#[test]
fn issue_20418_no_stale_read_after_a_pause() {
    holds(3, &[Bug::ReadWithoutRound], as_it_is, |script| {
        for wait_ms in [0, 1, 5, 100] {
            let old = script.leader()?;
            script.put(old, "k")?;
            script.pause(old);
            // The news of the new leader comes late, or not at all.
            for other in script.others(&[old]) {
                script.cut(other, old);
            }
            let new = script.leader_but(Some(old))?;
            let value = script.value();
            script.insist(new, &put("k", value.clone(), 0))?;
            let waiting = script.ask(old, get("k"));
            script.wait_us(wait_ms * 1_000 + 200);
            if wait_ms % 2 == 0 {
                script.isolate(old, false);
            }
            script.resume(old);
            let late = script.ask(old, get("k"));
            script.wait_us(50_000);
            script.isolate(old, false);
            for id in [waiting, late] {
                if let Outcome::Done(Response::Range(range)) = script.answer(id)? {
                    let read = range.kvs.first().map(|kv| kv.value.clone());
                    script.promise(read == Some(value.clone()), "a read after a pause shows the past");
                }
            }
            script.all_serve()?;
        }
        Ok(())
    });
}

/// The same, closer: the confirmations that come after the pause are those of a round from before it.
#[test]
fn issue_20418_confirmations_from_before_a_pause_serve_no_read_after_it() {
    let quick = |options: &mut Options| {
        options.tick_ms = 20;
        options.election_ms = 100;
    };
    holds(3, &[Bug::ReadJoinsRound], quick, |script| {
        for answers_us in (140_000..300_000).step_by(15_000) {
            let old = script.leader()?;
            script.put(old, "k")?;
            // The answers to the round take so long that another member leads by then, and yet not so long that the old
            // leader has missed them.
            for other in script.others(&[old]) {
                script.delay(other, old, answers_us);
            }
            let first = script.ask(old, get("k"));
            script.wait_us(2_500);
            script.pause(old);
            let new = script.leader_but(Some(old))?;
            let value = script.value();
            script.insist(new, &put("k", value.clone(), 0))?;
            script.resume(old);
            let second = script.ask(old, get("k"));
            script.answer(first)?;
            if let Outcome::Done(Response::Range(range)) = script.answer(second)? {
                let read = range.kvs.first().map(|kv| kv.value.clone());
                script.promise(read == Some(value.clone()), "a read is served by a round that began before it");
            }
            for other in script.others(&[old]) {
                script.delay(other, old, 0);
            }
            script.wait_us(1_000_000);
            script.all_serve()?;
        }
        Ok(())
    });
}
