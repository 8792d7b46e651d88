//! The keys of decision ids, and what an id says.

use std::sync::{Arc, PoisonError, RwLock};

use capsa_core::capsule::Capsule as State;
use capsa_core::cbor::{ByName, Bytes16};
use capsa_core::decide::Reason;
use capsa_core::definition::{Definition, Mode};
use capsa_core::events::{Decided, KeyFrom};
use capsa_core::sealed::{self, KEY_BYTES};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::decision::Decision;

/// The keys that seal decision ids.
#[pyclass(module = "capsa._native", frozen)]
#[derive(Default)]
pub struct Keyring(RwLock<sealed::Keyring>);

impl Keyring {
    /// Reads the keys.
    pub fn with<T>(&self, read: impl FnOnce(&sealed::Keyring) -> T) -> T {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[pymethods]
impl Keyring {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    fn add(&self, number: u16, since_ms: u64, key: &[u8]) -> PyResult<()> {
        let key: [u8; KEY_BYTES] =
            key.try_into().map_err(|_| PyValueError::new_err(format!("a key has {KEY_BYTES} bytes")))?;
        self.0.write().unwrap_or_else(PoisonError::into_inner).add(number, since_ms, key);
        Ok(())
    }
}

/// What a decision id says.
#[pyclass(module = "capsa._native", frozen)]
pub struct OpenedId {
    pub nonce: [u8; 16],
    #[pyo3(get)]
    pub sequence: u64,
    #[pyo3(get)]
    pub decided_ms: u64,
    #[pyo3(get)]
    pub deadline_ms: u64,
    #[pyo3(get)]
    pub decision: Option<Py<Decision>>,
}

#[pymethods]
impl OpenedId {
    #[getter]
    fn nonce<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.nonce)
    }
}

/// The record as far as an id tells it; `None` where it names a version or an option that there never was.
pub fn told(
    state: &State,
    nonce: [u8; 16],
    deadline_ms: u64,
    carried: sealed::Carried,
) -> Option<(Decided, Arc<Definition>)> {
    let sealed::Carried { capsule_version, mode, options, propensity, key } = carried;
    let version = Arc::clone(&state.version_at(capsule_version)?.definition);
    let options: Option<ByName<String>> = (version.strategies.iter().zip(options))
        .map(|(strategy, number)| Some((strategy.name.clone(), strategy.options.get(usize::from(number))?.clone())))
        .collect();
    let record = Decided {
        id: Bytes16(nonce),
        key,
        mode: if mode == 0 { Mode::Live } else { Mode::Shadow },
        other: None,
        reason: Reason::Learned,
        allowed: None,
        capsule: version.name.clone(),
        current: None,
        options: options?,
        unknown: None,
        baseline: ByName::default(),
        key_from: KeyFrom::Input,
        suggested: None,
        propensity,
        deadline_ms,
        probabilities: None,
        capsule_version,
        learner_version: 0,
        subject: None,
        defaults: None,
    };
    Some((record, version))
}
