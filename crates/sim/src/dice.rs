//! Numbers from the seed. Each part of the world throws dice of its own, so that a change in one leaves the others alone.

use cetera_raft::rng::Rng;

/// Who throws.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Stream {
    /// The options of a run.
    Options = 1,
    /// What happens by itself: delays, losses, who is first.
    World = 2,
    /// Which faults, when.
    Nemesis = 3,
    /// What the operator does.
    Operator = 4,
    /// What clients want; one stream each, above this number.
    Clients = 1_000,
}

/// Dice that repeat exactly for an equal seed.
#[derive(Clone, Debug)]
pub struct Dice(Rng);

impl Dice {
    /// The dice of one stream.
    pub fn new(seed: u64, stream: Stream) -> Self {
        Self::numbered(seed, stream, 0)
    }

    /// The dice of one of several alike.
    pub fn numbered(seed: u64, stream: Stream, number: u64) -> Self {
        let mut rng = Rng::new(seed ^ (stream as u64 + number).wrapping_mul(0xa076_1d64_78bd_642f));
        rng.next_u64();
        Self(rng)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `[0, below)`; 0 if that is empty.
    pub fn below(&mut self, below: u64) -> u64 {
        // The bias of the remainder is below 2^-32 for all that is asked here.
        self.0.next_u64() % below.max(1)
    }

    /// A number in `[low, high]`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A number in `[low, high]`, mostly near `low`.
    pub fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low);
        let part = self.below(1 << 16);
        low + ((u128::from(span) * u128::from(part * part * part)) >> 48) as u64
    }

    /// True so many times in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// An index of a list of this length, which is not empty.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }
}
