//! Whether a plane of a feature is more than two separate features, or a mixture of sparse ones: the indices of Engels et al. (2024,
//! arXiv:2405.14860).

use std::f64::consts::{PI, TAU};

use ndarray::{Array2, ArrayView2, Axis, s};
use serde::{Deserialize, Serialize};

use super::error::{Result, TopologyError};
use super::spectrum::Axes;

/// Angles at which separability is looked at, from 0 to a full turn, both ends among them.
const ANGLES: usize = 100;
/// Bins of each axis.
const BINS: usize = 10;
/// Directions of the mixture's line, over half a turn.
const DIRECTIONS: usize = 180;
/// ε of the mixture index.
pub const EPSILON: f64 = 0.1;
/// Principal components whose neighbouring pairs are planes.
const COMPONENTS: usize = 5;

/// Two neighbouring principal components of a cloud, and what the indices say of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plane {
    /// Their numbers, from 0.
    pub components: [usize; 2],
    /// Points that are counted.
    pub points: usize,
    /// See [`separability`].
    pub separability: f64,
    /// See [`mixture`].
    pub mixture: f64,
}

/// The planes of neighbouring components among the first five of a cloud. Points of a plane within `radius` of its centre are left out of
/// it. Planes of fewer than two points, or whose points are all one, are left out.
///
/// # Errors
/// If the cloud has no point, or its eigenvalues can't be found.
pub fn planes(cloud: ArrayView2<'_, f64>, radius: f64) -> Result<Vec<Plane>> {
    let points = cloud.nrows();
    if points == 0 {
        return Err(TopologyError::TooFew { points, needed: 1, what: "a plane" });
    }
    let scores = Axes::of(cloud)?.scores(cloud, COMPONENTS);
    let mut found = Vec::new();
    for first in 0..scores.ncols().saturating_sub(1) {
        let plane = scores.slice(s![.., first..first + 2]);
        let far: Vec<usize> = (0..points).filter(|&i| plane.row(i).dot(&plane.row(i)).sqrt() > radius).collect();
        let plane: Array2<f64> = plane.select(Axis(0), &far);
        if let (Some(separability), Some(mixture)) = (separability(plane.view()), mixture(plane.view(), EPSILON)) {
            found.push(Plane { components: [first, first + 1], points: far.len(), separability, mixture });
        }
    }
    Ok(found)
}

/// S: the least mutual information, over rotations of the plane, of its two coordinates, in bits, by 10 × 10 bins from the least to the
/// largest value of each; 0 where a rotation makes them independent, so that there are two features and not one of two dimensions. Of n
/// points without any dependence about 81/(2n ln 2) bits are found. `None` of fewer than two different points.
pub fn separability(plane: ArrayView2<'_, f64>) -> Option<f64> {
    if plane.rows().into_iter().all(|row| row == plane.row(0)) {
        return None;
    }
    let at = |turn: usize| {
        let (sin, cos) = (TAU * turn as f64 / (ANGLES - 1) as f64).sin_cos();
        let turned = |row: [f64; 2]| [row[0] * cos + row[1] * sin, row[1] * cos - row[0] * sin];
        information(&plane.rows().into_iter().map(|row| turned([row[0], row[1]])).collect::<Vec<_>>())
    };
    (0..ANGLES).map(at).min_by(f64::total_cmp)
}

/// The mutual information of two coordinates by their joint histogram, in bits.
fn information(points: &[[f64; 2]]) -> f64 {
    let bins: [Vec<usize>; 2] = [0, 1].map(|axis| {
        let values = || points.iter().map(|point| point[axis]);
        let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        // The last bin has its upper end.
        let bin = |value: f64| (((value - low) / (high - low) * BINS as f64) as usize).min(BINS - 1);
        values().map(|value| if high > low { bin(value) } else { 0 }).collect()
    });
    let mut joint = [[0.0; BINS]; BINS];
    for (&x, &y) in bins[0].iter().zip(&bins[1]) {
        joint[x][y] += 1.0 / points.len() as f64;
    }
    let rows = joint.map(|row| row.iter().sum::<f64>());
    let columns: [f64; BINS] = std::array::from_fn(|y| joint.iter().map(|row| row[y]).sum());
    let term = |x: usize, y: usize| {
        if joint[x][y] > 0.0 { joint[x][y] * (joint[x][y] / (rows[x] * columns[y])).log2() } else { 0.0 }
    };
    (0..BINS).flat_map(|x| (0..BINS).map(move |y| (x, y))).map(|(x, y)| term(x, y)).sum::<f64>().max(0.0)
}

/// M: the largest share of points with |v·x + c| ≤ ε·√mean((v·x + c)²) over lines (v, c): large where many points lie on a line, as where a
/// feature is mostly absent. A Gaussian has erf(ε/√2), 0.080 at ε 0.1.
///
/// c is found exactly, at each of 180 directions v; the paper's code climbs from one random start. `None` of fewer than two different points.
pub fn mixture(plane: ArrayView2<'_, f64>, epsilon: f64) -> Option<f64> {
    if plane.rows().into_iter().all(|row| row == plane.row(0)) {
        return None;
    }
    let along = |direction: usize| {
        let (sin, cos) = (PI * direction as f64 / DIRECTIONS as f64).sin_cos();
        let mut values: Vec<f64> = plane.rows().into_iter().map(|row| row[0] * cos + row[1] * sin).collect();
        values.sort_by(f64::total_cmp);
        largest_share(&values, epsilon)
    };
    (0..DIRECTIONS).map(along).max_by(f64::total_cmp)
}

/// The largest share of sorted values within ε·√(variance + (t − mean)²) of any t. A window that holds most can be moved until one of the
/// values is at its lower end; t is then a root of a square equation.
fn largest_share(values: &[f64], epsilon: f64) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    let slack = 1e-9 * (variance.sqrt() + values[0].abs().max(values[values.len() - 1].abs()));
    let most = values.iter().map(|low| {
        // (t − low)² = ε²(variance + (t − mean)²) with u = t − mean; the root above `low`.
        let (a, b) = (1.0 - epsilon * epsilon, low - mean);
        let u = (b + epsilon * (a * variance + b * b).sqrt()) / a;
        let reach = epsilon * (variance + u * u).sqrt();
        let from = values.partition_point(|v| *v < mean + u - reach - slack);
        values.partition_point(|v| *v <= mean + u + reach + slack) - from
    });
    most.max().unwrap_or(0) as f64 / n
}
