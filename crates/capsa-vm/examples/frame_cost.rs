//! What does one `frame` cost, with a fresh instance for every call?
//!
//! `cargo run --release -p capsa-vm --example frame_cost` prints medians in microseconds, of a
//! small component in WAT whose answer is constant and which is sent three fields.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use capsa_core::world::Value;
use capsa_vm::{Component, Host, HostSettings};

#[path = "../tests/vm/guests.rs"]
#[allow(dead_code)]
mod guests;

use guests::{Guest, IMPORT_LOG};

const ROUNDS: usize = 21;
const CALLS: u32 = 5_000;

fn main() {
    let host = Host::new(&HostSettings::default()).unwrap();
    let with_log = Guest::default();
    let rust_sized = Guest {
        // As rustc lays it out: 1 MiB of stack first, data after it.
        memory: r#"(memory (export "memory") 17)"#,
        more: r#"(data (i32.const 0x100000) "constant data of a guest")"#,
        frame: "(i32.store (i32.const 0xffff0) (i32.const 1))
                (i32.store (i32.const 0x100040) (i32.const 1))
                i32.const 64",
        ..Guest::default()
    };
    let without_log = |guest: &Guest| guests::component_of(guests::WORLD, &guest.core().replace(IMPORT_LOG, ""));
    let load = |bytes: Vec<u8>| host.load(&bytes).unwrap();
    let guests = [
        ("one page", load(without_log(&with_log))),
        ("one page, imports log", load(with_log.component())),
        ("17 pages", load(without_log(&rust_sized))),
        ("17 pages, imports log", load(rust_sized.component())),
    ];
    let input = [
        ("task_type".to_owned(), Value::Text("summarize".to_owned())),
        ("tokens".to_owned(), Value::Number(812.0)),
        ("urgent".to_owned(), Value::Flag(false)),
    ];
    println!("median of {ROUNDS} rounds of {CALLS} calls, fresh instance each, microseconds a call");
    for (name, component) in &guests {
        let cost = median((0..ROUNDS).map(|_| round(component, &input)).collect());
        println!("{:<26}{:>8.2}", name, cost.as_secs_f64() * 1e6 / f64::from(CALLS));
    }
}

fn round(component: &Component, input: &[(String, Value)]) -> Duration {
    let begin = Instant::now();
    for _ in 0..CALLS {
        component.frame(input).unwrap();
    }
    begin.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
