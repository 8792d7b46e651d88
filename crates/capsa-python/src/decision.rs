//! A decision as Python sees it.

use std::sync::Arc;

use capsa_core::cbor::{self, ByName};
use capsa_core::decide::Reason;
use capsa_core::definition::{Definition, Mode, Strategy};
use capsa_core::events::{Decided, KeyFrom};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// What surrounds a record, so that its names have numbers.
#[derive(Debug)]
pub struct Origin {
    /// The tenant.
    pub tenant: String,
    /// The job.
    pub job: String,
}

/// One decision.
#[pyclass(module = "capsa._native", frozen)]
pub struct Decision {
    pub record: Decided,
    origin: Arc<Origin>,
    /// The strategies of the version that decided: a name's number is its place.
    version: Arc<Definition>,
    /// Empty where nothing is recorded.
    #[pyo3(get)]
    payload: Py<PyBytes>,
    #[pyo3(get)]
    warnings: Vec<String>,
    #[pyo3(get)]
    log: Vec<(String, String)>,
}

impl Decision {
    /// A decision with its record and the bytes that the journal gets of it; none in mode off.
    pub fn new(record: Decided, origin: Arc<Origin>, version: Arc<Definition>, payload: Py<PyBytes>) -> Self {
        Self { record, origin, version, payload, warnings: Vec::new(), log: Vec::new() }
    }

    /// Where it was made.
    pub fn origin(&self) -> Arc<Origin> {
        Arc::clone(&self.origin)
    }

    /// The same with what only the live call knows.
    pub fn with_words(self, warnings: Vec<String>, log: Vec<(String, String)>) -> Self {
        Self { warnings, log, ..self }
    }

    fn only(&self) -> Option<&Strategy> {
        match self.version.strategies.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    fn parts(&self, options: &ByName<String>, shares: Option<&ByName<Vec<f64>>>, drawn: bool) -> Vec<StrategyDecision> {
        (self.version.strategies.iter().enumerate())
            .map(|(strategy_id, strategy)| {
                let option_name = options.0.get(&strategy.name).cloned().unwrap_or_default();
                let option = position(strategy, &option_name);
                let probabilities = shares.and_then(|shares| shares.0.get(&strategy.name)).cloned();
                let propensity = probabilities.as_ref().filter(|_| drawn).map(|shares| shares[option]);
                let names = strategy.options.clone();
                StrategyDecision {
                    strategy_id,
                    strategy: strategy.name.clone(),
                    option,
                    option_name,
                    propensity,
                    names,
                    probabilities,
                }
            })
            .collect()
    }
}

fn position(strategy: &Strategy, name: &str) -> usize {
    strategy.options.iter().position(|option| option == name).unwrap_or_default()
}

#[pymethods]
impl Decision {
    #[getter]
    fn id(&self) -> Option<String> {
        (self.record.mode != Mode::Off).then(|| cbor::hex("dec_", &self.record.id.0))
    }

    #[getter]
    fn capsule(&self) -> &str {
        &self.record.capsule
    }

    #[getter]
    fn capsule_version(&self) -> u32 {
        self.record.capsule_version
    }

    #[getter]
    fn tenant(&self) -> &str {
        &self.origin.tenant
    }

    #[getter]
    fn job(&self) -> &str {
        &self.origin.job
    }

    #[getter]
    fn mode(&self) -> &'static str {
        match self.record.mode {
            Mode::Off => "off",
            Mode::Shadow => "shadow",
            Mode::Live => "live",
        }
    }

    #[getter]
    fn context_key(&self) -> &str {
        &self.record.key
    }

    #[getter]
    fn context_key_from(&self) -> &'static str {
        match self.record.key_from {
            KeyFrom::Input => "input",
            KeyFrom::Request => "request",
        }
    }

    #[getter]
    fn strategy_id(&self) -> Option<usize> {
        self.only().map(|_| 0)
    }

    #[getter]
    fn strategy(&self) -> Option<&str> {
        self.only().map(|strategy| strategy.name.as_str())
    }

    #[getter]
    fn option(&self) -> Option<usize> {
        self.only().map(|strategy| position(strategy, &self.record.options.0[&strategy.name]))
    }

    #[getter]
    fn option_name(&self) -> Option<&str> {
        self.only().map(|strategy| self.record.options.0[&strategy.name].as_str())
    }

    #[getter]
    fn propensity(&self) -> Option<f64> {
        self.record.propensity
    }

    #[getter]
    fn reason(&self) -> &'static str {
        reason_name(self.record.reason)
    }

    #[getter]
    fn probabilities(&self) -> Option<Vec<f64>> {
        let strategy = self.only()?;
        self.record.probabilities.as_ref()?.0.get(&strategy.name).cloned()
    }

    #[getter]
    fn suggested(&self) -> Option<Suggestion> {
        let suggested = self.record.suggested.as_ref()?;
        let decisions = self.parts(&suggested.options, Some(&suggested.probabilities), true);
        Some(Suggestion { propensity: suggested.propensity, reason: reason_name(suggested.reason), decisions })
    }

    #[getter]
    fn decisions(&self) -> Vec<StrategyDecision> {
        self.parts(&self.record.options, self.record.probabilities.as_ref(), self.record.propensity.is_some())
    }

    #[getter]
    fn choices<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let choices = PyDict::new(py);
        for strategy in &self.version.strategies {
            choices.set_item(&strategy.name, &self.record.options.0[&strategy.name])?;
        }
        Ok(choices)
    }

    #[getter]
    fn learner_version(&self) -> u64 {
        self.record.learner_version
    }

    #[getter]
    fn deadline_ms(&self) -> u64 {
        self.record.deadline_ms
    }

    #[getter]
    fn nonce<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.record.id.0)
    }

    fn draw_again(&self) -> Option<usize> {
        let key = capsa_core::record::stream_key(&self.origin.tenant, &self.origin.job, &self.record.capsule);
        self.record.draw_again(key)
    }

    fn __repr__(&self) -> String {
        let options: Vec<&str> = self.record.options.0.values().map(String::as_str).collect();
        let propensity = self.record.propensity.map_or_else(|| "None".to_owned(), |p| format!("{p:.4}"));
        format!(
            "<Decision {} {:?} propensity={propensity} reason={:?}>",
            self.id().as_deref().unwrap_or("(not recorded)"),
            options.join(", "),
            self.reason(),
        )
    }
}

fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::Learned => "learned",
        Reason::Explored => "explored",
        Reason::Frozen => "frozen",
        Reason::Baseline => "baseline",
        Reason::Current => "current",
        Reason::OnlyOption => "only_option",
    }
}

/// One strategy's part of a decision.
#[pyclass(module = "capsa._native", frozen, get_all)]
#[derive(Clone)]
pub struct StrategyDecision {
    strategy_id: usize,
    strategy: String,
    option: usize,
    option_name: String,
    propensity: Option<f64>,
    names: Vec<String>,
    probabilities: Option<Vec<f64>>,
}

/// What the learner would have done.
#[pyclass(module = "capsa._native", frozen)]
pub struct Suggestion {
    #[pyo3(get)]
    propensity: f64,
    #[pyo3(get)]
    reason: &'static str,
    #[pyo3(get)]
    decisions: Vec<StrategyDecision>,
}

#[pymethods]
impl Suggestion {
    #[getter]
    fn option(&self) -> Option<usize> {
        self.only().map(|only| only.option)
    }

    #[getter]
    fn option_name(&self) -> Option<&str> {
        self.only().map(|only| only.option_name.as_str())
    }

    #[getter]
    fn choices<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let choices = PyDict::new(py);
        for part in &self.decisions {
            choices.set_item(&part.strategy, &part.option_name)?;
        }
        Ok(choices)
    }
}

impl Suggestion {
    fn only(&self) -> Option<&StrategyDecision> {
        match self.decisions.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}
