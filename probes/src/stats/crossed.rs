//! Two crossed sources of chance: training seeds and evaluation sequences.
//!
//! Every seed is evaluated on the same sequences. The mean over both has the variance σ²_seed/S + σ²_seq/n + σ²_both/(S n)
//! for S seeds and n sequences.

use serde::{Deserialize, Serialize};

use super::bootstrap::Interval;
use super::effect::mean;
use super::inverse;

/// A standard error and the degrees of freedom that it is known with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StandardError {
    /// In the unit of the estimate.
    pub value: f64,
    /// Degrees of freedom.
    pub df: f64,
}

impl StandardError {
    /// Of a sum of independent mean squares, each `(variance, degrees of freedom)`: (Σv)²/Σ(v²/df) degrees of freedom
    /// (Satterthwaite 1946). `None` if there is no part, or one is not finite, negative or without degrees of freedom.
    ///
    /// Parts that are all zero give the error 0 with the fewest degrees of freedom of a part.
    pub fn satterthwaite(parts: &[(f64, f64)]) -> Option<Self> {
        let sound = |&(variance, df): &(f64, f64)| variance.is_finite() && variance >= 0.0 && df > 0.0;
        (!parts.is_empty() && parts.iter().all(sound)).then_some(())?;
        let total: f64 = parts.iter().map(|(variance, _)| variance).sum();
        let weighted: f64 = parts.iter().map(|(variance, df)| variance * variance / df).sum();
        let fewest = parts.iter().map(|&(_, df)| df).fold(f64::INFINITY, f64::min);
        let df = if weighted > 0.0 { total * total / weighted } else { fewest };
        Some(Self { value: total.sqrt(), df })
    }

    /// The quantile of Student's t with these degrees of freedom.
    pub fn quantile(&self, p: f64) -> Option<f64> {
        inverse::student_t(self.df, p)
    }

    /// `estimate` ± t · error, at `level` (0.95 for 95 %).
    ///
    /// With `level` 0.90 it is the interval of two one-sided tests at 5 % (Schuirmann 1987): a difference is equivalent to none
    /// if it lies within the margin.
    pub fn interval(&self, estimate: f64, level: f64) -> Option<Interval> {
        let half = self.quantile((1.0 + level) / 2.0)? * self.value;
        Some(Interval { low: estimate - half, high: estimate + half })
    }
}

/// The jackknife's variance of a statistic from its values without each of n items in turn: (n − 1)/n Σ(θ₍ᵢ₎ − θ̄)² (Efron and
/// Stein 1981); of a mean it is s²/n exactly. `None` for fewer than two, or if one is undefined or not finite.
pub fn jackknife_variance(without: &[Option<f64>]) -> Option<f64> {
    let values: Vec<f64> = without.iter().copied().collect::<Option<_>>()?;
    (values.len() > 1 && values.iter().all(|v| v.is_finite())).then_some(())?;
    let (n, middle) = (values.len() as f64, mean(&values)?);
    Some((n - 1.0) / n * values.iter().map(|v| (v - middle).powi(2)).sum::<f64>())
}

/// Variances of a table of seeds × sequences with one value in each place (two-way random effects, by the mean squares of the
/// analysis of variance; Searle, Casella and McCulloch 1992, chapter 4).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Components {
    /// σ²_seed: what a seed does to every sequence alike. Never below 0, where its estimate may lie.
    pub seed: f64,
    /// σ²_seq: what a sequence does to every seed alike. Never below 0.
    pub sequence: f64,
    /// What is left: a seed on a sequence.
    pub interaction: f64,
}

impl Components {
    /// From one row per seed. `None` with fewer than two seeds or sequences, rows of different length, or a value that is not finite.
    pub fn of(table: &[Vec<f64>]) -> Option<Self> {
        let (seeds, sequences) = (table.len(), table.first()?.len());
        let sound = |row: &Vec<f64>| row.len() == sequences && row.iter().all(|v| v.is_finite());
        (seeds > 1 && sequences > 1 && table.iter().all(sound)).then_some(())?;
        let by_seed: Vec<f64> = table.iter().map(|row| mean(row)).collect::<Option<_>>()?;
        let by_sequence: Vec<f64> = (0..sequences)
            .map(|at| mean(&table.iter().map(|row| row[at]).collect::<Vec<_>>()))
            .collect::<Option<_>>()?;
        let grand = mean(&by_seed)?;
        let (s, n) = (seeds as f64, sequences as f64);
        let squares = |values: &[f64]| values.iter().map(|v| (v - grand).powi(2)).sum::<f64>();
        let mean_square_seed = n * squares(&by_seed) / (s - 1.0);
        let mean_square_sequence = s * squares(&by_sequence) / (n - 1.0);
        let rest = |(row, of_seed): (&Vec<f64>, &f64)| -> f64 {
            row.iter().zip(&by_sequence).map(|(v, of_sequence)| (v - of_seed - of_sequence + grand).powi(2)).sum()
        };
        let interaction = table.iter().zip(&by_seed).map(rest).sum::<f64>() / ((s - 1.0) * (n - 1.0));
        Some(Self {
            seed: ((mean_square_seed - interaction) / n).max(0.0),
            sequence: ((mean_square_sequence - interaction) / s).max(0.0),
            interaction,
        })
    }

    /// The standard error of the mean over that many seeds and sequences.
    pub fn standard_error(&self, seeds: usize, sequences: usize) -> f64 {
        let (s, n) = (seeds as f64, sequences as f64);
        (self.seed / s + self.sequence / n + self.interaction / (s * n)).sqrt()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::stats::{Resamples, SeedResamples, jackknife, sample_sd, t_interval};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A standard normal number (Box and Muller).
    pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
    }

    const TABLE: [[f64; 5]; 3] =
        [[0.31, 0.42, 0.11, 0.58, 0.27], [0.29, 0.47, 0.02, 0.66, 0.35], [0.45, 0.50, 0.21, 0.61, 0.30]];

    fn close(found: f64, expected: f64, tolerance: f64) {
        assert!((found - expected).abs() < tolerance, "{found} {expected}");
    }

    /// statsmodels 0.15.0 and scipy 1.17.1, T the table:
    ///
    /// ```python
    /// anova_lm(ols("y ~ C(seed) + C(sequence)", long(T)).fit())    # mean squares 0.007760, 0.104883, 0.003443
    /// (ms_seed - ms_rest) / 5, (ms_sequence - ms_rest) / 3, ms_rest
    /// u, v = T.mean(1).var(ddof=1) / 3, T.mean(0).var(ddof=1) / 5
    /// df, se = (u + v)**2 / (u**2 / 2 + v**2 / 4), (u + v)**.5     # 4.563826615861102, 0.08665769184299542
    /// stats.t.interval(.95, df, T.mean(), se)                      # (0.14068098114257338, 0.5993190188574267)
    /// stats.t.interval(.90, df, T.mean(), se)                      # (0.19162561676078307, 0.5483743832392168)
    /// ```
    #[test]
    fn components_and_interval_agree_with_statsmodels_and_scipy() {
        let table = TABLE.map(|row| row.to_vec());
        let found = Components::of(&table).unwrap();
        close(found.seed, 0.0008633333333333334, 1e-15);
        close(found.sequence, 0.03381333333333334, 1e-15);
        close(found.interaction, 0.003443333333333334, 1e-15);
        let rows: Vec<f64> = table.iter().map(|row| mean(row).unwrap()).collect();
        let columns: Vec<f64> = (0..5).map(|at| TABLE.iter().map(|row| row[at]).sum::<f64>() / 3.0).collect();
        let variance = |values: &[f64]| sample_sd(values).unwrap().powi(2) / values.len() as f64;
        let error = StandardError::satterthwaite(&[(variance(&rows), 2.0), (variance(&columns), 4.0)]).unwrap();
        close(error.value, 0.08665769184299542, 1e-15);
        close(error.df, 4.563826615861102, 1e-12);
        for (level, low, high) in
            [(0.95, 0.14068098114257338, 0.5993190188574267), (0.90, 0.19162561676078307, 0.5483743832392168)]
        {
            let interval = error.interval(mean(&rows).unwrap(), level).unwrap();
            close(interval.low, low, 1e-9);
            close(interval.high, high, 1e-9);
        }
        // What the two mean squares over-count is one interaction.
        let counted = found.standard_error(3, 5).powi(2) + found.interaction / 15.0;
        close(counted, error.value.powi(2), 1e-12);
    }

    /// Welch's degrees of freedom are Satterthwaite's of two means: `stats.ttest_ind(x, y, equal_var=False)` of scipy, whose
    /// variances of the means are 0.809594 (five values) and 0.6411111111111111 (three).
    #[test]
    fn degrees_of_freedom_agree_with_welch_s_test() {
        let error = StandardError::satterthwaite(&[(0.809594, 4.0), (0.6411111111111111, 2.0)]).unwrap();
        close(error.df, 5.697625657784256, 1e-12);
        let interval = error.interval(0.2453333333333334, 0.95).unwrap();
        close(interval.low, -2.740187191589529, 1e-9);
        close(interval.high, 3.2308538582561956, 1e-9);
    }

    #[test]
    fn the_jackknife_of_a_mean_is_its_standard_error() {
        let values = [0.3, 0.9, -0.2, 1.7, 0.4];
        let without = jackknife(5, |rows| Some(rows.iter().map(|&i| values[i as usize]).sum::<f64>() / 4.0));
        close(jackknife_variance(&without).unwrap(), sample_sd(&values).unwrap().powi(2) / 5.0, 1e-15);
        assert_eq!(jackknife_variance(&[Some(1.0), None]), None);
        assert_eq!(jackknife_variance(&[Some(1.0), Some(f64::INFINITY)]), None);
        assert_eq!(jackknife_variance(&[Some(1.0)]), None);
    }

    #[test]
    fn what_is_undefined_is_none() {
        assert_eq!(StandardError::satterthwaite(&[]), None);
        assert_eq!(StandardError::satterthwaite(&[(0.1, 0.0)]), None);
        assert_eq!(StandardError::satterthwaite(&[(f64::NAN, 3.0)]), None);
        let none = StandardError::satterthwaite(&[(0.0, 3.0), (0.0, 63.0)]).unwrap();
        assert_eq!(none, StandardError { value: 0.0, df: 3.0 });
        assert_eq!(none.interval(0.2, 0.95), Some(Interval { low: 0.2, high: 0.2 }));
        assert_eq!(Components::of(&[vec![0.1, 0.2]]), None);
        assert_eq!(Components::of(&[vec![0.1, 0.2], vec![0.1]]), None);
        assert_eq!(Components::of(&[]), None);
    }

    /// Shares of samples whose 95 % interval contains the true mean, 0: the two-level bootstrap, Student's t over seeds, and
    /// Satterthwaite's; four seeds, 64 sequences, log-normal sequence effects of the given size against seed effects of 1.
    fn coverage(sequence_effect: f64, samples: usize) -> [f64; 3] {
        let (seeds, sequences, replicates) = (4, 64, 400);
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let (by_seed, by_sequence) =
            (SeedResamples::draw(seeds, replicates, 3), Resamples::draw(sequences, replicates, 3));
        let counts = by_sequence.counts();
        let mut hits = [0usize; 3];
        for _ in 0..samples {
            // A log-normal number with σ = 0.6 has the skewness 2.3 (the sweeps' differences have −2.5), less its mean.
            let skewed = |rng: &mut ChaCha8Rng| (0.6 * normal(rng)).exp() - (0.18_f64).exp();
            let of_sequence: Vec<f64> = (0..sequences).map(|_| sequence_effect * skewed(&mut rng)).collect();
            let table: Vec<Vec<f64>> = (0..seeds)
                .map(|_| {
                    let seed = normal(&mut rng);
                    of_sequence.iter().map(|s| seed + s + 0.5 * normal(&mut rng)).collect()
                })
                .collect();
            let of_seeds: Vec<f64> = table.iter().map(|row| mean(row).unwrap()).collect();
            let of_sequences: Vec<f64> =
                (0..sequences).map(|at| table.iter().map(|row| row[at]).sum::<f64>() / seeds as f64).collect();
            let per_seed: Vec<Vec<Option<f64>>> = table
                .iter()
                .map(|row| {
                    let total = counts.dot(&ndarray::ArrayView1::from(row));
                    total.iter().map(|t| Some(t / sequences as f64)).collect()
                })
                .collect();
            let variance = |values: &[f64]| sample_sd(values).unwrap().powi(2) / values.len() as f64;
            let parts = [(variance(&of_seeds), seeds as f64 - 1.0), (variance(&of_sequences), sequences as f64 - 1.0)];
            let intervals = [
                Interval::percentile(&by_seed.combine(&per_seed).unwrap(), 0.95),
                t_interval(&of_seeds, 0.95),
                StandardError::satterthwaite(&parts).and_then(|e| e.interval(mean(&of_seeds).unwrap(), 0.95)),
            ];
            for (hits, interval) in hits.iter_mut().zip(intervals) {
                *hits += usize::from(interval.unwrap().contains(0.0));
            }
        }
        hits.map(|h| h as f64 / samples as f64)
    }

    /// The standard error of a share of 2,000 near 0.95 is 0.5 %.
    #[test]
    fn satterthwaite_holds_its_level_where_the_bootstrap_and_t_do_not() {
        // Seeds rule, both matter, sequences rule.
        for sequence_effect in [1.0, 12.0, 60.0] {
            let [two_level, t, both] = coverage(sequence_effect, 2000);
            println!("{sequence_effect}: two-level {two_level}, t {t}, Satterthwaite {both}");
            assert!((0.93..=0.985).contains(&both), "{sequence_effect}: {both}");
            if sequence_effect < 2.0 {
                assert!(two_level < 0.90, "{two_level}");
            } else {
                assert!(t < 0.90, "{sequence_effect}: {t}");
            }
        }
    }
}
