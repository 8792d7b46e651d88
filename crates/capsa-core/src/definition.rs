//! What a decision capsule declares: strategies, contexts, reward and rails.
//!
//! A [`Definition`] is what an author wrote, and is embedded in the component as the custom
//! section `capsa:definition` (RFC 8785 JSON). [`Definition::filled`] writes every default down;
//! an install records that form, so that a later default changes nothing that runs today.
//!
//! Invariants:
//! * a filled definition is complete and consistent: nothing later has to ask "what if";
//! * names are kept as the author wrote them and are never converted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the definition's own format.
pub const SCHEMA: u32 = 1;
/// The custom section that holds the definition.
pub const SECTION: &str = "capsa:definition";
/// The name of the strategy of a capsule that declares its options at the top.
pub const DEFAULT_STRATEGY: &str = "choice";

/// Most options of one strategy.
pub const MAX_OPTIONS: usize = 1024;
/// Most strategies of one capsule.
pub const MAX_STRATEGIES: usize = 16;
/// Most declared contexts.
pub const MAX_CONTEXT_FIELDS: usize = 32;
/// Most declared metrics.
pub const MAX_METRICS: usize = 64;
/// Most bytes of a name (capsule, strategy, option, context, metric) and of a category's value.
pub const MAX_NAME_BYTES: usize = 64;
/// Most bucket edges of a number, and most declared values of a category.
pub const MAX_CONTEXT_VALUES: usize = 256;
/// Largest `max_contexts`.
pub const MAX_CONTEXTS: u32 = 1_000_000;
/// Longest horizon or half-life: ten years.
pub const MAX_SECONDS: f64 = 10.0 * 365.0 * 86_400.0;
/// Most rewards that a declared prior, or what is borrowed from other keys, may count as.
pub const MAX_PRIOR_COUNT: f64 = 1e6;
/// `reward_range` where none is declared.
pub const DEFAULT_REWARD_RANGE: [f64; 2] = [-1.0, 1.0];
/// `epsilon` of `epsilon_greedy` where none is declared.
pub const DEFAULT_EPSILON: f64 = 0.1;

/// What a capsule is: its world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Frames choices and values outcomes.
    Decision,
}

/// What a decision capsule declares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Definition {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The world that the component implements.
    pub kind: Kind,
    /// The capsule's name.
    pub name: String,
    /// The choices that are made together; usually one.
    pub strategies: Vec<Strategy>,
    /// Which combinations of options are valid; absent = all. A strategy that a row leaves out
    /// may take any option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid: Option<Vec<BTreeMap<String, Vec<String>>>>,
    /// The input fields that make the context key, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<Context>,
    /// Beyond this many context keys, the longest unused is folded into the shared prior.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_contexts: Option<u32>,
    /// How named metrics make one reward; absent = only plain rewards, or the guest alone knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<BTreeMap<String, Metric>>,
    /// What a plain reward may be, both ends included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_range: Option<[f64; 2]>,
    /// Limits on learning and exploring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rails: Option<Rails>,
    /// How old outcomes fade; absent = they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<Decay>,
    /// What a key borrows from the other keys; absent = nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrinkage: Option<Shrinkage>,
    /// How long feedback is awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon: Option<Horizon>,
    /// Who decides on live traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What of the input the journal keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_input: Option<LogInput>,
}

/// One choice inside a capsule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Strategy {
    /// Unique in the capsule.
    pub name: String,
    /// 2 to [`MAX_OPTIONS`] unique names.
    pub options: Vec<String>,
    /// What is believed of single options before any feedback, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub priors: BTreeMap<String, Prior>,
    /// How it learns; absent = thompson.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// What is answered while nothing may be learned on live traffic; absent = the first option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
}

/// What is believed of an option before any feedback: in every key it counts as if the option had
/// earned `count` rewards of `reward`. It does not fade.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Prior {
    /// A reward within `reward_range`.
    pub reward: f64,
    /// Above 0, at most [`MAX_PRIOR_COUNT`].
    pub count: f64,
}

/// What a key borrows from the others: what each option earned there counts in it as at most
/// `strength` rewards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shrinkage {
    /// Above 0, at most [`MAX_PRIOR_COUNT`].
    pub strength: f64,
}

/// How a strategy learns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "AlgorithmForm", into = "AlgorithmForm")]
pub enum Algorithm {
    /// Options are drawn by the probability that each is the best one.
    Thompson,
    /// Weights that move by a share of the reward.
    SimpleWeighted,
    /// The best mean, but for a share of uniform draws.
    EpsilonGreedy {
        /// The share of decisions drawn uniformly from the allowed options, 0 to 1.
        epsilon: f64,
    },
    /// The largest upper confidence bound.
    Ucb1,
}

impl Algorithm {
    /// Every algorithm with its defaults, by its name in YAML.
    pub const ALL: [(&'static str, Algorithm); 4] = [
        ("thompson", Algorithm::Thompson),
        ("simple_weighted", Algorithm::SimpleWeighted),
        ("epsilon_greedy", Algorithm::EpsilonGreedy { epsilon: DEFAULT_EPSILON }),
        ("ucb1", Algorithm::Ucb1),
    ];

    /// Its name in YAML, without its parameters.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Thompson => "thompson",
            Algorithm::SimpleWeighted => "simple_weighted",
            Algorithm::EpsilonGreedy { .. } => "epsilon_greedy",
            Algorithm::Ucb1 => "ucb1",
        }
    }

    /// Whether it keeps inner weights of its own, beside what options have earned.
    pub fn is_weighted(self) -> bool {
        self == Algorithm::SimpleWeighted
    }
}

/// An algorithm in JSON: its name, or an object where it has parameters.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "an algorithm: its name, or an object with name and epsilon")]
enum AlgorithmForm {
    Name(AlgorithmName),
    With(AlgorithmParameters),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AlgorithmParameters {
    name: AlgorithmName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum AlgorithmName {
    Thompson,
    SimpleWeighted,
    EpsilonGreedy,
    Ucb1,
}

impl From<Algorithm> for AlgorithmForm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Thompson => Self::Name(AlgorithmName::Thompson),
            Algorithm::SimpleWeighted => Self::Name(AlgorithmName::SimpleWeighted),
            Algorithm::Ucb1 => Self::Name(AlgorithmName::Ucb1),
            Algorithm::EpsilonGreedy { epsilon } => {
                Self::With(AlgorithmParameters { name: AlgorithmName::EpsilonGreedy, epsilon: Some(epsilon) })
            }
        }
    }
}

impl TryFrom<AlgorithmForm> for Algorithm {
    type Error = &'static str;

    fn try_from(form: AlgorithmForm) -> Result<Self, Self::Error> {
        let (name, epsilon) = match form {
            AlgorithmForm::Name(name) => (name, None),
            AlgorithmForm::With(AlgorithmParameters { name, epsilon }) => (name, epsilon),
        };
        match (name, epsilon) {
            (AlgorithmName::EpsilonGreedy, epsilon) => {
                Ok(Algorithm::EpsilonGreedy { epsilon: epsilon.unwrap_or(DEFAULT_EPSILON) })
            }
            (_, Some(_)) => Err("epsilon acts only with epsilonGreedy"),
            (AlgorithmName::Thompson, None) => Ok(Algorithm::Thompson),
            (AlgorithmName::SimpleWeighted, None) => Ok(Algorithm::SimpleWeighted),
            (AlgorithmName::Ucb1, None) => Ok(Algorithm::Ucb1),
        }
    }
}

/// One field of the input that is part of the context key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    /// The field's flattened name.
    pub name: String,
    /// What the field holds.
    #[serde(rename = "type")]
    pub kind: ContextKind,
    /// The declared values of a category; absent = any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
    /// The inner edges of a number's buckets, ascending; a lower edge is part of its bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<Vec<f64>>,
}

/// What a context field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContextKind {
    /// A string, or a number written as its shortest decimal.
    Category,
    /// A number, sorted into buckets.
    Number,
    /// A boolean.
    Flag,
}

/// How a metric enters the reward: `weight` times the metric scaled to 0..1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metric {
    /// Any finite number but 0.
    pub weight: f64,
    /// Scaled = value / budget, 1 from there on; a negative value is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<f64>,
    /// Scaled = (value - low) / (high - low); a value outside is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
}

/// Limits on learning and exploring.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rails {
    /// Share of decisions that are drawn uniformly from the allowed options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_exploration: Option<f64>,
    /// Most that one feedback may move a weight; only with `simple_weighted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_delta: Option<f64>,
    /// No learning, no exploration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<bool>,
}

/// How old outcomes fade: exactly one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Decay {
    /// After this long an outcome counts half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_life_seconds: Option<f64>,
    /// After this many later feedbacks in the same context an outcome counts half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_life_feedbacks: Option<f64>,
}

/// How long feedback is awaited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Horizon {
    /// Feedback that comes later is kept, not learned.
    pub after_seconds: f64,
    /// What metrics count as that were not sent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<BTreeMap<String, f64>>,
}

impl Horizon {
    /// How long it is, milliseconds.
    pub fn after_ms(&self) -> u64 {
        (self.after_seconds * 1000.0) as u64
    }
}

/// Who decides on live traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// The baseline; nothing is logged.
    Off,
    /// The application; ours is logged as suggested.
    Shadow,
    /// The learner.
    Live,
}

/// What of the input the journal keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogInput {
    /// Only the declared contexts.
    Contexts,
}

/// What is wrong with a definition, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// JSON pointer into the definition's JSON form.
    pub pointer: String,
    /// One sentence that holds the offending value and the remedy.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

impl Definition {
    /// Reads a definition from the JSON of a component's custom section.
    ///
    /// # Errors
    ///
    /// One [`Problem`] if it is not such JSON; else as [`Definition::filled`].
    pub fn from_json(json: &[u8]) -> Result<Self, Vec<Problem>> {
        let definition: Self = serde_json::from_slice(json)
            .map_err(|e| vec![Problem::new("", format!("the section {SECTION} does not hold a definition: {e}"))])?;
        definition.filled()?;
        Ok(definition)
    }

    /// The same definition with every default written down.
    ///
    /// # Errors
    ///
    /// Every rule that the definition breaks, in the order of its fields.
    pub fn filled(&self) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        self.check(&mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut full = self.clone();
        for strategy in &mut full.strategies {
            strategy.algorithm.get_or_insert(Algorithm::Thompson);
            let first = strategy.options[0].clone();
            strategy.baseline.get_or_insert(first);
        }
        full.max_contexts.get_or_insert(10_000);
        full.reward_range.get_or_insert(DEFAULT_REWARD_RANGE);
        let weighted = full.strategies.iter().any(|s| s.algorithm == Some(Algorithm::SimpleWeighted));
        let rails = full.rails.get_or_insert_default();
        rails.min_exploration.get_or_insert(0.02);
        rails.freeze.get_or_insert(false);
        if weighted {
            rails.max_delta.get_or_insert(0.15);
        }
        full.horizon.get_or_insert(Horizon { after_seconds: 30.0 * 86_400.0, outcome: None });
        full.mode.get_or_insert(Mode::Live);
        full.log_input.get_or_insert(LogInput::Contexts);
        let mut problems = Vec::new();
        full.check_baseline_combination(&mut problems);
        if problems.is_empty() { Ok(full) } else { Err(problems) }
    }

    /// The valid combinations as rows of option numbers, one entry per strategy; `None` = all.
    pub(crate) fn valid_rows(&self) -> Option<Vec<Vec<u16>>> {
        let valid = self.valid.as_ref()?;
        let mut rows: Vec<Vec<u16>> = Vec::new();
        for row in valid {
            let mut partial: Vec<Vec<u16>> = vec![Vec::new()];
            for strategy in &self.strategies {
                let numbers: Vec<u16> = match row.get(&strategy.name) {
                    Some(names) => names
                        .iter()
                        .filter_map(|name| strategy.options.iter().position(|option| option == name))
                        .map(|number| number as u16)
                        .collect(),
                    None => (0..strategy.options.len() as u16).collect(),
                };
                partial = partial
                    .into_iter()
                    .flat_map(|head| {
                        numbers.iter().map(move |&number| {
                            let mut next = head.clone();
                            next.push(number);
                            next
                        })
                    })
                    .collect();
            }
            rows.extend(partial);
        }
        Some(rows)
    }
}

impl Strategy {
    /// The number of the baseline option; the first one where none is declared.
    pub fn baseline_number(&self) -> usize {
        self.baseline
            .as_ref()
            .and_then(|baseline| self.options.iter().position(|option| option == baseline))
            .unwrap_or(0)
    }
}

impl Context {
    /// The labels of a number's buckets, one more than there are edges: `<500`, `500-2000`, `>=2000`.
    pub fn bucket_labels(&self) -> Vec<String> {
        let edges = self.buckets.as_deref().unwrap_or_default();
        let mut labels = Vec::with_capacity(edges.len() + 1);
        for (at, edge) in edges.iter().enumerate() {
            // `+ 0.0` turns -0 into 0.
            let edge = edge + 0.0;
            labels.push(if at == 0 { format!("<{edge}") } else { format!("{}-{edge}", edges[at - 1] + 0.0) });
        }
        if let Some(last) = edges.last() {
            labels.push(format!(">={}", last + 0.0));
        }
        labels
    }
}

/// At most 80 characters of what somebody sent, so that a message stays one line.
pub fn shown(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(77).chain("...".chars()).collect() }
}

/// `; did you mean "x"?` with the nearest known name, or the known names where none is near.
pub fn nearest_hint<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("; did you mean {near:?}?"),
        None if known.len() <= 12 && !known.is_empty() => format!("; use one of {}", known.join(", ")),
        None => String::new(),
    }
}

/// The known name that is nearest to a misspelt one; none where nothing is near.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Long names are never typos of short ones, and comparing them would cost.
    let name = if name.len() <= 4 * MAX_NAME_BYTES { name } else { return None };
    known
        .map(|candidate| (strsim::jaro_winkler(&name.to_lowercase(), &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= 0.8)
        .fold(None, |best: Option<(f64, &str)>, next| if best.is_none_or(|b| next.0 > b.0) { Some(next) } else { best })
        .map(|(_, candidate)| candidate)
}

/// A name as a part of a JSON pointer (RFC 6901).
pub fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
