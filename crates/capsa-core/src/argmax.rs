//! Masked argmax: from scores and allowed options to one option.
//!
//! Invariants:
//! * an option that is not allowed is never returned;
//! * ties go to the lowest index, so that replays agree across machines;
//! * nothing is allocated.

/// Returns the index of the largest score among the allowed options.
///
/// `scores` and `allowed` hold one entry per option, in the same order. An infinite score is a
/// score like any other; the score of an option that is not allowed is not looked at.
///
/// # Errors
///
/// [`ArgmaxError`] if the lengths differ, an allowed score is NaN, or no option is allowed.
pub fn masked_argmax(scores: &[f64], allowed: &[bool]) -> Result<usize, ArgmaxError> {
    if scores.len() != allowed.len() {
        return Err(ArgmaxError::ShapeMismatch { scores: scores.len(), allowed: allowed.len() });
    }
    let mut best = None;
    let mut best_score = f64::NEG_INFINITY;
    for (option, (&score, &allowed)) in scores.iter().zip(allowed).enumerate() {
        if !allowed {
            continue;
        }
        if score.is_nan() {
            return Err(ArgmaxError::NanScore { option });
        }
        // Strict `>`: an equal later score must not displace an earlier one.
        if best.is_none() || score > best_score {
            best = Some(option);
            best_score = score;
        }
    }
    best.ok_or(ArgmaxError::NoneAllowed)
}

/// [`masked_argmax`] of every row: `scores` and `allowed` hold `out.len()` rows of `options`
/// entries, row after row, and `out` gets one option a row.
///
/// # Errors
///
/// [`BatchError`] with the first row that has no answer; the rows before it are in `out`.
pub fn masked_argmax_batch(
    scores: &[f64],
    allowed: &[bool],
    options: usize,
    out: &mut [u32],
) -> Result<(), BatchError<ArgmaxError>> {
    check_batch(scores, allowed, options, out)?;
    for (row, out) in out.iter_mut().enumerate() {
        let entries = row * options..(row + 1) * options;
        let option = masked_argmax(&scores[entries.clone()], &allowed[entries])
            .map_err(|error| BatchError::Row { row, error })?;
        *out = option as u32;
    }
    Ok(())
}

/// Checks that `scores` and `allowed` hold `out.len()` rows of `width` entries.
pub(crate) fn check_batch<S, A, E: std::error::Error>(
    scores: &[S],
    allowed: &[A],
    width: usize,
    out: &[u32],
) -> Result<(), BatchError<E>> {
    let expected = out.len().saturating_mul(width);
    if scores.len() == expected && allowed.len() == expected {
        return Ok(());
    }
    Err(BatchError::ShapeMismatch { rows: out.len(), width, scores: scores.len(), allowed: allowed.len() })
}

/// Why no option could be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgmaxError {
    /// The mask is not as long as the scores.
    #[error("{scores} scores but {allowed} mask entries")]
    ShapeMismatch {
        /// Number of scores.
        scores: usize,
        /// Number of mask entries.
        allowed: usize,
    },
    /// An allowed option has no comparable score.
    #[error("score of option {option} is NaN")]
    NanScore {
        /// Index of the option.
        option: usize,
    },
    /// The mask is empty or false throughout.
    #[error("no option is allowed")]
    NoneAllowed,
}

/// Why a batch could not be answered.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BatchError<E: std::error::Error> {
    /// The arrays do not hold the same number of whole rows.
    #[error("{rows} rows of {width} entries asked for, but there are {scores} scores and {allowed} mask entries")]
    ShapeMismatch {
        /// Number of rows asked for.
        rows: usize,
        /// Entries a row.
        width: usize,
        /// Number of scores.
        scores: usize,
        /// Number of mask entries.
        allowed: usize,
    },
    /// One row has no answer.
    #[error("row {row}: {error}")]
    Row {
        /// Index of the row.
        row: usize,
        /// What is wrong with it.
        error: E,
    },
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// Few distinct scores, so that ties are common; infinities and NaN among them.
    fn problems() -> impl Strategy<Value = Vec<(f64, bool)>> {
        let score = prop::sample::select(vec![f64::NEG_INFINITY, -1.5, -0.0, 0.0, 2.0, f64::INFINITY, f64::NAN]);
        prop::collection::vec((score, any::<bool>()), 0..9)
    }

    proptest! {
        #[test]
        fn the_first_of_the_largest_allowed_scores_is_returned(problem in problems()) {
            let (scores, allowed): (Vec<f64>, Vec<bool>) = problem.iter().copied().unzip();
            let expected = match problem.iter().position(|(score, allowed)| *allowed && score.is_nan()) {
                Some(option) => Err(ArgmaxError::NanScore { option }),
                None => {
                    let is_best = |&(score, allowed): &(f64, bool)| {
                        allowed && problem.iter().all(|other| !other.1 || score >= other.0)
                    };
                    problem.iter().position(is_best).ok_or(ArgmaxError::NoneAllowed)
                }
            };
            prop_assert_eq!(masked_argmax(&scores, &allowed), expected);
        }

        #[test]
        fn a_batch_answers_like_its_rows(problem in problems(), options in 1usize..5) {
            let rows = problem.len() / options;
            let (scores, allowed): (Vec<f64>, Vec<bool>) =
                problem[..rows * options].iter().copied().unzip();
            let mut out = vec![u32::MAX; rows];
            let answer = masked_argmax_batch(&scores, &allowed, options, &mut out);
            for (row, &found) in out.iter().enumerate() {
                let entries = row * options..(row + 1) * options;
                match masked_argmax(&scores[entries.clone()], &allowed[entries]) {
                    Ok(option) => prop_assert_eq!(found, option as u32),
                    Err(error) => {
                        prop_assert_eq!(answer, Err(BatchError::Row { row, error }));
                        return Ok(());
                    }
                }
            }
            prop_assert_eq!(answer, Ok(()));
        }
    }

    #[test]
    fn a_wrong_shape_is_refused() {
        let error = masked_argmax(&[1.0], &[true, true]).unwrap_err();
        assert_eq!(error.to_string(), "1 scores but 2 mask entries");
        let error = masked_argmax_batch(&[1.0; 4], &[true; 4], 3, &mut [0]).unwrap_err();
        assert_eq!(error.to_string(), "1 rows of 3 entries asked for, but there are 4 scores and 4 mask entries");
    }
}
