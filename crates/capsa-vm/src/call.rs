//! One call of a capsule: a fresh instance, its limits, and how the call ended.
//!
//! Invariants:
//! * every call has an instance of its own, which is gone when the call ends;
//! * whatever the guest does ends in an answer or in a [`CallError`], within the limits;
//! * what the guest logged is handed over in both cases.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capsa_core::world::{Choice, Made, Value};
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Lift, Lower};
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use crate::budget::{Denied, MemoryBudget};
use crate::component::Component;
use crate::cpu;
use crate::door::Door;
use crate::ended::{CallError, Reached, capped, not_answered, not_instantiated};
use crate::gate::{FREE, Turns};
use crate::grants::MAX_TABLE_ELEMENTS;
use crate::host::{Shared, TABLES_PER_COMPONENT};
use crate::log::{Log, LogBudget};
use crate::output;
use crate::ticker::TICK;
use crate::wire::{self, FieldRef, LiftedChoice, MadeRef};

/// Longer than anybody waits for a turn.
const FOREVER: Duration = Duration::from_secs(3600);
/// A call that has to be over at once gets no longer.
pub(crate) const INLINE: Duration = FREE;

thread_local! {
    static AT_ONCE: Cell<bool> = const { Cell::new(false) };
}

/// Does something in which calls of decision capsules have to be over at once, for the thread has others to serve: one that
/// is not ends with [`CallError::TooSlow`], and so does every further one of its component. It can be made again outside.
pub fn at_once<T>(work: impl FnOnce() -> T) -> T {
    struct Back(bool);
    impl Drop for Back {
        fn drop(&mut self) {
            AT_ONCE.set(self.0);
        }
    }
    let _back = Back(AT_ONCE.replace(true));
    work()
}

/// What a decision capsule may have; the pool holds each table to less.
const MAX_TABLES: u64 = TABLES_PER_COMPONENT as u64 * MAX_TABLE_ELEMENTS as u64;

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

/// What the host keeps beside a running instance.
pub(crate) struct CallState {
    pub(crate) log: LogBudget,
    pub(crate) memory: MemoryBudget,
    /// The thread's processor time at the first tick; asking for it costs a system call, and most
    /// calls end before they see a tick.
    pub(crate) first_tick: Option<Duration>,
    pub(crate) deadline: Duration,
    /// Whether the call has to be over at once.
    pub(crate) at_once: bool,
    /// Whether it took longer than such a call may.
    pub(crate) was_slow: bool,
    /// Why a tick has ended the call.
    pub(crate) reached: Option<Reached>,
    pub(crate) stack_bytes: usize,
    pub(crate) output_bytes: usize,
    /// The turns of a decision capsule that is slow.
    pub(crate) turns: Option<Turns>,
    /// What a tool has outside.
    pub(crate) door: Option<Box<Door>>,
}

impl CallState {
    /// The door of a tool: only tools are linked with functions that ask for it.
    pub(crate) fn door(&mut self) -> &mut Door {
        self.door.as_deref_mut().expect("a tool has one")
    }
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
        self.frame_for(&nobody(), input)
    }

    /// As [`Component::frame`], on behalf of a tenant: slow capsules of tenants take turns.
    ///
    /// # Errors
    ///
    /// [`Failed`] as there.
    pub fn frame_for(&self, tenant: &Arc<str>, input: &[(String, Value)]) -> Result<Framed, Failed> {
        let input = wire::fields(input);
        let (answer, log) = self.call::<FrameParams<'_>, Vec<LiftedChoice>>(tenant, self.frame_export(), (&input,));
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
        self.reward_for(&nobody(), outcome, made)
    }

    /// As [`Component::reward`], on behalf of a tenant.
    ///
    /// # Errors
    ///
    /// [`Failed`] as there.
    pub fn reward_for(&self, tenant: &Arc<str>, outcome: &[(String, Value)], made: &[Made]) -> Result<Valued, Failed> {
        let (outcome, made) = (wire::fields(outcome), wire::made(made));
        let (answer, log) = self.call::<RewardParams<'_>, f64>(tenant, self.reward_export(), (&outcome, &made));
        match answer.and_then(|reward| Ok(output::check_reward(reward)?)) {
            Ok(reward) => Ok(Valued { reward, log }),
            Err(error) => Err(Failed { error, log }),
        }
    }

    /// Calls one export in an instance of its own.
    ///
    /// `P` and `R` must be those that `world::check` has compared the export with.
    fn call<P, R>(&self, tenant: &Arc<str>, export: &ComponentExportIndex, params: P) -> (Result<R, CallError>, Log)
    where
        P: ComponentNamedList + Lower,
        R: Lift + 'static,
    {
        let shared = self.shared();
        let at_once = AT_ONCE.get();
        let refused = |error| (Err(error), Log::default());
        let slow = self.is_slow();
        if at_once && slow {
            return refused(CallError::TooSlow);
        }
        let turns = slow.then(|| Turns::new(&shared.gate, tenant));
        let busy = || CallError::Busy { instances: shared.instances, waited: shared.wait };
        let slot = if at_once { shared.slots.take_now() } else { shared.slots.take() };
        let Some(_slot) = slot else {
            return refused(if at_once { CallError::TooSlow } else { busy() });
        };
        let _running = shared.ticker.running();
        let mut store = new_store(shared, at_once, turns);
        let answer = self.call_in::<P, R>(&mut store, export, params);
        let state = store.into_data();
        if state.was_slow || matches!(state.memory.denied(), Some(Denied::Inline)) {
            self.was_slow();
        }
        (answer, state.log.into_log())
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
        let instance = self.pre().instantiate(&mut *store).map_err(|error| not_instantiated(&error, store.data()))?;
        let func = instance
            .get_typed_func::<P, (Result<R, String>,)>(&mut *store, export)
            .map_err(|error| CallError::Host { reason: format!("{error:#}") })?;
        let (answer,) = func.call(&mut *store, params).map_err(|error| not_answered(&error, store.data()))?;
        answer.map_err(|refusal| CallError::Refused(capped(refusal)))
    }
}

/// A tenant for callers that have none.
fn nobody() -> Arc<str> {
    Arc::from("")
}

fn new_store(shared: &Shared, at_once: bool, turns: Option<Turns>) -> Store<CallState> {
    let limits = &shared.limits;
    let state = CallState {
        log: LogBudget::of(limits.log_lines as u64, limits.log_bytes as u64),
        memory: MemoryBudget::new(limits.memory_bytes as u64, MAX_TABLES, at_once),
        first_tick: None,
        deadline: limits.deadline,
        at_once,
        was_slow: false,
        reached: None,
        stack_bytes: limits.stack_bytes,
        output_bytes: limits.output_bytes,
        turns,
        door: None,
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
    let state = cx.data_mut();
    let used = now.saturating_sub(*state.first_tick.get_or_insert(now));
    if used >= INLINE {
        state.was_slow = true;
        if state.at_once {
            state.reached = Some(Reached::Inline);
            return Ok(UpdateDeadline::Interrupt);
        }
    }
    let Some(left) = state.deadline.checked_sub(used).filter(|left| !left.is_zero()) else {
        state.reached = Some(Reached::Cpu);
        return Ok(UpdateDeadline::Interrupt);
    };
    // A thread does not spend processor time faster than time passes.
    let mut next = if state.at_once { TICK } else { left };
    if let Some(turns) = &mut state.turns {
        // Others compute for less than their deadlines: its turn comes.
        turns.goes_on(used, Instant::now() + FOREVER);
        next = next.min(turns.next());
    }
    let ticks = next.as_nanos().div_ceil(TICK.as_nanos());
    Ok(UpdateDeadline::Continue(u64::try_from(ticks).unwrap_or(u64::MAX)))
}
