//! NumPy arrays in and out, through NumPy's own functions and the buffer protocol.
//!
//! Another thread may write to the caller's array while the interpreter is released: what comes in
//! is copied, or read as atomics.

use std::sync::atomic::{AtomicU8, AtomicU64};

use pyo3::buffer::{Element, PyBuffer, PyUntypedBuffer};
use pyo3::exceptions::{PyImportError, PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFloat, PyList, PyTuple};

/// An array's entries, row after row, and its shape.
pub struct Array<T> {
    pub data: Vec<T>,
    pub shape: Vec<usize>,
}

static NUMPY: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

fn numpy(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    let module = NUMPY.get_or_try_init(py, || match py.import("numpy") {
        Ok(numpy) => Ok(numpy.unbind()),
        Err(_) => Err(PyImportError::new_err("capsa.learners needs NumPy: pip install capsa[learners]")),
    })?;
    Ok(module.bind(py))
}

/// What NumPy makes of a value, and the kind of its entries: `b`, `i`, `u`, `f`, `U`, ...
pub fn asarray<'py>(value: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, char)> {
    let array = numpy(value.py())?.call_method1("asarray", (value,))?;
    let kind: char = array.getattr("dtype")?.getattr("kind")?.extract()?;
    Ok((array, kind))
}

fn copied<T: Element + Copy>(array: &Bound<'_, PyAny>, dtype: &str) -> PyResult<Array<T>> {
    let py = array.py();
    // A single number has no shape to ask a buffer for.
    if array.getattr("ndim")?.extract::<usize>()? == 0 {
        return Ok(Array { data: Vec::new(), shape: Vec::new() });
    }
    let array = numpy(py)?.call_method1("require", (array, dtype, "CA"))?;
    let buffer = PyBuffer::<T>::get(&array)?;
    Ok(Array { data: buffer.to_vec(py)?, shape: buffer.shape().to_vec() })
}

/// One real number; a flag is 1 or 0.
pub fn number(value: &Bound<'_, PyAny>, what: &str) -> PyResult<f64> {
    value.extract::<f64>().map_err(|error| {
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            return PyValueError::new_err(format!("{what} is larger than any number that can be learned"));
        }
        let kind = value.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!("{what} is a number, not {kind}"))
    })
}

/// An array that already has the shape in memory that is wanted: not every call needs NumPy's help.
fn fitting(value: &Bound<'_, PyAny>) -> Option<PyUntypedBuffer> {
    // Asking a list for its buffer raises an exception, which costs more than the rest.
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        return None;
    }
    PyUntypedBuffer::get(value).ok().filter(|buffer| buffer.is_c_contiguous() && buffer.dimensions() > 0)
}

fn is_float64(buffer: &PyUntypedBuffer) -> bool {
    buffer.format() == c"d" && buffer.buf_ptr().cast::<f64>().is_aligned()
}

/// Real numbers of the caller's: read where they are.
pub struct Scores(PyBuffer<f64>);

impl Scores {
    /// Numbers of the shape (rows, width), and how many rows there are.
    pub fn rows(value: &Bound<'_, PyAny>, what: &str, width: usize) -> PyResult<(Self, usize)> {
        let buffer = match fitting(value).filter(is_float64) {
            Some(buffer) => buffer.into_typed()?,
            None => {
                let (array, kind) = asarray(value)?;
                if !"iuf".contains(kind) {
                    return Err(wrong_kind(&array, what, "numbers"));
                }
                if array.getattr("ndim")?.extract::<usize>()? == 0 {
                    return Err(PyValueError::new_err(format!("{what} has the shape [], expected [rows, {width}]")));
                }
                PyBuffer::get(&numpy(value.py())?.call_method1("require", (array, "float64", "CA"))?)?
            }
        };
        match buffer.shape() {
            [rows, found] if *found == width => {
                let rows = *rows;
                Ok((Self(buffer), rows))
            }
            shape => Err(PyValueError::new_err(format!("{what} has the shape {shape:?}, expected [rows, {width}]"))),
        }
    }

    pub fn entries(&self) -> &[AtomicU64] {
        if self.0.item_count() == 0 {
            return &[];
        }
        // SAFETY: the buffer holds that many aligned 64-bit entries one after the other, and is held
        // as long as the reference. Atomic loads may run beside anybody's writes.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast::<AtomicU64>(), self.0.item_count()) }
    }
}

/// Flags of the caller's: read where they are.
pub struct Masks(PyUntypedBuffer);

impl Masks {
    /// Flags of the shape (rows, width); `None` where they have another shape or another form in memory.
    pub fn rows(value: &Bound<'_, PyAny>, rows: usize, width: usize) -> Option<Self> {
        let buffer = fitting(value).filter(|buffer| buffer.format() == c"?")?;
        (buffer.shape() == [rows, width] && buffer.item_count() > 0).then_some(Self(buffer))
    }

    pub fn entries(&self) -> &[AtomicU8] {
        // SAFETY: as for the scores; a NumPy flag is one byte.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast::<AtomicU8>(), self.0.item_count()) }
    }
}

/// An array of real numbers.
pub fn floats(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Array<f64>> {
    if let Ok(list) = value.cast::<PyList>()
        && let Some(data) = plain_floats(list)
    {
        return Ok(Array { shape: vec![data.len()], data });
    }
    if let Some(buffer) = fitting(value).filter(is_float64) {
        let buffer = buffer.into_typed::<f64>()?;
        return Ok(Array { data: buffer.to_vec(value.py())?, shape: buffer.shape().to_vec() });
    }
    let (array, kind) = asarray(value)?;
    // A flag is 1 or 0.
    if !"biuf".contains(kind) {
        return Err(wrong_kind(&array, what, "numbers"));
    }
    copied(&array, "float64")
}

fn plain_floats(list: &Bound<'_, PyList>) -> Option<Vec<f64>> {
    list.iter().map(|item| item.cast::<PyFloat>().ok().map(|number| number.value())).collect()
}

/// An array of flags.
pub fn flags(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Array<u8>> {
    if let Some(buffer) = fitting(value).filter(|buffer| buffer.format() == c"?") {
        let shape = buffer.shape().to_vec();
        if buffer.item_count() == 0 {
            return Ok(Array { data: Vec::new(), shape });
        }
        // SAFETY: a NumPy flag is one byte, and the entries stand one after the other. The interpreter is
        // held, so nobody writes meanwhile who does not break its rules.
        let data = unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.item_count()) };
        return Ok(Array { data: data.to_vec(), shape });
    }
    let (array, kind) = asarray(value)?;
    if kind != 'b' {
        return Err(wrong_kind(&array, what, "True and False"));
    }
    let contiguous = numpy(value.py())?.call_method1("ascontiguousarray", (array,))?;
    copied(&contiguous.call_method1("view", ("uint8",))?, "uint8")
}

/// An array of whole numbers.
pub fn integers(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Array<i64>> {
    let (array, kind) = asarray(value)?;
    let empty = array.getattr("size")?.extract::<usize>()? == 0;
    if !("iu".contains(kind) || empty) {
        return Err(wrong_kind(&array, what, "whole numbers"));
    }
    let array = copied::<i64>(&array, "int64")?;
    Ok(array)
}

fn wrong_kind(array: &Bound<'_, PyAny>, what: &str, expected: &str) -> PyErr {
    let found = array.getattr("dtype").map_or_else(|_| "something else".to_owned(), |dtype| dtype.to_string());
    PyTypeError::new_err(format!("{what} holds {found}, expected {expected}"))
}

/// A new array with these entries.
pub fn array<'py, T: Element + Copy>(
    py: Python<'py>,
    data: &[T],
    shape: &[usize],
    dtype: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let array = numpy(py)?.call_method1("empty", (PyTuple::new(py, shape)?, dtype))?;
    PyBuffer::<T>::get(&array)?.copy_from_slice(py, data)?;
    Ok(array)
}

/// What is allowed, for one choice: a sequence of `width` flags.
pub fn allowed(value: &Bound<'_, PyAny>, width: usize) -> PyResult<Vec<bool>> {
    let listed = match (value.cast::<PyList>(), value.cast::<PyTuple>()) {
        (Ok(list), _) => plain_flags(list.iter()),
        (_, Ok(tuple)) => plain_flags(tuple.iter()),
        _ => None,
    };
    let found = match listed {
        Some(flags) => flags,
        None => {
            let Array { data, shape } = flags(value, "allowed")?;
            if shape.len() != 1 {
                return Err(PyValueError::new_err(format!("allowed has the shape {shape:?}, expected [{width}]")));
            }
            data.into_iter().map(|flag| flag != 0).collect()
        }
    };
    if found.len() != width {
        return Err(PyValueError::new_err(format!("allowed has {} entries, expected {width}", found.len())));
    }
    Ok(found)
}

fn plain_flags<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>) -> Option<Vec<bool>> {
    items.map(|item| item.cast::<PyBool>().ok().map(|flag| flag.is_true())).collect()
}

/// What is allowed, for `rows` choices: flags of the shape (width,), meant for all of them, or
/// (rows, width).
pub fn allowed_rows(value: &Bound<'_, PyAny>, rows: usize, width: usize) -> PyResult<Vec<bool>> {
    let Array { data, shape } = flags(value, "allowed")?;
    let flags = data.into_iter().map(|flag| flag != 0);
    match shape.as_slice() {
        [one] if *one == width => Ok(flags.collect::<Vec<_>>().repeat(rows)),
        [many, one] if (*many, *one) == (rows, width) => Ok(flags.collect()),
        _ => Err(PyValueError::new_err(format!(
            "allowed has the shape {shape:?}, expected [{width}] or [{rows}, {width}]"
        ))),
    }
}

/// Numbers of the shape (width,).
pub fn float_row(value: &Bound<'_, PyAny>, what: &str, width: usize) -> PyResult<Vec<f64>> {
    let Array { data, shape } = floats(value, what)?;
    if shape == [width] {
        return Ok(data);
    }
    Err(PyValueError::new_err(format!("{what} has the shape {shape:?}, expected [{width}]")))
}
