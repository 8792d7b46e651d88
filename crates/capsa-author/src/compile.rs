//! From a definition to a component: assemble, give it the world's types, embed the definition.
//!
//! Invariants:
//! * equal definitions give equal bytes;
//! * the component imports no function and carries one custom section, `capsa:definition`.

use capsa_core::definition::{Definition, Problem};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, WorldId};

use crate::inspect::sentences;
use crate::sections::{append_definition, component_header, without_custom_sections};
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

/// Why a core module could not be made a component.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WrapError {
    /// There is no such world.
    #[error("there is no world {world:?}; there are {}", WORLDS.join(", "))]
    UnknownWorld {
        /// What was asked for.
        world: String,
    },
    /// It is neither a module nor the text of one.
    #[error("this is no core WebAssembly module: {reason}")]
    NotAModule {
        /// What the parser said.
        reason: String,
    },
    /// Its imports and exports are not those of the world.
    #[error("the module does not fit the world {world}: {reason}")]
    Unfit {
        /// Which world.
        world: String,
        /// The difference.
        reason: String,
    },
}

/// The worlds that a core module can be wrapped for.
pub const WORLDS: [&str; 3] = ["decision", "tool", "compensable-tool"];

/// A component of a world of `capsule.wit` around a core module, binary or text, that follows its canonical ABI.
///
/// # Errors
///
/// [`WrapError`] if it is no module, or does not fit.
pub fn wrap(module: &[u8], world_name: &str) -> Result<Vec<u8>, WrapError> {
    if !WORLDS.contains(&world_name) {
        return Err(WrapError::UnknownWorld { world: world_name.to_owned() });
    }
    let not_a_module = |reason: String| WrapError::NotAModule { reason };
    let core = wat::parse_bytes(module).map_err(|error| not_a_module(error.to_string()))?;
    if component_header(&core) {
        return Err(not_a_module("it is a component already".to_owned()));
    }
    wasmparser::Validator::new().validate_all(&core).map_err(|error| not_a_module(error.to_string()))?;
    let mut core = core.into_owned();
    let (resolve, world) = world(world_name);
    wit_component::embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)
        .and_then(|()| ComponentEncoder::default().validate(true).module(&core)?.encode())
        .map_err(|error| WrapError::Unfit { world: world_name.to_owned(), reason: format!("{error:#}") })
}

/// A world of `capsule.wit`.
pub(crate) fn world(name: &str) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let world = resolve
        .push_str("capsule.wit", WIT)
        .and_then(|package| resolve.select_world(&[package], Some(name)))
        .expect("capsule.wit is valid and has its worlds: every compilation in the tests reads it");
    (resolve, world)
}

fn encode(text: &str) -> Result<Vec<u8>, String> {
    let core = wat::parse_str(text).map_err(|e| e.to_string())?;
    let mut core = without_custom_sections(&core);
    let (resolve, world) = world("decision");
    let component = wit_component::embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)
        .and_then(|()| ComponentEncoder::default().validate(true).module(&core)?.encode())
        .map_err(|e| format!("{e:#}"))?;
    Ok(without_custom_sections(&component))
}
