//! Learned state: what one capsule has learned, by context key, strategy and option.
//!
//! Invariants:
//! * state is kept by name; positions are only a cache of the installed version;
//! * only [`Learned::learn`], [`Learned::adopt`], [`Learned::freeze`] and [`Learned::limit`]
//!   change it: no read does, no decision does, the clock does not (time comes with the event);
//! * at most `max_contexts` keys are held; what is evicted, longest without feedback first, is
//!   folded into the prior that new keys start from;
//! * feedback in one key never moves another key that is held, unless shrinkage is on: the prior
//!   is read when a key is new.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use crate::definition::{Algorithm, Decay};
use crate::learners;

mod encoded;
mod evidence;

pub use encoded::STATE_SCHEMA;
pub use evidence::{Arm, PriorArm};
use evidence::{Pool, grow, keep_over};

/// What evicted keys left counts as at most this many rewards of an option in a new key, which
/// so learns what is usual and can still find out that it differs.
pub const PRIOR_STRENGTH: f64 = 8.0;

/// What all keys have earned beyond one of them is nothing below this share of it, or of one reward.
const POOL_ROUNDING: f64 = 1e-9;

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

impl Slots {
    /// Where an option stands, as [`Learned::learn_at`] takes it.
    pub fn place(&self, option: usize) -> (usize, usize) {
        (self.registered, self.options[option])
    }
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
    /// The time of the event, milliseconds since 1970.
    pub at_ms: u64,
}

/// How one installed strategy learns.
#[derive(Debug, Clone, PartialEq)]
pub struct Learner {
    /// How its options are weighed.
    pub algorithm: Algorithm,
    /// Where they stand in learned state.
    pub slots: Slots,
    /// What is believed of each beforehand; empty = nothing of any.
    pub priors: Vec<Arm>,
    /// With `simple_weighted`: most that one feedback may move a weight.
    pub max_delta: f64,
}

/// Everything in force that learning depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// The installed strategies.
    pub learners: Vec<Learner>,
    /// What scales rewards to 0..1.
    pub reward_range: [f64; 2],
    /// How outcomes fade.
    pub decay: Option<Decay>,
    /// As how many rewards the other keys count, at most; `None` = they do not.
    pub shrinkage: Option<f64>,
}

/// What one capsule has learned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Learned {
    names: Vec<Names>,
    keys: BTreeMap<String, Entry>,
    by_use: BTreeMap<u64, String>,
    prior: Vec<Vec<PriorArm>>,
    prior_tau_ms: u64,
    pool: Option<Pool>,
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

    /// What changes with anything that could move the distribution of a key: the learner version
    /// at its last feedback, or that of anything where keys depend on each other.
    pub fn stamp(&self, key: &str) -> u64 {
        if self.pool.is_some() {
            return self.version;
        }
        self.keys.get(key).map_or(self.evicted, |entry| entry.used)
    }

    /// What one strategy's options have learned in one key, as of a time, in the order of its
    /// slots: what they earned there, what is borrowed from other keys, and what was believed
    /// beforehand. A key that is not held has what a new key starts from.
    pub fn evidence(&self, key: &str, learner: &Learner, now_ms: u64, terms: &Terms, arms: &mut Vec<Arm>) {
        let tau_ms = self.clock.tau_at(now_ms);
        let slots = &learner.slots;
        arms.clear();
        match self.keys.get(key) {
            Some(entry) => {
                let keep = keep_over(terms.decay, tau_ms.saturating_sub(entry.tau_ms));
                let held = entry.arms.get(slots.registered);
                arms.extend(
                    (slots.options.iter())
                        .map(|&slot| held.and_then(|held| held.get(slot)).copied().unwrap_or_default().faded(keep)),
                );
            }
            None => self.start_arms(slots, tau_ms, terms.decay, arms),
        }
        if learner.algorithm.is_weighted() {
            if arms.iter().any(|arm| arm.weight.is_none()) {
                let starts = self.start_weights(learner, tau_ms, terms);
                arms.iter_mut().zip(starts).for_each(|(arm, start)| arm.weight = arm.weight.or(Some(start)));
            }
            let total: f64 = arms.iter().filter_map(|arm| arm.weight).sum();
            let uniform = 1.0 / arms.len() as f64;
            for weight in arms.iter_mut().filter_map(|arm| arm.weight.as_mut()) {
                *weight = if total > 0.0 { *weight / total } else { uniform };
            }
            return;
        }
        if let (Some(strength), Some(pool)) = (terms.shrinkage, &self.pool) {
            let keep = keep_over(terms.decay, tau_ms.saturating_sub(pool.tau_ms));
            let pooled = pool.arms.get(slots.registered);
            for (arm, &slot) in arms.iter_mut().zip(&slots.options) {
                let Some(all) = pooled.and_then(|pooled| pooled.get(slot)) else { continue };
                let all = all.faded(keep);
                let mut others = all;
                others.add(*arm, -1.0);
                // What rounding leaves of nothing has a mean, too.
                if others.n <= POOL_ROUNDING * all.n.max(1.0) {
                    continue;
                }
                let share = if others.n > strength { strength / others.n } else { 1.0 };
                arm.add(others.n * share, others.sum * share, others.sum_sq * share);
            }
        }
        for (arm, prior) in arms.iter_mut().zip(&learner.priors) {
            arm.add(prior.n, prior.sum, prior.sum_sq);
        }
    }

    /// What a new key starts from: what evicted keys left, as at most [`PRIOR_STRENGTH`] rewards.
    /// Nothing where shrinkage is on, which borrows from them among others.
    fn start_arms(&self, slots: &Slots, tau_ms: u64, decay: Option<Decay>, arms: &mut Vec<Arm>) {
        if self.evicted == 0 || self.pool.is_some() {
            arms.resize(arms.len() + slots.options.len(), Arm::default());
            return;
        }
        let keep = keep_over(decay, tau_ms.saturating_sub(self.prior_tau_ms));
        arms.extend((slots.options.iter()).map(|&slot| {
            let prior = self.prior_arm(slots.registered, slot);
            let share = if prior.n * keep > PRIOR_STRENGTH { PRIOR_STRENGTH / prior.n } else { keep };
            Arm { n: prior.n * share, sum: prior.sum * share, sum_sq: prior.sum_sq * share, ..Arm::default() }
        }));
    }

    /// The inner weights that a new key starts from: those that the declared priors lead to,
    /// averaged with those that evicted keys left. Where those had none, for the algorithm was
    /// another one, what they earned counts with the declared priors. They sum to 1.
    fn start_weights(&self, learner: &Learner, tau_ms: u64, terms: &Terms) -> Vec<f64> {
        let keep = keep_over(terms.decay, tau_ms.saturating_sub(self.prior_tau_ms));
        let mut weights = Vec::new();
        let mut believed = learner.priors.clone();
        believed.resize(learner.slots.options.len(), Arm::default());
        let left = |slot| self.prior_arm(learner.slots.registered, slot).weight_count;
        if learner.slots.options.iter().all(|&slot| left(slot) == 0.0) {
            let mut earned = Vec::new();
            self.start_arms(&learner.slots, tau_ms, terms.decay, &mut earned);
            believed.iter_mut().zip(&earned).for_each(|(arm, earned)| arm.add(earned.n, earned.sum, earned.sum_sq));
        }
        learners::weights_of_rewards(&believed, terms.reward_range, learner.max_delta, &mut weights);
        for (weight, &slot) in weights.iter_mut().zip(&learner.slots.options) {
            let prior = self.prior_arm(learner.slots.registered, slot);
            *weight = (*weight + prior.weight_sum * keep) / (1.0 + prior.weight_count * keep);
        }
        normalise(&mut weights);
        weights
    }

    fn prior_arm(&self, registered: usize, slot: usize) -> PriorArm {
        self.prior.get(registered).and_then(|arms| arms.get(slot)).copied().unwrap_or_default()
    }

    /// Folds one outcome into its key. What the key holds fades first; then the credited option
    /// of each strategy gains the reward, and the weights of `simple_weighted` move.
    pub fn learn(&mut self, credit: Credit<'_>, terms: &Terms) {
        let places: Vec<(usize, usize)> = credit.options.iter().map(|(s, o)| self.place(s, o)).collect();
        self.learn_at(credit.key, &places, credit.reward, credit.at_ms, terms);
    }

    /// [`Learned::learn`] for options given by their registered strategy and slot.
    pub fn learn_at(&mut self, key: &str, places: &[(usize, usize)], reward: f64, at_ms: u64, terms: &Terms) {
        self.clock.advance(at_ms);
        self.version += 1;
        let tau_ms = self.clock.tau_ms;
        if !self.keys.contains_key(key) {
            let fresh = self.fresh(tau_ms, terms);
            self.keys.insert(key.to_owned(), fresh);
        }
        let entry = self.keys.get_mut(key).expect("inserted where it was missing");
        let by_feedbacks = terms.decay.and_then(|decay| decay.half_life_feedbacks);
        let keep = match by_feedbacks {
            Some(half_life) => libm::exp2(-1.0 / half_life),
            None => keep_over(terms.decay, tau_ms.saturating_sub(entry.tau_ms)),
        };
        if let Some(pool) = &mut self.pool {
            pool.advance(tau_ms, terms.decay);
            // Time fades all keys alike, a feedback only its own.
            for (registered, arms) in entry.arms.iter().enumerate().filter(|_| by_feedbacks.is_some()) {
                for (slot, &arm) in arms.iter().enumerate() {
                    pool.at(registered, slot).add(arm, keep - 1.0);
                }
            }
        }
        if keep < 1.0 {
            entry.arms.iter_mut().flatten().for_each(|arm| *arm = arm.faded(keep));
        }
        entry.tau_ms = entry.tau_ms.max(tau_ms);
        let [low, high] = terms.reward_range;
        let scaled = ((reward - low) / (high - low)).clamp(0.0, 1.0);
        for &(registered, slot) in places {
            entry.arm_mut(registered, slot).add(1.0, scaled, scaled * scaled);
            if let Some(pool) = &mut self.pool {
                pool.at(registered, slot)
                    .add(Arm { n: 1.0, sum: scaled, sum_sq: scaled * scaled, ..Arm::default() }, 1.0);
            }
        }
        for learner in terms.learners.iter().filter(|learner| learner.algorithm.is_weighted()) {
            let credited = places.iter().find(|(registered, _)| *registered == learner.slots.registered);
            let Some(&(_, credited)) = credited else { continue };
            let mut weights = entry.weights(&learner.slots);
            // An option that is no longer offered has no weight to move.
            if let Some(chosen) = learner.slots.options.iter().position(|&slot| slot == credited) {
                learners::move_weights(&mut weights, chosen, reward, learner.max_delta);
            }
            entry.set_weights(&learner.slots, &weights);
        }
        let name = self.by_use.remove(&entry.used).unwrap_or_else(|| key.to_owned());
        self.by_use.insert(self.version, name);
        entry.used = self.version;
        entry.updated_at_ms = at_ms;
        entry.feedbacks += 1;
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

    fn fresh(&self, tau_ms: u64, terms: &Terms) -> Entry {
        let mut entry = Entry { used: 0, tau_ms, updated_at_ms: 0, feedbacks: 0, arms: Vec::new() };
        let mut arms = Vec::new();
        for learner in &terms.learners {
            if self.evicted > 0 {
                arms.clear();
                self.start_arms(&learner.slots, tau_ms, terms.decay, &mut arms);
                for (&slot, &arm) in learner.slots.options.iter().zip(&arms) {
                    *entry.arm_mut(learner.slots.registered, slot) = arm;
                }
            }
            if learner.algorithm.is_weighted() {
                let starts = self.start_weights(learner, tau_ms, terms);
                entry.start_weights(&learner.slots, &starts, &starts);
            }
        }
        entry
    }

    /// Brings what is held in step with changed terms.
    ///
    /// Every held key gets the inner weights that it lacks under `simple_weighted`: those that
    /// what it has earned leads to. Later, what a new key starts from may have changed, and that
    /// must not move a key that is held. Inner weights of another algorithm's options go: should
    /// it change back, they would not know what was learned in between.
    pub fn adopt(&mut self, terms: &Terms) {
        let tau_ms = self.clock.tau_ms;
        for learner in &terms.learners {
            if !learner.algorithm.is_weighted() {
                for entry in self.keys.values_mut() {
                    for arm in entry.arms.get_mut(learner.slots.registered).into_iter().flatten() {
                        (arm.start, arm.weight) = (None, None);
                    }
                }
                for prior in self.prior.get_mut(learner.slots.registered).into_iter().flatten() {
                    (prior.weight_sum, prior.weight_count) = (0.0, 0.0);
                }
                continue;
            }
            let starts = self.start_weights(learner, tau_ms, terms);
            let mut weights = Vec::new();
            for entry in self.keys.values_mut() {
                let mut earned: Vec<Arm> = (learner.slots.options.iter())
                    .map(|&slot| *entry.arm_mut(learner.slots.registered, slot))
                    .collect();
                if earned.iter().all(|arm| arm.weight.is_none()) {
                    for (arm, prior) in earned.iter_mut().zip(&learner.priors) {
                        arm.add(prior.n, prior.sum, prior.sum_sq);
                    }
                    learners::weights_of_rewards(&earned, terms.reward_range, learner.max_delta, &mut weights);
                    entry.start_weights(&learner.slots, &starts, &weights);
                } else {
                    entry.start_weights(&learner.slots, &starts, &starts);
                }
            }
        }
        match (&self.pool, terms.shrinkage) {
            (None, Some(_)) => self.pool = Some(self.pooled(tau_ms, terms.decay)),
            (Some(_), None) => self.pool = None,
            _ => {}
        }
    }

    /// What all keys have earned together, as of a time of the decay clock.
    fn pooled(&self, tau_ms: u64, decay: Option<Decay>) -> Pool {
        let mut pool = Pool { tau_ms, arms: Vec::new() };
        let keep = keep_over(decay, tau_ms.saturating_sub(self.prior_tau_ms));
        for (registered, arms) in self.prior.iter().enumerate() {
            for (slot, prior) in arms.iter().enumerate() {
                let arm = Arm { n: prior.n, sum: prior.sum, sum_sq: prior.sum_sq, ..Arm::default() };
                pool.at(registered, slot).add(arm, keep);
            }
        }
        for entry in self.keys.values() {
            let keep = keep_over(decay, tau_ms.saturating_sub(entry.tau_ms));
            for (registered, arms) in entry.arms.iter().enumerate() {
                for (slot, &arm) in arms.iter().enumerate() {
                    pool.at(registered, slot).add(arm, keep);
                }
            }
        }
        pool
    }

    /// Evicts keys, longest without feedback first, until at most `max_contexts` are held. The
    /// evicted keys are given to `gone`.
    pub fn limit(&mut self, max_contexts: usize, terms: &Terms, mut gone: impl FnMut(&str)) {
        let decay = terms.decay;
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

    /// Gives options that have no inner weight yet one, and what decay leads it back to.
    fn start_weights(&mut self, slots: &Slots, starts: &[f64], weights: &[f64]) {
        let mut lacked = false;
        for ((&slot, &start), &weight) in slots.options.iter().zip(starts).zip(weights) {
            let arm = self.arm_mut(slots.registered, slot);
            lacked |= arm.weight.is_none();
            arm.start.get_or_insert(start);
            arm.weight.get_or_insert(weight);
        }
        if lacked {
            let weights = self.weights(slots);
            self.set_weights(slots, &weights);
        }
    }
}

/// Scales weights to the sum 1; uniform where nothing is left.
pub(crate) fn normalise(weights: &mut [f64]) {
    let total: f64 = weights.iter().sum();
    let uniform = 1.0 / weights.len() as f64;
    weights.iter_mut().for_each(|weight| *weight = if total > 0.0 { *weight / total } else { uniform });
}
