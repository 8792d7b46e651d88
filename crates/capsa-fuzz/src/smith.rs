//! Tools with random code inside.
//!
//! wasm-smith makes a core module out of bytes; around it goes a small module of ours that follows the canonical ABI.
//! Its `invoke` calls one function that the random one exports, or all of them, in an order and with arguments that
//! follow from the input, and answers all results, then all globals and a digest of all memories, as a JSON text of
//! hexadecimal digits.
//! It is the same in every engine that does what WebAssembly says and makes every NaN the canonical one.

use std::fmt::Write as _;

use arbitrary::Unstructured;
use wasm_smith::{Config, MemoryOffsetChoices, Module};
use wasmparser::{ExternalKind, FuncType, Parser, Payload, TypeRef, ValType};

use crate::mutate::Chooser;

/// Function calls and turns of loops that the random code may take, before it traps.
const TURNS: u32 = 500;
/// An empty core module as the first section of a component: where the random one is put.
const EMPTY_MODULE: &[u8] = b"\x01\x08\0asm\x01\0\0\0";
const COMPONENT_PREAMBLE: usize = 8;

/// The tool that follows from a number.
///
/// # Panics
///
/// If bytes enough make no module, which is not seen.
pub fn numbered(seed: u64) -> Vec<u8> {
    let mut chooser = Chooser::new(seed);
    loop {
        let bytes = chooser.bytes(8 << 10);
        if tells(&module(&bytes).expect("so many bytes make a module")) {
            return tool(&bytes).expect("they made a module");
        }
    }
}

/// A component of the world `tool` whose code follows from `data`; `None` where these bytes make none.
pub fn tool(data: &[u8]) -> Option<Vec<u8>> {
    let module = module(data)?;
    let component = wat::parse_str(envelope(&driver(&exports(&module)))).expect("the driver is valid text");
    let (preamble, sections) = component.split_at(COMPONENT_PREAMBLE);
    let behind = sections.strip_prefix(EMPTY_MODULE).expect("the first section is the empty module");
    let mut all = preamble.to_vec();
    all.push(EMPTY_MODULE[0]);
    leb128(&mut all, module.len());
    all.extend_from_slice(&module);
    all.extend_from_slice(behind);
    Some(all)
}

/// A random core module.
fn module(data: &[u8]) -> Option<Vec<u8>> {
    let (flags, rest) = data.split_first_chunk::<2>()?;
    let mut module = Module::new(config(u16::from_le_bytes(*flags)), &mut Unstructured::new(rest)).ok()?;
    module.ensure_termination(TURNS).expect("every body is made of known instructions");
    Some(module.to_bytes())
}

/// Whether two functions at least give something: others are soon known.
fn tells(module: &[u8]) -> bool {
    let gives = |item: &Item| matches!(item, Item::Func(ty) if !ty.results().is_empty());
    exports(module).iter().filter(|(_, item)| gives(item)).count() > 1
}

/// What the engines have in common, and limits well inside ours, so that no denial of the host shows.
fn config(flags: u16) -> Config {
    let bit = |n: u32| flags >> n & 1 == 1;
    Config {
        max_imports: 0,
        min_funcs: 3,
        max_funcs: 8,
        max_types: 12,
        max_type_size: 300,
        max_instructions: if bit(0) { 25 } else { 120 },
        min_globals: 1,
        max_globals: 8,
        min_memories: u32::from(bit(1)),
        max_memories: if bit(2) { 3 } else { 1 },
        max_memory32_bytes: 16 << 16,
        memory_max_size_required: true,
        memory_offset_choices: MemoryOffsetChoices(90, 9, 1),
        max_tables: if bit(3) { 3 } else { 1 },
        max_table_elements: 1000,
        table_max_size_required: true,
        export_everything: true,
        // A segment that lies outside ends every call before it begins; so does what a start function does.
        max_data_segments: if bit(15) { 4 } else { 0 },
        max_element_segments: 8,
        allow_start_export: bit(4) && bit(0),
        // Modules that cannot trap get further; those that can show how they end.
        disallow_traps: bit(5) || bit(6),
        simd_enabled: bit(7),
        bulk_memory_enabled: bit(8),
        tail_call_enabled: bit(9),
        // They bring `externref`, which needs the garbage collection that is not compiled in.
        reference_types_enabled: false,
        multi_value_enabled: bit(10) || bit(11),
        extended_const_enabled: bit(12),
        allow_floats: bit(13) || bit(14),
        canonicalize_nans: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        relaxed_simd_enabled: false,
        threads_enabled: false,
        ..Config::default()
    }
}

enum Item {
    Func(FuncType),
    Global(ValType, bool),
    Memory,
}

/// Names and types of what can be driven from outside.
fn exports(module: &[u8]) -> Vec<(String, Item)> {
    let mut types: Vec<Option<FuncType>> = Vec::new();
    let (mut funcs, mut globals, mut items) = (Vec::new(), Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(module) {
        match payload.expect("wasm-smith makes valid modules") {
            Payload::TypeSection(section) => {
                for ty in section.into_iter_err_on_gc_types() {
                    types.push(ty.ok());
                }
            }
            Payload::ImportSection(section) => {
                let imported = section.into_imports().flatten().any(|import| !matches!(import.ty, TypeRef::Tag(_)));
                assert!(!imported, "nothing is imported");
            }
            Payload::FunctionSection(section) => funcs.extend(section.into_iter().flatten()),
            Payload::GlobalSection(section) => globals.extend(section.into_iter().flatten().map(|global| global.ty)),
            Payload::ExportSection(section) => {
                for export in section.into_iter().flatten() {
                    let index = export.index as usize;
                    let item = match export.kind {
                        ExternalKind::Func => types[funcs[index] as usize].clone().map(Item::Func),
                        ExternalKind::Global => Some(Item::Global(globals[index].content_type, globals[index].mutable)),
                        ExternalKind::Memory => Some(Item::Memory),
                        _ => None,
                    };
                    items.extend(item.map(|item| (export.name.to_owned(), item)));
                }
            }
            _ => {}
        }
    }
    items.retain(|(_, item)| match item {
        Item::Func(ty) => ty.params().iter().chain(ty.results()).all(|ty| name(*ty).is_some()),
        Item::Global(ty, _) => name(*ty).is_some(),
        Item::Memory => true,
    });
    items
}

fn name(ty: ValType) -> Option<&'static str> {
    match ty {
        ValType::I32 => Some("i32"),
        ValType::I64 => Some("i64"),
        ValType::F32 => Some("f32"),
        ValType::F64 => Some("f64"),
        ValType::V128 => Some("v128"),
        ValType::Ref(_) => None,
    }
}

/// The module that calls the random one.
///
/// Addresses: 16 awkward numbers; 256 the result; 512 the input; from 4096 the answer.
fn driver(items: &[(String, Item)]) -> String {
    let (mut imports, mut steps, mut after, mut count, mut memories) =
        (String::new(), String::new(), String::new(), 0, 1);
    for (at, (named, item)) in items.iter().enumerate() {
        let quoted: String = named.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        let mut import = |what: String| writeln!(imports, r#"(import "s" "{quoted}" {what})"#).expect("to memory");
        match item {
            Item::Func(ty) => {
                let list = |types: &[ValType]| types.iter().filter_map(|ty| name(*ty)).collect::<Vec<_>>().join(" ");
                import(format!("(func $s{at} (param {}) (result {}))", list(ty.params()), list(ty.results())));
                let arguments: String = ty.params().iter().map(|ty| argument(*ty)).collect();
                let results: String = ty.results().iter().rev().map(|ty| told(*ty)).collect();
                // One `if` a function: which one it is follows from its number in this call.
                writeln!(
                    steps,
                    "(if (i32.eq (local.get $which) (i32.const {count})) (then {arguments} (call $s{at}) {results}))"
                )
                .expect("to memory");
                count += 1;
            }
            Item::Global(ty, mutable) => {
                let ty_name = name(*ty).expect("others were left out");
                import(if *mutable {
                    format!("(global $s{at} (mut {ty_name}))")
                } else {
                    format!("(global $s{at} {ty_name})")
                });
                writeln!(after, "(global.get $s{at}) {}", told(*ty)).expect("to memory");
            }
            Item::Memory => {
                import(format!("(memory $s{at} 0)"));
                writeln!(after, "(call $digest{at})").expect("to memory");
                writeln!(steps, ";; memory {memories}").expect("to memory");
                memories += 1;
            }
        }
    }
    let digests: String = (items.iter().enumerate())
        .filter(|(_, (_, item))| matches!(item, Item::Memory))
        .map(|(at, _)| digest_of(at))
        .collect();
    format!(
        r#"(core module $driver
        {imports}
        (memory $own (export "memory") 2)
        (data (memory $own) (i32.const 16) "{awkward}")
        (global $state (mut i64) (i64.const 0))
        (global $end (mut i32) (i32.const 4096))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 512))
        (func $next (result i64) (local $z i64)
            (global.set $state (i64.add (global.get $state) (i64.const 0x9e3779b97f4a7c15)))
            (local.set $z (i64.mul (i64.xor (global.get $state) (i64.shr_u (global.get $state) (i64.const 30)))
                (i64.const 0xbf58476d1ce4e5b9)))
            (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 29))))
        (func $word (result i64) (local $bits i64)
            (local.set $bits (call $next))
            (if (result i64) (i64.eqz (i64.and (local.get $bits) (i64.const 1)))
                (then (i64.load $own (i32.add (i32.const 16)
                    (i32.wrap_i64 (i64.and (local.get $bits) (i64.const 0x78))))))
                (else (if (result i64) (i64.eqz (i64.and (local.get $bits) (i64.const 2)))
                    (then (i64.shr_u (local.get $bits) (i64.const 56)))
                    (else (call $next))))))
        (func $byte (param $byte i32)
            (i32.store8 $own (global.get $end) (local.get $byte))
            (global.set $end (i32.add (global.get $end) (i32.const 1))))
        (func $tell (param $value i64) (local $shift i64) (local $digit i32)
            (local.set $shift (i64.const 64))
            (loop $again
                (local.set $shift (i64.sub (local.get $shift) (i64.const 4)))
                (local.set $digit (i32.wrap_i64 (i64.and (i64.shr_u (local.get $value) (local.get $shift)) (i64.const 15))))
                (call $byte (i32.add (local.get $digit)
                    (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $digit) (i32.const 10)))))
                (br_if $again (i32.eqz (i64.eqz (local.get $shift))))))
        (func $tell_i32 (param i32) (call $tell (i64.extend_i32_u (local.get 0))))
        (func $tell_f32 (param f32) (call $tell_i32 (i32.reinterpret_f32 (local.get 0))))
        (func $tell_f64 (param f64) (call $tell (i64.reinterpret_f64 (local.get 0))))
        (func $tell_v128 (param v128)
            (call $tell (i64x2.extract_lane 0 (local.get 0))) (call $tell (i64x2.extract_lane 1 (local.get 0))))
        {digests}
        (func $step (param $which i32)
            {steps})
        (func (export "invoke") (param $in i32) (param $bytes i32) (result i32) (local $n i32) (local $first i32) (local $calls i32)
            (loop $again
                (global.set $state (i64.mul (i64.xor (global.get $state)
                    (i64.load8_u $own (i32.add (local.get $in) (local.get $n)))) (i64.const 0x100000001b3)))
                (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (local.get $bytes))))
            (local.set $first (i32.wrap_i64 (i64.rem_u (call $next) (i64.const {ring}))))
            (local.set $calls (select (i32.const 1) (i32.const {ring}) (i32.wrap_i64 (i64.and (call $next) (i64.const 1)))))
            (call $byte (i32.const 34))
            (local.set $n (i32.const 0))
            (loop $again
                (call $step (i32.rem_u (i32.add (local.get $first) (local.get $n)) (i32.const {ring})))
                (call $byte (i32.const 32))
                (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (local.get $calls))))
            {after}
            (call $byte (i32.const 34))
            (i32.store $own (i32.const 256) (i32.const 0))
            (i32.store $own (i32.const 260) (i32.const 4096))
            (i32.store $own (i32.const 264) (i32.sub (global.get $end) (i32.const 4096)))
            (i32.const 256)))"#,
        awkward = awkward(),
        ring = count.max(1),
    )
}

/// Sixteen numbers at the edges of integers and floats, as the bytes of a data segment.
fn awkward() -> String {
    let numbers: [u64; 16] = [
        0,
        1,
        u64::MAX,
        1 << 63,
        (1 << 63) - 1,
        1 << 31,
        (1 << 31) - 1,
        0xffff_ffff,
        0x7ff0_0000_0000_0000,
        0x7ff8_0000_0000_0000,
        0xfff4_0000_0000_0001,
        0x8000_0000_0000_0000,
        0x7fc0_0000_7f80_0001,
        0x41e0_0000_0000_0000,
        0x0000_0001_0000_0001,
        0x0001_0000_ffff_fff0,
    ];
    numbers.iter().flat_map(|number| number.to_le_bytes()).map(|byte| format!("\\{byte:02x}")).collect()
}

/// Code that pushes one argument.
fn argument(ty: ValType) -> &'static str {
    match ty {
        ValType::I32 => "(i32.wrap_i64 (call $word))",
        ValType::I64 => "(call $word)",
        ValType::F32 => "(f32.reinterpret_i32 (i32.wrap_i64 (call $word)))",
        ValType::F64 => "(f64.reinterpret_i64 (call $word))",
        _ => "(i64x2.replace_lane 1 (i64x2.splat (call $word)) (call $word))",
    }
}

/// Code that writes down the value on top of the stack.
fn told(ty: ValType) -> &'static str {
    match ty {
        ValType::I32 => "call $tell_i32 ",
        ValType::I64 => "call $tell ",
        ValType::F32 => "call $tell_f32 ",
        ValType::F64 => "call $tell_f64 ",
        _ => "call $tell_v128 ",
    }
}

/// Code that writes down how long a memory is, and a digest of what it holds.
fn digest_of(at: usize) -> String {
    format!(
        r#"(func $digest{at} (local $at i32) (local $sum i64)
            (call $tell_i32 (memory.size $s{at}))
            (block $done (loop $again
                (br_if $done (i32.ge_u (local.get $at) (i32.mul (memory.size $s{at}) (i32.const 65536))))
                (local.set $sum (i64.mul (i64.xor (local.get $sum) (i64.load $s{at} (local.get $at)))
                    (i64.const 0x9e3779b97f4a7c15)))
                (local.set $sum (i64.xor (local.get $sum) (i64.shr_u (local.get $sum) (i64.const 32))))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br $again)))
            (call $tell (local.get $sum)))"#
    )
}

/// The component around both modules.
fn envelope(driver: &str) -> String {
    format!(
        r#"(component
        (core module)
        {driver}
        (core instance $s (instantiate 0))
        (core instance $d (instantiate $driver (with "s" (instance $s))))
        (type $failure' (record (field "code" string) (field "message" string) (field "retryable" bool)))
        (export $failure "failure" (type $failure'))
        (type $invoke' (func (param "input" string) (result (result string (error $failure)))))
        (alias core export $d "memory" (core memory $memory))
        (alias core export $d "cabi_realloc" (core func $realloc))
        (alias core export $d "invoke" (core func $do))
        (func $invoke (type $invoke') (canon lift (core func $do) (memory $memory) (realloc $realloc)))
        (export "invoke" (func $invoke)))"#
    )
}

fn leb128(bytes: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}
