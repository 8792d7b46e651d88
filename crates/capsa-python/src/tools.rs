//! Tool capsules: what they keep, what they are bound to, and their calls.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capsa_core::cbor;
use capsa_core::kv::{Change, Quota};
use capsa_vm::{
    BindError, Call, CallError, Circumstances, Exchange, Expected, Given, Grants, KeepError, Keeper, Outcome,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use crate::errors::Raised;
use crate::request::log_lines;

/// The keys and values of one capsule.
#[pyclass(module = "capsa._native.tools", frozen)]
pub struct KeyValues(Arc<Mutex<capsa_core::kv::KeyValues>>);

impl KeyValues {
    fn kept(&self) -> MutexGuard<'_, capsa_core::kv::KeyValues> {
        locked(&self.0)
    }
}

fn locked(kept: &Mutex<capsa_core::kv::KeyValues>) -> MutexGuard<'_, capsa_core::kv::KeyValues> {
    // Nothing panics while the lock is held.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl KeyValues {
    #[new]
    #[pyo3(signature = (entries=None))]
    fn new(entries: Option<HashMap<String, Vec<u8>>>) -> KeyValues {
        let mut kept = capsa_core::kv::KeyValues::default();
        for (key, value) in entries.unwrap_or_default() {
            kept.apply(Change { key, value: Some(value) });
        }
        KeyValues(Arc::new(Mutex::new(kept)))
    }

    fn get<'py>(&self, py: Python<'py>, key: &str) -> Option<Bound<'py, PyBytes>> {
        self.kept().get(key).map(|value| PyBytes::new(py, value))
    }

    #[pyo3(signature = (key, value, *, max_bytes, max_keys))]
    fn fits(&self, key: String, value: Option<Vec<u8>>, max_bytes: u64, max_keys: u64) -> bool {
        self.kept().fits(&Change { key, value }, Quota { bytes: max_bytes, keys: max_keys })
    }

    fn apply(&self, key: String, value: Option<Vec<u8>>) -> bool {
        self.kept().apply(Change { key, value })
    }

    fn entries<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (key, value) in self.kept().entries() {
            dict.set_item(key, PyBytes::new(py, value))?;
        }
        Ok(dict)
    }

    #[getter]
    fn bytes(&self) -> u64 {
        self.kept().bytes()
    }

    fn __len__(&self) -> usize {
        self.kept().len()
    }
}

/// Reads natively, and changes through Python, which records each change first.
struct Recorded {
    kept: Arc<Mutex<capsa_core::kv::KeyValues>>,
    change: Py<PyAny>,
}

impl Keeper for Recorded {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        locked(&self.kept).get(key).map(<[u8]>::to_vec)
    }

    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        locked(&self.kept).keys(prefix, after, limit)
    }

    fn change(&self, change: Change, expected: Expected, quota: Quota) -> Result<bool, KeepError> {
        Python::attach(|py| {
            let bytes = |value: &[u8]| PyBytes::new(py, value);
            let expected = match &expected {
                Expected::Anything => None,
                Expected::Value(value) => Some((value.as_deref().map(bytes),)),
            };
            let value = change.value.as_deref().map(bytes);
            let answer = self
                .change
                .call1(py, (change.key, value, expected, quota.bytes, quota.keys))
                .and_then(|answer| answer.extract::<Option<bool>>(py));
            match answer {
                Ok(Some(was)) => Ok(was),
                Ok(None) => Err(KeepError::Quota),
                // What is wrong with the journal is for the operator to know; it ends the invocation's own record, too.
                Err(_) => Err(KeepError::Unrecorded("the change could not be recorded".to_owned())),
            }
        })
    }
}

/// How many calls of one capsule run.
#[pyclass(module = "capsa._native.tools", frozen)]
pub struct RunningCalls(Arc<AtomicU32>);

#[pymethods]
impl RunningCalls {
    #[new]
    fn new() -> RunningCalls {
        RunningCalls(Arc::default())
    }
}

/// The directory of one capsule.
#[pyclass(module = "capsa._native.tools", frozen)]
pub struct Files(Arc<capsa_vm::Files>);

#[pymethods]
impl Files {
    #[new]
    fn new(path: PathBuf) -> PyResult<Files> {
        Ok(Files(Arc::new(capsa_vm::Files::open(&path)?)))
    }
}

/// A component of the world `tool`.
#[pyclass(module = "capsa._native.tools", frozen)]
pub struct ToolComponent(pub capsa_vm::ToolComponent);

#[pymethods]
impl ToolComponent {
    #[getter]
    fn digest(&self) -> &str {
        self.0.digest()
    }

    #[getter]
    fn imports(&self) -> Vec<&'static str> {
        self.0.imports().iter().map(|interface| interface.name()).collect()
    }

    #[getter]
    fn compensates(&self) -> bool {
        self.0.compensates()
    }

    #[pyo3(signature = (grants, *, kv=None, change=None, files=None, secrets=None, detached=false, running=None))]
    #[expect(clippy::too_many_arguments, reason = "they are named in Python")]
    fn bind(
        &self,
        py: Python<'_>,
        grants: &str,
        kv: Option<PyRef<'_, KeyValues>>,
        change: Option<Py<PyAny>>,
        files: Option<PyRef<'_, Files>>,
        secrets: Option<HashMap<String, String>>,
        detached: bool,
        running: Option<PyRef<'_, RunningCalls>>,
    ) -> Result<Tool, Raised> {
        let grants: Grants =
            serde_json::from_str(grants).map_err(|error| PyValueError::new_err(format!("grants: {error}")))?;
        let keeper: Option<Arc<dyn Keeper>> = match (kv, change) {
            (Some(kv), Some(change)) => Some(Arc::new(Recorded { kept: Arc::clone(&kv.0), change })),
            (None, None) => None,
            _ => return Err(PyTypeError::new_err("kv and change belong together").into()),
        };
        let files = files.map(|files| Arc::clone(&files.0));
        let running = running.map(|running| Arc::clone(&running.0)).unwrap_or_default();
        let given = Given { keeper, files, secrets: secrets.unwrap_or_default(), detached, running };
        // The other engine may have to compile it.
        Ok(Tool(py.detach(|| self.0.bind(grants, given))?))
    }
}

impl From<BindError> for Raised {
    fn from(error: BindError) -> Raised {
        match error {
            BindError::Load(error) => Raised::Load(error),
            BindError::Host { reason } => Raised::Call(CallError::Host { reason }),
            BindError::NotGranted(_) | BindError::Nowhere(_) => Raised::NotGranted(error.to_string()),
        }
    }
}

/// A tool with what it may do.
#[pyclass(module = "capsa._native.tools", frozen)]
pub struct Tool(capsa_vm::Tool);

#[pymethods]
impl Tool {
    #[pyo3(signature = (tenant, input, output=None, *, seed, now_ns, inline=false, record=false, replay=None))]
    #[expect(clippy::too_many_arguments, reason = "they are named in Python")]
    fn call(
        &self,
        py: Python<'_>,
        tenant: &str,
        input: &str,
        output: Option<&str>,
        seed: [u8; 32],
        now_ns: u64,
        inline: bool,
        record: bool,
        replay: Option<&[u8]>,
    ) -> Result<Invocation, Raised> {
        let replay: Option<Vec<Exchange>> = replay.map(|kept| cbor::decode("recording", kept)).transpose()?;
        let tenant = Arc::from(tenant);
        let call = match output {
            None => Call::Invoke(input),
            Some(output) => Call::Compensate(input, output),
        };
        let around = Circumstances { tenant: &tenant, seed, now_ns, inline, record, replay };
        // Inline it is over at once.
        let made = if inline { self.0.call(call, around) } else { py.detach(|| self.0.call(call, around)) };
        Ok(Invocation(made))
    }
}

/// How a call of a tool went.
#[pyclass(module = "capsa._native.tools", frozen)]
pub struct Invocation(capsa_vm::Invocation);

#[pymethods]
impl Invocation {
    #[getter]
    fn output(&self) -> Option<&str> {
        match &self.0.outcome {
            Outcome::Answered(output) => output.as_deref(),
            _ => None,
        }
    }

    #[getter]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let raised: PyErr = match &self.0.outcome {
            Outcome::Answered(_) => return None,
            Outcome::Failed(failure) => Raised::ToolFailed(failure.clone()).into(),
            Outcome::Stopped(error) => Raised::Call(error.clone()).into(),
        };
        Some(raised.into_value(py).into_any())
    }

    #[getter]
    fn too_slow(&self) -> bool {
        matches!(self.0.outcome, Outcome::Stopped(CallError::TooSlow))
    }

    #[getter]
    fn diverged(&self) -> bool {
        self.0.left_over > 0 || matches!(self.0.outcome, Outcome::Stopped(CallError::Diverged { .. }))
    }

    #[getter]
    fn used<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let used = &self.0.used;
        let dict = PyDict::new(py);
        dict.set_item("cpu_ms", used.cpu.as_secs_f64() * 1e3)?;
        dict.set_item("wall_ms", used.wall.as_secs_f64() * 1e3)?;
        dict.set_item("fuel", used.fuel)?;
        dict.set_item("memory_bytes", used.memory_bytes)?;
        dict.set_item("host_calls", used.host_calls)?;
        dict.set_item("egress_requests", used.egress_requests)?;
        dict.set_item("egress_bytes", used.egress_bytes)?;
        dict.set_item("log_lines", self.0.log.lines.len() as u64 + self.0.log.dropped)?;
        Ok(dict)
    }

    #[getter]
    fn log(&self) -> Vec<(String, String)> {
        log_lines(self.0.log.clone())
    }

    #[getter]
    fn log_dropped(&self) -> u64 {
        self.0.log.dropped
    }

    #[getter]
    fn denied(&self) -> Vec<(&'static str, &str, &str)> {
        self.0.denied.iter().map(|denial| (denial.interface, denial.rule.as_str(), denial.detail.as_str())).collect()
    }

    #[getter]
    fn denied_unlisted(&self) -> u64 {
        self.0.denied_unlisted
    }

    #[getter]
    fn recording<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.recording.as_ref().map(|kept| PyBytes::new(py, &cbor::encode(kept)))
    }
}

/// Calls something of Python's in which capsules have to be over at once.
#[pyfunction]
#[pyo3(signature = (work, *args, **named))]
pub fn at_once<'py>(
    work: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    named: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    capsa_vm::at_once(|| work.call(args, named))
}

/// `capsa._native.tools`.
pub fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<ToolComponent>()?;
    module.add_class::<Tool>()?;
    module.add_class::<Invocation>()?;
    module.add_class::<KeyValues>()?;
    module.add_class::<Files>()?;
    module.add_class::<RunningCalls>()?;
    Ok(())
}
