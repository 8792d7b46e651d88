//! Bodies of requests: JSON (RFC 8259) and CBOR (RFC 8949) as plain values, and the request that is made most.

use std::collections::HashSet;

use capsa_core::definition::Definition;
use capsa_core::input::Json;
use capsa_core::named::OptionRef;
use ciborium::Value;
use jiter::JsonValue;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyList, PyString};

/// Larger bodies are read with the interpreter released.
const LARGE: usize = 16 * 1024;
/// Nesting that no body needs.
const MAX_DEPTH: usize = 64;
/// From so many keys on, a set is faster than looking at all of them.
const MANY_KEYS: usize = 16;

/// One JSON value.
#[pyfunction]
#[pyo3(signature = (body, *, max_depth=32))]
pub fn read_json<'py>(py: Python<'py>, body: &[u8], max_depth: usize) -> PyResult<Bound<'py, PyAny>> {
    let parse = || JsonValue::parse(body, false).map_err(|error| error.description(body));
    let parsed = if body.len() > LARGE { py.detach(parse) } else { parse() };
    json_value(py, &parsed.map_err(PyValueError::new_err)?, max_depth.min(MAX_DEPTH))
}

/// One CBOR value of types that JSON has too.
#[pyfunction]
#[pyo3(signature = (body, *, max_depth=32))]
pub fn read_cbor<'py>(py: Python<'py>, body: &[u8], max_depth: usize) -> PyResult<Bound<'py, PyAny>> {
    let max_depth = max_depth.min(MAX_DEPTH);
    let (parsed, left) = py.detach(|| {
        let mut left = body;
        // Values and their keys count apart.
        let parsed = ciborium::de::from_reader_with_recursion_limit::<Value, _>(&mut left, 2 * max_depth + 2);
        (parsed, left.len())
    });
    let parsed = parsed.map_err(|error| {
        PyValueError::new_err(match error {
            ciborium::de::Error::Io(_) => "it ends in the middle of a value".to_owned(),
            ciborium::de::Error::RecursionLimitExceeded => deep(max_depth),
            // What it says may hold what was sent.
            _ => "it is not well-formed".to_owned(),
        })
    })?;
    if left > 0 {
        return Err(PyValueError::new_err(format!("{left} bytes stand behind the value")));
    }
    cbor_value(py, &parsed, max_depth)
}

fn deep(max_depth: usize) -> String {
    format!("it is nested more than {max_depth} deep")
}

fn json_value<'py>(py: Python<'py>, value: &JsonValue<'_>, left: usize) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        JsonValue::Null => py.None().into_bound(py),
        JsonValue::Bool(flag) => flag.into_pyobject(py)?.to_owned().into_any(),
        JsonValue::Int(number) => number.into_pyobject(py)?.into_any(),
        JsonValue::BigInt(number) => py.get_type::<PyInt>().call1((number.to_string(),))?,
        JsonValue::Float(number) => finite(py, *number)?,
        JsonValue::Str(text) => PyString::new(py, text).into_any(),
        JsonValue::Array(items) => {
            let left = deeper(left)?;
            let items: Vec<_> = items.iter().map(|item| json_value(py, item, left)).collect::<PyResult<_>>()?;
            PyList::new(py, items)?.into_any()
        }
        JsonValue::Object(entries) => {
            let left = deeper(left)?;
            let dict = PyDict::new(py);
            for (key, item) in entries.iter() {
                dict.set_item(PyString::new(py, key), json_value(py, item, left)?)?;
            }
            each_key_once(&dict, entries.len())?
        }
    })
}

fn cbor_value<'py>(py: Python<'py>, value: &Value, left: usize) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(flag) => flag.into_pyobject(py)?.to_owned().into_any(),
        Value::Integer(number) => i128::from(*number).into_pyobject(py)?.into_any(),
        Value::Float(number) => finite(py, *number)?,
        Value::Text(text) => PyString::new(py, text).into_any(),
        Value::Array(items) => {
            let left = deeper(left)?;
            let items: Vec<_> = items.iter().map(|item| cbor_value(py, item, left)).collect::<PyResult<_>>()?;
            PyList::new(py, items)?.into_any()
        }
        Value::Map(entries) => {
            let left = deeper(left)?;
            let dict = PyDict::new(py);
            for (key, item) in entries {
                let Value::Text(key) = key else { return Err(PyValueError::new_err("a key is not a text")) };
                dict.set_item(PyString::new(py, key), cbor_value(py, item, left)?)?;
            }
            each_key_once(&dict, entries.len())?
        }
        Value::Tag(..) => return Err(PyValueError::new_err("it holds a tag")),
        _ => return Err(PyValueError::new_err("it holds a value that JSON has not, such as bytes")),
    })
}

fn deeper(left: usize) -> PyResult<usize> {
    left.checked_sub(1).ok_or_else(|| PyValueError::new_err("it is nested too deep"))
}

fn finite(py: Python<'_>, number: f64) -> PyResult<Bound<'_, PyAny>> {
    if number.is_finite() {
        return Ok(PyFloat::new(py, number).into_any());
    }
    Err(PyValueError::new_err("a number is not finite"))
}

/// The key itself may be a secret: it is not said.
fn each_key_once<'py>(dict: &Bound<'py, PyDict>, keys: usize) -> PyResult<Bound<'py, PyAny>> {
    if dict.len() == keys {
        return Ok(dict.clone().into_any());
    }
    Err(PyValueError::new_err("a key stands twice"))
}

/// What a request says about options.
#[derive(Default)]
pub struct Asked {
    /// By strategy, those that are allowed; all where a strategy is not named.
    pub options: Vec<(String, Vec<OptionRef>)>,
    /// By strategy, what the application would do.
    pub current: Option<Vec<(String, OptionRef)>>,
    /// Whom it is about.
    pub subject: Option<[u8; 16]>,
}

/// A request of `decide` as most are: JSON of the usual size whose keys are all known and of their usual types.
///
/// Everything else is none, and is read the long way, which says what is wrong with it.
pub struct Plain {
    /// The input.
    pub input: Vec<(String, Json)>,
    /// The key, where it is given.
    pub context_key: Option<String>,
    /// Only these are allowed, of the only strategy; empty = all.
    pub options: Vec<OptionRef>,
    /// What the application would do.
    pub current: Option<OptionRef>,
}

impl Plain {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Option<Self> {
        let entries = plain_object(body)?;
        let mut plain = Self { input: Vec::new(), context_key: None, options: Vec::new(), current: None };
        for (key, value) in entries.iter() {
            match (key.as_ref(), value) {
                ("input", JsonValue::Object(fields)) => plain.input = object(fields, 1)?,
                ("contextKey", JsonValue::Str(text)) if !text.is_empty() => {
                    plain.context_key = Some(text.to_string());
                }
                ("options", JsonValue::Array(options)) if !options.is_empty() => {
                    plain.options = options.iter().map(option).collect::<Option<_>>()?;
                }
                ("current", value) => plain.current = Some(option(value)?),
                _ => return None,
            }
        }
        Some(plain)
    }
}

impl Plain {
    /// What it says about options; none where a capsule of several strategies needs to know which.
    pub fn asked(mut self, definition: &Definition) -> Option<(Self, Asked)> {
        let mut asked = Asked::default();
        if self.current.is_some() || !self.options.is_empty() {
            let [only] = definition.strategies.as_slice() else { return None };
            if !self.options.is_empty() {
                asked.options.push((only.name.clone(), std::mem::take(&mut self.options)));
            }
            asked.current = self.current.take().map(|current| vec![(only.name.clone(), current)]);
        }
        Some((self, asked))
    }
}

fn option(value: &JsonValue<'_>) -> Option<OptionRef> {
    match value {
        JsonValue::Str(name) => Some(OptionRef::Name(name.to_string())),
        JsonValue::Int(number) if *number >= 0 => Some(OptionRef::Number(*number)),
        _ => None,
    }
}

fn object(entries: &[(std::borrow::Cow<'_, str>, JsonValue<'_>)], depth: usize) -> Option<Vec<(String, Json)>> {
    if depth > capsa_core::input::MAX_INPUT_DEPTH || !keys_differ(entries) {
        return None;
    }
    entries.iter().map(|(key, value)| Some((key.to_string(), json(value, depth)?))).collect()
}

fn json(value: &JsonValue<'_>, depth: usize) -> Option<Json> {
    Some(match value {
        JsonValue::Null => Json::Null,
        JsonValue::Bool(flag) => Json::Flag(*flag),
        JsonValue::Int(number) => Json::Number(crate::convert::exact(*number)?),
        JsonValue::Float(number) => Json::Number(Some(*number).filter(|number| number.is_finite())?),
        JsonValue::Str(text) => Json::Text(text.to_string()),
        JsonValue::Array(items) if depth < capsa_core::input::MAX_INPUT_DEPTH => {
            Json::List(items.iter().map(|item| json(item, depth + 1)).collect::<Option<_>>()?)
        }
        JsonValue::Object(entries) => Json::Object(object(entries, depth + 1)?),
        _ => return None,
    })
}

/// The object that a body of the usual size is, each key once.
pub fn plain_object(body: &[u8]) -> Option<jiter::JsonObject<'_>> {
    if body.len() > LARGE {
        return None;
    }
    let JsonValue::Object(entries) = JsonValue::parse(body, false).ok()? else { return None };
    keys_differ(&entries).then_some(entries)
}

fn keys_differ(entries: &[(std::borrow::Cow<'_, str>, JsonValue<'_>)]) -> bool {
    if entries.len() < MANY_KEYS {
        return (1..entries.len()).all(|at| entries[..at].iter().all(|(key, _)| *key != entries[at].0));
    }
    let keys: HashSet<&str> = entries.iter().map(|(key, _)| key.as_ref()).collect();
    keys.len() == entries.len()
}
