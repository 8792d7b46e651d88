//! What a call asks and answers beside the state: checks of its arguments, lines of a guest's log.

use std::collections::BTreeMap;

use capsa_core::definition::Definition;
use capsa_core::program::{MAX_KEY_BYTES, Program};
use capsa_core::rejected::{Refusal, Rejected};
use capsa_vm::{Level, Log};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert;
use crate::errors::Raised;

/// What a guest logged, as (level, line).
pub fn log_lines(log: Log) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = (log.lines.into_iter())
        .map(|line| {
            let level = match line.level {
                Level::Debug => "debug",
                Level::Info => "info",
                Level::Warn => "warn",
                Level::Error => "error",
            };
            (level.to_owned(), line.message)
        })
        .collect();
    if log.dropped > 0 {
        lines.push(("warn".to_owned(), format!("{} more lines were dropped", log.dropped)));
    }
    lines
}

/// The names of the strategies, in order.
pub fn strategy_names(program: &Program) -> Vec<String> {
    program.definition.strategies.iter().map(|strategy| strategy.name.clone()).collect()
}

/// The refusal of a strategy by a number that none has.
pub fn unknown_strategy_number(definition: &Definition, number: i64) -> Rejected {
    let names: Vec<&str> = definition.strategies.iter().map(|s| s.name.as_str()).collect();
    Rejected::new(
        Refusal::UnknownStrategy,
        "/strategyId",
        number,
        format!("{number} is not a strategy of {}, which has {}", definition.name, names.len()),
        format!("use {}, or its number", names.join(", ")),
    )
}

/// Checks the length of a context key that a caller gave.
pub fn check_key(key: &str) -> Result<(), Rejected> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Ok(());
    }
    Err(Rejected::new(
        Refusal::InvalidField,
        "/contextKey",
        key,
        format!("the context key has {} bytes", key.len()),
        format!("send 1 to {MAX_KEY_BYTES} bytes, or leave it out to have it computed"),
    ))
}

/// The metrics of an outcome as finite numbers.
pub fn metrics(outcome: &Bound<'_, PyDict>) -> Result<BTreeMap<String, f64>, Raised> {
    (outcome.iter())
        .map(|(name, value)| {
            let name: String = name.extract().map_err(|_| {
                Rejected::absent(
                    Refusal::InvalidField,
                    "/outcome",
                    "a metric's name is not a text",
                    "use the declared names",
                )
            })?;
            let value = convert::number(&value, &format!("/outcome/{}", capsa_core::definition::escape(&name)))?;
            if !value.is_finite() {
                return Err(Rejected::new(
                    Refusal::InvalidField,
                    format!("/outcome/{}", capsa_core::definition::escape(&name)),
                    value,
                    format!("{} is not a finite number", capsa_core::definition::shown(&name)),
                    "send a finite number, or leave the metric out",
                )
                .into());
            }
            Ok((name, value))
        })
        .collect()
}

/// A definition as JSON.
pub fn json(definition: &Definition) -> String {
    serde_json::to_string(definition).expect("a definition is JSON")
}
