//! Who holds time over leases: deadlines at the leader, renewed from memory, expired through the log.
//!
//! The replicated table (state) knows which leases exist and what keys hang on them; it has no clock. The lessor of the
//! leader gives every lease a deadline. A renewal moves the deadline and nothing else; the wheel slot it hung in finds
//! the new deadline when it comes round. A lease never ends before its deadline: the wheel only ever looks late.
//!
//! A new leader cannot know renewals it did not hear of, so it begins with the full TTL plus an election timeout for
//! every lease (L-12), but for those of which less is recorded in the log (L-13). Only leases that are not being renewed
//! are recorded: one whose keep-alives come three times per TTL never gets there. A renewal of a recorded lease is the
//! node's to hold back until the record is gone. Once a revocation is proposed no renewal succeeds (L-7): the waiters are told 0 when it is
//! applied.

use std::collections::{BTreeMap, HashMap};

use cetera_plant::{Bug, is_planted};

use crate::limits::{RECORDED_PARTS, RECORDED_REST_MIN_SECONDS};

/// Width of a wheel slot in milliseconds: how late an expiry may be noticed.
const SLOT_MS: u64 = 100;
/// Width of a slot of the second wheel, which knows when a lease that is not renewed is to be recorded (again).
const RECORD_SLOT_MS: u64 = 1_000;
/// Slots of the wheel; a lease further away hangs in the last slot and is hung again when it comes round.
const SLOTS: u64 = 1024;

/// One lease's time.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// Seconds granted.
    ttl: i64,
    /// Milliseconds on the node's clock.
    deadline_ms: u64,
    /// Number of the grant or renewal that set the deadline: tells which of two in one millisecond came first.
    set_by: u64,
    /// When a revocation was proposed, if one was.
    revoking_since_ms: Option<u64>,
    /// The slot it hangs in; what an older slot says of it is void.
    slot: u64,
    /// Seconds that the log says are left, or may soon say; 0 if it says nothing.
    recorded: i64,
    /// The slot of the second wheel it hangs in.
    record_slot: u64,
}

impl Timing {
    /// When the lease is to be recorded if nobody renews it until then, if it ever is.
    fn record_at_ms(&self) -> Option<u64> {
        let left = match self.recorded {
            0 => self.ttl / 2,
            recorded => recorded - (self.ttl / RECORDED_PARTS).max(1),
        };
        (left >= RECORDED_REST_MIN_SECONDS).then(|| self.deadline_ms.saturating_sub(ttl_ms(left)))
    }
}

/// What a renewal came to.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Renewed {
    /// The lease lives for this many seconds from now.
    For(i64),
    /// There is no such lease.
    Unknown,
    /// Its deadline has passed or its revocation is under way: the answer follows when that is applied.
    Ending,
}

/// Deadlines of all leases at the leader; empty on everyone else.
#[derive(Debug, Default)]
pub struct Lessor {
    /// The term this member leads in.
    primary_in: Option<u64>,
    /// Grants and renewals so far.
    set: u64,
    leases: HashMap<i64, Timing>,
    /// Slot number (milliseconds / SLOT_MS) -> leases to look at then.
    wheel: BTreeMap<u64, Vec<i64>>,
    /// Slot number (milliseconds / RECORD_SLOT_MS) -> leases that may be due to be recorded then.
    quiet: BTreeMap<u64, Vec<i64>>,
    /// Nothing expires before this moment: set after a pause, so that renewals that waited come first.
    hold_until_ms: u64,
}

impl Lessor {
    /// This member leads in `term` and has applied an entry of its term: every lease (id, seconds granted, seconds recorded as
    /// left or 0) gets what is recorded, or a full term of life, and `extend_ms` for the time nobody could renew it.
    pub fn promote(&mut self, term: u64, leases: impl Iterator<Item = (i64, i64, i64)>, now_ms: u64, extend_ms: u64) {
        self.demote();
        self.primary_in = Some(term);
        for (lease, ttl, recorded) in leases {
            if is_planted(Bug::LeaseEarlyAfterLeaderChange) && self.leases.contains_key(&lease) {
                continue;
            }
            let left = if recorded > 0 { recorded } else { ttl };
            self.insert(lease, ttl, recorded.max(0), now_ms, now_ms + ttl_ms(left) + extend_ms);
        }
    }

    /// This member does not lead (any more).
    pub fn demote(&mut self) {
        self.primary_in = None;
        if is_planted(Bug::LeaseEarlyAfterLeaderChange) {
            return;
        }
        self.leases.clear();
        self.wheel.clear();
        self.quiet.clear();
    }

    /// Whether deadlines are kept here.
    pub fn is_primary(&self) -> bool {
        self.primary_in.is_some()
    }

    /// The term in which they are.
    pub fn primary_in(&self) -> Option<u64> {
        self.primary_in
    }

    /// A grant was applied.
    pub fn granted(&mut self, lease: i64, ttl: i64, now_ms: u64) {
        if self.is_primary() || is_planted(Bug::LeaseEarlyAfterLeaderChange) {
            self.insert(lease, ttl, 0, now_ms, now_ms + ttl_ms(ttl));
        }
    }

    /// A revocation was applied.
    pub fn revoked(&mut self, lease: i64) {
        self.leases.remove(&lease);
    }

    /// Moves the deadline of a lease to a full TTL from now.
    pub fn renew(&mut self, lease: i64, now_ms: u64) -> Renewed {
        match self.leases.get_mut(&lease) {
            None => Renewed::Unknown,
            Some(timing)
                if (timing.revoking_since_ms.is_some() || timing.deadline_ms <= now_ms)
                    && !is_planted(Bug::RenewalAfterRevocation) =>
            {
                Renewed::Ending
            }
            Some(timing) => {
                timing.deadline_ms = now_ms + ttl_ms(timing.ttl);
                self.set += 1;
                timing.set_by = self.set;
                Renewed::For(timing.ttl)
            }
        }
    }

    /// Whole seconds left and seconds granted (L-9).
    pub fn time_left(&self, lease: i64, now_ms: u64) -> Option<(i64, i64)> {
        let timing = self.leases.get(&lease)?;
        // Some of the present millisecond is gone: right after a grant of 100 s, 99 whole seconds are left.
        let left_ms = timing.deadline_ms.saturating_sub(now_ms + 1);
        Some(((left_ms / 1_000) as i64, timing.ttl))
    }

    /// All leases, the first to expire first (L-10).
    pub fn by_expiry(&self) -> Vec<i64> {
        let mut all: Vec<(u64, u64, i64)> =
            self.leases.iter().map(|(id, timing)| (timing.deadline_ms, timing.set_by, *id)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, _, id)| id).collect()
    }

    /// The clock stood still or this process did: nothing expires until `until_ms`.
    pub fn hold(&mut self, until_ms: u64) {
        self.hold_until_ms = self.hold_until_ms.max(until_ms);
    }

    /// Takes up to `most` leases whose deadline has passed, by deadline; they count as being revoked from now on.
    /// One whose revocation came to nothing for `retry_ms` is taken again.
    pub fn expire(&mut self, now_ms: u64, retry_ms: u64, most: usize) -> Vec<i64> {
        let mut due: Vec<(u64, i64)> = Vec::new();
        if !self.is_primary() || now_ms < self.hold_until_ms {
            return Vec::new();
        }
        while let Some(slot) = self.wheel.first_entry() {
            if *slot.key() * SLOT_MS > now_ms || due.len() >= most {
                break;
            }
            let (number, leases) = slot.remove_entry();
            for lease in leases {
                let Some(timing) = self.leases.get_mut(&lease).filter(|timing| timing.slot == number) else { continue };
                let wait_until = match timing.revoking_since_ms {
                    Some(since) => since + retry_ms,
                    None => timing.deadline_ms,
                };
                if wait_until <= now_ms && due.len() < most {
                    timing.revoking_since_ms = Some(now_ms);
                    due.push((timing.deadline_ms, lease));
                    self.hang(lease, now_ms, now_ms + retry_ms);
                } else {
                    self.hang(lease, now_ms, wait_until);
                }
            }
        }
        due.sort_unstable();
        due.into_iter().map(|(_, lease)| lease).collect()
    }

    /// A proposed revocation did not enter the log: the lease may be taken again at once.
    pub fn revocation_dropped(&mut self, lease: i64, now_ms: u64) {
        if let Some(timing) = self.leases.get_mut(&lease) {
            timing.revoking_since_ms = None;
            self.hang(lease, now_ms, now_ms);
        }
    }

    /// Takes up to `most` leases that nobody has renewed for so long that what is left of them is to be recorded, with
    /// the seconds that are left. They count as recorded from now on.
    pub fn unrecorded(&mut self, now_ms: u64, most: usize) -> Vec<(i64, i64)> {
        let mut due = Vec::new();
        while let Some(slot) = self.quiet.first_entry() {
            if *slot.key() * RECORD_SLOT_MS > now_ms || due.len() >= most {
                break;
            }
            let (number, leases) = slot.remove_entry();
            for lease in leases {
                let Some(timing) = self.leases.get_mut(&lease).filter(|timing| timing.record_slot == number) else {
                    continue;
                };
                let is_quiet = timing.record_at_ms().is_some_and(|at| at <= now_ms);
                if is_quiet && timing.revoking_since_ms.is_none() && timing.deadline_ms > now_ms {
                    // Rounded up: a successor never counts less than there is.
                    let left = (timing.deadline_ms - now_ms).div_ceil(1_000) as i64;
                    timing.recorded = left.min(timing.ttl);
                    due.push((lease, timing.recorded));
                }
                self.hang_record(lease, now_ms);
            }
        }
        due
    }

    /// Whether less than its full time is recorded of a lease, or may soon be.
    pub fn is_recorded(&self, lease: i64) -> bool {
        self.leases.get(&lease).is_some_and(|timing| timing.recorded > 0)
    }

    /// The log says no more what is left of a lease.
    pub fn record_cleared(&mut self, lease: i64, now_ms: u64) {
        if let Some(timing) = self.leases.get_mut(&lease) {
            timing.recorded = 0;
            self.hang_record(lease, now_ms);
        }
    }

    fn insert(&mut self, lease: i64, ttl: i64, recorded: i64, now_ms: u64, deadline_ms: u64) {
        self.set += 1;
        let timing =
            Timing { ttl, deadline_ms, set_by: self.set, revoking_since_ms: None, slot: 0, recorded, record_slot: 0 };
        self.leases.insert(lease, timing);
        self.hang(lease, now_ms, deadline_ms);
        self.hang_record(lease, now_ms);
    }

    fn hang_record(&mut self, lease: i64, now_ms: u64) {
        let Some(timing) = self.leases.get_mut(&lease) else { return };
        let Some(at_ms) = timing.record_at_ms() else { return };
        timing.record_slot = at_ms.div_ceil(RECORD_SLOT_MS).max(now_ms / RECORD_SLOT_MS + 1);
        self.quiet.entry(timing.record_slot).or_default().push(lease);
    }

    fn hang(&mut self, lease: i64, now_ms: u64, at_ms: u64) {
        let slot = at_ms.div_ceil(SLOT_MS).min(now_ms / SLOT_MS + SLOTS).max(now_ms / SLOT_MS + 1);
        if let Some(timing) = self.leases.get_mut(&lease) {
            timing.slot = slot;
            self.wheel.entry(slot).or_default().push(lease);
        }
    }
}

fn ttl_ms(ttl: i64) -> u64 {
    ttl.max(0) as u64 * 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lessor(leases: &[(i64, i64)]) -> Lessor {
        let mut lessor = Lessor::default();
        lessor.promote(1, leases.iter().map(|(lease, ttl)| (*lease, *ttl, 0)), 0, 0);
        lessor
    }

    #[test]
    fn a_lease_ends_at_its_deadline_and_not_before() {
        let mut lessor = lessor(&[(1, 5)]);
        assert!(lessor.expire(4_999, 7_000, 10).is_empty());
        assert_eq!(lessor.expire(5_000, 7_000, 10), [1]);
        assert_eq!(lessor.renew(1, 5_000), Renewed::Ending);
    }

    #[test]
    fn a_renewal_moves_the_deadline() {
        let mut lessor = lessor(&[(1, 5)]);
        assert_eq!(lessor.renew(1, 4_000), Renewed::For(5));
        assert!(lessor.expire(8_999, 7_000, 10).is_empty());
        assert_eq!(lessor.time_left(1, 8_500), Some((0, 5)));
        assert_eq!(lessor.expire(9_000, 7_000, 10), [1]);
    }

    #[test]
    fn a_lease_further_away_than_the_wheel_ends_on_time() {
        let ttl = (SLOTS * SLOT_MS / 1_000) as i64 * 3;
        let mut lessor = lessor(&[(7, ttl)]);
        let deadline = ttl as u64 * 1_000;
        for now in (0..deadline).step_by(10_000) {
            assert!(lessor.expire(now, 7_000, 10).is_empty());
        }
        assert_eq!(lessor.expire(deadline, 7_000, 10), [7]);
    }

    #[test]
    fn a_revocation_that_came_to_nothing_is_proposed_again() {
        let mut lessor = lessor(&[(1, 5)]);
        assert_eq!(lessor.expire(5_000, 7_000, 10), [1]);
        assert!(lessor.expire(11_900, 7_000, 10).is_empty());
        assert_eq!(lessor.expire(12_100, 7_000, 10), [1]);
        lessor.revocation_dropped(1, 12_200);
        assert_eq!(lessor.expire(12_300, 7_000, 10), [1]);
        lessor.revoked(1);
        assert!(lessor.expire(60_000, 7_000, 10).is_empty());
    }

    #[test]
    fn at_most_so_many_end_at_once_and_none_is_lost() {
        let leases: Vec<(i64, i64)> = (1..=1_000).map(|id| (id, 2)).collect();
        let mut lessor = lessor(&leases);
        let mut ended = Vec::new();
        let mut now = 2_000;
        while ended.len() < 1_000 {
            let some = lessor.expire(now, 7_000, 300);
            assert!(some.len() <= 300 && now < 10_000);
            ended.extend(some);
            now += 100;
        }
        ended.sort_unstable();
        assert_eq!(ended, (1..=1_000).collect::<Vec<i64>>());
    }

    #[test]
    fn after_a_pause_nothing_ends_until_the_hold_is_over() {
        let mut lessor = lessor(&[(1, 5)]);
        lessor.hold(60_300);
        assert!(lessor.expire(60_000, 7_000, 10).is_empty());
        assert_eq!(lessor.expire(60_300, 7_000, 10), [1]);
    }

    #[test]
    fn a_recorded_rest_counts_after_a_leader_change_and_a_renewal_gives_the_full_time() {
        let mut lessor = Lessor::default();
        lessor.promote(1, [(1, 50, 10)].into_iter(), 1_000, 500);
        assert_eq!(lessor.time_left(1, 1_000), Some((10, 50)));
        assert_eq!(lessor.time_left(1, 1_500), Some((9, 50)));
        assert!(lessor.expire(11_499, 7_000, 10).is_empty());
        assert_eq!(lessor.renew(1, 11_499), Renewed::For(50));
        assert!(lessor.expire(61_498, 7_000, 10).is_empty());
    }

    #[test]
    fn leases_are_listed_by_expiry() {
        let mut lessor = lessor(&[(1, 50), (2, 5), (3, 20)]);
        assert_eq!(lessor.by_expiry(), [2, 3, 1]);
        lessor.renew(2, 4_000);
        lessor.granted(9, 5, 4_000);
        lessor.granted(4, 5, 4_000);
        assert_eq!(lessor.by_expiry(), [2, 9, 4, 3, 1]);
        lessor.demote();
        assert!(lessor.by_expiry().is_empty());
    }
}
