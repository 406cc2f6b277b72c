//! What a measurement of that precision could have shown.

use super::crossed::StandardError;

/// The smallest true difference that a two-sided test at `alpha` finds with the chance `power`: (t_{1−α/2} + t_power) · error
/// (Bloom 1995).
pub fn minimum_detectable(error: StandardError, alpha: f64, power: f64) -> Option<f64> {
    Some((error.quantile(1.0 - alpha / 2.0)? + error.quantile(power)?) * error.value)
}

/// The smallest margin within which two one-sided tests at `alpha` place a difference that is truly 0 with the chance `power`:
/// (t_{1−α} + t_{(1+power)/2}) · error (after Schuirmann 1987). With `power` 0 it is the smallest that they can show at all, which takes an estimate
/// of exactly 0.
pub fn equivalence_margin(error: StandardError, alpha: f64, power: f64) -> Option<f64> {
    Some((error.quantile(1.0 - alpha)? + error.quantile((1.0 + power) / 2.0)?) * error.value)
}

/// How many values like those behind `error`, of which there are `error.df` + 1, two one-sided tests at `alpha` need to place their mean
/// within ±`margin` with the chance `power` if it is truly 0: the smallest n ≥ 2 whose error, `error.value`·√((`error.df` + 1)/n) with n − 1 degrees of
/// freedom, has an [`equivalence_margin`] of at most `margin` (Chow, Shao, Wang and Lokhnygina 2018, "Sample Size Calculations in Clinical Research",
/// one-sample test for equivalence, with quantiles of t for those of the normal).
///
/// `None` unless the error and the margin are finite and above 0, and where a thousand million values do not suffice.
pub fn values_needed(error: StandardError, margin: f64, alpha: f64, power: f64) -> Option<u64> {
    let sound = |v: f64| v.is_finite() && v > 0.0;
    (sound(error.value) && sound(error.df) && sound(margin)).then_some(())?;
    let sd = error.value * (error.df + 1.0).sqrt();
    let suffice = |n: u64| {
        let of_n = StandardError { value: sd / (n as f64).sqrt(), df: n as f64 - 1.0 };
        equivalence_margin(of_n, alpha, power).is_some_and(|found| found <= margin)
    };
    // More values always have the smaller margin: doubled until they suffice, then halved to the first that does.
    let enough = (1..30).map(|doublings| 1 << doublings).find(|&n| suffice(n))?;
    let (mut low, mut high) = (enough / 2, enough);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if suffice(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::super::crossed::tests::normal;
    use super::*;
    use crate::stats::{mean, sample_sd};
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// statsmodels 0.15.0, by the noncentral t: `TTestPower().solve_power(nobs=n, alpha=.05, power=.8)`, an effect in
    /// standard deviations.
    #[test]
    fn agrees_with_statsmodels() {
        for (n, effect) in [
            (8.0, 1.156035271959959),
            (16.0, 0.7494652785178323),
            (64.0, 0.35565029367606976),
            (200.0, 0.19906465946973934),
        ] {
            let error = StandardError { value: 1.0 / f64::sqrt(n), df: n - 1.0 };
            let found = minimum_detectable(error, 0.05, 0.8).unwrap();
            assert!((found / effect - 1.0).abs() < 0.01, "{n}: {found} {effect}");
        }
    }

    /// scipy 1.17.1: the smallest n at which the exact power of two one-sided t tests at 5 %, by quadrature over the sample's standard deviation s,
    /// reaches the asked one for values of standard deviation 1 and mean 0. That is the chance that |mean| ≤ margin − t·s/√n:
    ///
    /// ```python
    /// def power(n, margin):
    ///     t, df = stats.t.ppf(.95, n - 1), n - 1
    ///     f = lambda s: (2 * stats.norm.cdf(sqrt(n) * max(margin - t * s / sqrt(n), 0)) - 1) * stats.chi.pdf(s * sqrt(df), df) * sqrt(df)
    ///     end = min(margin * sqrt(n) / t, 1 + 12 / sqrt(2 * df))
    ///     middle = [p for p in (max(0, 1 - 6 / sqrt(2 * df)), 1) if p < end]
    ///     return integrate.quad(f, 0, end, limit=500, points=middle)[0]
    /// ```
    #[test]
    fn as_many_values_are_needed_as_the_exact_power_asks_for() {
        for (margin, power, exact) in [
            (1.0, 0.8, 11),
            (0.5, 0.8, 36),
            (0.25, 0.8, 139),
            (0.1, 0.8, 858),
            (0.05, 0.8, 3427),
            (0.5, 0.9, 45),
            (0.1, 0.9, 1084),
        ] {
            // The same whatever number of values the error is known from.
            for n in [3.0_f64, 64.0] {
                let error = StandardError { value: 1.0 / n.sqrt(), df: n - 1.0 };
                let found = values_needed(error, margin, 0.05, power).unwrap();
                assert!(found.abs_diff(exact) <= 1, "{margin}, {power}: {found} {exact}");
            }
        }
        let error = StandardError { value: 0.1, df: 63.0 };
        let needed = values_needed(error, 0.05, 0.05, 0.8).unwrap();
        let of = |n: u64| StandardError { value: 0.8 / (n as f64).sqrt(), df: n as f64 - 1.0 };
        let margin = |n: u64| equivalence_margin(of(n), 0.05, 0.8).unwrap();
        assert!(margin(needed) <= 0.05 && margin(needed - 1) > 0.05);
    }

    #[test]
    fn what_no_number_of_values_shows_is_none() {
        let error = StandardError { value: 0.1, df: 63.0 };
        assert_eq!(values_needed(error, 0.0, 0.05, 0.8), None);
        assert_eq!(values_needed(error, f64::NAN, 0.05, 0.8), None);
        assert_eq!(values_needed(StandardError { value: 0.0, ..error }, 0.01, 0.05, 0.8), None);
        assert_eq!(values_needed(error, 1e-6, 0.05, 0.8), None);
        assert_eq!(values_needed(error, 1e6, 0.05, 0.8), Some(2));
    }

    /// 64 normal values of standard deviation 1, 4,000 times: how often each test finds what it should.
    #[test]
    fn the_chances_are_those_asked_for() {
        let n = 64;
        let known = StandardError { value: 0.125, df: 63.0 };
        let effect = minimum_detectable(known, 0.05, 0.8).unwrap();
        let margin = equivalence_margin(known, 0.05, 0.8).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut found = [0usize; 2];
        for _ in 0..4000 {
            let values: Vec<f64> = (0..n).map(|_| normal(&mut rng)).collect();
            let error = StandardError { value: sample_sd(&values).unwrap() / 8.0, df: 63.0 };
            let middle = mean(&values).unwrap();
            found[0] += usize::from(error.interval(middle + effect, 0.95).unwrap().excludes_zero());
            let interval = error.interval(middle, 0.90).unwrap();
            found[1] += usize::from(-margin <= interval.low && interval.high <= margin);
        }
        // The standard error of a share of 4,000 near 0.8 is 0.6 %.
        for (what, found) in ["detected", "equivalent"].into_iter().zip(found) {
            let share = found as f64 / 4000.0;
            assert!((0.78..=0.82).contains(&share), "{what}: {share}");
        }
        assert_eq!(equivalence_margin(known, 0.05, 0.0), known.quantile(0.95).map(|t| t * 0.125));
    }
}
