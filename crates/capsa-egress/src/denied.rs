//! Why a request was not sent, or came to nothing.

/// What the policy, or the form of the request, does not permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Denied {
    /// Stable name of the deny rule: `scheme`, `userinfo`, `host-form`, `url-form`, `host`, `port`, `method`,
    /// `address`, `private`, `unresolved`, `header`, `secret-host` or `secret`.
    pub rule: &'static str,
    /// One sentence with the offending value; it never holds the value of a secret.
    pub detail: String,
}

impl Denied {
    pub(crate) fn new(rule: &'static str, detail: impl Into<String>) -> Denied {
        Denied { rule, detail: detail.into() }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The request is not permitted.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The deadline passed, in the look-up, the connection, or the answer.
    #[error("the time that was left has passed")]
    TimedOut,
    /// More would be sent or received than is left.
    #[error("{limit} passed: {bound}")]
    TooLarge {
        /// `sent bytes`, `received bytes`, `bytes of answer head` or `headers of answer`.
        limit: &'static str,
        /// The bound that was passed.
        bound: u64,
    },
    /// The other side, or the network, failed. One of a fixed set of sentences: it holds no address, no secret
    /// and no text of the other side.
    #[error("{0}")]
    Failed(&'static str),
}

/// A rule, a pattern or a setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value:?}: {remedy}")]
pub struct Invalid {
    /// Where it stands, as `hosts[2]`.
    pub field: String,
    /// What stands there; empty where it is secret.
    pub value: String,
    /// What it has to be.
    pub remedy: String,
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, value: impl Into<String>, remedy: impl Into<String>) -> Invalid {
        Invalid { field: field.into(), value: value.into(), remedy: remedy.into() }
    }
}
