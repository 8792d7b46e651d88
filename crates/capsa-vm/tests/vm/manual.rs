//! What `docs/decision-capsules.md` shows and says is true.

use std::time::Duration;

use capsa_core::world::Value;
use capsa_vm::{CallError, Limits};

use crate::guests::{WORLD, component_of, host};

const MANUAL: &str = include_str!("../../../../docs/decision-capsules.md");

#[test]
fn the_example_in_webassembly_text_works() {
    let (_, after) = MANUAL.split_once("```wat\n").expect("the page has an example in WAT");
    let (example, _) = after.split_once("```").expect("the example ends");
    let router = host().load(&component_of(WORLD, example)).unwrap();

    let key = |value: Value| router.frame(&[("tier".to_owned(), value)]).unwrap().choices.remove(0).key;
    assert_eq!(key(Value::Text("enterprise".to_owned())), "enterprise");
    assert_eq!(key(Value::Text(String::new())), "unknown");
    assert_eq!(key(Value::Number(3.0)), "unknown");
    assert_eq!(key(Value::Text("long ".repeat(100_000))).len(), 500_000);
    assert_eq!(router.frame(&[]).unwrap().choices[0].strategy, "router");

    let quality = [("quality".to_owned(), Value::Number(0.25))];
    assert_eq!(router.reward(&quality, &[]).unwrap().reward, 0.25);
    let refused = CallError::Refused("the outcome is empty".to_owned());
    assert_eq!(router.reward(&[], &[]).unwrap_err().error, refused);
}

#[test]
fn the_limits_are_the_defaults() {
    let Limits { deadline, memory_bytes, stack_bytes, output_bytes, log_lines, log_bytes, component_bytes } =
        Limits::default();
    assert_eq!(deadline, Duration::from_millis(u64::try_from(deadline.as_millis()).unwrap()));
    for row in [
        format!("| `deadline` | {} ms |", deadline.as_millis()),
        format!("| `memory_bytes` | {} MiB |", memory_bytes >> 20),
        format!("| `stack_bytes` | {} KiB |", stack_bytes >> 10),
        format!("| `output_bytes` | {} MiB |", output_bytes >> 20),
        format!("| `log_lines` | {log_lines} lines |"),
        format!("| `log_bytes` | {} KiB |", log_bytes >> 10),
        format!("| `component_bytes` | {} MiB |", component_bytes >> 20),
    ] {
        assert!(MANUAL.contains(&row), "the page has no row {row:?}");
    }
}
