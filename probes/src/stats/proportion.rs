//! Intervals of a share of independent trials.

use super::bootstrap::Interval;
use super::inverse;

/// The exact interval of `level` for the probability behind `hits` of `trials` (Clopper and Pearson 1934), which contains it at
/// least that often. `None` without trials or with more hits than trials.
pub fn clopper_pearson(hits: usize, trials: usize, level: f64) -> Option<Interval> {
    (trials > 0 && hits <= trials).then_some(())?;
    let (k, n, tail) = (hits as f64, trials as f64, (1.0 - level) / 2.0);
    let low = if hits == 0 { 0.0 } else { inverse::beta(k, n - k + 1.0, tail)? };
    let high = if hits == trials { 1.0 } else { inverse::beta(k + 1.0, n - k, 1.0 - tail)? };
    Some(Interval { low, high })
}

/// Wilson's score interval of `level` (Wilson 1927): shorter than [`clopper_pearson`], at its level on average. `None` as there.
pub fn wilson(hits: usize, trials: usize, level: f64) -> Option<Interval> {
    (trials > 0 && hits <= trials).then_some(())?;
    let (n, z) = (trials as f64, inverse::normal((1.0 + level) / 2.0)?);
    let share = hits as f64 / n;
    let middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    Some(Interval { low: (middle - half).max(0.0), high: (middle + half).min(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy 1.17.1:
    ///
    /// ```python
    /// ci = lambda k, n, method: stats.binomtest(k, n).proportion_ci(0.95, method)
    /// ```
    #[test]
    fn agree_with_scipy() {
        let check = |found: Option<Interval>, low: f64, high: f64| {
            let found = found.unwrap();
            assert!((found.low - low).abs() < 1e-9 && (found.high - high).abs() < 1e-9, "{found:?} {low} {high}");
        };
        check(clopper_pearson(0, 4, 0.95), 0.0, 0.6023646356164858);
        check(clopper_pearson(4, 4, 0.95), 0.3976353643835142, 1.0);
        check(clopper_pearson(1, 4, 0.95), 0.006309463209709889, 0.8058795503167566);
        check(clopper_pearson(2, 18, 0.95), 0.01375121566436453, 0.34712043860903735);
        check(clopper_pearson(9, 24, 0.95), 0.18799292819600227, 0.5940636159922044);
        check(wilson(0, 4, 0.95), 0.0, 0.4898908364545973);
        check(wilson(1, 4, 0.95), 0.04558726080970055, 0.6993581574175981);
        check(wilson(2, 18, 0.95), 0.03101952264561239, 0.32799765130178804);
        assert_eq!(clopper_pearson(0, 0, 0.95), None);
        assert_eq!(wilson(3, 2, 0.95), None);
    }

    /// The coverage follows from the binomial distribution itself: no draws.
    #[test]
    fn the_exact_interval_holds_its_level_and_wilson_s_nearly() {
        for trials in [4, 12, 24] {
            let mut total = [0.0; 2];
            for step in 1..200 {
                let p = f64::from(step) / 200.0;
                let mut probability = (1.0 - p).powi(trials);
                let mut covered = [0.0; 2];
                for hits in 0..=trials {
                    for (covered, of) in covered.iter_mut().zip([clopper_pearson, wilson]) {
                        let inside = of(hits as usize, trials as usize, 0.95).unwrap().contains(p);
                        *covered += if inside { probability } else { 0.0 };
                    }
                    probability *= f64::from(trials - hits) / f64::from(hits + 1) * p / (1.0 - p);
                }
                assert!(covered[0] >= 0.95 - 1e-9, "{trials} {p}: {}", covered[0]);
                total.iter_mut().zip(covered).for_each(|(t, c)| *t += c / 199.0);
            }
            assert!((0.93..=0.97).contains(&total[1]), "{trials}: {}", total[1]);
        }
    }
}
