//! The digest that names a component.

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};

pub(crate) type Blake2b256 = Blake2b<U32>;

/// `b2:` and the BLAKE2b-256 of `bytes` in hexadecimal.
pub(crate) fn of(bytes: &[u8]) -> String {
    format!("b2:{}", hex(&Blake2b256::digest(bytes)))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
