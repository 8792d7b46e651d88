//! Gauss-Legendre quadrature on one panel: the integral over [−1, 1], and the integrals from each of
//! its points to the right end, by integrating the polynomial through all points.
//!
//! Nodes from 60-digit arithmetic (mpmath), rounded to the nearest number.
//!
//! Invariant: both are exact, up to rounding, for polynomials of degree below the number of points.

/// Points of a panel.
pub(super) const NODES: usize = 8;

/// One number a point of a panel.
pub(super) type Lanes = [f64; NODES];

/// Where the points lie on [−1, 1].
pub(super) const POINTS: Lanes = [
    -0.9602898564975363,
    -0.7966664774136267,
    -0.525532409916329,
    -0.1834346424956498,
    0.1834346424956498,
    0.525532409916329,
    0.7966664774136267,
    0.9602898564975363,
];

/// Weights of the integral over [−1, 1].
pub(super) const WEIGHTS: Lanes = [
    0.10122853629037626,
    0.22238103445337448,
    0.31370664587788727,
    0.362683783378362,
    0.362683783378362,
    0.31370664587788727,
    0.22238103445337448,
    0.10122853629037626,
];

/// `TO_RIGHT_END[j][i]` is the weight of point j in the integral from point i to 1.
pub(super) const TO_RIGHT_END: [Lanes; NODES] = [
    [
        0.05061426814518813,
        -0.008290107244732382,
        0.004053464292550497,
        -0.00250250565078621,
        0.0017184731685297055,
        -0.0012376113905010308,
        0.0008856046086844757,
        -0.0005550166542338384,
    ],
    [
        0.24059292106531463,
        0.11119051722668724,
        -0.019338015540971865,
        0.009994054156677657,
        -0.0063956286207215406,
        0.0044514295505698,
        -0.003129869821897885,
        0.001945515328118527,
    ],
    [
        0.30114498358382635,
        0.34098623834945063,
        0.15685332293894363,
        -0.027635622671219957,
        0.01448241312244454,
        -0.00928693172420896,
        0.006279505970927338,
        -0.0038353505092739047,
    ],
    [
        0.3716498146044715,
        0.3463843656616409,
        0.39463399010211886,
        0.181341891689181,
        -0.032042082642050024,
        0.016743465440452326,
        -0.010430704178294307,
        0.006156982736653559,
    ],
    [
        0.35652680064170844,
        0.37311448755665627,
        0.34594031793790964,
        0.394725866020412,
        0.181341891689181,
        -0.03195020672375686,
        0.016299417716721103,
        -0.008966031226109504,
    ],
    [
        0.3175419963871612,
        0.30742713990695997,
        0.32299357760209624,
        0.29922423275544274,
        0.34134226854910726,
        0.15685332293894363,
        -0.02727959247156334,
        0.012561662294060949,
    ],
    [
        0.22043551912525594,
        0.22551090427527234,
        0.21792960490280466,
        0.228776663074096,
        0.2123869802966968,
        0.24171904999434635,
        0.11119051722668724,
        -0.01821188661194015,
    ],
    [
        0.1017835529446101,
        0.10034293168169178,
        0.10246614768087729,
        0.09951006312184656,
        0.10373104194116246,
        0.09717507199782577,
        0.10951864353510864,
        0.05061426814518813,
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_integrated_exactly() {
        for degree in 0..NODES {
            let power = |x: f64, exponent| (0..exponent).fold(1.0, |product, _| product * x);
            let primitive = |x| power(x, degree + 1) / (degree + 1) as f64;
            let integral: f64 = (0..NODES).map(|j| WEIGHTS[j] * power(POINTS[j], degree)).sum();
            assert!((integral - (primitive(1.0) - primitive(-1.0))).abs() < 1e-15);
            for (i, &point) in POINTS.iter().enumerate() {
                let integral: f64 = (0..NODES).map(|j| TO_RIGHT_END[j][i] * power(POINTS[j], degree)).sum();
                let expected = primitive(1.0) - primitive(point);
                assert!((integral - expected).abs() < 1e-15, "{degree} from {point}");
            }
        }
    }
}
