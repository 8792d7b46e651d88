//! Compiled guests, run: against a reference interpreter of their contract, at their limits, and
//! for their size.
#![allow(clippy::unwrap_used)]

mod generated;
mod host;
mod limits;
mod reference;

use capsa_author::{Declared, compile, inspect, parse_spec};
use capsa_core::definition::Definition;
use host::{Fields, Guest, Value};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// The short form of `api_shapes.md`.
const ROUTER: &str = "\
name: router
options: [cheap_fast, balanced, expensive_accurate]
contexts: [task_type, customer_tier, urgency]
reward: {quality: 0.6, latency: -0.2, cost: -0.2}
";

fn guest(spec: &str) -> Guest {
    Guest::new(&compile(&parse_spec(spec).unwrap()).unwrap())
}

fn input(fields: &[(&str, Value)]) -> Fields {
    fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// The bar is 2 kB. What stands between: types that the world gives names to and wit-component's
/// envelope (598 bytes), the definition (373), exact decimals (469).
const SIZE_LIMIT: usize = 2_729;

#[test]
fn the_router_is_no_larger_than_it_was() {
    let size = compile(&parse_spec(ROUTER).unwrap()).unwrap().len();
    assert!(size <= SIZE_LIMIT, "{size} bytes");
}

/// Frame and reward agree with the reference on generated definitions; the component is valid, of
/// the decision world, the same bytes each time, and gives its definition back.
#[test]
fn guests_agree_with_the_reference_and_carry_their_definition() {
    let mut runner = TestRunner::new(Config { cases: 120, failure_persistence: None, ..Config::default() });
    runner
        .run(&generated::definition(), |definition| {
            let component = compile(&definition).unwrap();
            prop_assert_eq!(&component, &compile(&definition).unwrap());
            let inspected = inspect(&component).unwrap();
            prop_assert_eq!(Some("decision"), inspected.world);
            prop_assert_eq!(Vec::<String>::new(), inspected.imports);
            prop_assert_eq!(vec!["frame".to_owned(), "reward".to_owned()], inspected.exports);
            prop_assert_eq!(&Ok(Declared::Decision(Box::new(definition.clone()))), &inspected.definition);
            agrees(&definition, &component);
            Ok(())
        })
        .unwrap();
}

fn agrees(definition: &Definition, component: &[u8]) {
    let mut guest = Guest::new(component);
    let names: Vec<String> = definition.contexts.iter().map(|c| c.name.clone()).collect();
    let texts: Vec<String> = definition.contexts.iter().flat_map(|c| c.values.clone().unwrap_or_default()).collect();
    let guest = std::cell::RefCell::new(&mut guest);
    let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
    runner
        .run(&(generated::fields(names, texts), generated::outcome(definition)), |(input, outcome)| {
            let mut guest = guest.borrow_mut();
            prop_assert_eq!(reference::frame(definition, &input), guest.frame(&input), "{:?}", input);
            let (expected, got) = (reference::reward(definition, &outcome), guest.reward(&outcome));
            // Bits, since the order of operations is part of the contract; -0 and 0 differ too.
            prop_assert_eq!(
                expected.clone().map(f64::to_bits),
                got.clone().map(f64::to_bits),
                "{:?} {:?}",
                expected,
                got
            );
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_key_holds_the_values_in_declared_order() {
    let mut guest = guest(
        "name: g\noptions: [a, b]\ncontexts: [task, {name: tier, values: [free, other]}, {name: tokens, buckets: [500, 2000]}, {name: urgent, type: flag}]\n",
    );
    let mut key = |fields: &[(&str, Value)]| guest.frame(&input(fields)).map(|choices| choices[0].key.clone());
    let ordinary = [
        ("urgent", Value::Flag(false)),
        ("tokens", Value::Number(500.0)),
        ("tier", text("free")),
        ("task", text("legal")),
    ];
    assert_eq!(Ok("legal|free|500-2000|no".to_owned()), key(&ordinary));
    assert_eq!(Ok("unknown|unknown|unknown|unknown".to_owned()), key(&[]));
    let odd = [
        ("task", text("a|50%")),
        ("tier", text("gold")),
        ("tokens", Value::Number(2000.0)),
        ("urgent", Value::Flag(true)),
    ];
    assert_eq!(Ok("a%7C50%25|other|>=2000|yes".to_owned()), key(&odd));
    assert_eq!(
        Ok("%75nknown|%6Fther|<500|unknown".to_owned()),
        key(&[("task", text("unknown")), ("tier", text("other")), ("tokens", Value::Number(-0.0))])
    );
    assert_eq!(Ok("1.5|unknown|unknown|unknown".to_owned()), key(&[("task", Value::Number(1.5))]));
    assert_eq!(
        Err("task: not a text or a number".to_owned()),
        key(&[("task", Value::Flag(true)), ("urgent", text("yes"))])
    );
    assert_eq!(Err("urgent: not true or false".to_owned()), key(&[("urgent", text("yes"))]));
}

#[test]
fn a_reward_is_the_weighted_sum_and_each_fault_has_its_sentence() {
    let mut guest = guest(
        "name: g\noptions: [a, b]\nreward: {q: 0.6, ms: {weight: -0.2, budget: 2000}, usd: {weight: -0.2, range: [0, 0.02]}}\n",
    );
    let full = |q: Value, ms: Value, usd: Value| input(&[("q", q), ("ms", ms), ("usd", usd)]);
    let n = Value::Number;
    assert_eq!(Ok(0.0 + -0.2 * 1.0 + 0.6 * 0.9 + -0.2 * (0.01 / 0.02)), guest.reward(&full(n(0.9), n(9e9), n(0.01))));
    assert_eq!(Ok(0.6), guest.reward(&full(Value::Flag(true), n(0.0), n(0.0))));
    let mut fault = |outcome: &Fields| guest.reward(outcome).unwrap_err();
    assert_eq!("q: outside 0 to 1", fault(&full(n(1.01), n(0.0), n(0.0))));
    assert_eq!("q: outside 0 to 1", fault(&full(n(f64::NAN), n(0.0), n(0.0))));
    assert_eq!("ms: below 0", fault(&full(n(2.0), n(-1.0), n(0.0))));
    assert_eq!("usd: outside 0 to 0.02", fault(&full(n(1.0), n(1.0), n(0.03))));
    assert_eq!("q: missing", fault(&input(&[("ms", n(1.0)), ("usd", n(0.01))])));
    assert_eq!("q: not a number", fault(&full(text("1"), n(1.0), n(0.01))));
    assert_eq!("quality: unknown metric", fault(&input(&[("ms", n(-1.0)), ("quality", n(0.5)), ("x", n(1.0))])));
    let undeclared = self::guest("name: g\noptions: [a, b]\n").reward(&vec![]);
    assert_eq!(Err("no reward is declared".to_owned()), undeclared);
}

#[test]
fn several_strategies_share_one_key() {
    let mut guest = guest("name: g\nstrategies: {t: {options: [1s, 2s]}, u: {options: [a, b]}}\ncontexts: [c]\n");
    let choices = guest.frame(&input(&[("c", text("x"))])).unwrap();
    let seen: Vec<(&str, &str)> = choices.iter().map(|c| (c.strategy.as_str(), c.key.as_str())).collect();
    assert_eq!(vec![("t", "x"), ("u", "x")], seen);
}

/// 2^50 + 1/4: as near to ….2 as to ….3.
const TIE: f64 = 1_125_899_906_842_624.0 + 0.25;

/// Every number in a category is printed as Rust prints it, up to 64 bytes.
#[test]
fn numbers_are_their_shortest_decimal() {
    let mut guest = guest("name: g\noptions: [a, b]\ncontexts: [c]\n");
    let mut check = |x: f64| {
        let decimal = (x + 0.0).to_string();
        let expected = if decimal.len() > 64 { Err("c: longer than 64 bytes".to_owned()) } else { Ok(decimal) };
        let got = guest.frame(&input(&[("c", Value::Number(x))])).map(|choices| choices[0].key.clone());
        assert_eq!(expected, got, "{x:e}");
    };
    let edges = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        0.1,
        0.3,
        0.1 + 0.2,
        1e21,
        1e22,
        1e23,
        5e-324,
        f64::MAX,
        f64::MIN_POSITIVE,
        123_456_789_012_345_680.0,
        9_007_199_254_740_991.0,
        9_007_199_254_740_993.0,
        9_007_199_254_740_994.0,
        1e63,
        9.9e63,
        1e64,
        -1e62,
        -1e63,
        1e-61,
        1e-62,
        9.9e-63,
        -1e-61,
        0.999_999_999_999_999_9,
        TIE,
        TIE / 2.0,
    ];
    edges.into_iter().for_each(&mut check);
    // Around every power of two, where the gaps to the neighbours differ.
    for exponent in -212..=214 {
        for step in 0..5 {
            check(f64::from_bits(2f64.powi(exponent).to_bits() + step - 2));
        }
    }
    let mut bits = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..60_000u32 {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        let x = match round % 4 {
            0 => f64::from_bits(bits),
            1 => (bits >> 12) as f64 / 10f64.powi((bits % 20) as i32),
            // Exponents that give at most about 64 bytes.
            2 => f64::from_bits((bits & 0x800f_ffff_ffff_ffff) | ((817 + (bits >> 52) % 419) << 52)),
            _ => (bits % 2_000_000) as f64 / 1000.0,
        };
        if x.is_finite() {
            check(x);
        }
    }
}

/// Text of an author in a comment that is filled: an opening without an end would swallow what follows.
#[test]
fn names_that_look_like_placeholders_are_only_names() {
    let mut guest = guest("name: g\noptions: [a, b]\ncontexts: ['{{', '}}']\nreward: {'{{heap}}': 1, '{{': -1}\n");
    let key = guest.frame(&input(&[("{{", text("x")), ("}}", text("y"))])).unwrap()[0].key.clone();
    assert_eq!("x|y", key);
    assert_eq!(Ok(1.0), guest.reward(&input(&[("{{heap}}", Value::Number(1.0)), ("{{", Value::Number(0.0))])));
}
