//! Flipped bits are found and named.

use super::*;

fn small_log() -> (MemoryVfs, RevLog, History) {
    let (vfs, mut log) = memory_log(1 << 10);
    let mut history = History::new();
    fill(&mut log, &mut Rng::new(9), &mut history, 40, 60);
    log.flush().unwrap();
    log.sync_job().run().unwrap();
    (vfs, log, history)
}

fn damage(error: LogError) -> (String, u64) {
    match error {
        LogError::Damaged { file, offset } => (file, offset),
        other => panic!("{other}"),
    }
}

#[test]
fn every_flipped_byte_is_found_by_read_scan_verify_scrub_and_rewrite() {
    let (vfs, log, history) = small_log();
    let manifest = log.manifest();
    for (_, location) in history.values() {
        let name = segment::file_name(location.segment);
        for at in u64::from(location.offset)..location.end() {
            vfs.flip(&dir().join(&name), at, 1 << (at % 8));
            let expected = (name.clone(), u64::from(location.offset));
            assert_eq!(damage(log.read(*location, |_| ()).unwrap_err()), expected);
            // A fresh open has no sparse entries: it meets the record by its headers first.
            let log = RevLog::open(Arc::new(vfs.clone()), &dir(), options(1 << 10), &manifest).unwrap();
            let reader = log.reader();
            let whole = reader.scan(Revision::default(), &mut |_, _| ControlFlow::Continue(()));
            assert_eq!(damage(whole.unwrap_err()), expected);
            assert_eq!(damage(reader.verify(u64::MAX).unwrap_err()), expected);
            let mut next = Some(Revision::default());
            let found = loop {
                match reader.scrub(next.expect("the damage is met before the end"), 100) {
                    Ok(position) => next = position,
                    Err(error) => break damage(error),
                }
            };
            // A step of the scrub starts from a sparse entry; a header that lies is then named by its checksum.
            assert_eq!(found, expected);
            vfs.flip(&dir().join(&name), at, 1 << (at % 8));
        }
    }
    assert!(log.reader().verify(u64::MAX).unwrap() > 1000);
}

#[test]
fn a_whole_record_in_a_place_it_does_not_belong_is_found_by_a_scan() {
    let (vfs, mut log) = memory_log(1 << 10);
    let locations: Vec<Location> =
        (2..5).map(|main| log.append(Revision::new(main, 0), false, &[b"same size"])).collect();
    log.flush().unwrap();
    let file = vfs.open(&dir().join(segment::file_name(0))).unwrap();
    let mut record = vec![0; locations[0].record_bytes() as usize];
    file.read_at(&mut record, locations[0].offset.into()).unwrap();
    file.write_at(&[&record], locations[1].offset.into()).unwrap();
    let expected = (segment::file_name(0), u64::from(locations[1].offset));
    assert_eq!(damage(log.reader().verify(u64::MAX).unwrap_err()), expected);
    let manifest = log.manifest();
    let log = RevLog::open(Arc::new(vfs), &dir(), options(1 << 10), &manifest).unwrap();
    let scan = log.reader().scan(Revision::new(3, 0), &mut |_, _| ControlFlow::Continue(()));
    assert_eq!(damage(scan.unwrap_err()), expected);
}

#[test]
fn verify_reads_the_newest_bytes_only() {
    let (vfs, log, history) = small_log();
    let (_, first) = history.values().next().unwrap();
    vfs.flip(&dir().join(segment::file_name(first.segment)), u64::from(first.offset) + 1, 4);
    let reader = log.reader();
    let (_, last) = history.values().last().unwrap();
    let newest = last.end() - SEGMENT_HEADER;
    assert!(reader.verify(newest).unwrap() >= newest);
    assert!(reader.verify(u64::MAX).is_err());
    let manifest = log.manifest();
    let log = RevLog::open(Arc::new(vfs), &dir(), options(1 << 10), &manifest).unwrap();
    assert!(log.reader().verify(newest).unwrap() >= newest);
}

#[test]
fn scrub_visits_everything_in_bounded_steps() {
    let (_, log, history) = small_log();
    let reader = log.reader();
    let mut steps = 0;
    let mut next = Some(Revision::default());
    while let Some(from) = next {
        next = reader.scrub(from, 200).unwrap();
        assert!(next.is_none_or(|next| next > from && history.contains_key(&next)));
        steps += 1;
    }
    let bytes: u64 = history.values().map(|(_, location)| location.record_bytes()).sum();
    assert!(steps as u64 >= bytes / 300 && steps as u64 <= bytes / 200 + 1, "{steps} steps for {bytes} bytes");
}

#[test]
fn a_rewrite_stops_at_damage_and_leaves_no_files() {
    let (vfs, mut log, history) = small_log();
    let mut victim = None;
    for (_, location) in history.values().filter(|(_, location)| location.segment == 0) {
        log.release(*location);
        victim = Some(*location);
    }
    let victim = victim.unwrap();
    vfs.flip(&dir().join(segment::file_name(0)), victim.end() - 1, 1);
    let before = vfs.list(&dir()).unwrap();
    let plan = log.plan_rewrite(u64::MAX).unwrap();
    assert_eq!(plan.segments(), [0]);
    let error = plan.run(&mut |_, _, _, _| true).err().unwrap();
    assert_eq!(damage(error), (segment::file_name(0), u64::from(victim.offset)));
    assert_eq!(vfs.list(&dir()).unwrap(), before);
    assert!(log.plan_rewrite(u64::MAX).is_some(), "the failed plan is given up");
}
