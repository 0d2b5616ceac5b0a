//! How a member begins: as one that reopens its directory, founds a cluster or joins one.

use std::path::Path;
use std::sync::Arc;

use cetera_node::event::Event;
use cetera_node::recovery::{self, Start, StartError};
use cetera_proto::etcdserverpb as pb;
use cetera_proto::raftpb::{ConfChange, ConfChangeType};
use cetera_raft::{Entry, EntryKind};
use cetera_state::member::Member;
use cetera_storage::vfs::{Vfs, memory::MemoryVfs};
use cetera_storage::wal::{WalBatch, WalEntry};
use prost::Message as _;

fn start(founders: &[u64], member_id: u64) -> Start {
    let founders = founders.iter().map(|id| Member { id: *id, name: format!("m{id}"), ..Default::default() }).collect();
    Start { founders, member_id, cluster_id: 77, tick_ms: 10, election_ms: 100, nonce: 1, ..Start::default() }
}

const DIR: &str = "/data";

#[test]
fn a_directory_decides_who_lives_in_it() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    let dir = Path::new(DIR);
    assert!(recovery::reopen(&vfs, dir, start(&[], 0)).expect("a good disk").is_none());
    // Nothing was made that stood in the way.
    let opened = recovery::open(&vfs, dir, start(&[1, 2, 3], 2)).expect("founded");
    assert_eq!((opened.ids, opened.report.first_start, opened.report.sole_voter), ((2, 77), true, false));
    let names: Vec<_> = opened.node.published().members.iter().map(|member| member.name.clone()).collect();
    assert_eq!(names, ["m1", "m2", "m3"]);
    drop(opened);
    // B-5: what the flags would say now is not read.
    let opened = recovery::reopen(&vfs, dir, start(&[], 9)).expect("a good disk").expect("a member");
    assert_eq!((opened.ids, opened.report.first_start), ((2, 77), false));
    assert_eq!(opened.node.published().members.len(), 3);
}

/// B-2: it has no members but those that the leader will tell it, and never stands for election before.
#[test]
fn one_that_joins_waits_to_be_told() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    let dir = Path::new(DIR);
    let joiner = recovery::open(&vfs, dir, start(&[], 5)).expect("made");
    assert_eq!((joiner.ids, joiner.report.sole_voter), ((5, 77), false));
    drop(joiner);
    let mut joiner = recovery::reopen(&vfs, dir, start(&[], 0)).expect("a good disk").expect("a member");
    assert_eq!(joiner.ids, (5, 77));
    for now_ms in (0..10_000).step_by(10) {
        let effects = joiner.node.step(&mut vec![Event::Tick { now_ms }]).expect("it goes on");
        assert!(effects.messages.is_empty() && effects.wal.is_empty(), "at {now_ms}");
    }
    assert_eq!((joiner.node.published().term, joiner.node.published().members.len()), (0, 0));
}

/// A crash between the making of the log and its first entries: the next start is a first start again, of the same
/// member.
#[test]
fn a_start_cut_short_is_begun_again() {
    let disk = MemoryVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let dir = Path::new(DIR);
    drop(recovery::reopen(&vfs, dir, start(&[], 0)).expect("a good disk"));
    let metadata = pb::Metadata { node_id: 2, cluster_id: 77 }.encode_to_vec();
    let data_dir = cetera_storage::datadir::DataDir::open(vfs.clone(), dir).expect("made");
    let wal = cetera_storage::wal::Wal::create(vfs.clone(), &data_dir.wal_dir(), Default::default(), metadata.into());
    drop((wal.expect("made"), data_dir));
    assert!(recovery::reopen(&vfs, dir, start(&[], 0)).expect("a good disk").is_none());
    let Err(StartError::Storage(text)) = recovery::open(&vfs, dir, start(&[1, 3], 3)) else {
        panic!("another member took the place");
    };
    assert!(text.contains("cut short"), "{text}");
    let opened = recovery::open(&vfs, dir, start(&[1, 2], 2)).expect("founded");
    assert_eq!((opened.ids, opened.report.first_start), ((2, 77), true));
}

/// B-6.
#[test]
fn a_member_goes_on_alone_when_it_is_forced() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    let dir = Path::new(DIR);
    drop(recovery::open(&vfs, dir, start(&[1, 2, 3], 2)).expect("founded"));
    let forced = Start { force_new_cluster: true, ..start(&[], 0) };
    let opened = recovery::reopen(&vfs, dir, forced.clone()).expect("a good disk").expect("a member");
    let what = opened.report.forced.clone().expect("it was forced");
    assert_eq!((what.removed, what.discarded, what.commit_before, what.commit), (vec![1, 3], 0, 3, 5));
    assert!(opened.report.sole_voter && !opened.report.removed);
    let ids = |node: &cetera_node::Node| node.published().members.iter().map(|member| member.id).collect::<Vec<_>>();
    assert_eq!((opened.ids, ids(&opened.node)), ((2, 77), vec![2]));
    drop(opened);
    // It is in the log: from now on it needs no force.
    let opened = recovery::reopen(&vfs, dir, start(&[], 0)).expect("a good disk").expect("a member");
    assert_eq!((ids(&opened.node), opened.report.sole_voter, opened.report.forced), (vec![2], true, None));
    drop((opened.node, opened.wal, opened.data_dir));
    // And with force nothing is left to give up.
    let opened = recovery::reopen(&vfs, dir, forced).expect("a good disk").expect("a member");
    let what = opened.report.forced.expect("it was forced");
    assert_eq!((what.removed, what.commit_before, what.commit), (vec![], 5, 5));
}

/// B-6: what the others may have acknowledged is kept, though this member was not told that it is committed.
#[test]
fn nothing_of_the_log_is_lost_when_a_member_is_forced() {
    let entry = |index: u64, kind: EntryKind, data: Vec<u8>| {
        let data = Entry { index, term: 1, kind, data: data.into() }.to_wire().encode_to_vec().into();
        WalEntry { index, term: 1, data }
    };
    let removal = ConfChange { r#type: ConfChangeType::ConfChangeRemoveNode as i32, node_id: 2, ..Default::default() };
    let put = pb::InternalRaftRequest {
        put: Some(pb::PutRequest { key: b"kept".to_vec().into(), ..Default::default() }.into()),
        ..Default::default()
    };
    for (removed, discarded, commit) in [(false, 0, 6), (true, 2, 6)] {
        let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
        let dir = Path::new(DIR);
        let mut opened = recovery::open(&vfs, dir, start(&[1, 2, 3], 2)).expect("founded");
        let mut entries = vec![entry(4, EntryKind::Normal, put.encode_to_vec())];
        if removed {
            entries.push(entry(5, EntryKind::ConfChange, removal.encode_to_vec()));
            entries.push(entry(6, EntryKind::Normal, put.encode_to_vec()));
        }
        opened.wal.append(&WalBatch { entries, ..Default::default() }).expect("room");
        opened.wal.sync().expect("a good disk");
        drop((opened.node, opened.wal, opened.data_dir));
        let forced = Start { force_new_cluster: true, ..start(&[], 0) };
        let opened = recovery::reopen(&vfs, dir, forced).expect("a good disk").expect("a member");
        let what = opened.report.forced.expect("it was forced");
        assert_eq!((what.removed, what.discarded, what.commit), (vec![1, 3], discarded, commit));
        assert_eq!(opened.node.published().view.revision(), 2);
    }
}

/// B-6: it never heard of its own addition.
#[test]
fn one_that_joined_and_heard_nothing_can_be_forced_too() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    let dir = Path::new(DIR);
    drop(recovery::open(&vfs, dir, start(&[], 5)).expect("made"));
    let forced = Start { force_new_cluster: true, ..start(&[], 0) };
    let opened = recovery::reopen(&vfs, dir, forced).expect("a good disk").expect("a member");
    let members = opened.node.published().members.clone();
    assert_eq!((members.len(), members[0].peer_urls[0].as_str()), (1, "http://localhost:2380"));
    assert!(opened.report.sole_voter);
}
