//! Effect sizes of a difference between two samples, a minus b.

/// The arithmetic mean. `None` for no values, or if one is not finite.
///
/// Corrected once by the mean of the deviations from it, so that the mean of equal values is exactly their value.
pub fn mean(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    let rough = values.iter().sum::<f64>() / n;
    let mean = rough + values.iter().map(|v| v - rough).sum::<f64>() / n;
    mean.is_finite().then_some(mean)
}

/// The sample standard deviation (divisor n − 1), in the values' unit. `None` for fewer than two values.
pub fn sample_sd(values: &[f64]) -> Option<f64> {
    Some((squares(values)? / (values.len() as f64 - 1.0)).sqrt())
}

/// Cohen's d, (mean a − mean b) / pooled standard deviation, in standard deviations of one observation (Cohen 1988,
/// §2.2).
///
/// The samples count as unpaired, though both may hold the same sequences: the spread between sequences stays in the
/// denominator, which makes d far smaller than [`cohen_d_z`]. `None` if a sample has fewer than two values or neither
/// varies.
pub fn cohen_d(a: &[f64], b: &[f64]) -> Option<f64> {
    let freedom = (a.len() + b.len()) as f64 - 2.0;
    ratio(mean(a)? - mean(b)?, ((squares(a)? + squares(b)?) / freedom).sqrt())
}

/// Cohen's d_z, mean of a − b / standard deviation of a − b, for pairs (Cohen 1988, §2.3.5). `None` for fewer than two
/// pairs, samples of different size, or a difference that does not vary.
pub fn cohen_d_z(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() {
        return None;
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    ratio(mean(&differences)?, sample_sd(&differences)?)
}

/// Σ (v − mean)²; `None` for fewer than two values.
fn squares(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    (values.len() > 1).then(|| values.iter().map(|v| (v - mean).powi(2)).sum())
}

fn ratio(difference: f64, sd: f64) -> Option<f64> {
    (sd > 0.0).then_some(difference / sd).filter(|d| d.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// ```python
    /// p = np.array([0.41, 0.22, 0.63, 0.35, 0.51, 0.09]); q = np.array([0.30, 0.25, 0.44, 0.12, 0.47, 0.11])
    /// p.std(ddof=1)                                               # 0.19497863130780937
    /// stats.ttest_ind(p, q).statistic * np.sqrt(1/6 + 1/6)        # 0.49417692229967495
    /// stats.ttest_ind(p, q[:5]).statistic * np.sqrt(1/6 + 1/5)    # 0.3009213024229011
    /// stats.ttest_rel(p, q).statistic / np.sqrt(6)                # 0.7982824700322465
    /// ```
    #[test]
    fn agrees_with_the_t_statistics_of_scipy() {
        let p = [0.41, 0.22, 0.63, 0.35, 0.51, 0.09];
        let q = [0.30, 0.25, 0.44, 0.12, 0.47, 0.11];
        let pairs = [
            (sample_sd(&p), 0.19497863130780937),
            (cohen_d(&p, &q), 0.49417692229967495),
            (cohen_d(&q, &p), -0.49417692229967495),
            (cohen_d(&p, &q[..5]), 0.3009213024229011),
            (cohen_d_z(&p, &q), 0.7982824700322465),
        ];
        for (value, expected) in pairs {
            assert!((value.unwrap() - expected).abs() < 1e-13, "{value:?} {expected}");
        }
    }

    #[test]
    fn what_cannot_be_computed_is_none() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[1.0, f64::INFINITY]), None);
        assert_eq!(sample_sd(&[1.0]), None);
        // Three times 0.1 sums to more than 0.3: equal values must not be told apart by rounding.
        assert_eq!(sample_sd(&[0.1; 3]), Some(0.0));
        assert_eq!(cohen_d(&[0.1; 3], &[0.2; 3]), None);
        assert_eq!(cohen_d(&[1.0], &[2.0, 3.0]), None);
        assert_eq!(cohen_d_z(&[1.0, 2.0], &[0.0, 1.0]), None);
        assert_eq!(cohen_d_z(&[1.0, 2.0], &[0.0]), None);
    }

    proptest! {
        #[test]
        fn effects_know_no_order_and_change_sign_with_the_samples(
            pairs in prop::collection::vec((-10.0..10.0f64, -10.0..10.0f64), 3..30), by in 0usize..30,
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
            let turned: Vec<(f64, f64)> = pairs.iter().cycle().skip(by).take(pairs.len()).copied().collect();
            let (c, d): (Vec<f64>, Vec<f64>) = turned.into_iter().unzip();
            for effect in [cohen_d, cohen_d_z] {
                let value = effect(&a, &b).unwrap();
                let tolerance = 1e-9 * value.abs().max(1.0);
                prop_assert!((effect(&c, &d).unwrap() - value).abs() <= tolerance);
                prop_assert!((effect(&b, &a).unwrap() + value).abs() <= tolerance);
            }
        }
    }
}
