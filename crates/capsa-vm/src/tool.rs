//! Tool capsules: loaded once, bound to what they may do, and called in an instance of their own each time.
//!
//! Invariants:
//! * a tool is linked with the interfaces that are granted and with no other;
//! * whatever the guest does ends in an [`Invocation`], with what it used, within the limits;
//! * no state passes from one call to the next but through the interfaces.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use capsa_egress::Guard;
use wasmtime::component::{
    Component as Compiled, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Linker, Lower,
};
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use crate::budget::MemoryBudget;
use crate::call::{CallState, INLINE};
use crate::component::Origin;
use crate::door::Door;
use crate::ended::{self, CallError, Reached};
use crate::files::Files;
use crate::gate::Turns;
use crate::grants::{Effect, EngineKind, FilesGrant, Grants, Interface};
use crate::host::{Host, Shared};
use crate::invocation::{Call, Circumstances, Invocation, Lifted, Outcome, Used};
use crate::load::LoadError;
use crate::log::LogBudget;
use crate::outside::{self, Keeper};
use crate::tape::Tape;
use crate::ticker::TICK;
use crate::world::{self, ToolExports};

pub(crate) type InvokeParams<'a> = (&'a str,);
pub(crate) type InvokeResult = (Result<String, Lifted>,);
pub(crate) type CompensateParams<'a> = (&'a str, &'a str);
pub(crate) type CompensateResult = (Result<(), Lifted>,);

/// A component of the world `tool` that has passed every check of [`Host::load_tool`]. Cheap to clone.
#[derive(Clone)]
pub struct ToolComponent(Arc<LoadedTool>);

struct LoadedTool {
    bytes: Vec<u8>,
    digest: String,
    origin: Origin,
    compiled: Compiled,
    exports: ToolExports,
    imports: Vec<Interface>,
    host: Host,
}

/// What a tool is given beside its grants.
#[derive(Clone, Default)]
pub struct Given {
    /// Where its keys and values are; needed where they are granted.
    pub keeper: Option<Arc<dyn Keeper>>,
    /// Its directory; needed where files are granted.
    pub files: Option<Arc<Files>>,
    /// The values of secrets by name.
    pub secrets: HashMap<String, String>,
    /// Whether there is nothing outside: only replays can be called then.
    pub detached: bool,
    /// How many of its calls run, however it is bound.
    pub running: Arc<AtomicU32>,
}

/// Grants, and what stands behind them.
pub(crate) struct Bound {
    pub(crate) grants: Grants,
    pub(crate) keeper: Option<Arc<dyn Keeper>>,
    files: Option<Arc<Files>>,
    pub(crate) secrets: HashMap<String, String>,
    pub(crate) guard: Arc<Guard>,
    detached: bool,
}

impl Bound {
    pub(crate) fn files(&self) -> &Files {
        self.files.as_ref().expect("files are linked only where there is a directory")
    }

    pub(crate) fn files_grant(&self) -> &FilesGrant {
        self.grants.files.as_ref().expect("files are linked only where they are granted")
    }
}

/// Why a tool cannot be bound.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BindError {
    /// The component imports what is not granted.
    #[error("the component imports {}, which the policy does not grant", names(.0))]
    NotGranted(Vec<Interface>),
    /// It is granted, but this host has nothing to stand behind it.
    #[error("{0} is granted, but there is nowhere to keep it")]
    Nowhere(&'static str),
    /// The component does not load in the other engine.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The deterministic engine does not start.
    #[error("the host could not link the capsule: {reason}")]
    Host {
        /// What wasmtime reported.
        reason: String,
    },
}

fn names(interfaces: &[Interface]) -> String {
    interfaces.iter().map(|interface| interface.name()).collect::<Vec<_>>().join(", ")
}

/// A tool that is ready to be called. Used by any number of threads at once.
pub struct Tool {
    component: ToolComponent,
    bound: Arc<Bound>,
    pre: InstancePre<CallState>,
    exports: ToolExports,
    kind: EngineKind,
    running: Arc<AtomicU32>,
}

impl Host {
    /// Compiles a component, or takes it from the cache, and checks that it is a tool.
    ///
    /// # Errors
    ///
    /// [`LoadError`] if the bytes are no component, not one of the world `tool`, import anything that the world does not
    /// offer, or need more than the host's limits.
    pub fn load_tool(&self, bytes: &[u8]) -> Result<ToolComponent, LoadError> {
        let shared = self.shared();
        let (digest, compiled, origin) = shared.compile(&shared.engine, shared.cache.as_ref(), bytes)?;
        let (exports, imports) = world::check_tool(&shared.engine, &compiled, &shared.limits)?;
        // Types are compared with everything linked: what is granted may change later.
        link(&shared.engine, &Interface::ALL)
            .and_then(|linker| linker.instantiate_pre(&compiled))
            .map_err(|error| LoadError::WrongImport { world: "tool", reason: format!("{error:#}") })?;
        let loaded =
            LoadedTool { bytes: bytes.to_vec(), digest, origin, compiled, exports, imports, host: self.clone() };
        Ok(ToolComponent(Arc::new(loaded)))
    }
}

impl ToolComponent {
    /// `b2:` and the BLAKE2b-256 of the component's bytes in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Where the machine code came from.
    pub fn origin(&self) -> &Origin {
        &self.0.origin
    }

    /// The host interfaces that it imports.
    pub fn imports(&self) -> &[Interface] {
        &self.0.imports
    }

    /// Whether what it does can be taken back.
    pub fn compensates(&self) -> bool {
        self.0.exports.compensate.is_some()
    }

    /// Links the tool with what it is granted.
    ///
    /// # Errors
    ///
    /// [`BindError`] if it imports more than that, or the host has nothing that stands behind a grant.
    pub fn bind(&self, grants: Grants, given: Given) -> Result<Tool, BindError> {
        let loaded = &self.0;
        let missing: Vec<_> = loaded.imports.iter().copied().filter(|import| !import.is_granted(&grants)).collect();
        if !missing.is_empty() {
            return Err(BindError::NotGranted(missing));
        }
        let imports = |interface| loaded.imports.contains(&interface);
        if imports(Interface::Kv) && given.keeper.is_none() && !given.detached {
            return Err(BindError::Nowhere("kv"));
        }
        if imports(Interface::Files) && given.files.is_none() && !given.detached {
            return Err(BindError::Nowhere("files"));
        }
        let shared = loaded.host.shared();
        let host = |error: wasmtime::Error| BindError::Host { reason: format!("{error:#}") };
        let (engine, compiled, exports) = match grants.engine {
            EngineKind::Fast => (&shared.engine, loaded.compiled.clone(), loaded.exports),
            EngineKind::Deterministic => {
                let other = shared.deterministic().map_err(|reason| BindError::Host { reason })?;
                let (_, compiled, _) = shared.compile(&other.engine, other.cache.as_ref(), &loaded.bytes)?;
                let (exports, _) = world::check_tool(&other.engine, &compiled, &shared.limits)?;
                (&other.engine, compiled, exports)
            }
        };
        let pre = link(engine, &loaded.imports).and_then(|linker| linker.instantiate_pre(&compiled)).map_err(host)?;
        let kind = grants.engine;
        let Given { keeper, files, secrets, detached, running } = given;
        let bound = Arc::new(Bound { grants, keeper, files, secrets, guard: Arc::clone(shared.guard()), detached });
        Ok(Tool { component: self.clone(), bound, pre, exports, kind, running })
    }
}

fn link(engine: &wasmtime::Engine, interfaces: &[Interface]) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    linker.root().func_wrap(world::LOG, crate::log::log)?;
    for interface in interfaces {
        outside::link(&mut linker, *interface)?;
    }
    Ok(linker)
}

/// Counts a call as running until it is dropped.
struct Running<'a>(&'a AtomicU32);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Tool {
    /// What it may do.
    pub fn grants(&self) -> &Grants {
        &self.bound.grants
    }

    /// The component.
    pub fn component(&self) -> &ToolComponent {
        &self.component
    }

    /// Makes one call.
    pub fn call(&self, call: Call<'_>, around: Circumstances<'_>) -> Invocation {
        let limits = &self.bound.grants.limits;
        let _running = Running(&self.running);
        if self.running.fetch_add(1, Ordering::Relaxed) >= limits.concurrency {
            return Invocation::unstarted(CallError::Concurrency { limit: limits.concurrency });
        }
        if self.bound.detached && around.replay.is_none() {
            return Invocation::unstarted(CallError::Host { reason: "it is bound for replays alone".to_owned() });
        }
        let shared = self.component.0.host.shared();
        let started = Instant::now();
        let turns = (!around.inline).then(|| Turns::new(&shared.gate, around.tenant));
        let slot = if around.inline { shared.tool_slots.take_now() } else { shared.tool_slots.take() };
        let Some(_slot) = slot else {
            return Invocation::unstarted(CallError::Busy { instances: shared.tool_instances, waited: shared.wait });
        };
        let tape = match around.replay {
            Some(kept) => Tape::replaying(kept),
            None if around.record => Tape::recording(),
            None => Tape::Off,
        };
        // What a pure tool answers follows from its input.
        let seed = match self.bound.grants.effect {
            Effect::Pure => call.digest(),
            _ => around.seed,
        };
        let door = Door::new(Arc::clone(&self.bound), tape, seed, around.now_ns, turns, started);
        let _ticking = match self.kind {
            EngineKind::Fast => shared.ticker.running(),
            EngineKind::Deterministic => match shared.deterministic() {
                Ok(other) => other.ticker.running(),
                Err(reason) => return Invocation::unstarted(CallError::Host { reason }),
            },
        };
        let mut store = self.new_store(shared, door, around.inline);
        let outcome = match self.outcome(&mut store, call) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Stopped(error),
        };
        let fuel = store.get_fuel().ok().map(|left| limits.fuel() - left.min(limits.fuel()));
        let state = store.into_data();
        let memory_bytes = state.memory.used() as u64;
        let door = state.door.expect("a tool has one");
        let used = Used {
            cpu: door.cpu(),
            wall: door.started.elapsed(),
            fuel,
            memory_bytes,
            host_calls: door.host_calls,
            egress_requests: door.egress_requests,
            egress_bytes: door.egress_bytes,
        };
        let left_over = door.tape.left_over();
        Invocation {
            outcome,
            used,
            log: state.log.into_log(),
            denied: door.denied,
            denied_unlisted: door.denied_unlisted,
            recording: door.tape.into_recording(),
            left_over,
        }
    }

    fn outcome(&self, store: &mut Store<CallState>, call: Call<'_>) -> Result<Outcome, CallError> {
        let answer = match call {
            Call::Invoke(input) => {
                self.run::<InvokeParams<'_>, InvokeResult>(store, &self.exports.invoke, (input,))?.0.map(Some)
            }
            Call::Compensate(input, output) => {
                let export = self.exports.compensate.as_ref().ok_or(CallError::NoCompensation)?;
                self.run::<CompensateParams<'_>, CompensateResult>(store, export, (input, output))?.0.map(|()| None)
            }
        };
        Ok(match answer {
            Ok(output) => Outcome::Answered(output),
            Err(lifted) => Outcome::Failed(lifted.checked()?),
        })
    }

    fn run<P, R>(&self, store: &mut Store<CallState>, export: &ComponentExportIndex, params: P) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + 'static,
    {
        let instance =
            self.pre.instantiate(&mut *store).map_err(|error| ended::not_instantiated(&error, store.data()))?;
        let func = instance
            .get_typed_func::<P, R>(&mut *store, export)
            .map_err(|error| CallError::Host { reason: format!("{error:#}") })?;
        func.call(&mut *store, params).map_err(|error| ended::not_answered(&error, store.data()))
    }

    fn new_store(&self, shared: &Shared, door: Door, inline: bool) -> Store<CallState> {
        let limits = &self.bound.grants.limits;
        let engine = self.pre.engine();
        let output_bytes = usize::try_from(limits.output_bytes).unwrap_or(usize::MAX);
        let state = CallState {
            log: LogBudget::of(limits.log_lines, limits.log_bytes),
            memory: MemoryBudget::new(limits.memory_bytes, limits.table_elements, inline),
            first_tick: None,
            deadline: if inline { INLINE } else { limits.cpu() },
            at_once: inline,
            was_slow: false,
            turns: None,
            reached: None,
            stack_bytes: shared.limits.stack_bytes,
            output_bytes,
            door: Some(Box::new(door)),
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(output_bytes);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(if inline { on_inline_tick } else { on_tick });
        if self.kind == EngineKind::Deterministic {
            store.set_fuel(limits.fuel()).expect("this engine counts fuel");
        }
        store
    }
}

impl std::fmt::Debug for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tool").field("digest", &self.component.digest()).finish_non_exhaustive()
    }
}

/// Stops a guest whose time is over, and lets others have their turn. See `call::on_tick`.
fn on_tick(mut cx: StoreContextMut<'_, CallState>) -> wasmtime::Result<UpdateDeadline> {
    let state = cx.data_mut();
    let door = state.door.as_deref_mut().expect("a tool has one");
    let now = Instant::now();
    if now >= door.until {
        state.reached = Some(Reached::Wall);
        return Ok(UpdateDeadline::Interrupt);
    }
    let cpu = door.cpu();
    let mut left = door.until - now;
    // A replay is as slow as it is; its fuel ends it.
    if !door.tape.is_replaying() {
        match state.deadline.checked_sub(cpu) {
            None | Some(Duration::ZERO) => {
                state.reached = Some(Reached::Cpu);
                return Ok(UpdateDeadline::Interrupt);
            }
            Some(cpu_left) => left = left.min(cpu_left),
        }
    }
    let until = door.until;
    let mut next = left;
    if let Some(turns) = &mut door.turns {
        if !turns.goes_on(cpu, until) {
            state.reached = Some(Reached::Wall);
            return Ok(UpdateDeadline::Interrupt);
        }
        next = left.min(turns.next());
    }
    let ticks = next.as_nanos().div_ceil(TICK.as_nanos());
    Ok(UpdateDeadline::Continue(u64::try_from(ticks).unwrap_or(u64::MAX)))
}

/// Ends a call that has to be over at once.
fn on_inline_tick(mut cx: StoreContextMut<'_, CallState>) -> wasmtime::Result<UpdateDeadline> {
    let state = cx.data_mut();
    let door = state.door.as_deref_mut().expect("a tool has one");
    if door.cpu() < state.deadline {
        return Ok(UpdateDeadline::Continue(1));
    }
    state.reached = Some(Reached::Inline);
    Ok(UpdateDeadline::Interrupt)
}
