//! What is wrong with an answer, as far as it shows without knowing the definition.
//!
//! Invariant: choices that pass [`check_choices`] keep every rule of `wit/capsule.wit`; whether
//! their strategies and lengths fit the definition is for `capsa-core` to say.

use std::collections::HashSet;

use capsa_core::world::{Candidate, Choice};

/// The longest name of a candidate.
const CANDIDATE_NAME_BYTES: usize = 64;

/// How a guest's answer breaks the rules of the world.
///
/// Names that the guest made up are shortened to 64 characters.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadOutput {
    /// Pointers, lengths, alignment, encodings or discriminants that mean nothing.
    #[error("it breaks the canonical ABI: {reason}")]
    Abi {
        /// What wasmtime found.
        reason: String,
    },
    /// More than the host takes in one piece.
    #[error("it hands over more than {limit} bytes in one piece")]
    TooLarge {
        /// [`Limits::output_bytes`](crate::Limits::output_bytes).
        limit: usize,
    },
    /// More random bytes than are given at once.
    #[error("it asks for more than 65,536 random bytes at once")]
    RandomBytes,
    /// A tool's failure with a code that is none.
    #[error("the code of its failure is not 1 to 64 of a-z, 0-9 and -")]
    FailureCode,
    /// `reward` returned infinity or no number.
    #[error("the reward is {value}, not a finite number")]
    RewardNotFinite {
        /// What it returned.
        value: f64,
    },
    /// A choice without the name of a strategy.
    #[error("choice {index} has an empty strategy")]
    EmptyStrategy {
        /// Position of the choice.
        index: usize,
    },
    /// Two choices for one strategy.
    #[error("strategy {strategy:?} occurs in more than one choice")]
    RepeatedStrategy {
        /// Its name.
        strategy: String,
    },
    /// A feature that is infinite or no number.
    #[error("feature {index} of {of} is {value}, not a finite number")]
    FeatureNotFinite {
        /// The strategy or the candidate, in words.
        of: String,
        /// Position of the feature.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// A mask over the declared options together with candidates.
    #[error("strategy {strategy:?} has both `allowed` and `candidates`")]
    AllowedAndCandidates {
        /// The choice's strategy.
        strategy: String,
    },
    /// A candidate's name is empty or too long.
    #[error("the name of candidate {index} of strategy {strategy:?} has {bytes} bytes, not 1 to 64")]
    CandidateName {
        /// The choice's strategy.
        strategy: String,
        /// Position of the candidate.
        index: usize,
        /// Length of its name.
        bytes: usize,
    },
    /// Two candidates of one choice with the same name.
    #[error("candidate {name:?} of strategy {strategy:?} occurs more than once")]
    RepeatedCandidate {
        /// The choice's strategy.
        strategy: String,
        /// The candidate's name.
        name: String,
    },
    /// Candidates of one choice that differ in the number of features.
    #[error("candidate {name:?} of strategy {strategy:?} has {features} features, the first candidate has {expected}")]
    CandidateFeatures {
        /// The choice's strategy.
        strategy: String,
        /// The candidate's name.
        name: String,
        /// How many features it has.
        features: usize,
        /// How many the first candidate has.
        expected: usize,
    },
}

/// Checks every rule that holds for any decision capsule.
pub(crate) fn check_choices(choices: &[Choice]) -> Result<(), BadOutput> {
    for (index, choice) in choices.iter().enumerate() {
        if choice.strategy.is_empty() {
            return Err(BadOutput::EmptyStrategy { index });
        }
        check_choice(choice)?;
    }
    match first_repeated(choices.iter().map(|choice| choice.strategy.as_str())) {
        Some(strategy) => Err(BadOutput::RepeatedStrategy { strategy: shortened(strategy) }),
        None => Ok(()),
    }
}

/// Checks what `reward` returned.
pub(crate) fn check_reward(value: f64) -> Result<f64, BadOutput> {
    if value.is_finite() { Ok(value) } else { Err(BadOutput::RewardNotFinite { value }) }
}

fn check_choice(choice: &Choice) -> Result<(), BadOutput> {
    let strategy = || shortened(&choice.strategy);
    check_finite(&choice.features, || format!("strategy {:?}", strategy()))?;
    let Some(first) = choice.candidates.first() else { return Ok(()) };
    if choice.allowed.is_some() {
        return Err(BadOutput::AllowedAndCandidates { strategy: strategy() });
    }
    for (index, Candidate { name, features }) in choice.candidates.iter().enumerate() {
        if !(1..=CANDIDATE_NAME_BYTES).contains(&name.len()) {
            return Err(BadOutput::CandidateName { strategy: strategy(), index, bytes: name.len() });
        }
        if features.len() != first.features.len() {
            return Err(BadOutput::CandidateFeatures {
                strategy: strategy(),
                name: name.clone(),
                features: features.len(),
                expected: first.features.len(),
            });
        }
        check_finite(features, || format!("candidate {name:?} of strategy {:?}", strategy()))?;
    }
    match first_repeated(choice.candidates.iter().map(|candidate| candidate.name.as_str())) {
        Some(name) => Err(BadOutput::RepeatedCandidate { strategy: strategy(), name: name.to_owned() }),
        None => Ok(()),
    }
}

fn check_finite(features: &[f32], of: impl Fn() -> String) -> Result<(), BadOutput> {
    match features.iter().position(|feature| !feature.is_finite()) {
        Some(index) => Err(BadOutput::FeatureNotFinite { of: of(), index, value: features[index] }),
        None => Ok(()),
    }
}

fn first_repeated<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Option<&'a str> {
    // A set of one name or none costs an allocation and finds nothing.
    if names.len() < 2 {
        return None;
    }
    let mut seen = HashSet::with_capacity(names.len());
    names.into_iter().find(|name| !seen.insert(*name))
}

fn shortened(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn choice() -> Choice {
        Choice {
            strategy: "s".to_owned(),
            key: "k".to_owned(),
            features: vec![1.0],
            allowed: None,
            candidates: vec![candidate("a"), candidate("b")],
        }
    }

    fn candidate(name: &str) -> Candidate {
        Candidate { name: name.to_owned(), features: vec![0.5, 0.25] }
    }

    fn problem(change: impl Fn(&mut Choice)) -> String {
        let mut choice = choice();
        change(&mut choice);
        check_choices(&[choice]).unwrap_err().to_string()
    }

    #[test]
    fn a_choice_that_keeps_the_rules_passes() {
        assert_eq!(check_choices(&[choice()]), Ok(()));
        // The key of one category whose value is the empty text.
        assert_eq!(check_choices(&[Choice { key: String::new(), ..choice() }]), Ok(()));
        assert_eq!(check_choices(&[]), Ok(()));
    }

    #[test]
    fn each_broken_rule_has_its_own_sentence() {
        assert_eq!(problem(|c| c.strategy.clear()), "choice 0 has an empty strategy");
        assert_eq!(
            problem(|c| c.features = vec![0.0, f32::NAN]),
            "feature 1 of strategy \"s\" is NaN, not a finite number"
        );
        assert_eq!(problem(|c| c.allowed = Some(vec![true])), "strategy \"s\" has both `allowed` and `candidates`");
        assert_eq!(
            problem(|c| c.candidates[1].name.clear()),
            "the name of candidate 1 of strategy \"s\" has 0 bytes, not 1 to 64"
        );
        assert_eq!(
            problem(|c| c.candidates[0].name = "n".repeat(65)),
            "the name of candidate 0 of strategy \"s\" has 65 bytes, not 1 to 64"
        );
        assert_eq!(
            problem(|c| c.candidates[1].name = "a".to_owned()),
            "candidate \"a\" of strategy \"s\" occurs more than once"
        );
        assert_eq!(
            problem(|c| c.candidates[1].features = vec![0.5]),
            "candidate \"b\" of strategy \"s\" has 1 features, the first candidate has 2"
        );
        assert_eq!(
            problem(|c| c.candidates[1].features[0] = f32::NEG_INFINITY),
            "feature 0 of candidate \"b\" of strategy \"s\" is -inf, not a finite number"
        );
        assert_eq!(
            check_choices(&[choice(), choice()]).unwrap_err().to_string(),
            "strategy \"s\" occurs in more than one choice"
        );
        assert_eq!(check_reward(f64::INFINITY).unwrap_err().to_string(), "the reward is inf, not a finite number");
    }

    #[test]
    fn a_long_name_is_shortened_in_the_message() {
        let long = problem(|c| {
            c.strategy = "é".repeat(100_000);
            c.allowed = Some(vec![true]);
        });
        assert_eq!(long, format!("strategy {:?} has both `allowed` and `candidates`", "é".repeat(64)));
    }
}
