//! Reading components of any origin, and giving them a definition.
#![allow(clippy::unwrap_used)]

use capsa_author::{
    CompileError, Declared, DefinitionError, EmbedError, InspectError, Source, compile, embed_definition,
    embed_tool_definition, inspect, looks_like, parse_spec, wrap,
};
use capsa_core::definition::{Definition, SECTION};

/// What a component with this definition declares.
fn decision(definition: Definition) -> Declared {
    Declared::Decision(Box::new(definition))
}

fn definition() -> Definition {
    parse_spec("name: r\noptions: [a, b]\nreward: {q: 1}\n").unwrap()
}

/// The bytes of a custom section with a short name and payload.
fn section(name: &str, payload: &[u8]) -> Vec<u8> {
    let mut content = vec![name.len() as u8];
    content.extend_from_slice(name.as_bytes());
    content.extend_from_slice(payload);
    let length = content.len();
    let mut section = vec![0, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8];
    section.extend(content);
    section
}

fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn first_bytes_tell_what_something_is() {
    assert_eq!(Source::Component, looks_like(&component("(component)")));
    assert_eq!(Source::CoreModule, looks_like(&component("(module)")));
    assert_eq!(Source::Yaml, looks_like(b"name: r\n"));
    assert_eq!(Source::Yaml, looks_like(b""));
}

#[test]
fn a_compiled_spec_says_it_all() {
    let bytes = compile(&definition()).unwrap();
    let read = inspect(&bytes).unwrap();
    assert_eq!((Source::Component, bytes.len(), Some("decision")), (read.kind, read.size_bytes, read.world));
    assert_eq!((Vec::new(), vec!["frame".to_owned(), "reward".to_owned()]), (read.imports, read.exports));
    assert_eq!(Ok(decision(definition())), read.definition);
    let json = r#"{"kind":"decision","name":"r","reward":{"q":{"weight":1}},"schema":1,"strategies":[{"name":"choice","options":["a","b"]}]}"#;
    assert_eq!(Some(json), read.definition_json.as_deref());
    // The only custom section, and the last one, so that it can be replaced without a tool.
    assert!(bytes.ends_with(json.as_bytes()));
}

#[test]
fn a_digest_is_blake2b_256_of_all_bytes() {
    // From Python: hashlib.blake2b(b"\0asm\x0d\0\1\0", digest_size=32).hexdigest()
    let expected = "b2:d3461d417b7de05c1d175f524c580582339724b8b74f680a0868492bf4a9b63c";
    assert_eq!(expected, inspect(&component("(component)")).unwrap().digest);
}

#[test]
fn imports_are_what_a_host_has_to_provide() {
    let read = inspect(&component(
        r#"(component
            (import "types" (instance (type $t u8) (export "level" (type (eq $t)))))
            (import "handles" (instance (export "handle" (type (sub resource)))))
            (import "wasi:clocks/now" (instance (export "now" (func (result u64)))))
            (import "log" (func))
            (component (import "inner" (func)) (core module (import "a" "b" (func))))
            (core module (import "a" "b" (func)) (func (export "c")))
        )"#,
    ))
    .unwrap();
    assert_eq!(vec!["handles", "wasi:clocks/now", "log"], read.imports);
    assert_eq!((Vec::<String>::new(), None), (read.exports, read.world));
    let module = inspect(&component(r#"(module (import "env" "now" (func)) (memory (export "memory") 1))"#)).unwrap();
    assert_eq!(Source::CoreModule, module.kind);
    assert_eq!((vec!["env.now".to_owned()], vec!["memory".to_owned()]), (module.imports, module.exports));
}

#[test]
fn the_world_is_told_by_types_not_by_names() {
    let other = component(
        r#"(component
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func (export "frame") (canon lift (core func $i "f")))
            (func (export "reward") (canon lift (core func $i "f"))))"#,
    );
    let read = inspect(&other).unwrap();
    assert_eq!((vec!["frame".to_owned(), "reward".to_owned()], None), (read.exports, read.world));
}

#[test]
fn what_is_no_webassembly_or_damaged_is_told_so() {
    let sentence = |bytes: &[u8]| inspect(bytes).unwrap_err().to_string();
    assert_eq!("these 8 bytes are no WebAssembly: they do not start with \\0asm", sentence(b"name: r\n"));
    assert!(matches!(inspect(b"\0asm"), Err(InspectError::Malformed { .. })));
    let whole = compile(&definition()).unwrap();
    for end in [9, 100, whole.len() - 1] {
        assert!(sentence(&whole[..end]).starts_with("not valid WebAssembly: "), "{end}");
    }
}

#[test]
fn each_fault_of_the_section_has_its_sentence() {
    let with = |sections: &[Vec<u8>]| [component("(component)"), sections.concat()].concat();
    let sentence = |sections: &[Vec<u8>]| inspect(&with(sections)).unwrap().definition.unwrap_err().to_string();
    assert_eq!("the component has no section capsa:definition; embed a definition in it", sentence(&[]));
    assert_eq!(
        "the component has no section capsa:definition; embed a definition in it",
        sentence(&[section("capsa:definitions", b"{}")])
    );
    let twice = [section(SECTION, b"{}"), section(SECTION, b"{}")];
    assert_eq!("the component has 2 sections capsa:definition; it may have one", sentence(&twice));
    assert_eq!(DefinitionError::Repeated { count: 2 }, inspect(&with(&twice)).unwrap().definition.unwrap_err());
    assert_eq!(
        "the section capsa:definition does not hold a definition: expected value at line 1 column 1",
        sentence(&[section(SECTION, b"# r")])
    );
    assert_eq!(
        "the section capsa:definition does not hold a definition: missing field `schema` at line 1 column 2",
        sentence(&[section(SECTION, b"{}")])
    );
    let one_option = br#"{"schema":1,"kind":"decision","name":"r","strategies":[{"name":"choice","options":["a"]}]}"#;
    assert_eq!("/strategies/0/options: 1 options; use 2 to 1024", sentence(&[section(SECTION, one_option)]));
    assert_eq!(None, inspect(&with(&[section(SECTION, b"\xff")])).unwrap().definition_json);
    // In a key that a reader may skip.
    assert_eq!(
        "the section capsa:definition is not UTF-8 at byte 27",
        sentence(&[section(SECTION, b"{\"kind\":\"tool\",\"summary\":\"A\xff\"}")])
    );
}

#[test]
fn embedding_replaces_the_definition_and_keeps_every_other_byte() {
    let bare = component("(component (core module $m (func)) (@custom \"authors\" \"x\"))");
    let embedded = embed_definition(&bare, &definition()).unwrap();
    assert!(embedded.starts_with(&bare));
    assert_eq!(Ok(decision(definition())), inspect(&embedded).unwrap().definition);

    let other = Definition { name: "other".to_owned(), ..definition() };
    let replaced = embed_definition(&[embedded, section(SECTION, b"old")].concat(), &other).unwrap();
    assert!(replaced.starts_with(&bare));
    assert_eq!(Ok(decision(other.clone())), inspect(&replaced).unwrap().definition);
    assert_eq!(replaced, embed_definition(&replaced, &other).unwrap());
}

#[test]
fn a_definition_is_embedded_only_if_both_are_sound() {
    let module = embed_definition(&component("(module)"), &definition()).unwrap_err();
    assert_eq!("a definition can be embedded in a component only; this is a core module", module.to_string());
    let text = embed_definition(b"name: r\n", &definition()).unwrap_err();
    assert_eq!("a definition can be embedded in a component only; this is no WebAssembly", text.to_string());
    let mut damaged = component("(component)");
    damaged.push(1);
    assert!(matches!(
        embed_definition(&damaged, &definition()),
        Err(EmbedError::Inspect(InspectError::Malformed { .. }))
    ));

    let mut wrong = definition();
    wrong.strategies[0].options.pop();
    let sentence = "/strategies/0/options: 1 options; use 2 to 1024";
    assert_eq!(sentence, embed_definition(&component("(component)"), &wrong).unwrap_err().to_string());
    let refused = compile(&wrong).unwrap_err();
    assert!(matches!(refused, CompileError::Invalid { .. }));
    assert_eq!(sentence, refused.to_string());
}

#[test]
fn a_tools_definition_is_embedded_and_read_as_it_stands() {
    let text = r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
        (func (export "invoke") (param i32 i32) (result i32) i32.const 64))"#;
    let tool = wrap(text.as_bytes(), "tool").unwrap();
    let read = inspect(&tool).unwrap();
    assert_eq!((Some("tool"), Err(DefinitionError::Missing)), (read.world, read.definition));
    let embedded =
        embed_tool_definition(&tool, &serde_json::json!({"name": "t", "kind": "tool", "schema": 1})).unwrap();
    let json = r#"{"kind":"tool","name":"t","schema":1}"#;
    assert_eq!(Ok(Declared::Tool(json.to_owned())), inspect(&embedded).unwrap().definition);
    let again = embed_tool_definition(&embedded, &serde_json::json!({"kind": "tool"})).unwrap();
    assert_eq!(Ok(Declared::Tool(r#"{"kind":"tool"}"#.to_owned())), inspect(&again).unwrap().definition);
}

#[test]
fn only_a_module_that_fits_is_wrapped() {
    let said = |module: &[u8], world| wrap(module, world).unwrap_err().to_string();
    assert_eq!(said(b"(module)", "guard"), "there is no world \"guard\"; there are decision, tool, compensable-tool");
    assert!(said(b"(module", "tool").starts_with("this is no core WebAssembly module: "));
    assert!(said(b"(component)", "tool").ends_with("it is a component already"));
    assert!(said(b"(module (func (result i32)))", "tool").starts_with("this is no core WebAssembly module: "));
    assert!(said(b"(module)", "tool").starts_with("the module does not fit the world tool: "));
    let wasi = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))))"#;
    assert!(said(wasi.as_bytes(), "tool").starts_with("the module does not fit the world tool: "));
}
