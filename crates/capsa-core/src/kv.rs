//! What a tool capsule keeps between calls: values by key.
//!
//! Invariant: `bytes` is the sum over all entries of key and value.

use std::collections::BTreeMap;
use std::ops::Bound;

/// Most bytes of a key.
pub const MAX_KEY_BYTES: usize = 256;
/// Most bytes of a value.
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// Most keys that are listed at once.
pub const MAX_LISTED: usize = 1_000;

/// How much may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of all keys and values.
    pub bytes: u64,
    /// Number of keys.
    pub keys: u64,
}

/// One change: a value for a key, or `None` where it is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// 1 to [`MAX_KEY_BYTES`] bytes.
    pub key: String,
    /// At most [`MAX_VALUE_BYTES`].
    pub value: Option<Vec<u8>>,
}

/// The entries of one capsule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyValues {
    entries: BTreeMap<String, Vec<u8>>,
    bytes: u64,
}

impl KeyValues {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.entries.get(key).map(Vec::as_slice)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keys with a prefix in the order of their bytes, from behind `after`, at most `limit`.
    pub fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.entries
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| key.starts_with(prefix))
            .take(limit)
            .cloned()
            .collect()
    }

    /// Whether a change stays within a quota. One that makes nothing larger always does.
    pub fn fits(&self, change: &Change, quota: Quota) -> bool {
        let before = self.entries.get(&change.key);
        let Some(value) = &change.value else { return true };
        let old = before.map_or(0, |old| size(&change.key, old));
        let new = size(&change.key, value);
        let keys = self.entries.len() as u64 + u64::from(before.is_none());
        (new <= old || self.bytes - old + new <= quota.bytes) && (before.is_some() || keys <= quota.keys)
    }

    /// Applies a change; whether there was such a key before.
    pub fn apply(&mut self, change: Change) -> bool {
        let Change { key, value } = change;
        let old = match value {
            Some(value) => {
                self.bytes += size(&key, &value);
                self.entries.insert(key.clone(), value)
            }
            None => self.entries.remove(&key),
        };
        if let Some(old) = &old {
            self.bytes -= size(&key, old);
        }
        old.is_some()
    }

    /// Every entry, in the order of the keys' bytes.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }
}

fn size(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change(key: &str, value: Option<&[u8]>) -> Change {
        Change { key: key.to_owned(), value: value.map(<[u8]>::to_vec) }
    }

    #[test]
    fn keys_are_listed_in_order_from_behind_the_last_one() {
        let mut kept = KeyValues::default();
        for key in ["b", "a/2", "a/1", "a/10", "a", "é"] {
            kept.apply(change(key, Some(b"v")));
        }
        assert_eq!(kept.keys("a/", None, 10), ["a/1", "a/10", "a/2"]);
        assert_eq!(kept.keys("a/", Some("a/1"), 1), ["a/10"]);
        assert_eq!(kept.keys("a/", Some("a/2"), 10), Vec::<String>::new());
        assert_eq!(kept.keys("a/", Some("A"), 1), ["a/1"]);
        assert_eq!(kept.keys("", None, 10).len(), 6);
    }

    #[test]
    fn a_quota_holds_but_never_keeps_anybody_from_making_it_smaller() {
        let mut kept = KeyValues::default();
        let quota = Quota { bytes: 6, keys: 2 };
        assert!(kept.fits(&change("a", Some(b"12345")), quota));
        assert!(!kept.fits(&change("a", Some(b"123456")), quota));
        kept.apply(change("a", Some(b"12345")));
        assert!(!kept.fits(&change("b", Some(b"")), quota));
        kept.apply(change("a", Some(b"1")));
        assert!(kept.fits(&change("b", Some(b"")), quota));
        kept.apply(change("b", Some(b"")));
        assert!(!kept.fits(&change("c", Some(b"")), quota));
        // Beyond a quota that was lowered since.
        let lowered = Quota { bytes: 1, keys: 1 };
        assert!(kept.fits(&change("a", Some(b"")), lowered));
        assert!(kept.fits(&change("b", None), lowered));
        assert!(!kept.fits(&change("a", Some(b"12")), lowered));
    }

    proptest! {
        #[test]
        fn bytes_are_those_of_the_entries(
            changes in proptest::collection::vec(
                ("[a-c]{1,2}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4))), 0..40)
        ) {
            let (mut kept, mut model) = (KeyValues::default(), BTreeMap::new());
            for (key, value) in changes {
                let was = match &value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(&key),
                };
                prop_assert_eq!(kept.apply(Change { key, value }), was.is_some());
            }
            let bytes: usize = model.iter().map(|(key, value)| key.len() + value.len()).sum();
            prop_assert_eq!(kept.bytes(), bytes as u64);
            prop_assert_eq!(&kept.entries, &model);
        }
    }
}
