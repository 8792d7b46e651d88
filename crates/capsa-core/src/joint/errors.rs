//! What can be wrong with combinations, and with choices among them.

use super::{MAX_COMBINATIONS, MAX_SCORE};

/// Why there is no set of combinations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CombinationsError {
    /// Nothing to combine.
    #[error("a joint choice needs at least one head")]
    NoHeads,
    /// A head without options, or with more than can be numbered.
    #[error("head {head} has {size} options; it may have 1 to 65535")]
    HeadSize {
        /// Index of the head.
        head: usize,
        /// Its number of options.
        size: usize,
    },
    /// The list of valid combinations is empty.
    #[error("the list of valid combinations is empty")]
    NoCombinations,
    /// The list does not consist of whole rows.
    #[error("{entries} entries do not make whole rows of {heads} heads")]
    PartialRow {
        /// Number of entries.
        entries: usize,
        /// Number of heads.
        heads: usize,
    },
    /// A row names an option that the head does not have.
    #[error("row {row} names option {option} of head {head}, which has {size} options")]
    UnknownOption {
        /// Index of the row.
        row: usize,
        /// Index of the head.
        head: usize,
        /// The option.
        option: u16,
        /// The head's number of options.
        size: usize,
    },
    /// More combinations than are kept.
    #[error("{count} combinations; the limit is {MAX_COMBINATIONS}")]
    TooMany {
        /// Number of different combinations.
        count: usize,
    },
}

/// Why a joint choice could not be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum JointError {
    /// An array has the wrong length.
    #[error("{found} entries where {expected} were expected")]
    ShapeMismatch {
        /// The length that fits.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// The score of an allowed option is NaN or too large to be added.
    #[error("score {score:e} at position {position} is not within ±{MAX_SCORE:e}")]
    BadScore {
        /// Position in the concatenated array.
        position: usize,
        /// The score.
        score: f64,
    },
    /// The probability of an allowed option is NaN, infinite or negative.
    #[error("probability {probability} at position {position} is not finite and at least 0")]
    BadProbability {
        /// Position in the concatenated array.
        position: usize,
        /// The probability.
        probability: f64,
    },
    /// The mask excludes every valid combination.
    #[error("no valid combination is allowed")]
    NoneAllowed,
}
