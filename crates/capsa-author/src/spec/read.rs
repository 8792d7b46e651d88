//! From the tree of a spec to a definition: shapes, types and what this version does not support.
//!
//! Invariant: what cannot be read is left out of the definition, named as a problem, and marked
//! as unread, so that the rules which then fail are not reported on top.

use std::collections::BTreeMap;

use capsa_core::definition::{
    Context, ContextKind, DEFAULT_STRATEGY, Decay, Definition, Horizon, Kind, LogInput, Metric, Mode, Rails, SCHEMA,
    Shrinkage, Strategy, escape,
};

use super::places::{Mark, Places};
use super::yaml::Node;

mod shape;
mod strategies;

use shape::{At, Keys};

/// Every key at the top.
const TOP: [&str; 16] = [
    "name",
    "options",
    "strategies",
    "valid",
    "contexts",
    "max_contexts",
    "reward",
    "reward_range",
    "algorithm",
    "baseline",
    "rails",
    "decay",
    "shrinkage",
    "horizon",
    "mode",
    "log_input",
];

/// The definition of a tree, as far as it can be read.
pub(super) fn definition(root: &Node, places: &mut Places) -> Definition {
    let at = At { node: root, key: String::new() };
    places.place("", root.mark, "");
    let mut definition = Definition {
        schema: SCHEMA,
        kind: Kind::Decision,
        name: String::new(),
        strategies: Vec::new(),
        valid: None,
        contexts: Vec::new(),
        max_contexts: None,
        reward: None,
        reward_range: None,
        rails: None,
        decay: None,
        shrinkage: None,
        horizon: None,
        mode: None,
        log_input: None,
    };
    let Some(mut top) = Keys::of(&at, &TOP, &["session_ttl"], places) else {
        places.unread("");
        return definition;
    };
    match top.take("name") {
        Some(name) => match name.text(places) {
            Some(text) => {
                places.place("/name", name.node.mark, "name");
                definition.name = text;
            }
            None => places.unread("/name"),
        },
        None => {
            places.problem(root.mark, "", "name is missing");
            places.unread("/name");
        }
    }
    definition.strategies = strategies::strategies(&mut top, root.mark, places);
    definition.valid = top.take("valid").and_then(|at| strategies::valid(&at, places));
    definition.contexts = top.take("contexts").map(|at| contexts(&at, places)).unwrap_or_default();
    definition.max_contexts = top.take("max_contexts").and_then(|at| max_contexts(&at, places));
    definition.reward_range = top.take("reward_range").and_then(|at| {
        places.place("/rewardRange", at.node.mark, &at.key);
        let range = at.pair(places);
        if range.is_none() {
            places.unread("/rewardRange");
            // Only the rules about the sum of all weights and about priors depend on it.
            places.incomplete("/reward");
            for (at, strategy) in definition.strategies.iter().enumerate() {
                let rewards =
                    strategy.priors.keys().map(|option| format!("/strategies/{at}/priors/{}/reward", escape(option)));
                rewards.for_each(|pointer| places.unread(pointer));
            }
        }
        range
    });
    definition.reward = top.take("reward").and_then(|at| reward(&at, places));
    definition.rails = top.take("rails").and_then(|at| rails(&at, places));
    definition.decay = top.take("decay").and_then(|at| decay(&at, places));
    definition.shrinkage = top.take("shrinkage").and_then(|at| shrinkage(&at, places));
    definition.horizon = top.take("horizon").and_then(|at| horizon(&at, places));
    definition.mode = top.take("mode").and_then(|at| mode(&at, places));
    definition.log_input = top.take("log_input").and_then(|at| log_input(&at, places));
    definition
}

fn contexts(at: &At<'_>, places: &mut Places) -> Vec<Context> {
    places.place("/contexts", at.node.mark, &at.key);
    let Some(items) = at.list(places) else {
        places.unread("/contexts");
        return Vec::new();
    };
    let mut contexts = Vec::with_capacity(items.len());
    for item in items {
        let here = format!("/contexts/{}", contexts.len());
        match context(&item, &here, places) {
            Some(context) => contexts.push(context),
            // The rules number what was read, so only the one about all of them is affected.
            None => places.incomplete("/contexts"),
        }
    }
    contexts
}

fn context(at: &At<'_>, here: &str, places: &mut Places) -> Option<Context> {
    if at.is_scalar() {
        let name = at.text(places)?;
        places.place(here, at.node.mark, &at.key);
        return Some(Context { name, kind: ContextKind::Category, values: None, buckets: None });
    }
    let mut keys = Keys::of(at, &["name", "type", "values", "buckets"], &[], places)?;
    let name = keys.required("name", at, places).and_then(|at| at.text(places));
    let values = keys.take("values").map(|at| {
        places.place(format!("{here}/values"), at.node.mark, &at.key);
        let items = at.list(places)?;
        for (number, item) in items.iter().enumerate() {
            places.place(format!("{here}/values/{number}"), item.node.mark, &item.key);
        }
        items.iter().map(|item| item.text(places)).collect::<Option<Vec<String>>>()
    });
    let buckets = keys.take("buckets").map(|at| {
        places.place(format!("{here}/buckets"), at.node.mark, &at.key);
        at.list(places)?.iter().map(|item| item.number(places)).collect::<Option<Vec<f64>>>()
    });
    let kinds = [("category", ContextKind::Category), ("number", ContextKind::Number), ("flag", ContextKind::Flag)];
    let kind = match keys.take("type") {
        Some(at) => at.one_of("a type of context", &kinds, &[], places)?,
        None if buckets.is_some() && values.is_none() => ContextKind::Number,
        None => ContextKind::Category,
    };
    // `Some(None)`: written, but not readable.
    if values == Some(None) || buckets == Some(None) {
        return None;
    }
    places.place(here, at.node.mark, &at.key);
    Some(Context { name: name?, kind, values: values.flatten(), buckets: buckets.flatten() })
}

fn max_contexts(at: &At<'_>, places: &mut Places) -> Option<u32> {
    places.place("/maxContexts", at.node.mark, &at.key);
    let number = at.number(places)?;
    if number.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&number) {
        places.problem(
            at.node.mark,
            &at.key,
            format!("{number} is not a number of contexts; use a whole number such as 10000"),
        );
        return None;
    }
    Some(number as u32)
}

fn reward(at: &At<'_>, places: &mut Places) -> Option<BTreeMap<String, Metric>> {
    places.place("/reward", at.node.mark, &at.key);
    let Some(entries) = at.entries("metrics and their weights", places) else {
        places.unread("/reward");
        return None;
    };
    let mut metrics = BTreeMap::new();
    for (name, item) in entries {
        let here = format!("/reward/{}", escape(name));
        places.place(&here, item.node.mark, &item.key);
        match metric(&item, &here, places) {
            Some(metric) => {
                metrics.insert(name.to_owned(), metric);
            }
            None => places.unread(here),
        }
    }
    Some(metrics)
}

fn metric(at: &At<'_>, here: &str, places: &mut Places) -> Option<Metric> {
    if at.is_scalar() {
        return Some(Metric { weight: at.number(places)?, budget: None, range: None });
    }
    let mut keys = Keys::of(at, &["weight", "budget", "range"], &[], places)?;
    let weight = keys.required("weight", at, places).and_then(|at| {
        places.place(format!("{here}/weight"), at.node.mark, &at.key);
        at.number(places)
    });
    let budget = keys.take("budget").map(|at| {
        places.place(format!("{here}/budget"), at.node.mark, &at.key);
        at.number(places)
    });
    let range = keys.take("range").map(|at| {
        places.place(format!("{here}/range"), at.node.mark, &at.key);
        at.pair(places)
    });
    if budget == Some(None) || range == Some(None) {
        return None;
    }
    Some(Metric { weight: weight?, budget: budget.flatten(), range: range.flatten() })
}

fn rails(at: &At<'_>, places: &mut Places) -> Option<Rails> {
    places.place("/rails", at.node.mark, &at.key);
    let mut keys = Keys::of(at, &["min_exploration", "max_delta", "freeze"], &[], places)?;
    let mut number = |key: &str, pointer: &str, places: &mut Places| {
        let at = keys.take(key)?;
        places.place(pointer, at.node.mark, &at.key);
        at.number(places)
    };
    let min_exploration = number("min_exploration", "/rails/minExploration", places);
    let max_delta = number("max_delta", "/rails/maxDelta", places);
    let freeze = keys.take("freeze").and_then(|at| at.flag(places));
    Some(Rails { min_exploration, max_delta, freeze })
}

fn decay(at: &At<'_>, places: &mut Places) -> Option<Decay> {
    places.place("/decay", at.node.mark, &at.key);
    let told = places.count();
    let mut keys = Keys::of(at, &["half_life", "half_life_feedbacks"], &[], places)?;
    let half_life_seconds = keys.take("half_life").map(|at| {
        places.place("/decay/halfLifeSeconds", at.node.mark, &at.key);
        at.seconds(places)
    });
    let half_life_feedbacks = keys.take("half_life_feedbacks").map(|at| {
        places.place("/decay/halfLifeFeedbacks", at.node.mark, &at.key);
        at.number(places)
    });
    let unread = half_life_seconds == Some(None) || half_life_feedbacks == Some(None);
    // What makes an empty map of it, such as a misspelt key, has been said.
    let emptied = half_life_seconds.is_none() && half_life_feedbacks.is_none() && places.told_since(told, at.node.mark);
    if unread || emptied {
        return None;
    }
    Some(Decay { half_life_seconds: half_life_seconds.flatten(), half_life_feedbacks: half_life_feedbacks.flatten() })
}

fn shrinkage(at: &At<'_>, places: &mut Places) -> Option<Shrinkage> {
    places.place("/shrinkage", at.node.mark, &at.key);
    let mut keys = Keys::of(at, &["strength"], &[], places)?;
    let strength = keys.required("strength", at, places)?;
    places.place("/shrinkage/strength", strength.node.mark, &strength.key);
    Some(Shrinkage { strength: strength.number(places)? })
}

fn horizon(at: &At<'_>, places: &mut Places) -> Option<Horizon> {
    places.place("/horizon", at.node.mark, &at.key);
    let told = places.count();
    let mut keys = Keys::of(at, &["after", "outcome"], &[], places)?;
    if !keys.has("after") && places.told_since(told, at.node.mark) {
        return None;
    }
    let after = keys.required("after", at, places)?;
    places.place("/horizon/afterSeconds", after.node.mark, &after.key);
    let after_seconds = after.seconds(places);
    let outcome = keys.take("outcome").map(|at| default_outcome(&at, places));
    Some(Horizon { after_seconds: after_seconds?, outcome: outcome.flatten() })
}

/// Metrics by name; one that cannot be read is told, and left out.
fn default_outcome(at: &At<'_>, places: &mut Places) -> Option<BTreeMap<String, f64>> {
    places.place("/horizon/outcome", at.node.mark, &at.key);
    let mut metrics = BTreeMap::new();
    let entries = at.entries("metrics and what they count as", places)?;
    let given = entries.len();
    for (name, item) in entries {
        places.place(format!("/horizon/outcome/{}", escape(name)), item.node.mark, &item.key);
        metrics.extend(item.metric(places).map(|value| (name.to_owned(), value)));
    }
    // Nothing that could be read is told already: it is not the empty map that somebody wrote.
    (given == 0 || !metrics.is_empty()).then_some(metrics)
}

fn mode(at: &At<'_>, places: &mut Places) -> Option<Mode> {
    let modes = [("off", Mode::Off), ("shadow", Mode::Shadow), ("live", Mode::Live)];
    at.one_of("a mode", &modes, &["canary"], places)
}

fn log_input(at: &At<'_>, places: &mut Places) -> Option<LogInput> {
    at.one_of("a way to log input", &[("contexts", LogInput::Contexts)], &["full"], places)
}
