//! What one tool may do: the capability policy in force, as its JSON says it.
//!
//! Invariant: every field is enforced somewhere in this crate or in `capsa-egress`; an unknown one is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use capsa_core::kv::Quota;
use capsa_egress::{Rules, SecretHosts};
use serde::{Deserialize, Serialize};

/// Most elements of all tables of one instance.
pub const MAX_TABLE_ELEMENTS: usize = 100_000;

/// The longest that a policy may let a call take.
const MAX_WALL_MS: u64 = 600_000;
/// Fuel of a call in the deterministic engine, where nothing is said.
const DEFAULT_FUEL: u64 = 1_000_000_000;

/// Which engine runs the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EngineKind {
    /// Limits processor time.
    Fast,
    /// Limits fuel, which counts instructions: the same call ends in the same way on any machine.
    Deterministic,
}

/// What a tool does to the world, as was verified when it was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// Nothing: its answer follows from its input.
    Pure,
    /// It reads.
    Read,
    /// Twice is like once.
    Idempotent,
    /// Anything.
    NonIdempotent,
}

/// Reading, or changing too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// Only reading.
    Read,
    /// Reading and changing.
    ReadWrite,
}

/// Keys and values that outlive a call.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KvGrant {
    /// What may be done.
    pub access: Access,
    /// Bytes of all keys and values.
    pub max_bytes: u64,
    /// Number of keys.
    pub max_keys: u64,
}

impl KvGrant {
    pub(crate) fn quota(&self) -> Quota {
        Quota { bytes: self.max_bytes, keys: self.max_keys }
    }
}

/// Files in the capsule's own directory.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesGrant {
    /// What may be done.
    pub access: Access,
    /// Bytes of all files.
    pub max_bytes: u64,
    /// Number of files and directories.
    pub max_files: u64,
}

/// One secret, and where it may be sent: a host has to match both lists.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretGrant {
    /// Its name.
    pub name: String,
    /// What the capsule's definition asks for.
    pub wanted: SecretHosts,
    /// What the store allows.
    pub allowed: SecretHosts,
}

/// What one call may use.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ToolLimits {
    /// Processor time; counted by the fast engine.
    pub cpu_ms: u64,
    /// Time from start to answer, waiting included.
    pub wall_ms: u64,
    /// Instructions, roughly; there where the deterministic engine counts them.
    pub fuel: Option<u64>,
    /// All memories together.
    pub memory_bytes: u64,
    /// All tables together.
    pub table_elements: u64,
    /// One piece handed to the host, and the answer.
    pub output_bytes: u64,
    /// Log lines that are kept.
    pub log_lines: u64,
    /// Bytes of log messages that are kept.
    pub log_bytes: u64,
    /// Calls of host functions other than `log`.
    pub host_calls: u64,
    /// HTTP requests.
    pub egress_requests: u64,
    /// Bytes sent and received over HTTP, heads included.
    pub egress_bytes: u64,
    /// Calls of this capsule at once.
    pub concurrency: u32,
}

impl ToolLimits {
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_millis(self.cpu_ms)
    }

    pub(crate) fn fuel(&self) -> u64 {
        self.fuel.unwrap_or(DEFAULT_FUEL)
    }

    pub(crate) fn wall(&self) -> Duration {
        // What Python never sends must not overflow either.
        Duration::from_millis(self.wall_ms.min(MAX_WALL_MS))
    }
}

/// What one tool may do, and how much of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grants {
    /// Which engine runs the calls.
    pub engine: EngineKind,
    /// What it does to the world.
    pub effect: Effect,
    /// Whether it may ask for the time.
    pub clock: bool,
    /// Whether it may ask for random numbers.
    pub random: bool,
    /// The texts that it may read.
    pub config: BTreeMap<String, String>,
    /// Keys and values, if any.
    pub kv: Option<KvGrant>,
    /// Files, if any.
    pub files: Option<FilesGrant>,
    /// Requests: each must match a rule of both lists.
    pub http: Rules,
    /// Secrets.
    pub secrets: Vec<SecretGrant>,
    /// What one call may use.
    pub limits: ToolLimits,
}

/// A host interface of the world `tool`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// The time.
    Clock,
    /// Random numbers.
    Random,
    /// The operator's texts.
    Config,
    /// Keys and values.
    Kv,
    /// Requests.
    Http,
    /// Files.
    Files,
    /// Secrets.
    Secrets,
}

impl Interface {
    /// Every interface there is.
    pub const ALL: [Interface; 7] = [
        Interface::Clock,
        Interface::Random,
        Interface::Config,
        Interface::Kv,
        Interface::Http,
        Interface::Files,
        Interface::Secrets,
    ];

    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Interface::Clock => "clock",
            Interface::Random => "random",
            Interface::Config => "config",
            Interface::Kv => "kv",
            Interface::Http => "http",
            Interface::Files => "files",
            Interface::Secrets => "secrets",
        }
    }

    /// Its name as components import it.
    pub fn import(self) -> &'static str {
        match self {
            Interface::Clock => "capsa:capsule/clock@0.1.0",
            Interface::Random => "capsa:capsule/random@0.1.0",
            Interface::Config => "capsa:capsule/config@0.1.0",
            Interface::Kv => "capsa:capsule/kv@0.1.0",
            Interface::Http => "capsa:capsule/http@0.1.0",
            Interface::Files => "capsa:capsule/files@0.1.0",
            Interface::Secrets => "capsa:capsule/secrets@0.1.0",
        }
    }

    /// Whether any of it is granted.
    pub fn is_granted(self, grants: &Grants) -> bool {
        match self {
            Interface::Clock => grants.clock,
            Interface::Random => grants.random,
            Interface::Config => !grants.config.is_empty(),
            Interface::Kv => grants.kv.is_some(),
            Interface::Http => !grants.http.wanted.is_empty() && !grants.http.allowed.is_empty(),
            Interface::Files => grants.files.is_some(),
            Interface::Secrets => !grants.secrets.is_empty(),
        }
    }
}
