//! YAML 1.2 as a tree of nodes with places.
//!
//! A spec needs scalars, lists and maps; what else YAML has (several documents, anchors, aliases,
//! tags, merge keys, keys that are not scalars) is refused by name.
//!
//! Invariant: a tree has at most as many nodes as the text has characters, since nothing is ever
//! repeated by reference, and is at most [`MAX_DEPTH`] deep.

use std::collections::BTreeMap;

use capsa_core::definition::shown;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::places::{Mark, Places};

/// Deepest nesting of a spec; the top map is 1.
const MAX_DEPTH: usize = 16;

/// One value of the spec.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub mark: Mark,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the author's order; keys are unique.
    Map(Vec<Entry>),
    /// An alias: already a problem, whatever it should have been.
    Alias,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub mark: Mark,
    pub key: String,
    pub value: Node,
}

/// A scalar as it was written.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    pub text: String,
    /// Without quotes: may mean a number, a flag or null. A quoted one is always a text.
    pub plain: bool,
}

impl Scalar {
    /// Null by the core schema.
    pub(super) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// A flag by the core schema.
    pub(super) fn flag(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.plain => Some(true),
            "false" | "False" | "FALSE" if self.plain => Some(false),
            _ => None,
        }
    }

    /// A number by the core schema; infinite where it is too large for an `f64`.
    pub(super) fn number(&self) -> Option<f64> {
        if !self.plain {
            return None;
        }
        let text = self.text.as_str();
        let whole = |digits: &str, radix: u32| {
            let fits = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
            fits.then(|| {
                digits.chars().fold(0.0, |sum, c| sum * f64::from(radix) + f64::from(c.to_digit(radix).unwrap_or(0)))
            })
        };
        if let Some(digits) = text.strip_prefix("0o") {
            return whole(digits, 8);
        }
        if let Some(digits) = text.strip_prefix("0x") {
            return whole(digits, 16);
        }
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        match unsigned {
            ".inf" | ".Inf" | ".INF" => {
                return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
            }
            ".nan" | ".NaN" | ".NAN" => return (unsigned == text).then_some(f64::NAN),
            _ => {}
        }
        // Rust reads "inf", "nan" and "infinity" too; a decimal starts with a digit or a point before one.
        let decimal = unsigned.strip_prefix('.').unwrap_or(unsigned);
        if decimal.starts_with(|c: char| c.is_ascii_digit()) { text.parse().ok() } else { None }
    }
}

/// The tree of a text; `None` where it has none, and then there is a problem that says why.
pub(super) fn parse(text: &str, places: &mut Places) -> Option<Node> {
    if let Some((at, _)) = text.lines().enumerate().find(|(_, line)| is_indented_by_tab(line)) {
        let mark = Mark { line: at + 1, column: 1 };
        places.problem(mark, "", "a tab indents this line; YAML indents with spaces");
        return None;
    }
    let mut builder = Builder { text, places, open: Vec::new(), root: None, documents: 0 };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                // Each problem may cost a pass over the text, so their number is bounded.
                if !builder.event(event, span.start) || builder.places.too_many() {
                    return None;
                }
            }
            Err(error) => {
                let mark = mark(error.marker());
                let alias = builder.word_after('*', error.marker().index() + 1);
                let message = if error.info().contains("unknown anchor") {
                    no_alias(&alias)
                } else {
                    format!("not valid YAML at column {}: {}", mark.column, error.info())
                };
                builder.places.problem(mark, "", message);
                return None;
            }
        }
    }
    let root = builder.root;
    if root.is_none() && places.no_problem() {
        places.problem(Mark { line: 1, column: 1 }, "", "the spec is empty; it needs name and options at least");
    }
    root
}

/// Whether the white space before the first word holds a tab; in a comment line it means nothing.
fn is_indented_by_tab(line: &str) -> bool {
    let rest = line.trim_start_matches([' ', '\t']);
    !rest.trim_end().is_empty() && !rest.starts_with('#') && line[..line.len() - rest.len()].contains('\t')
}

fn mark(marker: &Marker) -> Mark {
    Mark { line: marker.line(), column: marker.col() + 1 }
}

/// A list or map that is not complete yet.
enum Open {
    List {
        mark: Mark,
        items: Vec<Node>,
    },
    /// `key`: read, its value not yet. An unusable key has no text.
    Map {
        mark: Mark,
        entries: Vec<Entry>,
        lines: BTreeMap<String, usize>,
        key: Option<(Mark, Option<String>)>,
    },
}

struct Builder<'a> {
    text: &'a str,
    places: &'a mut Places,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

impl Builder<'_> {
    /// Takes in one event; false where reading on makes no sense.
    fn event(&mut self, event: Event<'_>, start: Marker) -> bool {
        let here = mark(&start);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.places.problem(here, "", "a second document starts here; a spec is one document");
                    return false;
                }
            }
            Event::Alias(_) => {
                let name = self.word_after('*', start.index() + 1);
                self.places.problem(here, "", no_alias(&name));
                self.add(Node { mark: here, value: Value::Alias });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(anchor, tag.as_deref(), start);
                let plain = style == ScalarStyle::Plain;
                self.add(Node { mark: here, value: Value::Scalar(Scalar { text: text.into_owned(), plain }) });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.as_deref(), start);
                return self.open(Open::List { mark: here, items: Vec::new() }, here);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.as_deref(), start);
                return self
                    .open(Open::Map { mark: here, entries: Vec::new(), lines: BTreeMap::new(), key: None }, here);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.open.pop().expect("the parser closes only what it opened") {
                    Open::List { mark, items } => Node { mark, value: Value::List(items) },
                    Open::Map { mark, entries, .. } => Node { mark, value: Value::Map(entries) },
                };
                self.add(node);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        true
    }

    fn open(&mut self, open: Open, here: Mark) -> bool {
        if self.open.len() == MAX_DEPTH {
            self.places.problem(here, "", format!("nested more than {MAX_DEPTH} deep"));
            return false;
        }
        self.open.push(open);
        true
    }

    fn add(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, lines, key, .. }) => match key.take() {
                None => *key = Some((node.mark, usable_key(node, lines, self.places))),
                Some((mark, Some(key))) => entries.push(Entry { mark, key, value: node }),
                Some((_, None)) => {}
            },
        }
    }

    fn refuse_extras(&mut self, anchor: usize, tag: Option<&Tag>, start: Marker) {
        let here = mark(&start);
        if anchor > 0 {
            let name = self.word_after('&', start.index() + 1);
            self.places.problem(
                here,
                "",
                format!("{name} is an anchor; anchors are not supported, write the value out each time"),
            );
        }
        if let Some(tag) = tag {
            let name = if tag.is_yaml_core_schema() { format!("!!{}", tag.suffix) } else { tag.to_string() };
            self.places.problem(here, "", format!("{name} is a tag; tags are not supported, leave it out"));
        }
    }

    /// The last word that a character starts, before or at a place: `&name` stands before its node.
    fn word_after(&self, first: char, end: usize) -> String {
        let before: Vec<char> = self.text.chars().take(end).collect();
        let from = before.iter().rposition(|&c| c == first).unwrap_or(0);
        let word: String =
            self.text.chars().skip(from).take_while(|c| !c.is_whitespace() && !",[]{}".contains(*c)).collect();
        shown(&word)
    }
}

fn no_alias(name: &str) -> String {
    format!("{name} is an alias; aliases are not supported, write the value out")
}

/// The text of a key, if it can be one; else a problem.
fn usable_key(node: Node, lines: &mut BTreeMap<String, usize>, places: &mut Places) -> Option<String> {
    let Value::Scalar(Scalar { text, plain }) = node.value else {
        places.problem(node.mark, "", "this key is a list or a map; a key is one word");
        return None;
    };
    if plain && text == "<<" {
        places.problem(node.mark, "<<", "merge keys are not supported; write the keys out");
        return None;
    }
    if let Some(first) = lines.get(&text) {
        places.problem(node.mark, shown(&text), format!("this key stands twice, first in line {first}"));
        return None;
    }
    lines.insert(text.clone(), node.mark.line);
    Some(text)
}
