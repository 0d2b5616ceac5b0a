//! Log entries of any bytes on two state machines that differ in all that must not matter: sizes of files, when the
//! background works, a checkpoint and a restore in between. Every entry has the same outcome on both, and in the end
//! they hash alike; an entry that is not understood stops both.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cetera_mvcc::{ChunkSink, EventRec, RangeQuery, Store};
use cetera_proto::raftpb::ConfChange;
use cetera_state::{State, StateLimits, StateRestore};
use cetera_storage::revlog::{RevLog, RevLogOptions};
use cetera_storage::vfs::{MemoryVfs, Vfs};
use prost::Message as _;

use crate::input::Input;

const DIR: &str = "/log";

/// A state machine and its disk.
struct Machine {
    state: State,
    disk: Arc<dyn Vfs>,
    options: RevLogOptions,
}

/// Collects chunks.
#[derive(Default)]
pub(crate) struct Chunks(pub(crate) Vec<(u8, Vec<u8>)>);

impl ChunkSink for Chunks {
    fn chunk(&mut self, kind: u8, data: &[u8]) -> std::io::Result<()> {
        self.0.push((kind, data.to_vec()));
        Ok(())
    }
}

impl Machine {
    fn new(segment_bytes: u64) -> Machine {
        let disk: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
        let options = RevLogOptions { segment_bytes };
        let log = RevLog::create(disk.clone(), Path::new(DIR), options).expect("a good disk");
        Machine { state: State::create(Store::create(log), StateLimits::default()), disk, options }
    }

    /// Through a checkpoint.
    fn again(mut self) -> Machine {
        let hash = self.state.hash();
        let mut chunks = Chunks::default();
        self.state.checkpoint().expect("a good disk").write(&mut chunks).expect("a good disk");
        let Machine { state, disk, options } = self;
        drop(state);
        let mut parts = StateRestore::new();
        for (kind, data) in chunks.0 {
            assert!(parts.chunk(kind, data).expect("what was just written"));
        }
        let open = |manifest: &_| RevLog::open(disk.clone(), Path::new(DIR), options, manifest);
        let state = parts.finish(StateLimits::default(), open).expect("what was just written");
        assert_eq!(state.hash(), hash);
        Machine { state, disk, options }
    }

    fn everything(&mut self) -> Vec<u8> {
        let mut out = BytesMut::new();
        let view = self.state.view().expect("a good disk");
        view.range(&RangeQuery { key: b"\0", end: b"\0", ..Default::default() }, &mut out).expect("the present");
        out.to_vec()
    }
}

/// What an entry came to, to be compared.
fn entry(machine: &mut Machine, index: u64, term: u64, data: &Bytes) -> Result<String, String> {
    let mut events: Vec<EventRec> = Vec::new();
    match machine.state.apply(index, term, data, &mut events) {
        Ok(outcome) => {
            // Locations differ with the sizes of files.
            let events: Vec<_> = events.iter().map(|e| (e.revision, e.tombstone, &e.key, &e.event)).collect();
            Ok(format!("{} {:?} {events:?}", outcome.request_id, outcome.result))
        }
        Err(fatal) => Err(fatal.to_string()),
    }
}

fn conf_change(machine: &mut Machine, index: u64, term: u64, change: &ConfChange) -> Result<String, String> {
    match machine.state.apply_conf_change(index, term, change) {
        Ok(outcome) => Ok(format!("{outcome:?}")),
        Err(fatal) => Err(fatal.to_string()),
    }
}

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mut one, mut other) = (Machine::new(16 << 10), Machine::new(600));
    let (mut index, mut term) = (0, 1);
    while !input.is_empty() {
        let kind = input.below(10);
        let outcomes = match kind {
            0..=4 => {
                index += 1;
                let data = Bytes::copy_from_slice(input.bytes());
                (entry(&mut one, index, term, &data), entry(&mut other, index, term, &data))
            }
            5 | 6 => {
                let Ok(change) = ConfChange::decode(input.bytes()) else { continue };
                index += 1;
                (conf_change(&mut one, index, term, &change), conf_change(&mut other, index, term, &change))
            }
            7 => {
                other.state.store_mut().compaction_step(input.below(16) + 1).expect("a good disk");
                continue;
            }
            8 => {
                other = other.again();
                continue;
            }
            _ => {
                index += 1;
                term += 1;
                one.state.apply_empty(index, term);
                other.state.apply_empty(index, term);
                continue;
            }
        };
        assert_eq!(outcomes.0, outcomes.1, "entry {index}");
        if outcomes.0.is_err() {
            return;
        }
    }
    for machine in [&mut one, &mut other] {
        while machine.state.store_mut().compaction_step(1_000).expect("a good disk") {}
        machine.state.check_invariants();
    }
    assert_eq!(one.state.hash(), other.state.hash());
    assert_eq!(one.everything(), other.everything());
    assert_eq!(one.again().state.hash(), other.state.hash());
}
