//! Fingerprints that can be summed: the order in which facts come and go does not matter, so the sum over a table is
//! kept up to date at the price of one fingerprint per change.
//!
//! They find members that drifted apart by a fault, not by malice: an attacker who chooses keys can collide them.

/// What a fingerprint is of; a fact of one kind never stands for one of another.
#[derive(Copy, Clone)]
pub(crate) enum Kind {
    Lease = 1,
    Attachment = 2,
    Member = 3,
    RemovedMember = 4,
    Voter = 5,
    Learner = 6,
    Alarm = 7,
    ClusterVersion = 8,
    Downgrade = 9,
    FeatureLevel = 10,
}

const MULTIPLY: u64 = 0x9e37_79b9_7f4a_7c15;
const FINISH: u64 = 0xd6e8_feb8_6659_fd93;

/// 64 bits of a fact made of numbers and bytes.
pub(crate) fn fingerprint(kind: Kind, numbers: &[u64], bytes: &[u8]) -> u64 {
    let mut state = fold(kind as u64 ^ FINISH, MULTIPLY);
    for &number in numbers {
        state = fold(state ^ number, MULTIPLY).wrapping_add(number);
    }
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let number = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        state = fold(state ^ number, MULTIPLY).wrapping_add(number);
    }
    let mut tail = [0; 8];
    tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    state = fold(state ^ u64::from_le_bytes(tail), MULTIPLY);
    fold(state ^ bytes.len() as u64, FINISH)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_part_counts() {
        let mut seen = BTreeSet::new();
        for kind in [Kind::Lease, Kind::Attachment] {
            for numbers in [&[][..], &[0], &[1], &[0, 1], &[1, 0]] {
                for bytes in [&b""[..], b"\0", b"\0\0", b"a", b"b", b"12345678", b"12345678\0", b"12345679"] {
                    assert!(seen.insert(fingerprint(kind, numbers, bytes)), "{numbers:?} {bytes:?}");
                }
            }
        }
    }

    #[test]
    fn near_inputs_are_far_apart() {
        let mut total = 0;
        for n in 0..1000u64 {
            total += (fingerprint(Kind::Lease, &[n], b"") ^ fingerprint(Kind::Lease, &[n + 1], b"")).count_ones();
        }
        let mean = f64::from(total) / 1000.0;
        assert!((30.0..34.0).contains(&mean), "{mean} of 64 bits differ");
    }
}
