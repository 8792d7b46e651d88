//! A recorded decision, made again.

use std::sync::Arc;

use capsa_core::decide::{Ask, decide};
use capsa_core::definition::Mode;
use capsa_core::events::Decided;
use capsa_core::input::ContextNotes;
use capsa_core::program::Program;
use capsa_core::record::{Circumstances, record};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::capsule::Capsule;
use crate::decision::Decision;
use crate::errors::Raised;

/// Makes a recorded decision again, from the state that the capsule has now: from the same state it
/// has the same payload, to the byte. The guest is not asked again: key and allowed options are in the
/// record.
#[pyfunction]
pub fn decide_again(py: Python<'_>, capsule: &Capsule, decision: &Decision, now_ms: u64) -> Result<Decision, Raised> {
    let recorded = &decision.record;
    let (record, version) = py.detach(|| -> Result<_, Raised> {
        let mut inner = capsule.lock();
        let program = Arc::clone(inner.state.program());
        let ask = Ask {
            nonce: recorded.id.0,
            stream_key: capsule.stream_key(),
            now_ms,
            key: recorded.key.clone(),
            allowed: allowed(&program, recorded),
            current: recorded.current.as_ref().map(|current| numbers(&program, &current.0)),
        };
        let capsule_version = inner.state.version();
        let version = Arc::clone(&inner.state.current().definition);
        let (_, learned, cache) = inner.state.for_decision();
        let made = decide(&program, learned, cache, &ask)?;
        let notes = ContextNotes {
            unknown: recorded.unknown.clone().unwrap_or_default(),
            other: recorded.other.iter().flat_map(|other| other.0.clone()).collect(),
        };
        let learner_version = learned.version();
        let subject = recorded.subject.map(|subject| subject.0);
        let around = Circumstances { key_from: recorded.key_from, notes, capsule_version, learner_version, subject };
        Ok((record(&program, &ask, &made, &around), version))
    })?;
    let payload = if record.mode == Mode::Off { Vec::new() } else { record.encode(&version) };
    let again = Decision::new(record, decision.origin(), version, PyBytes::new(py, &payload).unbind());
    Ok(match decision.recorded_sequence() {
        Some(sequence) => again.at(sequence),
        None => again,
    })
}

/// What the record allowed, in the program's order; everything where it says nothing.
fn allowed(program: &Program, recorded: &Decided) -> Vec<bool> {
    let Some(by_strategy) = &recorded.allowed else { return vec![true; program.total_options] };
    let mut allowed = vec![false; program.total_options];
    for head in &program.heads {
        for &number in by_strategy.0.get(&head.name).into_iter().flatten() {
            if let Some(allowed) = allowed[head.offset..head.offset + head.size].get_mut(number as usize) {
                *allowed = true;
            }
        }
    }
    allowed
}

/// Options by name as numbers; the first one where the program has no such option.
fn numbers(program: &Program, named: &std::collections::BTreeMap<String, String>) -> Vec<usize> {
    (program.definition.strategies.iter())
        .map(|strategy| {
            let name = named.get(&strategy.name);
            strategy.options.iter().position(|option| Some(option) == name).unwrap_or_default()
        })
        .collect()
}
