//! One call: what it answers, what it used, and that a recorded one can be repeated.

use std::time::Duration;

use capsa_vm::{BindError, Call, CallError, Circumstances, EngineKind, Failure, Given, Interface, Outcome};
use serde_json::json;

use crate::guests::{Guest, around, bound, component_of, grants, host, invoke};

const LOOP: &str = "(loop $again (br $again)) unreachable";
/// Answers what is kept under the input as key, and keeps the input there.
const REMEMBER: &str = "(call $kv_get (local.get $in) (local.get $bytes) (i32.const 128))
    (call $kv_set (local.get $in) (local.get $bytes) (local.get $in) (local.get $bytes) (i32.const 160))
    (if (result i32) (i32.load (i32.const 132))
        (then (call $ok (i32.load (i32.const 136)) (i32.load (i32.const 140))))
        (else (call $ok (i32.const 16) (i32.const 4))))";

fn answer(text: &str) -> Outcome {
    Outcome::Answered(Some(text.to_owned()))
}

fn stopped(outcome: Outcome) -> CallError {
    match outcome {
        Outcome::Stopped(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tool_answers_what_it_was_sent() {
    let tool = bound(&host(), &Guest::default(), json!({}));
    let made = invoke(&tool, "{\"é\": 1}");
    assert_eq!(made.outcome, answer("{\"é\": 1}"));
    assert_eq!((made.used.host_calls, made.used.fuel, made.denied.len()), (0, None, 0));
    assert_eq!(made.used.memory_bytes, 1 << 16);
}

#[test]
fn what_is_not_granted_is_not_linked() {
    let host = host();
    let guest = Guest { imports: &["kv_get", "now"], ..Guest::default() };
    let component = host.load_tool(&guest.component()).unwrap();
    assert_eq!(component.imports(), [Interface::Clock, Interface::Kv]);
    let refused = component.bind(grants(json!({"clock": true})), Given::default()).unwrap_err();
    assert_eq!(refused, BindError::NotGranted(vec![Interface::Kv]));
    assert_eq!(refused.to_string(), "the component imports kv, which the policy does not grant");
    let kv = json!({"clock": true, "kv": {"access": "read", "maxBytes": 1, "maxKeys": 1}});
    assert_eq!(component.bind(grants(kv), Given::default()).unwrap_err(), BindError::Nowhere("kv"));
}

#[test]
fn what_is_kept_outlives_a_call_and_reading_alone_changes_nothing() {
    let guest = Guest { imports: &["kv_get", "kv_set"], invoke: REMEMBER, ..Guest::default() };
    let kv = |access| json!({"kv": {"access": access, "maxBytes": 100, "maxKeys": 2}});
    let tool = bound(&host(), &guest, kv("readWrite"));
    assert_eq!(invoke(&tool, "\"a\"").outcome, answer("null"));
    assert_eq!(invoke(&tool, "\"a\"").outcome, answer("\"a\""));
    let tool = bound(&host(), &guest, kv("read"));
    let made = invoke(&tool, "\"a\"");
    let denied = &made.denied[0];
    assert_eq!((denied.interface, denied.rule.as_str()), ("kv", "kv-access"));
    assert_eq!(invoke(&tool, "\"a\"").outcome, answer("null"));
}

#[test]
fn each_limit_ends_a_call_with_its_own_error() {
    let host = host();
    let ended = |guest: &Guest, parts| stopped(invoke(&bound(&host, guest, parts), "1").outcome);
    let spins = Guest { invoke: LOOP, ..Guest::default() };
    let limit = Duration::from_millis(5);
    assert_eq!(ended(&spins, json!({"limits": {"cpuMs": 5}})), CallError::Deadline { limit });
    assert_eq!(ended(&spins, json!({"limits": {"cpuMs": 60_000, "wallMs": 5}})), CallError::Wall { limit });
    let fuel = json!({"engine": "deterministic", "limits": {"fuel": 10_000}});
    assert_eq!(ended(&spins, fuel), CallError::Fuel { limit: 10_000 });
    let endless = json!({"engine": "deterministic", "limits": {"fuel": 1_000_000_000_000_000u64, "wallMs": 5}});
    assert_eq!(ended(&spins, endless), CallError::Wall { limit });
    let floods = Guest {
        imports: &["now"],
        invoke: "(loop $again (drop (call $now)) (br $again)) unreachable",
        ..Guest::default()
    };
    let calls = json!({"clock": true, "limits": {"hostCalls": 10}});
    assert_eq!(ended(&floods, calls), CallError::HostCalls { limit: 10 });
    let tables = Guest {
        more: "(table $t 1 funcref)",
        invoke: "(if (i32.eq (i32.const -1) (table.grow $t (ref.null func) (i32.const 100))) (then unreachable))
            unreachable",
        ..Guest::default()
    };
    assert_eq!(ended(&tables, json!({"limits": {"tableElements": 100}})), CallError::Tables { limit: 100 });
    let grows = Guest {
        invoke: "(loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 1))))) unreachable",
        ..Guest::default()
    };
    assert_eq!(ended(&grows, json!({"limits": {"memoryBytes": 1 << 20}})), CallError::Memory { limit: 1 << 20 });
    let output = json!({"limits": {"outputBytes": 100}});
    let tool = bound(&host, &Guest::default(), output);
    let large = format!("\"{}\"", "a".repeat(100));
    assert!(stopped(invoke(&tool, &large).outcome).to_string().contains("more than 100 bytes in one piece"));
}

#[test]
fn a_failure_is_the_tools_own_and_its_code_a_word() {
    let failing = |code: &str| {
        format!(
            r#"(i32.store8 (i32.const 64) (i32.const 1)) (i32.store (i32.const 68) (i32.const 256))
            (i32.store (i32.const 72) (i32.const {})) (i32.store (i32.const 76) (i32.const 16))
            (i32.store (i32.const 80) (i32.const 4)) (i32.store8 (i32.const 84) (i32.const 1)) (i32.const 64)"#,
            code.len()
        )
    };
    let guest = |code: &'static str| Guest {
        invoke: Box::leak(failing(code).into_boxed_str()),
        more: Box::leak(format!("(data (i32.const 256) \"{code}\")").into_boxed_str()),
        ..Guest::default()
    };
    let host = host();
    let expected = Failure { code: "not-there".to_owned(), message: "null".to_owned(), retryable: true };
    assert_eq!(invoke(&bound(&host, &guest("not-there"), json!({})), "1").outcome, Outcome::Failed(expected));
    for code in ["Not There", "", "é"] {
        let made = invoke(&bound(&host, &guest(code), json!({})), "1");
        assert!(stopped(made.outcome).to_string().contains("the code of its failure"), "{code:?}");
    }
}

#[test]
fn random_numbers_of_a_pure_tool_follow_from_its_input() {
    let guest = Guest {
        imports: &["random"],
        invoke: "(call $random (i32.const 8) (i32.const 128))
            (i32.store8 (i32.load (i32.const 128)) (i32.and (i32.const 0x7f) (i32.load8_u (i32.load (i32.const 128)))))
            (call $ok (i32.load (i32.const 128)) (i32.const 1))",
        ..Guest::default()
    };
    let host = host();
    let drawn = |effect: &str, input: &str, seed: u8| {
        let tool = bound(&host, &guest, json!({"random": true, "effect": effect}));
        tool.call(Call::Invoke(input), Circumstances { seed: [seed; 32], ..around() }).outcome
    };
    let inputs = ["1", "2", "3", "4"];
    for input in inputs {
        assert_eq!(drawn("pure", input, 1), drawn("pure", input, 2));
    }
    let firsts: Vec<_> = inputs.iter().map(|input| drawn("pure", input, 1)).collect();
    assert!(firsts.iter().any(|first| first != &firsts[0]));
    assert!((2..10).any(|seed| drawn("read", "1", seed) != drawn("read", "1", 1)));
}

#[test]
fn a_recorded_call_is_repeated_without_asking_outside() {
    let guest = Guest { imports: &["kv_get", "kv_set", "now"], invoke: REMEMBER, ..Guest::default() };
    let parts = json!({"engine": "deterministic", "clock": true, "limits": {"fuel": 1_000_000},
        "kv": {"access": "readWrite", "maxBytes": 100, "maxKeys": 2}});
    let tool = bound(&host(), &guest, parts);
    assert_eq!(tool.grants().engine, EngineKind::Deterministic);
    let first = tool.call(Call::Invoke("\"a\""), Circumstances { record: true, ..around() });
    assert_eq!(first.outcome, answer("null"));
    let recording = first.recording.unwrap();
    assert_eq!(recording.iter().map(|exchange| exchange.name.as_str()).collect::<Vec<_>>(), ["kv.get", "kv.set"]);
    // Asked now, it would answer otherwise.
    assert_eq!(invoke(&tool, "\"a\"").outcome, answer("\"a\""));
    let replay = |input, recording| {
        let seed = [9; 32];
        tool.call(Call::Invoke(input), Circumstances { replay: Some(recording), seed, now_ns: 7, ..around() })
    };
    let again = replay("\"a\"", recording.clone());
    assert_eq!((again.outcome, again.used.fuel, again.left_over), (first.outcome, first.used.fuel, 0));
    assert!(matches!(stopped(replay("\"b\"", recording.clone()).outcome), CallError::Diverged { at: 0, .. }));
    let short = recording[..1].to_vec();
    assert!(matches!(stopped(replay("\"a\"", short).outcome), CallError::Diverged { at: 1, .. }));
}

#[test]
fn a_call_that_has_to_be_over_at_once_is_ended_soon_and_can_be_made_again() {
    let host = host();
    let inline = |guest: &Guest| {
        bound(&host, guest, json!({})).call(Call::Invoke("1"), Circumstances { inline: true, ..around() }).outcome
    };
    assert_eq!(inline(&Guest::default()), answer("1"));
    assert_eq!(stopped(inline(&Guest { invoke: LOOP, ..Guest::default() })), CallError::TooSlow);
    // Nothing looks at the clock within one instruction: what it could work on is bounded.
    let fills =
        "(drop (memory.grow (i32.const 800))) (memory.fill (i32.const 65536) (i32.const 1) (i32.const 52428800))
        (call $ok (local.get $in) (local.get $bytes))";
    let fills = Guest { invoke: fills, ..Guest::default() };
    assert_eq!(stopped(inline(&fills)), CallError::TooSlow);
    let large = Guest { more: "(memory $more 100)", ..Guest::default() };
    assert_eq!(stopped(inline(&large)), CallError::TooSlow);
}

#[test]
fn what_can_be_taken_back_is_known_and_called() {
    let compensable = r#"(module
        (memory (export "memory") 1)
        (global $heap (mut i32) (i32.const 4096))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
            (local.set $at (global.get $heap))
            (global.set $heap (i32.add (global.get $heap) (local.get 3))) (local.get $at))
        (func (export "invoke") (param i32 i32) (result i32)
            (i32.store (i32.const 68) (local.get 0)) (i32.store (i32.const 72) (local.get 1)) (i32.const 64))
        (func (export "compensate") (param i32 i32 i32 i32) (result i32) (i32.const 64)))"#;
    let component = host().load_tool(&component_of("compensable-tool", compensable)).unwrap();
    assert!(component.compensates());
    let tool = component.bind(grants(json!({})), Given::default()).unwrap();
    assert_eq!(tool.call(Call::Compensate("1", "2"), around()).outcome, Outcome::Answered(None));
    let without = bound(&host(), &Guest::default(), json!({}));
    assert!(!without.component().compensates());
    assert_eq!(stopped(without.call(Call::Compensate("1", "2"), around()).outcome), CallError::NoCompensation);
}
