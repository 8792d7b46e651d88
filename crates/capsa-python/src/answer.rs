//! What `decide` answers, as JSON: the one place where its fields are spelled.

use std::collections::BTreeMap;

use capsa_core::events::KeyFrom;
use serde::Serialize;

use crate::decision::{Decision, StrategyDecision};

/// Above so many options, what has an entry for each is left out unless it is asked for.
const LISTED_OPTIONS: usize = 64;

/// A decision as JSON.
///
/// `weights` are the context's weights before any mask, by strategy; none of a strategy that the installed version no
/// longer has.
pub fn encode(decision: &Decision, weights: &BTreeMap<String, Vec<f64>>, full: bool) -> Vec<u8> {
    let record = &decision.record;
    let parts = decision.decisions();
    let suggestion = decision.suggested();
    let suggested = suggestion.as_ref().map(|suggested| {
        let decisions: Vec<Part<'_>> = suggested.decisions.iter().map(|part| Part::new(part, None, full)).collect();
        Suggested {
            only: Only::of(&suggested.decisions)
                .map(|only| Chosen { option: only.option, option_name: only.option_name }),
            propensity: suggested.propensity,
            reason: camel(suggested.reason),
            decisions,
        }
    });
    let answer = Answer {
        decision_id: decision.id(),
        capsule: &record.capsule,
        capsule_version: record.capsule_version,
        job: decision.job(),
        tenant: decision.tenant(),
        mode: decision.mode(),
        context_key: &record.key,
        context_key_from: if record.key_from == KeyFrom::Input { "input" } else { "request" },
        only: Only::of(&parts),
        propensity: record.propensity,
        reason: camel(decision.reason()),
        suggested,
        decisions: parts.iter().map(|part| Part::new(part, weights.get(&part.strategy), full)).collect(),
        learner_version: record.learner_version,
        warnings: decision.warnings(),
    };
    serde_json::to_vec(&answer).expect("an answer is JSON")
}

fn camel(reason: &'static str) -> &'static str {
    // The only one of two words.
    if reason == "only_option" { "onlyOption" } else { reason }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    decision_id: Option<&'a str>,
    capsule: &'a str,
    capsule_version: u32,
    job: &'a str,
    tenant: &'a str,
    mode: &'a str,
    context_key: &'a str,
    context_key_from: &'a str,
    #[serde(flatten)]
    only: Option<Only<'a>>,
    propensity: Option<f64>,
    reason: &'a str,
    suggested: Option<Suggested<'a>>,
    decisions: Vec<Part<'a>>,
    learner_version: u64,
    warnings: &'a [String],
}

/// What a capsule of one strategy says without a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Only<'a> {
    strategy_id: usize,
    strategy: &'a str,
    option: usize,
    option_name: &'a str,
}

impl<'a> Only<'a> {
    fn of(parts: &'a [StrategyDecision]) -> Option<Self> {
        let [only] = parts else { return None };
        let StrategyDecision { strategy_id, strategy, option, option_name, .. } = only;
        Some(Self { strategy_id: *strategy_id, strategy, option: *option, option_name })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Chosen<'a> {
    option: usize,
    option_name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Suggested<'a> {
    #[serde(flatten)]
    only: Option<Chosen<'a>>,
    propensity: f64,
    reason: &'a str,
    decisions: Vec<Part<'a>>,
}

/// One strategy; `node_id`, `chosen_option` and `weights` are what clients of the nearest system read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    strategy_id: usize,
    strategy: &'a str,
    option: usize,
    option_name: &'a str,
    propensity: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Left::is_out")]
    probabilities: Left<&'a [f64]>,
    #[serde(rename = "node_id")]
    node_id: usize,
    #[serde(rename = "chosen_option")]
    chosen_option: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<&'a [f64]>,
}

/// A value that may be null, or left out.
enum Left<T> {
    Out,
    In(Option<T>),
}

impl<T> Left<T> {
    fn is_out(&self) -> bool {
        matches!(self, Self::Out)
    }
}

impl<T: Serialize> Serialize for Left<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Out => serializer.serialize_none(),
            Self::In(value) => value.serialize(serializer),
        }
    }
}

impl<'a> Part<'a> {
    fn new(part: &'a StrategyDecision, weights: Option<&'a Vec<f64>>, full: bool) -> Self {
        let listed = full || part.names.len() <= LISTED_OPTIONS;
        Self {
            strategy_id: part.strategy_id,
            strategy: &part.strategy,
            option: part.option,
            option_name: &part.option_name,
            propensity: part.propensity,
            names: listed.then_some(part.names.as_slice()),
            probabilities: if listed { Left::In(part.probabilities.as_deref()) } else { Left::Out },
            node_id: part.strategy_id,
            chosen_option: part.option,
            weights: weights.filter(|_| listed).map(Vec::as_slice),
        }
    }
}
