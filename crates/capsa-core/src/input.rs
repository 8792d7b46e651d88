//! The request's input: flattened for the guest, and checked against the declared contexts.
//!
//! Invariants:
//! * flattened names are unique, and two different inputs never flatten to the same fields
//!   (but for absent and `null`, and for `{}` and absent, which mean the same);
//! * what the checks pass, a compiled spec's `frame` accepts.

use crate::definition::{Context, ContextKind, MAX_NAME_BYTES, escape, shown};
use crate::rejected::{Refusal, Rejected};
use crate::world::{Fields, Value};

/// Most bytes of an input: names and texts, 8 a number, 1 a flag.
pub const MAX_INPUT_BYTES: usize = 64 * 1024;
/// Deepest nesting of an input; the input itself is 1.
pub const MAX_INPUT_DEPTH: usize = 16;

/// A JSON value as a caller sent it.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`: the same as absent.
    Null,
    /// A boolean.
    Flag(bool),
    /// A number; may be non-finite where the caller is Python.
    Number(f64),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object, in the sender's order, names unique.
    Object(Vec<(String, Json)>),
}

/// Flattens an input: `a.b` for nested names, `\.` and `\\` for a dot or backslash in a name.
///
/// # Errors
///
/// [`Refusal::InvalidField`] for a list that does not hold only texts or only numbers, a number
/// that is not finite, and an input beyond [`MAX_INPUT_BYTES`] or [`MAX_INPUT_DEPTH`].
pub fn flatten(input: Vec<(String, Json)>) -> Result<Fields, Rejected> {
    let mut flattener = Flattener { fields: Fields::with_capacity(input.len()), bytes: 0 };
    flattener.object(input, "", "/input", 1)?;
    Ok(flattener.fields)
}

struct Flattener {
    fields: Fields,
    bytes: usize,
}

impl Flattener {
    fn object(
        &mut self,
        object: Vec<(String, Json)>,
        prefix: &str,
        pointer: &str,
        depth: usize,
    ) -> Result<(), Rejected> {
        if depth > MAX_INPUT_DEPTH {
            return Err(Rejected::absent(
                Refusal::InvalidField,
                pointer,
                format!("the input is nested more than {MAX_INPUT_DEPTH} deep"),
                "send the fields that the capsule looks at",
            ));
        }
        for (name, json) in object {
            match json {
                Json::Null => {}
                Json::Object(inner) => {
                    let pointer = format!("{pointer}/{}", escape(&name));
                    self.object(inner, &format!("{}.", flat_name(prefix, name)), &pointer, depth + 1)?;
                }
                other => {
                    check(&other).map_err(|detail| invalid(pointer, &name, &other, detail))?;
                    self.push(flat_name(prefix, name), value(other))?;
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, name: String, value: Value) -> Result<(), Rejected> {
        self.bytes += name.len() + value_bytes(&value);
        if self.bytes > MAX_INPUT_BYTES {
            return Err(Rejected::absent(
                Refusal::InvalidField,
                "/input",
                format!("the input holds more than {MAX_INPUT_BYTES} bytes"),
                "send the fields that the capsule looks at",
            ));
        }
        self.fields.push((name, value));
        Ok(())
    }
}

/// The usual name has nothing to escape and no prefix, and is moved.
fn flat_name(prefix: &str, name: String) -> String {
    if name.contains(['.', '\\']) {
        format!("{prefix}{}", name.replace('\\', "\\\\").replace('.', "\\."))
    } else if prefix.is_empty() {
        name
    } else {
        format!("{prefix}{name}")
    }
}

fn invalid(pointer: &str, name: &str, json: &Json, detail: &'static str) -> Rejected {
    let pointer = format!("{pointer}/{}", escape(name));
    let remedy = "send finite numbers, texts, flags, or lists of only texts or only numbers";
    Rejected::new(Refusal::InvalidField, pointer, describe(json), format!("{:?} {detail}", shown(name)), remedy)
}

fn check(json: &Json) -> Result<(), &'static str> {
    match json {
        Json::Number(number) if !number.is_finite() => Err("is not a finite number"),
        Json::List(items) => match items.first() {
            None | Some(Json::Text(_)) if items.iter().all(|item| matches!(item, Json::Text(_))) => Ok(()),
            Some(Json::Number(_)) if items.iter().all(|item| matches!(item, Json::Number(_))) => {
                let finite = items.iter().all(|item| matches!(item, Json::Number(number) if number.is_finite()));
                if finite { Ok(()) } else { Err("holds a number that is not finite") }
            }
            Some(Json::Text(_)) => Err("mixes texts with something else"),
            Some(Json::Number(_)) => Err("mixes numbers with something else"),
            _ => Err("is a list of something other than texts or numbers"),
        },
        _ => Ok(()),
    }
}

/// What [`check`] has let pass, as the guest sees it.
fn value(json: Json) -> Value {
    match json {
        Json::Flag(flag) => Value::Flag(flag),
        Json::Number(number) => Value::Number(number),
        Json::Text(text) => Value::Text(text),
        Json::List(items) if matches!(items.first(), Some(Json::Number(_))) => Value::Numbers(
            items
                .into_iter()
                .filter_map(|item| if let Json::Number(number) = item { Some(number) } else { None })
                .collect(),
        ),
        Json::List(items) => Value::Texts(
            items.into_iter().filter_map(|item| if let Json::Text(text) = item { Some(text) } else { None }).collect(),
        ),
        Json::Null | Json::Object(_) => unreachable!("handled by the caller"),
    }
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Text(text) => text.len(),
        Value::Number(_) => 8,
        Value::Flag(_) => 1,
        // The lengths too, so that a list of a million empty texts does not count as nothing.
        Value::Texts(texts) => texts.iter().map(|text| text.len() + 2).sum(),
        Value::Numbers(numbers) => 8 * numbers.len(),
    }
}

fn describe(json: &Json) -> String {
    match json {
        Json::Null => "null".to_owned(),
        Json::Flag(flag) => flag.to_string(),
        Json::Number(number) => number.to_string(),
        Json::Text(text) => text.clone(),
        Json::List(items) => format!("a list of {}", items.len()),
        Json::Object(fields) => format!("an object of {}", fields.len()),
    }
}

/// What the declared contexts found in one input.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContextNotes {
    /// Declared fields that the input lacks: counted as `unknown`.
    pub unknown: Vec<String>,
    /// Categories with a value that is not declared, and that value: counted as `other`.
    pub other: Vec<(String, String)>,
}

impl ContextNotes {
    /// One sentence for each note, for the caller to read.
    pub fn warnings(&self) -> Vec<String> {
        let unknown = self.unknown.iter().map(|name| format!("{name} is missing: counted as unknown"));
        let other =
            self.other.iter().map(|(name, value)| format!("{name} {value:?} is not declared: counted as other"));
        unknown.chain(other).collect()
    }
}

/// Checks an input against the declared contexts.
///
/// With an explicit context key the contexts are not looked at: nothing is noted or refused,
/// and a declared field of a wrong type has to be taken out, so that `frame` does not stumble
/// over it: the second part of the answer holds its place.
///
/// # Errors
///
/// [`Refusal::InvalidField`] if a declared field has the wrong type or a too long text.
pub fn check_contexts(
    contexts: &[Context],
    fields: &Fields,
    explicit_key: bool,
) -> Result<(ContextNotes, Vec<usize>), Rejected> {
    let mut notes = ContextNotes::default();
    let mut unfit = Vec::new();
    for context in contexts {
        let found = fields.iter().position(|(name, _)| *name == context.name);
        match found {
            None if explicit_key => {}
            None => notes.unknown.push(context.name.clone()),
            Some(at) => match check_value(context, &fields[at].1) {
                Ok(Some(other)) if !explicit_key => notes.other.push((context.name.clone(), other)),
                Ok(_) => {}
                Err(_) if explicit_key => unfit.push(at),
                Err((value, detail, remedy)) => {
                    let pointer = format!("/input/{}", escape(&context.name));
                    let detail = format!("{} {detail}", context.name);
                    return Err(Rejected::new(Refusal::InvalidField, pointer, value, detail, remedy));
                }
            },
        }
    }
    Ok((notes, unfit))
}

type Fault = (String, String, &'static str);

/// The undeclared value of a category with declared values, `None` where all is as declared.
fn check_value(context: &Context, value: &Value) -> Result<Option<String>, Fault> {
    let wrong = |expected: &str, remedy: &'static str| {
        Err((show_value(value), format!("is {}, expected {expected}", kind_of(value)), remedy))
    };
    match (context.kind, value) {
        (ContextKind::Category, Value::Text(text)) => category(context, text),
        // `+ 0.0` turns -0 into 0, as the guest does.
        (ContextKind::Category, Value::Number(number)) => category(context, &(number + 0.0).to_string()),
        (ContextKind::Category, _) => {
            wrong("a text or a number", "send a text, or declare the context as a flag or a number with buckets")
        }
        (ContextKind::Number, Value::Number(_)) | (ContextKind::Flag, Value::Flag(_)) => Ok(None),
        (ContextKind::Number, _) => wrong("a number", "send a number, or leave the field out"),
        (ContextKind::Flag, _) => wrong("true or false", "send true or false, or leave the field out"),
    }
}

fn category(context: &Context, text: &str) -> Result<Option<String>, Fault> {
    if text.len() > MAX_NAME_BYTES {
        let detail = format!("has {} bytes; a category's value has at most {MAX_NAME_BYTES}", text.len());
        return Err((shown(text), detail, "send a short category, not a text; or put numbers into buckets"));
    }
    let declared = context.values.as_ref().is_none_or(|values| values.iter().any(|value| value == text));
    Ok((!declared).then(|| text.to_owned()))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => "a text",
        Value::Number(_) => "a number",
        Value::Flag(_) => "a flag",
        Value::Texts(_) | Value::Numbers(_) => "a list",
    }
}

fn show_value(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Texts(items) => format!("a list of {}", items.len()),
        Value::Numbers(items) => format!("a list of {}", items.len()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn object(fields: &[(&str, Json)]) -> Vec<(String, Json)> {
        fields.iter().map(|(name, json)| ((*name).to_owned(), json.clone())).collect()
    }

    #[test]
    fn nested_names_join_and_dots_are_escaped() {
        let input = object(&[
            ("a.b", Json::Number(1.0)),
            ("a", Json::Object(object(&[("b", Json::Number(2.0)), ("c\\", Json::Null)]))),
            ("list", Json::List(vec![])),
        ]);
        let fields = flatten(input).unwrap();
        assert_eq!(
            fields,
            vec![
                ("a\\.b".to_owned(), Value::Number(1.0)),
                ("a.b".to_owned(), Value::Number(2.0)),
                ("list".to_owned(), Value::Texts(vec![])),
            ]
        );
    }

    #[test]
    fn what_is_too_deep_too_large_or_mixed_is_refused_with_its_place() {
        let mut deep = vec![("x".to_owned(), Json::Flag(true))];
        for _ in 0..MAX_INPUT_DEPTH - 1 {
            deep = vec![("x".to_owned(), Json::Object(deep))];
        }
        assert!(flatten(deep.clone()).is_ok());
        deep = vec![("x".to_owned(), Json::Object(deep))];
        assert!(flatten(deep.clone()).unwrap_err().detail.contains("16 deep"));

        let large = object(&[("x", Json::Text("y".repeat(MAX_INPUT_BYTES)))]);
        assert!(flatten(large).unwrap_err().detail.contains("65536 bytes"));

        let mixed =
            object(&[("o", Json::Object(object(&[("m", Json::List(vec![Json::Number(1.0), Json::Flag(true)]))])))]);
        let error = flatten(mixed).unwrap_err();
        assert_eq!(("/input/o/m", Some("a list of 2")), (error.pointer.as_str(), error.value.as_deref()));
        assert!(flatten(object(&[("n", Json::Number(f64::NAN))])).is_err());
    }

    #[test]
    fn an_explicit_key_silences_notes_and_drops_what_frame_would_refuse() {
        let contexts = [Context { name: "urgent".into(), kind: ContextKind::Flag, values: None, buckets: None }];
        let fields = vec![("urgent".to_owned(), Value::Text("yes".into()))];
        assert!(check_contexts(&contexts, &fields, false).is_err());
        assert_eq!(check_contexts(&contexts, &fields, true).unwrap(), (ContextNotes::default(), vec![0]));
    }
}
