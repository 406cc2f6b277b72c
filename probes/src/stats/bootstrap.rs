//! The bootstrap over sequences (Efron 1979): one draw of indices, shared by everything that is compared.

use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::quantile::quantile;

/// A percentile interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// The percentile interval of `level` (0.95 for 95 %), ends interpolated as numpy does. `None` if
    /// a replicate is undefined or there is none.
    pub fn percentile(replicates: &[Option<f64>], level: f64) -> Option<Self> {
        let mut sorted: Vec<f64> = replicates.iter().copied().collect::<Option<_>>()?;
        sorted.sort_by(f64::total_cmp);
        let tail = (1.0 - level) / 2.0;
        Some(Self { low: quantile(&sorted, tail)?, high: quantile(&sorted, 1.0 - tail)? })
    }

    /// Whether the interval holds no zero.
    pub fn excludes_zero(&self) -> bool {
        self.low > 0.0 || self.high < 0.0
    }
}

/// Resampled indices: `replicates` rows of `items` indices below `items`.
///
/// Everything measured on the same sequences is resampled by the same rows, so that every
/// difference between two of them is paired.
#[derive(Clone, Debug)]
pub struct Resamples {
    items: usize,
    indices: Vec<u32>,
}

impl Resamples {
    /// Draws uniformly with replacement.
    pub fn draw(items: usize, replicates: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let indices = (0..items * replicates).map(|_| rng.random_range(0..items as u32)).collect();
        Self { items, indices }
    }

    /// Takes a given index matrix, row by row, to compare with another program exactly. `None` if a row
    /// is cut short or an index is out of range.
    pub fn from_indices(items: usize, indices: Vec<u32>) -> Option<Self> {
        let whole = items > 0 && indices.len().is_multiple_of(items);
        (whole && indices.iter().all(|&i| (i as usize) < items)).then_some(Self { items, indices })
    }

    /// How often each item is in each replicate, `[replicates, items]`: sums over a replicate's items are a product with it.
    pub fn counts(&self) -> Array2<f64> {
        let mut counts = Array2::zeros((self.indices.len() / self.items.max(1), self.items));
        for (mut row, indices) in counts.rows_mut().into_iter().zip(self.indices.chunks(self.items.max(1))) {
            indices.iter().for_each(|&i| row[i as usize] += 1.0);
        }
        counts
    }

    /// The value of a statistic in every replicate; it is given the indices of the replicate's items.
    pub fn map<T: Send>(&self, statistic: impl Fn(&[u32]) -> T + Send + Sync) -> Vec<T> {
        if self.items == 0 {
            return Vec::new();
        }
        self.indices.par_chunks(self.items).map(statistic).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mean(values: &[f64]) -> impl Fn(&[u32]) -> Option<f64> + Sync + '_ {
        |rows| Some(rows.iter().map(|&i| values[i as usize]).sum::<f64>() / rows.len() as f64)
    }

    /// ```python
    /// x = np.array([1.5, 2.5, 4.0, 8.0]); i = np.array([[0,1,2,3],[3,3,1,0],[2,2,2,1],[0,0,3,1],[1,3,2,2]])
    /// m = x[i].mean(1); np.quantile(m, [.025, .975])   # array([3.4   , 4.9625])
    /// ```
    #[test]
    fn agrees_with_numpy_on_the_same_indices() {
        let values = [1.5, 2.5, 4.0, 8.0];
        let rows = vec![0, 1, 2, 3, 3, 3, 1, 0, 2, 2, 2, 1, 0, 0, 3, 1, 1, 3, 2, 2];
        let resamples = Resamples::from_indices(4, rows).unwrap();
        let interval = Interval::percentile(&resamples.map(mean(&values)), 0.95).unwrap();
        assert!((interval.low - 3.4).abs() < 1e-12, "{interval:?}");
        assert!((interval.high - 4.9625).abs() < 1e-12, "{interval:?}");
        assert!(Resamples::from_indices(4, vec![0, 1, 2, 4]).is_none());
        assert!(Resamples::from_indices(4, vec![0, 1, 2]).is_none());
    }

    proptest! {
        #[test]
        fn the_interval_of_a_mean_lies_within_the_data_and_around_its_middle(
            values in prop::collection::vec(-100.0..100.0f64, 2..40), seed in 0u64..1000,
        ) {
            let resamples = Resamples::draw(values.len(), 400, seed);
            let interval = Interval::percentile(&resamples.map(mean(&values)), 0.95).unwrap();
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let middle = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!(low - 1e-9 <= interval.low && interval.high <= high + 1e-9);
            prop_assert!(interval.low <= middle + 1e-9 && middle <= interval.high + 1e-9);
        }

        #[test]
        fn a_seed_gives_the_same_draw(seed in 0u64..1000) {
            prop_assert_eq!(Resamples::draw(7, 20, seed).indices, Resamples::draw(7, 20, seed).indices);
        }
    }

    #[test]
    fn an_undefined_replicate_leaves_no_interval() {
        assert_eq!(Interval::percentile(&[Some(1.0), None], 0.95), None);
        assert_eq!(Interval::percentile(&[], 0.95), None);
    }
}
