//! Learners: from what an option has earned to the probability of choosing it.
//!
//! Pure functions over one strategy in one key. Exploration and joint choices are mixed in by
//! [`crate::decide`]; nothing here is stored but inner weights.
//!
//! Invariants:
//! * probabilities of options that are not allowed are exactly 0, the others sum to 1;
//! * equal evidence gives equal probabilities.

use crate::learned::{Arm, normalise};
use crate::posterior::Posterior;

/// How far a reward of 1 moves a weight under `simple_weighted`.
pub const LEARNING_RATE: f64 = 0.05;

/// Prior of the normal with unknown variance (normal-inverse-gamma), on rewards scaled to 0..1:
/// the mean 1/2 counts as one observation, the variance is that of the uniform distribution.
const PRIOR_MEAN: f64 = 0.5;
const PRIOR_COUNT: f64 = 1.0;
const PRIOR_SHAPE: f64 = 2.0;
const PRIOR_RATE: f64 = 1.0 / 12.0;

/// The posterior over an option's mean reward, scaled to 0..1.
///
/// With `reward_range` [0, 1] it is Beta(1 + Σr, 1 + n - Σr), fractions allowed; else the Student-t
/// marginal of the normal-inverse-gamma posterior (Murphy 2007, "Conjugate Bayesian analysis of
/// the Gaussian distribution", section 3).
pub fn posterior(arm: Arm, reward_range: [f64; 2]) -> Posterior {
    let Arm { n, sum, sum_sq, .. } = arm;
    if reward_range == [0.0, 1.0] {
        // Rounding may leave a sum a hair outside 0..n.
        let earned = sum.clamp(0.0, n);
        return Posterior::Beta { alpha: 1.0 + earned, beta: 1.0 + (n - earned) };
    }
    let count = PRIOR_COUNT + n;
    let mean = (PRIOR_COUNT * PRIOR_MEAN + sum) / count;
    let shape = PRIOR_SHAPE + n / 2.0;
    let (within, between) = if n > 0.0 {
        let average = sum / n;
        let apart = average - PRIOR_MEAN;
        ((sum_sq - sum * average).max(0.0), PRIOR_COUNT * n * apart * apart / count)
    } else {
        (0.0, 0.0)
    };
    let rate = PRIOR_RATE + (within + between) / 2.0;
    Posterior::StudentT { df: 2.0 * shape, location: mean, scale: (rate / (shape * count)).sqrt() }
}

/// The inner weights of `simple_weighted` over the installed options; they sum to 1.
pub fn inner_weights(arms: &[Arm], start: &[f64]) -> Vec<f64> {
    let mut weights: Vec<f64> = arms.iter().zip(start).map(|(arm, &start)| arm.weight.unwrap_or(start)).collect();
    normalise(&mut weights);
    weights
}

/// Moves the chosen option's weight by d = clip([`LEARNING_RATE`] x reward, ± `max_delta`) and
/// every other by -d/(n-1); floor 0; scaled to the sum 1.
pub fn move_weights(weights: &mut [f64], chosen: usize, reward: f64, max_delta: f64) {
    let step = (LEARNING_RATE * reward).clamp(-max_delta, max_delta);
    let others = step / (weights.len() - 1) as f64;
    for (at, weight) in weights.iter_mut().enumerate() {
        *weight = (*weight + if at == chosen { step } else { -others }).max(0.0);
    }
    normalise(weights);
}

/// Restricts weights to the allowed options and scales them to the sum 1; uniform over the
/// allowed where none of them has weight.
pub fn restrict(weights: &[f64], allowed: &[bool], out: &mut [f64]) {
    let mut total = 0.0;
    let mut count = 0usize;
    for ((out, &weight), &allowed) in out.iter_mut().zip(weights).zip(allowed) {
        *out = if allowed { weight } else { 0.0 };
        total += *out;
        count += usize::from(allowed);
    }
    for (out, &allowed) in out.iter_mut().zip(allowed).filter(|(_, allowed)| **allowed) {
        debug_assert!(allowed);
        *out = if total > 0.0 { *out / total } else { 1.0 / count as f64 };
    }
}
