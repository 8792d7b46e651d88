//! Options, algorithm and baseline: at the top of a spec, or under each of several strategies.

use std::collections::BTreeMap;

use capsa_core::definition::{Algorithm, Prior};

use super::*;

/// What a strategy holds; with one strategy these keys stand at the top.
const STRATEGY: [&str; 3] = ["options", "algorithm", "baseline"];

pub(super) fn strategies(top: &mut Keys<'_>, root: Mark, places: &mut Places) -> Vec<Strategy> {
    if let Some(several) = top.take("strategies") {
        for key in STRATEGY {
            if let Some(at) = top.take(key) {
                let message = format!("with strategies, {key} stands under each strategy; move it there");
                places.problem(at.node.mark, at.key, message);
            }
        }
        return several_strategies(&several, places);
    }
    if !top.has("options") {
        places.problem(root, "", "options is missing; list 2 options or more, or declare strategies");
        places.unread("/strategies");
        places.unread("/rails/maxDelta");
        return Vec::new();
    }
    places.place("/strategies", root, "");
    vec![strategy(DEFAULT_STRATEGY.to_owned(), "/strategies/0", top, places)]
}

fn several_strategies(at: &At<'_>, places: &mut Places) -> Vec<Strategy> {
    places.place("/strategies", at.node.mark, &at.key);
    let Some(entries) = at.entries("names of strategies and what each of them holds", places) else {
        places.unread("/strategies");
        places.unread("/rails/maxDelta");
        return Vec::new();
    };
    let mut strategies = Vec::with_capacity(entries.len());
    for (name, item) in entries {
        let here = format!("/strategies/{}", strategies.len());
        places.place(&here, item.node.mark, &item.key);
        let read = Keys::of(&item, &STRATEGY, &[], places).and_then(|mut keys| {
            if keys.has("options") {
                return Some(strategy(name.to_owned(), &here, &mut keys, places));
            }
            places.problem(item.node.mark, &item.key, "options is missing; list 2 options or more");
            None
        });
        match read {
            Some(strategy) => strategies.push(strategy),
            None => {
                // Rules about combinations and about all strategies would speak of what is not there.
                places.incomplete("/strategies");
                places.unread("/valid");
                places.unread("/rails/maxDelta");
            }
        }
    }
    strategies
}

fn strategy(name: String, here: &str, keys: &mut Keys<'_>, places: &mut Places) -> Strategy {
    let options = keys.take("options").and_then(|at| options(&at, here, places));
    if options.is_none() {
        places.unread(format!("{here}/options"));
        places.unread(format!("{here}/baseline"));
        places.unread("/valid");
    }
    let algorithm = keys.take("algorithm").and_then(|at| {
        let algorithm = algorithm(&at, here, places);
        if algorithm.is_none() {
            places.unread("/rails/maxDelta");
            places.unread("/shrinkage");
        }
        algorithm
    });
    let baseline = keys.take("baseline").and_then(|at| {
        places.place(format!("{here}/baseline"), at.node.mark, &at.key);
        let baseline = at.text(places);
        if baseline.is_none() {
            places.unread("/valid");
        }
        baseline
    });
    let (options, priors) = options.unwrap_or_default();
    Strategy { name, options, priors, algorithm, baseline }
}

type Options = (Vec<String>, BTreeMap<String, Prior>);

/// The options and what is believed of them; `None` where one of them, or their list, cannot be read.
fn options(at: &At<'_>, here: &str, places: &mut Places) -> Option<Options> {
    places.place(format!("{here}/options"), at.node.mark, &at.key);
    let mut options = Vec::new();
    let mut priors = BTreeMap::new();
    let mut all_read = true;
    for (number, item) in at.list(places)?.into_iter().enumerate() {
        let name = if item.is_scalar() {
            item.text(places)
        } else {
            // A renamed option is refused, its name is usable all the same.
            Keys::of(&item, &["name", "prior"], &["was"], places).and_then(|mut keys| {
                let name = keys.required("name", &item, places).and_then(|at| at.text(places))?;
                if let Some(at) = keys.take("prior") {
                    priors.extend(prior(&at, &name, here, places).map(|prior| (name.clone(), prior)));
                }
                Some(name)
            })
        };
        places.place(format!("{here}/options/{number}"), item.node.mark, &item.key);
        all_read &= name.is_some();
        options.extend(name);
    }
    all_read.then_some((options, priors))
}

fn prior(at: &At<'_>, option: &str, here: &str, places: &mut Places) -> Option<Prior> {
    let here = format!("{here}/priors/{}", escape(option));
    places.place(&here, at.node.mark, &at.key);
    let mut keys = Keys::of(at, &["reward", "count"], &[], places)?;
    let mut number = |key: &str, places: &mut Places| {
        let at = keys.required(key, at, places)?;
        places.place(format!("{here}/{key}"), at.node.mark, &at.key);
        at.number(places)
    };
    let (reward, count) = (number("reward", places), number("count", places));
    Some(Prior { reward: reward?, count: count? })
}

fn algorithm(at: &At<'_>, here: &str, places: &mut Places) -> Option<Algorithm> {
    if at.is_scalar() {
        return at.one_of("an algorithm", &Algorithm::ALL, &[], places);
    }
    let entries = at.entries("name and the algorithm's own keys", places)?;
    // What belongs to an algorithm that is refused is not looked at.
    let Some((_, name)) = entries.iter().find(|(key, _)| *key == "name") else {
        places.problem(at.node.mark, &at.key, "name is missing; write for example algorithm: thompson");
        return None;
    };
    match name.one_of("an algorithm", &Algorithm::ALL, &[], places)? {
        Algorithm::EpsilonGreedy { epsilon } => {
            let mut keys = Keys::of(at, &["name", "epsilon"], &[], places)?;
            let Some(at) = keys.take("epsilon") else { return Some(Algorithm::EpsilonGreedy { epsilon }) };
            places.place(format!("{here}/algorithm/epsilon"), at.node.mark, &at.key);
            Some(Algorithm::EpsilonGreedy { epsilon: at.number(places)? })
        }
        other => {
            if let Some((_, epsilon)) = entries.iter().find(|(key, _)| *key == "epsilon") {
                let message = "epsilon acts only with epsilon_greedy; leave it out or change the algorithm";
                places.problem(epsilon.node.mark, &epsilon.key, message);
                return None;
            }
            Keys::of(at, &["name"], &[], places)?;
            Some(other)
        }
    }
}

pub(super) fn valid(at: &At<'_>, places: &mut Places) -> Option<Vec<BTreeMap<String, Vec<String>>>> {
    places.place("/valid", at.node.mark, &at.key);
    let rows: Option<Vec<_>> = at.list(places).map(|items| {
        items.iter().enumerate().map(|(number, item)| row(item, &format!("/valid/{number}"), places)).collect()
    });
    let rows: Option<Vec<_>> = rows.and_then(|rows| rows.into_iter().collect());
    if rows.is_none() {
        places.unread("/valid");
    }
    rows
}

fn row(at: &At<'_>, here: &str, places: &mut Places) -> Option<BTreeMap<String, Vec<String>>> {
    places.place(here, at.node.mark, &at.key);
    let mut row = BTreeMap::new();
    for (strategy, item) in at.entries("strategies and the options that are valid together", places)? {
        let here = format!("{here}/{}", escape(strategy));
        places.place(&here, item.node.mark, &item.key);
        let options = if item.is_scalar() {
            vec![item.text(places)?]
        } else {
            let items = item.list(places)?;
            for (number, option) in items.iter().enumerate() {
                places.place(format!("{here}/{number}"), option.node.mark, &option.key);
            }
            items.iter().map(|option| option.text(places)).collect::<Option<Vec<String>>>()?
        };
        row.insert(strategy.to_owned(), options);
    }
    Some(row)
}
