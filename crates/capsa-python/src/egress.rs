//! What the egress guard says of a request, without sending it.

use capsa_egress::{Destination, Host};
use capsa_vm::Grants;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// See `_native/__init__.pyi`.
#[pyfunction]
pub fn explain_url<'py>(py: Python<'py>, effective: &str, method: &str, url: &str) -> PyResult<Bound<'py, PyDict>> {
    let grants: Grants =
        serde_json::from_str(effective).map_err(|error| PyValueError::new_err(format!("effective: {error}")))?;
    let told = PyDict::new(py);
    let destination = Destination::parse(url);
    let checked = destination.as_ref().map_err(Clone::clone).and_then(|to| grants.http.check(method, to));
    told.set_item("allowed", checked.is_ok())?;
    let denied = checked.as_ref().err();
    told.set_item("rule", denied.map(|denied| denied.rule))?;
    told.set_item("detail", denied.map(|denied| denied.detail.as_str()))?;
    let matched = checked.as_ref().ok();
    told.set_item("wanted", matched.map(|found| found.wanted))?;
    told.set_item("allowedRule", matched.map(|found| found.allowed))?;
    told.set_item("private", matched.is_some_and(|found| found.private))?;
    let destination = destination.as_ref().ok();
    told.set_item("host", destination.map(|to| to.host().to_string()))?;
    told.set_item("port", destination.map(Destination::port))?;
    let named = destination.is_some_and(|to| matches!(to.host(), Host::Name(_)));
    told.set_item("needsResolving", checked.is_ok() && named)?;
    Ok(told)
}
