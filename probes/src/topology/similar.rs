//! Groups of latents whose decoder rows are alike, as Engels et al. (2024, arXiv:2405.14860) look for features of several dimensions.

use std::f64::consts::PI;

use faer::{Mat, Side};
use ndarray::{Array2, ArrayView2};

use super::clusters::k_means;
use super::error::{Result, TopologyError};

/// Groups of two or more: the connected components of the graph that joins each row with those of its nearest whose cosine is above `least`,
/// the largest first, each in order. `nearest` lists rows and their cosines, as `nearest_decoder_rows` of an SAE gives them.
pub fn linked(nearest: &[Vec<(usize, f64)>], least: f64) -> Vec<Vec<usize>> {
    let mut group: Vec<usize> = (0..nearest.len()).collect();
    for (row, near) in nearest.iter().enumerate() {
        for &(other, _) in near.iter().filter(|(_, cosine)| *cosine > least) {
            let (a, b) = (root(&mut group, row), root(&mut group, other));
            group[a.max(b)] = a.min(b);
        }
    }
    let labels: Vec<usize> = (0..nearest.len()).map(|row| root(&mut group, row)).collect();
    members(&labels, nearest.len())
}

/// Groups by spectral clustering (Ng, Jordan and Weiss 2002; as scikit-learn's `SpectralClustering` has it) with the affinity
/// 1 − arccos(cos)/π: k-means of the rows of the first `count` eigenvectors of the normalised Laplacian, each divided by the root of its
/// row's degree. Groups of one are left out. It takes the time of an eigendecomposition of `[n, n]`.
///
/// # Errors
/// If a row is zero, or the eigenvectors can't be found.
pub fn spectral(rows: ArrayView2<'_, f64>, count: usize, seed: u64) -> Result<Vec<Vec<usize>>> {
    let mut units = rows.to_owned();
    for (row, mut unit) in units.rows_mut().into_iter().enumerate() {
        let norm = unit.dot(&unit).sqrt();
        if norm == 0.0 {
            return Err(TopologyError::Zero { row });
        }
        unit /= norm;
    }
    let cosines = units.dot(&units.t());
    let affinity = cosines.mapv(|cosine| 1.0 - cosine.clamp(-1.0, 1.0).acos() / PI);
    Ok(members(&spectral_labels(affinity.view(), count, seed)?, count))
}

/// The number of each row's cluster, by the first `count` eigenvectors of the normalised Laplacian of a graph's affinities, `[n, n]`.
///
/// # Errors
/// If the eigenvectors can't be found.
pub(super) fn spectral_labels(affinity: ArrayView2<'_, f64>, count: usize, seed: u64) -> Result<Vec<usize>> {
    let n = affinity.nrows();
    // The Laplacian has no diagonal of the affinity's.
    let roots: Vec<f64> =
        (0..n).map(|i| (affinity.row(i).sum() - affinity[[i, i]]).max(f64::MIN_POSITIVE).sqrt()).collect();
    let normalised = Mat::from_fn(n, n, |i, j| if i == j { 1.0 } else { -affinity[[i, j]] / roots[i] / roots[j] });
    let eigen = normalised.self_adjoint_eigen(Side::Lower).map_err(|_| TopologyError::Spectrum)?;
    let embedded = Array2::from_shape_fn((n, count.min(n)), |(i, axis)| eigen.U()[(i, axis)] / roots[i]);
    Ok(k_means(embedded.view(), count, seed))
}

/// The first of a group, by way of which its members are found; the way there is halved.
fn root(group: &mut [usize], mut at: usize) -> usize {
    while group[at] != at {
        group[at] = group[group[at]];
        at = group[at];
    }
    at
}

/// The members of each label below `count`, of those with two or more, the largest group first, then by the first member.
fn members(labels: &[usize], count: usize) -> Vec<Vec<usize>> {
    let mut groups = vec![Vec::new(); count];
    labels.iter().enumerate().for_each(|(row, &label)| groups[label].push(row));
    groups.retain(|group| group.len() > 1);
    groups.sort_by(|a, b| b.len().cmp(&a.len()).then(a[0].cmp(&b[0])));
    groups
}
