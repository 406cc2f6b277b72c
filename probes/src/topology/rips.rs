//! Persistent homology of the Vietoris-Rips filtration (Edelsbrunner, Letscher and Zomorodian 2002; Bauer 2021, arXiv:1908.02518), over
//! Z/2. This file is all that knows the engine.

use holos_tda::{DistanceMatrix, RipsParams, rips_persistence};
use serde::{Deserialize, Serialize};

use super::distances::Distances;
use super::error::{Result, TopologyError};

/// A class of homology, from the scale at which it is born to that at which it dies. Scales are edge lengths.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Where it is born.
    pub birth: f64,
    /// Where it dies; `None` if it never does.
    pub death: Option<f64>,
}

impl Bar {
    /// death − birth; `None` if it never dies.
    pub fn persistence(self) -> Option<f64> {
        self.death.map(|death| death - self.birth)
    }
}

/// Bars by dimension, each sorted by birth, then death, those that never die last; none of length 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagram {
    /// From dimension 0.
    pub bars: Vec<Vec<Bar>>,
}

impl Diagram {
    /// The bars of a dimension that die.
    pub fn finite(&self, dimension: usize) -> Vec<(f64, f64)> {
        let bars = self.bars.get(dimension).map_or(&[][..], Vec::as_slice);
        bars.iter().filter_map(|bar| Some((bar.birth, bar.death?))).collect()
    }
}

/// The bars of the filtration up to dimension `max_dim`.
///
/// Where a `threshold` is given, no simplex is longer, and what lives there never dies; otherwise the filtration ends at the enclosing
/// radius, beyond which nothing happens.
///
/// # Errors
/// If there are too many simplices to count, or a distance is not a number.
pub fn persistence(distances: &Distances, max_dim: usize, threshold: Option<f64>) -> Result<Diagram> {
    let points = distances.len();
    let mut bars = vec![Vec::new(); max_dim + 1];
    if points == 0 {
        return Ok(Diagram { bars });
    }
    let failed = |e: holos_tda::Error| TopologyError::Engine { points, dimension: max_dim, message: e.to_string() };
    let matrix = DistanceMatrix::from_condensed(central_last(distances)).map_err(failed)?;
    let mut params = RipsParams::new(max_dim);
    params.threshold = threshold;
    let found = rips_persistence(&matrix, &params).map_err(failed)?;
    for bar in found.bars {
        if bar.death > bar.birth {
            bars[bar.dim].push(Bar { birth: bar.birth, death: bar.death.is_finite().then_some(bar.death) });
        }
    }
    let last = |bar: &Bar| bar.death.unwrap_or(f64::INFINITY);
    for bars in &mut bars {
        bars.sort_by(|a, b| a.birth.total_cmp(&b.birth).then(last(a).total_cmp(&last(b))));
    }
    Ok(Diagram { bars })
}

/// The condensed distances of the points in another order, which changes no bar: by their mean distance to all, the largest first. For each edge the
/// engine looks, from the last point to the first, for one that is no farther from both ends than they are from each other, and is done with most
/// edges where it finds one: those are mostly points that are near to many.
fn central_last(distances: &Distances) -> Vec<f64> {
    let n = distances.len();
    let mut sums = vec![0.0; n];
    let mut pairs = distances.condensed().iter();
    for i in 0..n {
        for (j, &distance) in (0..i).zip(&mut pairs) {
            sums[i] += distance;
            sums[j] += distance;
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]));
    distances.among(&order).into_condensed()
}
