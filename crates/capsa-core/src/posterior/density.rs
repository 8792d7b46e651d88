//! Densities of posteriors, on an axis where each is smooth and has a single peak.
//!
//! A Student-t stays as it is. A Beta is taken over the log-odds y = ln(x / (1 − x)): its density
//! there is exp(alpha ln x + beta ln(1−x)) / B(alpha, beta), free of the singular ends of [0, 1], and
//! what depends on y alone is shared by all posteriors. The axis is increasing in the value, so who
//! is largest stays the same.
//!
//! Invariant: the mass beyond either [end](Density::ends) is at most exp(−tail).

use super::Posterior;
use super::panel::{Lanes, NODES, POINTS};
use crate::special::{ln_peak_correction, stirling_error};

/// Half of ln(2π).
const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;

/// Widest panel over the log-odds: ln x and ln(1−x) have poles at ±iπ.
const WIDEST_LOG_ODDS: f64 = 2.5;

/// How much wider a Student-t's panels become per unit of ln(1 + z²/df): out there is little mass.
const TAIL_WIDENING: f64 = 0.1;

/// Finest scale of a Student-t as a share of its location: numbers do not resolve a finer one.
const FINEST_SCALE: f64 = 1e-9;

/// The density of one posterior.
#[derive(Debug, Clone, Copy)]
pub(super) enum Density {
    LogOdds {
        alpha: f64,
        beta: f64,
        /// −ln B(alpha, beta).
        ln_factor: f64,
    },
    StudentT {
        df: f64,
        location: f64,
        per_scale: f64,
        peak: f64,
    },
}

/// A point on the axis, with what all log-odds densities need to know about it.
pub(super) struct Place {
    x: f64,
    /// 2 cosh(x/2): the local scale of a density over the log-odds, times sqrt(alpha + beta).
    scale: f64,
    /// How fast that scale shrinks towards the left; 0 where it grows.
    slope: f64,
}

/// The points of one panel.
pub(super) struct Points {
    half_width: f64,
    x: Lanes,
    /// ln of the value and of 1 − value, where `x` is a log-odds; else 0.
    ln_value: Lanes,
    ln_rest: Lanes,
}

impl Density {
    pub(super) fn new(posterior: &Posterior) -> Self {
        match *posterior {
            Posterior::Beta { alpha, beta } => {
                debug_assert!(alpha > 0.0 && beta > 0.0, "{posterior:?}");
                let n = alpha + beta;
                // Around the peak, where the large logarithms cancel.
                let ln_peak = 0.5 * libm::log(alpha / n * beta) - HALF_LN_TAU + ln_peak_correction(alpha, beta);
                Self::LogOdds {
                    alpha,
                    beta,
                    ln_factor: ln_peak - (alpha * libm::log(alpha / n) + beta * libm::log(beta / n)),
                }
            }
            Posterior::StudentT { df, location, scale } => {
                debug_assert!(df > 0.0 && scale > 0.0, "{posterior:?}");
                let scale = scale.max(FINEST_SCALE * location.abs());
                // Γ((df+1)/2) / (Γ(df/2) sqrt(π df)), by the same cancellation: 1/sqrt(2π) in the limit.
                let half = 0.5 * df;
                let ln_peak = half * libm::log1p(0.5 / half) - 0.5 + stirling_error(half + 0.5)
                    - stirling_error(half)
                    - HALF_LN_TAU;
                Self::StudentT { df, location, per_scale: 1.0 / scale, peak: libm::exp(ln_peak) / scale }
            }
        }
    }

    /// Where the mass to the left and to the right becomes less than exp(−tail).
    pub(super) fn ends(&self, tail: f64) -> (f64, f64) {
        match *self {
            Self::LogOdds { alpha, beta, .. } => {
                let peak = libm::log(alpha / beta);
                (peak - reach(beta, alpha, tail), peak + reach(alpha, beta, tail))
            }
            Self::StudentT { df, location, per_scale, .. } => {
                // P(|T| > z) ≤ (1 + z²/df)^(−df/2).
                let reach = libm::sqrt(df * libm::expm1(2.0 * tail / df)) / per_scale;
                (location - reach, location + reach)
            }
        }
    }

    /// How far to the left of `place` a panel may reach and still resolve this density: `width`
    /// local scales, taken at the panel's narrower end.
    pub(super) fn panel_width(&self, place: &Place, width: f64) -> f64 {
        match *self {
            Self::LogOdds { alpha, beta, .. } => {
                let width = width / libm::sqrt(alpha + beta);
                let panel = width * place.scale / (1.0 + width * place.slope);
                panel.min(WIDEST_LOG_ODDS)
            }
            Self::StudentT { df, location, per_scale, .. } => {
                // The scale sqrt((df + z²) / (df + 1)) changes by at most 1/sqrt(df + 1) per unit.
                let z = (place.x - location) * per_scale;
                let ratio = z * z / df;
                let width = width * (1.0 + TAIL_WIDENING * libm::log1p(ratio));
                let per_df = libm::sqrt(1.0 / (df + 1.0));
                let panel = width * libm::sqrt(df + z * z) * per_df / per_scale;
                if z > 0.0 { panel / (1.0 + width * per_df) } else { panel }
            }
        }
    }

    /// The density at each point, times half the panel's width.
    pub(super) fn at(&self, points: &Points) -> Lanes {
        match *self {
            Self::LogOdds { alpha, beta, ln_factor } => std::array::from_fn(|i| {
                let exponent = alpha * points.ln_value[i] + beta * points.ln_rest[i];
                points.half_width * libm::exp(ln_factor + exponent)
            }),
            Self::StudentT { df, location, per_scale, peak } => {
                let (per_df, power) = (1.0 / df, -0.5 * (df + 1.0));
                points.x.map(|x| {
                    let z = (x - location) * per_scale;
                    let ln = libm::log1p(z * z * per_df);
                    points.half_width * peak * libm::exp(power * ln)
                })
            }
        }
    }
}

impl Place {
    pub(super) fn new(x: f64, log_odds: bool) -> Self {
        if !log_odds {
            return Self { x, scale: 0.0, slope: 0.0 };
        }
        let ratio = libm::exp(-x.abs());
        let root = libm::sqrt(ratio);
        let slope = if x > 0.0 { 0.5 * (1.0 - ratio) / root } else { 0.0 };
        Self { x, scale: (1.0 + ratio) / root, slope }
    }
}

impl Points {
    /// The points of the panel from `left` to `right`.
    pub(super) fn new(left: f64, right: f64, log_odds: bool) -> Self {
        let half_width = 0.5 * (right - left);
        let middle = left + half_width;
        let mut points = Self {
            half_width,
            x: POINTS.map(|point| middle + half_width * point),
            ln_value: [0.0; NODES],
            ln_rest: [0.0; NODES],
        };
        if log_odds {
            for i in 0..NODES {
                let y = points.x[i];
                let ln = libm::log1p(libm::exp(-y.abs()));
                points.ln_value[i] = y.min(0.0) - ln;
                points.ln_rest[i] = -y.max(0.0) - ln;
            }
        }
        points
    }
}

/// How far to the right of its peak a density over the log-odds has dropped by `tail` in its
/// logarithm; to the left, with the parameters exchanged. By Chernoff's bound the mass beyond has
/// dropped by as much.
fn reach(alpha: f64, beta: f64, tail: f64) -> f64 {
    let n = alpha + beta;
    let mean = alpha / n;
    let curvature = mean * beta;
    // Newton on the square root of twice the drop, which is almost linear in the distance.
    let target = libm::sqrt(2.0 * tail);
    let mut distance = target / libm::sqrt(curvature);
    for _ in 0..20 {
        let (drop, slope) = if distance > 600.0 {
            (n * libm::log(mean) + beta * distance, beta)
        } else {
            let growth = libm::expm1(distance);
            (n * libm::log1p(mean * growth) - alpha * distance, curvature * growth / (1.0 + mean * growth))
        };
        let root = libm::sqrt(2.0 * drop);
        let gap = target - root;
        distance += gap * root / slope;
        if gap.abs() < 0.2 {
            break;
        }
    }
    distance
}
