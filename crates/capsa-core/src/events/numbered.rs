//! Payloads in numbers: what is written by the million.
//!
//! Since schema 2 the payloads of decisions and of their feedback are CBOR maps whose keys are small numbers, as in
//! COSE (RFC 9052), and name strategies and options by their number in the capsule version that the payload names.
//! A decision with its feedback so takes half the bytes. The numbers are written down in docs/journal.md; none is
//! ever given another meaning. What is usual is left out.
//!
//! In memory everything stands by name: an option's number means something with its version only.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize};

use super::{Decided, KeyFrom, OutcomeReceived, Status, Suggested};
use crate::cbor::{self, ByName, Bytes16, DecodeError};
use crate::decide::Reason;
use crate::definition::{Definition, Horizon, Mode, Strategy};

/// A struct as a CBOR map with numbers as keys, in ascending order; `None` is left out.
macro_rules! numbered {
    ($(#[$about:meta])* $name:ident, $what:literal { $($number:literal $field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        struct $name { $($field: Option<$kind>,)* }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let count = 0 $(+ usize::from(self.$field.is_some()))*;
                let mut map = serializer.serialize_map(Some(count))?;
                $(if let Some(value) = &self.$field { map.serialize_entry(&($number as u8), value)?; })*
                map.end()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;
                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut fields = $name::default();
                        let mut last = None;
                        while let Some(number) = map.next_key::<u8>()? {
                            if last >= Some(number) {
                                return Err(serde::de::Error::custom("its fields are not in order"));
                            }
                            last = Some(number);
                            match number {
                                $($number => fields.$field = Some(map.next_value()?),)*
                                other => return Err(serde::de::Error::custom(format!("it has a field {other}"))),
                            }
                        }
                        Ok(fields)
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }
    };
}

numbered! {
    /// A decision.
    DecidedFields, "a decided event" {
        0 id: Bytes16,
        1 key: String,
        2 capsule_version: u32,
        3 options: Vec<u32>,
        4 learner_version: u64,
        5 horizon_ms: i64,
        6 probabilities: Vec<f64>,
        7 propensity: f64,
        8 mode: u8,
        9 reason: u8,
        10 key_from: u8,
        11 allowed: Vec<Vec<u32>>,
        12 current: Vec<u32>,
        13 unknown: Vec<String>,
        14 other: ByName<String>,
        15 suggested: (Vec<u32>, f64, Vec<f64>, u8),
        16 baseline: Vec<u32>,
        17 subject: Bytes16,
        18 defaults: ByName<f64>,
    }
}

numbered! {
    /// An outcome, whether somebody sent it or the horizon brought it.
    OutcomeFields, "an outcome event" {
        0 id: Bytes16,
        1 key: String,
        2 capsule_version: u32,
        3 made: Vec<Option<u32>>,
        4 metrics: ByName<f64>,
        5 reward: f64,
        6 status: u8,
        7 answered: Vec<u32>,
        8 horizon_ms: i64,
        9 again: bool,
        10 decided_at: u64,
        11 declared: Vec<f64>,
    }
}

const MODES: [Mode; 2] = [Mode::Live, Mode::Shadow];
const REASONS: [Reason; 6] =
    [Reason::Learned, Reason::Explored, Reason::Frozen, Reason::Baseline, Reason::Current, Reason::OnlyOption];
const SOURCES: [KeyFrom; 2] = [KeyFrom::Input, KeyFrom::Request];
const STATUSES: [Status; 6] =
    [Status::Applied, Status::Pending, Status::Late, Status::Frozen, Status::Kept, Status::Expired];

/// The payload of a decision. `version` is the definition of the version it names.
pub fn encode_decided(decided: &Decided, version: &Definition) -> Vec<u8> {
    let strategies = &version.strategies;
    let numbers = |options: &ByName<String>| numbers(strategies, options);
    let shares = |shares: &ByName<Vec<f64>>| -> Vec<f64> {
        strategies.iter().flat_map(|strategy| shares.0.get(&strategy.name).cloned().unwrap_or_default()).collect()
    };
    let baseline = numbers(&decided.baseline);
    let fields = DecidedFields {
        id: Some(decided.id),
        key: Some(decided.key.clone()),
        capsule_version: Some(decided.capsule_version),
        options: Some(numbers(&decided.options)),
        learner_version: Some(decided.learner_version),
        horizon_ms: horizon(decided.id, decided.deadline_ms, version),
        probabilities: decided.probabilities.as_ref().map(shares),
        propensity: decided.propensity.filter(|&propensity| drawn_with(decided, version) != Some(propensity)),
        mode: code(&MODES, decided.mode),
        reason: code(&REASONS, decided.reason),
        key_from: code(&SOURCES, decided.key_from),
        allowed: decided.allowed.as_ref().map(|allowed| {
            strategies.iter().map(|strategy| allowed.0.get(&strategy.name).cloned().unwrap_or_default()).collect()
        }),
        current: decided.current.as_ref().map(numbers),
        unknown: decided.unknown.clone(),
        other: decided.other.clone(),
        suggested: decided.suggested.as_ref().map(|suggested| {
            let reason = code(&REASONS, suggested.reason).unwrap_or_default();
            (numbers(&suggested.options), suggested.propensity, shares(&suggested.probabilities), reason)
        }),
        baseline: (baseline != declared_baseline(strategies)).then_some(baseline),
        subject: decided.subject,
        defaults: decided.defaults.clone(),
    };
    cbor::encode(&fields)
}

/// Reads what [`encode_decided`] wrote.
///
/// # Errors
///
/// [`DecodeError`] if the bytes are no decision, or of a version that `versions` does not know.
pub fn decode_decided<V: AsRef<Definition>>(
    payload: &[u8],
    versions: impl Fn(u32) -> Option<V>,
) -> Result<Decided, DecodeError> {
    const WHAT: &str = "decided event";
    let fields: DecidedFields = cbor::decode(WHAT, payload)?;
    let capsule_version = needed(WHAT, fields.capsule_version)?;
    let version = of_version(WHAT, capsule_version, versions)?;
    let version = version.as_ref();
    let strategies = &version.strategies;
    let id = needed(WHAT, fields.id)?;
    let names = |numbers: Vec<u32>| names(WHAT, strategies, &numbers);
    let shares = |shares: Vec<f64>| by_strategy(WHAT, strategies, shares);
    let baseline = fields.baseline.unwrap_or_else(|| declared_baseline(strategies));
    let allowed = match fields.allowed {
        Some(lists) if lists.len() != strategies.len() => return Err(unfit(WHAT)),
        Some(lists) => Some(strategies.iter().map(|strategy| strategy.name.clone()).zip(lists).collect()),
        None => None,
    };
    let mut decided = Decided {
        id,
        key: needed(WHAT, fields.key)?,
        mode: decoded(WHAT, &MODES, fields.mode)?,
        other: fields.other,
        reason: decoded(WHAT, &REASONS, fields.reason)?,
        allowed,
        capsule: version.name.clone(),
        current: fields.current.map(names).transpose()?,
        options: names(needed(WHAT, fields.options)?)?,
        unknown: fields.unknown,
        baseline: names(baseline)?,
        key_from: decoded(WHAT, &SOURCES, fields.key_from)?,
        suggested: match fields.suggested {
            Some((options, propensity, probabilities, reason)) => Some(Suggested {
                reason: decoded(WHAT, &REASONS, Some(reason))?,
                options: names(options)?,
                propensity,
                probabilities: shares(probabilities)?,
            }),
            None => None,
        },
        propensity: fields.propensity,
        deadline_ms: deadline(id, fields.horizon_ms, version),
        probabilities: fields.probabilities.map(shares).transpose()?,
        capsule_version,
        learner_version: needed(WHAT, fields.learner_version)?,
        subject: fields.subject,
        defaults: fields.defaults,
    };
    decided.propensity = decided.propensity.or_else(|| drawn_with(&decided, version));
    Ok(decided)
}

/// The payload of an outcome. `version` is the definition of the version it names.
pub fn encode_outcome(outcome: &OutcomeReceived, version: &Definition) -> Vec<u8> {
    let strategies = &version.strategies;
    let made = if outcome.made.0.is_empty() {
        Vec::new()
    } else {
        strategies.iter().map(|strategy| number(strategy, outcome.made.0.get(&strategy.name))).collect()
    };
    let declared = declared_metrics(outcome, version);
    let fields = OutcomeFields {
        id: outcome.id,
        key: Some(outcome.key.clone()),
        capsule_version: Some(outcome.capsule_version),
        made: Some(made),
        metrics: (declared.is_none() && !outcome.metrics.0.is_empty()).then(|| outcome.metrics.clone()),
        reward: outcome.reward,
        status: code(&STATUSES, outcome.status),
        answered: outcome.answered.as_ref().filter(|_| outcome.taken.is_some()).map(|named| numbers(strategies, named)),
        horizon_ms: outcome.id.zip(outcome.deadline_ms).and_then(|(id, end_ms)| horizon(id, end_ms, version)),
        again: outcome.again.then_some(true),
        decided_at: outcome.decided_at,
        declared,
    };
    cbor::encode(&fields)
}

/// Reads what [`encode_outcome`] wrote. `at_ms` is the time in the event's header.
///
/// # Errors
///
/// As [`decode_decided`].
pub fn decode_outcome<V: AsRef<Definition>>(
    payload: &[u8],
    at_ms: u64,
    versions: impl Fn(u32) -> Option<V>,
) -> Result<OutcomeReceived, DecodeError> {
    const WHAT: &str = "outcome event";
    let fields: OutcomeFields = cbor::decode(WHAT, payload)?;
    let capsule_version = needed(WHAT, fields.capsule_version)?;
    let version = of_version(WHAT, capsule_version, versions)?;
    let version = version.as_ref();
    let strategies = &version.strategies;
    let numbers = needed(WHAT, fields.made)?;
    if !(numbers.is_empty() || numbers.len() == strategies.len()) {
        return Err(unfit(WHAT));
    }
    let mut made = ByName::default();
    for (strategy, number) in strategies.iter().zip(numbers) {
        let Some(number) = number else { continue };
        made.0.insert(strategy.name.clone(), name(WHAT, strategy, number)?);
    }
    let answered = fields.answered.map(|numbers| names(WHAT, strategies, &numbers)).transpose()?;
    Ok(OutcomeReceived {
        id: fields.id,
        key: needed(WHAT, fields.key)?,
        taken: answered.is_some().then(|| made.clone()),
        made,
        reward: fields.reward,
        status: decoded(WHAT, &STATUSES, fields.status)?,
        capsule: version.name.clone(),
        metrics: match fields.declared {
            Some(values) => named_metrics(WHAT, values, version)?,
            None => fields.metrics.unwrap_or_default(),
        },
        delay_ms: fields.id.map(|id| at_ms.saturating_sub(id.time_ms())),
        capsule_version,
        deadline_ms: fields.id.map(|id| deadline(id, fields.horizon_ms, version)),
        answered,
        again: fields.again.unwrap_or_default(),
        decided_at: fields.decided_at,
    })
}

/// The probability of what was answered, where the record of one strategy shows it.
fn drawn_with(decided: &Decided, version: &Definition) -> Option<f64> {
    let [only] = version.strategies.as_slice() else { return None };
    let shares = decided.probabilities.as_ref()?.0.get(&only.name)?;
    let option = number(only, decided.options.0.get(&only.name))?;
    shares.get(option as usize).copied()
}

/// From the decision to the end of its horizon, where that is not what its version declares.
fn horizon(id: Bytes16, deadline_ms: u64, version: &Definition) -> Option<i64> {
    let span_ms = deadline_ms as i64 - id.time_ms() as i64;
    (span_ms != declared_horizon(version)).then_some(span_ms)
}

fn deadline(id: Bytes16, horizon_ms: Option<i64>, version: &Definition) -> u64 {
    id.time_ms().saturating_add_signed(horizon_ms.unwrap_or_else(|| declared_horizon(version)))
}

fn declared_horizon(version: &Definition) -> i64 {
    version.horizon.as_ref().map_or(0, Horizon::after_ms) as i64
}

/// The values of a post of exactly the declared metrics, in the order of their names.
fn declared_metrics(outcome: &OutcomeReceived, version: &Definition) -> Option<Vec<f64>> {
    let declared = version.reward.as_ref()?;
    declared.keys().eq(outcome.metrics.0.keys()).then(|| outcome.metrics.0.values().copied().collect())
}

fn named_metrics(what: &'static str, values: Vec<f64>, version: &Definition) -> Result<ByName<f64>, DecodeError> {
    let declared = version.reward.as_ref().filter(|declared| declared.len() == values.len());
    Ok(declared.ok_or_else(|| unfit(what))?.keys().cloned().zip(values).collect())
}

/// The place in a list of codes; the first one is usual, and left out.
fn code<T: PartialEq>(codes: &[T], value: T) -> Option<u8> {
    let at = codes.iter().position(|code| *code == value).expect("every recorded value has a code");
    (at > 0).then_some(at as u8)
}

fn decoded<T: Copy>(what: &'static str, codes: &[T], code: Option<u8>) -> Result<T, DecodeError> {
    codes.get(usize::from(code.unwrap_or_default())).copied().ok_or_else(|| unfit(what))
}

fn number(strategy: &Strategy, option: Option<&String>) -> Option<u32> {
    strategy.options.iter().position(|known| Some(known) == option).map(|at| at as u32)
}

fn name(what: &'static str, strategy: &Strategy, number: u32) -> Result<String, DecodeError> {
    strategy.options.get(number as usize).cloned().ok_or_else(|| unfit(what))
}

/// An option of each strategy, as numbers. Every option of a decision is one of its version.
fn numbers(strategies: &[Strategy], options: &ByName<String>) -> Vec<u32> {
    strategies
        .iter()
        .map(|strategy| number(strategy, options.0.get(&strategy.name)).expect("an option of its version"))
        .collect()
}

fn names(what: &'static str, strategies: &[Strategy], numbers: &[u32]) -> Result<ByName<String>, DecodeError> {
    if numbers.len() != strategies.len() {
        return Err(unfit(what));
    }
    (strategies.iter().zip(numbers))
        .map(|(strategy, &number)| Ok((strategy.name.clone(), name(what, strategy, number)?)))
        .collect()
}

fn by_strategy(what: &'static str, strategies: &[Strategy], shares: Vec<f64>) -> Result<ByName<Vec<f64>>, DecodeError> {
    if shares.len() != strategies.iter().map(|strategy| strategy.options.len()).sum::<usize>() {
        return Err(unfit(what));
    }
    let mut rest = shares.as_slice();
    let mut named = ByName::default();
    for strategy in strategies {
        let (these, others) = rest.split_at(strategy.options.len());
        named.0.insert(strategy.name.clone(), these.to_vec());
        rest = others;
    }
    Ok(named)
}

fn declared_baseline(strategies: &[Strategy]) -> Vec<u32> {
    strategies.iter().map(|strategy| number(strategy, strategy.baseline.as_ref()).unwrap_or_default()).collect()
}

fn of_version<V>(what: &'static str, number: u32, versions: impl Fn(u32) -> Option<V>) -> Result<V, DecodeError> {
    versions(number).ok_or_else(|| DecodeError { what, why: format!("version {number} was never installed") })
}

fn needed<T>(what: &'static str, field: Option<T>) -> Result<T, DecodeError> {
    field.ok_or_else(|| DecodeError { what, why: "a field is missing".to_owned() })
}

fn unfit(what: &'static str) -> DecodeError {
    DecodeError { what, why: "it does not fit the capsule version that it names".to_owned() }
}
