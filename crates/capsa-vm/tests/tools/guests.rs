//! Tools for the tests: core modules in WAT, made into components of the world `tool`.

use std::sync::{Arc, Mutex};

use capsa_core::kv::{Change, KeyValues, Quota};
use capsa_vm::{Call, Circumstances, Expected, Given, Grants, Host, HostSettings, Invocation, KeepError, Keeper, Tool};
use serde_json::{Value, json};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The worlds as authors get them.
pub const WIT: &str = include_str!("../../../../wit/capsule.wit");

/// What each interface looks like to a core module, by the names that the tests' guests use.
pub const IMPORTS: &[(&str, &str)] = &[
    ("log", r#"(import "$root" "log" (func $log (param i32 i32 i32)))"#),
    ("now", r#"(import "capsa:capsule/clock@0.1.0" "now" (func $now (result i64)))"#),
    ("elapsed", r#"(import "capsa:capsule/clock@0.1.0" "elapsed" (func $elapsed (result i64)))"#),
    ("random", r#"(import "capsa:capsule/random@0.1.0" "bytes" (func $random (param i32 i32)))"#),
    ("config", r#"(import "capsa:capsule/config@0.1.0" "get" (func $config (param i32 i32 i32)))"#),
    ("kv_get", r#"(import "capsa:capsule/kv@0.1.0" "get" (func $kv_get (param i32 i32 i32)))"#),
    ("kv_set", r#"(import "capsa:capsule/kv@0.1.0" "set" (func $kv_set (param i32 i32 i32 i32 i32)))"#),
    (
        "http",
        r#"(import "capsa:capsule/http@0.1.0" "send"
            (func $http (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#,
    ),
    ("read", r#"(import "capsa:capsule/files@0.1.0" "read" (func $read (param i32 i32 i32)))"#),
    ("write", r#"(import "capsa:capsule/files@0.1.0" "write" (func $write (param i32 i32 i32 i32 i32)))"#),
    ("secret", r#"(import "capsa:capsule/secrets@0.1.0" "handle" (func $secret (param i32 i32 i32)))"#),
];

/// A tool in parts. `invoke` gets the input as `$in` and `$bytes` and leaves the address of its result; there are
/// `(call $ok (ptr) (bytes))` and `(call $told (ptr))`, which answers what a host function has written at an address
/// as `result<.., error>` with a text or bytes at its third word, its error's sentence in place of it.
///
/// Addresses: 16 `null`; 64 the result; 128 what host functions write; from 4096 what `cabi_realloc` hands out.
pub struct Guest {
    pub imports: &'static [&'static str],
    pub invoke: &'static str,
    pub more: &'static str,
    pub world: &'static str,
}

impl Default for Guest {
    fn default() -> Self {
        Guest { imports: &[], invoke: "(call $ok (local.get $in) (local.get $bytes))", more: "", world: "tool" }
    }
}

impl Guest {
    pub fn component(&self) -> Vec<u8> {
        let Guest { imports, invoke, more, .. } = self;
        let imports: String = (imports.iter())
            .map(|name| IMPORTS.iter().find(|(known, _)| known == name).expect("it is in the table").1)
            .collect();
        component_of(
            self.world,
            &format!(
                r#"(module {imports}
                (memory (export "memory") 1)
                (global $heap (mut i32) (i32.const 4096))
                (data (i32.const 16) "null")
                (func $alloc (param $align i32) (param $size i32) (result i32) (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
                        (i32.sub (i32.const 0) (local.get $align))))
                    (global.set $heap (i32.add (local.get $at) (local.get $size)))
                    (block $fits
                        (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
                        (br_if $fits (i32.ne (i32.const -1) (memory.grow
                            (i32.add (i32.const 1) (i32.div_u (local.get $size) (i32.const 65536))))))
                        unreachable)
                    (local.get $at))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (call $alloc (local.get 2) (local.get 3)))
                (func $ok (param $at i32) (param $bytes i32) (result i32)
                    (i32.store (i32.const 64) (i32.const 0))
                    (i32.store (i32.const 68) (local.get $at))
                    (i32.store (i32.const 72) (local.get $bytes))
                    (i32.const 64))
                (func $told (param $at i32) (result i32)
                    (call $ok (i32.load offset=8 (local.get $at)) (i32.load offset=12 (local.get $at))))
                {more}
                (func (export "invoke") (param $in i32) (param $bytes i32) (result i32) {invoke}))"#
            ),
        )
    }
}

/// Makes a component of a world from a core module.
pub fn component_of(world: &str, core: &str) -> Vec<u8> {
    let mut core = wat::parse_str(core).expect("the test's WAT is valid");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("capsule.wit", WIT).expect("the WIT is valid");
    let world = resolve.select_world(&[package], Some(world)).expect("the world exists");
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).expect("the WIT can be embedded");
    ComponentEncoder::default()
        .validate(true)
        .module(&core)
        .and_then(|mut encoder| encoder.encode())
        .unwrap_or_else(|error| panic!("the core module fits the world: {error:?}"))
}

pub fn host() -> Host {
    Host::new(&HostSettings::default()).unwrap()
}

/// An effective policy that grants nothing, with these parts of it replaced.
pub fn grants(parts: Value) -> Grants {
    let mut all = json!({
        "engine": "fast", "effect": "nonIdempotent", "clock": false, "random": false, "config": {}, "kv": null,
        "files": null, "http": {"wanted": [], "allowed": []}, "secrets": [],
        "limits": {
            "cpuMs": 50, "wallMs": 10_000, "fuel": null, "memoryBytes": 64 << 20, "tableElements": 100_000,
            "outputBytes": 1 << 20, "logLines": 64, "logBytes": 16 << 10, "hostCalls": 1000,
            "egressRequests": 16, "egressBytes": 10 << 20, "concurrency": 8,
        },
    });
    merge(&mut all, parts);
    serde_json::from_value(all).unwrap()
}

fn merge(into: &mut Value, parts: Value) {
    match (into, parts) {
        (Value::Object(into), Value::Object(parts)) => {
            for (name, part) in parts {
                merge(into.entry(name).or_insert(Value::Null), part);
            }
        }
        (into, part) => *into = part,
    }
}

/// Keys and values that are kept nowhere else.
#[derive(Default)]
pub struct Kept(pub Mutex<KeyValues>);

impl Keeper for Kept {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(key).map(<[u8]>::to_vec)
    }

    fn keys(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        self.0.lock().unwrap().keys(prefix, after, limit)
    }

    fn change(&self, change: Change, expected: Expected, quota: Quota) -> Result<bool, KeepError> {
        let mut kept = self.0.lock().unwrap();
        if let Expected::Value(value) = &expected
            && kept.get(&change.key) != value.as_deref()
        {
            return Ok(false);
        }
        if !kept.fits(&change, quota) {
            return Err(KeepError::Quota);
        }
        let was = kept.apply(change);
        Ok(was || expected != Expected::Anything)
    }
}

pub fn bound(host: &Host, guest: &Guest, parts: Value) -> Tool {
    let given = Given { keeper: Some(Arc::new(Kept::default())), ..Given::default() };
    host.load_tool(&guest.component()).unwrap().bind(grants(parts), given).unwrap()
}

pub fn around() -> Circumstances<'static> {
    static TENANT: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| Arc::from("default"));
    Circumstances { tenant: &TENANT, seed: [1; 32], now_ns: 1_000, inline: false, record: false, replay: None }
}

pub fn invoke(tool: &Tool, input: &str) -> Invocation {
    tool.call(Call::Invoke(input), around())
}
