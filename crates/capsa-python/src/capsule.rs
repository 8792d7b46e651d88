//! One capsule: its component and its folded state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use capsa_core::capsule::Capsule as State;
use capsa_core::cbor::{ByName, Bytes16, DecodeError};
use capsa_core::definition::Definition;
use capsa_core::events::Event;
use capsa_core::program::{Overrides, Program};
use capsa_core::record::stream_key;
use capsa_core::rejected::{Refusal, Rejected};
use capsa_core::sealed;
use capsa_core::world::{self, Fields, Value};
use capsa_core::{outcome, rejected};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::body::{Asked, Plain};
use crate::contexts::LearnedThen;
use crate::convert;
use crate::decision::{Decision, Origin};
use crate::errors::Raised;
use crate::events::{self, JournalEvent};
use crate::host::Component;
use crate::keyring::{self, Keyring, OpenedId};
use crate::pace::Pace;
use crate::post::Post;
use crate::request::{check_key, json, log_lines, metrics, strategy_names, unknown_strategy_number};
use crate::tally;

/// The weights of so many options take less than 50 µs.
const FEW_OPTIONS: usize = 16;

/// One capsule's component and state.
#[pyclass(module = "capsa._native", frozen)]
pub struct Capsule {
    pub(crate) origin: Arc<Origin>,
    stream_key: [u8; 8],
    inner: Mutex<Inner>,
    /// Whose calls these are, for the sandbox.
    pub(crate) tenant: Arc<str>,
    pub(crate) decides: Pace,
    values: Pace,
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

    /// The weights of a context before any mask.
    pub(crate) fn weights_by_strategy(&self, context_key: &str, now_ms: u64) -> BTreeMap<String, Vec<f64>> {
        let mut inner = self.lock();
        let weights = inner.state.weights(context_key, now_ms);
        by_strategy(inner.state.program(), &weights)
    }

    pub(crate) fn stream_key(&self) -> [u8; 8] {
        self.stream_key
    }

    /// The program in force, and the component.
    pub(crate) fn ready(&self) -> (Arc<Program>, Arc<capsa_vm::Component>) {
        let inner = self.lock();
        (Arc::clone(inner.state.program()), Arc::clone(&inner.component))
    }
}

impl Capsule {
    fn of(py: Python<'_>, tenant: &str, job: &str, component: &Component, state: State, keys: Py<Keyring>) -> Self {
        let name = &state.program().definition.name;
        let stream_key = stream_key(tenant, job, name);
        let place = sealed::place(tenant, job, name);
        let origin =
            Arc::new(Origin { tenant: tenant.to_owned(), job: job.to_owned(), place, keys: keys.clone_ref(py) });
        let inner = Mutex::new(Inner { state, component: Arc::clone(&component.0) });
        Self { tenant: Arc::from(tenant), origin, stream_key, inner, decides: Pace::default(), values: Pace::default() }
    }

    /// Has the guest value an outcome.
    pub(crate) fn valued(
        &self,
        py: Python<'_>,
        program: &Program,
        component: &capsa_vm::Component,
        fields: &Fields,
        made: &[world::Made],
    ) -> Result<(f64, Vec<(String, String)>), Raised> {
        self.values.run(py, component.is_slow(), || {
            let valued = component.reward_for(&self.tenant, fields, made).map_err(|failed| failed.error)?;
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
}

#[pymethods]
impl Capsule {
    #[new]
    fn new(
        py: Python<'_>,
        tenant: &str,
        job: &str,
        component: &Component,
        event: JournalEvent,
        keys: Py<Keyring>,
    ) -> Result<Self, Raised> {
        let installed = Event::decode(&event.written(py), |_| None::<Arc<Definition>>)?;
        Ok(Self::of(py, tenant, job, component, State::begin(event.time_ms, &installed)?, keys))
    }

    /// The capsule as `snapshot` wrote it.
    #[staticmethod]
    fn restore(
        py: Python<'_>,
        tenant: &str,
        job: &str,
        component: &Component,
        snapshot: &[u8],
        keys: Py<Keyring>,
    ) -> Result<Self, Raised> {
        let state = py.detach(|| State::restore(snapshot))?;
        Ok(Self::of(py, tenant, job, component, state, keys))
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes = py.detach(|| self.lock().state.snapshot());
        PyBytes::new(py, &bytes)
    }

    #[pyo3(signature = (event, component=None))]
    fn apply(&self, event: JournalEvent, py: Python<'_>, component: Option<&Component>) -> Result<(), Raised> {
        let mut inner = self.lock();
        let decoded = inner.state.decode(&event.written(py))?;
        inner.state.apply(event.time_ms, &decoded)?;
        if let Some(component) = component {
            inner.component = Arc::clone(&component.0);
        }
        Ok(())
    }

    /// Folds a decision that this process made, and gives it its place: as `apply`, without decoding it again.
    fn apply_decided(&self, decision: &Decision, sequence: u64) -> Result<(), Raised> {
        decision.recorded_at(sequence);
        Ok(self.lock().state.decided(&decision.record)?)
    }

    fn check_key(&self, context_key: &Bound<'_, PyAny>) -> Result<(), Raised> {
        Ok(check_key(&convert::context_key(context_key)?)?)
    }

    #[pyo3(signature = (nonce, now_ms, input, *, context_key=None, options=None, current=None, subject=None))]
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
        subject: Option<[u8; 16]>,
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
                subject,
            }
        } else {
            Asked { options: Vec::new(), current: None, subject }
        };
        self.decided(py, nonce, now_ms, input, context_key.as_deref(), &asked)
    }

    /// As `decide`, of the body of a request; `None` where it is not as most are, and has to be read the long way.
    fn decide_body(&self, py: Python<'_>, nonce: &[u8], now_ms: u64, body: &[u8]) -> Result<Option<Decision>, Raised> {
        let nonce = nonce.try_into().map_err(|_| PyValueError::new_err("a nonce has 16 bytes"))?;
        let Some((plain, asked)) = Plain::read(body).and_then(|plain| plain.asked(&self.ready().0.definition)) else {
            return Ok(None);
        };
        if let Some(key) = &plain.context_key {
            check_key(key)?;
        }
        self.decided(py, nonce, now_ms, plain.input, plain.context_key.as_deref(), &asked).map(Some)
    }

    fn read_decision(&self, py: Python<'_>, event: JournalEvent) -> Result<Decision, Raised> {
        let inner = self.lock();
        let record = match inner.state.decode(&event.written(py))? {
            Event::Decided(record) => *record,
            other => return Err(PyValueError::new_err(format!("{} is no decision", other.kind())).into()),
        };
        let version = inner.state.version_at(record.capsule_version).map(|v| Arc::clone(&v.definition));
        drop(inner);
        let version = version.ok_or_else(|| DecodeError {
            what: "decided event",
            why: format!("version {} was never installed", record.capsule_version),
        })?;
        Ok(Decision::new(record, Arc::clone(&self.origin), version, event.payload).at(event.sequence))
    }

    fn read_outcome<'py>(&self, py: Python<'py>, event: JournalEvent) -> Result<Bound<'py, PyDict>, Raised> {
        let decoded = self.lock().state.decode(&event.written(py))?;
        match decoded {
            Event::OutcomeReceived(outcome) | Event::HorizonPassed(outcome) => {
                Ok(events::outcome_fields(py, &outcome)?)
            }
            other => Err(PyValueError::new_err(format!("{} is no outcome", other.kind())).into()),
        }
    }

    fn encode_outcome<'py>(&self, py: Python<'py>, fields: &Bound<'py, PyDict>) -> Result<Bound<'py, PyBytes>, Raised> {
        let mut outcome = events::outcome(fields)?;
        let version = {
            let inner = self.lock();
            outcome.capsule.clone_from(&inner.state.program().definition.name);
            inner.state.version_at(outcome.capsule_version).map(|version| Arc::clone(&version.definition))
        };
        let version = version.ok_or_else(|| PyValueError::new_err("a version that was never installed"))?;
        Ok(PyBytes::new(py, &outcome.encode(&version)))
    }

    /// What an id says; `None` if it was not sealed here for this capsule.
    fn open_id(&self, py: Python<'_>, id: &str) -> PyResult<Option<OpenedId>> {
        let opened = self.origin.keys.get().with(|keys| keys.open(&self.origin.place, id));
        let Some(sealed::Sealed { nonce, sequence, horizon_ms, carried }) = opened else { return Ok(None) };
        let decided_ms = Bytes16(nonce).time_ms();
        let deadline_ms = decided_ms.saturating_add_signed(horizon_ms);
        let decision = match carried {
            None => None,
            Some(carried) => {
                let told = keyring::told(&self.lock().state, nonce, deadline_ms, carried);
                // A version that this store does not have: an older backup was restored.
                let Some((record, version)) = told else { return Ok(None) };
                let payload = PyBytes::new(py, b"").unbind();
                let decision = Decision::new(record, Arc::clone(&self.origin), version, payload).at(sequence);
                Some(Py::new(py, decision)?)
            }
        };
        Ok(Some(OpenedId { nonce, sequence, decided_ms, deadline_ms, decision }))
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
        self.valued(py, &program, &component, &fields, &made)
    }

    /// As feedback by id with everything at once: read, opened and valued; `None` where it is not as most are.
    fn read_post(&self, py: Python<'_>, body: &[u8], now_ms: u64) -> Option<Post> {
        Post::read(self, py, body, now_ms)
    }

    /// Folds a post that was appended at a place, and answers it as JSON.
    fn learn<'py>(
        &self,
        py: Python<'py>,
        post: &Post,
        payload: &[u8],
        sequence: u64,
        now_ms: u64,
    ) -> Result<Bound<'py, PyBytes>, Raised> {
        Ok(PyBytes::new(py, &post.learn(self, payload, sequence, now_ms)?))
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

    /// Checks overrides as JSON, and gives them as they are kept; raises where the result would not hold.
    fn check_overrides(&self, overrides: &str) -> Result<String, Raised> {
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
        Ok(serde_json::to_string(&parsed).expect("overrides are JSON"))
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
    fn version_digests(&self) -> Vec<String> {
        self.lock().state.versions().iter().map(|version| version.digest.clone()).collect()
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
        let weigh = || self.weights_by_strategy(context_key, now_ms);
        // Some microseconds: to get the interpreter back would take longer.
        if self.ready().0.total_options <= FEW_OPTIONS { weigh() } else { py.detach(weigh) }
    }

    #[pyo3(signature = (now_ms, *, after=None, limit=100))]
    fn contexts<'py>(
        &self,
        py: Python<'py>,
        now_ms: u64,
        after: Option<&str>,
        limit: usize,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.context_rows(py, now_ms, after, limit)
    }

    fn counts<'py>(&self, py: Python<'py>, now_ms: u64) -> PyResult<Bound<'py, PyDict>> {
        let (tally, held, evicted) = {
            let inner = self.lock();
            (inner.state.tally().clone(), inner.state.learned().len(), inner.state.learned().evicted())
        };
        let counts = tally::counts(py, tally, now_ms)?;
        counts.set_item("contexts", (held, evicted))?;
        Ok(counts)
    }

    /// The mean weight over contexts, by their traffic. Decisions go on meanwhile.
    fn mean_weights(&self, py: Python<'_>, now_ms: u64) -> BTreeMap<String, Vec<f64>> {
        py.detach(|| self.mean_by_strategy(now_ms))
    }

    fn state<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes = py.detach(|| self.lock().state.learned().encode());
        PyBytes::new(py, &bytes)
    }

    #[getter]
    fn state_hash(&self, py: Python<'_>) -> String {
        // Of a copy: decisions wait while the state is held.
        py.detach(|| self.learned_now().state_hash())
    }

    /// What has been learned by now, to be looked at while decisions go on.
    fn learned(&self, py: Python<'_>) -> LearnedThen {
        LearnedThen(py.detach(|| self.learned_now()))
    }
}

pub(crate) fn by_strategy(program: &Program, values: &[f64]) -> BTreeMap<String, Vec<f64>> {
    (program.heads.iter())
        .map(|head| (head.name.clone(), values[head.offset..head.offset + head.size].to_vec()))
        .collect()
}
