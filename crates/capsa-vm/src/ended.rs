//! How a call ended that did not answer, and how that is told from what wasmtime says.

use std::time::Duration;

use wasmtime::{OutOfMemory, PoolConcurrencyLimitError, Trap};

use crate::budget::Denied;
use crate::call::CallState;
use crate::door::Stop;
use crate::output::BadOutput;
use crate::tape::{MAX_RECORDING_BYTES, TapeEnd};

/// How much of a guest's own error text is kept.
const REFUSAL_BYTES: usize = 4096;

/// How a call ended that did not answer.
///
/// [`Busy`](CallError::Busy) and [`Host`](CallError::Host) are ours, [`TooSlow`](CallError::TooSlow)
/// asks for another thread; the others are the capsule's.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The capsule answered with an error of its own.
    #[error("the capsule refused: {0}")]
    Refused(String),
    /// The guest stopped in a way that WebAssembly calls a trap.
    #[error("the capsule trapped: {reason}")]
    Trapped {
        /// The trap's code in words.
        reason: String,
    },
    /// The guest's calls nested too deep.
    #[error("the capsule used more than {limit} bytes of stack")]
    Stack {
        /// [`Limits::stack_bytes`].
        limit: usize,
    },
    /// The guest was denied memory and could not go on without it.
    #[error("the capsule needs more than {limit} bytes of memory")]
    Memory {
        /// [`Limits::memory_bytes`].
        limit: usize,
    },
    /// The guest was denied elements of a table and could not go on without them.
    #[error("the capsule needs more than {limit} elements of tables")]
    Tables {
        /// How many there may be.
        limit: u64,
    },
    /// The guest used up its processor time.
    #[error("the capsule used more than {limit:?} of processor time")]
    Deadline {
        /// [`Limits::deadline`].
        limit: Duration,
    },
    /// The guest and what it waited for took too long.
    #[error("the capsule took more than {limit:?}, waiting included")]
    Wall {
        /// How long it may take.
        limit: Duration,
    },
    /// The guest used up its fuel.
    #[error("the capsule used more than {limit} of fuel")]
    Fuel {
        /// How much it may use.
        limit: u64,
    },
    /// The guest called the host too often.
    #[error("the capsule called host functions more than {limit} times")]
    HostCalls {
        /// How often it may.
        limit: u64,
    },
    /// What the host answered is too much to be recorded.
    #[error("what the host answered takes more than {limit} bytes to record")]
    RecordingTooLarge {
        /// [`MAX_RECORDING_BYTES`].
        limit: usize,
    },
    /// In a replay, the guest asked for something else than was recorded.
    #[error("the replay differs: call {at} of the host is {asks}, which is not what was recorded")]
    Diverged {
        /// Its place among the recorded ones.
        at: usize,
        /// What it asked for.
        asks: String,
    },
    /// What was done cannot be taken back.
    #[error("the capsule has no `compensate`")]
    NoCompensation,
    /// As many calls of this capsule run as may.
    #[error("{limit} calls of this capsule are running, which is as many as its policy lets")]
    Concurrency {
        /// How many may.
        limit: u32,
    },
    /// The call is not over at once, and the thread has others to serve: it is to be made again on another.
    #[error("the capsule is too slow to be called inline")]
    TooSlow,
    /// The guest handed over something that the world does not allow.
    #[error("the capsule's output is invalid: {0}")]
    BadOutput(#[from] BadOutput),
    /// Every instance stayed taken for as long as a caller waits.
    #[error("all {instances} instances were in use for {waited:?}")]
    Busy {
        /// [`HostSettings::instances`](crate::HostSettings::instances).
        instances: u32,
        /// [`HostSettings::wait`](crate::HostSettings::wait).
        waited: Duration,
    },
    /// The machine could not run the call.
    #[error("the host could not run the capsule: {reason}")]
    Host {
        /// What wasmtime reported.
        reason: String,
    },
}

/// What a tick found to be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    Cpu,
    Wall,
    Inline,
}

pub(crate) fn not_instantiated(error: &wasmtime::Error, state: &CallState) -> CallError {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        stopped(stop, state)
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        trapped(*trap, state)
    } else {
        denied(state).unwrap_or_else(|| CallError::Host { reason: format!("{error:#}") })
    }
}

pub(crate) fn not_answered(error: &wasmtime::Error, state: &CallState) -> CallError {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return stopped(stop, state);
    }
    if let Some(Denied::Inline) = state.memory.denied() {
        return CallError::TooSlow;
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return trapped(*trap, state);
    }
    if error.is::<OutOfMemory>() || error.is::<PoolConcurrencyLimitError>() {
        return CallError::Host { reason: format!("{error:#}") };
    }
    // What is left are the checks of what the guest hands over; wasmtime gives them no types.
    if format!("{error:#}").contains("fuel allocated for hostcalls") {
        BadOutput::TooLarge { limit: state.output_bytes }.into()
    } else {
        // What stands before the cause is where in the guest it was.
        BadOutput::Abi { reason: error.root_cause().to_string() }.into()
    }
}

/// A host function has ended the call.
fn stopped(stop: &Stop, state: &CallState) -> CallError {
    let limits = || &state.door.as_deref().expect("only tools have such functions").bound.grants.limits;
    match stop {
        Stop::HostCalls => CallError::HostCalls { limit: limits().host_calls },
        Stop::Wall => CallError::Wall { limit: limits().wall() },
        Stop::RandomBytes => BadOutput::RandomBytes.into(),
        Stop::Tape(TapeEnd::Full) => CallError::RecordingTooLarge { limit: MAX_RECORDING_BYTES },
        Stop::Tape(TapeEnd::Diverged { at, asks }) => CallError::Diverged { at: *at, asks: asks.clone() },
    }
}

fn trapped(trap: Trap, state: &CallState) -> CallError {
    match trap {
        Trap::StackOverflow => CallError::Stack { limit: state.stack_bytes },
        Trap::OutOfFuel => {
            CallError::Fuel { limit: state.door.as_deref().expect("only tools have fuel").bound.grants.limits.fuel() }
        }
        // Only ticks interrupt.
        Trap::Interrupt => match state.reached {
            Some(Reached::Inline) => CallError::TooSlow,
            Some(Reached::Wall) => {
                CallError::Wall { limit: state.door.as_deref().expect("only tools have it").bound.grants.limits.wall() }
            }
            Some(Reached::Cpu) | None => CallError::Deadline { limit: state.deadline },
        },
        // Toolchains abort when an allocation fails.
        _ => denied(state).unwrap_or_else(|| {
            let text = trap.to_string();
            CallError::Trapped { reason: text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned() }
        }),
    }
}

/// What the guest was denied, if anything.
fn denied(state: &CallState) -> Option<CallError> {
    state.memory.denied().map(|denied| match denied {
        Denied::Memory { limit } => CallError::Memory { limit },
        Denied::Elements { limit } => CallError::Tables { limit },
        Denied::Inline => CallError::TooSlow,
    })
}

pub(crate) fn capped(mut text: String) -> String {
    if text.len() > REFUSAL_BYTES {
        text.truncate(text.floor_char_boundary(REFUSAL_BYTES));
        text.push('…');
    }
    text
}
