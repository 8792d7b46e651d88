//! The payloads of events.

use std::collections::BTreeMap;

use capsa_core::cbor::{ByName, Bytes16};
use capsa_core::events::{Event, Installed, LearningChanged, OutcomeReceived, Status};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

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
    PyBytes::new(py, &Event::Installed(Installed { digest, capsule, version, definition, size_bytes }).encode())
}

/// The payload of a `learning_changed` event.
#[pyfunction]
pub fn encode_learning_changed<'py>(
    py: Python<'py>,
    capsule: String,
    changed: Vec<String>,
    overrides: String,
) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &Event::LearningChanged(LearningChanged { capsule, changed, overrides }).encode())
}

/// The payload of an `outcome_received` event.
#[pyfunction]
#[pyo3(signature = (*, capsule, capsule_version, key, made, status, metrics, id=None, taken=None, reward=None, delay_ms=None))]
#[allow(clippy::too_many_arguments, reason = "the fields of one event")]
pub fn encode_outcome<'py>(
    py: Python<'py>,
    capsule: String,
    capsule_version: u32,
    key: String,
    made: BTreeMap<String, String>,
    status: &str,
    metrics: BTreeMap<String, f64>,
    id: Option<[u8; 16]>,
    taken: Option<BTreeMap<String, String>>,
    reward: Option<f64>,
    delay_ms: Option<u64>,
) -> PyResult<Bound<'py, PyBytes>> {
    let status = match status {
        "applied" => Status::Applied,
        "pending" => Status::Pending,
        "late" => Status::Late,
        "frozen" => Status::Frozen,
        "kept" => Status::Kept,
        other => return Err(pyo3::exceptions::PyValueError::new_err(format!("{other:?} is not a status of an event"))),
    };
    let outcome = OutcomeReceived {
        id: id.map(Bytes16),
        key,
        made: ByName(made),
        taken: taken.map(ByName),
        reward,
        status,
        capsule,
        metrics: ByName(metrics),
        delay_ms,
        capsule_version,
    };
    Ok(PyBytes::new(py, &Event::OutcomeReceived(outcome).encode()))
}
