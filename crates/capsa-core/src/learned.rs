//! Learned state: what one capsule has learned, by context key, strategy and option.
//!
//! Invariants:
//! * state is kept by name; positions are only a cache of the installed version;
//! * only [`Learned::learn`], [`Learned::freeze`] and [`Learned::limit`] change it: no read
//!   does, no decision does, the clock does not (time comes with the event);
//! * at most `max_contexts` keys are held; what is evicted, longest without feedback first, is
//!   folded into the prior that new keys start from;
//! * feedback in one key never moves another key that is held: the prior is read when a key is new.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::cbor::{self, ByName, DecodeError};
use crate::definition::Decay;
use crate::learners;

/// What evicted keys left counts as at most this many rewards of an option in a new key, which
/// so learns what is usual and can still find out that it differs.
pub const PRIOR_STRENGTH: f64 = 8.0;

/// The version of the encoding of learned state.
pub const STATE_SCHEMA: u32 = 1;

/// Evidence of one option in one key. The sums are of rewards scaled to 0..1, after decay.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// How many rewards count.
    pub n: f64,
    /// Their sum.
    pub sum: f64,
    /// The inner weight that the key started from, and to which decay leads back.
    pub start: Option<f64>,
    /// The sum of their squares.
    pub sum_sq: f64,
    /// The inner weight; every option of a held key has one under `simple_weighted`.
    pub weight: Option<f64>,
}

impl Arm {
    /// The sums fade to nothing, the weight to where the key started.
    fn faded(self, keep: f64) -> Self {
        let weight = match (self.weight, self.start) {
            (Some(weight), Some(start)) => Some(start + (weight - start) * keep),
            (weight, _) => weight,
        };
        Self { n: self.n * keep, sum: self.sum * keep, sum_sq: self.sum_sq * keep, weight, ..self }
    }
}

/// What evicted keys left behind for one option.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorArm {
    /// How many rewards the evicted keys held.
    pub n: f64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub sum_sq: f64,
    /// The sum of the evicted inner weights.
    pub weight_sum: f64,
    /// How many evicted keys had an inner weight.
    pub weight_count: f64,
}

/// The learning of one context key.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The learner version of its last feedback: its place in the order of eviction.
    pub used: u64,
    /// The decay clock at its last feedback.
    tau_ms: u64,
    /// The time of its last feedback, milliseconds since 1970.
    pub updated_at_ms: u64,
    /// How many feedbacks it has learned from.
    pub feedbacks: u64,
    /// By registered strategy and option.
    arms: Vec<Vec<Arm>>,
}

/// The names of one strategy's options, in the order in which they were first seen.
#[derive(Debug, Clone, PartialEq, Default)]
struct Names {
    strategy: String,
    options: Vec<String>,
}

/// Time as decay sees it: it stands still while learning is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DecayClock {
    at_ms: u64,
    frozen: bool,
    tau_ms: u64,
}

impl DecayClock {
    fn tau_at(self, now_ms: u64) -> u64 {
        // A clock that was set back makes no time, rather than negative time.
        if self.frozen { self.tau_ms } else { self.tau_ms + now_ms.saturating_sub(self.at_ms) }
    }

    fn advance(&mut self, now_ms: u64) {
        self.tau_ms = self.tau_at(now_ms);
        self.at_ms = self.at_ms.max(now_ms);
    }
}

/// One strategy as the installed version numbers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Slots {
    registered: usize,
    options: Vec<usize>,
}

/// One outcome to learn from.
#[derive(Debug, Clone, Copy)]
pub struct Credit<'a> {
    /// The context key of the decision.
    pub key: &'a str,
    /// The option carried out, by strategy.
    pub options: &'a BTreeMap<String, String>,
    /// The raw reward.
    pub reward: f64,
    /// What scales it to 0..1.
    pub reward_range: [f64; 2],
    /// The time of the event, milliseconds since 1970.
    pub at_ms: u64,
}

/// One installed strategy, as [`Learned::learn`] needs it.
#[derive(Debug, Clone, Copy)]
pub struct Learner<'a> {
    /// The strategy's name.
    pub strategy: &'a str,
    /// The installed options.
    pub slots: &'a Slots,
    /// With `simple_weighted`: most that one feedback may move a weight.
    pub max_delta: Option<f64>,
}

/// What one capsule has learned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Learned {
    names: Vec<Names>,
    keys: BTreeMap<String, Entry>,
    by_use: BTreeMap<u64, String>,
    prior: Vec<Vec<PriorArm>>,
    prior_tau_ms: u64,
    clock: DecayClock,
    version: u64,
    evicted: u64,
}

impl Learned {
    /// The learner version: how many events have changed how this capsule decides.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many keys are held.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is held.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys were folded into the prior so far.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The entry of one key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.keys.get(key)
    }

    /// The keys that are held, with their entries, in the order of their bytes, from after a key.
    pub fn entries_after(&self, after: Option<&str>) -> impl Iterator<Item = (&str, &Entry)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys.range::<str, _>((from, Bound::Unbounded)).map(|(key, entry)| (key.as_str(), entry))
    }

    /// Registers a strategy's options and gives their places. New names are added, old ones stay.
    pub fn register(&mut self, strategy: &str, options: &[String]) -> Slots {
        let registered = self.registered(strategy);
        let names = &mut self.names[registered].options;
        let mut known: HashMap<String, usize> = names.iter().cloned().zip(0..).collect();
        let options = options
            .iter()
            .map(|option| {
                *known.entry(option.clone()).or_insert_with(|| {
                    names.push(option.clone());
                    names.len() - 1
                })
            })
            .collect();
        Slots { registered, options }
    }

    /// Counts an event that changed how the capsule decides without a feedback (install, settings).
    pub fn bump(&mut self) {
        self.version += 1;
    }

    /// Stops or restarts the decay clock.
    pub fn freeze(&mut self, frozen: bool, at_ms: u64) {
        self.clock.advance(at_ms);
        self.clock.frozen = frozen;
    }

    /// What one strategy's options have learned in one key, as of a time, in the order of `slots`.
    /// A key that is not held has what a new key starts from.
    pub fn arms(&self, key: &str, slots: &Slots, now_ms: u64, decay: Option<Decay>) -> Vec<Arm> {
        let Some(entry) = self.keys.get(key) else { return self.start_arms(slots, self.clock.tau_at(now_ms), decay) };
        let keep = keep_over(decay, self.clock.tau_at(now_ms).saturating_sub(entry.tau_ms));
        let arms = entry.arms.get(slots.registered);
        (slots.options.iter())
            .map(|&slot| arms.and_then(|arms| arms.get(slot)).copied().unwrap_or_default().faded(keep))
            .collect()
    }

    /// What a new key starts from: what evicted keys left, as at most [`PRIOR_STRENGTH`] rewards.
    fn start_arms(&self, slots: &Slots, tau_ms: u64, decay: Option<Decay>) -> Vec<Arm> {
        let keep = keep_over(decay, tau_ms.saturating_sub(self.prior_tau_ms));
        (slots.options.iter())
            .map(|&slot| {
                let prior = self.prior_arm(slots.registered, slot);
                let share = if prior.n * keep > PRIOR_STRENGTH { PRIOR_STRENGTH / prior.n } else { keep };
                Arm { n: prior.n * share, sum: prior.sum * share, sum_sq: prior.sum_sq * share, ..Arm::default() }
            })
            .collect()
    }

    /// The inner weights that a new key starts from, as of a time: uniform, averaged with what
    /// evicted keys left. They sum to 1.
    pub fn start_weights(&self, slots: &Slots, now_ms: u64, decay: Option<Decay>) -> Vec<f64> {
        self.start_weights_at(slots, self.clock.tau_at(now_ms), decay)
    }

    fn start_weights_at(&self, slots: &Slots, tau_ms: u64, decay: Option<Decay>) -> Vec<f64> {
        let keep = keep_over(decay, tau_ms.saturating_sub(self.prior_tau_ms));
        let uniform = 1.0 / slots.options.len() as f64;
        let mut weights: Vec<f64> = (slots.options.iter())
            .map(|&slot| {
                let prior = self.prior_arm(slots.registered, slot);
                (uniform + prior.weight_sum * keep) / (1.0 + prior.weight_count * keep)
            })
            .collect();
        normalise(&mut weights);
        weights
    }

    fn prior_arm(&self, registered: usize, slot: usize) -> PriorArm {
        self.prior.get(registered).and_then(|arms| arms.get(slot)).copied().unwrap_or_default()
    }

    /// Folds one outcome into its key. What the key holds fades first; then the credited option
    /// of each strategy gains the reward, and the weights of `simple_weighted` move.
    pub fn learn(&mut self, credit: Credit<'_>, decay: Option<Decay>, learners: &[Learner<'_>]) {
        self.clock.advance(credit.at_ms);
        self.version += 1;
        let places: Vec<(usize, usize)> = credit.options.iter().map(|(s, o)| self.place(s, o)).collect();
        let tau_ms = self.clock.tau_ms;
        // Taken out, so that the prior can be read while the entry changes.
        let mut entry = self.keys.remove(credit.key).unwrap_or_else(|| self.fresh(tau_ms, decay, learners));
        let keep = match decay.and_then(|decay| decay.half_life_feedbacks) {
            Some(half_life) => libm::exp2(-1.0 / half_life),
            None => keep_over(decay, tau_ms.saturating_sub(entry.tau_ms)),
        };
        entry.arms.iter_mut().flatten().for_each(|arm| *arm = arm.faded(keep));
        entry.tau_ms = entry.tau_ms.max(tau_ms);
        let [low, high] = credit.reward_range;
        let scaled = ((credit.reward - low) / (high - low)).clamp(0.0, 1.0);
        for (registered, slot) in places {
            let arm = entry.arm_mut(registered, slot);
            arm.n += 1.0;
            arm.sum += scaled;
            arm.sum_sq += scaled * scaled;
        }
        for learner in learners {
            let (Some(max_delta), Some(option)) = (learner.max_delta, credit.options.get(learner.strategy)) else {
                continue;
            };
            let mut weights = entry.weights(learner.slots);
            // An option that is no longer offered has no weight to move.
            let names = &self.names[learner.slots.registered].options;
            if let Some(chosen) = learner.slots.options.iter().position(|&slot| &names[slot] == option) {
                learners::move_weights(&mut weights, chosen, credit.reward, max_delta);
            }
            entry.set_weights(learner.slots, &weights);
        }
        self.by_use.remove(&entry.used);
        self.by_use.insert(self.version, credit.key.to_owned());
        entry.used = self.version;
        entry.updated_at_ms = credit.at_ms;
        entry.feedbacks += 1;
        self.keys.insert(credit.key.to_owned(), entry);
    }

    /// The registered place of an option; made where it is new.
    fn place(&mut self, strategy: &str, option: &str) -> (usize, usize) {
        let registered = self.registered(strategy);
        let options = &mut self.names[registered].options;
        let slot = options.iter().position(|name| name == option).unwrap_or_else(|| {
            options.push(option.to_owned());
            options.len() - 1
        });
        (registered, slot)
    }

    fn registered(&mut self, strategy: &str) -> usize {
        self.names.iter().position(|names| names.strategy == strategy).unwrap_or_else(|| {
            self.names.push(Names { strategy: strategy.to_owned(), options: Vec::new() });
            self.names.len() - 1
        })
    }

    fn fresh(&self, tau_ms: u64, decay: Option<Decay>, learners: &[Learner<'_>]) -> Entry {
        let mut entry = Entry { used: 0, tau_ms, updated_at_ms: 0, feedbacks: 0, arms: Vec::new() };
        for learner in learners {
            if self.evicted > 0 {
                let arms = self.start_arms(learner.slots, tau_ms, decay);
                for (&slot, arm) in learner.slots.options.iter().zip(arms) {
                    *entry.arm_mut(learner.slots.registered, slot) = arm;
                }
            }
            if learner.max_delta.is_some() {
                entry.start_weights(learner.slots, &self.start_weights_at(learner.slots, tau_ms, decay));
            }
        }
        entry
    }

    /// Gives every held key the inner weights that it lacks under these settings: later, what a
    /// new key starts from may have changed, and that must not move a key that is held.
    pub fn adopt(&mut self, learners: &[Learner<'_>], decay: Option<Decay>) {
        for learner in learners.iter().filter(|learner| learner.max_delta.is_some()) {
            let starts = self.start_weights_at(learner.slots, self.clock.tau_ms, decay);
            self.keys.values_mut().for_each(|entry| entry.start_weights(learner.slots, &starts));
        }
    }

    /// Evicts keys, longest without feedback first, until at most `max_contexts` are held. The
    /// evicted keys are given to `gone`.
    pub fn limit(&mut self, max_contexts: usize, decay: Option<Decay>, mut gone: impl FnMut(&str)) {
        while self.keys.len() > max_contexts {
            let Some((_, key)) = self.by_use.pop_first() else { break };
            let entry = self.keys.remove(&key).expect("by_use names held keys");
            let tau_ms = self.clock.tau_ms;
            let keep = keep_over(decay, tau_ms.saturating_sub(self.prior_tau_ms));
            self.prior.iter_mut().flatten().for_each(|arm| *arm = arm.faded(keep));
            self.prior_tau_ms = self.prior_tau_ms.max(tau_ms);
            let keep = keep_over(decay, tau_ms.saturating_sub(entry.tau_ms));
            grow(&mut self.prior, entry.arms.len());
            for (prior, arms) in self.prior.iter_mut().zip(&entry.arms) {
                grow(prior, arms.len());
                for (prior, arm) in prior.iter_mut().zip(arms) {
                    let arm = arm.faded(keep);
                    prior.n += arm.n;
                    prior.sum += arm.sum;
                    prior.sum_sq += arm.sum_sq;
                    if let Some(weight) = arm.weight {
                        prior.weight_sum += weight;
                        prior.weight_count += 1.0;
                    }
                }
            }
            self.evicted += 1;
            gone(&key);
        }
    }

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

impl Entry {
    fn arm_mut(&mut self, registered: usize, slot: usize) -> &mut Arm {
        grow(&mut self.arms, registered + 1);
        grow(&mut self.arms[registered], slot + 1);
        &mut self.arms[registered][slot]
    }

    /// The inner weights of the installed options, all of which have one; they sum to 1.
    fn weights(&mut self, slots: &Slots) -> Vec<f64> {
        let mut weights: Vec<f64> = (slots.options.iter())
            .map(|&slot| self.arm_mut(slots.registered, slot).weight.expect("started, when it was new or adopted"))
            .collect();
        normalise(&mut weights);
        weights
    }

    fn set_weights(&mut self, slots: &Slots, weights: &[f64]) {
        for (&slot, &weight) in slots.options.iter().zip(weights) {
            self.arm_mut(slots.registered, slot).weight = Some(weight);
        }
    }

    /// Starts the inner weights of options that have none yet.
    fn start_weights(&mut self, slots: &Slots, starts: &[f64]) {
        let mut lacked = false;
        for (&slot, &start) in slots.options.iter().zip(starts) {
            let arm = self.arm_mut(slots.registered, slot);
            lacked |= arm.weight.is_none();
            arm.start.get_or_insert(start);
            arm.weight.get_or_insert(start);
        }
        if lacked {
            let weights = self.weights(slots);
            self.set_weights(slots, &weights);
        }
    }
}

impl PriorArm {
    fn faded(self, keep: f64) -> Self {
        Self {
            n: self.n * keep,
            sum: self.sum * keep,
            sum_sq: self.sum_sq * keep,
            weight_sum: self.weight_sum * keep,
            weight_count: self.weight_count * keep,
        }
    }
}

/// The share of an outcome that is left after a span of the decay clock.
fn keep_over(decay: Option<Decay>, span_ms: u64) -> f64 {
    match decay.and_then(|decay| decay.half_life_seconds) {
        Some(half_life) if span_ms > 0 => libm::exp2(-(span_ms as f64) / (half_life * 1000.0)),
        _ => 1.0,
    }
}

/// Scales weights to the sum 1; uniform where nothing is left.
pub(crate) fn normalise(weights: &mut [f64]) {
    let total: f64 = weights.iter().sum();
    let uniform = 1.0 / weights.len() as f64;
    weights.iter_mut().for_each(|weight| *weight = if total > 0.0 { *weight / total } else { uniform });
}

fn grow<T: Clone + Default>(items: &mut Vec<T>, least: usize) {
    if items.len() < least {
        items.resize(least, T::default());
    }
}

// Fields in the order of (length, bytes): the deterministic order of their encoded keys.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    keys: ByName<EncodedEntry>,
    clock: DecayClock,
    prior: ByName<ByName<PriorArm>>,
    schema: u32,
    evicted: u64,
    version: u64,
    prior_tau_ms: u64,
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
