//! Two models compared in one unit: behaviour at equal R², and R² at equal behaviour.

use assay_probes::stats::{along, along_or_beyond};

use super::{Analysis, Behaviour, Cell, Quantity, Score, on_all};

/// What is held equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// R²: the difference is one of behaviour.
    R2,
    /// Behaviour: the difference is one of R².
    Behaviour,
}

/// The height of a path of points at a place along it.
type ReadPath = fn(&[(f64, f64)], f64) -> Option<f64>;

/// A later model's cell against the path of an earlier model along k, at equal R² or at equal behaviour: the cell's score minus that of
/// the path, linear between neighbours of the path.
///
/// `None` where the cell lies beyond the path's ends, so that nothing is extrapolated; a replicate in which it does is read off the path's
/// outermost segment. Positive means that the later model's SAE is the better one.
pub fn at_equal(
    analysis: &Analysis<'_>,
    earlier: &str,
    later: &Cell,
    behaviour: &Behaviour,
    given: Given,
) -> Option<Score> {
    let path = analysis.along_k(earlier, &later.depth, later.budget);
    let (metric, sign) = (behaviour.quantity(), behaviour.sign);
    let r2: Quantity = on_all("r2");
    let both = |cell| [(cell, r2), (cell, metric)];
    let parts: Vec<(&Cell, Quantity)> = path.into_iter().chain([later]).flat_map(both).collect();
    let difference = |values: &[f64], read: ReadPath| {
        let points = values.chunks_exact(2).map(|pair| match given {
            Given::R2 => (pair[0], sign * pair[1]),
            Given::Behaviour => (sign * pair[1], pair[0]),
        });
        let points: Vec<(f64, f64)> = points.collect();
        let (&(at, reached), path) = points.split_last()?;
        Some(reached - read(path, at)?)
    };
    // First without extrapolation: whether there is anything to compare.
    analysis.point(&parts, |values| difference(values, along))?;
    Some(analysis.derived(&parts, |values| difference(values, along_or_beyond)))
}
