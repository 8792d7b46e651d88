//! The one CBOR profile: RFC 8949 section 4.2 deterministic encoding.
//!
//! Shortest integers and floats and definite lengths come from `ciborium`; the order of map
//! keys is ours: structs declare their fields by (length, bytes), maps are [`ByName`]. What is
//! stored is what is hashed, so both must never depend on who encodes.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

/// A map with names as keys, encoded in deterministic order.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct ByName<V>(pub BTreeMap<String, V>);

// Derived, it would ask for a default of the values, too.
impl<V> Default for ByName<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V: Serialize> Serialize for ByName<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by(|(a, _), (b, _)| (a.len(), a.as_bytes()).cmp(&(b.len(), b.as_bytes())));
        let mut map = serializer.serialize_map(Some(entries.len()))?;
        for (name, value) in entries {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<V> FromIterator<(String, V)> for ByName<V> {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

/// Sixteen bytes, encoded as a byte string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bytes16(pub [u8; 16]);

impl Bytes16 {
    /// The time in a decision's nonce: its first 6 bytes, milliseconds since 1970.
    pub fn time_ms(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&self.0[..6]);
        u64::from_be_bytes(bytes)
    }
}

impl Serialize for Bytes16 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes16 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes16;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("16 bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes16, E> {
                bytes.try_into().map(Bytes16).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// Bytes of any length, encoded as a byte string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// Bytes that do not decode.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("these bytes are not a {what} of this version: {why}")]
pub struct DecodeError {
    /// What was expected.
    pub what: &'static str,
    /// Why it is not that.
    pub why: String,
}

/// Encodes a value; the same value always gives the same bytes.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    ciborium::into_writer(value, &mut bytes).expect("writing to memory does not fail");
    bytes
}

/// Decodes a value that [`encode`] wrote.
///
/// # Errors
///
/// [`DecodeError`] if the bytes hold something else, an unknown field, or something after it.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    let mut rest = bytes;
    let value = ciborium::from_reader(&mut rest).map_err(|e| DecodeError { what, why: e.to_string() })?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError { what, why: format!("{} bytes after its end", rest.len()) })
    }
}

/// `b2:` and the BLAKE2b-256 digest in hexadecimal: how every digest is shown.
pub fn digest(bytes: &[u8]) -> String {
    use blake2::Digest;
    hex("b2:", &blake2::Blake2b::<blake2::digest::consts::U32>::digest(bytes))
}

/// A prefix and bytes in lower-case hexadecimal.
pub fn hex(prefix: &str, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(prefix.len() + 2 * bytes.len());
    text.push_str(prefix);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_ordered_by_their_encoding() {
        let map: ByName<u8> = [("b".to_owned(), 1), ("aa".to_owned(), 2), ("a".to_owned(), 3)].into_iter().collect();
        assert_eq!(encode(&map), [0xa3, 0x61, b'a', 3, 0x61, b'b', 1, 0x62, b'a', b'a', 2]);
        assert_eq!(decode::<ByName<u8>>("map", &encode(&map)).unwrap(), map);
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let mut bytes = encode(&1u8);
        bytes.push(0);
        assert!(decode::<u8>("number", &bytes).unwrap_err().to_string().contains("1 bytes after"));
    }
}
