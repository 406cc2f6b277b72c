//! How many dimensions of x the mutual information needs: a bottleneck is widened until it costs nothing.

/// The share of the plateau that counts as all of it. Held-out estimates scatter by some per cent, so that 0.95 would often
/// ask for more than the plateau's own noise; where each of d dimensions carries as much as the others, 0.9 comes out as 0.9·d.
pub const PLATEAU_SHARE: f64 = 0.9;

/// A plateau below this many nats is taken for no information at all: what estimates of independent views scatter by.
pub const PLATEAU_FLOOR: f64 = 0.05;

/// Bottleneck widths for `d` dimensions: powers of two below d, then d itself.
pub fn widths(d: usize) -> Vec<usize> {
    std::iter::successors(Some(1), |w| Some(w * 2)).take_while(|&w| w < d).chain((d > 0).then_some(d)).collect()
}

/// The smallest bottleneck width at which mutual information reaches `share` of its plateau (Gulati et al. 2026,
/// arXiv:2602.08105), linear between the widths of the grid; the smallest of the grid if it is met there.
///
/// `curve` has widths, ascending, and estimates in nats. The plateau is the largest estimate. `None` where there is no
/// estimate, one is not finite, or the plateau is below [`PLATEAU_FLOOR`]. Where estimates run into a cap (see
/// `Bound::cap`) the plateau is the cap's, and the result too small.
pub fn inferred_dimensionality(curve: &[(usize, f64)], share: f64) -> Option<f64> {
    let plateau = curve.iter().map(|&(_, nats)| nats).fold(f64::NEG_INFINITY, f64::max);
    if curve.iter().any(|(_, nats)| !nats.is_finite()) || plateau < PLATEAU_FLOOR {
        return None;
    }
    let target = share * plateau;
    let reached = curve.iter().position(|&(_, nats)| nats >= target)?;
    let (width, nats) = curve[reached];
    let Some(&(narrower, less)) = reached.checked_sub(1).and_then(|at| curve.get(at)) else {
        return Some(width as f64);
    };
    let (width, narrower) = (width as f64, narrower as f64);
    Some(narrower + (width - narrower) * (target - less) / (nats - less))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_double_up_to_all_dimensions() {
        assert_eq!(widths(12), [1, 2, 4, 8, 12]);
        assert_eq!(widths(8), [1, 2, 4, 8]);
        assert_eq!(widths(1), [1]);
        assert_eq!(widths(0), [0; 0]);
    }

    #[test]
    fn the_threshold_is_interpolated() {
        let curve = [(1, 1.0), (2, 2.0), (4, 4.0), (8, 4.0)];
        assert_eq!(inferred_dimensionality(&curve, 0.75), Some(3.0));
        assert_eq!(inferred_dimensionality(&curve, 0.25), Some(1.0));
        assert_eq!(inferred_dimensionality(&curve, 0.1), Some(1.0));
        assert_eq!(inferred_dimensionality(&curve, 1.0), Some(4.0));
    }

    #[test]
    fn no_information_has_no_dimensionality() {
        assert_eq!(inferred_dimensionality(&[], 0.9), None);
        assert_eq!(inferred_dimensionality(&[(1, 0.01), (2, -0.3)], 0.9), None);
        assert_eq!(inferred_dimensionality(&[(1, 1.0), (2, f64::NAN)], 0.9), None);
        assert_eq!(inferred_dimensionality(&[(1, 1.0), (2, f64::INFINITY)], 0.9), None);
    }
}
