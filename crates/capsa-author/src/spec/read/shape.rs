//! The shapes that a spec is made of: texts, numbers, flags, lists and maps with known keys.

use std::collections::BTreeMap;

use capsa_core::definition::{nearest_hint, shown};

use crate::spec::duration;
use crate::spec::places::Places;
use crate::spec::yaml::{Node, Scalar, Value};

/// A node and the keys that lead to it.
#[derive(Clone)]
pub(super) struct At<'a> {
    pub node: &'a Node,
    pub key: String,
}

/// `outer.inner`, or `inner` at the top.
pub(super) fn join(outer: &str, inner: &str) -> String {
    let inner = shown(inner);
    if outer.is_empty() { inner } else { format!("{outer}.{inner}") }
}

impl<'a> At<'a> {
    pub(super) fn is_scalar(&self) -> bool {
        matches!(self.node.value, Value::Scalar(_))
    }

    /// Adds a problem about this node.
    fn problem(&self, message: String, places: &mut Places) {
        places.problem(self.node.mark, &self.key, message);
    }

    fn expected(&self, what: &str, places: &mut Places) {
        if matches!(self.node.value, Value::Alias) {
            return;
        }
        self.problem(format!("expected {what}, got {}", describe(self.node)), places);
    }

    fn scalar(&self, what: &str, places: &mut Places) -> Option<&'a Scalar> {
        let Value::Scalar(scalar) = &self.node.value else {
            self.expected(what, places);
            return None;
        };
        Some(scalar)
    }

    /// A text: a plain scalar of any type counts as it is written, `1.50` is "1.50".
    pub(super) fn text(&self, places: &mut Places) -> Option<String> {
        let scalar = self.scalar("a text", places)?;
        if scalar.plain && scalar.text.is_empty() {
            self.expected("a text", places);
            return None;
        }
        Some(scalar.text.clone())
    }

    /// A finite number.
    pub(super) fn number(&self, places: &mut Places) -> Option<f64> {
        let number = self.scalar("a number", places)?.number();
        match number {
            Some(number) if number.is_finite() => return Some(number),
            Some(_) => self.problem(format!("{} is not a finite number", describe(self.node)), places),
            None => self.expected("a number", places),
        }
        None
    }

    /// The value of a metric: a finite number; true and false are 1 and 0.
    pub(super) fn metric(&self, places: &mut Places) -> Option<f64> {
        let Value::Scalar(scalar) = &self.node.value else { return self.number(places) };
        match scalar.flag() {
            Some(flag) => Some(f64::from(u8::from(flag))),
            None => self.number(places),
        }
    }

    pub(super) fn flag(&self, places: &mut Places) -> Option<bool> {
        let flag = self.scalar("true or false", places)?.flag();
        if flag.is_none() {
            self.expected("true or false", places);
        }
        flag
    }

    /// A duration in seconds.
    pub(super) fn seconds(&self, places: &mut Places) -> Option<f64> {
        let scalar = self.scalar("a duration such as 7d", places)?;
        duration::seconds(&scalar.text).map_err(|message| self.problem(message, places)).ok()
    }

    /// One of some names, in snake_case or camelCase.
    pub(super) fn one_of<T: Copy>(
        &self,
        what: &str,
        known: &[(&str, T)],
        later: &[&str],
        places: &mut Places,
    ) -> Option<T> {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        let text = &self.scalar(&format!("one of {}", names.join(", ")), places)?.text;
        let is = |name: &str| text == name || *text == camel_case(name);
        if let Some((_, value)) = known.iter().find(|(name, _)| is(name)) {
            return Some(*value);
        }
        if let Some(name) = later.iter().find(|name| is(name)) {
            self.problem(format!("{name} is not supported by this version yet; use {}", alternatives(&names)), places);
        } else {
            let hint = nearest_hint(text, names.into_iter());
            self.problem(format!("{:?} is not {what}{hint}", shown(text)), places);
        }
        None
    }

    /// The items of a list.
    pub(super) fn list(&self, places: &mut Places) -> Option<Vec<At<'a>>> {
        let Value::List(items) = &self.node.value else {
            self.expected("a list", places);
            return None;
        };
        let at = |(number, node)| At { node, key: format!("{}[{number}]", self.key) };
        Some(items.iter().enumerate().map(at).collect())
    }

    /// Two numbers, the lower one first: `[low, high]`.
    pub(super) fn pair(&self, places: &mut Places) -> Option<[f64; 2]> {
        let items = self.list(places)?;
        let [low, high] = items.as_slice() else {
            self.problem(format!("expected two numbers, [low, high], got a list of {}", items.len()), places);
            return None;
        };
        let (low, high) = (low.number(places), high.number(places));
        Some([low?, high?])
    }

    /// The entries of a map whose keys the author chooses.
    pub(super) fn entries(&self, what: &str, places: &mut Places) -> Option<Vec<(&'a str, At<'a>)>> {
        let Value::Map(entries) = &self.node.value else {
            self.expected(&format!("a map of {what}"), places);
            return None;
        };
        let at = |node, key: &str| At { node, key: join(&self.key, key) };
        Some(entries.iter().map(|entry| (entry.key.as_str(), at(&entry.value, &entry.key))).collect())
    }
}

/// The entries of a map with known keys.
pub(super) struct Keys<'a> {
    entries: BTreeMap<&'a str, At<'a>>,
}

impl<'a> Keys<'a> {
    /// Refuses unknown keys, and those that only a later version knows.
    pub(super) fn of(at: &At<'a>, known: &[&str], later: &[&str], places: &mut Places) -> Option<Self> {
        let Value::Map(entries) = &at.node.value else {
            let what =
                if known.len() <= 4 { known.join(", ") } else { format!("keys such as {} and {}", known[0], known[1]) };
            at.expected(&format!("a map of {what}"), places);
            return None;
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let name = entry.key.as_str();
            let key = join(&at.key, name);
            if known.contains(&name) {
                found.insert(name, At { node: &entry.value, key });
            } else if later.contains(&name) {
                let message = format!("{name} is not supported by this version yet; leave it out");
                places.problem(entry.mark, key, message);
            } else {
                let hint = nearest_hint(name, known.iter().copied());
                places.problem(entry.mark, key, format!("there is no key {:?} here{hint}", shown(name)));
            }
        }
        Some(Self { entries: found })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn take(&mut self, key: &str) -> Option<At<'a>> {
        self.entries.remove(key)
    }

    /// A key that has to be there; the problem names the map that lacks it.
    pub(super) fn required(&mut self, key: &str, map: &At<'_>, places: &mut Places) -> Option<At<'a>> {
        let found = self.take(key);
        if found.is_none() {
            map.problem(format!("{key} is missing"), places);
        }
        found
    }
}

/// `a`, `a or b`, `a, b or c`.
fn alternatives(names: &[&str]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// `half_life` as `halfLife`.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| {
        let mut letters = word.chars();
        let initial = letters.next().map(|letter| letter.to_ascii_uppercase());
        camel + &initial.into_iter().chain(letters).collect::<String>()
    })
}

fn describe(node: &Node) -> String {
    match &node.value {
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a map".to_owned(),
        Value::Alias => "an alias".to_owned(),
        Value::Scalar(scalar) if scalar.plain && scalar.text.is_empty() => "nothing".to_owned(),
        Value::Scalar(scalar) if scalar.is_null() || scalar.flag().is_some() || scalar.number().is_some() => {
            shown(&scalar.text)
        }
        Value::Scalar(scalar) => format!("the text {:?}", shown(&scalar.text)),
    }
}
