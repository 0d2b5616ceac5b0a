//! How a member begins: as one that reopens its directory, founds a cluster or joins one.

use std::path::Path;
use std::sync::Arc;

use cetera_node::event::Event;
use cetera_node::recovery::{self, Start, StartError};
use cetera_state::StateLimits;
use cetera_state::member::Member;
use cetera_storage::vfs::{Vfs, memory::MemoryVfs};

fn start(founders: &[u64], member_id: u64) -> Start {
    let founders = founders.iter().map(|id| Member { id: *id, name: format!("m{id}"), ..Default::default() }).collect();
    Start {
        founders,
        member_id,
        cluster_id: 77,
        limits: StateLimits::default(),
        tick_ms: 10,
        election_ms: 100,
        pre_vote: true,
        nonce: 1,
        now_ms: 0,
        checkpoint_log_bytes: None,
        wal: Default::default(),
        log: Default::default(),
    }
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
    let metadata = prost::Message::encode_to_vec(&cetera_proto::etcdserverpb::Metadata { node_id: 2, cluster_id: 77 });
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
