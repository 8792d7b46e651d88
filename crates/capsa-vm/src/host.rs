//! The host: one engine with its pool of instances, shared by all threads of a process.
//!
//! Invariants:
//! * the linker offers what `wit/capsule.wit` imports and nothing else;
//! * every component that passes `world::check` fits into a slot of the pool, and no more calls
//!   run than there are slots;
//! * a forked child must not use its parent's host: the ticking thread is not there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use capsa_egress::Guard;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::cache::{Cache, CacheDirError};
use crate::call::CallState;
use crate::gate::Gate;
use crate::grants::MAX_TABLE_ELEMENTS;
use crate::log::log;
use crate::settings::{HostSettings, Limits};
use crate::slots::Slots;
use crate::ticker::Ticker;
use crate::world::LOG;

/// Memories of one component, with those of components inside it. Each takes 4 GiB of address
/// space (not of memory) in every slot of the pool, so that compiled code need not check bounds.
pub(crate) const MEMORIES_PER_COMPONENT: u32 = 4;
/// Tables of one component. Python guests, which link libraries inside, have about ten.
pub(crate) const TABLES_PER_COMPONENT: u32 = 32;
/// Elements of one table. The largest guest seen has about 20,000.
const TABLE_ELEMENTS: usize = MAX_TABLE_ELEMENTS;
/// Memories that stay as their last component left them, so that its next call finds its image
/// there: another component's has to be mapped first, which takes as long as the call itself.
const WARM_MEMORIES: u32 = 1024;
/// wasmtime's own data about one instance.
const INSTANCE_DATA_BYTES: usize = 16 << 20;

/// Why a host cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A setting out of its range.
    #[error("{setting} is {value}, it must be {range}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is possible.
        range: &'static str,
    },
    /// The cache directory is not safe or not usable.
    #[error(transparent)]
    CacheDir(#[from] CacheDirError),
    /// The egress guard cannot be made.
    #[error("requests cannot be made from here: {reason}")]
    Egress {
        /// What is wrong.
        reason: String,
    },
    /// The machine does not give what the engine needs.
    #[error("the WebAssembly engine cannot start: {reason}")]
    Engine {
        /// What wasmtime or the system says.
        reason: String,
    },
}

/// Loads components and runs their calls.
///
/// Cheap to clone. A calling thread needs as much native stack as `stack_bytes` of the limits,
/// and 256 KiB. After a fork the child must not use the host or its components.
#[derive(Clone)]
pub struct Host {
    shared: Arc<Shared>,
    linker: Arc<Linker<CallState>>,
}

/// What a host and its components have in common.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) limits: Limits,
    pub(crate) instances: u32,
    pub(crate) wait: Duration,
    pub(crate) slots: Slots,
    pub(crate) ticker: Ticker,
    pub(crate) cache: Option<Cache>,
    /// Calls of tools have slots of their own: one that waits for something outside keeps its slot.
    pub(crate) tool_slots: Slots,
    pub(crate) tool_instances: u32,
    pub(crate) gate: Arc<Gate>,
    guard: Arc<Guard>,
    cache_dir: Option<PathBuf>,
    deterministic: OnceLock<Result<Other, String>>,
}

/// The engine that counts fuel, with what belongs to it.
pub(crate) struct Other {
    pub(crate) engine: Engine,
    pub(crate) ticker: Ticker,
    pub(crate) cache: Option<Cache>,
}

impl Shared {
    pub(crate) fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// The engine that counts fuel. It is made when it is first asked for: most stores never need it.
    pub(crate) fn deterministic(&self) -> Result<&Other, String> {
        let made = self.deterministic.get_or_init(|| {
            let engine = Engine::new(&deterministic_config(self.limits.stack_bytes)).map_err(|e| format!("{e:#}"))?;
            let cache = self.cache_dir.as_deref().map(|dir| Cache::open(dir, &engine)).transpose();
            let cache = cache.map_err(|error| error.to_string())?;
            let ticker = Ticker::start(engine.clone()).map_err(|error| error.to_string())?;
            Ok(Other { engine, ticker, cache })
        });
        made.as_ref().map_err(Clone::clone)
    }
}

impl Host {
    /// Starts an engine and its ticking thread.
    ///
    /// # Errors
    ///
    /// [`HostError`] if a setting is out of range, the cache directory is not this user's alone,
    /// or the machine refuses address space or a thread.
    pub fn new(settings: &HostSettings) -> Result<Host, HostError> {
        check_settings(settings)?;
        let engine = Engine::new(&engine_config(settings)).map_err(|error| engine_error(&error))?;
        let cache = settings.cache_dir.as_deref().map(|dir| Cache::open(dir, &engine)).transpose()?;
        let mut linker = Linker::new(&engine);
        linker.root().func_wrap(LOG, log).map_err(|error| engine_error(&error))?;
        let guard =
            Guard::new(settings.egress.clone()).map_err(|error| HostError::Egress { reason: error.to_string() })?;
        let ticker = Ticker::start(engine.clone()).map_err(|error| HostError::Engine { reason: error.to_string() })?;
        Ok(Host {
            shared: Arc::new(Shared {
                engine,
                limits: settings.limits,
                instances: settings.instances,
                wait: settings.wait,
                slots: Slots::new(settings.instances, settings.wait),
                ticker,
                cache,
                tool_slots: Slots::new(settings.tool_instances, settings.wait),
                tool_instances: settings.tool_instances,
                gate: Gate::new(settings.places),
                guard: Arc::new(guard),
                cache_dir: settings.cache_dir.clone(),
                deterministic: OnceLock::new(),
            }),
            linker: Arc::new(linker),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn linker(&self) -> &Linker<CallState> {
        &self.linker
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("limits", &self.shared.limits)
            .field("instances", &self.shared.instances)
            .finish_non_exhaustive()
    }
}

fn check_settings(settings: &HostSettings) -> Result<(), HostError> {
    let wrong = |setting, value: &dyn std::fmt::Debug, range| {
        Err(HostError::Setting { setting, value: format!("{value:?}"), range })
    };
    let limits = &settings.limits;
    if !(1..=1000).contains(&settings.instances) {
        return wrong("instances", &settings.instances, "1 to 1000");
    }
    if !(1..=1000).contains(&settings.tool_instances) {
        return wrong("tool_instances", &settings.tool_instances, "1 to 1000");
    }
    if limits.deadline < Duration::from_millis(1) {
        return wrong("deadline", &limits.deadline, "1 ms or more");
    }
    if !(64 << 10..=4 << 20).contains(&limits.stack_bytes) {
        return wrong("stack_bytes", &limits.stack_bytes, "64 KiB to 4 MiB");
    }
    if !(64 << 10..=4 << 30).contains(&limits.memory_bytes) {
        return wrong("memory_bytes", &limits.memory_bytes, "64 KiB to 4 GiB");
    }
    Ok(())
}

fn engine_config(settings: &HostSettings) -> Config {
    let instances = settings.instances + settings.tool_instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        // A counter only: what a component needs is limited by its instance data.
        .total_core_instances(u32::MAX)
        .max_core_instance_size(INSTANCE_DATA_BYTES)
        .max_component_instance_size(INSTANCE_DATA_BYTES)
        .total_memories((instances * MEMORIES_PER_COMPONENT).max(WARM_MEMORIES))
        .max_unused_warm_slots(WARM_MEMORIES)
        .total_tables(instances * TABLES_PER_COMPONENT)
        .max_memories_per_module(MEMORIES_PER_COMPONENT)
        .max_tables_per_module(TABLES_PER_COMPONENT)
        .table_elements(TABLE_ELEMENTS)
        // What a call has dirtied is written back instead of unmapped, so that the next call has
        // no page faults: 7 us a call instead of 12 on a busy machine (`examples/frame_cost.rs`). The kernel tells
        // which pages those are (Linux 6.7 and later); older ones write all 64 KiB back, and
        // unmap what lies behind: 8 us for a small guest, 18 for one with a megabyte of memory.
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);

    let mut config = common_config(settings.limits.stack_bytes);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// The engine whose calls end in the same way on any machine. Its calls are few, so its memories are made when they are
/// needed.
fn deterministic_config(stack_bytes: usize) -> Config {
    let mut config = common_config(stack_bytes);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand).consume_fuel(true);
    config
}

fn common_config(stack_bytes: usize) -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(stack_bytes)
        // The same bits on any machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        // No guest needs it. Threads and garbage collection are not compiled in at all. Several
        // memories must stay: wasmtime panics without them on a component made of components.
        .wasm_memory64(false)
        // Only backtraces would need it, and those are not compiled in.
        .generate_address_map(false)
        .parallel_compilation(!after_fork());
    config
}

/// Whether this process was forked from one that had a host: the threads that compile are of the
/// parent then, and waiting for them would never end.
fn after_fork() -> bool {
    static FIRST: AtomicU32 = AtomicU32::new(0);
    let own = std::process::id();
    let first = FIRST.compare_exchange(0, own, Relaxed, Relaxed);
    first.is_err_and(|first| first != own)
}

fn engine_error(error: &wasmtime::Error) -> HostError {
    HostError::Engine { reason: format!("{error:#}") }
}
