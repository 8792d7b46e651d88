//! Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011, "Parallel
//! random numbers: as easy as 1, 2, 3").
//!
//! A number is a pure function of key, nonce and index, so a decision can be drawn again alone, in
//! any order, on any machine. The layout is part of the record format:
//!
//! * key words 0 and 1 = the key, two little-endian 32-bit words; the index is xored into word 1;
//! * counter words 0 to 3 = the nonce, four little-endian 32-bit words;
//! * the number = the upper 53 bits of `word 1 << 32 | word 0` of the block, times 2^-53.
//!
//! Invariants:
//! * the same key, nonce and index always give the same number;
//! * two different (nonce, index) pairs of one key never read the same Philox input: another nonce
//!   is another counter, and another index under the same nonce is another key word.

/// The random numbers of one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
}

impl Stream {
    /// The stream of the decision with this `nonce`, under this `key`.
    pub fn new(key: [u8; 8], nonce: [u8; 16]) -> Self {
        let (key, _) = key.as_chunks::<4>();
        let (nonce, _) = nonce.as_chunks::<4>();
        Self {
            key: std::array::from_fn(|word| u32::from_le_bytes(key[word])),
            counter: std::array::from_fn(|word| u32::from_le_bytes(nonce[word])),
        }
    }

    /// The number at `index`, uniform on the multiples of 2^-53 in [0, 1).
    pub fn uniform(&self, index: u32) -> f64 {
        let (counter, key) = self.input(index);
        let [low, high, ..] = philox4x32_10(counter, key);
        let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
        bits as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The block that the number at `index` is read from.
    fn input(&self, index: u32) -> ([u32; 4], [u32; 2]) {
        (self.counter, [self.key[0], self.key[1] ^ index])
    }
}

fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let p0 = u64::from(c0) * 0xD251_1F53;
        let p1 = u64::from(c2) * 0xCD9E_8D57;
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [c0, c1, c2, c3]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// `kat_vectors` of Random123, lines `philox4x32 10`.
    #[test]
    fn philox_gives_the_published_known_answers() {
        let vectors = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in vectors {
            assert_eq!(philox4x32_10(counter, key), expected);
        }
    }

    /// The layout is stored in records: it may not change.
    #[test]
    fn the_layout_is_the_documented_one() {
        let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
        let key = words(&[0xa409_3822, 0x299f_31d0 ^ 7]);
        let nonce = words(&[0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]);
        let stream = Stream::new(key.try_into().unwrap(), nonce.try_into().unwrap());
        let expected = (0x94fd_cceb_d16c_fe09_u64 >> 11) as f64 / 9_007_199_254_740_992.0;
        assert_eq!(stream.uniform(7), expected);
    }

    #[test]
    fn numbers_fill_the_unit_interval_evenly() {
        let mut bins = [0u32; 16];
        for decision in 0..4096u128 {
            let stream = Stream::new([3; 8], decision.to_le_bytes());
            for index in 0..4 {
                bins[(stream.uniform(index) * 16.0) as usize] += 1;
            }
        }
        // Chi-square with 15 degrees of freedom: 37.7 is exceeded once in 1,000 seeds.
        let chi_square: f64 =
            bins.iter().map(|&count| f64::from(count) - 1024.0).map(|excess| excess * excess / 1024.0).sum();
        assert!(chi_square < 37.7, "{chi_square}");
    }

    proptest! {
        #[test]
        fn another_nonce_or_index_is_another_input(
            key: [u8; 8], nonce: [u8; 16], other_nonce: [u8; 16], index: u32, other_index: u32,
        ) {
            prop_assume!(nonce != other_nonce && index != other_index);
            let input = |nonce, index| Stream::new(key, nonce).input(index);
            prop_assert_ne!(input(nonce, index), input(other_nonce, index));
            prop_assert_ne!(input(nonce, index), input(nonce, other_index));
            prop_assert_ne!(input(nonce, index), input(other_nonce, other_index));
            let u = Stream::new(key, nonce).uniform(index);
            prop_assert!((0.0..1.0).contains(&u));
        }
    }
}
