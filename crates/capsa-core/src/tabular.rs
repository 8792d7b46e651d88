//! One strategy's learner by itself: the same learning as in a capsule, for who has no store.
//!
//! Options are numbers, keys are texts, time does not pass: what fades, fades by updates.
//!
//! Invariants:
//! * the same settings and the same calls give the same answers, on every machine;
//! * a call that is refused changes nothing;
//! * a saved and loaded learner goes on as the one that was saved.

use std::collections::BTreeSet;

use blake2::Digest;
use serde::{Deserialize, Serialize};

use crate::cbor::{self, Bytes, DecodeError};
use crate::decide::Cache;
use crate::definition::{Algorithm, Decay, MAX_CONTEXTS, MAX_NAME_BYTES, MAX_OPTIONS, MAX_PRIOR_COUNT, Prior, shown};
use crate::joint::draw;
use crate::learned::{Arm, Learned, Learner, Terms};
use crate::learners::{distribution, prior_arm};
use crate::program::MAX_KEY_BYTES;
use crate::stream::Stream;

/// The version of a saved learner.
pub const SAVED_SCHEMA: u32 = 1;
/// A saved learner ends with the BLAKE2b-256 digest of what stands before.
const DIGEST_BYTES: usize = 32;
type Blake2b256 = blake2::Blake2b<blake2::digest::consts::U32>;
/// What a saved learner says it is.
const FORMAT: &str = "capsa.learner";
/// The name of the one strategy.
const STRATEGY: &str = "";

/// What a learner is made with.
// Fields in the order of (length, bytes): the deterministic order of their encoded keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What the random numbers come from.
    pub seed: u64,
    /// What is believed of each option beforehand; empty, or one entry an option.
    pub priors: Vec<Option<Prior>>,
    /// 2 to [`MAX_OPTIONS`] unique names.
    pub options: Vec<String>,
    /// Most keys that are held, 1 to [`MAX_CONTEXTS`].
    pub max_keys: u32,
    /// How it learns.
    pub algorithm: Algorithm,
    /// With `simple_weighted`: most that one update may move a weight, above 0, at most 1.
    pub max_delta: f64,
    /// As how many rewards other keys count, at most.
    pub shrinkage: Option<f64>,
    /// What rewards may be, both ends included.
    pub reward_range: [f64; 2],
    /// Share of decisions drawn uniformly from the allowed options.
    pub min_exploration: f64,
    /// After this many later updates of its key a reward counts half.
    pub half_life_updates: Option<f64>,
}

/// A learner refuses what it was given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

/// A learner of one choice.
#[derive(Debug)]
pub struct Tabular {
    settings: Settings,
    terms: Terms,
    learned: Learned,
    /// How many decisions were drawn: the nonce of the next one.
    draws: u64,
    cache: Cache,
    all_allowed: Vec<bool>,
    // Between calls these hold nothing that matters; they save allocations.
    arms: Vec<Arm>,
    probabilities: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    draws: u64,
    format: String,
    schema: u32,
    learned: Bytes,
    settings: Settings,
}

impl Settings {
    fn check(&self) -> Result<(), Unfit> {
        let unfit = |words: String| Err(Unfit(words));
        let count = self.options.len();
        if !(2..=MAX_OPTIONS).contains(&count) {
            return unfit(format!("{count} options; use 2 to {MAX_OPTIONS}"));
        }
        let mut seen = BTreeSet::new();
        for option in &self.options {
            if option.is_empty() || option.len() > MAX_NAME_BYTES || option.chars().any(char::is_control) {
                let name = shown(option);
                return unfit(format!(
                    "{name:?} cannot be the name of an option; use 1 to {MAX_NAME_BYTES} bytes without control characters"
                ));
            }
            if !seen.insert(option) {
                return unfit(format!("option {option:?} stands twice"));
            }
        }
        let [low, high] = self.reward_range;
        if !(low.is_finite() && (high - low).is_finite() && low < high) {
            return unfit(format!("reward_range is [{low}, {high}]; use two finite numbers, the lower one first"));
        }
        if !(0.0..=1.0).contains(&self.min_exploration) {
            return unfit(format!("min_exploration is {}; use a share from 0 to 1", self.min_exploration));
        }
        if let Algorithm::EpsilonGreedy { epsilon } = self.algorithm
            && !(0.0..=1.0).contains(&epsilon)
        {
            return unfit(format!("epsilon is {epsilon}; use a share from 0 to 1"));
        }
        if !(self.max_delta > 0.0 && self.max_delta <= 1.0) {
            return unfit(format!("max_delta is {}; use a number above 0, up to 1", self.max_delta));
        }
        if !(1..=MAX_CONTEXTS).contains(&self.max_keys) {
            return unfit(format!("max_keys is {}; use 1 to {MAX_CONTEXTS}", self.max_keys));
        }
        if let Some(updates) = self.half_life_updates
            && !(updates > 0.0 && updates <= 1e12)
        {
            return unfit(format!("half_life_updates is {updates}; use a number above 0"));
        }
        if let Some(strength) = self.shrinkage {
            if !(strength > 0.0 && strength <= MAX_PRIOR_COUNT) {
                return unfit(format!(
                    "shrinkage is {strength} rewards; use more than 0 and at most {MAX_PRIOR_COUNT}"
                ));
            }
            if self.algorithm.is_weighted() {
                return unfit("shrinkage does not act with simple_weighted; leave it out".to_owned());
            }
        }
        if !self.priors.is_empty() && self.priors.len() != count {
            return unfit(format!("{} priors for {count} options", self.priors.len()));
        }
        for (prior, option) in self.priors.iter().zip(&self.options) {
            let Some(prior) = prior else { continue };
            if !(low..=high).contains(&prior.reward) {
                let reward = prior.reward;
                return unfit(format!(
                    "the prior of {option} has the mean {reward}; use one within reward_range [{low}, {high}]"
                ));
            }
            if !(prior.count > 0.0 && prior.count <= MAX_PRIOR_COUNT) {
                let count = prior.count;
                return unfit(format!(
                    "the prior of {option} counts as {count} rewards; use more than 0 and at most {MAX_PRIOR_COUNT}"
                ));
            }
        }
        Ok(())
    }
}

impl Tabular {
    /// A learner that has learned nothing.
    ///
    /// # Errors
    ///
    /// [`Unfit`] names the setting that does not hold.
    pub fn new(settings: Settings) -> Result<Self, Unfit> {
        Self::with(settings, Learned::default(), 0)
    }

    fn with(settings: Settings, mut learned: Learned, draws: u64) -> Result<Self, Unfit> {
        settings.check()?;
        let slots = learned.register(STRATEGY, &settings.options);
        let reward_range = settings.reward_range;
        let priors = (settings.priors.iter())
            .map(|prior| prior.map_or(Arm::default(), |prior| prior_arm(prior.reward, prior.count, reward_range)))
            .collect();
        let learner = Learner { algorithm: settings.algorithm, slots, priors, max_delta: settings.max_delta };
        let terms = Terms {
            learners: vec![learner],
            reward_range,
            decay: settings
                .half_life_updates
                .map(|updates| Decay { half_life_feedbacks: Some(updates), half_life_seconds: None }),
            shrinkage: settings.shrinkage,
        };
        learned.adopt(&terms);
        let options = settings.options.len();
        Ok(Self {
            settings,
            terms,
            learned,
            draws,
            cache: Cache::default(),
            all_allowed: vec![true; options],
            arms: Vec::with_capacity(options),
            probabilities: vec![0.0; options],
        })
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many options there are.
    pub fn len(&self) -> usize {
        self.settings.options.len()
    }

    /// Never: there are at least two options.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// How many keys are held.
    pub fn held(&self) -> usize {
        self.learned.len()
    }

    /// The keys that are held, sorted by their bytes.
    pub fn keys(&self) -> Vec<String> {
        self.learned.entries_after(None).map(|(key, _)| key.to_owned()).collect()
    }

    /// The digest of what was learned.
    pub fn state_hash(&self) -> String {
        self.learned.state_hash()
    }

    /// Draws an option and gives the probability that it was drawn with.
    ///
    /// # Errors
    ///
    /// [`Unfit`] if the key is too long, or `allowed` has the wrong length or allows nothing.
    pub fn decide(&mut self, key: &str, allowed: Option<&[bool]>) -> Result<(usize, f64), Unfit> {
        self.weigh(key, allowed)?;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.draws.to_le_bytes());
        self.draws += 1;
        let chosen = draw(&self.probabilities, Stream::new(self.settings.seed.to_le_bytes(), nonce).uniform(0));
        Ok((chosen, self.probabilities[chosen]))
    }

    /// The distribution that [`Tabular::decide`] draws from, one entry an option.
    ///
    /// # Errors
    ///
    /// As [`Tabular::decide`].
    pub fn probabilities(&mut self, key: &str, allowed: Option<&[bool]>) -> Result<&[f64], Unfit> {
        self.weigh(key, allowed)?;
        Ok(&self.probabilities)
    }

    /// Checks a key and what is allowed, as [`Tabular::decide`] does.
    ///
    /// # Errors
    ///
    /// As [`Tabular::decide`].
    pub fn check(&self, key: &str, allowed: Option<&[bool]>) -> Result<(), Unfit> {
        check_key(key)?;
        let Some(allowed) = allowed else { return Ok(()) };
        if allowed.len() != self.len() {
            return Err(Unfit(format!("allowed has {} entries for {} options", allowed.len(), self.len())));
        }
        if allowed.contains(&true) { Ok(()) } else { Err(Unfit("allowed allows no option".to_owned())) }
    }

    fn weigh(&mut self, key: &str, allowed: Option<&[bool]>) -> Result<(), Unfit> {
        self.check(key, allowed)?;
        let Self { settings, terms, learned, cache, arms, probabilities, all_allowed, .. } = self;
        let allowed = allowed.unwrap_or(all_allowed);
        let learner = &terms.learners[0];
        let mut compute = |out: &mut [f64]| {
            learned.evidence(key, learner, 0, terms, arms);
            distribution(learner.algorithm, arms, terms.reward_range, allowed, out);
        };
        if learner.algorithm == Algorithm::Thompson {
            cache.distribution(key, learned, allowed, probabilities, compute);
        } else {
            compute(probabilities);
        }
        let explore = settings.min_exploration;
        if explore > 0.0 {
            let uniform = explore / allowed.iter().filter(|allowed| **allowed).count() as f64;
            for (probability, &allowed) in probabilities.iter_mut().zip(allowed) {
                *probability = if allowed { (1.0 - explore) * *probability + uniform } else { 0.0 };
            }
        }
        Ok(())
    }

    /// Checks what [`Tabular::update`] is given.
    ///
    /// # Errors
    ///
    /// [`Unfit`] if there is no such option, the reward is outside `reward_range`, or the key is
    /// too long.
    pub fn check_update(&self, key: &str, option: usize, reward: f64) -> Result<(), Unfit> {
        check_key(key)?;
        if option >= self.len() {
            return Err(Unfit(format!("option {option} does not exist; use 0 to {}", self.len() - 1)));
        }
        let [low, high] = self.settings.reward_range;
        if !(low..=high).contains(&reward) {
            return Err(Unfit(format!("reward {reward:?} is outside reward_range [{low}, {high}]")));
        }
        Ok(())
    }

    /// Learns one reward of one option.
    ///
    /// # Errors
    ///
    /// As [`Tabular::check_update`]; nothing has changed.
    pub fn update(&mut self, key: &str, option: usize, reward: f64) -> Result<(), Unfit> {
        self.check_update(key, option, reward)?;
        let place = self.terms.learners[0].slots.place(option);
        self.learned.learn_at(key, &[place], reward, 0, &self.terms);
        let Self { learned, cache, terms, settings, .. } = self;
        learned.limit(settings.max_keys as usize, terms, |gone| cache.forget(gone));
        Ok(())
    }

    /// Everything, as bytes: the same learner gives the same bytes on every machine.
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = cbor::encode(&Saved {
            draws: self.draws,
            format: FORMAT.to_owned(),
            schema: SAVED_SCHEMA,
            learned: Bytes(self.learned.encode()),
            settings: self.settings.clone(),
        });
        let digest = Blake2b256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// The learner that [`Tabular::save`] has written.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are something else, damaged, or of another version.
    pub fn load(bytes: &[u8]) -> Result<Self, DecodeError> {
        const WHAT: &str = "saved learner";
        let body = (bytes.split_last_chunk::<DIGEST_BYTES>())
            .filter(|(body, digest)| Blake2b256::digest(body)[..] == digest[..])
            .ok_or_else(|| DecodeError { what: WHAT, why: "they do not end with their digest".to_owned() })?
            .0;
        let saved: Saved = cbor::decode(WHAT, body)?;
        if (saved.format.as_str(), saved.schema) != (FORMAT, SAVED_SCHEMA) {
            let why = format!("it is a {:?} of schema {}", shown(&saved.format), saved.schema);
            return Err(DecodeError { what: WHAT, why });
        }
        let learned = Learned::decode(&saved.learned.0)?;
        Self::with(saved.settings, learned, saved.draws).map_err(|Unfit(why)| DecodeError { what: WHAT, why })
    }
}

fn check_key(key: &str) -> Result<(), Unfit> {
    if key.len() <= MAX_KEY_BYTES {
        return Ok(());
    }
    Err(Unfit(format!("the key {:?} has {} bytes; use at most {MAX_KEY_BYTES}", shown(key), key.len())))
}
