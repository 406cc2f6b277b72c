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
