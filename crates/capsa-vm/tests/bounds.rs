//! Limits hold by what a guest can really use, not only by the error that it gets in the end.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use capsa_vm::{CallError, Host, HostSettings, Limits};

use guests::{Guest, host, load};

#[allow(dead_code, reason = "tests/vm uses the rest")]
#[path = "vm/guests.rs"]
mod guests;

#[test]
fn a_call_ends_soon_after_its_deadline() {
    let deadline = Duration::from_millis(5);
    let limits = Limits { deadline, ..Limits::default() };
    let host = Host::new(&HostSettings { limits, ..HostSettings::default() }).unwrap();
    let guest = load(&host, &Guest { frame: "(loop $again (br $again)) unreachable", ..Guest::default() });
    let begin = Instant::now();
    assert_eq!(guest.frame(&[]).unwrap_err().error, CallError::Deadline { limit: deadline });
    let took = begin.elapsed();
    // A crowded machine takes some tens of milliseconds; a wrong unit takes seconds.
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn memories_share_one_limit() {
    // Each grows to 37.6 of 64 MiB: the first may, the second may not.
    let guest = Guest {
        frame: "(if (i32.eq (i32.const -1) (memory.grow (i32.const 600))) (then unreachable))
                (if (i32.ne (i32.const -1) (memory.grow $second (i32.const 600))) (then unreachable))
                i32.const 64",
        more: "(memory $second 1)",
        ..Guest::default()
    };
    assert_eq!(load(&host(), &guest).frame(&[]).unwrap().choices.len(), 1);
}
