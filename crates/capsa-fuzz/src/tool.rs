//! Tools with random code inside, whole and damaged: loaded, bound and called in both engines.

use std::sync::{Arc, LazyLock};

use capsa_vm::{Call, CallError, Circumstances, Given, Grants, Host, HostSettings, Invocation, Outcome, ToolComponent};

use crate::mutate::{Chooser, mutated};
use crate::smith;

/// A tool that answers its input.
pub(crate) const ECHO: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
    (func (export "invoke") (param $at i32) (param $bytes i32) (result i32)
        (i32.store (i32.const 64) (i32.const 0))
        (i32.store (i32.const 68) (local.get $at))
        (i32.store (i32.const 72) (local.get $bytes))
        (i32.const 64)))"#;

pub(crate) fn host() -> &'static Host {
    static HOST: LazyLock<Host> = LazyLock::new(|| {
        let settings = HostSettings { instances: 2, tool_instances: 2, ..HostSettings::default() };
        Host::new(&settings).expect("the machine has room for a small pool")
    });
    &HOST
}

/// Grants of nothing, with a quarter of a second for each call.
pub(crate) fn pure(engine: &str) -> Grants {
    let json = format!(
        r#"{{"engine": "{engine}", "effect": "pure", "clock": false, "random": false, "config": {{}}, "kv": null,
        "files": null, "http": {{"wanted": [], "allowed": []}}, "secrets": [], "limits": {{"cpuMs": 250, "wallMs": 5000,
        "fuel": {fuel}, "memoryBytes": 8388608, "tableElements": 10000, "outputBytes": 1048576, "logLines": 4,
        "logBytes": 1000, "hostCalls": 10, "egressRequests": 0, "egressBytes": 0, "concurrency": 2}}}}"#,
        fuel = if engine == "fast" { "null" } else { "50000000" },
    );
    serde_json::from_str(&json).expect("they are grants")
}

pub(crate) fn around() -> Circumstances<'static> {
    static TENANT: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("default"));
    Circumstances { tenant: &TENANT, seed: [1; 32], now_ns: 1_000, inline: false, record: false, replay: None }
}

/// Calls a tool in both engines. Neither may find fault with the host, and both end alike where no limit ends them.
pub(crate) fn call_both(component: &ToolComponent, input: &str) {
    let call = |engine| -> Option<Invocation> {
        let tool = component.bind(pure(engine), Given::default()).ok()?;
        Some(tool.call(Call::Invoke(input), around()))
    };
    let (Some(fast), Some(exact)) = (call("fast"), call("deterministic")) else {
        assert!(!component.imports().is_empty(), "what asks for nothing is bound");
        return;
    };
    for made in [&fast, &exact] {
        let hosts_own = matches!(
            made.outcome,
            Outcome::Stopped(CallError::Host { .. } | CallError::Busy { .. } | CallError::Concurrency { .. })
        );
        assert!(!hosts_own, "{:?}", made.outcome);
        assert!(made.used.memory_bytes <= 8 << 20 && made.log.lines.len() <= 4, "{made:?}");
    }
    let by_limit = |made: &Invocation| {
        use CallError::{Deadline, Fuel, Stack, Wall};
        matches!(made.outcome, Outcome::Stopped(Deadline { .. } | Wall { .. } | Fuel { .. } | Stack { .. }))
    };
    if !by_limit(&fast) && !by_limit(&exact) {
        assert_eq!(fast.outcome, exact.outcome);
        assert_eq!(fast.log, exact.log);
    }
}

pub(crate) fn run(data: &[u8]) {
    let Some(bytes) = smith::tool(data) else { return };
    let component = host().load_tool(&bytes).expect("wasm-smith makes what the engine takes");
    for input in ["0", "1"] {
        call_both(&component, input);
    }
    // Then with bytes of it changed, at places that follow from the data too.
    let mut chooser =
        Chooser::new(data.iter().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte))));
    for _ in 0..4 {
        if let Ok(component) = host().load_tool(&mutated(&bytes, data, &mut chooser)) {
            call_both(&component, "0");
        }
    }
}
