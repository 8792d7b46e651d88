//! The sandbox.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use capsa_core::input::flatten;
use capsa_core::world::Made;
use capsa_egress::GuardSettings;
use capsa_vm::HostSettings;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert;
use crate::errors::Raised;
use crate::tools::ToolComponent;

/// A WebAssembly engine that runs capsules.
#[pyclass(module = "capsa._native", frozen, weakref)]
pub struct Host(capsa_vm::Host);

#[pymethods]
impl Host {
    #[new]
    #[pyo3(signature = (*, cache_dir=None, dns=None, roots=None))]
    fn new(cache_dir: Option<PathBuf>, dns: Option<Vec<String>>, roots: Option<String>) -> Result<Self, Raised> {
        let parsed = |server: String| {
            let wrong = |_| PyValueError::new_err(format!("dns: {server:?} is not an address with a port"));
            server.parse::<SocketAddr>().map_err(wrong)
        };
        let dns = dns.map(|servers| servers.into_iter().map(parsed).collect::<PyResult<_>>()).transpose()?;
        let egress = GuardSettings { dns, extra_roots_pem: roots };
        let settings = HostSettings { cache_dir, egress, ..HostSettings::default() };
        Ok(Self(capsa_vm::Host::new(&settings)?))
    }

    fn load_tool(&self, py: Python<'_>, component: &[u8]) -> Result<ToolComponent, Raised> {
        Ok(ToolComponent(py.detach(|| self.0.load_tool(component))?))
    }

    fn load(&self, py: Python<'_>, component: &[u8]) -> Result<Component, Raised> {
        Ok(Component(Arc::new(py.detach(|| self.0.load(component))?)))
    }
}

/// A component that is ready to be called.
#[pyclass(module = "capsa._native", frozen)]
pub struct Component(pub Arc<capsa_vm::Component>);

#[pymethods]
impl Component {
    #[getter]
    fn digest(&self) -> &str {
        self.0.digest()
    }

    fn frame<'py>(&self, py: Python<'py>, input: &Bound<'py, PyDict>) -> Result<Vec<Bound<'py, PyDict>>, Raised> {
        let input = flatten(convert::object(input)?)?;
        let framed = py.detach(|| self.0.frame(&input)).map_err(|failed| failed.error)?;
        let rows: PyResult<_> = (framed.choices.into_iter())
            .map(|choice| {
                let row = PyDict::new(py);
                row.set_item("strategy", choice.strategy)?;
                row.set_item("key", choice.key)?;
                row.set_item("features", choice.features)?;
                row.set_item("allowed", choice.allowed)?;
                let candidates: Vec<_> = choice.candidates.into_iter().map(|c| (c.name, c.features)).collect();
                row.set_item("candidates", candidates)?;
                Ok(row)
            })
            .collect();
        Ok(rows?)
    }

    #[pyo3(signature = (outcome, made=Vec::new()))]
    fn reward(
        &self,
        py: Python<'_>,
        outcome: &Bound<'_, PyDict>,
        made: Vec<(String, String, String, Option<f64>)>,
    ) -> Result<f64, Raised> {
        let outcome = flatten(convert::object(outcome)?)?;
        let made: Vec<Made> = (made.into_iter())
            .map(|(strategy, option, key, propensity)| Made { strategy, option, key, propensity })
            .collect();
        Ok(py.detach(|| self.0.reward(&outcome, &made)).map_err(|failed| failed.error)?.reward)
    }
}
