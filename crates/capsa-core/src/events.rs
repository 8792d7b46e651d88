//! The payloads of the events that a capsule's state is folded from.
//!
//! Everything stands in them by name, so that a record can be read without the version that
//! wrote it. Unknown fields are refused; an addition raises [`SCHEMA`].
//!
//! Struct fields are declared in the order of (length, bytes) of their names: the deterministic
//! order of encoded map keys. A test holds every payload to it.

use serde::{Deserialize, Serialize};

use crate::cbor::{self, ByName, Bytes16, DecodeError};
use crate::decide::Reason;
use crate::definition::Mode;

/// The version of the event format.
pub const SCHEMA: u32 = 1;

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
}

impl Event {
    /// The event's type, as its header names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Installed(_) => "installed",
            Event::LearningChanged(_) => "learning_changed",
            Event::Decided(_) => "decided",
            Event::OutcomeReceived(_) => "outcome_received",
        }
    }

    /// The payload's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Event::Installed(payload) => cbor::encode(payload),
            Event::LearningChanged(payload) => cbor::encode(payload),
            Event::Decided(payload) => cbor::encode(payload),
            Event::OutcomeReceived(payload) => cbor::encode(payload),
        }
    }

    /// Reads a payload of the named type.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the type is not known or the bytes are not such a payload.
    pub fn decode(kind: &str, payload: &[u8]) -> Result<Self, DecodeError> {
        match kind {
            "installed" => cbor::decode("installed event", payload).map(Event::Installed),
            "learning_changed" => cbor::decode("learning_changed event", payload).map(Event::LearningChanged),
            "decided" => cbor::decode("decided event", payload).map(|decided| Event::Decided(Box::new(decided))),
            "outcome_received" => cbor::decode("outcome_received event", payload).map(Event::OutcomeReceived),
            other => Err(DecodeError { what: "known event", why: format!("its type is {other:?}") }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
                    probabilities: shares.clone(),
                }),
                propensity: None,
                deadline_ms: 99,
                probabilities: Some(shares),
                capsule_version: 3,
                learner_version: 12,
            })),
            Event::OutcomeReceived(OutcomeReceived {
                id: Some(Bytes16([7; 16])),
                key: "legal".into(),
                made: names(&[("choice", "a")]),
                taken: Some(names(&[])),
                reward: Some(0.1),
                status: Status::Applied,
                capsule: "router".into(),
                metrics: [("quality".to_owned(), 0.5)].into_iter().collect(),
                delay_ms: Some(4),
                capsule_version: 3,
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

    #[test]
    fn every_payload_is_deterministic_cbor_and_reads_back() {
        for event in one_of_each() {
            let bytes = event.encode();
            let value: ciborium::Value = cbor::decode("value", &bytes).unwrap();
            assert_eq!(cbor::encode(&canonical(value)), bytes, "{}", event.kind());
            assert_eq!(Event::decode(event.kind(), &bytes).unwrap(), event);
        }
    }

    #[test]
    fn an_unknown_field_or_type_is_refused() {
        let value = ciborium::Value::Map(vec![("surprise".into(), 1.into())]);
        for event in one_of_each() {
            assert!(Event::decode(event.kind(), &cbor::encode(&value)).is_err());
        }
        assert!(Event::decode("invented", &[0xa0]).is_err());
    }
}
