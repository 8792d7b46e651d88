//! A decision as Python sees it.

use std::sync::{Arc, OnceLock};

use capsa_core::cbor::ByName;
use capsa_core::decide::Reason;
use capsa_core::definition::{Definition, Mode, Strategy};
use capsa_core::events::{Decided, KeyFrom};
use capsa_core::sealed::{Carried, Sealed, fits};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::answer;
use crate::capsule::Capsule;
use crate::keyring::Keyring;

/// Where decisions are made, and what seals their ids.
pub struct Origin {
    /// The tenant.
    pub tenant: String,
    /// The job.
    pub job: String,
    /// What ids are bound to.
    pub place: Vec<u8>,
    /// What they are sealed with.
    pub keys: Py<Keyring>,
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
    /// The position in the tenant's stream, once it has one.
    sequence: OnceLock<u64>,
    id: OnceLock<Option<String>>,
    #[pyo3(get)]
    warnings: Vec<String>,
    #[pyo3(get)]
    log: Vec<(String, String)>,
}

impl Decision {
    /// A decision with its record and the bytes that the journal gets of it; none in mode off.
    pub fn new(record: Decided, origin: Arc<Origin>, version: Arc<Definition>, payload: Py<PyBytes>) -> Self {
        let (sequence, id) = (OnceLock::new(), OnceLock::new());
        Self { record, origin, version, payload, sequence, id, warnings: Vec::new(), log: Vec::new() }
    }

    /// The same at its position.
    pub fn at(self, sequence: u64) -> Self {
        Self { sequence: OnceLock::from(sequence), ..self }
    }

    /// Its position, once it has one.
    pub fn recorded_sequence(&self) -> Option<u64> {
        self.sequence.get().copied()
    }

    /// Gives the decision its position in the tenant's stream, and with it its id.
    pub fn recorded_at(&self, sequence: u64) {
        // A decision is recorded once.
        let _ = self.sequence.set(sequence);
    }

    /// What the caller is to be told.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn carried(&self) -> Carried {
        let record = &self.record;
        let options = (self.version.strategies.iter())
            .map(|strategy| position(strategy, &record.options.0[&strategy.name]) as u16)
            .collect();
        Carried {
            capsule_version: record.capsule_version,
            mode: u8::from(record.mode == Mode::Shadow),
            options,
            propensity: record.propensity,
            key: record.key.clone(),
        }
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
    pub fn id(&self) -> Option<&str> {
        let &sequence = self.sequence.get()?;
        let id = self.id.get_or_init(|| {
            let sealed = Sealed {
                nonce: self.record.id.0,
                sequence,
                horizon_ms: self.record.deadline_ms as i64 - self.record.id.time_ms() as i64,
                // What is not in it is read from its event, all of it.
                carried: self.is_in_id().then(|| self.carried()),
            };
            self.origin.keys.get().with(|keys| keys.seal(&self.origin.place, &sealed))
        });
        id.as_deref()
    }

    #[getter]
    fn sequence(&self) -> Option<u64> {
        self.recorded_sequence()
    }

    #[getter]
    fn is_in_id(&self) -> bool {
        let record = &self.record;
        // With mode off there is no id, and nothing to wait for.
        record.mode == Mode::Off || (record.defaults.is_none() && fits(self.version.strategies.len(), &record.key))
    }

    #[getter]
    fn due_ms(&self) -> Option<u64> {
        self.record.defaults.as_ref().map(|_| self.record.deadline_ms)
    }

    #[getter]
    fn defaults(&self) -> Option<std::collections::BTreeMap<String, f64>> {
        self.record.defaults.as_ref().map(|defaults| defaults.0.clone())
    }

    #[getter]
    fn subject<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.record.subject.map(|subject| PyBytes::new(py, &subject.0))
    }

    /// Everything that is recorded of it, by name.
    fn record<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let record = &self.record;
        let fields = PyDict::new(py);
        fields.set_item("id", PyBytes::new(py, &record.id.0))?;
        fields.set_item("key", &record.key)?;
        fields.set_item("mode", self.mode())?;
        fields.set_item("other", record.other.as_ref().map(|other| &other.0))?;
        fields.set_item("reason", self.reason())?;
        fields.set_item("allowed", record.allowed.as_ref().map(|allowed| &allowed.0))?;
        fields.set_item("current", record.current.as_ref().map(|current| &current.0))?;
        fields.set_item("options", &record.options.0)?;
        fields.set_item("unknown", record.unknown.as_ref())?;
        fields.set_item("baseline", &record.baseline.0)?;
        fields.set_item("key_from", self.context_key_from())?;
        let suggested = match &record.suggested {
            None => None,
            Some(suggested) => {
                let of_learner = PyDict::new(py);
                of_learner.set_item("reason", reason_name(suggested.reason))?;
                of_learner.set_item("options", &suggested.options.0)?;
                of_learner.set_item("propensity", suggested.propensity)?;
                of_learner.set_item("probabilities", &suggested.probabilities.0)?;
                Some(of_learner)
            }
        };
        fields.set_item("suggested", suggested)?;
        fields.set_item("propensity", record.propensity)?;
        fields.set_item("deadline_ms", record.deadline_ms)?;
        fields.set_item("probabilities", record.probabilities.as_ref().map(|shares| &shares.0))?;
        fields.set_item("capsule_version", record.capsule_version)?;
        fields.set_item("learner_version", record.learner_version)?;
        fields.set_item("subject", self.subject(py))?;
        fields.set_item("defaults", self.defaults())?;
        Ok(fields)
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
    pub fn tenant(&self) -> &str {
        &self.origin.tenant
    }

    #[getter]
    pub fn job(&self) -> &str {
        &self.origin.job
    }

    #[getter]
    pub fn mode(&self) -> &'static str {
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
    pub fn reason(&self) -> &'static str {
        reason_name(self.record.reason)
    }

    #[getter]
    fn probabilities(&self) -> Option<Vec<f64>> {
        let strategy = self.only()?;
        self.record.probabilities.as_ref()?.0.get(&strategy.name).cloned()
    }

    #[getter]
    pub fn suggested(&self) -> Option<Suggestion> {
        let suggested = self.record.suggested.as_ref()?;
        let decisions = self.parts(&suggested.options, Some(&suggested.probabilities), true);
        Some(Suggestion { propensity: suggested.propensity, reason: reason_name(suggested.reason), decisions })
    }

    #[getter]
    pub fn decisions(&self) -> Vec<StrategyDecision> {
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

    /// The answer of `decide` as JSON. The interpreter is kept: it takes some microseconds.
    #[pyo3(signature = (capsule, now_ms, *, full=false))]
    fn answer<'py>(&self, py: Python<'py>, capsule: &Capsule, now_ms: u64, full: bool) -> Bound<'py, PyBytes> {
        let weights = capsule.weights_by_strategy(&self.record.key, now_ms);
        PyBytes::new(py, &answer::encode(self, &weights, full))
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
            self.id().unwrap_or("(not recorded)"),
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
    pub strategy_id: usize,
    pub strategy: String,
    pub option: usize,
    pub option_name: String,
    pub propensity: Option<f64>,
    pub names: Vec<String>,
    pub probabilities: Option<Vec<f64>>,
}

/// What the learner would have done.
#[pyclass(module = "capsa._native", frozen)]
pub struct Suggestion {
    #[pyo3(get)]
    pub propensity: f64,
    #[pyo3(get)]
    pub reason: &'static str,
    #[pyo3(get)]
    pub decisions: Vec<StrategyDecision>,
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
