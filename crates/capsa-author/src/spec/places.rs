//! Where the parts of a definition stand in its spec, and what is wrong there.

use std::collections::BTreeMap;

use capsa_core::definition::Problem;

use super::{SpecError, SpecProblem};

/// Most problems that are listed.
const MAX_PROBLEMS: usize = 100;

/// A place in the text, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub line: usize,
    pub column: usize,
}

/// The problems found so far, and the place of each part by its JSON pointer.
#[derive(Default)]
pub(super) struct Places {
    by_pointer: BTreeMap<String, (Mark, String)>,
    /// Parts that could not be read: rules about them, and about what holds them, say nothing new.
    unread: Vec<String>,
    /// Lists and maps of which a part is missing: rules about them as a whole say nothing new.
    incomplete: Vec<String>,
    problems: Vec<SpecProblem>,
}

impl Places {
    /// Remembers where a part of the definition stands.
    pub(super) fn place(&mut self, pointer: impl Into<String>, mark: Mark, key: impl Into<String>) {
        self.by_pointer.insert(pointer.into(), (mark, key.into()));
    }

    pub(super) fn problem(&mut self, mark: Mark, key: impl Into<String>, message: impl Into<String>) {
        let Mark { line, column } = mark;
        self.problems.push(SpecProblem { line, column, key: key.into(), message: message.into() });
    }

    /// Says that a part of the definition is not as its author meant it.
    pub(super) fn unread(&mut self, pointer: impl Into<String>) {
        self.unread.push(pointer.into());
    }

    /// Says that a list or a map lacks a part that its author wrote; the rest of it is as it was meant.
    pub(super) fn incomplete(&mut self, pointer: impl Into<String>) {
        self.incomplete.push(pointer.into());
    }

    /// Adds a rule that the definition breaks, unless it only follows from a part that was not read.
    pub(super) fn broken_rule(&mut self, problem: &Problem) {
        let pointer = problem.pointer.as_str();
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let follows = self.unread.iter().any(|unread| within(pointer, unread) || within(unread, pointer))
            || self.incomplete.iter().any(|part| within(part, pointer));
        if follows {
            return;
        }
        let mut known = pointer;
        let place = loop {
            match self.by_pointer.get(known) {
                Some(place) => break place.clone(),
                None if known.is_empty() => break (Mark { line: 1, column: 1 }, String::new()),
                None => known = known.rsplit_once('/').map_or("", |(outer, _)| outer),
            }
        };
        self.problem(place.0, place.1, problem.message.clone());
    }

    /// Whether reading on would only add to a list that nobody reads to its end.
    pub(super) fn too_many(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    pub(super) fn no_problem(&self) -> bool {
        self.problems.is_empty()
    }

    pub(super) fn count(&self) -> usize {
        self.problems.len()
    }

    /// Whether a problem was found since there were `count`, or in this line: what then lacks
    /// something may lack it for that reason.
    pub(super) fn told_since(&self, count: usize, mark: Mark) -> bool {
        self.problems.len() > count || self.problems.iter().any(|problem| problem.line == mark.line)
    }

    pub(super) fn into_error(mut self) -> SpecError {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        let more = self.problems.len().saturating_sub(MAX_PROBLEMS);
        if more > 0 {
            self.problems.truncate(MAX_PROBLEMS);
            let last = Mark { line: self.problems[MAX_PROBLEMS - 1].line, column: 1 };
            self.problem(last, "", format!("{more} more problems follow"));
        }
        SpecError { problems: self.problems }
    }
}
