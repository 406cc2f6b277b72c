//! A path of points, read at a place between them: one score where another has a given value.

/// The path's y at x, linear between its points in order of x; `None` where x lies beyond the first or last point, where there are
/// fewer than two, or a coordinate is not finite.
pub fn along(path: &[(f64, f64)], x: f64) -> Option<f64> {
    let points = ordered(path)?;
    let inside = points.first()?.0 <= x && x <= points.last()?.0;
    inside.then(|| on_segment(&points, x)).flatten()
}

/// The same, continued along its first and last segments: for replicates of a place that lies inside on all the data.
pub fn along_or_beyond(path: &[(f64, f64)], x: f64) -> Option<f64> {
    on_segment(&ordered(path)?, x)
}

fn ordered(path: &[(f64, f64)]) -> Option<Vec<(f64, f64)>> {
    let sound = path.len() > 1 && path.iter().all(|(x, y)| x.is_finite() && y.is_finite());
    sound.then_some(())?;
    let mut points = path.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Some(points)
}

fn on_segment(points: &[(f64, f64)], x: f64) -> Option<f64> {
    x.is_finite().then_some(())?;
    let above = points.iter().position(|p| p.0 >= x).unwrap_or(points.len() - 1).max(1);
    let ((x0, y0), (x1, y1)) = (points[above - 1], points[above]);
    // Two points at one x have no line through them: their middle.
    Some(if x1 > x0 { y0 + (y1 - y0) * (x - x0) / (x1 - x0) } else { f64::midpoint(y0, y1) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// numpy 2.4: `np.interp(x, [0.4, 0.5, 0.8], [0.1, 0.35, 0.9])`.
    #[test]
    fn agrees_with_numpy_inside() {
        let path = [(0.8, 0.9), (0.4, 0.1), (0.5, 0.35)];
        for (x, y) in [(0.4, 0.1), (0.45, 0.225), (0.5, 0.35), (0.71, 0.735), (0.8, 0.9)] {
            assert!((along(&path, x).unwrap() - y).abs() < 1e-12, "{x}");
        }
        assert_eq!(along(&path, 0.39), None);
        assert_eq!(along(&path, 0.81), None);
        assert_eq!(along(&path, f64::NAN), None);
        assert_eq!(along(&path[..1], 0.8), None);
        assert!((along_or_beyond(&path, 0.3).unwrap() + 0.15).abs() < 1e-12);
        assert!((along_or_beyond(&path, 1.1).unwrap() - 1.45).abs() < 1e-12);
        assert_eq!(along(&[(0.5, 1.0), (0.5, 2.0)], 0.5), Some(1.5));
    }

    proptest! {
        #[test]
        fn a_line_is_read_exactly(slope in -3.0..3.0f64, xs in prop::collection::vec(0.0..1.0f64, 2..8), x in 0.0..1.0f64) {
            let path: Vec<(f64, f64)> = xs.iter().map(|&x| (x, slope * x + 0.2)).collect();
            prop_assume!(path.iter().any(|p| (p.0 - path[0].0).abs() > 1e-3));
            if let Some(y) = along(&path, x) {
                prop_assert!((y - slope * x - 0.2).abs() < 1e-6);
            }
        }
    }
}
