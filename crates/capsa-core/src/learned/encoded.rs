//! Learned state as bytes: versioned, by name, the same for the same state on every machine.

use serde::{Deserialize, Serialize};

use super::evidence::{Arm, Pool, PriorArm, Sums, grow};
use super::{DecayClock, Entry, Learned};
use crate::cbor::{self, ByName, DecodeError};

/// The version of the encoding of learned state.
pub const STATE_SCHEMA: u32 = 1;

impl Learned {
    /// The state as bytes: the same state gives the same bytes on every machine.
    pub fn encode(&self) -> Vec<u8> {
        let by_name = |arms: &[Vec<Arm>]| self.named(arms, |arm| *arm != Arm::default());
        cbor::encode(&Encoded {
            keys: (self.keys.iter())
                .map(|(key, entry)| {
                    let encoded = EncodedEntry {
                        arms: by_name(&entry.arms),
                        used: entry.used,
                        tau_ms: entry.tau_ms,
                        feedbacks: entry.feedbacks,
                        updated_at_ms: entry.updated_at_ms,
                    };
                    (key.clone(), encoded)
                })
                .collect(),
            pool: self.pool.as_ref().map(|pool| EncodedPool {
                arms: self.named(&pool.arms, |sums| *sums != Sums::default()),
                tau_ms: pool.tau_ms,
            }),
            clock: self.clock,
            prior: self.named(&self.prior, |arm| *arm != PriorArm::default()),
            schema: STATE_SCHEMA,
            evicted: self.evicted,
            version: self.version,
            prior_tau_ms: self.prior_tau_ms,
        })
    }

    /// Reads a state that [`Learned::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are not such a state or of another schema.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let encoded: Encoded = cbor::decode("learned state", bytes)?;
        let in_keys = encoded.keys.0.values().flat_map(|entry| entry.arms.0.values());
        let pooled = encoded.pool.iter().flat_map(|pool| pool.arms.0.values());
        let holds = in_keys.flat_map(|arms| arms.0.values()).all(Arm::holds)
            && encoded.prior.0.values().flat_map(|arms| arms.0.values()).all(PriorArm::holds)
            && pooled.flat_map(|arms| arms.0.values()).all(Sums::holds);
        if !holds {
            let why = "it holds a number that nothing can lead to".to_owned();
            return Err(DecodeError { what: "learned state", why });
        }
        if encoded.schema != STATE_SCHEMA {
            let why = format!("it has schema {}, this version reads {STATE_SCHEMA}", encoded.schema);
            return Err(DecodeError { what: "learned state", why });
        }
        let mut learned = Self {
            prior_tau_ms: encoded.prior_tau_ms,
            clock: encoded.clock,
            version: encoded.version,
            evicted: encoded.evicted,
            ..Self::default()
        };
        let mut prior = Vec::new();
        learned.placed(encoded.prior, &mut prior);
        learned.prior = prior;
        if let Some(pool) = encoded.pool {
            let mut arms = Vec::new();
            learned.placed(pool.arms, &mut arms);
            learned.pool = Some(Pool { tau_ms: pool.tau_ms, arms });
        }
        for (key, entry) in encoded.keys.0 {
            let mut arms = Vec::new();
            learned.placed(entry.arms, &mut arms);
            if learned.by_use.insert(entry.used, key.clone()).is_some() {
                let why = format!("two keys have the place {} in the order of eviction", entry.used);
                return Err(DecodeError { what: "learned state", why });
            }
            let EncodedEntry { used, tau_ms, feedbacks, updated_at_ms, .. } = entry;
            learned.keys.insert(key, Entry { used, tau_ms, updated_at_ms, feedbacks, arms });
        }
        Ok(learned)
    }

    /// The digest of [`Learned::encode`].
    pub fn state_hash(&self) -> String {
        cbor::digest(&self.encode())
    }

    fn named<T: Copy>(&self, arms: &[Vec<T>], keep: impl Fn(&T) -> bool) -> ByName<ByName<T>> {
        (self.names.iter().zip(arms))
            .filter_map(|(names, arms)| {
                let kept: ByName<T> = (names.options.iter().zip(arms))
                    .filter(|(_, arm)| keep(arm))
                    .map(|(option, arm)| (option.clone(), *arm))
                    .collect();
                (!kept.0.is_empty()).then(|| (names.strategy.clone(), kept))
            })
            .collect()
    }

    fn placed<T: Copy + Default>(&mut self, named: ByName<ByName<T>>, arms: &mut Vec<Vec<T>>) {
        for (strategy, options) in named.0 {
            for (option, arm) in options.0 {
                let (registered, slot) = self.place(&strategy, &option);
                grow(arms, registered + 1);
                grow(&mut arms[registered], slot + 1);
                arms[registered][slot] = arm;
            }
        }
    }
}

// Fields in the order of (length, bytes): the deterministic order of their encoded keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    keys: ByName<EncodedEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pool: Option<EncodedPool>,
    clock: DecayClock,
    prior: ByName<ByName<PriorArm>>,
    schema: u32,
    evicted: u64,
    version: u64,
    prior_tau_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodedPool {
    arms: ByName<ByName<Sums>>,
    tau_ms: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EncodedEntry {
    arms: ByName<ByName<Arm>>,
    used: u64,
    tau_ms: u64,
    feedbacks: u64,
    updated_at_ms: u64,
}
