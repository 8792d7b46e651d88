//! Only components of the decision world load; everything else is told what is wrong with it.

use capsa_vm::{Host, HostSettings, Limits, LoadError};

use crate::guests::{Guest, WORLD, assert_still_serves, component_of, host};

fn refused(bytes: &[u8]) -> LoadError {
    let host = host();
    let error = host.load(bytes).expect_err("this is no decision capsule");
    assert_still_serves(&host);
    error
}

/// The good guest as a component of a changed world.
fn of_changed_world(from: &str, to: &str, core: &str) -> LoadError {
    assert!(WORLD.contains(from), "{from:?} is in the WIT");
    refused(&component_of(&WORLD.replace(from, to), core))
}

#[test]
fn bytes_that_are_no_component_are_told_what_they_are() {
    assert_eq!(refused(b""), LoadError::NotWasm);
    assert_eq!(refused(b"(component)"), LoadError::NotWasm);
    assert_eq!(refused(&wat::parse_str("(module)").unwrap()), LoadError::CoreModule);
    assert_eq!(refused(b"\0asm\x0c\0\x01\0"), LoadError::UnknownVersion { header: vec![0x0c, 0, 1, 0] });
    assert_eq!(refused(b"\0asm\x0d"), LoadError::UnknownVersion { header: vec![0x0d] });
    let good = Guest::default().component();
    assert!(matches!(refused(&good[..good.len() - 1]), LoadError::Invalid { .. }));
}

#[test]
fn a_component_over_the_size_limit_is_refused() {
    let good = Guest::default().component();
    let limits = Limits { component_bytes: good.len() - 1, ..Limits::default() };
    let host = Host::new(&HostSettings { limits, ..HostSettings::default() }).unwrap();
    let error = host.load(&good).unwrap_err();
    assert_eq!(error, LoadError::TooLarge { bytes: good.len(), limit: good.len() - 1 });
}

#[test]
fn a_missing_export_is_named() {
    assert_eq!(
        refused(&wat::parse_str("(component)").unwrap()),
        LoadError::MissingExport { world: "decision", export: "frame" }
    );
    let error = of_changed_world(
        "export reward: func(outcome: fields, made: list<made>) -> result<f64, string>;",
        "",
        &Guest::default().core(),
    );
    assert_eq!(error.to_string(), "this is not a decision capsule: it does not export `reward`");
}

#[test]
fn an_export_of_another_type_is_named_with_the_difference() {
    let wrong = |from, to| match of_changed_world(from, to, &Guest::default().core()) {
        LoadError::WrongExport { export, reason, .. } => (export, reason),
        other => panic!("{other:?}"),
    };
    let (export, reason) = wrong("result<f64, string>", "result<s64, string>");
    assert_eq!(export, "reward");
    assert!(reason.contains("expected `f64` found `s64`"), "{reason}");

    let (export, reason) = wrong("    key: string,\n    /// What describes this call", "    name: string,\n    ///");
    assert_eq!(export, "frame");
    assert!(reason.contains("key"), "{reason}");

    let instance = r#"(component (instance $i) (export "frame" (instance $i)))"#;
    let error = refused(&wat::parse_str(instance).unwrap());
    assert_eq!(
        error.to_string(),
        "this is not a decision capsule: its export `frame` has the wrong type: it is an instance, not a function"
    );
}

#[test]
fn an_import_that_the_world_lacks_is_refused_by_name() {
    let with_import = |import: &str, module: &str, name: &str| {
        let core = Guest::default().core().replacen(
            "(module",
            &format!(r#"(module (import "{module}" "{name}" (func (result i64)))"#),
            1,
        );
        of_changed_world("import log:", &format!("{import} import log:"), &core).to_string()
    };
    assert_eq!(
        with_import("import now: func() -> s64;", "$root", "now"),
        "the component imports the function `now`, which the decision world does not offer"
    );
    assert_eq!(
        with_import("import clock: interface { now: func() -> s64; }", "clock", "now"),
        "the component imports the function `clock#now`, which the decision world does not offer"
    );
    let resource = r#"(component (import "handle" (type (sub resource))))"#;
    assert_eq!(
        refused(&wat::parse_str(resource).unwrap()).to_string(),
        "the component imports the resource `handle`, which the decision world does not offer"
    );
}

#[test]
fn an_import_of_another_type_is_refused() {
    let core = Guest::default().core().replacen("(param $level i32) (param $text i32)", "(param $text i32)", 1);
    let error = of_changed_world("log: func(level: level, message: string)", "log: func(message: string)", &core);
    assert!(matches!(&error, LoadError::WrongImport { reason, .. } if reason.contains("log")), "{error:?}");
}

#[test]
fn what_no_instance_could_have_is_refused_when_loading() {
    let memory = |memory| refused(&Guest { memory, ..Guest::default() }.component());
    assert_eq!(
        memory(r#"(memory (export "memory") 1025)"#),
        LoadError::MemoryTooLarge { needs: 1025 << 16, limit: 64 << 20 }
    );
    let table = refused(&Guest { more: "(table 100001 funcref)", ..Guest::default() }.component());
    assert!(matches!(&table, LoadError::TooDemanding { reason } if reason.contains("100001")), "{table:?}");

    let modules = |item: &str, n: usize| {
        let instances = "(core instance (instantiate $m))".repeat(n);
        refused(&wat::parse_str(format!("(component (core module $m {item}) {instances})")).unwrap())
    };
    assert_eq!(
        modules("(memory 1)", 5).to_string(),
        "the component needs too much: it has 5 memories, at most 4 are possible"
    );
    assert_eq!(
        modules("(table 1 funcref)", 33).to_string(),
        "the component needs too much: it has 33 tables, at most 32 are possible"
    );
    // Nothing is wrong with these numbers: the next check speaks.
    assert_eq!(
        modules("(memory 1) (table 1 funcref)", 4),
        LoadError::MissingExport { world: "decision", export: "frame" }
    );
    assert_eq!(modules("(func)", 200), LoadError::MissingExport { world: "decision", export: "frame" });
}

/// Between its inner components wasmtime makes modules that copy from memory to memory. It
/// panicked where modules with several memories were switched off.
#[test]
fn a_component_made_of_components_is_compiled() {
    let composed = r#"(component
        (component $callee
            (core module $m
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 16)
                (func (export "f") (param i32 i32)))
            (core instance $i (instantiate $m))
            (func (export "f") (param "s" string)
                (canon lift (core func $i "f") (memory $i "memory") (realloc (func $i "realloc")))))
        (component $caller
            (import "f" (func $f (param "s" string)))
            (core module $memory (memory (export "memory") 1))
            (core instance $memory (instantiate $memory))
            (core func $lowered (canon lower (func $f) (memory $memory "memory")))
            (core module $m (import "host" "f" (func (param i32 i32))))
            (core instance (instantiate $m (with "host" (instance (export "f" (func $lowered)))))))
        (instance $callee (instantiate $callee))
        (instance (instantiate $caller (with "f" (func $callee "f")))))"#;
    assert_eq!(
        refused(&wat::parse_str(composed).unwrap()),
        LoadError::MissingExport { world: "decision", export: "frame" }
    );
}

#[test]
fn proposals_that_are_switched_off_do_not_load() {
    let uses = |more| refused(&Guest { more, ..Guest::default() }.component());
    let memory64 = uses("(memory $m i64 1)");
    assert!(matches!(memory64, LoadError::Invalid { .. }), "{memory64:?}");
    let relaxed =
        uses("(func (param v128) (result v128) (f32x4.relaxed_madd (local.get 0) (local.get 0) (local.get 0)))");
    assert!(matches!(relaxed, LoadError::Invalid { .. }), "{relaxed:?}");
}
