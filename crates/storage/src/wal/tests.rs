use super::*;
use crate::vfs::{
    MemoryVfs, RealVfs,
    memory::{Fault, FaultError, Op, rng::Rng},
};

const DIR: &str = "/wal";

pub(super) fn options() -> WalOptions {
    WalOptions { segment_bytes: 8192, max_bytes: 1 << 20, salt: 77, keep_entries: 40, keep_bytes: 3000 }
}

pub(super) fn entry(index: u64, term: u64, len: usize) -> WalEntry {
    let mut rng = Rng::new(index << 20 ^ term << 8 ^ len as u64);
    WalEntry { index, term, data: (0..len).map(|_| rng.next() as u8).collect() }
}

fn batch(entries: impl IntoIterator<Item = WalEntry>) -> WalBatch {
    WalBatch { entries: entries.into_iter().collect(), ..WalBatch::default() }
}

fn state(state: &'static str) -> WalBatch {
    WalBatch { state: Some(Bytes::from_static(state.as_bytes())), ..WalBatch::default() }
}

fn new_log() -> (MemoryVfs, Wal) {
    let vfs = MemoryVfs::new();
    let wal = Wal::create(Arc::new(vfs.clone()), Path::new(DIR), options(), Bytes::from_static(b"me")).unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    (vfs, wal)
}

fn open(vfs: &MemoryVfs, after: u64) -> Result<(Wal, Recovered), WalError> {
    Wal::open(Arc::new(vfs.clone()), Path::new(DIR), options(), after)
}

fn indexes(recovered: &Recovered) -> Vec<(u64, u64)> {
    recovered.entries.iter().map(|entry| (entry.index, entry.term)).collect()
}

/// Appends and syncs entries of 500 bytes one by one.
fn fill(wal: &mut Wal, indexes: std::ops::RangeInclusive<u64>) {
    for index in indexes {
        wal.append(&batch([entry(index, 1, 500)])).unwrap();
        wal.sync().unwrap();
    }
}

#[test]
fn what_is_appended_is_read_back() {
    let (vfs, mut wal) = new_log();
    wal.append(&WalBatch::default()).unwrap();
    wal.append(&state("s1")).unwrap();
    wal.append(&batch([entry(1, 1, 10), entry(2, 1, 0), entry(3, 1, 5000)])).unwrap();
    wal.sync().unwrap();
    let (_, recovered) = open(&vfs.crash(0), 0).unwrap();
    assert_eq!(recovered.metadata, "me");
    assert_eq!(recovered.state.as_deref(), Some(&b"s1"[..]));
    assert_eq!(recovered.entries, [entry(1, 1, 10), entry(2, 1, 0), entry(3, 1, 5000)]);
    assert_eq!(recovered.torn, None);
    let (_, recovered) = open(&vfs, 2).unwrap();
    assert_eq!(indexes(&recovered), [(3, 1)]);
}

#[test]
fn the_same_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let mut wal = Wal::create(vfs.clone(), dir.path(), options(), Bytes::from_static(b"me")).unwrap();
    assert!(Wal::exists(&*vfs, dir.path()).unwrap());
    for index in 1..=200 {
        wal.append(&batch([entry(index, 1, 300)])).unwrap();
        wal.sync().unwrap();
        if index % 50 == 0 {
            wal.release(index - 10).unwrap();
        }
        if let Some(job) = wal.prepare_job() {
            wal.install(job.run()).unwrap();
        }
    }
    drop(wal);
    let (_, recovered) = Wal::open(vfs.clone(), dir.path(), options(), 190).unwrap();
    assert_eq!(recovered.entries, (191..=200).map(|index| entry(index, 1, 300)).collect::<Vec<_>>());
    let files = vfs.list(dir.path()).unwrap();
    assert!(files.len() <= 2 + 1 + MAX_SPARES, "{files:?}");
}

#[test]
fn later_entries_override() {
    let (vfs, mut wal) = new_log();
    wal.append(&batch((1..=9).map(|index| entry(index, 1, 9)))).unwrap();
    wal.append(&batch([entry(5, 2, 9), entry(6, 2, 9)])).unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.last_index(), 6);
    let (_, recovered) = open(&vfs, 3).unwrap();
    assert_eq!(indexes(&recovered), [(4, 1), (5, 2), (6, 2)]);
    // An override below the checkpoint still takes the old suffix away.
    let (mut wal, recovered) = open(&vfs, 5).unwrap();
    assert_eq!(indexes(&recovered), [(6, 2)]);
    // A snapshot was installed at 20, and entries go on behind it.
    wal.append(&batch([entry(21, 4, 9)])).unwrap();
    wal.sync().unwrap();
    let (_, recovered) = open(&vfs, 20).unwrap();
    assert_eq!(indexes(&recovered), [(21, 4)]);
    assert!(matches!(open(&vfs, 5), Err(WalError::Gap { expected: 7, found: 21 })));
}

#[test]
fn a_suffix_older_than_the_snapshot_is_told() {
    let (vfs, mut wal) = new_log();
    wal.append(&batch((1..=9).map(|index| entry(index, 1, 9)))).unwrap();
    wal.sync().unwrap();
    let (wal, _) = open(&vfs, 5).unwrap();
    assert!(wal.continues(5, 1) && wal.continues(9, 1), "the checkpoint was taken from this log");
    assert!(!wal.continues(5, 2), "what is here conflicts with the snapshot");
    assert!(!wal.continues(10, 1), "what is here ends before the snapshot");
}

#[test]
fn what_is_before_a_new_beginning_is_void_for_ever() {
    for above in [0, 3, 40] {
        let (vfs, mut wal) = new_log();
        wal.append(&batch((1..=20 + above).map(|index| entry(index, 1, 9)))).unwrap();
        wal.append(&state("vote")).unwrap();
        wal.restart(30).unwrap();
        for (recovered, reader) in [30, 31].map(|after| (open(&vfs, after), after)) {
            let after = reader;
            if let Ok((wal, recovered)) = recovered {
                assert!(recovered.entries.is_empty() && recovered.kept.is_empty(), "{above} {after}: {recovered:?}");
                assert_eq!(wal.reader().range(), (31, 30));
                assert_eq!(recovered.state.as_deref(), Some(&b"vote"[..]));
            }
        }
        let (mut wal, _) = open(&vfs, 30).unwrap();
        wal.append(&batch((31..=50).map(|index| entry(index, 3, 9)))).unwrap();
        wal.sync().unwrap();
        let (mut wal, recovered) = open(&vfs, 40).unwrap();
        assert_eq!(recovered.kept.first().map(|entry| entry.index), Some(31));
        assert!(wal.continues(40, 3) && !wal.continues(40, 1));
        assert_eq!(wal.reader().range(), (31, 50));
        assert!(matches!(open(&vfs, 20), Err(WalError::Gap { expected: 21, .. })), "an older checkpoint does not go");
        wal.release(40).unwrap();
        assert_eq!(indexes(&open(&vfs, 40).unwrap().1).len(), 10);
    }
}

#[test]
fn entries_are_read_back_by_index() {
    let (_, mut wal) = new_log();
    let reader = wal.reader();
    let mut terms = std::collections::BTreeMap::new();
    let mut put = |wal: &mut Wal, indexes: std::ops::RangeInclusive<u64>, term, len| {
        terms.split_off(indexes.start());
        terms.extend(indexes.clone().map(|index| (index, term)));
        wal.append(&batch(indexes.map(|index| entry(index, term, len)))).unwrap();
        terms.clone()
    };
    for round in 0..40 {
        put(&mut wal, round * 10 + 1..=round * 10 + 10, 1, 500);
    }
    put(&mut wal, 391..=420, 2, 40);
    put(&mut wal, 415..=416, 3, 4_000);
    let terms = put(&mut wal, 417..=600, 3, 10);
    assert_eq!(reader.range(), (1, 600));
    for low in (1..=600).step_by(7) {
        for (high, most) in [(low + 1, 1), (601.min(low + 50), 2_000), (601, 1 << 20)] {
            let found = reader.read(low, high, most).unwrap();
            let wanted: Vec<(u64, u64)> = terms.range(low..high).map(|(index, term)| (*index, *term)).collect();
            let got: Vec<(u64, u64)> = found.iter().map(|entry| (entry.index, entry.term)).collect();
            assert_eq!(got, wanted[..got.len()], "from {low}");
            assert!(!got.is_empty() && (got.len() == wanted.len() || most < 1 << 20));
        }
    }
    let runs = reader.terms();
    assert_eq!(runs, [(1, 1), (391, 2), (415, 3)]);
    let all = reader.bytes_from(1);
    assert!(reader.bytes_from(300) < all && reader.bytes_from(600) < reader.bytes_from(300));
    wal.sync().unwrap();
    wal.release(300).unwrap();
    let (first, last) = reader.range();
    assert!(first > 1 && first <= 301 && last == 600);
    assert!(matches!(reader.read(first - 1, 600, 1), Err(WalError::Gap { .. })));
    assert_eq!(reader.read(first, first + 1, 1).unwrap()[0].index, first);
    assert_eq!(reader.terms()[0], (first - 1, 1));
}

#[test]
fn what_is_not_released_is_kept_for_others() {
    let (vfs, mut wal) = new_log();
    wal.append(&batch((1..=100).map(|index| entry(index, 1, 9)))).unwrap();
    wal.append(&batch((81..=90).map(|index| entry(index, 2, 9)))).unwrap();
    wal.sync().unwrap();
    let (_, recovered) = open(&vfs, 85).unwrap();
    let kept: Vec<(u64, u64)> = recovered.kept.iter().map(|entry| (entry.index, entry.term)).collect();
    let wanted: Vec<(u64, u64)> = (46..=80).map(|index| (index, 1)).chain((81..=85).map(|index| (index, 2))).collect();
    assert_eq!(kept, wanted, "the newest 40, overrides applied");
    assert_eq!(indexes(&recovered), (86..=90).map(|index| (index, 2)).collect::<Vec<_>>());
    let (mut wal, recovered) = open(&vfs, 95).unwrap();
    assert!(recovered.kept.is_empty(), "the log does not reach the checkpoint: nothing below it goes with it");
    fill(&mut wal, 91..=120);
    let (_, recovered) = open(&vfs, 110).unwrap();
    assert_eq!(recovered.kept.iter().map(|entry| entry.index).collect::<Vec<_>>(), (105..=110).collect::<Vec<_>>());
}

#[test]
fn segments_roll_are_released_and_recycled() {
    let (vfs, mut wal) = new_log();
    wal.append(&state("first")).unwrap();
    fill(&mut wal, 1..=60);
    assert!(wal.segments.len() > 5);
    let before = wal.bytes();
    wal.release(58).unwrap();
    assert!(wal.bytes() < before / 3);
    assert_eq!(wal.spares.len(), MAX_SPARES);
    let names = vfs.list(Path::new(DIR)).unwrap();
    assert_eq!(names.iter().filter(|name| name.starts_with("spare-")).count(), MAX_SPARES);
    let (_, recovered) = open(&vfs.crash(1), 58).unwrap();
    assert_eq!(recovered.state.as_deref(), Some(&b"first"[..]), "the hard state outlives its segment");
    // Recycled files hold whole batches of their former life right behind the new ones.
    fill(&mut wal, 61..=70);
    assert!(wal.spares.len() < MAX_SPARES);
    for seed in 0..20 {
        let (_, recovered) = open(&vfs.crash(seed), 58).unwrap();
        assert_eq!(recovered.entries, (59..=70).map(|index| entry(index, 1, 500)).collect::<Vec<_>>());
        assert_eq!(recovered.torn, None);
    }
    assert!(matches!(open(&vfs, 20), Err(WalError::Gap { expected: 21, .. })), "released too much for that checkpoint");
}

#[test]
fn a_large_batch_gets_a_large_segment() {
    let (vfs, mut wal) = new_log();
    fill(&mut wal, 1..=3);
    wal.append(&batch([entry(4, 1, 100_000), entry(5, 1, 3)])).unwrap();
    wal.sync().unwrap();
    fill(&mut wal, 6..=30);
    let (mut wal, recovered) = open(&vfs.crash(3), 0).unwrap();
    assert_eq!(indexes(&recovered), (1..=30).map(|index| (index, 1)).collect::<Vec<_>>());
    assert_eq!(recovered.entries[3], entry(4, 1, 100_000));
    wal.release(30).unwrap();
    assert!(wal.disk_bytes() < 8192 * 8, "the large file is not kept as a spare");
}

#[test]
fn prepared_segments_are_used_and_late_ones_kept() {
    let (vfs, mut wal) = new_log();
    let job = wal.prepare_job().unwrap();
    assert!(wal.prepare_job().is_none(), "one at a time");
    wal.install(job.run()).unwrap();
    assert!(wal.prepare_job().is_none(), "one is ready");
    let ops = vfs.ops();
    fill(&mut wal, 1..=8);
    assert_eq!(wal.segments.len(), 2);
    assert_eq!(vfs.ops() - ops, 16, "rolling into a prepared segment costs nothing: one write, one sync a batch");
    let late = wal.prepare_job().unwrap();
    fill(&mut wal, 9..=20);
    wal.install(late.run()).unwrap();
    assert!(wal.ready.is_none());
    assert_eq!(wal.spares.len(), 1);
    fill(&mut wal, 21..=30);
    let (_, recovered) = open(&vfs.crash(9), 0).unwrap();
    assert_eq!(recovered.entries.len(), 30);
}

#[test]
fn a_failed_sync_is_for_ever() {
    let (vfs, mut wal) = new_log();
    fill(&mut wal, 1..=2);
    wal.append(&batch([entry(3, 1, 600)])).unwrap();
    vfs.fail(Fault::once(Op::Sync, FaultError::Eio));
    assert!(matches!(wal.sync(), Err(WalError::Io { doing: "sync", .. })));
    assert!(matches!(wal.sync(), Err(WalError::Failed)));
    assert!(matches!(wal.append(&batch([entry(4, 1, 1)])), Err(WalError::Failed)));
    assert!(matches!(wal.release(1), Err(WalError::Failed)));
    drop(wal);
    // A new process finds entry 3 in the page cache. What it is told must survive a power failure from then on.
    let (_, recovered) = open(&vfs, 0).unwrap();
    assert_eq!(recovered.entries.len(), 3);
    for seed in 0..20 {
        assert_eq!(open(&vfs.crash(seed), 0).unwrap().1.entries.len(), 3);
    }
}

#[test]
fn no_space_is_told_apart_and_survived() {
    let (vfs, mut wal) = new_log();
    fill(&mut wal, 1..=2);
    vfs.fail(Fault::once(Op::Write, FaultError::Enospc));
    assert!(matches!(wal.append(&batch([entry(3, 1, 2000)])), Err(WalError::NoSpace)));
    wal.append(&batch([entry(3, 2, 8)])).unwrap();
    wal.sync().unwrap();
    assert_eq!(indexes(&open(&vfs.crash(0), 0).unwrap().1), [(1, 1), (2, 1), (3, 2)]);
    // No room for a next segment: what does not fit is refused, what fits is taken.
    let (vfs, mut wal) = new_log();
    vfs.set_capacity(8192 + 100);
    fill(&mut wal, 1..=6);
    for _ in 0..3 {
        assert!(matches!(wal.append(&batch([entry(7, 1, 500)])), Err(WalError::NoSpace)));
    }
    wal.append(&batch([entry(7, 1, 5)])).unwrap();
    wal.sync().unwrap();
    assert_eq!(vfs.list(Path::new(DIR)).unwrap().len(), 1, "no half-made segment is left");
    // A full disk can be opened again and again: room for that is reserved.
    drop(wal);
    for _ in 0..3 {
        assert_eq!(open(&vfs, 0).unwrap().1.entries.len(), 7);
    }
    vfs.set_capacity(1 << 20);
    let (mut wal, _) = open(&vfs, 0).unwrap();
    fill(&mut wal, 8..=20);
    assert_eq!(open(&vfs.crash(2), 0).unwrap().1.entries.len(), 20);
}

#[test]
fn a_refused_batch_does_not_come_back() {
    let (vfs, mut wal) = new_log();
    fill(&mut wal, 1..=2);
    // Half of the write is there, which holds the whole first batch header.
    vfs.fail(Fault::once(Op::Write, FaultError::Enospc));
    assert!(matches!(wal.append(&batch([entry(3, 1, 700)])), Err(WalError::NoSpace)));
    let (_, recovered) = open(&vfs, 0).unwrap();
    assert_eq!((recovered.entries.len(), recovered.torn), (2, None));
    // If it cannot be taken away, the log stops.
    vfs.fail(Fault::always(Op::Write, FaultError::Enospc));
    assert!(matches!(wal.append(&batch([entry(3, 1, 700)])), Err(WalError::Failed)));
    vfs.clear_faults();
    assert!(matches!(wal.append(&batch([entry(3, 1, 700)])), Err(WalError::Failed)));
}

#[test]
fn the_log_is_bounded_in_bytes() {
    let (_, mut wal) = new_log();
    wal.options.max_bytes = 8192 * 4;
    let mut index = 1;
    let full = loop {
        match wal.append(&batch([entry(index, 1, 500)])) {
            Ok(()) => index += 1,
            Err(error) => break error,
        }
        wal.sync().unwrap();
    };
    assert!(matches!(full, WalError::NoSpace));
    assert!(wal.bytes() <= 8192 * 4 && index > 20);
    wal.release(index - 3).unwrap();
    wal.append(&batch([entry(index, 1, 500)])).unwrap();
}

#[test]
fn torn_tails_are_cut_and_told_of() {
    let (vfs, mut wal) = new_log();
    fill(&mut wal, 1..=2);
    let end = wal.active().end;
    wal.append(&batch([entry(3, 1, 2000)])).unwrap();
    let segment = wal.active().path.clone();
    vfs.flip(&segment, end + 1000, 4);
    let (mut wal, recovered) = open(&vfs, 0).unwrap();
    assert_eq!(recovered.entries.len(), 2);
    assert_eq!(recovered.torn, Some(TornTail { file: segment, offset: end, bytes: 64 }));
    wal.append(&batch([entry(3, 2, 8)])).unwrap();
    wal.sync().unwrap();
    let (_, recovered) = open(&vfs, 0).unwrap();
    assert_eq!(indexes(&recovered), [(1, 1), (2, 1), (3, 2)]);
    assert_eq!(recovered.torn, None);
}

#[test]
fn batches_cut_off_never_come_back() {
    let (vfs, mut wal) = new_log();
    let end = wal.active().end;
    wal.append(&batch([entry(1, 1, 500)])).unwrap();
    wal.append(&batch([entry(2, 1, 500)])).unwrap();
    vfs.flip(&wal.active().path, end + 100, 1);
    let (mut wal, recovered) = open(&vfs, 0).unwrap();
    assert!(recovered.entries.is_empty());
    // The open wrote a batch without payload: this one ends just where the old second batch begins.
    wal.append(&batch([entry(1, 2, 500 - BATCH_HEADER_BYTES as usize)])).unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.active().end, end + 584, "the old batch is right behind");
    for seed in 0..10 {
        assert_eq!(indexes(&open(&vfs.crash(seed), 0).unwrap().1), [(1, 2)]);
    }
}

#[test]
fn damage_below_a_claim_refuses_and_names_the_place() {
    let (vfs, mut wal) = new_log();
    wal.append(&state("s")).unwrap();
    fill(&mut wal, 1..=30);
    let files: Vec<_> = wal.segments.iter().map(|s| (s.path.clone(), s.end)).collect();
    let claimed = wal.active().end;
    wal.append(&batch([entry(31, 1, 8)])).unwrap();
    wal.sync().unwrap();
    let mut rng = Rng::new(5);
    for (path, end) in &files {
        let end = if path == &wal.active().path { claimed } else { *end };
        for _ in 0..200 {
            let disk = vfs.crash(0);
            let at = rng.below(end);
            disk.flip(path, at, 1 << rng.below(8));
            match open(&disk, 0).err() {
                Some(WalError::Damaged { file, offset, .. }) => {
                    assert_eq!(&file, path);
                    assert!(offset <= at && at - offset < 4096, "flipped {at}, named {offset}");
                }
                Some(WalError::NewerFormat { file, .. }) => assert!(&file == path && (8..12).contains(&at)),
                other => panic!("flipped {at} of {}: {other:?}", path.display()),
            }
        }
        // A whole sector that reads as zeros, and a file cut short.
        let disk = vfs.crash(0);
        disk.open(path).unwrap().write_at(&[&[0; 512]], 4608).unwrap();
        assert!(matches!(open(&disk, 0), Err(WalError::Damaged { .. })));
        let disk = vfs.crash(0);
        disk.open(path).unwrap().set_len(end - 1).unwrap();
        let cut = open(&disk, 0);
        assert!(path == &wal.active().path || matches!(cut, Err(WalError::Damaged { .. })));
    }
}

#[test]
fn a_missing_segment_refuses() {
    let (vfs, mut wal) = new_log();
    fill(&mut wal, 1..=30);
    let last = wal.segments.len() - 1;
    for missing in 0..last {
        let disk = vfs.crash(0);
        let gone = &wal.segments[missing];
        disk.remove(&gone.path).unwrap();
        assert!(matches!(open(&disk, 0), Err(WalError::Gap { expected: 1, .. })), "segment {missing}");
        // With a checkpoint above all of it, it is just a release that was interrupted.
        let (_, recovered) = open(&disk, gone.highest_index).unwrap();
        assert_eq!(recovered.entries.last().unwrap().index, 30);
    }
}

#[test]
fn a_missing_segment_refuses_even_if_no_entry_follows() {
    let (vfs, mut wal) = new_log();
    fill(&mut wal, 1..=3);
    let gone = wal.active().path.clone();
    while wal.segments.len() < 2 {
        wal.append(&state("s")).unwrap();
        wal.sync().unwrap();
    }
    vfs.remove(&gone).unwrap();
    assert!(matches!(open(&vfs, 2), Err(WalError::Gap { expected: 3, found: 0 })));
    assert_eq!(open(&vfs, 3).unwrap().1.state.as_deref(), Some(&b"s"[..]));
}

#[test]
fn other_logs_and_versions_are_refused() {
    let (vfs, wal) = new_log();
    let path = wal.active().path.clone();
    let create = Wal::create(Arc::new(vfs.clone()), Path::new(DIR), options(), Bytes::new());
    assert!(matches!(create, Err(WalError::Exists(_))));
    let newer = vfs.crash(0);
    newer.open(&path).unwrap().write_at(&[&[2]], 8).unwrap();
    let error = open(&newer, 0).err().unwrap();
    assert_eq!(error.to_string(), "wal: /wal/0000000000000001.wal has format 2, written by a later version");
    let renamed = vfs.crash(0);
    renamed.rename(&path, &Path::new(DIR).join("0000000000000002.wal")).unwrap();
    assert!(matches!(open(&renamed, 0), Err(WalError::Damaged { offset: 16, .. })));
    assert!(matches!(open(&MemoryVfs::new(), 0), Err(WalError::Io { .. })));
}

#[test]
fn nonsense_never_panics() {
    let (vfs, mut wal) = new_log();
    fill(&mut wal, 1..=20);
    for seed in 0..2000 {
        let mut rng = Rng::new(seed);
        let disk = vfs.crash(0);
        for name in disk.list(Path::new(DIR)).unwrap() {
            let file = disk.open(&Path::new(DIR).join(name)).unwrap();
            match rng.below(4) {
                0 => file.set_len(rng.below(9000)).unwrap(),
                1 => {
                    let noise: Vec<u8> = (0..rng.below(9000)).map(|_| rng.next() as u8).collect();
                    file.write_at(&[&noise], rng.below(5000)).unwrap();
                }
                2 => {
                    // Bytes of one place at another: whole batches where they do not belong.
                    let mut copy = vec![0; rng.below(3000) as usize];
                    let n = file.read_at(&mut copy, 4096 + rng.below(500) * 8).unwrap();
                    file.write_at(&[&copy[..n]], 4096 + rng.below(400) * 8).unwrap();
                }
                _ => {}
            }
        }
        if let Ok((_, recovered)) = open(&disk, 0) {
            let expected: Vec<_> = (1..=recovered.entries.len() as u64).map(|index| entry(index, 1, 500)).collect();
            assert_eq!(recovered.entries, expected, "seed {seed}");
        }
    }
    // Nothing but noise, also behind a good magic.
    for seed in 0..2000 {
        let mut rng = Rng::new(seed);
        let disk = MemoryVfs::new();
        disk.create_dir_all(Path::new(DIR)).unwrap();
        for sequence in 1..=rng.below(3) + 1 {
            let file = disk.create(&Path::new(DIR).join(format!("{sequence:016x}.wal"))).unwrap();
            let mut noise: Vec<u8> = (0..rng.below(6000)).map(|_| rng.next() as u8).collect();
            if rng.coin() && noise.len() > 40 {
                noise[..12].copy_from_slice(b"cetera-w\x01\0\0\0");
                noise[32..40].copy_from_slice(&[0, 0x10, 0, 0, 4, 0, 0, 0]);
            }
            file.write_at(&[&noise], 0).unwrap();
        }
        assert!(open(&disk, 0).is_err());
    }
}
