//! Stored bytes: every document in CBOR that is read back, the first byte saying which.

use std::sync::{Arc, LazyLock};

use capsa_core::capsule::Capsule;
use capsa_core::cbor::{self, ByName};
use capsa_core::definition::Definition;
use capsa_core::events::{Event, SCHEMA, Written};
use capsa_core::learned::Learned;
use capsa_core::tabular::Tabular;
use capsa_vm::Exchange;
use ciborium::Value;

/// Versions 1 and 3 are installed; 3 has two strategies, metrics and a horizon with an outcome.
static VERSIONS: LazyLock<[(u32, Arc<Definition>); 2]> = LazyLock::new(|| {
    let read = |text: &str| {
        let declared = Definition::from_json(text.as_bytes()).expect("it is a definition");
        Arc::new(declared.filled().expect("it holds"))
    };
    [
        (
            1,
            read(
                r#"{"schema": 1, "kind": "decision", "name": "router",
                "strategies": [{"name": "choice", "options": ["a", "b"], "baseline": "a"}]}"#,
            ),
        ),
        (
            3,
            read(
                r#"{"schema": 1, "kind": "decision", "name": "router",
                "reward": {"cost": {"weight": -0.5}, "quality": {"weight": 0.5}},
                "horizon": {"afterSeconds": 3600, "outcome": {"quality": 0}},
                "strategies": [{"name": "model", "options": ["a", "b", "c"]}, {"name": "retry", "options": ["0", "1"]}]}"#,
            ),
        ),
    ]
});

const EVENTS: [&str; 6] =
    ["installed", "learning_changed", "decided", "outcome_received", "horizon_passed", "invented"];

pub(crate) fn run(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else { return };
    match which {
        0 => value(bytes),
        1 => {
            if let Ok(learned) = Learned::decode(bytes) {
                let written = learned.encode();
                let again = Learned::decode(&written).expect("what was written is read");
                assert_eq!(again.encode(), written);
                assert_eq!(again.state_hash(), learned.state_hash());
            }
        }
        2 => {
            if let Ok(kept) = cbor::decode::<Vec<Exchange>>("recording", bytes) {
                let again: Vec<Exchange> = cbor::decode("recording", &cbor::encode(&kept)).expect("it was written");
                assert_eq!(again, kept);
            }
        }
        3 => drop(Capsule::restore(bytes)),
        4 => {
            // Whoever writes a digest can write a learner; it holds or it is refused.
            let mut whole = bytes.to_vec();
            whole.extend_from_slice(&digest_of(bytes));
            if let Ok(learner) = Tabular::load(&whole) {
                let written = learner.save();
                let again = Tabular::load(&written).expect("what was written is read");
                assert_eq!(again.save(), written);
            }
        }
        _ => event(usize::from(which - 5), bytes),
    }
}

fn value(bytes: &[u8]) {
    let Ok(value) = cbor::decode::<Value>("value", bytes) else { return };
    // ciborium writes a tag inside a tag for big numbers as what it reads as something else. Nothing of ours has tags.
    if has_tags(&value) {
        return;
    }
    let written = cbor::encode(&value);
    let again: Value = cbor::decode("value", &written).expect("what was written is read");
    assert_eq!(cbor::encode(&again), written);
    if let Ok(named) = cbor::decode::<ByName<u64>>("numbers", bytes) {
        assert_eq!(cbor::decode::<ByName<u64>>("numbers", &cbor::encode(&named)), Ok(named));
    }
}

fn has_tags(value: &Value) -> bool {
    match value {
        Value::Tag(..) => true,
        Value::Array(items) => items.iter().any(has_tags),
        Value::Map(entries) => entries.iter().any(|(key, item)| has_tags(key) || has_tags(item)),
        _ => false,
    }
}

fn event(which: usize, payload: &[u8]) {
    let kind = EVENTS[which % EVENTS.len()];
    let schema = (which / EVENTS.len()) as u32 % (SCHEMA + 2);
    let version = |number: u32| VERSIONS.iter().find(|(known, _)| *known == number).map(|(_, made)| Arc::clone(made));
    let written = Written { kind, schema, at_ms: 1_700_000_000_000, payload };
    let Ok(event) = Event::decode(&written, version) else { return };
    assert!((1..=SCHEMA).contains(&schema), "schema {schema} is not known");
    assert_eq!(event.kind(), kind);
    if schema != SCHEMA {
        return;
    }
    // What is written by numbers has a definition, so it can be written again: to what says the same.
    let number = match &event {
        Event::Decided(decided) => decided.capsule_version,
        Event::OutcomeReceived(outcome) | Event::HorizonPassed(outcome) => outcome.capsule_version,
        Event::Installed(_) | Event::LearningChanged(_) => 1,
    };
    let bytes = event.encode(&version(number).expect("it was decoded with it"));
    let again = Event::decode(&Written { payload: &bytes, ..written }, version).expect("what was written is read");
    assert_eq!(format!("{again:?}"), format!("{event:?}"));
}

/// The end of a saved learner.
fn digest_of(bytes: &[u8]) -> Vec<u8> {
    let hex = cbor::digest(bytes);
    let digits = hex.strip_prefix("b2:").expect("so a digest is shown").as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16).expect("a digit") as u8;
    digits.chunks_exact(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}
