//! The sandbox: runs components of the worlds `decision` and `tool` (`wit/capsule.wit`) in wasmtime.
//!
//! [`Host::load`] checks and compiles a decision capsule, [`Component::frame`] and [`Component::reward`] call it.
//! [`Host::load_tool`] does the same for a tool, [`ToolComponent::bind`] links it with what it is granted, and [`Tool::call`]
//! calls it. `docs/decision-capsules.md` and `docs/tools.md` tell authors what holds.
//!
//! Invariants:
//! * a decision capsule reaches nothing but the one host function `log`; a tool what it is granted, too;
//! * a guest's fault ends in its own error, and the host and other capsules go on;
//! * no state passes from one call to the next.

mod budget;
mod cache;
mod call;
mod component;
mod cpu;
mod digest;
mod door;
mod ended;
mod files;
mod gate;
mod grants;
mod host;
mod http;
mod instances;
mod invocation;
mod load;
mod log;
mod output;
mod outside;
mod random;
mod settings;
mod slots;
mod tape;
mod ticker;
mod tool;
mod wire;
mod world;

pub use cache::CacheDirError;
pub use call::{Failed, Framed, Valued, at_once};
pub use component::{Component, Origin};
pub use door::Denial;
pub use ended::CallError;
pub use files::Files;
pub use grants::{Access, Effect, EngineKind, FilesGrant, Grants, Interface, KvGrant, SecretGrant, ToolLimits};
pub use host::{Host, HostError};
pub use invocation::{Call, Circumstances, Failure, Invocation, Outcome, Used};
pub use load::LoadError;
pub use log::{Level, Log, LogLine};
pub use output::BadOutput;
pub use outside::{Expected, HostError as OutsideError, KeepError, Keeper};
pub use settings::{HostSettings, Limits};
pub use tape::{Exchange, MAX_RECORDING_BYTES};
pub use tool::{BindError, Given, Tool, ToolComponent};
