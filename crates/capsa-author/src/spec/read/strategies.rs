//! Options, algorithm and baseline: at the top of a spec, or under each of several strategies.

use std::collections::BTreeMap;

use capsa_core::definition::Algorithm;

use super::*;

/// Algorithms that `api_shapes` knows and this version does not.
const LATER_ALGORITHMS: [&str; 2] = ["epsilon_greedy", "ucb1"];
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
        let algorithm = algorithm(&at, places);
        if algorithm.is_none() {
            places.unread("/rails/maxDelta");
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
    Strategy { name, options: options.unwrap_or_default(), algorithm, baseline }
}

/// The options; `None` where one of them, or their list, cannot be read.
fn options(at: &At<'_>, here: &str, places: &mut Places) -> Option<Vec<String>> {
    places.place(format!("{here}/options"), at.node.mark, &at.key);
    let mut options = Vec::new();
    let mut all_read = true;
    for (number, item) in at.list(places)?.into_iter().enumerate() {
        let name = if item.is_scalar() {
            item.text(places)
        } else {
            // A renamed option is refused, its name is usable all the same.
            Keys::of(&item, &["name"], &["was"], places)
                .and_then(|mut keys| keys.required("name", &item, places))
                .and_then(|at| at.text(places))
        };
        places.place(format!("{here}/options/{number}"), item.node.mark, &item.key);
        all_read &= name.is_some();
        options.extend(name);
    }
    all_read.then_some(options)
}

fn algorithm(at: &At<'_>, places: &mut Places) -> Option<Algorithm> {
    if at.is_scalar() {
        return at.one_of("an algorithm", &Algorithm::ALL, &LATER_ALGORITHMS, places);
    }
    let entries = at.entries("name and the algorithm's own keys", places)?;
    // What belongs to an algorithm that is refused is not looked at.
    if let Some((_, name)) = entries.iter().find(|(key, _)| *key == "name") {
        let algorithm = name.one_of("an algorithm", &Algorithm::ALL, &LATER_ALGORITHMS, places)?;
        Keys::of(at, &["name"], &[], places)?;
        return Some(algorithm);
    }
    places.problem(at.node.mark, &at.key, "name is missing; write for example algorithm: thompson");
    None
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
