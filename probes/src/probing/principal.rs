//! A representation in the basis of its principal components.

use faer::{Mat, Side};
use ndarray::{Array2, Axis};

use super::features::Features;
use crate::error::{ProbeError, Result};

/// The rows in the basis of the principal components of `train`, the largest first: a rotation of the columns about the mean of
/// those rows, so that a probe of all of them is one of the representation itself. No label is looked at.
///
/// # Errors
/// If the components can't be found.
pub fn principal(features: &Features, train: &[usize]) -> Result<Features> {
    let all = features.to_dense();
    let columns = all.ncols();
    let fitted = all.select(Axis(0), train);
    let means = fitted.mean_axis(Axis(0)).ok_or(ProbeError::Spectrum)?;
    let centred = fitted - &means;
    let covariance = centred.t().dot(&centred);
    let matrix = Mat::from_fn(columns, columns, |row, column| covariance[[row, column]]);
    let eigen = matrix.self_adjoint_eigen(Side::Lower).map_err(|_| ProbeError::Spectrum)?;
    let basis = Array2::from_shape_fn((columns, columns), |(row, at)| eigen.U()[(row, columns - 1 - at)]);
    Ok(Features::dense(&(all - &means).dot(&basis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_uncorrelated_and_ordered_and_keep_distances() {
        let at = |row: usize, column: usize| (((row * 7 + column * 3) % 11) as f64) * (1.0 + column as f64) + 5.0;
        let dense = Array2::from_shape_fn((20, 3), |(row, column)| at(row, column));
        let train: Vec<usize> = (0..15).collect();
        let found = principal(&Features::dense(&dense), &train).unwrap().to_dense();
        let fitted = found.select(Axis(0), &train);
        let products = fitted.t().dot(&fitted);
        assert!(products[[0, 0]] >= products[[1, 1]] && products[[1, 1]] >= products[[2, 2]]);
        assert!(products[[0, 1]].abs() + products[[0, 2]].abs() + products[[1, 2]].abs() < 1e-8 * products[[0, 0]]);
        let distance = |of: &Array2<f64>| (&of.row(2) - &of.row(18)).mapv(|v| v * v).sum();
        assert!((distance(&dense) - distance(&found)).abs() < 1e-9 * distance(&dense));
    }
}
