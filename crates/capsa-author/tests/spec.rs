//! Decision specs: what they mean, and what each wrong one is told.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use capsa_author::{MAX_SPEC_BYTES, parse_spec};
use capsa_core::definition::{
    Algorithm, Context, ContextKind, Decay, Definition, Horizon, Kind, LogInput, Metric, Mode, Prior, Rails, SCHEMA,
    Shrinkage, Strategy,
};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn context(name: &str, kind: ContextKind) -> Context {
    Context { name: name.to_owned(), kind, values: None, buckets: None }
}

fn strategy(name: &str, options: &[&str]) -> Strategy {
    Strategy {
        name: name.to_owned(),
        options: texts(options),
        priors: BTreeMap::new(),
        algorithm: None,
        baseline: None,
    }
}

fn definition(name: &str, strategies: Vec<Strategy>) -> Definition {
    Definition {
        schema: SCHEMA,
        kind: Kind::Decision,
        name: name.to_owned(),
        strategies,
        valid: None,
        contexts: vec![],
        max_contexts: None,
        reward: None,
        reward_range: None,
        rails: None,
        decay: None,
        shrinkage: None,
        horizon: None,
        mode: None,
        log_input: None,
    }
}

fn metric(weight: f64) -> Metric {
    Metric { weight, budget: None, range: None }
}

#[test]
fn the_short_form_declares_only_what_it_says() {
    let spec = "\
name: router
options: [cheap_fast, balanced, expensive_accurate]
contexts: [task_type, customer_tier, urgency]
reward: {quality: 0.6, latency: -0.2, cost: -0.2}
";
    let names = ["task_type", "customer_tier", "urgency"];
    let expected = Definition {
        contexts: names.iter().map(|name| context(name, ContextKind::Category)).collect(),
        reward: Some(BTreeMap::from([
            ("quality".to_owned(), metric(0.6)),
            ("latency".to_owned(), metric(-0.2)),
            ("cost".to_owned(), metric(-0.2)),
        ])),
        ..definition("router", vec![strategy("choice", &["cheap_fast", "balanced", "expensive_accurate"])])
    };
    assert_eq!(Ok(expected), parse_spec(spec));
}

#[test]
fn the_full_form_is_read_whole() {
    let spec = "\
name: router
options:
  - cheap_fast
  - balanced
  - {name: expensive_accurate}
contexts:
  - task_type                           # a category
  - {name: customer_tier, values: [free, standard, enterprise]}
  - {name: tokens, buckets: [500, 2000, 8000]}
  - {name: urgent, type: flag}
max_contexts: 10000
reward:
  quality:    {weight: 0.6}
  latency_ms: {weight: -0.2, budget: 2000}
  cost_usd:   {weight: -0.2, range: [0, 0.02]}
reward_range: [-1, 1]
algorithm: simple_weighted
baseline: balanced
rails:
  min_exploration: 0.02
  max_delta: 0.1
  freeze: false
decay: {half_life: 14d}
horizon: {after: 7d, outcome: {quality: 0, latency_ms: 2000}}
mode: live
log_input: contexts
";
    let chosen = Strategy {
        algorithm: Some(Algorithm::SimpleWeighted),
        baseline: Some("balanced".to_owned()),
        ..strategy("choice", &["cheap_fast", "balanced", "expensive_accurate"])
    };
    let expected = Definition {
        contexts: vec![
            context("task_type", ContextKind::Category),
            Context {
                values: Some(texts(&["free", "standard", "enterprise"])),
                ..context("customer_tier", ContextKind::Category)
            },
            Context { buckets: Some(vec![500.0, 2000.0, 8000.0]), ..context("tokens", ContextKind::Number) },
            context("urgent", ContextKind::Flag),
        ],
        max_contexts: Some(10_000),
        reward: Some(BTreeMap::from([
            ("quality".to_owned(), metric(0.6)),
            ("latency_ms".to_owned(), Metric { budget: Some(2000.0), ..metric(-0.2) }),
            ("cost_usd".to_owned(), Metric { range: Some([0.0, 0.02]), ..metric(-0.2) }),
        ])),
        reward_range: Some([-1.0, 1.0]),
        rails: Some(Rails { min_exploration: Some(0.02), max_delta: Some(0.1), freeze: Some(false) }),
        decay: Some(Decay { half_life_seconds: Some(1_209_600.0), half_life_feedbacks: None }),
        horizon: Some(Horizon {
            after_seconds: 604_800.0,
            outcome: Some(BTreeMap::from([("quality".to_owned(), 0.0), ("latency_ms".to_owned(), 2000.0)])),
        }),
        mode: Some(Mode::Live),
        log_input: Some(LogInput::Contexts),
        ..definition("router", vec![chosen])
    };
    assert_eq!(Ok(expected), parse_spec(spec));
}

#[test]
fn algorithms_with_parameters_priors_and_shrinkage_are_read() {
    let spec = "\
name: router
options: [a, {name: b, prior: {reward: 0.4, count: 5}}]
algorithm: {name: epsilon_greedy, epsilon: 0.2}
shrinkage: {strength: 8}
";
    let chosen = Strategy {
        algorithm: Some(Algorithm::EpsilonGreedy { epsilon: 0.2 }),
        priors: BTreeMap::from([("b".to_owned(), Prior { reward: 0.4, count: 5.0 })]),
        ..strategy("choice", &["a", "b"])
    };
    let expected = Definition { shrinkage: Some(Shrinkage { strength: 8.0 }), ..definition("router", vec![chosen]) };
    assert_eq!(Ok(&expected), parse_spec(spec).as_ref());
    let json = serde_json(&expected);
    assert!(json.contains(r#""algorithm":{"epsilon":0.2,"name":"epsilonGreedy"}"#), "{json}");
    for (text, algorithm) in [
        ("ucb1", Algorithm::Ucb1),
        ("epsilonGreedy", Algorithm::EpsilonGreedy { epsilon: 0.1 }),
        ("{name: epsilon_greedy}", Algorithm::EpsilonGreedy { epsilon: 0.1 }),
        ("{name: ucb1}", Algorithm::Ucb1),
    ] {
        let read = parse_spec(format!("name: r\noptions: [a, b]\nalgorithm: {text}\n")).unwrap();
        assert_eq!(Some(algorithm), read.strategies[0].algorithm, "{text}");
    }
}

/// The definition as a component embeds it.
fn serde_json(definition: &Definition) -> String {
    serde_json_canonicalizer::to_string(definition).unwrap()
}

#[test]
fn several_strategies_each_have_their_options() {
    let spec = "\
name: retry-policy
strategies:
  timeout: {options: [1s, 2s, 5s]}
  retries: {options: [\"0\", \"1\", \"3\"], algorithm: {name: thompson}, baseline: 1}
valid:
  - {timeout: 1s}
  - {timeout: [2s, 5s], retries: [\"0\", \"1\"]}
";
    let retries = Strategy {
        algorithm: Some(Algorithm::Thompson),
        baseline: Some("1".to_owned()),
        ..strategy("retries", &["0", "1", "3"])
    };
    let expected = Definition {
        valid: Some(vec![
            BTreeMap::from([("timeout".to_owned(), texts(&["1s"]))]),
            BTreeMap::from([("timeout".to_owned(), texts(&["2s", "5s"])), ("retries".to_owned(), texts(&["0", "1"]))]),
        ]),
        ..definition("retry-policy", vec![strategy("timeout", &["1s", "2s", "5s"]), retries])
    };
    assert_eq!(Ok(expected), parse_spec(spec));
}

#[test]
fn an_option_is_the_text_that_stands_there() {
    let read =
        parse_spec("name: x\noptions: [off, no, 1s, 1.50, 1, true, null, '2', 0x10, ~]\nbaseline: 1.50\n").unwrap();
    assert_eq!(texts(&["off", "no", "1s", "1.50", "1", "true", "null", "2", "0x10", "~"]), read.strategies[0].options);
    assert_eq!(Some("1.50"), read.strategies[0].baseline.as_deref());
}

#[test]
fn values_of_enums_come_in_both_spellings() {
    for name in ["simple_weighted", "simpleWeighted"] {
        let read = parse_spec(format!("name: x\noptions: [a, b]\nalgorithm: {name}\nmode: off\n")).unwrap();
        assert_eq!((Some(Algorithm::SimpleWeighted), Some(Mode::Off)), (read.strategies[0].algorithm, read.mode));
    }
}

#[test]
fn durations_have_units() {
    let units = [
        ("7d", 604_800.0),
        ("24h", 86_400.0),
        ("90s", 90.0),
        ("30m", 1800.0),
        ("1500ms", 1.5),
        ("2w", 1_209_600.0),
        ("1.5h", 5400.0),
    ];
    for (duration, seconds) in units {
        let read = parse_spec(format!("name: x\noptions: [a, b]\nhorizon: {{after: {duration}}}\n")).unwrap();
        assert_eq!(Some(Horizon { after_seconds: seconds, outcome: None }), read.horizon, "{duration}");
    }
}

#[test]
fn numbers_are_those_of_the_core_schema() {
    let numbers = [("1", 1.0), ("+.5", 0.5), ("-1e-1", -0.1), ("0x1", 1.0), ("0o1", 1.0), ("1.", 1.0)];
    for (text, weight) in numbers {
        let read = parse_spec(format!("name: x\noptions: [a, b]\nreward: {{q: {text}}}\n")).unwrap();
        assert_eq!(Some(BTreeMap::from([("q".to_owned(), metric(weight))])), read.reward, "{text}");
    }
    for text in ["'1'", "inf", "nan", "1_0", "0b1", "1e", "--1", "infinity", "-0x1"] {
        let error = parse_spec(format!("name: x\noptions: [a, b]\nreward: {{q: {text}}}\n")).unwrap_err();
        assert!(error.to_string().starts_with("line 3: reward.q: expected a number, got the text"), "{error}");
    }
}

/// A wrong spec, in lines after `name: r` and `options: [a, b]`, and everything that is said about it.
const WRONG: &[(&str, &[&str])] = &[
    // Syntax, and what YAML has beyond scalars, lists and maps.
    ("rails:\n\tfreeze: true\n", &["line 4: a tab indents this line; YAML indents with spaces"]),
    (
        "rails: {freeze: true\n",
        &["line 4: not valid YAML at column 1: while parsing a flow mapping, did not find expected ',' or '}'"],
    ),
    ("---\nname: s\n", &["line 3: a second document starts here; a spec is one document"]),
    (
        "rails: &r {freeze: true}\ndecay: *r\n",
        &[
            "line 3: &r is an anchor; anchors are not supported, write the value out each time",
            "line 4: *r is an alias; aliases are not supported, write the value out",
        ],
    ),
    ("decay: *r\n", &["line 3: *r is an alias; aliases are not supported, write the value out"]),
    (
        "mode: !!str off\nrails: !mine {}\n",
        &[
            "line 3: !!str is a tag; tags are not supported, leave it out",
            "line 4: !mine is a tag; tags are not supported, leave it out",
        ],
    ),
    ("rails: {<<: {freeze: true}}\n", &["line 3: <<: merge keys are not supported; write the keys out"]),
    ("? [a]\n: 1\n", &["line 3: this key is a list or a map; a key is one word"]),
    ("name: s\n", &["line 3: name: this key stands twice, first in line 1"]),
    ("rails: [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]\n", &["line 3: nested more than 16 deep"]),
    // Keys.
    (
        "optoins: [c]\nrails: {min_explore: 1}\nfoo: 1\n",
        &[
            "line 3: optoins: there is no key \"optoins\" here; did you mean \"options\"?",
            "line 4: rails.min_explore: there is no key \"min_explore\" here; did you mean \"min_exploration\"?",
            "line 5: foo: there is no key \"foo\" here",
        ],
    ),
    // What a later version knows.
    ("mode: canary\n", &["line 3: mode: canary is not supported by this version yet; use off, shadow or live"]),
    ("log_input: full\n", &["line 3: log_input: full is not supported by this version yet; use contexts"]),
    ("session_ttl: 24h\n", &["line 3: session_ttl: session_ttl is not supported by this version yet; leave it out"]),
    (
        "algorithm: {name: epsilonGreedy, epsilon: 0.1}\nrails: {max_delta: 0.1}\n",
        &[
            "line 4: rails.max_delta: max_delta acts only with algorithm: simple_weighted; leave it out or change the algorithm",
        ],
    ),
    ("algorithm: ucb2\n", &["line 3: algorithm: \"ucb2\" is not an algorithm; did you mean \"ucb1\"?"]),
    // Enums.
    ("algorithm: thomson\n", &["line 3: algorithm: \"thomson\" is not an algorithm; did you mean \"thompson\"?"]),
    (
        "algorithm: {name: thompson, epsilon: 1}\n",
        &["line 3: algorithm.epsilon: epsilon acts only with epsilon_greedy; leave it out or change the algorithm"],
    ),
    ("algorithm: {}\n", &["line 3: algorithm: name is missing; write for example algorithm: thompson"]),
    (
        "algorithm: [thompson]\n",
        &["line 3: algorithm: expected a map of name and the algorithm's own keys, got a list"],
    ),
    ("mode: true\n", &["line 3: mode: \"true\" is not a mode; use one of off, shadow, live"]),
    ("mode: [off]\n", &["line 3: mode: expected one of off, shadow, live, got a list"]),
    ("log_input: all\n", &["line 3: log_input: \"all\" is not a way to log input; use one of contexts"]),
    // Contexts: each on its own line.
    ("contexts: {a: 1}\n", &["line 3: contexts: expected a list, got a map"]),
    (
        "contexts:
  - a
  - {name: t, type: number}
  - {name: f, type: flag, values: [x]}
  - {type: flg, name: g}
  - {name: n, buckets: [5, 1]}
  - {name: m, buckets: [1, x]}
  - a
  - [q]
  - {values: [s]}
  - {name: z, values: [p, p]}
  - {name: b, values: [p], buckets: [1]}
  - {name: c, values: p}
",
        &[
            "line 5: contexts[1]: number \"t\" needs buckets, for example buckets: [500, 2000]",
            "line 6: contexts[2].values: values belong to a category; a number takes buckets, a flag neither",
            "line 7: contexts[3].type: \"flg\" is not a type of context; did you mean \"flag\"?",
            "line 8: contexts[4].buckets: [5.0, 1.0]: use finite edges, each above the one before",
            "line 9: contexts[5].buckets[1]: expected a number, got the text \"x\"",
            "line 10: contexts[6]: context \"a\" stands twice",
            "line 11: contexts[7]: expected a map of name, type, values, buckets, got a list",
            "line 12: contexts[8]: name is missing",
            "line 13: contexts[9].values[1]: value \"p\" stands twice",
            "line 14: contexts[10].buckets: buckets belong to a number; a category takes values, a flag neither",
            "line 15: contexts[11].values: expected a list, got the text \"p\"",
        ],
    ),
    ("max_contexts: 0\n", &["line 3: max_contexts: max_contexts is 0; use 1 to 1000000"]),
    (
        "max_contexts: 1.5\n",
        &["line 3: max_contexts: 1.5 is not a number of contexts; use a whole number such as 10000"],
    ),
    ("max_contexts: many\n", &["line 3: max_contexts: expected a number, got the text \"many\""]),
    // Rewards.
    (
        "reward:
  quality: high
  a: {weight: 0}
  b: {budget: 1}
  c: {weight: 1, budget: 1, range: [0, 1]}
  d: {weight: 1, range: [1]}
  e: {weight: 1, range: [2, 1]}
  f: {weight: .inf}
  g: {weight: 1, budget: -1}
  h: [1]
",
        &[
            "line 4: reward.quality: expected a number, got the text \"high\"",
            "line 5: reward.a.weight: weight is 0; use a finite number other than 0",
            "line 6: reward.b: weight is missing",
            "line 7: reward.c: a metric takes budget or range, not both",
            "line 8: reward.d.range: expected two numbers, [low, high], got a list of 1",
            "line 9: reward.e.range: range is [2, 1]; use two finite numbers, the lower one first",
            "line 10: reward.f.weight: .inf is not a finite number",
            "line 11: reward.g.budget: budget is -1; use a number above 0",
            "line 12: reward.h: expected a map of weight, budget, range, got a list",
        ],
    ),
    ("reward: {}\n", &["line 3: reward: 0 metrics; use 1 to 64, or leave reward out"]),
    ("reward: 1\n", &["line 3: reward: expected a map of metrics and their weights, got 1"]),
    (
        "reward: {q: 2}\n",
        &[
            "line 3: reward: these weights make rewards from 0 to 2, outside reward_range [-1, 1]; widen reward_range or lower the weights",
        ],
    ),
    ("reward: {q: 2, p: x}\n", &["line 3: reward.p: expected a number, got the text \"x\""]),
    ("reward: {q: 2}\nreward_range: [1, x]\n", &["line 4: reward_range[1]: expected a number, got the text \"x\""]),
    (
        "reward_range: [1, -1]\n",
        &["line 3: reward_range: reward_range is [1, -1]; use two finite numbers, the lower one first"],
    ),
    ("reward_range: 1\n", &["line 3: reward_range: expected a list, got 1"]),
    // Learning.
    ("baseline: c\n", &["line 3: baseline: \"c\" is not an option; use one of a, b"]),
    (
        "rails: {max_delta: 0.1}\n",
        &[
            "line 3: rails.max_delta: max_delta acts only with algorithm: simple_weighted; leave it out or change the algorithm",
        ],
    ),
    (
        "rails:\n  min_exploration: 1.5\n  max_delta: x\n  freeze: yes\n",
        &[
            "line 4: rails.min_exploration: min_exploration is 1.5; use a share from 0 to 1",
            "line 5: rails.max_delta: expected a number, got the text \"x\"",
            "line 6: rails.freeze: expected true or false, got the text \"yes\"",
        ],
    ),
    ("rails: on\n", &["line 3: rails: expected a map of min_exploration, max_delta, freeze, got the text \"on\""]),
    ("decay: {half_life: 14}\n", &["line 3: decay.half_life: 14 has no unit; write 14s, 14m, 14h, 14d or 14w"]),
    (
        "decay: {half_life: 2 weeks}\n",
        &[
            "line 3: decay.half_life: \"2 weeks\" is not a duration; write a number and ms, s, m, h, d or w, for example 7d",
        ],
    ),
    (
        "decay: {half_life: 14d, half_life_feedbacks: 2000}\n",
        &["line 3: decay: decay takes exactly one of half_life and half_life_feedbacks"],
    ),
    ("decay: {}\n", &["line 3: decay: decay takes exactly one of half_life and half_life_feedbacks"]),
    (
        "decay: {half_life_feedbacks: 0}\n",
        &["line 3: decay.half_life_feedbacks: half_life_feedbacks is 0; use a number above 0"],
    ),
    ("horizon: 7d\n", &["line 3: horizon: expected a map of after, outcome, got the text \"7d\""]),
    ("horizon: {}\n", &["line 3: horizon: after is missing"]),
    (
        "horizon: {after: 7d, outcome: {}}\n",
        &["line 3: horizon.outcome: outcome is empty; name a metric and its value, or leave outcome out"],
    ),
    (
        "reward: {quality: 1}\nhorizon: {after: 7d, outcome: {qualty: 0}}\n",
        &["line 4: horizon.outcome.qualty: \"qualty\" is not a metric of reward; did you mean \"quality\"?"],
    ),
    (
        "reward: {quality: 1}\nhorizon: {after: 7d, outcome: {quality: 2}}\n",
        &["line 4: horizon.outcome.quality: quality is 2, outside 0 to 1"],
    ),
    (
        "horizon: {after: 7d, outcome: {quality: high}}\n",
        &["line 3: horizon.outcome.quality: expected a number, got the text \"high\""],
    ),
    ("horizon: {after: 0s}\n", &["line 3: horizon.after: the horizon is 0 s; use 1 s to ten years"]),
    ("valid: [{choice: a}]\n", &["line 3: valid: valid needs several strategies; leave it out with one"]),
];

#[test]
fn each_wrong_key_has_its_sentence() {
    for (lines, expected) in WRONG {
        check(&format!("name: r\noptions: [a, b]\n{lines}"), expected);
    }
}

/// Whole specs that are wrong in name, options or strategies.
const WRONG_WHOLE: &[(&str, &[&str])] = &[
    ("", &["line 1: the spec is empty; it needs name and options at least"]),
    ("# nothing\n", &["line 1: the spec is empty; it needs name and options at least"]),
    ("- a\n", &["line 1: expected a map of keys such as name and options, got a list"]),
    ("hello", &["line 1: expected a map of keys such as name and options, got the text \"hello\""]),
    ("{}\n", &["line 1: name is missing", "line 1: options is missing; list 2 options or more, or declare strategies"]),
    (
        "name: Big Router\noptions: [a, b]\n",
        &[
            "line 1: name: \"Big Router\" cannot be a capsule's name; use 1 to 64 of a-z, 0-9, - and _, starting with a letter or digit",
        ],
    ),
    ("name: [r]\noptions: [a, b]\n", &["line 1: name: expected a text, got a list"]),
    ("name: r\noptions: a\n", &["line 2: options: expected a list, got the text \"a\""]),
    ("name: r\noptions: [a]\n", &["line 2: options: 1 options; use 2 to 1024"]),
    ("name: r\noptions:\n  - a\n  - b\n  - a\n", &["line 5: options[2]: option \"a\" stands twice"]),
    ("name: r\noptions:\n  - a\n  -\n", &["line 4: options[1]: expected a text, got nothing"]),
    ("name: r\noptions: [a, [b]]\n", &["line 2: options[1]: expected a map of name, prior, got a list"]),
    (
        "name: r\noptions: [a, {name: b, was: [c]}]\nbaseline: b\n",
        &["line 2: options[1].was: was is not supported by this version yet; leave it out"],
    ),
    (
        "name: r\noptions: [a, {nam: b}]\nbaseline: b\n",
        &[
            "line 2: options[1]: name is missing",
            "line 2: options[1].nam: there is no key \"nam\" here; did you mean \"name\"?",
        ],
    ),
    (
        "name: r\nstrategies: [a]\n",
        &["line 2: strategies: expected a map of names of strategies and what each of them holds, got a list"],
    ),
    (
        "name: r\nstrategies: {t: [a, b]}\n",
        &["line 2: strategies.t: expected a map of options, algorithm, baseline, got a list"],
    ),
    ("name: r\nstrategies: {}\n", &["line 2: strategies: 0 strategies; use 1 to 16"]),
    (
        "name: r\nstrategies:\n  t: {options: [a, b]}\n  u: {algorithm: thompson}\noptions: [a]\nbaseline: a\nvalid: [{t: x}]\n",
        &[
            "line 4: strategies.u: options is missing; list 2 options or more",
            "line 5: options: with strategies, options stands under each strategy; move it there",
            "line 6: baseline: with strategies, baseline stands under each strategy; move it there",
        ],
    ),
    (
        "name: r\nstrategies: {t: {options: [a, b]}, u: {options: [c, d]}}\nvalid:\n  - {t: a, u: x}\n  - {w: a}\n  - {t: []}\n",
        &[
            "line 4: valid[0].u: \"x\" is not an option of strategy u; use one of c, d",
            "line 5: valid[1].w: \"w\" is not a strategy; use one of t, u",
            "line 6: valid[2].t: t has no option in this row; leave it out to allow all",
        ],
    ),
    (
        "name: r\nstrategies: {t: {options: [a, b]}, u: {options: [c, d]}}\nvalid: [{t: [b, [c]]}]\n",
        &["line 3: valid[0].t[1]: expected a text, got a list"],
    ),
    (
        "name: r\nstrategies: {t: {options: [a, b]}, u: {options: [c, d], baseline: d}}\nvalid: [{t: a, u: c}]\n",
        &[
            "line 3: valid: the baselines together (t: a, u: d) are not valid; declare a baseline under each strategy that makes a valid combination",
        ],
    ),
];

#[test]
fn each_wrong_spec_has_its_sentence() {
    for (spec, expected) in WRONG_WHOLE {
        check(spec, expected);
    }
}

fn check(spec: &str, expected: &[&str]) {
    let error = parse_spec(spec).expect_err(spec);
    assert_eq!(expected.join("\n"), error.to_string(), "of\n{spec}");
}

#[test]
fn a_problem_has_line_column_and_the_keys_that_lead_there() {
    let error = parse_spec("name: r\noptions: [a, b]\nreward:\n  cost:\n    weight: high\n").unwrap_err();
    let [problem] = error.problems.as_slice() else { panic!("{error}") };
    assert_eq!((5, 13, "reward.cost.weight"), (problem.line, problem.column, problem.key.as_str()));
}

#[test]
fn bytes_have_to_be_utf8_and_few() {
    let error = |source: &[u8]| parse_spec(source).unwrap_err().to_string();
    assert_eq!("line 2: byte 10 is not UTF-8; save the file as UTF-8", error(b"name: r\n# \xff\n"));
    assert_eq!("line 1: the spec has 262145 bytes; at most 262144 are read", error(&[b' '; MAX_SPEC_BYTES + 1]));
    assert!(parse_spec(b"\xef\xbb\xbfname: r\noptions: [a, b]\n").is_ok());
}

/// The most work that the bytes allow stays small: problems, keys, options and nesting without end.
#[test]
fn hostile_specs_end_soon() {
    let many = |item: &dyn Fn(usize) -> String, count: usize| (0..count).map(item).collect::<String>();
    let specs = [
        format!("a: [{}]", "&x 1, ".repeat(40_000)),
        many(&|n| format!("k{n}: 1\n"), 20_000),
        many(&|_| "k: 1\n".to_owned(), 50_000),
        format!("name: r\noptions: [{}]", many(&|n| format!("{n},"), 40_000)),
        "[".repeat(MAX_SPEC_BYTES),
        "- ".repeat(MAX_SPEC_BYTES / 2),
        "? ".repeat(MAX_SPEC_BYTES / 2),
        "a: ".repeat(MAX_SPEC_BYTES / 3),
    ];
    for spec in &specs {
        let start = std::time::Instant::now();
        let problems = parse_spec(spec).unwrap_err().problems.len();
        assert!((1..=101).contains(&problems), "{problems}");
        // Milliseconds in fact: this only tells them from minutes.
        assert!(start.elapsed().as_secs() < 10, "{:?}", &spec[..20]);
    }
}
