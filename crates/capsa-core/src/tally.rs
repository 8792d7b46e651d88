//! What a report counts: a fold beside learned state, never read by a decision.
//!
//! Invariant: its size is bounded by the definition, `max_contexts` and [`MAX_OTHER_VALUES`].

use std::collections::{BTreeMap, HashMap};

use crate::events::{Decided, OutcomeReceived, Status};

/// Most undeclared values that are counted apart, per context.
pub const MAX_OTHER_VALUES: usize = 64;

/// Counts of one option.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct OptionTally {
    /// How often it was answered.
    pub decisions: u64,
    /// How many rewards it was credited with.
    pub rewards: u64,
    /// Their sum.
    pub sum: f64,
}

/// Counts of feedback by what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FeedbackTally {
    /// Learned.
    pub applied: u64,
    /// After the horizon.
    pub late: u64,
    /// While frozen.
    pub frozen: u64,
    /// Something else was carried out.
    pub kept: u64,
    /// Learned, with no decision of ours.
    pub without_decision: u64,
}

/// How the suggestions of shadow mode compare with what the application did.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ShadowTally {
    /// Decisions made in shadow.
    pub decisions: u64,
    /// Those in which the suggestion was what the application did.
    pub agreed: u64,
}

/// Everything a report counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tally {
    /// Decisions that were recorded.
    pub decisions: u64,
    /// Feedback by what became of it.
    pub feedback: FeedbackTally,
    /// Shadow decisions.
    pub shadow: ShadowTally,
    /// The sum of learned rewards.
    pub reward_sum: f64,
    /// By strategy, then option.
    pub options: BTreeMap<String, BTreeMap<String, OptionTally>>,
    /// How often a declared context was missing.
    pub unknown: BTreeMap<String, u64>,
    /// How often a context had an undeclared value; beyond [`MAX_OTHER_VALUES`] under `...`.
    pub other: BTreeMap<String, BTreeMap<String, u64>>,
    /// Decisions by context key.
    pub traffic: HashMap<String, u64>,
    /// Decisions in keys that are not counted apart.
    pub uncounted: u64,
    /// Delays from decision to learned feedback.
    pub delays: Delays,
}

impl Tally {
    /// Counts a decision. Of keys that have learned nothing, those beyond twice `max_contexts` are
    /// not counted apart.
    pub fn decided(&mut self, decided: &Decided, held: bool, max_contexts: usize) {
        self.decisions += 1;
        for (strategy, option) in &decided.options.0 {
            self.option(strategy, option).decisions += 1;
        }
        if let Some(suggested) = &decided.suggested {
            self.shadow.decisions += 1;
            self.shadow.agreed += u64::from(suggested.options == decided.options);
        }
        for name in decided.unknown.iter().flatten() {
            *self.unknown.entry(name.clone()).or_default() += 1;
        }
        for (name, value) in decided.other.iter().flat_map(|other| &other.0) {
            let values = self.other.entry(name.clone()).or_default();
            let counted = values.contains_key(value) || values.len() < MAX_OTHER_VALUES;
            *values.entry(if counted { value.clone() } else { "...".to_owned() }).or_default() += 1;
        }
        if held || self.traffic.len() < 2 * max_contexts || self.traffic.contains_key(&decided.key) {
            *self.traffic.entry(decided.key.clone()).or_default() += 1;
        } else {
            self.uncounted += 1;
        }
    }

    /// Counts a feedback.
    pub fn received(&mut self, outcome: &OutcomeReceived) {
        match outcome.status {
            Status::Pending => {}
            Status::Late => self.feedback.late += 1,
            Status::Frozen => self.feedback.frozen += 1,
            Status::Kept => self.feedback.kept += 1,
            Status::Applied => {
                self.feedback.applied += 1;
                self.feedback.without_decision += u64::from(outcome.id.is_none());
                let reward = outcome.reward.unwrap_or_default();
                self.reward_sum += reward;
                for (strategy, option) in &outcome.made.0 {
                    let tally = self.option(strategy, option);
                    tally.rewards += 1;
                    tally.sum += reward;
                }
                if let Some(delay_ms) = outcome.delay_ms {
                    self.delays.add(delay_ms);
                }
            }
        }
    }

    fn option(&mut self, strategy: &str, option: &str) -> &mut OptionTally {
        if !self.options.contains_key(strategy) {
            self.options.insert(strategy.to_owned(), BTreeMap::new());
        }
        let options = self.options.get_mut(strategy).expect("inserted above");
        if !options.contains_key(option) {
            options.insert(option.to_owned(), OptionTally::default());
        }
        options.get_mut(option).expect("inserted above")
    }
}

/// A histogram of delays in steps of a quarter octave, so that the median is known to 10 %.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Delays {
    counts: BTreeMap<i32, u64>,
    total: u64,
}

impl Delays {
    fn add(&mut self, delay_ms: u64) {
        let step = libm::floor(4.0 * libm::log2(delay_ms.max(1) as f64)) as i32;
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
