//! Capsule authors' tools: a decision spec in YAML becomes a WebAssembly component that carries
//! its definition, and any component can be read.
//!
//! ```text
//! YAML ─ parse_spec ─▶ Definition ─ wat ─▶ WebAssembly text ─ compile ─▶ component + capsa:definition
//!                                                              inspect ◀─┘
//! ```
//!
//! Nothing is run here, and nothing is read or written but arguments and results. What a compiled
//! guest answers is specified in `src/guest/README.md`.

mod compile;
mod data;
mod inspect;
mod sections;
mod spec;
mod wat;

pub use compile::{CompileError, WORLDS, WrapError, compile, wrap};
pub use inspect::{
    Declared, DefinitionError, EmbedError, InspectError, Inspected, Source, embed_definition, embed_tool_definition,
    inspect, looks_like,
};
pub use spec::{MAX_SPEC_BYTES, SpecError, SpecProblem, parse_spec};
pub use wat::wat;
