use std::collections::BTreeSet;

use super::*;

fn contents(vfs: &MemoryVfs, path: &str) -> Option<Vec<u8>> {
    let file = vfs.open(Path::new(path)).ok()?;
    let mut out = Vec::new();
    file.view(0, file.len().unwrap() as usize, &mut |bytes| out.extend_from_slice(bytes)).unwrap();
    Some(out)
}

fn disk_with(path: &str, data: &[u8]) -> (MemoryVfs, Arc<dyn File>) {
    let vfs = MemoryVfs::new();
    let file = vfs.create(Path::new(path)).unwrap();
    file.write_at(&[data], 0).unwrap();
    file.sync_data().unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    (vfs, file)
}

#[test]
fn what_is_synced_survives_every_crash() {
    let (vfs, file) = disk_with("/a", &[1; 3000]);
    file.write_at(&[&[2; 1000]], 5000).unwrap();
    for seed in 0..200 {
        let after = contents(&vfs.crash(seed), "/a").unwrap();
        assert_eq!(after[..3000], [1; 3000]);
        assert!(after[3000..].iter().all(|b| [0, 2].contains(b)));
    }
}

#[test]
fn unsynced_writes_are_lost_kept_or_torn() {
    let (vfs, file) = disk_with("/a", &[0; 2048]);
    file.write_at(&[&[1; 2048]], 0).unwrap();
    let seen: BTreeSet<Vec<u8>> = (0..400)
        .map(|seed| {
            let after = contents(&vfs.crash(seed), "/a").unwrap();
            after.chunks(512).for_each(|sector| assert!(sector.iter().all(|b| *b == sector[0])));
            after.chunks(512).map(|sector| sector[0]).collect()
        })
        .collect();
    assert_eq!(seen.len(), 16, "every subset of four sectors is possible");
}

#[test]
fn a_sector_never_holds_a_newer_change_without_the_older() {
    let (vfs, file) = disk_with("/a", &[0; 512]);
    file.write_at(&[&[1; 10]], 0).unwrap();
    file.write_at(&[&[2; 10]], 5).unwrap();
    let seen: BTreeSet<(u8, u8, u8)> = (0..200)
        .map(|seed| {
            let after = contents(&vfs.crash(seed), "/a").unwrap();
            (after[0], after[7], after[12])
        })
        .collect();
    assert_eq!(seen, BTreeSet::from([(0, 0, 0), (1, 1, 0), (1, 2, 2)]));
}

#[test]
fn lengths_and_cuts_are_open_until_synced() {
    let (vfs, file) = disk_with("/a", &[1; 1024]);
    file.set_len(100).unwrap();
    file.set_len(700).unwrap();
    let seen: BTreeSet<usize> = (0..200).map(|seed| contents(&vfs.crash(seed), "/a").unwrap().len()).collect();
    assert_eq!(seen, BTreeSet::from([100, 700, 1024]));
    file.sync_data().unwrap();
    let after = contents(&vfs.crash(0), "/a").unwrap();
    assert_eq!((&after[..100], &after[100..]), (&[1; 100][..], &[0; 600][..]));
}

#[test]
fn names_are_open_until_the_directory_is_synced() {
    let (vfs, _) = disk_with("/a", b"old");
    let new = vfs.create(Path::new("/b")).unwrap();
    new.write_at(&[b"new"], 0).unwrap();
    new.sync_data().unwrap();
    vfs.rename(Path::new("/b"), Path::new("/a")).unwrap();
    let see =
        |vfs: &MemoryVfs| (0..100).map(|s| (contents(&vfs.crash(s), "/a"), contents(&vfs.crash(s), "/b"))).collect();
    let seen: BTreeSet<_> = see(&vfs);
    let (old, new) = (Some(b"old".to_vec()), Some(b"new".to_vec()));
    assert_eq!(seen, BTreeSet::from([(old.clone(), None), (old, new.clone()), (new.clone(), None)]));
    vfs.sync_dir(Path::new("/")).unwrap();
    let seen: BTreeSet<_> = see(&vfs);
    assert_eq!(seen, BTreeSet::from([(new, None)]), "a synced rename is never undone");
}

#[test]
fn a_directory_is_a_name_in_its_parent() {
    let vfs = MemoryVfs::new();
    vfs.create_dir_all(Path::new("/x/y")).unwrap();
    vfs.create(Path::new("/x/y/f")).unwrap();
    vfs.sync_dir(Path::new("/x/y")).unwrap();
    vfs.sync_dir(Path::new("/x")).unwrap();
    assert!((0..50).any(|s| vfs.crash(s).list(Path::new("/x")).is_err()));
    vfs.sync_dir(Path::new("/")).unwrap();
    assert!((0..50).all(|s| vfs.crash(s).list(Path::new("/x/y")).unwrap() == ["f"]));
}

#[test]
fn a_failed_sync_may_lose_data_that_later_syncs_do_not_bring_back() {
    let mut lost = 0;
    for before in 0..20 {
        let (vfs, file) = disk_with("/a", &[0; 512]);
        (0..before).for_each(|_| vfs.sync_dir(Path::new("/")).unwrap());
        file.write_at(&[&[1; 512]], 0).unwrap();
        vfs.fail(Fault::once(Op::Sync, FaultError::Eio));
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
        file.sync_data().unwrap();
        assert_eq!(contents(&vfs, "/a").unwrap(), [1; 512], "the cache still shows it");
        lost += usize::from(contents(&vfs.crash(0), "/a").unwrap() == [0; 512]);
        file.write_at(&[&[1; 512]], 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(contents(&vfs.crash(0), "/a").unwrap(), [1; 512], "written anew it is kept");
    }
    assert!((1..20).contains(&lost));
}

#[test]
fn the_machine_stops_where_told() {
    let (vfs, file) = disk_with("/a", b"1");
    let ops = vfs.ops();
    vfs.crash_after(ops + 1);
    file.write_at(&[b"2"], 0).unwrap();
    let error = file.sync_data().unwrap_err();
    assert!(MemoryVfs::is_crash(&error));
    assert!(MemoryVfs::is_crash(&file.read_at(&mut [0], 0).unwrap_err()));
    assert_eq!(vfs.ops(), ops + 1);
    let seen: BTreeSet<_> = (0..50).map(|seed| contents(&vfs.crash(seed), "/a").unwrap()).collect();
    assert_eq!(seen, BTreeSet::from([b"1".to_vec(), b"2".to_vec()]));
}

#[test]
fn faults_are_chosen_by_operation_count_and_path() {
    let (vfs, file) = disk_with("/wal-1", &[0; 8]);
    let other = vfs.create(Path::new("/other")).unwrap();
    vfs.fail(Fault::always(Op::Write, FaultError::Enospc).after(1).path("wal"));
    other.write_at(&[b"x"], 0).unwrap();
    file.write_at(&[b"abcd"], 0).unwrap();
    for _ in 0..2 {
        assert_eq!(file.write_at(&[b"efgh"], 4).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(contents(&vfs, "/wal-1").unwrap(), b"abcdef\0\0");
    vfs.clear_faults();
    file.write_at(&[b"efgh"], 4).unwrap();
}

#[test]
fn a_full_disk_takes_a_prefix() {
    let (vfs, file) = disk_with("/a", &[0; 8]);
    vfs.set_capacity(10);
    assert_eq!(vfs.free_bytes(Path::new("/")).unwrap(), 2);
    assert_eq!(file.allocate(11).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.write_at(&[b"abcdef"], 6).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(contents(&vfs, "/a").unwrap(), b"\0\0\0\0\0\0abcd");
    vfs.remove(Path::new("/a")).unwrap();
    assert_eq!(vfs.free_bytes(Path::new("/")).unwrap(), 10);
}

#[test]
fn lying_syncs_and_flipped_bits() {
    let (vfs, file) = disk_with("/a", &[0; 4]);
    vfs.flip(Path::new("/a"), 2, 0x81);
    assert_eq!(contents(&vfs.crash(3), "/a").unwrap(), [0, 0, 0x81, 0]);
    vfs.ignore_syncs();
    file.write_at(&[b"abcd"], 0).unwrap();
    file.sync_data().unwrap();
    assert!((0..20).any(|seed| contents(&vfs.crash(seed), "/a").unwrap() == [0, 0, 0x81, 0]));
}

#[test]
fn locks_names_and_views() {
    let vfs = MemoryVfs::new();
    let held = vfs.lock(Path::new("/lock")).unwrap();
    assert_eq!(vfs.lock(Path::new("/lock")).err().unwrap().kind(), io::ErrorKind::WouldBlock);
    vfs.crash(0);
    drop(held);
    vfs.lock(Path::new("/lock")).unwrap();
    assert_eq!(vfs.create(Path::new("/lock")).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(vfs.open(Path::new("/none")).err().unwrap().kind(), io::ErrorKind::NotFound);
    let file = vfs.create(Path::new("/f")).unwrap();
    file.write_at(&[&[7; 5000]], 0).unwrap();
    file.view(4000, 1000, &mut |bytes| assert_eq!(bytes, [7; 1000])).unwrap();
    // The lent bytes are lent without a lock.
    file.view(0, 1, &mut |_| assert_eq!(file.len().unwrap(), 5000)).unwrap();
    assert_eq!(file.view(4999, 2, &mut |_| ()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    file.view(5000, 0, &mut |bytes| assert!(bytes.is_empty())).unwrap();
}
