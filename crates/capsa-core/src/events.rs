//! The payloads of the events that a capsule's state is folded from.
//!
//! Unknown fields are refused; an addition raises [`SCHEMA`]. What is rare is written by name; decisions and their
//! feedback, since schema 2, in numbers ([`numbered`]). Schema 1 wrote them by name, too, and is still read.
//!
//! Struct fields are declared in the order of (length, bytes) of their names: the deterministic
//! order of encoded map keys. A test holds every payload to it.

use serde::{Deserialize, Serialize};

use crate::cbor::{self, ByName, Bytes16, DecodeError};
use crate::decide::Reason;
use crate::definition::{Definition, Horizon, Mode};

mod numbered;

/// The version of the event format that is written.
pub const SCHEMA: u32 = 2;
/// The oldest version that is read.
pub const OLDEST_SCHEMA: u32 = 1;

/// A component became the capsule's current version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// The component's digest.
    pub digest: String,
    /// The capsule's name.
    pub capsule: String,
    /// The host's number of this version, from 1.
    pub version: u32,
    /// The definition with every default written down, as JSON.
    pub definition: String,
    /// The component's size.
    pub size_bytes: u64,
}

/// The operator changed how a capsule learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningChanged {
    /// The capsule's name.
    pub capsule: String,
    /// The dotted names of what changed.
    pub changed: Vec<String>,
    /// Every override in force from here on, as JSON.
    pub overrides: String,
}

/// What the learner would have done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suggested {
    /// Why.
    pub reason: Reason,
    /// An option of each strategy.
    pub options: ByName<String>,
    /// The probability with which they were drawn, together.
    pub propensity: f64,
    /// The distribution of each strategy, in option order of the capsule version.
    pub probabilities: ByName<Vec<f64>>,
}

/// A decision was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// The decision's nonce.
    pub id: Bytes16,
    /// The context key.
    pub key: String,
    /// The mode in force.
    pub mode: Mode,
    /// Declared contexts with an undeclared value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<ByName<String>>,
    /// Why this option.
    pub reason: Reason,
    /// The numbers of the allowed options by strategy; absent = all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<ByName<Vec<u32>>>,
    /// The capsule's name.
    pub capsule: String,
    /// What the application would have done by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<ByName<String>>,
    /// What was answered: an option of each strategy.
    pub options: ByName<String>,
    /// Declared contexts that the input lacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<Vec<String>>,
    /// The baseline by strategy.
    pub baseline: ByName<String>,
    /// Where the key comes from.
    pub key_from: KeyFrom,
    /// In shadow: what the learner would have done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested: Option<Suggested>,
    /// The probability with which the answer was drawn, all strategies together; null where
    /// the host did not draw it.
    pub propensity: Option<f64>,
    /// When the horizon ends, milliseconds since 1970.
    pub deadline_ms: u64,
    /// The distribution that was drawn from, in option order of the capsule version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<ByName<Vec<f64>>>,
    /// The capsule's version.
    pub capsule_version: u32,
    /// The learner version that the distribution comes from.
    pub learner_version: u64,
    /// Whom it is about: a keyed hash.
    #[serde(skip)]
    pub subject: Option<Bytes16>,
    /// What metrics are worth that were not sent until the horizon, where that was declared.
    #[serde(skip)]
    pub defaults: Option<ByName<f64>>,
}

/// Where a context key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFrom {
    /// The capsule computed it.
    Input,
    /// The caller gave it.
    Request,
}

/// What became of a feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Learned.
    Applied,
    /// Some metrics are still awaited.
    Pending,
    /// After the horizon: kept, not learned.
    Late,
    /// Learning is frozen: kept, not learned.
    Frozen,
    /// Something else was carried out, or nothing: kept, not learned.
    Kept,
    /// The horizon passed, and metrics without a declared default are missing: nothing is learned.
    Expired,
}

/// Feedback arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeReceived {
    /// The decision's nonce; absent for an outcome of a choice that was not asked for here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Bytes16>,
    /// The context key that is credited.
    pub key: String,
    /// The option of each strategy that is credited; empty where none was carried out.
    pub made: ByName<String>,
    /// What the caller said was carried out, if it did; empty = none of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<ByName<String>>,
    /// The reward, once it is known. The fold never runs a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
    /// What became of it.
    pub status: Status,
    /// The capsule's name.
    pub capsule: String,
    /// The metrics of this post; empty with a plain reward.
    pub metrics: ByName<f64>,
    /// From decision to this post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// The capsule version of the decision.
    pub capsule_version: u32,
    /// When the decision's horizon ends; unknown of what schema 1 wrote.
    #[serde(skip)]
    pub deadline_ms: Option<u64>,
    /// The decision's position in the stream; unknown of what schema 1 wrote.
    #[serde(skip)]
    pub decided_at: Option<u64>,
    /// What was answered, where something else was carried out.
    #[serde(skip)]
    pub answered: Option<ByName<String>>,
    /// Late feedback of a decision that awaited none, or of which that is no longer known.
    #[serde(skip)]
    pub again: bool,
}

/// One event's payload.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// See [`Installed`].
    Installed(Installed),
    /// See [`LearningChanged`].
    LearningChanged(LearningChanged),
    /// See [`Decided`].
    Decided(Box<Decided>),
    /// See [`OutcomeReceived`].
    OutcomeReceived(OutcomeReceived),
    /// What the horizon brought: the declared defaults of what nobody sent, or the end of waiting.
    HorizonPassed(OutcomeReceived),
}

impl Event {
    /// The event's type, as its header names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Installed(_) => "installed",
            Event::LearningChanged(_) => "learning_changed",
            Event::Decided(_) => "decided",
            Event::OutcomeReceived(_) => "outcome_received",
            Event::HorizonPassed(_) => "horizon_passed",
        }
    }

    /// The payload's bytes. `version` is the definition of the capsule version that a decision or an outcome names;
    /// other payloads do not look at it.
    pub fn encode(&self, version: &Definition) -> Vec<u8> {
        match self {
            Event::Installed(payload) => cbor::encode(payload),
            Event::LearningChanged(payload) => cbor::encode(payload),
            Event::Decided(payload) => payload.encode(version),
            Event::OutcomeReceived(payload) | Event::HorizonPassed(payload) => payload.encode(version),
        }
    }

    /// Reads a payload. `versions` gives the definition of a capsule version that was installed.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if schema or type are not known or the bytes are not such a payload.
    pub fn decode<V: AsRef<Definition>>(
        written: &Written<'_>,
        versions: impl Fn(u32) -> Option<V>,
    ) -> Result<Self, DecodeError> {
        let &Written { kind, schema, at_ms, payload } = written;
        match (kind, schema) {
            ("installed", OLDEST_SCHEMA..=SCHEMA) => cbor::decode("installed event", payload).map(Event::Installed),
            ("learning_changed", OLDEST_SCHEMA..=SCHEMA) => {
                cbor::decode("learning_changed event", payload).map(Event::LearningChanged)
            }
            ("decided", 1) => cbor::decode("decided event", payload).map(|decided| Event::Decided(Box::new(decided))),
            ("outcome_received", 1) => {
                let mut outcome: OutcomeReceived = cbor::decode("outcome_received event", payload)?;
                // It did not say when the horizon ended: what its version declares, an override apart.
                let declared = versions(outcome.capsule_version)
                    .and_then(|version| version.as_ref().horizon.as_ref().map(Horizon::after_ms));
                outcome.deadline_ms =
                    outcome.id.zip(declared).map(|(id, after_ms)| id.time_ms().saturating_add(after_ms));
                Ok(Event::OutcomeReceived(outcome))
            }
            ("decided", 2) => {
                numbered::decode_decided(payload, versions).map(|decided| Event::Decided(Box::new(decided)))
            }
            ("outcome_received", 2) => numbered::decode_outcome(payload, at_ms, versions).map(Event::OutcomeReceived),
            ("horizon_passed", 2) => numbered::decode_outcome(payload, at_ms, versions).map(Event::HorizonPassed),
            (other, schema) => {
                Err(DecodeError { what: "known event", why: format!("its type is {other:?}, its schema {schema}") })
            }
        }
    }
}

impl Decided {
    /// The payload's bytes. `version` is the definition of the capsule version that is named.
    pub fn encode(&self, version: &Definition) -> Vec<u8> {
        numbered::encode_decided(self, version)
    }
}

impl OutcomeReceived {
    /// The payload's bytes. `version` is the definition of the capsule version that is named.
    pub fn encode(&self, version: &Definition) -> Vec<u8> {
        numbered::encode_outcome(self, version)
    }
}

/// An event as the journal gives it.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// Its type.
    pub kind: &'a str,
    /// The version of the format it was written in.
    pub schema: u32,
    /// The time in its header, milliseconds since 1970.
    pub at_ms: u64,
    /// Its payload.
    pub payload: &'a [u8],
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;

    fn names(pairs: &[(&str, &str)]) -> ByName<String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn one_of_each() -> Vec<Event> {
        let shares: ByName<Vec<f64>> = [("choice".to_owned(), vec![0.25, 0.75])].into_iter().collect();
        vec![
            Event::Installed(Installed {
                digest: "b2:00".into(),
                capsule: "router".into(),
                version: 1,
                definition: "{}".into(),
                size_bytes: 900,
            }),
            Event::LearningChanged(LearningChanged {
                capsule: "router".into(),
                changed: vec!["rails.freeze".into()],
                overrides: "{}".into(),
            }),
            Event::Decided(Box::new(Decided {
                id: Bytes16([7; 16]),
                key: "legal".into(),
                mode: Mode::Shadow,
                other: Some(names(&[("tier", "gold")])),
                reason: Reason::Current,
                allowed: Some([("choice".to_owned(), vec![0, 1])].into_iter().collect()),
                capsule: "router".into(),
                current: Some(names(&[("choice", "a")])),
                options: names(&[("choice", "a")]),
                unknown: Some(vec!["urgency".into()]),
                baseline: names(&[("choice", "b")]),
                key_from: KeyFrom::Input,
                suggested: Some(Suggested {
                    reason: Reason::Learned,
                    options: names(&[("choice", "b")]),
                    propensity: 0.75,
                    probabilities: shares,
                }),
                propensity: None,
                deadline_ms: Bytes16([7; 16]).time_ms() + 99,
                probabilities: None,
                capsule_version: 3,
                learner_version: 12,
                subject: Some(Bytes16([8; 16])),
                defaults: Some([("quality".to_owned(), 0.0)].into_iter().collect()),
            })),
            Event::OutcomeReceived(OutcomeReceived {
                id: Some(Bytes16([7; 16])),
                key: "legal".into(),
                made: names(&[("choice", "a")]),
                taken: Some(names(&[("choice", "a")])),
                reward: Some(0.1),
                status: Status::Applied,
                capsule: "router".into(),
                metrics: [("quality".to_owned(), 0.5)].into_iter().collect(),
                delay_ms: Some(4),
                capsule_version: 3,
                deadline_ms: Some(Bytes16([7; 16]).time_ms() + 99),
                decided_at: Some(11),
                answered: Some(names(&[("choice", "b")])),
                again: true,
            }),
        ]
    }

    /// Sorts every map by its encoded keys: what a deterministic encoder would write.
    fn canonical(value: ciborium::Value) -> ciborium::Value {
        match value {
            ciborium::Value::Map(entries) => {
                let mut entries: Vec<_> = entries.into_iter().map(|(k, v)| (k, canonical(v))).collect();
                entries.sort_by_key(|(key, _)| cbor::encode(key));
                ciborium::Value::Map(entries)
            }
            ciborium::Value::Array(items) => ciborium::Value::Array(items.into_iter().map(canonical).collect()),
            other => other,
        }
    }

    fn version() -> Arc<Definition> {
        let text = r#"{"schema": 1, "kind": "decision", "name": "router",
            "strategies": [{"name": "choice", "options": ["a", "b"], "baseline": "a"}]}"#;
        Arc::new(Definition::from_json(text.as_bytes()).unwrap().filled().unwrap())
    }

    fn read(kind: &str, schema: u32, payload: &[u8]) -> Result<Event, DecodeError> {
        let at_ms = Bytes16([7; 16]).time_ms() + 4;
        Event::decode(&Written { kind, schema, at_ms, payload }, |number| (number == 3).then(version))
    }

    #[test]
    fn every_payload_is_deterministic_cbor_and_reads_back() {
        for event in one_of_each() {
            let bytes = event.encode(&version());
            let value: ciborium::Value = cbor::decode("value", &bytes).unwrap();
            assert_eq!(cbor::encode(&canonical(value)), bytes, "{}", event.kind());
            assert_eq!(read(event.kind(), SCHEMA, &bytes).unwrap(), event);
        }
    }

    /// What the version declares is left out: the horizon, and the names of metrics that are all there.
    #[test]
    fn what_is_declared_is_not_repeated() {
        let mut declared = Definition::clone(&version());
        declared.reward = serde_json::from_str(r#"{"cost": {"weight": -0.5}, "quality": {"weight": 0.5}}"#).unwrap();
        let horizon_ms = declared.horizon.as_ref().unwrap().after_ms();
        let Event::OutcomeReceived(rare) = one_of_each().remove(3) else { unreachable!() };
        let usual = OutcomeReceived {
            metrics: [("quality".to_owned(), 0.1), ("cost".to_owned(), 0.7)].into_iter().collect(),
            deadline_ms: Some(Bytes16([7; 16]).time_ms() + horizon_ms),
            ..rare
        };
        let bytes = usual.encode(&declared);
        assert!(!bytes.windows(7).any(|window| window == b"quality"));
        let at_ms = Bytes16([7; 16]).time_ms() + 4;
        let written = Written { kind: "outcome_received", schema: SCHEMA, at_ms, payload: &bytes };
        let declared = Arc::new(declared);
        let again = Event::decode(&written, |_| Some(Arc::clone(&declared))).unwrap();
        assert_eq!(again, Event::OutcomeReceived(usual));
        // In a version that declares none they mean nothing.
        assert!(Event::decode(&written, |_| Some(version())).is_err());
    }

    /// What schema 1 wrote by name reads as what it was.
    #[test]
    fn schema_1_is_read() {
        for event in one_of_each() {
            let (bytes, known) = match event.clone() {
                Event::Decided(decided) => {
                    let known = Decided { subject: None, defaults: None, ..*decided.clone() };
                    (cbor::encode(&decided), Event::Decided(Box::new(known)))
                }
                Event::OutcomeReceived(outcome) => {
                    let bytes = cbor::encode(&outcome);
                    let declared_ms = version().horizon.as_ref().unwrap().after_ms();
                    let known = OutcomeReceived {
                        deadline_ms: Some(Bytes16([7; 16]).time_ms() + declared_ms),
                        decided_at: None,
                        answered: None,
                        again: false,
                        ..outcome
                    };
                    (bytes, Event::OutcomeReceived(known))
                }
                other => (other.encode(&version()), other),
            };
            assert_eq!(read(event.kind(), 1, &bytes).unwrap(), known);
        }
    }

    #[test]
    fn an_unknown_field_type_version_or_schema_is_refused() {
        let named = cbor::encode(&ciborium::Value::Map(vec![("surprise".into(), 1.into())]));
        let numbered = cbor::encode(&ciborium::Value::Map(vec![(23.into(), 1.into())]));
        for event in one_of_each() {
            let bytes = event.encode(&version());
            for (schema, payload) in [(1, &named), (2, &named), (2, &numbered), (0, &bytes), (SCHEMA + 1, &bytes)] {
                assert!(read(event.kind(), schema, payload).is_err(), "{}", event.kind());
            }
            let cut = &bytes[..bytes.len() - 1];
            assert!(read(event.kind(), SCHEMA, cut).is_err());
        }
        assert!(read("invented", SCHEMA, &[0xa0]).is_err());
        let Event::Decided(mut decided) = one_of_each().remove(2) else { unreachable!() };
        decided.capsule_version = 4;
        let error = read("decided", SCHEMA, &decided.encode(&version())).unwrap_err();
        assert!(error.why.contains("version 4 was never installed"));
    }

    /// Numbers that mean nothing in the version they name.
    #[test]
    fn what_does_not_fit_its_version_is_refused() {
        let Event::Decided(decided) = one_of_each().remove(2) else { unreachable!() };
        let value: ciborium::Value = cbor::decode("value", &decided.encode(&version())).unwrap();
        let ciborium::Value::Map(fields) = value else { unreachable!() };
        let wrong = [
            (3, ciborium::Value::Array(vec![2.into()])),
            (3, ciborium::Value::Array(vec![0.into(), 0.into()])),
            (6, ciborium::Value::Array(vec![0.5.into()])),
            (8, 9.into()),
            (9, 99.into()),
            (11, ciborium::Value::Array(vec![])),
            (12, ciborium::Value::Array(vec![7.into()])),
        ];
        for (number, value) in wrong {
            let mut changed = fields.clone();
            changed.retain(|(key, _)| *key != number.into());
            changed.push((number.into(), value));
            changed.sort_by_key(|(key, _)| cbor::encode(key));
            let bytes = cbor::encode(&ciborium::Value::Map(changed));
            assert!(read("decided", SCHEMA, &bytes).is_err(), "field {number}");
        }
        let swapped: Vec<_> = fields.iter().rev().cloned().collect();
        assert!(read("decided", SCHEMA, &cbor::encode(&ciborium::Value::Map(swapped))).is_err());
    }
}
