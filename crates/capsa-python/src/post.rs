//! The first post of a decision's feedback, as most are: everything at once, within the horizon.

use std::collections::BTreeMap;
use std::sync::Arc;

use capsa_core::cbor::{ByName, Bytes16};
use capsa_core::definition::Definition;
use capsa_core::events::{OutcomeReceived, SCHEMA, Status, Written};
use capsa_core::outcome;
use capsa_core::program::Program;
use capsa_core::sealed::Sealed;
use capsa_core::world::{Fields, Value};
use jiter::JsonValue;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde::Serialize;

use crate::capsule::Capsule;
use crate::errors::Raised;
use crate::{body, events, keyring};

/// Most metrics of such a post.
const MAX_METRICS: usize = 64;

/// A post that was read and valued, and not yet recorded.
#[pyclass(module = "capsa._native", frozen)]
pub struct Post {
    id: String,
    outcome: OutcomeReceived,
    decided_at: u64,
    decided_ms: u64,
    version: Arc<Definition>,
    parts: BTreeMap<String, f64>,
    #[pyo3(get)]
    log: Vec<(String, String)>,
}

#[pymethods]
impl Post {
    #[getter]
    fn nonce<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.outcome.id.map(|id| PyBytes::new(py, &id.0))
    }

    #[getter]
    fn decided_at(&self) -> u64 {
        self.decided_at
    }

    #[getter]
    fn decided_ms(&self) -> u64 {
        self.decided_ms
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.outcome.encode(&self.version))
    }

    /// The event's fields by name.
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        events::outcome_fields(py, &self.outcome)
    }
}

/// What the body of such a post says.
enum Said {
    Outcome(BTreeMap<String, f64>),
    Reward(f64),
}

impl Post {
    /// Reads a body, opens its id and values it. None where it is not as most are: then it is read the long way, which
    /// says what is wrong with it.
    pub fn read(capsule: &Capsule, py: Python<'_>, body: &[u8], now_ms: u64) -> Option<Self> {
        let (id, said) = said(body)?;
        let opened = capsule.origin.keys.get().with(|keys| keys.open(&capsule.origin.place, &id))?;
        let Sealed { nonce, sequence, horizon_ms, carried } = opened;
        let decided_ms = Bytes16(nonce).time_ms();
        let deadline_ms = decided_ms.saturating_add_signed(horizon_ms);
        if now_ms > deadline_ms {
            return None;
        }
        let (decision, version) = keyring::told(&capsule.lock().state, nonce, deadline_ms, carried?)?;
        let (program, component) = capsule.ready();
        let (metrics, reward, parts, log) = match said {
            Said::Reward(reward) => {
                outcome::check_reward(program.reward_range(), reward).ok()?;
                (BTreeMap::new(), reward, BTreeMap::new(), Vec::new())
            }
            Said::Outcome(metrics) => {
                let parts = parts(&program, &metrics)?;
                let made = decision.made(None);
                let fields: Fields =
                    metrics.iter().map(|(name, value)| (name.clone(), Value::Number(*value))).collect();
                let (reward, log) = capsule.valued(py, &program, &component, &fields, &made).ok()?;
                (metrics, reward, parts, log)
            }
        };
        let outcome = OutcomeReceived {
            id: Some(Bytes16(nonce)),
            key: decision.key,
            made: decision.options,
            taken: None,
            reward: Some(reward),
            status: if program.frozen() { Status::Frozen } else { Status::Applied },
            capsule: program.definition.name.clone(),
            metrics: ByName(metrics),
            delay_ms: None,
            capsule_version: decision.capsule_version,
            deadline_ms: Some(deadline_ms),
            decided_at: Some(sequence),
            answered: None,
            again: false,
        };
        Some(Self { id, outcome, decided_at: sequence, decided_ms, version, parts, log })
    }

    /// Folds the post at its place, and answers it as JSON.
    pub fn learn(&self, capsule: &Capsule, payload: &[u8], sequence: u64, now_ms: u64) -> Result<Vec<u8>, Raised> {
        let key = &self.outcome.key;
        let mut inner = capsule.lock();
        let before = inner.state.weights(key, now_ms);
        // As the journal will give it again.
        let written = Written { kind: "outcome_received", schema: SCHEMA, at_ms: now_ms, payload };
        let decoded = inner.state.decode(&written)?;
        inner.state.apply(now_ms, &decoded)?;
        let learned = self.outcome.status == Status::Applied;
        let after = if learned { inner.state.weights(key, now_ms) } else { before.clone() };
        let learner_version = inner.state.learned().version();
        let program = Arc::clone(inner.state.program());
        drop(inner);
        let mut credited: Vec<Credited<'_>> = (program.definition.strategies.iter().zip(&program.heads).enumerate())
            .filter_map(|(strategy_id, (strategy, head))| {
                let option_name = self.outcome.made.0.get(&strategy.name)?;
                let of_head = head.offset..head.offset + head.size;
                Some(Credited {
                    strategy_id,
                    strategy: &strategy.name,
                    option: strategy.options.iter().position(|option| option == option_name),
                    option_name,
                    before: &before[of_head.clone()],
                    after: &after[of_head],
                })
            })
            .collect();
        let only = if credited.len() == 1 { credited.pop() } else { None };
        let answer = Answer {
            decision_id: &self.id,
            status: if learned { "applied" } else { "frozen" },
            reward: self.outcome.reward,
            parts: &self.parts,
            missing: [],
            context_key: key,
            decisions: if only.is_none() { Some(&credited) } else { None },
            only,
            learner_version,
            sequence,
        };
        Ok(serde_json::to_vec(&answer).expect("an answer is JSON"))
    }
}

/// Each metric's share of the reward; none where a metric is missing or out of its range.
fn parts(program: &Program, metrics: &BTreeMap<String, f64>) -> Option<BTreeMap<String, f64>> {
    let Some(declared) = &program.definition.reward else { return Some(BTreeMap::new()) };
    if declared.len() != metrics.len() {
        return None;
    }
    // Every one of them is declared, or this fails.
    outcome::parts(declared, metrics).ok()
}

fn said(body: &[u8]) -> Option<(String, Said)> {
    let entries = body::plain_object(body)?;
    let (mut id, mut said) = (None, None);
    for (key, value) in entries.iter() {
        match (key.as_ref(), value) {
            ("decisionId", JsonValue::Str(text)) if text.is_ascii() => id = Some(text.to_string()),
            ("reward", value) if said.is_none() => said = Some(Said::Reward(number(value)?)),
            ("outcome", JsonValue::Object(metrics)) if said.is_none() && (1..=MAX_METRICS).contains(&metrics.len()) => {
                let read: BTreeMap<String, f64> = (metrics.iter())
                    .map(|(name, value)| {
                        let flag =
                            if let JsonValue::Bool(flag) = value { Some(f64::from(u8::from(*flag))) } else { None };
                        Some((name.to_string(), flag.or_else(|| number(value))?))
                    })
                    .collect::<Option<_>>()?;
                // A name that stands twice is refused, the long way.
                said = (read.len() == metrics.len()).then_some(Said::Outcome(read));
                said.as_ref()?;
            }
            _ => return None,
        }
    }
    Some((id?, said?))
}

fn number(value: &JsonValue<'_>) -> Option<f64> {
    match value {
        JsonValue::Int(number) => crate::convert::exact(*number),
        JsonValue::Float(number) => Some(*number).filter(|number| number.is_finite()),
        _ => None,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    decision_id: &'a str,
    status: &'a str,
    reward: Option<f64>,
    parts: &'a BTreeMap<String, f64>,
    missing: [&'a str; 0],
    context_key: &'a str,
    #[serde(flatten)]
    only: Option<Credited<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decisions: Option<&'a [Credited<'a>]>,
    learner_version: u64,
    sequence: u64,
}

/// What it did to one strategy of the installed version.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Credited<'a> {
    strategy_id: usize,
    strategy: &'a str,
    option: Option<usize>,
    option_name: &'a str,
    before: &'a [f64],
    after: &'a [f64],
}
