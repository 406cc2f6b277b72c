//! k-means.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::distances::squared;

/// Rounds at most.
const ROUNDS: usize = 100;

/// The number of each row's cluster: Lloyd's algorithm from k-means++ (Arthur and Vassilvitskii 2007). Some of the numbers below `count` may be
/// nobody's, as where there are fewer different rows.
pub fn k_means(cloud: ArrayView2<'_, f64>, count: usize, seed: u64) -> Vec<usize> {
    let n = cloud.nrows();
    if n == 0 || count == 0 {
        return vec![0; n];
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut centres: Vec<Array1<f64>> = vec![cloud.row(rng.random_range(0..n)).to_owned()];
    let mut nearest: Vec<f64> = cloud.rows().into_iter().map(|row| squared(row, centres[0].view())).collect();
    while centres.len() < count {
        let total: f64 = nearest.iter().sum();
        if total == 0.0 {
            break;
        }
        let mut left = rng.random::<f64>() * total;
        let next = nearest.iter().position(|&d| {
            left -= d;
            left < 0.0
        });
        let centre = cloud.row(next.unwrap_or(n - 1)).to_owned();
        for (near, row) in nearest.iter_mut().zip(cloud.rows()) {
            *near = near.min(squared(row, centre.view()));
        }
        centres.push(centre);
    }
    let closest = |row: ArrayView1<'_, f64>, centres: &[Array1<f64>]| {
        let distance = |c: &Array1<f64>| squared(row, c.view());
        (0..centres.len()).fold(0, |best, c| if distance(&centres[c]) < distance(&centres[best]) { c } else { best })
    };
    let mut labels = vec![0; n];
    for round in 0..ROUNDS {
        let found: Vec<usize> = cloud.rows().into_iter().map(|row| closest(row, &centres)).collect();
        if round > 0 && found == labels {
            break;
        }
        labels = found;
        let mut sums = Array2::<f64>::zeros((centres.len(), cloud.ncols()));
        let mut counts = vec![0_usize; centres.len()];
        for (&label, row) in labels.iter().zip(cloud.rows()) {
            let mut sum = sums.row_mut(label);
            sum += &row;
            counts[label] += 1;
        }
        for ((centre, sum), &count) in centres.iter_mut().zip(sums.rows()).zip(&counts) {
            if count > 0 {
                *centre = &sum / count as f64;
            }
        }
    }
    labels
}
