//! A definition made ready to decide: numbers instead of names, overrides applied.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::definition::{
    Algorithm, Decay, Definition, Horizon, Mode, Problem, Rails, Shrinkage, Strategy, nearest_hint,
};
use crate::joint::Combinations;
use crate::learned::{Arm, Learned, Learner, Terms};
use crate::learners::prior_arm;
use crate::world::Choice;

/// The operator's overrides of the file's values; `None` = the file's value is in force.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Overrides {
    /// The algorithm of every strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// The mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The baseline option by strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<BTreeMap<String, String>>,
    /// Single rails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rails: Option<Rails>,
    /// The decay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<Decay>,
    /// What keys borrow from each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrinkage: Option<Shrinkage>,
    /// The horizon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Horizon>,
    /// The bound on context keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_contexts: Option<u32>,
}

impl Overrides {
    /// The definition with these overrides in force, complete.
    ///
    /// # Errors
    ///
    /// Every rule that the result breaks.
    pub fn apply(&self, filled: &Definition) -> Result<Definition, Vec<Problem>> {
        let mut definition = filled.clone();
        let Self { algorithm, mode, baseline, rails, decay, shrinkage, horizon, max_contexts } = self.clone();
        if let Some(algorithm) = algorithm {
            definition.strategies.iter_mut().for_each(|strategy| strategy.algorithm = Some(algorithm));
        }
        for (name, option) in baseline.into_iter().flatten() {
            let strategy = definition.strategies.iter_mut().find(|strategy| strategy.name == name);
            let Some(strategy) = strategy else {
                let hint = nearest_hint(&name, filled.strategies.iter().map(|s| s.name.as_str()));
                let message = format!("{name:?} is not a strategy{hint}");
                return Err(vec![Problem { pointer: "/baseline".into(), message }]);
            };
            strategy.baseline = Some(option);
        }
        let asked = rails.unwrap_or_default();
        let mut rails = definition.rails.unwrap_or_default();
        rails.min_exploration = asked.min_exploration.or(rails.min_exploration);
        rails.freeze = asked.freeze.or(rails.freeze);
        // The file's max_delta and shrinkage go with the file's algorithm: overriding that one may
        // leave them behind.
        let is_weighted = |strategy: &Strategy| strategy.algorithm.is_some_and(Algorithm::is_weighted);
        let weighted = definition.strategies.iter().any(is_weighted);
        let all_weighted = definition.strategies.iter().all(is_weighted);
        rails.max_delta = asked.max_delta.or(rails.max_delta.filter(|_| weighted));
        definition.rails = Some(rails);
        definition.decay = decay.or(definition.decay);
        definition.shrinkage = shrinkage.or(definition.shrinkage.filter(|_| !all_weighted));
        definition.horizon = horizon.or(definition.horizon);
        definition.mode = mode.or(definition.mode);
        definition.max_contexts = max_contexts.or(definition.max_contexts);
        definition
            .filled()
            .map_err(|problems| problems.into_iter().map(|problem| of_overrides(problem, self)).collect())
    }
}

/// A problem in the place that the override has: one algorithm stands for all strategies.
fn of_overrides(problem: Problem, overrides: &Overrides) -> Problem {
    let inner = problem.pointer.strip_prefix("/strategies/").and_then(|rest| rest.split_once('/'));
    match inner {
        Some((_, inner)) if overrides.algorithm.is_some() && inner.starts_with("algorithm") => {
            Problem { pointer: format!("/{inner}"), ..problem }
        }
        _ => problem,
    }
}

/// One strategy of a definition, ready to decide.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its name.
    pub name: String,
    /// How many options it has.
    pub size: usize,
    /// The number of its baseline.
    pub baseline: usize,
    /// Where its options begin in lists over all strategies.
    pub offset: usize,
}

/// A definition made ready to decide.
#[derive(Debug, Clone)]
pub struct Program {
    /// The definition in force, complete.
    pub definition: Definition,
    /// The strategies in declared order.
    pub heads: Vec<Head>,
    /// How they learn, in the same order.
    pub terms: Terms,
    /// The valid combinations; `None` with one strategy.
    pub combinations: Option<Combinations>,
    /// How many options all strategies have together.
    pub total_options: usize,
}

impl Program {
    /// Makes a complete definition ready, and registers its names in the learned state.
    pub fn new(definition: Definition, learned: &mut Learned) -> Self {
        let mut offset = 0;
        let heads: Vec<Head> = (definition.strategies.iter())
            .map(|strategy| {
                let size = strategy.options.len();
                offset += size;
                let baseline = strategy.baseline_number();
                Head { name: strategy.name.clone(), size, baseline, offset: offset - size }
            })
            .collect();
        let reward_range = definition.reward_range.expect("a filled definition");
        let terms = Terms {
            learners: (definition.strategies.iter())
                .map(|strategy| Learner {
                    algorithm: strategy.algorithm.expect("a filled definition"),
                    slots: learned.register(&strategy.name, &strategy.options),
                    priors: priors(strategy, reward_range),
                    max_delta: definition.rails.and_then(|rails| rails.max_delta).unwrap_or(f64::INFINITY),
                })
                .collect(),
            reward_range,
            decay: definition.decay,
            shrinkage: definition.shrinkage.map(|shrinkage| shrinkage.strength),
        };
        let combinations = (heads.len() > 1).then(|| {
            let sizes: Vec<usize> = heads.iter().map(|head| head.size).collect();
            let rows = definition.valid_rows().map(|rows| rows.concat());
            Combinations::new(&sizes, rows.as_deref()).expect("checked by Definition::filled")
        });
        Self { definition, heads, terms, combinations, total_options: offset }
    }

    /// The rails in force.
    pub fn rails(&self) -> Rails {
        self.definition.rails.expect("a filled definition")
    }

    /// Whether nothing is learned or explored.
    pub fn frozen(&self) -> bool {
        self.rails().freeze == Some(true)
    }

    /// The share of decisions that are drawn uniformly.
    pub fn min_exploration(&self) -> f64 {
        self.rails().min_exploration.expect("a filled definition")
    }

    /// The range of rewards.
    pub fn reward_range(&self) -> [f64; 2] {
        self.definition.reward_range.expect("a filled definition")
    }

    /// The mode in force.
    pub fn mode(&self) -> Mode {
        self.definition.mode.expect("a filled definition")
    }

    /// How long feedback is awaited, in milliseconds.
    pub fn horizon_ms(&self) -> u64 {
        self.horizon().after_ms()
    }

    /// What metrics count as that were not sent until the horizon.
    pub fn defaults(&self) -> Option<&BTreeMap<String, f64>> {
        self.horizon().outcome.as_ref()
    }

    fn horizon(&self) -> &Horizon {
        self.definition.horizon.as_ref().expect("a filled definition")
    }

    /// The bound on context keys.
    pub fn max_contexts(&self) -> usize {
        self.definition.max_contexts.expect("a filled definition") as usize
    }

    /// The key and the allowed options of what a guest framed.
    ///
    /// # Errors
    ///
    /// What is wrong with the guest's answer, in words: its fault, not the caller's.
    pub fn framed(&self, choices: Vec<Choice>) -> Result<(String, Vec<bool>), String> {
        let mut allowed = vec![true; self.total_options];
        let mut seen = vec![false; self.heads.len()];
        let mut key: Option<String> = None;
        for choice in choices {
            let Choice { strategy, key: of_choice, features, allowed: of_guest, candidates } = choice;
            let Some(at) = self.heads.iter().position(|head| head.name == strategy) else {
                return Err(format!(
                    "frame named the strategy {:?}, which is not declared",
                    crate::definition::shown(&strategy)
                ));
            };
            let head = &self.heads[at];
            if std::mem::replace(&mut seen[at], true) {
                return Err(format!("frame named the strategy {strategy} twice"));
            }
            if !candidates.is_empty() {
                return Err(format!("frame gave candidates for {strategy}, which declares its options"));
            }
            if features.iter().any(|feature| !feature.is_finite()) {
                return Err(format!("frame gave {strategy} a feature that is not finite"));
            }
            if let Some(mask) = of_guest {
                if mask.len() != head.size {
                    return Err(format!(
                        "frame gave {} allowed flags for the {} options of {strategy}",
                        mask.len(),
                        head.size
                    ));
                }
                allowed[head.offset..head.offset + mask.len()].copy_from_slice(&mask);
            }
            if key.as_ref().is_some_and(|key| *key != of_choice) {
                return Err("frame gave its choices different keys; one decision has one context key".to_owned());
            }
            key = Some(of_choice);
        }
        if let Some(missing) = seen.iter().position(|seen| !seen) {
            return Err(format!("frame gave no choice for the strategy {}", self.heads[missing].name));
        }
        Ok((bounded_key(key.unwrap_or_default()), allowed))
    }
}

/// What is believed of the options, in their order; empty where nothing was declared.
fn priors(strategy: &Strategy, reward_range: [f64; 2]) -> Vec<Arm> {
    if strategy.priors.is_empty() {
        return Vec::new();
    }
    let believed = |option| strategy.priors.get(option).map(|prior| prior_arm(prior.reward, prior.count, reward_range));
    strategy.options.iter().map(|option| believed(option).unwrap_or_default()).collect()
}

/// Most bytes of a context key; a longer computed key becomes `#` and its BLAKE2b-128 digest.
pub const MAX_KEY_BYTES: usize = 256;

fn bounded_key(key: String) -> String {
    use blake2::Digest;
    if key.len() <= MAX_KEY_BYTES {
        return key;
    }
    crate::cbor::hex("#", &blake2::Blake2b::<blake2::digest::consts::U16>::digest(key.as_bytes()))
}
