//! Components for the tests: core modules in WAT, made into components of a WIT world.

use capsa_vm::{CallError, Component, Host, HostSettings};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The world as authors get it.
pub const WORLD: &str = include_str!("../../../../wit/capsule.wit");

/// Importing a function that passes text costs an instance three small core instances more.
pub const IMPORT_LOG: &str =
    r#"(import "$root" "log" (func $log (param $level i32) (param $text i32) (param $bytes i32)))"#;

/// Makes a component of the world `decision` in `wit` from a core module.
pub fn component_of(wit: &str, core: &str) -> Vec<u8> {
    let mut core = wat::parse_str(core).expect("the test's WAT is valid");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("test.wit", wit).expect("the test's WIT is valid");
    let world = resolve.select_world(&[package], Some("decision")).expect("the world exists");
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).expect("the WIT can be embedded");
    ComponentEncoder::default()
        .validate(true)
        .module(&core)
        .and_then(|mut encoder| encoder.encode())
        .unwrap_or_else(|error| panic!("the core module fits the world: {error:?}"))
}

/// A guest in parts; the default answers `frame` with one choice (strategy `s`, key `k`) and
/// `reward` with 0.5. Each part is the text of a WAT function's body or of module fields.
///
/// Addresses: 16 `s`, 17 `k`; 64 the result of `frame`, 128 its choice; 192 the result of
/// `reward`; 256 free for a test; from 4096 what `cabi_realloc` hands out.
pub struct Guest {
    pub memory: &'static str,
    pub realloc: &'static str,
    pub frame: &'static str,
    pub reward: &'static str,
    pub post_frame: &'static str,
    pub more: &'static str,
}

impl Default for Guest {
    fn default() -> Self {
        Guest {
            memory: r#"(memory (export "memory") 1)"#,
            realloc: "local.get $align local.get $size call $alloc",
            frame: "i32.const 64",
            reward: "i32.const 192",
            post_frame: "",
            more: "",
        }
    }
}

impl Guest {
    pub fn core(&self) -> String {
        let Guest { memory, realloc, frame, reward, post_frame, more } = self;
        format!(
            r#"(module
                {IMPORT_LOG}
                {memory}
                (global $heap (mut i32) (i32.const 4096))
                (func $alloc (param $align i32) (param $size i32) (result i32) (local $at i32)
                    (local.set $at (i32.and
                        (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
                        (i32.sub (i32.const 0) (local.get $align))))
                    (global.set $heap (i32.add (local.get $at) (local.get $size)))
                    (block $fits
                        (br_if $fits (i32.le_u (global.get $heap) (i32.shl (memory.size) (i32.const 16))))
                        (br_if $fits (i32.ne (i32.const -1) (memory.grow
                            (i32.add (i32.const 1) (i32.shr_u (local.get $size) (i32.const 16))))))
                        unreachable)
                    local.get $at)
                (func (export "cabi_realloc")
                    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
                    {realloc})
                (func (export "frame") (param $input i32) (param $fields i32) (result i32)
                    {frame})
                (func (export "reward")
                    (param $outcome i32) (param $fields i32) (param $made i32) (param $mades i32) (result i32)
                    {reward})
                (func (export "cabi_post_frame") (param $result i32)
                    {post_frame})
                (data (i32.const 16) "sk")
                (data (i32.const 64) "\00\00\00\00" "\80\00\00\00" "\01\00\00\00")
                (data (i32.const 128) "\10\00\00\00" "\01\00\00\00" "\11\00\00\00" "\01\00\00\00")
                (data (i32.const 192) "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\e0\3f")
                {more})"#
        )
    }

    pub fn component(&self) -> Vec<u8> {
        component_of(WORLD, &self.core())
    }
}

pub fn host() -> Host {
    Host::new(&HostSettings::default()).expect("the default settings work")
}

pub fn load(host: &Host, guest: &Guest) -> Component {
    host.load(&guest.component()).expect("the guest is a decision capsule")
}

/// Runs `frame` of a guest on a new host with default settings.
pub fn frame_error(guest: &Guest) -> CallError {
    let host = host();
    let error = load(&host, guest).frame(&[]).expect_err("the guest misbehaves").error;
    assert_still_serves(&host);
    error
}

/// Whatever happened before: the host answers a good guest's call.
pub fn assert_still_serves(host: &Host) {
    let good = load(host, &Guest::default());
    let framed = good.frame(&[]).expect("a good guest is answered");
    assert_eq!((framed.choices[0].strategy.as_str(), framed.choices[0].key.as_str()), ("s", "k"));
    assert_eq!(good.reward(&[], &[]).expect("a good guest is answered").reward, 0.5);
}
