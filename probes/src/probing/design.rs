//! What a regression sees of some rows.

use ndarray::{Array2, Axis};
use rayon::prelude::*;

use super::features::Features;

/// The inner products of all rows of a representation, `[rows, rows]`: all that an L2-penalised regression needs of them.
pub struct Gram(Array2<f64>);

impl Gram {
    /// Of every row with every row.
    pub fn of(features: &Features) -> Self {
        let rows = features.rows();
        let products = (0..rows).into_par_iter().flat_map_iter(|at| {
            let mut own = vec![0.0; features.columns()];
            features.row(at).for_each(|(column, value)| own[column] = value);
            (0..rows).map(move |other| features.row(other).map(|(column, value)| own[column] * value).sum::<f64>())
        });
        let products: Vec<f64> = products.collect();
        Self(Array2::from_shape_vec((rows, rows), products).expect("a product a pair"))
    }
}

/// Rows to fit on and rows to predict, without the mean of the former.
///
/// A penalised fit lies in the span of the centred rows (the representer theorem), so where there are more columns than rows the columns
/// are replaced by coordinates in that span, which have the same inner products: decisions stay, weights are those of the coordinates.
pub struct Design {
    /// `[rows, columns]`
    pub train: Array2<f64>,
    /// `[rows, columns]`
    pub test: Array2<f64>,
}

/// Directions with less than this share of the largest row's square are rounding.
const NEGLIGIBLE: f64 = 1e-10;

impl Design {
    /// Of some columns, or all. `gram` is that of all columns.
    pub fn new(
        features: &Features,
        gram: Option<&Gram>,
        train: &[usize],
        test: &[usize],
        columns: Option<&[usize]>,
    ) -> Self {
        match (columns, gram) {
            (None, Some(gram)) if features.columns() > train.len() => Self::in_span(gram, train, test),
            (columns, _) => {
                let all: Vec<usize>;
                let columns = match columns {
                    Some(columns) => columns,
                    None => {
                        all = (0..features.columns()).collect();
                        &all
                    }
                };
                let (train, test) = (features.select(train, columns), features.select(test, columns));
                let means = train.mean_axis(Axis(0)).expect("rows to fit on");
                Self { train: train - &means, test: test - &means }
            }
        }
    }

    /// Coordinates of the centred rows: the pivoted Cholesky factor of their inner products.
    fn in_span(gram: &Gram, train: &[usize], test: &[usize]) -> Self {
        let n = train.len();
        let rows: Vec<usize> = train.iter().chain(test).copied().collect();
        let product = |a: usize, b: usize| gram.0[[rows[a], rows[b]]];
        let with_mean: Vec<f64> =
            (0..rows.len()).map(|a| (0..n).map(|b| product(a, b)).sum::<f64>() / n as f64).collect();
        let of_mean = with_mean[..n].iter().sum::<f64>() / n as f64;
        let centred = |a: usize, b: usize| product(a, b) - with_mean[a] - with_mean[b] + of_mean;
        let mut left: Vec<f64> = (0..n).map(|a| centred(a, a)).collect();
        let enough = NEGLIGIBLE * left.iter().copied().fold(0.0, f64::max);
        let mut coordinates: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
        for _ in 0..n {
            let pivot = (0..n).max_by(|&a, &b| left[a].total_cmp(&left[b]).then(b.cmp(&a))).expect("rows to fit on");
            if left[pivot] <= enough {
                break;
            }
            let (length, along) = (left[pivot].sqrt(), coordinates[pivot].clone());
            for (a, own) in coordinates.iter_mut().enumerate() {
                let known: f64 = own.iter().zip(&along).map(|(x, y)| x * y).sum();
                let next = (centred(a, pivot) - known) / length;
                own.push(next);
                if a < n {
                    left[a] -= next * next;
                }
            }
            // What is left of it is rounding, and it is not to be chosen again.
            left[pivot] = 0.0;
        }
        let columns = coordinates[0].len();
        let matrix = |rows: &[Vec<f64>]| {
            Array2::from_shape_vec((rows.len(), columns), rows.concat()).expect("rows of one length")
        };
        Self { train: matrix(&coordinates[..n]), test: matrix(&coordinates[n..]) }
    }

    /// Divides all by the root of the mean square of the rows to fit on, so that one grid of penalties suits every representation; rows
    /// that are all alike stay.
    #[must_use]
    pub fn scaled(mut self) -> Self {
        let square = self.train.iter().map(|v| v * v).sum::<f64>() / self.train.nrows() as f64;
        if square > 0.0 {
            let scale = square.sqrt();
            self.train /= scale;
            self.test /= scale;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probing::logistic::fit;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn a_fit_in_the_rows_span_decides_as_one_in_all_columns_does() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut value = || if rng.random::<f64>() < 0.4 { rng.random_range(-2.0..5.0) } else { 0.0 };
        let mut dense = Array2::from_shape_fn((30, 50), |_| value());
        // Two rows alike, so that the span is smaller than the number of rows.
        let first = dense.row(0).to_owned();
        dense.row_mut(3).assign(&first);
        let features = Features::dense(&dense);
        let gram = Gram::of(&features);
        let (train, test): (Vec<usize>, Vec<usize>) = ((0..20).collect(), (20..30).collect());
        let labels: Vec<bool> = train.iter().map(|row| row % 3 == 0).collect();
        let wide = Design::new(&features, None, &train, &test, None).scaled();
        let narrow = Design::new(&features, Some(&gram), &train, &test, None).scaled();
        assert_eq!((wide.train.ncols(), narrow.train.ncols()), (50, 18));
        for c in [0.01, 1.0, 1000.0] {
            let [a, b] = [&wide, &narrow].map(|design| fit(&design.train, &labels, c, None).decisions(&design.test));
            for (a, b) in a.into_iter().zip(b) {
                assert!((a - b).abs() < 1e-6 * (1.0 + a.abs()), "{c}: {a} {b}");
            }
        }
    }
}
