//! What a decision capsule declares: strategies, contexts, reward and rails.
//!
//! A [`Definition`] is what an author wrote, and is embedded in the component as the custom
//! section `capsa:definition` (RFC 8785 JSON). [`Definition::filled`] writes every default down;
//! an install records that form, so that a later default changes nothing that runs today.
//!
//! Invariants:
//! * a filled definition is complete and consistent: nothing later has to ask "what if";
//! * names are kept as the author wrote them and are never converted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::joint::MAX_COMBINATIONS;

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
    /// How it learns; absent = thompson.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// What is answered while nothing may be learned on live traffic; absent = the first option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
}

/// How a strategy learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Algorithm {
    /// Options are drawn by the probability that each is the best one.
    Thompson,
    /// Weights that move by a share of the reward.
    SimpleWeighted,
}

impl Algorithm {
    /// Every algorithm, with its name in YAML.
    pub const ALL: [(&'static str, Algorithm); 2] =
        [("thompson", Algorithm::Thompson), ("simple_weighted", Algorithm::SimpleWeighted)];
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Horizon {
    /// Feedback that comes later is kept, not learned.
    pub after_seconds: f64,
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
    fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
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
        full.reward_range.get_or_insert([-1.0, 1.0]);
        let weighted = full.strategies.iter().any(|s| s.algorithm == Some(Algorithm::SimpleWeighted));
        let rails = full.rails.get_or_insert_default();
        rails.min_exploration.get_or_insert(0.02);
        rails.freeze.get_or_insert(false);
        if weighted {
            rails.max_delta.get_or_insert(0.15);
        }
        full.horizon.get_or_insert(Horizon { after_seconds: 30.0 * 86_400.0 });
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

    fn check(&self, problems: &mut Vec<Problem>) {
        if self.schema != SCHEMA {
            problems.push(Problem::new(
                "/schema",
                format!("schema {} is not known; this version reads {SCHEMA}", self.schema),
            ));
        }
        check_capsule_name(&self.name, problems);
        self.check_strategies(problems);
        self.check_valid(problems);
        self.check_contexts(problems);
        if let Some(limit) = self.max_contexts
            && !(1..=MAX_CONTEXTS).contains(&limit)
        {
            problems.push(Problem::new("/maxContexts", format!("max_contexts is {limit}; use 1 to {MAX_CONTEXTS}")));
        }
        self.check_reward(problems);
        self.check_rails(problems);
        self.check_times(problems);
    }

    fn check_strategies(&self, problems: &mut Vec<Problem>) {
        if self.strategies.is_empty() || self.strategies.len() > MAX_STRATEGIES {
            let count = self.strategies.len();
            problems.push(Problem::new("/strategies", format!("{count} strategies; use 1 to {MAX_STRATEGIES}")));
        }
        let mut seen = BTreeSet::new();
        for (at, strategy) in self.strategies.iter().enumerate() {
            let here = format!("/strategies/{at}");
            check_name("strategy", &strategy.name, &here, problems);
            if !seen.insert(&strategy.name) {
                problems.push(Problem::new(&here, format!("strategy {:?} stands twice", strategy.name)));
            }
            let count = strategy.options.len();
            if !(2..=MAX_OPTIONS).contains(&count) {
                problems
                    .push(Problem::new(format!("{here}/options"), format!("{count} options; use 2 to {MAX_OPTIONS}")));
            }
            check_unique("option", &strategy.options, &format!("{here}/options"), problems);
            if let Some(baseline) = &strategy.baseline
                && !strategy.options.contains(baseline)
            {
                let hint = nearest_hint(baseline, strategy.options.iter().map(String::as_str));
                problems.push(Problem::new(format!("{here}/baseline"), format!("{baseline:?} is not an option{hint}")));
            }
        }
    }

    fn check_valid(&self, problems: &mut Vec<Problem>) {
        let Some(valid) = &self.valid else {
            let all = self.strategies.iter().try_fold(1usize, |all, s| all.checked_mul(s.options.len()));
            if self.strategies.len() > 1 && all.is_none_or(|all| all > MAX_COMBINATIONS) {
                problems.push(Problem::new(
                    "/strategies",
                    format!(
                        "the strategies have more than {MAX_COMBINATIONS} combinations; list the valid ones under valid"
                    ),
                ));
            }
            return;
        };
        if self.strategies.len() < 2 {
            problems.push(Problem::new("/valid", "valid needs several strategies; leave it out with one"));
            return;
        }
        if valid.is_empty() {
            problems.push(Problem::new("/valid", "valid is empty: nothing could be chosen; leave it out to allow all"));
        }
        let mut combinations = 0usize;
        for (at, row) in valid.iter().enumerate() {
            let here = format!("/valid/{at}");
            for (name, options) in row {
                let Some(strategy) = self.strategies.iter().find(|s| &s.name == name) else {
                    let hint = nearest_hint(name, self.strategies.iter().map(|s| s.name.as_str()));
                    problems.push(Problem::new(
                        format!("{here}/{}", escape(name)),
                        format!("{name:?} is not a strategy{hint}"),
                    ));
                    continue;
                };
                if options.is_empty() {
                    problems.push(Problem::new(
                        format!("{here}/{}", escape(name)),
                        format!("{name} has no option in this row; leave it out to allow all"),
                    ));
                }
                for option in options.iter().filter(|option| !strategy.options.contains(option)) {
                    let hint = nearest_hint(option, strategy.options.iter().map(String::as_str));
                    problems.push(Problem::new(
                        format!("{here}/{}", escape(name)),
                        format!("{option:?} is not an option of strategy {name}{hint}"),
                    ));
                }
            }
            let size = self
                .strategies
                .iter()
                .try_fold(1usize, |all, s| all.checked_mul(row.get(&s.name).map_or(s.options.len(), Vec::len)));
            combinations = combinations.saturating_add(size.unwrap_or(usize::MAX));
        }
        if combinations > MAX_COMBINATIONS {
            problems.push(Problem::new("/valid", format!("valid lists more than {MAX_COMBINATIONS} combinations")));
        }
    }

    fn check_baseline_combination(&self, problems: &mut Vec<Problem>) {
        let Some(rows) = self.valid_rows() else { return };
        let baseline: Vec<u16> = self.strategies.iter().map(|s| s.baseline_number() as u16).collect();
        if !rows.contains(&baseline) {
            let named: Vec<String> =
                self.strategies.iter().map(|s| format!("{}: {}", s.name, s.options[s.baseline_number()])).collect();
            problems.push(Problem::new(
                "/valid",
                format!("the baselines together ({}) are not valid; declare a baseline under each strategy that makes a valid combination", named.join(", ")),
            ));
        }
    }

    fn check_contexts(&self, problems: &mut Vec<Problem>) {
        let count = self.contexts.len();
        if count > MAX_CONTEXT_FIELDS {
            problems.push(Problem::new("/contexts", format!("{count} contexts; use at most {MAX_CONTEXT_FIELDS}")));
        }
        let mut seen = BTreeSet::new();
        for (at, context) in self.contexts.iter().enumerate() {
            let here = format!("/contexts/{at}");
            check_name("context", &context.name, &here, problems);
            if !seen.insert(&context.name) {
                problems.push(Problem::new(&here, format!("context {:?} stands twice", context.name)));
            }
            context.check(&here, problems);
        }
    }

    fn check_reward(&self, problems: &mut Vec<Problem>) {
        let [low, high] = self.reward_range.unwrap_or([-1.0, 1.0]);
        if !(low.is_finite() && high.is_finite() && low < high) {
            problems.push(Problem::new(
                "/rewardRange",
                format!("reward_range is [{low}, {high}]; use two finite numbers, the lower one first"),
            ));
            return;
        }
        let Some(metrics) = &self.reward else { return };
        if metrics.is_empty() || metrics.len() > MAX_METRICS {
            problems.push(Problem::new(
                "/reward",
                format!("{} metrics; use 1 to {MAX_METRICS}, or leave reward out", metrics.len()),
            ));
        }
        let (mut lowest, mut highest) = (0.0, 0.0);
        for (name, metric) in metrics {
            let here = format!("/reward/{}", escape(name));
            check_name("metric", name, &here, problems);
            metric.check(&here, problems);
            lowest += metric.weight.min(0.0);
            highest += metric.weight.max(0.0);
        }
        // A sum of weights such as 0.6 + 0.4 may end a rounding error beyond 1.
        let slack = 1e-12 * (high - low);
        if problems.is_empty() && (lowest < low - slack || highest > high + slack) {
            problems.push(Problem::new(
                "/reward",
                format!("these weights make rewards from {lowest} to {highest}, outside reward_range [{low}, {high}]; widen reward_range or lower the weights"),
            ));
        }
    }

    fn check_rails(&self, problems: &mut Vec<Problem>) {
        let rails = self.rails.unwrap_or_default();
        if let Some(share) = rails.min_exploration
            && !(0.0..=1.0).contains(&share)
        {
            problems.push(Problem::new(
                "/rails/minExploration",
                format!("min_exploration is {share}; use a share from 0 to 1"),
            ));
        }
        if let Some(delta) = rails.max_delta {
            if !(delta > 0.0 && delta <= 1.0) {
                problems.push(Problem::new(
                    "/rails/maxDelta",
                    format!("max_delta is {delta}; use a number above 0, up to 1"),
                ));
            }
            if !self.strategies.iter().any(|s| s.algorithm == Some(Algorithm::SimpleWeighted)) {
                problems.push(Problem::new(
                    "/rails/maxDelta",
                    "max_delta acts only with algorithm: simple_weighted; leave it out or change the algorithm",
                ));
            }
        }
    }

    fn check_times(&self, problems: &mut Vec<Problem>) {
        if let Some(decay) = self.decay {
            let positive = |value: f64, most: f64| value.is_finite() && value > 0.0 && value <= most;
            match (decay.half_life_seconds, decay.half_life_feedbacks) {
                (Some(seconds), None) if !positive(seconds, MAX_SECONDS) => {
                    problems.push(Problem::new(
                        "/decay/halfLifeSeconds",
                        format!("half_life is {seconds} s; use more than 0 and at most ten years"),
                    ));
                }
                (None, Some(feedbacks)) if !positive(feedbacks, 1e12) => problems.push(Problem::new(
                    "/decay/halfLifeFeedbacks",
                    format!("half_life_feedbacks is {feedbacks}; use a number above 0"),
                )),
                (Some(_), Some(_)) | (None, None) => {
                    problems
                        .push(Problem::new("/decay", "decay takes exactly one of half_life and half_life_feedbacks"));
                }
                _ => {}
            }
        }
        if let Some(horizon) = self.horizon {
            let seconds = horizon.after_seconds;
            if !(seconds.is_finite() && seconds >= 1.0 && seconds <= MAX_SECONDS) {
                problems.push(Problem::new(
                    "/horizon/afterSeconds",
                    format!("the horizon is {seconds} s; use 1 s to ten years"),
                ));
            }
        }
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
    fn check(&self, here: &str, problems: &mut Vec<Problem>) {
        if self.values.is_some() && self.kind != ContextKind::Category {
            problems.push(Problem::new(
                format!("{here}/values"),
                "values belong to a category; a number takes buckets, a flag neither",
            ));
        }
        if self.buckets.is_some() && self.kind != ContextKind::Number {
            problems.push(Problem::new(
                format!("{here}/buckets"),
                "buckets belong to a number; a category takes values, a flag neither",
            ));
        }
        if let Some(values) = &self.values {
            if values.is_empty() || values.len() > MAX_CONTEXT_VALUES {
                problems.push(Problem::new(
                    format!("{here}/values"),
                    format!("{} values; use 1 to {MAX_CONTEXT_VALUES}", values.len()),
                ));
            }
            check_unique("value", values, &format!("{here}/values"), problems);
        }
        match (&self.buckets, self.kind) {
            (None, ContextKind::Number) => {
                problems.push(Problem::new(
                    here,
                    format!("number {:?} needs buckets, for example buckets: [500, 2000]", self.name),
                ));
            }
            (Some(edges), _) => {
                if edges.is_empty() || edges.len() > MAX_CONTEXT_VALUES {
                    problems.push(Problem::new(
                        format!("{here}/buckets"),
                        format!("{} edges; use 1 to {MAX_CONTEXT_VALUES}", edges.len()),
                    ));
                }
                if !edges.iter().all(|edge| edge.is_finite()) || edges.windows(2).any(|pair| pair[0] >= pair[1]) {
                    problems.push(Problem::new(
                        format!("{here}/buckets"),
                        format!("{edges:?}: use finite edges, each above the one before"),
                    ));
                }
            }
            _ => {}
        }
    }

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

impl Metric {
    fn check(&self, here: &str, problems: &mut Vec<Problem>) {
        if !self.weight.is_finite() || self.weight == 0.0 {
            problems.push(Problem::new(
                format!("{here}/weight"),
                format!("weight is {}; use a finite number other than 0", self.weight),
            ));
        }
        if self.budget.is_some() && self.range.is_some() {
            problems.push(Problem::new(here, "a metric takes budget or range, not both"));
        }
        if let Some(budget) = self.budget
            && !(budget.is_finite() && budget > 0.0)
        {
            problems.push(Problem::new(format!("{here}/budget"), format!("budget is {budget}; use a number above 0")));
        }
        if let Some([low, high]) = self.range
            && !(low.is_finite() && high.is_finite() && low < high && (high - low).is_finite())
        {
            problems.push(Problem::new(
                format!("{here}/range"),
                format!("range is [{low}, {high}]; use two finite numbers, the lower one first"),
            ));
        }
    }
}

fn check_capsule_name(name: &str, problems: &mut Vec<Problem>) {
    let fits = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    if !fits {
        problems.push(Problem::new(
            "/name",
            format!("{:?} cannot be a capsule's name; use 1 to {MAX_NAME_BYTES} of a-z, 0-9, - and _, starting with a letter or digit", shown(name)),
        ));
    }
}

fn check_name(what: &str, name: &str, pointer: &str, problems: &mut Vec<Problem>) {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        problems.push(Problem::new(
            pointer,
            format!(
                "{:?} cannot be the name of a {what}; use 1 to {MAX_NAME_BYTES} bytes without control characters",
                shown(name)
            ),
        ));
    }
}

fn check_unique(what: &str, names: &[String], pointer: &str, problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for (at, name) in names.iter().enumerate() {
        let here = format!("{pointer}/{at}");
        check_name(what, name, &here, problems);
        if !seen.insert(name) {
            problems.push(Problem::new(here, format!("{what} {name:?} stands twice")));
        }
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
