//! What options have earned: in one key, in all keys together, and in those that were evicted.

use serde::{Deserialize, Serialize};

use crate::definition::Decay;

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
    pub(super) fn faded(self, keep: f64) -> Self {
        let weight = match (self.weight, self.start) {
            (Some(weight), Some(start)) => Some(start + (weight - start) * keep),
            (weight, _) => weight,
        };
        Self { n: self.n * keep, sum: self.sum * keep, sum_sq: self.sum_sq * keep, weight, ..self }
    }

    /// Whether this is what rewards can lead to.
    pub(super) fn holds(&self) -> bool {
        [self.n, self.sum, self.sum_sq, self.start.unwrap_or(0.0), self.weight.unwrap_or(0.0)].iter().all(is_amount)
    }

    pub(super) fn add(&mut self, n: f64, sum: f64, sum_sq: f64) {
        self.n += n;
        self.sum += sum;
        self.sum_sq += sum_sq;
    }
}

/// What one option has earned in all keys together, those that were evicted included.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sums {
    pub(super) n: f64,
    pub(super) sum: f64,
    pub(super) sum_sq: f64,
}

impl Sums {
    /// As [`Arm::holds`].
    pub(super) fn holds(&self) -> bool {
        [self.n, self.sum, self.sum_sq].iter().all(is_amount)
    }

    /// Adds `times` what an arm holds; never below nothing, which rounding could lead to.
    pub(super) fn add(&mut self, arm: Arm, times: f64) {
        self.n = (self.n + arm.n * times).max(0.0);
        self.sum = (self.sum + arm.sum * times).max(0.0);
        self.sum_sq = (self.sum_sq + arm.sum_sq * times).max(0.0);
    }

    pub(super) fn faded(self, keep: f64) -> Self {
        Self { n: self.n * keep, sum: self.sum * keep, sum_sq: self.sum_sq * keep }
    }
}

/// What all keys have earned together, as long as shrinkage is on.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Pool {
    pub(super) tau_ms: u64,
    pub(super) arms: Vec<Vec<Sums>>,
}

impl Pool {
    pub(super) fn at(&mut self, registered: usize, slot: usize) -> &mut Sums {
        grow(&mut self.arms, registered + 1);
        grow(&mut self.arms[registered], slot + 1);
        &mut self.arms[registered][slot]
    }

    pub(super) fn advance(&mut self, tau_ms: u64, decay: Option<Decay>) {
        let keep = keep_over(decay, tau_ms.saturating_sub(self.tau_ms));
        if keep < 1.0 {
            self.arms.iter_mut().flatten().for_each(|sums| *sums = sums.faded(keep));
        }
        self.tau_ms = self.tau_ms.max(tau_ms);
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

impl PriorArm {
    /// As [`Arm::holds`].
    pub(super) fn holds(&self) -> bool {
        [self.n, self.sum, self.sum_sq, self.weight_sum, self.weight_count].iter().all(is_amount)
    }

    pub(super) fn faded(self, keep: f64) -> Self {
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
pub(super) fn keep_over(decay: Option<Decay>, span_ms: u64) -> f64 {
    match decay.and_then(|decay| decay.half_life_seconds) {
        Some(half_life) if span_ms > 0 => libm::exp2(-(span_ms as f64) / (half_life * 1000.0)),
        _ => 1.0,
    }
}

pub(super) fn grow<T: Clone + Default>(items: &mut Vec<T>, least: usize) {
    if items.len() < least {
        items.resize(least, T::default());
    }
}

/// Whether a number can be a count of rewards or their sum: an f64 cannot count beyond 2^53.
fn is_amount(number: &f64) -> bool {
    (0.0..=9_007_199_254_740_992.0).contains(number)
}
