//! The payloads of events.

use capsa_core::cbor::{self, ByName, Bytes16};
use capsa_core::events::{Installed, LearningChanged, OutcomeReceived, Status, Written};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

/// The payload of an `installed` event.
#[pyfunction]
pub fn encode_installed<'py>(
    py: Python<'py>,
    capsule: String,
    version: u32,
    digest: String,
    size_bytes: u64,
    definition: String,
) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &cbor::encode(&Installed { digest, capsule, version, definition, size_bytes }))
}

/// The payload of a `learning_changed` event.
#[pyfunction]
pub fn encode_learning_changed<'py>(
    py: Python<'py>,
    capsule: String,
    changed: Vec<String>,
    overrides: String,
) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &cbor::encode(&LearningChanged { capsule, changed, overrides }))
}

/// What is read of an event of the journal: a `capsa.journal.Event`.
#[derive(FromPyObject)]
pub struct JournalEvent {
    #[pyo3(attribute("type"))]
    kind: String,
    schema: u32,
    /// Its place in the stream.
    pub sequence: u64,
    /// The time in its header.
    pub time_ms: u64,
    /// Its bytes.
    pub payload: Py<PyBytes>,
}

impl JournalEvent {
    /// As the core takes it.
    pub fn written<'a>(&'a self, py: Python<'a>) -> Written<'a> {
        Written { kind: &self.kind, schema: self.schema, at_ms: self.time_ms, payload: self.payload.as_bytes(py) }
    }
}

/// The names of statuses, as they stand in Python.
pub const STATUSES: [(&str, Status); 6] = [
    ("applied", Status::Applied),
    ("pending", Status::Pending),
    ("late", Status::Late),
    ("frozen", Status::Frozen),
    ("kept", Status::Kept),
    ("expired", Status::Expired),
];

/// An outcome as Python gives it: a dict of its fields. Of which capsule is for the caller to say.
pub fn outcome(fields: &Bound<'_, PyDict>) -> PyResult<OutcomeReceived> {
    let named: String = needed(fields, "status")?;
    let status = STATUSES
        .iter()
        .find_map(|&(name, status)| (name == named).then_some(status))
        .ok_or_else(|| PyValueError::new_err(format!("{named:?} is not a status of an event")))?;
    Ok(OutcomeReceived {
        id: optional::<[u8; 16]>(fields, "id")?.map(Bytes16),
        key: needed(fields, "key")?,
        made: ByName(needed(fields, "made")?),
        taken: optional(fields, "taken")?.map(ByName),
        reward: optional(fields, "reward")?,
        status,
        capsule: String::new(),
        metrics: ByName(needed(fields, "metrics")?),
        delay_ms: optional(fields, "delay_ms")?,
        capsule_version: needed(fields, "capsule_version")?,
        deadline_ms: optional(fields, "deadline_ms")?,
        decided_at: optional(fields, "decided_at")?,
        answered: optional(fields, "answered")?.map(ByName),
        again: optional(fields, "again")?.unwrap_or_default(),
    })
}

/// An outcome as a dict of its fields.
pub fn outcome_fields<'py>(py: Python<'py>, outcome: &OutcomeReceived) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    let status = STATUSES.iter().find(|(_, status)| *status == outcome.status).expect("every status has a name").0;
    fields.set_item("id", outcome.id.map(|id| PyBytes::new(py, &id.0)))?;
    fields.set_item("key", &outcome.key)?;
    fields.set_item("made", &outcome.made.0)?;
    fields.set_item("taken", outcome.taken.as_ref().map(|taken| &taken.0))?;
    fields.set_item("reward", outcome.reward)?;
    fields.set_item("status", status)?;
    fields.set_item("metrics", &outcome.metrics.0)?;
    fields.set_item("delay_ms", outcome.delay_ms)?;
    fields.set_item("capsule_version", outcome.capsule_version)?;
    fields.set_item("deadline_ms", outcome.deadline_ms)?;
    fields.set_item("decided_at", outcome.decided_at)?;
    fields.set_item("answered", outcome.answered.as_ref().map(|answered| &answered.0))?;
    fields.set_item("again", outcome.again)?;
    Ok(fields)
}

fn needed<'py, T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>>(
    fields: &Bound<'py, PyDict>,
    name: &str,
) -> PyResult<T> {
    optional(fields, name)?.ok_or_else(|| PyValueError::new_err(format!("{name} is missing")))
}

fn optional<'py, T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>>(
    fields: &Bound<'py, PyDict>,
    name: &str,
) -> PyResult<Option<T>> {
    match fields.get_item(name)? {
        Some(value) if !value.is_none() => value.extract().map(Some).map_err(Into::into),
        _ => Ok(None),
    }
}
