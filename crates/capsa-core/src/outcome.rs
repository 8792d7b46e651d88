//! Outcomes: named metrics, checked against their declared scales.
//!
//! Invariant: what is accepted here, a compiled spec's `reward` accepts, and its sum is the
//! sum of the parts in ascending name order.

use std::collections::BTreeMap;

use crate::definition::{Metric, escape, nearest_hint};
use crate::rejected::{Refusal, Rejected};

/// The scaled value of one metric, 0 to 1.
///
/// # Errors
///
/// [`Refusal::MetricOutOfRange`] if the value does not fit the declared scale, with the scale's
/// key as the remedy.
pub fn scaled(name: &str, metric: &Metric, value: f64) -> Result<f64, Rejected> {
    let refuse = |detail: String, remedy: String| {
        Err(Rejected::new(Refusal::MetricOutOfRange, format!("/outcome/{}", escape(name)), value, detail, remedy))
    };
    if !value.is_finite() {
        return Err(Rejected::new(
            Refusal::InvalidField,
            format!("/outcome/{}", escape(name)),
            value,
            format!("{name} is not a finite number"),
            "send a finite number, or leave the metric out",
        ));
    }
    match (metric.budget, metric.range) {
        (Some(_), _) if value < 0.0 => {
            refuse(format!("{name} is {value}, below 0"), "send 0 or more: it is measured against budget:".into())
        }
        (Some(budget), _) => Ok((value / budget).min(1.0)),
        (None, Some([low, high])) if !(low..=high).contains(&value) => refuse(
            format!("{name} is {value}, outside {low} to {high}"),
            "send a value within range:, or widen range: in the definition".into(),
        ),
        (None, Some([low, high])) => Ok((value - low) / (high - low)),
        (None, None) if !(0.0..=1.0).contains(&value) => refuse(
            format!("{name} is {value}, outside 0 to 1"),
            "scale it before sending, or declare budget: or range: for it".into(),
        ),
        (None, None) => Ok(value),
    }
}

/// Each metric's share of the reward, weight x scaled, in ascending name order.
///
/// # Errors
///
/// [`Refusal::UnknownMetric`] for a name that is not declared; else as [`scaled`].
pub fn parts(
    declared: &BTreeMap<String, Metric>,
    outcome: &BTreeMap<String, f64>,
) -> Result<BTreeMap<String, f64>, Rejected> {
    outcome
        .iter()
        .map(|(name, &value)| {
            let Some(metric) = declared.get(name) else {
                let hint = nearest_hint(name, declared.keys().map(String::as_str));
                let known: Vec<&str> = declared.keys().map(String::as_str).collect();
                return Err(Rejected::new(
                    Refusal::UnknownMetric,
                    format!("/outcome/{}", escape(name)),
                    name,
                    format!("{name:?} is not a metric of this capsule{hint}"),
                    format!("send only {}", known.join(", ")),
                ));
            };
            Ok((name.clone(), metric.weight * scaled(name, metric, value)?))
        })
        .collect()
}

/// Checks a reward against `reward_range`.
///
/// # Errors
///
/// [`Refusal::RewardOutOfRange`], or [`Refusal::InvalidField`] if it is not finite.
pub fn check_reward(range: [f64; 2], reward: f64) -> Result<(), Rejected> {
    let [low, high] = range;
    if !reward.is_finite() {
        return Err(Rejected::new(
            Refusal::InvalidField,
            "/reward",
            reward,
            "the reward is not a finite number",
            "send a finite number",
        ));
    }
    if !(low..=high).contains(&reward) {
        return Err(Rejected::new(
            Refusal::RewardOutOfRange,
            "/reward",
            reward,
            format!("the reward is {reward}, outside {low} to {high}"),
            "scale it before sending, or widen reward_range: in the definition",
        ));
    }
    Ok(())
}
