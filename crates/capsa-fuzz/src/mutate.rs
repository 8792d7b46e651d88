//! Mutations that follow from a number, for runs without libFuzzer: the same in every run, on every machine.

/// SplitMix64 (Steele, Lea and Flood, 2014): enough to choose with.
pub struct Chooser(u64);

impl Chooser {
    /// The same seed always chooses the same.
    pub fn new(seed: u64) -> Chooser {
        Chooser(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.bits() % bound as u64).expect("it is below a usize")
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| self.bits().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }
}

/// Bytes that have been trouble.
const AWKWARD: [u8; 16] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'9', b'.', b':', b'/', b'%', b'"', b'{', b'[', b'\\', 0x1b];
/// Longer than this no mutation gets.
const MAX_BYTES: usize = 8192;

/// One seed changed in one to four places, with parts of another.
pub fn mutated(seed: &[u8], other: &[u8], chooser: &mut Chooser) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=chooser.below(4) {
        let at = chooser.below(bytes.len() + 1);
        let len = 1 + chooser.below(8);
        let end = (at + len).min(bytes.len());
        match chooser.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chooser.below(8),
            1 if at < bytes.len() => bytes[at] = AWKWARD[chooser.below(AWKWARD.len())],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let new = chooser.bytes(len);
                drop(bytes.splice(at..at, new));
            }
            4 => {
                let again = bytes[at..end].repeat(1 + chooser.below(3));
                drop(bytes.splice(at..at, again));
            }
            5 if !other.is_empty() => {
                let from = chooser.below(other.len());
                let to = (from + 1 + chooser.below(64)).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(MAX_BYTES.max(seed.len()));
    bytes
}
