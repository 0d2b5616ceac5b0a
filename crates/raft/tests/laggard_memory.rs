//! What a member that lags costs the leader in memory: a bounded part of what it is sent.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;

use bytes::Bytes;
use cetera_proto::raftpb;
use cetera_raft::log::{FETCH_BYTES_MAX, Keep};
use cetera_raft::{Config, Entry, EntryKind, Group, Recovered, Role};

const ENTRIES: u64 = 100_000;
/// Of a put of 256 bytes.
const DATA_BYTES: usize = 310;
/// Reads that may be in memory at a time: one on its way to the member, one that is read ahead, and as much for what
/// they become.
const READS: usize = 4;

struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

// Safety: every call is handed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size() as isize);
        MOST.set(MOST.get().max(HELD.get()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn member(id: u64) -> Group {
    let config = Config { id, election_ticks: 10, heartbeat_ticks: 1, pre_vote: true, seed: id };
    let conf_state = raftpb::ConfState { voters: vec![1, 2, 3], ..Default::default() };
    let keep = Keep { entries: 50, bytes: 1 << 20 };
    Group::new(config, Recovered { conf_state, keep, ..Default::default() }).expect("a possible configuration")
}

/// Carries out what there is to do; nothing is remembered.
fn drain(group: &mut Group, sent: &mut VecDeque<raftpb::Message>) {
    while let Some(ready) = group.ready() {
        if ready.number != 0 {
            group.persisted(ready.number);
        }
        if let Some(entry) = ready.committed.last() {
            group.applied(entry.index);
        }
        sent.extend(ready.messages);
    }
}

/// Delivers until nothing moves; `cut` neither sends nor receives.
fn settle(groups: &mut [Group], cut: Option<u64>) {
    let mut sent = VecDeque::new();
    loop {
        groups.iter_mut().for_each(|group| drain(group, &mut sent));
        let Some(message) = sent.pop_front() else { return };
        if cut != Some(message.from) && cut != Some(message.to) {
            groups[message.to as usize - 1].step(message);
        }
    }
}

/// As the write-ahead log reads them: every entry in memory of its own.
fn read(low: u64, high: u64, term: u64) -> Vec<Entry> {
    let each = DATA_BYTES + 128;
    let entry = |index| {
        // The first entry of the term is empty.
        let data = if index == 1 { Bytes::new() } else { Bytes::from(vec![7; DATA_BYTES]) };
        Entry { index, term, kind: EntryKind::Normal, data }
    };
    (low..high).take(FETCH_BYTES_MAX / each).map(entry).collect()
}

#[test]
fn a_backlog_is_never_in_memory() {
    let mut groups: Vec<Group> = (1..=3).map(member).collect();
    groups[0].campaign();
    settle(&mut groups, None);
    assert_eq!((groups[0].role(), groups[0].last_index()), (Role::Leader, 1));
    let data = Bytes::from(vec![7; DATA_BYTES]);
    for _ in 0..ENTRIES / 100 {
        groups[0].propose((0..100).map(|_| data.clone())).expect("it leads");
        settle(&mut groups, Some(3));
    }
    let (last, term) = (groups[0].last_index(), groups[0].term());
    assert_eq!((last, groups[2].last_index()), (ENTRIES + 1, 1));

    MOST.set(HELD.get());
    let (before, mut reads) = (HELD.get(), 0);
    for _ in 0..20_000 {
        if groups[2].last_index() == last {
            break;
        }
        let fetches = groups[0].take_fetches();
        if fetches.is_empty() {
            groups[0].tick();
        }
        for low in fetches {
            reads += 1;
            let entries = read(low, groups[0].dropped() + 1, term);
            groups[0].fetched(low, Some(entries));
        }
        settle(&mut groups, None);
    }
    assert_eq!(groups[2].last_index(), last, "it never caught up");
    let (most, all) = ((MOST.get() - before) as usize, ENTRIES as usize * DATA_BYTES);
    assert!(reads > all / FETCH_BYTES_MAX, "{reads} reads of the disk");
    assert!(most < READS * FETCH_BYTES_MAX, "{most} bytes held for a backlog of {all}");
}
