//! Ridge regression whose penalty is chosen by leaving out one row at a time, as scikit-learn's `StandardScaler` and `RidgeCV` have it.

use faer::{Mat, Side};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use super::error::{Result, TopologyError};
use crate::stats::{mean, spearman};

/// Penalties that are tried: 10⁻³ to 10³ in half steps of their logarithm.
const PENALTIES: usize = 13;

/// Values that differ by less than this share of the largest differ by rounding: means of the same numbers added in another order do.
const ROUNDING: f64 = 1e-12;

/// Whether values differ by more than rounding.
pub(super) fn vary(values: &[f64]) -> bool {
    let [low, high, largest] =
        values.iter().fold([f64::INFINITY, f64::NEG_INFINITY, 0.0], |[low, high, largest], &v| {
            [low.min(v), high.max(v), f64::max(largest, v.abs())]
        });
    high - low > ROUNDING * largest
}

/// How well a column is predicted from others on rows that it was not fitted on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The penalty with the least squared error of rows that are left out one at a time.
    pub penalty: f64,
    /// 1 − Σ(y − ŷ)²/Σ(y − ȳ)² on the test rows; `None` where y does not vary there.
    pub r2: Option<f64>,
    /// The rank correlation of y and ŷ there; `None` where one of them does not vary.
    pub spearman: Option<f64>,
}

/// Fits `y`, `[n]`, by the columns of `x`, `[n, d]`, on the rows `train`, and predicts it on the rows `test`. Columns are centred and scaled by their standard
/// deviation on the training rows, those that do not vary by 1; the intercept is not penalised.
///
/// # Errors
/// If there are fewer than two training rows, or eigenvalues can't be found.
pub fn ridge(x: ArrayView2<'_, f64>, y: &[f64], train: &[usize], test: &[usize]) -> Result<Fit> {
    let points = train.len();
    let few = TopologyError::TooFew { points, needed: 2, what: "a ridge regression" };
    let fitted: Array2<f64> = x.select(Axis(0), train);
    let centre = fitted.mean_axis(Axis(0)).filter(|_| points > 1).ok_or(few)?;
    let scale = |column: ArrayView1<'_, f64>| if vary(&column.to_vec()) { column.std(0.0) } else { 1.0 };
    let scale: Array1<f64> = fitted.columns().into_iter().map(scale).collect();
    let scaled = |rows: Array2<f64>| (rows - &centre) / &scale;
    let (x_train, x_test) = (scaled(fitted), scaled(x.select(Axis(0), test)));
    let of = |rows: &[usize]| rows.iter().map(|&row| y[row]).collect::<Array1<f64>>();
    let (y_train, y_test) = (of(train), of(test));
    let level = y_train.sum() / points as f64;
    let y_train = y_train - level;
    // With XᵀX = VΛVᵀ all penalties share the scores XV.
    let d = x_train.ncols();
    let products = x_train.t().dot(&x_train);
    let matrix = Mat::from_fn(d, d, |i, j| products[[i, j]]);
    let eigen = matrix.self_adjoint_eigen(Side::Lower).map_err(|_| TopologyError::Spectrum)?;
    let axes = Array2::from_shape_fn((d, d), |(row, axis)| eigen.U()[(row, axis)]);
    let squares = Array1::from_shape_fn(d, |axis| eigen.S()[axis].max(0.0));
    let scores = x_train.dot(&axes);
    let along = scores.t().dot(&y_train);
    let error = |penalty: f64| -> f64 {
        let weights = &along / &(&squares + penalty);
        let left_out = scores.rows().into_iter().zip(&y_train).map(|(row, &y)| {
            let leverage: f64 = row.iter().zip(&squares).map(|(s, square)| s * s / (square + penalty)).sum();
            // The intercept takes 1/n of every row.
            (y - row.dot(&weights)) / (1.0 - 1.0 / points as f64 - leverage)
        });
        left_out.map(|e| e * e).sum()
    };
    let penalty = (0..PENALTIES)
        .map(|step| 10.0_f64.powf(step as f64 / 2.0 - 3.0))
        .map(|penalty| (penalty, error(penalty)))
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map_or(1.0, |(penalty, _)| penalty);
    let found = x_test.dot(&axes).dot(&(&along / &(&squares + penalty))) + level;
    let (found, y_test) = (found.to_vec(), y_test.to_vec());
    if !vary(&y_test) {
        return Ok(Fit { penalty, r2: None, spearman: None });
    }
    let middle = mean(&y_test);
    let total = middle.map(|middle| y_test.iter().map(|y| (y - middle).powi(2)).sum::<f64>());
    let missed: f64 = y_test.iter().zip(&found).map(|(y, f)| (y - f).powi(2)).sum();
    Ok(Fit {
        penalty,
        r2: total.map(|total| 1.0 - missed / total),
        spearman: vary(&found).then(|| spearman(&y_test, &found)).flatten(),
    })
}
