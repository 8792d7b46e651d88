//! The fold: one capsule's state as its events make it.
//!
//! Invariants:
//! * [`Capsule::apply`] is the only way in which state changes;
//! * the same events give the same state, live or rebuilt, in one process or many;
//! * an event that is refused changes nothing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cbor::{self, Bytes, DecodeError};
use crate::decide::{Cache, weights};
use crate::definition::{Definition, Problem};
use crate::events::{Decided, Event, Installed, LearningChanged, OutcomeReceived, Status, Written};
use crate::learned::{Credit, Learned};
use crate::program::{Overrides, Program};
use crate::rejected::{Refusal, Rejected};
use crate::tally::Tally;

/// The version of the fold: another one may make another state of the same events.
pub const FOLD: u32 = 1;

/// One version that was installed.
#[derive(Debug, Clone)]
pub struct Version {
    /// The component's digest.
    pub digest: String,
    /// Its complete definition.
    pub definition: Arc<Definition>,
}

/// One capsule's state.
#[derive(Debug)]
pub struct Capsule {
    versions: Vec<Version>,
    overrides: Overrides,
    program: Arc<Program>,
    learned: Learned,
    tally: Tally,
    cache: Cache,
}

/// Why an event could not be folded: the journal and this version do not fit each other.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FoldError {
    /// The bytes are not the event that the header names.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The first event of a capsule has to install it.
    #[error("a capsule begins with an installed event, not with {kind}")]
    NotInstalled {
        /// The event's type.
        kind: &'static str,
    },
    /// The event was written for another capsule.
    #[error("the event is of capsule {found:?}, folded into {expected:?}")]
    OtherCapsule {
        /// The capsule that is folded.
        expected: String,
        /// The capsule of the event.
        found: String,
    },
    /// Versions are numbered without gaps.
    #[error("version {found} was installed after version {last}")]
    VersionGap {
        /// The last version.
        last: u32,
        /// The event's version.
        found: u32,
    },
    /// A recorded definition or override is not valid in this version of Capsa.
    #[error("a recorded definition does not hold in this version: {}", .0.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("; "))]
    Definition(Vec<Problem>),
    /// An applied outcome without a reward.
    #[error("an applied outcome has no reward")]
    NoReward,
}

/// What an install would do to what was learned, in sentences for a person.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InstallPlan {
    /// The version it would become.
    pub version: u32,
    /// Whether these bytes are the current version already.
    pub unchanged: bool,
    /// What changes.
    pub changes: Vec<String>,
}

impl Capsule {
    /// The state after a capsule's first event. `at_ms` is the time in its header.
    ///
    /// # Errors
    ///
    /// [`FoldError`] if it is not an install, or its definition does not hold.
    pub fn begin(at_ms: u64, event: &Event) -> Result<Self, FoldError> {
        let Event::Installed(installed) = event else { return Err(FoldError::NotInstalled { kind: event.kind() }) };
        if installed.version != 1 {
            return Err(FoldError::VersionGap { last: 0, found: installed.version });
        }
        let definition = recorded(&installed.definition)?;
        let mut learned = Learned::default();
        learned.bump();
        let program = Arc::new(Program::new(definition.clone(), &mut learned));
        learned.freeze(program.frozen(), at_ms);
        learned.adopt(&program.terms);
        Ok(Self {
            versions: vec![Version { digest: installed.digest.clone(), definition: Arc::new(definition) }],
            overrides: Overrides::default(),
            program,
            learned,
            tally: Tally::default(),
            cache: Cache::default(),
        })
    }

    /// Folds one more event. `at_ms` is the time in its header.
    ///
    /// # Errors
    ///
    /// [`FoldError`]; the state is unchanged.
    pub fn apply(&mut self, at_ms: u64, event: &Event) -> Result<(), FoldError> {
        match event {
            Event::Installed(installed) => self.installed(at_ms, installed),
            Event::LearningChanged(changed) => self.learning_changed(at_ms, changed),
            Event::Decided(decided) => self.decided(decided),
            Event::OutcomeReceived(outcome) => {
                self.outcome_received(at_ms, outcome)?;
                self.tally.received(outcome, at_ms);
                Ok(())
            }
            Event::HorizonPassed(outcome) => {
                self.outcome_received(at_ms, outcome)?;
                self.tally.horizon_passed(outcome, at_ms);
                Ok(())
            }
        }
    }

    /// Reads an event of this capsule.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], as [`Event::decode`].
    pub fn decode(&self, written: &Written<'_>) -> Result<Event, DecodeError> {
        Event::decode(written, |number| self.version_at(number).map(|version| &version.definition))
    }

    /// Everything that was folded, as bytes: the same state gives the same bytes on every machine.
    pub fn snapshot(&self) -> Vec<u8> {
        let versions = (self.versions.iter())
            .map(|version| SnapshotVersion {
                digest: version.digest.clone(),
                definition: serde_json::to_string(&*version.definition).expect("a definition is JSON"),
            })
            .collect();
        cbor::encode(&Snapshot {
            fold: FOLD,
            tally: self.tally.clone(),
            learned: Bytes(self.learned.encode()),
            versions,
            overrides: serde_json::to_string(&self.overrides).expect("overrides are JSON"),
        })
    }

    /// The state that [`Capsule::snapshot`] wrote.
    ///
    /// # Errors
    ///
    /// [`FoldError`] if the bytes are no snapshot, or of a fold that this version does not know.
    pub fn restore(snapshot: &[u8]) -> Result<Self, FoldError> {
        const WHAT: &str = "snapshot of a capsule";
        let Snapshot { fold, tally, learned, versions, overrides } = cbor::decode(WHAT, snapshot)?;
        let refuse = |why: String| FoldError::Decode(DecodeError { what: WHAT, why });
        if fold != FOLD {
            return Err(refuse(format!("it is of fold {fold}, this version knows {FOLD}")));
        }
        let mut learned = Learned::decode(&learned.0)?;
        let overrides: Overrides = serde_json::from_str(&overrides).map_err(|error| refuse(error.to_string()))?;
        let versions: Vec<Version> = (versions.into_iter())
            .map(|SnapshotVersion { digest, definition }| {
                Ok(Version { digest, definition: Arc::new(recorded(&definition)?) })
            })
            .collect::<Result<_, FoldError>>()?;
        let current = versions.last().ok_or_else(|| refuse("it has no version".to_owned()))?;
        let in_force = overrides.apply(&current.definition).map_err(FoldError::Definition)?;
        let program = Arc::new(Program::new(in_force, &mut learned));
        Ok(Self { versions, overrides, program, learned, tally, cache: Cache::default() })
    }

    /// Folds a decision: as [`Capsule::apply`], for who holds it decoded.
    ///
    /// # Errors
    ///
    /// [`FoldError::OtherCapsule`].
    pub fn decided(&mut self, decided: &Decided) -> Result<(), FoldError> {
        self.same_capsule(&decided.capsule)?;
        let held = self.learned.entry(&decided.key).is_some();
        self.tally.decided(decided, held, self.program.max_contexts());
        Ok(())
    }

    fn same_capsule(&self, found: &str) -> Result<(), FoldError> {
        let expected = &self.program.definition.name;
        if found == expected {
            return Ok(());
        }
        Err(FoldError::OtherCapsule { expected: expected.clone(), found: found.to_owned() })
    }

    fn installed(&mut self, at_ms: u64, installed: &Installed) -> Result<(), FoldError> {
        self.same_capsule(&installed.capsule)?;
        if installed.version != self.version() + 1 {
            return Err(FoldError::VersionGap { last: self.version(), found: installed.version });
        }
        let definition = recorded(&installed.definition)?;
        let in_force = self.overrides.apply(&definition).map_err(FoldError::Definition)?;
        self.versions.push(Version { digest: installed.digest.clone(), definition: Arc::new(definition) });
        self.enforce(at_ms, in_force);
        Ok(())
    }

    fn learning_changed(&mut self, at_ms: u64, changed: &LearningChanged) -> Result<(), FoldError> {
        self.same_capsule(&changed.capsule)?;
        let overrides: Overrides = serde_json::from_str(&changed.overrides)
            .map_err(|e| FoldError::Decode(DecodeError { what: "set of overrides", why: e.to_string() }))?;
        let in_force = overrides.apply(&self.current().definition).map_err(FoldError::Definition)?;
        self.overrides = overrides;
        self.enforce(at_ms, in_force);
        Ok(())
    }

    fn enforce(&mut self, at_ms: u64, in_force: Definition) {
        self.program = Arc::new(Program::new(in_force, &mut self.learned));
        // First the clock, which what is adopted goes by.
        self.learned.freeze(self.program.frozen(), at_ms);
        self.learned.adopt(&self.program.terms);
        self.learned.bump();
        self.cache.clear();
        self.evict();
    }

    fn outcome_received(&mut self, at_ms: u64, outcome: &OutcomeReceived) -> Result<(), FoldError> {
        self.same_capsule(&outcome.capsule)?;
        if outcome.status == Status::Applied {
            let reward = outcome.reward.ok_or(FoldError::NoReward)?;
            let credit = Credit { key: &outcome.key, options: &outcome.made.0, reward, at_ms };
            self.learned.learn(credit, &self.program.terms);
            self.evict();
        }
        Ok(())
    }

    fn evict(&mut self) {
        let Self { learned, cache, tally, program, .. } = self;
        learned.limit(program.max_contexts(), &program.terms, |key| {
            cache.forget(key);
            tally.traffic.0.remove(key);
        });
    }

    /// What installing this definition with this digest would do.
    ///
    /// # Errors
    ///
    /// [`Refusal::InstallConflict`] if contexts or reward change while there is history, so that
    /// what was learned would mean something else; or if the operator's overrides do not hold with
    /// this file: an install never removes one.
    pub fn plan(&self, digest: &str, filled: &Definition) -> Result<InstallPlan, Rejected> {
        let current = self.current();
        if current.digest == digest {
            return Ok(InstallPlan { version: self.version(), unchanged: true, changes: Vec::new() });
        }
        let old = &current.definition;
        let history = self.tally.decisions > 0 || self.tally.feedback.applied > 0;
        if let Err(problems) = self.overrides.apply(filled) {
            let problem = problems.into_iter().next().expect("an error has a problem");
            return Err(Rejected::absent(
                Refusal::InstallConflict,
                problem.pointer,
                format!("an operator's override does not hold with this file: {}", problem.message),
                "change or take back the override first; an install never removes one",
            ));
        }
        let mut changes = Vec::new();
        let differs = [
            ("contexts", old.contexts != filled.contexts),
            ("reward", old.reward != filled.reward),
            ("reward_range", old.reward_range != filled.reward_range),
        ];
        for (what, _) in differs.iter().filter(|(_, differs)| *differs) {
            if history {
                return Err(Rejected::new(
                    Refusal::InstallConflict,
                    format!("/{what}"),
                    &filled.name,
                    format!("{what} differs from version {}, and {} has learned already", self.version(), filled.name),
                    "install it under another name, or keep what was declared: re-valuing history is not supported yet",
                ));
            }
            changes.push(format!("{what} changes; nothing was learned yet"));
        }
        for strategy in &filled.strategies {
            let Some(before) = old.strategies.iter().find(|before| before.name == strategy.name) else {
                changes.push(format!("strategy {} is new: it starts from the prior", strategy.name));
                continue;
            };
            for option in strategy.options.iter().filter(|option| !before.options.contains(option)) {
                changes.push(format!("option {option} of {} is new: it starts from the prior", strategy.name));
            }
            for option in before.options.iter().filter(|option| !strategy.options.contains(option)) {
                changes.push(format!(
                    "option {option} of {} is no longer offered: what it learned is kept",
                    strategy.name
                ));
            }
        }
        for strategy in old.strategies.iter().filter(|old| !filled.strategies.iter().any(|new| new.name == old.name)) {
            changes.push(format!("strategy {} is gone: what it learned is kept", strategy.name));
        }
        for (what, differs) in [
            ("mode", old.mode != filled.mode),
            ("rails", old.rails != filled.rails),
            ("decay", old.decay != filled.decay),
            ("shrinkage", old.shrinkage != filled.shrinkage),
            ("horizon", old.horizon != filled.horizon),
            ("valid", old.valid != filled.valid),
        ] {
            if differs {
                changes.push(format!("{what} is declared anew; an override of it stays in force"));
            }
        }
        if old.max_contexts != filled.max_contexts {
            changes.push("max_contexts is declared anew; contexts beyond it are folded into the prior".to_owned());
        }
        for strategy in &filled.strategies {
            let before = old.strategies.iter().find(|before| before.name == strategy.name);
            if before.is_some_and(|before| before.algorithm != strategy.algorithm) {
                changes.push(format!("the algorithm of {} is declared anew", strategy.name));
            }
            if before.is_some_and(|before| before.priors != strategy.priors) {
                changes.push(format!("the priors of {} are declared anew", strategy.name));
            }
            if before.is_some_and(|before| before.baseline != strategy.baseline) {
                changes.push(format!("the baseline of {} is declared anew", strategy.name));
            }
        }
        if changes.is_empty() {
            changes.push("options, contexts and reward stay as they are: everything learned stays in use".to_owned());
        }
        Ok(InstallPlan { version: self.version() + 1, unchanged: false, changes })
    }

    /// The weights of one key, over all strategies.
    pub fn weights(&mut self, key: &str, now_ms: u64) -> Vec<f64> {
        weights(&self.program, &self.learned, &mut self.cache, key, now_ms)
    }

    /// Everything that a decision reads.
    pub fn for_decision(&mut self) -> (&Program, &Learned, &mut Cache) {
        (&self.program, &self.learned, &mut self.cache)
    }

    /// The number of the current version, from 1.
    pub fn version(&self) -> u32 {
        self.versions.len() as u32
    }

    /// The current version.
    pub fn current(&self) -> &Version {
        self.versions.last().expect("begins with an install")
    }

    /// A version by its number.
    pub fn version_at(&self, number: u32) -> Option<&Version> {
        self.versions.get((number as usize).checked_sub(1)?)
    }

    /// All versions, the first one first.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// The program in force.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The overrides in force.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// What was learned.
    pub fn learned(&self) -> &Learned {
        &self.learned
    }

    /// What was counted.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// A capsule's state as it is kept. Fields in the order of (length, bytes) of their names.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Snapshot {
    fold: u32,
    tally: Tally,
    learned: Bytes,
    versions: Vec<SnapshotVersion>,
    overrides: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotVersion {
    digest: String,
    definition: String,
}

fn recorded(definition: &str) -> Result<Definition, FoldError> {
    let definition = Definition::from_json(definition.as_bytes()).map_err(FoldError::Definition)?;
    definition.filled().map_err(FoldError::Definition)
}
