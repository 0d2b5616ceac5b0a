//! What lies between members, and between them and clients.
//!
//! Members send single messages over directed links, each with its own delay, loss, duplication and blockade. What
//! faults add is added up, so that several of them may lie over one link. A connection of a client is an ordered stream:
//! nothing of it is lost, but it can stand still, and it can break.

use crate::dice::Dice;

/// What faults do to one directed link; sums over the faults at work.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Trouble {
    /// Blockades.
    pub(crate) blocked: u32,
    /// Lost messages in a thousand.
    pub(crate) loss: u64,
    /// Doubled messages in a thousand.
    pub(crate) duplicate: u64,
    /// Longest additional delay in microseconds, different for every message: they overtake each other.
    pub(crate) jitter_us: u64,
    /// Additional delay in microseconds, the same for all messages.
    pub(crate) delay_us: u64,
}

/// The links of a run.
#[derive(Debug)]
pub(crate) struct Network {
    members: usize,
    delay_us: (u64, u64),
    client_delay_us: (u64, u64),
    links: Vec<Trouble>,
    /// When the last message of a link without jitter arrives: such a link keeps order.
    last_us: Vec<u64>,
    /// Until when nothing moves between this member and clients.
    member_stands_until_us: Vec<u64>,
    /// Until when nothing moves between this client and members.
    client_stands_until_us: Vec<u64>,
}

impl Network {
    /// Healthy links with delays in these ranges.
    pub(crate) fn new(members: usize, delay_us: (u64, u64), client_delay_us: (u64, u64)) -> Self {
        Self {
            members,
            delay_us,
            client_delay_us,
            links: vec![Trouble::default(); members * members],
            last_us: vec![0; members * members],
            member_stands_until_us: vec![0; members],
            client_stands_until_us: Vec::new(),
        }
    }

    /// The trouble of a directed link.
    pub(crate) fn link(&mut self, from: usize, to: usize) -> &mut Trouble {
        &mut self.links[from * self.members + to]
    }

    /// When a message sent now arrives; twice if it is doubled, never if it is lost. `once` is a message that the
    /// transport between members promises not to double.
    pub(crate) fn send(&mut self, now_us: u64, from: usize, to: usize, once: bool, dice: &mut Dice) -> Vec<u64> {
        let at = from * self.members + to;
        let trouble = self.links[at];
        let (low, high) = self.delay_us;
        let delay = dice.within(low, high);
        if trouble.blocked > 0 || dice.chance(trouble.loss) {
            return Vec::new();
        }
        let arrival = if trouble.jitter_us > 0 {
            now_us + delay + trouble.delay_us + dice.skewed(0, trouble.jitter_us)
        } else {
            (now_us + delay + trouble.delay_us).max(self.last_us[at])
        };
        self.last_us[at] = self.last_us[at].max(arrival);
        let mut arrivals = vec![arrival];
        if !once && dice.chance(trouble.duplicate) {
            arrivals.push(arrival + dice.skewed(0, 50_000 + trouble.jitter_us));
        }
        arrivals
    }

    /// Nothing moves between this member and clients until then.
    pub(crate) fn stand_still_at_member(&mut self, member: usize, until_us: u64) {
        let until = &mut self.member_stands_until_us[member];
        *until = (*until).max(until_us);
    }

    /// Nothing moves between this client and members until then.
    pub(crate) fn stand_still_at_client(&mut self, client: usize, until_us: u64) {
        if self.client_stands_until_us.len() <= client {
            self.client_stands_until_us.resize(client + 1, 0);
        }
        let until = &mut self.client_stands_until_us[client];
        *until = (*until).max(until_us);
    }

    /// When bytes that a client or member sends now arrive at the other end.
    pub(crate) fn stream(&mut self, now_us: u64, member: usize, client: usize, dice: &mut Dice) -> u64 {
        let (low, high) = self.client_delay_us;
        let stands = self.member_stands_until_us[member]
            .max(self.client_stands_until_us.get(client).copied().unwrap_or_default());
        now_us.max(stands) + dice.within(low, high)
    }
}
