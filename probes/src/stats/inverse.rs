//! Quantiles of distributions.
//!
//! Those of Student's t and the beta distribution are the point where the distribution function passes the probability, halved down to
//! neighbouring numbers. That ends on every machine. statrs 0.18 takes Newton steps until they are tiny (its `inv_beta_reg`), and beyond
//! about a million degrees of freedom the rounding of its logarithms of Γ keeps them from becoming so: the same call returned on one
//! processor and never on another.

use statrs::distribution::{ContinuousCDF, Normal};
use statrs::function::beta::beta_reg;

/// From here on the t quantile is taken from its expansion, whose first missing term is below 10⁻¹² of it for |z| ≤ 6.
const MANY_DEGREES: f64 = 1000.0;

/// The quantile of the standard normal distribution at `p`: ±∞ at 0 and 1. `None` where `p` is no probability.
pub(crate) fn normal(p: f64) -> Option<f64> {
    #[expect(clippy::disallowed_methods, reason = "of a normal distribution it is a formula without a loop")]
    probability(p).map(|p| Normal::standard().inverse_cdf(p))
}

/// The quantile of Student's t with `df` degrees of freedom at `p`, ±∞ at 0 and 1. `None` where `p` is no probability, or `df` not above 0 (it may
/// be infinite, and the distribution normal).
///
/// Below 1,000 degrees from P(|T| > t) = I_{df/(df+t²)}(df/2, ½) (Abramowitz and Stegun 1964, 26.7.1 with 26.5.27); from there on by the expansion
/// around the normal quantile in powers of 1/df (26.7.5).
pub(crate) fn student_t(df: f64, p: f64) -> Option<f64> {
    let p = probability(p).filter(|_| df > 0.0)?;
    if p < 0.5 {
        return student_t(df, 1.0 - p).map(|t| -t);
    }
    if p == 0.5 || p == 1.0 {
        return Some(if p == 0.5 { 0.0 } else { f64::INFINITY });
    }
    if df >= MANY_DEGREES {
        let z = normal(p)?;
        let s = z * z;
        let terms = [
            z * (s + 1.0) / 4.0,
            z * ((5.0 * s + 16.0) * s + 3.0) / 96.0,
            z * (((3.0 * s + 19.0) * s + 17.0) * s - 15.0) / 384.0,
            z * ((((79.0 * s + 776.0) * s + 1482.0) * s - 1920.0) * s - 945.0) / 92160.0,
        ];
        return Some(terms.iter().rev().fold(0.0, |sum, term| (sum + term) / df) + z);
    }
    // The smaller of the two areas, each from its own end, so that neither is a difference of numbers near 1.
    let reached = |t: f64| match p {
        ..0.75 => beta_reg(0.5, df / 2.0, t * t / (df + t * t)) >= 2.0 * p - 1.0,
        _ => beta_reg(df / 2.0, 0.5, df / (df + t * t)) <= 2.0 * (1.0 - p),
    };
    let mut high = 1.0;
    while !reached(high) && high < 1e150 {
        high *= 2.0;
    }
    Some(first(0.0, high, reached))
}

/// The quantile of the beta distribution with the shapes `a` and `b` at `p`. `None` where `p` is no probability or a shape not above 0 and finite.
pub(crate) fn beta(a: f64, b: f64, p: f64) -> Option<f64> {
    let shape = |v: f64| v > 0.0 && v.is_finite();
    let p = probability(p).filter(|_| shape(a) && shape(b))?;
    // The function rounds to 1 before the end of the interval.
    if p == 0.0 || p == 1.0 { Some(p) } else { Some(first(0.0, 1.0, |x| beta_reg(a, b, x) >= p)) }
}

fn probability(p: f64) -> Option<f64> {
    (0.0..=1.0).contains(&p).then_some(p)
}

/// The first number above `low` that has `reached`, if all from some number on have and `high` does.
fn first(mut low: f64, mut high: f64, reached: impl Fn(f64) -> bool) -> f64 {
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return high;
        }
        if reached(middle) { high = middle } else { low = middle }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use statrs::distribution::StudentsT;

    fn agree(found: f64, expected: f64, within: f64, what: impl std::fmt::Debug) {
        assert!((found - expected).abs() <= within * expected.abs(), "{what:?}: {found:e}, not {expected:e}");
    }

    /// scipy 1.17.1, `stats.t.ppf(p, df)`.
    #[test]
    fn quantiles_of_t_are_those_of_scipy() {
        let at = [0.50001, 0.6, 0.9, 0.95, 0.975, 0.995, 0.9999, 1.0 - 1e-9];
        let of = [
            (
                1.0,
                [
                    3.141592654616829e-05,
                    0.32491969623290634,
                    3.0776835371752544,
                    6.313751514675037,
                    12.706204736174694,
                    63.656741162871526,
                    3183.098757118502,
                    318309895.1862093,
                ],
            ),
            (
                2.0,
                [
                    2.8284271252990032e-05,
                    0.2886751345948128,
                    1.8856180831641272,
                    2.9199855803537242,
                    4.302652729749462,
                    9.924843200918287,
                    70.70007107496818,
                    22360.68005765849,
                ],
            ),
            (
                2.5,
                [
                    2.7638913430179763e-05,
                    0.2814595125477481,
                    1.7302509288071766,
                    2.5582186141359355,
                    3.5746548420036817,
                    7.163728138948783,
                    34.867969321116306,
                    3489.5834348468516,
                ],
            ),
            (
                3.0,
                [
                    2.7206990467761966e-05,
                    0.2766706623326898,
                    1.637744353696209,
                    2.3533634348018233,
                    3.1824463052837078,
                    5.840909309733355,
                    22.203742273205,
                    1033.1096842432753,
                ],
            ),
            (
                7.0,
                [
                    2.5974602759559993e-05,
                    0.2631668613520229,
                    1.4149239276505086,
                    1.8945786050900062,
                    2.364624251592784,
                    3.4994832973504924,
                    7.063432828157639,
                    38.70598080026368,
                ],
            ),
            (
                63.0,
                [
                    2.5165945553792227e-05,
                    0.25441963124770295,
                    1.2951342937828885,
                    1.6694022217068127,
                    1.998340542520741,
                    2.6561450250998613,
                    3.949889224975518,
                    6.999812327523228,
                ],
            ),
            (
                999.0,
                [
                    2.5072556376263522e-05,
                    0.2534145833303675,
                    1.2823995700373971,
                    1.646380345427535,
                    1.9623414611334493,
                    2.5807596372676365,
                    3.732865499608313,
                    6.05374666248338,
                ],
            ),
            (
                1000.0,
                [
                    2.5072550101853938e-05,
                    0.25341451583949876,
                    1.2823987214609247,
                    1.6463788172854643,
                    1.9623390808264083,
                    2.580754698065951,
                    3.7328516045753966,
                    6.0536902768005225,
                ],
            ),
            (
                1e6,
                [
                    2.5066289015392338e-05,
                    0.25334717053784184,
                    1.281552412129939,
                    1.6448551507220404,
                    1.959966356814107,
                    2.5758342201053344,
                    3.719030274762571,
                    5.997862460304971,
                ],
            ),
            (
                1e9,
                [
                    2.5066282755082427e-05,
                    0.25334710320320153,
                    1.2815515663911852,
                    1.6448536284752415,
                    1.959963986912325,
                    2.5758293084654484,
                    3.7190164992449692,
                    5.997807075041901,
                ],
            ),
        ];
        for (df, expected) in of {
            for (p, expected) in at.into_iter().zip(expected) {
                // 1 − 10⁻⁹ has lost what is beyond its seventh digit.
                let within = if p > 0.9999 { 1e-7 } else { 1e-9 };
                agree(student_t(df, p).unwrap(), expected, within, (df, p));
                agree(student_t(df, 1.0 - p).unwrap(), -expected, within, (df, 1.0 - p));
            }
        }
    }

    /// scipy 1.17.1, `stats.beta.ppf(p, a, b)`.
    #[test]
    fn quantiles_of_beta_are_those_of_scipy() {
        for (a, b, expected) in [
            (1.0, 1.0, [0.025, 0.5, 0.975]),
            (0.5, 0.5, [0.001541333133436012, 0.4999999999999999, 0.9984586668665639]),
            (1.0, 20.0, [0.0012650894979498038, 0.03406367107515445, 0.1684334709830853]),
            (5.0, 3.0, [0.2904208637373427, 0.6358839135519174, 0.9010117215574921]),
            (101.0, 900.0, [0.08302011391180233, 0.1006333044409005, 0.12028793651869263]),
            (50_000.0, 950_001.0, [0.04957363954732641, 0.04999965000049983, 0.05042796532456036]),
            (3.0, 1e6, [6.186713128471596e-07, 2.674054064378464e-06, 7.224654345113813e-06]),
        ] {
            for (p, expected) in [0.025, 0.5, 0.975].into_iter().zip(expected) {
                agree(beta(a, b, p).unwrap(), expected, 1e-8, (a, b, p));
            }
        }
    }

    #[test]
    fn ends_and_what_is_no_probability() {
        assert_eq!(student_t(7.0, 0.5), Some(0.0));
        assert_eq!((student_t(7.0, 1.0), student_t(7.0, 0.0)), (Some(f64::INFINITY), Some(f64::NEG_INFINITY)));
        assert_eq!(student_t(f64::INFINITY, 0.975), normal(0.975));
        assert_eq!((beta(2.0, 3.0, 0.0), beta(2.0, 3.0, 1.0)), (Some(0.0), Some(1.0)));
        for p in [-0.1, 1.1, f64::NAN] {
            assert_eq!((normal(p), student_t(7.0, p), beta(2.0, 3.0, p)), (None, None, None));
        }
        assert_eq!(
            (student_t(0.0, 0.9), student_t(f64::NAN, 0.9), beta(0.0, 1.0, 0.5), beta(1.0, f64::INFINITY, 0.5)),
            (None, None, None, None)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// At any degrees of freedom, those at which Newton's steps never end among them.
        #[test]
        fn a_quantile_has_its_probability(log_df in -1.0..12.0f64, p in 0.001..0.999f64) {
            let df = 10f64.powf(log_df);
            let t = student_t(df, p).unwrap();
            // statrs's distribution function itself is only as good as its logarithms of Γ, about df·ln(df)·10⁻¹⁶. Around the middle its argument
            // df/(df+t²) rounds to a number near 1 that knows little of t, so there the area comes from the other end.
            if df < 1e6 {
                let back = match p {
                    0.25..0.75 => 0.5 + 0.5f64.copysign(t) * beta_reg(0.5, df / 2.0, t * t / (df + t * t)),
                    _ => StudentsT::new(0.0, 1.0, df).unwrap().cdf(t),
                };
                prop_assert!((back - p).abs() < 1e-8, "{df} {p}: {t} {back}");
            }
            prop_assert!(t.is_finite() && (t > 0.0) == (p > 0.5));
        }

        #[test]
        fn a_share_has_its_probability(log_a in -1.0..6.0f64, log_b in -1.0..6.0f64, p in 0.001..0.999f64) {
            let (a, b) = (10f64.powf(log_a), 10f64.powf(log_b));
            let x = beta(a, b, p).unwrap();
            prop_assert!((0.0..=1.0).contains(&x));
            // A small shape puts its mass closer to an end than numbers lie beside 1.
            if a > 0.5 && b > 0.5 {
                prop_assert!((beta_reg(a, b, x) - p).abs() < 1e-6, "{a} {b} {p}: {x}");
            }
        }
    }
}
