//! Reading any WebAssembly: what it is, what it asks of a host, what it declares.
//!
//! Invariants:
//! * nothing is run or compiled; the whole binary is validated before any of it is believed;
//! * a digest names exact bytes, so it covers the definition too.

use std::fmt;

use blake2::digest::consts::U32;
use blake2::{Blake2b, Digest};
use capsa_core::definition::{Definition, Problem, SECTION};
use capsa_core::nesting::{MAX_NESTING, nests_too_deep};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Payload, Validator};

use crate::compile::world;
use crate::sections::{append_definition, component_header, definitions, without_definition};

/// What some bytes are, told by their first ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A WebAssembly component.
    Component,
    /// A WebAssembly module that is no component.
    CoreModule,
    /// Anything else: read as a spec.
    Yaml,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "a component",
            Self::CoreModule => "a core module",
            Self::Yaml => "no WebAssembly",
        })
    }
}

/// The worlds that a component may fit.
const WORLDS: [&str; 2] = ["decision", "tool"];

/// Tells a component, a core module and a spec apart by their first bytes.
pub fn looks_like(bytes: &[u8]) -> Source {
    if component_header(bytes) {
        Source::Component
    } else if bytes.starts_with(b"\0asm") {
        Source::CoreModule
    } else {
        Source::Yaml
    }
}

/// What a module or component is.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspected {
    /// Component or core module.
    pub kind: Source,
    /// Of the whole binary.
    pub size_bytes: usize,
    /// `b2:` and the BLAKE2b-256 of the whole binary in hexadecimal.
    pub digest: String,
    /// What a host has to provide, in order; `module.name` of a core module. Types alone are not listed.
    pub imports: Vec<String>,
    /// What it offers, in order. Types alone are not listed.
    pub exports: Vec<String>,
    /// `decision` or `tool` where a component fits that world: no more imports, and its functions.
    pub world: Option<&'static str>,
    /// What it declares.
    pub definition: Result<Declared, DefinitionError>,
    /// The definition's section as it stands there, where there is exactly one and it is text.
    pub definition_json: Option<String>,
}

/// What a component declares, by its kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Declared {
    /// A decision capsule's definition.
    Decision(Box<Definition>),
    /// A tool's, as JSON: what it wants of the host is for the host's policies to understand.
    Tool(String),
}

/// Why some bytes could not be inspected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// No module and no component.
    #[error("these {size_bytes} bytes are no WebAssembly: they do not start with \\0asm")]
    NotWasm {
        /// How many bytes there were.
        size_bytes: usize,
    },
    /// The header is right and the rest is not.
    #[error("not valid WebAssembly: {reason}")]
    Malformed {
        /// What the validator said, with the offset.
        reason: String,
    },
}

/// Why a component has no definition that could be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DefinitionError {
    /// There is no such section.
    #[error("the component has no section {SECTION}; embed a definition in it")]
    Missing,
    /// It is not clear which one counts.
    #[error("the component has {count} sections {SECTION}; it may have one")]
    Repeated {
        /// How many there are.
        count: usize,
    },
    /// The section does not hold a definition, or one that breaks rules.
    #[error("{}", sentences(.problems))]
    Invalid {
        /// Each fault, with a JSON pointer into the definition.
        problems: Vec<Problem>,
    },
}

/// Why a definition could not be embedded.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EmbedError {
    /// There is nothing to embed it in.
    #[error("a definition can be embedded in a component only; this is {kind}")]
    NotAComponent {
        /// What it is.
        kind: Source,
    },
    /// The component is damaged.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The definition breaks rules of its own.
    #[error("{}", sentences(.problems))]
    Invalid {
        /// Each broken rule, with a JSON pointer into the definition.
        problems: Vec<Problem>,
    },
}

/// One line for each problem: its pointer, if it has one, and its sentence.
pub(crate) fn sentences(problems: &[Problem]) -> String {
    let line =
        |p: &Problem| if p.pointer.is_empty() { p.message.clone() } else { format!("{}: {}", p.pointer, p.message) };
    problems.iter().map(line).collect::<Vec<String>>().join("\n")
}

/// Reads a component or a core module.
///
/// # Errors
///
/// [`InspectError`] if it is neither. A missing or unusable definition is no error here: it
/// stands in [`Inspected::definition`].
pub fn inspect(bytes: &[u8]) -> Result<Inspected, InspectError> {
    let kind = looks_like(bytes);
    if kind == Source::Yaml {
        return Err(InspectError::NotWasm { size_bytes: bytes.len() });
    }
    if nests_too_deep(bytes) {
        return Err(InspectError::Malformed { reason: format!("components nest in it deeper than {MAX_NESTING}") });
    }
    let malformed = |e: wasmparser::BinaryReaderError| InspectError::Malformed { reason: e.to_string() };
    let types = Validator::new().validate_all(bytes).map_err(malformed)?;
    let (imports, exports) = names(bytes, types.as_ref()).map_err(malformed)?;
    let sections = definitions(bytes);
    let definition = match sections.as_slice() {
        [] => Err(DefinitionError::Missing),
        [json] => declared(json),
        several => Err(DefinitionError::Repeated { count: several.len() }),
    };
    let definition_json = match sections.as_slice() {
        [json] => std::str::from_utf8(json).ok().map(str::to_owned),
        _ => None,
    };
    Ok(Inspected {
        kind,
        size_bytes: bytes.len(),
        digest: digest(bytes),
        imports,
        exports,
        world: if kind == Source::Component { WORLDS.into_iter().find(|name| fits(name, bytes)) } else { None },
        definition,
        definition_json,
    })
}

/// The component with this definition in place of those that it has.
///
/// # Errors
///
/// [`EmbedError`] if the bytes are no valid component, or the definition breaks rules.
pub fn embed_definition(component: &[u8], definition: &Definition) -> Result<Vec<u8>, EmbedError> {
    check_component(component)?;
    definition.filled().map_err(|problems| EmbedError::Invalid { problems })?;
    Ok(append_definition(without_definition(component), definition))
}

/// The component with a tool's definition, a JSON object, in place of those that it has.
///
/// # Errors
///
/// [`EmbedError`] if the bytes are no valid component.
pub fn embed_tool_definition(component: &[u8], definition: &serde_json::Value) -> Result<Vec<u8>, EmbedError> {
    check_component(component)?;
    Ok(append_definition(without_definition(component), definition))
}

fn check_component(component: &[u8]) -> Result<(), EmbedError> {
    let kind = looks_like(component);
    if kind != Source::Component {
        return Err(EmbedError::NotAComponent { kind });
    }
    inspect(component)?;
    Ok(())
}

fn declared(json: &[u8]) -> Result<Declared, DefinitionError> {
    #[derive(serde::Deserialize)]
    struct Peek {
        kind: Option<String>,
    }
    // Of keys that it skips, serde_json does not look at the bytes.
    let text = std::str::from_utf8(json).map_err(|error| {
        let fault = format!("the section {SECTION} is not UTF-8 at byte {}", error.valid_up_to());
        DefinitionError::Invalid { problems: vec![Problem { pointer: String::new(), message: fault }] }
    })?;
    let is_tool = serde_json::from_str::<Peek>(text).is_ok_and(|peek| peek.kind.as_deref() == Some("tool"));
    if is_tool {
        return Ok(Declared::Tool(text.to_owned()));
    }
    let read = Definition::from_json(json).map_err(|problems| DefinitionError::Invalid { problems })?;
    Ok(Declared::Decision(Box::new(read)))
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Blake2b::<U32>::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("b2:{hex}")
}

/// Whether the types fit; what the functions do is not known.
fn fits(name: &str, component: &[u8]) -> bool {
    let (resolve, world) = world(name);
    wit_component::targets(&resolve, world, component).is_ok()
}

/// The imports and exports of the outermost module or component.
fn names(bytes: &[u8], types: TypesRef<'_>) -> wasmparser::Result<(Vec<String>, Vec<String>)> {
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import?;
                    imports.push(format!("{}.{}", import.module, import.name));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    exports.push(export?.name.to_owned());
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let name = import?.name.name;
                    if types.component_item_for_import(name).is_some_and(|item| is_more_than_types(types, item.ty)) {
                        imports.push(name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let name = export?.name.name;
                    if types.component_item_for_export(name).is_some_and(|item| is_more_than_types(types, item.ty)) {
                        exports.push(name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok((imports, exports))
}

/// Whether an import or export is something to link, or only names types. A resource is to be
/// linked: its host side has to exist.
fn is_more_than_types(types: TypesRef<'_>, item: ComponentEntityType) -> bool {
    match item {
        ComponentEntityType::Type { created, .. } => {
            matches!(created, wasmparser::component_types::ComponentAnyTypeId::Resource(_))
        }
        ComponentEntityType::Instance(id) => types[id].exports.values().any(|item| is_more_than_types(types, item.ty)),
        _ => true,
    }
}
