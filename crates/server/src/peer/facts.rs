//! Which connections stand, for whoever asks: the membership checks (C-2, C-4), the choice of a successor.

use std::collections::BTreeMap;

use super::link::Kind;

/// Connections by peer.
#[derive(Debug, Default)]
pub(super) struct Facts {
    peers: BTreeMap<u64, Peer>,
    /// A member said that this one was removed.
    pub(super) removed: bool,
}

#[derive(Debug, Default)]
struct Peer {
    /// Since when each connection to the peer stands.
    dialled_ms: [Option<u64>; Kind::LINKS.len()],
    /// Connections from the peer, and since when there is one.
    accepted: usize,
    accepted_ms: u64,
}

impl Facts {
    pub(super) fn dialled(&mut self, peer: u64, kind: Kind, now_ms: u64) {
        self.peers.entry(peer).or_default().dialled_ms[kind as usize] = Some(now_ms);
    }

    pub(super) fn dialled_ended(&mut self, peer: u64, kind: Kind) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.dialled_ms[kind as usize] = None;
        }
    }

    pub(super) fn accepted(&mut self, peer: u64, now_ms: u64) {
        let peer = self.peers.entry(peer).or_default();
        if peer.accepted == 0 {
            peer.accepted_ms = now_ms;
        }
        peer.accepted += 1;
    }

    pub(super) fn accepted_ended(&mut self, peer: u64) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.accepted -= 1;
        }
    }

    /// Whether the peer holds a connection to this member.
    pub(super) fn is_heard(&self, peer: u64) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.accepted > 0)
    }

    pub(super) fn connected_since_ms(&self, peer: u64) -> Option<u64> {
        let peer = self.peers.get(&peer).filter(|peer| peer.accepted > 0)?;
        peer.dialled_ms.iter().try_fold(peer.accepted_ms, |since, dialled| Some(since.max((*dialled)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connected_is_both_ways_and_every_kind() {
        let mut facts = Facts::default();
        facts.dialled(7, Kind::Append, 10);
        facts.accepted(7, 20);
        assert_eq!((facts.connected_since_ms(7), facts.is_heard(7)), (None, true));
        facts.dialled(7, Kind::Other, 15);
        assert_eq!(facts.connected_since_ms(7), Some(20));
        facts.accepted(7, 30);
        facts.accepted_ended(7);
        assert_eq!(facts.connected_since_ms(7), Some(20));
        facts.dialled_ended(7, Kind::Append);
        assert_eq!(facts.connected_since_ms(7), None);
        facts.dialled(7, Kind::Append, 40);
        assert_eq!(facts.connected_since_ms(7), Some(40));
        facts.accepted_ended(7);
        assert_eq!((facts.connected_since_ms(7), facts.is_heard(7)), (None, false));
        assert_eq!(facts.connected_since_ms(8), None);
    }
}
