#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

/// Heads, some valid rows, and a few concatenated rows of scores (coarse, so that ties are common)
/// with masks.
#[derive(Debug, Clone)]
struct Problem {
    sizes: Vec<usize>,
    valid: Vec<u16>,
    scores: Vec<f64>,
    allowed: Vec<bool>,
    rows: usize,
}

fn problems() -> impl Strategy<Value = Problem> {
    (prop::collection::vec(1usize..6, 1..5), 1usize..20).prop_flat_map(|(sizes, rows)| {
        let row: Vec<_> = sizes.iter().map(|&size| 0..size as u16).collect();
        let width: usize = sizes.iter().sum();
        let score = prop_oneof![(-3i32..4).prop_map(f64::from), -1.0..1.0];
        (
            Just(sizes),
            prop::collection::vec(row, 1..40),
            prop::collection::vec(score, rows * width),
            prop::collection::vec(prop::bool::weighted(0.7), rows * width),
            Just(rows),
        )
            .prop_map(|(sizes, valid, scores, allowed, rows)| Problem {
                sizes,
                valid: valid.concat(),
                scores,
                allowed,
                rows,
            })
    })
}

impl Problem {
    fn combinations(&self) -> Combinations {
        Combinations::new(&self.sizes, Some(&self.valid)).unwrap()
    }

    fn width(&self) -> usize {
        self.sizes.iter().sum()
    }

    fn row(&self, row: usize) -> (&[f64], &[bool]) {
        let entries = row * self.width()..(row + 1) * self.width();
        (&self.scores[entries.clone()], &self.allowed[entries])
    }

    /// The positions of a row of options, written without the code under test.
    fn positions(&self, row: &[u16]) -> Vec<usize> {
        (0..row.len()).map(|head| self.sizes[..head].iter().sum::<usize>() + usize::from(row[head])).collect()
    }
}

proptest! {
    #[test]
    fn combinations_are_the_valid_rows_once_and_in_order(problem in problems()) {
        let combinations = problem.combinations();
        let heads = problem.sizes.len();
        let expected: std::collections::BTreeSet<&[u16]> = problem.valid.chunks(heads).collect();
        let found: Vec<&[u16]> = (0..combinations.len()).map(|index| combinations.row(index)).collect();
        prop_assert_eq!(&found, &expected.iter().copied().collect::<Vec<_>>());
        for (index, row) in found.iter().enumerate() {
            prop_assert_eq!(combinations.index_of(row), Some(index));
        }
        let everything = Combinations::new(&problem.sizes, None).unwrap();
        for index in 0..everything.len() {
            let row = everything.row(index);
            prop_assert_eq!(combinations.is_valid(row), expected.contains(row));
        }
    }

    #[test]
    fn argmax_is_the_first_of_the_largest_allowed_sums(problem in problems()) {
        let combinations = problem.combinations();
        let (scores, allowed) = problem.row(0);
        let mut best: Option<(usize, f64)> = None;
        for index in 0..combinations.len() {
            let positions = problem.positions(combinations.row(index));
            if positions.iter().all(|&at| allowed[at]) {
                let sum = positions.iter().fold(0.0, |sum, &at| sum + scores[at]);
                if best.is_none_or(|(_, largest)| sum > largest) {
                    best = Some((index, sum));
                }
            }
        }
        let expected = best.map(|(index, _)| index).ok_or(JointError::NoneAllowed);
        prop_assert_eq!(combinations.argmax(scores, allowed), expected);
    }

    #[test]
    fn a_batch_answers_like_its_rows(problem in problems(), faulty: bool) {
        let mut problem = problem;
        if faulty {
            let middle = problem.scores.len() / 2;
            problem.scores[middle] = f64::NAN;
        }
        let combinations = problem.combinations();
        let mut out = vec![u32::MAX; problem.rows];
        let answer = combinations.argmax_batch(&problem.scores, &problem.allowed, &mut out);
        for (row, &found) in out.iter().enumerate() {
            let (scores, allowed) = problem.row(row);
            match combinations.argmax(scores, allowed) {
                Ok(index) => prop_assert!(answer.is_err() || found == index as u32),
                Err(error) => {
                    // By text, since the score in the error is NaN.
                    let expected = BatchError::Row { row, error }.to_string();
                    prop_assert_eq!(answer.unwrap_err().to_string(), expected);
                    return Ok(());
                }
            }
        }
        prop_assert!(answer.is_ok());
    }

    #[test]
    fn probabilities_are_products_over_what_is_valid_and_allowed(
        problem in problems(), min_exploration in prop_oneof![Just(0.0), 0.0..=1.0, Just(1.0)],
    ) {
        let combinations = problem.combinations();
        let (scores, allowed) = problem.row(0);
        let heads: Vec<f64> = scores.iter().map(|score| score.max(0.0)).collect();
        let mut probs = vec![f64::NAN; combinations.len()];
        let answer = combinations.probabilities(&heads, allowed, min_exploration, &mut probs);
        prop_assert_eq!(
            answer.clone().unwrap_or(0),
            combinations.allowed_count(allowed).unwrap()
        );
        let Ok(count) = answer else {
            prop_assert_eq!(answer, Err(JointError::NoneAllowed));
            return Ok(());
        };
        let product = |index: usize| -> f64 {
            let positions = problem.positions(combinations.row(index));
            let is_allowed = positions.iter().all(|&at| allowed[at]);
            if is_allowed { positions.iter().map(|&at| heads[at]).product() } else { f64::NAN }
        };
        let total: f64 = (0..probs.len()).map(product).filter(|value| !value.is_nan()).sum();
        for (index, &found) in probs.iter().enumerate() {
            let product = product(index);
            let learned = if total > 0.0 { product / total } else { 1.0 / count as f64 };
            let expected = (1.0 - min_exploration) * learned + min_exploration / count as f64;
            let expected = if product.is_nan() { 0.0 } else { expected };
            prop_assert!((found - expected).abs() < 1e-14, "{index}: {found} but {expected}");
        }

        let mut marginals = vec![f64::NAN; problem.width()];
        combinations.marginals(&probs, &mut marginals).unwrap();
        let mut start = 0;
        for &size in &problem.sizes {
            let sum: f64 = marginals[start..start + size].iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-12);
            start += size;
        }
        for (at, &found) in marginals.iter().enumerate() {
            let expected: f64 = (0..probs.len())
                .filter(|&index| problem.positions(combinations.row(index)).contains(&at))
                .map(|index| probs[index])
                .sum();
            prop_assert!((found - expected).abs() < 1e-14);
        }
    }

    #[test]
    fn a_draw_inverts_the_distribution_function(
        weights in prop::collection::vec(prop_oneof![Just(0.0), 0.0..1.0], 1..20), u in 0.0..1.0,
    ) {
        let total: f64 = weights.iter().sum();
        prop_assume!(total > 0.0);
        let probs: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
        let drawn = draw(&probs, u);
        prop_assert!(probs[drawn] > 0.0);
        let before: f64 = probs[..drawn].iter().sum();
        prop_assert!(before <= u);
        let is_last = probs[drawn + 1..].iter().all(|&probability| probability == 0.0);
        prop_assert!(u < before + probs[drawn] || is_last);
    }
}

#[test]
fn a_draw_never_leaves_what_can_happen() {
    let just_below_one = 1.0 - f64::EPSILON / 2.0;
    assert_eq!(draw(&[0.0, 0.4, 0.0, 0.0], 0.0), 1);
    assert_eq!(draw(&[0.3, 0.0, 0.3, 0.0], just_below_one), 2);
    // Ten times 0.1 adds up to less than 1.
    assert_eq!(draw(&[0.1; 10], just_below_one), 9);
    assert_eq!(draw(&[0.5, 0.5], 0.5), 1);
}

#[test]
fn a_wide_batch_answers_like_its_rows() {
    let sizes = [MAX_SIDE_BY_SIDE, 2];
    let combinations = Combinations::new(&sizes, None).unwrap();
    let rows = LANES + 1;
    let scores: Vec<f64> = (0..rows * combinations.width()).map(|at| ((at * 7919) % 1013) as f64).collect();
    let allowed = vec![true; scores.len()];
    let mut out = vec![0; rows];
    combinations.argmax_batch(&scores, &allowed, &mut out).unwrap();
    for (row, &found) in out.iter().enumerate() {
        let entries = row * combinations.width()..(row + 1) * combinations.width();
        let expected = combinations.argmax(&scores[entries.clone()], &allowed[entries]);
        assert_eq!(expected, Ok(found as usize));
    }
}

#[test]
fn wrong_sets_are_refused_by_name() {
    let refused = |sizes: &[usize], valid: Option<&[u16]>| Combinations::new(sizes, valid).unwrap_err().to_string();
    assert_eq!(refused(&[], None), "a joint choice needs at least one head");
    assert_eq!(refused(&[2, 0], None), "head 1 has 0 options; it may have 1 to 65535");
    assert_eq!(refused(&[2, 2], Some(&[])), "the list of valid combinations is empty");
    assert_eq!(refused(&[2, 2], Some(&[0, 1, 1])), "3 entries do not make whole rows of 2 heads");
    assert_eq!(refused(&[2, 2], Some(&[0, 1, 1, 2])), "row 1 names option 2 of head 1, which has 2 options");
    assert_eq!(refused(&[64, 65], None), "4160 combinations; the limit is 4096");
    assert_eq!(Combinations::new(&[64, 64], None).unwrap().len(), 4096);
}

#[test]
fn wrong_arrays_are_refused_by_name() {
    let combinations = Combinations::new(&[2, 2], None).unwrap();
    let allowed = [true, true, true, false];
    let refused = |scores: &[f64]| combinations.argmax(scores, &allowed).unwrap_err();
    assert_eq!(refused(&[0.0; 3]).to_string(), "3 entries where 4 were expected");
    assert_eq!(refused(&[0.0, f64::INFINITY, 0.0, 0.0]).to_string(), "score inf at position 1 is not within ±1e300");
    // What is not allowed is not looked at.
    assert_eq!(combinations.argmax(&[0.0, 1.0, 0.0, f64::NAN], &allowed), Ok(2));
    let error = combinations.probabilities(&[0.5, -0.5, 1.0, 0.0], &allowed, 0.0, &mut [0.0; 4]).unwrap_err();
    assert_eq!(error.to_string(), "probability -0.5 at position 1 is not finite and at least 0");
}
