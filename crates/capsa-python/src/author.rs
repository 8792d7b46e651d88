//! Specs and components.

use capsa_author::Declared;
use capsa_core::definition::Definition;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::errors::Raised;

/// Compiles a YAML spec to a component.
#[pyfunction]
pub fn compile_spec<'py>(py: Python<'py>, source: &str) -> Result<Bound<'py, PyBytes>, Raised> {
    let component = py.detach(|| -> Result<_, Raised> {
        let definition = capsa_author::parse_spec(source)?;
        Ok(capsa_author::compile(&definition)?)
    })?;
    Ok(PyBytes::new(py, &component))
}

/// The definition that a YAML spec declares, as JSON.
#[pyfunction]
pub fn spec_definition(source: &str) -> Result<String, Raised> {
    Ok(json(&capsa_author::parse_spec(source)?))
}

/// The readable WebAssembly text of a YAML spec.
#[pyfunction]
pub fn spec_wat(source: &str) -> Result<String, Raised> {
    Ok(capsa_author::wat(&capsa_author::parse_spec(source)?))
}

/// What a component is and declares.
#[pyfunction]
pub fn inspect_component<'py>(py: Python<'py>, component: &[u8]) -> Result<Bound<'py, PyDict>, Raised> {
    let inspected = py.detach(|| capsa_author::inspect(component))?;
    let facts = PyDict::new(py);
    facts.set_item("digest", inspected.digest)?;
    facts.set_item("size_bytes", inspected.size_bytes)?;
    facts.set_item("imports", inspected.imports)?;
    facts.set_item("exports", inspected.exports)?;
    facts.set_item("world", inspected.world)?;
    facts.set_item("kind", inspected.kind.to_string())?;
    let (declares, definition, error) = match inspected.definition {
        Ok(Declared::Decision(definition)) => (Some("decision"), Some(json(&definition)), None),
        Ok(Declared::Tool(definition)) => (Some("tool"), Some(definition), None),
        Err(error) => (None, None, Some(error.to_string())),
    };
    facts.set_item("declares", declares)?;
    facts.set_item("definition", definition)?;
    facts.set_item("definition_error", error)?;
    Ok(facts)
}

/// A component around a core module.
#[pyfunction]
pub fn wrap_module<'py>(py: Python<'py>, module: &[u8], world: &str) -> Result<Bound<'py, PyBytes>, Raised> {
    let wrapped = py.detach(|| capsa_author::wrap(module, world));
    Ok(PyBytes::new(py, &wrapped.map_err(|error| Raised::InvalidCapsule(error.to_string()))?))
}

/// A component with a tool's definition in it.
#[pyfunction]
pub fn embed_tool_definition<'py>(
    py: Python<'py>,
    component: &[u8],
    definition: &str,
) -> Result<Bound<'py, PyBytes>, Raised> {
    let definition: serde_json::Value =
        serde_json::from_str(definition).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let embedded = py.detach(|| capsa_author::embed_tool_definition(component, &definition));
    let embedded = embedded.map_err(|error| Raised::InvalidCapsule(error.to_string()))?;
    Ok(PyBytes::new(py, &embedded))
}

/// A definition with every default written down, both as JSON.
#[pyfunction]
pub fn filled_definition(definition: &str) -> Result<String, Raised> {
    let definition = Definition::from_json(definition.as_bytes()).map_err(Raised::Definition)?;
    Ok(json(&definition.filled().map_err(Raised::Definition)?))
}

fn json(definition: &Definition) -> String {
    serde_json::to_string(definition).expect("a definition is JSON")
}
