//! What there is to read of a capsule: its contexts, and the mean over them.

use std::collections::BTreeMap;
use std::sync::Arc;

use capsa_core::learned::{Entry, Learned};
use capsa_core::program::Program;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::capsule::{Capsule, by_strategy};

/// What a capsule had learned at some moment.
#[pyclass(module = "capsa._native", frozen)]
pub struct LearnedThen(pub Learned);

#[pymethods]
impl LearnedThen {
    #[getter]
    fn state_hash(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.state_hash())
    }
}

impl Capsule {
    /// A copy of what has been learned.
    pub(crate) fn learned_now(&self) -> Learned {
        self.lock().state.learned().clone()
    }

    /// A page of contexts in the order of their keys, from after a key.
    pub(crate) fn context_rows<'py>(
        &self,
        py: Python<'py>,
        now_ms: u64,
        after: Option<&str>,
        limit: usize,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let rows = py.detach(|| {
            let mut inner = self.lock();
            let page: Vec<(String, Entry)> = (inner.state.learned().entries_after(after).take(limit))
                .map(|(key, entry)| (key.to_owned(), entry.clone()))
                .collect();
            (page.into_iter())
                .map(|(key, entry)| {
                    let weights = inner.state.weights(&key, now_ms);
                    let weights = by_strategy(inner.state.program(), &weights);
                    let decisions = inner.state.tally().traffic.0.get(&key).copied().unwrap_or_default();
                    (key, weights, decisions, entry.feedbacks, entry.updated_at_ms)
                })
                .collect::<Vec<_>>()
        });
        (rows.into_iter())
            .map(|(key, weights, decisions, rewards, updated_at_ms)| {
                let row = PyDict::new(py);
                row.set_item("context_key", key)?;
                row.set_item("weights", weights)?;
                row.set_item("decisions", decisions)?;
                row.set_item("rewards", rewards)?;
                row.set_item("updated_at_ms", updated_at_ms)?;
                Ok(row)
            })
            .collect()
    }

    /// The mean weight over contexts, by their traffic.
    pub(crate) fn mean_by_strategy(&self, now_ms: u64) -> BTreeMap<String, Vec<f64>> {
        loop {
            let (program, mut traffic) = {
                let inner = self.lock();
                let traffic: Vec<(String, u64)> =
                    inner.state.tally().traffic.0.iter().map(|(key, count)| (key.clone(), *count)).collect();
                (Arc::clone(inner.state.program()), traffic)
            };
            if traffic.is_empty() {
                traffic.push((String::new(), 1));
            }
            if let Some(mean) = self.mean_over(&program, &traffic, now_ms) {
                return by_strategy(&program, &mean);
            }
        }
    }

    /// `None` where the capsule was changed in between.
    fn mean_over(&self, program: &Arc<Program>, traffic: &[(String, u64)], now_ms: u64) -> Option<Vec<f64>> {
        let mut mean = vec![0.0; program.total_options];
        let mut total = 0.0;
        for (key, count) in traffic {
            let mut inner = self.lock();
            if !Arc::ptr_eq(inner.state.program(), program) {
                return None;
            }
            for (mean, weight) in mean.iter_mut().zip(inner.state.weights(key, now_ms)) {
                *mean += weight * *count as f64;
            }
            total += *count as f64;
        }
        mean.iter_mut().for_each(|mean| *mean /= total);
        Some(mean)
    }
}
