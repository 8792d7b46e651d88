//! Everything that reads bytes from outside, as functions that only ever return or panic.
//!
//! A target takes any bytes. It panics where something is wrong that no caller could be told: a promise of the
//! code under test that does not hold. `scripts/fuzz` drives the targets with libFuzzer; `tests/replay.rs` runs every
//! seed in `seeds/` and thousands of mutations of them, in the same build as all other tests.
//!
//! [`smith`] makes tools with random code inside; `examples/smith.rs` writes them out for `tests/oracle`.

mod cbor;
mod component;
mod grants;
mod id;
pub mod mutate;
pub mod smith;
mod tool;
mod url;

/// A name and what is run with each input.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the name of its folder in `seeds/`.
    pub name: &'static str,
    /// Panics if something is wrong.
    pub run: fn(&[u8]),
    /// How many mutations of its seeds are worth their time in each run of the tests.
    pub mutations: u64,
}

/// Every target there is.
pub const TARGETS: [Target; 6] = [
    Target { name: "component", run: component::run, mutations: 3_000 },
    Target { name: "tool", run: tool::run, mutations: 150 },
    Target { name: "grants", run: grants::run, mutations: 20_000 },
    Target { name: "url", run: url::run, mutations: 100_000 },
    Target { name: "id", run: id::run, mutations: 50_000 },
    Target { name: "cbor", run: cbor::run, mutations: 100_000 },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
