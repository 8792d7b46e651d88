//! Between Python's values and the core's.

use capsa_core::input::Json;
use capsa_core::named::OptionRef;
use capsa_core::rejected::{Refusal, Rejected};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use crate::errors::Raised;

/// Deeper values are refused here already, so that a value that contains itself ends.
const MAX_DEPTH: usize = 64;

/// An input: a mapping of names to JSON values.
pub fn object(dict: &Bound<'_, PyDict>) -> Result<Vec<(String, Json)>, Raised> {
    fields(dict, "/input", 1)
}

fn fields(dict: &Bound<'_, PyDict>, pointer: &str, depth: usize) -> Result<Vec<(String, Json)>, Raised> {
    if depth > MAX_DEPTH {
        return Err(invalid(pointer, "a deeply nested value", "is nested too deep", "send flat fields").into());
    }
    let mut object = Vec::with_capacity(dict.len());
    for (name, value) in entries(dict) {
        let Ok(name) = name.cast::<PyString>() else {
            let shown = name.repr().map(|repr| repr.to_string()).unwrap_or_default();
            return Err(invalid(pointer, &shown, "is not a text, but names a field", "use texts as names").into());
        };
        let name = text(name, pointer)?;
        let json = json(&value, pointer, &name, depth)?;
        object.push((name, json));
    }
    Ok(object)
}

/// The entries as they are now: what is converted may run Python code that changes the mapping.
fn entries<'py>(dict: &Bound<'py, PyDict>) -> Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    dict.iter().collect()
}

fn json(value: &Bound<'_, PyAny>, pointer: &str, name: &str, depth: usize) -> Result<Json, Raised> {
    let here = || format!("{pointer}/{}", capsa_core::definition::escape(name));
    // In the order of how common they are; a bool is an int to Python, so it goes first.
    if let Ok(value) = value.cast::<PyString>() {
        return Ok(Json::Text(text(value, &here())?));
    }
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Json::Flag(flag.is_true()));
    }
    if let Ok(number) = value.cast::<PyFloat>() {
        return Ok(Json::Number(number.value()));
    }
    if value.is_none() {
        return Ok(Json::Null);
    }
    if value.is_instance_of::<PyInt>() || value.hasattr("__index__")? {
        return Ok(Json::Number(integer(value, &here())?));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        return fields(dict, &here(), depth + 1).map(Json::Object);
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        if depth >= MAX_DEPTH {
            return Err(invalid(&here(), "a deeply nested value", "is nested too deep", "send flat fields").into());
        }
        let items = value.try_iter()?;
        return items.map(|item| json(&item?, pointer, name, depth + 1)).collect::<Result<_, _>>().map(Json::List);
    }
    let kind = value.get_type().name().map(|name| name.to_string()).unwrap_or_default();
    Err(invalid(&here(), &kind, "is a value that JSON does not have", "send texts, numbers, flags, lists or mappings")
        .into())
}

fn text(value: &Bound<'_, PyString>, pointer: &str) -> Result<String, Rejected> {
    value
        .to_cow()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| invalid(pointer, "a text", "holds half of a surrogate pair", "send text that is valid Unicode"))
}

/// An integer as a number, if that holds it exactly: nothing is rounded in silence.
pub fn exact(int: i64) -> Option<f64> {
    Some(int as f64).filter(|&number| number as i128 == i128::from(int))
}

fn integer(value: &Bound<'_, PyAny>, pointer: &str) -> Result<f64, Rejected> {
    value.extract::<i64>().ok().and_then(exact).ok_or_else(|| {
        let shown = value.str().map(|text| text.to_string()).unwrap_or_else(|_| "a huge integer".to_owned());
        invalid(pointer, &shown, "is an integer that a 64-bit float cannot hold exactly", "send it as a text")
    })
}

fn invalid(pointer: &str, value: &str, detail: &str, remedy: &str) -> Rejected {
    let field = pointer.rsplit('/').next().unwrap_or_default();
    Rejected::new(Refusal::InvalidField, pointer, value, format!("{field} {detail}"), remedy)
}

/// A finite number for the field that `pointer` names. A flag is 1 or 0.
pub fn number(value: &Bound<'_, PyAny>, pointer: &str) -> Result<f64, Raised> {
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(f64::from(u8::from(flag.is_true())));
    }
    if let Ok(number) = value.cast::<PyFloat>() {
        return Ok(number.value());
    }
    if value.is_instance_of::<PyInt>() || value.hasattr("__index__")? {
        return integer(value, pointer).map_err(Raised::from);
    }
    let kind = value.get_type().name().map(|name| name.to_string()).unwrap_or_default();
    Err(invalid(pointer, &kind, "is not a number", "send a finite number").into())
}

/// A context key as a caller gave it.
pub fn context_key(value: &Bound<'_, PyAny>) -> Result<String, Raised> {
    let Ok(key) = value.cast::<PyString>() else {
        let kind = value.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        return Err(invalid("/contextKey", &kind, "is not a text", "send a text, or leave it out").into());
    };
    Ok(text(key, "/contextKey")?)
}

/// An option as a caller names it: a text is its name, an integer its number.
pub fn option(value: &Bound<'_, PyAny>, pointer: &str) -> Result<OptionRef, Raised> {
    if let Ok(name) = value.cast::<PyString>() {
        return Ok(OptionRef::Name(text(name, pointer)?));
    }
    let is_number = value.is_instance_of::<PyInt>() || value.hasattr("__index__")?;
    if is_number && !value.is_instance_of::<PyBool>() {
        return Ok(OptionRef::Number(value.extract::<i64>().unwrap_or(i64::MAX)));
    }
    let kind = value.get_type().name().map(|name| name.to_string()).unwrap_or_default();
    Err(invalid(pointer, &kind, "is not an option", "send an option's name or number").into())
}

/// One option of each strategy: an option where there is one strategy, else a mapping.
pub fn options_by_strategy(
    value: &Bound<'_, PyAny>,
    pointer: &str,
    strategies: &[String],
) -> Result<Vec<(String, OptionRef)>, Raised> {
    by_strategy(value, pointer, strategies, option)
}

/// A list of options of each strategy: a list where there is one strategy, else a mapping.
pub fn option_lists(
    value: &Bound<'_, PyAny>,
    pointer: &str,
    strategies: &[String],
) -> Result<Vec<(String, Vec<OptionRef>)>, Raised> {
    by_strategy(value, pointer, strategies, |value, pointer| {
        if !(value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>()) {
            let kind = value.get_type().name().map(|name| name.to_string()).unwrap_or_default();
            return Err(invalid(pointer, &kind, "is not a list", "send a list of options").into());
        }
        value.try_iter()?.enumerate().map(|(at, item)| option(&item?, &format!("{pointer}/{at}"))).collect()
    })
}

fn by_strategy<T>(
    value: &Bound<'_, PyAny>,
    pointer: &str,
    strategies: &[String],
    each: impl Fn(&Bound<'_, PyAny>, &str) -> Result<T, Raised>,
) -> Result<Vec<(String, T)>, Raised> {
    if let Ok(dict) = value.cast::<PyDict>() {
        return (entries(dict).into_iter())
            .map(|(name, value)| {
                let Ok(name) = name.cast::<PyString>() else {
                    let shown = name.str().map(|text| text.to_string()).unwrap_or_default();
                    return Err(invalid(pointer, &shown, "has a key that is not a strategy's name", "use names").into());
                };
                let name = text(name, pointer)?;
                let value = each(&value, &format!("{pointer}/{}", capsa_core::definition::escape(&name)))?;
                Ok((name, value))
            })
            .collect();
    }
    match strategies {
        [only] => Ok(vec![(only.clone(), each(value, pointer)?)]),
        several => {
            let kind = value.get_type().name().map(|name| name.to_string()).unwrap_or_default();
            let remedy = format!("send a mapping from {} to options", several.join(", "));
            Err(invalid(pointer, &kind, "does not say for which strategy", &remedy).into())
        }
    }
}

/// `b2:` and the BLAKE2b-256 digest of some bytes, in hexadecimal.
#[pyfunction]
pub fn digest(bytes: &Bound<'_, PyBytes>) -> String {
    capsa_core::cbor::digest(bytes.as_bytes())
}
