//! Appending, flushing, reading, scanning, opening; helpers for the other tests.

mod crash;
mod damage;
mod failure;
mod rewrite;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::*;
use crate::vfs::{MemoryVfs, RealVfs, memory::rng::Rng};

/// What a record should hold.
type Content = (bool, Vec<u8>);
type History = BTreeMap<Revision, (Content, Location)>;

fn dir() -> PathBuf {
    PathBuf::from("/log")
}

fn options(segment_bytes: u64) -> RevLogOptions {
    RevLogOptions { segment_bytes }
}

fn memory_log(segment_bytes: u64) -> (MemoryVfs, RevLog) {
    let vfs = MemoryVfs::new();
    let log = RevLog::create(Arc::new(vfs.clone()), &dir(), options(segment_bytes)).unwrap();
    (vfs, log)
}

fn content(rng: &mut Rng, longest: u64) -> Content {
    let len = rng.below(longest + 1) as usize;
    let byte = rng.next() as u8;
    (rng.below(4) == 0, (0..len).map(|i| byte.wrapping_add(i as u8)).collect())
}

/// The revision after `last`: the next sub revision now and then, as in a transaction.
fn next_revision(rng: &mut Rng, last: Revision) -> Revision {
    if rng.below(3) == 0 { Revision::new(last.main, last.sub + 1) } else { Revision::new(last.main + 1, 0) }
}

fn fill(log: &mut RevLog, rng: &mut Rng, history: &mut History, records: usize, longest: u64) {
    for _ in 0..records {
        let revision = next_revision(rng, log.appended);
        let content = content(rng, longest);
        let (head, tail) = content.1.split_at(content.1.len() / 2);
        let location = log.append(revision, content.0, &[head, b"", tail]);
        assert_eq!(location.len as usize, content.1.len());
        history.insert(revision, (content, location));
    }
}

fn check_reads(history: &History, read: impl Fn(Location) -> Result<(Revision, Content), LogError>) {
    for (revision, (content, location)) in history {
        assert_eq!(read(*location).unwrap(), (*revision, content.clone()), "{location:?}");
    }
}

fn own(record: Record<'_>) -> (Revision, Content) {
    (record.revision, (record.tombstone, record.payload.to_vec()))
}

fn scan(reader: &LogReader, from: Revision) -> History {
    let mut found = History::new();
    let mut last = None;
    reader
        .scan(from, &mut |location, record| {
            let (revision, content) = own(record);
            assert!(last < Some(revision), "{last:?} before {revision:?}");
            last = Some(revision);
            found.insert(revision, (content, location));
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn round_trip(vfs: Arc<dyn Vfs>, dir: &Path, segment_bytes: u64, longest: u64) {
    let mut rng = Rng::new(segment_bytes);
    let mut log = RevLog::create(vfs.clone(), dir, options(segment_bytes)).unwrap();
    let mut history = History::new();
    for _ in 0..40 {
        let before = log.reader();
        let flushed = history.clone();
        fill(&mut log, &mut rng, &mut history, 25, longest);
        check_reads(&history, |location| log.read(location, own));
        assert_eq!(scan(&before, Revision::default()).len(), flushed.len(), "pending records are not visible");
        log.flush().unwrap();
        assert_eq!(scan(&before, Revision::default()), flushed, "a reader stays at its moment");
        let reader = log.reader();
        check_reads(&history, |location| reader.read(location, own));
    }
    let live: u64 = history.values().map(|(_, location)| location.record_bytes()).sum();
    assert_eq!(log.live_bytes(), live);
    assert!(log.disk_bytes() > live);
    log.sync_job().run().unwrap();
    assert!(log.sync_job().is_empty());
    let manifest = log.manifest();
    check_scans(&log.reader(), &history);
    drop(log);

    let mut log = RevLog::open(vfs, dir, options(segment_bytes), &manifest).unwrap();
    assert_eq!(log.removed_at_open(), &[] as &[String]);
    assert_eq!(log.manifest(), manifest);
    fill(&mut log, &mut rng, &mut history, 100, longest);
    log.flush().unwrap();
    check_scans(&log.reader(), &history);
    check_reads(&history, |location| log.read(location, own));
}

fn check_scans(reader: &LogReader, history: &History) {
    assert_eq!(&scan(reader, Revision::default()), history);
    for from in history.keys().step_by(17) {
        for from in [*from, Revision::new(from.main, from.sub + 1), Revision::new(from.main + 1, 0)] {
            let expected: History = history.range(from..).map(|(k, v)| (*k, v.clone())).collect();
            assert_eq!(scan(reader, from), expected, "from {from:?}");
        }
    }
    let mut seen = 0;
    let break_at_third = &mut |_: Location, _: Record<'_>| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    reader.scan(Revision::default(), break_at_third).unwrap();
    assert_eq!(seen, 3.min(history.len()));
}

#[test]
fn what_was_appended_is_read_in_memory() {
    round_trip(Arc::new(MemoryVfs::new()), &dir(), 4 << 10, 300);
    round_trip(Arc::new(MemoryVfs::new()), &dir(), 100 << 10, 900);
}

#[test]
fn what_was_appended_is_read_on_disk() {
    let temp = tempfile::tempdir().unwrap();
    round_trip(Arc::new(RealVfs), &temp.path().join("small"), 4 << 10, 300);
    round_trip(Arc::new(RealVfs), &temp.path().join("large"), 300 << 10, 2000);
}

#[test]
fn records_larger_than_a_segment_or_a_walk_window_get_room() {
    let (vfs, mut log) = memory_log(1 << 10);
    let mut history = History::new();
    for (main, len) in [(2, 10), (3, 5_000), (4, 700_000), (5, 0), (6, 1_004), (7, 300), (8, 972), (9, 973)] {
        let payload = vec![main as u8; len];
        let location = log.append(Revision::new(main, 0), false, &[&payload]);
        history.insert(Revision::new(main, 0), ((false, payload), location));
    }
    check_reads(&history, |location| log.read(location, own));
    log.flush().unwrap();
    check_scans(&log.reader(), &history);
    log.sync_job().run().unwrap();
    let log = RevLog::open(Arc::new(vfs), &dir(), options(1 << 10), &log.manifest()).unwrap();
    check_scans(&log.reader(), &history);
    check_reads(&history, |location| log.read(location, own));
}

#[test]
fn a_scan_starts_close_to_its_first_record() {
    let (vfs, mut log) = memory_log(100 << 10);
    let mut rng = Rng::new(4);
    let mut history = History::new();
    let check = |log: &RevLog, history: &History| {
        for (revision, (_, location)) in history {
            let segment = log.table.get(location.segment).unwrap();
            let offset = u64::from(location.offset);
            for start in [segment.seek(*revision).unwrap(), segment.seek_offset(offset).unwrap()] {
                assert!(
                    start <= offset && offset - start < segment::SPARSE_INTERVAL + 1020,
                    "{start} for {location:?}"
                );
            }
        }
    };
    for _ in 0..10 {
        fill(&mut log, &mut rng, &mut history, 70, 1000);
        log.flush().unwrap();
        check(&log, &history);
    }
    let manifest = log.manifest();
    let mut log = RevLog::open(Arc::new(vfs), &dir(), options(100 << 10), &manifest).unwrap();
    fill(&mut log, &mut rng, &mut history, 150, 1000);
    log.flush().unwrap();
    check(&log, &history);
    for (_, location) in history.values() {
        log.release(*location);
    }
    let plan = log.plan_rewrite(u64::MAX).unwrap();
    let relocation = log.install_rewrite(plan.run(&mut |_, _, _, _| true).unwrap());
    assert!(log.manifest().segments.iter().any(|segment| !manifest.names(segment.id)));
    for moved in relocation.slice(0, usize::MAX) {
        history.get_mut(&moved.revision).unwrap().1 = moved.new;
    }
    check(&log, &history);
}

#[test]
fn a_long_burst_flushes_itself() {
    let (_, mut log) = memory_log(SEGMENT_BYTES);
    let payload = vec![7; 1 << 20];
    for main in 2..40 {
        log.append(Revision::new(main, 0), false, &[&payload]);
        assert!(log.pending_bytes() < MAX_PENDING_BYTES + (2 << 20));
    }
    assert!(log.manifest().last() > Some(Revision::new(20, 0)));
}

#[test]
fn open_cuts_at_the_manifest_and_removes_what_came_later() {
    let (vfs, mut log) = memory_log(2 << 10);
    let mut rng = Rng::new(1);
    let mut history = History::new();
    fill(&mut log, &mut rng, &mut history, 50, 100);
    log.flush().unwrap();
    log.sync_job().run().unwrap();
    let manifest = log.manifest();
    let kept = history.clone();
    fill(&mut log, &mut rng, &mut history, 60, 100);
    log.flush().unwrap();
    let later: Vec<String> =
        log.manifest().segments.iter().filter(|s| !manifest.names(s.id)).map(|s| segment::file_name(s.id)).collect();
    assert!(later.len() > 1);
    drop(log);
    vfs.create(&dir().join("notes")).unwrap();

    let mut log = RevLog::open(Arc::new(vfs.clone()), &dir(), options(2 << 10), &manifest).unwrap();
    assert_eq!(log.removed_at_open(), later);
    check_scans(&log.reader(), &kept);
    let cut = manifest.segments.last().unwrap();
    let file = vfs.open(&dir().join(segment::file_name(cut.id))).unwrap();
    let mut tail = vec![1; (file.len().unwrap() - cut.bytes) as usize];
    file.read_at(&mut tail, cut.bytes).unwrap();
    assert!(tail.iter().all(|byte| *byte == 0), "nothing of the cut records is left");
    assert!(vfs.list(&dir()).unwrap().contains(&"notes".to_owned()));
    let mut history = kept;
    fill(&mut log, &mut rng, &mut history, 60, 100);
    log.flush().unwrap();
    check_scans(&log.reader(), &history);
}

#[test]
fn a_log_that_does_not_match_its_manifest_is_refused_by_name() {
    let (vfs, mut log) = memory_log(2 << 10);
    fill(&mut log, &mut Rng::new(2), &mut History::new(), 100, 100);
    log.flush().unwrap();
    log.sync_job().run().unwrap();
    let manifest = log.manifest();
    let names: Vec<String> = manifest.segments.iter().map(|s| segment::file_name(s.id)).collect();
    let open = |vfs: &MemoryVfs| {
        let error = RevLog::open(Arc::new(vfs.clone()), &dir(), options(2 << 10), &manifest).err().unwrap();
        (format!("{error:?}"), error.to_string())
    };
    let changed = |change: &dyn Fn(&MemoryVfs)| {
        let copy = vfs.crash(0);
        change(&copy);
        open(&copy)
    };
    let (_, text) = changed(&|vfs| vfs.remove(&dir().join(&names[1])).unwrap());
    assert_eq!(text, format!("revision log: {} is missing", names[1]));
    let (_, text) = changed(&|vfs| vfs.open(&dir().join(&names[0])).unwrap().set_len(100).unwrap());
    let bytes = manifest.segments[0].bytes;
    assert_eq!(text, format!("revision log: {} has 100 bytes, {bytes} were recorded", names[0]));
    let (text, _) = changed(&|vfs| vfs.flip(&dir().join(&names[2]), 13, 1));
    assert_eq!(text, format!("Foreign {{ file: {:?} }}", names[2]));
    let (text, _) = changed(&|vfs| vfs.rename(&dir().join(&names[2]), &dir().join(&names[1])).unwrap());
    assert_eq!(text, format!("Foreign {{ file: {:?} }}", names[1]));
    // None of these lost anything.
    let again = RevLog::create(Arc::new(vfs.clone()), &dir(), options(2 << 10)).err().unwrap();
    assert!(matches!(again, LogError::NotEmpty { file } if file == names[0]));
    RevLog::open(Arc::new(vfs), &dir(), options(2 << 10), &manifest).unwrap();
}

#[test]
fn released_records_leave_the_count_and_recounting_finds_the_same() {
    let (vfs, mut log) = memory_log(2 << 10);
    let mut rng = Rng::new(3);
    let mut history = History::new();
    fill(&mut log, &mut rng, &mut history, 80, 100);
    log.flush().unwrap();
    fill(&mut log, &mut rng, &mut history, 80, 100);
    let dead: Vec<Revision> = history.keys().copied().filter(|_| rng.coin()).collect();
    for revision in dead {
        let (_, location) = history.remove(&revision).unwrap();
        log.release(location);
    }
    let live: u64 = history.values().map(|(_, location)| location.record_bytes()).sum();
    assert_eq!(log.live_bytes(), live);
    log.flush().unwrap();
    assert_eq!(log.live_bytes(), live);
    log.sync_job().run().unwrap();
    let manifest = log.manifest();
    let mut log = RevLog::open(Arc::new(vfs), &dir(), options(2 << 10), &manifest).unwrap();
    log.recount_live(history.values().map(|(_, location)| *location));
    assert_eq!(log.manifest(), manifest);
}

#[test]
fn a_location_of_nowhere_is_an_error() {
    let (_, mut log) = memory_log(2 << 10);
    let here = log.append(Revision::new(2, 0), false, &[b"abc"]);
    log.append(Revision::new(2, 1), false, &[b"another"]);
    let read = |log: &RevLog, location| log.read(location, |_| ()).unwrap_err();
    let wrong = Location { segment: here.segment + 1, ..here };
    assert!(matches!(read(&log, wrong), LogError::UnknownSegment { .. }));
    log.flush().unwrap();
    for wrong in [
        Location { offset: here.offset + 1, ..here },
        Location { len: here.len - 1, ..here },
        Location { len: here.len + 1, ..here },
        Location { len: u32::MAX, ..here },
        Location { offset: 0, len: 5, ..here },
    ] {
        assert!(matches!(read(&log, wrong), LogError::Damaged { .. }), "{wrong:?}");
    }
    assert_eq!(log.read(here, own).unwrap().1.1, b"abc");
}

#[test]
#[should_panic(expected = "append of")]
fn revisions_must_increase() {
    let (_, mut log) = memory_log(2 << 10);
    log.append(Revision::new(2, 1), false, &[]);
    log.append(Revision::new(2, 1), false, &[]);
}
