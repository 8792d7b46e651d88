//! What a report counts: a fold beside learned state, never read by a decision.
//!
//! Invariant: its size is bounded by the definition, `max_contexts`, [`MAX_OTHER_VALUES`] and [`STEPS`].
//!
//! Fields are declared in the order of (length, bytes) of their names, for a snapshot holds them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cbor::ByName;
use crate::events::{Decided, OutcomeReceived, Status};

/// Most undeclared values that are counted apart, per context.
pub const MAX_OTHER_VALUES: usize = 64;

/// A horizon is told apart to this share of it: a decision counts as expired at most that much too late.
pub const STEPS: u64 = 256;

/// Counts of one option.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptionTally {
    /// The sum of the rewards it was credited with.
    pub sum: f64,
    /// Its decisions that have had no feedback.
    pub open: Waiting,
    /// How many rewards it was credited with.
    pub rewards: u64,
    /// How often it was answered.
    pub decisions: u64,
}

/// Decisions that have had no feedback, by the end of their horizon.
///
/// Signed: feedback can come of a decision whose own record was lost in a crash or erased.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// Those whose horizon had passed at the last event.
    past: i64,
    /// The others by the end of their step.
    ahead: BTreeMap<u64, i64>,
}

impl Waiting {
    fn add(&mut self, step_ms: u64, by: i64, at_ms: u64) {
        if step_ms < at_ms {
            self.past += by;
        } else {
            let count = self.ahead.entry(step_ms).or_default();
            *count += by;
            if *count == 0 {
                self.ahead.remove(&step_ms);
            }
        }
        while let Some(first) = self.ahead.first_entry()
            && *first.key() < at_ms
        {
            self.past += first.remove();
        }
    }

    /// How many still await feedback, and how many awaited it in vain.
    pub fn at(&self, now_ms: u64) -> (u64, u64) {
        let gone: i64 = self.ahead.range(..now_ms).map(|(_, count)| count).sum();
        let waiting: i64 = self.ahead.range(now_ms..).map(|(_, count)| count).sum();
        (waiting.max(0) as u64, (self.past + gone).max(0) as u64)
    }
}

/// The end of the step in which a horizon ends: the time after it that is a multiple of the largest power of two
/// below a [`STEPS`]th of the horizon.
fn step_of(decided_ms: u64, deadline_ms: u64) -> u64 {
    let step_ms = (deadline_ms.saturating_sub(decided_ms) / STEPS).max(1);
    let step_ms = 1 << step_ms.ilog2();
    deadline_ms.div_ceil(step_ms).saturating_mul(step_ms)
}

/// Counts of feedback by what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackTally {
    /// Something else was carried out.
    pub kept: u64,
    /// After the horizon.
    pub late: u64,
    /// While frozen.
    pub frozen: u64,
    /// Learned.
    pub applied: u64,
    /// Learned, of which a declared default stood for something that was not sent until the horizon.
    pub defaulted: u64,
    /// Learned, with no decision of ours.
    pub without_decision: u64,
}

/// How the suggestions of shadow mode compare with what the application did.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowTally {
    /// Those in which the suggestion was what the application did.
    pub agreed: u64,
    /// Decisions made in shadow.
    pub decisions: u64,
}

/// Everything a report counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Decisions that have had no feedback.
    pub open: Waiting,
    /// How often a context had an undeclared value; beyond [`MAX_OTHER_VALUES`] under `...`.
    pub other: ByName<ByName<u64>>,
    /// Delays from decision to learned feedback.
    pub delays: Delays,
    /// Shadow decisions.
    pub shadow: ShadowTally,
    /// By strategy, then option.
    pub options: ByName<ByName<OptionTally>>,
    /// Decisions by context key.
    pub traffic: ByName<u64>,
    /// How often a declared context was missing.
    pub unknown: ByName<u64>,
    /// Feedback by what became of it.
    pub feedback: FeedbackTally,
    /// Decisions that were recorded.
    pub decisions: u64,
    /// Decisions in keys that are not counted apart.
    pub uncounted: u64,
    /// The sum of learned rewards.
    pub reward_sum: f64,
}

impl Tally {
    /// Counts a decision. Of keys that have learned nothing, those beyond twice `max_contexts` are
    /// not counted apart.
    pub fn decided(&mut self, decided: &Decided, held: bool, max_contexts: usize) {
        self.decisions += 1;
        let decided_ms = decided.id.time_ms();
        let step_ms = step_of(decided_ms, decided.deadline_ms);
        self.open.add(step_ms, 1, decided_ms);
        for (strategy, option) in &decided.options.0 {
            let tally = self.option(strategy, option);
            tally.decisions += 1;
            tally.open.add(step_ms, 1, decided_ms);
        }
        if let Some(suggested) = &decided.suggested {
            self.shadow.decisions += 1;
            self.shadow.agreed += u64::from(suggested.options == decided.options);
        }
        for name in decided.unknown.iter().flatten() {
            *self.unknown.0.entry(name.clone()).or_default() += 1;
        }
        for (name, value) in decided.other.iter().flat_map(|other| &other.0) {
            let values = &mut self.other.0.entry(name.clone()).or_default().0;
            let counted = values.contains_key(value) || values.len() < MAX_OTHER_VALUES;
            *values.entry(if counted { value.clone() } else { "...".to_owned() }).or_default() += 1;
        }
        let traffic = &mut self.traffic.0;
        if let Some(count) = traffic.get_mut(&decided.key) {
            *count += 1;
        } else if held || traffic.len() < 2 * max_contexts {
            traffic.insert(decided.key.clone(), 1);
        } else {
            self.uncounted += 1;
        }
    }

    /// Counts a feedback that somebody sent.
    pub fn received(&mut self, outcome: &OutcomeReceived, at_ms: u64) {
        let closes = match outcome.status {
            Status::Pending | Status::Expired => false,
            Status::Applied | Status::Frozen | Status::Kept => true,
            Status::Late => !outcome.again,
        };
        if closes {
            self.closed(outcome, at_ms);
        }
        match outcome.status {
            Status::Pending | Status::Expired => {}
            Status::Late => self.feedback.late += 1,
            Status::Frozen => self.feedback.frozen += 1,
            Status::Kept => self.feedback.kept += 1,
            Status::Applied => {
                self.feedback.without_decision += u64::from(outcome.id.is_none());
                self.learned(outcome);
                if let Some(delay_ms) = outcome.delay_ms {
                    self.delays.add(delay_ms);
                }
            }
        }
    }

    /// Counts what the horizon brought.
    pub fn horizon_passed(&mut self, outcome: &OutcomeReceived, at_ms: u64) {
        match outcome.status {
            Status::Applied => {
                self.closed(outcome, at_ms);
                self.feedback.defaulted += 1;
                self.learned(outcome);
            }
            Status::Frozen => {
                self.closed(outcome, at_ms);
                self.feedback.frozen += 1;
            }
            Status::Kept => {
                self.closed(outcome, at_ms);
                self.feedback.kept += 1;
            }
            Status::Pending | Status::Late | Status::Expired => {}
        }
    }

    fn learned(&mut self, outcome: &OutcomeReceived) {
        self.feedback.applied += 1;
        let reward = outcome.reward.unwrap_or_default();
        self.reward_sum += reward;
        for (strategy, option) in &outcome.made.0 {
            let tally = self.option(strategy, option);
            tally.rewards += 1;
            tally.sum += reward;
        }
    }

    /// A decision awaits no feedback any more.
    fn closed(&mut self, outcome: &OutcomeReceived, at_ms: u64) {
        let (Some(id), Some(deadline_ms)) = (outcome.id, outcome.deadline_ms) else { return };
        let step_ms = step_of(id.time_ms(), deadline_ms);
        self.open.add(step_ms, -1, at_ms);
        for (strategy, option) in &outcome.answered.as_ref().unwrap_or(&outcome.made).0 {
            self.option(strategy, option).open.add(step_ms, -1, at_ms);
        }
    }

    fn option(&mut self, strategy: &str, option: &str) -> &mut OptionTally {
        if !self.options.0.contains_key(strategy) {
            self.options.0.insert(strategy.to_owned(), ByName::default());
        }
        let options = &mut self.options.0.get_mut(strategy).expect("inserted above").0;
        if !options.contains_key(option) {
            options.insert(option.to_owned(), OptionTally::default());
        }
        options.get_mut(option).expect("inserted above")
    }
}

/// A histogram of delays in steps of a quarter octave, so that the median is known to 10 %.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delays {
    total: u64,
    counts: BTreeMap<u32, u64>,
}

impl Delays {
    fn add(&mut self, delay_ms: u64) {
        let step = libm::floor(4.0 * libm::log2(delay_ms.max(1) as f64)) as u32;
        *self.counts.entry(step).or_default() += 1;
        self.total += 1;
    }

    /// The median in seconds, to 10 %; `None` before the first.
    pub fn median_seconds(&self) -> Option<f64> {
        let mut before = 0;
        for (step, count) in &self.counts {
            before += count;
            if 2 * before >= self.total {
                return Some(libm::exp2((f64::from(*step) + 0.5) / 4.0) / 1000.0);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;

    /// A decision counts as expired when its horizon has passed, at most a 256th of it late, and never before.
    #[test]
    fn a_step_ends_after_its_deadlines_by_less_than_its_share() {
        for horizon_ms in [1, 255, 256, 1000, 3_600_000, 30 * DAY_MS, 3650 * DAY_MS] {
            for decided_ms in [0, 1, 12_345, 1_800_000_000_123] {
                let deadline_ms = decided_ms + horizon_ms;
                let step_ms = step_of(decided_ms, deadline_ms);
                assert!((deadline_ms..=deadline_ms + (horizon_ms / STEPS).max(1)).contains(&step_ms));
            }
        }
    }

    #[test]
    fn what_waits_is_counted_in_bounded_space() {
        let mut waiting = Waiting::default();
        for at in 0..100_000u64 {
            let decided_ms = at * 1000;
            waiting.add(step_of(decided_ms, decided_ms + DAY_MS), 1, decided_ms);
            assert!(waiting.ahead.len() as u64 <= 2 * STEPS + 2);
        }
        let now_ms = 99_999_000;
        let (ahead, gone) = waiting.at(now_ms);
        assert_eq!(ahead + gone, 100_000);
        assert!(ahead.abs_diff(DAY_MS / 1000) <= DAY_MS / 1000 / STEPS + 1, "{ahead}");
        // Feedback of one that waits, of one that waited in vain, and of one whose record was lost.
        waiting.add(step_of(now_ms, now_ms + DAY_MS), -1, now_ms);
        waiting.add(step_of(0, DAY_MS), -1, now_ms);
        assert_eq!(waiting.at(now_ms), (ahead - 1, gone - 1));
        let mut lost = Waiting::default();
        lost.add(step_of(0, DAY_MS), -1, 5);
        assert_eq!((lost.at(5), lost.at(2 * DAY_MS)), ((0, 0), (0, 0)));
    }
}
