//! Geometry and topology of each point's neighbourhood, as features: the utility analysis of Obiohagwu's audit (2026).

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::distances::Distances;
use super::error::{Result, TopologyError};
use super::rips::persistence;
use super::spectrum::Axes;
use super::statistics::BarStatistics;
use crate::stats::quantile;

/// A point and its k nearest neighbours. Standard deviations are those of the population.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbourhood {
    /// The neighbours, nearest first.
    pub neighbours: Vec<usize>,
    /// Of the point's distances to them.
    pub mean_neighbor_distance: f64,
    /// The same.
    pub std_neighbor_distance: f64,
    /// The 90th percentile.
    pub p90_neighbor_distance: f64,
    /// The same.
    pub max_neighbor_distance: f64,
    /// Of the distances of all pairs of the patch, the point included.
    pub patch_distance_mean: f64,
    /// The same.
    pub patch_distance_std: f64,
    /// 1/(mean + 10⁻⁸)
    pub density: f64,
    /// (Σσ²)²/Σσ⁴ of the patch's principal variances; `None` where all its points are equal.
    pub participation_ratio: Option<f64>,
    /// The share of variance beyond the first three components.
    pub pca3_residual: Option<f64>,
    /// The patch's bars of dimension 1.
    pub bars: BarStatistics,
}

/// The neighbourhood of a point of a cloud.
///
/// # Errors
/// If the cloud has no more than `k` points, or the engine refuses.
pub fn neighbourhood(
    cloud: ArrayView2<'_, f64>,
    distances: &Distances,
    point: usize,
    k: usize,
) -> Result<Neighbourhood> {
    let (points, needed) = (distances.len(), k + 1);
    if points < needed || k == 0 {
        return Err(TopologyError::TooFew { points, needed: needed.max(2), what: "so many neighbours" });
    }
    let neighbours = distances.nearest(point, k);
    let patch: Vec<usize> = std::iter::once(point).chain(neighbours.iter().copied()).collect();
    let near: Vec<f64> = neighbours.iter().map(|&j| distances.at(point, j)).collect();
    let among = distances.among(&patch);
    let (near_mean, near_std) = moments(&near);
    let (patch_distance_mean, patch_distance_std) = moments(among.condensed());
    let rows: Array2<f64> = cloud.select(Axis(0), &patch);
    let variances = Axes::of(rows.view())?.variances;
    let (total, squares) = (variances.sum(), variances.iter().map(|v| v * v).sum::<f64>());
    let varies = |value: f64| (total > 0.0).then_some(value);
    Ok(Neighbourhood {
        mean_neighbor_distance: near_mean,
        std_neighbor_distance: near_std,
        p90_neighbor_distance: quantile(&near, 0.9).unwrap_or(f64::NAN),
        max_neighbor_distance: near.last().copied().unwrap_or(f64::NAN),
        patch_distance_mean,
        patch_distance_std,
        density: 1.0 / (near_mean + 1e-8),
        participation_ratio: varies(total * total / squares),
        pca3_residual: varies(variances.iter().skip(3).sum::<f64>() / total),
        bars: BarStatistics::of(&persistence(&among, 1, None)?.finite(1)),
        neighbours,
    })
}

/// Mean and population standard deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}
