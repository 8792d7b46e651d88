//! What a caller sent and may not: one shape for every refusal.

use std::fmt;

/// The kind of a refusal; each is a problem type and an exception of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A type, range, length or non-finite number.
    InvalidField,
    /// A key that does not exist.
    UnknownField,
    /// No option has this name or number.
    UnknownOption,
    /// No strategy has this name or number.
    UnknownStrategy,
    /// What is allowed by request, guest and valid combinations leaves nothing.
    NoAllowedOption,
    /// A metric outside its declared scale.
    MetricOutOfRange,
    /// A reward outside `reward_range`.
    RewardOutOfRange,
    /// A metric that is not declared.
    UnknownMetric,
    /// Neither a reward nor an outcome.
    RewardMissing,
    /// An install that would make what was learned mean something else.
    InstallConflict,
}

/// A refusal: where, what was sent, and what to do instead. Nothing has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// What kind of refusal it is.
    pub refusal: Refusal,
    /// JSON pointer into the request.
    pub pointer: String,
    /// The offending value as it was sent, shortened; `None` where there is none.
    pub value: Option<String>,
    /// One sentence that says what is wrong.
    pub detail: String,
    /// What to do instead.
    pub remedy: String,
}

impl Rejected {
    /// A refusal that shows the offending value.
    pub fn new(
        refusal: Refusal,
        pointer: impl Into<String>,
        value: impl fmt::Display,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let value = Some(crate::definition::shown(&value.to_string()));
        Self { refusal, pointer: pointer.into(), value, detail: detail.into(), remedy: remedy.into() }
    }

    /// A refusal of something that is absent.
    pub fn absent(
        refusal: Refusal,
        pointer: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { refusal, pointer: pointer.into(), value: None, detail: detail.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.detail, self.remedy)
    }
}

impl std::error::Error for Rejected {}
