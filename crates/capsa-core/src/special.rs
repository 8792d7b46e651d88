//! Special functions that the learners need: the regularised incomplete beta function and what it
//! is built from, on `libm` only.
//!
//! Invariants:
//! * the lower and the upper part of [`inc_beta`] are computed without cancellation in the smaller
//!   one, so that a tail keeps its relative accuracy (about 1e-13 for parameters from 0.5 to 1e7);
//! * the lower part is 0 at 0 and 1 at 1, and both parts lie in [0, 1].

/// Half of ln(2π).
const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;
/// Where a term of the continued fraction no longer changes the result.
const CONVERGED: f64 = 1e-16;

/// Natural logarithm of the gamma function, for `x` > 0.
pub fn ln_gamma(x: f64) -> f64 {
    libm::lgamma(x)
}

/// The regularised incomplete beta function I_x(a, b) and its complement 1 − I_x(a, b), for
/// `a`, `b` > 0 and `x` in [0, 1]: the mass of Beta(a, b) below and above `x`.
pub fn inc_beta(a: f64, b: f64, x: f64) -> (f64, f64) {
    inc_beta_parts(a, b, x, 1.0 - x)
}

/// [`inc_beta`] for a caller who knows 1 − x more exactly than the subtraction gives it.
pub(crate) fn inc_beta_parts(a: f64, b: f64, x: f64, rest: f64) -> (f64, f64) {
    debug_assert!(a > 0.0 && b > 0.0, "parameters {a} and {b}");
    debug_assert!(x >= 0.0 && rest >= 0.0, "{x} and {rest}");
    if x <= 0.0 {
        return (0.0, 1.0);
    }
    if rest <= 0.0 {
        return (1.0, 0.0);
    }
    // The fraction converges fast below this point; above it, by symmetry, for the other part.
    if x < (a + 1.0) / (a + b + 2.0) {
        let lower = (density_factor(a, b, x, rest) / fraction(a, b, x, rest)).clamp(0.0, 1.0);
        (lower, 1.0 - lower)
    } else {
        let upper = (density_factor(b, a, rest, x) / fraction(b, a, rest, x)).clamp(0.0, 1.0);
        (1.0 - upper, upper)
    }
}

/// x^a (1−x)^b / B(a, b).
///
/// Written around the mode m = a/(a+b), where the large logarithms cancel exactly (Didonato and
/// Morris 1992, section 5): sqrt(ab / (2π(a+b))) exp(−a g(e₁) − b g(e₂) − δ(a) − δ(b) + δ(a+b)) with
/// g(e) = e − ln(1+e), e₁ = x/m − 1, e₂ = (1−x)/(1−m) − 1 and δ the error of Stirling's formula.
fn density_factor(a: f64, b: f64, x: f64, rest: f64) -> f64 {
    let n = a + b;
    let excess = excess(a, b, x, rest);
    let exponent = a * excess_over_log(excess / a, x * n / a) + b * excess_over_log(-excess / b, rest * n / b);
    libm::sqrt(a / n * b) * libm::exp(ln_peak_correction(a, b) - HALF_LN_TAU - exponent)
}

/// −δ(a) − δ(b) + δ(a+b): what the peak of a Beta density is off from its normal approximation.
pub(crate) fn ln_peak_correction(a: f64, b: f64) -> f64 {
    stirling_error(a + b) - stirling_error(a) - stirling_error(b)
}

/// b·x − a·(1−x), near the mode a small difference of large numbers. The smaller one of x and 1−x
/// is taken at its word, and what rounding took from the other is put back.
fn excess(a: f64, b: f64, x: f64, rest: f64) -> f64 {
    let rounded = difference_of_products(b, x, a, rest);
    if x < rest { rounded - a * ((1.0 - rest) - x) } else { rounded + b * ((1.0 - x) - rest) }
}

/// a·b − c·d with one rounding error of the result's own size (Kahan).
fn difference_of_products(a: f64, b: f64, c: f64, d: f64) -> f64 {
    let product = c * d;
    let error = libm::fma(-c, d, product);
    libm::fma(a, b, -product) + error
}

/// e − ln(1+e) for e > −1, without cancellation around 0. `one_plus_e` is the same number, exact
/// also where it is small.
fn excess_over_log(e: f64, one_plus_e: f64) -> f64 {
    if !(-0.3..0.3).contains(&e) {
        return e - libm::log(one_plus_e);
    }
    // ln(1+e) = 2 artanh(r) with r = e/(2+e), and e − 2r = e·r.
    let r = e / (2.0 + e);
    let square = r * r;
    let mut sum = 0.0;
    for odd in [23.0, 21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        sum = sum * square + 1.0 / odd;
    }
    r * (e - 2.0 * square * sum)
}

/// ln Γ(x) − ((x − ½) ln x − x + ½ ln 2π).
pub(crate) fn stirling_error(x: f64) -> f64 {
    if x < 10.0 {
        return ln_gamma(x) - ((x - 0.5) * libm::log(x) - x + HALF_LN_TAU);
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = [-691.0 / 360_360.0, 1.0 / 1188.0, -1.0 / 1680.0, 1.0 / 1260.0, -1.0 / 360.0, 1.0 / 12.0];
    inverse * series.iter().fold(0.0, |sum, coefficient| sum * square + coefficient)
}

/// What [`density_factor`] is divided by: the even part of the continued fraction of DLMF 8.17.22,
/// by the modified Lentz method, in the form of Didonato and Morris (1992, equation 9). That form
/// takes a(1−x) − bx as it is, where the plain one loses it in a difference from 1.
fn fraction(a: f64, b: f64, x: f64, rest: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let lead = 1.0 - excess(a, b, x, rest);
    let mut value = away_from_zero(a * lead / (a + 1.0));
    let mut c = value;
    let mut d = 0.0;
    // About sqrt(max(a, b)) terms are needed; the limit is far beyond that for 1e9.
    for m in 1..200_000 {
        let m = f64::from(m);
        let odd = a + 2.0 * m - 1.0;
        let shrink = m * (b - m) * x / odd;
        let numerator = (a + m - 1.0) / odd * (a + b + m - 1.0) * x * shrink;
        let denominator = m + shrink + (a + m) * (lead + m * (1.0 + rest)) / (a + 2.0 * m + 1.0);
        d = 1.0 / away_from_zero(denominator + numerator * d);
        c = away_from_zero(denominator + numerator / c);
        let factor = c * d;
        value *= factor;
        if (factor - 1.0).abs() <= CONVERGED {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// (a, b, x, lower, upper) in 40-digit arithmetic (mpmath), x as the nearest f64.
    const REFERENCE: &[(f64, f64, f64, f64, f64)] = &[
        (0.5, 0.5, 0.3, 0.36901011956554536, 0.6309898804344546),
        (0.5, 0.5, 1e-12, 6.366197723676875e-07, 0.9999993633802277),
        (0.75, 10000000.0, 1e-07, 0.7399800417880453, 0.26001995821195467),
        (1.01, 1.0, 0.99, 0.9899005066748408, 0.01009949332515926),
        (2.5, 30.0, 0.5, 0.9999999546069435, 4.5393056550930716e-08),
        (300.0, 20.0, 0.5, 1.7747164863974202e-66, 1.0),
        (0.5, 500.0, 2e-18, 3.56735628189457e-08, 0.9999999643264372),
        (1234.5, 987.6, 0.55, 0.29870408452056035, 0.7012959154794396),
        (2996447.5, 3862696.75, 0.4375, 0.9996733729003835, 0.000326627099616476),
        (10000000.0, 10000000.0, 0.5, 0.5, 0.5),
        (10000000.0, 10000000.0, 0.4995, 3.872088978268332e-06, 0.9999961279110218),
        (12782.5, 5452785.5, 0.00245, 0.9999999437426788, 5.6257321269175846e-08),
        (10000000.0, 0.5, 0.9999999, 0.1572992019706881, 0.8427007980293119),
    ];

    #[test]
    fn both_parts_agree_with_forty_digit_arithmetic() {
        for &(a, b, x, lower, upper) in REFERENCE {
            let found = inc_beta(a, b, x);
            let error = |found: f64, expected: f64| (found / expected - 1.0).abs();
            assert!(error(found.0, lower) < 1e-13, "I_{x}({a}, {b}) = {lower}: {found:?}");
            assert!(error(found.1, upper) < 1e-13, "1 - I_{x}({a}, {b}) = {upper}: {found:?}");
        }
    }

    proptest! {
        /// I_x(a, 1) = x^a, and the same mirrored.
        #[test]
        fn powers_are_a_special_case(a in 0.5..1e4f64, drop in 0.0..600.0f64) {
            let x = libm::exp(-drop / a);
            // The condition number of a power is its exponent times the logarithm.
            let tolerance = 1e-14 * (2.0 + drop);
            prop_assert!((inc_beta(a, 1.0, x).0 / libm::pow(x, a) - 1.0).abs() < tolerance);
            let mirrored = 1.0 - (1.0 - x);
            prop_assume!(mirrored > 0.0);
            let expected = libm::pow(mirrored, a);
            prop_assert!((inc_beta(1.0, a, 1.0 - x).1 / expected - 1.0).abs() < tolerance);
        }

        #[test]
        fn parts_are_complementary_and_within_bounds(
            ln_a in -0.7..16.0, ln_b in -0.7..16.0, x in 0.0..=1.0,
        ) {
            let (a, b) = (libm::exp(ln_a), libm::exp(ln_b));
            let (lower, upper) = inc_beta(a, b, x);
            prop_assert!((0.0..=1.0).contains(&lower) && (0.0..=1.0).contains(&upper));
            prop_assert!((lower + upper - 1.0).abs() < 1e-15);
            prop_assert_eq!(inc_beta(a, b, 0.0), (0.0, 1.0));
            prop_assert_eq!(inc_beta(a, b, 1.0), (1.0, 0.0));
        }
    }
}
