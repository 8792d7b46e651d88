//! From a definition to a component: assemble, give it the world's types, embed the definition.
//!
//! Invariants:
//! * equal definitions give equal bytes;
//! * the component imports no function and carries one custom section, `capsa:definition`.

use capsa_core::definition::{Definition, Problem};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, WorldId};

use crate::inspect::sentences;
use crate::sections::{append_definition, without_custom_sections};
use crate::wat::wat;

/// The contract with capsule authors.
const WIT: &str = include_str!("../../../wit/capsule.wit");

/// Why a definition could not be compiled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// The definition breaks rules of its own.
    #[error("{}", sentences(.problems))]
    Invalid {
        /// Each broken rule, with a JSON pointer into the definition.
        problems: Vec<Problem>,
    },
    /// A fault of this crate: the guest it wrote is not accepted by the WebAssembly tools.
    #[error("the guest of {capsule} does not assemble: {reason}")]
    Assembly {
        /// The capsule's name.
        capsule: String,
        /// What the tool said.
        reason: String,
    },
}

/// The component of a definition, which is embedded as it was declared, defaults left out.
///
/// # Errors
///
/// [`CompileError::Invalid`] with every rule that the definition breaks.
pub fn compile(definition: &Definition) -> Result<Vec<u8>, CompileError> {
    definition.filled().map_err(|problems| CompileError::Invalid { problems })?;
    let component = encode(&wat(definition))
        .map_err(|reason| CompileError::Assembly { capsule: definition.name.clone(), reason })?;
    Ok(append_definition(component, definition))
}

/// The world of decision capsules.
pub(crate) fn world() -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let world = resolve
        .push_str("capsule.wit", WIT)
        .and_then(|package| resolve.select_world(&[package], Some("decision")))
        .expect("capsule.wit is valid and has a world decision: every compilation in the tests reads it");
    (resolve, world)
}

fn encode(text: &str) -> Result<Vec<u8>, String> {
    let core = wat::parse_str(text).map_err(|e| e.to_string())?;
    let mut core = without_custom_sections(&core);
    let (resolve, world) = world();
    let component = wit_component::embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)
        .and_then(|()| ComponentEncoder::default().validate(true).module(&core)?.encode())
        .map_err(|e| format!("{e:#}"))?;
    Ok(without_custom_sections(&component))
}
