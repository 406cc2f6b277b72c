//! A few points that stand for all of a cloud.

use ndarray::{Array2, ArrayView2, Axis};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;

use super::distances::Distances;

/// Some of a cloud's rows, chosen at random without replacement, in their order; all where there are no more.
pub fn subsample(cloud: ArrayView2<'_, f64>, count: usize, seed: u64) -> Array2<f64> {
    let mut rows = sample(&mut ChaCha8Rng::seed_from_u64(seed), cloud.nrows(), count.min(cloud.nrows())).into_vec();
    rows.sort_unstable();
    cloud.select(Axis(0), &rows)
}

/// Farthest-point sampling (Gonzalez 1985) from `first`: each next point is the one whose nearest chosen point is farthest; ties to the
/// lowest index. Stops early where only copies of chosen points are left.
///
/// Outliers are chosen first (Stolz 2023, JMLR 24:1): [`without_outliers`] before it.
pub fn landmarks(distances: &Distances, first: usize, count: usize) -> Vec<usize> {
    let n = distances.len();
    if count == 0 || first >= n {
        return Vec::new();
    }
    let mut chosen = vec![first];
    let mut nearest: Vec<f64> = (0..n).map(|i| distances.at(i, first)).collect();
    while chosen.len() < count.min(n) {
        let next = (0..n).fold(0, |best, i| if nearest[i] > nearest[best] { i } else { best });
        if nearest[next] == 0.0 {
            break;
        }
        chosen.push(next);
        for (i, near) in nearest.iter_mut().enumerate() {
            *near = near.min(distances.at(i, next));
        }
    }
    chosen
}

/// The points that are left, in their order, when the given share of them is dropped whose `k`-th nearest neighbour is farthest; of equals
/// the later are dropped.
pub fn without_outliers(distances: &Distances, k: usize, share: f64) -> Vec<usize> {
    let n = distances.len();
    let drop = (share.clamp(0.0, 1.0) * n as f64).floor() as usize;
    let reach = |i: usize| distances.nearest(i, k).last().map_or(0.0, |&j| distances.at(i, j));
    let reaches: Vec<f64> = (0..n).map(reach).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| reaches[a].total_cmp(&reaches[b]));
    order.truncate(n - drop);
    order.sort_unstable();
    order
}
