//! A disk that is full, refuses writes or fails to sync.

use super::*;
use crate::vfs::memory::{Fault, FaultError, Op};

#[test]
fn a_full_disk_keeps_records_pending_until_there_is_room() {
    let (vfs, mut log) = memory_log(4 << 10);
    let mut rng = Rng::new(5);
    let mut history = History::new();
    fill(&mut log, &mut rng, &mut history, 10, 100);
    log.flush().unwrap();
    vfs.set_capacity(4 << 10);
    fill(&mut log, &mut rng, &mut history, 100, 100);
    for _ in 0..3 {
        let error = log.flush().unwrap_err();
        assert!(error.is_no_space(), "{error}");
        check_reads(&history, |location| log.read(location, own));
        let readable = scan(&log.reader(), Revision::default());
        assert_eq!(readable.last_key_value().unwrap().0, &log.flushed);
        assert!(readable.len() >= 10 && readable.len() < history.len());
    }
    assert_eq!(vfs.list(&dir()).unwrap().len(), 1, "a file without room is taken back");
    vfs.set_capacity(1 << 20);
    log.flush().unwrap();
    check_scans(&log.reader(), &history);
}

#[test]
fn a_log_opens_on_a_full_disk() {
    let (vfs, mut log) = memory_log(4 << 10);
    let mut rng = Rng::new(10);
    let mut history = History::new();
    fill(&mut log, &mut rng, &mut history, 100, 100);
    log.flush().unwrap();
    let manifest = log.manifest();
    drop(log);
    vfs.set_capacity(manifest.segments.iter().map(|segment| segment.bytes).sum());
    let mut log = RevLog::open(Arc::new(vfs.clone()), &dir(), options(4 << 10), &manifest).unwrap();
    check_scans(&log.reader(), &history);
    fill(&mut log, &mut rng, &mut history, 10, 100);
    assert!(log.flush().unwrap_err().is_no_space());
    vfs.set_capacity(1 << 20);
    log.flush().unwrap();
    check_scans(&log.reader(), &history);
}

#[test]
fn a_failed_write_can_be_repeated() {
    let (vfs, mut log) = memory_log(2 << 10);
    let mut rng = Rng::new(6);
    let mut history = History::new();
    for op in [Op::Create, Op::Allocate, Op::Write] {
        for after in 0..4 {
            fill(&mut log, &mut rng, &mut history, 200, 100);
            vfs.fail(Fault::once(op, FaultError::Eio).after(after));
            let error = log.flush().unwrap_err();
            assert!(matches!(error, LogError::Io { .. }) && !error.is_no_space());
            check_reads(&history, |location| log.read(location, own));
            let reader = log.reader();
            assert_eq!(scan(&reader, Revision::default()).last_key_value().map(|e| *e.0), log.manifest().last());
            log.flush().unwrap();
        }
    }
    check_scans(&log.reader(), &history);
    let manifest = log.manifest();
    log.sync_job().run().unwrap();
    let log = RevLog::open(Arc::new(vfs.crash(1)), &dir(), options(2 << 10), &manifest).unwrap();
    assert_eq!(log.removed_at_open(), &[] as &[String]);
    check_scans(&log.reader(), &history);
}

#[test]
fn a_failed_sync_is_final_for_writes_and_not_for_reads() {
    for op in [Op::Sync, Op::SyncDir] {
        let (vfs, mut log) = memory_log(2 << 10);
        let mut rng = Rng::new(7);
        let mut history = History::new();
        fill(&mut log, &mut rng, &mut history, 30, 100);
        log.flush().unwrap();
        let (first, second) = (log.sync_job(), log.sync_job());
        vfs.fail(Fault::once(op, FaultError::Eio));
        assert!(matches!(first.run(), Err(LogError::Io { .. })));
        assert!(matches!(second.run(), Err(LogError::Failed)));
        assert!(matches!(log.sync_job().run(), Err(LogError::Failed)));
        check_scans(&log.reader(), &history);
        log.append(next_revision(&mut rng, log.appended), false, &[b"late"]);
        assert!(matches!(log.flush(), Err(LogError::Failed)));
        check_reads(&history, |location| log.read(location, own));
    }
}

#[test]
fn a_rewrite_without_room_gives_up_and_is_planned_again() {
    let (vfs, mut log) = memory_log(2 << 10);
    let mut history = History::new();
    fill(&mut log, &mut Rng::new(8), &mut history, 200, 100);
    log.flush().unwrap();
    let dead: Vec<Revision> = history.keys().copied().filter(|r| r.main % 4 != 0).collect();
    for revision in dead {
        log.release(history.remove(&revision).unwrap().1);
    }
    let files = vfs.list(&dir()).unwrap();
    for op in [Op::Create, Op::Write, Op::Sync, Op::SyncDir] {
        vfs.fail(Fault::once(op, FaultError::Enospc));
        let plan = log.plan_rewrite(u64::MAX).unwrap();
        assert!(log.plan_rewrite(u64::MAX).is_none(), "one at a time");
        assert!(plan.run(&mut |revision, _, _, _| history.contains_key(&revision)).err().unwrap().is_no_space());
        assert_eq!(vfs.list(&dir()).unwrap(), files);
    }
    // Done but dropped before it was installed: the same.
    let plan = log.plan_rewrite(u64::MAX).unwrap();
    let done = plan.run(&mut |revision, _, _, _| history.contains_key(&revision)).unwrap();
    assert!(vfs.list(&dir()).unwrap().len() > files.len());
    drop(done);
    assert_eq!(vfs.list(&dir()).unwrap(), files);
    check_reads(&history, |location| log.read(location, own));
}
