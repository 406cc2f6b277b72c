//! Quantiles as numpy computes them by default, on the extended reals.

/// The `q`-quantile of sorted values, interpolated linearly between the two nearest order statistics
/// (numpy's `linear`, definition 7 of Hyndman and Fan 1996).
///
/// Values may be infinite, where numpy gives NaN: anything between a number and an infinity is that infinity. `None`
/// for no values, and between −∞ and +∞.
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    if low == high {
        Some(low)
    } else if low.is_infinite() {
        high.is_finite().then_some(low)
    } else {
        Some(low + (high - low) * at.fract())
    }
}

/// The median of values in any order.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `numpy.quantile([1, 2, 4, 8, 16], [0, .1, .25, .5, .9, 1])`, numpy 2.3
    #[test]
    fn agrees_with_numpy() {
        let values = [1.0, 2.0, 4.0, 8.0, 16.0];
        let expected = [1.0, 1.4, 2.0, 4.0, 12.8, 16.0];
        for (q, e) in [0.0, 0.1, 0.25, 0.5, 0.9, 1.0].into_iter().zip(expected) {
            assert!((quantile(&values, q).unwrap() - e).abs() < 1e-12, "{q}");
        }
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(median(&[3.0, 1.0, 2.0, 10.0]), Some(2.5));
    }

    #[test]
    fn infinities_are_values() {
        let inf = f64::INFINITY;
        let values = [1.0, 2.0, 3.0, inf, inf];
        // Exactly at the last number beside an infinity, between the two, and among infinities.
        for (q, e) in [(0.0, 1.0), (0.5, 3.0), (0.5625, inf), (0.75, inf), (0.9, inf), (1.0, inf)] {
            assert_eq!(quantile(&values, q), Some(e), "{q}");
        }
        assert_eq!(quantile(&[-inf, 5.0], 0.25), Some(-inf));
        assert_eq!(quantile(&[-inf, 5.0], 1.0), Some(5.0));
        assert_eq!(quantile(&[-inf, inf], 0.5), None);
        assert_eq!(quantile(&[inf], 0.5), Some(inf));
    }
}
