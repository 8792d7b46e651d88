//! What a guest does to its host ends in its own error, and the host goes on.

use std::time::Duration;

use capsa_core::world::Value;
use capsa_vm::{BadOutput, CallError, Host, HostSettings, Level, Limits};

use crate::guests::{Guest, assert_still_serves, frame_error, host, load};

const LIMITS: fn() -> Limits = Limits::default;

fn deadline() -> CallError {
    CallError::Deadline { limit: LIMITS().deadline }
}

fn stack() -> CallError {
    CallError::Stack { limit: LIMITS().stack_bytes }
}

/// One text field, so that the host has to ask the guest for memory.
fn input() -> Vec<(String, Value)> {
    vec![("name".to_owned(), Value::Text("value".to_owned()))]
}

fn frame_error_with_input(guest: &Guest) -> CallError {
    let host = host();
    let error = load(&host, guest).frame(&input()).unwrap_err().error;
    assert_still_serves(&host);
    error
}

#[test]
fn an_endless_loop_ends_at_the_deadline_wherever_it_is() {
    const LOOP: &str = "(loop $again (br $again)) unreachable";
    assert_eq!(frame_error(&Guest { frame: LOOP, ..Guest::default() }), deadline());
    assert_eq!(frame_error(&Guest { post_frame: LOOP, ..Guest::default() }), deadline());
    assert_eq!(frame_error_with_input(&Guest { realloc: LOOP, ..Guest::default() }), deadline());
    let start = Guest { more: "(func $start (loop $again (br $again))) (start $start)", ..Guest::default() };
    assert_eq!(frame_error(&start), deadline());
}

#[test]
fn an_endless_loop_in_reward_ends_at_the_deadline() {
    let host = host();
    let guest = load(&host, &Guest { reward: "(loop $again (br $again)) unreachable", ..Guest::default() });
    assert_eq!(guest.reward(&[], &[]).unwrap_err().error, deadline());
    assert_still_serves(&host);
}

#[test]
fn the_deadline_is_the_one_that_was_set() {
    let limits = Limits { deadline: Duration::from_millis(5), ..Limits::default() };
    let host = Host::new(&HostSettings { limits, ..HostSettings::default() }).unwrap();
    let guest = load(&host, &Guest { frame: "(loop $again (br $again)) unreachable", ..Guest::default() });
    let error = guest.frame(&[]).unwrap_err().error;
    assert_eq!(error.to_string(), "the capsule used more than 5ms of processor time");
}

#[test]
fn endless_recursion_ends_at_the_stack_limit_wherever_it_is() {
    const DEEP: &str = "(func $deep (param i64) (call $deep (local.get 0)) (call $deep (local.get 0)))";
    const DIVE: &str = "(call $deep (i64.const 1)) unreachable";
    let deep = || Guest { more: DEEP, ..Guest::default() };
    assert_eq!(frame_error(&Guest { frame: DIVE, ..deep() }), stack());
    assert_eq!(frame_error(&Guest { post_frame: DIVE, ..deep() }), stack());
    assert_eq!(frame_error_with_input(&Guest { realloc: DIVE, ..deep() }), stack());
    let start = "(func $deep (call $deep) (call $deep)) (start $deep)";
    assert_eq!(frame_error(&Guest { more: start, ..Guest::default() }), stack());
}

#[test]
fn memory_ends_at_its_limit() {
    let grow = "(loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 1))))) unreachable";
    let limit = LIMITS().memory_bytes;
    assert_eq!(frame_error(&Guest { frame: grow, ..Guest::default() }), CallError::Memory { limit });
}

#[test]
fn a_guest_that_copes_with_the_denial_is_answered() {
    // 1 page and 1022 more are below 64 MiB, one more is too; the next is not.
    let frame = "(if (i32.eq (i32.const -1) (memory.grow (i32.const 1023))) (then unreachable))
                 (if (i32.ne (i32.const -1) (memory.grow (i32.const 1))) (then unreachable))
                 i32.const 64";
    let host = host();
    let framed = load(&host, &Guest { frame, ..Guest::default() }).frame(&[]).unwrap();
    assert_eq!(framed.choices.len(), 1);
}

#[test]
fn the_guests_own_maximum_is_not_our_denial() {
    let guest = Guest {
        memory: r#"(memory (export "memory") 1 2)"#,
        frame: "(drop (memory.grow (i32.const 2000))) unreachable",
        ..Guest::default()
    };
    assert!(matches!(frame_error(&guest), CallError::Trapped { .. }));
}

#[test]
fn each_trap_says_what_it_was() {
    let reason = |frame| match frame_error(&Guest { frame, ..Guest::default() }) {
        CallError::Trapped { reason } => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason("unreachable"), "wasm `unreachable` instruction executed");
    assert_eq!(reason("(i32.div_u (i32.const 1) (i32.const 0))"), "integer divide by zero");
    assert_eq!(reason("(i32.load (i32.const 0x7fffffff))"), "out of bounds memory access");
    let start = Guest { more: "(func $start unreachable) (start $start)", ..Guest::default() };
    assert!(matches!(frame_error(&start), CallError::Trapped { .. }));
    let far_data = Guest { more: r#"(data (i32.const 65535) "too far")"#, ..Guest::default() };
    assert!(matches!(frame_error(&far_data), CallError::Trapped { .. }));
}

#[test]
fn a_lying_allocator_is_found_out() {
    let abi = |realloc| match frame_error_with_input(&Guest { realloc, ..Guest::default() }) {
        CallError::BadOutput(BadOutput::Abi { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(abi("i32.const 0xfffffff0"), "realloc return: beyond end of memory");
    assert_eq!(abi("i32.const 0x7fffffff"), "realloc return: result not aligned");
    assert_eq!(abi("i32.const 65528"), "realloc return: beyond end of memory");
}

#[test]
fn an_allocator_that_calls_the_host_traps() {
    let realloc = "(call $log (i32.const 0) (i32.const 16) (i32.const 1)) i32.const 4096";
    let error = frame_error_with_input(&Guest { realloc, ..Guest::default() });
    assert!(matches!(error, CallError::Trapped { .. }), "{error:?}");
}

#[test]
fn a_log_within_the_limits_is_kept_also_when_the_call_fails() {
    let frame = "(call $log (i32.const 2) (i32.const 16) (i32.const 2)) unreachable";
    let failed = load(&host(), &Guest { frame, ..Guest::default() }).frame(&[]).unwrap_err();
    assert_eq!(failed.log.lines[0].message, "sk");
    assert_eq!(failed.log.lines[0].level, Level::Warn);
    assert_eq!((failed.log.lines.len(), failed.log.dropped), (1, 0));
}

#[test]
fn a_flood_of_lines_is_dropped_and_counted() {
    let frame = "(local $n i32)
        (loop $again
            (call $log (i32.const 0) (i32.const 16) (i32.const 1))
            (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))))
        i32.const 64";
    let log = load(&host(), &Guest { frame, ..Guest::default() }).frame(&[]).unwrap().log;
    assert_eq!((log.lines.len(), log.dropped), (LIMITS().log_lines, 1000 - LIMITS().log_lines as u64));
}

#[test]
fn long_lines_are_dropped_and_counted() {
    // Four lines of 5000 bytes: three fit into 16 KiB.
    let line = "(call $log (i32.const 0) (i32.const 4096) (i32.const 5000))";
    let frame = Box::leak(format!("{} i32.const 64", line.repeat(4)).into_boxed_str());
    let log = load(&host(), &Guest { frame, ..Guest::default() }).frame(&[]).unwrap().log;
    assert_eq!((log.lines.len(), log.dropped), (3, 1));
}

#[test]
fn an_endless_flood_ends_at_the_deadline() {
    let frame = "(loop $again (call $log (i32.const 0) (i32.const 16) (i32.const 1)) (br $again)) unreachable";
    let host = host();
    let failed = load(&host, &Guest { frame, ..Guest::default() }).frame(&[]).unwrap_err();
    assert_eq!(failed.error, deadline());
    assert_eq!(failed.log.lines.len(), LIMITS().log_lines);
    assert!(failed.log.dropped > 0);
    assert_still_serves(&host);
}

#[test]
fn a_log_message_must_be_text_of_bounded_size() {
    let not_utf8 = Guest {
        frame: "(call $log (i32.const 0) (i32.const 256) (i32.const 1)) i32.const 64",
        more: r#"(data (i32.const 256) "\ff")"#,
        ..Guest::default()
    };
    assert!(matches!(frame_error(&not_utf8), CallError::BadOutput(BadOutput::Abi { .. })));
    let huge = Guest {
        memory: r#"(memory (export "memory") 32)"#,
        frame: "(call $log (i32.const 0) (i32.const 4096) (i32.const 0x100001)) i32.const 64",
        ..Guest::default()
    };
    let limit = LIMITS().output_bytes;
    assert_eq!(frame_error(&huge), CallError::BadOutput(BadOutput::TooLarge { limit }));
}
