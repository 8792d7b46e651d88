//! What the host answered during a call: recorded, so that the call can be repeated alone.
//!
//! Invariant: a replay takes every answer from the recording and asks nothing outside; where the capsule asks something
//! else than it did then, the replay ends.

use capsa_core::cbor::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Most bytes that a recording may have.
pub const MAX_RECORDING_BYTES: usize = 8 << 20;
/// What an exchange costs beside its content.
const EXCHANGE_BYTES: usize = 64;

/// One call of a host function and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// What was asked, in CBOR.
    pub args: Bytes,
    /// `interface.function`.
    pub name: String,
    /// The answer, in CBOR.
    pub answer: Bytes,
}

/// What a call does with what the host answers.
#[derive(Debug, Default)]
pub(crate) enum Tape {
    /// Nothing.
    #[default]
    Off,
    /// It is kept.
    Recording { kept: Vec<Exchange>, bytes: usize },
    /// It comes from here.
    Replaying { left: std::vec::IntoIter<Exchange>, at: usize },
}

/// Why a tape ends a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TapeEnd {
    /// The recording would get too large.
    Full,
    /// The capsule asks something else than was recorded.
    Diverged { at: usize, asks: String },
}

impl Tape {
    pub(crate) fn recording() -> Tape {
        Tape::Recording { kept: Vec::new(), bytes: 0 }
    }

    pub(crate) fn replaying(kept: Vec<Exchange>) -> Tape {
        Tape::Replaying { left: kept.into_iter(), at: 0 }
    }

    /// The recorded answer, where this is a replay.
    pub(crate) fn play<A: DeserializeOwned>(
        &mut self,
        name: &str,
        args: &impl Serialize,
    ) -> Result<Option<A>, TapeEnd> {
        let Tape::Replaying { left, at } = self else { return Ok(None) };
        let diverged = TapeEnd::Diverged { at: *at, asks: name.to_owned() };
        let exchange = left.next().ok_or_else(|| diverged.clone())?;
        *at += 1;
        if exchange.name != name || exchange.args.0 != encoded(args) {
            return Err(diverged);
        }
        ciborium::from_reader(exchange.answer.0.as_slice()).map(Some).map_err(|_| diverged)
    }

    /// Keeps an answer, where this is a recording.
    pub(crate) fn keep(&mut self, name: &str, args: &impl Serialize, answer: &impl Serialize) -> Result<(), TapeEnd> {
        let Tape::Recording { kept, bytes } = self else { return Ok(()) };
        let exchange = Exchange { args: Bytes(encoded(args)), name: name.to_owned(), answer: Bytes(encoded(answer)) };
        *bytes += exchange.args.0.len() + exchange.answer.0.len() + EXCHANGE_BYTES;
        if *bytes > MAX_RECORDING_BYTES {
            // Half of a recording repeats nothing.
            *self = Tape::Off;
            return Err(TapeEnd::Full);
        }
        kept.push(exchange);
        Ok(())
    }

    pub(crate) fn is_replaying(&self) -> bool {
        matches!(self, Tape::Replaying { .. })
    }

    /// What was recorded; `None` where nothing was to be, or it was too much.
    pub(crate) fn into_recording(self) -> Option<Vec<Exchange>> {
        match self {
            Tape::Recording { kept, .. } => Some(kept),
            _ => None,
        }
    }

    /// How many recorded answers a replay did not ask for.
    pub(crate) fn left_over(&self) -> usize {
        match self {
            Tape::Replaying { left, .. } => left.len(),
            _ => 0,
        }
    }
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("writing to memory does not fail");
    bytes
}
