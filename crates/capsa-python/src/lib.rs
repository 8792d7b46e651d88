//! The module `capsa._native`: extract, release the interpreter, call, convert.
//!
//! No rule of the domain lives here: it would be tested only from Python and used only there.
//! One file per concept, one error table. The stubs in `python/capsa/_native` are the manual.

mod answer;
mod arrays;
mod author;
mod body;
mod capsule;
mod contexts;
mod convert;
mod deciding;
mod decision;
mod egress;
mod errors;
mod events;
mod host;
mod joint;
mod keyring;
mod learners;
mod pace;
mod post;
mod replay;
mod request;
mod tally;
mod tools;

use pyo3::prelude::*;

/// Native parts of Capsa.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("EVENT_SCHEMA", capsa_core::events::SCHEMA)?;
    module.add("FOLD_VERSION", capsa_core::capsule::FOLD)?;
    module.add_class::<keyring::Keyring>()?;
    module.add_class::<keyring::OpenedId>()?;
    add_module(module, "learners", learners)?;
    add_module(module, "tools", tools::add)?;
    module.add_class::<host::Host>()?;
    module.add_class::<host::Component>()?;
    module.add_class::<capsule::Capsule>()?;
    module.add_class::<decision::Decision>()?;
    module.add_class::<post::Post>()?;
    module.add_class::<contexts::LearnedThen>()?;
    module.add_class::<decision::StrategyDecision>()?;
    module.add_class::<decision::Suggestion>()?;
    module.add_function(wrap_pyfunction!(body::read_json, module)?)?;
    module.add_function(wrap_pyfunction!(body::read_cbor, module)?)?;
    module.add_function(wrap_pyfunction!(author::compile_spec, module)?)?;
    module.add_function(wrap_pyfunction!(author::spec_definition, module)?)?;
    module.add_function(wrap_pyfunction!(author::spec_wat, module)?)?;
    module.add_function(wrap_pyfunction!(author::inspect_component, module)?)?;
    module.add_function(wrap_pyfunction!(author::filled_definition, module)?)?;
    module.add_function(wrap_pyfunction!(events::encode_installed, module)?)?;
    module.add_function(wrap_pyfunction!(events::encode_learning_changed, module)?)?;
    module.add_function(wrap_pyfunction!(replay::decide_again, module)?)?;
    module.add_function(wrap_pyfunction!(author::wrap_module, module)?)?;
    module.add_function(wrap_pyfunction!(author::embed_tool_definition, module)?)?;
    module.add_function(wrap_pyfunction!(egress::explain_url, module)?)?;
    module.add_function(wrap_pyfunction!(tools::at_once, module)?)?;
    module.add_function(wrap_pyfunction!(convert::digest, module)?)?;
    Ok(())
}

/// Adds the module `capsa._native.{name}` with what `add` puts into it.
fn add_module(module: &Bound<'_, PyModule>, name: &str, add: fn(&Bound<'_, PyModule>) -> PyResult<()>) -> PyResult<()> {
    let whole = format!("capsa._native.{name}");
    let inner = PyModule::new(module.py(), &whole)?;
    add(&inner)?;
    module.add(name, &inner)?;
    // An extension has no folder in which it would be found.
    module.py().import("sys")?.getattr("modules")?.set_item(whole, inner)
}

/// `capsa._native.learners`.
fn learners(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<learners::Learner>()?;
    module.add_class::<learners::Thompson>()?;
    module.add_class::<learners::EpsilonGreedy>()?;
    module.add_class::<learners::Ucb1>()?;
    module.add_class::<learners::SimpleWeighted>()?;
    module.add_class::<joint::Combinations>()?;
    module.add_function(wrap_pyfunction!(joint::masked_argmax, module)?)?;
    module.add_function(wrap_pyfunction!(joint::masked_argmax_batch, module)?)?;
    Ok(())
}
