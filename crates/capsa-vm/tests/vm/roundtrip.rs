//! Values of every kind pass the boundary unchanged, both ways.

use std::collections::BTreeSet;

use capsa_core::world::{Candidate, Choice, Made, Value};
use capsa_vm::{CallError, Component};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use crate::guests::{Guest, host, load};

/// Answers one choice a field: the strategy is the field's name, a text becomes the key, a number
/// a feature, a flag the allowed options, texts the candidates, numbers the features.
const ECHO_FRAME: &str = "
    (local $i i32) (local $in i32) (local $out i32) (local $kind i32)
    (local.set $out (call $alloc (i32.const 4) (i32.mul (local.get $fields) (i32.const 44))))
    (i32.store (i32.const 68) (local.get $out))
    (i32.store (i32.const 72) (local.get $fields))
    (block $done (loop $next
        (br_if $done (i32.ge_u (local.get $i) (local.get $fields)))
        (local.set $in (i32.add (local.get $input) (i32.mul (local.get $i) (i32.const 24))))
        (memory.fill (local.get $out) (i32.const 0) (i32.const 44))
        (i64.store align=4 (local.get $out) (i64.load (local.get $in)))
        (i32.store offset=8 (local.get $out) (i32.const 17))
        (i32.store offset=12 (local.get $out) (i32.const 1))
        (local.set $kind (i32.load8_u offset=8 (local.get $in)))
        (if (i32.eq (local.get $kind) (i32.const 0))
            (then (i64.store offset=8 align=4 (local.get $out) (i64.load offset=16 (local.get $in)))))
        (if (i32.eq (local.get $kind) (i32.const 1))
            (then (i64.store offset=16 align=4 (local.get $out)
                (call $demoted (i32.add (local.get $in) (i32.const 16)) (i32.const 1)))))
        (if (i32.eq (local.get $kind) (i32.const 2))
            (then
                (i32.store8 offset=24 (local.get $out) (i32.const 1))
                (i32.store offset=28 (local.get $out) (i32.add (local.get $in) (i32.const 16)))
                (i32.store offset=32 (local.get $out) (i32.const 1))))
        (if (i32.eq (local.get $kind) (i32.const 3))
            (then (i64.store offset=36 align=4 (local.get $out)
                (call $candidates (i32.load offset=16 (local.get $in)) (i32.load offset=20 (local.get $in))))))
        (if (i32.eq (local.get $kind) (i32.const 4))
            (then (i64.store offset=16 align=4 (local.get $out)
                (call $demoted (i32.load offset=16 (local.get $in)) (i32.load offset=20 (local.get $in))))))
        (local.set $out (i32.add (local.get $out) (i32.const 44)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    i32.const 64";

/// Answers the first field of the outcome; without one, by the number of choices made: the text of
/// the last one's strategy, option or key as a refusal, or its propensity (-1 where there is none).
const ECHO_REWARD: &str = "
    (local $last i32)
    (local.set $last (i32.add (local.get $made)
        (i32.mul (i32.sub (local.get $mades) (i32.const 1)) (i32.const 40))))
    (if (local.get $fields)
        (then (i64.store (i32.const 200) (i64.load offset=16 (local.get $outcome))))
        (else (if (i32.le_u (local.get $mades) (i32.const 3))
            (then
                (i32.store8 (i32.const 192) (i32.const 1))
                (i64.store (i32.const 200) (i64.load (i32.add (local.get $last)
                    (i32.shl (i32.sub (local.get $mades) (i32.const 1)) (i32.const 3))))))
            (else (f64.store (i32.const 200) (select (f64.load offset=32 (local.get $last))
                (f64.const -1) (i32.load8_u offset=24 (local.get $last))))))))
    i32.const 192";

/// Both return a list: the pointer in the lower half, the length in the upper half.
const ECHO_MORE: &str = "
    (func $pair (param $at i32) (param $n i32) (result i64)
        (i64.or (i64.extend_i32_u (local.get $at)) (i64.shl (i64.extend_i32_u (local.get $n)) (i64.const 32))))
    (func $demoted (param $from i32) (param $n i32) (result i64) (local $to i32) (local $i i32)
        (local.set $to (call $alloc (i32.const 4) (i32.shl (local.get $n) (i32.const 2))))
        (block $done (loop $next
            (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
            (f32.store (i32.add (local.get $to) (i32.shl (local.get $i) (i32.const 2)))
                (f32.demote_f64 (f64.load (i32.add (local.get $from) (i32.shl (local.get $i) (i32.const 3))))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))
        (call $pair (local.get $to) (local.get $n)))
    (func $candidates (param $from i32) (param $n i32) (result i64) (local $to i32) (local $i i32)
        (local.set $to (call $alloc (i32.const 4) (i32.shl (local.get $n) (i32.const 4))))
        (memory.fill (local.get $to) (i32.const 0) (i32.shl (local.get $n) (i32.const 4)))
        (block $done (loop $next
            (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
            (i64.store align=4 (i32.add (local.get $to) (i32.shl (local.get $i) (i32.const 4)))
                (i64.load align=4 (i32.add (local.get $from) (i32.shl (local.get $i) (i32.const 3)))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))
        (call $pair (local.get $to) (local.get $n)))";

fn echo() -> Component {
    load(&host(), &Guest { frame: ECHO_FRAME, reward: ECHO_REWARD, more: ECHO_MORE, ..Guest::default() })
}

fn echoed((name, value): &(String, Value)) -> Choice {
    let mut choice = Choice {
        strategy: name.clone(),
        key: "k".to_owned(),
        features: Vec::new(),
        allowed: None,
        candidates: Vec::new(),
    };
    match value {
        Value::Text(text) => choice.key = text.clone(),
        Value::Number(number) => choice.features = vec![*number as f32],
        Value::Flag(flag) => choice.allowed = Some(vec![*flag]),
        Value::Texts(texts) => {
            let candidate = |name: &String| Candidate { name: name.clone(), features: Vec::new() };
            choice.candidates = texts.iter().map(candidate).collect();
        }
        Value::Numbers(numbers) => choice.features = numbers.iter().map(|number| *number as f32).collect(),
    }
    choice
}

/// A number that a feature can hold exactly.
fn feature() -> impl Strategy<Value = f64> {
    any::<f32>().prop_filter("features are finite", |number| number.is_finite()).prop_map(f64::from)
}

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 1..16).prop_map(String::from_iter)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        text().prop_map(Value::Text),
        feature().prop_map(Value::Number),
        any::<bool>().prop_map(Value::Flag),
        btree_set(text(), 0..8).prop_map(|texts: BTreeSet<String>| Value::Texts(texts.into_iter().collect())),
        vec(feature(), 0..40).prop_map(Value::Numbers),
    ]
}

fn input() -> impl Strategy<Value = Vec<(String, Value)>> {
    btree_set(text(), 0..12)
        .prop_flat_map(|names| (Just(names), vec(value(), 12)))
        .prop_map(|(names, values)| names.into_iter().zip(values).collect())
}

fn made() -> impl Strategy<Value = Made> {
    (any::<String>(), any::<String>(), any::<String>(), proptest::option::of(0.0..=1.0))
        .prop_map(|(strategy, option, key, propensity)| Made { strategy, option, key, propensity })
}

#[test]
fn every_input_comes_back_as_it_was_sent() {
    let echo = echo();
    proptest!(|(input in input())| {
        let framed = echo.frame(&input).unwrap();
        prop_assert_eq!(framed.choices, input.iter().map(echoed).collect::<Vec<_>>());
    });
}

#[test]
fn every_outcome_and_choice_made_comes_back_as_it_was_sent() {
    let echo = echo();
    let finite = any::<f64>().prop_filter("a reward is finite", |number| number.is_finite());
    proptest!(|(number in finite, made in vec(made(), 1..5))| {
        let outcome = [("metric".to_owned(), Value::Number(number))];
        prop_assert_eq!(echo.reward(&outcome, &made).unwrap().reward.to_bits(), number.to_bits());

        let last = &made[made.len() - 1];
        let text = [&last.strategy, &last.option, &last.key].get(made.len() - 1).copied();
        let answer = echo.reward(&[], &made).map(|valued| valued.reward).map_err(|failed| failed.error);
        let expected = match text {
            Some(text) => Err(CallError::Refused(text.clone())),
            None => Ok(last.propensity.unwrap_or(-1.0)),
        };
        prop_assert_eq!(answer, expected);
    });
}

#[test]
fn the_largest_usual_input_passes() {
    let echo = echo();
    let text = |n: usize| "é".repeat(n);
    let input: Vec<_> = (0..1000).map(|n| (format!("field{n}"), Value::Text(text(100 + n % 7)))).collect();
    let framed = echo.frame(&input).unwrap();
    assert_eq!(framed.choices, input.iter().map(echoed).collect::<Vec<_>>());
}
