//! The rules that a definition has to keep.
//!
//! Every rule that is broken is reported, with its place, the offending value and the remedy.

use std::collections::{BTreeMap, BTreeSet};

use crate::definition::{
    Algorithm, Context, ContextKind, DEFAULT_REWARD_RANGE, Definition, MAX_CONTEXT_FIELDS, MAX_CONTEXT_VALUES,
    MAX_CONTEXTS, MAX_METRICS, MAX_NAME_BYTES, MAX_OPTIONS, MAX_PRIOR_COUNT, MAX_SECONDS, MAX_STRATEGIES, Metric,
    Problem, SCHEMA, Strategy, escape, nearest_hint, shown,
};
use crate::joint::MAX_COMBINATIONS;
use crate::outcome;

impl Definition {
    pub(crate) fn check(&self, problems: &mut Vec<Problem>) {
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
        self.check_shrinkage(problems);
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
            if let Some(Algorithm::EpsilonGreedy { epsilon }) = strategy.algorithm
                && !(0.0..=1.0).contains(&epsilon)
            {
                problems.push(Problem::new(
                    format!("{here}/algorithm/epsilon"),
                    format!("epsilon is {epsilon}; use a share from 0 to 1"),
                ));
            }
            self.check_priors(strategy, &here, problems);
        }
    }

    fn check_priors(&self, strategy: &Strategy, here: &str, problems: &mut Vec<Problem>) {
        let [low, high] = self.reward_range.unwrap_or(DEFAULT_REWARD_RANGE);
        for (option, prior) in &strategy.priors {
            let here = format!("{here}/priors/{}", escape(option));
            if !strategy.options.contains(option) {
                let hint = nearest_hint(option, strategy.options.iter().map(String::as_str));
                problems.push(Problem::new(&here, format!("{option:?} is not an option{hint}")));
            }
            // An invalid range is a problem of its own.
            if low < high && !(low..=high).contains(&prior.reward) {
                problems.push(Problem::new(
                    format!("{here}/reward"),
                    format!(
                        "the prior of {option} has reward {}; use a reward within reward_range [{low}, {high}]",
                        prior.reward
                    ),
                ));
            }
            if !(prior.count > 0.0 && prior.count <= MAX_PRIOR_COUNT) {
                problems.push(Problem::new(
                    format!("{here}/count"),
                    format!(
                        "the prior of {option} counts as {} rewards; use more than 0 and at most {MAX_PRIOR_COUNT}",
                        prior.count
                    ),
                ));
            }
        }
    }

    fn check_shrinkage(&self, problems: &mut Vec<Problem>) {
        let Some(shrinkage) = self.shrinkage else { return };
        if !(shrinkage.strength > 0.0 && shrinkage.strength <= MAX_PRIOR_COUNT) {
            problems.push(Problem::new(
                "/shrinkage/strength",
                format!("strength is {} rewards; use more than 0 and at most {MAX_PRIOR_COUNT}", shrinkage.strength),
            ));
        }
        let acts = |strategy: &Strategy| !strategy.algorithm.is_some_and(Algorithm::is_weighted);
        if !self.strategies.iter().any(acts) {
            problems.push(Problem::new(
                "/shrinkage",
                "shrinkage does not act with algorithm: simple_weighted; leave it out or change the algorithm",
            ));
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

    pub(crate) fn check_baseline_combination(&self, problems: &mut Vec<Problem>) {
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
        let [low, high] = self.reward_range.unwrap_or(DEFAULT_REWARD_RANGE);
        if !(low.is_finite() && (high - low).is_finite() && low < high) {
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
        if let Some(horizon) = &self.horizon {
            let seconds = horizon.after_seconds;
            if !(1.0..=MAX_SECONDS).contains(&seconds) {
                problems.push(Problem::new(
                    "/horizon/afterSeconds",
                    format!("the horizon is {seconds} s; use 1 s to ten years"),
                ));
            }
            if let Some(defaults) = &horizon.outcome {
                self.check_defaults(defaults, problems);
            }
        }
    }

    /// What is not sent until the horizon must count as something that could have been sent.
    fn check_defaults(&self, defaults: &BTreeMap<String, f64>, problems: &mut Vec<Problem>) {
        const AT: &str = "/horizon/outcome";
        if defaults.is_empty() {
            problems.push(Problem::new(AT, "outcome is empty; name a metric and its value, or leave outcome out"));
        }
        if defaults.len() > MAX_METRICS {
            problems
                .push(Problem::new(AT, format!("outcome has {} metrics; use at most {MAX_METRICS}", defaults.len())));
            return;
        }
        for (name, value) in defaults {
            let here = format!("{AT}/{}", escape(name));
            let refused = match &self.reward {
                Some(declared) => match declared.get(name) {
                    Some(metric) => outcome::scaled(name, metric, *value).err().map(|refused| refused.detail),
                    None => {
                        let hint = nearest_hint(name, declared.keys().map(String::as_str));
                        Some(format!("{name:?} is not a metric of reward{hint}"))
                    }
                },
                None if value.is_finite() => None,
                None => Some(format!("{name} is not a finite number")),
            };
            problems.extend(refused.map(|why| Problem::new(here, why)));
        }
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
