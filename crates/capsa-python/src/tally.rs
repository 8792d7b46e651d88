//! What a report counts, as Python sees it.

use std::collections::BTreeMap;

use capsa_core::cbor::ByName;
use capsa_core::tally::Tally;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The counts as a dict, as of a time.
pub fn counts<'py>(py: Python<'py>, tally: Tally, now_ms: u64) -> PyResult<Bound<'py, PyDict>> {
    let counts = PyDict::new(py);
    counts.set_item("decisions", tally.decisions)?;
    counts.set_item("waiting", tally.open.at(now_ms))?;
    let feedback = PyDict::new(py);
    feedback.set_item("applied", tally.feedback.applied)?;
    feedback.set_item("late", tally.feedback.late)?;
    feedback.set_item("frozen", tally.feedback.frozen)?;
    feedback.set_item("kept", tally.feedback.kept)?;
    feedback.set_item("defaulted", tally.feedback.defaulted)?;
    feedback.set_item("without_decision", tally.feedback.without_decision)?;
    feedback.set_item("median_delay_seconds", tally.delays.median_seconds())?;
    counts.set_item("feedback", feedback)?;
    counts.set_item("shadow", (tally.shadow.decisions, tally.shadow.agreed))?;
    counts.set_item("reward_sum", tally.reward_sum)?;
    let options = PyDict::new(py);
    for (strategy, by_option) in &tally.options.0 {
        let of_strategy = PyDict::new(py);
        for (option, tally) in &by_option.0 {
            let (waiting, expired) = tally.open.at(now_ms);
            of_strategy.set_item(option, (tally.decisions, tally.rewards, tally.sum, waiting, expired))?;
        }
        options.set_item(strategy, of_strategy)?;
    }
    counts.set_item("options", options)?;
    counts.set_item("uncounted", tally.uncounted)?;
    counts.set_item("unknown", tally.unknown.0)?;
    let other: BTreeMap<String, BTreeMap<String, u64>> =
        tally.other.0.into_iter().map(|(name, ByName(values))| (name, values)).collect();
    counts.set_item("other", other)?;
    Ok(counts)
}
