//! Decision ids: what feedback needs of a decision, sealed so that only this store can read or make it.
//!
//! An id is `dec_` and, in base64url without padding, the number of the key (2 bytes), the decision's nonce (16) and a
//! short CBOR array under XChaCha20-Poly1305 (<https://datatracker.ietf.org/doc/html/draft-irtf-cfrg-xchacha-03>).
//! The nonce of the cipher is the decision's, filled up with zeros: a decision has one, and its id says one thing.
//! Tenant, job and capsule are bound as associated data: another capsule's id does not open.
//!
//! Invariants:
//! * an id has at most [`MAX_ID_CHARS`] characters; what would not fit is for the journal to keep;
//! * it shows nothing of the decision but its time;
//! * the same decision under the same key has the same id, whenever it is made.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};

use crate::cbor::{self, Bytes16};

/// Most characters of an id: a database column, a header, a log line.
pub const MAX_ID_CHARS: usize = 255;
/// Length of a key, bytes.
pub const KEY_BYTES: usize = 32;

const PREFIX: &str = "dec_";
const TAG_BYTES: usize = 16;
const CLEAR_BYTES: usize = 2 + 16;
/// Most bytes of the array that is sealed.
const MAX_BODY_BYTES: usize = (MAX_ID_CHARS - PREFIX.len()) / 4 * 3 - CLEAR_BYTES - TAG_BYTES;
/// Most bytes of its head, sequence, version, horizon, mode and propensity.
const FIXED_BYTES: usize = 1 + 9 + 5 + 9 + 1 + 9;

/// What an id says.
#[derive(Debug, Clone, PartialEq)]
pub struct Sealed {
    /// The decision's nonce.
    pub nonce: [u8; 16],
    /// Its position in the tenant's stream.
    pub sequence: u64,
    /// From the nonce's time to the end of the horizon.
    pub horizon_ms: i64,
    /// What was decided; `None` where that is for the journal to say.
    pub carried: Option<Carried>,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    /// The capsule's version.
    pub capsule_version: u32,
    /// 0 live, 1 shadow: as in the journal.
    pub mode: u8,
    /// The number of the option of each strategy.
    pub options: Vec<u16>,
    /// The probability with which they were drawn, if they were.
    pub propensity: Option<f64>,
    /// The context key.
    pub key: String,
}

/// Whether an id is short enough that carries an option of so many strategies and this key, wherever the decision stands.
pub fn fits(strategies: usize, key: &str) -> bool {
    let options = 2 + 3 * strategies;
    FIXED_BYTES + options + 3 + key.len() <= MAX_BODY_BYTES
}

// An array: sequence, horizon, then what is carried.
#[derive(Serialize, Deserialize)]
struct Short(u64, i64);
#[derive(Serialize, Deserialize)]
struct Long(u64, i64, u32, u8, Vec<u16>, Option<f64>, String);

/// Keys by number. The newest one that is not younger than a decision seals it; all of them open.
#[derive(Default)]
pub struct Keyring {
    keys: BTreeMap<u16, (u64, XChaCha20Poly1305)>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.keys.keys()).finish()
    }
}

impl Keyring {
    /// Adds a key under its number, in use from `since_ms` on.
    pub fn add(&mut self, number: u16, since_ms: u64, key: [u8; KEY_BYTES]) {
        self.keys.insert(number, (since_ms, XChaCha20Poly1305::new(&Key::from(key))));
    }

    /// The id that says this of a decision of a place, as [`place`] gives it. `None` without any key.
    pub fn seal(&self, place: &[u8], sealed: &Sealed) -> Option<String> {
        let decided_ms = Bytes16(sealed.nonce).time_ms();
        let in_use = self.keys.iter().rev().find(|(_, (since_ms, _))| *since_ms <= decided_ms);
        // A clock that was set back before the first key was made.
        let (number, (_, cipher)) = in_use.or_else(|| self.keys.iter().next())?;
        let body = match &sealed.carried {
            None => cbor::encode(&Short(sealed.sequence, sealed.horizon_ms)),
            Some(Carried { capsule_version, mode, options, propensity, key }) => cbor::encode(&Long(
                sealed.sequence,
                sealed.horizon_ms,
                *capsule_version,
                *mode,
                options.clone(),
                *propensity,
                key.clone(),
            )),
        };
        let payload = Payload { msg: &body, aad: place };
        let hidden = cipher.encrypt(&xnonce(sealed.nonce), payload).expect("a message is short");
        let mut bytes = Vec::with_capacity(CLEAR_BYTES + hidden.len());
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&sealed.nonce);
        bytes.extend_from_slice(&hidden);
        let mut id = String::with_capacity(PREFIX.len() + bytes.len() * 4 / 3 + 1);
        id.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&bytes, &mut id);
        Some(id)
    }

    /// What an id says; `None` if it was not sealed with a key of ours for this place.
    pub fn open(&self, place: &[u8], id: &str) -> Option<Sealed> {
        if id.len() > MAX_ID_CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(id.strip_prefix(PREFIX)?).ok()?;
        let (clear, hidden) = bytes.split_at_checked(CLEAR_BYTES)?;
        let number = u16::from_be_bytes(clear[..2].try_into().ok()?);
        let nonce: [u8; 16] = clear[2..].try_into().ok()?;
        let (_, cipher) = self.keys.get(&number)?;
        let body = cipher.decrypt(&xnonce(nonce), Payload { msg: hidden, aad: place }).ok()?;
        if let Ok(Short(sequence, horizon_ms)) = cbor::decode("sealed id", &body) {
            return Some(Sealed { nonce, sequence, horizon_ms, carried: None });
        }
        let Long(sequence, horizon_ms, capsule_version, mode, options, propensity, key) =
            cbor::decode("sealed id", &body).ok()?;
        let carried = Some(Carried { capsule_version, mode, options, propensity, key });
        Some(Sealed { nonce, sequence, horizon_ms, carried })
    }
}

/// What an id is bound to: the names, each ended by a zero byte, which no name holds.
pub fn place(tenant: &str, job: &str, capsule: &str) -> Vec<u8> {
    let mut bytes = b"capsa decision id 1\0".to_vec();
    for name in [tenant, job, capsule] {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
    }
    bytes
}

fn xnonce(nonce: [u8; 16]) -> XNonce {
    let mut filled = [0; 24];
    filled[..16].copy_from_slice(&nonce);
    XNonce::from(filled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn keyring() -> Keyring {
        let mut keys = Keyring::default();
        keys.add(0, 0, [1; 32]);
        keys
    }

    fn sealed() -> impl Strategy<Value = Sealed> {
        let carried = (any::<u32>(), 0..2u8, prop::collection::vec(0..1024u16, 1..8), any::<Option<u32>>(), ".{0,64}")
            .prop_map(|(capsule_version, mode, options, propensity, key)| Carried {
                capsule_version,
                mode,
                options,
                propensity: propensity.map(|share| f64::from(share) / f64::from(u32::MAX)),
                key,
            });
        (any::<[u8; 16]>(), any::<u64>(), any::<i64>(), prop::option::of(carried))
            .prop_map(|(nonce, sequence, horizon_ms, carried)| Sealed { nonce, sequence, horizon_ms, carried })
    }

    proptest! {
        #[test]
        fn an_id_opens_where_it_was_sealed_and_nowhere_else(sealed in sealed()) {
            let keys = keyring();
            let here = place("t", "j", "c");
            let id = keys.seal(&here, &sealed).unwrap();
            if sealed.carried.as_ref().is_none_or(|carried| fits(carried.options.len(), &carried.key)) {
                prop_assert!(id.len() <= MAX_ID_CHARS, "{} characters", id.len());
                prop_assert_eq!(keys.open(&here, &id), Some(sealed.clone()));
            }
            prop_assert_eq!(keys.open(&place("t", "j", "d"), &id), None);
            prop_assert_eq!(keys.open(&place("t", "jc", ""), &id), None);
            let mut others = Keyring::default();
            others.add(0, 0, [2; 32]);
            prop_assert_eq!(others.open(&here, &id), None);
            prop_assert_eq!(keys.seal(&here, &sealed).unwrap(), id);
        }

        #[test]
        fn a_changed_character_opens_nothing(sealed in sealed(), at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_-]") {
            let keys = keyring();
            let here = place("t", "j", "c");
            let id = keys.seal(&here, &sealed).unwrap();
            let at = PREFIX.len() + at.index(id.len() - PREFIX.len());
            let mut changed = id.clone();
            changed.replace_range(at..=at, &to);
            prop_assert!(changed == id || keys.open(&here, &changed).is_none());
        }
    }

    #[test]
    fn the_key_in_use_when_a_decision_was_made_seals_it() {
        let mut keys = keyring();
        let here = place("t", "j", "c");
        let at = |time_ms: u64| {
            let mut nonce = [7; 16];
            nonce[..6].copy_from_slice(&time_ms.to_be_bytes()[2..]);
            Sealed { nonce, sequence: 1, horizon_ms: 1, carried: None }
        };
        let before = keys.seal(&here, &at(500)).unwrap();
        keys.add(1, 1000, [9; 32]);
        assert_eq!(keys.seal(&here, &at(500)).unwrap(), before);
        assert_eq!(keys.open(&here, &before), Some(at(500)));
        let after = keys.seal(&here, &at(1000)).unwrap();
        assert_eq!(keys.open(&here, &after), Some(at(1000)));
        assert_eq!(keyring().open(&here, &after), None);
    }

    #[test]
    fn what_fits_is_short_whatever_its_numbers_are() {
        let mut carried = Carried {
            capsule_version: u32::MAX,
            mode: 1,
            options: vec![1023],
            propensity: Some(0.1),
            key: String::new(),
        };
        while fits(carried.options.len(), &carried.key) {
            let sealed =
                Sealed { nonce: [9; 16], sequence: u64::MAX, horizon_ms: i64::MAX, carried: Some(carried.clone()) };
            assert!(keyring().seal(b"", &sealed).unwrap().len() <= MAX_ID_CHARS);
            carried.key.push('x');
        }
        assert!(carried.key.len() > 100);
    }
}
