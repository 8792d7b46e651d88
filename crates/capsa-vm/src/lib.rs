//! The sandbox: runs components of the `decision` world (`wit/capsule.wit`) in wasmtime.
//!
//! [`Host::load`] checks and compiles a component, [`Component::frame`] and
//! [`Component::reward`] call it. `docs/decision-capsules.md` tells authors what holds.
//!
//! Invariants:
//! * a capsule reaches nothing but the one host function `log`;
//! * a guest's fault ends in its own error, and the host and other capsules go on;
//! * no state passes from one call to the next.

mod cache;
mod call;
mod component;
mod cpu;
mod digest;
mod host;
mod load;
mod log;
mod output;
mod settings;
mod slots;
mod ticker;
mod wire;
mod world;

pub use cache::CacheDirError;
pub use call::{CallError, Failed, Framed, Valued};
pub use component::{Component, Origin};
pub use host::{Host, HostError};
pub use load::LoadError;
pub use log::{Level, Log, LogLine};
pub use output::BadOutput;
pub use settings::{HostSettings, Limits};
