//! L2-penalised logistic regression, solved to the end: the probe of every protocol here.
//!
//! It minimises, as scikit-learn's `LogisticRegression(C)` does, ½‖w‖² + C Σ log(1 + exp(−s(x·w + b))), s = ±1, the intercept b without a
//! penalty; with `class_weight="balanced"` each term of the sum counts n/(2·n of its class) ([`fit_balanced`]). The minimum is unique, so that
//! any solver that gets there finds the same numbers; this is Newton's method (iteratively reweighted least squares) with a line search, which
//! ends when the gradient is 0 but for rounding.

use faer::linalg::solvers::Solve as _;
use faer::{Mat, Side};
use ndarray::{Array1, Array2, ArrayView1};

/// A fitted probe.
#[derive(Clone, Debug)]
pub struct Fit {
    /// A weight a column.
    pub weights: Array1<f64>,
    /// The intercept.
    pub intercept: f64,
    /// The largest element of the gradient of ½‖w‖²/C + Σ log(…), divided by that at w = 0 where this is above 1.
    pub gradient: f64,
}

/// What [`Fit::gradient`] has to come below.
pub const TOLERANCE: f64 = 1e-8;
const MOST_STEPS: usize = 200;
/// A step of this share of the parameters is the last: what is left is about its square.
const LAST_STEP: f64 = 1e-7;

impl Fit {
    /// Whether the gradient is below [`TOLERANCE`].
    pub fn has_converged(&self) -> bool {
        self.gradient <= TOLERANCE
    }

    /// x·w + b of each row: the logarithm of the odds of the positive class.
    pub fn decisions(&self, x: &Array2<f64>) -> Vec<f64> {
        (x.dot(&self.weights) + self.intercept).to_vec()
    }
}

/// Fits rows `x`, `[rows, columns]`, with their labels, beginning at another fit of the same columns if one is given.
///
/// # Panics
/// If there are not as many labels as rows, or a class has none: the intercept would be infinite.
pub fn fit(x: &Array2<f64>, labels: &[bool], c: f64, from: Option<&Fit>) -> Fit {
    solve(x, labels, [1.0; 2], c, from)
}

/// The same where both classes count alike, however many rows each has: a term of the sum counts n/(2·n of its class).
///
/// # Panics
/// As [`fit`].
pub fn fit_balanced(x: &Array2<f64>, labels: &[bool], c: f64, from: Option<&Fit>) -> Fit {
    let positive = labels.iter().filter(|&&label| label).count();
    let share = |rows: usize| labels.len() as f64 / (2 * rows.max(1)) as f64;
    solve(x, labels, [share(labels.len() - positive), share(positive)], c, from)
}

/// Fits with the weight that a term of each class has, the negative one first.
fn solve(x: &Array2<f64>, labels: &[bool], class_weights: [f64; 2], c: f64, from: Option<&Fit>) -> Fit {
    assert_eq!(x.nrows(), labels.len(), "a label a row");
    let positive = labels.iter().filter(|&&label| label).count();
    assert!(0 < positive && positive < labels.len(), "both classes have rows");
    // The intercept is free, so centred columns have the same weights, and the equations are better conditioned.
    let means = x.mean_axis(ndarray::Axis(0)).expect("rows");
    let counted = labels.iter().map(|&label| class_weights[usize::from(label)]).collect();
    let problem = Problem { x: x - &means, labels, counted, ridge: 1.0 / c };
    let zero = Array1::zeros(x.ncols());
    let odds = (class_weights[1] * positive as f64 / (class_weights[0] * (labels.len() - positive) as f64)).ln();
    let (mut w, mut b) = match from {
        Some(fit) => (fit.weights.clone(), fit.intercept + means.dot(&fit.weights)),
        None => (zero.clone(), odds),
    };
    let scale = problem.at(&zero, 0.0).largest().max(1.0);
    let mut here = problem.at(&w, b);
    for _ in 0..MOST_STEPS {
        let Some((dw, db)) = problem.newton(&here) else { break };
        let slope = dw.dot(&here.w) + db * here.b;
        let mut length = 1.0;
        let next = loop {
            let (to_w, to_b) = (&w + &(&dw * length), b + db * length);
            let there = problem.at(&to_w, to_b);
            // Near the minimum the value no longer tells one point from another, and rounding may raise it.
            let rounding = 1e-13 * (1.0 + here.value.abs());
            if there.value <= here.value + 1e-4 * length * slope + rounding {
                break Some((to_w, to_b, there));
            }
            length /= 2.0;
            if length < 1e-10 {
                break None;
            }
        };
        let Some((to_w, to_b, there)) = next else { break };
        if there.largest() >= here.largest() && there.value >= here.value {
            break;
        }
        let size = |w: &Array1<f64>, b: f64| w.iter().fold(b.abs(), |largest, w| largest.max(w.abs()));
        let last = size(&dw, db) <= LAST_STEP * (1.0 + size(&to_w, to_b));
        (w, b, here) = (to_w, to_b, there);
        if last {
            break;
        }
    }
    Fit { intercept: b - means.dot(&w), weights: w, gradient: here.largest() / scale }
}

struct Problem<'a> {
    x: Array2<f64>,
    labels: &'a [bool],
    /// How much each row counts.
    counted: Array1<f64>,
    ridge: f64,
}

/// The objective at a point, its gradient, and the variances p(1 − p) of the labels there, times what each row counts.
struct Point {
    value: f64,
    w: Array1<f64>,
    b: f64,
    variances: Array1<f64>,
}

impl Point {
    fn largest(&self) -> f64 {
        self.w.iter().fold(self.b.abs(), |largest, g| largest.max(g.abs()))
    }
}

/// log(1 + exp(x)) without overflow.
pub fn log1p_exp(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// 1/(1 + exp(−x)) without overflow.
pub fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

impl Problem<'_> {
    fn at(&self, w: &Array1<f64>, b: f64) -> Point {
        let decisions = self.x.dot(w) + b;
        let value = |(d, &label): (&f64, &bool)| log1p_exp(if label { -d } else { *d });
        let losses: f64 =
            decisions.iter().zip(self.labels).zip(&self.counted).map(|(of, counts)| counts * value(of)).sum();
        let p = decisions.mapv(sigmoid);
        let label = ArrayView1::from(self.labels).mapv(|label| f64::from(u8::from(label)));
        let residuals = (&p - &label) * &self.counted;
        Point {
            value: 0.5 * self.ridge * w.dot(w) + losses,
            w: self.x.t().dot(&residuals) + w * self.ridge,
            b: residuals.sum(),
            // As a product of the two tails: 1 − p rounds to 0 long before the other tail does.
            variances: decisions.mapv(|d| sigmoid(d) * sigmoid(-d)) * &self.counted,
        }
    }

    /// The step that solves H·step = −gradient; `None` where H is singular to rounding.
    fn newton(&self, at: &Point) -> Option<(Array1<f64>, f64)> {
        let columns = self.x.ncols();
        let weighted = &self.x * &at.variances.view().insert_axis(ndarray::Axis(1));
        let mut hessian = self.x.t().dot(&weighted);
        hessian.diag_mut().iter_mut().for_each(|h| *h += self.ridge);
        let beside = weighted.sum_axis(ndarray::Axis(0));
        // Eliminating the intercept leaves a matrix of the weights alone, which the penalty keeps positive.
        let corner = at.variances.sum().max(f64::MIN_POSITIVE);
        let entry = |row: usize, column: usize| hessian[[row, column]] - beside[row] * beside[column] / corner;
        let reduced = Mat::from_fn(columns, columns, entry);
        let right = Mat::from_fn(columns, 1, |row, _| -at.w[row] + beside[row] * at.b / corner);
        let step = reduced.llt(Side::Lower).ok()?.solve(&right);
        let dw: Array1<f64> = (0..columns).map(|row| step[(row, 0)]).collect();
        let db = (-at.b - beside.dot(&dw)) / corner;
        (db.is_finite() && dw.iter().all(|d| d.is_finite())).then_some((dw, db))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    /// ```python
    /// x = np.array([[0, 0.5], [1, 0], [2, -1], [3, 3], [4, 0.25], [5, -2]]); y = [0, 0, 1, 0, 1, 1]
    /// LogisticRegression(C=C, tol=1e-14, max_iter=100000, solver="newton-cholesky").fit(x, y)   # scikit-learn 1.9.1
    /// ```
    #[test]
    fn agrees_with_scikit_learn() {
        let x = array![[0.0, 0.5], [1.0, 0.0], [2.0, -1.0], [3.0, 3.0], [4.0, 0.25], [5.0, -2.0]];
        let labels = [false, false, true, false, true, true];
        for (c, weights, intercept) in EXPECTED {
            let found = fit(&x, &labels, c, None);
            assert!(found.has_converged(), "{}", found.gradient);
            for (a, b) in found.weights.iter().zip(weights) {
                assert!((a - b).abs() < 1e-8 * b.abs().max(1.0), "{c}: {a} {b}");
            }
            assert!((found.intercept - intercept).abs() < 1e-8 * intercept.abs().max(1.0), "{c}: {}", found.intercept);
            let again = fit(&x, &labels, c, Some(&fit(&x, &labels, 1.0, None)));
            assert!((again.intercept - intercept).abs() < 1e-7 * intercept.abs().max(1.0));
        }
    }

    /// ```python
    /// x = np.array([[0, 0.5], [1, 0], [2, -1], [3, 3], [4, 0.25], [5, -2]]); y = [0, 0, 1, 0, 0, 1]
    /// LogisticRegression(class_weight="balanced", tol=1e-14, max_iter=100000, solver="newton-cholesky").fit(x, y)   # scikit-learn 1.9.1
    /// ```
    #[test]
    fn balanced_classes_agree_with_scikit_learn() {
        let x = array![[0.0, 0.5], [1.0, 0.0], [2.0, -1.0], [3.0, 3.0], [4.0, 0.25], [5.0, -2.0]];
        let found = fit_balanced(&x, &[false, false, true, false, false, true], 1.0, None);
        assert!(found.has_converged(), "{}", found.gradient);
        let (weights, intercept) = BALANCED;
        for (a, b) in found.weights.iter().chain([&found.intercept]).zip(weights.iter().chain([&intercept])) {
            assert!((a - b).abs() < 1e-8 * b.abs().max(1.0), "{a} {b}");
        }
    }

    const BALANCED: ([f64; 2], f64) = ([0.24740419346440368, -1.0515449101922618], -1.0424642227474943);

    const EXPECTED: [(f64, [f64; 2], f64); 3] = [
        (0.01, [0.03325773208472815, -0.029867763096855807], -0.07938333048098181),
        (1.0, [0.8169294836374953, -0.8177788623393888], -1.7157754339003275),
        (1e4, [7.26631987161645, -7.203722842107438], -14.499786794366303),
    ];

    #[test]
    fn classes_far_apart_and_columns_of_huge_scale_are_solved_too() {
        let x = Array2::from_shape_fn((40, 2), |(row, column)| {
            let of_class = if row < 20 { -1.0 } else { 1.0 };
            if column == 0 { 3e4 + of_class * 2e3 + (row % 7) as f64 } else { 1e-3 * ((row * 5) % 11) as f64 }
        });
        let labels: Vec<bool> = (0..40).map(|row| row >= 20).collect();
        for c in [1e-5, 1.0, 1e5] {
            let found = fit(&x, &labels, c, None);
            assert!(found.has_converged(), "C {c}: {}", found.gradient);
            assert!(found.decisions(&x).iter().zip(&labels).all(|(d, &label)| (*d > 0.0) == label));
        }
        assert_eq!([-800.0, 800.0].map(sigmoid), [0.0, 1.0]);
        assert_eq!([-800.0, 800.0].map(log1p_exp), [0.0, 800.0]);
    }

    #[test]
    fn a_column_that_says_nothing_leaves_the_base_rate() {
        let found = fit(&Array2::zeros((4, 1)), &[true, false, false, false], 1.0, None);
        assert!((found.intercept + 3f64.ln()).abs() < 1e-9 && found.weights[0] == 0.0 && found.has_converged());
    }

    proptest! {
        #[test]
        fn swapping_the_classes_and_the_order_of_rows_mirrors_the_fit(
            values in prop::collection::vec(-4.0..4.0f64, 36), c in 0.01..100.0f64, bits in 1u32..4095,
        ) {
            let x = Array2::from_shape_vec((12, 3), values).unwrap();
            let labels: Vec<bool> = (0..12).map(|row| bits >> row & 1 == 1).collect();
            let found = fit(&x, &labels, c, None);
            prop_assert!(found.has_converged(), "{}", found.gradient);
            let reversed = x.slice(ndarray::s![..;-1, ..]).to_owned();
            let swapped: Vec<bool> = labels.iter().rev().map(|label| !label).collect();
            let other = fit(&reversed, &swapped, c, None);
            prop_assert!((found.intercept + other.intercept).abs() < 1e-6 * (1.0 + found.intercept.abs()));
            for (a, b) in found.weights.iter().zip(&other.weights) {
                prop_assert!((a + b).abs() < 1e-6 * (1.0 + a.abs()));
            }
        }
    }
}
