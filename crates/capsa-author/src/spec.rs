//! A decision spec in YAML: from text to a [`Definition`], or to every problem at once.
//!
//! `yaml` makes a tree of nodes with places, `read` makes a definition of the tree and remembers
//! where each part of it stands; the definition's own rules ([`Definition::filled`]) then report
//! by JSON pointer, and the pointer leads back to a line.
//!
//! Invariants:
//! * a spec is read whole or not at all: no definition comes out of a spec with a problem;
//! * every problem has the line of the node that it is about;
//! * what follows only from another problem is not reported.

mod duration;
mod places;
mod read;
mod yaml;

use capsa_core::definition::Definition;

use places::Places;

/// Most bytes of a spec.
pub const MAX_SPEC_BYTES: usize = 256 * 1024;

/// Everything that is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.problems))]
pub struct SpecError {
    /// At least one, in the order of the lines; beyond a hundred, the last one counts the others.
    pub problems: Vec<SpecProblem>,
}

/// One thing that is wrong with a spec, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The keys that lead there, as the author wrote them: `reward.latency`, `contexts[1].values`.
    /// Empty where the problem is about the whole spec.
    pub key: String,
    /// One sentence that holds the offending value and, where there is one, the remedy.
    pub message: String,
}

impl std::fmt::Display for SpecProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

fn lines(problems: &[SpecProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(SpecProblem::to_string).collect();
    lines.join("\n")
}

/// Reads a decision spec: text, or bytes that have to be UTF-8.
///
/// # Errors
///
/// [`SpecError`] with every problem of the spec; after a syntax error, that one alone.
pub fn parse_spec(source: impl AsRef<[u8]>) -> Result<Definition, SpecError> {
    let mut places = Places::default();
    let text = checked_text(source.as_ref()).map_err(|problem| SpecError { problems: vec![problem] })?;
    let Some(root) = yaml::parse(text, &mut places) else {
        return Err(places.into_error());
    };
    let definition = read::definition(&root, &mut places);
    if let Err(problems) = definition.filled() {
        for problem in problems {
            places.broken_rule(&problem);
        }
    }
    if places.no_problem() { Ok(definition) } else { Err(places.into_error()) }
}

fn checked_text(source: &[u8]) -> Result<&str, SpecProblem> {
    let whole = |message: String| SpecProblem { line: 1, column: 1, key: String::new(), message };
    if source.len() > MAX_SPEC_BYTES {
        return Err(whole(format!("the spec has {} bytes; at most {MAX_SPEC_BYTES} are read", source.len())));
    }
    let text = std::str::from_utf8(source).map_err(|e| {
        let before = &source[..e.valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        SpecProblem { line, ..whole(format!("byte {} is not UTF-8; save the file as UTF-8", e.valid_up_to())) }
    })?;
    // The mark that some editors put first is no part of the text.
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
