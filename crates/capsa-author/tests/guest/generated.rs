//! Definitions, inputs and outcomes to try: valid ones with odd names, odd numbers and near misses.

use std::collections::{BTreeMap, BTreeSet};

use capsa_core::definition::{
    Algorithm, Context, ContextKind, DEFAULT_STRATEGY, Definition, Kind, Metric, Mode, Rails, SCHEMA,
    Strategy as Choice,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::host::{Fields, Value};

/// Names that try the text format, the key's escapes and the reserved words.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z_]{1,8}",
        1 => select(vec!["unknown", "other", "default", "a.b", "x|y", "100%", "%7C", "\"q\\", ";; (x", "{{heap}}", "{{", "ü\u{202e}界", " "])
            .prop_map(str::to_owned),
        1 => "\\PC{1,16}",
        1 => Just("n".repeat(64)),
    ]
    .prop_filter("a name has 1 to 64 bytes and no control characters", |name| {
        !name.is_empty() && name.len() <= 64 && !name.chars().any(char::is_control)
    })
}

fn names(least: usize, most: usize) -> impl Strategy<Value = Vec<String>> {
    btree_set(name(), least..=most)
        .prop_map(|names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

/// Finite numbers: everyday ones, edges of the format, and any bits.
pub fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-2000i32..2000).prop_map(|n| f64::from(n) / 10.0),
        (-20i64..20).prop_map(|n| (9_007_199_254_740_992i64 + n) as f64),
        select(vec![0.0, -0.0, 0.5, 1.0, 5e-324, f64::MAX, 0.1 + 0.2, 1e21, 1e22, 1e23, 1e-7, 1e63, 1e-62]),
        any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite()),
        0.0..1.0f64,
    ]
}

fn context(name: String) -> impl Strategy<Value = Context> {
    let plain = |kind| Context { name: String::new(), kind, values: None, buckets: None };
    prop_oneof![
        Just(plain(ContextKind::Category)),
        Just(plain(ContextKind::Flag)),
        names(1, 4).prop_map(move |values| Context { values: Some(values), ..plain(ContextKind::Category) }),
        vec(number(), 1..6).prop_map(move |mut edges| {
            edges.sort_by(f64::total_cmp);
            edges.dedup_by(|b, a| *a == *b);
            Context { buckets: Some(edges), ..plain(ContextKind::Number) }
        }),
    ]
    .prop_map(move |context| Context { name: name.clone(), ..context })
}

fn metric() -> impl Strategy<Value = Metric> {
    let weight = prop_oneof![Just(0.015_625), -0.015f64..0.015].prop_filter("not 0", |w| *w != 0.0);
    let scale = prop_oneof![
        Just((None, None)),
        number().prop_filter("above 0", |b| *b > 0.0).prop_map(|b| (Some(b), None)),
        (number(), number())
            .prop_map(|(a, b)| (None, Some([a.min(b), a.max(b)])))
            .prop_filter("a range", |(_, range)| range.is_some_and(|[a, b]: [f64; 2]| a < b && (b - a).is_finite())),
    ];
    (weight, scale).prop_map(|(weight, (budget, range))| Metric { weight, budget, range })
}

fn strategies() -> impl Strategy<Value = Vec<Choice>> {
    let known = Algorithm::ALL.iter().map(|(_, algorithm)| Some(*algorithm));
    let algorithms: Vec<_> = std::iter::once(None).chain(known).collect();
    let algorithm = move || select(algorithms.clone());
    let named = move |names: Vec<String>| {
        names
            .into_iter()
            .map(|name| {
                (vec_of_options(), algorithm()).prop_map(move |(options, algorithm)| Choice {
                    name: name.clone(),
                    baseline: Some(options[0].clone()),
                    options,
                    priors: BTreeMap::new(),
                    algorithm,
                })
            })
            .collect::<Vec<_>>()
    };
    prop_oneof![Just(vec![DEFAULT_STRATEGY.to_owned()]).prop_flat_map(named.clone()), names(1, 4).prop_flat_map(named),]
}

fn vec_of_options() -> impl Strategy<Value = Vec<String>> {
    names(2, 5)
}

/// A valid definition.
pub fn definition() -> impl Strategy<Value = Definition> {
    let contexts = names(0, 5).prop_flat_map(|names| names.into_iter().map(context).collect::<Vec<_>>());
    let reward = proptest::option::of(names(1, 5).prop_flat_map(|names| {
        names.into_iter().map(|name| (Just(name), metric())).collect::<Vec<_>>().prop_map(BTreeMap::from_iter)
    }));
    (
        strategies(),
        contexts,
        reward,
        proptest::option::of(0.0..1.0f64),
        select(vec![None, Some(Mode::Off), Some(Mode::Live)]),
    )
        .prop_map(|(strategies, contexts, reward, share, mode)| Definition {
            schema: SCHEMA,
            kind: Kind::Decision,
            name: "generated".to_owned(),
            strategies,
            valid: None,
            contexts,
            max_contexts: None,
            reward,
            reward_range: None,
            rails: share.map(|min_exploration| Rails { min_exploration: Some(min_exploration), ..Rails::default() }),
            decay: None,
            shrinkage: None,
            horizon: None,
            mode,
            log_input: None,
        })
}

fn value(texts: Vec<String>) -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => select(texts).prop_map(Value::Text),
        1 => "\\PC{0,30}".prop_map(Value::Text),
        1 => (60usize..70).prop_map(|length| Value::Text("t".repeat(length))),
        3 => number().prop_map(Value::Number),
        1 => any::<bool>().prop_map(Value::Flag),
        1 => vec("[a-z]{0,3}", 0..3).prop_map(Value::Texts),
        1 => vec(number(), 1..3).prop_map(Value::Numbers),
    ]
}

/// Fields of these names, some of them missing and some others there; mostly of the kinds that fit.
pub fn fields(names: Vec<String>, texts: Vec<String>) -> impl Strategy<Value = Fields> {
    let texts = [texts, ["", "unknown", "other", "a|b", "50%", "3", "0.1"].map(str::to_owned).to_vec()].concat();
    let declared: Vec<_> = names
        .into_iter()
        .map(|name| {
            let texts = texts.clone();
            proptest::option::weighted(0.9, value(texts))
                .prop_map(move |value| value.map(|value| (name.clone(), value)))
        })
        .collect();
    let others = vec((name(), value(texts)), 0..2);
    (declared, others, any::<prop::sample::Index>()).prop_map(|(declared, others, at)| {
        let mut fields: Fields = declared.into_iter().flatten().collect();
        for other in others {
            if !fields.iter().any(|(name, _)| *name == other.0) {
                fields.insert(at.index(fields.len() + 1), other);
            }
        }
        fields
    })
}

/// An outcome that most often fits the declared scales.
pub fn outcome(definition: &Definition) -> impl Strategy<Value = Fields> + use<> {
    let fitting: Vec<_> = definition
        .reward
        .iter()
        .flatten()
        .map(|(name, metric)| {
            let (name, [low, high]) =
                (name.clone(), metric.range.unwrap_or([0.0, metric.budget.map_or(1.0, |b| b * 1.5)]));
            (0.0..=1.0f64).prop_map(move |share| {
                let value = (low + share * (high - low)).clamp(low, high.min(f64::MAX));
                (name.clone(), Value::Number(value))
            })
        })
        .collect();
    let names: Vec<String> = definition.reward.iter().flatten().map(|(name, _)| name.clone()).collect();
    prop_oneof![2 => fitting, 1 => fields(names, vec![])]
}
