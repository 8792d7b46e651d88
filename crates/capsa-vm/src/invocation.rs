//! One call of a tool: what it is given, and everything about how it went.

use std::sync::Arc;
use std::time::Duration;

use blake2::Digest;
use wasmtime::component::{ComponentType, Lift};

use crate::digest::Blake2b256;
use crate::door::Denial;
use crate::ended::{CallError, capped};
use crate::log::Log;
use crate::output::BadOutput;
use crate::tape::Exchange;

/// The longest code of a failure.
const MAX_CODE_BYTES: usize = 64;

/// A tool's own account of why it could not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind, for programs: 1 to 64 of `a-z`, `0-9` and `-`.
    pub code: String,
    /// One sentence, for people.
    pub message: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Lifted {
    code: String,
    message: String,
    retryable: bool,
}

impl Lifted {
    /// The same, if it keeps the rules of the world.
    pub(crate) fn checked(self) -> Result<Failure, BadOutput> {
        let Lifted { code, message, retryable } = self;
        let fits = (1..=MAX_CODE_BYTES).contains(&code.len())
            && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Failure { code, message: capped(message), retryable }) } else { Err(BadOutput::FailureCode) }
    }
}

/// Which function, with what.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// Do it: JSON.
    Invoke(&'a str),
    /// Take back what was done: the input, and what was answered.
    Compensate(&'a str, &'a str),
}

impl Call<'_> {
    /// Of everything that is handed over.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let parts = match self {
            Call::Invoke(input) => [*input, ""],
            Call::Compensate(input, output) => [*input, *output],
        };
        let mut digest = Blake2b256::new();
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

/// How a call is made.
pub struct Circumstances<'a> {
    /// Whose call it is: tenants take turns.
    pub tenant: &'a Arc<str>,
    /// Where random numbers begin.
    pub seed: [u8; 32],
    /// Nanoseconds since 1970.
    pub now_ns: u64,
    /// Whether the call has to be over at once, or end with [`CallError::TooSlow`].
    pub inline: bool,
    /// Whether what the host answers is kept.
    pub record: bool,
    /// Answers of the host that are taken instead of asking.
    pub replay: Option<Vec<Exchange>>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It answered; for `compensate` nothing.
    Answered(Option<String>),
    /// It could not do it, and says so.
    Failed(Failure),
    /// It broke a limit, trapped or answered nonsense, or the host could not run it.
    Stopped(CallError),
}

/// What a call used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Used {
    /// Processor time.
    pub cpu: Duration,
    /// Time from start to end.
    pub wall: Duration,
    /// Fuel, in the deterministic engine.
    pub fuel: Option<u64>,
    /// All memories together, at the end.
    pub memory_bytes: u64,
    /// Calls of host functions other than `log`.
    pub host_calls: u64,
    /// HTTP requests that were let out.
    pub egress_requests: u64,
    /// Bytes sent and received.
    pub egress_bytes: u64,
}

/// Everything about one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// How it ended.
    pub outcome: Outcome,
    /// What it used.
    pub used: Used,
    /// What it logged.
    pub log: Log,
    /// What it was denied.
    pub denied: Vec<Denial>,
    /// How many further denials are not listed.
    pub denied_unlisted: u64,
    /// What the host answered, where it was to be recorded.
    pub recording: Option<Vec<Exchange>>,
    /// Of a replay: how many recorded answers it did not ask for.
    pub left_over: usize,
}

impl Invocation {
    /// A call that never began.
    pub(crate) fn unstarted(error: CallError) -> Invocation {
        Invocation {
            outcome: Outcome::Stopped(error),
            used: Used::default(),
            log: Log::default(),
            denied: Vec::new(),
            denied_unlisted: 0,
            recording: None,
            left_over: 0,
        }
    }
}
