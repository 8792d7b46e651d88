//! One call of a capsule: a fresh instance, its limits, and how the call ended.
//!
//! Invariants:
//! * every call has an instance of its own, which is gone when the call ends;
//! * whatever the guest does ends in an answer or in a [`CallError`], within the limits;
//! * what the guest logged is handed over in both cases.

use std::time::Duration;

use capsa_core::world::{Choice, Made, Value};
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Lift, Lower};
use wasmtime::{OutOfMemory, PoolConcurrencyLimitError, ResourceLimiter, Store, StoreContextMut, Trap, UpdateDeadline};

use crate::component::Component;
use crate::cpu;
use crate::host::Shared;
use crate::log::{Log, LogBudget};
use crate::output::{self, BadOutput};
use crate::settings::Limits;
use crate::ticker::TICK;
use crate::wire::{self, FieldRef, LiftedChoice, MadeRef};

/// How much of a guest's own error text is kept.
const REFUSAL_BYTES: usize = 4096;

pub(crate) type FrameParams<'a> = (&'a [FieldRef<'a>],);
pub(crate) type FrameResult = (Result<Vec<LiftedChoice>, String>,);
pub(crate) type RewardParams<'a> = (&'a [FieldRef<'a>], &'a [MadeRef<'a>]);
pub(crate) type RewardResult = (Result<f64, String>,);

/// What `frame` answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Framed {
    /// The choices that are to be made, in the capsule's order.
    pub choices: Vec<Choice>,
    /// What the call logged.
    pub log: Log,
}

/// What `reward` answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Valued {
    /// The value of the outcome; finite.
    pub reward: f64,
    /// What the call logged.
    pub log: Log,
}

/// A call that did not answer, with what it logged until then.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    /// How it ended.
    #[source]
    pub error: CallError,
    /// What the call logged.
    pub log: Log,
}

/// How a call ended that did not answer.
///
/// [`Busy`](CallError::Busy) and [`Host`](CallError::Host) are ours, the others the capsule's.
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
    /// The guest used up its processor time.
    #[error("the capsule used more than {limit:?} of processor time")]
    Deadline {
        /// [`Limits::deadline`].
        limit: Duration,
    },
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

/// What the host keeps beside a running instance.
pub(crate) struct CallState {
    pub(crate) log: LogBudget,
    memory: MemoryBudget,
    /// The thread's processor time at the first tick; asking for it costs a system call, and most
    /// calls end before they see a tick.
    first_tick: Option<Duration>,
    deadline: Duration,
}

/// Memory of one instance, all its memories together.
struct MemoryBudget {
    used: usize,
    limit: usize,
    denied: bool,
}

impl Component {
    /// Asks the capsule which choices are to be made for one input.
    ///
    /// Numbers in `input` must be finite and names unique, as the world promises to the guest.
    ///
    /// # Errors
    ///
    /// [`Failed`] if the capsule refuses, breaks a limit, traps or answers nonsense, or the host
    /// cannot run it.
    pub fn frame(&self, input: &[(String, Value)]) -> Result<Framed, Failed> {
        let input = wire::fields(input);
        let (answer, log) = self.call::<FrameParams<'_>, Vec<LiftedChoice>>(self.frame_export(), (&input,));
        let answer = answer.and_then(|lifted| {
            let choices: Vec<Choice> = lifted.into_iter().map(Choice::from).collect();
            output::check_choices(&choices)?;
            Ok(choices)
        });
        match answer {
            Ok(choices) => Ok(Framed { choices, log }),
            Err(error) => Err(Failed { error, log }),
        }
    }

    /// Asks the capsule what one outcome is worth, given the choices that led to it.
    ///
    /// # Errors
    ///
    /// [`Failed`] if the capsule refuses, breaks a limit, traps or answers nonsense, or the host
    /// cannot run it.
    pub fn reward(&self, outcome: &[(String, Value)], made: &[Made]) -> Result<Valued, Failed> {
        let (outcome, made) = (wire::fields(outcome), wire::made(made));
        let (answer, log) = self.call::<RewardParams<'_>, f64>(self.reward_export(), (&outcome, &made));
        match answer.and_then(|reward| Ok(output::check_reward(reward)?)) {
            Ok(reward) => Ok(Valued { reward, log }),
            Err(error) => Err(Failed { error, log }),
        }
    }

    /// Calls one export in an instance of its own.
    ///
    /// `P` and `R` must be those that `world::check` has compared the export with.
    fn call<P, R>(&self, export: &ComponentExportIndex, params: P) -> (Result<R, CallError>, Log)
    where
        P: ComponentNamedList + Lower,
        R: Lift + 'static,
    {
        let shared = self.shared();
        let Some(_slot) = shared.slots.take() else {
            let busy = CallError::Busy { instances: shared.instances, waited: shared.wait };
            return (Err(busy), Log::default());
        };
        let _running = shared.ticker.running();
        let mut store = new_store(shared);
        let answer = self.call_in::<P, R>(&mut store, export, params);
        (answer, store.into_data().log.into_log())
    }

    fn call_in<P, R>(
        &self,
        store: &mut Store<CallState>,
        export: &ComponentExportIndex,
        params: P,
    ) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower,
        R: Lift + 'static,
    {
        let limits = &self.shared().limits;
        let instance =
            self.pre().instantiate(&mut *store).map_err(|error| not_instantiated(&error, store.data(), limits))?;
        let func = instance
            .get_typed_func::<P, (Result<R, String>,)>(&mut *store, export)
            .map_err(|error| CallError::Host { reason: format!("{error:#}") })?;
        let (answer,) = func.call(&mut *store, params).map_err(|error| not_answered(&error, store.data(), limits))?;
        answer.map_err(|refusal| CallError::Refused(capped(refusal)))
    }
}

fn new_store(shared: &Shared) -> Store<CallState> {
    let limits = &shared.limits;
    let state = CallState {
        log: LogBudget::new(limits),
        memory: MemoryBudget { used: 0, limit: limits.memory_bytes, denied: false },
        first_tick: None,
        deadline: limits.deadline,
    };
    let mut store = Store::new(&shared.engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits.output_bytes);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(on_tick);
    store
}

/// Stops a guest that has used up its processor time. Ticks count wall time, which passes as well
/// while the thread waits for a processor, so they only say when to look. Time is counted from the
/// first tick, which comes at most one [`TICK`] and the ticker's own delay after the start.
fn on_tick(mut cx: StoreContextMut<'_, CallState>) -> wasmtime::Result<UpdateDeadline> {
    let now = cpu::thread_time();
    let CallState { first_tick, deadline, .. } = cx.data_mut();
    let used = now.saturating_sub(*first_tick.get_or_insert(now));
    Ok(match deadline.checked_sub(used) {
        None | Some(Duration::ZERO) => UpdateDeadline::Interrupt,
        // A thread does not spend processor time faster than time passes.
        Some(left) => {
            let ticks = left.as_nanos().div_ceil(TICK.as_nanos());
            UpdateDeadline::Continue(u64::try_from(ticks).unwrap_or(u64::MAX))
        }
    })
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // Beyond a maximum that the guest has set itself: not our denial.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let used = (self.used - current).saturating_add(desired);
        if used > self.limit {
            self.denied = true;
            return Ok(false);
        }
        self.used = used;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, _desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        // The pool sets the maximum.
        Ok(true)
    }
}

fn not_instantiated(error: &wasmtime::Error, state: &CallState, limits: &Limits) -> CallError {
    if let Some(trap) = error.downcast_ref::<Trap>() {
        trapped(*trap, state, limits)
    } else if state.memory.denied {
        CallError::Memory { limit: limits.memory_bytes }
    } else {
        CallError::Host { reason: format!("{error:#}") }
    }
}

fn not_answered(error: &wasmtime::Error, state: &CallState, limits: &Limits) -> CallError {
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return trapped(*trap, state, limits);
    }
    if error.is::<OutOfMemory>() || error.is::<PoolConcurrencyLimitError>() {
        return CallError::Host { reason: format!("{error:#}") };
    }
    // What is left are the checks of what the guest hands over; wasmtime gives them no types.
    let reason = format!("{error:#}");
    if reason.contains("fuel allocated for hostcalls") {
        BadOutput::TooLarge { limit: limits.output_bytes }.into()
    } else {
        BadOutput::Abi { reason }.into()
    }
}

fn trapped(trap: Trap, state: &CallState, limits: &Limits) -> CallError {
    match trap {
        Trap::StackOverflow => CallError::Stack { limit: limits.stack_bytes },
        // Only `on_tick` interrupts.
        Trap::Interrupt => CallError::Deadline { limit: limits.deadline },
        // Toolchains abort when an allocation fails.
        _ if state.memory.denied => CallError::Memory { limit: limits.memory_bytes },
        _ => {
            let text = trap.to_string();
            CallError::Trapped { reason: text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned() }
        }
    }
}

fn capped(mut text: String) -> String {
    if text.len() > REFUSAL_BYTES {
        text.truncate(text.floor_char_boundary(REFUSAL_BYTES));
        text.push('…');
    }
    text
}
