//! Learners: from what an option has earned to the probability of choosing it.
//!
//! Pure functions over one strategy in one key. Exploration and joint choices are mixed in by
//! [`crate::decide`]; nothing here is stored but inner weights.
//!
//! Invariants:
//! * probabilities of options that are not allowed are exactly 0, the others sum to 1;
//! * equal evidence gives equal probabilities.

use crate::argmax::masked_argmax;
use crate::definition::Algorithm;
use crate::learned::{Arm, normalise};
use crate::posterior::{Posterior, win_probabilities};

/// How far a reward of 1 moves a weight under `simple_weighted`.
pub const LEARNING_RATE: f64 = 0.05;

/// Prior of the normal with unknown variance (normal-inverse-gamma), on rewards scaled to 0..1:
/// the mean 1/2 counts as one observation, the variance is that of the uniform distribution.
const PRIOR_MEAN: f64 = 0.5;
const PRIOR_COUNT: f64 = 1.0;
const PRIOR_SHAPE: f64 = 2.0;
const PRIOR_RATE: f64 = 1.0 / 12.0;

/// The estimated mean of an option that has earned nothing, scaled to 0..1.
const UNTRIED_MEAN: f64 = 0.5;

/// The distribution of one strategy over its allowed options, without min exploration.
///
/// `arms` hold what the options have earned in the key, with what is believed of them beforehand;
/// `out` gets one entry an option. At least one option must be allowed.
pub fn distribution(algorithm: Algorithm, arms: &[Arm], reward_range: [f64; 2], allowed: &[bool], out: &mut [f64]) {
    match algorithm {
        Algorithm::Thompson => {
            let among: Vec<usize> = (0..arms.len()).filter(|&at| allowed[at]).collect();
            let posteriors: Vec<_> = among.iter().map(|&at| posterior(arms[at], reward_range)).collect();
            let mut wins = vec![0.0; among.len()];
            win_probabilities(&posteriors, &mut wins);
            out.fill(0.0);
            for (&at, win) in among.iter().zip(wins) {
                out[at] = win;
            }
        }
        Algorithm::SimpleWeighted => restrict(arms, allowed, out),
        Algorithm::EpsilonGreedy { epsilon } => {
            for (out, &arm) in out.iter_mut().zip(arms) {
                *out = mean(arm);
            }
            let best = masked_argmax(out, allowed).expect("some option is allowed and means are numbers");
            let uniform = epsilon / allowed.iter().filter(|allowed| **allowed).count() as f64;
            for (out, &allowed) in out.iter_mut().zip(allowed) {
                *out = if allowed { uniform } else { 0.0 };
            }
            out[best] += 1.0 - epsilon;
        }
        Algorithm::Ucb1 => {
            let untried = arms.iter().zip(allowed).filter(|(arm, allowed)| **allowed && arm.n <= 0.0).count();
            if untried > 0 {
                // Feedback is delayed: one option alone would be chosen until its first feedback.
                let share = 1.0 / untried as f64;
                for ((out, &allowed), arm) in out.iter_mut().zip(allowed).zip(arms) {
                    *out = if allowed && arm.n <= 0.0 { share } else { 0.0 };
                }
                return;
            }
            let total: f64 = arms.iter().map(|arm| arm.n).sum();
            let log_total = libm::log(total.max(1.0));
            for (out, &arm) in out.iter_mut().zip(arms) {
                *out = if arm.n > 0.0 { mean(arm) + (2.0 * log_total / arm.n).sqrt() } else { 0.0 };
            }
            let best = masked_argmax(out, allowed).expect("some option is allowed and bounds are numbers");
            out.fill(0.0);
            out[best] = 1.0;
        }
    }
}

/// The estimated worth of each option: what a frozen learner goes by.
pub fn estimates(algorithm: Algorithm, arms: &[Arm], reward_range: [f64; 2], out: &mut Vec<f64>) {
    match algorithm {
        Algorithm::Thompson => out.extend(arms.iter().map(|&arm| posterior(arm, reward_range).mean())),
        Algorithm::SimpleWeighted => out.extend(arms.iter().map(|arm| arm.weight.expect(STARTED))),
        Algorithm::EpsilonGreedy { .. } | Algorithm::Ucb1 => out.extend(arms.iter().map(|&arm| mean(arm))),
    }
}

/// Why an arm has a weight.
const STARTED: &str = "arms of simple_weighted are read with their weights";

/// The mean of what an option has earned, scaled to 0..1; the middle where it has earned nothing.
fn mean(arm: Arm) -> f64 {
    if arm.n > 0.0 { arm.sum / arm.n } else { UNTRIED_MEAN }
}

/// What a declared prior counts as: `count` rewards with the mean `reward`, scattered like the
/// uniform distribution, or as far as that mean permits.
pub fn prior_arm(reward: f64, count: f64, [low, high]: [f64; 2]) -> Arm {
    let mean = ((reward - low) / (high - low)).clamp(0.0, 1.0);
    let variance = PRIOR_RATE.min(mean * (1.0 - mean));
    Arm { n: count, sum: count * mean, sum_sq: count * (mean * mean + variance), ..Arm::default() }
}

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

/// The inner weights that what was earned leads to: uniform, and each option's rewards moved at
/// their mean as [`move_weights`] would move them, floor 0 once at the end. They sum to 1.
pub fn weights_of_rewards(arms: &[Arm], [low, high]: [f64; 2], max_delta: f64, out: &mut Vec<f64>) {
    let count = arms.len() as f64;
    out.clear();
    out.extend(arms.iter().map(|arm| {
        let raw = low + (high - low) * mean(*arm);
        arm.n * (LEARNING_RATE * raw).clamp(-max_delta, max_delta)
    }));
    let total: f64 = out.iter().sum();
    for moved in out.iter_mut() {
        *moved = (1.0 / count + *moved - (total - *moved) / (count - 1.0)).max(0.0);
    }
    normalise(out);
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

/// Inner weights restricted to the allowed options and scaled to the sum 1; uniform over the
/// allowed where none of them has weight.
fn restrict(arms: &[Arm], allowed: &[bool], out: &mut [f64]) {
    let mut total = 0.0;
    let mut count = 0usize;
    for ((out, arm), &allowed) in out.iter_mut().zip(arms).zip(allowed) {
        *out = if allowed { arm.weight.expect(STARTED) } else { 0.0 };
        total += *out;
        count += usize::from(allowed);
    }
    for (out, _) in out.iter_mut().zip(allowed).filter(|(_, allowed)| **allowed) {
        *out = if total > 0.0 { *out / total } else { 1.0 / count as f64 };
    }
}
