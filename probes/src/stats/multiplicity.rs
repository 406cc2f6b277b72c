//! Several tests at once.

/// Holm's adjusted p-values (Holm 1979), in the order given: rejecting those at or below α keeps the chance of any false
/// rejection at or below α, whatever depends on what.
///
/// A NaN counts as 1.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let clean: Vec<f64> = p.iter().map(|&p| if p.is_nan() { 1.0 } else { p }).collect();
    let mut order: Vec<usize> = (0..clean.len()).collect();
    order.sort_by(|&a, &b| clean[a].total_cmp(&clean[b]));
    let mut adjusted = vec![0.0; clean.len()];
    let mut largest = 0.0_f64;
    for (rank, &at) in order.iter().enumerate() {
        largest = largest.max(((clean.len() - rank) as f64 * clean[at]).min(1.0));
        adjusted[at] = largest;
    }
    adjusted
}

/// Adjusted p-values of Benjamini and Hochberg (1995), in the order given: of those at or below q at most a share q is expected to be false, where
/// tests are independent or positively dependent.
///
/// A NaN counts as 1.
pub fn benjamini_hochberg(p: &[f64]) -> Vec<f64> {
    let clean: Vec<f64> = p.iter().map(|&p| if p.is_nan() { 1.0 } else { p }).collect();
    let mut order: Vec<usize> = (0..clean.len()).collect();
    order.sort_by(|&a, &b| clean[a].total_cmp(&clean[b]));
    let mut adjusted = vec![0.0; clean.len()];
    let mut least = 1.0_f64;
    for (rank, &at) in order.iter().enumerate().rev() {
        least = least.min(clean.len() as f64 * clean[at] / (rank + 1) as f64);
        adjusted[at] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// statsmodels 0.15.0: `multipletests(p, method="holm")[1]`.
    #[test]
    fn agrees_with_statsmodels() {
        let close = |found: Vec<f64>, expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
        };
        close(holm(&[0.01, 0.04, 0.03, 0.005]), &[0.03, 0.06, 0.06, 0.02]);
        close(holm(&[0.2, 0.02, 0.02, 0.9, 0.6]), &[0.6, 0.1, 0.1, 1.0, 1.0]);
        assert_eq!(holm(&[]), Vec::<f64>::new());
        assert_eq!(holm(&[f64::NAN, 0.01]), [1.0, 0.02]);
        // The same with method="fdr_bh".
        close(benjamini_hochberg(&[0.01, 0.04, 0.03, 0.005]), &[0.02, 0.04, 0.04, 0.02]);
        close(benjamini_hochberg(&[0.2, 0.02, 0.02, 0.9, 0.6]), &[1.0 / 3.0, 0.05, 0.05, 0.9, 0.75]);
        close(benjamini_hochberg(&[0.005, 0.005, 0.03, 0.5, 0.04, 0.7]), &[0.015, 0.015, 0.06, 0.6, 0.06, 0.7]);
        assert_eq!(benjamini_hochberg(&[]), Vec::<f64>::new());
        assert_eq!(benjamini_hochberg(&[f64::NAN, 0.01]), [1.0, 0.02]);
    }
}
