//! One capsule: its component and its folded state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use capsa_core::capsule::Capsule as State;
use capsa_core::cbor::{self, ByName, DecodeError};
use capsa_core::decide::{Ask, decide};
use capsa_core::definition::{Definition, Mode};
use capsa_core::events::{Decided, Event, KeyFrom};
use capsa_core::input::{check_contexts, flatten};
use capsa_core::learned::Entry;
use capsa_core::program::{MAX_KEY_BYTES, Overrides, Program};
use capsa_core::record::{Circumstances, record, stream_key};
use capsa_core::rejected::{Refusal, Rejected};
use capsa_core::world::{self, Fields, Value};
use capsa_core::{outcome, rejected};
use capsa_vm::{Level, Log};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::convert;
use crate::decision::{Decision, Origin};
use crate::errors::Raised;
use crate::host::Component;

/// One capsule's component and state.
#[pyclass(module = "capsa._native", frozen)]
pub struct Capsule {
    origin: Arc<Origin>,
    stream_key: [u8; 8],
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub(crate) state: State,
    component: Arc<capsa_vm::Component>,
}

impl Capsule {
    /// Held only between calls into Python or the guest, never across one.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held would be a bug of ours; the state is a fold, not half an update.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn stream_key(&self) -> [u8; 8] {
        self.stream_key
    }

    fn ready(&self) -> (Arc<Program>, Arc<capsa_vm::Component>) {
        let inner = self.lock();
        (Arc::clone(inner.state.program()), Arc::clone(&inner.component))
    }

    /// Frames the input and decides; again where the capsule was changed in between.
    fn decide_once(
        &self,
        nonce: [u8; 16],
        now_ms: u64,
        input: Vec<(String, capsa_core::input::Json)>,
        context_key: Option<&str>,
        asked: &Asked,
    ) -> Result<Made, Raised> {
        let fields = flatten(input)?;
        loop {
            let (program, component) = self.ready();
            let of_request = program.definition.allowed(&asked.options)?;
            let current = match &asked.current {
                Some(current) => Some(program.definition.pick("/current", current)?),
                None => None,
            };
            let (notes, unfit) = check_contexts(&program.definition.contexts, &fields, context_key.is_some())?;
            let framed = if unfit.is_empty() {
                component.frame(&fields)
            } else {
                let fit = fields.iter().enumerate().filter(|(at, _)| !unfit.contains(at));
                component.frame(&fit.map(|(_, field)| field.clone()).collect::<Fields>())
            }
            .map_err(|failed| failed.error)?;
            let (computed, of_guest) = program.framed(framed.choices).map_err(Raised::BadAnswer)?;
            let (key, key_from) = match context_key {
                Some(key) => (key.to_owned(), KeyFrom::Request),
                None => (computed, KeyFrom::Input),
            };
            let allowed = of_request.iter().zip(&of_guest).map(|(request, guest)| *request && *guest).collect();
            let ask = Ask { nonce, stream_key: self.stream_key, now_ms, key, allowed, current };
            let mut inner = self.lock();
            if !Arc::ptr_eq(inner.state.program(), &program) {
                continue;
            }
            let capsule_version = inner.state.version();
            let version = Arc::clone(&inner.state.current().definition);
            let (_, learned, cache) = inner.state.for_decision();
            let decision = decide(&program, learned, cache, &ask)?;
            let around = Circumstances { key_from, notes, capsule_version, learner_version: learned.version() };
            drop(inner);
            let mut warnings = around.notes.warnings();
            if decision.baseline_replaced {
                warnings.push("the baseline is not allowed: answered the first option that is".to_owned());
            }
            let record = record(&program, &ask, &decision, &around);
            let payload = if record.mode == Mode::Off { Vec::new() } else { cbor::encode(&record) };
            return Ok(Made { record, version, payload, warnings, log: log_lines(framed.log) });
        }
    }
}

impl Capsule {
    /// `None` where the capsule was changed in between.
    fn mean_over(&self, program: &Arc<Program>, traffic: &[(String, u64)], now_ms: u64) -> Option<Vec<f64>> {
        let mut mean = vec![0.0; program.total_options];
        let mut total = 0.0;
        for (key, count) in traffic {
            let mut inner = self.lock();
            if !Arc::ptr_eq(inner.state.program(), program) {
                return None;
            }
            for (mean, weight) in mean.iter_mut().zip(inner.state.weights(key, now_ms)) {
                *mean += weight * *count as f64;
            }
            total += *count as f64;
        }
        mean.iter_mut().for_each(|mean| *mean /= total);
        Some(mean)
    }
}

/// A decision on its way to Python.
struct Made {
    record: Decided,
    version: Arc<Definition>,
    payload: Vec<u8>,
    warnings: Vec<String>,
    log: Vec<(String, String)>,
}

/// What a request says about options.
struct Asked {
    options: Vec<(String, Vec<capsa_core::named::OptionRef>)>,
    current: Option<Vec<(String, capsa_core::named::OptionRef)>>,
}

fn log_lines(log: Log) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = (log.lines.into_iter())
        .map(|line| {
            let level = match line.level {
                Level::Debug => "debug",
                Level::Info => "info",
                Level::Warn => "warn",
                Level::Error => "error",
            };
            (level.to_owned(), line.message)
        })
        .collect();
    if log.dropped > 0 {
        lines.push(("warn".to_owned(), format!("{} more lines were dropped", log.dropped)));
    }
    lines
}

fn strategy_names(program: &Program) -> Vec<String> {
    program.definition.strategies.iter().map(|strategy| strategy.name.clone()).collect()
}

#[pymethods]
impl Capsule {
    #[new]
    fn new(tenant: String, job: String, component: &Component, time_ms: u64, payload: &[u8]) -> Result<Self, Raised> {
        let event = Event::decode("installed", payload)?;
        let state = State::begin(time_ms, &event)?;
        let stream_key = stream_key(&tenant, &job, &state.program().definition.name);
        let inner = Mutex::new(Inner { state, component: Arc::clone(&component.0) });
        Ok(Self { origin: Arc::new(Origin { tenant, job }), stream_key, inner })
    }

    #[pyo3(signature = (kind, time_ms, payload, component=None))]
    fn apply(&self, kind: &str, time_ms: u64, payload: &[u8], component: Option<&Component>) -> Result<(), Raised> {
        let event = Event::decode(kind, payload)?;
        let mut inner = self.lock();
        inner.state.apply(time_ms, &event)?;
        if let Some(component) = component {
            inner.component = Arc::clone(&component.0);
        }
        Ok(())
    }

    /// Folds a decision that this process made or read: as `apply`, without decoding it again.
    fn apply_decided(&self, decision: &Decision) -> Result<(), Raised> {
        Ok(self.lock().state.decided(&decision.record)?)
    }

    fn check_key(&self, context_key: &Bound<'_, PyAny>) -> Result<(), Raised> {
        Ok(check_key(&convert::context_key(context_key)?)?)
    }

    #[pyo3(signature = (nonce, now_ms, input, *, context_key=None, options=None, current=None))]
    #[allow(clippy::too_many_arguments, reason = "the keywords of one Python call")]
    fn decide(
        &self,
        py: Python<'_>,
        nonce: &[u8],
        now_ms: u64,
        input: Option<&Bound<'_, PyDict>>,
        context_key: Option<&Bound<'_, PyAny>>,
        options: Option<&Bound<'_, PyAny>>,
        current: Option<&Bound<'_, PyAny>>,
    ) -> Result<Decision, Raised> {
        let nonce = nonce.try_into().map_err(|_| PyValueError::new_err("a nonce has 16 bytes"))?;
        let context_key = context_key.map(convert::context_key).transpose()?;
        if let Some(key) = &context_key {
            check_key(key)?;
        }
        let input = input.map(convert::object).transpose()?.unwrap_or_default();
        let asked = if options.is_some() || current.is_some() {
            let strategies = strategy_names(&self.ready().0);
            Asked {
                options: options
                    .map(|o| convert::option_lists(o, "/options", &strategies))
                    .transpose()?
                    .unwrap_or_default(),
                current: current.map(|c| convert::options_by_strategy(c, "/current", &strategies)).transpose()?,
            }
        } else {
            Asked { options: Vec::new(), current: None }
        };
        let made = py.detach(|| self.decide_once(nonce, now_ms, input, context_key.as_deref(), &asked))?;
        let payload = PyBytes::new(py, &made.payload).unbind();
        let decision = Decision::new(made.record, Arc::clone(&self.origin), made.version, payload);
        Ok(decision.with_words(made.warnings, made.log))
    }

    fn read_decision(&self, payload: Py<PyBytes>, py: Python<'_>) -> Result<Decision, Raised> {
        let record: Decided = cbor::decode("decided event", payload.as_bytes(py))?;
        let version = self.lock().state.version_at(record.capsule_version).map(|v| Arc::clone(&v.definition));
        let version = version.ok_or_else(|| DecodeError {
            what: "decided event",
            why: format!("version {} was never installed", record.capsule_version),
        })?;
        Ok(Decision::new(record, Arc::clone(&self.origin), version, payload))
    }

    fn parts(&self, outcome: &Bound<'_, PyDict>) -> Result<Option<BTreeMap<String, f64>>, Raised> {
        let metrics = metrics(outcome)?;
        let (program, _) = self.ready();
        let declared = program.definition.reward.as_ref();
        Ok(declared.map(|declared| outcome::parts(declared, &metrics)).transpose()?)
    }

    fn metrics(&self, outcome: &Bound<'_, PyDict>) -> Result<BTreeMap<String, f64>, Raised> {
        metrics(outcome)
    }

    #[getter]
    fn declared_metrics(&self) -> Option<Vec<String>> {
        self.ready().0.definition.reward.as_ref().map(|metrics| metrics.keys().cloned().collect())
    }

    fn check_reward(&self, reward: &Bound<'_, PyAny>) -> Result<f64, Raised> {
        let reward = convert::number(reward, "/reward")?;
        outcome::check_reward(self.ready().0.reward_range(), reward)?;
        Ok(reward)
    }

    #[pyo3(signature = (decision, outcome, taken=None))]
    fn value(
        &self,
        py: Python<'_>,
        decision: &Decision,
        outcome: BTreeMap<String, f64>,
        taken: Option<BTreeMap<String, String>>,
    ) -> Result<(f64, Vec<(String, String)>), Raised> {
        let (program, component) = self.ready();
        let made: Vec<world::Made> = decision.record.made(taken.map(ByName).as_ref());
        let fields: Fields = outcome.into_iter().map(|(name, value)| (name, Value::Number(value))).collect();
        py.detach(|| {
            let valued = component.reward(&fields, &made).map_err(|failed| failed.error)?;
            let [low, high] = program.reward_range();
            // A declared sum of weights may end a rounding error outside; anything more is a fault.
            let slack = 1e-9 * (high - low);
            if valued.reward < low - slack || valued.reward > high + slack {
                return Err(Raised::BadAnswer(format!(
                    "reward gave {}, outside reward_range {low} to {high}",
                    valued.reward
                )));
            }
            Ok((valued.reward.clamp(low, high), log_lines(valued.log)))
        })
    }

    #[pyo3(signature = (field, named, version=None))]
    fn pick(
        &self,
        field: &str,
        named: &Bound<'_, PyAny>,
        version: Option<u32>,
    ) -> Result<BTreeMap<String, String>, Raised> {
        let definition = {
            let inner = self.lock();
            let of_version = version.and_then(|version| inner.state.version_at(version));
            let version = of_version.unwrap_or_else(|| inner.state.current());
            Arc::clone(&version.definition)
        };
        let strategies: Vec<String> = definition.strategies.iter().map(|strategy| strategy.name.clone()).collect();
        let named = convert::options_by_strategy(named, field, &strategies)?;
        let picked = definition.pick(field, &named)?;
        let names = definition.strategies.iter().zip(picked).map(|(s, at)| (s.name.clone(), s.options[at].clone()));
        Ok(names.collect())
    }

    fn pick_one(
        &self,
        strategy: Option<&Bound<'_, PyAny>>,
        option: &Bound<'_, PyAny>,
    ) -> Result<(String, String), Raised> {
        let definition = Arc::clone(&self.lock().state.current().definition);
        let at = match strategy {
            None if definition.strategies.len() == 1 => 0,
            None => {
                let names: Vec<&str> = definition.strategies.iter().map(|s| s.name.as_str()).collect();
                return Err(Rejected::absent(
                    Refusal::InvalidField,
                    "/strategyId",
                    "the strategy is missing",
                    format!("name one of {}", names.join(", ")),
                )
                .into());
            }
            Some(strategy) => match convert::option(strategy, "/strategyId")? {
                capsa_core::named::OptionRef::Name(name) => definition.strategy_number(&name, "/strategyId")?,
                capsa_core::named::OptionRef::Number(number) => usize::try_from(number)
                    .ok()
                    .filter(|&number| number < definition.strategies.len())
                    .ok_or_else(|| unknown_strategy_number(&definition, number))?,
            },
        };
        let strategy = &definition.strategies[at];
        let number = strategy.option_number(&convert::option(option, "/option")?, "/option")?;
        Ok((strategy.name.clone(), strategy.options[number].clone()))
    }

    fn plan<'py>(&self, py: Python<'py>, digest: &str, definition: &str) -> Result<Bound<'py, PyDict>, Raised> {
        let filled = Definition::from_json(definition.as_bytes()).map_err(Raised::Definition)?;
        let filled = filled.filled().map_err(Raised::Definition)?;
        let plan = self.lock().state.plan(digest, &filled)?;
        let facts = PyDict::new(py);
        facts.set_item("version", plan.version)?;
        facts.set_item("unchanged", plan.unchanged)?;
        facts.set_item("changes", plan.changes)?;
        Ok(facts)
    }

    /// Checks overrides as JSON; raises where the result would not hold.
    fn check_overrides(&self, overrides: &str) -> Result<(), Raised> {
        let parsed: Overrides = serde_json::from_str(overrides)
            .map_err(|error| Rejected::absent(Refusal::InvalidField, "", error.to_string(), "send valid settings"))?;
        let inner = self.lock();
        parsed.apply(&inner.state.current().definition).map_err(|problems| {
            let first = problems.into_iter().next().expect("an error has a problem");
            Raised::Rejected(Rejected {
                refusal: rejected::Refusal::InvalidField,
                pointer: first.pointer,
                value: None,
                detail: first.message,
                remedy: "nothing was changed".to_owned(),
            })
        })?;
        Ok(())
    }

    #[getter]
    fn version(&self) -> u32 {
        self.lock().state.version()
    }

    #[getter]
    fn component_digest(&self) -> String {
        self.lock().state.current().digest.clone()
    }

    #[getter]
    fn definition(&self) -> String {
        json(&self.lock().state.current().definition)
    }

    #[getter]
    fn definition_in_force(&self) -> String {
        json(&self.ready().0.definition)
    }

    #[getter]
    fn overrides(&self) -> String {
        serde_json::to_string(self.lock().state.overrides()).expect("overrides are JSON")
    }

    #[getter]
    fn frozen(&self) -> bool {
        self.ready().0.frozen()
    }

    #[getter]
    fn learner_version(&self) -> u64 {
        self.lock().state.learned().version()
    }

    fn weights(&self, py: Python<'_>, context_key: &str, now_ms: u64) -> BTreeMap<String, Vec<f64>> {
        py.detach(|| {
            let mut inner = self.lock();
            let weights = inner.state.weights(context_key, now_ms);
            by_strategy(inner.state.program(), &weights)
        })
    }

    #[pyo3(signature = (now_ms, *, after=None, limit=100))]
    fn contexts<'py>(
        &self,
        py: Python<'py>,
        now_ms: u64,
        after: Option<&str>,
        limit: usize,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let rows = py.detach(|| {
            let mut inner = self.lock();
            let page: Vec<(String, Entry)> = (inner.state.learned().entries_after(after).take(limit))
                .map(|(key, entry)| (key.to_owned(), entry.clone()))
                .collect();
            (page.into_iter())
                .map(|(key, entry)| {
                    let weights = inner.state.weights(&key, now_ms);
                    let weights = by_strategy(inner.state.program(), &weights);
                    let decisions = inner.state.tally().traffic.get(&key).copied().unwrap_or_default();
                    (key, weights, decisions, entry.feedbacks, entry.updated_at_ms)
                })
                .collect::<Vec<_>>()
        });
        (rows.into_iter())
            .map(|(key, weights, decisions, rewards, updated_at_ms)| {
                let row = PyDict::new(py);
                row.set_item("context_key", key)?;
                row.set_item("weights", weights)?;
                row.set_item("decisions", decisions)?;
                row.set_item("rewards", rewards)?;
                row.set_item("updated_at_ms", updated_at_ms)?;
                Ok(row)
            })
            .collect()
    }

    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (tally, held, evicted) = {
            let inner = self.lock();
            (inner.state.tally().clone(), inner.state.learned().len(), inner.state.learned().evicted())
        };
        let counts = PyDict::new(py);
        counts.set_item("decisions", tally.decisions)?;
        let feedback = PyDict::new(py);
        feedback.set_item("applied", tally.feedback.applied)?;
        feedback.set_item("late", tally.feedback.late)?;
        feedback.set_item("frozen", tally.feedback.frozen)?;
        feedback.set_item("kept", tally.feedback.kept)?;
        feedback.set_item("without_decision", tally.feedback.without_decision)?;
        feedback.set_item("median_delay_seconds", tally.delays.median_seconds())?;
        counts.set_item("feedback", feedback)?;
        counts.set_item("shadow", (tally.shadow.decisions, tally.shadow.agreed))?;
        counts.set_item("reward_sum", tally.reward_sum)?;
        let options = PyDict::new(py);
        for (strategy, by_option) in &tally.options {
            let of_strategy = PyDict::new(py);
            for (option, tally) in by_option {
                of_strategy.set_item(option, (tally.decisions, tally.rewards, tally.sum))?;
            }
            options.set_item(strategy, of_strategy)?;
        }
        counts.set_item("options", options)?;
        counts.set_item("contexts", (held, evicted))?;
        counts.set_item("uncounted", tally.uncounted)?;
        counts.set_item("unknown", tally.unknown)?;
        counts.set_item("other", tally.other)?;
        Ok(counts)
    }

    /// The mean weight over contexts, by their traffic. Decisions go on meanwhile.
    fn mean_weights(&self, py: Python<'_>, now_ms: u64) -> BTreeMap<String, Vec<f64>> {
        py.detach(|| {
            loop {
                let (program, mut traffic) = {
                    let inner = self.lock();
                    let traffic: Vec<(String, u64)> =
                        inner.state.tally().traffic.iter().map(|(key, count)| (key.clone(), *count)).collect();
                    (Arc::clone(inner.state.program()), traffic)
                };
                // A hash map has no order, and a sum of floats depends on it.
                traffic.sort();
                if traffic.is_empty() {
                    traffic.push((String::new(), 1));
                }
                if let Some(mean) = self.mean_over(&program, &traffic, now_ms) {
                    return by_strategy(&program, &mean);
                }
            }
        })
    }

    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes = py.detach(|| self.lock().state.learned().encode());
        PyBytes::new(py, &bytes)
    }

    #[getter]
    fn state_hash(&self, py: Python<'_>) -> String {
        py.detach(|| self.lock().state.learned().state_hash())
    }
}

fn by_strategy(program: &Program, values: &[f64]) -> BTreeMap<String, Vec<f64>> {
    (program.heads.iter())
        .map(|head| (head.name.clone(), values[head.offset..head.offset + head.size].to_vec()))
        .collect()
}

fn unknown_strategy_number(definition: &Definition, number: i64) -> Rejected {
    let names: Vec<&str> = definition.strategies.iter().map(|s| s.name.as_str()).collect();
    Rejected::new(
        Refusal::UnknownStrategy,
        "/strategyId",
        number,
        format!("{number} is not a strategy of {}, which has {}", definition.name, names.len()),
        format!("use {}, or its number", names.join(", ")),
    )
}

fn check_key(key: &str) -> Result<(), Rejected> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Ok(());
    }
    Err(Rejected::new(
        Refusal::InvalidField,
        "/contextKey",
        key,
        format!("the context key has {} bytes", key.len()),
        format!("send 1 to {MAX_KEY_BYTES} bytes, or leave it out to have it computed"),
    ))
}

fn metrics(outcome: &Bound<'_, PyDict>) -> Result<BTreeMap<String, f64>, Raised> {
    (outcome.iter())
        .map(|(name, value)| {
            let name: String = name.extract().map_err(|_| {
                Rejected::absent(
                    Refusal::InvalidField,
                    "/outcome",
                    "a metric's name is not a text",
                    "use the declared names",
                )
            })?;
            let value = convert::number(&value, &format!("/outcome/{}", capsa_core::definition::escape(&name)))?;
            if !value.is_finite() {
                return Err(Rejected::new(
                    Refusal::InvalidField,
                    format!("/outcome/{}", capsa_core::definition::escape(&name)),
                    value,
                    format!("{} is not a finite number", capsa_core::definition::shown(&name)),
                    "send a finite number, or leave the metric out",
                )
                .into());
            }
            Ok((name, value))
        })
        .collect()
}

fn json(definition: &Definition) -> String {
    serde_json::to_string(definition).expect("a definition is JSON")
}
