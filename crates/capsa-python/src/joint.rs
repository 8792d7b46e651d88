//! Masked argmax, and choices made together.

use capsa_core::argmax;
use capsa_core::joint;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{self, Array};

/// The valid combinations of several choices.
#[pyclass(module = "capsa.learners", frozen)]
pub struct Combinations(joint::Combinations);

#[pymethods]
impl Combinations {
    #[new]
    #[pyo3(signature = (sizes, valid=None))]
    fn new(sizes: &Bound<'_, PyAny>, valid: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let Array { data: sizes, shape } = arrays::integers(sizes, "sizes")?;
        if shape.len() != 1 {
            return Err(PyValueError::new_err(format!("sizes has the shape {shape:?}, expected one dimension")));
        }
        let sizes: Vec<usize> = (sizes.iter().enumerate())
            .map(|(at, &size)| {
                usize::try_from(size)
                    .map_err(|_| PyValueError::new_err(format!("sizes[{at}] is {size}; use 1 to 65535")))
            })
            .collect::<PyResult<_>>()?;
        let valid = valid.map(|valid| rows(valid, sizes.len())).transpose()?;
        let combinations = joint::Combinations::new(&sizes, valid.as_deref());
        Ok(Self(combinations.map_err(|error| PyValueError::new_err(error.to_string()))?))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    #[getter]
    fn width(&self) -> usize {
        self.0.width()
    }

    #[getter]
    fn rows<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let rows: Vec<u16> = (0..self.0.len()).flat_map(|at| self.0.row(at).iter().copied()).collect();
        arrays::array(py, &rows, &[self.0.len(), self.0.heads()], "uint16")
    }

    #[pyo3(signature = (scores, allowed=None))]
    fn argmax(&self, scores: &Bound<'_, PyAny>, allowed: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        let width = self.0.width();
        let scores = arrays::float_row(scores, "scores", width)?;
        let allowed = one_mask(allowed, width)?;
        self.0.argmax(&scores, &allowed).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    #[pyo3(signature = (scores, allowed=None))]
    fn argmax_batch<'py>(
        &self,
        py: Python<'py>,
        scores: &Bound<'py, PyAny>,
        allowed: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let width = self.0.width();
        let (scores, rows) = arrays::Scores::rows(scores, "scores", width)?;
        let in_place = allowed.and_then(|allowed| arrays::Masks::rows(allowed, rows, width));
        let mut found = vec![0; rows];
        match in_place {
            Some(allowed) => py.detach(|| self.0.argmax_batch(scores.entries(), allowed.entries(), &mut found)),
            None => {
                let allowed = row_masks(allowed, rows, width)?;
                py.detach(|| self.0.argmax_batch(scores.entries(), &allowed, &mut found))
            }
        }
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
        arrays::array(py, &found, &[rows], "uint32")
    }

    #[pyo3(signature = (head_probabilities, allowed=None, min_exploration=0.0))]
    fn probabilities<'py>(
        &self,
        py: Python<'py>,
        head_probabilities: &Bound<'py, PyAny>,
        allowed: Option<&Bound<'py, PyAny>>,
        min_exploration: f64,
    ) -> PyResult<Bound<'py, PyAny>> {
        if !(0.0..=1.0).contains(&min_exploration) {
            let words = format!("min_exploration is {min_exploration}; use a share from 0 to 1");
            return Err(PyValueError::new_err(words));
        }
        let width = self.0.width();
        let shares = arrays::float_row(head_probabilities, "head_probabilities", width)?;
        let allowed = one_mask(allowed, width)?;
        let mut found = vec![0.0; self.0.len()];
        self.0
            .probabilities(&shares, &allowed, min_exploration, &mut found)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        arrays::array(py, &found, &[found.len()], "float64")
    }

    fn __repr__(&self) -> String {
        format!("<{} combinations of {} choices>", self.0.len(), self.0.heads())
    }
}

fn rows(valid: &Bound<'_, PyAny>, heads: usize) -> PyResult<Vec<u16>> {
    let Array { data, shape } = arrays::integers(valid, "valid")?;
    if !matches!(shape.as_slice(), [_, found] if *found == heads) {
        return Err(PyValueError::new_err(format!("valid has the shape {shape:?}, expected [rows, {heads}]")));
    }
    (data.into_iter())
        .map(|option| {
            u16::try_from(option)
                .map_err(|_| PyValueError::new_err(format!("valid names option {option}, which does not exist")))
        })
        .collect()
}

fn one_mask(allowed: Option<&Bound<'_, PyAny>>, width: usize) -> PyResult<Vec<bool>> {
    allowed.map_or_else(|| Ok(vec![true; width]), |allowed| arrays::allowed(allowed, width))
}

fn row_masks(allowed: Option<&Bound<'_, PyAny>>, rows: usize, width: usize) -> PyResult<Vec<bool>> {
    allowed.map_or_else(|| Ok(vec![true; rows * width]), |allowed| arrays::allowed_rows(allowed, rows, width))
}

/// The index of the largest score among the allowed options.
#[pyfunction]
#[pyo3(signature = (scores, allowed=None))]
pub fn masked_argmax(scores: &Bound<'_, PyAny>, allowed: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
    let Array { data, shape } = arrays::floats(scores, "scores")?;
    if shape.len() != 1 {
        return Err(PyValueError::new_err(format!("scores has the shape {shape:?}, expected one dimension")));
    }
    let allowed = one_mask(allowed, data.len())?;
    argmax::masked_argmax(&data, &allowed).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// `masked_argmax` of every row.
#[pyfunction]
#[pyo3(signature = (scores, allowed=None))]
pub fn masked_argmax_batch<'py>(
    py: Python<'py>,
    scores: &Bound<'py, PyAny>,
    allowed: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let Array { data, shape } = arrays::floats(scores, "scores")?;
    let [rows, width] = shape.as_slice() else {
        return Err(PyValueError::new_err(format!("scores has the shape {shape:?}, expected [rows, options]")));
    };
    let allowed = row_masks(allowed, *rows, *width)?;
    let mut found = vec![0; *rows];
    py.detach(|| argmax::masked_argmax_batch(&data, &allowed, *width, &mut found))
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    arrays::array(py, &found, &[*rows], "uint32")
}
