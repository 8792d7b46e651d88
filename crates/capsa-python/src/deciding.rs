//! One decision of a capsule: frame, check, draw, record.

use std::sync::Arc;

use capsa_core::decide::{Ask, decide};
use capsa_core::definition::{Definition, Mode};
use capsa_core::events::{Decided, KeyFrom};
use capsa_core::input::{check_contexts, flatten};
use capsa_core::record::{Circumstances, record};
use capsa_core::world::Fields;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::body::Asked;
use crate::capsule::Capsule;
use crate::decision::Decision;
use crate::errors::Raised;
use crate::request::log_lines;

/// A decision on its way to Python.
struct Made {
    record: Decided,
    version: Arc<Definition>,
    payload: Vec<u8>,
    warnings: Vec<String>,
    log: Vec<(String, String)>,
}

impl Capsule {
    /// Makes a decision.
    pub(crate) fn decided(
        &self,
        py: Python<'_>,
        nonce: [u8; 16],
        now_ms: u64,
        input: Vec<(String, capsa_core::input::Json)>,
        context_key: Option<&str>,
        asked: &Asked,
    ) -> Result<Decision, Raised> {
        let made = self
            .decides
            .run(py, self.ready().1.is_slow(), || self.decide_once(nonce, now_ms, input, context_key, asked))?;
        let payload = PyBytes::new(py, &made.payload).unbind();
        let decision = Decision::new(made.record, Arc::clone(&self.origin), made.version, payload);
        Ok(decision.with_words(made.warnings, made.log))
    }

    /// Frames the input and decides; again where the capsule was changed in between.
    fn decide_once(
        &self,
        nonce: [u8; 16],
        now_ms: u64,
        input: Vec<(String, capsa_core::input::Json)>,
        context_key: Option<&str>,
        asked: &Asked,
    ) -> Result<Made, Raised> {
        let fields = flatten(input)?;
        loop {
            let (program, component) = self.ready();
            let of_request = program.definition.allowed(&asked.options)?;
            let current = match &asked.current {
                Some(current) => Some(program.definition.pick("/current", current)?),
                None => None,
            };
            let (notes, unfit) = check_contexts(&program.definition.contexts, &fields, context_key.is_some())?;
            let framed = if unfit.is_empty() {
                component.frame_for(&self.tenant, &fields)
            } else {
                let fit = fields.iter().enumerate().filter(|(at, _)| !unfit.contains(at));
                component.frame_for(&self.tenant, &fit.map(|(_, field)| field.clone()).collect::<Fields>())
            }
            .map_err(|failed| failed.error)?;
            let (computed, of_guest) = program.framed(framed.choices).map_err(Raised::BadAnswer)?;
            let (key, key_from) = match context_key {
                Some(key) => (key.to_owned(), KeyFrom::Request),
                None => (computed, KeyFrom::Input),
            };
            let allowed = of_request.iter().zip(&of_guest).map(|(request, guest)| *request && *guest).collect();
            let ask = Ask { nonce, stream_key: self.stream_key(), now_ms, key, allowed, current };
            let mut inner = self.lock();
            if !Arc::ptr_eq(inner.state.program(), &program) {
                continue;
            }
            let capsule_version = inner.state.version();
            let version = Arc::clone(&inner.state.current().definition);
            let (_, learned, cache) = inner.state.for_decision();
            let decision = decide(&program, learned, cache, &ask)?;
            let learner_version = learned.version();
            let subject = asked.subject;
            let around = Circumstances { key_from, notes, capsule_version, learner_version, subject };
            drop(inner);
            let mut warnings = around.notes.warnings();
            if decision.baseline_replaced {
                warnings.push("the baseline is not allowed: answered the first option that is".to_owned());
            }
            let record = record(&program, &ask, &decision, &around);
            let payload = if record.mode == Mode::Off { Vec::new() } else { record.encode(&version) };
            return Ok(Made { record, version, payload, warnings, log: log_lines(framed.log) });
        }
    }
}
