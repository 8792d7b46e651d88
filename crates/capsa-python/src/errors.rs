//! The one table from native errors to the exceptions of `capsa.errors`.

use capsa_author::{CompileError, InspectError, SpecError};
use capsa_core::capsule::FoldError;
use capsa_core::cbor::DecodeError;
use capsa_core::definition::Problem;
use capsa_core::rejected::{Refusal, Rejected};
use capsa_vm::{CallError, Failure, HostError, LoadError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A native error on its way to Python.
#[derive(Debug)]
pub enum Raised {
    /// What a caller sent.
    Rejected(Rejected),
    /// What a guest did, or what the host could not do for it.
    Call(CallError),
    /// What a guest answered, where only its definition can tell.
    BadAnswer(String),
    /// What a tool says of why it could not do it.
    ToolFailed(Failure),
    /// A tool that imports what is not granted.
    NotGranted(String),
    /// Bytes that cannot be used as a capsule, in one sentence.
    InvalidCapsule(String),
    /// A component that cannot be run.
    Load(LoadError),
    /// A host that cannot be made.
    Host(HostError),
    /// A spec that does not hold.
    Spec(SpecError),
    /// A definition that does not hold.
    Definition(Vec<Problem>),
    /// A definition that could not be compiled.
    Compile(CompileError),
    /// Bytes that are no capsule.
    Inspect(InspectError),
    /// An event that does not fit the state.
    Fold(FoldError),
    /// An exception that is raised already.
    Python(PyErr),
}

macro_rules! from {
    ($($error:ty => $variant:ident),+ $(,)?) => {
        $(impl From<$error> for Raised {
            fn from(error: $error) -> Self {
                Raised::$variant(error)
            }
        })+
    };
}

from! {
    Rejected => Rejected, CallError => Call, LoadError => Load, HostError => Host, SpecError => Spec,
    CompileError => Compile, InspectError => Inspect, FoldError => Fold, PyErr => Python,
}

impl From<DecodeError> for Raised {
    fn from(error: DecodeError) -> Self {
        Raised::Fold(FoldError::Decode(error))
    }
}

impl From<Raised> for PyErr {
    fn from(raised: Raised) -> PyErr {
        match raised {
            Raised::Python(error) => error,
            Raised::Rejected(rejected) => {
                let class = refusal_class(rejected.refusal);
                let Rejected { detail, pointer, value, remedy, .. } = rejected;
                exception(class, detail, |fields| {
                    fields.set_item("pointer", pointer)?;
                    fields.set_item("value", value)?;
                    fields.set_item("remedy", remedy)
                })
            }
            Raised::Call(error) => {
                let class = call_class(&error);
                let detail = match error {
                    CallError::Refused(words) => words,
                    other => other.to_string(),
                };
                exception(class, detail, |_| Ok(()))
            }
            Raised::ToolFailed(Failure { code, message, retryable }) => {
                exception("CapsuleRefused", message, |fields| {
                    fields.set_item("failure", code)?;
                    fields.set_item("retryable", retryable)
                })
            }
            Raised::NotGranted(detail) => exception("CapabilityDenied", detail, |fields| {
                fields.set_item("remedy", "grant it in the capsule's policy, or invoke a capsule that needs less")
            }),
            Raised::BadAnswer(detail) => exception("CapsuleBadOutput", detail, |_| Ok(())),
            Raised::Spec(error) => {
                let detail = error.to_string();
                exception("InvalidSpec", detail, |fields| {
                    let problems: Vec<_> = (error.problems.into_iter())
                        .map(|problem| (problem.line, problem.column, problem.key, problem.message))
                        .collect();
                    fields.set_item("problems", problems)
                })
            }
            Raised::Definition(problems) => {
                let detail = problems.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("; ");
                let pointer = problems.first().map(|problem| problem.pointer.clone());
                exception("InvalidCapsule", detail, |fields| fields.set_item("pointer", pointer))
            }
            Raised::InvalidCapsule(detail) => exception("InvalidCapsule", detail, |_| Ok(())),
            Raised::Load(error) => exception("InvalidCapsule", error.to_string(), |_| Ok(())),
            Raised::Inspect(error) => exception("InvalidCapsule", error.to_string(), |_| Ok(())),
            Raised::Host(error) => exception("HostFault", error.to_string(), |_| Ok(())),
            Raised::Compile(error) => exception("HostFault", error.to_string(), |_| Ok(())),
            Raised::Fold(error) => exception("JournalMismatch", error.to_string(), |_| Ok(())),
        }
    }
}

fn refusal_class(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::InvalidField => "InvalidField",
        Refusal::UnknownField => "UnknownField",
        Refusal::UnknownOption => "UnknownOption",
        Refusal::UnknownStrategy => "UnknownStrategy",
        Refusal::NoAllowedOption => "NoAllowedOption",
        Refusal::MetricOutOfRange => "MetricOutOfRange",
        Refusal::RewardOutOfRange => "RewardOutOfRange",
        Refusal::UnknownMetric => "UnknownMetric",
        Refusal::RewardMissing => "RewardMissing",
        Refusal::InstallConflict => "InstallConflict",
    }
}

fn call_class(error: &CallError) -> &'static str {
    match error {
        CallError::Refused(_) => "CapsuleRefused",
        CallError::Trapped { .. } => "CapsuleTrapped",
        CallError::Stack { .. } => "CapsuleStack",
        CallError::Memory { .. } => "CapsuleOutOfMemory",
        CallError::Deadline { .. } | CallError::Wall { .. } => "CapsuleDeadline",
        CallError::Fuel { .. } => "CapsuleFuel",
        CallError::Tables { .. } | CallError::HostCalls { .. } | CallError::RecordingTooLarge { .. } => "CapsuleLimit",
        CallError::BadOutput(_) => "CapsuleBadOutput",
        CallError::NoCompensation => "WrongKind",
        CallError::Busy { .. } | CallError::Concurrency { .. } => "Overloaded",
        CallError::TooSlow => "TooSlow",
        CallError::Diverged { .. } => "JournalMismatch",
        CallError::Host { .. } => "HostFault",
    }
}

fn exception(class: &str, detail: String, fill: impl FnOnce(&Bound<'_, PyDict>) -> PyResult<()>) -> PyErr {
    Python::attach(|py| {
        let made = (|| {
            let fields = PyDict::new(py);
            fill(&fields)?;
            py.import("capsa.errors")?.getattr(class)?.call((detail,), Some(&fields))
        })();
        made.map_or_else(|error| error, PyErr::from_value)
    })
}
