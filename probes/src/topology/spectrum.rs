//! Means, covariances and principal axes of a cloud.

use faer::{Mat, Side};
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::error::{Result, TopologyError};

/// A cloud's mean and the eigenvectors of its covariance.
#[derive(Clone, Debug)]
pub struct Axes {
    /// `[d]`
    pub mean: Array1<f64>,
    /// Variances along the axes, largest first, divided by n; `[d]`.
    pub variances: Array1<f64>,
    /// The axes as columns, `[d, d]`.
    pub axes: Array2<f64>,
}

impl Axes {
    /// Of a cloud `[n, d]`, n at least 1.
    ///
    /// # Errors
    /// If the eigenvalues can't be found.
    pub fn of(cloud: ArrayView2<'_, f64>) -> Result<Self> {
        let points = cloud.nrows();
        let mean = cloud.mean_axis(Axis(0)).ok_or(TopologyError::TooFew { points, needed: 1, what: "a mean" })?;
        let centred = &cloud - &mean;
        let covariance = centred.t().dot(&centred) / points as f64;
        let d = covariance.nrows();
        let matrix = Mat::from_fn(d, d, |i, j| covariance[[i, j]]);
        let eigen = matrix.self_adjoint_eigen(Side::Lower).map_err(|_| TopologyError::Spectrum)?;
        let variances = Array1::from_shape_fn(d, |i| eigen.S()[d - 1 - i].max(0.0));
        let axes = Array2::from_shape_fn((d, d), |(row, i)| {
            // A sign of its own: the entry of largest size is positive.
            let column = eigen.U().col(d - 1 - i);
            let largest = (0..d).fold(0, |best, r| if column[r].abs() > column[best].abs() { r } else { best });
            if column[largest] < 0.0 { -column[row] } else { column[row] }
        });
        Ok(Self { mean, variances, axes })
    }

    /// The cloud's coordinates along the first `k` axes, or all where there are fewer.
    pub fn scores(&self, cloud: ArrayView2<'_, f64>, k: usize) -> Array2<f64> {
        let k = k.min(self.axes.ncols());
        (&cloud - &self.mean).dot(&self.axes.slice(s![.., ..k]))
    }

    /// The points that have these coordinates along the first axes.
    pub fn points(&self, scores: ArrayView2<'_, f64>) -> Array2<f64> {
        scores.dot(&self.axes.slice(s![.., ..scores.ncols()]).t()) + &self.mean
    }
}

/// A cloud's coordinates along its first `k` principal axes, `[n, k]`, or as many as there are: as [`Axes::scores`], but for signs. Where there
/// are more dimensions than points, by the eigenvectors of the points' products, which are fewer.
///
/// # Errors
/// If the eigenvalues can't be found, or there is no point.
pub fn principal_scores(cloud: ArrayView2<'_, f64>, k: usize) -> Result<Array2<f64>> {
    let (points, d) = cloud.dim();
    if d <= points {
        return Ok(Axes::of(cloud)?.scores(cloud, k));
    }
    let mean = cloud.mean_axis(Axis(0)).ok_or(TopologyError::TooFew { points, needed: 1, what: "a mean" })?;
    let centred = &cloud - &mean;
    let products = centred.dot(&centred.t());
    let matrix = Mat::from_fn(points, points, |i, j| products[[i, j]]);
    let eigen = matrix.self_adjoint_eigen(Side::Lower).map_err(|_| TopologyError::Spectrum)?;
    // Of products UΛUᵀ the scores are U√Λ.
    let from_largest = |axis: usize| points - 1 - axis;
    let length = |axis: usize| eigen.S()[from_largest(axis)].max(0.0).sqrt();
    Ok(Array2::from_shape_fn((points, k.min(points)), |(i, axis)| eigen.U()[(i, from_largest(axis))] * length(axis)))
}

/// How much of a covariance is replaced by a multiple of the identity: the shrinkage of Ledoit and Wolf (2004), as
/// `sklearn.covariance.ledoit_wolf_shrinkage` computes it.
pub fn ledoit_wolf(cloud: ArrayView2<'_, f64>) -> f64 {
    let (n, d) = (cloud.nrows() as f64, cloud.ncols() as f64);
    let Some(mean) = cloud.mean_axis(Axis(0)) else { return 0.0 };
    let centred = &cloud - &mean;
    let covariance = centred.t().dot(&centred) / n;
    let squares: f64 = centred.rows().into_iter().map(|row| row.dot(&row).powi(2)).sum();
    let trace: f64 = covariance.diag().sum();
    let norm: f64 = covariance.iter().map(|c| c * c).sum();
    let mu = trace / d;
    let beta = (squares / n - norm) / (n * d);
    let delta = (norm - 2.0 * mu * trace + d * mu * mu) / d;
    // Of two points it is 0, and by rounding less.
    let beta = beta.min(delta).max(0.0);
    if beta == 0.0 { 0.0 } else { beta / delta }
}
