//! What does each limit of a tool's call cost?
//!
//! `cargo run --release -p capsa-vm --example limit_cost` prints JSON: pairs of a call and its figures, which are pairs of what is limited
//! and microseconds a call in each round. `bench/tool_limits.py` runs it and stores the result. With `limit_cost ROUNDS CASE` it is so
//! many rounds of one case.
//!
//! The product does not switch its limits off, so calls are made here as `tool.rs` makes them, on an engine configured as in
//! `host.rs`, with any of the limits left out; gate, slots, ticker and clock are the product's own. Last comes the product itself,
//! with everything that it does beside: seeds, counts, log.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use capsa_core::kv::{Change, Quota};
use capsa_vm::{Call, Circumstances, Expected, Given, Host, HostSettings, KeepError, Keeper, Outcome, OutsideError};
use serde_json::json;
use wasmtime::component::{Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, ResourceLimiter, Store,
    StoreContextMut, UpdateDeadline, bail,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

#[path = "../src/cpu.rs"]
mod cpu;
#[path = "../src/gate.rs"]
#[allow(dead_code)]
mod gate;
#[path = "../src/slots.rs"]
#[allow(dead_code)]
mod slots;
#[path = "../src/ticker.rs"]
mod ticker;

use gate::{Gate, Turns};
use slots::Slots;
use ticker::{TICK, Ticker};

const WORLD: &str = include_str!("../../../wit/capsule.wit");
const ROUNDS: usize = 301;
const INPUT: &str = r#"{"n":1}"#;
const VALUE: &[u8] = b"a value of some length";

// The limits of a call where a policy says nothing.
const CPU: Duration = Duration::from_millis(50);
const WALL: Duration = Duration::from_secs(10);
const FUEL: u64 = 1_000_000_000;
const MEMORY_BYTES: usize = 64 << 20;
const TABLE_ELEMENTS: usize = 100_000;
const OUTPUT_BYTES: usize = 1 << 20;
const HOST_CALLS: u64 = 1000;
const CONCURRENCY: u32 = 8;

/// What is called: its name, the body of `invoke`, and calls in a turn. A turn takes about a millisecond, so that few of them are
/// disturbed by something else on the machine.
const CASES: [(&str, &str, u32); 5] = [
    ("smallest call", "", 100),
    (
        "1 ms of computing",
        // FNV-1a of the memory, over and over.
        "(local $left i32) (local $hash i64)
         (local.set $left (i32.const 786432))
         (loop $next
            (local.set $hash (i64.mul (i64.const 1099511628211)
                (i64.xor (local.get $hash) (i64.load8_u (i32.and (local.get $left) (i32.const 65535))))))
            (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
         (i64.store (i32.const 80) (local.get $hash))",
        1,
    ),
    (
        "1 ms of an empty loop",
        "(local $left i32)
         (local.set $left (i32.const 3000000))
         (loop $next (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))",
        1,
    ),
    (
        "100 calls of kv.get",
        "(local $left i32)
         (local.set $left (i32.const 100))
         (loop $next
            (global.set $heap (i32.const 8192))
            (call $get (i32.const 16) (i32.const 8) (i32.const 128))
            (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))",
        30,
    ),
    (
        "100 calls of clock.now",
        "(local $left i32)
         (local.set $left (i32.const 100))
         (loop $next
            (drop (call $now))
            (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))",
        30,
    ),
];

/// What breaks each limit: without this nobody would know that they were there to be measured.
const BREAKING: [(&str, &str); 5] = [
    ("ticks and processor time", "(loop $on (br $on))"),
    ("fuel", "(loop $on (br $on))"),
    ("memory and tables", "(if (i32.eq (i32.const -1) (memory.grow (i32.const 2000))) (then unreachable))"),
    (
        "size of a piece",
        "(drop (memory.grow (i32.const 32))) (call $get (i32.const 16) (i32.const 2000000) (i32.const 128))",
    ),
    (
        "host calls and wall time",
        "(local $left i32) (local.set $left (i32.const 1001))
         (loop $next (drop (call $now)) (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))",
    ),
];

/// Which limits a call has.
#[derive(Debug, Clone, Copy)]
struct Limited {
    /// Checks of the epoch in the code, and a call counted as running.
    ticks: bool,
    /// Processor time, asked for at the start and at ticks.
    processor: bool,
    /// Instead of processor time: the deterministic engine counts it.
    fuel: bool,
    memory: bool,
    pieces: bool,
    /// Calls of host functions are counted, and end where the time is over.
    host_calls: bool,
    /// Calls of this capsule, of all capsules, and of those that compute.
    turns: bool,
    /// No limit: processor time is asked for once more at the end, to tell what was used.
    told: bool,
}

const NONE: Limited = Limited {
    ticks: false,
    processor: false,
    fuel: false,
    memory: false,
    pieces: false,
    host_calls: false,
    turns: false,
    told: false,
};
const FAST: Limited =
    Limited { ticks: true, processor: true, memory: true, pieces: true, host_calls: true, turns: true, ..NONE };
const DETERMINISTIC: Limited = Limited { processor: false, fuel: true, ..FAST };

const WAYS: [(&str, Limited); 12] = [
    ("unlimited", NONE),
    ("ticks", Limited { ticks: true, ..NONE }),
    ("processor time", Limited { processor: true, ..NONE }),
    ("ticks and processor time", Limited { ticks: true, processor: true, ..NONE }),
    ("memory and tables", Limited { memory: true, ..NONE }),
    ("size of a piece", Limited { pieces: true, ..NONE }),
    ("host calls and wall time", Limited { host_calls: true, ..NONE }),
    ("turns", Limited { turns: true, ..NONE }),
    ("fuel", Limited { fuel: true, ..NONE }),
    ("all of the fast engine", FAST),
    ("all of the deterministic engine", DETERMINISTIC),
    ("all of the fast engine, and use is told", Limited { told: true, ..FAST }),
];

/// What the host keeps beside an instance.
struct State {
    limited: Limited,
    began: Instant,
    until: Instant,
    cpu_at_start: Duration,
    memory: Budget,
    turns: Option<Turns>,
    host_calls: u64,
}

struct Budget {
    bytes: usize,
    elements: usize,
}

impl ResourceLimiter for Budget {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = (self.bytes - current).saturating_add(desired);
        if used > MEMORY_BYTES {
            return Ok(false);
        }
        self.bytes = used;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let used = (self.elements - current).saturating_add(desired);
        if used > TABLE_ELEMENTS {
            return Ok(false);
        }
        self.elements = used;
        Ok(true)
    }
}

fn on_tick(mut cx: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    let state = cx.data_mut();
    let mut left = state.until.saturating_duration_since(Instant::now());
    let mut used = Duration::ZERO;
    if state.limited.processor {
        used = cpu::thread_time() - state.cpu_at_start;
        left = left.min(CPU.saturating_sub(used));
    }
    if left.is_zero() || state.turns.as_mut().is_some_and(|turns| !turns.goes_on(used, state.until)) {
        return Ok(UpdateDeadline::Interrupt);
    }
    let next = left.min(state.turns.as_ref().map_or(left, Turns::next));
    Ok(UpdateDeadline::Continue(next.as_nanos().div_ceil(TICK.as_nanos()) as u64))
}

/// What every host function begins with.
fn through(state: &mut State) -> wasmtime::Result<()> {
    if state.limited.host_calls {
        state.host_calls += 1;
        if state.host_calls > HOST_CALLS || Instant::now() >= state.until {
            bail!("a limit on host calls");
        }
    }
    Ok(())
}

fn linker(engine: &Engine) -> Linker<State> {
    type Cx<'a> = StoreContextMut<'a, State>;
    let mut linker = Linker::new(engine);
    let mut clock = linker.instance("capsa:capsule/clock@0.1.0").unwrap();
    let now = |mut cx: Cx<'_>, ()| {
        through(cx.data_mut())?;
        Ok((cx.data().began.elapsed().as_nanos() as u64,))
    };
    clock.func_wrap("now", now).unwrap();
    let mut kv = linker.instance("capsa:capsule/kv@0.1.0").unwrap();
    let get = |mut cx: Cx<'_>, (key,): (String,)| {
        through(cx.data_mut())?;
        Ok((Ok::<_, OutsideError>(Keeper::get(&Constant, &key)),))
    };
    kv.func_wrap("get", get).unwrap();
    linker
}

/// Keeps one value.
struct Constant;

impl Keeper for Constant {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        assert!(!key.is_empty());
        Some(VALUE.to_vec())
    }

    fn keys(&self, _: &str, _: Option<&str>, _: usize) -> Vec<String> {
        Vec::new()
    }

    fn change(&self, _: Change, _: Expected, _: Quota) -> Result<bool, KeepError> {
        Err(KeepError::Quota)
    }
}

#[derive(Debug, ComponentType, Lift)]
#[component(record)]
#[allow(dead_code)]
struct Lifted {
    code: String,
    message: String,
    retryable: bool,
}

/// An engine, and what limits the calls on it.
struct Ground {
    engine: Engine,
    ticker: Ticker,
    gate: Arc<Gate>,
    slots: Slots,
    tenant: Arc<str>,
    running: AtomicU32,
}

/// A component on a ground.
struct Guest<'a> {
    ground: &'a Ground,
    pre: InstancePre<State>,
    invoke: ComponentExportIndex,
}

impl Ground {
    /// As `host.rs` configures it.
    fn new(limited: Limited) -> Ground {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(128)
            .total_core_instances(u32::MAX)
            .max_core_instance_size(16 << 20)
            .max_component_instance_size(16 << 20)
            .total_memories(1024)
            .max_unused_warm_slots(1024)
            .total_tables(128 * 32)
            .max_memories_per_module(4)
            .max_tables_per_module(32)
            .table_elements(TABLE_ELEMENTS)
            .linear_memory_keep_resident(64 << 10)
            .table_keep_resident(16 << 10)
            .pagemap_scan(Enabled::Auto);
        let mut config = Config::new();
        config
            .wasm_component_model(true)
            .max_wasm_stack(512 << 10)
            .cranelift_nan_canonicalization(true)
            .wasm_relaxed_simd(false)
            .wasm_memory64(false)
            .generate_address_map(false)
            .epoch_interruption(limited.ticks)
            .consume_fuel(limited.fuel)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).unwrap();
        Ground {
            ticker: Ticker::start(engine.clone()).unwrap(),
            engine,
            gate: Gate::new(1),
            slots: Slots::new(64, Duration::from_secs(1)),
            tenant: Arc::from("bench"),
            running: AtomicU32::new(0),
        }
    }

    fn guest(&self, component: &[u8]) -> Guest<'_> {
        let compiled = Component::new(&self.engine, component).unwrap();
        let invoke = compiled.get_export_index(None, "invoke").unwrap();
        Guest { ground: self, pre: linker(&self.engine).instantiate_pre(&compiled).unwrap(), invoke }
    }
}

impl Guest<'_> {
    /// One call, as `Tool::call` makes it.
    fn call(&self, limited: Limited) -> wasmtime::Result<String> {
        let Ground { engine, ticker, gate, slots, tenant, running } = self.ground;
        let began = Instant::now();
        let until = began + WALL;
        let slot = limited.turns.then(|| {
            assert!(running.fetch_add(1, Ordering::Relaxed) < CONCURRENCY);
            slots.take().unwrap()
        });
        let turns = limited.turns.then(|| Turns::new(gate, tenant));
        let cpu_at_start = if limited.processor || limited.told { cpu::thread_time() } else { Duration::ZERO };
        let counted = limited.ticks.then(|| ticker.running());
        let memory = Budget { bytes: 0, elements: 0 };
        let mut store = Store::new(engine, State { limited, began, until, cpu_at_start, memory, turns, host_calls: 0 });
        if limited.memory {
            store.limiter(|state| &mut state.memory);
        }
        if limited.pieces {
            store.set_hostcall_fuel(OUTPUT_BYTES);
        }
        if limited.ticks {
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(on_tick);
        }
        if limited.fuel {
            store.set_fuel(FUEL)?;
        }
        let instance = self.pre.instantiate(&mut store)?;
        let invoke = instance.get_typed_func::<(&str,), (Result<String, Lifted>,)>(&mut store, &self.invoke)?;
        let (answer,) = invoke.call(&mut store, (INPUT,))?;
        if limited.fuel {
            assert!(store.get_fuel()? < FUEL);
        }
        drop(store);
        if limited.told {
            assert!(cpu::thread_time() >= cpu_at_start && began.elapsed() > Duration::ZERO);
        }
        drop(counted);
        if slot.is_some() {
            running.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(answer.unwrap())
    }
}

/// A tool that does this and answers its input.
fn component(body: &str) -> Vec<u8> {
    let wanted = |call, import| if body.contains(call) { import } else { "" };
    let core = format!(
        r#"(module
            {}
            {}
            (memory (export "memory") 1)
            (global $heap (mut i32) (i32.const 4096))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (global.get $heap)
                (global.set $heap (i32.add (global.get $heap) (i32.and (i32.const -8)
                    (i32.add (i32.const 7) (local.get 3))))))
            (func (export "invoke") (param $in i32) (param $bytes i32) (result i32) {body}
                (i32.store (i32.const 68) (local.get $in))
                (i32.store (i32.const 72) (local.get $bytes))
                (i32.const 64))
            (data (i32.const 16) "some key"))"#,
        wanted("call $now", r#"(import "capsa:capsule/clock@0.1.0" "now" (func $now (result i64)))"#),
        wanted("call $get", r#"(import "capsa:capsule/kv@0.1.0" "get" (func $get (param i32 i32 i32)))"#),
    );
    let mut core = wat::parse_str(core).unwrap();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("capsule.wit", WORLD).unwrap();
    let world = resolve.select_world(&[package], Some("tool")).unwrap();
    embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&core).unwrap().encode().unwrap()
}

/// The product's own call.
fn product(component: &[u8], engine: &str) -> impl Fn() + use<> {
    let grants = json!({
        "engine": engine, "effect": "read", "clock": true, "random": false, "config": {},
        "kv": {"access": "read", "maxBytes": 1 << 20, "maxKeys": 1000}, "files": null,
        "http": {"wanted": [], "allowed": []}, "secrets": [],
        "limits": {
            "cpuMs": 50, "wallMs": 10_000, "fuel": null, "memoryBytes": MEMORY_BYTES, "tableElements": TABLE_ELEMENTS,
            "outputBytes": OUTPUT_BYTES, "logLines": 64, "logBytes": 16 << 10, "hostCalls": HOST_CALLS, "egressRequests": 16,
            "egressBytes": 10 << 20, "concurrency": CONCURRENCY,
        },
    });
    let host = Host::new(&HostSettings::default()).unwrap();
    let given = Given { keeper: Some(Arc::new(Constant)), ..Given::default() };
    let tool = host.load_tool(component).unwrap().bind(serde_json::from_value(grants).unwrap(), given).unwrap();
    let tenant = Arc::from("bench");
    move || {
        let around =
            Circumstances { tenant: &tenant, seed: [0; 32], now_ns: 0, inline: false, record: false, replay: None };
        let made = tool.call(Call::Invoke(INPUT), around);
        assert!(matches!(made.outcome, Outcome::Answered(Some(text)) if text == INPUT));
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let rounds = arguments.next().map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let only = arguments.next();
    let grounds: Vec<((bool, bool), Ground)> = [(false, false), (true, false), (false, true), (true, true)]
        .map(|(ticks, fuel)| ((ticks, fuel), Ground::new(Limited { ticks, fuel, ..NONE })))
        .into();
    check(&grounds);
    let mut figures = Vec::new();
    for (name, body, calls) in CASES {
        if only.as_ref().is_none_or(|only| only == name) {
            figures.push((name, measured(&grounds, &component(body), rounds, calls)));
        }
    }
    println!("{}", json!(figures));
}

/// That each limit ends what breaks it.
fn check(grounds: &[((bool, bool), Ground)]) {
    for (name, body) in BREAKING {
        let bytes = component(body);
        let (_, limited) = WAYS.iter().find(|(way, _)| *way == name).unwrap();
        assert!(on(grounds, *limited).guest(&bytes).call(*limited).is_err(), "{name}");
        if !body.contains("br $on") {
            assert!(on(grounds, NONE).guest(&bytes).call(NONE).is_ok(), "{name}");
        }
    }
}

fn on(grounds: &[((bool, bool), Ground)], limited: Limited) -> &Ground {
    let found = grounds.iter().find(|(has, _)| *has == (limited.ticks, limited.fuel));
    &found.expect("there is one for each pair").1
}

/// A way to make a call.
type Way<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// Microseconds a call by way, one figure a round; in every round each way takes its turn.
fn measured(
    grounds: &[((bool, bool), Ground)],
    component: &[u8],
    rounds: usize,
    calls: u32,
) -> Vec<(&'static str, Vec<f64>)> {
    let guests: Vec<_> = grounds.iter().map(|(has, ground)| (*has, ground.guest(component))).collect();
    let mut ways: Vec<Way<'_>> = Vec::new();
    for (name, limited) in WAYS {
        let (_, guest) = guests.iter().find(|(has, _)| *has == (limited.ticks, limited.fuel)).unwrap();
        ways.push((name, Box::new(move || assert_eq!(guest.call(limited).unwrap(), INPUT))));
    }
    ways.push(("the product", Box::new(product(component, "fast"))));
    ways.push(("the product, deterministic engine", Box::new(product(component, "deterministic"))));
    let mut taken: Vec<_> = ways.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for _ in 0..rounds {
        for ((_, call), (_, figures)) in ways.iter().zip(&mut taken) {
            // What the turn before has left in the caches would count for this way.
            (0..calls.div_ceil(10)).for_each(|_| call());
            let begin = Instant::now();
            (0..calls).for_each(|_| call());
            figures.push(begin.elapsed().as_secs_f64() * 1e6 / f64::from(calls));
        }
    }
    taken
}
