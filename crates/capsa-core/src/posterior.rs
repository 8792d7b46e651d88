//! What is believed about an option's mean reward, and how likely each option is the best one.
//!
//! Invariants:
//! * [`win_probabilities`] are non-negative, sum to 1 ± 1e-12 and are equal, bit for bit, for equal
//!   posteriors; their order among the arguments changes no bit of them;
//! * they are integrals with an absolute error below 1e-7, not the average of draws.

use crate::special::inc_beta_parts;

mod density;
mod panel;
mod win;

pub use win::win_probabilities;

/// A distribution over the mean reward of one option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Posterior {
    /// Beta(alpha, beta) on [0, 1]; both above 0.
    Beta {
        /// Prior plus the sum of rewards.
        alpha: f64,
        /// Prior plus the sum of what was missing to a reward of 1.
        beta: f64,
    },
    /// Student's t with `df` ≥ 1 degrees of freedom around `location`, stretched by `scale` > 0.
    StudentT {
        /// Degrees of freedom.
        df: f64,
        /// Centre.
        location: f64,
        /// Stretch; the standard deviation is larger by sqrt(df / (df − 2)).
        scale: f64,
    },
}

impl Posterior {
    /// The mean; of a Student-t its centre, also where `df` ≤ 1 leaves the mean undefined.
    pub fn mean(&self) -> f64 {
        match *self {
            Self::Beta { alpha, beta } => alpha / (alpha + beta),
            Self::StudentT { location, .. } => location,
        }
    }

    /// The probability of a value at or below `x`.
    pub fn cdf(&self, x: f64) -> f64 {
        match *self {
            Self::Beta { alpha, beta } => {
                let x = x.clamp(0.0, 1.0);
                inc_beta_parts(alpha, beta, x, 1.0 - x).0
            }
            Self::StudentT { df, location, scale } => {
                let z = (x - location) / scale;
                let square = z * z;
                // Where the square overflows there is no mass left.
                let tail = if square.is_finite() {
                    let inside = df / (df + square);
                    0.5 * inc_beta_parts(0.5 * df, 0.5, inside, square / (df + square)).0
                } else {
                    0.0
                };
                if z < 0.0 { tail } else { 1.0 - tail }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::f64::consts::PI;

    /// What the tests allow; measured errors are below 1e-8.
    const ERROR: f64 = 2e-8;

    fn beta(alpha: f64, beta: f64) -> Posterior {
        Posterior::Beta { alpha, beta }
    }

    fn student(df: f64, location: f64, scale: f64) -> Posterior {
        Posterior::StudentT { df, location, scale }
    }

    fn win(posteriors: &[Posterior]) -> Vec<f64> {
        let mut out = vec![f64::NAN; posteriors.len()];
        win_probabilities(posteriors, &mut out);
        out
    }

    /// From barely tried to a million rewards.
    fn betas() -> impl Strategy<Value = Posterior> {
        (-9.0..14.0, -9.0..14.0)
            .prop_map(|(ln_wins, ln_losses)| beta(1.0 + libm::exp(ln_wins), 1.0 + libm::exp(ln_losses)))
    }

    fn students() -> impl Strategy<Value = Posterior> {
        (-4.0..14.0, -1.0..1.0, -9.0..1.0)
            .prop_map(|(ln_df, location, ln_scale)| student(2.0 + libm::exp(ln_df), location, libm::exp(ln_scale)))
    }

    fn problems() -> impl Strategy<Value = Vec<Posterior>> {
        prop_oneof![prop::collection::vec(betas(), 1..12), prop::collection::vec(students(), 1..12),]
    }

    proptest! {
        #[test]
        fn win_probabilities_are_a_distribution(posteriors in problems()) {
            let probabilities = win(&posteriors);
            prop_assert!(probabilities.iter().all(|&probability| probability >= 0.0));
            prop_assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }

        #[test]
        fn order_and_copies_change_no_bit(posteriors in problems(), turn in 0usize..24) {
            let mut twice = posteriors.clone();
            twice.extend(&posteriors);
            let probabilities = win(&twice);
            let (first, second) = probabilities.split_at(posteriors.len());
            prop_assert_eq!(first, second);
            let turn = turn % twice.len();
            twice.rotate_left(turn);
            let mut turned = probabilities;
            turned.rotate_left(turn);
            prop_assert_eq!(win(&twice), turned);
        }

        #[test]
        fn a_better_posterior_wins_more_often(posteriors in problems(), more in 0.0..2.0) {
            let mut better = posteriors.clone();
            better[0] = match posteriors[0] {
                Posterior::Beta { alpha, beta } => Posterior::Beta { alpha: alpha * (1.0 + more), beta },
                Posterior::StudentT { df, location, scale } => {
                    student(df, location + more * scale, scale)
                }
            };
            prop_assert!(win(&better)[0] >= win(&posteriors)[0] - ERROR);
        }

        /// Against the uniform distribution, P(uniform < X) = E X.
        #[test]
        fn against_an_untried_option_a_beta_wins_with_its_mean(posterior in betas()) {
            let found = win(&[beta(1.0, 1.0), posterior]);
            prop_assert!((found[1] - posterior.mean()).abs() < ERROR, "{found:?}");
        }

        /// The difference of two Cauchy variables is a Cauchy variable.
        #[test]
        fn heavy_tails_are_integrated_to_the_end(
            distance in -30.0..30.0, ln_first in -9.0..3.0, ln_second in -9.0..3.0,
        ) {
            let (first, second) = (libm::exp(ln_first), libm::exp(ln_second));
            let found = win(&[student(1.0, distance, first), student(1.0, 0.0, second)]);
            let expected = 0.5 + libm::atan(distance / (first + second)) / PI;
            prop_assert!((found[0] - expected).abs() < 5.0 * ERROR, "{found:?} {expected}");
        }

        /// The difference of two normal variables is a normal variable.
        #[test]
        fn many_degrees_of_freedom_are_normal(
            distance in -6.0..6.0f64, ln_first in -6.0..3.0, ln_second in -6.0..3.0,
        ) {
            let (first, second) = (libm::exp(ln_first), libm::exp(ln_second));
            let width = libm::sqrt(first * first + second * second);
            let found = win(&[student(1e10, distance * width, first), student(1e10, 0.0, second)]);
            let expected = 0.5 * libm::erfc(-distance * std::f64::consts::FRAC_1_SQRT_2);
            prop_assert!((found[0] - expected).abs() < ERROR, "{found:?} {expected}");
        }
    }

    /// Expected values from SciPy's densities and distribution functions on a fine grid.
    #[test]
    fn different_widths_agree_with_the_reference() {
        let cases: [(&[Posterior], &[f64]); 4] = [
            (
                &[beta(1.0, 1.0), beta(20.5, 10.25), beta(200_001.0, 100_001.0)],
                &[0.2997380382926923, 0.37828544843417256, 0.32197651327313515],
            ),
            (
                &[beta(1.001, 1.5), beta(3.25, 1.75), beta(40.0, 17.5), beta(700.5, 250.0), beta(3.25, 1.75)],
                &[
                    0.08661461979875675,
                    0.2775178389367572,
                    0.10715634809305172,
                    0.25119335423467715,
                    0.2775178389367572,
                ],
            ),
            (
                &[
                    student(2.0, 0.5, 1.0),
                    student(2.5, 0.4, 0.02),
                    student(31.0, 0.45, 0.05),
                    student(1e6, 0.44, 0.001),
                ],
                &[0.5114086369605403, 0.02402134526282398, 0.2786782464454677, 0.18589177133116808],
            ),
            (
                &[student(5.0, -1.0, 0.5), student(3.0, 2.0, 0.1), student(2.0, 0.0, 30.0), student(3.0, 2.0, 0.1)],
                &[0.0004461105615236699, 0.2620384047196635, 0.47547707999914934, 0.2620384047196635],
            ),
        ];
        for (posteriors, expected) in cases {
            for (found, expected) in win(posteriors).iter().zip(expected) {
                assert!((found - expected).abs() < ERROR, "{found} but {expected}");
            }
        }
    }

    #[test]
    fn any_number_of_equal_options_share_equally() {
        for posterior in [beta(1.0, 1.0), student(2.0, 0.5, 1.0)] {
            assert_eq!(win(&[posterior; 1024]), [1.0 / 1024.0; 1024]);
        }
        assert_eq!(win(&[beta(3.0, 1.5)]), [1.0]);
        // The largest of 1,023 uniform values is below 0.5 with probability 2^-1023: the sure 0.5
        // practically never wins, and the others share.
        let mut posteriors = [beta(1.0, 1.0); 1024];
        posteriors[7] = beta(1e6, 1e6);
        let found = win(&posteriors);
        assert!(found[7] < ERROR);
        assert!((found[0] - 1.0 / 1023.0).abs() < ERROR);
    }

    /// A scale below the spacing of the numbers around the location.
    #[test]
    fn a_scale_too_fine_for_its_place_ends_all_the_same() {
        let found = win(&[student(2.0, 1.0, 1e-30), student(2.0, 0.0, 1e-30)]);
        assert!((found[0] + found[1] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn distribution_functions_have_their_closed_forms() {
        let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-13;
        // Beta(2, 1): x². Student-t with 2 degrees of freedom: (1 + z / sqrt(2 + z²)) / 2.
        assert!(close(beta(2.0, 1.0).cdf(0.3), 0.09));
        assert_eq!((beta(2.0, 1.0).cdf(-1.0), beta(2.0, 1.0).cdf(2.0)), (0.0, 1.0));
        for z in [-3.0, -0.5, 0.0, 0.1, 4.0f64] {
            let expected = 0.5 * (1.0 + z / (2.0 + z * z).sqrt());
            let found = student(2.0, 10.0, 0.5).cdf(10.0 + 0.5 * z);
            assert!(close(found, expected), "{z}: {found} but {expected}");
        }
        // Far out: z^-2 / 2.
        assert!(close(student(2.0, 0.0, 1.0).cdf(-1e9), 0.5e-18));
        assert_eq!(student(2.0, 0.0, 1.0).cdf(f64::INFINITY), 1.0);
        assert_eq!(student(2.0, 0.0, 1.0).cdf(f64::NEG_INFINITY), 0.0);
    }

    #[test]
    fn means_are_as_documented() {
        assert_eq!(beta(3.0, 1.0).mean(), 0.75);
        assert_eq!(student(4.0, -2.5, 9.0).mean(), -2.5);
    }
}
