//! Two paths of SAEs compared at one value of a third metric: behaviour at equal R², R² at equal behaviour, either at equal L0.

use assay_probes::stats::{along, along_or_beyond};

use super::{Analysis, Behaviour, Cell, Quantity, Score, on_all};

/// What is held equal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Given {
    /// R².
    R2,
    /// A metric of behaviour.
    Behaviour(&'static Behaviour),
    /// The measured L0; between neighbours its logarithm counts.
    L0,
}

impl Given {
    fn quantity(self) -> Quantity {
        match self {
            Self::R2 => on_all("r2"),
            Self::Behaviour(behaviour) => behaviour.quantity(),
            Self::L0 => on_all("l0"),
        }
    }

    /// The place along the path of a value of the metric.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::R2 => value,
            Self::Behaviour(behaviour) => behaviour.sign * value,
            Self::L0 => value.ln(),
        }
    }
}

/// A metric of which differences are taken, and −1 where it is better when lower.
pub type Turned = (Quantity, f64);

/// R², turned.
pub fn r2() -> Turned {
    (on_all("r2"), 1.0)
}

/// The height of a path of points at a place along it.
type ReadPath = fn(&[(f64, f64)], f64) -> Option<f64>;

/// A cell against a path of others, where something is equal: the cell's score minus that of the path, linear between neighbours of the
/// path.
///
/// `None` where the cell lies beyond the path's ends, so that nothing is extrapolated; a replicate in which it does is read off the path's
/// outermost segment. Positive means that the cell's SAE is the better one.
pub fn at_equal(
    analysis: &Analysis<'_>,
    path: &[&Cell],
    cell: &Cell,
    (metric, sign): Turned,
    given: Given,
) -> Option<Score> {
    let both = |cell| [(cell, given.quantity()), (cell, metric)];
    let parts: Vec<(&Cell, Quantity)> = path.iter().copied().chain([cell]).flat_map(both).collect();
    let difference = |values: &[f64], read: ReadPath| {
        let points = values.chunks_exact(2).map(|pair| (given.place(pair[0]), sign * pair[1]));
        let points: Vec<(f64, f64)> = points.collect();
        let (&(at, reached), path) = points.split_last()?;
        Some(reached - read(path, at)?)
    };
    // First without extrapolation: whether there is anything to compare.
    analysis.point(&parts, |values| difference(values, along))?;
    Some(analysis.derived(&parts, |values| difference(values, along_or_beyond)))
}

/// A later model's cell against an earlier model's path through the same site and class, of the [same budget](Analysis::budget_like).
pub fn models_at_equal(
    analysis: &Analysis<'_>,
    earlier: &str,
    later: &Cell,
    turned: Turned,
    given: Given,
) -> Option<Score> {
    let path = analysis.path(earlier, &later.site, analysis.budget_like(later, earlier), &later.setting.class());
    at_equal(analysis, &path, later, turned, given)
}
