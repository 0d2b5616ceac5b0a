//! CRC-32C of what is stored.
//!
//! Records of the revision log are a few hundred bytes, and every read checks them: there the latency of one chain of
//! `crc32` instructions is most of the cost. So middle lengths run as three chains side by side, joined at the end by
//! two carry-less multiplications; the rest goes to the `crc32c` crate, which does the same for long data.

/// CRC-32C of `data`.
#[inline]
pub fn crc32c(data: &[u8]) -> u32 {
    crc32c_append(0, data)
}

/// CRC-32C of the bytes that `crc` is of, followed by `data`.
#[inline]
pub fn crc32c_append(crc: u32, data: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if lanes::LENGTHS.contains(&data.len()) && lanes::possible() {
        // SAFETY: the processor has the instructions.
        return unsafe { lanes::append(crc, data) };
    }
    crc32c::crc32c_append(crc, data)
}

#[cfg(target_arch = "x86_64")]
mod lanes {
    use std::arch::x86_64::{_mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u64, _mm_cvtsi32_si128, _mm_cvtsi128_si64};
    use std::ops::Range;

    const WORD: usize = 8;
    /// Words of one lane at most.
    const WORDS_MAX: usize = 128;
    /// Lengths for which this is the quickest way.
    pub(super) const LENGTHS: Range<usize> = 96..3 * WORD * WORDS_MAX + 1;
    /// CRC-32C's polynomial, reflected.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    /// By words: what a checksum is multiplied by to move over that many words of zeros.
    const MOVES: [u32; 2 * WORDS_MAX + 1] = moves();

    /// `x^(64 words - 33)` for every count of words from 1: a carry-less multiplication of two reflected 32-bit
    /// polynomials comes out one bit low, and reducing its 64 bits by a `crc32` instruction adds 32 zeros.
    const fn moves() -> [u32; 2 * WORDS_MAX + 1] {
        let mut table = [0; 2 * WORDS_MAX + 1];
        // Reflected: the top bit is x^0.
        let mut power: u32 = 1 << 31;
        let mut exponent = 0;
        let mut words = 1;
        while words < table.len() {
            while exponent < 64 * words - 33 {
                power = if power & 1 == 1 { power >> 1 ^ POLYNOMIAL } else { power >> 1 };
                exponent += 1;
            }
            table[words] = power;
            words += 1;
        }
        table
    }

    #[inline]
    pub(super) fn possible() -> bool {
        is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq")
    }

    /// `crc` moved over so many words of zeros.
    #[inline]
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn moved(crc: u64, words: usize) -> u64 {
        let product = _mm_clmulepi64_si128::<0>(_mm_cvtsi32_si128(crc as i32), _mm_cvtsi32_si128(MOVES[words] as i32));
        _mm_crc32_u64(0, _mm_cvtsi128_si64(product) as u64)
    }

    /// Needs the processor features that [`possible`] asks for; any length up to the end of [`LENGTHS`].
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub(super) fn append(crc: u32, data: &[u8]) -> u32 {
        let words = data.len() / (3 * WORD);
        let (lanes, rest) = data.split_at(3 * WORD * words);
        let (first, others) = lanes.split_at(WORD * words);
        let (second, third) = others.split_at(WORD * words);
        let (mut a, mut b, mut c) = (u64::from(!crc), 0, 0);
        let (first, _) = first.as_chunks::<WORD>();
        let (second, _) = second.as_chunks::<WORD>();
        let (third, _) = third.as_chunks::<WORD>();
        for ((x, y), z) in first.iter().zip(second).zip(third) {
            a = _mm_crc32_u64(a, u64::from_le_bytes(*x));
            b = _mm_crc32_u64(b, u64::from_le_bytes(*y));
            c = _mm_crc32_u64(c, u64::from_le_bytes(*z));
        }
        let mut all = moved(a, 2 * words) ^ moved(b, words) ^ c;
        let (rest, tail) = rest.as_chunks::<WORD>();
        for word in rest {
            all = _mm_crc32_u64(all, u64::from_le_bytes(*word));
        }
        let mut all = all as u32;
        for byte in tail {
            all = _mm_crc32_u8(all, *byte);
        }
        !all
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_length_is_summed_as_the_plain_way_does() {
        let data: Vec<u8> = (0..4_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for len in 0..3_200 {
            let start = len % 13;
            let bytes = &data[start..start + len];
            assert_eq!(super::crc32c(bytes), crc32c::crc32c(bytes), "{len} bytes");
            let before = len as u32 ^ 0x1234_5678;
            assert_eq!(super::crc32c_append(before, bytes), crc32c::crc32c_append(before, bytes), "{len} bytes");
        }
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}
