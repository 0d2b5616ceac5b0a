//! Which of three errors a write gets whose end was not seen in time (G-13; etcd `parseProposeCtxErr`). All of them say
//! that the outcome is unknown; they differ in what they blame.

use super::membership::Known;
use super::status::Error;

/// The write began at `begun_ms`. The leader, 0 if there is none, is known since `leader_since_ms`.
pub(super) fn blame(known: &Known<'_>, leader: u64, leader_since_ms: u64, election_ms: u64, begun_ms: u64) -> Error {
    if leader == 0 {
        return Error::Timeout;
    }
    let before_election_ms = leader_since_ms.saturating_sub(2 * election_ms);
    if before_election_ms < begun_ms && begun_ms < leader_since_ms {
        return Error::TimeoutDueToLeaderFail;
    }
    let connected = if leader == known.myself {
        known.had_quorum_since(begun_ms)
    } else {
        (known.connected_since_ms)(leader).is_some_and(|since_ms| since_ms <= begun_ms)
    };
    if connected { Error::Timeout } else { Error::TimeoutDueToConnectionLost }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cetera_state::member::Member;

    #[test]
    fn what_is_blamed() {
        const BEGUN: u64 = 50_000;
        let members: Vec<Member> = (1..=3).map(|id| Member { id, ..Member::default() }).collect();
        for (myself, leader, leader_since_ms, connected, error) in [
            (1, 0, 10_000, &[][..], Error::Timeout),
            // A follower, and its connection to the leader.
            (1, 2, 10_000, &[(2, 10_000)], Error::Timeout),
            (1, 2, 10_000, &[(2, BEGUN)], Error::Timeout),
            (1, 2, 10_000, &[(2, BEGUN + 1), (3, 10_000)], Error::TimeoutDueToConnectionLost),
            (1, 2, 10_000, &[(3, 10_000)], Error::TimeoutDueToConnectionLost),
            // A leader, and its quorum.
            (2, 2, 10_000, &[(1, 10_000)], Error::Timeout),
            (2, 2, 10_000, &[(1, BEGUN + 1), (3, 10_000)], Error::Timeout),
            (2, 2, 10_000, &[(1, BEGUN + 1)], Error::TimeoutDueToConnectionLost),
            (2, 2, 10_000, &[], Error::TimeoutDueToConnectionLost),
            // A leader found while the write was under way, within two election timeouts of its beginning.
            (1, 2, BEGUN + 1, &[(2, 10_000)], Error::TimeoutDueToLeaderFail),
            (1, 2, BEGUN + 1_999, &[], Error::TimeoutDueToLeaderFail),
            (1, 2, BEGUN + 2_000, &[(2, 10_000)], Error::Timeout),
            (1, 2, BEGUN, &[(2, 10_000)], Error::Timeout),
        ] {
            let since = |id| connected.iter().find(|(member, _)| *member == id).map(|(_, since)| *since);
            let known =
                Known { myself, members: &members, connected_since_ms: &since, now_ms: BEGUN + 7_000, strict: true };
            let blamed = blame(&known, leader, leader_since_ms, 1_000, BEGUN);
            assert_eq!(blamed, error, "{myself} of leader {leader} since {leader_since_ms}, {connected:?}");
        }
    }
}
