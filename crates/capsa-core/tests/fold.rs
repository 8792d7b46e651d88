//! What always holds of decisions and of the fold, on generated histories.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;

use capsa_core::capsule::Capsule;
use capsa_core::cbor::{ByName, Bytes16};
use capsa_core::decide::{Ask, Cache, decide};
use capsa_core::definition::{
    Algorithm, Decay, Definition, Kind, Mode, Prior, Rails, SCHEMA, Shrinkage, Strategy as Head,
};
use capsa_core::events::{
    Event, Installed, KeyFrom, LearningChanged, OutcomeReceived, SCHEMA as SCHEMA_OF_EVENTS, Status, Written,
};
use capsa_core::input::ContextNotes;
use capsa_core::learned::Learned;
use capsa_core::program::Overrides;
use capsa_core::record::{Circumstances, record, stream_key};
use proptest::prelude::*;

fn definition(options: &[&str], algorithm: Algorithm) -> Definition {
    Definition {
        schema: SCHEMA,
        kind: Kind::Decision,
        name: "router".into(),
        strategies: vec![Head {
            name: "choice".into(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            priors: BTreeMap::new(),
            algorithm: Some(algorithm),
            baseline: None,
        }],
        valid: None,
        contexts: vec![],
        max_contexts: Some(3),
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

fn joint() -> Definition {
    let head = |name: &str, options: &[&str]| Head {
        name: name.into(),
        options: options.iter().map(|&option| option.to_owned()).collect(),
        priors: BTreeMap::new(),
        algorithm: None,
        baseline: None,
    };
    let row = |pairs: &[(&str, &[&str])]| -> BTreeMap<String, Vec<String>> {
        pairs.iter().map(|(name, options)| ((*name).into(), options.iter().map(|&o| o.into()).collect())).collect()
    };
    Definition {
        strategies: vec![head("timeout", &["1s", "2s", "5s"]), head("retries", &["0", "1", "3"])],
        valid: Some(vec![row(&[("timeout", &["1s"])]), row(&[("timeout", &["2s", "5s"]), ("retries", &["0", "1"])])]),
        ..definition(&["a", "b"], Algorithm::Thompson)
    }
}

fn installed(definition: &Definition, version: u32) -> Event {
    let filled = definition.filled().unwrap();
    Event::Installed(Installed {
        digest: format!("b2:{version}"),
        capsule: filled.name.clone(),
        version,
        definition: serde_json::to_string(&filled).unwrap(),
        size_bytes: 1,
    })
}

fn outcome(key: &str, option: &str, reward: f64) -> Event {
    Event::OutcomeReceived(OutcomeReceived {
        id: None,
        key: key.into(),
        made: [("choice".to_owned(), option.to_owned())].into_iter().collect(),
        taken: None,
        reward: Some(reward),
        status: Status::Applied,
        capsule: "router".into(),
        metrics: ByName::default(),
        delay_ms: None,
        capsule_version: 1,
        deadline_ms: None,
        decided_at: None,
        answered: None,
        again: false,
    })
}

fn settings(overrides: &Overrides) -> Event {
    Event::LearningChanged(LearningChanged {
        capsule: "router".into(),
        changed: vec![],
        overrides: serde_json::to_string(overrides).unwrap(),
    })
}

fn ask(capsule: &Capsule, key: &str, allowed: Option<Vec<bool>>, nonce: u8, now_ms: u64) -> Ask {
    Ask {
        nonce: [nonce; 16],
        stream_key: stream_key("t", "j", "router"),
        now_ms,
        key: key.into(),
        allowed: allowed.unwrap_or_else(|| vec![true; capsule.program().total_options]),
        current: None,
    }
}

/// Events folded as a journal gives them: written and read again, each by the versions before it.
fn through_bytes(events: &[(u64, Event)]) -> Capsule {
    let mut folded: Option<Capsule> = None;
    for (at_ms, event) in events {
        let version = folded.as_ref().map(|capsule| Arc::clone(&capsule.versions()[0].definition));
        let payload = event.encode(&version.unwrap_or_else(|| Arc::new(definition(&OPTIONS, Algorithm::Thompson))));
        let written = Written { kind: event.kind(), schema: SCHEMA_OF_EVENTS, at_ms: *at_ms, payload: &payload };
        match &mut folded {
            None => {
                let first = Event::decode(&written, |_| None::<Arc<Definition>>).unwrap();
                folded = Some(Capsule::begin(*at_ms, &first).unwrap());
            }
            Some(capsule) => {
                let read = capsule.decode(&written).unwrap();
                assert_eq!(read, *event);
                capsule.apply(*at_ms, &read).unwrap();
            }
        }
    }
    folded.unwrap()
}

/// One step of a generated history.
#[derive(Debug, Clone)]
enum Step {
    Reward { key: u8, option: usize, reward: f64, wait_ms: u64 },
    Freeze(bool, u64),
    Decay(Option<Decay>),
    Algorithm(Option<Algorithm>),
    Shrinkage(Option<f64>),
    Install { reversed: bool, extra: bool, prior: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..5u8, 0..3usize, -1.0..=1.0f64, 0..10_000_000u64)
            .prop_map(|(key, option, reward, wait_ms)| Step::Reward { key, option, reward, wait_ms }),
        1 => (any::<bool>(), 0..10_000_000u64).prop_map(|(on, wait)| Step::Freeze(on, wait)),
        1 => prop_oneof![
            Just(None),
            Just(Some(Decay { half_life_seconds: Some(3600.0), half_life_feedbacks: None })),
            Just(Some(Decay { half_life_seconds: None, half_life_feedbacks: Some(5.0) })),
        ]
        .prop_map(Step::Decay),
        1 => prop::option::of(prop::sample::select(Algorithm::ALL.map(|(_, algorithm)| algorithm).to_vec()))
            .prop_map(Step::Algorithm),
        1 => prop::option::of(0.5..20.0f64).prop_map(Step::Shrinkage),
        1 => (any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(reversed, extra, prior)| Step::Install { reversed, extra, prior }),
    ];
    prop::collection::vec(step, 0..60)
}

const OPTIONS: [&str; 3] = ["cheap", "balanced", "dear"];

/// The events of a history with their times.
fn events(steps: &[Step]) -> Vec<(u64, Event)> {
    let mut now_ms = 1_000_000;
    let mut version = 1;
    let mut overrides = Overrides::default();
    let mut events = vec![(now_ms, installed(&definition(&OPTIONS, Algorithm::Thompson), 1))];
    for step in steps {
        let event = match step {
            Step::Reward { key, option, reward, wait_ms } => {
                now_ms += wait_ms;
                outcome(&format!("key-{key}"), OPTIONS[*option], *reward)
            }
            Step::Freeze(on, wait_ms) => {
                now_ms += wait_ms;
                overrides.rails = Some(Rails { freeze: Some(*on), ..Rails::default() });
                settings(&overrides)
            }
            Step::Decay(decay) => {
                overrides.decay = *decay;
                settings(&overrides)
            }
            Step::Algorithm(algorithm) => {
                overrides.algorithm = *algorithm;
                overrides.shrinkage = overrides.shrinkage.filter(|_| !algorithm.is_some_and(Algorithm::is_weighted));
                settings(&overrides)
            }
            Step::Shrinkage(strength) => {
                let weighted = overrides.algorithm.is_some_and(Algorithm::is_weighted);
                overrides.shrinkage = strength.filter(|_| !weighted).map(|strength| Shrinkage { strength });
                settings(&overrides)
            }
            Step::Install { reversed, extra, prior } => {
                version += 1;
                let mut options = OPTIONS.to_vec();
                if *reversed {
                    options.reverse();
                }
                if *extra {
                    options.push("extra");
                }
                let mut next = definition(&options, Algorithm::Thompson);
                if *prior {
                    next.strategies[0].priors.insert("dear".to_owned(), Prior { reward: 0.5, count: 3.0 });
                }
                installed(&next, version)
            }
        };
        events.push((now_ms, event));
    }
    events
}

fn fold(events: &[(u64, Event)]) -> Capsule {
    let mut capsule = Capsule::begin(events[0].0, &events[0].1).unwrap();
    for (at_ms, event) in &events[1..] {
        capsule.apply(*at_ms, event).unwrap();
    }
    capsule
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// I8: the same events give the same state, also through bytes and with decisions in between.
    #[test]
    fn a_rebuilt_state_equals_the_live_one(steps in steps()) {
        let events = events(&steps);
        let mut live = Capsule::begin(events[0].0, &events[0].1).unwrap();
        for (at_ms, event) in &events[1..] {
            live.apply(*at_ms, event).unwrap();
            // A decision reads, and a read changes nothing.
            let before = live.learned().encode();
            let ask = ask(&live, "key-1", None, 9, *at_ms);
            let (program, learned, cache) = live.for_decision();
            decide(program, learned, cache, &ask).unwrap();
            prop_assert_eq!(before, live.learned().encode());
        }
        let coded = through_bytes(&events);
        prop_assert_eq!(coded.learned().state_hash(), live.learned().state_hash());
        prop_assert_eq!(coded.tally(), live.tally());
    }

    /// A snapshot is the state: what comes after it folds to the same, and it is the same bytes again.
    #[test]
    fn a_snapshot_gives_the_state_back(steps in steps(), at in any::<prop::sample::Index>()) {
        let events = events(&steps);
        let at = 1 + at.index(events.len());
        let (before, after) = events.split_at(at);
        let mut live = fold(before);
        let mut restored = Capsule::restore(&live.snapshot()).unwrap();
        prop_assert_eq!(restored.snapshot(), live.snapshot());
        for (at_ms, event) in after {
            live.apply(*at_ms, event).unwrap();
            restored.apply(*at_ms, event).unwrap();
            prop_assert_eq!(restored.learned().version(), live.learned().version());
        }
        prop_assert_eq!(restored.snapshot(), live.snapshot());
        prop_assert_eq!(&restored.program().definition, &live.program().definition);
        prop_assert_eq!(restored.weights("key-1", 9), live.weights("key-1", 9));
    }

    /// I10: at most `max_contexts` keys are held, and the encoding reads back to itself.
    #[test]
    fn memory_is_bounded_and_the_encoding_is_canonical(steps in steps()) {
        let capsule = fold(&events(&steps));
        prop_assert!(capsule.learned().len() <= 3);
        let bytes = capsule.learned().encode();
        prop_assert_eq!(&Learned::decode(&bytes).unwrap().encode(), &bytes);
    }

    /// I10: the order of options in the file does not touch what was learned.
    #[test]
    fn learned_state_is_kept_by_name(steps in steps()) {
        let rewards: Vec<Step> = steps.into_iter().filter(|step| matches!(step, Step::Reward { .. })).collect();
        let mut history = events(&rewards);
        let hash = fold(&history).learned().encode();
        let reversed: Vec<&str> = OPTIONS.iter().rev().copied().collect();
        history[0].1 = installed(&definition(&reversed, Algorithm::Thompson), 1);
        prop_assert_eq!(fold(&history).learned().encode(), hash);
    }

    /// I2: what is not allowed is never chosen, probabilities sum to 1, and the propensity is
    /// that of the answer. The same ask gives the same decision, cached or not.
    #[test]
    fn decisions_keep_to_what_is_allowed(
        steps in steps(),
        mask in prop::collection::vec(any::<bool>(), 9),
        nonce in any::<u8>(),
        several in any::<bool>(),
    ) {
        let mut capsule = if several {
            Capsule::begin(0, &installed(&joint(), 1)).unwrap()
        } else {
            fold(&events(&steps))
        };
        let total = capsule.program().total_options;
        let version_number = capsule.version();
        let ask = ask(&capsule, "key-1", Some(mask[..total].to_vec()), nonce, 2_000_000);
        let (program, learned, cache) = capsule.for_decision();
        let Ok(decision) = decide(program, learned, cache, &ask) else { return Ok(()) };
        prop_assert_eq!(&decision, &decide(program, learned, cache, &ask).unwrap());
        prop_assert_eq!(&decision, &decide(program, learned, &mut Cache::default(), &ask).unwrap());
        for (head, &option) in program.heads.iter().zip(&decision.options) {
            prop_assert!(ask.allowed[head.offset + option]);
        }
        if let Some(combinations) = &program.combinations {
            let row: Vec<u16> = decision.options.iter().map(|&option| option as u16).collect();
            prop_assert!(combinations.is_valid(&row));
        }
        let suggestion = decision.suggestion.as_ref().unwrap();
        for head in &program.heads {
            let shares = &suggestion.probabilities[head.offset..head.offset + head.size];
            prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            for (share, allowed) in shares.iter().zip(&ask.allowed[head.offset..]) {
                prop_assert!(*allowed || *share == 0.0);
            }
        }
        if program.heads.len() == 1 {
            prop_assert_eq!(suggestion.propensity, suggestion.probabilities[decision.options[0]]);
        }
        // I3: the record alone gives the draw again.
        let around = Circumstances {
            key_from: KeyFrom::Request,
            notes: ContextNotes::default(),
            capsule_version: version_number,
            learner_version: learned.version(),
            subject: (nonce % 2 == 0).then_some([nonce; 16]),
        };
        let recorded = record(program, &ask, &decision, &around);
        let version = Arc::clone(&capsule.current().definition);
        let bytes = recorded.encode(&version);
        let written = Written { kind: "decided", schema: SCHEMA_OF_EVENTS, at_ms: 9, payload: &bytes };
        let Event::Decided(read) = capsule.decode(&written).unwrap() else { unreachable!() };
        prop_assert_eq!(&*read, &recorded);
        prop_assert_eq!(read.id, Bytes16([nonce; 16]));
        match read.draw_again(ask.stream_key) {
            Some(drawn) => prop_assert_eq!(drawn, suggestion.options[0]),
            None => prop_assert!(several),
        }
    }
}

#[test]
fn eviction_follows_feedback_and_leaves_a_prior() {
    let mut history = vec![(0, installed(&definition(&OPTIONS, Algorithm::Thompson), 1))];
    for (at, key) in ["a", "b", "c", "a", "d"].iter().enumerate() {
        history.push((at as u64, outcome(key, "dear", 1.0)));
    }
    let mut capsule = fold(&history);
    let held: Vec<&str> = capsule.learned().entries_after(None).map(|(key, _)| key).collect();
    assert_eq!(held, ["a", "c", "d"], "b had waited longest");
    assert_eq!(capsule.learned().evicted(), 1);
    let unseen = capsule.weights("unseen", 10);
    assert!(unseen[2] > unseen[0] && unseen[0] == unseen[1], "{unseen:?}");
}

#[test]
fn feedback_in_one_key_moves_no_other() {
    let mut history = vec![(0, installed(&definition(&OPTIONS, Algorithm::SimpleWeighted), 1))];
    history.push((1, outcome("a", "dear", 1.0)));
    let mut capsule = fold(&history);
    let before = capsule.weights("a", 5);
    let fresh = capsule.weights("b", 5);
    assert!(fresh.iter().all(|weight| (weight - 1.0 / 3.0).abs() < 1e-12), "{fresh:?}");
    // Three more keys evict nothing of "a" until the fourth.
    for (at, key) in ["b", "c"].iter().enumerate() {
        capsule.apply(2 + at as u64, &outcome(key, "cheap", 1.0)).unwrap();
    }
    assert_eq!(capsule.weights("a", 5), before);
}

#[test]
fn frozen_time_does_not_fade() {
    let decay = Decay { half_life_seconds: Some(1.0), half_life_feedbacks: None };
    let frozen = |on| Overrides {
        decay: Some(decay),
        rails: Some(Rails { freeze: Some(on), ..Rails::default() }),
        ..Overrides::default()
    };
    let mut capsule = fold(&[
        (0, installed(&definition(&OPTIONS, Algorithm::Thompson), 1)),
        (0, settings(&frozen(false))),
        (0, outcome("a", "dear", 1.0)),
    ]);
    let at_once = capsule.weights("a", 0);
    capsule.apply(0, &settings(&frozen(true))).unwrap();
    assert_eq!(capsule.weights("a", 5_000), at_once);
    capsule.apply(5_000, &settings(&frozen(false))).unwrap();
    assert_eq!(capsule.weights("a", 5_000), at_once);
    let faded = capsule.weights("a", 6_000);
    assert!(faded[2] < at_once[2] && faded[2] > faded[0], "{faded:?} after {at_once:?}");
}

#[test]
fn simple_weighted_moves_as_declared() {
    let mut capsule = Capsule::begin(0, &installed(&definition(&OPTIONS, Algorithm::SimpleWeighted), 1)).unwrap();
    capsule.apply(1, &outcome("a", "cheap", 1.0)).unwrap();
    let inner = [1.0 / 3.0 + 0.05, 1.0 / 3.0 - 0.025, 1.0 / 3.0 - 0.025];
    for (weight, inner) in capsule.weights("a", 1).iter().zip(inner) {
        assert!((weight - (0.98 * inner + 0.02 / 3.0)).abs() < 1e-12);
    }
}

fn learned(algorithm: Algorithm, rewards: &[(&str, &str, f64)]) -> Vec<(u64, Event)> {
    let mut history = vec![(0, installed(&definition(&OPTIONS, algorithm), 1))];
    history.extend(rewards.iter().map(|(key, option, reward)| (1, outcome(key, option, *reward))));
    history
}

fn heads(capsule: &mut Capsule, key: &str) -> Vec<f64> {
    // Min exploration taken out: the algorithm's own distribution.
    capsule.weights(key, 1).into_iter().map(|weight| (weight - 0.02 / 3.0) / 0.98).collect()
}

fn close(found: &[f64], expected: [f64; 3]) -> bool {
    found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-12)
}

#[test]
fn epsilon_greedy_goes_by_the_best_mean_and_counts_the_untried_as_the_middle() {
    let greedy = Algorithm::EpsilonGreedy { epsilon: 0.3 };
    let mut capsule = fold(&learned(greedy, &[("a", "cheap", -0.5)]));
    let found = heads(&mut capsule, "a");
    assert!(close(&found, [0.1, 0.8, 0.1]), "balanced is the first of two untried: {found:?}");
    capsule.apply(2, &outcome("a", "dear", 0.5)).unwrap();
    assert!(close(&heads(&mut capsule, "a"), [0.1, 0.1, 0.8]));
    assert!(close(&heads(&mut capsule, "b"), [0.8, 0.1, 0.1]));
}

#[test]
fn ucb1_shares_among_the_untried_and_then_takes_the_largest_bound() {
    let mut capsule = fold(&learned(Algorithm::Ucb1, &[("a", "balanced", 1.0)]));
    assert!(close(&heads(&mut capsule, "a"), [0.5, 0.0, 0.5]));
    for (option, reward) in [("cheap", 1.0), ("dear", -1.0), ("balanced", 1.0), ("balanced", 1.0)] {
        capsule.apply(2, &outcome("a", option, reward)).unwrap();
    }
    // n = 1, 3, 1 and means 1, 1, 0: the bound of cheap is wider than that of balanced.
    assert!(close(&heads(&mut capsule, "a"), [1.0, 0.0, 0.0]));
}

#[test]
fn a_changed_algorithm_starts_from_what_was_earned() {
    let mut capsule =
        fold(&learned(Algorithm::Thompson, &[("a", "dear", 1.0), ("a", "dear", 1.0), ("a", "cheap", -1.0)]));
    let weighted =
        |on: bool| settings(&Overrides { algorithm: on.then_some(Algorithm::SimpleWeighted), ..Overrides::default() });
    capsule.apply(2, &weighted(true)).unwrap();
    // dear moved up by 0.1, cheap down by 0.05, each with half of it the other way for the others.
    let third = 1.0 / 3.0;
    let expected = [third - 0.05 - 0.05, third - 0.05 + 0.025, third + 0.1 + 0.025];
    assert!(close(&heads(&mut capsule, "a"), expected), "{:?}", heads(&mut capsule, "a"));
    // There and back: what was learned in between counts.
    capsule.apply(3, &weighted(false)).unwrap();
    capsule.apply(4, &outcome("a", "dear", 1.0)).unwrap();
    capsule.apply(5, &weighted(true)).unwrap();
    let expected = [expected[0] - 0.025, expected[1] - 0.025, expected[2] + 0.05];
    assert!(close(&heads(&mut capsule, "a"), expected), "{:?}", heads(&mut capsule, "a"));
}

#[test]
fn a_declared_prior_counts_as_rewards_and_does_not_fade() {
    let mut believed = definition(&OPTIONS, Algorithm::Thompson);
    believed.strategies[0].priors.insert("dear".to_owned(), Prior { reward: 0.6, count: 10.0 });
    believed.decay = Some(Decay { half_life_seconds: Some(1.0), half_life_feedbacks: None });
    let mut capsule = fold(&[(0, installed(&believed, 1))]);
    let at_first = capsule.weights("a", 0);
    assert!(at_first[2] > 0.5 && at_first[0] == at_first[1], "{at_first:?}");
    capsule.apply(1, &outcome("a", "dear", -1.0)).unwrap();
    assert!(capsule.weights("a", 1)[2] < at_first[2]);
    let faded = capsule.weights("a", 3_600_000);
    assert!(faded.iter().zip(&at_first).all(|(a, b)| (a - b).abs() < 1e-9), "{faded:?} {at_first:?}");
}

#[test]
fn shrinkage_borrows_from_other_keys_and_counts_no_reward_twice() {
    let rewards = [("a", "dear", 1.0), ("a", "dear", 0.5), ("b", "dear", -0.5), ("b", "cheap", 0.25)];
    let mut shared = definition(&OPTIONS, Algorithm::EpsilonGreedy { epsilon: 0.0 });
    shared.shrinkage = Some(Shrinkage { strength: 100.0 });
    let mut history = learned(Algorithm::Thompson, &rewards);
    history[0].1 = installed(&shared, 1);
    let capsule = fold(&history);
    let evidence = |key: &str| {
        let mut arms = Vec::new();
        let terms = &capsule.program().terms;
        capsule.learned().evidence(key, &terms.learners[0], 1, terms, &mut arms);
        arms.iter().map(|arm| (arm.n, arm.sum)).collect::<Vec<_>>()
    };
    // With room for all of it, every key sees the same: all rewards, its own once.
    for key in ["a", "b", "unseen"] {
        assert_eq!(evidence(key), [(1.0, 0.625), (0.0, 0.0), (3.0, 1.0 + 0.75 + 0.25)], "{key}");
    }
    let decoded = Learned::decode(&capsule.learned().encode()).unwrap();
    assert_eq!(decoded.encode(), capsule.learned().encode());
}

#[test]
fn an_event_that_does_not_fit_changes_nothing() {
    let mut capsule =
        fold(&[(0, installed(&definition(&OPTIONS, Algorithm::Thompson), 1)), (1, outcome("a", "dear", 1.0))]);
    let before = (capsule.learned().encode(), capsule.tally().clone(), capsule.version());
    let mut foreign = outcome("a", "dear", 1.0);
    if let Event::OutcomeReceived(outcome) = &mut foreign {
        outcome.capsule = "other".into();
    }
    let mut unvalued = outcome("a", "dear", 1.0);
    if let Event::OutcomeReceived(outcome) = &mut unvalued {
        outcome.reward = None;
    }
    let wrong_delta =
        Overrides { rails: Some(Rails { max_delta: Some(0.5), ..Rails::default() }), ..Overrides::default() };
    let broken = [foreign, unvalued, installed(&definition(&OPTIONS, Algorithm::Thompson), 3), settings(&wrong_delta)];
    for event in broken {
        assert!(capsule.apply(2, &event).is_err(), "{event:?}");
        assert_eq!(before, (capsule.learned().encode(), capsule.tally().clone(), capsule.version()));
    }
}

/// What evicted keys earned under one algorithm is what new keys start from under another.
#[test]
fn a_changed_algorithm_starts_from_what_evicted_keys_earned() {
    let algorithm = |algorithm| settings(&Overrides { algorithm: Some(algorithm), ..Overrides::default() });
    let mut history = vec![(0, installed(&definition(&OPTIONS, Algorithm::Thompson), 1))];
    history.extend((1..40).map(|at| (at, outcome(&format!("key-{}", at % 7), "dear", 1.0))));
    history.push((50, algorithm(Algorithm::SimpleWeighted)));
    let mut capsule = fold(&history);
    assert!(capsule.learned().evicted() > 0);
    let dear = OPTIONS.iter().position(|option| *option == "dear").unwrap();
    let weights = capsule.weights("never seen", 60);
    assert!(weights.iter().enumerate().all(|(at, weight)| at == dear || *weight < weights[dear]), "{weights:?}");
    // And weights of before another algorithm do not outlive it.
    history.push((70, algorithm(Algorithm::Thompson)));
    history.extend((71..110).map(|at| (at, outcome(&format!("key-{}", at % 7), "cheap", 1.0))));
    history.extend((111..150).map(|at| (at, outcome(&format!("key-{}", at % 7), "dear", -1.0))));
    history.push((160, algorithm(Algorithm::SimpleWeighted)));
    let mut capsule = fold(&history);
    let cheap = OPTIONS.iter().position(|option| *option == "cheap").unwrap();
    let weights = capsule.weights("never seen", 170);
    assert!(weights[cheap] > weights[dear], "{weights:?}");
}

#[test]
fn modes_answer_as_declared() {
    let shadow = Overrides { mode: Some(Mode::Shadow), ..Overrides::default() };
    let mut capsule = fold(&[(0, installed(&definition(&OPTIONS, Algorithm::Thompson), 1)), (1, settings(&shadow))]);
    let mut current = ask(&capsule, "a", None, 1, 5);
    current.current = Some(vec![2]);
    let (program, learned, cache) = capsule.for_decision();
    let decision = decide(program, learned, cache, &current).unwrap();
    assert_eq!((decision.options, decision.drawn), (vec![2], false));
    assert!(decision.suggestion.is_some());
    current.allowed[2] = false;
    assert!(decide(program, learned, cache, &current).is_err(), "current must be allowed");
    current.current = None;
    current.allowed[0] = false;
    let decision = decide(program, learned, cache, &current).unwrap();
    assert_eq!((decision.options, decision.baseline_replaced), (vec![1], true));
}
