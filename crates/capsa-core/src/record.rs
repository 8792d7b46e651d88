//! A decision as the journal keeps it, and what feedback needs of it.

use crate::cbor::{ByName, Bytes16};
use crate::decide::{Ask, Decision, draw_labelled};
use crate::definition::Mode;
use crate::events::{Decided, KeyFrom, Suggested};
use crate::input::ContextNotes;
use crate::program::Program;
use crate::stream::Stream;
use crate::world::Made;

/// What surrounds a decision in its record.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// Where the key comes from.
    pub key_from: KeyFrom,
    /// What the declared contexts found.
    pub notes: ContextNotes,
    /// The capsule's version.
    pub capsule_version: u32,
    /// The learner version that was read.
    pub learner_version: u64,
    /// Whom it is about: a keyed hash.
    pub subject: Option<[u8; 16]>,
}

/// The record of a decision.
pub fn record(program: &Program, ask: &Ask, decision: &Decision, around: &Circumstances) -> Decided {
    let named = |options: &[usize]| name_options(program, options);
    let by_head = |values: &[f64]| -> ByName<Vec<f64>> {
        (program.heads.iter())
            .map(|head| (head.name.clone(), values[head.offset..head.offset + head.size].to_vec()))
            .collect()
    };
    let all_allowed = decision.allowed.iter().all(|&allowed| allowed);
    let allowed_numbers = || {
        (program.heads.iter())
            .map(|head| {
                let flags = &decision.allowed[head.offset..head.offset + head.size];
                let numbers = (0u32..).zip(flags).filter(|(_, flag)| **flag).map(|(number, _)| number).collect();
                (head.name.clone(), numbers)
            })
            .collect()
    };
    let baseline: Vec<usize> = program.heads.iter().map(|head| head.baseline).collect();
    let drawn = decision.suggestion.as_ref().filter(|_| decision.drawn);
    let suggested = decision.suggestion.as_ref().filter(|_| !decision.drawn);
    let ContextNotes { unknown, other } = around.notes.clone();
    Decided {
        id: Bytes16(ask.nonce),
        key: ask.key.clone(),
        mode: program.mode(),
        other: (!other.is_empty()).then(|| other.into_iter().collect()),
        reason: decision.reason,
        allowed: (!all_allowed).then(allowed_numbers),
        capsule: program.definition.name.clone(),
        current: ask.current.as_deref().map(named),
        options: named(&decision.options),
        unknown: (!unknown.is_empty()).then_some(unknown),
        baseline: named(&baseline),
        key_from: around.key_from,
        suggested: suggested.map(|suggestion| Suggested {
            reason: suggestion.reason,
            options: named(&suggestion.options),
            propensity: suggestion.propensity,
            probabilities: by_head(&suggestion.probabilities),
        }),
        propensity: drawn.map(|suggestion| suggestion.propensity),
        deadline_ms: ask.now_ms.saturating_add(program.horizon_ms()),
        probabilities: drawn.map(|suggestion| by_head(&suggestion.probabilities)),
        capsule_version: around.capsule_version,
        learner_version: around.learner_version,
        subject: around.subject.map(Bytes16),
        defaults: program.defaults().map(|defaults| ByName(defaults.clone())),
    }
}

fn name_options(program: &Program, options: &[usize]) -> ByName<String> {
    (program.definition.strategies.iter().zip(options))
        .map(|(strategy, &option)| (strategy.name.clone(), strategy.options[option].clone()))
        .collect()
}

impl Decided {
    /// What a guest's `reward` is told was made, if `taken` (or else the answer) was carried out.
    /// In the order of strategy names.
    pub fn made(&self, taken: Option<&ByName<String>>) -> Vec<Made> {
        let carried_out = taken.unwrap_or(&self.options);
        let propensity = self.propensity.filter(|_| *carried_out == self.options);
        (carried_out.0.iter())
            .map(|(strategy, option)| Made {
                strategy: strategy.clone(),
                option: option.clone(),
                key: self.key.clone(),
                propensity,
            })
            .collect()
    }

    /// Draws again from the recorded distribution of a single strategy: the number of the option
    /// that this record must hold. `None` for several strategies, whose joint distribution is not
    /// recorded, for mode off, and for a frozen learner, which draws nothing.
    pub fn draw_again(&self, stream_key: [u8; 8]) -> Option<usize> {
        if self.mode == Mode::Off {
            return None;
        }
        let shares = self.probabilities.as_ref().or(self.suggested.as_ref().map(|s| &s.probabilities))?;
        let (Some(only), 1) = (shares.0.values().next(), shares.0.len()) else { return None };
        let stream = Stream::new(stream_key, self.id.0);
        Some(draw_labelled(only, 0.0, &stream).0)
    }
}

/// Separates the random numbers of capsules: the first 8 bytes of the BLAKE2b-256 digest of the
/// three names, each ended by a zero byte.
pub fn stream_key(tenant: &str, job: &str, capsule: &str) -> [u8; 8] {
    use blake2::Digest;
    let mut hash = blake2::Blake2b::<blake2::digest::consts::U32>::new();
    for name in [tenant, job, capsule] {
        hash.update(name.as_bytes());
        hash.update([0]);
    }
    hash.finalize()[..8].try_into().expect("a digest has 32 bytes")
}
