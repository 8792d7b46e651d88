//! The sections of a WebAssembly binary: dropping custom ones, finding and replacing the definition.
//!
//! Invariant: what is not a custom section is copied byte for byte.

use capsa_core::definition::SECTION;
use serde::Serialize;
use wasmparser::BinaryReader;

/// Bytes of the magic number and the version.
const HEADER: usize = 8;
/// A custom section; its payload starts with its name.
const CUSTOM: u8 = 0;
/// A nested module or component, in a component.
const MODULE: u8 = 1;
const COMPONENT: u8 = 4;
/// How a component starts.
const COMPONENT_HEADER: [u8; HEADER] = [0x00, b'a', b's', b'm', 0x0d, 0x00, 0x01, 0x00];

/// Whether these are the first bytes of a component.
pub(crate) fn component_header(bytes: &[u8]) -> bool {
    bytes.starts_with(&COMPONENT_HEADER)
}

/// One section: its number and its payload.
struct Section<'a> {
    id: u8,
    payload: &'a [u8],
}

/// The sections of a binary, up to the first malformed one: callers validate before.
fn sections(wasm: &[u8]) -> impl Iterator<Item = Section<'_>> {
    let mut reader = BinaryReader::new(wasm.get(HEADER..).unwrap_or_default(), HEADER);
    std::iter::from_fn(move || {
        let id = reader.read_u8().ok()?;
        let length = reader.read_var_u32().ok()?;
        let payload = reader.read_bytes(length as usize).ok()?;
        Some(Section { id, payload })
    })
}

fn push_section(out: &mut Vec<u8>, id: u8, payload: &[u8]) {
    out.push(id);
    push_length(out, payload.len());
    out.extend_from_slice(payload);
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The content of a definition section; `None` for any other section.
fn definition_json<'a>(section: &Section<'a>) -> Option<&'a [u8]> {
    let mut reader = BinaryReader::new(section.payload, 0);
    if section.id != CUSTOM || reader.read_string().ok()? != SECTION {
        return None;
    }
    reader.read_bytes(reader.bytes_remaining()).ok()
}

/// The content of each definition section of a valid module or component, nested ones apart.
pub(crate) fn definitions(wasm: &[u8]) -> Vec<&[u8]> {
    sections(wasm).filter_map(|section| definition_json(&section)).collect()
}

/// The same module or component without custom sections, in nested ones too.
pub(crate) fn without_custom_sections(wasm: &[u8]) -> Vec<u8> {
    let mut out = wasm[..HEADER].to_vec();
    let nests = component_header(wasm);
    for section in sections(wasm).filter(|section| section.id != CUSTOM) {
        if nests && (section.id == MODULE || section.id == COMPONENT) {
            push_section(&mut out, section.id, &without_custom_sections(section.payload));
        } else {
            push_section(&mut out, section.id, section.payload);
        }
    }
    out
}

/// The component with a definition as its last section.
pub(crate) fn append_definition(mut component: Vec<u8>, definition: &impl Serialize) -> Vec<u8> {
    let json = serde_json_canonicalizer::to_vec(definition).expect("a checked definition holds finite numbers only");
    let mut payload = Vec::with_capacity(SECTION.len() + 1 + json.len());
    push_length(&mut payload, SECTION.len());
    payload.extend_from_slice(SECTION.as_bytes());
    payload.extend_from_slice(&json);
    push_section(&mut component, CUSTOM, &payload);
    component
}

/// The component without definition sections of its own (nested ones stay).
pub(crate) fn without_definition(component: &[u8]) -> Vec<u8> {
    let mut out = component[..HEADER].to_vec();
    for section in sections(component) {
        if definition_json(&section).is_none() {
            push_section(&mut out, section.id, section.payload);
        }
    }
    out
}
