//! Random numbers for one call.
//!
//! BLAKE2b-512 over a seed and a counter: what was handed out tells nothing of what comes.

use blake2::{Blake2b512, Digest};

/// A generator; the same seed gives the same numbers.
pub(crate) struct Random {
    seed: [u8; 32],
    blocks: u64,
    left: Vec<u8>,
}

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Random {
        Random { seed, blocks: 0, left: Vec::new() }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.left);
        while bytes.len() < count {
            let mut block = Blake2b512::new();
            block.update(self.seed);
            block.update(self.blocks.to_le_bytes());
            bytes.extend_from_slice(&block.finalize());
            self.blocks += 1;
        }
        self.left = bytes.split_off(count);
        bytes
    }

    pub(crate) fn number(&mut self) -> u64 {
        let bytes = self.bytes(8);
        u64::from_le_bytes(bytes.try_into().expect("eight were asked for"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_however_they_are_asked_for() {
        let whole = Random::new([7; 32]).bytes(200);
        let mut in_parts = Random::new([7; 32]);
        let parts: Vec<u8> = [1, 63, 64, 65, 7].iter().flat_map(|count| in_parts.bytes(*count)).collect();
        assert_eq!(whole, parts);
        assert_ne!(whole[..64], Random::new([8; 32]).bytes(64));
        assert_ne!(whole[..64], whole[64..128]);
    }
}
