//! Checkpoints: a restored state is the one that was written, and goes on like it.

use cetera_state::RestoreError;

use crate::harness::{Machine, put};
use crate::members::{added, member};

/// Something of everything.
fn machine() -> Machine {
    let mut m = Machine::new();
    let _ = m.conf_change(&added(&member(1, false))).unwrap();
    let _ = m.conf_change(&added(&member(2, true))).unwrap();
    for id in 1..=300 {
        m.grant(id, 60 + id).unwrap();
        m.put_leased(&format!("k{:03}", id % 100), "v", id);
    }
    m.put("plain", "v");
    m.delete("k050", "", false);
    m.compact(20).unwrap();
    m.alarm(1, 2, 2);
    m.alarm(1, 1, 1);
    m.alarm(2, 2, 2);
    m
}

#[test]
fn everything_comes_back() {
    let mut m = machine();
    let chunks = m.checkpoint();
    m.put_request(put("lost", "v")).unwrap_err();
    for seed in 0..4 {
        let mut again = m.restored(&chunks, seed);
        assert_eq!(again.state.hash(), m.state.hash());
        assert_eq!(again.state.applied_index() + 1, m.state.applied_index());
        assert_eq!(again.state.applied_term(), 1);
        assert_eq!(again.state.revision(), m.state.revision());
        assert_eq!(again.state.members(), m.state.members());
        assert_eq!(again.state.conf_state(), m.state.conf_state());
        assert_eq!(again.state.alarms(), m.state.alarms());
        assert_eq!(again.state.leases().len(), 300);
        for id in [1, 50, 250, 299] {
            assert_eq!(again.state.leases().get(id), m.state.leases().get(id), "lease {id}");
        }
        again.state.check_invariants();
        assert_eq!(again.checkpoint(), chunks, "written again it is the same");
    }
}

/// The snapshot a checkpoint holds does not move while it is written.
#[test]
fn later_entries_are_not_in_it() {
    let mut m = machine();
    m.alarm(2, 1, 1);
    let checkpoint = m.state.checkpoint().unwrap();
    let (hash, index) = (m.state.hash(), m.state.applied_index());
    m.put_leased("k001", "w", 7);
    m.revoke(8).unwrap();
    m.grant(1000, 10).unwrap();
    assert_eq!(checkpoint.applied_index(), index);
    let mut chunks = Vec::new();
    struct Sink<'a>(&'a mut Vec<(u8, Vec<u8>)>);
    impl cetera_mvcc::ChunkSink for Sink<'_> {
        fn chunk(&mut self, kind: u8, data: &[u8]) -> std::io::Result<()> {
            self.0.push((kind, data.to_vec()));
            Ok(())
        }
    }
    checkpoint.write(&mut Sink(&mut chunks)).unwrap();
    let again = m.restored(&chunks, 1);
    assert_eq!((again.state.hash(), again.state.applied_index()), (hash, index));
}

/// A lease with more keys than fit one record.
#[test]
fn a_lease_with_many_keys() {
    let mut m = Machine::new();
    m.grant(7, 60).unwrap();
    let pad = "x".repeat(1000);
    for n in 0..3000 {
        m.put_leased(&format!("{n:05}{pad}"), "", 7);
    }
    let chunks = m.checkpoint();
    let again = m.restored(&chunks, 1);
    assert_eq!(again.state.leases().get(7).unwrap().keys().len(), 3000);
    assert_eq!(again.state.hash(), m.state.hash());
    again.state.check_invariants();
}

/// Chunks that are missing, doubled or changed are told, not taken.
#[test]
fn damage_is_told() {
    let mut m = machine();
    let chunks = m.checkpoint();
    for (i, (kind, data)) in chunks.iter().enumerate().filter(|(_, (kind, _))| *kind >= 0x20) {
        let mut without = chunks.clone();
        without.remove(i);
        assert!(m.try_restored(&without, 1, Default::default()).is_err(), "without {kind:#x}");

        for at in (0..data.len()).step_by(17) {
            let mut flipped = chunks.clone();
            flipped[i].1[at] ^= 1;
            let result = m.try_restored(&flipped, 1, Default::default());
            assert!(
                matches!(result, Err(RestoreError::Malformed(_) | RestoreError::Fatal(_))) || {
                    // The container has a checksum; what it cannot change unseen here are index and term.
                    let state = result.unwrap_or_else(|e| panic!("{e}")).state;
                    (state.applied_index(), state.applied_term()) != (m.state.applied_index(), 1)
                },
                "{kind:#x} flipped at {at}"
            );
        }
    }
}
