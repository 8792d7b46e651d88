//! The keys of decision ids, and what an id says.

use std::sync::{PoisonError, RwLock};

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
