//! One decision: from what is allowed and what was learned to an option and its propensity.
//!
//! Pure: the same program, state, request, time and nonce give the same decision on every machine.
//!
//! Invariants:
//! * an option that is not allowed is never chosen, in any mode;
//! * the propensity is the probability that was drawn from, and the probabilities sum to 1;
//! * the guest has no part in the draw: it depends on the nonce alone;
//! * nothing that was learned changes.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::argmax::masked_argmax;
use crate::definition::{Algorithm, Mode};
use crate::joint::draw;
use crate::learned::{Learned, Learner};
use crate::learners;
use crate::program::Program;
use crate::rejected::{Refusal, Rejected};
use crate::stream::Stream;

/// Why a joint function cannot fail here.
const SIZES: &str = "lists over all strategies have the sizes of the program";

/// What is asked, resolved to numbers.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Names the decision and its random numbers.
    pub nonce: [u8; 16],
    /// Separates the random numbers of different capsules.
    pub stream_key: [u8; 8],
    /// The time of the decision, milliseconds since 1970.
    pub now_ms: u64,
    /// The context key.
    pub key: String,
    /// Allowed by request and guest, over all strategies.
    pub allowed: Vec<bool>,
    /// What the application would do by itself, by strategy.
    pub current: Option<Vec<usize>>,
}

/// Why this option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The learner chose it.
    Learned,
    /// It was drawn uniformly: by min exploration, or by the epsilon of `epsilon_greedy`.
    Explored,
    /// Learning is frozen: the best-estimated option.
    Frozen,
    /// The mode is off, or shadow without a current option.
    Baseline,
    /// Shadow: what the application does.
    Current,
    /// Nothing else was allowed.
    OnlyOption,
}

/// What the learner would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// An option of each strategy.
    pub options: Vec<usize>,
    /// The probability with which they were drawn, together.
    pub propensity: f64,
    /// Each strategy's distribution, over all strategies: marginals where there are several.
    pub probabilities: Vec<f64>,
    /// Why.
    pub reason: Reason,
}

/// A decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What to do now: an option of each strategy.
    pub options: Vec<usize>,
    /// Why.
    pub reason: Reason,
    /// What the learner would do; `None` with mode off.
    pub suggestion: Option<Suggestion>,
    /// Whether the suggestion is the answer, so that its propensity is that of the answer.
    pub drawn: bool,
    /// What was allowed, over all strategies.
    pub allowed: Vec<bool>,
    /// The baseline was not allowed, and another option was answered in its place.
    pub baseline_replaced: bool,
}

/// Distributions computed before, by context key. Holds nothing that cannot be computed again.
#[derive(Debug, Default)]
pub struct Cache {
    held: HashMap<String, Cached>,
    fresh: Option<Cached>,
}

#[derive(Debug)]
struct Cached {
    stamp: u64,
    allowed: Vec<bool>,
    heads: Vec<f64>,
}

impl Cache {
    /// Forgets everything: settings or options have changed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets one key.
    pub fn forget(&mut self, key: &str) {
        self.held.remove(key);
    }

    /// The distribution of a key under what is allowed: computed, where it is not known.
    pub fn distribution(
        &mut self,
        key: &str,
        learned: &Learned,
        allowed: &[bool],
        out: &mut [f64],
        compute: impl FnOnce(&mut [f64]),
    ) {
        let stamp = learned.stamp(key);
        let held = learned.entry(key).is_some();
        let cached = if held { self.held.get(key) } else { self.fresh.as_ref() };
        if let Some(cached) = cached.filter(|cached| cached.stamp == stamp && cached.allowed == allowed) {
            out.copy_from_slice(&cached.heads);
            return;
        }
        compute(out);
        let cached = Cached { stamp, allowed: allowed.to_vec(), heads: out.to_vec() };
        if held {
            self.held.insert(key.to_owned(), cached);
        } else {
            self.fresh = Some(cached);
        }
    }
}

/// Makes one decision.
///
/// # Errors
///
/// [`Refusal::NoAllowedOption`] if nothing is allowed, [`Refusal::InvalidField`] if `current` is
/// not allowed.
pub fn decide(program: &Program, learned: &Learned, cache: &mut Cache, ask: &Ask) -> Result<Decision, Rejected> {
    let choices = count_allowed(program, &ask.allowed);
    if choices == 0 {
        return Err(Rejected::absent(
            Refusal::NoAllowedOption,
            "/options",
            "no option is allowed",
            "allow at least one option that the capsule and its valid combinations allow too",
        ));
    }
    if let Some(current) = &ask.current
        && !is_allowed(program, &ask.allowed, current)
    {
        let names: Vec<&str> =
            program.definition.strategies.iter().zip(current).map(|(s, &o)| s.options[o].as_str()).collect();
        return Err(Rejected::new(
            Refusal::InvalidField,
            "/current",
            names.join(", "),
            "current is not among the allowed options",
            "send a current option that is allowed, or leave it out",
        ));
    }
    let decision = |options, reason, suggestion, drawn, baseline_replaced| Decision {
        options,
        reason,
        suggestion,
        drawn,
        allowed: ask.allowed.clone(),
        baseline_replaced,
    };
    match program.mode() {
        Mode::Off => {
            let (options, replaced) = baseline(program, &ask.allowed);
            Ok(decision(options, Reason::Baseline, None, false, replaced))
        }
        Mode::Shadow => {
            let suggestion = Some(suggest(program, learned, cache, ask, choices));
            Ok(match &ask.current {
                Some(current) => decision(current.clone(), Reason::Current, suggestion, false, false),
                None => {
                    let (options, replaced) = baseline(program, &ask.allowed);
                    decision(options, Reason::Baseline, suggestion, false, replaced)
                }
            })
        }
        Mode::Live => {
            let suggestion = suggest(program, learned, cache, ask, choices);
            Ok(decision(suggestion.options.clone(), suggestion.reason, Some(suggestion), true, false))
        }
    }
}

fn suggest(program: &Program, learned: &Learned, cache: &mut Cache, ask: &Ask, choices: usize) -> Suggestion {
    if program.frozen() {
        return best_estimated(program, learned, ask);
    }
    let heads = head_distributions(program, learned, cache, ask);
    let explore = program.min_exploration();
    let (probabilities, marginals) = match &program.combinations {
        None => {
            let uniform = explore / choices as f64;
            let mixed: Vec<f64> = (heads.iter().zip(&ask.allowed))
                .map(|(p, &allowed)| if allowed { (1.0 - explore) * p + uniform } else { 0.0 })
                .collect();
            (mixed.clone(), mixed)
        }
        Some(combinations) => {
            let mut joint = vec![0.0; combinations.len()];
            combinations.probabilities(&heads, &ask.allowed, explore, &mut joint).expect(SIZES);
            let mut marginals = vec![0.0; program.total_options];
            combinations.marginals(&joint, &mut marginals).expect(SIZES);
            (joint, marginals)
        }
    };
    let stream = Stream::new(ask.stream_key, ask.nonce);
    let (chosen, explored) = draw_labelled(&probabilities, uniform_share(program) / choices as f64, &stream);
    let reason = match (choices, explored) {
        (1, _) => Reason::OnlyOption,
        (_, true) => Reason::Explored,
        (_, false) => Reason::Learned,
    };
    let propensity = probabilities[chosen];
    Suggestion { options: options_of(program, chosen), propensity, probabilities: marginals, reason }
}

/// The share of decisions that are drawn uniformly: min exploration, and the algorithm's own where
/// there is one strategy. Of several, only min exploration is uniform over their combinations.
fn uniform_share(program: &Program) -> f64 {
    let explore = program.min_exploration();
    match program.terms.learners.as_slice() {
        [Learner { algorithm: Algorithm::EpsilonGreedy { epsilon }, .. }] => 1.0 - (1.0 - explore) * (1.0 - epsilon),
        _ => explore,
    }
}

/// Draws from the probabilities, and says whether the draw counts as exploration: the uniform
/// share of what was drawn, by a second random number. So one distribution is drawn from, and
/// it is the one that is logged.
pub fn draw_labelled(probabilities: &[f64], uniform_share: f64, stream: &Stream) -> (usize, bool) {
    let chosen = draw(probabilities, stream.uniform(0));
    let explored = stream.uniform(1) * probabilities[chosen] < uniform_share;
    (chosen, explored)
}

fn best_estimated(program: &Program, learned: &Learned, ask: &Ask) -> Suggestion {
    let mut estimates = Vec::with_capacity(program.total_options);
    let mut arms = Vec::new();
    for learner in &program.terms.learners {
        learned.evidence(&ask.key, learner, ask.now_ms, &program.terms, &mut arms);
        learners::estimates(learner.algorithm, &arms, program.reward_range(), &mut estimates);
    }
    let chosen = match &program.combinations {
        None => masked_argmax(&estimates, &ask.allowed).ok(),
        Some(combinations) => combinations.argmax(&estimates, &ask.allowed).ok(),
    }
    .expect("something is allowed and estimates are numbers");
    let options = options_of(program, chosen);
    let mut probabilities = vec![0.0; program.total_options];
    for (head, &option) in program.heads.iter().zip(&options) {
        probabilities[head.offset + option] = 1.0;
    }
    Suggestion { options, propensity: 1.0, probabilities, reason: Reason::Frozen }
}

/// Each strategy's distribution over its allowed options, without exploration, end to end.
fn head_distributions(program: &Program, learned: &Learned, cache: &mut Cache, ask: &Ask) -> Vec<f64> {
    let mut heads = vec![0.0; program.total_options];
    // The others take less time than looking them up.
    let is_costly = |learner: &Learner| learner.algorithm == Algorithm::Thompson;
    // Under decay by time a distribution is new at every instant.
    let fades = program.terms.decay.is_some_and(|decay| decay.half_life_seconds.is_some());
    if fades || !program.terms.learners.iter().any(is_costly) {
        distributions(program, learned, ask, &mut heads);
    } else {
        let compute = |out: &mut [f64]| distributions(program, learned, ask, out);
        cache.distribution(&ask.key, learned, &ask.allowed, &mut heads, compute);
    }
    heads
}

fn distributions(program: &Program, learned: &Learned, ask: &Ask, out: &mut [f64]) {
    let mut arms = Vec::new();
    for (head, learner) in program.heads.iter().zip(&program.terms.learners) {
        let span = head.offset..head.offset + head.size;
        let (allowed, out) = (&ask.allowed[span.clone()], &mut out[span]);
        if allowed.iter().any(|allowed| *allowed) {
            learned.evidence(&ask.key, learner, ask.now_ms, &program.terms, &mut arms);
            learners::distribution(learner.algorithm, &arms, program.reward_range(), allowed, out);
        }
    }
}

/// The weights of one key: the probability of each option if a decision were made now with every
/// option allowed, exploration included; freeze and mode do not count. Over all strategies.
pub fn weights(program: &Program, learned: &Learned, cache: &mut Cache, key: &str, now_ms: u64) -> Vec<f64> {
    let allowed = vec![true; program.total_options];
    let ask = Ask { nonce: [0; 16], stream_key: [0; 8], now_ms, key: key.to_owned(), allowed, current: None };
    let heads = head_distributions(program, learned, cache, &ask);
    let explore = program.min_exploration();
    match &program.combinations {
        None => heads.iter().map(|p| (1.0 - explore) * p + explore / heads.len() as f64).collect(),
        Some(combinations) => {
            let mut joint = vec![0.0; combinations.len()];
            combinations.probabilities(&heads, &ask.allowed, explore, &mut joint).expect(SIZES);
            let mut marginals = vec![0.0; program.total_options];
            combinations.marginals(&joint, &mut marginals).expect(SIZES);
            marginals
        }
    }
}

fn count_allowed(program: &Program, allowed: &[bool]) -> usize {
    match &program.combinations {
        None => allowed.iter().filter(|allowed| **allowed).count(),
        Some(combinations) => combinations.allowed_count(allowed).expect(SIZES),
    }
}

fn is_allowed(program: &Program, allowed: &[bool], options: &[usize]) -> bool {
    let each = program.heads.iter().zip(options).all(|(head, &option)| allowed[head.offset + option]);
    each && program.combinations.as_ref().is_none_or(|combinations| {
        let row: Vec<u16> = options.iter().map(|&option| option as u16).collect();
        combinations.is_valid(&row)
    })
}

/// The baseline; where it is not allowed, the first that is, and `true`.
fn baseline(program: &Program, allowed: &[bool]) -> (Vec<usize>, bool) {
    let options: Vec<usize> = program.heads.iter().map(|head| head.baseline).collect();
    if is_allowed(program, allowed, &options) {
        return (options, false);
    }
    let flat = vec![0.0; program.total_options];
    let first = match &program.combinations {
        None => masked_argmax(&flat, allowed).ok(),
        Some(combinations) => combinations.argmax(&flat, allowed).ok(),
    }
    .expect("something is allowed");
    (options_of(program, first), true)
}

fn options_of(program: &Program, chosen: usize) -> Vec<usize> {
    match &program.combinations {
        None => vec![chosen],
        Some(combinations) => combinations.row(chosen).iter().map(|&option| usize::from(option)).collect(),
    }
}
