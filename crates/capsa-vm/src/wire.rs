//! The world's types as wasmtime passes them: `wit/capsule.wit`, name by name.
//!
//! What goes to the guest is borrowed from the caller and written straight into the guest's
//! memory; what comes back is owned and becomes the plain types of `capsa_core::world`.

use capsa_core::world::{Candidate, Choice, Made, Value};
use wasmtime::component::{ComponentType, Lift, Lower};

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(variant)]
pub(crate) enum ValueRef<'a> {
    #[component(name = "text")]
    Text(&'a str),
    #[component(name = "number")]
    Number(f64),
    #[component(name = "flag")]
    Flag(bool),
    #[component(name = "texts")]
    Texts(&'a [String]),
    #[component(name = "numbers")]
    Numbers(&'a [f64]),
}

pub(crate) type FieldRef<'a> = (&'a str, ValueRef<'a>);

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct MadeRef<'a> {
    strategy: &'a str,
    option: &'a str,
    key: &'a str,
    propensity: Option<f64>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct LiftedCandidate {
    name: String,
    features: Vec<f32>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct LiftedChoice {
    strategy: String,
    key: String,
    features: Vec<f32>,
    allowed: Option<Vec<bool>>,
    candidates: Vec<LiftedCandidate>,
}

pub(crate) fn fields(fields: &[(String, Value)]) -> Vec<FieldRef<'_>> {
    fields
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Value::Text(text) => ValueRef::Text(text),
                Value::Number(number) => ValueRef::Number(*number),
                Value::Flag(flag) => ValueRef::Flag(*flag),
                Value::Texts(texts) => ValueRef::Texts(texts),
                Value::Numbers(numbers) => ValueRef::Numbers(numbers),
            };
            (name.as_str(), value)
        })
        .collect()
}

pub(crate) fn made(made: &[Made]) -> Vec<MadeRef<'_>> {
    made.iter()
        .map(|made| MadeRef {
            strategy: &made.strategy,
            option: &made.option,
            key: &made.key,
            propensity: made.propensity,
        })
        .collect()
}

impl From<LiftedChoice> for Choice {
    fn from(lifted: LiftedChoice) -> Choice {
        Choice {
            strategy: lifted.strategy,
            key: lifted.key,
            features: lifted.features,
            allowed: lifted.allowed,
            candidates: lifted.candidates.into_iter().map(Candidate::from).collect(),
        }
    }
}

impl From<LiftedCandidate> for Candidate {
    fn from(lifted: LiftedCandidate) -> Candidate {
        Candidate { name: lifted.name, features: lifted.features }
    }
}
